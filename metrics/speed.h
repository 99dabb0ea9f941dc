/* Throughput judged: a run against its host's history, or two builds by interleaved rounds. Evidence for dsb_judge (metrics/judge.h);
 * all by ln(tokens/s), so that a tolerance is a share; higher is better. Nothing gates unless the caller says so.
 * Sources: docs/METRICS.md, "Is A worse than B?"; Brown, Durbin, Evans 1975 (recursive residuals); Mann, Whitney 1947; Hodges, Lehmann 1963;
 * Vovk et al. 2005 (rank of a new value, p_check). Error rates on drifting noisy hosts by simulation: docs/statistics.md. */
#ifndef DSB_METRICS_SPEED_H
#define DSB_METRICS_SPEED_H

#include "metrics/judge.h"

enum { DSB_HISTORY_LEAST = 5, DSB_HISTORY_MOST = 60, DSB_ROUNDS_LEAST = 5, DSB_ROUNDS_MOST = 1000 };

/* One run (tps) against the medians of earlier runs on this host: same model, scheme, phase, sizes, threads; oldest first (of more than
 * DSB_HISTORY_MOST the last are used). Forecast: the median of the last 7 (fewer at the beginning), so that a drifting host is followed.
 * Spread: what the same forecast missed by on each earlier run, u_i = (x_i − median before it)/√(1 + v_k), v_k the variance of the median
 * of k normals; cut at 3 robust deviations, so that one bad night doesn't blind the next weeks. t = u_new/√mean(u²) with n − 1 degrees of freedom. Values ≤ 0 or not finite are left out.
 * Below 5 runs: no test, the verdict is `reported`. base becomes the forecast. */
dsb_status dsb_judge_history(dsb_judgement *j, const double *history, int64_t n, double tps, dsb_err *err);

/* Two builds that ran in turns (base, head, head, base, …): Mann-Whitney over rounds, exact without ties up to 50 + 50, else normal with ties
 * and continuity. diff is the Hodges-Lehmann shift, its intervals from the order of all differences. Below 5 rounds of either: no test, `reported`.
 * DSB_ENOMEM; DSB_EUSAGE above 1000 rounds. */
dsb_status dsb_judge_rounds(dsb_judgement *j, const double *base, int64_t n_base, const double *head, int64_t n_head, dsb_err *err);

#endif
