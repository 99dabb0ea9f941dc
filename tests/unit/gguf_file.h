/* A GGUF file made in memory, piece by piece, right or wrong. */
#ifndef DSB_TESTS_GGUF_FILE_H
#define DSB_TESTS_GGUF_FILE_H

#include "engine/gguf.h"
#include "tests/unit/temp_files.h"

typedef struct gguf_file {
    uint8_t data[1 << 16];
    size_t n;
} gguf_file;

static inline void gguf_bytes(gguf_file *f, const void *p, size_t n) {
    assert_true(f->n + n <= sizeof f->data);
    memcpy(f->data + f->n, p, n);
    f->n += n;
}
static inline void gguf_number(gguf_file *f, uint64_t v, size_t n) { gguf_bytes(f, &v, n); } /* the tests' machines are little-endian */
static inline void gguf_string(gguf_file *f, const char *s) {
    gguf_number(f, strlen(s), 8);
    gguf_bytes(f, s, strlen(s));
}
static inline void gguf_begin(gguf_file *f, uint32_t version, uint64_t n_tensor, uint64_t n_value) {
    f->n = 0;
    gguf_bytes(f, "GGUF", 4);
    gguf_number(f, version, 4);
    gguf_number(f, n_tensor, 8);
    gguf_number(f, n_value, 8);
}
static inline void gguf_key(gguf_file *f, const char *key, dsb_gguf_type type) {
    gguf_string(f, key);
    gguf_number(f, type, 4);
}
static inline void gguf_array(gguf_file *f, const char *key, dsb_gguf_type type, uint64_t n) {
    gguf_key(f, key, DSB_GGUF_ARRAY);
    gguf_number(f, type, 4);
    gguf_number(f, n, 8);
}
static inline void gguf_text(gguf_file *f, const char *key, const char *text) {
    gguf_key(f, key, DSB_GGUF_STRING);
    gguf_string(f, text);
}
static inline void gguf_u32(gguf_file *f, const char *key, uint32_t v) {
    gguf_key(f, key, DSB_GGUF_U32);
    gguf_number(f, v, 4);
}
/* ne: sizes as the file has them, the contiguous one first. */
static inline void gguf_tensor(gguf_file *f, const char *name, int n_dim, const uint64_t *ne, uint32_t type, uint64_t offset) {
    gguf_string(f, name);
    gguf_number(f, (uint64_t)n_dim, 4);
    for (int i = 0; i < n_dim; i++) gguf_number(f, ne[i], 8);
    gguf_number(f, type, 4);
    gguf_number(f, offset, 8);
}
static inline void gguf_align(gguf_file *f) {
    while (f->n % 32) gguf_number(f, 0, 1);
}

#endif
