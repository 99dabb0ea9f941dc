/* How one linear weight lies in a checkpoint: found by name, then decoded to f32 by rows, or handed out as the integer codes it is.
 * What it reads: plain floats; FP8 with scales (weight_scale_inv, weight_scale); MXFP4 (GPT-OSS's _blocks and _scales) and NVFP4;
 * integer codes of compressed-tensors, GPTQ and AWQ. Experts that lie fused in one 3-D tensor are found too. */
#ifndef DSB_ENGINE_STORED_H
#define DSB_ENGINE_STORED_H

#include "engine/checkpoint.h"

typedef enum dsb_stored_packing { DSB_STORED_FLOAT, DSB_STORED_I8, DSB_STORED_PACKED, DSB_STORED_GPTQ, DSB_STORED_AWQ } dsb_stored_packing;

typedef struct dsb_stored dsb_stored;
struct dsb_stored {
    const dsb_checkpoint *cp;
    dsb_stored_packing packing;
    const dsb_st_tensor *w, *scale;             /* scale NULL: plain */
    const dsb_st_tensor *zero, *order, *global; /* zero points, the group of each input, NVFP4's global scale; or NULL */
    const dsb_format *format;       /* what a kept weight is called; NULL: by its dtype */
    int64_t rows, cols;
    int64_t first, step;            /* row r is row first + r*step of w seen as a matrix; step 1 unless rows are interleaved */
    int64_t column_rows;            /* > 0: w holds the transpose, that many values a row */
    int64_t group, n_group;         /* inputs a scale, and scales a row */
    int64_t block_rows;             /* FP8: outputs a scale */
    bool one_scale;                 /* of the whole weight */
    int bits;                       /* of packed codes */
    bool codes;                     /* int8 or int4 codes that an integer kernel can use */
    void (*row)(const dsb_stored *s, int64_t r, float *dst, float *scratch); /* decodes one row; scratch: (2, n_group) */
};

/* DSB_EINPUT, DSB_EUNSUPPORTED: missing, other shape or type than config.json and the packing want; the message names the tensor. */
dsb_status dsb_stored_find(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_stored *out, dsb_err *err);
/* The bias beside it, as a matrix of one column. */
dsb_status dsb_stored_find_bias(const dsb_checkpoint *cp, const char *stem, int64_t rows, dsb_stored *out, dsb_err *err);
/* dst (n, cols) = rows at .. at+n. */
dsb_status dsb_stored_decode(const dsb_stored *s, int64_t at, int64_t n, float *dst, dsb_err *err);
/* Codes and scales of rows at .. at+n, owned by q; s->codes must hold. Where a code of the whole weight is one that no kernel takes (INT8's -128): q->codes stays NULL. */
dsb_status dsb_stored_codes(const dsb_stored *s, int64_t at, int64_t n, dsb_qtensor *q, dsb_err *err);
/* Where row `at` lies, if all rows are plain BF16 one behind the other, at an even address; else NULL. */
const uint8_t *dsb_stored_bf16(const dsb_stored *s, int64_t at);
/* Bytes that hold this weight: codes, scales and all. */
size_t dsb_stored_bytes(const dsb_stored *s);

#endif
