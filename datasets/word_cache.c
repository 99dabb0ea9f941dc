#include "datasets/word_cache.h"

#include <stdlib.h>
#include <string.h>

/* At most 2^16 words of at most 2^22 bytes and ids in all. */
enum { FIRST_SLOTS = 1 << 10, MAX_WORDS = 1 << 16, MAX_STORE = 1 << 22 };

typedef struct slot {
    uint64_t hash;
    uint32_t at;   /* of the ids in the store; the word's bytes follow them */
    uint16_t n_id; /* 0: an empty slot (a word has at least one id) */
    uint16_t n;
} slot;

struct dsb_word_cache {
    slot *slots;
    size_t n_slot, n_word;
    uint8_t *store;
    size_t used, room;
};

dsb_word_cache *dsb_word_cache_create(void) {
    dsb_word_cache *c = calloc(1, sizeof *c);
    if (c) c->slots = calloc(c->n_slot = FIRST_SLOTS, sizeof *c->slots);
    if (c && c->slots) return c;
    free(c);
    return NULL;
}

void dsb_word_cache_free(dsb_word_cache *c) {
    if (!c) return;
    free(c->slots);
    free(c->store);
    free(c);
}

const int32_t *dsb_word_cache_find(const dsb_word_cache *c, uint64_t hash, const uint8_t *word, size_t n, size_t *n_id) {
    for (size_t i = hash & (c->n_slot - 1); c->slots[i].n_id; i = (i + 1) & (c->n_slot - 1)) {
        const slot *s = &c->slots[i];
        const uint8_t *ids = c->store + s->at;
        if (s->hash != hash || s->n != n || memcmp(ids + s->n_id * sizeof(int32_t), word, n) != 0) continue;
        *n_id = s->n_id;
        return (const int32_t *)(const void *)ids;
    }
    return NULL;
}

static int grow_slots(dsb_word_cache *c) {
    size_t n = 2 * c->n_slot;
    slot *slots = calloc(n, sizeof *slots);
    if (!slots) return -1;
    for (size_t i = 0; i < c->n_slot; i++) {
        if (!c->slots[i].n_id) continue;
        size_t k = c->slots[i].hash & (n - 1);
        while (slots[k].n_id) k = (k + 1) & (n - 1);
        slots[k] = c->slots[i];
    }
    free(c->slots);
    c->slots = slots;
    c->n_slot = n;
    return 0;
}

void dsb_word_cache_put(dsb_word_cache *c, uint64_t hash, const uint8_t *word, size_t n, const int32_t *ids, size_t n_id) {
    size_t n_ids_bytes = n_id * sizeof *ids, total = (n_ids_bytes + n + 3) / 4 * 4; /* ids stay aligned */
    if (n_id == 0 || n_id > UINT16_MAX || n > UINT16_MAX || c->n_word == MAX_WORDS || c->used + total > MAX_STORE) return;
    if (c->used + total > c->room) {
        size_t room = c->room ? 2 * c->room : 1 << 16;
        while (room < c->used + total) room *= 2;
        uint8_t *grown = realloc(c->store, room);
        if (!grown) return;
        c->store = grown;
        c->room = room;
    }
    if (2 * c->n_word >= c->n_slot && grow_slots(c) != 0) return;
    size_t i = hash & (c->n_slot - 1);
    while (c->slots[i].n_id) i = (i + 1) & (c->n_slot - 1);
    memcpy(c->store + c->used, ids, n_ids_bytes);
    memcpy(c->store + c->used + n_ids_bytes, word, n);
    c->slots[i] = (slot){.hash = hash, .at = (uint32_t)c->used, .n_id = (uint16_t)n_id, .n = (uint16_t)n};
    c->used += total;
    c->n_word++;
}
