/* A text cut into chunks of n_ctx tokens, and which predictions of each are scored (docs/METRICS.md, "Conventions").
 * The prediction at position p is of the token at p+1; figures of different conventions never share a column. */
#ifndef DSB_DATASETS_CHUNKS_H
#define DSB_DATASETS_CHUNKS_H

#include "datasets/text.h"
#include "datasets/tokenizer.h"

typedef enum dsb_convention { DSB_CONVENTION_LLAMA, DSB_CONVENTION_GPTQ, DSB_CONVENTION_SLIDING, DSB_CONVENTION_COUNT } dsb_convention;

typedef struct dsb_convention_row {
    const char *name;
    int64_t n_ctx; /* default */
    const char *summary;
} dsb_convention_row;
extern const dsb_convention_row dsb_convention_table[DSB_CONVENTION_COUNT];
/* Index into the table, or -1. */
int dsb_convention_find(const char *name);

typedef struct dsb_chunks {
    dsb_convention convention;
    int64_t n_chunk, n_ctx;
    int64_t n_text_token;    /* of the text, a leading BOS included: all of it, or as far as it was read */
    int64_t n_available;     /* chunks that these give */
    int64_t n_scored;        /* over all chunks */
    int32_t *tokens;         /* (n_chunk, n_ctx) owned */
    int64_t *start;          /* (n_chunk) offset of the chunk's first token in the text's tokens */
    int64_t *score_first;    /* (n_chunk) first scored position */
    int64_t *score_last;     /* (n_chunk) last scored position, inclusive */
    int64_t *scored_bytes;   /* (n_chunk) bytes that the scored positions' target tokens stand for */
    int32_t *first_token;    /* (n_chunk) the text's own token at each chunk's start, which a BOS may have replaced */
    int32_t *targets;        /* (n_chunk, n_ctx) the token to predict, or -1; NULL: the next token at score_first .. score_last */
    int32_t *positions;      /* (n_chunk, n_ctx) of each token in its own sequence, 0 begins one; NULL: a chunk is one sequence */
} dsb_chunks;

/* The text's tokens are kept while they are few; of a long text they are made twice, counted and then picked, in memory that doesn't grow with it.
 * n_ctx 0: the convention's default, else at least 4; max_chunks 0: all; spread: take them evenly over the whole text, else from its start, and the rest isn't read.
 * BOS only where dsb_tokenizer_adds_bos(). Too short a text: DSB_EINPUT with tokens found and wanted. */
dsb_status dsb_chunks_make(dsb_chunks *out, const dsb_tokenizer *tok, const char *name, const dsb_text_file *text, dsb_convention conv, int64_t n_ctx, int64_t max_chunks, bool spread, dsb_err *err);
void dsb_chunks_release(dsb_chunks *chunks);
/* A tokenizer of another model may give ids that this one (`model`, in the message) has no row for: DSB_EINPUT. */
dsb_status dsb_chunks_check_vocab(const dsb_chunks *c, const char *model, int64_t vocab, dsb_err *err);

/* The token that position pos of a chunk predicts, or -1 where it is not scored. */
static inline int32_t dsb_chunks_target(const dsb_chunks *c, int64_t chunk, int64_t pos) {
    if (c->targets) return c->targets[chunk * c->n_ctx + pos];
    return pos < c->score_first[chunk] || pos > c->score_last[chunk] ? -1 : c->tokens[chunk * c->n_ctx + pos + 1];
}

#endif
