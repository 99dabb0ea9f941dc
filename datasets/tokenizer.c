#include "datasets/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "datasets/tokenizer_internal.h"
#include "datasets/utf8.h"

/* Opening */

static dsb_status open_json(dsb_tokenizer **out, const char *name, const json_t *json, const char *config_name, const json_t *config, dsb_err *err) {
    dsb_tokenizer *tok = calloc(1, sizeof *tok);
    *out = NULL;
    if (!tok) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for a tokenizer", name);
    dsb_status s = tokenizer_read(tok, name, json, config_name, config, err);
    if (s) dsb_tokenizer_close(tok);
    else *out = tok;
    return s;
}

static dsb_status open_files(dsb_tokenizer **out, const char *path, const char *config_path, dsb_err *err) {
    json_t *json = NULL, *config = NULL;
    dsb_status s = dsb_json_load(&json, path, err);
    if (!s && config_path && access(config_path, F_OK) == 0) s = dsb_json_load(&config, config_path, err);
    if (!s) s = open_json(out, path, json, config_path, config, err);
    json_decref(json);
    json_decref(config);
    return s;
}

dsb_status dsb_tokenizer_open(dsb_tokenizer **out, const char *dir_or_json, dsb_err *err) {
    struct stat st;
    *out = NULL;
    if (stat(dir_or_json, &st) != 0 || !S_ISDIR(st.st_mode)) return open_files(out, dir_or_json, NULL, err);
    char *path = NULL, *config_path = NULL;
    if (asprintf(&path, "%s/tokenizer.json", dir_or_json) < 0) path = NULL;
    if (asprintf(&config_path, "%s/tokenizer_config.json", dir_or_json) < 0) config_path = NULL;
    dsb_status s = path && config_path ? open_files(out, path, config_path, err) : dsb_fail(err, DSB_ENOMEM, "%s: no memory for its path", dir_or_json);
    free(path);
    free(config_path);
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

void dsb_tokenizer_close(dsb_tokenizer *tok) {
    if (!tok) return;
    dsb_pretokenizer_release(&tok->pre);
    dsb_added_tokens_release(&tok->added);
    dsb_bpe_release(&tok->bpe);
    free(tok->tokens);
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

/* Encoding: added tokens of both passes, then words, then merges */

typedef struct encoder {
    const dsb_tokenizer *tok;
    dsb_pretokenizer_work pre;
    dsb_bpe_work bpe;
    dsb_id_list ids;
    dsb_err *err;
} encoder;

static dsb_status encode_plain(encoder *e, const char *text, size_t n) {
    DSB_TRY(dsb_pretokenizer_run(&e->tok->pre, &e->pre, text, n, e->err));
    for (size_t i = 0; i < e->pre.words.n; i++) {
        dsb_span word = e->pre.words.items[i];
        DSB_TRY(dsb_bpe_encode(&e->tok->bpe, &e->bpe, (const uint8_t *)word.p, word.n, &e->ids, e->err));
    }
    return DSB_OK;
}

static dsb_status encode_pass(encoder *e, int pass, const char *text, size_t n) {
    if (pass == 2) return encode_plain(e, text, n);
    for (size_t from = 0; from < n;) {
        const dsb_added_token *token;
        size_t begin = n, end = n;
        DSB_TRY(dsb_added_tokens_match(&e->tok->added, pass, e->pre.regex, text, n, from, &token, &begin, &end, e->err));
        if (begin > from) DSB_TRY(encode_pass(e, pass + 1, text + from, begin - from));
        if (token) DSB_TRY(dsb_id_list_push(&e->ids, token->id, e->err));
        from = end;
    }
    return DSB_OK;
}

static dsb_status check_text(const dsb_tokenizer *tok, const char *name, const char *text, size_t n, dsb_err *err) {
    size_t bad = dsb_utf8_check(text, n);
    if (bad < n) return dsb_fail(err, DSB_EINPUT, "%s: byte 0x%02x at offset %zu isn't UTF-8; convert the text first (iconv -t UTF-8)", name, (unsigned char)text[bad], bad);
    bad = tok->nfc ? dsb_utf8_nfc_check(text, n) : n;
    if (bad < n) {
        size_t len;
        uint32_t c = dsb_utf8_decode(text + bad, &len);
        return dsb_fail(err, DSB_EUNSUPPORTED, "%s: U+%04X at offset %zu: %s normalizes to NFC, which this build doesn't do; it reads texts that NFC surely leaves alone", name, c, bad, tok->name);
    }
    return DSB_OK;
}

dsb_status dsb_tokenizer_encode(const dsb_tokenizer *tok, const char *name, const char *text, size_t n, bool add_bos, int32_t **ids, size_t *n_ids, dsb_err *err) {
    *ids = NULL;
    *n_ids = 0;
    DSB_TRY(check_text(tok, name, text, n, err));
    if (add_bos && tok->bos_id < 0) return dsb_fail(err, DSB_EINPUT, "%s: names no BOS token (post_processor, or bos_token in tokenizer_config.json)", tok->name);
    dsb_err inner;
    encoder e = {.tok = tok, .err = &inner};
    dsb_status s = dsb_pretokenizer_work_init(&e.pre, &inner);
    if (!s && add_bos) s = dsb_id_list_push(&e.ids, tok->bos_id, &inner);
    if (!s) s = encode_pass(&e, 0, text, n);
    dsb_pretokenizer_work_release(&e.pre);
    dsb_bpe_work_release(&e.bpe);
    if (s) {
        free(e.ids.items);
        return dsb_fail(err, s, "%s: %s", name, inner.text);
    }
    *ids = e.ids.items;
    *n_ids = e.ids.n;
    return DSB_OK;
}
