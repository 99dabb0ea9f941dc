/* How often throughput is judged wrong, and how often right, on hosts made up: drifting, noisy, with slow nights. */
#ifndef DSB_TESTS_SPEED_RATES_H
#define DSB_TESTS_SPEED_RATES_H

#include <stdlib.h>

#include "metrics/change_point.h"
#include "metrics/speed.h"
#include "tests/simulation/draws.h"

enum { RUNS_MOST = 181 };

typedef enum host_kind { STEADY, HEAVY, SLOW_NIGHTS, DRIFTING, FAST_DRIFT, ALIKE, N_HOSTS } host_kind;

/* ln(tokens/s) of a run: a level and noise of 1.5 %. */
static const struct {
    const char *name;
    double drift, alike, slow; /* sd of the level's step from run to run; correlation of neighbours' noise; share of slow runs */
    bool heavy;
} host_table[N_HOSTS] = {
    [STEADY] = { "steady: normal noise of 1.5 %", 0, 0, 0, false },
    [HEAVY] = { "noise of 1.5 %, Student t with 3 df", 0, 0, 0, true },
    [SLOW_NIGHTS] = { "one run in 20 slower by 3 to 20 %", 0, 0, 0.05, false },
    [DRIFTING] = { "level drifts by 0.3 % a run", 0.003, 0, 0, false },
    [FAST_DRIFT] = { "level drifts by 1 % a run", 0.01, 0, 0, false },
    [ALIKE] = { "neighbours' noise correlated by 0.5", 0, 0.5, 0, false },
};

/* Tokens/s of n runs in turn. */
static inline void draw_host(host_kind kind, int64_t n, dsb_rng *r, double *tps) {
    double level = log(1000), alike = host_table[kind].alike, noise = draw_normal(r);
    for (int64_t i = 0; i < n; i++) {
        double z = host_table[kind].heavy ? draw_t3(r) / 1.7320508 : draw_normal(r), slow = draw_uniform(r) < host_table[kind].slow ? 0.03 + 0.17 * draw_uniform(r) : 0;
        level += host_table[kind].drift * draw_normal(r);
        noise = alike > 0 ? alike * noise + sqrt(1 - alike * alike) * z : z;
        tps[i] = exp(level + 0.015 * noise + log1p(-slow));
    }
}

typedef struct speed_rates {
    int64_t n, alarms, found;
    double detectable; /* sum of those stated */
} speed_rates;

static inline bool is_slower(dsb_judgement *j) { return !dsb_judge(j, 1, NULL) && j->verdict == DSB_VERDICT_REGRESSED; }

static inline dsb_judgement speed_asked(void) {
    dsb_judgement j;
    dsb_judgement_init(&j, DSB_BETTER_HIGHER);
    j.gating = true;
    return j;
}

/* A run after n others; the same run slowed by what it states as detectable. */
static inline void judge_night(host_kind kind, int64_t n, uint64_t number, speed_rates *t) {
    double tps[RUNS_MOST];
    dsb_rng r = draws_of(100 + kind, (uint64_t)n, number);
    dsb_judgement equal = speed_asked(), slower = equal;
    draw_host(kind, n + 1, &r, tps);
    if (dsb_judge_history(&equal, tps, n, tps[n], NULL)) return;
    t->alarms += is_slower(&equal);
    dsb_judge_history(&slower, tps, n, tps[n] * (1 - equal.detectable), NULL);
    t->found += is_slower(&slower);
    t->detectable += equal.detectable;
}

/* n rounds of two builds in turns, base head head base …; the same with head slowed by what they state as detectable. */
static inline void judge_builds(host_kind kind, int64_t n, uint64_t number, speed_rates *t) {
    double tps[RUNS_MOST], base[RUNS_MOST], head[RUNS_MOST];
    dsb_rng r = draws_of(200 + kind, (uint64_t)n, number);
    dsb_judgement equal = speed_asked(), slower = equal;
    draw_host(kind, 2 * n, &r, tps);
    for (int64_t i = 0; i < n; i++) base[i] = tps[2 * i + i % 2], head[i] = tps[2 * i + 1 - i % 2];
    if (dsb_judge_rounds(&equal, base, n, head, n, NULL)) return;
    t->alarms += is_slower(&equal);
    for (int64_t i = 0; i < n; i++) head[i] *= 1 - equal.detectable;
    dsb_judge_rounds(&slower, base, n, head, n, NULL);
    t->found += is_slower(&slower);
    t->detectable += equal.detectable;
}

static inline speed_rates speed_rates_of(void (*judge)(host_kind, int64_t, uint64_t, speed_rates *), host_kind kind, int64_t n, int64_t times) {
    int64_t alarms = 0, found = 0;
    double *detectable = calloc((size_t)times, sizeof *detectable), sum = 0;
    if (!detectable) return (speed_rates){ 0 };
#pragma omp parallel for reduction(+ : alarms, found)
    for (int64_t i = 0; i < times; i++) {
        speed_rates one = { 0 };
        judge(kind, n, (uint64_t)i, &one);
        alarms += one.alarms, found += one.found;
        detectable[i] = one.detectable;
    }
    for (int64_t i = 0; i < times; i++) sum += detectable[i];
    free(detectable);
    return (speed_rates){ times, alarms, found, sum };
}

typedef struct change_rates {
    int64_t n, alarms;         /* series without a change that got one */
    int64_t found, near, more; /* a step of 3 sd planted after two thirds: found within 3 runs of it, at most one off; more points than one */
} change_rates;

static inline change_rates change_rates_of(host_kind kind, int64_t n, int64_t times) {
    int64_t alarms = 0, found = 0, near = 0, more = 0;
#pragma omp parallel for reduction(+ : alarms, found, near, more)
    for (int64_t i = 0; i < times; i++) {
        double tps[RUNS_MOST];
        dsb_change_point points[RUNS_MOST];
        int64_t m, at = n * 2 / 3, off = n;
        dsb_rng r = draws_of(300 + kind, (uint64_t)n, (uint64_t)i);
        draw_host(kind, n, &r, tps);
        if (dsb_change_points(tps, n, DSB_JUDGE_ALPHA, points, &m, NULL)) continue;
        alarms += m > 0;
        for (int64_t k = at; k < n; k++) tps[k] *= exp(-0.045);
        dsb_change_points(tps, n, DSB_JUDGE_ALPHA, points, &m, NULL);
        for (int64_t k = 0; k < m; k++) off = llabs(points[k].at - at) < off ? llabs(points[k].at - at) : off;
        found += off <= 3;
        near += off <= 1;
        more += m > 1;
    }
    return (change_rates){ times, alarms, found, near, more };
}

#endif
