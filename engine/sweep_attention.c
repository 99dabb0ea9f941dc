/* Attention of one block: calibration first, then tile by tile the reference and every scheme. */
#include <stdio.h>
#include <string.h>

#include "engine/sweep_internal.h"

static dsb_status load_reference(sweep *sw, int64_t layer, const dsb_linear_spec *specs, int n, dsb_err *err) {
    dsb_attn_release(sw->be, &sw->ref_attn);
    for (int i = 0; i < n; i++) DSB_TRY(sw_load_reference(sw, &specs[i], dsb_attn_linear(&sw->ref_attn, specs[i].role), err));
    return dsb_attn_load_norms(sw->m, &sw->m->checkpoint, layer, 0, &sw->ref_attn, err);
}

/* x (n rows: whole chunks) -> out, the attention's output. */
static dsb_status forward(sweep *sw, const dsb_attn_weights *w, bool bf16, const float *x, int64_t n, const dsb_input_observer *obs, float *out, dsb_err *err) {
    const int32_t *pos;
    const dsb_seq *seqs;
    int64_t n_seq = sw_layout(sw, n, &pos, &seqs);
    return dsb_attention_forward(sw->m, w, bf16, x, n, pos, seqs, n_seq, NULL, obs, &sw->ws, out, err);
}

/* A calibration stream through weights w. obs: its inputs are seen; keep: their output is added to the stream, whose own weights they are. */
static dsb_status calibrate(sweep *sw, sw_calib *c, const dsb_attn_weights *w, const dsb_input_observer *obs, bool keep, dsb_err *err) {
    int64_t d = sw->m->config.d_model, rows = sw->how.tile_chunks * sw->plan->n_ctx;
    float *x, *out;
    SW_TAKE(ST_X, x, rows * d);
    SW_TAKE(ST_OUT, out, rows * d);
    sw->layout_chunk = -1;
    for (int64_t at = 0; at < c->rows.n; at += rows) {
        int64_t n = c->rows.n - at < rows ? c->rows.n - at : rows;
        DSB_TRY(keep ? sw_load(sw, &c->rows, at, n, x, err) : sw_calib_load(sw, c, at, n, x, err));
        DSB_TRY(forward(sw, w, c->bf16, x, n, obs, out, err));
        if (!keep) continue;
        sw->be->add(x, out, n * d);
        if (c->bf16) sw->be->round_bf16(x, n * d);
        DSB_TRY(sw_store(sw, &c->rows, at, n, x, err));
    }
    return DSB_OK;
}

/* The reference's stream, then the inputs of schemes that are quantized by their own: through the reference's weights. */
static dsb_status calibrate_all(sweep *sw, int64_t layer, const dsb_linear_spec *specs, int n_spec, dsb_err *err) {
    sw_calib_view view = {sw, &sw->calib, &sw->cal->layers[layer], -1};
    dsb_input_observer obs = {&view, sw_calib_observe};
    if (sw->calib.rows.n == 0) return DSB_OK;
    DSB_TRY(sw_calib_begin(sw, &sw->calib, -1, specs, n_spec, err));
    DSB_TRY(calibrate(sw, &sw->calib, &sw->ref_attn, &obs, true, err));
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        sw_calib *own = &sw->schemes[s].own;
        if (own->rows.n == 0) continue;
        view = (sw_calib_view){sw, own, NULL, -1};
        DSB_TRY(sw_calib_begin(sw, own, s, specs, n_spec, err));
        DSB_TRY(calibrate(sw, own, &sw->ref_attn, &obs, false, err));
    }
    return DSB_OK;
}

/* Schemes from .. to, tensor by tensor, so that the reference's is read once for all of them. */
static dsb_status load_schemes(sweep *sw, int64_t layer, const dsb_linear_spec *specs, int n, int from, int to, dsb_err *err) {
    for (int s = from; s < to; s++) {
        dsb_attn_weights *w = &sw->schemes[s].attn;
        dsb_attn_release(sw->be, w);
        if (sw->plan->schemes[s].own_source && !sw_rotation(sw, s)) {
            dsb_attn_borrow(w, &sw->ref_attn);
        } else {
            DSB_TRY(dsb_attn_load_norms(sw->m, sw->plan->schemes[s].source, layer, sw_rotation(sw, s), w, err));
        }
    }
    for (int i = 0; i < n; i++)
        for (int s = from; s < to; s++)
            DSB_TRY(sw_load_scheme(sw, s, &specs[i], dsb_attn_linear(&sw->ref_attn, specs[i].role), dsb_attn_linear(&sw->schemes[s].attn, specs[i].role), err));
    for (int s = from; s < to; s++) DSB_TRY(calibrate(sw, &sw->schemes[s].own, &sw->schemes[s].attn, NULL, true, err));
    return DSB_OK;
}

/* One scheme on the chunks at .. at+n rows; x_ref, a_ref: the reference's block input and attention output there. */
static dsb_status scheme_tile(sweep *sw, int s, int64_t layer, int64_t at, int64_t n, const float *x_ref, const float *a_ref, dsb_err *err) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx;
    sw_scheme *st = &sw->schemes[s];
    bool bf16 = sw->plan->schemes[s].bf16;
    float *x, *out;
    SW_TAKE(ST_ISO, x, n * d);
    SW_TAKE(ST_ISO_OUT, out, n * d);
    DSB_TRY(sw_load(sw, &st->acc, at, n, x, err));
    sw->layout_chunk = at / ctx;
    sw_clip_begin(sw, s);
    DSB_TRY(forward(sw, &st->attn, bf16, x, n, NULL, out, err));
    sw_clip_end(sw, s);
    for (int64_t c = 0; c < n / ctx; c++)
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_ATTENTION, DSB_KIND_ACCUMULATED, at / ctx + c, a_ref + c * ctx * d, out + c * ctx * d, err));
    sw->be->add(x, out, n * d);
    if (bf16) sw->be->round_bf16(x, n * d);
    DSB_TRY(sw_store(sw, &st->acc, at, n, x, err));
    for (int64_t j = 0; j < sw->n_iso_chunk; j++) {
        int64_t row = sw->iso_chunks[j] * ctx;
        if (row < at || row >= at + n) continue;
        const float *ref_out = a_ref + (row - at) * d;
        sw->be->copy(x, x_ref + (row - at) * d, (size_t)(ctx * d) * sizeof *x);
        dsb_rotate_rows(sw->be, sw_rotation(sw, s), x, ctx, d);
        if (bf16) sw->be->round_bf16(x, ctx * d);
        sw->layout_chunk = sw->iso_chunks[j];
        DSB_TRY(forward(sw, &st->attn, bf16, x, ctx, NULL, out, err));
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_ATTENTION, DSB_KIND_ISOLATED, sw->iso_chunks[j], ref_out, out, err));
        sw->be->add(x, out, ctx * d);
        if (bf16) sw->be->round_bf16(x, ctx * d);
        DSB_TRY(sw_store(sw, &st->block, j * ctx, ctx, x, err));
    }
    return DSB_OK;
}

/* Tile by tile the reference and all schemes, whose weights are held. */
static dsb_status by_tile(sweep *sw, int64_t layer, const char *what, dsb_err *err) {
    int64_t d = sw->m->config.d_model, rows = sw->how.tile_chunks * sw->plan->n_ctx;
    float *x, *out;
    SW_TAKE(ST_X, x, rows * d);
    SW_TAKE(ST_OUT, out, rows * d);
    for (int64_t at = 0; at < sw->n_tok; at += rows) {
        int64_t n = sw->n_tok - at < rows ? sw->n_tok - at : rows;
        DSB_TRY(sw_load(sw, &sw->ref, at, n, x, err));
        sw->layout_chunk = at / sw->plan->n_ctx;
        DSB_TRY(forward(sw, &sw->ref_attn, false, x, n, NULL, out, err));
        for (int s = 0; s < sw->plan->n_scheme; s++) DSB_TRY(scheme_tile(sw, s, layer, at, n, x, out, err));
        sw->be->add(x, out, n * d);
        DSB_TRY(sw_store(sw, &sw->ref, at, n, x, err));
        sw_progress(sw, 0.4 * (double)n / (double)sw->n_tok, what);
    }
    return DSB_OK;
}

/* One tile of step s: -1 computes the reference's output, 0 .. n_scheme-1 are schemes, n_scheme adds the reference's to its residual.
 * Between the steps its output lies where the block's MLP output will. */
static dsb_status step_tile(sweep *sw, int s, int64_t layer, int64_t at, int64_t n, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x, *out;
    SW_TAKE(ST_X, x, n * d);
    SW_TAKE(ST_OUT, out, n * d);
    DSB_TRY(sw_load(sw, &sw->ref, at, n, x, err));
    sw->layout_chunk = at / sw->plan->n_ctx;
    if (s < 0) {
        DSB_TRY(forward(sw, &sw->ref_attn, false, x, n, NULL, out, err));
        return sw_store(sw, &sw->ref_out, at, n, out, err);
    }
    DSB_TRY(sw_load(sw, &sw->ref_out, at, n, out, err));
    if (s < sw->plan->n_scheme) return scheme_tile(sw, s, layer, at, n, x, out, err);
    sw->be->add(x, out, n * d);
    return sw_store(sw, &sw->ref, at, n, x, err);
}

/* One scheme after the other, so that only its weights are held beside the reference's. */
static dsb_status by_scheme(sweep *sw, int64_t layer, const dsb_linear_spec *specs, int n_spec, const char *what, dsb_err *err) {
    int64_t rows = sw->how.tile_chunks * sw->plan->n_ctx;
    int n_scheme = sw->plan->n_scheme;
    for (int s = -1; s <= n_scheme; s++) {
        bool scheme = s >= 0 && s < n_scheme;
        if (scheme) DSB_TRY(load_schemes(sw, layer, specs, n_spec, s, s + 1, err));
        for (int64_t at = 0; at < sw->n_tok; at += rows) DSB_TRY(step_tile(sw, s, layer, at, sw->n_tok - at < rows ? sw->n_tok - at : rows, err));
        if (scheme) dsb_attn_release(sw->be, &sw->schemes[s].attn);
        sw_progress(sw, 0.4 / (double)(n_scheme + 2), what);
    }
    return DSB_OK;
}

dsb_status sw_attention(sweep *sw, int64_t layer, dsb_err *err) {
    dsb_linear_spec specs[5];
    int n = dsb_attn_specs(&sw->m->config, layer, specs);
    char what[64];
    snprintf(what, sizeof what, "block %lld of %lld: attention", (long long)layer + 1, (long long)sw->m->config.n_layer);
    DSB_TRY(load_reference(sw, layer, specs, n, err));
    DSB_TRY(calibrate_all(sw, layer, specs, n, err));
    if (!sw->how.all_schemes) return by_scheme(sw, layer, specs, n, what, err);
    DSB_TRY(load_schemes(sw, layer, specs, n, 0, sw->plan->n_scheme, err));
    return by_tile(sw, layer, what, err);
}

void sw_attention_release(sweep *sw) {
    for (int s = 0; s < sw->plan->n_scheme; s++) dsb_attn_release(sw->be, &sw->schemes[s].attn);
    dsb_attn_release(sw->be, &sw->ref_attn);
}
