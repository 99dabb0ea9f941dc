#include "metrics/judge.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "metrics/stats.h"

static const uint64_t SEED = 0x6a75646765u;
enum { FLIPS = 9999 };

const char *dsb_verdict_name(dsb_verdict v) {
    switch (v) {
    case DSB_VERDICT_INCONCLUSIVE: return "inconclusive";
    case DSB_VERDICT_EQUIVALENT: return "equivalent";
    case DSB_VERDICT_IMPROVED: return "improved";
    case DSB_VERDICT_REGRESSED: return "regressed";
    default: return "reported";
    }
}

void dsb_judgement_init(dsb_judgement *j, dsb_better better) {
    *j = (dsb_judgement){ .better = better, .floor = NAN, .base = NAN, .head = NAN, .diff = NAN, .se = NAN, .df = NAN, .lo = NAN, .hi = NAN, .lo90 = NAN, .hi90 = NAN,
                          .p = NAN, .p_check = NAN, .p_regressed = NAN, .p_improved = NAN, .skewness = NAN, .p_adjusted = NAN, .p_improved_adjusted = NAN, .detectable = NAN };
}

/* What is left of the pairs: differences in d, means and the two flags in j. */
static void take_pairs(dsb_judgement *j, const double *base, const double *head, int64_t n, double *d, double *largest) {
    double sum_base = 0, sum_head = 0;
    j->n = 0;
    j->identical = true;
    j->broken = false;
    *largest = 0;
    for (int64_t c = 0; c < n; c++) {
        if (!isfinite(base[c])) continue;
        if (!isfinite(head[c])) {
            j->broken = true;
            continue;
        }
        d[j->n++] = head[c] - base[c];
        sum_base += base[c];
        sum_head += head[c];
        *largest = fmax(*largest, fmax(fabs(base[c]), fabs(head[c])));
        j->identical = j->identical && head[c] == base[c];
    }
    j->identical = j->identical && j->n > 0 && !j->broken;
    j->base = j->n ? sum_base / (double)j->n : NAN;
    j->head = j->n ? sum_head / (double)j->n : NAN;
}

/* Third moment over the second to the power 3/2, both with n. */
static double skewness_of(const double *d, int64_t n, double mean) {
    double second = 0, third = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = d[i] - mean;
        second += e * e;
        third += e * e * e;
    }
    return third / (double)n / pow(second / (double)n, 1.5);
}

/* All differences are one number: as many heads in as many tosses. */
static void judge_constant(dsb_judgement *j, double worse) {
    double all = ldexp(1, -(int)(j->n < 1000 ? j->n : 1000));
    j->p = j->p_check = worse == 0 ? 1 : fmin(1, 2 * all);
    j->p_regressed = worse > j->tolerance ? all : 1;
    j->p_improved = worse < 0 ? all : 1;
    j->p_least = all;
    j->lo90 = j->hi90 = j->diff;
}

dsb_status dsb_judge_chunks(dsb_judgement *j, const double *base, const double *head, int64_t n, dsb_err *err) {
    double *d, largest, sign = j->better == DSB_BETTER_HIGHER ? -1 : 1;
    DSB_TRY(DSB_NEW(d, n + 1, "differences of chunks", err));
    take_pairs(j, base, head, n, d, &largest);
    j->test = j->n || j->broken ? DSB_TEST_CHUNKS : DSB_TEST_NONE;
    dsb_sample s = dsb_sample_of(d, j->n);
    j->diff = s.mean;
    j->se = s.se;
    j->df = (double)(j->n - 1);
    dsb_status st = dsb_bootstrap_t(d, NULL, j->n, 0.95, SEED, &j->lo, &j->hi, err);
    if (!st && j->n >= 2) {
        /* Less than that is the rounding of the subtraction, not a spread. */
        if (s.sd <= 1e-12 * largest) judge_constant(j, sign * s.mean);
        else {
            j->p = dsb_t_test(d, j->n, 0);
            j->skewness = skewness_of(d, j->n, s.mean);
            j->p_check = dsb_sign_flip_p(d, j->n, FLIPS, SEED);
            j->p_regressed = dsb_t_cdf((j->tolerance - sign * s.mean) / s.se, j->df);
            j->p_improved = dsb_t_cdf(sign * s.mean / s.se, j->df);
            dsb_t_interval(d, j->n, 1 - 2 * DSB_JUDGE_ALPHA, &j->lo90, &j->hi90);
        }
    }
    free(d);
    return st;
}

static bool has_test(const dsb_judgement *j) { return j->test != DSB_TEST_NONE && !j->identical && j->better != DSB_BETTER_NONE && !isnan(j->p_regressed); }
static bool in_family(const dsb_judgement *j) { return j->gating && has_test(j) && !j->broken; }

static dsb_verdict decide(const dsb_judgement *j) {
    if (j->better == DSB_BETTER_NONE) return DSB_VERDICT_REPORTED;
    if (j->broken) return DSB_VERDICT_REGRESSED;
    if (j->test == DSB_TEST_NONE) return DSB_VERDICT_REPORTED;
    if (j->identical) return DSB_VERDICT_EQUIVALENT;
    if (j->p_adjusted < DSB_JUDGE_ALPHA && !j->within_floor) return DSB_VERDICT_REGRESSED;
    if (-j->tolerance < j->lo90 && j->hi90 < j->tolerance) return DSB_VERDICT_EQUIVALENT;
    if (j->p_improved_adjusted < DSB_JUDGE_ALPHA && !j->within_floor) return DSB_VERDICT_IMPROVED;
    return DSB_VERDICT_INCONCLUSIVE;
}

/* The least true change that the strictest of m tests finds with the stated power. */
static double detectable(const dsb_judgement *j, int64_t m) {
    double alpha = DSB_JUDGE_ALPHA / (double)m;
    if (!has_test(j) || !(j->se > 0)) return NAN;
    if (j->p_least > alpha) return INFINITY;
    double beyond = dsb_min_detectable(j->se, (int64_t)j->df + 1, 2 * alpha, DSB_JUDGE_POWER);
    if (j->test == DSB_TEST_CHUNKS) return j->tolerance + beyond;
    return j->better == DSB_BETTER_HIGHER ? -expm1(log1p(-j->tolerance) - beyond) : expm1(log1p(j->tolerance) + beyond);
}

dsb_status dsb_judge(dsb_judgement *family, int64_t n, dsb_err *err) {
    double *p;
    int64_t m = 0, at = 0;
    DSB_TRY(DSB_NEW(p, 2 * n + 1, "p values", err));
    for (int64_t i = 0; i < n; i++)
        if (in_family(&family[i])) p[m] = family[i].p_regressed, p[n + m++] = family[i].p_improved;
    dsb_status s = dsb_holm(p, m, p, err);
    if (!s) s = dsb_holm(p + n, m, p + n, err);
    for (int64_t i = 0; i < n && !s; i++) {
        dsb_judgement *j = &family[i];
        bool member = in_family(j);
        j->p_adjusted = member ? p[at] : j->p_regressed;
        j->p_improved_adjusted = member ? p[n + at++] : j->p_improved;
        j->detectable = detectable(j, member ? m : 1);
        j->within_floor = dsb_within_floor(j->base, j->floor, j->perfect) && dsb_within_floor(j->head, j->floor, j->perfect);
        j->verdict = decide(j);
    }
    free(p);
    return s;
}

static bool any(const dsb_judgement *family, int64_t n, dsb_verdict v) {
    for (int64_t i = 0; i < n; i++)
        if (family[i].gating && family[i].verdict == v) return true;
    return false;
}

bool dsb_judge_alarm(const dsb_judgement *family, int64_t n) { return any(family, n, DSB_VERDICT_REGRESSED); }
bool dsb_judge_open(const dsb_judgement *family, int64_t n) { return any(family, n, DSB_VERDICT_INCONCLUSIVE); }

double dsb_noise_floor(const double *figures, int64_t n, double perfect) {
    double farthest = NAN;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(figures[i]) && !(fabs(figures[i] - perfect) <= fabs(farthest - perfect))) farthest = figures[i];
    return farthest;
}

bool dsb_within_floor(double value, double floor, double perfect) { return fabs(value - perfect) <= fabs(floor - perfect); }
