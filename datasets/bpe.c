#include "datasets/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "datasets/bpe_internal.h"
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

static uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

uint64_t bpe_hash(const uint8_t *p, size_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = mix(h ^ w);
    }
    w = 0;
    memcpy(&w, p, n);
    return mix(h ^ w);
}

static size_t merge_slot(const dsb_bpe *bpe, int32_t left, int32_t right) {
    size_t i = mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & (bpe->n_slot - 1);
    while (bpe->merges[i].left >= 0 && (bpe->merges[i].left != left || bpe->merges[i].right != right)) i = (i + 1) & (bpe->n_slot - 1);
    return i;
}

void bpe_merge_put(dsb_bpe *bpe, dsb_bpe_merge m) { bpe->merges[merge_slot(bpe, m.left, m.right)] = m; }

bool dsb_bpe_find_merge(const dsb_bpe *bpe, int32_t left, int32_t right, int32_t *rank, int32_t *id) {
    const dsb_bpe_merge *m = &bpe->merges[merge_slot(bpe, left, right)];
    if (m->left < 0) return false;
    *rank = m->rank;
    *id = m->id;
    return true;
}

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

dsb_status dsb_id_list_push(dsb_id_list *list, int32_t id, dsb_err *err) {
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 256;
        int32_t *grown = realloc(list->items, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for %zu ids", room);
        list->items = grown;
        list->room = room;
    }
    list->items[list->n++] = id;
    return DSB_OK;
}

/* Symbols of a word */

static void find_merge_at(const dsb_bpe *bpe, symbol *s, int32_t at) {
    symbol *a = &s[at];
    a->rank = INT32_MAX;
    if (a->next >= 0) dsb_bpe_find_merge(bpe, a->id, s[a->next].id, &a->rank, &a->merged);
}

static dsb_status start(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, dsb_err *err) {
    if (n > INT32_MAX / 4) return dsb_fail(err, DSB_EUNSUPPORTED, "tokenizer: a word of %zu bytes; at most %d are read", n, INT32_MAX / 4);
    if (n > work->n_room) {
        symbol *grown = realloc(work->symbols, (n + n / 2) * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for a word of %zu bytes", n);
        work->symbols = grown;
        work->n_room = n + n / 2;
    }
    symbol *s = work->symbols;
    for (size_t i = 0; i < n; i++) {
        int32_t id = bpe->byte_id[word[i]];
        if (id < 0) return dsb_fail(err, DSB_EINPUT, "tokenizer: no token in its vocabulary stands for byte 0x%02x", word[i]);
        s[i] = (symbol){.id = id, .prev = (int32_t)i - 1, .next = i + 1 < n ? (int32_t)i + 1 : -1};
    }
    for (size_t i = 0; i < n; i++) find_merge_at(bpe, s, (int32_t)i);
    return DSB_OK;
}

/* Joins symbol `at` with its next one, and looks up the merges of both sides. */
static void join(const dsb_bpe *bpe, symbol *s, int32_t at) {
    symbol *a = &s[at], *b = &s[a->next];
    a->id = a->merged;
    a->next = b->next;
    b->id = -1;
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

static dsb_status encode_word(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, dsb_id_list *ids, dsb_err *err) {
    DSB_TRY(start(bpe, work, word, n, err));
    if (n > SCAN_MAX) DSB_TRY(merge_by_heap(bpe, work, n, err));
    else merge_by_scan(bpe, work->symbols);
    for (int32_t i = 0; i >= 0; i = work->symbols[i].next) DSB_TRY(dsb_id_list_push(ids, work->symbols[i].id, err));
    return DSB_OK;
}

dsb_status dsb_bpe_encode(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, dsb_id_list *ids, dsb_err *err) {
    if (n == 0) return DSB_OK;
    if (n == 1 && bpe->byte_id[word[0]] >= 0) return dsb_id_list_push(ids, bpe->byte_id[word[0]], err);
    bool cached = n <= CACHE_MAX;
    uint64_t hash = cached || bpe->words ? bpe_hash(word, n) : 0;
    int32_t whole = bpe->words ? word_find(bpe, hash, word, n) : -1;
    if (whole >= 0) return dsb_id_list_push(ids, whole, err);
    if (!work->cache && cached) work->cache = dsb_word_cache_create();
    if (!work->cache) cached = false;
    size_t n_id = 0, first = ids->n;
    const int32_t *known = cached ? dsb_word_cache_find(work->cache, hash, word, n, &n_id) : NULL;
    for (size_t i = 0; i < n_id; i++) DSB_TRY(dsb_id_list_push(ids, known[i], err));
    if (known) return DSB_OK;
    DSB_TRY(encode_word(bpe, work, word, n, ids, err));
    if (cached) dsb_word_cache_put(work->cache, hash, word, n, ids->items + first, ids->n - first);
    return DSB_OK;
}

void dsb_bpe_work_release(dsb_bpe_work *work) {
    free(work->symbols);
    free(work->heap);
    dsb_word_cache_free(work->cache);
    *work = (dsb_bpe_work){0};
}
