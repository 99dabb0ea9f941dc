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
    enum { PART = 128 }; /* inputs of 16 rows, whose places stay in the first-level cache */
    size_t size = kind == DSB_W_F32 ? 4 : 2;
    int64_t panels = dsb_ceil_div(rows, DSB_NR);
    int32_t least = 256;
    bool finite = true;
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = cols};
    DSB_TRY(dsb_calloc(&out->data, (size_t)(panels * dsb_float_inputs(kind, cols) * DSB_NR), size, "packed weights", err));
    out->bytes = (size_t)(rows * cols) * size;
#pragma omp parallel for schedule(static) reduction(min : least) reduction(&& : finite) if (rows * cols > 1 << 15)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t first = 0; first < cols; first += PART) {
            int64_t width = rows - p * DSB_NR < DSB_NR ? rows - p * DSB_NR : DSB_NR, end = first + PART < cols ? first + PART : cols;
            for (int64_t j = 0; j < width; j++) {
                const float *row = w + (p * DSB_NR + j) * cols;
                for (int64_t k = first; kind == DSB_W_F32 && k < end; k++) ((float *)out->data)[dsb_float_at(DSB_W_F32, cols, p, k, j)] = row[k];
                for (int64_t k = first; kind == DSB_W_F16 && k < end; k++) ((uint16_t *)out->data)[dsb_float_at(DSB_W_F16, cols, p, k, j)] = dsb_f32_to_f16(row[k]);
                for (int64_t k = first; kind == DSB_W_BF16 && k < end; k++) {
                    uint16_t h = dsb_f32_to_bf16(row[k]);
                    int32_t exponent = h >> 7 & 255, counted = h & 0x7fff ? exponent : 256;
                    ((uint16_t *)out->data)[dsb_float_at(DSB_W_BF16, cols, p, k, j)] = h;
                    finite = finite & (exponent != 255);
                    least = counted < least ? counted : least;
                }
            }
        }
    out->least = finite ? least : -1;
    return DSB_OK;
}

static inline void put_word(uint8_t *cell, dsb_wkind kind, const int8_t *c) {
    uint8_t word[4];
    for (int i = 0; i < 4; i++) word[i] = (uint8_t)(kind == DSB_W_I8 ? c[i] : ((c[i] + 8) & 15) | ((c[4 + i] + 8) & 15) << 4);
    memcpy(cell, word, sizeof word);
}

/* n codes of one row and group into their cells; lane: the row's place in its panel. What a cell has room for beyond them is code 0. */
static inline __attribute__((always_inline)) void put_codes(uint8_t *cell, dsb_wkind kind, int64_t lane, const int8_t *codes, int64_t n) {
    int64_t inputs = dsb_cell_inputs(kind);
    int8_t some[8] = {0};
    for (cell += 4 * lane; n >= inputs; n -= inputs, codes += inputs, cell += DSB_CELL) put_word(cell, kind, codes);
    if (n <= 0) return;
    memcpy(some, codes, (size_t)n);
    put_word(cell, kind, some);
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
                uint8_t *cell = (uint8_t *)out->data + (p * cells + g * dsb_cells(kind, group)) * DSB_CELL;
                const int8_t *from = codes + r * cols + g * group;
                int64_t n = cols - g * group < group ? cols - g * group : group;
                if (kind == DSB_W_I8) put_codes(cell, DSB_W_I8, j, from, n);
                else put_codes(cell, DSB_W_I4, j, from, n);
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
            for (int64_t i = 0; i < whole && at + i < row; i++) {
                int64_t first = dsb_packed_at(how->type, i, 0), step = dsb_packed_at(how->type, i, 1) - first; /* outputs stand at equal distances */
                for (int64_t j = 0; j < width; j++) to[first + j * step] = from[j * row + i];
            }
        }
    }
    return DSB_OK;
}

void dsb_unpack(dsb_wmat *w) {
    free(w->data);
    free(w->scales);
    *w = (dsb_wmat){0};
}
