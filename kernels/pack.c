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

dsb_status dsb_pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    size_t size = kind == DSB_W_F32 ? 4 : 2;
    int64_t panels = dsb_ceil_div(rows, DSB_NR);
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = cols};
    DSB_TRY(dsb_calloc(&out->data, (size_t)(panels * cols * DSB_NR), size, "packed weights", err));
    out->bytes = (size_t)(rows * cols) * size;
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t j = 0; j < DSB_NR && p * DSB_NR + j < rows; j++)
            for (int64_t k = 0; k < cols; k++) {
                float v = w[(p * DSB_NR + j) * cols + k];
                int64_t at = (p * cols + k) * DSB_NR + j;
                if (kind == DSB_W_F32) ((float *)out->data)[at] = v;
                if (kind == DSB_W_BF16) ((uint16_t *)out->data)[at] = dsb_f32_to_bf16(v);
                if (kind == DSB_W_F16) ((uint16_t *)out->data)[at] = dsb_f32_to_f16(v);
            }
    return DSB_OK;
}

/* n codes of one row and group into their cells, 4 inputs each, from cell `at` on; lane: the row's place in its panel. */
static void put_codes(uint8_t *data, dsb_wkind kind, int64_t at, int64_t lane, const int8_t *codes, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        int64_t cell = at + k / 4, place = lane * 4 + k % 4;
        if (kind == DSB_W_I8) {
            data[cell * 32 + place] = (uint8_t)codes[k];
        } else {
            uint8_t *b = data + cell * 16 + place % 16;
            int shift = place < 16 ? 0 : 4;
            *b = (uint8_t)((*b & ~(15 << shift)) | ((codes[k] + 8) & 15) << shift);
        }
    }
}

dsb_status dsb_pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err) {
    int64_t panels = dsb_ceil_div(rows, DSB_NI), row_cells = dsb_row_cells(cols, group), groups = dsb_ceil_div(cols, group), cell_bytes = kind == DSB_W_I8 ? 32 : 16;
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = group};
    DSB_TRY(dsb_calloc(&out->data, (size_t)(panels * row_cells), (size_t)cell_bytes, "packed codes", err));
    dsb_status s = DSB_NEW(out->scales, panels * groups * DSB_NI, "packed scales", err);
    if (s) {
        free(out->data);
        out->data = NULL;
        return s;
    }
    if (kind == DSB_W_I4) memset(out->data, 0x88, (size_t)(panels * row_cells * cell_bytes)); /* code 0 */
    out->bytes = (size_t)(rows * cols) * (kind == DSB_W_I8 ? 2 : 1) / 2 + (size_t)(rows * groups) * 4;
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t j = 0; j < DSB_NI && p * DSB_NI + j < rows; j++) {
            int64_t r = p * DSB_NI + j;
            for (int64_t g = 0; g < groups; g++) out->scales[(p * groups + g) * DSB_NI + j] = scales[r * groups + g];
            for (int64_t g = 0; g < groups; g++) put_codes(out->data, kind, p * row_cells + g * dsb_cells(group), j, codes + r * cols + g * group, cols - g * group < group ? cols - g * group : group);
        }
    return DSB_OK;
}

void dsb_unpack(dsb_wmat *w) {
    free(w->data);
    free(w->scales);
    *w = (dsb_wmat){0};
}
