/* How packed weights lie in memory, on every CPU backend.
 * Floats: panels of 16 outputs, [panel][k][16], zero where outputs or inputs end. I8: panels of 8 outputs,
 * [panel][k/4][8][4], each group padded to a multiple of 4 inputs. I4: the same 32-byte cells as nibbles: byte i holds
 * code i (low) and code i+16 (high), offset by 8. Scales: [panel][group][8]. */
#ifndef DSB_KERNELS_LAYOUT_H
#define DSB_KERNELS_LAYOUT_H

#include "kernels/backend.h"

enum { DSB_NR = 16, DSB_NI = 8 };

static inline int64_t dsb_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* 4-input cells of one group of `len` inputs. */
static inline int64_t dsb_cells(int64_t len) { return dsb_ceil_div(len, 4); }
/* Cells of a whole row of cols inputs in groups. */
static inline int64_t dsb_row_cells(int64_t cols, int64_t group) { return cols / group * dsb_cells(group) + dsb_cells(cols % group); }

dsb_status dsb_pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err);
dsb_status dsb_pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err);
void dsb_unpack(dsb_wmat *w);

/* Memory rows of every CPU backend. */
dsb_status dsb_cpu_alloc(void **out, size_t bytes, const char *what, dsb_err *err);
void dsb_cpu_release(void *p);
void dsb_cpu_copy(void *dst, const void *src, size_t bytes);
void dsb_cpu_zero(void *dst, size_t bytes);
void dsb_cpu_sync(void);

extern const dsb_backend dsb_backend_ref, dsb_backend_avx2;

#endif
