/* A GGUF file's own vocabulary, read as llama.cpp reads it: byte-level BPE with merges ("gpt2"), SentencePiece's BPE with scores ("llama").
 * Tokens of type user-defined are found in text, control tokens are not: llama.cpp's tools leave them as text as well. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "datasets/bpe_internal.h"
#include "datasets/gguf_vocab.h"
#include "datasets/pretokenizer_table.h"
#include "datasets/tokenizer_internal.h"
#include "datasets/utf8.h"

enum { TYPE_USER_DEFINED = 4 };

static int32_t i32_at(const uint8_t *p, size_t i) {
    int32_t x;
    memcpy(&x, p + 4 * i, 4);
    return x;
}

static dsb_status check_text(const char *name, const char *what, size_t i, dsb_gguf_text t, dsb_err *err) {
    size_t bad = dsb_utf8_check(t.p, t.n);
    return bad == t.n ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: %s %zu: its byte %zu isn't UTF-8", name, what, i, bad);
}

static dsb_status read_vocab(dsb_vocab *v, const dsb_gguf_vocab *g, dsb_err *err) {
    const uint8_t *p = g->tokens.p;
    for (size_t i = 0; i < g->tokens.n; i++) {
        dsb_gguf_text t = dsb_gguf_next_text(&p);
        DSB_TRY(check_text(v->name, "token", i, t, err));
        if (t.n) DSB_TRY(dsb_vocab_put(v, t.p, t.n, (int32_t)i, err)); /* an empty one only takes an id */
    }
    return v->n ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.tokens is empty", v->name);
}

static dsb_status read_merges(dsb_bpe *bpe, const dsb_vocab *v, const dsb_gguf_vocab *g, dsb_err *err) {
    const uint8_t *p = g->merges.p;
    for (size_t i = 0; i < g->merges.n; i++) {
        dsb_gguf_text t = dsb_gguf_next_text(&p);
        const char *space = t.n > 1 ? memchr(t.p + 1, ' ', t.n - 1) : NULL;
        size_t n_left = space ? (size_t)(space - t.p) : 0;
        if (!space || n_left + 1 == t.n) return dsb_fail(err, DSB_EINPUT, "%s: model: merge %zu is no pair of tokens (\"a b\")", v->name, i);
        DSB_TRY(dsb_bpe_add_merge(bpe, v, i, t.p, n_left, space + 1, t.n - n_left - 1, true, err));
    }
    return DSB_OK;
}

static dsb_status read_scores(dsb_bpe *bpe, const dsb_vocab *v, const dsb_gguf_vocab *g, dsb_err *err) {
    float *scores = NULL;
    DSB_TRY(DSB_NEW(scores, v->n, v->name, err));
    for (size_t i = 0; i < v->n; i++) memcpy(&scores[i], g->scores.p + 4 * (size_t)v->items[i].id, 4);
    dsb_status s = dsb_bpe_add_scores(bpe, v, scores, err);
    free(scores);
    return s;
}

static dsb_status read_model(dsb_tokenizer *tok, dsb_vocab *v, const dsb_gguf_vocab *g, const dsb_bpe_options *o, dsb_err *err) {
    DSB_TRY(read_vocab(v, g, err));
    DSB_TRY(dsb_bpe_begin(&tok->bpe, v, o, g->merges.n, err));
    DSB_TRY(o->byte_level ? read_merges(&tok->bpe, v, g, err) : read_scores(&tok->bpe, v, g, err));
    return dsb_bpe_end(&tok->bpe, v, o, err);
}

static dsb_status check_counts(const char *name, const dsb_gguf_vocab *g, bool byte_level, dsb_err *err) {
    if (!g->tokens.p) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.tokens is missing", name);
    if (byte_level && !g->merges.p) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.merges is missing", name);
    if (!byte_level && !g->scores.p) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.scores is missing", name);
    if (!byte_level && g->scores.n < g->tokens.n) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.scores has %zu elements, tokens %zu", name, g->scores.n, g->tokens.n);
    if (g->types.p && g->types.n < g->tokens.n) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.token_type has %zu elements, tokens %zu", name, g->types.n, g->tokens.n);
    return DSB_OK;
}

static dsb_status read_added(dsb_tokenizer *tok, const dsb_gguf_vocab *g, dsb_err *err) {
    const uint8_t *p = g->tokens.p;
    DSB_TRY(dsb_added_tokens_init(&tok->added, tok->name, NULL, &tok->bpe, &tok->norm, err));
    for (size_t i = 0; g->types.p && i < g->tokens.n; i++) {
        dsb_gguf_text t = dsb_gguf_next_text(&p);
        if (t.n && i32_at(g->types.p, i) == TYPE_USER_DEFINED) DSB_TRY(dsb_added_tokens_add(&tok->added, tok->name, (int32_t)i, t.p, t.n, err));
    }
    return DSB_OK;
}

/* Where the file says nothing: llama.cpp adds a BOS for "llama", and its id is 1. */
static dsb_status read_bos(dsb_tokenizer *tok, const dsb_gguf_vocab *g, bool adds, bool byte_level, dsb_err *err) {
    int64_t id = g->bos_id >= 0 || byte_level ? g->bos_id : 1;
    bool known = id >= 0 && (size_t)id < tok->n_id && tok->tokens[id].bytes;
    if (g->bos_id >= 0 && !known) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.bos_token_id is %lld; its ids end at %zu", tok->name, (long long)id, tok->n_id - 1);
    tok->adds_bos = g->add_bos >= 0 ? g->add_bos : adds;
    if (known) tok->bos_id = (int32_t)id;
    return tok->adds_bos && !known ? dsb_fail(err, DSB_EINPUT, "%s: its vocabulary begins a text with a BOS token, but names none (tokenizer.ggml.bos_token_id)", tok->name) : DSB_OK;
}

static bool is(dsb_gguf_text t, const char *text) { return t.n == strlen(text) && memcmp(t.p, text, t.n) == 0; }

dsb_status tokenizer_read_gguf(dsb_tokenizer *tok, const char *name, const uint8_t *data, size_t n, dsb_err *err) {
    dsb_gguf_vocab g;
    dsb_vocab v;
    DSB_TRY(dsb_gguf_vocab_find(&g, name, data, n, err));
    if (!g.model.p) return dsb_fail(err, DSB_EINPUT, "%s: has no vocabulary (tokenizer.ggml.model)", name);
    bool byte_level = is(g.model, "gpt2");
    const dsb_pretokenizer_row *row = byte_level ? dsb_pretokenizer_find(g.pre.p, g.pre.n) : NULL;
    if (!byte_level && !is(g.model, "llama")) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tokenizer.ggml.model is \"%.*s\"; gpt2 and llama are read", name, (int)(g.model.n < 80 ? g.model.n : 80), g.model.p);
    if (byte_level && !row) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tokenizer.ggml.pre is \"%.*s\", a pre-tokenizer that this build doesn't know", name, (int)(g.pre.n < 80 ? g.pre.n : 80), g.pre.p);
    DSB_TRY(check_counts(name, &g, byte_level, err));
    static const char *const none[] = { NULL };
    DSB_TRY(dsb_pretokenizer_init_patterns(&tok->pre, name, row ? row->patterns : none, err));
    tok->pre.byte_level = byte_level;
    DSB_TRY(byte_level ? dsb_normalizer_init(&tok->norm, name, NULL, err) : dsb_normalizer_init_marks(&tok->norm, name, g.add_space_prefix != 0, err));
    dsb_bpe_options o = { .byte_level = byte_level, .byte_fallback = !byte_level, .scored = !byte_level, .ignore_merges = row && row->ignore_merges };
    DSB_TRY(dsb_vocab_init(&v, name, g.tokens.n, err));
    dsb_status s = read_model(tok, &v, &g, &o, err);
    dsb_vocab_release(&v);
    if (s) return s;
    DSB_TRY(read_added(tok, &g, err));
    DSB_TRY(tokenizer_index(tok, err));
    return read_bos(tok, &g, row ? row->add_bos : true, byte_level, err);
}
