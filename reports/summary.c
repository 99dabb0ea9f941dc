/* Figures of each scheme, what they mean, which one to ship. */
#include "reports/summary.h"

#include <math.h>
#include <string.h>

#include "metrics/moments.h"
#include "metrics/stats.h"

#define SHIP_LIMIT 0.00995   /* ln 1.01: perplexity rises by at most 1 % */
#define FRUGAL_LIMIT 0.04879 /* ln 1.05 */

static dsb_quality quality(const dsb_run_data *d, const char *scheme, const char *metric) {
    const dsb_quality *q = dsb_run_quality(d, scheme, metric);
    return q ? *q : (dsb_quality){ .scheme = scheme, .metric = metric, .value = NAN, .lo = NAN, .hi = NAN, .n = -1 };
}

static double ratio(double a, double b) { return b > 0 ? a / b : NAN; }
static double median_of(const dsb_throughput *t) { return t ? t->tps_median : NAN; }

static void fill_worst_layer(const dsb_run_data *data, dsb_digest *d) {
    d->worst_nmse = NAN;
    d->worst_layer = -1;
    for (int64_t i = 0; i < data->n_layer_row; i++) {
        const dsb_layer_error *e = &data->layers[i];
        if (strcmp(e->scheme, d->scheme->name) || strcmp(e->kind, "accumulated") || strcmp(e->point, "block")) continue;
        double nmse = dsb_moments_nmse(&e->m);
        if (d->worst_layer >= 0 && (d->worst_nonfinite || (!e->m.nonfinite && !(nmse > d->worst_nmse)))) continue;
        d->worst_nonfinite = e->m.nonfinite;
        d->worst_nmse = nmse;
        d->worst_layer = e->layer;
    }
}

static void fill_size(const dsb_run_data *data, dsb_digest *d) {
    double n = (double)(d->scheme->n_param > 0 ? d->scheme->n_param : data->run.model.n_param);
    d->bytes = d->scheme->weight_bytes > 0 ? (double)d->scheme->weight_bytes : NAN;
    d->vs_f32_size = ratio(n * 4, d->bytes);
    d->vs_bf16_size = ratio(n * 2, d->bytes);
}

static void fill_speed(const dsb_run_data *data, dsb_digest *d) {
    const char *name = d->scheme->name;
    d->prefill = dsb_run_speed(data, name, "prefill");
    d->decode = dsb_run_speed(data, name, "decode");
    d->prefill_vs_f32 = ratio(median_of(d->prefill), median_of(dsb_run_speed(data, DSB_REFERENCE, "prefill")));
    d->prefill_vs_bf16 = ratio(median_of(d->prefill), median_of(dsb_run_speed(data, DSB_FLOOR, "prefill")));
    d->decode_vs_f32 = ratio(median_of(d->decode), median_of(dsb_run_speed(data, DSB_REFERENCE, "decode")));
    d->decode_vs_bf16 = ratio(median_of(d->decode), median_of(dsb_run_speed(data, DSB_FLOOR, "decode")));
}

/* Share of the reference's right top-1 predictions: stored, or from the chunks. */
static double accuracy_kept(const dsb_run_data *data, const char *scheme) {
    double stored = dsb_run_value(data, scheme, "accuracy_kept"), ref = 0, test = 0;
    if (!isnan(stored)) return stored;
    for (int64_t i = 0; i < data->n_chunk_row; i++) {
        const dsb_chunk_quality *c = &data->chunks[i];
        if (strcmp(c->scheme, scheme)) continue;
        ref += c->accuracy_ref * (double)c->n_target;
        test += c->accuracy_test * (double)c->n_target;
    }
    return ratio(test, ref);
}

/* Is the scheme's KLD above the floor's? Paired by chunk where both have the same chunks; else by the floor's interval. */
static bool within_floor(const dsb_run_data *data, dsb_arena *arena, const dsb_digest *d) {
    dsb_quality floor = quality(data, DSB_FLOOR, "kld_mean");
    double *diff = NULL, lo = NAN, hi = NAN;
    int64_t n = 0;
    if (isnan(floor.value) || isnan(d->kld.value)) return false;
    if (d->kld.value <= floor.value) return true;
    if (!dsb_arena_take(arena, (void **)&diff, (size_t)data->n_chunk_row + 1, sizeof *diff, "chunk differences", NULL))
        for (int64_t i = 0; i < data->n_chunk_row; i++)
            for (int64_t j = 0; j < data->n_chunk_row && !strcmp(data->chunks[i].scheme, d->scheme->name); j++)
                if (data->chunks[j].chunk == data->chunks[i].chunk && !strcmp(data->chunks[j].scheme, DSB_FLOOR))
                    diff[n++] = data->chunks[i].kld - data->chunks[j].kld;
    if (n < 4) return !isnan(floor.hi) && d->kld.value <= floor.hi;
    dsb_t_interval(diff, n, 0.95, &lo, &hi);
    return lo <= 0;
}

static dsb_standing standing(const dsb_run_data *data, dsb_arena *arena, const dsb_digest *d) {
    if (!strcmp(d->scheme->name, DSB_REFERENCE)) return DSB_STANDING_REFERENCE;
    if (!strcmp(d->scheme->name, DSB_FLOOR)) return DSB_STANDING_FLOOR;
    if (isnan(d->kld.value) && isnan(d->delta_nll.value)) return DSB_STANDING_UNKNOWN;
    if (within_floor(data, arena, d)) return DSB_STANDING_WITHIN;
    if (isnan(d->delta_nll.lo) || isnan(d->delta_nll.hi)) return DSB_STANDING_UNSURE;
    if (d->delta_nll.lo > 0) return DSB_STANDING_WORSE;
    return d->delta_nll.hi < 0 ? DSB_STANDING_BETTER : DSB_STANDING_UNSURE;
}

static void fill(const dsb_run_data *data, dsb_arena *arena, const dsb_scheme_record *scheme, dsb_digest *d) {
    *d = (dsb_digest){ .scheme = scheme };
    d->ppl = quality(data, scheme->name, "ppl");
    d->delta_nll = quality(data, scheme->name, "delta_nll");
    d->kld = quality(data, scheme->name, "kld_mean");
    d->kld_p99 = dsb_run_value(data, scheme->name, "kld_p99");
    d->top1_agreement = dsb_run_value(data, scheme->name, "top1_agreement");
    d->accuracy_kept = accuracy_kept(data, scheme->name);
    d->selection_change = dsb_run_routing_mean(data, scheme->name, "accumulated", "selection_change");
    fill_size(data, d);
    fill_speed(data, d);
    fill_worst_layer(data, d);
    d->standing = standing(data, arena, d);
}

static bool is_candidate(const dsb_digest *d) { return d->standing != DSB_STANDING_REFERENCE && !isnan(d->delta_nll.value) && d->bytes > 0; }
static double upper(const dsb_digest *d) { return isnan(d->delta_nll.hi) ? d->delta_nll.value : d->delta_nll.hi; }

/* Sizes within 2 % count as equal: then the one nearer to the reference wins. */
static bool smaller(const dsb_digest *a, const dsb_digest *b) {
    if (a->bytes < b->bytes * 0.98) return true;
    if (a->bytes > b->bytes * 1.02) return false;
    return upper(a) < upper(b);
}

static const dsb_digest *smallest_within(const dsb_summary *s, double limit) {
    const dsb_digest *best = NULL;
    for (int64_t i = 0; i < s->n; i++)
        if (is_candidate(&s->schemes[i]) && upper(&s->schemes[i]) <= limit && (!best || smaller(&s->schemes[i], best))) best = &s->schemes[i];
    return best;
}

static const dsb_digest *least_kld(const dsb_summary *s) {
    const dsb_digest *best = NULL;
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_digest *d = &s->schemes[i];
        if (is_candidate(d) && d->standing != DSB_STANDING_FLOOR && (!best || d->kld.value < best->kld.value)) best = d;
    }
    return best;
}

dsb_status dsb_summary_make(const dsb_run_data *data, dsb_arena *arena, dsb_summary *s, dsb_err *err) {
    *s = (dsb_summary){ .data = data, .n = data->n_scheme };
    DSB_TRY(dsb_arena_take(arena, (void **)&s->schemes, (size_t)s->n + 1, sizeof *s->schemes, "the summary", err));
    for (int64_t i = 0; i < s->n; i++) fill(data, arena, &data->schemes[i], &s->schemes[i]);
    s->ship = smallest_within(s, SHIP_LIMIT);
    s->frugal = smallest_within(s, FRUGAL_LIMIT);
    if (s->frugal == s->ship) s->frugal = NULL;
    s->faithful = least_kld(s);
    return DSB_OK;
}

const dsb_digest *dsb_summary_find(const dsb_summary *s, const char *scheme) {
    for (int64_t i = 0; i < s->n; i++)
        if (!strcmp(s->schemes[i].scheme->name, scheme)) return &s->schemes[i];
    return NULL;
}
