/* Checked sizes and allocation: every size that comes from a file goes through these. */
#ifndef DSB_BASE_MEMORY_H
#define DSB_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* *out = a*b, or a+b; false on overflow. */
static inline bool dsb_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool dsb_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* n*size bytes, zeroed, 64-byte aligned; *out is owned, free() it. DSB_ENOMEM names `what` and the bytes wanted. */
dsb_status dsb_calloc(void **out, size_t n, size_t size, const char *what, dsb_err *err);
#define DSB_NEW(ptr, n, what, err) dsb_calloc((void **)&(ptr), (size_t)(n), sizeof *(ptr), (what), (err))

/* An arena: blocks of memory that live and die together (a run's, a block's). Memory is 64-byte aligned, zeroed. */
typedef struct dsb_arena {
    struct dsb_arena_chunk *head;
} dsb_arena;
void dsb_arena_init(dsb_arena *arena);
void dsb_arena_release(dsb_arena *arena);
dsb_status dsb_arena_take(dsb_arena *arena, void **out, size_t n, size_t size, const char *what, dsb_err *err);
/* A copy of a string in the arena; NULL when out of memory. */
char *dsb_arena_strdup(dsb_arena *arena, const char *text);

#endif
