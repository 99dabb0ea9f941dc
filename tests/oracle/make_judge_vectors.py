#!/usr/bin/env python3
"""Evidence of metrics/judge.h and metrics/speed.h by scipy (1.17): paired t, one-sided t beyond a tolerance, 90 % intervals, Mann-Whitney
with and without ties, Hodges-Lehmann; sign flips counted in whole numbers, the forecast from a host's history and the least detectable change are written a second time in numpy.
python make_judge_vectors.py > ../fixtures/judge_vectors.json"""
import itertools
import json
import sys

import numpy as np
from scipy import stats

rng = np.random.default_rng(20250131)
ALPHA, POWER = 0.05, 0.8
MEDIAN_VARIANCE = [0, 1, 0.5, 0.448671, 0.298200, 0.286834, 0.214743, 0.210447]


def detectable(se, df, m):
    return (stats.t.ppf(1 - ALPHA / m, df) + stats.t.ppf(POWER, df)) * se


def chunks(n, shift, tolerance, higher):
    base = np.round(rng.lognormal(-3, 0.5, n), 6)
    head = np.round(base + shift + 0.02 * rng.standard_t(3, n), 6)
    d = head - base
    worse = -d if higher else d
    lo, hi = stats.t.interval(1 - 2 * ALPHA, n - 1, d.mean(), stats.sem(d))
    flips = None
    if n <= 16:
        # In whole millionths: scipy's permutation_test misses orders that are equal but for rounding.
        steps = np.rint(d * 1e6).astype(np.int64)
        sums = np.array(list(itertools.product([-1, 1], repeat=n))) @ steps
        flips = float(np.mean(abs(sums) >= abs(steps.sum())))
    return dict(base=base.tolist(), head=head.tolist(), tolerance=tolerance, higher=higher, p=stats.ttest_rel(head, base).pvalue,
                p_regressed=stats.ttest_1samp(worse, tolerance, alternative="greater").pvalue, p_improved=stats.ttest_1samp(worse, 0, alternative="less").pvalue,
                lo90=lo, hi90=hi, p_check=flips, skewness=stats.skew(d), detectable=tolerance + detectable(stats.sem(d), n - 1, 1))


def rounds(n_base, n_head, shift, tolerance, digits):
    base, head = np.round(rng.normal(200, 4, n_base), digits), np.round(rng.normal(200 * (1 + shift), 4, n_head), digits)
    a, b = np.log(base), np.log(head)
    method = "exact" if len(set(base) | set(head)) == n_base + n_head and max(n_base, n_head) <= 50 else "asymptotic"
    test = lambda x, y, side: stats.mannwhitneyu(x, y, alternative=side, method=method).pvalue
    # A shifted value ties with none.
    slower = stats.mannwhitneyu(b - np.log1p(-tolerance), a, alternative="less", method="exact" if tolerance and max(n_base, n_head) <= 50 else method).pvalue
    return dict(base=base.tolist(), head=head.tolist(), tolerance=tolerance, p=min(1, 2 * min(test(b, a, "less"), test(b, a, "greater"))), p_regressed=slower,
                p_improved=test(b, a, "greater"), diff=float(np.expm1(np.median(np.subtract.outer(b, a)))))


def history(n, new):
    tps = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.003, n)) + 0.015 * rng.standard_t(4, n)), 3)
    x = np.log(tps)
    level = lambda i: (np.median(x[max(0, i - 7):i]), np.sqrt(1 + MEDIAN_VARIANCE[min(i, 7)]))
    u = np.array([(x[i] - level(i)[0]) / level(i)[1] for i in range(1, n)])
    cut = 3 * 1.4826 * np.median(abs(u))
    m, widen = level(n)
    se, d, df = np.sqrt(np.mean(np.minimum(abs(u), cut) ** 2)) * widen, np.log(new) - m, n - 1
    half = stats.t.ppf(1 - ALPHA, df) * se
    return dict(history=tps.tolist(), tps=new, tolerance=0.03, base=float(np.exp(m)), diff=float(np.expm1(d)), se=se, p=2 * stats.t.sf(abs(d) / se, df),
                p_regressed=stats.t.cdf((d - np.log1p(-0.03)) / se, df), p_improved=stats.t.sf(d / se, df), lo90=float(np.expm1(d - half)), hi90=float(np.expm1(d + half)),
                detectable=float(1 - 0.97 * np.exp(-detectable(se, df, 1))))


json.dump(dict(chunks=[chunks(*c) for c in itertools.product([8, 16, 64], [0.0, 0.02], [0.0, 0.01], [False, True])],
               rounds=[rounds(*c) for c in [(5, 5, 0, 0, 6), (5, 7, -0.05, 0.02, 6), (12, 12, 0.02, 0, 6), (50, 40, -0.01, 0.005, 6), (60, 60, -0.01, 0, 6), (9, 9, -0.02, 0, 0), (6, 6, 0.5, 0, 6)]],
               history=[history(n, new) for n in [5, 6, 13, 40] for new in [90.0, 101.5]]), sys.stdout, separators=(",", ":"))
sys.stdout.write("\n")
