/* The hash tables of datasets/bpe.c, filled by bpe_build.c. */
#ifndef DSB_DATASETS_BPE_INTERNAL_H
#define DSB_DATASETS_BPE_INTERNAL_H

#include "datasets/bpe.h"

enum { BPE_NO_MERGE = INT32_MIN };

/* Ids beyond this are a damaged file, not a vocabulary. */
enum { BPE_MAX_ID = 1 << 24 };

typedef struct dsb_bpe_merge {
    int32_t left, right; /* left BPE_NO_MERGE: an empty slot */
    int32_t rank, id;
} dsb_bpe_merge;

typedef struct dsb_bpe_char {
    uint32_t c;
    int32_t id; /* -1: an empty slot */
} dsb_bpe_char;

/* A character without a token, as a symbol that merges may take: below -1. */
static inline int32_t bpe_char_symbol(uint32_t c) { return -2 - (int32_t)c; }
static inline uint32_t bpe_symbol_char(int32_t symbol) { return (uint32_t)(-2 - symbol); }

static inline uint64_t bpe_mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

uint64_t bpe_hash(const uint8_t *p, size_t n);

/* Puts a merge; a pair given again takes the later rank, as in the `tokenizers` library, unless the first wins (llama.cpp). */
void bpe_merge_put(dsb_bpe *bpe, dsb_bpe_merge m, bool first_wins);
void bpe_word_put(dsb_bpe *bpe, const dsb_token *token, int32_t id);
void bpe_char_put(dsb_bpe *bpe, uint32_t c, int32_t id);
/* The token of a character, or -1. */
int32_t bpe_char_find(const dsb_bpe *bpe, uint32_t c);
void bpe_pair_put(dsb_bpe *bpe, uint32_t a, uint32_t b);

#endif
