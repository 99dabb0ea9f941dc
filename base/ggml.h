/* ggml's quantized tensor types: blocks of values with their scales inside, decoded to f32 in the order of ggml's own loops.
 * Source: the GGUF specification and ggml's block layouts; vectors: the oracle's gguf.*, exact. */
#ifndef DSB_BASE_GGML_H
#define DSB_BASE_GGML_H

#include <stddef.h>
#include <stdint.h>

typedef struct dsb_ggml_type {
    uint32_t id;      /* in a GGUF file */
    const char *name; /* "q4_K" */
    int n, bytes;     /* values and bytes of a block */
    void (*decode)(const uint8_t *block, float *dst); /* one block */
} dsb_ggml_type;

/* The 16 levels of iq4_nl and iq4_xs. Here, not behind a symbol: loops over them unroll. */
static const int8_t dsb_iq4_level[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

const dsb_ggml_type *dsb_ggml_find(uint32_t id); /* NULL: unknown, or no block type */
/* ggml's name of any type, decoded here or not; "unknown". */
const char *dsb_ggml_name(uint32_t id);

#endif
