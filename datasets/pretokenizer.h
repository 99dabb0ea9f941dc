/* tokenizer.json's "pre_tokenizer": a text cut into words, step by step. Words keep their bytes; ByteLevel may be the last step only,
 * its byte alphabet is applied to the vocabulary instead of to the text (datasets/bpe.h). */
#ifndef DSB_DATASETS_PRETOKENIZER_H
#define DSB_DATASETS_PRETOKENIZER_H

#include <jansson.h>

#include "datasets/buffer.h"
#include "datasets/regex.h"

typedef struct dsb_pretokenizer {
    struct dsb_pretokenizer_step *steps; /* owned */
    size_t n_step;
    bool byte_level; /* the last step was ByteLevel */
    bool local;      /* words may be given out before the whole text is there */
    char blank[8];   /* what a blank becomes (Metaspace); empty where blanks stay */
} dsb_pretokenizer;

/* json: borrowed, may be NULL or null. Unknown types, flags and behaviours are DSB_EUNSUPPORTED. */
dsb_status dsb_pretokenizer_init(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err);
/* ByteLevel after splits by the patterns (NULL-terminated list), each isolated. */
dsb_status dsb_pretokenizer_init_patterns(dsb_pretokenizer *pre, const char *name, const char *const *patterns, dsb_err *err);
void dsb_pretokenizer_release(dsb_pretokenizer *pre);

typedef struct dsb_span {
    const char *p;
    size_t n;
} dsb_span;

typedef struct dsb_span_list {
    dsb_span *items; /* owned */
    size_t n, room;
} dsb_span_list;

/* One thread's memory: the text that isn't used up, and its words, borrowed until the next call with this memory. */
typedef struct dsb_pretokenizer_work {
    dsb_regex_scratch *regex;
    dsb_buffer text, changed;
    dsb_span_list words, before;
    bool begun;    /* some of the text came */
    bool at_start; /* it is the start of the whole input */
    bool open;     /* the last word may go on */
} dsb_pretokenizer_work;
dsb_status dsb_pretokenizer_work_init(dsb_pretokenizer_work *work, dsb_err *err);
void dsb_pretokenizer_work_release(dsb_pretokenizer_work *work);

/* The text goes on with n bytes of UTF-8. */
dsb_status dsb_pretokenizer_put(const dsb_pretokenizer *pre, dsb_pretokenizer_work *work, const char *text, size_t n, dsb_err *err);
/* The words of the text so far into work->words; more: it goes on, so that the last word is open, or missing.
 * *used: bytes of work->text that the closed words cover; the caller drops them (dsb_buffer_drop). */
dsb_status dsb_pretokenizer_run(const dsb_pretokenizer *pre, dsb_pretokenizer_work *work, bool more, size_t *used, dsb_err *err);
/* The text has ended; another begins. */
void dsb_pretokenizer_end(dsb_pretokenizer_work *work);

#endif
