/* The vocabulary projection: final norm and logits of scored positions, reduced at once; logits are never stored. */
#include <stdlib.h>
#include <string.h>

#include "engine/sweep_internal.h"

enum { ROWS = 128 }; /* logits held at a time: ROWS x vocabulary, twice */

typedef struct head {
    float *norm;
    dsb_linear w;
    bool norm_borrowed;
} head;

static dsb_status load_heads(sweep *sw, head *ref, head *schemes, dsb_err *err) {
    dsb_linear_spec spec;
    dsb_head_spec(&sw->m->config, &spec);
    DSB_TRY(dsb_load_vector(sw->m, &sw->m->checkpoint, sw->m->config.d_model, &ref->norm, err, "model.norm.weight"));
    DSB_TRY(sw_load_reference(sw, &spec, &ref->w, err));
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        schemes[s].norm_borrowed = sw->plan->schemes[s].own_source;
        if (schemes[s].norm_borrowed) {
            schemes[s].norm = ref->norm;
        } else {
            DSB_TRY(dsb_load_vector(sw->m, sw->plan->schemes[s].source, sw->m->config.d_model, &schemes[s].norm, err, "model.norm.weight"));
        }
        DSB_TRY(sw_load_scheme(sw, s, &spec, &ref->w, &schemes[s].w, err));
    }
    return DSB_OK;
}

static void release_heads(sweep *sw, head *ref, head *schemes) {
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        dsb_linear_release(sw->be, &schemes[s].w);
        if (!schemes[s].norm_borrowed && schemes[s].norm) sw->be->release(schemes[s].norm);
    }
    dsb_linear_release(sw->be, &ref->w);
    if (ref->norm) sw->be->release(ref->norm);
}

static dsb_status logits(sweep *sw, const head *h, const sw_stream *src, bool bf16, const int32_t *rows, int64_t n, float *out, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x;
    SW_TAKE(ST_X, x, ROWS * d);
    DSB_TRY(sw_gather(sw, src, rows, n, x, err));
    sw->be->rms_norm(x, d, h->norm, sw->m->config.rms_eps, n, d, x, d);
    if (bf16) sw->be->round_bf16(x, n * d);
    /* Logits stay f32: the log-softmax that reads them is f32 (docs/DESIGN.md §2, Carrier). */
    return dsb_linear_apply(sw->m, &h->w, false, x, n, &sw->ws, out, err);
}

static dsb_status tile(sweep *sw, const head *ref, const head *schemes, const int32_t *rows, int64_t first, int64_t n, dsb_logit_row *figures, dsb_err *err) {
    int64_t v = sw->m->config.vocab;
    float *z_ref, *z;
    int32_t targets[ROWS];
    SW_TAKE(ST_LOGITS, z_ref, ROWS * v);
    SW_TAKE(ST_TEST, z, ROWS * v);
    for (int64_t i = 0; i < n; i++) targets[i] = sw->plan->targets[rows[i]];
    DSB_TRY(logits(sw, ref, &sw->ref, false, rows, n, z_ref, err));
    dsb_logits_event e = {.scheme = -1, .first = first, .n = n, .rows = figures};
    sw->be->logit_rows(z_ref, NULL, targets, n, v, figures);
    DSB_TRY(sw->plan->obs->logits(sw->plan->obs->ctx, &e, err));
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        DSB_TRY(logits(sw, &schemes[s], &sw->schemes[s].acc, sw->plan->schemes[s].bf16, rows, n, z, err));
        sw->be->logit_rows(z_ref, z, targets, n, v, figures);
        e.scheme = s;
        DSB_TRY(sw->plan->obs->logits(sw->plan->obs->ctx, &e, err));
    }
    return DSB_OK;
}

static dsb_status run_tiles(sweep *sw, const head *ref, const head *schemes, dsb_err *err) {
    int32_t rows[ROWS];
    dsb_logit_row *figures;
    int64_t n = 0, first = 0;
    DSB_TRY(DSB_NEW(figures, ROWS, "logit figures", err));
    dsb_status s = DSB_OK;
    for (int64_t t = 0; t < sw->n_tok && !s; t++) {
        if (sw->plan->targets[t] >= 0) rows[n++] = (int32_t)t;
        if (n < ROWS && t + 1 < sw->n_tok) continue;
        if (n > 0) s = tile(sw, ref, schemes, rows, first, n, figures, err);
        sw_progress(sw, 0.5 * (double)n / (double)sw->n_tok, "vocabulary projection");
        first += n;
        n = 0;
    }
    free(figures);
    return s;
}

dsb_status sw_head(sweep *sw, dsb_err *err) {
    head ref = {0}, *schemes;
    DSB_TRY(DSB_NEW(schemes, sw->plan->n_scheme + 1, "heads", err));
    dsb_status s = load_heads(sw, &ref, schemes, err);
    if (!s) s = run_tiles(sw, &ref, schemes, err);
    release_heads(sw, &ref, schemes);
    free(schemes);
    return s;
}
