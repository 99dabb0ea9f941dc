/* One safetensors file, mapped: names, types, shapes and borrowed bytes, all checked against the file's size.
 * Source: the format's own description (8-byte header length, JSON header, data). */
#ifndef DSB_ENGINE_SAFETENSORS_H
#define DSB_ENGINE_SAFETENSORS_H

#include <stdbool.h>

#include "base/file.h"
#include "base/format.h"
#include "base/ggml.h"
#include "base/memory.h"
#include "base/status.h"

enum { DSB_ST_MAX_DIM = 4 };

typedef struct dsb_st_tensor {
    const char *name;
    dsb_dtype dtype;
    int ndim;
    int64_t shape[DSB_ST_MAX_DIM];
    const uint8_t *data; /* borrowed until dsb_st_close; may be unaligned */
    size_t bytes;
    /* Of a GGUF file; else NULL and 0: */
    const dsb_ggml_type *blocks;        /* its quantized type, dtype is then DSB_U8 */
    int64_t rotated;                    /* rows of each head of this many were moved from t*half + j to 2j + t */
    const struct dsb_st_tensor *values; /* MLA's kv_b in two: data are k_b (heads, kv_lora, nope), these v_b (heads, v, kv_lora) */
    int64_t nope;
} dsb_st_tensor;
static inline bool dsb_st_is_float(const dsb_st_tensor *t) { return t->blocks || dsb_dtype_is_float(t->dtype); }
static inline const char *dsb_st_type_name(const dsb_st_tensor *t) { return t->blocks ? t->blocks->name : dsb_dtype_name(t->dtype); }

typedef struct dsb_st_file {
    const char *path;
    dsb_map map;
    dsb_arena arena;
    int64_t n_tensor;
    dsb_st_tensor *tensors; /* ascending by name */
} dsb_st_file;

/* DSB_EINPUT if missing, truncated or malformed: names the file, the tensor, what was found and wanted. */
dsb_status dsb_st_open(dsb_st_file *f, const char *path, dsb_err *err);
void dsb_st_close(dsb_st_file *f);
/* Row r of the float tensor t taken as (rows, last dimension), in f32, where the model has it (a vector is one row). */
void dsb_st_row(const dsb_st_tensor *t, int64_t r, float *dst);
/* The tensor, or NULL. */
const dsb_st_tensor *dsb_st_find(const dsb_st_file *f, const char *name);

#endif
