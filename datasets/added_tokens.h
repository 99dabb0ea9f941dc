/* tokenizer.json's "added_tokens": found in the text before anything else, leftmost first, the longest at each place.
 * Two passes, as in the `tokenizers` library: tokens that are not "normalized" first, the others in what is left. */
#ifndef DSB_DATASETS_ADDED_TOKENS_H
#define DSB_DATASETS_ADDED_TOKENS_H

#include <jansson.h>

#include "datasets/bpe.h"
#include "datasets/normalizer.h"

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
    size_t n, room;
    dsb_trie tries[2];  /* not normalized, normalized */
    bool whole[2];      /* some token of this pass looks at what is before it: all of the text is wanted at once */
    dsb_regex *word;    /* a character of a word; NULL unless a token is single_word */
} dsb_added_tokens;

/* json: borrowed, may be NULL or null. Tokens that are "normalized" are looked for in their normal form. An id that the vocabulary gives
 * to another token is DSB_EINPUT. */
dsb_status dsb_added_tokens_init(dsb_added_tokens *added, const char *name, const json_t *json, const dsb_bpe *bpe, const dsb_normalizer *norm, dsb_err *err);
/* One more, found before normalizing. Zeroed `added` must have gone through dsb_added_tokens_init(…, NULL, …). */
dsb_status dsb_added_tokens_add(dsb_added_tokens *added, const char *name, int32_t id, const char *content, size_t n, dsb_err *err);
void dsb_added_tokens_release(dsb_added_tokens *added);
/* The token whose content this is, or NULL. */
const dsb_added_token *dsb_added_tokens_find(const dsb_added_tokens *added, const char *content);

/* Next match of trie `pass` in text[from, n): *token (NULL: none) and its bytes [*begin, *end), stripped spaces included.
 * more: the text goes on after n; then *begin without a token is where a match may yet begin, and text before it holds none. */
dsb_status dsb_added_tokens_match(const dsb_added_tokens *added, int pass, dsb_regex_scratch *scratch, const char *text, size_t n, size_t from, bool more, const dsb_added_token **token, size_t *begin, size_t *end, dsb_err *err);

#endif
