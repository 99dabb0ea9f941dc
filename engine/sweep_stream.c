/* Streams of rows that the sweep keeps between its visits to weights: load, store, gather, scatter. */
#include "engine/sweep_internal.h"

dsb_status sw_stream_alloc(sweep *sw, sw_stream *s, bool bf16, int64_t n, dsb_err *err) {
    *s = (sw_stream){.bf16 = bf16, .n = n};
    return n > 0 ? sw->be->alloc(&s->rows, (size_t)(n * sw->m->config.d_model) * (bf16 ? 2 : 4), "hidden states", err) : DSB_OK;
}

void sw_stream_release(sweep *sw, sw_stream *s) {
    if (s->rows) sw->be->release(s->rows);
    *s = (sw_stream){0};
}

float *sw_rows(const sweep *sw, const sw_stream *s, int64_t at) { return (float *)s->rows + at * sw->m->config.d_model; }

void sw_load(const sweep *sw, const sw_stream *s, int64_t at, int64_t n, float *dst) {
    int64_t d = sw->m->config.d_model;
    if (s->bf16) {
        sw->be->load_bf16((const uint16_t *)s->rows + at * d, n * d, dst);
    } else {
        sw->be->copy(dst, sw_rows(sw, s, at), (size_t)(n * d) * sizeof *dst);
    }
}

void sw_store(const sweep *sw, sw_stream *s, int64_t at, int64_t n, const float *src) {
    int64_t d = sw->m->config.d_model;
    if (s->bf16) {
        sw->be->store_bf16(src, n * d, (uint16_t *)s->rows + at * d);
    } else {
        sw->be->copy(sw_rows(sw, s, at), src, (size_t)(n * d) * sizeof *src);
    }
}

void sw_zero(const sweep *sw, sw_stream *s, int64_t n) {
    if (n > 0) sw->be->zero(s->rows, (size_t)(n * sw->m->config.d_model) * sizeof(float));
}

dsb_status sw_gather(sweep *sw, const sw_stream *s, const int32_t *rows, int64_t n, float *dst, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    int32_t *idx;
    SW_TAKE(ST_IDX, idx, SW_TILE);
    sw->be->upload(idx, rows, (size_t)n * sizeof *rows);
    if (!s->bf16) {
        sw->be->gather(s->rows, idx, n, d, dst);
        return DSB_OK;
    }
    float *raw; /* pairs of bf16 move as 4-byte words: d_model is even */
    SW_TAKE(ST_RAW, raw, SW_TILE * d / 2);
    sw->be->gather(s->rows, idx, n, d / 2, raw);
    sw->be->load_bf16((const uint16_t *)raw, n * d, dst);
    return DSB_OK;
}

dsb_status sw_scatter_add(sweep *sw, sw_stream *s, const int32_t *rows, int64_t base, const float *weight, const float *x, int64_t n, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    int32_t to[SW_TILE], *idx;
    float *w;
    SW_TAKE(ST_IDX, idx, SW_TILE);
    SW_TAKE(ST_WEIGHT, w, SW_TILE);
    for (int64_t i = 0; i < n; i++) to[i] = (int32_t)(rows[i] - base);
    sw->be->upload(idx, to, (size_t)n * sizeof *to);
    sw->be->upload(w, weight, (size_t)n * sizeof *w);
    sw->be->scatter_add(s->rows, idx, w, x, n, d);
    return DSB_OK;
}
