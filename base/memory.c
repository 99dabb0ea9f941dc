#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, CHUNK = 1 << 20, HUGE_PAGE = 1 << 21 };

dsb_status dsb_calloc(void **out, size_t n, size_t size, const char *what, dsb_err *err) {
    size_t bytes;
    *out = NULL;
    if (!dsb_mul(n, size, &bytes) || bytes > SIZE_MAX - ALIGN)
        return dsb_fail(err, DSB_ENOMEM, "%s: %zu x %zu bytes overflow the address space", what, n, size);
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (bytes == 0) bytes = ALIGN;
    bool huge = bytes >= HUGE_PAGE;
    void *p; /* posix_memalign: C's aligned_alloc wants whole multiples of the alignment */
    if (posix_memalign(&p, huge ? HUGE_PAGE : ALIGN, bytes)) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for %zu bytes; use fewer chunks or schemes", what, bytes);
    /* Weights come and go by the megabyte: pages of 4 KiB would cost a fifth of a run. What is left over stays in small ones: no byte more. */
    if (huge) madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    memset(p, 0, bytes);
    *out = p;
    return DSB_OK;
}

struct dsb_arena_chunk {
    struct dsb_arena_chunk *next;
    size_t size, used;
    char pad[ALIGN - 2 * sizeof(size_t) - sizeof(void *)];
    char data[];
};
_Static_assert(sizeof(struct dsb_arena_chunk) == ALIGN, "arena data must be aligned");

void dsb_arena_init(dsb_arena *arena) { arena->head = NULL; }

void dsb_arena_release(dsb_arena *arena) {
    for (struct dsb_arena_chunk *c = arena->head; c;) {
        struct dsb_arena_chunk *next = c->next;
        free(c);
        c = next;
    }
    arena->head = NULL;
}

dsb_status dsb_arena_take(dsb_arena *arena, void **out, size_t n, size_t size, const char *what, dsb_err *err) {
    size_t bytes;
    *out = NULL;
    if (!dsb_mul(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return dsb_fail(err, DSB_ENOMEM, "%s: %zu x %zu bytes overflow the address space", what, n, size);
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    struct dsb_arena_chunk *c = arena->head;
    if (!c || c->size - c->used < bytes) {
        size_t room = bytes > CHUNK ? bytes : CHUNK;
        void *p;
        DSB_TRY(dsb_calloc(&p, 1, sizeof *c + room, what, err));
        c = p;
        c->size = room;
        c->next = arena->head;
        arena->head = c;
    }
    *out = c->data + c->used;
    c->used += bytes;
    return DSB_OK;
}

char *dsb_arena_strdup(dsb_arena *arena, const char *text) {
    void *p;
    size_t n = strlen(text) + 1;
    if (dsb_arena_take(arena, &p, n, 1, "text", NULL)) return NULL;
    return memcpy(p, text, n);
}
