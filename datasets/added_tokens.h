/* tokenizer.json's "added_tokens": found in the text before anything else, leftmost first, the longest at each place.
 * Two passes, as in the `tokenizers` library: tokens that are not "normalized" first, the others in what is left. */
#ifndef DSB_DATASETS_ADDED_TOKENS_H
#define DSB_DATASETS_ADDED_TOKENS_H

#include <jansson.h>

#include "datasets/bpe.h"
#include "datasets/regex.h"

typedef struct dsb_added_token {
    int32_t id;
    char *content; /* owned */
    size_t n;
    bool single_word, lstrip, rstrip, normalized, special;
} dsb_added_token;

typedef struct dsb_trie_node {
    int32_t child, sibling, token; /* first child, next child of the same parent, index of the token that ends here; -1 none */
    uint8_t byte;
} dsb_trie_node;

typedef struct dsb_trie {
    dsb_trie_node *nodes; /* owned; children of the root by first_child */
    size_t n, room;
    int32_t first_child[256];
} dsb_trie;

typedef struct dsb_added_tokens {
    dsb_added_token *items; /* owned */
    size_t n;
    dsb_trie tries[2];  /* not normalized, normalized */
    dsb_regex *word;    /* a character of a word; NULL unless a token is single_word */
} dsb_added_tokens;

/* json: borrowed, may be NULL or null. An id that the vocabulary gives to another token is DSB_EINPUT. */
dsb_status dsb_added_tokens_init(dsb_added_tokens *added, const char *name, const json_t *json, const dsb_bpe *bpe, dsb_err *err);
void dsb_added_tokens_release(dsb_added_tokens *added);
/* The token whose content this is, or NULL. */
const dsb_added_token *dsb_added_tokens_find(const dsb_added_tokens *added, const char *content);

/* Next match of trie `pass` in text[from, n): *token (NULL: none) and its bytes [*begin, *end), stripped spaces included. */
dsb_status dsb_added_tokens_match(const dsb_added_tokens *added, int pass, dsb_regex_scratch *scratch, const char *text, size_t n, size_t from, const dsb_added_token **token, size_t *begin, size_t *end, dsb_err *err);

#endif
