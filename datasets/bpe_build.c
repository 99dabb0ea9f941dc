#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "datasets/bpe_internal.h"
#include "datasets/utf8.h"

/* Every split of a token is tried where merges come from scores: real ones have some dozen bytes. */
enum { SCORED_MAX = 1024 };

/* The file's vocabulary */

dsb_status dsb_vocab_init(dsb_vocab *v, const char *name, size_t room, dsb_err *err) {
    *v = (dsb_vocab){ .name = name, .n_slot = 16 };
    if (room > BPE_MAX_ID) return dsb_fail(err, DSB_EINPUT, "%s: a vocabulary of %zu tokens; at most %d are read", name, room, BPE_MAX_ID);
    while (v->n_slot < 2 * room) v->n_slot *= 2;
    dsb_status s = DSB_NEW(v->items, room + 1, name, err);
    if (!s) s = DSB_NEW(v->slots, v->n_slot, name, err);
    if (s) dsb_vocab_release(v);
    else memset(v->slots, 0xff, v->n_slot * sizeof *v->slots);
    return s;
}

void dsb_vocab_release(dsb_vocab *v) {
    free(v->items);
    free(v->slots);
    *v = (dsb_vocab){ 0 };
}

static size_t vocab_slot(const dsb_vocab *v, const char *text, size_t n) {
    size_t i = bpe_hash((const uint8_t *)text, n) & (v->n_slot - 1);
    for (; v->slots[i] >= 0; i = (i + 1) & (v->n_slot - 1)) {
        const dsb_vocab_item *item = &v->items[v->slots[i]];
        if (item->n == n && memcmp(item->text, text, n) == 0) break;
    }
    return i;
}

int32_t dsb_vocab_find(const dsb_vocab *v, const char *text, size_t n) {
    int32_t item = v->slots[vocab_slot(v, text, n)];
    return item < 0 ? -1 : v->items[item].id;
}

dsb_status dsb_vocab_put(dsb_vocab *v, const char *text, size_t n, int32_t id, dsb_err *err) {
    size_t slot = vocab_slot(v, text, n);
    if (v->slots[slot] >= 0) return dsb_fail(err, DSB_EINPUT, "%s: token \"%.*s\" has two ids, %d and %d", v->name, (int)(n < 80 ? n : 80), text, v->items[v->slots[slot]].id, id);
    v->slots[slot] = (int32_t)v->n;
    v->items[v->n++] = (dsb_vocab_item){ text, n, id };
    return DSB_OK;
}

/* Tokens */

static dsb_status measure(dsb_bpe *bpe, const dsb_vocab *v, size_t *n_bytes, size_t *n_char, dsb_err *err) {
    int32_t largest = -1;
    *n_bytes = *n_char = 0;
    for (size_t i = 0; i < v->n; i++) {
        const dsb_vocab_item *t = &v->items[i];
        size_t len = 0;
        if (t->n > UINT32_MAX / 4) return dsb_fail(err, DSB_EINPUT, "%s: token %d has %zu bytes", v->name, t->id, t->n);
        if (t->id > largest) largest = t->id;
        *n_bytes += t->n + 1;
        if (t->n) dsb_utf8_decode(t->text, &len);
        *n_char += len && len == t->n;
    }
    bpe->n_id = (size_t)largest + 1;
    return DSB_OK;
}

static dsb_status add_token(dsb_bpe *bpe, const dsb_vocab *v, const dsb_vocab_item *t, size_t *at, dsb_err *err) {
    uint8_t *bytes = bpe->text + *at;
    size_t n = t->n, len;
    if (bpe->tokens[t->id].bytes) return dsb_fail(err, DSB_EINPUT, "%s: id %d is given twice, the second time to \"%.*s\"", v->name, t->id, (int)(n < 80 ? n : 80), t->text);
    /* Tokens outside the byte alphabet can't arise from text; they stand for their own UTF-8. */
    bool in_alphabet = bpe->byte_level && dsb_byte_level_decode(t->text, t->n, bytes, &n);
    if (!in_alphabet && t->n) memcpy(bytes, t->text, n = t->n);
    bpe->tokens[t->id] = (dsb_token){ bytes, (uint32_t)n };
    if (in_alphabet && n == 1) bpe->byte_id[bytes[0]] = t->id;
    if (!bpe->byte_level && t->n) {
        uint32_t c = dsb_utf8_decode(t->text, &len);
        if (len == t->n) bpe_char_put(bpe, c, t->id);
    }
    *at += t->n + 1;
    return DSB_OK;
}

/* <0x00> to <0xFF>: what bytes of characters without a token become. */
static void find_byte_tokens(dsb_bpe *bpe, const dsb_vocab *v) {
    char text[8];
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        bpe->byte_id[b] = dsb_vocab_find(v, text, 6);
    }
}

static bool has_all_bytes(const dsb_bpe *bpe) {
    for (int b = 0; b < 256; b++)
        if (bpe->byte_id[b] < 0) return false;
    return true;
}

static dsb_status find_unknown(dsb_bpe *bpe, const dsb_vocab *v, const dsb_bpe_options *o, dsb_err *err) {
    bpe->unk_id = -1;
    if (has_all_bytes(bpe) && (o->byte_level || o->byte_fallback)) return DSB_OK; /* nothing is unknown */
    if (o->byte_level && o->byte_fallback) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: model: \"byte_fallback\" is set and some byte has no token; this build reads byte-level BPE without a fallback", v->name);
    if (!o->unk_token) {
        bpe->cuts = bpe->cuts && o->scored; /* what is dropped would make neighbours of others */
        return DSB_OK;
    }
    bpe->unk_id = dsb_vocab_find(v, o->unk_token, strlen(o->unk_token));
    return bpe->unk_id >= 0 ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: model: \"unk_token\" \"%s\" is no token of the vocabulary", v->name, o->unk_token);
}

dsb_status dsb_bpe_begin(dsb_bpe *bpe, const dsb_vocab *v, const dsb_bpe_options *o, size_t n_merge, dsb_err *err) {
    size_t n_bytes, n_char, at = 0;
    *bpe = (dsb_bpe){ .byte_level = o->byte_level, .byte_fallback = o->byte_fallback, .fuse_unk = o->fuse_unk, .scored = o->scored, .cuts = !o->byte_level && !o->ignore_merges };
    if (n_merge > BPE_MAX_ID) return dsb_fail(err, DSB_EINPUT, "%s: model: %zu merges; at most %d are read", v->name, n_merge, BPE_MAX_ID);
    DSB_TRY(measure(bpe, v, &n_bytes, &n_char, err));
    for (bpe->n_char_slot = 16; bpe->n_char_slot < 2 * n_char;) bpe->n_char_slot *= 2;
    for (bpe->n_slot = 16; bpe->n_slot < 2 * n_merge;) bpe->n_slot *= 2;
    bpe->n_pair_slot = bpe->cuts ? bpe->n_slot : 1;
    DSB_TRY(DSB_NEW(bpe->tokens, bpe->n_id, v->name, err));
    DSB_TRY(DSB_NEW(bpe->text, n_bytes, v->name, err));
    DSB_TRY(DSB_NEW(bpe->chars, bpe->n_char_slot, v->name, err));
    DSB_TRY(DSB_NEW(bpe->merges, bpe->n_slot, v->name, err));
    DSB_TRY(DSB_NEW(bpe->pairs, bpe->n_pair_slot, v->name, err));
    memset(bpe->byte_id, 0xff, sizeof bpe->byte_id);
    memset(bpe->ascii, 0xff, sizeof bpe->ascii);
    for (size_t i = 0; i < bpe->n_char_slot; i++) bpe->chars[i].id = -1;
    for (size_t i = 0; i < bpe->n_slot; i++) bpe->merges[i].left = BPE_NO_MERGE;
    for (size_t i = 0; i < v->n; i++) DSB_TRY(add_token(bpe, v, &v->items[i], &at, err));
    if (!o->byte_level) find_byte_tokens(bpe, v);
    return find_unknown(bpe, v, o, err);
}

/* Merges */

static bool is_byte_token(const dsb_bpe *bpe, int32_t id) {
    if (id < 0 || bpe->tokens[id].n != 6 || bpe->tokens[id].bytes[0] != '<') return false;
    for (int b = 0; b < 256; b++)
        if (id == bpe->byte_id[b]) return true;
    return false;
}

/* What a merge joins: the last character of its left part and the first of its right one. A part that stands for other text than
 * its own (a byte, the unknown token) would join characters that aren't known here. */
static void note_pair(dsb_bpe *bpe, dsb_bpe_merge m, const char *left, size_t n_left, const char *right) {
    size_t len;
    if (!bpe->cuts) return;
    if (!bpe->scored && (m.left == bpe->unk_id || m.right == bpe->unk_id || is_byte_token(bpe, m.left) || is_byte_token(bpe, m.right))) bpe->cuts = false;
    bpe_pair_put(bpe, dsb_utf8_decode(dsb_utf8_back(left, left + n_left), &len), dsb_utf8_decode(right, &len));
}

static dsb_status part_id(const dsb_vocab *v, size_t rank, const char *part, size_t n, int32_t *id, dsb_err *err) {
    *id = dsb_vocab_find(v, part, n);
    return *id >= 0 ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: model: merge %zu needs the token \"%.*s\", which isn't in the vocabulary", v->name, rank, (int)(n < 80 ? n : 80), part);
}

dsb_status dsb_bpe_add_merge(dsb_bpe *bpe, const dsb_vocab *v, size_t rank, const char *left, size_t n_left, const char *right, size_t n_right, bool first_wins, dsb_err *err) {
    dsb_bpe_merge m = { .rank = (int32_t)rank };
    char small[256], *both = small;
    DSB_TRY(part_id(v, rank, left, n_left, &m.left, err));
    DSB_TRY(part_id(v, rank, right, n_right, &m.right, err));
    if (n_left + n_right > sizeof small && !(both = malloc(n_left + n_right))) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for a merge", v->name);
    memcpy(both, left, n_left);
    memcpy(both + n_left, right, n_right);
    dsb_status s = part_id(v, rank, both, n_left + n_right, &m.id, err);
    if (both != small) free(both);
    if (s) return s;
    note_pair(bpe, m, left, n_left, right);
    bpe_merge_put(bpe, m, first_wins);
    return DSB_OK;
}

/* A token, or a single character without one; -1: neither. */
static int32_t part_symbol(const dsb_vocab *v, const char *p, size_t n) {
    size_t len;
    int32_t id = dsb_vocab_find(v, p, n);
    if (id >= 0) return id;
    uint32_t c = dsb_utf8_decode(p, &len);
    return len == n ? bpe_char_symbol(c) : -1;
}

typedef struct ranked {
    float score;
    size_t item;
} ranked;

static int by_score(const void *a, const void *b) {
    float x = ((const ranked *)a)->score, y = ((const ranked *)b)->score;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Both passes walk alike: the first counts the merges (bpe NULL), the second puts them. */
static size_t splits_of(dsb_bpe *bpe, const dsb_vocab *v, const dsb_vocab_item *t, int32_t rank) {
    size_t n = 0, len = 0;
    for (size_t i = 0; i < t->n; i += len) {
        dsb_utf8_decode(t->text + i, &len);
        if (i == 0) continue;
        dsb_bpe_merge m = { part_symbol(v, t->text, i), part_symbol(v, t->text + i, t->n - i), rank, t->id };
        if (m.left == -1 || m.right == -1) continue;
        n++;
        if (!bpe) continue;
        note_pair(bpe, m, t->text, i, t->text + i);
        bpe_merge_put(bpe, m, true);
    }
    return n;
}

static dsb_status put_scored(dsb_bpe *bpe, const dsb_vocab *v, ranked *order, dsb_err *err) {
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++) n += splits_of(NULL, v, &v->items[i], 0);
    if (n > 8 * (size_t)BPE_MAX_ID) return dsb_fail(err, DSB_EINPUT, "%s: its scores make %zu merges; at most %d are read", v->name, n, 8 * BPE_MAX_ID);
    free(bpe->merges);
    free(bpe->pairs);
    bpe->merges = NULL;
    bpe->pairs = NULL;
    while (bpe->n_slot < 2 * n) bpe->n_slot *= 2;
    bpe->n_pair_slot = bpe->n_slot;
    DSB_TRY(DSB_NEW(bpe->merges, bpe->n_slot, v->name, err));
    DSB_TRY(DSB_NEW(bpe->pairs, bpe->n_pair_slot, v->name, err));
    for (size_t i = 0; i < bpe->n_slot; i++) bpe->merges[i].left = BPE_NO_MERGE;
    int32_t rank = 0; /* the same for the same score: then the leftmost is first */
    for (size_t i = 0; i < v->n; i++) {
        if (i > 0 && order[i].score < order[i - 1].score) rank++;
        splits_of(bpe, v, &v->items[order[i].item], rank);
    }
    return DSB_OK;
}

dsb_status dsb_bpe_add_scores(dsb_bpe *bpe, const dsb_vocab *v, const float *scores, dsb_err *err) {
    ranked *order = NULL;
    DSB_TRY(DSB_NEW(order, v->n + 1, v->name, err));
    dsb_status s = DSB_OK;
    for (size_t i = 0; !s && i < v->n; i++) {
        order[i] = (ranked){ scores[i], i };
        if (!isfinite(scores[i])) s = dsb_fail(err, DSB_EINPUT, "%s: the score of token %d is not finite", v->name, v->items[i].id);
        else if (v->items[i].n > SCORED_MAX) s = dsb_fail(err, DSB_EINPUT, "%s: token %d has %zu bytes; at most %d are read", v->name, v->items[i].id, v->items[i].n, SCORED_MAX);
    }
    if (!s && v->n) qsort(order, v->n, sizeof *order, by_score);
    if (!s) s = put_scored(bpe, v, order, err);
    free(order);
    return s;
}

dsb_status dsb_bpe_end(dsb_bpe *bpe, const dsb_vocab *v, const dsb_bpe_options *o, dsb_err *err) {
    if (!o->ignore_merges) return DSB_OK;
    for (bpe->n_word_slot = 16; bpe->n_word_slot < 2 * v->n;) bpe->n_word_slot *= 2;
    DSB_TRY(DSB_NEW(bpe->words, bpe->n_word_slot, v->name, err));
    memset(bpe->words, 0xff, bpe->n_word_slot * sizeof *bpe->words);
    for (size_t i = 0; i < v->n; i++) /* outside the alphabet: can't arise from text */
        if (!bpe->byte_level || dsb_byte_level_holds(v->items[i].text, v->items[i].n)) bpe_word_put(bpe, &bpe->tokens[v->items[i].id], v->items[i].id);
    return DSB_OK;
}

void dsb_bpe_release(dsb_bpe *bpe) {
    free(bpe->tokens);
    free(bpe->text);
    free(bpe->chars);
    free(bpe->merges);
    free(bpe->words);
    free(bpe->pairs);
    *bpe = (dsb_bpe){ 0 };
}
