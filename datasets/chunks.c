#include "datasets/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

const dsb_convention_row dsb_convention_table[DSB_CONVENTION_COUNT] = {
    [DSB_CONVENTION_LLAMA] = { "llama", 512, "chunks without overlap, their second half scored (llama-perplexity)" },
    [DSB_CONVENTION_GPTQ] = { "gptq", 2048, "windows without overlap, every prediction scored (GPTQ's tables)" },
    [DSB_CONVENTION_SLIDING] = { "sliding", 512, "windows that overlap by half, each prediction scored once, with the longest context" },
};

int dsb_convention_find(const char *name) {
    for (int i = 0; i < DSB_CONVENTION_COUNT; i++)
        if (strcmp(dsb_convention_table[i].name, name) == 0) return i;
    return -1;
}

void dsb_chunks_release(dsb_chunks *c) {
    free(c->tokens);
    free(c->start);
    free(c->score_first);
    free(c->score_last);
    free(c->scored_bytes);
    free(c->first_token);
    free(c->targets);
    free(c->positions);
    *c = (dsb_chunks){0};
}

static dsb_status allocate(dsb_chunks *c, dsb_err *err) {
    size_t cells;
    if (!dsb_mul((size_t)c->n_chunk, (size_t)c->n_ctx, &cells)) return dsb_fail(err, DSB_ENOMEM, "chunks: %lld of %lld tokens are too many", (long long)c->n_chunk, (long long)c->n_ctx);
    DSB_TRY(DSB_NEW(c->tokens, cells, "chunks", err));
    DSB_TRY(DSB_NEW(c->start, c->n_chunk, "chunks", err));
    DSB_TRY(DSB_NEW(c->score_first, c->n_chunk, "chunks", err));
    DSB_TRY(DSB_NEW(c->score_last, c->n_chunk, "chunks", err));
    DSB_TRY(DSB_NEW(c->first_token, c->n_chunk, "chunks", err));
    return DSB_NEW(c->scored_bytes, c->n_chunk, "chunks", err);
}

/* First scored position of the chunk that is number k of the whole text. */
static int64_t first_scored(const dsb_chunks *c, int64_t k, int64_t stride) {
    switch (c->convention) {
    case DSB_CONVENTION_LLAMA: return c->n_ctx / 2;
    case DSB_CONVENTION_SLIDING: return k == 0 ? 0 : c->n_ctx - 1 - stride;
    default: return 0;
    }
}

static dsb_status count_bytes(dsb_chunks *c, const dsb_tokenizer *tok, int64_t i, dsb_err *err) {
    for (int64_t p = c->score_first[i]; p <= c->score_last[i]; p++) {
        const uint8_t *bytes;
        size_t n;
        DSB_TRY(dsb_tokenizer_token_bytes(tok, dsb_chunks_target(c, i, p), &bytes, &n, err));
        c->scored_bytes[i] += (int64_t)n;
        c->n_scored++;
    }
    return DSB_OK;
}

static dsb_status fill(dsb_chunks *c, const dsb_tokenizer *tok, const int32_t *ids, int64_t stride, bool spread, dsb_err *err) {
    DSB_TRY(allocate(c, err));
    for (int64_t i = 0; i < c->n_chunk; i++) {
        int64_t k = spread ? (int64_t)((__int128)i * c->n_available / c->n_chunk) : i;
        int32_t *row = c->tokens + i * c->n_ctx;
        c->start[i] = k * stride;
        memcpy(row, ids + c->start[i], (size_t)c->n_ctx * sizeof *row);
        c->first_token[i] = row[0];
        if (c->convention == DSB_CONVENTION_LLAMA && dsb_tokenizer_adds_bos(tok)) row[0] = dsb_tokenizer_bos_id(tok);
        c->score_first[i] = first_scored(c, k, stride);
        c->score_last[i] = c->n_ctx - 2;
        DSB_TRY(count_bytes(c, tok, i, err));
    }
    return DSB_OK;
}

dsb_status dsb_chunks_make(dsb_chunks *out, const dsb_tokenizer *tok, const char *name, const char *text, size_t n, dsb_convention conv, int64_t n_ctx, int64_t max_chunks, bool spread, dsb_err *err) {
    *out = (dsb_chunks){.convention = conv, .n_ctx = n_ctx ? n_ctx : dsb_convention_table[conv].n_ctx};
    if (out->n_ctx < 4) return dsb_fail(err, DSB_EUSAGE, "context: %lld tokens; at least 4 are wanted", (long long)out->n_ctx);
    if (max_chunks < 0) return dsb_fail(err, DSB_EUSAGE, "chunks: %lld; 1 or more are wanted, 0 for all", (long long)max_chunks);
    int32_t *ids = NULL;
    size_t n_ids = 0;
    DSB_TRY(dsb_tokenizer_encode(tok, name, text, n, dsb_tokenizer_adds_bos(tok), &ids, &n_ids, err));
    int64_t stride = conv == DSB_CONVENTION_SLIDING ? out->n_ctx / 2 : out->n_ctx;
    out->n_text_token = (int64_t)n_ids;
    dsb_status s = DSB_OK;
    if (out->n_text_token < out->n_ctx)
        s = dsb_fail(err, DSB_EINPUT, "%s: too short: %lld tokens found, %lld are wanted for one chunk; take a longer text or a smaller context", name, (long long)n_ids, (long long)out->n_ctx);
    if (!s) {
        out->n_available = (out->n_text_token - out->n_ctx) / stride + 1;
        out->n_chunk = max_chunks && max_chunks < out->n_available ? max_chunks : out->n_available;
        s = fill(out, tok, ids, stride, spread, err);
    }
    free(ids);
    if (s) dsb_chunks_release(out);
    return s;
}
