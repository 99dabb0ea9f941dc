/* Growing text, with the escapes of what it is written into. Running out of memory is remembered, not reported at each call. */
#ifndef DSB_REPORTS_TEXT_H
#define DSB_REPORTS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"
#include "base/status.h"

typedef struct dsb_text {
    char *data; /* owned, ends with a NUL; NULL while empty */
    size_t size, room;
    bool failed; /* a call ran out of memory: the text is not whole */
} dsb_text;

void dsb_text_init(dsb_text *t);
void dsb_text_release(dsb_text *t);
/* DSB_ENOMEM if any call before failed; ask once, at the end. */
dsb_status dsb_text_check(const dsb_text *t, const char *what, dsb_err *err);

void dsb_text_put(dsb_text *t, const char *text);
void dsb_text_bytes(dsb_text *t, const char *data, size_t n);
void dsb_text_printf(dsb_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Escaped for HTML text and attributes; for a cell of a Markdown table. */
void dsb_text_html(dsb_text *t, const char *text);
void dsb_text_markdown(dsb_text *t, const char *text);
/* A cell of CSV: quoted where it must be, quotes doubled (RFC 4180). */
void dsb_text_csv(dsb_text *t, const char *text);
/* The text, then spaces up to `width` columns (before it if right). */
void dsb_text_padded(dsb_text *t, const char *text, int width, bool right);

/* A copy without control characters and broken UTF-8 ('?' stands for them): names come from strangers' files. NULL: no memory. */
char *dsb_text_clean(dsb_arena *arena, const char *text);
/* Columns that UTF-8 text takes on a terminal, at one a character. */
int dsb_text_width(const char *text);
/* Formatted into the arena; "?" when out of memory. */
const char *dsb_text_format(dsb_arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "27.6 MB" of bytes (powers of 1000); "–" below 0. */
const char *dsb_text_size(dsb_arena *arena, double bytes);

#endif
