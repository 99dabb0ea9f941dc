/* The MLP of one block: routing of every stream, then expert by expert (or the dense layer) all streams, then the residual. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sweep_internal.h"

/* One feed-forward for all: an expert, the shared expert or the dense MLP. */
typedef struct ffn_set {
    dsb_ffn_weights ref, *schemes; /* (n_scheme) */
} ffn_set;

typedef struct mlp {
    int64_t layer, n_unit; /* units: the routed experts, then the shared one; or the dense MLP alone */
    bool moe, mean_abs;    /* mean_abs: take mean |W| of each expert as it is read */
    sw_routes routes;
    int32_t *iso_src;      /* beside routes.iso.rows: their rows in the reference's stream */
    dsb_moments *sums;     /* (n_scheme, n_expert): outputs on isolated rows */
    ffn_set *sets;         /* (n_unit), or one where they are not held */
} mlp;

static bool is_expert(const sweep *sw, const mlp *b, int64_t unit) { return b->moe && unit < sw->m->config.n_expert; }
static dsb_role gate_role(const sweep *sw, const mlp *b, int64_t unit) { return !b->moe ? DSB_ROLE_DENSE_GATE : is_expert(sw, b, unit) ? DSB_ROLE_EXPERT_GATE : DSB_ROLE_SHARED_GATE; }

/* ---- rows through a feed-forward ---- */

/* What one pass of rows through a feed-forward needs. */
typedef struct ffn_pass {
    const sw_stream *src;
    const int32_t *rows; /* host: rows of src, ascending, or NULL for the contiguous rows from `at` */
    int64_t at, n;
    bool bf16, round_input; /* round_input: src is the reference's f32 state read by a BF16 carrier */
    int64_t rotation;       /* rows of src are rotated, or rotated back, before w reads them */
    const dsb_router_weights *norm;
    const dsb_ffn_weights *w;
    dsb_role role;
    const dsb_input_observer *obs;
} ffn_pass;

/* out (n, d_model) = ffn(norm(rows of src)); n <= sw->rows. */
static dsb_status run_tile(sweep *sw, const ffn_pass *p, int64_t first, int64_t n, float *out, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x;
    SW_TAKE(ST_GATHER, x, sw->rows * d);
    if (p->rows) DSB_TRY(sw_gather(sw, p->src, p->rows + first, n, x, err));
    else DSB_TRY(sw_load(sw, p->src, p->at + first, n, x, err));
    dsb_rotate_rows(sw->be, p->rotation, x, n, d);
    if (p->round_input) sw->be->round_bf16(x, n * d);
    dsb_ffn_norm(sw->m, p->norm, p->bf16, x, n, x);
    if (p->role == DSB_ROLE_SHARED_GATE) return dsb_shared_forward(sw->m, p->w, p->norm, p->bf16, x, n, p->obs, &sw->ws, out, err);
    return dsb_ffn_forward(sw->m, p->w, p->role, p->bf16, x, n, p->obs, &sw->ws, out, err);
}

/* Outputs kept as they are: of the wanted rows of the source, ascending. */
typedef struct kept {
    const int32_t *rows;
    int64_t n, at;
    float *out; /* (n, d_model) */
} kept;

static void keep_rows(sweep *sw, const int32_t *rows, int64_t n, const float *out, kept *k) {
    int64_t d = sw->m->config.d_model;
    for (int64_t i = 0, run; i < n && k->at < k->n; i += run ? run : 1) {
        for (run = 0; i + run < n && k->at + run < k->n && rows[i + run] == k->rows[k->at + run];) run++;
        if (run) sw->be->copy(k->out + k->at * d, out + i * d, (size_t)(run * d) * sizeof *out);
        k->at += run;
    }
}

/* Runs the rows of one expert and adds weight * output to dst's rows `to` - base. k may be NULL. */
static dsb_status run_expert(sweep *sw, const ffn_pass *p, const int32_t *to, int64_t base, const float *weight, sw_stream *dst, kept *k, dsb_err *err) {
    float *out;
    SW_TAKE(ST_OUT, out, sw->rows * sw->m->config.d_model);
    for (int64_t first = 0; first < p->n; first += sw->rows) {
        int64_t n = p->n - first < sw->rows ? p->n - first : sw->rows;
        DSB_TRY(run_tile(sw, p, first, n, out, err));
        if (k) keep_rows(sw, p->rows + first, n, out, k);
        DSB_TRY(sw_scatter_add(sw, dst, to + first, base, weight + first, out, n, err));
    }
    return DSB_OK;
}

/* dst's first n rows = or += ffn(norm(rows of src)). add: rounds dst first (the routed sum), then adds. */
static dsb_status run_all(sweep *sw, const ffn_pass *p, bool add, sw_stream *dst, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *out, *to;
    SW_TAKE(ST_OUT, out, sw->rows * d);
    for (int64_t first = 0; first < p->n; first += sw->rows) {
        int64_t rows = p->n - first < sw->rows ? p->n - first : sw->rows;
        DSB_TRY(run_tile(sw, p, first, rows, out, err));
        if (!add) {
            DSB_TRY(sw_store(sw, dst, first, rows, out, err));
            continue;
        }
        DSB_TRY(sw_view(sw, dst, first, rows, ST_VIEW, &to, err));
        if (p->bf16) sw->be->round_bf16(to, rows * d);
        sw->be->add(to, out, rows * d);
        if (p->bf16) sw->be->round_bf16(to, rows * d);
        DSB_TRY(sw_keep(sw, dst, first, rows, to, err));
    }
    return DSB_OK;
}

/* ---- weights of one unit ---- */

static dsb_linear *part(dsb_ffn_weights *w, int i) { return i == 0 ? &w->gate : i == 1 ? &w->up : &w->down; }

static void release_set(sweep *sw, ffn_set *set) {
    for (int s = 0; set->schemes && s < sw->plan->n_scheme; s++) dsb_ffn_release(sw->be, &set->schemes[s]);
    dsb_ffn_release(sw->be, &set->ref);
    free(set->schemes);
    set->schemes = NULL;
}

/* by: of budgets alone. */
static bool recipes_test(const sweep *sw, dsb_when when, dsb_by by) {
    for (int i = 0; i < sw->plan->n_scheme; i++) {
        const dsb_recipe *r = sw->plan->schemes[i].recipe;
        for (int j = 0; r && j < r->n_rule; j++)
            if (r->rules[j].when == when && (when != DSB_WHEN_BUDGET || r->rules[j].by == by)) return true;
    }
    return false;
}

/* The reference's three matrices; w NULL: read only. mean_abs (may be NULL) receives their mean |W|. */
static dsb_status load_reference(sweep *sw, const dsb_linear_spec specs[3], dsb_ffn_weights *w, double *mean_abs, dsb_err *err) {
    double sum = 0;
    int64_t n = 0;
    for (int i = 0; i < 3; i++) {
        if (w) DSB_TRY(sw_load_reference(sw, &specs[i], part(w, i), err));
        if (mean_abs) DSB_TRY(sw_add_magnitudes(sw, &specs[i], &sum, err));
        n += specs[i].rows * specs[i].cols;
    }
    if (mean_abs) *mean_abs = sum / (double)n;
    return DSB_OK;
}

/* A rank among the block's experts decides the first of them already: only then their weights are read twice. */
static dsb_status mean_abs_beforehand(sweep *sw, int64_t layer, dsb_err *err) {
    dsb_layer_calibration *c = &sw->cal->layers[layer];
    for (int64_t e = 0; e < sw->m->config.n_expert; e++) {
        dsb_linear_spec specs[3];
        dsb_ffn_specs(&sw->m->config, layer, DSB_ROLE_EXPERT_GATE, e, specs);
        DSB_TRY(load_reference(sw, specs, NULL, &c->mean_abs[e], err));
    }
    dsb_rank(c->mean_abs, sw->m->config.n_expert, c->mean_abs_rank);
    return DSB_OK;
}

static int64_t expert_rows(const sw_by_expert *b, int64_t e, int64_t *at) {
    *at = b->start[e];
    return b->start[e + 1] - *at;
}

/* Those of them that lie within from .. from + n. */
static int64_t expert_rows_in(const sw_by_expert *b, int64_t e, int64_t from, int64_t n, int64_t *at) {
    int64_t end = b->start[e + 1], last;
    for (*at = b->start[e]; *at < end && b->rows[*at] < from;) ++*at;
    for (last = *at; last < end && b->rows[last] < from + n;) last++;
    return last - *at;
}

/* Rows of which only the inputs are looked at. */
static dsb_status run_seen(sweep *sw, const ffn_pass *p, dsb_err *err) {
    float *out;
    SW_TAKE(ST_OUT, out, sw->rows * sw->m->config.d_model);
    for (int64_t first = 0; first < p->n; first += sw->rows) DSB_TRY(run_tile(sw, p, first, p->n - first < sw->rows ? p->n - first : sw->rows, out, err));
    return DSB_OK;
}

/* A calibration stream through one unit: its inputs are seen (obs), its outputs added to the stream's (keep). */
static dsb_status calibrate(sweep *sw, mlp *b, int64_t unit, sw_calib *c, const sw_by_expert *by, const dsb_router_weights *norm, const dsb_ffn_weights *w, const dsb_input_observer *obs, bool keep, dsb_err *err) {
    ffn_pass p = {.norm = norm, .w = w, .bf16 = c->bf16, .role = gate_role(sw, b, unit), .src = &c->rows, .n = c->rows.n, .rotation = keep ? 0 : c->rotation, .obs = obs};
    int64_t at = 0;
    if (is_expert(sw, b, unit)) {
        p.n = expert_rows(by, unit, &at);
        p.rows = by->rows + at;
        if (keep) return run_expert(sw, &p, p.rows, 0, by->weight + at, &c->out, NULL, err);
    }
    return keep ? run_all(sw, &p, b->moe, &c->out, err) : run_seen(sw, &p, err);
}

/* Where an expert's statistics rest on other tokens than its outputs are of, these are two passes. */
static dsb_status calibrate_expert(sweep *sw, mlp *b, int64_t e, sw_calib *c, const sw_by_expert *by, const dsb_router_weights *norm, const dsb_ffn_weights *w, const dsb_input_observer *obs, bool keep, sw_cover *cover, dsb_err *err) {
    DSB_TRY(sw_cover_choose(sw, b->layer, e, c, by, cover, err));
    if (cover->kind == DSB_COVER_ROUTED) return calibrate(sw, b, e, c, by, norm, w, obs, keep, err);
    ffn_pass p = {.norm = norm, .w = w, .bf16 = c->bf16, .role = DSB_ROLE_EXPERT_GATE, .src = &c->rows, .rows = cover->rows, .n = cover->n, .rotation = keep ? 0 : c->rotation, .obs = obs};
    dsb_status s = keep ? calibrate(sw, b, e, c, by, norm, w, NULL, true, err) : DSB_OK;
    if (!s) s = run_seen(sw, &p, err);
    free(cover->rows);
    return s;
}

/* The reference's stream through the unit, then the inputs of schemes that are quantized by their own. */
static dsb_status calibrate_unit(sweep *sw, mlp *b, int64_t unit, const dsb_linear_spec specs[3], const dsb_ffn_weights *w, dsb_err *err) {
    sw_calib_view view = {sw, &sw->calib, &sw->cal->layers[b->layer], is_expert(sw, b, unit) ? unit : -1};
    dsb_input_observer obs = {&view, sw_calib_observe};
    DSB_TRY(sw_calib_begin(sw, &sw->calib, -1, specs, 3, err));
    sw_cover cover;
    if (is_expert(sw, b, unit)) {
        dsb_layer_calibration *c = view.layer;
        DSB_TRY(calibrate_expert(sw, b, unit, &sw->calib, &b->routes.calib, &sw->ref_router, w, &obs, true, &cover, err));
        c->routed[unit] = b->routes.calib.start[unit + 1] - b->routes.calib.start[unit];
        c->seen[unit] = cover.n;
        c->cover[unit] = cover.kind;
    } else {
        DSB_TRY(calibrate(sw, b, unit, &sw->calib, NULL, &sw->ref_router, w, &obs, true, err));
    }
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        sw_scheme *st = &sw->schemes[s];
        if (st->own.rows.n == 0) continue;
        view = (sw_calib_view){sw, &st->own, NULL, -1};
        const dsb_router_weights *norm = st->own.rotation ? &sw->ref_router : &st->router;
        DSB_TRY(sw_calib_begin(sw, &st->own, s, specs, 3, err));
        if (is_expert(sw, b, unit)) DSB_TRY(calibrate_expert(sw, b, unit, &st->own, &b->routes.own[s], norm, w, &obs, false, &cover, err));
        else DSB_TRY(calibrate(sw, b, unit, &st->own, NULL, norm, w, &obs, false, err));
    }
    return DSB_OK;
}

/* An expert's matrices rounded to INT4 in groups of 32. */
static dsb_status load_int4(sweep *sw, const dsb_linear_spec specs[3], dsb_ffn_weights *ref, dsb_ffn_weights *w, dsb_err *err) {
    float *deq;
    int64_t n = specs[0].rows * specs[0].cols;
    dsb_qtensor q;
    DSB_TRY(DSB_NEW(deq, n, "experts", err));
    dsb_status s = DSB_OK;
    for (int i = 0; i < 3 && !s; i++) {
        s = dsb_load_reference(&sw->loader, &specs[i], part(ref, i), err);
        if (!s) s = dsb_load_reference(&sw->loader, &specs[i], NULL, err); /* w_ref too */
        if (!s) s = dsb_quantize_rtn(&q, dsb_format_find("int4"), 32, false, sw->loader.w_ref, specs[i].rows, specs[i].cols, err);
        if (s) break;
        dsb_dequantize(&q, NULL, deq);
        dsb_qtensor_release(&q);
        s = sw->be->pack_float(&part(w, i)->w, DSB_W_F32, deq, specs[i].rows, specs[i].cols, err);
        part(w, i)->bias = part(ref, i)->bias;
    }
    free(deq);
    return s;
}

/* Σ over the expert's calibration tokens, ascending, of (gate weight)² · ‖difference of outputs‖². */
static dsb_status output_loss(sweep *sw, mlp *b, int64_t e, const dsb_ffn_weights *ref, const dsb_ffn_weights *test, double *loss, dsb_err *err) {
    int64_t d = sw->m->config.d_model, at;
    const sw_by_expert *by = &b->routes.calib;
    ffn_pass p = {.norm = &sw->ref_router, .role = DSB_ROLE_EXPERT_GATE, .src = &sw->calib.rows, .n = expert_rows(by, e, &at)};
    float *x, *y;
    p.rows = by->rows + at;
    SW_TAKE(ST_OUT, x, sw->rows * d);
    SW_TAKE(ST_TEST, y, sw->rows * d);
    *loss = 0;
    for (int64_t first = 0; first < p.n; first += sw->rows) {
        int64_t n = p.n - first < sw->rows ? p.n - first : sw->rows;
        p.w = ref;
        DSB_TRY(run_tile(sw, &p, first, n, x, err));
        p.w = test;
        DSB_TRY(run_tile(sw, &p, first, n, y, err));
        for (int64_t i = 0; i < n; i++) {
            dsb_moments m = {0};
            double g = by->weight[at + first + i];
            sw->be->moments(x + i * d, y + i * d, d, &m);
            *loss += g * g * m.dd;
        }
    }
    return DSB_OK;
}

/* What INT4 costs each expert's output decides the first of them already: the block's experts are read once more. */
static dsb_status sensitivity_beforehand(sweep *sw, mlp *b, dsb_err *err) {
    dsb_layer_calibration *c = &sw->cal->layers[b->layer];
    dsb_status s = DSB_OK;
    for (int64_t e = 0; e < sw->m->config.n_expert && !s; e++) {
        dsb_linear_spec specs[3];
        dsb_ffn_weights ref = {0}, test = {0};
        dsb_ffn_specs(&sw->m->config, b->layer, DSB_ROLE_EXPERT_GATE, e, specs);
        s = load_int4(sw, specs, &ref, &test, err);
        if (!s) s = output_loss(sw, b, e, &ref, &test, &c->sensitivity[e], err);
        for (int i = 0; i < 3; i++) part(&test, i)->bias = NULL; /* the reference's */
        dsb_ffn_release(sw->be, &test);
        dsb_ffn_release(sw->be, &ref);
    }
    c->sensitivity_known = !s && sw->calib.rows.n > 0;
    return s;
}

static void unit_specs(const sweep *sw, const mlp *b, int64_t unit, dsb_linear_spec specs[3]) { dsb_ffn_specs(&sw->m->config, b->layer, gate_role(sw, b, unit), is_expert(sw, b, unit) ? unit : -1, specs); }

/* What is read after this unit: the next one, or the next block's attention. */
static void want_next(const sweep *sw, const mlp *b, int64_t unit) {
    dsb_linear_spec specs[5];
    int n = 3;
    if (unit + 1 < b->n_unit) unit_specs(sw, b, unit + 1, specs);
    else if (b->layer + 1 < sw->m->config.n_layer) n = dsb_attn_specs(&sw->m->config, b->layer + 1, specs);
    else return;
    sw_want(sw, specs, n);
}

/* The reference's, through which calibration passes before schemes are made. */
static dsb_status load_unit(sweep *sw, mlp *b, int64_t unit, ffn_set *set, dsb_err *err) {
    dsb_linear_spec specs[3];
    unit_specs(sw, b, unit, specs);
    want_next(sw, b, unit);
    DSB_TRY(DSB_NEW(set->schemes, sw->plan->n_scheme + 1, "experts", err));
    DSB_TRY(load_reference(sw, specs, &set->ref, is_expert(sw, b, unit) && b->mean_abs ? &sw->cal->layers[b->layer].mean_abs[unit] : NULL, err));
    return calibrate_unit(sw, b, unit, specs, &set->ref, err);
}

/* Schemes from .. to, tensor by tensor. */
static dsb_status load_unit_schemes(sweep *sw, mlp *b, int64_t unit, ffn_set *set, int from, int to, dsb_err *err) {
    dsb_linear_spec specs[3];
    unit_specs(sw, b, unit, specs);
    for (int i = 0; i < 3; i++)
        for (int s = from; s < to; s++) DSB_TRY(sw_load_scheme(sw, s, &specs[i], part(&set->ref, i), part(&set->schemes[s], i), err));
    for (int s = from; s < to; s++) {
        sw_scheme *st = &sw->schemes[s];
        if (st->own.rows.n > 0) DSB_TRY(calibrate(sw, b, unit, &st->own, b->routes.own ? &b->routes.own[s] : NULL, &st->router, &set->schemes[s], NULL, true, err));
    }
    return DSB_OK;
}

/* ---- one pass through one unit ---- */

/* Moments of an expert's outputs on isolated rows (ascending): a partial a chunk, added in the chunks' order. */
static void add_moments(const sweep *sw, const int32_t *rows, int64_t n, const float *ref, const float *test, dsb_moments *sum) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx;
    for (int64_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && rows[to] / ctx == rows[from] / ctx;) to++;
        sw_moments(sw, ref + from * d, test + from * d, (to - from) * d, sum);
    }
}

/* iso: the reference's outputs on the expert's isolated rows, that begin at iso_at of routes.iso. */
static dsb_status expert_scheme(sweep *sw, int s, mlp *b, int64_t e, const sw_pass *pass, const dsb_ffn_weights *w, const kept *iso, int64_t iso_at, float *test_out, dsb_err *err) {
    sw_scheme *st = &sw->schemes[s];
    const sw_by_expert *acc = &b->routes.acc[s], *block = &b->routes.block[s];
    bool bf16 = sw->plan->schemes[s].bf16;
    int64_t at;
    ffn_pass p = {.bf16 = bf16, .norm = &st->router, .w = w, .role = DSB_ROLE_EXPERT_GATE, .src = &st->acc};
    p.n = expert_rows_in(acc, e, pass->at, pass->n, &at);
    p.rows = acc->rows + at;
    sw_clip_begin(sw, s);
    DSB_TRY(run_expert(sw, &p, p.rows, pass->at, acc->weight + at, &st->acc_out, NULL, err));
    sw_clip_end(sw, s);
    p.n = expert_rows_in(block, e, pass->iso_at, pass->iso_n, &at);
    p.rows = block->rows + at;
    p.src = &st->block;
    DSB_TRY(run_expert(sw, &p, p.rows, pass->iso_at, block->weight + at, &st->block_out, NULL, err));
    kept test = {.rows = iso->rows, .n = iso->n, .out = test_out};
    p.n = iso->n;
    p.rows = iso->rows;
    p.src = &sw->ref;
    p.rotation = sw_rotation(sw, s);
    p.round_input = bf16;
    DSB_TRY(run_expert(sw, &p, b->routes.iso.rows + iso_at, pass->iso_at, b->routes.iso.weight + iso_at, &st->iso_out, &test, err));
    dsb_rotate_rows(sw->be, p.rotation, test_out, iso->n, sw->m->config.d_model);
    add_moments(sw, b->routes.iso.rows + iso_at, iso->n, iso->out, test_out, &b->sums[s * sw->m->config.n_expert + e]);
    return DSB_OK;
}

/* The reference's rows of an expert; keeps its outputs on isolated ones, that begin at *iso_at of routes.iso, for the schemes. */
static dsb_status expert_reference(sweep *sw, mlp *b, int64_t e, const sw_pass *pass, const ffn_set *set, kept *iso, int64_t *iso_at, dsb_err *err) {
    int64_t at;
    *iso = (kept){.n = expert_rows_in(&b->routes.iso, e, pass->iso_at, pass->iso_n, iso_at)};
    iso->rows = b->iso_src + *iso_at;
    SW_TAKE(ST_REF_OUT, iso->out, iso->n * sw->m->config.d_model);
    ffn_pass p = {.norm = &sw->ref_router, .w = &set->ref, .role = DSB_ROLE_EXPERT_GATE, .src = &sw->ref};
    p.n = expert_rows_in(&b->routes.ref, e, pass->at, pass->n, &at);
    p.rows = b->routes.ref.rows + at;
    return run_expert(sw, &p, p.rows, pass->at, b->routes.ref.weight + at, &sw->ref_out, iso, err);
}

/* The dense MLP, or the shared expert added to the routed ones: every row of every stream. */
static dsb_status dense_reference(sweep *sw, mlp *b, int64_t unit, const sw_pass *pass, const ffn_set *set, dsb_err *err) {
    ffn_pass p = {.norm = &sw->ref_router, .w = &set->ref, .role = gate_role(sw, b, unit), .src = &sw->ref, .at = pass->at, .n = pass->n};
    return run_all(sw, &p, b->moe, &sw->ref_out, err);
}

static dsb_status dense_scheme(sweep *sw, int s, mlp *b, int64_t unit, const sw_pass *pass, const dsb_ffn_weights *w, dsb_err *err) {
    sw_scheme *st = &sw->schemes[s];
    bool bf16 = sw->plan->schemes[s].bf16;
    ffn_pass p = {.bf16 = bf16, .norm = &st->router, .w = w, .role = gate_role(sw, b, unit), .src = &st->acc, .at = pass->at, .n = pass->n};
    sw_clip_begin(sw, s);
    DSB_TRY(run_all(sw, &p, b->moe, &st->acc_out, err));
    sw_clip_end(sw, s);
    p.src = &st->block;
    p.at = pass->iso_at;
    p.n = pass->iso_n;
    DSB_TRY(run_all(sw, &p, b->moe, &st->block_out, err));
    p.src = &sw->ref;
    p.rotation = sw_rotation(sw, s);
    p.round_input = bf16;
    p.rows = sw->iso_rows + pass->iso_at;
    return run_all(sw, &p, b->moe, &st->iso_out, err);
}

/* The reference, then the schemes; where weights are not held they are loaded here, of all schemes or of one at a time. */
static dsb_status run_unit(sweep *sw, mlp *b, int64_t unit, const sw_pass *pass, dsb_err *err) {
    const dsb_sweep_costs *how = &sw->how;
    ffn_set *set = &b->sets[how->hold ? unit : 0];
    bool expert = is_expert(sw, b, unit);
    int n_scheme = sw->plan->n_scheme;
    int64_t iso_at = 0;
    kept iso = {0};
    float *test_out = NULL;
    if (!how->hold) DSB_TRY(load_unit(sw, b, unit, set, err));
    DSB_TRY(expert ? expert_reference(sw, b, unit, pass, set, &iso, &iso_at, err) : dense_reference(sw, b, unit, pass, set, err));
    if (!how->hold && how->all_schemes) DSB_TRY(load_unit_schemes(sw, b, unit, set, 0, n_scheme, err));
    SW_TAKE(ST_TEST, test_out, iso.n * sw->m->config.d_model);
    for (int s = 0; s < n_scheme; s++) {
        dsb_ffn_weights *w = &set->schemes[s];
        if (!how->hold && !how->all_schemes) DSB_TRY(load_unit_schemes(sw, b, unit, set, s, s + 1, err));
        DSB_TRY(expert ? expert_scheme(sw, s, b, unit, pass, w, &iso, iso_at, test_out, err) : dense_scheme(sw, s, b, unit, pass, w, err));
        if (!how->hold && !how->all_schemes) dsb_ffn_release(sw->be, w);
    }
    if (!how->hold) release_set(sw, set);
    return DSB_OK;
}

/* ---- residual and the block's figures ---- */

static dsb_status zero_outputs(sweep *sw, const sw_pass *pass, dsb_err *err) {
    DSB_TRY(sw_zero(sw, &sw->ref_out, pass->n, err));
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        DSB_TRY(sw_zero(sw, &sw->schemes[s].acc_out, pass->n, err));
        DSB_TRY(sw_zero(sw, &sw->schemes[s].block_out, pass->iso_n, err));
        DSB_TRY(sw_zero(sw, &sw->schemes[s].iso_out, pass->iso_n, err));
    }
    return DSB_OK;
}

static dsb_status round_rows(sweep *sw, sw_stream *s, int64_t n, dsb_err *err) {
    float *x;
    for (int64_t at = 0; at < n; at += sw->plan->n_ctx) {
        DSB_TRY(sw_view(sw, s, at, sw->plan->n_ctx, ST_VIEW, &x, err));
        sw->be->round_bf16(x, sw->plan->n_ctx * sw->m->config.d_model);
        DSB_TRY(sw_keep(sw, s, at, sw->plan->n_ctx, x, err));
    }
    return DSB_OK;
}

/* A block without a shared expert: the routed sum is the MLP's output, rounded where the carrier is BF16. */
static dsb_status round_outputs(sweep *sw, const sw_pass *pass, dsb_err *err) {
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        if (!sw->plan->schemes[s].bf16) continue;
        DSB_TRY(round_rows(sw, &sw->schemes[s].acc_out, pass->n, err));
        DSB_TRY(round_rows(sw, &sw->schemes[s].block_out, pass->iso_n, err));
        DSB_TRY(round_rows(sw, &sw->schemes[s].iso_out, pass->iso_n, err));
    }
    return DSB_OK;
}

/* Adds one chunk's MLP output to the residual's rows from `at`; x receives the result. */
static dsb_status residual_chunk(sweep *sw, sw_stream *s, int64_t at, const float *out, float *x, dsb_err *err) {
    int64_t d = sw->m->config.d_model, n = sw->plan->n_ctx;
    DSB_TRY(sw_load(sw, s, at, n, x, err));
    sw->be->add(x, out, n * d);
    if (s->bf16) sw->be->round_bf16(x, n * d);
    return sw_store(sw, s, at, n, x, err);
}

/* Rows from `at` of all streams and, where the chunk is sampled, from iso_at >= 0 of sampled ones. */
static dsb_status finish_chunk(sweep *sw, int64_t layer, const sw_pass *pass, int64_t at, int64_t iso_at, float *x_ref, float *x, dsb_err *err) {
    int64_t ctx = sw->plan->n_ctx, chunk = at / ctx;
    float *mlp_ref, *out;
    DSB_TRY(sw_view(sw, &sw->ref_out, at - pass->at, ctx, ST_VIEW, &mlp_ref, err));
    DSB_TRY(residual_chunk(sw, &sw->ref, at, mlp_ref, x_ref, err));
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        sw_scheme *st = &sw->schemes[s];
        DSB_TRY(sw_view(sw, &st->acc_out, at - pass->at, ctx, ST_VIEW2, &out, err));
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_MLP, DSB_KIND_ACCUMULATED, chunk, mlp_ref, out, err));
        DSB_TRY(residual_chunk(sw, &st->acc, at, out, x, err));
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_BLOCK, DSB_KIND_ACCUMULATED, chunk, x_ref, x, err));
        if (iso_at < 0) continue;
        DSB_TRY(sw_view(sw, &st->iso_out, iso_at - pass->iso_at, ctx, ST_VIEW2, &out, err));
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_MLP, DSB_KIND_ISOLATED, chunk, mlp_ref, out, err));
        DSB_TRY(sw_view(sw, &st->block_out, iso_at - pass->iso_at, ctx, ST_VIEW2, &out, err));
        DSB_TRY(residual_chunk(sw, &st->block, iso_at, out, x, err));
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_BLOCK, DSB_KIND_ISOLATED, chunk, x_ref, x, err));
    }
    return DSB_OK;
}

static dsb_status finish_pass(sweep *sw, int64_t layer, const sw_pass *pass, dsb_err *err) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx, iso = pass->iso_at;
    float *x_ref, *x;
    SW_TAKE(ST_X, x_ref, ctx * d);
    SW_TAKE(ST_OUT, x, ctx * d);
    for (int64_t at = pass->at; at < pass->at + pass->n; at += ctx) {
        bool sampled = iso < pass->iso_at + pass->iso_n && sw->iso_rows[iso] == at;
        DSB_TRY(finish_chunk(sw, layer, pass, at, sampled ? iso : -1, x_ref, x, err));
        iso += sampled ? ctx : 0;
    }
    return DSB_OK;
}

static dsb_status expert_events(sweep *sw, const mlp *b, dsb_err *err) {
    DSB_TRY(sw_tell(sw, err));
    for (int64_t e = 0; e < sw->m->config.n_expert; e++) {
        int64_t at, n = expert_rows(&b->routes.iso, e, &at);
        for (int s = 0; s < sw->plan->n_scheme && n > 0; s++) {
            dsb_expert_event ev = {.scheme = s, .layer = b->layer, .expert = e, .tokens = n, .moments = &b->sums[s * sw->m->config.n_expert + e]};
            DSB_TRY(sw->plan->obs->expert(sw->plan->obs->ctx, &ev, err));
        }
    }
    return DSB_OK;
}

/* ---- the block ---- */

static dsb_status run_passes(sweep *sw, mlp *b, dsb_err *err) {
    char what[64];
    int64_t at = 0;
    snprintf(what, sizeof what, "block %lld of %lld: %s", (long long)b->layer + 1, (long long)sw->m->config.n_layer, b->moe ? "experts" : "dense MLP");
    DSB_TRY(sw_zero(sw, &sw->calib.out, sw->calib.out.n, err));
    for (int s = 0; s < sw->plan->n_scheme; s++) DSB_TRY(sw_zero(sw, &sw->schemes[s].own.out, sw->schemes[s].own.out.n, err));
    for (int64_t u = 0; u < b->n_unit && sw->how.hold; u++) {
        DSB_TRY(load_unit(sw, b, u, &b->sets[u], err));
        DSB_TRY(load_unit_schemes(sw, b, u, &b->sets[u], 0, sw->plan->n_scheme, err));
    }
    do {
        sw_pass pass = sw_pass_from(sw, at);
        DSB_TRY(zero_outputs(sw, &pass, err));
        for (int64_t u = 0; u < b->n_unit; u++) {
            DSB_TRY(run_unit(sw, b, u, &pass, err));
            sw_progress(sw, 0.5 / (double)b->n_unit * (sw->n_tok ? (double)pass.n / (double)sw->n_tok : 1), what);
        }
        if (b->moe && sw->m->config.n_shared == 0) DSB_TRY(round_outputs(sw, &pass, err));
        DSB_TRY(finish_pass(sw, b->layer, &pass, err));
        at += pass.n;
    } while (at < sw->n_tok);
    DSB_TRY(sw_calib_finish(sw, &sw->calib, err));
    for (int s = 0; s < sw->plan->n_scheme; s++) DSB_TRY(sw_calib_finish(sw, &sw->schemes[s].own, err));
    return b->moe ? expert_events(sw, b, err) : DSB_OK;
}

static dsb_status moe_open(sweep *sw, mlp *b, dsb_err *err) {
    const dsb_config *c = &sw->m->config;
    int64_t n_iso = sw->n_iso * c->router.k;
    b->n_unit = c->n_expert + (c->n_shared > 0);
    DSB_TRY(sw_route(sw, b->layer, &b->routes, err));
    DSB_TRY(DSB_NEW(b->iso_src, n_iso + 1, "routing", err));
    for (int64_t i = 0; i < n_iso; i++) b->iso_src[i] = sw->iso_rows[b->routes.iso.rows[i]];
    DSB_TRY(DSB_NEW(b->sums, sw->plan->n_scheme * c->n_expert + 1, "expert figures", err));
    for (int64_t i = 0; i < sw->plan->n_scheme * c->n_expert; i++) b->sums[i].first_bad = -1;
    b->mean_abs = sw->plan->n_scheme == 0 || recipes_test(sw, DSB_WHEN_MEAN_ABS_BELOW, 0);
    if (recipes_test(sw, DSB_WHEN_BUDGET, DSB_BY_SENSITIVITY) && sw->calib.rows.n > 0) DSB_TRY(sensitivity_beforehand(sw, b, err));
    if (!recipes_test(sw, DSB_WHEN_MEAN_ABS_RANK_BELOW, 0) && !recipes_test(sw, DSB_WHEN_BUDGET, DSB_BY_MEAN_ABS)) return DSB_OK;
    b->mean_abs = false;
    return mean_abs_beforehand(sw, b->layer, err);
}

static dsb_status mlp_run(sweep *sw, mlp *b, dsb_err *err) {
    DSB_TRY(sw_load_routers(sw, b->layer, err));
    if (b->moe) DSB_TRY(moe_open(sw, b, err));
    DSB_TRY(DSB_NEW(b->sets, b->n_unit, "experts", err));
    DSB_TRY(run_passes(sw, b, err));
    if (b->mean_abs) dsb_rank(sw->cal->layers[b->layer].mean_abs, sw->m->config.n_expert, sw->cal->layers[b->layer].mean_abs_rank);
    sw_progress(sw, 0.1, "block done");
    return DSB_OK;
}

dsb_status sw_mlp(sweep *sw, int64_t layer, dsb_err *err) {
    mlp b = {.layer = layer, .n_unit = 1, .moe = dsb_layer_is_moe(&sw->m->config, layer)};
    dsb_status s = mlp_run(sw, &b, err);
    for (int64_t u = 0; b.sets && u < (sw->how.hold ? b.n_unit : 1); u++) release_set(sw, &b.sets[u]);
    sw_routes_release(sw, &b.routes);
    sw_settle(sw); /* before the sums go */
    free(b.sets);
    free(b.iso_src);
    free(b.sums);
    return s;
}
