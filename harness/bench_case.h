/* A case of kernels/cases.h with its memory, ready to be held to plain C and timed. What a decoder would read from memory (weights, keys, rows) is
 * there in several copies, taken in turn, so that no cache holds what the next call reads. On a GPU buffers are of its memory, beside the host's. */
#ifndef DSB_HARNESS_BENCH_CASE_H
#define DSB_HARNESS_BENCH_CASE_H

#include "kernels/cases.h"
#include "kernels/roofline.h"
#include "quantizers/quantize.h"

typedef struct dsb_bench_case {
    const dsb_kernel_case *k;
    dsb_case_call call;           /* inputs of copy 0 */
    int copies;
    dsb_wmat *w;                  /* (copies) owned, of products */
    dsb_qtensor q;                /* of weights that stay packed: */
    dsb_packed how;
    const uint8_t *blocks;        /* their rows, of q or owned, or the case's that this one is compared with */
    uint8_t *owned;
    uint8_t *in[DSB_CASE_IN];     /* (copies, …) or one for all; owned */
    size_t in_bytes[DSB_CASE_IN], in_stride[DSB_CASE_IN]; /* of one copy; to the next, 0: one for all */
    uint8_t *out[DSB_CASE_OUT];
    size_t out_bytes[DSB_CASE_OUT];
    uint8_t *device_in[DSB_CASE_IN], *device_out[DSB_CASE_OUT]; /* on a GPU, of buffers that are not the host's: what calls are given; owned */
    double ops[DSB_ARITH_COUNT];  /* of a call; none where nobody counts them */
    double bytes;                 /* that come from memory: packed weights, or inputs */
    const char *kernel;           /* "avx2/gemm_i8" */
} dsb_bench_case;

/* Those of kernels/cases.h, and a product of each type of packed weights ("gemm_q4_K"). */
int dsb_bench_cases(const dsb_kernel_case **rows);
/* Where none is asked for: an expert of DeepSeek-V2-Lite, or as many values a token as its streams have. */
dsb_case_shape dsb_bench_case_shape(const dsb_kernel_case *k);
/* DSB_EUSAGE: a size below 1 or absurd, rows of weights of what is no product, a group larger than a row, blocks that don't divide it. */
dsb_status dsb_bench_case_check_shape(const dsb_kernel_case *k, const dsb_case_shape *shape, dsb_err *err);
/* copies 0: as many as four times the last-level cache takes, and no more than 1 GB. */
dsb_status dsb_bench_case_open(dsb_bench_case *c, const dsb_kernel_case *k, const dsb_backend *be, const dsb_case_shape *shape, int copies, dsb_err *err);
void dsb_bench_case_close(dsb_bench_case *c);
/* One call on a copy of the inputs. What works in place gets its values first. start leaves it to the device to end. */
void dsb_bench_case_start(dsb_bench_case *c, int copy);
void dsb_bench_case_run(dsb_bench_case *c, int copy);
/* Runs the first and the last copy; the outputs are plain C's, bit for bit (of rows that stand alone: the first two and the last two).
 * DSB_EINTERNAL names the kernel, the shape and the row. */
dsb_status dsb_bench_case_verify(dsb_bench_case *c, dsb_err *err);

#endif
