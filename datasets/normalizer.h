/* tokenizer.json's "normalizer": what happens to a text before its words are looked for. NFC, NFD, NFKC, NFKD (utf8proc), Prepend,
 * Replace, Sequence; others are DSB_EUNSUPPORTED and named. */
#ifndef DSB_DATASETS_NORMALIZER_H
#define DSB_DATASETS_NORMALIZER_H

#include <jansson.h>

#include "datasets/buffer.h"
#include "datasets/regex.h"

typedef struct dsb_normalizer {
    struct dsb_normalizer_step *steps; /* owned */
    size_t n_step;
    bool local;      /* a text may be normalized piece by piece */
    bool composes;   /* some step is a normalization form */
    char blank[8];   /* what a blank becomes; empty where blanks stay */
} dsb_normalizer;

/* json: borrowed, may be NULL or null. */
dsb_status dsb_normalizer_init(dsb_normalizer *norm, const char *name, const json_t *json, dsb_err *err);
/* SentencePiece's: a mark (U+2581) for each blank, and one in front where `prepend`. */
dsb_status dsb_normalizer_init_marks(dsb_normalizer *norm, const char *name, bool prepend, dsb_err *err);
void dsb_normalizer_release(dsb_normalizer *norm);

/* How many of the first n bytes may be normalized though the text goes on; 0: none yet. */
size_t dsb_normalizer_ready(const dsb_normalizer *norm, const char *text, size_t n);
/* Replaces *text by its normal form. first: the text begins here. */
dsb_status dsb_normalizer_run(const dsb_normalizer *norm, dsb_regex_scratch *scratch, dsb_buffer *text, bool first, dsb_err *err);

#endif
