/* Texts: a file taken byte for byte, the documents of a JSONL file or of a folder as one text; checksum; the reflow of hard-wrapped prose. */
#ifndef DSB_DATASETS_TEXT_H
#define DSB_DATASETS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "datasets/utf8.h"

typedef struct dsb_text_file {
    char *data;      /* owned; n bytes of UTF-8 and a NUL that isn't counted. NULL after dsb_text_drop */
    size_t n;
    size_t mapped;   /* bytes of the private map that data is; 0: it was allocated */
    bool clean;      /* the map is as the file is: what is forgotten comes back from there */
    size_t n_document;
    char sha256[65]; /* of data */
} dsb_text_file;

/* The whole of `path` ("-": standard input), unchanged; a file is mapped, not copied.
 * DSB_EINPUT: missing, or not UTF-8 (names the byte offset). */
dsb_status dsb_text_file_load(dsb_text_file *out, const char *path, dsb_err *err);
void dsb_text_file_release(dsb_text_file *text);
/* Bytes from .. to won't be read again soon: of a mapped file they leave memory, so that a long text is never in it whole. */
void dsb_text_forget(const dsb_text_file *text, size_t from, size_t to);
/* Gives the bytes back once they are tokens; length and checksum stay. */
void dsb_text_drop(dsb_text_file *text);

/* What `--text` names: a file as above; a JSONL file (its name ends in .jsonl, or a field is named and it ends in neither .txt nor .md), each
 * object's string `field` (NULL: "text") one document; or a folder, its *.txt, *.md and *.jsonl in the order of their paths' bytes.
 * Documents are joined by one empty line ("\n\n"). */
dsb_status dsb_text_load(dsb_text_file *out, const char *path, const char *field, dsb_err *err);

/* Hard-wrapped text in place: lines stripped of blanks (no-break spaces too), lines of a paragraph joined by one space, paragraphs by one
 * empty line, no newline at the end; sha256 is made anew. The built-in texts are treated so; a user's where the suite says "reflow". */
void dsb_text_reflow(dsb_text_file *text);

#endif
