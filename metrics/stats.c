#include "metrics/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { BOOTSTRAP_REPS = 1999, SIGN_FLIP_EXACT_MAX = 16, FLIPS_AT_ONCE = 1024, MIN_CHUNKS = 4 };

uint64_t dsb_rng_next(dsb_rng *rng) {
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t dsb_rng_below(dsb_rng *rng, int64_t n) {
    return (int64_t)(((unsigned __int128)dsb_rng_next(rng) * (uint64_t)n) >> 64);
}

dsb_sample dsb_sample_of(const double *x, int64_t n) {
    dsb_sample s = { n, NAN, NAN, NAN };
    if (n < 1) return s;
    double sum = 0, ss = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    s.mean = sum / (double)n;
    if (n < 2) return s;
    for (int64_t i = 0; i < n; i++) ss += (x[i] - s.mean) * (x[i] - s.mean);
    s.sd = sqrt(ss / (double)(n - 1));
    s.se = s.sd / sqrt((double)n);
    return s;
}

double dsb_quantile_sorted(const double *x, int64_t n, double phi) {
    if (n < 1) return NAN;
    double at = phi * (double)(n - 1);
    int64_t i = (int64_t)at;
    if (i >= n - 1) return x[n - 1];
    double part = at - (double)i;
    /* Not a + part·(b − a) for part = 0: x[i+1] may be infinite or NaN (sorted last). */
    return part == 0 ? x[i] : x[i] + part * (x[i + 1] - x[i]);
}

static int compare_doubles(const void *pa, const void *pb) {
    double a = *(const double *)pa, b = *(const double *)pb;
    if (isnan(a) || isnan(b)) return (isnan(a) ? 1 : 0) - (isnan(b) ? 1 : 0);
    return (a > b) - (a < b);
}

void dsb_sort(double *x, int64_t n) {
    if (n > 1) qsort(x, (size_t)n, sizeof *x, compare_doubles);
}

double dsb_correlation(const double *x, const double *y, int64_t n) {
    double sx = 0, sy = 0, xx = 0, yy = 0, xy = 0;
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i]) && isfinite(y[i])) sx += x[i], sy += y[i], m++;
    if (m < 2) return NAN;
    double mx = sx / (double)m, my = sy / (double)m;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i])) continue;
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / (sqrt(xx) * sqrt(yy)) : NAN;
}

/* lgamma writes the global signgam; the reentrant one doesn't, and every argument here is positive. */
static double log_gamma(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

/* Lentz's continued fraction of the incomplete beta; converges fast for x < (a+1)/(a+b+2). */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int m = 1; m <= 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int half = 0; half < 2; half++) {
            double term = half ? odd : even;
            d = 1 + term * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + term / c;
            if (fabs(c) < tiny) c = tiny;
            step = c * d;
            f *= step;
        }
        if (fabs(step - 1) < 1e-16) break;
    }
    return f;
}

double dsb_incomplete_beta(double a, double b, double x) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* P(|T| > t), accurate far into the tail. */
static double t_two_sided(double t, double df) {
    if (isnan(t)) return NAN;
    if (isinf(t)) return 0;
    return dsb_incomplete_beta(df / 2, 0.5, df / (df + t * t));
}

double dsb_t_cdf(double t, double df) {
    double tail = 0.5 * t_two_sided(t, df);
    return t > 0 ? 1 - tail : tail;
}

double dsb_t_quantile(double p, double df) {
    if (!(p > 0 && p < 1) || !(df > 0)) return NAN;
    if (p == 0.5) return 0;
    bool upper = p > 0.5;
    double tail = 2 * (upper ? 1 - p : p), lo = 0, hi = 1;
    while (t_two_sided(hi, df) > tail && hi < 1e300) hi *= 2;
    for (int i = 0; i < 200; i++) {
        double mid = 0.5 * (lo + hi);
        if (mid <= lo || mid >= hi) break;
        if (t_two_sided(mid, df) > tail) lo = mid;
        else hi = mid;
    }
    return upper ? hi : -hi;
}

double dsb_t_test(const double *d, int64_t n, double mu0) {
    dsb_sample s = dsb_sample_of(d, n);
    if (n < 2 || isnan(s.sd)) return NAN;
    if (s.sd == 0) return s.mean == mu0 ? 1 : 0;
    return t_two_sided((s.mean - mu0) / s.se, (double)(n - 1));
}

void dsb_t_interval(const double *d, int64_t n, double level, double *lo, double *hi) {
    dsb_sample s = dsb_sample_of(d, n);
    double half = n < 2 ? NAN : dsb_t_quantile(0.5 + level / 2, (double)(n - 1)) * s.se;
    *lo = s.mean - half;
    *hi = s.mean + half;
}

double dsb_min_detectable(double se, int64_t n, double alpha, double power) {
    if (n < 2) return NAN;
    double df = (double)(n - 1);
    return (dsb_t_quantile(1 - alpha / 2, df) + dsb_t_quantile(power, df)) * se;
}

/* part[b]: Σ of 8 values (fewer at the end), those whose bit is set in b with the other sign. */
static void signed_sums(const double *d, int64_t n, double part[256]) {
    part[0] = 0;
    for (int64_t i = 0; i < 8; i++) {
        double x = i < n ? d[i] : 0;
        for (int64_t b = (int64_t)1 << i; b-- > 0;) part[b + ((int64_t)1 << i)] = part[b] - x, part[b] += x;
    }
}

double dsb_sign_flip_p(const double *d, int64_t n, int reps, uint64_t seed) {
    if (n < 1) return NAN;
    double sum = 0, size = 0, flipped[FLIPS_AT_ONCE], part[256];
    for (int64_t i = 0; i < n; i++) sum += d[i], size += fabs(d[i]);
    if (!isfinite(sum)) return NAN;
    /* A flip that equals the observed sum in exact arithmetic must count, whatever the rounding of n additions did. */
    double bar = fabs(sum) - size * (double)n * 2.3e-16;
    bool exact = n <= SIGN_FLIP_EXACT_MAX;
    int64_t total = exact ? (int64_t)1 << n : reps, hits = 0;
    dsb_rng rng = { seed };
    for (int64_t first = 0; first < total; first += FLIPS_AT_ONCE) {
        int64_t m = total - first < FLIPS_AT_ONCE ? total - first : FLIPS_AT_ONCE;
        memset(flipped, 0, sizeof flipped);
        for (int64_t i = 0; i < n; i += 8) {
            uint64_t bits = 0;
            signed_sums(d + i, n - i, part);
            for (int64_t r = 0; r < m; r++, bits >>= 8) {
                if (exact) bits = (uint64_t)(first + r) >> i;
                else if (r % 8 == 0) bits = dsb_rng_next(&rng);
                flipped[r] += part[bits & 255];
            }
        }
        for (int64_t r = 0; r < m; r++) hits += fabs(flipped[r]) >= bar;
    }
    return exact ? (double)hits / (double)total : (double)(1 + hits) / (double)(1 + total);
}

/* Ratio Σsum/Σcount over the chunks that pick(i) names, with its linearised standard error. */
typedef struct ratio {
    double value, se;
} ratio;

static ratio ratio_of(const double *sum, const double *count, const int64_t *pick, int64_t n) {
    double s = 0, m = 0, ee = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t c = pick ? pick[i] : i;
        s += sum[c];
        m += count ? count[c] : 1;
    }
    double value = s / m, mean_count = m / (double)n;
    for (int64_t i = 0; i < n; i++) {
        int64_t c = pick ? pick[i] : i;
        double e = sum[c] - value * (count ? count[c] : 1);
        ee += e * e;
    }
    return (ratio){ value, sqrt(ee / (double)(n - 1) / (double)n) / mean_count };
}

/* Fills t with (value* − value)/se* of the resamples that have a spread; returns how many. */
static int64_t bootstrap_pivots(const double *sum, const double *count, int64_t n, uint64_t seed, ratio all, int64_t *pick, double *t) {
    dsb_rng rng = { seed };
    int64_t m = 0;
    /* Below this a resample's spread is rounding only (all its chunks are one): its pivot would be 0/0. */
    double tiny = all.se * 1e-9;
    for (int r = 0; r < BOOTSTRAP_REPS; r++) {
        for (int64_t i = 0; i < n; i++) pick[i] = dsb_rng_below(&rng, n);
        ratio one = ratio_of(sum, count, pick, n);
        if (one.se > tiny) t[m++] = (one.value - all.value) / one.se;
    }
    dsb_sort(t, m);
    return m;
}

dsb_status dsb_bootstrap_t(const double *sum, const double *count, int64_t n, double level, uint64_t seed, double *lo, double *hi, dsb_err *err) {
    *lo = *hi = NAN;
    if (n < MIN_CHUNKS) return DSB_OK;
    ratio all = ratio_of(sum, count, NULL, n);
    if (!isfinite(all.value) || !isfinite(all.se)) return DSB_OK;
    if (all.se <= fabs(all.value) * 1e-15) {
        *lo = *hi = all.value;
        return DSB_OK;
    }
    int64_t *pick;
    double *t;
    DSB_TRY(DSB_NEW(pick, n, "bootstrap indices", err));
    dsb_status st = DSB_NEW(t, BOOTSTRAP_REPS, "bootstrap pivots", err);
    if (!st) {
        int64_t m = bootstrap_pivots(sum, count, n, seed, all, pick, t);
        /* Where many resamples have no spread (few chunks, or nearly all alike) their pivots are missing from one end. */
        bool usable = m >= BOOTSTRAP_REPS * 99 / 100;
        double plain = dsb_t_quantile(0.5 + level / 2, (double)(n - 1));
        *lo = all.value - (usable ? dsb_quantile_sorted(t, m, 0.5 + level / 2) : plain) * all.se;
        *hi = all.value - (usable ? dsb_quantile_sorted(t, m, 0.5 - level / 2) : -plain) * all.se;
        free(t);
    }
    free(pick);
    return st;
}

double dsb_design_effect(const double *x, const int64_t *chunk_start, int64_t n_chunk) {
    if (n_chunk < 2) return NAN;
    int64_t first = chunk_start[0], n = chunk_start[n_chunk] - first;
    dsb_sample tokens = dsb_sample_of(x + first, n);
    double ee = 0, mean_count = (double)n / (double)n_chunk;
    for (int64_t c = 0; c < n_chunk; c++) {
        double e = 0;
        for (int64_t i = chunk_start[c]; i < chunk_start[c + 1]; i++) e += x[i] - tokens.mean;
        ee += e * e;
    }
    double se_chunk = sqrt(ee / (double)(n_chunk - 1) / (double)n_chunk) / mean_count;
    return tokens.se > 0 ? (se_chunk / tokens.se) * (se_chunk / tokens.se) : NAN;
}

typedef struct ranked {
    double p;
    int64_t at;
} ranked;

static int compare_ranked(const void *pa, const void *pb) {
    const ranked *a = pa, *b = pb;
    if (a->p != b->p) return a->p < b->p ? -1 : 1;
    return a->at < b->at ? -1 : 1;
}

dsb_status dsb_holm(const double *p, int64_t n, double *adjusted, dsb_err *err) {
    if (n < 1) return DSB_OK;
    ranked *r;
    DSB_TRY(DSB_NEW(r, n, "p values", err));
    for (int64_t i = 0; i < n; i++) r[i] = (ranked){ isnan(p[i]) ? 1 : p[i], i }; /* an undefined test proves nothing */
    qsort(r, (size_t)n, sizeof *r, compare_ranked);
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double q = r[i].p * (double)(n - i);
        if (q > 1) q = 1;
        if (q > worst) worst = q;
        adjusted[r[i].at] = worst;
    }
    free(r);
    return DSB_OK;
}
