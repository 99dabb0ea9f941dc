/* Calibration streams: the reference's, and a scheme's own where its recipe wants the quantized model's inputs. They pass through each
 * attention and feed-forward before schemes are made of it; statistics are those of the present one. */
#include <stdio.h>

#include "engine/sweep_internal.h"

/* Which input a linear reads: those that read the same one share its statistics. */
static int input_of(dsb_role role) {
    switch (role) {
    case DSB_ROLE_ATTN_Q_B: return 1;
    case DSB_ROLE_ATTN_KV_B: return 2;
    case DSB_ROLE_ATTN_O: return 3;
    case DSB_ROLE_DENSE_DOWN:
    case DSB_ROLE_SHARED_DOWN:
    case DSB_ROLE_EXPERT_DOWN: return 1;
    default: return 0;
    }
}

/* The first of those that read an input is the one that counts. */
static bool counts(dsb_role role) {
    return role != DSB_ROLE_ATTN_KV_A && role != DSB_ROLE_ATTN_K && role != DSB_ROLE_ATTN_V && role != DSB_ROLE_DENSE_UP && role != DSB_ROLE_SHARED_UP && role != DSB_ROLE_EXPERT_UP;
}

dsb_status sw_calib_open(sweep *sw, sw_calib *c, const dsb_scheme *scheme, dsb_err *err) {
    int64_t n = sw->plan->n_cal_chunk * sw->plan->n_ctx;
    c->bf16 = scheme->bf16;
    c->rotation = dsb_scheme_rotation(scheme, &sw->m->config);
    DSB_TRY(sw_stream_alloc(sw, &c->rows, scheme->bf16, n, err));
    DSB_TRY(sw_stream_alloc(sw, &c->out, false, n, err));
    if (sw->m->config.n_expert > 0) DSB_TRY(dsb_routing_alloc(&c->route, &sw->m->config, n, sw->plan->cover.balance, err));
    return DSB_OK;
}

void sw_calib_release(sweep *sw, sw_calib *c) {
    sw_stream_release(sw, &c->rows);
    sw_stream_release(sw, &c->out);
    dsb_routing_release(&c->route);
    for (int i = 0; i < SW_INPUTS; i++) dsb_input_stats_release(&c->in[i]);
}

dsb_status sw_calib_load(sweep *sw, const sw_calib *c, int64_t at, int64_t n, float *dst, dsb_err *err) {
    DSB_TRY(sw_load(sw, &c->rows, at, n, dst, err));
    dsb_rotate_rows(sw->be, c->rotation, dst, n, sw->m->config.d_model);
    return DSB_OK;
}

static int needs_of(const sweep *sw, int scheme, const dsb_linear_spec *spec) {
    const dsb_recipe *r = sw->plan->schemes[scheme].recipe;
    char tensor[300];
    snprintf(tensor, sizeof tensor, "%s.weight", spec->stem);
    return r && r->needs ? dsb_recipe_needs(r, spec->role, tensor) : 0;
}

static bool has_own(const sweep *sw, int scheme) { return sw->schemes[scheme].own.rows.n > 0; }

dsb_status sw_calib_begin(sweep *sw, sw_calib *c, int own, const dsb_linear_spec *specs, int n, dsb_err *err) {
    int needs[SW_INPUTS] = {0};
    int64_t cols[SW_INPUTS] = {0};
    for (int i = 0; i < n; i++) {
        int in = input_of(specs[i].role);
        cols[in] = specs[i].cols;
        for (int s = 0; s < sw->plan->n_scheme; s++)
            if (own >= 0 ? s == own : !has_own(sw, s)) needs[in] |= needs_of(sw, s, &specs[i]);
    }
    for (int i = 0; i < SW_INPUTS; i++) {
        if (needs[i]) DSB_TRY(dsb_input_stats_begin(&c->in[i], needs[i], cols[i], err));
        else dsb_input_stats_release(&c->in[i]);
    }
    return DSB_OK;
}

const dsb_input_stats *sw_calib_stats(const sweep *sw, int scheme, const dsb_linear_spec *spec) {
    const sw_calib *c = has_own(sw, scheme) ? &sw->schemes[scheme].own : &sw->calib;
    const dsb_input_stats *s = &c->in[input_of(spec->role)];
    return s->cols == spec->cols ? s : NULL;
}

void sw_calib_see(const sweep *sw, sw_calib *c, dsb_role role, const float *x, int64_t n) {
    dsb_input_stats *s = &c->in[input_of(role)];
    if (counts(role) && s->cols > 0) dsb_input_stats_add(s, sw->be, x, n);
}

dsb_status sw_calib_see_stream(sweep *sw, sw_calib *c, int own, const dsb_linear_spec *spec, const float *norm, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x;
    DSB_TRY(sw_calib_begin(sw, c, own, spec, 1, err));
    if (c->in[0].cols == 0) return DSB_OK;
    SW_TAKE(ST_X, x, sw->rows * d);
    for (int64_t at = 0; at < c->rows.n; at += sw->rows) {
        int64_t n = c->rows.n - at < sw->rows ? c->rows.n - at : sw->rows;
        DSB_TRY(sw_calib_load(sw, c, at, n, x, err));
        sw->be->rms_norm(x, d, norm, sw->m->config.rms_eps, n, d, x, d);
        if (c->bf16) sw->be->round_bf16(x, n * d);
        sw_calib_see(sw, c, spec->role, x, n);
    }
    return DSB_OK;
}

void sw_calib_observe(void *ctx, dsb_role role, const float *x, int64_t n, int64_t cols) {
    sw_calib_view *v = ctx;
    sw_calib_see(v->sw, v->calib, role, x, n);
    if (!v->layer) return;
    dsb_range_observer *r = v->expert >= 0 ? &v->layer->expert[v->expert * 3 + (role - DSB_ROLE_EXPERT_GATE)] : &v->layer->role[role];
    dsb_range_observe(v->sw->be, r, x, n, cols);
}

dsb_status sw_calib_finish(sweep *sw, sw_calib *c, dsb_err *err) {
    int64_t ctx = sw->plan->n_ctx, d = sw->m->config.d_model;
    float *x, *out;
    SW_TAKE(ST_X, x, ctx * d);
    for (int64_t at = 0; at < c->rows.n; at += ctx) {
        DSB_TRY(sw_view(sw, &c->out, at, ctx, ST_VIEW, &out, err));
        if (c->bf16) sw->be->round_bf16(out, ctx * d);
        DSB_TRY(sw_load(sw, &c->rows, at, ctx, x, err));
        sw->be->add(x, out, ctx * d);
        if (c->bf16) sw->be->round_bf16(x, ctx * d);
        DSB_TRY(sw_store(sw, &c->rows, at, ctx, x, err));
    }
    return DSB_OK;
}
