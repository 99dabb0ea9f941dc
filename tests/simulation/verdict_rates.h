/* How often the verdicts of metrics/judge.h are wrong, and how often right, over pairs of runs made up: a family of three metrics, as of one scheme. */
#ifndef DSB_TESTS_VERDICT_RATES_H
#define DSB_TESTS_VERDICT_RATES_H

#include "metrics/judge.h"
#include "tests/simulation/draws.h"

enum { FAMILY = 3, CHUNKS_MOST = 256, REAL_PAIRS = 2 };

typedef enum differences { NORMAL, STUDENT_T3, LOGNORMAL_PAIR, CONTAMINATED, REAL_INT4, REAL_INT8, SKEWED_WORSE, SKEWED_BETTER, N_DIFFERENCES } differences;

static const struct {
    const char *name;
    double sd;      /* 0: of the fixture */
    bool symmetric; /* so that no more than 5 % of alarms are false */
    bool promised;  /* 5 % of alarms are false and 80 % of what is stated as detectable is found */
} difference_table[N_DIFFERENCES] = {
    [NORMAL] = { "normal", 1, true, true },
    [STUDENT_T3] = { "Student t, 3 df", 1.7320508, true, true },
    [LOGNORMAL_PAIR] = { "lognormal − lognormal", 3.0563847, true, true },   /* √(2e(e−1)) */
    [CONTAMINATED] = { "normal, 10 % of it 10 × as wide", 3.3015148, true, false }, /* √10.9 */
    [REAL_INT4] = { "built-in model, int4-gptq − int4-rtn", 0, true, true },
    [REAL_INT8] = { "built-in model, static-int8 − dynamic-int8", 0, false, false },
    [SKEWED_WORSE] = { "lognormal, tail to the worse", 2.1611974, false, false }, /* √(e(e−1)) */
    [SKEWED_BETTER] = { "lognormal, tail to the better", 2.1611974, false, false },
};

/* Differences of chunks of the built-in model, less their means. */
static struct real_differences {
    double d[CHUNKS_MOST][FAMILY], sd;
    int64_t n;
} real_differences[REAL_PAIRS];

/* From tests/fixtures/chunk_differences.json; false: it is not there. */
static inline bool read_real_differences(void) {
    json_error_t e;
    json_t *doc = json_load_file("tests/fixtures/chunk_differences.json", 0, &e);
    for (size_t k = 0; k < REAL_PAIRS; k++) {
        const json_t *rows = json_object_get(json_array_get(doc, k), "d");
        struct real_differences *r = &real_differences[k];
        double column[CHUNKS_MOST];
        r->n = (int64_t)json_array_size(rows);
        if (r->n < 2 || r->n > CHUNKS_MOST) return false;
        for (int m = FAMILY; m-- > 0;) {
            for (int64_t c = 0; c < r->n; c++) column[c] = json_number_value(json_array_get(json_array_get(rows, (size_t)c), (size_t)m));
            dsb_sample s = dsb_sample_of(column, r->n);
            for (int64_t c = 0; c < r->n; c++) r->d[c][m] = column[c] - s.mean;
            r->sd = s.sd;
        }
    }
    json_decref(doc);
    return true;
}

static inline double difference_sd(differences kind) { return kind == REAL_INT4 || kind == REAL_INT8 ? real_differences[kind - REAL_INT4].sd : difference_table[kind].sd; }

static inline double draw_difference(differences kind, dsb_rng *r) {
    switch (kind) {
    case STUDENT_T3: return draw_t3(r);
    case LOGNORMAL_PAIR: { double x = exp(draw_normal(r)); return x - exp(draw_normal(r)); }
    case CONTAMINATED: { double wide = draw_uniform(r) < 0.1 ? 10 : 1; return wide * draw_normal(r); }
    case SKEWED_WORSE: return exp(draw_normal(r)) - 1.6487212707001282;
    case SKEWED_BETTER: return 1.6487212707001282 - exp(draw_normal(r));
    default: return draw_normal(r);
    }
}

/* d[m][c] of a pair without a difference: metrics independent, but of the built-in model drawn together, chunk by chunk. */
static inline void draw_pair(differences kind, int64_t n, dsb_rng *r, double d[FAMILY][CHUNKS_MOST]) {
    for (int64_t c = 0; c < n; c++) {
        const struct real_differences *real = kind == REAL_INT4 || kind == REAL_INT8 ? &real_differences[kind - REAL_INT4] : NULL;
        int64_t from = real ? dsb_rng_below(r, real->n) : 0;
        for (int m = 0; m < FAMILY; m++) d[m][c] = real ? real->d[from][m] : draw_difference(kind, r);
    }
}

static inline bool judge_metric(dsb_judgement *j, const double *d, int64_t n, double shift, double tolerance) {
    double base[CHUNKS_MOST], head[CHUNKS_MOST];
    for (int64_t c = 0; c < n; c++) base[c] = 0, head[c] = d[c] + shift;
    dsb_judgement_init(j, DSB_BETTER_LOWER);
    j->gating = true;
    j->tolerance = tolerance;
    return dsb_judge_chunks(j, base, head, n, NULL) == DSB_OK;
}

/* Holm's first step, by the one-sided half of p_check. */
static inline bool flips_alarm(const dsb_judgement *j) {
    bool alarm = false;
    for (int m = 0; m < FAMILY; m++) alarm = alarm || (j[m].diff > 0 && j[m].p_check / 2 < DSB_JUDGE_ALPHA / FAMILY);
    return alarm;
}

typedef struct verdict_rates {
    int64_t pairs, failed;          /* failed: out of memory */
    int64_t alarms, praises;        /* some metric of an equal pair regressed; improved */
    int64_t flips;                  /* alarms if sign flips, which ask for symmetry alone, stood in the place of t */
    int64_t found, found_next;      /* first metric worse by what the pair states as detectable: regressed; the same in the next pair */
    int64_t equal, covered;         /* worse by the tolerance, called equivalent; the 95 % interval holds the true difference */
} verdict_rates;

static inline void judge_pair(differences kind, int64_t n, uint64_t number, verdict_rates *t) {
    double d[FAMILY][CHUNKS_MOST], next[FAMILY][CHUNKS_MOST], tolerance = 5 * difference_sd(kind) / sqrt((double)n);
    dsb_judgement equal[FAMILY], worse[FAMILY], later[FAMILY], edge;
    bool ok = true, alarm = false, praise = false;
    dsb_rng r = draws_of(kind, (uint64_t)n, 2 * number), r_next = draws_of(kind, (uint64_t)n, 2 * number + 1);
    draw_pair(kind, n, &r, d);
    draw_pair(kind, n, &r_next, next);
    for (int m = 0; m < FAMILY; m++) ok = ok && judge_metric(&equal[m], d[m], n, 0, 0) && (m == 0 || judge_metric(&later[m], next[m], n, 0, 0)), worse[m] = equal[m];
    ok = ok && !dsb_judge(equal, FAMILY, NULL);
    ok = ok && judge_metric(&worse[0], d[0], n, equal[0].detectable, 0) && !dsb_judge(worse, FAMILY, NULL);
    ok = ok && judge_metric(&later[0], next[0], n, equal[0].detectable, 0) && !dsb_judge(later, FAMILY, NULL);
    ok = ok && judge_metric(&edge, d[0], n, tolerance, tolerance) && !dsb_judge(&edge, 1, NULL);
    for (int m = 0; m < FAMILY; m++) alarm = alarm || equal[m].verdict == DSB_VERDICT_REGRESSED, praise = praise || equal[m].verdict == DSB_VERDICT_IMPROVED;
    t->pairs++;
    t->failed += !ok;
    t->alarms += alarm;
    t->praises += praise;
    t->flips += flips_alarm(equal);
    t->found += worse[0].verdict == DSB_VERDICT_REGRESSED;
    t->found_next += later[0].verdict == DSB_VERDICT_REGRESSED;
    t->equal += edge.verdict == DSB_VERDICT_EQUIVALENT;
    t->covered += equal[0].lo <= 0 && 0 <= equal[0].hi;
}

/* Alarms of a family of `schemes` x 3 metrics without a difference; a chunk's differences correlate by `alike` between schemes. */
static inline int64_t family_alarms(int64_t n, int64_t schemes, double alike, int64_t families) {
    enum { SCHEMES_MOST = 12 };
    int64_t alarms = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : alarms)
    for (int64_t i = 0; i < families; i++) {
        dsb_judgement family[SCHEMES_MOST * FAMILY];
        double shared[FAMILY][CHUNKS_MOST], d[CHUNKS_MOST];
        dsb_rng r = draws_of(400 + (uint64_t)schemes, (uint64_t)n, (uint64_t)i);
        draw_pair(NORMAL, n, &r, shared);
        for (int64_t k = 0; k < schemes * FAMILY; k++) {
            for (int64_t c = 0; c < n; c++) d[c] = sqrt(alike) * shared[k % FAMILY][c] + sqrt(1 - alike) * draw_normal(&r);
            judge_metric(&family[k], d, n, 0, 0);
        }
        alarms += !dsb_judge(family, schemes * FAMILY, NULL) && dsb_judge_alarm(family, schemes * FAMILY);
    }
    return alarms;
}

static inline verdict_rates verdict_rates_of(differences kind, int64_t n, int64_t pairs) {
    int64_t failed = 0, alarms = 0, praises = 0, flips = 0, found = 0, found_next = 0, equal = 0, covered = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : failed, alarms, praises, flips, found, found_next, equal, covered)
    for (int64_t i = 0; i < pairs; i++) {
        verdict_rates one = { 0 };
        judge_pair(kind, n, (uint64_t)i, &one);
        failed += one.failed, alarms += one.alarms, praises += one.praises, flips += one.flips, found += one.found, found_next += one.found_next, equal += one.equal, covered += one.covered;
    }
    return (verdict_rates){ pairs, failed, alarms, praises, flips, found, found_next, equal, covered };
}

#endif
