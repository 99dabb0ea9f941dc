/* How packed weights lie in memory, on every CPU backend: panels of 16 outputs, zero where outputs or inputs end.
 * F32 and F16: [panel][k][16]. BF16: [panel][k / 2][16] pairs of 32 bits, the even input in the high half, the odd one in the low half, since
 * hardware that multiplies pairs adds the high half's product first. Codes: cells of 64 bytes, [panel][cell][16][4], each group padded to whole cells. An I8 cell is 4 inputs;
 * an I4 cell is 8, the first 4 in the low nibbles, the next 4 in the high ones, offset by 8. Scales: [panel][group][16].
 * Blocks: [four panels][block of a row][panel of the four][word or field of a block][16][its bytes]: four panels together are one stream. */
#ifndef DSB_KERNELS_LAYOUT_H
#define DSB_KERNELS_LAYOUT_H

#include "kernels/backend.h"

enum { DSB_NR = 16, DSB_CELL = 64 };
/* Bytes ahead of their use that weights are asked for where they stream from memory: two pages, since what the machine fetches by itself ends
 * with a page (int4, one row, a core of an AMD EPYC of family 26: 33 GB/s without, 28 at 1 KB, 38 at one page, 45 at two, 39 at four). */
enum { DSB_AHEAD = 8192 };

static inline int64_t dsb_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* Inputs of a panel of floats, and where input k of its output j stands. */
static inline int64_t dsb_float_inputs(dsb_wkind kind, int64_t cols) { return kind == DSB_W_BF16 ? (cols + 1) / 2 * 2 : cols; }
static inline int64_t dsb_float_at(dsb_wkind kind, int64_t cols, int64_t panel, int64_t k, int64_t j) {
    int64_t first = panel * dsb_float_inputs(kind, cols) * DSB_NR;
    return first + (kind == DSB_W_BF16 ? (k / 2 * DSB_NR + j) * 2 + 1 - k % 2 : k * DSB_NR + j);
}

static inline int64_t dsb_cell_inputs(dsb_wkind kind) { return kind == DSB_W_I4 ? 8 : 4; }
/* Cells of one group of `len` inputs. */
static inline int64_t dsb_cells(dsb_wkind kind, int64_t len) { return dsb_ceil_div(len, dsb_cell_inputs(kind)); }
/* Cells of a whole row of cols inputs in groups. */
static inline int64_t dsb_row_cells(dsb_wkind kind, int64_t cols, int64_t group) { return cols / group * dsb_cells(kind, group) + dsb_cells(kind, cols % group); }

/* Where byte i of a block of output j lies in its panel's block. */
static inline int64_t dsb_packed_at(dsb_packed_type type, int64_t i, int64_t j) {
    const dsb_packed_field *f;
    int64_t begin = 0; /* of the words that byte i is one of */
    for (int n = dsb_packed_fields(type, &f); n > 0 && i >= f->at; n--, f++) {
        if (i < f->at + f->width) return f->at * DSB_NR + j * f->width + i - f->at;
        begin = f->at + f->width;
    }
    return (i - (i - begin) % 4) * DSB_NR + j * 4 + (i - begin) % 4;
}

/* Of four panels, the last of which may not be there, blocks of the same inputs follow one another: how many with panel p, and where the block that
 * begins with input k of panel p stands. */
enum { DSB_ABREAST = 4 };
static inline int64_t dsb_abreast(int64_t rows, int64_t p) {
    int64_t left = dsb_ceil_div(rows, DSB_NR) - p / DSB_ABREAST * DSB_ABREAST;
    return left < DSB_ABREAST ? left : DSB_ABREAST;
}
static inline int64_t dsb_block_at(const dsb_packed *f, int64_t rows, int64_t cols, int64_t p, int64_t k) {
    int64_t before = p / DSB_ABREAST * DSB_ABREAST * dsb_packed_row_bytes(f, cols) + k / f->n * dsb_packed_bytes(f, f->n) * dsb_abreast(rows, p);
    return (before + p % DSB_ABREAST * dsb_packed_bytes(f, cols - k < f->n ? cols - k : f->n)) * DSB_NR;
}

dsb_status dsb_pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err);
dsb_status dsb_pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err);
dsb_status dsb_pack_blocks(dsb_wmat *out, const dsb_packed *how, const uint8_t *blocks, int64_t rows, int64_t cols, dsb_err *err);
void dsb_unpack(dsb_wmat *w);

/* Memory rows of every CPU backend. */
dsb_status dsb_cpu_alloc(void **out, size_t bytes, const char *what, dsb_err *err);
void dsb_cpu_release(void *p);
void dsb_cpu_copy(void *dst, const void *src, size_t bytes);
void dsb_cpu_zero(void *dst, size_t bytes);
void dsb_cpu_sync(void);
dsb_status dsb_cpu_check(dsb_err *err);

extern const dsb_backend dsb_backend_ref, dsb_backend_avx2, dsb_backend_avx512, dsb_backend_amx, dsb_backend_neon;

#endif
