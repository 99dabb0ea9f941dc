/* A quantized tensor as rows of blocks (base/packed.h): the same numbers as dsb_dequantize gives, in the order kernels stream them. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "quantizers/codec.h"

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

static bool type_of(const dsb_qtensor *q, dsb_packed *out) {
    const dsb_format *f = q->format;
    *out = (dsb_packed){.n = f->block};
    if (f->ggml) {
        if (!dsb_packed_of_ggml(f->ggml, &out->type)) return false;
    } else if (f->codec == &dsb_codec_mxfp4) {
        out->type = DSB_PACKED_mxfp4;
    } else if (f->codec == &dsb_codec_mxfp8) {
        out->type = DSB_PACKED_mxfp8;
    } else if (f->codec == &dsb_codec_nvfp4) {
        out->type = DSB_PACKED_nvfp4;
        out->global = q->global;
    } else if (f->codec == &dsb_codec_fp8) {
        out->type = f->element == DSB_FP8_E5M2 ? DSB_PACKED_fp8_e5m2 : DSB_PACKED_fp8_e4m3;
        out->n = q->asked > 0 && q->asked < q->cols ? q->asked : q->cols;
    } else if (f->codec == &dsb_codec_nf4) { /* its groups may run across rows */
        out->type = DSB_PACKED_nf4;
        out->n = q->asked > 0 ? common_divisor(q->asked, q->cols) : q->cols;
    } else if (q->codes) {
        out->type = f->qmax <= 7 ? DSB_PACKED_w4a16 : DSB_PACKED_w8a16;
        out->n = q->group;
    } else {
        return false;
    }
    return q->rows > 0 && q->cols > 0 && dsb_packed_row_bytes(out, q->cols) < q->cols * (int64_t)sizeof(float);
}

double dsb_format_packed_bytes(const dsb_format *f, int64_t group) {
    int8_t some = 0;
    int64_t cols = f->block ? f->block : group > 64 ? group : 64; /* shorter rows have relatively larger scales: rare */
    dsb_qtensor q = {.format = f, .rows = 1, .cols = cols, .group = group > 0 ? group : cols, .asked = group, .codes = f->qmax ? &some : NULL};
    dsb_packed how;
    return type_of(&q, &how) ? 1.1 * (double)dsb_packed_row_bytes(&how, cols) / (double)cols : sizeof(float);
}

static void put_nibble(uint8_t *codes, int64_t i, int code) { codes[i / 2] |= (uint8_t)((code & 15) << i % 2 * 4); }

/* Inputs c .. c + n of row r: a block that is all 0 yet. */
static void put_block(const dsb_qtensor *q, const dsb_packed *p, int64_t r, int64_t c, int64_t n, uint8_t *b) {
    uint8_t *codes = b + dsb_packed_header(p->type);
    int64_t at = r * q->cols + c, group = r * q->n_group + c / p->n;
    switch (p->type) {
    case DSB_PACKED_mxfp4:
    case DSB_PACKED_mxfp8:
    case DSB_PACKED_nvfp4: {
        int64_t bytes = dsb_packed_bytes(p, n) - 1;
        b[0] = q->scale_codes[r * q->scale_cols + c / p->n];
        memcpy(b + 1, q->raw + r * q->raw_cols + c / p->n * bytes, (size_t)bytes);
        return;
    }
    case DSB_PACKED_fp8_e4m3:
    case DSB_PACKED_fp8_e5m2: {
        int64_t block_rows = q->asked > 0 ? q->asked : q->asked == DSB_GROUP_TENSOR ? q->rows : 1;
        memcpy(b, &q->scales[r / block_rows * q->scale_cols + c / p->n], sizeof *q->scales);
        memcpy(codes, q->raw + at, (size_t)n);
        return;
    }
    case DSB_PACKED_nf4:
        memcpy(b, &q->scales[q->asked == DSB_GROUP_TENSOR ? 0 : at / (q->asked > 0 ? q->asked : q->cols)], sizeof *q->scales);
        for (int64_t i = 0; i < n; i++) put_nibble(codes, i, q->raw[(at + i) / 2] >> ((at + i) % 2 ? 0 : 4)); /* there the first is the high one */
        return;
    default:
        memcpy(b, &q->scales[group], sizeof *q->scales);
        if (q->affine) memcpy(b + sizeof *q->scales, &q->zeros[group], sizeof *q->zeros);
        if (p->type == DSB_PACKED_w8a16) memcpy(codes, q->codes + at, (size_t)n);
        else
            for (int64_t i = 0; i < n; i++) put_nibble(codes, i, q->codes[at + i] + 8);
    }
}

dsb_status dsb_qtensor_blocks(const dsb_qtensor *q, dsb_packed *how, const uint8_t **blocks, uint8_t **owned, dsb_err *err) {
    *blocks = *owned = NULL;
    if (!type_of(q, how)) return DSB_OK;
    if (q->format->ggml) {
        *blocks = q->raw;
        return DSB_OK;
    }
    int64_t row = dsb_packed_row_bytes(how, q->cols), whole = dsb_packed_bytes(how, how->n);
    DSB_TRY(DSB_NEW(*owned, q->rows * row, "packed weights", err));
    *blocks = *owned;
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++)
        for (int64_t c = 0; c < q->cols; c += how->n) put_block(q, how, r, c, q->cols - c < how->n ? q->cols - c : how->n, *owned + r * row + c / how->n * whole);
    return DSB_OK;
}
