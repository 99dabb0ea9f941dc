#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "datasets/bpe_internal.h"

static dsb_status read_vocab(dsb_vocab *v, const json_t *vocab, dsb_err *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)vocab, key, value) {
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= BPE_MAX_ID)
            return dsb_fail(err, DSB_EINPUT, "%s: model: the id of \"%s\" in \"vocab\" is no integer from 0 to %d", v->name, key, BPE_MAX_ID - 1);
        DSB_TRY(dsb_vocab_put(v, key, strlen(key), (int32_t)json_integer_value(value), err));
    }
    return DSB_OK;
}

/* "left right", or ["left", "right"]. */
static dsb_status read_merge(dsb_bpe *bpe, const dsb_vocab *v, const json_t *merge, size_t i, dsb_err *err) {
    const char *left = json_string_value(json_is_array(merge) ? json_array_get(merge, 0) : merge), *right = NULL;
    size_t n_left = 0;
    if (left && json_is_array(merge)) {
        right = json_array_size(merge) == 2 ? json_string_value(json_array_get(merge, 1)) : NULL;
        n_left = strlen(left);
    } else if (left) {
        const char *space = strchr(left, ' ');
        n_left = space ? (size_t)(space - left) : 0;
        right = space && !strchr(space + 1, ' ') ? space + 1 : NULL;
    }
    if (!right || n_left == 0 || !*right) return dsb_fail(err, DSB_EINPUT, "%s: model: merge %zu is no pair of tokens (\"a b\" or [\"a\", \"b\"])", v->name, i);
    return dsb_bpe_add_merge(bpe, v, i, left, n_left, right, strlen(right), false, err);
}

static dsb_status refuse_text(const json_t *model, const char *name, const char *key, dsb_err *err) {
    const char *text = NULL;
    DSB_TRY(dsb_json_string(model, name, key, false, &text, err));
    return text && *text ? dsb_fail(err, DSB_EUNSUPPORTED, "%s: model: \"%s\" is \"%s\"; this build reads BPE without it", name, key, text) : DSB_OK;
}

static dsb_status read_options(const json_t *model, const char *name, dsb_bpe_options *o, dsb_err *err) {
    const char *type = "BPE";
    double dropout = 0;
    DSB_TRY(dsb_json_string(model, name, "type", false, &type, err));
    if (strcmp(type, "BPE") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: model type \"%s\" is not one that this build reads (BPE)", name, type);
    DSB_TRY(dsb_json_real(model, name, "dropout", false, &dropout, err));
    if (dropout != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: model: \"dropout\" is %g; this build reads BPE without it", name, dropout);
    DSB_TRY(refuse_text(model, name, "continuing_subword_prefix", err));
    DSB_TRY(refuse_text(model, name, "end_of_word_suffix", err));
    DSB_TRY(dsb_json_bool(model, name, "byte_fallback", false, &o->byte_fallback, err));
    DSB_TRY(dsb_json_bool(model, name, "fuse_unk", false, &o->fuse_unk, err));
    DSB_TRY(dsb_json_string(model, name, "unk_token", false, &o->unk_token, err));
    return dsb_json_bool(model, name, "ignore_merges", false, &o->ignore_merges, err);
}

static dsb_status read_model(dsb_bpe *bpe, dsb_vocab *v, const json_t *model, const dsb_bpe_options *o, dsb_err *err) {
    const json_t *merges = json_object_get(model, "merges");
    DSB_TRY(read_vocab(v, json_object_get(model, "vocab"), err));
    DSB_TRY(dsb_bpe_begin(bpe, v, o, json_array_size(merges), err));
    for (size_t i = 0; i < json_array_size(merges); i++) DSB_TRY(read_merge(bpe, v, json_array_get(merges, i), i, err));
    return dsb_bpe_end(bpe, v, o, err);
}

dsb_status dsb_bpe_init(dsb_bpe *bpe, const char *name, const json_t *model, bool byte_level, dsb_err *err) {
    const json_t *vocab = json_object_get(model, "vocab");
    dsb_bpe_options o = { .byte_level = byte_level };
    dsb_vocab v;
    *bpe = (dsb_bpe){ 0 };
    if (!json_is_object(model)) return dsb_fail(err, DSB_EINPUT, "%s: \"model\" is missing or no object; a tokenizer.json with a BPE model is wanted", name);
    DSB_TRY(read_options(model, name, &o, err));
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) return dsb_fail(err, DSB_EINPUT, "%s: model: \"vocab\" is missing, empty or no object", name);
    if (!json_is_array(json_object_get(model, "merges"))) return dsb_fail(err, DSB_EINPUT, "%s: model: \"merges\" is missing or no array", name);
    DSB_TRY(dsb_vocab_init(&v, name, json_object_size(vocab), err));
    dsb_status s = read_model(bpe, &v, model, &o, err);
    dsb_vocab_release(&v);
    if (s) dsb_bpe_release(bpe);
    return s;
}
