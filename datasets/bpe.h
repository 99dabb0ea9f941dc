/* Byte-pair encoding of words over bytes: tokenizer.json's "model" of type BPE with GPT-2's byte alphabet undone at loading.
 * Merges are applied lowest rank first, leftmost first, as the `tokenizers` library does. */
#ifndef DSB_DATASETS_BPE_H
#define DSB_DATASETS_BPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_token {
    const uint8_t *bytes; /* NULL: no token has this id */
    uint32_t n;
} dsb_token;

typedef struct dsb_bpe {
    dsb_token *tokens; /* (n_id) owned */
    size_t n_id;       /* largest id plus one */
    uint8_t *text;     /* owned; the tokens' bytes */
    int32_t byte_id[256];
    struct dsb_bpe_merge *merges; /* hash table of (n_slot), n_slot a power of two */
    size_t n_slot;
    int32_t *words; /* hash table of ids by their bytes (n_word_slot); NULL unless ignore_merges */
    size_t n_word_slot;
} dsb_bpe;

/* model: borrowed. DSB_EINPUT: malformed; DSB_EUNSUPPORTED: another type, dropout, affixes, unknown-token fallbacks. */
dsb_status dsb_bpe_init(dsb_bpe *bpe, const char *name, const json_t *model, dsb_err *err);
void dsb_bpe_release(dsb_bpe *bpe);

typedef struct dsb_id_list {
    int32_t *items; /* owned */
    size_t n, room;
} dsb_id_list;
dsb_status dsb_id_list_push(dsb_id_list *list, int32_t id, dsb_err *err);

/* One thread's memory: a word's symbols, and the ids of words met before. Zero it before use. */
typedef struct dsb_bpe_work {
    struct dsb_bpe_symbol *symbols;
    size_t n_room;
    struct dsb_bpe_candidate *heap;
    size_t n_heap, heap_room;
    struct dsb_word_cache *cache;
} dsb_bpe_work;
void dsb_bpe_work_release(dsb_bpe_work *work);

/* Appends the ids of one word of n bytes. */
dsb_status dsb_bpe_encode(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, dsb_id_list *ids, dsb_err *err);

/* The merge of two adjacent ids: its rank and the id it makes; false if there is none. */
bool dsb_bpe_find_merge(const dsb_bpe *bpe, int32_t left, int32_t right, int32_t *rank, int32_t *id);

/* GPT-2's byte alphabet, text to bytes; n_out ≤ n. False: some character is not in the alphabet. */
bool dsb_byte_level_decode(const char *text, size_t n, uint8_t *out, size_t *n_out);
bool dsb_byte_level_holds(const char *text, size_t n);
/* The character of the alphabet that stands for a byte. */
uint32_t dsb_byte_level_char(uint8_t byte);

#endif
