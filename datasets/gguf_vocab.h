/* The tokenizer in a GGUF file's metadata: found and bounded, nothing is copied. Versions 2 and 3, little-endian. */
#ifndef DSB_DATASETS_GGUF_VOCAB_H
#define DSB_DATASETS_GGUF_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_gguf_text {
    const char *p; /* NULL: the file has no such key */
    size_t n;
} dsb_gguf_text;

typedef struct dsb_gguf_list {
    const uint8_t *p; /* first element, borrowed from the file; every element lies within it. NULL: no such key */
    size_t n;
} dsb_gguf_list;

typedef struct dsb_gguf_vocab {
    dsb_gguf_text model, pre;
    dsb_gguf_list tokens, merges; /* texts: dsb_gguf_next_text */
    dsb_gguf_list scores, types;  /* f32, i32 */
    int64_t bos_id;               /* -1: not given */
    int add_bos, add_space_prefix; /* -1: not given */
} dsb_gguf_vocab;

/* data: the file's n bytes, borrowed. DSB_EINPUT: malformed, truncated, a key of another type; DSB_EUNSUPPORTED: another version. */
dsb_status dsb_gguf_vocab_find(dsb_gguf_vocab *out, const char *name, const uint8_t *data, size_t n, dsb_err *err);
/* The text at *p, and *p moved behind it. */
dsb_gguf_text dsb_gguf_next_text(const uint8_t **p);

#endif
