/* One GGUF file (versions 2 and 3, little-endian), mapped: metadata by key, tensors by name; every count, length, offset and size
 * is checked against the file before use. Source: ggml's gguf.md. */
#ifndef DSB_ENGINE_GGUF_H
#define DSB_ENGINE_GGUF_H

#include "engine/safetensors.h"

typedef enum dsb_gguf_type {
    DSB_GGUF_U8, DSB_GGUF_I8, DSB_GGUF_U16, DSB_GGUF_I16, DSB_GGUF_U32, DSB_GGUF_I32, DSB_GGUF_F32, DSB_GGUF_BOOL,
    DSB_GGUF_STRING, DSB_GGUF_ARRAY, DSB_GGUF_U64, DSB_GGUF_I64, DSB_GGUF_F64, DSB_GGUF_TYPE_COUNT
} dsb_gguf_type;

/* One metadata entry. Its values lie at data one after another, unaligned, little-endian; strings as u64 length and bytes. */
typedef struct dsb_gguf_value {
    const char *key;
    dsb_gguf_type type; /* of one element, where is_array */
    bool is_array;
    uint64_t n;          /* elements; 1 for no array */
    const uint8_t *data; /* borrowed until dsb_gguf_close */
} dsb_gguf_value;

typedef struct dsb_gguf {
    const char *path;
    dsb_map map;
    dsb_arena arena;
    uint32_t version;
    int64_t n_value, n_tensor;
    dsb_gguf_value *values; /* ascending by key */
    dsb_st_tensor *tensors; /* ascending by name; shape as C has it: the last dimension is contiguous */
} dsb_gguf;

typedef struct dsb_gguf_string {
    const char *text; /* borrowed, not terminated, any bytes */
    size_t n;
} dsb_gguf_string;

/* Whether the file begins as a GGUF file does (false too where it can't be read). */
bool dsb_gguf_is(const char *path);
/* DSB_EINPUT: missing, truncated, malformed, or big-endian; DSB_EUNSUPPORTED: a version or tensor type that can't be read. */
dsb_status dsb_gguf_open(dsb_gguf *f, const char *path, dsb_err *err);
void dsb_gguf_close(dsb_gguf *f);

/* The entry, or NULL. */
const dsb_gguf_value *dsb_gguf_find(const dsb_gguf *f, const char *key);
/* Typed entries; where the key is absent, *out keeps its value unless it is required. Integers of any width within lo..hi; reals
 * also from integers. A string is copied into the file's arena, terminated; a NUL byte inside it is DSB_EINPUT. */
dsb_status dsb_gguf_int(const dsb_gguf *f, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, dsb_err *err);
dsb_status dsb_gguf_real(const dsb_gguf *f, const char *key, bool required, double *out, dsb_err *err);
dsb_status dsb_gguf_bool(const dsb_gguf *f, const char *key, bool required, bool *out, dsb_err *err);
dsb_status dsb_gguf_text(dsb_gguf *f, const char *key, bool required, const char **out, dsb_err *err);
/* An array of strings, of integers, of numbers (*out in the file's arena, NULL and *n 0 where absent). */
dsb_status dsb_gguf_strings(dsb_gguf *f, const char *key, bool required, const dsb_gguf_string **out, size_t *n, dsb_err *err);
dsb_status dsb_gguf_ints(dsb_gguf *f, const char *key, bool required, const int64_t **out, size_t *n, dsb_err *err);
dsb_status dsb_gguf_floats(dsb_gguf *f, const char *key, bool required, const float **out, size_t *n, dsb_err *err);

#endif
