#include "datasets/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "datasets/utf8.h"

/* Ids beyond this are a damaged file, not a vocabulary. */
enum { MAX_ID = 1 << 24 };

/* Tries */

static void trie_clear(dsb_trie *t) {
    *t = (dsb_trie){0};
    memset(t->first_child, 0xff, sizeof t->first_child);
}

/* The child of node `parent` (-1: the root) by a byte, or -1. */
static int32_t trie_child(const dsb_trie *t, int32_t parent, uint8_t byte) {
    if (parent < 0) return t->first_child[byte];
    int32_t i = t->nodes[parent].child;
    while (i >= 0 && t->nodes[i].byte != byte) i = t->nodes[i].sibling;
    return i;
}

static dsb_status trie_add_child(dsb_trie *t, int32_t parent, uint8_t byte, int32_t *child, dsb_err *err) {
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 256;
        dsb_trie_node *grown = realloc(t->nodes, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for %zu nodes of its added tokens", room);
        t->nodes = grown;
        t->room = room;
    }
    *child = (int32_t)t->n++;
    t->nodes[*child] = (dsb_trie_node){.child = -1, .sibling = -1, .token = -1, .byte = byte};
    if (parent < 0) t->first_child[byte] = *child;
    else {
        t->nodes[*child].sibling = t->nodes[parent].child;
        t->nodes[parent].child = *child;
    }
    return DSB_OK;
}

static dsb_status trie_add(dsb_trie *t, const char *text, size_t n, int32_t index, dsb_err *err) {
    int32_t node = -1;
    for (size_t i = 0; i < n; i++) {
        int32_t child = trie_child(t, node, (uint8_t)text[i]);
        if (child < 0) DSB_TRY(trie_add_child(t, node, (uint8_t)text[i], &child, err));
        node = child;
    }
    if (node >= 0) t->nodes[node].token = index; /* empty ones never match */
    return DSB_OK;
}

/* The longest token that text[at, n) begins with: its index and end, or -1. *open: a longer one may go on after n. */
static int32_t trie_longest(const dsb_trie *t, const char *text, size_t n, size_t at, size_t *end, bool *open) {
    int32_t best = -1, node = -1;
    *open = false;
    while (at < n) {
        node = trie_child(t, node, (uint8_t)text[at++]);
        if (node < 0) return best;
        if (t->nodes[node].token >= 0) best = t->nodes[node].token, *end = at;
    }
    *open = node < 0 || t->nodes[node].child >= 0;
    return best;
}

/* Reading */

static dsb_status check_id(const dsb_added_token *t, const char *name, const dsb_bpe *bpe, dsb_err *err) {
    const dsb_token *model = (size_t)t->id < bpe->n_id ? &bpe->tokens[t->id] : NULL;
    if (!model || !model->bytes) return DSB_OK;
    char *key = malloc(2 * (size_t)model->n + 1); /* the vocabulary's own spelling, or the byte alphabet's */
    if (!key) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for an added token", name);
    size_t n = 0;
    bool same = model->n == t->n && memcmp(model->bytes, t->content, t->n) == 0;
    for (uint32_t i = 0; i < model->n; i++) n += dsb_utf8_encode(dsb_byte_level_char(model->bytes[i]), key + n);
    same = same || (n == t->n && memcmp(key, t->content, n) == 0);
    free(key);
    return same ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: added token \"%s\" has id %d, which the vocabulary gives to \"%.*s\"", name, t->content, t->id, (int)model->n, (const char *)model->bytes);
}

static dsb_status set_content(dsb_added_token *t, const char *name, const char *content, size_t n, dsb_err *err) {
    t->content = malloc(n + 1);
    if (!t->content) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for an added token", name);
    memcpy(t->content, content, n);
    t->content[n] = 0;
    t->n = n;
    return DSB_OK;
}

/* The token as its pass sees it. */
static dsb_status index_token(dsb_added_tokens *added, dsb_regex_scratch *scratch, const dsb_added_token *t, const dsb_normalizer *norm, dsb_err *err) {
    int32_t index = (int32_t)(t - added->items);
    dsb_trie *trie = &added->tries[t->normalized];
    if (t->single_word || t->lstrip) added->whole[t->normalized] = true;
    if (!t->normalized) return trie_add(trie, t->content, t->n, index, err);
    dsb_buffer text = {0};
    dsb_status s = dsb_buffer_put(&text, t->content, t->n, err);
    if (!s) s = dsb_normalizer_run(norm, scratch, &text, true, err);
    if (!s) s = trie_add(trie, text.data, text.n, index, err);
    dsb_buffer_release(&text);
    return s;
}

static dsb_status read_token(dsb_added_token *t, const char *name, const json_t *json, dsb_err *err) {
    int64_t id = 0;
    const char *content = NULL;
    if (!json_is_object(json)) return dsb_fail(err, DSB_EINPUT, "%s: \"added_tokens\" holds something that is no object", name);
    DSB_TRY(dsb_json_int(json, name, "id", true, 0, MAX_ID - 1, &id, err));
    DSB_TRY(dsb_json_string(json, name, "content", true, &content, err));
    t->normalized = true; /* the library's default for tokens that aren't special */
    DSB_TRY(dsb_json_bool(json, name, "special", false, &t->special, err));
    if (t->special) t->normalized = false;
    DSB_TRY(dsb_json_bool(json, name, "normalized", false, &t->normalized, err));
    DSB_TRY(dsb_json_bool(json, name, "single_word", false, &t->single_word, err));
    DSB_TRY(dsb_json_bool(json, name, "lstrip", false, &t->lstrip, err));
    DSB_TRY(dsb_json_bool(json, name, "rstrip", false, &t->rstrip, err));
    t->id = (int32_t)id;
    return set_content(t, name, content, json_string_length(json_object_get(json, "content")), err);
}

static dsb_status read_all(dsb_added_tokens *added, dsb_regex_scratch *scratch, const char *name, const json_t *json, const dsb_bpe *bpe, const dsb_normalizer *norm, dsb_err *err) {
    bool words = false;
    DSB_TRY(DSB_NEW(added->items, added->room = json_array_size(json) + 1, name, err));
    for (size_t i = 0; i < json_array_size(json); i++) {
        dsb_added_token *t = &added->items[added->n++];
        DSB_TRY(read_token(t, name, json_array_get(json, i), err));
        DSB_TRY(check_id(t, name, bpe, err));
        words = words || t->single_word;
        DSB_TRY(index_token(added, scratch, t, norm, err));
    }
    return words ? dsb_regex_open(&added->word, name, "\\w", 2, false, err) : DSB_OK;
}

dsb_status dsb_added_tokens_init(dsb_added_tokens *added, const char *name, const json_t *json, const dsb_bpe *bpe, const dsb_normalizer *norm, dsb_err *err) {
    dsb_regex_scratch *scratch;
    *added = (dsb_added_tokens){0};
    trie_clear(&added->tries[0]);
    trie_clear(&added->tries[1]);
    if (!json || json_is_null(json)) return DSB_OK;
    if (!json_is_array(json)) return dsb_fail(err, DSB_EINPUT, "%s: \"added_tokens\" is no array", name);
    DSB_TRY(dsb_regex_scratch_open(&scratch, err));
    dsb_status s = read_all(added, scratch, name, json, bpe, norm, err);
    dsb_regex_scratch_close(scratch);
    if (s) dsb_added_tokens_release(added);
    return s;
}

dsb_status dsb_added_tokens_add(dsb_added_tokens *added, const char *name, int32_t id, const char *content, size_t n, dsb_err *err) {
    if (added->n == added->room) {
        size_t room = added->room ? 2 * added->room : 64;
        dsb_added_token *grown = realloc(added->items, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for %zu added tokens", name, room);
        added->items = grown;
        added->room = room;
    }
    dsb_added_token *t = &added->items[added->n];
    *t = (dsb_added_token){ .id = id };
    DSB_TRY(set_content(t, name, content, n, err));
    return trie_add(&added->tries[0], content, n, (int32_t)added->n++, err);
}

void dsb_added_tokens_release(dsb_added_tokens *added) {
    for (size_t i = 0; i < added->n; i++) free(added->items[i].content);
    free(added->items);
    free(added->tries[0].nodes);
    free(added->tries[1].nodes);
    dsb_regex_close(added->word);
    *added = (dsb_added_tokens){0};
}

const dsb_added_token *dsb_added_tokens_find(const dsb_added_tokens *added, const char *content) {
    for (size_t i = 0; i < added->n; i++)
        if (strcmp(added->items[i].content, content) == 0) return &added->items[i];
    return NULL;
}

/* Matching */

static dsb_status is_word_at(const dsb_added_tokens *added, dsb_regex_scratch *scratch, const char *p, bool *word, dsb_err *err) {
    size_t len, begin, end;
    dsb_match found;
    dsb_utf8_decode(p, &len);
    DSB_TRY(dsb_regex_match(added->word, scratch, p, len, 0, false, &found, &begin, &end, err));
    *word = found == DSB_MATCH_FOUND;
    return DSB_OK;
}

/* True where neither side of text[begin, end) goes on with a character of a word. */
static dsb_status stands_alone(const dsb_added_tokens *added, dsb_regex_scratch *scratch, const char *text, size_t n, size_t begin, size_t end, bool *alone, dsb_err *err) {
    bool word = false;
    *alone = false;
    if (begin > 0) DSB_TRY(is_word_at(added, scratch, dsb_utf8_back(text, text + begin), &word, err));
    if (!word && end < n) DSB_TRY(is_word_at(added, scratch, text + end, &word, err));
    *alone = !word;
    return DSB_OK;
}

static size_t spaces_before(const char *text, size_t least, size_t at) {
    while (at > least) {
        size_t len;
        const char *p = dsb_utf8_back(text, text + at);
        if (!dsb_is_white_space(dsb_utf8_decode(p, &len))) break;
        at = (size_t)(p - text);
    }
    return at;
}

static size_t spaces_after(const char *text, size_t n, size_t at) {
    size_t len;
    while (at < n && dsb_is_white_space(dsb_utf8_decode(text + at, &len))) at += len;
    return at;
}

dsb_status dsb_added_tokens_match(const dsb_added_tokens *added, int pass, dsb_regex_scratch *scratch, const char *text, size_t n, size_t from, bool more, const dsb_added_token **token, size_t *begin, size_t *end, dsb_err *err) {
    const dsb_trie *t = &added->tries[pass];
    *token = NULL;
    *begin = more && added->whole[pass] ? from : n;
    if (t->n == 0 || *begin < n) return DSB_OK;
    for (size_t at = from; at < n; at++) {
        if (t->first_child[(uint8_t)text[at]] < 0) continue;
        size_t stop = at;
        bool open, alone = true;
        int32_t i = trie_longest(t, text, n, at, &stop, &open);
        const dsb_added_token *found = i < 0 ? NULL : &added->items[i];
        if (more && (open || (found && found->rstrip && spaces_after(text, n, stop) == n))) return *begin = at, DSB_OK;
        if (!found) continue;
        if (found->single_word) DSB_TRY(stands_alone(added, scratch, text, n, at, stop, &alone, err));
        if (!alone) {
            at = stop - 1; /* its bytes are spent, as in the library */
            continue;
        }
        *token = found;
        *begin = found->lstrip ? spaces_before(text, from, at) : at;
        *end = found->rstrip ? spaces_after(text, n, stop) : stop;
        return DSB_OK;
    }
    return DSB_OK;
}
