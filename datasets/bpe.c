#include "datasets/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "datasets/bpe_internal.h"
#include "datasets/utf8.h"
#include "datasets/word_cache.h"

/* Words up to this long are merged by scanning, longer ones by a heap. */
enum { SCAN_MAX = 32, CACHE_MAX = 64 };

typedef struct dsb_bpe_symbol {
    int32_t id, prev, next; /* next -1: the last; id -1: merged into its left neighbour */
    int32_t rank, merged;   /* of the merge with the next symbol; rank INT32_MAX: none */
} symbol;

typedef struct dsb_bpe_candidate {
    int32_t rank, at;      /* lowest rank first, then leftmost */
    int32_t left, right;   /* ids when it was found: stale if either changed */
} candidate;

/* Tables */

uint64_t bpe_hash(const uint8_t *p, size_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = bpe_mix(h ^ w);
    }
    w = 0;
    memcpy(&w, p, n);
    return bpe_mix(h ^ w);
}

static size_t merge_slot(const dsb_bpe *bpe, int32_t left, int32_t right) {
    size_t i = bpe_mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & (bpe->n_slot - 1);
    while (bpe->merges[i].left != BPE_NO_MERGE && (bpe->merges[i].left != left || bpe->merges[i].right != right)) i = (i + 1) & (bpe->n_slot - 1);
    return i;
}

void bpe_merge_put(dsb_bpe *bpe, dsb_bpe_merge m, bool first_wins) {
    dsb_bpe_merge *slot = &bpe->merges[merge_slot(bpe, m.left, m.right)];
    if (slot->left == BPE_NO_MERGE || !first_wins) *slot = m;
}

bool dsb_bpe_find_merge(const dsb_bpe *bpe, int32_t left, int32_t right, int32_t *rank, int32_t *id) {
    const dsb_bpe_merge *m = &bpe->merges[merge_slot(bpe, left, right)];
    if (m->left == BPE_NO_MERGE) return false;
    *rank = m->rank;
    *id = m->id;
    return true;
}

static size_t char_slot(const dsb_bpe *bpe, uint32_t c) {
    size_t i = bpe_mix(c) & (bpe->n_char_slot - 1);
    while (bpe->chars[i].id >= 0 && bpe->chars[i].c != c) i = (i + 1) & (bpe->n_char_slot - 1);
    return i;
}

void bpe_char_put(dsb_bpe *bpe, uint32_t c, int32_t id) {
    bpe->chars[char_slot(bpe, c)] = (dsb_bpe_char){ c, id };
    if (c < 128) bpe->ascii[c] = id;
}

int32_t bpe_char_find(const dsb_bpe *bpe, uint32_t c) { return c < 128 ? bpe->ascii[c] : bpe->chars[char_slot(bpe, c)].id; }

/* Pairs of characters; 0 is an empty slot, so that every pair is one more. */
static size_t pair_slot(const dsb_bpe *bpe, uint64_t pair) {
    size_t i = bpe_mix(pair) & (bpe->n_pair_slot - 1);
    while (bpe->pairs[i] && bpe->pairs[i] != pair) i = (i + 1) & (bpe->n_pair_slot - 1);
    return i;
}

void bpe_pair_put(dsb_bpe *bpe, uint32_t a, uint32_t b) {
    uint64_t pair = ((uint64_t)a << 32 | b) + 1;
    bpe->pairs[pair_slot(bpe, pair)] = pair;
}

static bool pair_joins(const dsb_bpe *bpe, uint32_t a, uint32_t b) { return bpe->pairs[pair_slot(bpe, ((uint64_t)a << 32 | b) + 1)] != 0; }

void bpe_word_put(dsb_bpe *bpe, const dsb_token *token, int32_t id) {
    size_t i = bpe_hash(token->bytes, token->n) & (bpe->n_word_slot - 1);
    while (bpe->words[i] >= 0) i = (i + 1) & (bpe->n_word_slot - 1);
    bpe->words[i] = id;
}

static int32_t word_find(const dsb_bpe *bpe, uint64_t hash, const uint8_t *word, size_t n) {
    for (size_t i = hash & (bpe->n_word_slot - 1); bpe->words[i] >= 0; i = (i + 1) & (bpe->n_word_slot - 1)) {
        const dsb_token *t = &bpe->tokens[bpe->words[i]];
        if (t->n == n && memcmp(t->bytes, word, n) == 0) return bpe->words[i];
    }
    return -1;
}

dsb_status dsb_id_list_append(dsb_id_list *list, const int32_t *ids, size_t n, dsb_err *err) {
    if (n > list->room - list->n) {
        size_t room = list->room ? 2 * list->room : 256;
        while (room - list->n < n) room *= 2;
        int32_t *grown = realloc(list->items, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for %zu ids", room);
        list->items = grown;
        list->room = room;
    }
    if (n) memcpy(list->items + list->n, ids, n * sizeof *ids);
    list->n += n;
    return DSB_OK;
}

dsb_status dsb_id_list_push(dsb_id_list *list, int32_t id, dsb_err *err) {
    if (list->n == list->room) return dsb_id_list_append(list, &id, 1, err);
    list->items[list->n++] = id;
    return DSB_OK;
}

/* Symbols of a word */

static void find_merge_at(const dsb_bpe *bpe, symbol *s, int32_t at) {
    symbol *a = &s[at];
    a->rank = INT32_MAX;
    if (a->next >= 0) dsb_bpe_find_merge(bpe, a->id, s[a->next].id, &a->rank, &a->merged);
}

/* Symbols are added in the order of the text. */
typedef struct symbol_list {
    symbol *s;
    size_t n;
    bool unknown; /* an unknown character waits: the next may fuse with it */
    uint32_t *dropped;
} symbol_list;

static void add_symbol(symbol_list *l, int32_t id) {
    l->s[l->n] = (symbol){.id = id, .prev = (int32_t)l->n - 1, .next = (int32_t)l->n + 1};
    l->n++;
}

/* What has no token at all is left out, as the library and llama.cpp do, and noted. */
static void start_bytes(const dsb_bpe *bpe, symbol_list *l, const uint8_t *word, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int32_t id = bpe->byte_id[word[i]];
        if (id < 0 && bpe->unk_id < 0) {
            *l->dropped = word[i] + 1u;
            continue;
        }
        if (id >= 0) l->unknown = false;
        else if (l->unknown && bpe->fuse_unk) continue;
        else id = bpe->unk_id, l->unknown = true;
        add_symbol(l, id);
    }
}

static bool has_bytes(const dsb_bpe *bpe, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (bpe->byte_id[p[i]] < 0) return false;
    return true;
}

/* A character without a token. The library adds a waiting unknown token only when the next known character comes, or another
 * that doesn't fuse with it: bytes that come between stand before it. */
static void start_unknown(const dsb_bpe *bpe, symbol_list *l, uint32_t c, const uint8_t *p, size_t n) {
    if (bpe->scored) add_symbol(l, bpe_char_symbol(c));
    else if (bpe->byte_fallback && has_bytes(bpe, p, n)) {
        for (size_t i = 0; i < n; i++) add_symbol(l, bpe->byte_id[p[i]]);
    } else if (bpe->unk_id >= 0) {
        if (l->unknown && !bpe->fuse_unk) add_symbol(l, bpe->unk_id);
        l->unknown = true;
    } else *l->dropped = c + 1;
}

static void start_chars(const dsb_bpe *bpe, symbol_list *l, const uint8_t *word, size_t n) {
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c = dsb_utf8_decode((const char *)word + i, &len);
        int32_t id = bpe_char_find(bpe, c);
        if (id < 0) {
            start_unknown(bpe, l, c, word + i, len);
            continue;
        }
        if (l->unknown) add_symbol(l, bpe->unk_id);
        l->unknown = false;
        add_symbol(l, id);
    }
    if (l->unknown) add_symbol(l, bpe->unk_id);
}

static dsb_status start(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, size_t *n_symbol, dsb_err *err) {
    if (n > INT32_MAX / 4) return dsb_fail(err, DSB_EUNSUPPORTED, "tokenizer: a word of %zu bytes; at most %d are read", n, INT32_MAX / 4);
    if (n > work->n_room) {
        symbol *grown = realloc(work->symbols, (n + n / 2 + 1) * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for a word of %zu bytes", n);
        work->symbols = grown;
        work->n_room = n + n / 2 + 1;
    }
    symbol_list l = {.s = work->symbols, .dropped = &work->dropped};
    if (bpe->byte_level) start_bytes(bpe, &l, word, n);
    else start_chars(bpe, &l, word, n);
    if (l.n) l.s[l.n - 1].next = -1;
    for (size_t i = 0; i < l.n; i++) find_merge_at(bpe, l.s, (int32_t)i);
    *n_symbol = l.n;
    return DSB_OK;
}

/* Joins symbol `at` with its next one, and looks up the merges of both sides. */
static void join(const dsb_bpe *bpe, symbol *s, int32_t at) {
    symbol *a = &s[at], *b = &s[a->next];
    a->id = a->merged;
    a->next = b->next;
    b->id = -1; /* no merge has it, no candidate holds it */
    if (a->next >= 0) s[a->next].prev = at;
    find_merge_at(bpe, s, at);
    if (a->prev >= 0) find_merge_at(bpe, s, a->prev);
}

static void merge_by_scan(const dsb_bpe *bpe, symbol *s) {
    for (;;) {
        int32_t best = 0;
        for (int32_t i = 0; i >= 0; i = s[i].next)
            if (s[i].rank < s[best].rank) best = i;
        if (s[best].rank == INT32_MAX) return;
        join(bpe, s, best);
    }
}

/* A binary heap of candidates */

static bool before(const candidate *a, const candidate *b) { return a->rank != b->rank ? a->rank < b->rank : a->at < b->at; }

static dsb_status heap_push(dsb_bpe_work *work, int32_t at, dsb_err *err) {
    const symbol *s = &work->symbols[at];
    if (s->rank == INT32_MAX) return DSB_OK;
    if (work->n_heap == work->heap_room) {
        size_t room = work->heap_room ? 2 * work->heap_room : 1024;
        candidate *grown = realloc(work->heap, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for %zu merges", room);
        work->heap = grown;
        work->heap_room = room;
    }
    candidate c = {s->rank, at, s->id, work->symbols[s->next].id};
    size_t i = work->n_heap++;
    for (; i > 0 && before(&c, &work->heap[(i - 1) / 2]); i = (i - 1) / 2) work->heap[i] = work->heap[(i - 1) / 2];
    work->heap[i] = c;
    return DSB_OK;
}

static candidate heap_pop(dsb_bpe_work *work) {
    candidate top = work->heap[0], last = work->heap[--work->n_heap];
    size_t i = 0, n = work->n_heap;
    for (size_t k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && before(&work->heap[k + 1], &work->heap[k])) k++;
        if (!before(&work->heap[k], &last)) break;
        work->heap[i] = work->heap[k];
    }
    work->heap[i] = last;
    return top;
}

static dsb_status merge_by_heap(const dsb_bpe *bpe, dsb_bpe_work *work, size_t n, dsb_err *err) {
    symbol *s = work->symbols;
    work->n_heap = 0;
    for (size_t i = 0; i < n; i++) DSB_TRY(heap_push(work, (int32_t)i, err));
    while (work->n_heap) {
        candidate c = heap_pop(work);
        if (s[c.at].id != c.left || s[c.at].next < 0 || s[s[c.at].next].id != c.right) continue;
        join(bpe, s, c.at);
        DSB_TRY(heap_push(work, c.at, err));
        if (s[c.at].prev >= 0) DSB_TRY(heap_push(work, s[c.at].prev, err));
    }
    return DSB_OK;
}

/* Words */

/* A symbol's tokens: its own, or a character's bytes. */
static dsb_status put_symbol(const dsb_bpe *bpe, int32_t symbol, dsb_id_list *ids, dsb_err *err) {
    char bytes[4];
    if (symbol >= 0) return dsb_id_list_push(ids, symbol, err);
    size_t n = dsb_utf8_encode(bpe_symbol_char(symbol), bytes);
    for (size_t i = 0; i < n; i++) {
        int32_t id = bpe->byte_id[(uint8_t)bytes[i]];
        if (id < 0) id = bpe->unk_id;
        if (id < 0) return dsb_fail(err, DSB_EINPUT, "tokenizer: no token in its vocabulary stands for U+%04X or for byte 0x%02x", bpe_symbol_char(symbol), (uint8_t)bytes[i]);
        DSB_TRY(dsb_id_list_push(ids, id, err));
    }
    return DSB_OK;
}

static dsb_status encode_word(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, dsb_id_list *ids, dsb_err *err) {
    size_t n_symbol = 0;
    DSB_TRY(start(bpe, work, word, n, &n_symbol, err));
    if (n_symbol == 0) return DSB_OK;
    if (n_symbol > SCAN_MAX) DSB_TRY(merge_by_heap(bpe, work, n_symbol, err));
    else merge_by_scan(bpe, work->symbols);
    for (int32_t i = 0; i >= 0; i = work->symbols[i].next) DSB_TRY(put_symbol(bpe, work->symbols[i].id, ids, err));
    return DSB_OK;
}

dsb_status dsb_bpe_encode(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, dsb_id_list *ids, dsb_err *err) {
    if (n == 0) return DSB_OK;
    if (n == 1 && bpe->byte_level && bpe->byte_id[word[0]] >= 0) return dsb_id_list_push(ids, bpe->byte_id[word[0]], err);
    bool cached = n <= CACHE_MAX;
    uint64_t hash = cached || bpe->words ? bpe_hash(word, n) : 0;
    if (!work->cache && cached) work->cache = dsb_word_cache_create();
    if (!work->cache) cached = false;
    size_t n_id = 0, first = ids->n;
    const int32_t *known = cached ? dsb_word_cache_find(work->cache, hash, word, n, &n_id) : NULL;
    if (known) return dsb_id_list_append(ids, known, n_id, err);
    int32_t whole = bpe->words ? word_find(bpe, hash, word, n) : -1;
    DSB_TRY(whole >= 0 ? dsb_id_list_push(ids, whole, err) : encode_word(bpe, work, word, n, ids, err));
    if (cached && ids->n > first) dsb_word_cache_put(work->cache, hash, word, n, ids->items + first, ids->n - first);
    return DSB_OK;
}

/* No merge crosses a place whose two characters none joins. An unknown token may fuse over any place but one before a known character. */
static bool may_cut(const dsb_bpe *bpe, uint32_t a, uint32_t b) {
    if (pair_joins(bpe, a, b)) return false;
    return bpe->scored || bpe->unk_id < 0 || bpe_char_find(bpe, b) >= 0;
}

dsb_status dsb_bpe_encode_cut(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, bool open, size_t *used, dsb_id_list *ids, dsb_err *err) {
    size_t done = 0;
    uint32_t before = 0;
    for (size_t i = 0, len; bpe->cuts && i < n; i += len) {
        uint32_t c = dsb_utf8_decode((const char *)word + i, &len);
        if (i > done && may_cut(bpe, before, c)) {
            DSB_TRY(dsb_bpe_encode(bpe, work, word + done, i - done, ids, err));
            done = i;
        }
        before = c;
    }
    if (!open) {
        DSB_TRY(dsb_bpe_encode(bpe, work, word + done, n - done, ids, err));
        done = n;
    }
    *used = done;
    return DSB_OK;
}

void dsb_bpe_work_release(dsb_bpe_work *work) {
    free(work->symbols);
    free(work->heap);
    dsb_word_cache_free(work->cache);
    *work = (dsb_bpe_work){0};
}
