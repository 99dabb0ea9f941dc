/* Quantized tensors: a 2-D matrix as codes and scales, how a format encodes and decodes it, and its real stored size.
 * Symmetric b bits: scale = absmax/(2^(b-1)-1), codes within ±(2^(b-1)-1), ties to even, q = w/scale (f32 division).
 * Source: docs/DESIGN.md §2; vectors: tests and the oracle's int8sym.*, affine_u8.*, affine_u4.*. */
#ifndef DSB_QUANTIZERS_QUANTIZE_H
#define DSB_QUANTIZERS_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Scale granularity: DSB_GROUP_TENSOR one scale, DSB_GROUP_CHANNEL one a row, > 0 that many inputs of a row. */
enum { DSB_GROUP_TENSOR = -1, DSB_GROUP_CHANNEL = 0 };

/* One row of the format table (table 1 of a recipe). */
typedef struct dsb_format {
    const char *name;  /* "int4" */
    const char *what;  /* one line for `list formats` */
    double bits;       /* of a code: 4 */
    int qmax;          /* integer formats: 7; 0 for float formats and keep */
    bool is_float;     /* f32 f16 bf16 */
} dsb_format;
const dsb_format *dsb_format_find(const char *name); /* NULL if unknown */
int dsb_format_list(const dsb_format **rows);

/* One row of the algorithm table (table 2). Needs of observers come with later algorithms. */
typedef struct dsb_algorithm {
    const char *name, *what;
} dsb_algorithm;
int dsb_algorithm_list(const dsb_algorithm **rows);

/* A quantized matrix on the host. Float formats hold no codes: dequant is the whole result. */
typedef struct dsb_qtensor {
    const dsb_format *format;
    int64_t rows, cols, group; /* group: inputs per scale, resolved (cols for channel and tensor) */
    int64_t n_group;           /* ceil(cols / group) */
    bool affine;
    int8_t *codes;             /* (rows, cols), owned; affine codes are q - 2^(b-1) so that they fit int8 */
    float *scales;             /* (rows, n_group), owned; a per-tensor scale is repeated */
    int32_t *zeros;            /* (rows, n_group) in the same shifted codes, owned; NULL if symmetric */
    size_t stored_bytes;       /* real: codes at their bits, scales as f16 for groups and f32 else, zeros at code bits */
} dsb_qtensor;

/* Encodes w (rows, cols) by round-to-nearest absmax (or min-max when affine). group as above. DSB_ENOMEM;
 * DSB_ENONFINITE names the first bad element. Float formats: codes stay NULL, only stored_bytes is set. */
dsb_status dsb_quantize_rtn(dsb_qtensor *out, const dsb_format *format, int64_t group, bool affine, const float *w, int64_t rows, int64_t cols, dsb_err *err);
/* dst (rows, cols) = S·(Q − Z); for float formats rounds `w` through the format (w may equal dst). */
void dsb_dequantize(const dsb_qtensor *q, const float *w, float *dst);
void dsb_qtensor_release(dsb_qtensor *q);

#endif
