/* The vocabulary projection: final norm and logits of scored positions, reduced at once; logits are never stored.
 * The matrix is loaded in tiles of rows. Where those of all schemes can be held, SW_HEAD_ROWS positions pass at a time and two
 * rows of logits each are kept; else more positions, with the logits of every scheme, while the tiles are read again. */
#include <stdlib.h>
#include <string.h>

#include "engine/sweep_internal.h"

/* Of the reference (number 0) or of a scheme (its number + 1). */
typedef struct head {
    float *norm;
    bool norm_borrowed;
    dsb_linear *tiles; /* (n_tile), or the current one alone */
    dsb_tensor_event event; /* of the whole matrix */
} head;

typedef struct heads {
    head *h; /* (n_scheme + 1) */
    int64_t n_tile, tile_rows;
    dsb_linear_spec spec; /* the whole matrix */
    bool told;            /* events of the matrix were handed out */
} heads;

static dsb_status heads_open(sweep *sw, heads *all, dsb_err *err) {
    const dsb_sweep_plan *p = sw->plan;
    dsb_head_spec(&sw->m->config, &all->spec);
    all->tile_rows = sw->how.head_tile;
    all->n_tile = (all->spec.rows + all->tile_rows - 1) / all->tile_rows;
    DSB_TRY(DSB_NEW(all->h, p->n_scheme + 1, "heads", err));
    for (int i = 0; i <= p->n_scheme; i++) {
        head *h = &all->h[i];
        const dsb_scheme *s = i ? &p->schemes[i - 1] : &sw->reference;
        h->norm_borrowed = i > 0 && s->own_source && !dsb_scheme_rotation(s, &sw->m->config);
        DSB_TRY(DSB_NEW(h->tiles, all->n_tile, "heads", err));
        if (h->norm_borrowed) h->norm = all->h[0].norm;
        else DSB_TRY(dsb_load_final_norm(sw->m, s, &h->norm, err));
    }
    return DSB_OK;
}

static void release_tile(sweep *sw, heads *all, int64_t t) {
    for (int i = sw->plan->n_scheme; i >= 0; i--)
        if (all->h[i].tiles) dsb_linear_release(sw->be, &all->h[i].tiles[t]);
}

static void heads_close(sweep *sw, heads *all) {
    sw_settle(sw);
    for (int64_t t = 0; all->h && t < all->n_tile; t++) release_tile(sw, all, t);
    for (int i = sw->plan->n_scheme; all->h && i >= 0; i--) {
        if (!all->h[i].norm_borrowed && all->h[i].norm) sw->be->release(all->h[i].norm);
        free(all->h[i].tiles);
    }
    free(all->h);
}

static dsb_status load_tile(sweep *sw, heads *all, int64_t t, dsb_err *err) {
    dsb_linear_spec spec = all->n_tile == 1 ? all->spec : dsb_linear_spec_part(&all->spec, t * all->tile_rows, all->tile_rows);
    DSB_TRY(sw_load_reference(sw, &spec, &all->h[0].tiles[t], err));
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        head *h = &all->h[s + 1];
        DSB_TRY(sw_load_scheme_part(sw, s, &spec, &all->h[0].tiles[t], &h->tiles[t], all->told ? NULL : &h->event, err));
        h->event.spec = &all->spec;
    }
    if (all->told || t + 1 < all->n_tile) return DSB_OK;
    all->told = true;
    sw_settle(sw);
    for (int s = 0; s < sw->plan->n_scheme; s++) DSB_TRY(sw->plan->obs->tensor(sw->plan->obs->ctx, s, &all->h[s + 1].event, err));
    return DSB_OK;
}

/* Tile t of number i's logits of n positions into z (n, vocab). */
static dsb_status project(sweep *sw, const heads *all, int i, int64_t t, const int32_t *rows, int64_t n, float *z, dsb_err *err) {
    const dsb_linear *w = &all->h[i].tiles[t];
    int64_t d = sw->m->config.d_model, v = all->spec.rows, width = w->w.rows;
    float *x, *part = z;
    SW_TAKE(ST_X, x, n * d);
    if (all->n_tile > 1) SW_TAKE(ST_NORM, part, n * all->tile_rows);
    DSB_TRY(sw_gather(sw, i ? &sw->schemes[i - 1].acc : &sw->ref, rows, n, x, err));
    sw->be->rms_norm(x, d, all->h[i].norm, sw->m->config.rms_eps, n, d, x, d);
    if (i && sw->plan->schemes[i - 1].bf16) sw->be->round_bf16(x, n * d);
    /* Logits stay f32: the log-softmax that reads them is f32 (docs/DESIGN.md §2, Carrier). */
    DSB_TRY(dsb_linear_apply(sw->m, w, false, x, n, &sw->ws, part, err));
    for (int64_t r = 0; r < n && all->n_tile > 1; r++) sw->be->copy(z + r * v + t * all->tile_rows, part + r * width, (size_t)width * sizeof *z);
    return DSB_OK;
}

static dsb_status show_rows(sweep *sw, int scheme, int64_t n, const float *z, dsb_err *err) {
    float *host;
    int64_t v = sw->m->config.vocab;
    if (!sw->plan->obs->logit_rows) return DSB_OK;
    DSB_TRY(DSB_NEW(host, n * v, "logits", err));
    sw->be->download(host, z, (size_t)(n * v) * sizeof *host);
    dsb_status s = sw->plan->obs->logit_rows(sw->plan->obs->ctx, scheme, n, v, host, err);
    free(host);
    return s;
}

/* Figures of number i's logits against the reference's. */
static dsb_status tell(sweep *sw, int i, const float *z_ref, const float *z, const int32_t *targets, int64_t first, int64_t n, dsb_logit_row *figures, dsb_err *err) {
    dsb_logits_event e = {.scheme = i - 1, .first = first, .n = n, .rows = figures};
    sw->be->logit_rows(z_ref, i ? z : NULL, targets, n, sw->m->config.vocab, figures);
    DSB_TRY(sw->plan->obs->logits(sw->plan->obs->ctx, &e, err));
    return show_rows(sw, i - 1, n, z, err);
}

/* n <= head_rows positions. */
static dsb_status positions(sweep *sw, heads *all, const int32_t *rows, int64_t first, int64_t n, dsb_logit_row *figures, dsb_err *err) {
    int64_t v = sw->m->config.vocab, size = sw->how.head_rows * v, n_head = sw->plan->n_scheme + 1;
    bool held = sw->how.hold_head;
    float *z;
    int32_t targets[SW_TILE];
    SW_TAKE(ST_LOGITS, z, size * (held && n_head > 2 ? 2 : n_head));
    for (int64_t i = 0; i < n; i++) targets[i] = sw->plan->targets[rows[i]];
    for (int64_t t = 0; t < all->n_tile && !held; t++) {
        DSB_TRY(load_tile(sw, all, t, err));
        for (int i = 0; i < n_head; i++) DSB_TRY(project(sw, all, i, t, rows, n, z + i * size, err));
        release_tile(sw, all, t);
    }
    for (int i = 0; i < n_head; i++) {
        float *own = z + size * (held && i > 1 ? 1 : i);
        for (int64_t t = 0; t < all->n_tile && held; t++) DSB_TRY(project(sw, all, i, t, rows, n, own, err));
        DSB_TRY(tell(sw, i, z, own, targets, first, n, figures, err));
    }
    return DSB_OK;
}

static dsb_status run_positions(sweep *sw, heads *all, int32_t *rows, dsb_logit_row *figures, dsb_err *err) {
    int64_t n = 0, first = 0;
    for (int64_t t = 0; t < all->n_tile && sw->how.hold_head; t++) DSB_TRY(load_tile(sw, all, t, err));
    for (int64_t t = 0; t < sw->n_tok; t++) {
        if (sw->plan->targets[t] >= 0) rows[n++] = (int32_t)t;
        if (n < sw->how.head_rows && t + 1 < sw->n_tok) continue;
        if (n > 0) DSB_TRY(positions(sw, all, rows, first, n, figures, err));
        sw_progress(sw, 0.5 * (double)n / (double)sw->n_tok, "vocabulary projection");
        first += n;
        n = 0;
    }
    return DSB_OK;
}

dsb_status sw_head(sweep *sw, dsb_err *err) {
    heads all = {0};
    int32_t *rows = NULL;
    dsb_logit_row *figures = NULL;
    dsb_status s = heads_open(sw, &all, err);
    for (int i = -1; i < sw->plan->n_scheme && !s; i++) s = sw_calib_see_stream(sw, i < 0 ? &sw->calib : &sw->schemes[i].own, i, &all.spec, all.h[i >= 0 && sw_rotation(sw, i) ? 0 : i + 1].norm, err);
    if (!s) s = DSB_NEW(rows, sw->how.head_rows, "logit figures", err);
    if (!s) s = DSB_NEW(figures, sw->how.head_rows, "logit figures", err);
    if (!s) s = run_positions(sw, &all, rows, figures, err);
    heads_close(sw, &all);
    free(rows);
    free(figures);
    return s;
}
