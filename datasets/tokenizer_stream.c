/* A text's way to ids: added tokens that aren't normalized → normalizer → added tokens that are → words → merges.
 * Each stage keeps what can't be decided before more text comes, so that pieces give the ids of the whole. */
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_internal.h"
#include "datasets/utf8.h"

/* Words are looked for in at least so many bytes at a time, unless the text ends. */
enum { LOOK_MIN = 1 << 16 };

struct dsb_token_stream {
    const dsb_tokenizer *tok;
    char *name;     /* owned */
    bool begun;     /* a piece came */
    size_t offset;  /* of the text, of what isn't in `raw` yet */
    char tail[4];   /* the beginning of a character that isn't whole yet */
    size_t n_tail;
    dsb_buffer raw;        /* before the first pass */
    dsb_buffer plain;      /* before the normalizer */
    bool normalizing;      /* some of this text between tokens went through it */
    dsb_buffer normalized; /* before the second pass */
    dsb_pretokenizer_work pre;
    dsb_bpe_work bpe;
    dsb_id_list ids;
};

/* Words and merges; last: no more of this text between tokens. */

static dsb_status encode_words(dsb_token_stream *st, bool more, dsb_err *err) {
    const dsb_bpe *bpe = &st->tok->bpe;
    size_t used, n_closed, cut;
    DSB_TRY(dsb_pretokenizer_run(&st->tok->pre, &st->pre, more, &used, err));
    n_closed = st->pre.words.n - st->pre.open;
    for (size_t i = 0; i < st->pre.words.n; i++) {
        dsb_span word = st->pre.words.items[i];
        if (!bpe->byte_level) {
            DSB_TRY(dsb_bpe_encode_cut(bpe, &st->bpe, (const uint8_t *)word.p, word.n, i == n_closed, &cut, &st->ids, err));
            if (i == n_closed) used += cut;
        } else if (i < n_closed) DSB_TRY(dsb_bpe_encode(bpe, &st->bpe, (const uint8_t *)word.p, word.n, &st->ids, err));
    }
    dsb_buffer_drop(&st->pre.text, used);
    if (st->pre.text.wait < LOOK_MIN) st->pre.text.wait = LOOK_MIN;
    return DSB_OK;
}

static dsb_status put_words(dsb_token_stream *st, const char *text, size_t n, bool last, dsb_err *err) {
    DSB_TRY(dsb_pretokenizer_put(&st->tok->pre, &st->pre, text, n, err));
    if (last || st->pre.text.n >= st->pre.text.wait) DSB_TRY(encode_words(st, !last, err));
    if (last) dsb_pretokenizer_end(&st->pre);
    return DSB_OK;
}

/* Added tokens of both passes */

typedef dsb_status (*next_stage)(dsb_token_stream *st, const char *text, size_t n, bool last, dsb_err *err);

static dsb_status find_tokens(dsb_token_stream *st, int pass, dsb_buffer *text, bool last, next_stage next, dsb_err *err) {
    size_t from = 0;
    if (!last && text->n < text->wait) return DSB_OK;
    for (;;) {
        const dsb_added_token *token;
        size_t begin, end;
        DSB_TRY(dsb_added_tokens_match(&st->tok->added, pass, st->pre.regex, text->data, text->n, from, !last, &token, &begin, &end, err));
        DSB_TRY(next(st, text->data ? text->data + from : "", begin - from, token || last, err));
        from = begin;
        if (!token) break;
        DSB_TRY(dsb_id_list_push(&st->ids, token->id, err));
        from = end;
        st->pre.at_start = false;
    }
    dsb_buffer_drop(text, from);
    if (last) text->wait = 0;
    return DSB_OK;
}

static dsb_status put_normalized(dsb_token_stream *st, const char *text, size_t n, bool last, dsb_err *err) {
    if (st->tok->added.tries[1].n == 0) return put_words(st, text, n, last, err);
    DSB_TRY(dsb_buffer_put(&st->normalized, text, n, err));
    return find_tokens(st, 1, &st->normalized, last, put_words, err);
}

/* The normalizer */

static dsb_status put_plain(dsb_token_stream *st, const char *text, size_t n, bool last, dsb_err *err) {
    const dsb_normalizer *norm = &st->tok->norm;
    if (norm->n_step == 0) return put_normalized(st, text, n, last, err);
    DSB_TRY(dsb_buffer_put(&st->plain, text, n, err));
    if (!last && st->plain.n < st->plain.wait) return DSB_OK;
    size_t ready = last ? st->plain.n : dsb_normalizer_ready(norm, st->plain.data, st->plain.n);
    dsb_buffer piece = { 0 };
    dsb_status s = dsb_buffer_put(&piece, st->plain.data, ready, err);
    if (!s) s = dsb_normalizer_run(norm, st->pre.regex, &piece, !st->normalizing, err);
    if (!s) s = put_normalized(st, piece.data, piece.n, last, err);
    dsb_buffer_release(&piece);
    dsb_buffer_drop(&st->plain, ready);
    st->normalizing = (st->normalizing || ready) && !last;
    if (last) st->plain.wait = 0;
    return s;
}

/* Bytes */

static dsb_status bad_utf8(const dsb_token_stream *st, const char *p, size_t offset, dsb_err *err) {
    return dsb_fail(err, DSB_EINPUT, "%s: byte 0x%02x at offset %zu isn't UTF-8; convert the text first (iconv -t UTF-8)", st->name, (unsigned char)*p, offset);
}

/* True where the n bytes at p, fewer than a character, may be the beginning of one. */
static bool may_go_on(const char *p, size_t n) {
    static const char fill[] = "\x80\xbf\xa0\x8f\x90"; /* a second byte that suits every first one is among these */
    char c[4];
    size_t want = (unsigned char)p[0] >= 0xf0 ? 4 : (unsigned char)p[0] >= 0xe0 ? 3 : 2;
    if (n == 0 || n >= want) return false;
    memcpy(c, p, n);
    for (const char *f = fill; *f; f++) {
        if (n == 1) c[1] = *f;
        memset(c + (n == 1 ? 2 : n), 0x80, want - (n == 1 ? 2 : n));
        if (dsb_utf8_check(c, want) == want) return true;
    }
    return false;
}

/* Appends the whole characters to `raw`, keeps the beginning of one in `tail`. */
static dsb_status put_bytes(dsb_token_stream *st, const char *text, size_t n, bool last, dsb_err *err) {
    while (st->n_tail && n) {
        st->tail[st->n_tail++] = *text++;
        n--;
        if (dsb_utf8_check(st->tail, st->n_tail) == st->n_tail) {
            DSB_TRY(dsb_buffer_put(&st->raw, st->tail, st->n_tail, err));
            st->offset += st->n_tail;
            st->n_tail = 0;
        } else if (!may_go_on(st->tail, st->n_tail)) return bad_utf8(st, st->tail, st->offset, err);
    }
    size_t good = st->n_tail ? 0 : dsb_utf8_check(text, n);
    DSB_TRY(dsb_buffer_put(&st->raw, text, good, err));
    st->offset += good;
    if (good < n) {
        if (n - good >= sizeof st->tail || !may_go_on(text + good, n - good)) return bad_utf8(st, text + good, st->offset, err);
        memcpy(st->tail, text + good, st->n_tail = n - good);
    }
    return last && st->n_tail ? bad_utf8(st, st->tail, st->offset, err) : DSB_OK;
}

dsb_status dsb_token_stream_open(dsb_token_stream **out, const dsb_tokenizer *tok, const char *name, bool add_bos, dsb_err *err) {
    *out = NULL;
    if (add_bos && tok->bos_id < 0) return dsb_fail(err, DSB_EINPUT, "%s: names no BOS token (post_processor, bos_token in tokenizer_config.json, or bos_token_id of a GGUF file)", tok->name);
    dsb_token_stream *st = calloc(1, sizeof *st);
    if (!st || !(st->name = strdup(name))) {
        free(st);
        return dsb_fail(err, DSB_ENOMEM, "%s: no memory to tokenize it", name);
    }
    st->tok = tok;
    dsb_status s = dsb_pretokenizer_work_init(&st->pre, err);
    st->pre.at_start = true;
    if (!s && add_bos) s = dsb_id_list_push(&st->ids, tok->bos_id, err);
    if (s) dsb_token_stream_close(st);
    else *out = st;
    return s;
}

dsb_status dsb_token_stream_put(dsb_token_stream *st, const char *text, size_t n, bool last, const int32_t **ids, size_t *n_ids, dsb_err *err) {
    dsb_err inner;
    if (st->begun) st->ids.n = 0; /* the first piece finds the BOS there */
    st->begun = true;
    *ids = NULL;
    *n_ids = 0;
    DSB_TRY(put_bytes(st, text, n, last, err));
    dsb_status s = find_tokens(st, 0, &st->raw, last, put_plain, &inner);
    if (s) return dsb_fail(err, s, "%s: %s", st->name, inner.text);
    *ids = st->ids.items;
    *n_ids = st->ids.n;
    return DSB_OK;
}

bool dsb_token_stream_dropped(const dsb_token_stream *st, uint32_t *c) {
    *c = st->bpe.dropped ? st->bpe.dropped - 1 : 0;
    return st->bpe.dropped > 0;
}

void dsb_token_stream_close(dsb_token_stream *st) {
    if (!st) return;
    dsb_buffer_release(&st->raw);
    dsb_buffer_release(&st->plain);
    dsb_buffer_release(&st->normalized);
    dsb_pretokenizer_work_release(&st->pre);
    dsb_bpe_work_release(&st->bpe);
    free(st->ids.items);
    free(st->name);
    free(st);
}
