#include "engine/quant_config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

#define INT(key, required, lo, hi, out) DSB_TRY(dsb_json_int(j, path, key, required, lo, hi, out, err))
#define BOOL(key, required, out) DSB_TRY(dsb_json_bool(j, path, key, required, out, err))
#define TEXT(key, required, out) DSB_TRY(dsb_json_string(j, path, key, required, out, err))

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static dsb_status unsupported(const char *path, const char *key, const char *found, const char *wanted, dsb_err *err) {
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"%s\" of the quantization is \"%s\"; %s is wanted", path, key, found, wanted);
}

/* group_size: a number of inputs, or -1 for whole rows. */
static dsb_status read_group(dsb_quant_config *c, const json_t *j, const char *path, const char *key, dsb_err *err) {
    INT(key, false, -1, 1 << 24, &c->group);
    return DSB_OK;
}

static dsb_status read_gptq(dsb_quant_config *c, const json_t *j, const char *path, dsb_err *err) {
    const char *format = "gptq";
    int64_t bits = 4;
    INT("bits", true, 2, 8, &bits);
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"bits\" is %lld; 2, 3, 4 or 8 is wanted of GPTQ", path, (long long)bits);
    c->bits = (int)bits;
    DSB_TRY(read_group(c, j, path, "group_size", err));
    TEXT("format", false, &format);
    TEXT("checkpoint_format", false, &format);
    if (!is(format, "gptq") && !is(format, "gptq_v2")) return unsupported(path, "checkpoint_format", format, "gptq or gptq_v2", err);
    c->zeros_as_they_are = is(format, "gptq_v2");
    return DSB_OK;
}

static dsb_status read_awq(dsb_quant_config *c, const json_t *j, const char *path, dsb_err *err) {
    const char *version = "gemm";
    int64_t bits = 4;
    INT("w_bit", false, 1, 8, &bits);
    INT("bits", false, 1, 8, &bits);
    if (bits != 4) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"bits\" is %lld; 4 is wanted of AWQ", path, (long long)bits);
    c->bits = 4;
    DSB_TRY(read_group(c, j, path, "q_group_size", err));
    DSB_TRY(read_group(c, j, path, "group_size", err));
    TEXT("version", false, &version);
    return is(version, "gemm") || is(version, "GEMM") ? DSB_OK : unsupported(path, "version", version, "gemm", err);
}

static void say(dsb_quant_group *g, dsb_activation activation, const char *type, int64_t bits, const char *how) {
    g->activation = activation;
    snprintf(g->asked, sizeof g->asked, "%s%lld %s", type, (long long)bits, how);
}

static dsb_status read_blocks(dsb_quant_config *c, const json_t *list, const char *path, const char *key, dsb_err *err) {
    if (!list || json_is_null(list)) return DSB_OK;
    int64_t side[2] = {0};
    for (size_t i = 0; i < 2 && json_is_array(list); i++)
        if (json_is_integer(json_array_get(list, i))) side[i] = json_integer_value(json_array_get(list, i));
    if (json_array_size(list) != 2 || side[0] < 1 || side[1] < 1 || side[0] > 1 << 20 || side[1] > 1 << 20)
        return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" must be two sizes, such as [128, 128]", path, key);
    c->block_rows = side[0];
    c->block_cols = side[1];
    return DSB_OK;
}

static dsb_status read_fp8(dsb_quant_config *c, const json_t *j, const char *path, dsb_err *err) {
    const char *scheme = "dynamic";
    TEXT("activation_scheme", false, &scheme);
    if (!is(scheme, "dynamic") && !is(scheme, "static")) return unsupported(path, "activation_scheme", scheme, "dynamic or static", err);
    say(&c->groups[0], DSB_ACT_NONE, "fp", 8, scheme);
    c->n_group = 1;
    return read_blocks(c, json_object_get(j, "weight_block_size"), path, "weight_block_size", err);
}

/* compressed-tensors: "weights" or "input_activations" of a group. */
typedef struct ct_args {
    int64_t bits, group;
    bool symmetric, dynamic, is_int;
    const char *strategy;
} ct_args;

static dsb_status read_args(const json_t *j, const char *path, ct_args *a, const json_t **blocks, dsb_err *err) {
    const char *type = "int";
    *a = (ct_args){.bits = 8, .symmetric = true, .strategy = "tensor"};
    if (!json_is_object(j)) return dsb_fail(err, DSB_EINPUT, "%s: \"weights\" and \"input_activations\" of a config group must be objects", path);
    INT("num_bits", false, 1, 8, &a->bits);
    INT("group_size", false, -1, 1 << 24, &a->group);
    BOOL("symmetric", false, &a->symmetric);
    TEXT("type", false, &type);
    TEXT("strategy", false, &a->strategy);
    const json_t *dynamic = json_object_get(j, "dynamic"); /* a boolean, or "local": scales by group as they come */
    a->dynamic = json_is_true(dynamic) || json_is_string(dynamic);
    if (!is(type, "int") && !is(type, "float")) return unsupported(path, "type", type, "int or float", err);
    a->is_int = is(type, "int");
    *blocks = json_object_get(j, "block_structure");
    return DSB_OK;
}

static dsb_status read_ct_group(dsb_quant_config *c, const json_t *j, const char *path, dsb_err *err) {
    ct_args w, a;
    const json_t *blocks, *unused, *input = json_object_get(j, "input_activations"), *weights = json_object_get(j, "weights"), *output = json_object_get(j, "output_activations");
    if (c->n_group == DSB_QUANT_GROUPS) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: more than %d config groups", path, DSB_QUANT_GROUPS);
    if (output && !json_is_null(output)) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"output_activations\" can't be computed; null is wanted", path);
    if (!weights || json_is_null(weights)) return DSB_OK;
    DSB_TRY(read_args(weights, path, &w, &blocks, err));
    if (w.group) c->group = w.group;
    if (is(w.strategy, "block")) DSB_TRY(read_blocks(c, blocks, path, "block_structure", err));
    dsb_quant_group g = {.bits = (int)w.bits, .weights_are_int = w.is_int};
    if (input && !json_is_null(input)) {
        DSB_TRY(read_args(input, path, &a, &unused, err));
        bool plain = a.is_int && a.bits == 8 && a.symmetric && w.is_int;
        if (plain && a.dynamic && is(a.strategy, "token")) say(&g, DSB_ACT_INT8_DYNAMIC, "int", 8, "per token");
        else if (plain && !a.dynamic && is(a.strategy, "tensor")) say(&g, DSB_ACT_INT8_STATIC, "int", 8, "static");
        else say(&g, DSB_ACT_NONE, a.is_int ? "int" : "fp", a.bits, a.dynamic ? "dynamic" : "static");
    }
    for (int i = 0; i < c->n_group; i++)
        if (c->groups[i].bits == g.bits && c->groups[i].weights_are_int == g.weights_are_int && !is(c->groups[i].asked, g.asked))
            return dsb_fail(err, DSB_EUNSUPPORTED, "%s: two config groups of %d-bit weights differ in their activations; one scheme of activations a width is wanted", path, g.bits);
    c->groups[c->n_group++] = g;
    return DSB_OK;
}

static dsb_status read_compressed(dsb_quant_config *c, const json_t *j, const char *path, dsb_err *err) {
    const json_t *groups = json_object_get(j, "config_groups"), *sparsity = json_object_get(j, "sparsity_config"), *transform = json_object_get(j, "transform_config");
    const char *sparse = "dense", *key;
    json_t *v;
    if (sparsity && !json_is_null(sparsity)) DSB_TRY(dsb_json_string(sparsity, path, "format", false, &sparse, err));
    if (!is(sparse, "dense")) return unsupported(path, "format (sparsity_config)", sparse, "dense", err);
    if (json_object_size(json_object_get(transform, "config_groups"))) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"transform_config\": rotations while serving can't be computed", path);
    if (groups && !json_is_object(groups)) return dsb_fail(err, DSB_EINPUT, "%s: \"config_groups\" must be an object", path);
    json_object_foreach((json_t *)groups, key, v) {
        if (!json_is_object(v)) return dsb_fail(err, DSB_EINPUT, "%s: config group \"%s\" must be an object", path, key);
        DSB_TRY(read_ct_group(c, v, path, err));
    }
    return DSB_OK;
}

dsb_status dsb_quant_config_parse(dsb_quant_config *out, const void *json, const char *path, dsb_err *err) {
    const json_t *j = json;
    const char *method = NULL;
    *out = (dsb_quant_config){.block_rows = 128, .block_cols = 128};
    if (!json_is_object(j)) return dsb_fail(err, DSB_EINPUT, "%s: the quantization's config is no object", path);
    TEXT("quant_method", false, &method);
    if (!method) method = json_object_get(j, "config_groups") ? "compressed-tensors" : json_object_get(j, "w_bit") ? "awq" : json_object_get(j, "bits") ? "gptq" : "missing";
    static const struct {
        const char *name;
        dsb_quant_method method;
        dsb_status (*read)(dsb_quant_config *c, const json_t *j, const char *path, dsb_err *err);
    } k_method[] = {{"fp8", DSB_QUANT_FP8, read_fp8}, {"compressed-tensors", DSB_QUANT_COMPRESSED_TENSORS, read_compressed}, {"gptq", DSB_QUANT_GPTQ, read_gptq}, {"awq", DSB_QUANT_AWQ, read_awq}, {"mxfp4", DSB_QUANT_MXFP4, NULL}};
    for (size_t i = 0; i < sizeof k_method / sizeof *k_method; i++)
        if (is(method, k_method[i].name)) {
            out->method = k_method[i].method;
            return k_method[i].read ? k_method[i].read(out, j, path, err) : DSB_OK;
        }
    return unsupported(path, "quant_method", method, "fp8, compressed-tensors, gptq, awq or mxfp4", err);
}

dsb_status dsb_quant_config_load(dsb_quant_config *out, const char *dir, dsb_err *err) {
    static const char *const k_leaf[] = {"config.json", "quantize_config.json", "quant_config.json"};
    *out = (dsb_quant_config){.block_rows = 128, .block_cols = 128};
    for (int i = 0; i < 3; i++) {
        char path[4096];
        json_t *doc;
        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, k_leaf[i]) >= sizeof path || access(path, F_OK) != 0) continue;
        DSB_TRY(dsb_json_load(&doc, path, err));
        const json_t *q = i ? doc : json_object_get(doc, "quantization_config");
        if (!q || json_is_null(q)) q = json_object_get(doc, "compression_config");
        if (i && !q) q = doc;
        dsb_status s = q && !json_is_null(q) ? dsb_quant_config_parse(out, q, path, err) : DSB_OK;
        json_decref(doc);
        if (s || out->method) return s;
    }
    return DSB_OK;
}

const dsb_quant_group *dsb_quant_config_group(const dsb_quant_config *c, const dsb_format *format) {
    for (int i = 0; i < c->n_group; i++)
        if (c->groups[i].bits == 0 || (c->groups[i].bits == (int)format->bits && c->groups[i].weights_are_int == (format->qmax > 0))) return &c->groups[i];
    return NULL;
}
