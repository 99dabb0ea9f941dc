#include "metrics/logits.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "metrics/stats.h"

static const uint64_t SEED = 0x6473626c6f676974u; /* fixed: the same run gives the same interval */
static const double LEVEL = 0.95;

/* What is summed per chunk. The first ones need a target. */
enum column {
    NLL_REF, NLL, DELTA_NLL, DELTA_P, DELTA_P2, HIT_REF, HIT, TARGETS,
    KLD = TARGETS, KLD_REVERSE, JS, TV, TOP1, TOP5, TOP10, COLUMNS
};

static double row_value(const dsb_logit_row *r, int32_t target, enum column c) {
    if (r->nonfinite) return NAN;
    double dp = r->p_test - r->p_ref;
    switch (c) {
    case NLL_REF: return r->nll_ref;
    case NLL: return r->nll_test;
    case DELTA_NLL: return r->nll_test - r->nll_ref;
    case DELTA_P: return dp;
    case DELTA_P2: return dp * dp;
    case HIT_REF: return r->top_ref == target;
    case HIT: return r->top_test == target;
    case KLD: return r->kld;
    case KLD_REVERSE: return r->kld_reverse;
    case JS: return r->js;
    case TV: return r->tv;
    case TOP1: return r->top_ref == r->top_test;
    case TOP5: return r->overlap5 / 5.0;
    case TOP10: return r->overlap10 / 10.0;
    default: return NAN;
    }
}

/* Per-chunk sums of one column and how many positions are in them. */
typedef struct sums {
    double *sum, *count;
    int64_t n_chunk, n; /* chunks with at least one position; positions */
    double value;       /* mean over positions, chunk sums added in order */
} sums;

static void sums_fill(sums *s, const dsb_logit_run *run, enum column c) {
    double total = 0;
    s->n_chunk = s->n = 0;
    for (int64_t k = 0; k < run->n_chunk; k++) {
        double sum = 0;
        int64_t n = 0;
        for (int64_t i = run->chunk_start[k]; i < run->chunk_start[k + 1]; i++) {
            if (c < TARGETS && run->target[i] < 0) continue;
            sum += row_value(&run->rows[i], run->target[i], c);
            n++;
        }
        if (!n) continue;
        s->sum[s->n_chunk] = sum;
        s->count[s->n_chunk++] = (double)n;
        s->n += n;
        total += sum;
    }
    s->value = s->n ? total / (double)s->n : NAN;
}

typedef struct work {
    const dsb_logit_run *run;
    sums s, s2;
    double *sorted; /* (rows), of one column */
    dsb_figures *out;
    dsb_err *err;
} work;

static void work_release(work *w) {
    free(w->s.sum);
    free(w->s.count);
    free(w->s2.sum);
    free(w->s2.count);
    free(w->sorted);
}

static dsb_status run_check(const dsb_logit_run *run, dsb_err *err) {
    int64_t n = run->n_chunk > 0 ? run->chunk_start[run->n_chunk] - run->chunk_start[0] : 0;
    if (n < 1) return dsb_fail(err, DSB_EINPUT, "logit figures: no scored position; give a longer text or a smaller context");
    for (int64_t k = 0; k < run->n_chunk; k++)
        if (run->chunk_start[k] > run->chunk_start[k + 1])
            return dsb_fail(err, DSB_EINPUT, "logit figures: chunk %lld ends before it starts", (long long)k);
    return DSB_OK;
}

static dsb_status work_init(work *w, const dsb_logit_run *run, dsb_figures *out, dsb_err *err) {
    memset(w, 0, sizeof *w);
    *w = (work){ .run = run, .out = out, .err = err };
    out->n = 0;
    DSB_TRY(run_check(run, err));
    DSB_TRY(DSB_NEW(w->s.sum, run->n_chunk, "chunk sums", err));
    DSB_TRY(DSB_NEW(w->s.count, run->n_chunk, "chunk counts", err));
    DSB_TRY(DSB_NEW(w->s2.sum, run->n_chunk, "chunk sums", err));
    DSB_TRY(DSB_NEW(w->s2.count, run->n_chunk, "chunk counts", err));
    return DSB_NEW(w->sorted, run->chunk_start[run->n_chunk] - run->chunk_start[0], "sorted figures", err);
}

/* A mean with its interval; `map` (may be NULL) turns mean and ends into the figure. */
static dsb_status put_mean(work *w, const char *metric, enum column c, double (*map)(double)) {
    double lo, hi;
    sums_fill(&w->s, w->run, c);
    DSB_TRY(dsb_bootstrap_t(w->s.sum, w->s.count, w->s.n_chunk, LEVEL, SEED, &lo, &hi, w->err));
    double v = w->s.value;
    if (map) v = map(v), lo = map(lo), hi = map(hi);
    dsb_figures_put(w->out, metric, v, lo, hi, w->s.n);
    return DSB_OK;
}

/* How many times the chunks' spread makes the mean's variance what independent positions would give. */
static dsb_status put_design_effect(work *w, const char *metric, enum column c) {
    const dsb_logit_run *run = w->run;
    int64_t *start, n_chunk = 0, n = 0;
    DSB_TRY(DSB_NEW(start, run->n_chunk + 1, "chunk starts", w->err));
    for (int64_t k = 0; k < run->n_chunk; k++) {
        for (int64_t i = run->chunk_start[k]; i < run->chunk_start[k + 1]; i++)
            if (c >= TARGETS || run->target[i] >= 0) w->sorted[n++] = row_value(&run->rows[i], run->target[i], c);
        if (n > start[n_chunk]) start[++n_chunk] = n;
    }
    dsb_figures_put(w->out, metric, dsb_design_effect(w->sorted, start, n_chunk), NAN, NAN, n);
    free(start);
    return DSB_OK;
}

static double root_or_zero(double x) { return x < 0 ? 0 : sqrt(x); }

static dsb_status put_bits_per_byte(work *w, enum column c) {
    double lo, hi;
    sums_fill(&w->s, w->run, c);
    DSB_TRY(dsb_bootstrap_t(w->s.sum, w->s.count, w->s.n_chunk, LEVEL, SEED, &lo, &hi, w->err));
    double bytes = (double)w->run->bytes_scored;
    double scale = bytes > 0 ? (double)w->s.n / (log(2) * bytes) : NAN;
    dsb_figures_put(w->out, "bits_per_byte", w->s.value * scale, lo * scale, hi * scale, w->s.n);
    return DSB_OK;
}

static dsb_status put_accuracy_kept(work *w) {
    double lo, hi;
    sums_fill(&w->s, w->run, HIT);
    sums_fill(&w->s2, w->run, HIT_REF);
    bool any = w->s2.value > 0;
    lo = hi = NAN;
    /* The ratio's own interval: numerator and denominator of a chunk are resampled together. */
    if (any) DSB_TRY(dsb_bootstrap_t(w->s.sum, w->s2.sum, w->s.n_chunk, LEVEL, SEED, &lo, &hi, w->err));
    dsb_figures_put(w->out, "accuracy_kept", any ? w->s.value / w->s2.value : NAN, lo, hi, w->s.n);
    return DSB_OK;
}

/* Sorted values of a column; *bad if one is NaN (it sorts last). */
static int64_t sorted_column(work *w, enum column c, bool *bad) {
    const dsb_logit_run *run = w->run;
    int64_t n = 0;
    for (int64_t i = run->chunk_start[0]; i < run->chunk_start[run->n_chunk]; i++)
        if (c >= TARGETS || run->target[i] >= 0) w->sorted[n++] = row_value(&run->rows[i], run->target[i], c);
    dsb_sort(w->sorted, n);
    *bad = n && isnan(w->sorted[n - 1]);
    return n;
}

typedef struct percentile {
    const char *metric;
    double phi;
} percentile;

static void put_percentiles(work *w, enum column c, const percentile *p, int count) {
    bool bad;
    int64_t n = sorted_column(w, c, &bad);
    for (int i = 0; i < count; i++)
        dsb_figures_put(w->out, p[i].metric, bad ? NAN : dsb_quantile_sorted(w->sorted, n, p[i].phi), NAN, NAN, n);
}

static void count_flips(const dsb_logit_row *r, int32_t target, int64_t *right_to_wrong, int64_t *wrong_to_right) {
    if (target < 0 || r->nonfinite) return;
    bool ref = r->top_ref == target, test = r->top_test == target;
    *right_to_wrong += ref && !test;
    *wrong_to_right += !ref && test;
}

static void put_counts(work *w) {
    const dsb_logit_run *run = w->run;
    int64_t lost = 0, won = 0, bad, targets = 0;
    for (int64_t i = run->chunk_start[0]; i < run->chunk_start[run->n_chunk]; i++) {
        targets += run->target[i] >= 0;
        count_flips(&run->rows[i], run->target[i], &lost, &won);
    }
    dsb_logit_first_nonfinite(run, &bad);
    dsb_figures_put(w->out, "flips_right_to_wrong", (double)lost, NAN, NAN, targets);
    dsb_figures_put(w->out, "flips_wrong_to_right", (double)won, NAN, NAN, targets);
    dsb_figures_put(w->out, "nonfinite_positions", (double)bad, NAN, NAN, run->chunk_start[run->n_chunk] - run->chunk_start[0]);
}

static dsb_status put_perplexity(work *w) {
    DSB_TRY(put_mean(w, "nll", NLL, NULL));
    DSB_TRY(put_mean(w, "ppl", NLL, exp));
    DSB_TRY(put_mean(w, "delta_nll", DELTA_NLL, NULL));
    DSB_TRY(put_design_effect(w, "delta_nll_design_effect", DELTA_NLL));
    DSB_TRY(put_mean(w, "ppl_ratio", DELTA_NLL, exp));
    return put_bits_per_byte(w, NLL);
}

static dsb_status put_divergence(work *w) {
    static const percentile kld[] = {
        { "kld_median", 0.5 }, { "kld_p90", 0.9 }, { "kld_p95", 0.95 }, { "kld_p99", 0.99 }, { "kld_p999", 0.999 }, { "kld_max", 1 },
    };
    DSB_TRY(put_mean(w, "kld_mean", KLD, NULL));
    DSB_TRY(put_design_effect(w, "kld_mean_design_effect", KLD));
    put_percentiles(w, KLD, kld, sizeof kld / sizeof kld[0]);
    DSB_TRY(put_mean(w, "kld_reverse_mean", KLD_REVERSE, NULL));
    DSB_TRY(put_mean(w, "js_mean", JS, NULL));
    return put_mean(w, "tv_mean", TV, NULL);
}

static dsb_status put_agreement(work *w) {
    DSB_TRY(put_mean(w, "top1_agreement", TOP1, NULL));
    DSB_TRY(put_mean(w, "top5_agreement", TOP5, NULL));
    DSB_TRY(put_mean(w, "top10_agreement", TOP10, NULL));
    DSB_TRY(put_mean(w, "top1_accuracy", HIT, NULL));
    DSB_TRY(put_mean(w, "top1_accuracy_ref", HIT_REF, NULL));
    return put_accuracy_kept(w);
}

static dsb_status put_delta_p(work *w) {
    static const percentile dp[] = {
        { "delta_p_p01", 0.01 }, { "delta_p_p05", 0.05 }, { "delta_p_p50", 0.5 }, { "delta_p_p95", 0.95 }, { "delta_p_p99", 0.99 },
    };
    DSB_TRY(put_mean(w, "delta_p_mean", DELTA_P, NULL));
    DSB_TRY(put_mean(w, "delta_p_rms", DELTA_P2, root_or_zero));
    put_percentiles(w, DELTA_P, dp, sizeof dp / sizeof dp[0]);
    return DSB_OK;
}

static dsb_status figures_of_test(work *w) {
    DSB_TRY(put_perplexity(w));
    DSB_TRY(put_divergence(w));
    DSB_TRY(put_agreement(w));
    DSB_TRY(put_delta_p(w));
    put_counts(w);
    return DSB_OK;
}

static dsb_status figures_of_reference(work *w) {
    DSB_TRY(put_mean(w, "nll", NLL_REF, NULL));
    DSB_TRY(put_mean(w, "ppl", NLL_REF, exp));
    DSB_TRY(put_bits_per_byte(w, NLL_REF));
    return put_mean(w, "top1_accuracy", HIT_REF, NULL);
}

dsb_status dsb_logit_figures(const dsb_logit_run *run, dsb_figures *out, dsb_err *err) {
    work w;
    dsb_status st = work_init(&w, run, out, err);
    if (!st) st = figures_of_test(&w);
    work_release(&w);
    return st;
}

dsb_status dsb_logit_figures_reference(const dsb_logit_run *run, dsb_figures *out, dsb_err *err) {
    work w;
    dsb_status st = work_init(&w, run, out, err);
    if (!st) st = figures_of_reference(&w);
    work_release(&w);
    return st;
}

void dsb_logit_chunks(const dsb_logit_run *run, dsb_logit_chunk *out) {
    for (int64_t k = 0; k < run->n_chunk; k++) {
        dsb_logit_chunk c = { 0 };
        for (int64_t i = run->chunk_start[k]; i < run->chunk_start[k + 1]; i++) {
            const dsb_logit_row *r = &run->rows[i];
            int32_t target = run->target[i];
            c.n++;
            c.kld += row_value(r, target, KLD);
            c.top1 += row_value(r, target, TOP1);
            if (target < 0) continue;
            c.n_target++;
            c.nll_ref += row_value(r, target, NLL_REF);
            c.nll_test += row_value(r, target, NLL);
            c.accuracy_ref += row_value(r, target, HIT_REF);
            c.accuracy_test += row_value(r, target, HIT);
        }
        c.kld /= (double)c.n; /* 0/0 is the NaN that an empty chunk should have */
        c.top1 /= (double)c.n;
        c.nll_ref /= (double)c.n_target;
        c.nll_test /= (double)c.n_target;
        c.accuracy_ref /= (double)c.n_target;
        c.accuracy_test /= (double)c.n_target;
        out[k] = c;
    }
}

void dsb_logit_buckets(const dsb_logit_run *run, dsb_logit_bucket out[DSB_LOGIT_BUCKETS]) {
    memset(out, 0, DSB_LOGIT_BUCKETS * sizeof *out);
    for (int64_t i = run->chunk_start[0]; i < run->chunk_start[run->n_chunk]; i++) {
        const dsb_logit_row *r = &run->rows[i];
        if (r->nonfinite) continue; /* has no confidence to be filed under; counted in nonfinite_positions */
        int b = (int)(r->conf_ref * DSB_LOGIT_BUCKETS);
        dsb_logit_bucket *bucket = &out[b < 0 ? 0 : b >= DSB_LOGIT_BUCKETS ? DSB_LOGIT_BUCKETS - 1 : b];
        bucket->n++;
        bucket->kld_mean += r->kld;
        bucket->top1_agreement += r->top_ref == r->top_test;
        count_flips(r, run->target[i], &bucket->right_to_wrong, &bucket->wrong_to_right);
    }
    for (int b = 0; b < DSB_LOGIT_BUCKETS; b++) {
        out[b].kld_mean /= (double)out[b].n;
        out[b].top1_agreement /= (double)out[b].n;
    }
}

double dsb_kld_bin_edge(int i) { return pow(10, i / 10.0 - 8); }

void dsb_kld_histogram_fill(const dsb_logit_run *run, dsb_kld_histogram *out) {
    memset(out, 0, sizeof *out);
    for (int64_t i = run->chunk_start[0]; i < run->chunk_start[run->n_chunk]; i++) {
        if (run->rows[i].nonfinite) continue;
        double kld = run->rows[i].kld;
        if (!(kld >= dsb_kld_bin_edge(0))) {
            out->under++;
            continue;
        }
        int64_t b = kld >= 10 ? DSB_KLD_BINS : (int64_t)floor((log10(kld) + 8) * 10);
        if (b >= DSB_KLD_BINS) out->over++;
        else out->bin[b < 0 ? 0 : b]++;
    }
}

int64_t dsb_logit_first_nonfinite(const dsb_logit_run *run, int64_t *count) {
    int64_t first = -1, n = 0;
    for (int64_t i = run->chunk_start[0]; i < run->chunk_start[run->n_chunk]; i++) {
        if (!run->rows[i].nonfinite) continue;
        if (first < 0) first = i;
        n++;
    }
    if (count) *count = n;
    return first;
}
