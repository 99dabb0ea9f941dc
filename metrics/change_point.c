#include "metrics/change_point.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "metrics/stats.h"

static const uint64_t SEED = 0x6368616e6765u;
enum { SHUFFLES = 1999 };

typedef struct series {
    const double *x; /* the finite values */
    const int64_t *at; /* where they stood */
    int64_t n;
    double *rank, *shuffled, *sorted; /* room for n */
    dsb_change_point *points;
    int64_t n_point;
} series;

/* Ranks of x[0..n) less their mean; equal values share theirs. sorted: room. */
static void centred_ranks(const double *x, int64_t n, double *sorted, double *rank) {
    memcpy(sorted, x, (size_t)n * sizeof *x);
    dsb_sort(sorted, n);
    for (int64_t i = 0; i < n; i++) {
        int64_t below = 0, upto = 0;
        while (below < n && sorted[below] < x[i]) below++;
        for (upto = below; upto < n && sorted[upto] == x[i];) upto++;
        rank[i] = 0.5 * (double)(below + upto + 1) - 0.5 * (double)(n + 1);
    }
}

/* The largest |Σ first k ranks| / √(k(n−k)), and the k where it is. */
static double best_split(const double *rank, int64_t n, int64_t *k_best) {
    double best = -1, sum = 0;
    for (int64_t k = 1; k < n; k++) {
        sum += rank[k - 1];
        double s = fabs(sum) / sqrt((double)k * (double)(n - k));
        if (s > best) best = s, *k_best = k;
    }
    return best;
}

/* p of the best split of [from, to) among shuffled orders of the same values; *k counts from `from`. */
static double split_p(series *s, int64_t from, int64_t to, int64_t *k) {
    int64_t n = to - from, hits = 0, ignored;
    dsb_rng rng = { SEED };
    centred_ranks(s->x + from, n, s->sorted, s->rank);
    double found = best_split(s->rank, n, k) * (1 - 1e-12); /* an equal order counts, whatever the rounding */
    memcpy(s->shuffled, s->rank, (size_t)n * sizeof *s->rank);
    for (int r = 0; r < SHUFFLES; r++) {
        for (int64_t i = n - 1; i > 0; i--) {
            int64_t other = dsb_rng_below(&rng, i + 1);
            double t = s->shuffled[i];
            s->shuffled[i] = s->shuffled[other];
            s->shuffled[other] = t;
        }
        hits += best_split(s->shuffled, n, &ignored) >= found;
    }
    return (double)(1 + hits) / (double)(1 + SHUFFLES);
}

/* Ends by itself: no p is below 1/(1 + SHUFFLES). */
static void segment(series *s, int64_t from, int64_t to, double alpha) {
    int64_t k;
    if (to - from < 2 || alpha * (1 + SHUFFLES) < 1) return;
    double p = split_p(s, from, to, &k);
    if (p > alpha) return;
    segment(s, from, from + k, alpha / 2);
    s->points[s->n_point++] = (dsb_change_point){ .at = from + k, .p = p };
    segment(s, from + k, to, alpha / 2);
}

static double median_of(series *s, int64_t from, int64_t to) {
    memcpy(s->sorted, s->x + from, (size_t)(to - from) * sizeof *s->x);
    dsb_sort(s->sorted, to - from);
    return dsb_quantile_sorted(s->sorted, to - from, 0.5);
}

/* A split was placed while later ones were not yet known: once more between its neighbours. */
static void place(series *s) {
    for (int64_t i = 0; i < s->n_point; i++) {
        int64_t from = i ? s->points[i - 1].at : 0, to = i + 1 < s->n_point ? s->points[i + 1].at : s->n, k;
        centred_ranks(s->x + from, to - from, s->sorted, s->rank);
        best_split(s->rank, to - from, &k);
        s->points[i].at = from + k;
    }
    for (int64_t i = 0; i < s->n_point; i++) {
        dsb_change_point *c = &s->points[i];
        c->before = median_of(s, i ? s->points[i - 1].at : 0, c->at);
        c->after = median_of(s, c->at, i + 1 < s->n_point ? s->points[i + 1].at : s->n);
    }
    for (int64_t i = 0; i < s->n_point; i++) s->points[i].at = s->at[s->points[i].at];
}

dsb_status dsb_change_points(const double *x, int64_t n, double alpha, dsb_change_point *points, int64_t *n_point, dsb_err *err) {
    double *room;
    int64_t *at;
    *n_point = 0;
    if (n < 2) return DSB_OK;
    DSB_TRY(DSB_NEW(room, 4 * n, "a series", err));
    dsb_status st = DSB_NEW(at, n, "a series", err);
    if (!st) {
        series s = { .x = room, .at = at, .rank = room + n, .shuffled = room + 2 * n, .sorted = room + 3 * n, .points = points };
        for (int64_t i = 0; i < n; i++)
            if (isfinite(x[i])) room[s.n] = x[i], at[s.n++] = i;
        segment(&s, 0, s.n, alpha);
        place(&s);
        *n_point = s.n_point;
        free(at);
    }
    free(room);
    return st;
}
