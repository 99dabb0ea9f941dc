/* Verdicts: is HEAD worse than BASE in this metric? A test (here over chunks; metrics/speed.h for throughput) fills a judgement's evidence,
 * and dsb_judge, the one function that decides, everywhere, turns a family of them into verdicts.
 * In the direction "worse is positive" (δ = head − base, its sign turned where higher is better), tolerance τ ≥ 0, 5 % everywhere:
 *   regressed     H0: δ ≤ τ is rejected: p_regressed, adjusted by Holm over the family's gating judgements.
 *                 Family-wise false alarms ≤ 5 % whatever is true; 5 % is met where δ = τ in all and the tests are independent
 *   equivalent    the 90 % interval of δ lies inside (−τ, τ): two one-sided tests (TOST), 5 % each, not adjusted
 *   improved      H0: δ ≥ 0 is rejected: p_improved, adjusted alike, in a family of its own
 *   inconclusive  none of these; `detectable` says what would have been found with 80 % power
 *   reported      nothing is judged: the metric has no direction, or there was no test
 * Equal bits are equivalent at once and count in no family; a value that is not finite in head alone is a regression at once.
 * Sources: docs/METRICS.md, "Is A worse than B?"; Schuirmann 1987 (TOST); Holm 1979. Error rates by simulation: docs/statistics.md. */
#ifndef DSB_METRICS_JUDGE_H
#define DSB_METRICS_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "metrics/metric_table.h"

#define DSB_JUDGE_ALPHA 0.05 /* of each one-sided test */
#define DSB_JUDGE_POWER 0.8

typedef enum dsb_verdict { DSB_VERDICT_REPORTED, DSB_VERDICT_INCONCLUSIVE, DSB_VERDICT_EQUIVALENT, DSB_VERDICT_IMPROVED, DSB_VERDICT_REGRESSED } dsb_verdict;
/* "reported", "inconclusive", "equivalent", "improved", "regressed". */
const char *dsb_verdict_name(dsb_verdict v);

typedef enum dsb_test { DSB_TEST_NONE, DSB_TEST_CHUNKS, DSB_TEST_HISTORY, DSB_TEST_ROUNDS } dsb_test;

typedef struct dsb_judgement {
    /* Asked: set by dsb_judgement_init, changed by the caller before dsb_judge. */
    dsb_better better;
    bool gating;      /* counts in the family, and may be an alarm */
    double tolerance; /* τ in the metric's unit; of speeds a share of the speed (0.03: 3 % slower is borne) */
    double floor;     /* noise floor of the figure, see dsb_noise_floor; NAN: none */
    double perfect;   /* the figure of a test equal to its reference: 0 (the default) of divergences, changes and differences, 1 of agreements */
    /* Evidence: of a test. diff and intervals are head − base as they are, not turned. NAN where there is none. */
    dsb_test test;
    int64_t n;             /* pairs of chunks; runs of history; rounds */
    double base, head;     /* means over the pairs; speeds: what is expected, what was measured */
    double diff;           /* mean of d_c; of speeds the share head/base − 1 */
    double se, df;         /* of diff (speeds: of ln(head/base)); Student's degrees of freedom */
    double lo, hi;         /* 95 %, shown: bootstrap-t over chunks */
    double lo90, hi90;     /* 90 %, of TOST: Student's over chunks */
    double p;              /* two-sided, of no difference */
    double p_check;        /* the same by a test that assumes less: sign flips; rank in the history; NAN for rounds (p is by ranks) */
    double p_regressed;    /* one-sided, of δ ≤ τ */
    double p_improved;     /* one-sided, of δ ≥ 0 */
    double skewness;       /* of d_c over chunks: what Student's t doesn't see, docs/statistics.md */
    double p_least;        /* the smallest p_regressed that n allows; 0 where there is no such limit */
    bool identical, broken; /* every pair has equal bits; head has a value that is not finite where base has one */
    /* Decided by dsb_judge. */
    double p_adjusted, p_improved_adjusted; /* Holm; the plain p where not gating */
    double detectable;     /* least true change for the worse, τ included, found with 80 % power at Holm's strictest step: τ + (t_{1−α/m} + t_power)·se;
                            * INFINITY where n allows no p small enough; in the unit of diff, positive */
    bool within_floor;     /* both figures lie within the noise floor: not distinguishable, never improved nor regressed */
    dsb_verdict verdict;
} dsb_judgement;

/* Tolerance 0, no floor, not gating, no evidence. */
void dsb_judgement_init(dsb_judgement *j, dsb_better better);

/* Evidence from chunks: base[c], head[c] are means over the same positions of chunk c; pairs where base is NaN are left out (n counts the rest).
 * d_c = head_c − base_c, SE = sd(d)/√n, paired t (Student 1908). Where all d_c are one number that is not 0 the t test would say p = 0: the sign
 * test's 2^−n stands in. Below 2 pairs no test: inconclusive. Deterministic: fixed seed. Set tolerance before. DSB_ENOMEM. */
dsb_status dsb_judge_chunks(dsb_judgement *j, const double *base, const double *head, int64_t n, dsb_err *err);

/* The verdicts of one family: all that one command judges together. Holm over those gating, the rest by their plain p. Returns DSB_ENOMEM or DSB_OK.
 * Quality and throughput are two families: two calls. */
dsb_status dsb_judge(dsb_judgement *family, int64_t n, dsb_err *err);
/* Whether some gating judgement regressed; some gating one is inconclusive (for --strict). */
bool dsb_judge_alarm(const dsb_judgement *family, int64_t n);
bool dsb_judge_open(const dsb_judgement *family, int64_t n);

/* Noise floor: the same weights with BF16 activations and with another accumulation order; the farthest from perfect of their figures. NAN if
 * none is finite. */
double dsb_noise_floor(const double *figures, int64_t n, double perfect);
/* |value − perfect| ≤ |floor − perfect|: not distinguishable from the reference. False where either is NaN. */
bool dsb_within_floor(double value, double floor, double perfect);

#endif
