/* Streams of rows that the sweep keeps between its visits to weights, in memory or in the temporary file: load, store, gather,
 * scatter. Rows of the file pass through host memory; what is computed with them is the same. */
#include <string.h>

#include "engine/sweep_internal.h"

static int64_t row_bytes(const sweep *sw, const sw_stream *s) { return sw->m->config.d_model * (s->bf16 ? 2 : 4); }

dsb_status sw_stream_alloc(sweep *sw, sw_stream *s, bool bf16, int64_t n, dsb_err *err) {
    *s = (sw_stream){.bf16 = bf16, .n = n, .place = sw->spill_end};
    if (n == 0) return DSB_OK;
    if (!sw->how.spill) return sw->be->alloc(&s->rows, (size_t)(n * row_bytes(sw, s)), "hidden states", err);
    sw->spill_end += n * row_bytes(sw, s);
    return DSB_OK;
}

void sw_stream_release(sweep *sw, sw_stream *s) {
    if (s->rows) sw->be->release(s->rows);
    *s = (sw_stream){0};
}

static void *place(const sweep *sw, const sw_stream *s, int64_t at) { return (char *)s->rows + at * row_bytes(sw, s); }

/* Host memory for n rows. */
static dsb_status staging(sweep *sw, const sw_stream *s, int64_t n, void **out, dsb_err *err) { return dsb_workspace_take(&sw->host, 0, (size_t)(n * row_bytes(sw, s)), out, err); }
static dsb_status read_rows(sweep *sw, const sw_stream *s, int64_t at, int64_t n, void *dst, dsb_err *err) { return dsb_spill_read(&sw->spill, s->place + at * row_bytes(sw, s), dst, (size_t)(n * row_bytes(sw, s)), err); }
static dsb_status write_rows(sweep *sw, const sw_stream *s, int64_t at, int64_t n, const void *src, dsb_err *err) { return dsb_spill_write(&sw->spill, s->place + at * row_bytes(sw, s), src, (size_t)(n * row_bytes(sw, s)), err); }

/* Runs of neighbours among rows[i] - base, read or written in one go. */
static dsb_status each_run(sweep *sw, const sw_stream *s, const int32_t *rows, int64_t base, int64_t n, char *host, bool write, dsb_err *err) {
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && rows[end] == rows[end - 1] + 1;) end++;
        char *at = host + i * row_bytes(sw, s);
        DSB_TRY(write ? write_rows(sw, s, rows[i] - base, end - i, at, err) : read_rows(sw, s, rows[i] - base, end - i, at, err));
    }
    return DSB_OK;
}

/* n rows in host memory, as stored -> f32 rows. */
static dsb_status upload(sweep *sw, const sw_stream *s, const void *host, int64_t n, float *dst, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *raw;
    if (!s->bf16) {
        sw->be->upload(dst, host, (size_t)(n * d) * sizeof *dst);
        return DSB_OK;
    }
    SW_TAKE(ST_RAW, raw, (n * d + 1) / 2);
    sw->be->upload(raw, host, (size_t)(n * d) * 2);
    sw->be->load_bf16((const uint16_t *)raw, n * d, dst);
    return DSB_OK;
}

dsb_status sw_load(sweep *sw, const sw_stream *s, int64_t at, int64_t n, float *dst, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    void *host;
    if (n == 0) return DSB_OK;
    if (s->rows && s->bf16) sw->be->load_bf16(place(sw, s, at), n * d, dst);
    if (s->rows && !s->bf16) sw->be->copy(dst, place(sw, s, at), (size_t)(n * d) * sizeof *dst);
    if (s->rows) return DSB_OK;
    DSB_TRY(staging(sw, s, n, &host, err));
    DSB_TRY(read_rows(sw, s, at, n, host, err));
    return upload(sw, s, host, n, dst, err);
}

dsb_status sw_store(sweep *sw, sw_stream *s, int64_t at, int64_t n, const float *src, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *raw;
    void *host;
    if (n == 0) return DSB_OK;
    if (s->rows && s->bf16) sw->be->store_bf16(src, n * d, place(sw, s, at));
    if (s->rows && !s->bf16) sw->be->copy(place(sw, s, at), src, (size_t)(n * d) * sizeof *src);
    if (s->rows) return DSB_OK;
    DSB_TRY(staging(sw, s, n, &host, err));
    if (s->bf16) {
        SW_TAKE(ST_RAW, raw, (n * d + 1) / 2);
        sw->be->store_bf16(src, n * d, (uint16_t *)raw);
        src = raw;
    }
    sw->be->sync();
    sw->be->download(host, src, (size_t)(n * row_bytes(sw, s)));
    return write_rows(sw, s, at, n, host, err);
}

dsb_status sw_zero(sweep *sw, sw_stream *s, int64_t n, dsb_err *err) {
    void *host;
    if (n > 0 && s->rows) sw->be->zero(s->rows, (size_t)(n * row_bytes(sw, s)));
    for (int64_t at = 0; at < n && !s->rows; at += sw->rows) {
        int64_t rows = n - at < sw->rows ? n - at : sw->rows;
        DSB_TRY(staging(sw, s, rows, &host, err));
        memset(host, 0, (size_t)(rows * row_bytes(sw, s)));
        DSB_TRY(write_rows(sw, s, at, rows, host, err));
    }
    return DSB_OK;
}

dsb_status sw_view(sweep *sw, const sw_stream *s, int64_t at, int64_t n, int slot, float **out, dsb_err *err) {
    *out = s->rows ? place(sw, s, at) : NULL;
    if (s->rows) return DSB_OK;
    SW_TAKE(slot, *out, n * sw->m->config.d_model);
    return sw_load(sw, s, at, n, *out, err);
}

dsb_status sw_keep(sweep *sw, sw_stream *s, int64_t at, int64_t n, const float *view, dsb_err *err) { return s->rows ? DSB_OK : sw_store(sw, s, at, n, view, err); }

dsb_status sw_gather(sweep *sw, const sw_stream *s, const int32_t *rows, int64_t n, float *dst, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    int32_t *idx;
    void *host;
    float *raw;
    if (!s->rows) {
        DSB_TRY(staging(sw, s, n, &host, err));
        DSB_TRY(each_run(sw, s, rows, 0, n, host, false, err));
        return upload(sw, s, host, n, dst, err);
    }
    SW_TAKE(ST_IDX, idx, SW_TILE);
    sw->be->upload(idx, rows, (size_t)n * sizeof *rows);
    if (!s->bf16) {
        sw->be->gather(s->rows, idx, n, d, dst);
        return DSB_OK;
    }
    SW_TAKE(ST_RAW, raw, n * d / 2); /* pairs of bf16 move as 4-byte words: d_model is even */
    sw->be->gather(s->rows, idx, n, d / 2, raw);
    sw->be->load_bf16((const uint16_t *)raw, n * d, dst);
    return DSB_OK;
}

dsb_status sw_scatter_add(sweep *sw, sw_stream *s, const int32_t *rows, int64_t base, const float *weight, const float *x, int64_t n, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    int32_t to[SW_TILE], *idx;
    float *w, *sums = s->rows;
    void *host = NULL;
    SW_TAKE(ST_IDX, idx, SW_TILE);
    SW_TAKE(ST_WEIGHT, w, SW_TILE);
    if (!s->rows) {
        SW_TAKE(ST_SUMS, sums, n * d);
        DSB_TRY(staging(sw, s, n, &host, err));
        DSB_TRY(each_run(sw, s, rows, base, n, host, false, err));
        sw->be->upload(sums, host, (size_t)(n * d) * sizeof *sums);
    }
    for (int64_t i = 0; i < n; i++) to[i] = s->rows ? (int32_t)(rows[i] - base) : (int32_t)i;
    sw->be->upload(idx, to, (size_t)n * sizeof *to);
    sw->be->upload(w, weight, (size_t)n * sizeof *w);
    sw->be->scatter_add(sums, idx, w, x, n, d);
    if (s->rows) return DSB_OK;
    sw->be->sync();
    sw->be->download(host, sums, (size_t)(n * d) * sizeof *sums);
    return each_run(sw, s, rows, base, n, host, true, err);
}
