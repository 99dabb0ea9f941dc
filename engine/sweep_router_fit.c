/* Router calibration: the router of a quantized model re-fitted so that on that model's own state it selects as the reference does on its:
 * ridge least squares of the reference's router logits, towards the stored weights (docs/compensation.md). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/format.h"
#include "engine/sweep_internal.h"

static const dsb_rule *rule_of(const sweep *sw, int scheme, const dsb_linear_spec *spec) {
    const dsb_scheme *s = &sw->plan->schemes[scheme];
    char tensor[300];
    snprintf(tensor, sizeof tensor, "%s.weight", spec->stem);
    const dsb_rule *r = s->recipe ? dsb_recipe_match(s->recipe, spec->role, tensor, NULL) : NULL;
    return r && r->compensation & DSB_COMP_ROUTER ? r : NULL;
}

/* The normed state of calibration rows at .. at+n through router w, as routing runs it. */
static dsb_status logits_of(sweep *sw, const sw_calib *c, const dsb_router_weights *w, int64_t at, int64_t n, float *x, float *logits, dsb_err *err) {
    DSB_TRY(sw_calib_load(sw, c, at, n, x, err));
    dsb_ffn_norm(sw->m, w, c->bf16, x, n, x);
    return dsb_linear_apply(sw->m, &w->w, false, x, n, &sw->ws, logits, err);
}

/* Adds (reference's logits - those of the stored router on the own state) · x of n tokens to sums (n_expert, d_model), tokens ascending. */
static void add_residual(const float *want, const float *is, const float *x, int64_t n, int64_t n_expert, int64_t d, double *sums) {
#pragma omp parallel for schedule(static)
    for (int64_t e = 0; e < n_expert; e++)
        for (int64_t t = 0; t < n; t++) {
            double r = (double)want[t * n_expert + e] - (double)is[t * n_expert + e];
            for (int64_t i = 0; i < d; i++) sums[e * d + i] += r * (double)x[t * d + i];
        }
}

static dsb_status residual(sweep *sw, const sw_calib *own, double *sums, dsb_err *err) {
    int64_t d = sw->m->config.d_model, e = sw->m->config.n_expert;
    float *x, *want, *is, *host_x, *host_want, *host_is;
    SW_TAKE(ST_X, x, sw->rows * d);
    SW_TAKE(ST_LOGITS, want, sw->rows * e);
    SW_TAKE(ST_TEST, is, sw->rows * e);
    DSB_TRY(DSB_NEW(host_x, sw->rows * (d + 2 * e), "router inputs", err));
    host_want = host_x + sw->rows * d;
    host_is = host_want + sw->rows * e;
    dsb_status s = DSB_OK;
    for (int64_t at = 0; at < own->rows.n && !s; at += sw->rows) {
        int64_t n = own->rows.n - at < sw->rows ? own->rows.n - at : sw->rows;
        s = logits_of(sw, &sw->calib, &sw->ref_router, at, n, x, want, err);
        if (!s) s = logits_of(sw, own, &sw->ref_router, at, n, x, is, err);
        if (s) break;
        sw->be->sync();
        sw->be->download(host_want, want, (size_t)(n * e) * sizeof *want);
        sw->be->download(host_is, is, (size_t)(n * e) * sizeof *is);
        sw->be->download(host_x, x, (size_t)(n * d) * sizeof *x);
        add_residual(host_want, host_is, host_x, n, e, d, sums);
    }
    free(host_x);
    return s;
}

/* Tokens whose set of experts differs: both are ascending. */
static int64_t changed(const dsb_routing *a, const dsb_routing *b) {
    int64_t n = 0;
    for (int64_t t = 0; t < a->n; t++) n += memcmp(a->idx + t * a->k, b->idx + t * a->k, (size_t)a->k * sizeof *a->idx) != 0;
    return n;
}

/* Routes a scheme's own stream; drift: its tokens that go elsewhere than the reference's. */
static dsb_status route_own(sweep *sw, sw_calib *own, const dsb_router_weights *w, int64_t *drift, dsb_err *err) {
    DSB_TRY(sw_route_stream(sw, &own->rows, own->bf16, w, &own->route, err));
    *drift = changed(&sw->calib.route, &own->route);
    return DSB_OK;
}

/* The weights of least squares, in the stored type; NULL in *out where the rule asks for none or there is no token. */
static dsb_status fit(sweep *sw, int scheme, const dsb_rule *rule, const dsb_linear_spec *spec, float **out, dsb_err *err) {
    const sw_calib *own = &sw->schemes[scheme].own;
    int64_t n = spec->rows * spec->cols;
    double *sums;
    float *w;
    if (!rule || own->rows.n == 0 || own->in[0].n_token == 0 || !own->in[0].gram || !sw->plan->schemes[scheme].own_source) return DSB_OK;
    DSB_TRY(sw_load_reference(sw, spec, NULL, err));
    DSB_TRY(DSB_NEW(sums, n, "a router", err));
    dsb_status s = DSB_NEW(w, n, "a router", err);
    if (!s) {
        memcpy(w, sw->loader.w_ref, (size_t)n * sizeof *w);
        s = residual(sw, own, sums, err);
        if (!s) s = dsb_fit_residual(&own->in[0], rule->damp, sums, spec->rows, w, err);
        for (int64_t i = 0; i < n && !s && sw->loader.ref_dtype == DSB_BF16; i++) w[i] = dsb_bf16_to_f32(dsb_f32_to_bf16(w[i]));
        *out = w;
    }
    free(sums);
    return s;
}

dsb_status sw_load_router(sweep *sw, int scheme, const dsb_linear_spec *spec, dsb_err *err) {
    sw_scheme *st = &sw->schemes[scheme];
    const dsb_rule *rule = rule_of(sw, scheme, spec);
    dsb_compensated won = {0};
    dsb_tensor_event event;
    float *w = NULL;
    double start = dsb_now_s();
    dsb_status s = fit(sw, scheme, rule, spec, &w, err);
    if (!s && w) { /* before: the router that the rule would give without it */
        s = sw_load_scheme_part(sw, scheme, spec, &sw->ref_router.w, &st->router.w, &event, err);
        sw_settle(sw); /* the event is written again below */
        if (!s) s = route_own(sw, &st->own, &st->router, &won.changed_before, err);
        dsb_linear_release(sw->be, &st->router.w);
    }
    sw->loader.refit = w;
    if (!s) s = sw_load_scheme_part(sw, scheme, spec, &sw->ref_router.w, &st->router.w, &event, err);
    sw->loader.refit = NULL;
    if (!s && st->own.rows.n > 0) s = route_own(sw, &st->own, &st->router, &won.changed_after, err);
    free(w);
    if (s) sw_settle(sw); /* the event goes */
    if (s) return s;
    if (rule) {
        event.won.starved |= !w;
        event.won.done |= w ? DSB_COMP_ROUTER : 0;
        event.won.n_token = w ? st->own.rows.n : 0;
        event.won.changed_before = won.changed_before;
        event.won.changed_after = w ? won.changed_after : 0;
        event.won.ms = (dsb_now_s() - start) * 1e3;
    }
    sw_settle(sw);
    return sw->plan->obs->tensor(sw->plan->obs->ctx, scheme, &event, err);
}
