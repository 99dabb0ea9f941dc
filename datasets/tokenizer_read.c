#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "datasets/tokenizer_internal.h"

/* The id of a token by its text: an added one, else the vocabulary's. -1: none. */
static int32_t id_of(const dsb_tokenizer *tok, const json_t *json, const char *content) {
    const dsb_added_token *added = dsb_added_tokens_find(&tok->added, content);
    const json_t *value = json_object_get(json_object_get(json_object_get(json, "model"), "vocab"), content);
    return added ? added->id : value ? (int32_t)json_integer_value(value) : -1;
}

/* TemplateProcessing's "single": a special token before the sequence is a BOS; what follows the sequence isn't added here. */
static dsb_status read_template(dsb_tokenizer *tok, const char *name, const json_t *json, const json_t *post, dsb_err *err) {
    const json_t *single = json_object_get(post, "single");
    if (!json_is_array(single)) return dsb_fail(err, DSB_EINPUT, "%s: post_processor TemplateProcessing: \"single\" is no array", name);
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    if (!first) return DSB_OK;
    const char *content = json_string_value(json_object_get(first, "id"));
    if (!content) return dsb_fail(err, DSB_EINPUT, "%s: post_processor TemplateProcessing: a SpecialToken has no \"id\"", name);
    const json_t *ids = json_object_get(json_object_get(json_object_get(post, "special_tokens"), content), "ids");
    if (json_array_size(ids) > 1 || json_object_get(json_array_get(single, 1), "SpecialToken")) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: post_processor TemplateProcessing puts two tokens before the text; this build reads one", name);
    const json_t *id = json_array_get(ids, 0);
    int64_t value = json_is_integer(id) ? json_integer_value(id) : id_of(tok, json, content);
    if (value < 0 || (size_t)value >= tok->n_id || !tok->tokens[value].bytes) return dsb_fail(err, DSB_EINPUT, "%s: post_processor TemplateProcessing: the token \"%s\" has no id in the vocabulary", name, content);
    tok->bos_id = (int32_t)value;
    tok->adds_bos = true;
    return DSB_OK;
}

static dsb_status read_post_processor(dsb_tokenizer *tok, const char *name, const json_t *json, const json_t *post, int depth, dsb_err *err) {
    const char *type = NULL;
    if (!post || json_is_null(post)) return DSB_OK;
    if (!json_is_object(post)) return dsb_fail(err, DSB_EINPUT, "%s: \"post_processor\" is no object", name);
    DSB_TRY(dsb_json_string(post, name, "type", true, &type, err));
    if (strcmp(type, "ByteLevel") == 0) return DSB_OK; /* it moves offsets, not ids */
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(tok, name, json, post, err);
    if (strcmp(type, "Sequence") != 0 || depth == 8) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: post_processor type \"%s\" is not one that this build reads (Sequence, ByteLevel, TemplateProcessing, or none)", name, type);
    const json_t *list = json_object_get(post, "processors");
    if (!json_is_array(list)) return dsb_fail(err, DSB_EINPUT, "%s: post_processor Sequence: \"processors\" is no array", name);
    for (size_t i = 0; i < json_array_size(list); i++) DSB_TRY(read_post_processor(tok, name, json, json_array_get(list, i), depth + 1, err));
    return DSB_OK;
}

/* tokenizer_config.json: "bos_token" is a text or {"content": text}. */
static dsb_status read_config(dsb_tokenizer *tok, const char *name, const json_t *config, const json_t *json, dsb_err *err) {
    bool adds = false;
    if (!config) return DSB_OK;
    if (!json_is_object(config)) return dsb_fail(err, DSB_EINPUT, "%s: no object", name);
    const json_t *bos = json_object_get(config, "bos_token");
    if (json_is_object(bos)) bos = json_object_get(bos, "content");
    const char *content = json_string_value(bos);
    if (content && tok->bos_id < 0) tok->bos_id = id_of(tok, json, content);
    DSB_TRY(dsb_json_bool(config, name, "add_bos_token", false, &adds, err));
    if (adds && tok->bos_id < 0) return dsb_fail(err, DSB_EINPUT, "%s: \"add_bos_token\" is true, but \"bos_token\" (%s) is no token of the vocabulary", name, content ? content : "not given");
    tok->adds_bos = tok->adds_bos || adds;
    return DSB_OK;
}

dsb_status tokenizer_read(dsb_tokenizer *tok, const char *name, const json_t *json, const char *config_name, const json_t *config, dsb_err *err) {
    if (!json_is_object(json)) return dsb_fail(err, DSB_EINPUT, "%s: no object; a tokenizer.json as the tokenizers library writes it is wanted", name);
    DSB_TRY(dsb_pretokenizer_init(&tok->pre, name, json_object_get(json, "pre_tokenizer"), err));
    DSB_TRY(dsb_normalizer_init(&tok->norm, name, json_object_get(json, "normalizer"), err));
    DSB_TRY(dsb_bpe_init(&tok->bpe, name, json_object_get(json, "model"), tok->pre.byte_level, err));
    DSB_TRY(dsb_added_tokens_init(&tok->added, name, json_object_get(json, "added_tokens"), &tok->bpe, &tok->norm, err));
    DSB_TRY(tokenizer_index(tok, err));
    DSB_TRY(read_post_processor(tok, name, json, json_object_get(json, "post_processor"), 0, err));
    return read_config(tok, config_name, config, json, err);
}
