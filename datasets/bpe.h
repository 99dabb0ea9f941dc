/* Byte-pair encoding of words: merges lowest rank first, leftmost first, as the `tokenizers` library does. Over bytes (tokenizer.json with
 * ByteLevel, whose byte alphabet is undone at loading) or over characters (SentencePiece; a character without a token becomes bytes or
 * the unknown token). */
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
    bool byte_level;
    dsb_token *tokens; /* (n_id) owned; bytes where byte_level, else the vocabulary's own text */
    size_t n_id;       /* largest id plus one */
    uint8_t *text;     /* owned; the tokens' bytes */
    int32_t byte_id[256];              /* the token of a byte (<0xNN> over characters); -1: none */
    struct dsb_bpe_char *chars;        /* hash table of characters with a token (n_char_slot); over characters only */
    size_t n_char_slot;
    int32_t ascii[128];                /* the same of the first 128 */
    int32_t unk_id;                    /* -1: none */
    bool byte_fallback, fuse_unk, scored; /* scored: merges come from scores, and a character without a token can take part in one */
    struct dsb_bpe_merge *merges; /* hash table of (n_slot), n_slot a power of two */
    size_t n_slot;
    int32_t *words; /* hash table of ids by their bytes (n_word_slot); NULL unless ignore_merges */
    size_t n_word_slot;
    bool cuts;       /* long words may be cut where no merge joins two characters */
    uint64_t *pairs; /* hash table of the pairs of characters that some merge joins (n_pair_slot) */
    size_t n_pair_slot;
} dsb_bpe;

/* A file's vocabulary while it is read: texts are borrowed. */
typedef struct dsb_vocab_item {
    const char *text;
    size_t n;
    int32_t id;
} dsb_vocab_item;
typedef struct dsb_vocab {
    const char *name; /* the file */
    dsb_vocab_item *items;
    size_t n;
    int32_t *slots; /* hash table of items by text (n_slot) */
    size_t n_slot;
} dsb_vocab;
dsb_status dsb_vocab_init(dsb_vocab *v, const char *name, size_t room, dsb_err *err);
void dsb_vocab_release(dsb_vocab *v);
/* DSB_EINPUT: the text is there already. At most `room` times. */
dsb_status dsb_vocab_put(dsb_vocab *v, const char *text, size_t n, int32_t id, dsb_err *err);
/* The id of a text, or -1. */
int32_t dsb_vocab_find(const dsb_vocab *v, const char *text, size_t n);

typedef struct dsb_bpe_options {
    bool byte_level, ignore_merges, byte_fallback, fuse_unk, scored;
    const char *unk_token; /* NULL: none */
} dsb_bpe_options;

/* In this order: the vocabulary, its merges one by one in their rank's order (room for n of them) or from scores, the end. */
dsb_status dsb_bpe_begin(dsb_bpe *bpe, const dsb_vocab *v, const dsb_bpe_options *o, size_t n_merge, dsb_err *err);
dsb_status dsb_bpe_add_merge(dsb_bpe *bpe, const dsb_vocab *v, size_t rank, const char *left, size_t n_left, const char *right, size_t n_right, bool first_wins, dsb_err *err);
/* Every way to make a token of two parts, the highest score first: SentencePiece's BPE. scores: (v->n), by item. */
dsb_status dsb_bpe_add_scores(dsb_bpe *bpe, const dsb_vocab *v, const float *scores, dsb_err *err);
dsb_status dsb_bpe_end(dsb_bpe *bpe, const dsb_vocab *v, const dsb_bpe_options *o, dsb_err *err);

/* tokenizer.json's "model". model: borrowed. DSB_EINPUT: malformed; DSB_EUNSUPPORTED: another type, dropout, affixes. */
dsb_status dsb_bpe_init(dsb_bpe *bpe, const char *name, const json_t *model, bool byte_level, dsb_err *err);
void dsb_bpe_release(dsb_bpe *bpe);

typedef struct dsb_id_list {
    int32_t *items; /* owned */
    size_t n, room;
} dsb_id_list;
dsb_status dsb_id_list_push(dsb_id_list *list, int32_t id, dsb_err *err);
dsb_status dsb_id_list_append(dsb_id_list *list, const int32_t *ids, size_t n, dsb_err *err);

/* One thread's memory: a word's symbols, and the ids of words met before. Zero it before use. */
typedef struct dsb_bpe_work {
    struct dsb_bpe_symbol *symbols;
    size_t n_room;
    struct dsb_bpe_candidate *heap;
    size_t n_heap, heap_room;
    struct dsb_word_cache *cache;
    uint32_t dropped; /* a byte (a character, over characters) without any token, plus one: it was left out; 0: none was */
} dsb_bpe_work;
void dsb_bpe_work_release(dsb_bpe_work *work);

/* Appends the ids of one word of n bytes. */
dsb_status dsb_bpe_encode(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, dsb_id_list *ids, dsb_err *err);
/* The same of a word that is cut where no merge can cross; open: it may go on, and what comes after the last cut is left. *used: its bytes. */
dsb_status dsb_bpe_encode_cut(const dsb_bpe *bpe, dsb_bpe_work *work, const uint8_t *word, size_t n, bool open, size_t *used, dsb_id_list *ids, dsb_err *err);

/* The merge of two adjacent ids: its rank and the id it makes; false if there is none. */
bool dsb_bpe_find_merge(const dsb_bpe *bpe, int32_t left, int32_t right, int32_t *rank, int32_t *id);

/* GPT-2's byte alphabet, text to bytes; n_out ≤ n. False: some character is not in the alphabet. */
bool dsb_byte_level_decode(const char *text, size_t n, uint8_t *out, size_t *n_out);
bool dsb_byte_level_holds(const char *text, size_t n);
/* The character of the alphabet that stands for a byte. */
uint32_t dsb_byte_level_char(uint8_t byte);

#endif
