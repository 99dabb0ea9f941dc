/* What is known only when the last block is done: figures of the logits, run-level routing, sizes, calibration coverage. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/record.h"
#include "metrics/logits.h"
#include "metrics/stats.h"

extern const char *const k_rec_routing[];
enum { N_ROUTING = 10, SEED = 20250101, MIN_TOKENS = 32 };

typedef struct finish {
    dsb_recorder *r;
    int32_t *target;      /* (n_scored) */
    int64_t *chunk_start; /* (n_chunk + 1) */
    int64_t *token;       /* (n_scored): which token of the run a scored row is */
    int64_t bytes;
} finish;

static dsb_status finish_open(finish *f, dsb_recorder *r, dsb_err *err) {
    const dsb_chunks *c = r->chunks;
    *f = (finish){.r = r};
    DSB_TRY(DSB_NEW(f->target, r->n_scored, "targets", err));
    DSB_TRY(DSB_NEW(f->token, r->n_scored, "targets", err));
    DSB_TRY(DSB_NEW(f->chunk_start, c->n_chunk + 1, "targets", err));
    int64_t n = 0;
    for (int64_t i = 0; i < c->n_chunk; i++) {
        f->chunk_start[i] = n;
        f->bytes += c->scored_bytes[i];
        for (int64_t p = 0; p < c->n_ctx; p++) {
            int32_t t = dsb_chunks_target(c, i, p);
            if (t < 0) continue;
            f->token[n] = i * c->n_ctx + p;
            f->target[n++] = t;
        }
    }
    f->chunk_start[c->n_chunk] = n;
    return DSB_OK;
}

static dsb_status put_quality(dsb_recorder *r, const char *scheme, const dsb_figures *list, dsb_err *err) {
    for (int i = 0; i < list->n; i++) {
        const dsb_figure *x = &list->item[i];
        dsb_quality row = {.scheme = scheme, .metric = x->metric, .unit = x->unit, .value = x->value, .lo = x->lo, .hi = x->hi, .n = x->n};
        DSB_TRY(dsb_db_put_quality(r->db, r->run_id, &row, err));
    }
    return DSB_OK;
}

static dsb_status put_detail(dsb_recorder *r, const char *scheme, const char *kind, int64_t bin, double lo, double hi, double value, int64_t n, dsb_err *err) {
    dsb_quality_detail row = {.scheme = scheme, .kind = kind, .layer = -1, .bin = bin, .lo = lo, .hi = hi, .value = value, .n = n};
    return dsb_db_put_quality_detail(r->db, r->run_id, &row, err);
}

/* KLD histogram and the figures by the reference's confidence. */
static dsb_status put_details(dsb_recorder *r, const char *scheme, const dsb_logit_run *run, dsb_err *err) {
    dsb_logit_bucket b[DSB_LOGIT_BUCKETS];
    dsb_kld_histogram h;
    int64_t n = run->chunk_start[run->n_chunk];
    dsb_logit_buckets(run, b);
    for (int i = 0; i < DSB_LOGIT_BUCKETS; i++) {
        double lo = i / 10.0, hi = (i + 1) / 10.0;
        DSB_TRY(put_detail(r, scheme, "kld_by_confidence", i, lo, hi, b[i].kld_mean, b[i].n, err));
        DSB_TRY(put_detail(r, scheme, "top1_agreement_by_confidence", i, lo, hi, b[i].top1_agreement, b[i].n, err));
        DSB_TRY(put_detail(r, scheme, "flips_right_to_wrong_by_confidence", i, lo, hi, (double)b[i].right_to_wrong, b[i].n, err));
        DSB_TRY(put_detail(r, scheme, "flips_wrong_to_right_by_confidence", i, lo, hi, (double)b[i].wrong_to_right, b[i].n, err));
    }
    dsb_kld_histogram_fill(run, &h);
    DSB_TRY(put_detail(r, scheme, "kld_hist", -1, 0, dsb_kld_bin_edge(0), (double)h.under, n, err));
    for (int i = 0; i < DSB_KLD_BINS; i++) DSB_TRY(put_detail(r, scheme, "kld_hist", i, dsb_kld_bin_edge(i), dsb_kld_bin_edge(i + 1), (double)h.bin[i], n, err));
    return put_detail(r, scheme, "kld_hist", DSB_KLD_BINS, dsb_kld_bin_edge(DSB_KLD_BINS), INFINITY, (double)h.over, n, err);
}

/* Routing changes of one chunk over all MoE layers: tokens×layers changed, slots changed. */
static void chunk_changes(const dsb_recorder *r, int scheme, int64_t chunk, double *changed, double *slots) {
    int64_t n = r->chunks->n_ctx;
    *changed = *slots = 0;
    for (int64_t l = 0; l < r->m->config.n_layer; l++) {
        const int32_t *c = r->changed[scheme * r->m->config.n_layer + l];
        for (int64_t i = 0; c && i < n; i++) {
            *changed += c[chunk * n + i] > 0;
            *slots += c[chunk * n + i];
        }
    }
}

static dsb_status put_chunks(dsb_recorder *r, int scheme, const dsb_logit_run *run, dsb_err *err) {
    dsb_logit_chunk *c;
    double denom = (double)r->n_moe * (double)r->chunks->n_ctx;
    DSB_TRY(DSB_NEW(c, run->n_chunk, "chunks", err));
    dsb_logit_chunks(run, c);
    dsb_status s = DSB_OK;
    for (int64_t i = 0; i < run->n_chunk && !s; i++) {
        double changed = 0, slots = 0;
        if (scheme >= 0) chunk_changes(r, scheme, i, &changed, &slots);
        dsb_chunk_quality row = {.scheme = scheme < 0 ? "reference" : r->schemes[scheme].name, .chunk = i, .n = c[i].n, .n_target = c[i].n_target, .nll_ref = c[i].nll_ref,
                                 .nll_test = scheme < 0 ? c[i].nll_ref : c[i].nll_test, .kld = scheme < 0 ? 0 : c[i].kld, .top1 = scheme < 0 ? 1 : c[i].top1,
                                 .accuracy_ref = c[i].accuracy_ref, .accuracy_test = scheme < 0 ? c[i].accuracy_ref : c[i].accuracy_test,
                                 .selection_change = denom > 0 ? changed / denom : NAN, .slot_change = denom > 0 ? slots / denom / (double)r->m->config.router.k : NAN};
        s = dsb_db_put_chunk_quality(r->db, r->run_id, &row, err);
    }
    free(c);
    return s;
}

/* Means over layers and tokens with intervals over chunks; the rest as means over layers. */
static dsb_status routing_quality(dsb_recorder *r, int scheme, dsb_figures *out, dsb_err *err) {
    int64_t n = r->chunks->n_chunk;
    double *sum, lo, hi, k = (double)r->m->config.router.k, denom = (double)r->n_moe * (double)r->chunks->n_ctx;
    if (r->n_moe == 0) return DSB_OK;
    DSB_TRY(DSB_NEW(sum, 2 * n, "chunks", err));
    double a = 0, b = 0;
    for (int64_t i = 0; i < n; i++) {
        chunk_changes(r, scheme, i, &sum[i], &sum[n + i]);
        sum[i] /= denom;
        sum[n + i] /= denom * k;
        a += sum[i];
        b += sum[n + i];
    }
    dsb_status s = dsb_bootstrap_t(sum, NULL, n, 0.95, SEED, &lo, &hi, err);
    if (!s) dsb_figures_put(out, "selection_change", a / (double)n, lo, hi, r->n_token * r->n_moe);
    if (!s) s = dsb_bootstrap_t(sum + n, NULL, n, 0.95, SEED, &lo, &hi, err);
    if (!s) dsb_figures_put(out, "slot_change", b / (double)n, lo, hi, r->n_token * r->n_moe);
    for (int i = 0; i < N_ROUTING && !s; i++) dsb_figures_put(out, k_rec_routing[i], r->routing_sum[scheme * N_ROUTING + i] / (double)r->routing_n[scheme * N_ROUTING + i], NAN, NAN, r->n_token * r->n_moe);
    free(sum);
    return s;
}

/* Drift across layers, against the KLD of scored tokens. */
static dsb_status put_across(dsb_recorder *r, const finish *f, int scheme, dsb_err *err) {
    const int32_t **layers;
    double *kld, changed = 0, first_sum = 0;
    dsb_routing_across_figures a;
    int64_t n_layer = 0, *number, *first; /* of MoE layers: their places in the model, and the tokens that change there first */
    if (r->n_moe == 0) return DSB_OK;
    DSB_TRY(DSB_NEW(layers, r->n_moe, "routing", err));
    DSB_TRY(DSB_NEW(kld, r->n_token, "routing", err));
    DSB_TRY(DSB_NEW(number, r->n_moe, "routing", err));
    DSB_TRY(DSB_NEW(first, r->n_moe, "routing", err));
    for (int64_t i = 0; i < r->n_token; i++) kld[i] = NAN;
    for (int64_t i = 0; i < r->n_scored; i++) kld[f->token[i]] = r->logits[(scheme + 1) * r->n_row + i].kld;
    for (int64_t l = 0; l < r->m->config.n_layer; l++)
        if (r->changed[scheme * r->m->config.n_layer + l]) {
            number[n_layer] = l;
            layers[n_layer++] = r->changed[scheme * r->m->config.n_layer + l];
        }
    dsb_status s = dsb_routing_across(layers, n_layer, r->n_token, kld, first, &a, err);
    for (int64_t l = 0; l < n_layer; l++) {
        changed += (double)first[l];
        first_sum += (double)(first[l] * number[l]);
    }
    struct {
        const char *name, *unit;
        double value;
    } rows[] = {{"any_change", "share", a.any_change}, {"first_layer_mean", "layer", first_sum / changed}, {"slots_kld_correlation", "1", a.slots_kld_correlation}};
    for (int i = 0; i < 3 && !s; i++) {
        dsb_routing_layer row = {.scheme = r->schemes[scheme].name, .kind = "accumulated", .metric = rows[i].name, .unit = rows[i].unit, .layer = -1, .value = rows[i].value, .n = r->n_token};
        s = dsb_db_put_routing_layer(r->db, r->run_id, &row, err);
    }
    for (int64_t l = 0; l < n_layer && !s; l++) {
        dsb_quality_detail row = {.scheme = r->schemes[scheme].name, .kind = "first_change", .layer = number[l], .bin = 0, .lo = NAN, .hi = NAN, .value = (double)first[l], .n = r->n_token};
        s = dsb_db_put_quality_detail(r->db, r->run_id, &row, err);
    }
    free(layers);
    free(kld);
    free(number);
    free(first);
    return s;
}

/* Bytes of n values stored as tensor `name` is. */
static int64_t value_bytes(const dsb_checkpoint *cp, const char *name, int64_t n) {
    const dsb_st_tensor *t = dsb_checkpoint_find(cp, name);
    if (t && t->blocks) return n / t->blocks->n * t->blocks->bytes;
    return t ? n * (int64_t)dsb_dtype_size(t->dtype) : 0;
}

/* Tensors outside the observer's sight: the embedding and the vectors, at their stored size (norms as the last one is stored, correction biases F32). */
static int64_t vector_bytes(const dsb_recorder *r, const dsb_checkpoint *cp, int64_t *weights) {
    const dsb_config *c = &r->m->config;
    int64_t bias = c->router_bias ? c->n_expert * r->n_moe : 0, norms = dsb_block_vector_values(c) - bias;
    int64_t embed = c->tied ? 0 : c->vocab * c->d_model;
    *weights = norms + bias + embed;
    return value_bytes(cp, "model.norm.weight", norms) + 4 * bias + value_bytes(cp, "model.embed_tokens.weight", embed);
}

const char *dsb_reference_what(bool bf16) { return bf16 ? "products of BF16 inputs and weights with f32 sums, else f32 arithmetic" : "f32 arithmetic over the stored weights"; }

static dsb_status put_scheme(dsb_recorder *r, int scheme, dsb_err *err) {
    const dsb_scheme *s = scheme < 0 ? NULL : &r->schemes[scheme];
    int64_t more, more_bytes = vector_bytes(r, s ? s->source : &r->m->checkpoint, &more);
    int64_t bytes = r->stored_bytes[scheme + 1] + more_bytes, n = r->weights[scheme + 1] + more;
    dsb_scheme_record row = {.name = s ? s->name : "reference", .ordinal = scheme + 1, .what = s && s->recipe ? s->recipe->what : dsb_reference_what(r->bf16_reference),
                             .recipe_json = s && s->recipe ? s->recipe->json : NULL, .source = s && !s->own_source ? s->source->dir : NULL, .kernels = s ? r->kernels[scheme + 1] : NULL,
                             .weight_bytes = bytes, .n_param = n, .bpw_total = 8.0 * (double)bytes / (double)n,
                             .bpw_blocks = s && r->block_weights[scheme + 1] ? 8.0 * (double)r->block_bytes[scheme + 1] / (double)r->block_weights[scheme + 1] : NAN};
    if (!s) {
        row.weight_bytes = (int64_t)r->m->checkpoint.bytes;
        row.n_param = r->n_scheme ? r->weights[1] + more : -1;
        row.bpw_total = r->n_scheme ? 8.0 * (double)row.weight_bytes / (double)row.n_param : NAN;
        row.bpw_blocks = row.bpw_total;
    }
    return dsb_db_put_scheme(r->db, r->run_id, &row, err);
}

/* A note on the run: the summary and the report show it. */
static dsb_status put_event(dsb_recorder *r, int scheme, int64_t layer, const char *level, dsb_err *err, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
static dsb_status put_event(dsb_recorder *r, int scheme, int64_t layer, const char *level, dsb_err *err, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    dsb_event e = {.scheme = scheme < 0 ? "reference" : r->schemes[scheme].name, .level = level, .text = text, .seq = -1, .layer = layer};
    return dsb_db_put_event(r->db, r->run_id, &e, err);
}

/* What compensation won and what it costs. */
static dsb_status put_won(dsb_recorder *r, int scheme, dsb_err *err) {
    const dsb_compensation_row *rows;
    const dsb_rec_won *w = &r->won[scheme];
    char names[128] = "";
    for (int i = 0, n = dsb_compensation_list(&rows); i < n; i++)
        if (w->done & rows[i].bit && rows[i].bit != DSB_COMP_ROUTER) snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", names[0] ? " + " : "", rows[i].name);
    if (names[0] && w->n) DSB_TRY(put_event(r, scheme, -1, "info", err, "compensation %s: output error %.5f → %.5f of the output on calibration tokens (mean of %lld tensors), %.2f MB, %.1f s", names, w->before / (double)w->n, w->after / (double)w->n, (long long)w->n, w->bytes / 1e6, w->ms / 1e3));
    if (w->n_token) DSB_TRY(put_event(r, scheme, -1, "info", err, "router calibration: other experts than the reference's for %.2f %% → %.2f %% of calibration tokens (all layers), 0 MB, %.1f s", 100.0 * (double)w->changed_before / (double)w->n_token, 100.0 * (double)w->changed_after / (double)w->n_token, w->router_ms / 1e3));
    return DSB_OK;
}

/* What a recipe wanted and did not get: static scales without calibration, integer products, tests that divide something. */
static dsb_status put_warnings(dsb_recorder *r, int scheme, dsb_err *err) {
    const dsb_recipe *recipe = r->schemes[scheme].recipe;
    const dsb_rec_fallbacks *f = &r->fallbacks[scheme];
    if (f->uncovered) DSB_TRY(put_event(r, scheme, -1, "warning", err, "%lld tensors have no calibrated activation range; their activations are quantized dynamically", (long long)f->uncovered));
    if (f->no_range) DSB_TRY(put_event(r, scheme, -1, "warning", err, "%lld tensors saw only zeros (or a value that is not finite) in calibration; their activations are quantized dynamically", (long long)f->no_range));
    if (f->format) DSB_TRY(put_event(r, scheme, -1, "fallback", err, "%lld tensors have rows that their rule's format doesn't divide: they are stored in its fallback format", (long long)f->format));
    if (f->starved) DSB_TRY(put_event(r, scheme, -1, "warning", err, "%lld tensors: calibration saw no token of their inputs; their codes are chosen by rtn", (long long)f->starved));
    if (f->uncompensated) DSB_TRY(put_event(r, scheme, -1, "warning", err, "%lld tensors: calibration saw no token of their inputs; they are not compensated (low-rank: for their plain error)", (long long)f->uncompensated));
    if (f->as_float) DSB_TRY(put_event(r, scheme, -1, "warning", err, "%lld tensors have zero points, or no integer codes, which integer products don't take: they run as f32 products, without the activations that their rules name", (long long)f->as_float));
    for (int i = 0; recipe && i < recipe->n_rule; i++) {
        long long reached = r->reached[scheme * r->n_rule + i], taken = r->taken[scheme * r->n_rule + i];
        if (recipe->rules[i].when == DSB_WHEN_ALWAYS || (taken > 0 && taken < reached)) continue;
        DSB_TRY(put_event(r, scheme, -1, "warning", err, "rule %d: its test took %s of the %lld expert tensors that it was asked of", i + 1, taken ? "all" : "none", reached));
    }
    return put_won(r, scheme, err);
}

/* Whether this expert's activations were to have a calibrated scale. */
static bool wants_static(const dsb_recorder *r, int scheme, const dsb_calibration *cal, int64_t layer, int64_t expert) {
    dsb_linear_spec specs[3];
    char tensor[300];
    dsb_ffn_specs(&r->m->config, layer, DSB_ROLE_EXPERT_GATE, expert, specs);
    dsb_expert_facts facts = dsb_calibration_facts(cal, &specs[0]);
    snprintf(tensor, sizeof tensor, "%s.weight", specs[0].stem);
    const dsb_rule *rule = dsb_recipe_match(r->schemes[scheme].recipe, DSB_ROLE_EXPERT_GATE, tensor, &facts);
    return rule && dsb_activation_is_static(rule->activation);
}

static dsb_status put_coverage(dsb_recorder *r, int scheme, const dsb_calibration *cal, dsb_err *err) {
    const dsb_recipe *recipe = r->schemes[scheme].recipe;
    if (!recipe || !recipe->needs_calibration || cal->n_token == 0) return DSB_OK;
    for (int64_t l = 0; l < cal->n_layer; l++)
        for (int64_t e = 0; dsb_layer_is_moe(&r->m->config, l) && e < cal->n_expert; e++) {
            const dsb_layer_calibration *c = &cal->layers[l];
            const char *stands = c->cover[e] == DSB_COVER_NONE && wants_static(r, scheme, cal, l, e) ? "rtn, dynamic scales" : dsb_cover_name(c->cover[e]);
            dsb_calibration_coverage row = {.scheme = r->schemes[scheme].name, .layer = l, .expert = e, .tokens = c->routed[e], .minimum = r->min_tokens ? r->min_tokens : MIN_TOKENS,
                                            .fallback = !stands && c->routed[e] == 0 && wants_static(r, scheme, cal, l, e) ? "int8-dynamic" : stands};
            DSB_TRY(dsb_db_put_calibration_coverage(r->db, r->run_id, &row, err));
        }
    return DSB_OK;
}

static dsb_status finish_scheme(finish *f, int scheme, const dsb_calibration *cal, dsb_err *err) {
    dsb_recorder *r = f->r;
    const char *name = scheme < 0 ? "reference" : r->schemes[scheme].name;
    dsb_figures figures = {0};
    dsb_logit_run run = {.rows = r->logits + (scheme + 1) * r->n_row, .target = f->target, .chunk_start = f->chunk_start, .n_chunk = r->chunks->n_chunk, .bytes_scored = f->bytes};
    int64_t bad = 0, first = dsb_logit_first_nonfinite(&run, &bad);
    if (first >= 0)
        dsb_recorder_nonfinite(r, scheme, -1, bad, "logits, chunk %lld, token position %lld", (long long)(f->token[first] / r->chunks->n_ctx), (long long)(f->token[first] % r->chunks->n_ctx));
    DSB_TRY(put_scheme(r, scheme, err));
    DSB_TRY(scheme < 0 ? dsb_logit_figures_reference(&run, &figures, err) : dsb_logit_figures(&run, &figures, err));
    if (scheme >= 0) DSB_TRY(routing_quality(r, scheme, &figures, err));
    DSB_TRY(put_quality(r, name, &figures, err));
    DSB_TRY(put_chunks(r, scheme, &run, err));
    if (r->task) DSB_TRY(dsb_recorder_put_task(r, scheme, err));
    if (r->bad[scheme + 1].n) DSB_TRY(put_event(r, scheme, r->bad[scheme + 1].layer, "error", err, "%lld NaN or Inf, the first in %s", (long long)r->bad[scheme + 1].n, r->bad[scheme + 1].where));
    if (scheme < 0) return DSB_OK;
    DSB_TRY(put_details(r, name, &run, err));
    DSB_TRY(put_across(r, f, scheme, err));
    DSB_TRY(put_warnings(r, scheme, err));
    return put_coverage(r, scheme, cal, err);
}

/* Each expert by what a budget may go by: of the model, so of the reference. */
static dsb_status put_experts(dsb_recorder *r, const dsb_calibration *cal, dsb_err *err) {
    for (int64_t l = 0; l < cal->n_layer; l++) {
        const dsb_layer_calibration *c = &cal->layers[l];
        if (!dsb_layer_is_moe(&r->m->config, l) || !c->activity_known) continue;
        bool mean_abs = false;
        for (int64_t e = 0; e < cal->n_expert; e++) mean_abs |= c->mean_abs[e] > 0;
        for (int64_t e = 0; e < cal->n_expert; e++) {
            const bool known[3] = {true, mean_abs, c->sensitivity_known};
            const double value[3] = {c->activity[e], c->mean_abs[e], c->sensitivity[e]};
            static const char *const k_kind[3] = {"expert_activity", "expert_mean_abs", "expert_sensitivity"};
            for (int i = 0; i < 3; i++) {
                dsb_quality_detail row = {.scheme = "reference", .kind = k_kind[i], .layer = l, .bin = e, .lo = NAN, .hi = NAN, .value = value[i], .n = c->routed[e]};
                if (known[i]) DSB_TRY(dsb_db_put_quality_detail(r->db, r->run_id, &row, err));
            }
        }
    }
    return DSB_OK;
}

dsb_status dsb_recorder_finish(dsb_recorder *r, const dsb_calibration *cal, dsb_err *err) {
    finish f;
    dsb_status s = finish_open(&f, r, err);
    if (!s) s = dsb_db_begin(r->db, err);
    for (int i = -1; i < r->n_scheme && !s; i++) s = finish_scheme(&f, i, cal, err);
    if (!s) s = put_experts(r, cal, err);
    if (!s) s = dsb_db_commit(r->db, err);
    if (s) dsb_db_rollback(r->db);
    free(f.target);
    free(f.token);
    free(f.chunk_start);
    return s;
}
