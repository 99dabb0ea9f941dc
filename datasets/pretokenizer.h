/* tokenizer.json's "pre_tokenizer": a text cut into words, step by step. Words keep their bytes; the last step must be
 * ByteLevel, whose byte alphabet is applied to the vocabulary instead of to the text (datasets/bpe.h). */
#ifndef DSB_DATASETS_PRETOKENIZER_H
#define DSB_DATASETS_PRETOKENIZER_H

#include <jansson.h>

#include "datasets/regex.h"

typedef struct dsb_pretokenizer {
    struct dsb_pretokenizer_step *steps; /* owned */
    size_t n_step;
    bool byte_level; /* the last step was ByteLevel */
} dsb_pretokenizer;

/* json: borrowed. Unknown types, flags and behaviours are DSB_EUNSUPPORTED. */
dsb_status dsb_pretokenizer_init(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err);
void dsb_pretokenizer_release(dsb_pretokenizer *pre);

typedef struct dsb_span {
    const char *p;
    size_t n;
} dsb_span;

typedef struct dsb_span_list {
    dsb_span *items; /* owned */
    size_t n, room;
} dsb_span_list;

/* One thread's memory. Spans that a run leaves in `words` are borrowed until the next run. */
typedef struct dsb_pretokenizer_work {
    dsb_regex_scratch *regex;
    dsb_span_list words, before;
    char *prefixed; /* text of words that got a space in front */
} dsb_pretokenizer_work;
dsb_status dsb_pretokenizer_work_init(dsb_pretokenizer_work *work, dsb_err *err);
void dsb_pretokenizer_work_release(dsb_pretokenizer_work *work);

/* The words of n bytes of UTF-8 into work->words. */
dsb_status dsb_pretokenizer_run(const dsb_pretokenizer *pre, dsb_pretokenizer_work *work, const char *text, size_t n, dsb_err *err);

#endif
