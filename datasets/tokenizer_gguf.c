/* A GGUF file's own vocabulary, read as llama.cpp reads it: byte-level BPE with merges ("gpt2"), SentencePiece's BPE with scores ("llama").
 * Tokens of type user-defined are found in text, control tokens are not: llama.cpp's tools leave them as text as well. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "datasets/pretokenizer_table.h"
#include "datasets/tokenizer_internal.h"
#include "datasets/utf8.h"
#include "engine/gguf.h"

enum { TYPE_USER_DEFINED = 4 };

/* What the file says; lists are borrowed from it. */
typedef struct listed {
    const dsb_gguf_string *tokens, *merges;
    const float *scores;
    const int64_t *types;
    size_t n_token, n_merge, n_score, n_type;
} listed;

static dsb_status read_vocab(dsb_vocab *v, const listed *g, dsb_err *err) {
    for (size_t i = 0; i < g->n_token; i++) {
        const dsb_gguf_string *t = &g->tokens[i];
        size_t bad = dsb_utf8_check(t->text, t->n);
        if (bad < t->n) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.tokens: token %zu isn't UTF-8 at its byte %zu", v->name, i, bad);
        if (t->n) DSB_TRY(dsb_vocab_put(v, t->text, t->n, (int32_t)i, err)); /* an empty one only takes an id */
    }
    return v->n ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.tokens is empty", v->name);
}

static dsb_status read_merges(dsb_bpe *bpe, const dsb_vocab *v, const listed *g, dsb_err *err) {
    for (size_t i = 0; i < g->n_merge; i++) {
        const dsb_gguf_string *t = &g->merges[i];
        const char *space = t->n > 1 ? memchr(t->text + 1, ' ', t->n - 1) : NULL;
        size_t n_left = space ? (size_t)(space - t->text) : 0;
        if (!space || n_left + 1 == t->n) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.merges: merge %zu is no pair of tokens (\"a b\")", v->name, i);
        DSB_TRY(dsb_bpe_add_merge(bpe, v, i, t->text, n_left, space + 1, t->n - n_left - 1, true, err));
    }
    return DSB_OK;
}

static dsb_status read_scores(dsb_bpe *bpe, const dsb_vocab *v, const listed *g, dsb_err *err) {
    float *scores = NULL;
    DSB_TRY(DSB_NEW(scores, v->n, v->name, err));
    for (size_t i = 0; i < v->n; i++) scores[i] = g->scores[v->items[i].id];
    dsb_status s = dsb_bpe_add_scores(bpe, v, scores, err);
    free(scores);
    return s;
}

static dsb_status read_model(dsb_tokenizer *tok, dsb_vocab *v, const listed *g, const dsb_bpe_options *o, dsb_err *err) {
    DSB_TRY(read_vocab(v, g, err));
    DSB_TRY(dsb_bpe_begin(&tok->bpe, v, o, g->n_merge, err));
    DSB_TRY(o->byte_level ? read_merges(&tok->bpe, v, g, err) : read_scores(&tok->bpe, v, g, err));
    return dsb_bpe_end(&tok->bpe, v, o, err);
}

static dsb_status read_added(dsb_tokenizer *tok, const listed *g, dsb_err *err) {
    DSB_TRY(dsb_added_tokens_init(&tok->added, tok->name, NULL, &tok->bpe, &tok->norm, err));
    for (size_t i = 0; i < g->n_type && i < g->n_token; i++)
        if (g->types[i] == TYPE_USER_DEFINED && g->tokens[i].n) DSB_TRY(dsb_added_tokens_add(&tok->added, tok->name, (int32_t)i, g->tokens[i].text, g->tokens[i].n, err));
    return DSB_OK;
}

/* Where the file says nothing: llama.cpp adds a BOS for "llama" (and some of "gpt2"), whose id is 1. */
static dsb_status read_bos(dsb_tokenizer *tok, const dsb_gguf *f, bool adds, bool byte_level, dsb_err *err) {
    int64_t id = -1;
    DSB_TRY(dsb_gguf_int(f, "tokenizer.ggml.bos_token_id", false, 0, INT32_MAX, &id, err));
    bool given = id >= 0;
    if (!given && !byte_level) id = 1;
    bool known = id >= 0 && (size_t)id < tok->n_id && tok->tokens[id].bytes;
    if (given && !known) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.bos_token_id is %lld; its ids end at %zu", tok->name, (long long)id, tok->n_id - 1);
    DSB_TRY(dsb_gguf_bool(f, "tokenizer.ggml.add_bos_token", false, &adds, err));
    tok->adds_bos = adds;
    if (known) tok->bos_id = (int32_t)id;
    return adds && !known ? dsb_fail(err, DSB_EINPUT, "%s: its vocabulary begins a text with a BOS token, but names none (tokenizer.ggml.bos_token_id)", tok->name) : DSB_OK;
}

static dsb_status read_lists(dsb_gguf *f, listed *g, bool byte_level, dsb_err *err) {
    DSB_TRY(dsb_gguf_strings(f, "tokenizer.ggml.tokens", true, &g->tokens, &g->n_token, err));
    DSB_TRY(dsb_gguf_ints(f, "tokenizer.ggml.token_type", false, &g->types, &g->n_type, err));
    if (byte_level) DSB_TRY(dsb_gguf_strings(f, "tokenizer.ggml.merges", true, &g->merges, &g->n_merge, err));
    else DSB_TRY(dsb_gguf_floats(f, "tokenizer.ggml.scores", true, &g->scores, &g->n_score, err));
    if (!byte_level && g->n_score < g->n_token) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.scores has %zu elements, tokens %zu", f->path, g->n_score, g->n_token);
    if (g->types && g->n_type < g->n_token) return dsb_fail(err, DSB_EINPUT, "%s: tokenizer.ggml.token_type has %zu elements, tokens %zu", f->path, g->n_type, g->n_token);
    return DSB_OK;
}

static dsb_status read_file(dsb_tokenizer *tok, dsb_gguf *f, dsb_err *err) {
    static const char *const none[] = { NULL };
    const char *model = NULL, *pre = "";
    bool marks = true;
    listed g = { 0 };
    dsb_vocab v;
    DSB_TRY(dsb_gguf_text(f, "tokenizer.ggml.model", true, &model, err));
    DSB_TRY(dsb_gguf_text(f, "tokenizer.ggml.pre", false, &pre, err));
    DSB_TRY(dsb_gguf_bool(f, "tokenizer.ggml.add_space_prefix", false, &marks, err));
    bool byte_level = strcmp(model, "gpt2") == 0;
    const dsb_pretokenizer_row *row = byte_level ? dsb_pretokenizer_find(pre) : NULL;
    if (!byte_level && strcmp(model, "llama") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tokenizer.ggml.model is \"%s\"; gpt2 and llama are read", tok->name, model);
    if (byte_level && !row) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tokenizer.ggml.pre is \"%s\", a pre-tokenizer that this build doesn't know", tok->name, pre);
    DSB_TRY(read_lists(f, &g, byte_level, err));
    DSB_TRY(dsb_pretokenizer_init_patterns(&tok->pre, tok->name, row ? row->patterns : none, err));
    tok->pre.byte_level = byte_level;
    DSB_TRY(byte_level ? dsb_normalizer_init(&tok->norm, tok->name, NULL, err) : dsb_normalizer_init_marks(&tok->norm, tok->name, marks, err));
    dsb_bpe_options o = { .byte_level = byte_level, .byte_fallback = !byte_level, .scored = !byte_level, .ignore_merges = row && row->ignore_merges };
    DSB_TRY(dsb_vocab_init(&v, tok->name, g.n_token, err));
    dsb_status s = read_model(tok, &v, &g, &o, err);
    dsb_vocab_release(&v);
    if (s) return s;
    DSB_TRY(read_added(tok, &g, err));
    DSB_TRY(tokenizer_index(tok, err));
    return read_bos(tok, f, row ? row->add_bos : true, byte_level, err);
}

dsb_status tokenizer_read_gguf(dsb_tokenizer *tok, const char *path, dsb_err *err) {
    dsb_gguf f;
    DSB_TRY(dsb_gguf_open(&f, path, err));
    dsb_status s = read_file(tok, &f, err);
    dsb_gguf_close(&f);
    return s;
}
