#include "metrics/speed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "metrics/stats.h"

enum { LEVEL_RUNS = 7, EXACT_MOST = 50 };

/* Variance of the median of k standard normals (the mean of the middle two for even k). */
static const double median_variance[LEVEL_RUNS + 1] = { 0, 1, 0.5, 0.448671, 0.298200, 0.286834, 0.214743, 0.210447 };

static double median(const double *x, int64_t n, double *sorted) {
    memcpy(sorted, x, (size_t)n * sizeof *x);
    dsb_sort(sorted, n);
    return dsb_quantile_sorted(sorted, n, 0.5);
}

/* The level before x[i], and how much farther from it a new run lies than from the true level. */
static double level_before(const double *x, int64_t i, double *widen) {
    double sorted[LEVEL_RUNS];
    int64_t k = i < LEVEL_RUNS ? i : LEVEL_RUNS;
    *widen = sqrt(1 + median_variance[k]);
    return median(x + i - k, k, sorted);
}

/* √mean of squares of u (n), cut at 3 robust deviations. */
static double robust_spread(const double *u, int64_t n) {
    double size[DSB_HISTORY_MOST], sorted[DSB_HISTORY_MOST], ss = 0;
    for (int64_t i = 0; i < n; i++) size[i] = fabs(u[i]);
    double cut = 3 * 1.4826 * median(size, n, sorted);
    for (int64_t i = 0; i < n; i++) {
        double s = cut > 0 && size[i] > cut ? cut : size[i];
        ss += s * s;
    }
    return sqrt(ss / (double)n);
}

/* The tolerance as a difference of logarithms, for the worse positive. */
static double log_limit(const dsb_judgement *j) { return j->better == DSB_BETTER_HIGHER ? -log1p(-j->tolerance) : log1p(j->tolerance); }
static double sign_of(const dsb_judgement *j) { return j->better == DSB_BETTER_HIGHER ? -1 : 1; }

dsb_status dsb_judge_history(dsb_judgement *j, const double *history, int64_t n, double tps, dsb_err *err) {
    double x[DSB_HISTORY_MOST + 1], u[DSB_HISTORY_MOST], widen, sign = sign_of(j);
    int64_t m = 0, low = 0, high = 0;
    for (int64_t i = n; i-- > 0 && m < DSB_HISTORY_MOST;)
        if (history[i] > 0 && isfinite(history[i])) x[DSB_HISTORY_MOST - ++m] = log(history[i]);
    const double *h = x + DSB_HISTORY_MOST - m;
    j->n = m;
    j->test = DSB_TEST_NONE;
    if (m < DSB_HISTORY_LEAST || !(tps > 0) || !isfinite(tps)) return DSB_OK;
    j->test = DSB_TEST_HISTORY;
    for (int64_t i = 1; i < m; i++) {
        double level = level_before(h, i, &widen);
        u[i - 1] = (h[i] - level) / widen;
    }
    double level = level_before(h, m, &widen), d = log(tps) - level, spread = robust_spread(u, m - 1);
    j->base = exp(level);
    j->head = tps;
    j->diff = expm1(d);
    j->se = spread * widen;
    j->df = (double)(m - 1);
    double at_zero = d == 0 ? 0 : d / j->se; /* a host that never varied: infinite */
    double half90 = dsb_t_quantile(1 - DSB_JUDGE_ALPHA, j->df) * j->se, half95 = dsb_t_quantile(0.975, j->df) * j->se;
    j->p = 2 * dsb_t_cdf(-fabs(at_zero), j->df);
    j->p_improved = dsb_t_cdf(sign * at_zero, j->df);
    double beyond = sign * d - log_limit(j);
    j->p_regressed = dsb_t_cdf(beyond == 0 ? 0 : -beyond / j->se, j->df);
    j->lo90 = expm1(d - half90), j->hi90 = expm1(d + half90);
    j->lo = expm1(d - half95), j->hi = expm1(d + half95);
    for (int64_t i = 0; i < m - 1; i++) low += u[i] * widen <= d, high += u[i] * widen >= d;
    j->p_check = fmin(1, 2 * (double)(1 + (low < high ? low : high)) / (double)m);
    return DSB_OK;
}

/* ways[u]: of all orders of a and b values, the share where u of the a·b pairs are won; u = 0 .. a·b. */
static dsb_status rank_sum_shares(int64_t a, int64_t b, double **ways, dsb_err *err) {
    double *w;
    int64_t most = a * b;
    DSB_TRY(DSB_NEW(w, most + 1, "orders of rounds", err));
    /* Π_{i=1..a} (1 − q^{b+i})/(1 − q^i), coefficients of q^u; each factor is divided by (b+i)/i to keep shares. */
    w[0] = 1;
    for (int64_t i = 1; i <= a; i++) {
        for (int64_t u = most; u >= b + i; u--) w[u] -= w[u - b - i];
        for (int64_t u = i; u <= most; u++) w[u] += w[u - i];
        for (int64_t u = 0; u <= most; u++) w[u] *= (double)i / (double)(b + i);
    }
    *ways = w;
    return DSB_OK;
}

/* Pairs won by b, a draw counting half, and whether any value stands twice. */
static double pairs_won(const double *a, int64_t n_a, double shift, const double *b, int64_t n_b, bool *ties) {
    double won = 0;
    *ties = false;
    for (int64_t i = 0; i < n_a; i++)
        for (int64_t k = 0; k < n_b; k++) {
            double d = b[k] - (a[i] + shift);
            won += d > 0 ? 1 : d == 0 ? 0.5 : 0;
            *ties = *ties || d == 0;
        }
    return won;
}

/* Σ(t³ − t) over groups of equal values of both. */
static double tie_term(const double *a, int64_t n_a, double shift, const double *b, int64_t n_b, double *room) {
    double sum = 0;
    for (int64_t i = 0; i < n_a; i++) room[i] = a[i] + shift;
    memcpy(room + n_a, b, (size_t)n_b * sizeof *b);
    dsb_sort(room, n_a + n_b);
    for (int64_t i = 0, k; i < n_a + n_b; i = k) {
        for (k = i; k < n_a + n_b && room[k] == room[i];) k++;
        double t = (double)(k - i);
        sum += t * t * t - t;
    }
    return sum;
}

typedef struct rounds {
    const double *a, *b; /* base, head: ln tokens/s, turned so that larger is worse */
    int64_t n_a, n_b;
    double *shares; /* exact distribution, NULL: too many rounds */
    double *room;   /* n_a + n_b */
} rounds;

/* P(b wins that many pairs or more | b is a + shift); *less: that many or fewer. */
static double p_more(const rounds *r, double shift, double *less) {
    bool ties;
    double won = pairs_won(r->a, r->n_a, shift, r->b, r->n_b, &ties), pairs = (double)(r->n_a * r->n_b), n = (double)(r->n_a + r->n_b);
    if (!r->shares || ties) {
        double sd = sqrt(pairs / 12 * (n + 1 - tie_term(r->a, r->n_a, shift, r->b, r->n_b, r->room) / (n * (n - 1))));
        if (!(sd > 0)) return *less = 1; /* all values are one */
        *less = 0.5 * erfc(-(won - pairs / 2 + 0.5) / sd / M_SQRT2);
        return 0.5 * erfc((won - pairs / 2 - 0.5) / sd / M_SQRT2);
    }
    double more = 0;
    *less = 0;
    for (int64_t u = 0; u <= (int64_t)won; u++) *less += r->shares[u];
    for (int64_t u = 0; u <= (int64_t)(pairs - won); u++) more += r->shares[u]; /* the distribution is symmetric */
    return more;
}

/* The c-th smallest and largest of all differences hold the shift with 1 − 2·tail: c is the most with P(U < c) ≤ tail. */
static int64_t outer_pairs(const rounds *r, double tail) {
    int64_t c = 0;
    double pairs = (double)(r->n_a * r->n_b), n = (double)(r->n_a + r->n_b), sum = 0;
    if (!r->shares) return (int64_t)fmax(0, floor(pairs / 2 - 0.5 + dsb_t_quantile(tail, 1e9) * sqrt(pairs * (n + 1) / 12)) + 1);
    while ((double)c < pairs && (sum += r->shares[c]) <= tail) c++;
    return c;
}

static void interval(const rounds *r, const double *sorted, double tail, double sign, double *lo, double *hi) {
    int64_t c = outer_pairs(r, tail), n = r->n_a * r->n_b;
    double least = c > 0 ? sorted[c - 1] : -INFINITY, most = c > 0 ? sorted[n - c] : INFINITY;
    *lo = expm1(sign > 0 ? least : -most);
    *hi = expm1(sign > 0 ? most : -least);
}

static void judge_rounds(dsb_judgement *j, const rounds *r, double *differences) {
    double sign = sign_of(j), less, more = p_more(r, 0, &less);
    int64_t pairs = r->n_a * r->n_b;
    for (int64_t i = 0; i < r->n_a; i++)
        for (int64_t k = 0; k < r->n_b; k++) differences[i * r->n_b + k] = r->b[k] - r->a[i];
    dsb_sort(differences, pairs);
    dsb_sample a = dsb_sample_of(r->a, r->n_a), b = dsb_sample_of(r->b, r->n_b);
    j->n = r->n_a < r->n_b ? r->n_a : r->n_b;
    j->diff = expm1(sign * dsb_quantile_sorted(differences, pairs, 0.5));
    j->df = (double)(r->n_a + r->n_b - 2);
    /* As Student's, but for the 3/π that ranks cost on normal noise. */
    j->se = sqrt((a.sd * a.sd * (double)(r->n_a - 1) + b.sd * b.sd * (double)(r->n_b - 1)) / j->df * (1 / (double)r->n_a + 1 / (double)r->n_b) * M_PI / 3);
    interval(r, differences, DSB_JUDGE_ALPHA, sign, &j->lo90, &j->hi90);
    interval(r, differences, 0.025, sign, &j->lo, &j->hi);
    j->p = fmin(1, 2 * fmin(more, less));
    j->p_improved = less;
    j->p_regressed = p_more(r, log_limit(j), &less);
    j->p_least = r->shares ? r->shares[0] : 0;
    j->test = DSB_TEST_ROUNDS;
}

static int64_t take_logs(const double *tps, int64_t n, double sign, double *out) {
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++)
        if (tps[i] > 0 && isfinite(tps[i])) out[m++] = sign * log(tps[i]);
    return m;
}

dsb_status dsb_judge_rounds(dsb_judgement *j, const double *base, int64_t n_base, const double *head, int64_t n_head, dsb_err *err) {
    double *room;
    rounds r = { 0 };
    j->test = DSB_TEST_NONE;
    if (n_base < DSB_ROUNDS_LEAST || n_head < DSB_ROUNDS_LEAST) return DSB_OK;
    if (n_base > DSB_ROUNDS_MOST || n_head > DSB_ROUNDS_MOST) return dsb_fail(err, DSB_EUSAGE, "%lld and %lld rounds of two builds; at most %d can be judged", (long long)n_base, (long long)n_head, DSB_ROUNDS_MOST);
    DSB_TRY(DSB_NEW(room, 2 * (n_base + n_head) + n_base * n_head, "rounds of two builds", err));
    r.a = room, r.b = room + n_base, r.room = room + n_base + n_head;
    r.n_a = take_logs(base, n_base, sign_of(j), room);
    r.n_b = take_logs(head, n_head, sign_of(j), room + n_base);
    j->n = r.n_a < r.n_b ? r.n_a : r.n_b;
    dsb_status s = DSB_OK;
    if (j->n >= DSB_ROUNDS_LEAST) {
        if (r.n_a <= EXACT_MOST && r.n_b <= EXACT_MOST) s = rank_sum_shares(r.n_a, r.n_b, &r.shares, err);
        if (!s) {
            double sorted[DSB_ROUNDS_MOST];
            j->base = exp(sign_of(j) * median(r.a, r.n_a, sorted));
            j->head = exp(sign_of(j) * median(r.b, r.n_b, sorted));
            judge_rounds(j, &r, room + 2 * (n_base + n_head));
        }
    }
    free(r.shares);
    free(room);
    return s;
}
