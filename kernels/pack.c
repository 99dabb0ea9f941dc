/* Packing of weights into panels, and the memory rows: shared by all CPU backends. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/layout.h"

dsb_status dsb_cpu_alloc(void **out, size_t bytes, const char *what, dsb_err *err) { return dsb_calloc(out, bytes, 1, what, err); }
void dsb_cpu_release(void *p) { free(p); }
void dsb_cpu_copy(void *dst, const void *src, size_t bytes) { memmove(dst, src, bytes); }
void dsb_cpu_zero(void *dst, size_t bytes) { memset(dst, 0, bytes); }
void dsb_cpu_sync(void) {}
dsb_status dsb_cpu_check(dsb_err *err) { return DSB_OK; }

dsb_status dsb_pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    size_t size = kind == DSB_W_F32 ? 4 : 2;
    int64_t panels = dsb_ceil_div(rows, DSB_NR);
    int32_t least = 256;
    bool finite = true;
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = cols};
    DSB_TRY(dsb_calloc(&out->data, (size_t)(panels * dsb_float_inputs(kind, cols) * DSB_NR), size, "packed weights", err));
    out->bytes = (size_t)(rows * cols) * size;
#pragma omp parallel for schedule(static) reduction(min : least) reduction(&& : finite) if (rows * cols > 1 << 15)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t j = 0; j < DSB_NR && p * DSB_NR + j < rows; j++)
            for (int64_t k = 0; k < cols; k++) {
                float v = w[(p * DSB_NR + j) * cols + k];
                int64_t at = dsb_float_at(kind, cols, p, k, j);
                if (kind == DSB_W_F32) ((float *)out->data)[at] = v;
                if (kind == DSB_W_F16) ((uint16_t *)out->data)[at] = dsb_f32_to_f16(v);
                if (kind != DSB_W_BF16) continue;
                uint16_t h = dsb_f32_to_bf16(v);
                int32_t exponent = h >> 7 & 255;
                ((uint16_t *)out->data)[at] = h;
                finite = finite && exponent != 255;
                if (h << 1 & 0xffff && exponent < least) least = exponent;
            }
    out->least = finite ? least : -1;
    return DSB_OK;
}

/* n codes of one row and group into their cells; lane: the row's place in its panel. */
static void put_codes(uint8_t *cell, dsb_wkind kind, int64_t lane, const int8_t *codes, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        if (kind == DSB_W_I8) {
            cell[k / 4 * DSB_CELL + lane * 4 + k % 4] = (uint8_t)codes[k];
        } else {
            uint8_t *b = cell + k / 8 * DSB_CELL + lane * 4 + k % 4;
            int shift = k % 8 < 4 ? 0 : 4;
            *b = (uint8_t)((*b & ~(15 << shift)) | ((codes[k] + 8) & 15) << shift);
        }
    }
}

dsb_status dsb_pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err) {
    int64_t panels = dsb_ceil_div(rows, DSB_NR), cells = dsb_row_cells(kind, cols, group), groups = dsb_ceil_div(cols, group);
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = group};
    DSB_TRY(dsb_calloc(&out->data, (size_t)(panels * cells), DSB_CELL, "packed codes", err));
    dsb_status s = DSB_NEW(out->scales, panels * groups * DSB_NR, "packed scales", err);
    if (s) {
        free(out->data);
        out->data = NULL;
        return s;
    }
    if (kind == DSB_W_I4) memset(out->data, 0x88, (size_t)(panels * cells * DSB_CELL)); /* code 0 */
    out->bytes = (size_t)(rows * cols) * (kind == DSB_W_I8 ? 2 : 1) / 2 + (size_t)(rows * groups) * 4;
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t j = 0; j < DSB_NR && p * DSB_NR + j < rows; j++) {
            int64_t r = p * DSB_NR + j;
            for (int64_t g = 0; g < groups; g++) {
                out->scales[(p * groups + g) * DSB_NR + j] = scales[r * groups + g];
                put_codes((uint8_t *)out->data + (p * cells + g * dsb_cells(kind, group)) * DSB_CELL, kind, j, codes + r * cols + g * group, cols - g * group < group ? cols - g * group : group);
            }
        }
    return DSB_OK;
}

dsb_status dsb_pack_blocks(dsb_wmat *out, const dsb_packed *how, const uint8_t *blocks, int64_t rows, int64_t cols, dsb_err *err) {
    int64_t row = dsb_packed_row_bytes(how, cols), whole = dsb_packed_bytes(how, how->n), panels = dsb_ceil_div(rows, DSB_NR);
    *out = (dsb_wmat){.kind = DSB_W_BLOCK, .rows = rows, .cols = cols, .group = how->n, .packed = *how, .bytes = (size_t)(rows * row)};
    DSB_TRY(dsb_calloc(&out->data, (size_t)(panels * DSB_NR), (size_t)row, "packed weights", err));
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t p = 0; p < panels; p++) {
        int64_t width = rows - p * DSB_NR < DSB_NR ? rows - p * DSB_NR : DSB_NR;
        for (int64_t at = 0; at < row; at += whole) {
            uint8_t *to = (uint8_t *)out->data + dsb_block_at(how, rows, cols, p, at / whole * how->n);
            const uint8_t *from = blocks + p * DSB_NR * row + at;
            for (int64_t i = 0; i < whole && at + i < row; i++)
                for (int64_t j = 0; j < width; j++) to[dsb_packed_at(how->type, i, j)] = from[j * row + i];
        }
    }
    return DSB_OK;
}

void dsb_unpack(dsb_wmat *w) {
    free(w->data);
    free(w->scales);
    *w = (dsb_wmat){0};
}
