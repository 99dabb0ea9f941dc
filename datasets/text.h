/* Texts: a file taken byte for byte, its checksum, the reflow of hard-wrapped prose. */
#ifndef DSB_DATASETS_TEXT_H
#define DSB_DATASETS_TEXT_H

#include <stddef.h>

#include "base/status.h"
#include "datasets/utf8.h"

typedef struct dsb_text_file {
    char *data;      /* owned; n bytes of UTF-8 and a NUL that isn't counted */
    size_t n;
    char sha256[65]; /* of data */
} dsb_text_file;

/* The whole of `path` ("-": standard input), unchanged. DSB_EINPUT: missing, or not UTF-8 (names the byte offset). */
dsb_status dsb_text_file_load(dsb_text_file *out, const char *path, dsb_err *err);
void dsb_text_file_release(dsb_text_file *text);

/* Hard-wrapped text in place: lines stripped of blanks (no-break spaces too), lines of a paragraph joined by one space, paragraphs by one
 * empty line, no newline at the end; sha256 is made anew. Only the built-in texts are treated so, never a user's. */
void dsb_text_reflow(dsb_text_file *text);

#endif
