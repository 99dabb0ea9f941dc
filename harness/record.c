#include "harness/record.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/moments.h"

/* Run-level means over MoE layers, by metric; the first two get intervals over chunks elsewhere. */
const char *const k_rec_routing[] = {"jaccard", "top1_change", "gate_l1", "mass_lost", "router_kld", "group_change", "rank_of_new", "predicted_change", "load_cv", "load_tv"};
enum { N_ROUTING = sizeof k_rec_routing / sizeof *k_rec_routing };

static const char *const k_point[DSB_POINT_COUNT] = {"attention", "mlp", "block"};
static const char *const k_kind[DSB_KIND_COUNT] = {"isolated", "block", "accumulated"};

/* A row waiting for its block's transaction. */
typedef struct rec_row {
    struct rec_row *next;
    enum { ROW_TENSOR, ROW_ROUTING, ROW_EXPERT, ROW_DETAIL } what;
    union {
        dsb_tensor_error tensor;
        dsb_routing_layer routing;
        dsb_routing_expert expert;
        dsb_quality_detail detail;
    } u;
} rec_row;

static dsb_status new_row(dsb_recorder *r, rec_row **out, dsb_err *err) {
    void *p;
    DSB_TRY(dsb_arena_take(&r->block, &p, 1, sizeof **out, "rows of a block", err));
    *out = p;
    (*out)->next = r->rows;
    r->rows = *out;
    return DSB_OK;
}

void dsb_recorder_nonfinite(dsb_recorder *r, int scheme, int64_t layer, int64_t n, const char *fmt, ...) {
    dsb_rec_bad *bad = &r->bad[scheme + 1];
    if (n == 0) return;
    if (bad->n == 0) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(bad->where, sizeof bad->where, fmt, args);
        va_end(args);
        bad->layer = layer;
    }
    if (r->nonfinite == 0) snprintf(r->nonfinite_text, sizeof r->nonfinite_text, "scheme %s, %s: %lld NaN or Inf", scheme < 0 ? "reference" : r->schemes[scheme].name, bad->where, (long long)n);
    bad->n += n;
    r->nonfinite += n;
}

void dsb_kernel_list_add(char list[256], const char *kernel) {
    if (!kernel) return;
    size_t n = strlen(list), k = strlen(kernel);
    for (const char *p = list; (p = strstr(p, kernel)); p += k)
        if ((p == list || p[-1] == ' ') && (p[k] == 0 || p[k] == ',')) return;
    if (n + k + 3 < 256) snprintf(list + n, 256 - n, "%s%s", n ? ", " : "", kernel);
}

/* Which rules with a test this expert tensor came by, the first match last. */
static void count_tests(dsb_recorder *r, int scheme, const dsb_tensor_event *e, const char *tensor) {
    const dsb_recipe *recipe = r->schemes[scheme].recipe;
    for (int i = 0; recipe && i < recipe->n_rule; i++) {
        const dsb_rule *rule = &recipe->rules[i];
        if (rule->when != DSB_WHEN_ALWAYS && dsb_rule_covers(rule, e->spec->role, tensor)) {
            r->reached[scheme * r->n_rule + i]++;
            r->taken[scheme * r->n_rule + i] += rule == e->rule;
        }
        if (rule == e->rule) return;
    }
}

static void add_won(dsb_rec_won *sum, const dsb_compensated *e) {
    sum->done |= e->done;
    sum->n += e->loss_before > 0;
    sum->before += e->loss_before;
    sum->after += e->loss_after;
    sum->bytes += (double)e->bytes;
    *(e->done & DSB_COMP_ROUTER ? &sum->router_ms : &sum->ms) += e->ms;
    sum->n_token += e->n_token;
    sum->changed_before += e->changed_before;
    sum->changed_after += e->changed_after;
}

static dsb_status on_tensor(void *ctx, int scheme, const dsb_tensor_event *e, dsb_err *err) {
    dsb_recorder *r = ctx;
    rec_row *row;
    char name[300], group[24], *grouping = NULL;
    bool quantized = e->rule && e->rule->format;
    int64_t n = e->spec->rows * e->spec->cols;
    bool in_block = e->spec->layer >= 0 && e->spec->role != DSB_ROLE_ROUTER;
    r->stored_bytes[scheme + 1] += (int64_t)e->stored_bytes;
    r->weights[scheme + 1] += n;
    if (in_block) {
        r->block_bytes[scheme + 1] += (int64_t)e->stored_bytes;
        r->block_weights[scheme + 1] += n;
    }
    r->fallbacks[scheme].uncovered += e->fell_back && !e->no_range;
    r->fallbacks[scheme].no_range += e->no_range;
    r->fallbacks[scheme].format += e->other_format;
    r->fallbacks[scheme].starved += e->starved;
    r->fallbacks[scheme].as_float += e->rule && e->rule->activation != DSB_ACT_NONE && e->activation == DSB_ACT_NONE;
    r->fallbacks[scheme].uncompensated += e->won.starved;
    add_won(&r->won[scheme], &e->won);
    dsb_kernel_list_add(r->kernels[scheme + 1], e->kernel);
    dsb_recorder_nonfinite(r, scheme, e->spec->layer, e->moments.nonfinite, "layer %lld, tensor %s.weight, row %lld, column %lld", (long long)e->spec->layer, e->spec->stem,
                           (long long)(e->moments.first_bad / e->spec->cols), (long long)(e->moments.first_bad % e->spec->cols));
    DSB_TRY(new_row(r, &row, err));
    snprintf(name, sizeof name, "%s.weight", e->spec->stem);
    char *tensor = dsb_arena_strdup(&r->block, name);
    if (!tensor) return dsb_fail(err, DSB_ENOMEM, "no memory for a tensor's name");
    if (e->spec->expert >= 0) count_tests(r, scheme, e, tensor);
    if (quantized) {
        dsb_group_name(e->group, group);
        grouping = dsb_arena_strdup(&r->block, group);
        if (!grouping) return dsb_fail(err, DSB_ENOMEM, "no memory for a tensor's grouping");
    }
    row->what = ROW_TENSOR;
    row->u.tensor = (dsb_tensor_error){.scheme = r->schemes[scheme].name, .tensor = tensor, .role = dsb_role_name(e->spec->role), .layer = e->spec->layer,
                                       .expert = e->spec->expert, .m = e->moments, .stored_bytes = (int64_t)e->stored_bytes, .n_weight = n,
                                       .bpw = 8.0 * (double)e->stored_bytes / (double)n, .format = e->format, .grouping = grouping, .algorithm = quantized ? e->algorithm : NULL, .kernel = e->kernel};
    return DSB_OK;
}

static dsb_status on_layer(void *ctx, const dsb_layer_event *e, dsb_err *err) {
    dsb_recorder *r = ctx;
    (void)err;
    dsb_recorder_nonfinite(r, e->scheme, e->layer, e->moments->nonfinite, "layer %lld, %s output (%s), chunk %lld, token position %lld", (long long)e->layer, k_point[e->point], k_kind[e->kind],
                           (long long)e->chunk, (long long)(e->moments->first_bad / r->m->config.d_model));
    if (e->chunk < r->chunks->n_chunk) dsb_moments_add(&r->layer_sum[e->scheme][e->point][e->kind], e->moments);
    return DSB_OK;
}

static dsb_status on_expert(void *ctx, const dsb_expert_event *e, dsb_err *err) {
    dsb_recorder *r = ctx;
    (void)err;
    dsb_moments_add(&r->expert_sum[e->scheme * r->m->config.n_expert + e->expert], e->moments);
    return DSB_OK;
}

static dsb_status on_clip(void *ctx, const dsb_clip_event *e, dsb_err *err) {
    dsb_recorder *r = ctx;
    (void)err;
    r->clip_values[e->scheme] += e->values;
    r->clipped[e->scheme] += e->clipped;
    return DSB_OK;
}

static dsb_status on_logits(void *ctx, const dsb_logits_event *e, dsb_err *err) {
    dsb_recorder *r = ctx;
    if (e->first + e->n > r->n_row) return dsb_fail(err, DSB_EINTERNAL, "more scored positions than announced");
    memcpy(r->logits + (e->scheme + 1) * r->n_row + e->first, e->rows, (size_t)e->n * sizeof *e->rows);
    return DSB_OK;
}

static dsb_status routing_rows(dsb_recorder *r, const dsb_routing_event *e, const dsb_routing_acc *acc, dsb_err *err) {
    dsb_figures f = {0};
    rec_row *row;
    dsb_routing_acc_figures(acc, &f);
    for (int i = 0; i < f.n; i++) {
        DSB_TRY(new_row(r, &row, err));
        char *name = dsb_arena_strdup(&r->block, f.item[i].metric);
        if (!name) return dsb_fail(err, DSB_ENOMEM, "no memory for a row");
        row->what = ROW_ROUTING;
        row->u.routing = (dsb_routing_layer){.scheme = r->schemes[e->scheme].name, .kind = k_kind[e->kind], .metric = name, .unit = f.item[i].unit, .layer = e->layer, .value = f.item[i].value, .n = f.item[i].n};
    }
    if (e->kind != DSB_KIND_ACCUMULATED) return DSB_OK;
    for (int i = 0; i < N_ROUTING; i++) {
        const dsb_figure *x = dsb_figures_find(&f, k_rec_routing[i]);
        if (!x || isnan(x->value)) continue;
        r->routing_sum[e->scheme * N_ROUTING + i] += x->value;
        r->routing_n[e->scheme * N_ROUTING + i]++;
    }
    dsb_margin_decile deciles[10];
    dsb_routing_acc_deciles(acc, deciles);
    for (int i = 0; i < 20; i++) {
        const dsb_margin_decile *d = &deciles[i / 2];
        DSB_TRY(new_row(r, &row, err));
        row->what = ROW_DETAIL;
        row->u.detail = (dsb_quality_detail){.scheme = r->schemes[e->scheme].name, .kind = i % 2 ? "margin_decile_predicted" : "margin_decile", .layer = e->layer, .bin = i / 2, .lo = d->margin_lo, .hi = d->margin_hi, .value = i % 2 ? d->predicted_rate : d->change_rate, .n = d->n};
    }
    return DSB_OK;
}

static dsb_status on_routing(void *ctx, const dsb_routing_event *e, dsb_err *err) {
    dsb_recorder *r = ctx;
    const dsb_config *c = &r->m->config;
    bool all = e->kind == DSB_KIND_ACCUMULATED;
    dsb_routing_acc local, *acc = all ? &r->routing[e->scheme] : &local;
    int32_t *changed = NULL;
    int64_t n_chunk = 0; /* those of the task come last and don't count */
    while (n_chunk < e->n_chunk && e->chunks[n_chunk] < r->chunks->n_chunk) n_chunk++;
    if (all) dsb_routing_acc_release(acc);
    DSB_TRY(dsb_routing_acc_init(acc, c->n_expert, c->router.k, c->router.n_group, err));
    dsb_status s = DSB_OK;
    if (all) {
        s = DSB_NEW(changed, n_chunk * e->n_ctx, "changed slots", err);
        r->changed[e->scheme * c->n_layer + e->layer] = changed;
    }
    for (int64_t i = 0; i < n_chunk && !s; i++) {
        int64_t at = i * e->n_ctx, k = c->router.k, x = c->n_expert;
        dsb_routing_pair pair = {.n = e->n_ctx, .ref_idx = e->ref->idx + at * k, .test_idx = e->test->idx + at * k, .ref_weight = e->ref->weight + at * k,
                                 .test_weight = e->test->weight + at * k, .ref_scores = e->ref->scores + at * x, .test_scores = e->test->scores + at * x,
                                 .ref_bias = e->ref_bias, .test_bias = e->test_bias, .ref_margin = e->ref->margin + at, .changed = changed ? changed + at : NULL};
        dsb_routing_acc_add(acc, &pair);
    }
    if (!s) s = routing_rows(r, e, acc, err);
    if (all) {
        dsb_routing ref = *e->ref, test = *e->test;
        ref.n = test.n = n_chunk * e->n_ctx;
        if (!s) s = dsb_routing_mass(&ref, e->n_ctx, r->mass_ref + e->scheme * c->n_expert, err);
        if (!s) s = dsb_routing_mass(&test, e->n_ctx, r->mass_test + e->scheme * c->n_expert, err);
    } else {
        dsb_routing_acc_release(acc);
    }
    return s;
}

static dsb_status write_experts(dsb_recorder *r, int scheme, int64_t layer, dsb_err *err) {
    const dsb_routing_acc *a = &r->routing[scheme];
    int64_t n = r->m->config.n_expert;
    for (int64_t x = 0; x < n; x++) {
        const dsb_moments *m = &r->expert_sum[scheme * n + x];
        dsb_routing_expert row = {.scheme = r->schemes[scheme].name, .kind = "accumulated", .layer = layer, .expert = x, .hits_ref = a->hits_ref[x], .hits_test = a->hits_test[x],
                                  .moved_away = a->moved_away[x], .moved_to = a->moved_toward[x], .mass_ref = r->mass_ref[scheme * n + x], .mass_test = r->mass_test[scheme * n + x], .nmse = NAN};
        dsb_routing_expert isolated = {.scheme = row.scheme, .kind = "isolated", .layer = layer, .expert = x, .hits_ref = m->n / r->m->config.d_model, .hits_test = -1, .moved_away = -1, .moved_to = -1,
                                       .mass_ref = NAN, .mass_test = NAN, .nmse = dsb_moments_nmse(m)};
        DSB_TRY(dsb_db_put_routing_expert(r->db, r->run_id, &row, err));
        DSB_TRY(dsb_db_put_routing_expert(r->db, r->run_id, &isolated, err));
    }
    return DSB_OK;
}

static dsb_status write_layer(dsb_recorder *r, int scheme, int64_t layer, dsb_err *err) {
    for (int p = 0; p < DSB_POINT_COUNT; p++)
        for (int k = 0; k < DSB_KIND_COUNT; k++) {
            const dsb_moments *m = &r->layer_sum[scheme][p][k];
            if (m->n == 0) continue;
            double saturation = p == DSB_POINT_BLOCK && k == DSB_KIND_ACCUMULATED && r->clip_values[scheme] ? (double)r->clipped[scheme] / (double)r->clip_values[scheme] : NAN;
            dsb_layer_error row = {.scheme = r->schemes[scheme].name, .point = k_point[p], .kind = k_kind[k], .layer = layer, .m = *m, .f16_headroom_bits = dsb_moments_f16_headroom_bits(m), .saturation = saturation};
            DSB_TRY(dsb_db_put_layer_error(r->db, r->run_id, &row, err));
        }
    return dsb_layer_is_moe(&r->m->config, layer) ? write_experts(r, scheme, layer, err) : DSB_OK;
}

static dsb_status write_row(dsb_recorder *r, const rec_row *row, dsb_err *err) {
    switch (row->what) {
    case ROW_TENSOR: return dsb_db_put_tensor_error(r->db, r->run_id, &row->u.tensor, err);
    case ROW_ROUTING: return dsb_db_put_routing_layer(r->db, r->run_id, &row->u.routing, err);
    case ROW_EXPERT: return dsb_db_put_routing_expert(r->db, r->run_id, &row->u.expert, err);
    default: return dsb_db_put_quality_detail(r->db, r->run_id, &row->u.detail, err);
    }
}

static dsb_status write_block(dsb_recorder *r, int64_t layer, dsb_err *err) {
    for (const rec_row *row = r->rows; row; row = row->next) DSB_TRY(write_row(r, row, err));
    if (layer >= r->m->config.n_layer) return DSB_OK;
    for (int s = 0; s < r->n_scheme; s++) DSB_TRY(write_layer(r, s, layer, err));
    return DSB_OK;
}

static dsb_status on_block(void *ctx, int64_t layer, dsb_err *err) {
    dsb_recorder *r = ctx;
    int64_t n = r->m->config.n_expert;
    if (layer < r->m->config.n_layer && dsb_layer_is_moe(&r->m->config, layer)) r->n_moe++;
    DSB_TRY(dsb_db_begin(r->db, err));
    dsb_status s = write_block(r, layer, err);
    if (!s) s = dsb_db_commit(r->db, err);
    if (s) dsb_db_rollback(r->db);
    dsb_arena_release(&r->block);
    dsb_arena_init(&r->block);
    r->rows = NULL;
    memset(r->layer_sum, 0, (size_t)r->n_scheme * sizeof *r->layer_sum);
    memset(r->clip_values, 0, (size_t)r->n_scheme * sizeof *r->clip_values);
    memset(r->clipped, 0, (size_t)r->n_scheme * sizeof *r->clipped);
    memset(r->expert_sum, 0, (size_t)(r->n_scheme * n) * sizeof *r->expert_sum);
    memset(r->mass_ref, 0, (size_t)(r->n_scheme * n) * sizeof *r->mass_ref);
    memset(r->mass_test, 0, (size_t)(r->n_scheme * n) * sizeof *r->mass_test);
    return s;
}

static void on_progress(void *ctx, double share, const char *what) { dsb_progress_show(((dsb_recorder *)ctx)->progress, 0.85 * share, what); }

void dsb_recorder_observer(dsb_recorder *r, dsb_observer *out) {
    *out = (dsb_observer){.ctx = r, .tensor = on_tensor, .layer = on_layer, .expert = on_expert, .routing = on_routing, .logits = on_logits, .clip = on_clip, .block_done = on_block, .progress = on_progress};
}

static int64_t count_scored(const dsb_chunks *c) {
    int64_t n = 0;
    for (int64_t i = 0; i < c->n_chunk; i++)
        for (int64_t p = 0; p < c->n_ctx; p++) n += dsb_chunks_target(c, i, p) >= 0;
    return n;
}

dsb_status dsb_recorder_init(dsb_recorder *r, dsb_db *db, const char *run_id, const dsb_model *m, const dsb_scheme *schemes, int n_scheme, const dsb_chunks *chunks, dsb_progress *progress, dsb_err *err) {
    int64_t e = m->config.n_expert, n = n_scheme + 1;
    *r = (dsb_recorder){.db = db, .run_id = run_id, .m = m, .schemes = schemes, .n_scheme = n_scheme, .chunks = chunks, .progress = progress, .n_token = chunks->n_chunk * chunks->n_ctx};
    dsb_arena_init(&r->block);
    r->n_scored = r->n_row = count_scored(chunks);
    DSB_TRY(DSB_NEW(r->layer_sum, n, "layer figures", err));
    DSB_TRY(DSB_NEW(r->clip_values, n, "layer figures", err));
    DSB_TRY(DSB_NEW(r->clipped, n, "layer figures", err));
    DSB_TRY(DSB_NEW(r->expert_sum, n * e, "expert figures", err));
    DSB_TRY(DSB_NEW(r->routing, n, "routing figures", err));
    DSB_TRY(DSB_NEW(r->mass_ref, n * e, "expert figures", err));
    DSB_TRY(DSB_NEW(r->mass_test, n * e, "expert figures", err));
    DSB_TRY(DSB_NEW(r->changed, n * m->config.n_layer, "routing figures", err));
    DSB_TRY(DSB_NEW(r->logits, n * r->n_scored, "logit figures", err));
    DSB_TRY(DSB_NEW(r->stored_bytes, n, "sizes", err));
    DSB_TRY(DSB_NEW(r->weights, n, "sizes", err));
    DSB_TRY(DSB_NEW(r->block_bytes, n, "sizes", err));
    DSB_TRY(DSB_NEW(r->block_weights, n, "sizes", err));
    DSB_TRY(DSB_NEW(r->fallbacks, n, "coverage", err));
    DSB_TRY(DSB_NEW(r->won, n, "figures of compensation", err));
    DSB_TRY(DSB_NEW(r->bad, n, "counts of values that are not finite", err));
    for (int i = 0; i < n_scheme; i++)
        if (schemes[i].recipe && schemes[i].recipe->n_rule > r->n_rule) r->n_rule = schemes[i].recipe->n_rule;
    DSB_TRY(DSB_NEW(r->reached, n_scheme * r->n_rule, "coverage", err));
    DSB_TRY(DSB_NEW(r->taken, n_scheme * r->n_rule, "coverage", err));
    DSB_TRY(DSB_NEW(r->routing_sum, n * N_ROUTING, "routing figures", err));
    DSB_TRY(DSB_NEW(r->routing_n, n * N_ROUTING, "routing figures", err));
    return DSB_NEW(r->kernels, n, "kernel names", err);
}

void dsb_recorder_release(dsb_recorder *r) {
    if (!r->m) return;
    for (int i = 0; r->routing && i < r->n_scheme; i++) dsb_routing_acc_release(&r->routing[i]);
    for (int64_t i = 0; r->changed && i < r->n_scheme * r->m->config.n_layer; i++) free(r->changed[i]);
    void *all[] = {r->layer_sum, r->clip_values, r->clipped, r->expert_sum, r->routing, r->mass_ref, r->mass_test, r->changed, r->logits, r->stored_bytes, r->weights, r->block_bytes, r->block_weights, r->fallbacks, r->won, r->bad, r->reached, r->taken, r->routing_sum, r->routing_n, r->kernels};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    dsb_arena_release(&r->block);
    *r = (dsb_recorder){0};
}
