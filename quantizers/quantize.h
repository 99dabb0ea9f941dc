/* Quantized tensors: a 2-D matrix as codes and scales, how a format encodes and decodes it, and its real stored size.
 * Symmetric b bits: scale = absmax/(2^(b-1)-1), codes within ±(2^(b-1)-1), ties to even, q = w/scale (f32 division).
 * Source: docs/DESIGN.md §2; vectors: tests and the oracle's int8sym.*, affine_u8.*, affine_u4.*. */
#ifndef DSB_QUANTIZERS_QUANTIZE_H
#define DSB_QUANTIZERS_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/format.h"
#include "base/packed.h"
#include "base/status.h"

/* Scale granularity: DSB_GROUP_TENSOR one scale, DSB_GROUP_CHANNEL one a row, > 0 that many inputs of a row. */
enum { DSB_GROUP_TENSOR = -1, DSB_GROUP_CHANNEL = 0 };

/* Zero points of integer codes: none (symmetric); codes; real numbers, that are decoded as any: S·(Q − Z). */
typedef enum dsb_zero { DSB_ZERO_NONE, DSB_ZERO_CODE, DSB_ZERO_REAL } dsb_zero;

typedef struct dsb_qtensor dsb_qtensor;
typedef struct dsb_format dsb_format;
/* Bytes that symmetric integers take with their scales. group: as a rule has it. */
size_t dsb_integer_bytes(const dsb_format *f, int64_t group, int64_t rows, int64_t cols);

/* How a format of raw bytes lies, is encoded and decoded: the rest of its row. layout fills shapes from rows, cols and asked. */
typedef struct dsb_codec {
    void (*layout)(dsb_qtensor *q);
    void (*encode)(dsb_qtensor *q, const float *w, const float *importance); /* of columns; NULL: all alike */
    void (*decode)(const dsb_qtensor *q, float *dst);
} dsb_codec;

/* One row of the format table (table 1 of a recipe). */
struct dsb_format {
    const char *name;  /* "int4" */
    const char *what;  /* one line for `list formats` */
    double bits;       /* of a code: 4 */
    int qmax;          /* integer formats: 7; 0 for others */
    bool is_float;     /* f32 f16 bf16 */
    int64_t group;     /* where a rule names none: DSB_GROUP_CHANNEL or inputs per scale */
    const dsb_codec *codec; /* NULL: floats and integers */
    int scale_bits;    /* of one scale: 32, 8 */
    int64_t block;     /* values of a block, that must divide a row; 0: rows of any length */
    uint32_t ggml;     /* its type in a GGUF file, 0: none */
    dsb_dtype element; /* FP8: of its codes */
    float largest;     /* FP8: the largest number of it */
    bool global_scale; /* one f32 for the tensor above the blocks' scales */
};
const dsb_format *dsb_format_find(const char *name); /* NULL if unknown */
int dsb_format_list(const dsb_format **rows);
/* Whether scales may be of such groups; *wanted (may be NULL) says what may be. */
bool dsb_format_takes_group(const dsb_format *f, int64_t group, const char **wanted);
/* Whether rows of so many inputs can be stored. */
bool dsb_format_divides(const dsb_format *f, int64_t cols);
/* Whether each row is encoded by itself, so that rows can be taken from a matrix before. */
bool dsb_format_by_rows(const dsb_format *f, int64_t group, int64_t cols);
/* Bits a weight with the scales of its own group; those of a tensor or channel not counted. */
double dsb_format_bpw(const dsb_format *f);
/* Bits of one zero point. */
double dsb_zero_bits(dsb_zero zero, const dsb_format *f);
/* "tensor", "channel", "32". */
void dsb_group_name(int64_t group, char out[24]);

/* Bytes a weight takes at most where it stays packed beside float activations (dsb_qtensor_blocks), a tenth allowed for edges. */
double dsb_format_packed_bytes(const dsb_format *f, int64_t group);

/* One row of the algorithm table (table 2). */
typedef enum dsb_range { DSB_RANGE_WHOLE, DSB_RANGE_PERCENTILE, DSB_RANGE_MSE, DSB_RANGE_KL } dsb_range;
typedef enum dsb_method { DSB_METHOD_ROUND, DSB_METHOD_IMATRIX, DSB_METHOD_GPTQ, DSB_METHOD_AWQ, DSB_METHOD_HQQ } dsb_method; /* how codes are found: dsb_quantize_rule calls it */
typedef struct dsb_algorithm {
    const char *name, *what;
    dsb_range range; /* other than the whole one: of integer formats only; KL's is a matrix's, so that its rows depend on each other */
    dsb_method method;
    int needs;       /* of calibration: DSB_NEED_…; where it saw nothing, rtn takes its place */
} dsb_algorithm;
const dsb_algorithm *dsb_algorithm_find(const char *name); /* NULL if unknown */
int dsb_algorithm_list(const dsb_algorithm **rows);

/* A quantized matrix on the host. Float formats hold no codes: dequant is the whole result. */
struct dsb_qtensor {
    const dsb_format *format;
    int64_t rows, cols, group; /* group: inputs per scale, resolved (cols for channel and tensor) */
    int64_t n_group;           /* ceil(cols / group) */
    int64_t asked;             /* the granularity that was asked for: DSB_GROUP_TENSOR, DSB_GROUP_CHANNEL or inputs */
    dsb_zero affine;
    int8_t *codes;             /* integers: (rows, cols), owned; affine codes are q - 2^(b-1) so that they fit int8 */
    float *scales;             /* integers: (rows, n_group), owned; a per-tensor scale is repeated. FP8, NF4: (scale_rows, scale_cols) */
    float *zeros;              /* (rows, n_group) in the same shifted codes, owned; NULL if symmetric */
    uint8_t *raw;              /* other formats: (raw_rows, raw_cols) bytes of codes, owned; of GGUF formats whole blocks */
    uint8_t *scale_codes;      /* MX and NVFP4: (scale_rows, scale_cols) E8M0 or E4M3, owned */
    int64_t raw_rows, raw_cols, scale_rows, scale_cols;
    float global;              /* NVFP4: multiplies all scales */
    size_t stored_bytes;       /* real: codes at their bits, scales and zero points included */
};

/* Encodes w (rows, cols) by round-to-nearest absmax (or min-max when affine). group as above. DSB_ENOMEM;
 * DSB_ENONFINITE names the first bad element; DSB_EINPUT: the format's blocks don't divide a row. Float formats: codes stay NULL, only stored_bytes is set. */
dsb_status dsb_quantize_rtn(dsb_qtensor *out, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, dsb_err *err);
/* The same with an algorithm's choice of range; a float or raw format takes the whole one alone. */
dsb_status dsb_quantize(dsb_qtensor *out, const dsb_format *format, const dsb_algorithm *algorithm, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, dsb_err *err);
/* Of a GGUF format: the search weighs squared errors by what calibration summed of x² (cols), at least 2^-10 of its mean; nothing
 * but zeros weighs all alike, as q8_0 does always. Source: llama.cpp's importance matrix. */
dsb_status dsb_quantize_important(dsb_qtensor *out, const dsb_format *format, int64_t group, const double *sum_sq, const float *w, int64_t rows, int64_t cols, dsb_err *err);
/* dst (rows, cols) = S·(Q − Z), or what the format's codec says; for float formats rounds `w` through the format (w may equal dst). */
void dsb_dequantize(const dsb_qtensor *q, const float *w, float *dst);
void dsb_qtensor_release(dsb_qtensor *q);
/* Its codes and scales as rows of blocks, for kernels that decode on the fly. *blocks NULL: floats, or groups so small that f32 is smaller.
 * *owned: what the caller frees, NULL where *blocks is q's own. DSB_ENOMEM. */
dsb_status dsb_qtensor_blocks(const dsb_qtensor *q, dsb_packed *how, const uint8_t **blocks, uint8_t **owned, dsb_err *err);

/* The parts of the above, for algorithms that choose codes in another way: an integer tensor laid out for w, whose elements are checked, with codes, scales and
 * zero points still 0; and scale and zero point (shifted as `zeros` are) of one group of n weights over its whole range; its codes. */
dsb_status dsb_qtensor_begin(dsb_qtensor *out, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, dsb_err *err);
void dsb_group_scale(const dsb_qtensor *q, const float *w, int64_t n, float *scale, float *zero);
void dsb_group_encode(const dsb_qtensor *q, const float *w, int64_t n, float scale, float zero, int8_t *codes);

#endif
