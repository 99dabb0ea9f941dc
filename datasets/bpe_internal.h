/* The hash tables of datasets/bpe.c, filled by bpe_read.c. */
#ifndef DSB_DATASETS_BPE_INTERNAL_H
#define DSB_DATASETS_BPE_INTERNAL_H

#include "datasets/bpe.h"

typedef struct dsb_bpe_merge {
    int32_t left, right; /* left -1: an empty slot */
    int32_t rank, id;
} dsb_bpe_merge;

/* Puts a merge; a pair given again takes the later rank, as in the `tokenizers` library. */
void bpe_merge_put(dsb_bpe *bpe, dsb_bpe_merge m);
void bpe_word_put(dsb_bpe *bpe, const dsb_token *token, int32_t id);

uint64_t bpe_hash(const uint8_t *p, size_t n);

#endif
