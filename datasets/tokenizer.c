#include "datasets/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "datasets/tokenizer_internal.h"
#include "engine/gguf.h"

/* Opening */

static dsb_status create(dsb_tokenizer **out, const char *name, dsb_err *err) {
    *out = calloc(1, sizeof **out);
    if (*out && ((*out)->name = strdup(name))) {
        (*out)->bos_id = -1;
        return DSB_OK;
    }
    free(*out);
    *out = NULL;
    return dsb_fail(err, DSB_ENOMEM, "%s: no memory for a tokenizer", name);
}

/* Hands over what was read, or nothing. */
static dsb_status finish(dsb_tokenizer **out, dsb_tokenizer *tok, dsb_status s) {
    if (s) dsb_tokenizer_close(tok);
    else *out = tok;
    return s;
}

static dsb_status open_json(dsb_tokenizer **out, const char *name, const json_t *json, const char *config_name, const json_t *config, dsb_err *err) {
    dsb_tokenizer *tok;
    DSB_TRY(create(&tok, name, err));
    return finish(out, tok, tokenizer_read(tok, name, json, config_name, config, err));
}

static dsb_status open_dir(dsb_tokenizer **out, const char *path, const char *config_path, dsb_err *err) {
    json_t *json = NULL, *config = NULL;
    dsb_status s = dsb_json_load(&json, path, err);
    if (!s && access(config_path, F_OK) == 0) s = dsb_json_load(&config, config_path, err);
    if (!s) s = open_json(out, path, json, config_path, config, err);
    json_decref(json);
    json_decref(config);
    return s;
}

dsb_status dsb_tokenizer_open_bytes(dsb_tokenizer **out, const char *name, const char *text, size_t n, dsb_err *err) {
    json_t *json = NULL;
    *out = NULL;
    DSB_TRY(dsb_json_parse(&json, name, text, n, err));
    dsb_status s = open_json(out, name, json, NULL, NULL, err);
    json_decref(json);
    return s;
}

static dsb_status open_file(dsb_tokenizer **out, const char *path, dsb_err *err) {
    dsb_map map;
    if (dsb_gguf_is(path)) {
        dsb_tokenizer *tok;
        DSB_TRY(create(&tok, path, err));
        return finish(out, tok, tokenizer_read_gguf(tok, path, err));
    }
    DSB_TRY(dsb_map_open(&map, path, err));
    dsb_status s = dsb_tokenizer_open_bytes(out, path, (const char *)map.data, map.size, err);
    dsb_map_close(&map);
    return s;
}

dsb_status dsb_tokenizer_open(dsb_tokenizer **out, const char *path, dsb_err *err) {
    struct stat st;
    *out = NULL;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return open_file(out, path, err);
    char *json = NULL, *config = NULL;
    if (asprintf(&json, "%s/tokenizer.json", path) < 0) json = NULL;
    if (asprintf(&config, "%s/tokenizer_config.json", path) < 0) config = NULL;
    dsb_status s = json && config ? open_dir(out, json, config, err) : dsb_fail(err, DSB_ENOMEM, "%s: no memory for its path", path);
    free(json);
    free(config);
    return s;
}

void dsb_tokenizer_close(dsb_tokenizer *tok) {
    if (!tok) return;
    dsb_normalizer_release(&tok->norm);
    dsb_pretokenizer_release(&tok->pre);
    dsb_added_tokens_release(&tok->added);
    dsb_bpe_release(&tok->bpe);
    free(tok->tokens);
    free(tok->spelled);
    free(tok->name);
    free(tok);
}

size_t dsb_tokenizer_vocab_size(const dsb_tokenizer *tok) { return tok->n_id; }
bool dsb_tokenizer_adds_bos(const dsb_tokenizer *tok) { return tok->adds_bos; }
int32_t dsb_tokenizer_bos_id(const dsb_tokenizer *tok) { return tok->bos_id; }

dsb_status dsb_tokenizer_token_bytes(const dsb_tokenizer *tok, int32_t id, const uint8_t **bytes, size_t *n, dsb_err *err) {
    if (id < 0 || (size_t)id >= tok->n_id || !tok->tokens[id].bytes) return dsb_fail(err, DSB_EINPUT, "%s: no token has id %d; its ids end at %zu", tok->name, id, tok->n_id - 1);
    *bytes = tok->tokens[id].bytes;
    *n = tok->tokens[id].n;
    return DSB_OK;
}

/* What tokens stand for */

static const char *blank_of(const dsb_tokenizer *tok) { return *tok->pre.blank ? tok->pre.blank : tok->norm.blank; }

/* A token over characters: <0xNN> is a byte, the mark of a blank is a blank. Never longer than its text. */
static size_t spell(const dsb_tokenizer *tok, int32_t id, uint8_t *out) {
    const dsb_token *t = &tok->bpe.tokens[id];
    const char *blank = blank_of(tok), *p = (const char *)t->bytes, *end = p + t->n;
    size_t len = strlen(blank), n = 0;
    for (int b = 0; tok->bpe.byte_fallback && t->n == 6 && b < 256; b++)
        if (tok->bpe.byte_id[b] == id) return *out = (uint8_t)b, 1;
    while (p < end) {
        bool is_blank = len && (size_t)(end - p) >= len && memcmp(p, blank, len) == 0;
        out[n++] = is_blank ? ' ' : (uint8_t)*p;
        p += is_blank ? len : 1;
    }
    return n;
}

static dsb_status spell_all(dsb_tokenizer *tok, dsb_err *err) {
    size_t room = 1, at = 0;
    for (size_t i = 0; i < tok->bpe.n_id; i++) room += tok->bpe.tokens[i].n;
    DSB_TRY(DSB_NEW(tok->spelled, room, tok->name, err));
    for (size_t i = 0; i < tok->bpe.n_id; i++) {
        if (!tok->bpe.tokens[i].bytes) continue;
        size_t n = spell(tok, (int32_t)i, tok->spelled + at);
        tok->tokens[i] = (dsb_token){ tok->spelled + at, (uint32_t)n };
        at += n;
    }
    return DSB_OK;
}

dsb_status tokenizer_index(dsb_tokenizer *tok, dsb_err *err) {
    tok->n_id = tok->bpe.n_id;
    for (size_t i = 0; i < tok->added.n; i++)
        if ((size_t)tok->added.items[i].id >= tok->n_id) tok->n_id = (size_t)tok->added.items[i].id + 1;
    DSB_TRY(DSB_NEW(tok->tokens, tok->n_id, tok->name, err));
    if (tok->bpe.byte_level) memcpy(tok->tokens, tok->bpe.tokens, tok->bpe.n_id * sizeof *tok->tokens);
    else DSB_TRY(spell_all(tok, err));
    for (size_t i = 0; i < tok->added.n; i++) {
        const dsb_added_token *t = &tok->added.items[i];
        tok->tokens[t->id] = (dsb_token){ (const uint8_t *)t->content, (uint32_t)t->n };
    }
    return DSB_OK;
}

/* A text in memory goes the way of one that comes in pieces. */

enum { PIECE = 1 << 18 };

static dsb_status encode_pieces(dsb_token_stream *stream, const char *text, size_t n, dsb_id_list *all, dsb_err *err) {
    size_t at = 0;
    do {
        const int32_t *ids;
        size_t n_ids, piece = n - at < PIECE ? n - at : PIECE;
        DSB_TRY(dsb_token_stream_put(stream, n ? text + at : "", piece, at + piece == n, &ids, &n_ids, err));
        DSB_TRY(dsb_id_list_append(all, ids, n_ids, err));
        at += piece;
    } while (at < n);
    return DSB_OK;
}

dsb_status dsb_tokenizer_encode(const dsb_tokenizer *tok, const char *name, const char *text, size_t n, bool add_bos, int32_t **ids, size_t *n_ids, dsb_err *err) {
    dsb_token_stream *stream;
    dsb_id_list all = { 0 };
    *ids = NULL;
    *n_ids = 0;
    DSB_TRY(dsb_token_stream_open(&stream, tok, name, add_bos, err));
    dsb_status s = encode_pieces(stream, text, n, &all, err);
    uint32_t c;
    if (!s && dsb_token_stream_dropped(stream, &c)) s = dsb_fail(err, DSB_EINPUT, "%s: %s0x%02x is in the text, but no token of %s stands for it; a text or a tokenizer without gaps is wanted", name, tok->bpe.byte_level ? "byte " : "character ", c, tok->name);
    dsb_token_stream_close(stream);
    if (s) {
        free(all.items);
        return s;
    }
    *ids = all.items;
    *n_ids = all.n;
    return DSB_OK;
}
