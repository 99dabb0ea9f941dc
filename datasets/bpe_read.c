#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "datasets/bpe_internal.h"

/* Ids beyond this are a damaged file, not a vocabulary. */
enum { MAX_ID = 1 << 24 };

/* Vocabulary */

static dsb_status measure(dsb_bpe *bpe, const char *name, const json_t *vocab, size_t *n_bytes, dsb_err *err) {
    const char *key;
    json_t *value;
    int64_t largest = -1;
    *n_bytes = 0;
    json_object_foreach((json_t *)vocab, key, value) {
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= MAX_ID)
            return dsb_fail(err, DSB_EINPUT, "%s: model: the id of \"%s\" in \"vocab\" is no integer from 0 to %d", name, key, MAX_ID - 1);
        if (json_integer_value(value) > largest) largest = json_integer_value(value);
        *n_bytes += strlen(key) + 1;
    }
    bpe->n_id = (size_t)(largest + 1);
    return DSB_OK;
}

static dsb_status read_vocab(dsb_bpe *bpe, const char *name, const json_t *vocab, dsb_err *err) {
    size_t n_bytes, at = 0;
    const char *key;
    json_t *value;
    DSB_TRY(measure(bpe, name, vocab, &n_bytes, err));
    DSB_TRY(DSB_NEW(bpe->tokens, bpe->n_id, name, err));
    DSB_TRY(DSB_NEW(bpe->text, n_bytes, name, err));
    memset(bpe->byte_id, 0xff, sizeof bpe->byte_id);
    json_object_foreach((json_t *)vocab, key, value) {
        int32_t id = (int32_t)json_integer_value(value);
        size_t n = strlen(key), n_token;
        if (bpe->tokens[id].bytes) return dsb_fail(err, DSB_EINPUT, "%s: model: id %d in \"vocab\" is given twice, the second time to \"%s\"", name, id, key);
        uint8_t *bytes = bpe->text + at;
        /* Tokens outside the byte alphabet can't arise from text; they stand for their own UTF-8. */
        bool in_alphabet = dsb_byte_level_decode(key, n, bytes, &n_token);
        if (!in_alphabet) memcpy(bytes, key, n_token = n);
        bpe->tokens[id] = (dsb_token){bytes, (uint32_t)n_token};
        if (in_alphabet && n_token == 1) bpe->byte_id[bytes[0]] = id;
        at += n + 1;
    }
    return DSB_OK;
}

/* Merges */

static dsb_status part_id(const char *name, const json_t *vocab, size_t i, const char *part, int32_t *id, dsb_err *err) {
    const json_t *value = json_object_get(vocab, part);
    if (!value) return dsb_fail(err, DSB_EINPUT, "%s: model: merge %zu needs the token \"%s\", which isn't in \"vocab\"", name, i, part);
    *id = (int32_t)json_integer_value(value);
    return DSB_OK;
}

/* "left right", or ["left", "right"]: copies into left and its tail, so that left+right is one string as well. */
static dsb_status merge_parts(const char *name, const json_t *merge, size_t i, char **both, size_t *n_left, dsb_err *err) {
    const char *left = json_string_value(json_is_array(merge) ? json_array_get(merge, 0) : merge), *right = NULL;
    *both = NULL;
    if (left && json_is_array(merge)) {
        right = json_array_size(merge) == 2 ? json_string_value(json_array_get(merge, 1)) : NULL;
        *n_left = strlen(left);
    } else if (left) {
        const char *space = strchr(left, ' ');
        *n_left = space ? (size_t)(space - left) : 0;
        right = space && !strchr(space + 1, ' ') ? space + 1 : NULL;
    }
    if (!right || *n_left == 0 || !*right) return dsb_fail(err, DSB_EINPUT, "%s: model: merge %zu is no pair of tokens (\"a b\" or [\"a\", \"b\"])", name, i);
    size_t n_right = strlen(right);
    *both = malloc(*n_left + n_right + 1);
    if (!*both) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for a merge", name);
    memcpy(*both, left, *n_left);
    memcpy(*both + *n_left, right, n_right + 1);
    return DSB_OK;
}

static dsb_status read_merge(dsb_bpe *bpe, const char *name, const json_t *vocab, const json_t *merge, size_t i, dsb_err *err) {
    char *both;
    size_t n_left = 0;
    dsb_bpe_merge m = {.rank = (int32_t)i};
    DSB_TRY(merge_parts(name, merge, i, &both, &n_left, err));
    dsb_status s = part_id(name, vocab, i, both + n_left, &m.right, err);
    if (!s) s = part_id(name, vocab, i, both, &m.id, err);
    both[n_left] = 0;
    if (!s) s = part_id(name, vocab, i, both, &m.left, err);
    free(both);
    if (!s) bpe_merge_put(bpe, m);
    return s;
}

static dsb_status read_merges(dsb_bpe *bpe, const char *name, const json_t *vocab, const json_t *merges, dsb_err *err) {
    size_t n = json_array_size(merges);
    if (n > MAX_ID) return dsb_fail(err, DSB_EINPUT, "%s: model: %zu merges; at most %d are read", name, n, MAX_ID);
    for (bpe->n_slot = 16; bpe->n_slot < 2 * n; bpe->n_slot *= 2) continue;
    DSB_TRY(DSB_NEW(bpe->merges, bpe->n_slot, name, err));
    for (size_t i = 0; i < bpe->n_slot; i++) bpe->merges[i].left = -1;
    for (size_t i = 0; i < n; i++) DSB_TRY(read_merge(bpe, name, vocab, json_array_get(merges, i), i, err));
    return DSB_OK;
}

static dsb_status index_words(dsb_bpe *bpe, const char *name, const json_t *vocab, dsb_err *err) {
    const char *key;
    json_t *value;
    for (bpe->n_word_slot = 16; bpe->n_word_slot < 2 * json_object_size(vocab); bpe->n_word_slot *= 2) continue;
    DSB_TRY(DSB_NEW(bpe->words, bpe->n_word_slot, name, err));
    memset(bpe->words, 0xff, bpe->n_word_slot * sizeof *bpe->words);
    json_object_foreach((json_t *)vocab, key, value) {
        int32_t id = (int32_t)json_integer_value(value);
        if (dsb_byte_level_holds(key, strlen(key))) bpe_word_put(bpe, &bpe->tokens[id], id); /* others can't arise from text */
    }
    return DSB_OK;
}

/* The model */

static dsb_status refuse_text(const json_t *model, const char *name, const char *key, dsb_err *err) {
    const char *text = NULL;
    DSB_TRY(dsb_json_string(model, name, key, false, &text, err));
    return text && *text ? dsb_fail(err, DSB_EUNSUPPORTED, "%s: model: \"%s\" is \"%s\"; this build reads BPE without it", name, key, text) : DSB_OK;
}

static dsb_status check_flags(const json_t *model, const char *name, bool *ignore_merges, dsb_err *err) {
    const char *type = "BPE";
    double dropout = 0;
    DSB_TRY(dsb_json_string(model, name, "type", false, &type, err));
    if (strcmp(type, "BPE") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: model type \"%s\" is not one that this build reads (BPE)", name, type);
    DSB_TRY(dsb_json_real(model, name, "dropout", false, &dropout, err));
    if (dropout != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: model: \"dropout\" is %g; this build reads BPE without it", name, dropout);
    DSB_TRY(refuse_text(model, name, "continuing_subword_prefix", err));
    DSB_TRY(refuse_text(model, name, "end_of_word_suffix", err));
    return dsb_json_bool(model, name, "ignore_merges", false, ignore_merges, err);
}

/* unk_token and byte_fallback never act where every byte has a token. */
static dsb_status check_fallbacks(const dsb_bpe *bpe, const json_t *model, const char *name, dsb_err *err) {
    bool fallback = false;
    const char *unknown = NULL;
    DSB_TRY(dsb_json_bool(model, name, "byte_fallback", false, &fallback, err));
    DSB_TRY(dsb_json_string(model, name, "unk_token", false, &unknown, err));
    for (int b = 0; b < 256; b++)
        if (bpe->byte_id[b] < 0 && (fallback || unknown))
            return dsb_fail(err, DSB_EUNSUPPORTED, "%s: model: \"%s\" is set and byte 0x%02x has no token; this build reads byte-level BPE without a fallback", name, fallback ? "byte_fallback" : "unk_token", b);
    return DSB_OK;
}

static dsb_status read_model(dsb_bpe *bpe, const char *name, const json_t *model, dsb_err *err) {
    bool ignore_merges = false;
    const json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    if (!json_is_object(model)) return dsb_fail(err, DSB_EINPUT, "%s: \"model\" is missing or no object; a tokenizer.json with a BPE model is wanted", name);
    DSB_TRY(check_flags(model, name, &ignore_merges, err));
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) return dsb_fail(err, DSB_EINPUT, "%s: model: \"vocab\" is missing, empty or no object", name);
    if (!json_is_array(merges)) return dsb_fail(err, DSB_EINPUT, "%s: model: \"merges\" is missing or no array", name);
    DSB_TRY(read_vocab(bpe, name, vocab, err));
    DSB_TRY(check_fallbacks(bpe, model, name, err));
    DSB_TRY(read_merges(bpe, name, vocab, merges, err));
    return ignore_merges ? index_words(bpe, name, vocab, err) : DSB_OK;
}

dsb_status dsb_bpe_init(dsb_bpe *bpe, const char *name, const json_t *model, dsb_err *err) {
    *bpe = (dsb_bpe){0};
    dsb_status s = read_model(bpe, name, model, err);
    if (s) dsb_bpe_release(bpe);
    return s;
}

void dsb_bpe_release(dsb_bpe *bpe) {
    free(bpe->tokens);
    free(bpe->text);
    free(bpe->merges);
    free(bpe->words);
    *bpe = (dsb_bpe){0};
}
