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

/* Tokens of a text as they come. */
typedef struct picker {
    dsb_chunks *c;
    int32_t *ids;    /* (n) from the text's start; NULL once they are too many to keep */
    int64_t n, room; /* tokens seen so far */
    int64_t enough;  /* stop at so many; 0: at the text's end */
    int64_t next;    /* chunks below it are whole */
} picker;

typedef dsb_status (*picker_take)(picker *p, const int32_t *ids, int64_t n, dsb_err *err);

enum { PIECE = 1 << 20, KEEP = 1 << 24 }; /* bytes of text at a time; tokens kept */

static dsb_status each_piece(picker *p, const dsb_tokenizer *tok, const char *name, const dsb_text_file *text, picker_take take, dsb_err *err) {
    dsb_token_stream *stream;
    const int32_t *ids;
    size_t n;
    p->n = 0;
    DSB_TRY(dsb_token_stream_open(&stream, tok, name, dsb_tokenizer_adds_bos(tok), err));
    dsb_status s = DSB_OK;
    bool last = false;
    for (size_t from = 0, end; !s && !last && !(p->enough && p->n >= p->enough); from = end) {
        end = text->n - from > PIECE ? from + PIECE : text->n;
        last = end == text->n;
        s = dsb_token_stream_put(stream, text->data + from, end - from, last, &ids, &n, err);
        if (!s) s = take(p, ids, (int64_t)n, err);
        dsb_text_forget(text, from, end);
    }
    uint32_t c;
    if (!s && dsb_token_stream_dropped(stream, &c)) s = dsb_fail(err, DSB_EINPUT, "%s: character or byte 0x%02x is in the text, but the tokenizer has no token for it; a text or a tokenizer without gaps is wanted", name, c);
    dsb_token_stream_close(stream);
    return s;
}

static dsb_status keep_ids(picker *p, const int32_t *ids, int64_t n, dsb_err *err) {
    bool few = p->n + n <= KEEP && (p->ids || p->n == 0);
    if (few && p->n + n > p->room) {
        int64_t room = p->n + n > 2 * p->room ? p->n + n : 2 * p->room;
        int32_t *grown = realloc(p->ids, (size_t)room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "no memory for %lld tokens", (long long)room);
        p->ids = grown;
        p->room = room;
    }
    if (few && n) memcpy(p->ids + p->n, ids, (size_t)n * sizeof *ids);
    if (!few) {
        free(p->ids);
        p->ids = NULL;
    }
    p->n += n;
    return DSB_OK;
}

/* Copies what of these tokens (p->n of the text came before them) lies in chunks, which are in the text's order. */
static dsb_status pick_ids(picker *p, const int32_t *ids, int64_t n, dsb_err *err) {
    dsb_chunks *c = p->c;
    for (int64_t i = p->next; i < c->n_chunk && c->start[i] < p->n + n; i++) {
        int64_t from = c->start[i] > p->n ? c->start[i] : p->n, end = c->start[i] + c->n_ctx;
        if (end <= p->n + n && i == p->next) p->next++;
        if (end > p->n + n) end = p->n + n;
        if (end > from) memcpy(c->tokens + i * c->n_ctx + from - c->start[i], ids + from - p->n, (size_t)(end - from) * sizeof *ids);
    }
    p->n += n;
    return DSB_OK;
}

static dsb_status fill(picker *p, const dsb_tokenizer *tok, const char *name, const dsb_text_file *text, int64_t stride, bool spread, dsb_err *err) {
    dsb_chunks *c = p->c;
    int64_t n = p->n;
    DSB_TRY(allocate(c, err));
    for (int64_t i = 0; i < c->n_chunk; i++) {
        int64_t k = spread ? (int64_t)((__int128)i * c->n_available / c->n_chunk) : i;
        c->start[i] = k * stride;
        c->score_first[i] = first_scored(c, k, stride);
        c->score_last[i] = c->n_ctx - 2;
    }
    p->n = 0;
    DSB_TRY(p->ids ? pick_ids(p, p->ids, n, err) : each_piece(p, tok, name, text, pick_ids, err));
    for (int64_t i = 0; i < c->n_chunk; i++) {
        int32_t *row = c->tokens + i * c->n_ctx;
        c->first_token[i] = row[0];
        if (c->convention == DSB_CONVENTION_LLAMA && dsb_tokenizer_adds_bos(tok)) row[0] = dsb_tokenizer_bos_id(tok);
        DSB_TRY(count_bytes(c, tok, i, err));
    }
    return DSB_OK;
}

dsb_status dsb_chunks_make(dsb_chunks *out, const dsb_tokenizer *tok, const char *name, const dsb_text_file *text, dsb_convention conv, int64_t n_ctx, int64_t max_chunks, bool spread, dsb_err *err) {
    *out = (dsb_chunks){.convention = conv, .n_ctx = n_ctx ? n_ctx : dsb_convention_table[conv].n_ctx};
    if (out->n_ctx < 4) return dsb_fail(err, DSB_EUSAGE, "context: %lld tokens; at least 4 are wanted", (long long)out->n_ctx);
    if (max_chunks < 0) return dsb_fail(err, DSB_EUSAGE, "chunks: %lld; 1 or more are wanted, 0 for all", (long long)max_chunks);
    int64_t stride = conv == DSB_CONVENTION_SLIDING ? out->n_ctx / 2 : out->n_ctx;
    picker p = {.c = out};
    if (!spread && max_chunks && max_chunks < INT64_MAX / 2 / out->n_ctx) p.enough = (max_chunks - 1) * stride + out->n_ctx;
    dsb_status s = each_piece(&p, tok, name, text, keep_ids, err);
    out->n_text_token = p.n;
    if (!s && p.n < out->n_ctx)
        s = dsb_fail(err, DSB_EINPUT, "%s: too short: %lld tokens found, %lld are wanted for one chunk; take a longer text or a smaller context", name, (long long)p.n, (long long)out->n_ctx);
    if (!s) {
        out->n_available = (p.n - out->n_ctx) / stride + 1;
        out->n_chunk = max_chunks && max_chunks < out->n_available ? max_chunks : out->n_available;
        s = fill(&p, tok, name, text, stride, spread, err);
    }
    free(p.ids);
    if (s) dsb_chunks_release(out);
    return s;
}

dsb_status dsb_chunks_check_vocab(const dsb_chunks *c, const char *model, int64_t vocab, dsb_err *err) {
    for (int64_t i = 0; i < c->n_chunk * c->n_ctx; i++) {
        int32_t id = c->targets && c->targets[i] > c->tokens[i] ? c->targets[i] : c->tokens[i];
        if (id >= vocab) return dsb_fail(err, DSB_EINPUT, "%s/tokenizer.json: gives token %d, but config.json's vocab_size is %lld; the model's own tokenizer is wanted", model, id, (long long)vocab);
    }
    return DSB_OK;
}
