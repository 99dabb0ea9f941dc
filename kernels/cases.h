/* What each row of the backend table is fed, how it is called, what it writes. One table: tests compare every instruction set with the
 * reference over its cases, a benchmark times the same calls. Memory is the caller's, of the device but where a buffer says it is the host's. */
#ifndef DSB_KERNELS_CASES_H
#define DSB_KERNELS_CASES_H

#include "kernels/backend.h"

typedef struct dsb_case_shape {
    int64_t n, rows, cols; /* rows of activations; outputs of a product; inputs */
    int64_t group;         /* inputs a scale of an integer product; 0: cols */
} dsb_case_shape;

typedef enum dsb_case_data {
    DSB_DATA_NONE,
    DSB_DATA_F32,  /* any finite value: zeros of both signs, subnormal, tiny and large ones among ordinary ones */
    DSB_DATA_MILD, /* f32 within ±2 */
    DSB_DATA_I8,   /* codes within ±127 */
    DSB_DATA_I4,   /* codes within ±7, a byte each */
    DSB_DATA_BF16,
    DSB_DATA_ROW, /* int32: the numbers 0 .. n-1 downwards, or of columns */
    DSB_DATA_COL,
    DSB_DATA_F64,
    DSB_DATA_U64,
    DSB_DATA_MOMENTS,
    DSB_DATA_LOGITS,
} dsb_case_data;

/* A buffer's length is the product of those of its extents. */
enum {
    DSB_EXT_N = 1,
    DSB_EXT_ROWS = 2,
    DSB_EXT_COLS = 4,
    DSB_EXT_COLS_AGAIN = 8,
    DSB_EXT_HALF = 16,   /* cols / 2 */
    DSB_EXT_REST = 32,   /* cols - cols / 2 */
    DSB_EXT_GROUPS = 64, /* ceil(cols / group) */
    DSB_EXT_KEPT = 128,  /* experts a token, of cols */
    DSB_EXT_TWO = 256,
    DSB_EXT_BINS = 512,
    DSB_EXT_HOST = 1024, /* no length: the buffer is the host's under every backend */
};
typedef struct dsb_case_buffer {
    dsb_case_data data;
    int extent;
} dsb_case_buffer;

enum { DSB_CASE_IN = 4, DSB_CASE_OUT = 4 };
typedef struct dsb_case_call {
    const dsb_backend *be;
    dsb_case_shape shape;
    const void *in[DSB_CASE_IN];
    void *out[DSB_CASE_OUT];
    dsb_wmat w; /* of products: in[0] (and in[1], scales) packed by dsb_case_pack; unpacked by be->unpack */
} dsb_case_call;

typedef struct dsb_kernel_case {
    const char *name; /* "gemm_i8", "rms_norm": as in dsb_kernel_row and dsb_backend */
    void (*run)(const dsb_case_call *c);
    dsb_case_buffer in[DSB_CASE_IN], out[DSB_CASE_OUT];
    bool product;
    dsb_wkind kind; /* of a product's weights */
    bool in_place;  /* out[0] begins as in[0] */
    bool adds;      /* outputs begin as zeros */
    bool mixed;     /* an output row depends on more than that row of the inputs */
    bool cubic;     /* the work grows faster than the data: keep it small */
} dsb_kernel_case;

/* Every case; *rows is static. */
int dsb_kernel_cases(const dsb_kernel_case **rows);
int64_t dsb_case_count(const dsb_case_buffer *b, const dsb_case_shape *s);
/* Bytes of one element, and how many of them mean something (a struct may end in padding). */
size_t dsb_case_element(dsb_case_data data, size_t *used);

/* How inputs are filled: as they may come; the first row zero; the largest magnitudes of codes; beyond what tests go through, for a benchmark: floats
 * within ±2 alone, since odd ones take some machines longer. The same seed gives the same values. */
typedef enum dsb_case_fill { DSB_FILL_USUAL, DSB_FILL_ZERO_ROW, DSB_FILL_LARGEST, DSB_FILL_COUNT, DSB_FILL_MILD = DSB_FILL_COUNT } dsb_case_fill;
void dsb_case_fill_in(const dsb_case_buffer *b, const dsb_case_shape *s, dsb_case_fill how, uint32_t seed, void *host);
/* Packs the weights of a product into c->w from host copies of in[0] and in[1]. */
dsb_status dsb_case_pack(const dsb_kernel_case *k, dsb_case_call *c, const void *weights, const void *scales, dsb_err *err);

#endif
