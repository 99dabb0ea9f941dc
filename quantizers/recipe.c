#include "quantizers/recipe.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "quantizers/compensation.h"
#include "quantizers/quantize_rule.h"

static const char *const k_role[DSB_ROLE_COUNT] = {"embed", "attn.q", "attn.q_a", "attn.q_b", "attn.kv_a", "attn.kv_b", "attn.k", "attn.v", "attn.o", "dense.gate", "dense.up", "dense.down",
                                                   "shared.gate", "shared.up", "shared.down", "expert.gate", "expert.up", "expert.down", "router", "lm_head"};

const char *dsb_role_name(dsb_role role) { return k_role[role]; }

/* Where a message comes from. */
typedef struct where {
    const char *name;
    int rule;
    dsb_arena *arena;
    dsb_err *err;
} where;

static dsb_status wrong(const where *w, const char *key, const char *found, const char *wanted) {
    if (w->rule < 0) return dsb_fail(w->err, DSB_EINPUT, "%s: \"%s\" is %s; %s is wanted", w->name, key, found, wanted);
    return dsb_fail(w->err, DSB_EINPUT, "%s: rule %d: \"%s\" is %s; %s is wanted", w->name, w->rule + 1, key, found, wanted);
}

/* A list of known names for a message, cut where it would not fit. */
typedef struct names {
    char text[640];
} names;

static void names_add(names *n, const char *name) {
    size_t at = strlen(n->text);
    snprintf(n->text + at, sizeof n->text - at, "%s%s", at ? ", " : "", name);
}

static dsb_status unknown_name(const where *w, const char *key, const char *found, const names *known) {
    char wanted[sizeof known->text + 16];
    snprintf(wanted, sizeof wanted, "one of %s", known->text);
    return wrong(w, key, found, wanted);
}

static dsb_status known_keys(const where *w, const json_t *obj, const char *const *keys) {
    const char *key;
    json_t *v;
    names known = {""};
    json_object_foreach((json_t *)obj, key, v) {
        int i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0) i++;
        if (keys[i]) continue;
        for (i = 0; keys[i]; i++) names_add(&known, keys[i]);
        if (w->rule < 0) return dsb_fail(w->err, DSB_EINPUT, "%s: key \"%s\" is unknown; one of %s is wanted", w->name, key, known.text);
        return dsb_fail(w->err, DSB_EINPUT, "%s: rule %d: key \"%s\" is unknown; one of %s is wanted", w->name, w->rule + 1, key, known.text);
    }
    return DSB_OK;
}

static dsb_status text(const where *w, const json_t *obj, const char *key, const char **out) {
    const json_t *v = json_object_get(obj, key);
    if (!v) return DSB_OK;
    if (!json_is_string(v)) return wrong(w, key, "no string", "a string");
    *out = dsb_arena_strdup(w->arena, json_string_value(v));
    return *out ? DSB_OK : dsb_fail(w->err, DSB_ENOMEM, "%s: no memory for a recipe", w->name);
}

static dsb_status read_format(const where *w, const json_t *obj, dsb_rule *r) {
    const char *name = NULL;
    const dsb_format *rows;
    names known = {"keep"};
    DSB_TRY(text(w, obj, "format", &name));
    if (name && strcmp(name, "keep") == 0) return DSB_OK;
    r->format = name ? dsb_format_find(name) : NULL;
    if (r->format) return DSB_OK;
    for (int i = 0, n = dsb_format_list(&rows); i < n; i++) names_add(&known, rows[i].name);
    return unknown_name(w, "format", name ? name : "missing", &known);
}

static bool has_codes(const dsb_rule *r) { return r->format && !r->format->is_float; }
static bool has_integers(const dsb_rule *r) { return r->format && r->format->qmax > 0; }

/* Where a format's blocks don't divide a row, this one is used. */
static dsb_status read_fallback(const where *w, const json_t *obj, dsb_rule *r) {
    const char *name = NULL;
    DSB_TRY(text(w, obj, "fallback", &name));
    if (!name) return DSB_OK;
    if (!r->format || !r->format->block) return wrong(w, "fallback", name, "none beside a format that takes rows of any length");
    if (strcmp(name, "keep") == 0) return wrong(w, "fallback", name, "a format such as q8_0 or bf16");
    r->fallback = dsb_format_find(name);
    return r->fallback ? DSB_OK : wrong(w, "fallback", name, "a format of `dsbench list formats`");
}

static dsb_status read_group(const where *w, const json_t *obj, dsb_rule *r) {
    const json_t *v = json_object_get(obj, "group");
    const char *s = json_string_value(v), *wanted = "none with keep or a float format";
    r->group = r->format ? r->format->group : DSB_GROUP_CHANNEL;
    if (!v) return DSB_OK;
    if (!has_codes(r)) return wrong(w, "group", "given", wanted);
    if (s && strcmp(s, "channel") == 0) {
        r->group = DSB_GROUP_CHANNEL;
    } else if (s && strcmp(s, "tensor") == 0) {
        r->group = DSB_GROUP_TENSOR;
    } else if (json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) <= 1 << 20) {
        r->group = json_integer_value(v);
    } else {
        dsb_format_takes_group(r->format, 0, &wanted);
        return wrong(w, "group", s ? s : "neither a name nor a positive integer", r->format->block ? wanted : "tensor, channel or a number of inputs");
    }
    char found[24];
    dsb_group_name(r->group, found);
    return dsb_format_takes_group(r->format, r->group, &wanted) ? DSB_OK : wrong(w, "group", found, wanted);
}

static dsb_status read_activation(const where *w, const json_t *obj, dsb_rule *r) {
    const char *name = "none";
    const dsb_activation_row *rows;
    names known = {""};
    DSB_TRY(text(w, obj, "activation", &name));
    int n = dsb_activation_list(&rows), found = 0;
    while (found < n && strcmp(rows[found].name, name) != 0) names_add(&known, rows[found++].name);
    if (found == n) return unknown_name(w, "activation", name, &known);
    r->activation = (dsb_activation)found;
    if (found != DSB_ACT_NONE && r->role && strcmp(r->role, "embed") == 0) return wrong(w, "activation", name, "none beside the embedding, which no product reads,");
    if (found != DSB_ACT_NONE && !has_codes(r)) return wrong(w, "activation", name, "none with keep or a float format");
    if (rows[found].integer && !has_integers(r)) return wrong(w, "activation", name, "an integer format beside it, or fp8-dynamic, fp8-static or none,");
    return DSB_OK;
}

/* How a static scale is found. */
static dsb_status read_calibrator(const where *w, const json_t *obj, dsb_rule *r) {
    const char *name = NULL;
    const json_t *p = json_object_get(obj, "percentile");
    DSB_TRY(text(w, obj, "calibrator", &name));
    int c = name ? dsb_calibrator_find(name) : DSB_CAL_MINMAX;
    if (c < 0) return wrong(w, "calibrator", name, "one of minmax, percentile, mse, kl");
    if (name && !dsb_activation_is_static(r->activation)) return wrong(w, "calibrator", name, "a static activation beside it");
    if (p && c != DSB_CAL_PERCENTILE) return wrong(w, "percentile", "given", "the calibrator percentile beside it");
    r->calibrator = (dsb_calibrator)c;
    r->percentile = p ? json_number_value(p) : 99.99;
    if (!(r->percentile > 0 && r->percentile <= 100)) return wrong(w, "percentile", "out of range", "a number above 0, at most 100,");
    return DSB_OK;
}

static bool outside_blocks(const dsb_rule *r) { return dsb_rule_covers(r, DSB_ROLE_EMBED, "model.embed_tokens.weight") || dsb_rule_covers(r, DSB_ROLE_LM_HEAD, "lm_head.weight"); }

static dsb_status read_algorithm(const where *w, const json_t *obj, dsb_rule *r) {
    const dsb_algorithm *rows;
    names known = {""};
    r->algorithm = "rtn";
    DSB_TRY(text(w, obj, "algorithm", &r->algorithm));
    const dsb_algorithm *a = dsb_algorithm_find(r->algorithm);
    for (int i = 0, n = dsb_algorithm_list(&rows); i < n; i++) names_add(&known, rows[i].name);
    if (!a) return unknown_name(w, "algorithm", r->algorithm, &known);
    if ((a->range != DSB_RANGE_WHOLE || (a->method != DSB_METHOD_ROUND && a->method != DSB_METHOD_IMATRIX)) && !has_integers(r)) return wrong(w, "algorithm", r->algorithm, "rtn, or an integer format beside it,");
    if (a->method == DSB_METHOD_IMATRIX && !(r->format && r->format->ggml)) return wrong(w, "algorithm", r->algorithm, "a GGUF format such as q4_K beside it");
    if (a->method == DSB_METHOD_AWQ && outside_blocks(r)) return wrong(w, "algorithm", r->algorithm, "rtn or gptq beside the embedding or lm_head");
    if (a->range == DSB_RANGE_KL && outside_blocks(r)) return wrong(w, "algorithm", r->algorithm, "a role or match that leaves embedding and lm_head out, whose rows are quantized in parts,");
    const json_t *order = json_object_get(obj, "act_order"), *damp = json_object_get(obj, "damp"), *clip = json_object_get(obj, "clip");
    if (clip && !json_is_boolean(clip)) return wrong(w, "clip", "no boolean", "true or false");
    r->clip = json_is_true(clip);
    if (r->clip && a->method != DSB_METHOD_AWQ) return wrong(w, "clip", "true", "the algorithm awq beside it");
    if (r->clip && r->group == DSB_GROUP_TENSOR) return wrong(w, "clip", "true beside one scale a tensor", "a scale a channel or group, which is cut by itself,");
    if (order && !json_is_boolean(order)) return wrong(w, "act_order", "no boolean", "true or false");
    r->act_order = json_is_true(order);
    r->damp = damp ? json_number_value(damp) : 0.01;
    if (!(r->damp > 0 && r->damp <= 1)) return wrong(w, "damp", "out of range", "a number above 0, at most 1,");
    if (a->needs && r->role && strcmp(r->role, "embed") == 0) return wrong(w, "algorithm", r->algorithm, "rtn beside the embedding, which no product reads,");
    return order && a->method != DSB_METHOD_GPTQ ? wrong(w, "act_order", "given", "the algorithm gptq beside it") : DSB_OK;
}

static dsb_status read_transform(const where *w, const json_t *obj, dsb_rule *r) {
    const char *name = "none";
    const dsb_transform_row *rows;
    const json_t *alpha = json_object_get(obj, "alpha");
    names known = {""};
    DSB_TRY(text(w, obj, "transform", &name));
    int n = dsb_transform_list(&rows), found = 0;
    while (found < n && strcmp(rows[found].name, name) != 0) names_add(&known, rows[found++].name);
    if (found == n) return unknown_name(w, "transform", name, &known);
    r->transform = (dsb_transform)found;
    r->alpha = alpha ? json_number_value(alpha) : 0.5;
    if (alpha && found != DSB_TRANSFORM_SMOOTH) return wrong(w, "alpha", "given", "the transform smooth beside it");
    if (json_is_string(alpha) && strcmp(json_string_value(alpha), "search") == 0) r->alpha = DSB_ALPHA_SEARCH;
    else if ((alpha && !json_is_number(alpha)) || !(r->alpha >= 0 && r->alpha <= 1)) return wrong(w, "alpha", "out of range", "a number of 0 to 1, or search,");
    if (found == DSB_TRANSFORM_NONE) return DSB_OK;
    if (!r->format) return wrong(w, "transform", name, "none with keep");
    if (dsb_algorithm_find(r->algorithm)->method == DSB_METHOD_AWQ) return wrong(w, "transform", name, "none beside awq, which scales inputs itself,");
    if (outside_blocks(r)) return wrong(w, "transform", name, "a role or match that leaves embedding and lm_head out");
    if (dsb_activation_is_static(r->activation) && (found == DSB_TRANSFORM_HADAMARD || r->calibrator != DSB_CAL_MINMAX)) return wrong(w, "transform", name, "a dynamic activation (or smooth with the calibrator minmax) beside it, as ranges are of inputs before it,");
    return DSB_OK;
}

/* A glob that no role matches would be a rule that never applies: a misspelling. */
static dsb_status read_role(const where *w, const json_t *obj, dsb_rule *r) {
    names known = {"*"};
    DSB_TRY(text(w, obj, "role", &r->role));
    if (!r->role) return DSB_OK;
    for (int i = 0; i < DSB_ROLE_COUNT; i++) {
        if (fnmatch(r->role, k_role[i], 0) == 0) return DSB_OK;
        names_add(&known, k_role[i]);
    }
    return unknown_name(w, "role", r->role, &known);
}

static bool covers_experts(const char *role) {
    for (int i = DSB_ROLE_EXPERT_GATE; i <= DSB_ROLE_EXPERT_DOWN; i++)
        if (!role || fnmatch(role, k_role[i], 0) == 0) return true;
    return false;
}

static const char *const k_by[DSB_BY_COUNT] = {"activity", "sensitivity", "mean_abs", "even"};
const char *dsb_by_name(dsb_by by) { return k_by[by]; }

/* "budget": {"bits": 6, "by": "activity"}, of all three matrices of an expert. */
static dsb_status read_budget(const where *w, const json_t *obj, dsb_rule *r) {
    static const char *const k_keys[] = {"bits", "by", NULL};
    const char *by = NULL;
    const json_t *bits = json_object_get(obj, "bits");
    names known = {""};
    if (!json_is_object(obj)) return wrong(w, "budget", "no object", "an object of bits and by");
    DSB_TRY(known_keys(w, obj, k_keys));
    if (r->match || !r->role || strcmp(r->role, "expert.*") != 0) return wrong(w, "budget", "beside another role", "the role expert.* alone");
    if (!r->format) return wrong(w, "budget", "beside keep", "a format that the experts within it get");
    r->when = DSB_WHEN_BUDGET;
    r->when_value = json_number_value(bits);
    if (!(r->when_value > 0 && r->when_value <= 32)) return wrong(w, "bits", "out of range", "a number above 0, at most 32, of bits a weight");
    DSB_TRY(text(w, obj, "by", &by));
    for (int i = 0; i < DSB_BY_COUNT; i++) {
        names_add(&known, k_by[i]);
        r->by = (dsb_by)i;
        if (by && strcmp(by, k_by[i]) == 0) return DSB_OK;
    }
    return unknown_name(w, "by", by ? by : "missing", &known);
}

/* Tests by dsb_when; from the second on, a list of keys. */
static const char *const k_when[] = {"", "activity_rank_below", "mean_abs_rank_below", "mean_abs_below", "budget", NULL};

static dsb_status read_when(const where *w, const json_t *obj, dsb_rule *r) {
    const char *const *k_keys = k_when + 1;
    const json_t *when = json_object_get(obj, "when");
    if (!when) return DSB_OK;
    if (!json_is_object(when) || json_object_size(when) != 1) return wrong(w, "when", "no object of one test", "one of activity_rank_below, mean_abs_rank_below, mean_abs_below, budget");
    if (!covers_experts(r->role)) return wrong(w, "role", r->role, "a role of experts, such as expert.*, beside \"when\"");
    DSB_TRY(known_keys(w, when, k_keys));
    if (json_object_get(when, "budget")) return read_budget(w, json_object_get(when, "budget"), r);
    for (int i = 0; k_keys[i]; i++) {
        const json_t *v = json_object_get(when, k_keys[i]);
        if (!v) continue;
        r->when = (dsb_when)(DSB_WHEN_ACTIVITY_RANK_BELOW + i);
        r->when_value = json_number_value(v);
        bool rank = r->when != DSB_WHEN_MEAN_ABS_BELOW;
        if (!json_is_number(v) || r->when_value < 0 || (rank && r->when_value > 1)) return wrong(w, k_keys[i], "out of range", rank ? "a share of 0 to 1" : "a number of 0 or more");
    }
    return DSB_OK;
}

static dsb_status read_numbers(const where *w, const json_t *obj, dsb_rule *r) {
    const json_t *zero = json_object_get(obj, "zero_point"), *margin = json_object_get(obj, "static_margin");
    const dsb_algorithm *a = dsb_algorithm_find(r->algorithm);
    bool real = json_is_string(zero) && strcmp(json_string_value(zero), "real") == 0;
    if (zero && !json_is_boolean(zero) && !real) return wrong(w, "zero_point", "none of these", "true, false or real");
    r->zero_point = real ? DSB_ZERO_REAL : json_is_true(zero) ? DSB_ZERO_CODE : DSB_ZERO_NONE;
    if (r->zero_point && !has_integers(r)) return wrong(w, "zero_point", real ? "real" : "true", "false with a format that isn't of integers");
    if (a->method == DSB_METHOD_HQQ && !real) return wrong(w, "zero_point", zero ? "no real one" : "missing", "real beside hqq, which searches it,");
    if (real && (a->range != DSB_RANGE_WHOLE || a->method == DSB_METHOD_GPTQ)) return wrong(w, "zero_point", "real", "rtn, hqq or awq beside it, or true or false,");
    r->static_margin = margin ? json_number_value(margin) : 1;
    if (!(r->static_margin > 0 && r->static_margin <= 1000)) return wrong(w, "static_margin", "no positive number up to 1000", "a factor such as 1.1");
    if (margin && !dsb_activation_is_static(r->activation)) return wrong(w, "static_margin", "given", "a static activation beside it");
    bool damped = dsb_algorithm_find(r->algorithm)->method == DSB_METHOD_GPTQ || r->compensation;
    return json_object_get(obj, "damp") && !damped ? wrong(w, "damp", "given", "the algorithm gptq or a compensation beside it") : DSB_OK;
}

/* One name or several. */
static dsb_status add_compensation(const where *w, const json_t *v, dsb_rule *r) {
    const dsb_compensation_row *rows, *found = json_is_string(v) ? dsb_compensation_find(json_string_value(v)) : NULL;
    names known = {"none"};
    if (json_is_string(v) && strcmp(json_string_value(v), "none") == 0) return DSB_OK;
    for (int i = 0, n = dsb_compensation_list(&rows); i < n; i++) names_add(&known, rows[i].name);
    if (!found) return unknown_name(w, "compensation", json_is_string(v) ? json_string_value(v) : "no name", &known);
    if (found->bit == DSB_COMP_ROUTER) {
        if (!r->role || strcmp(r->role, "router") != 0) return wrong(w, "compensation", found->name, "the role router beside it");
    } else if (!r->format) {
        return wrong(w, "compensation", found->name, "none with keep (of a router: router)");
    }
    if (found->bit & (DSB_COMP_SCALE | DSB_COMP_SCALE_GRADIENT) && (!has_integers(r) || r->group == DSB_GROUP_TENSOR)) return wrong(w, "compensation", found->name, "low-rank or bias, or an integer format by channel or group beside it,");
    r->compensation |= found->bit;
    return DSB_OK;
}

static dsb_status read_compensation(const where *w, const json_t *obj, dsb_rule *r) {
    const json_t *v = json_object_get(obj, "compensation"), *rank = json_object_get(obj, "rank"), *threshold = json_object_get(obj, "threshold");
    r->rank = rank ? json_integer_value(rank) : 16;
    r->threshold = threshold ? json_number_value(threshold) : 0;
    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++) DSB_TRY(add_compensation(w, json_array_get(v, i), r));
    } else if (v) {
        DSB_TRY(add_compensation(w, v, r));
    }
    bool low_rank = r->compensation & DSB_COMP_LOW_RANK, error = r->compensation & ~(DSB_COMP_RECALIBRATE | DSB_COMP_ROUTER);
    if (rank && !low_rank) return wrong(w, "rank", "given", "the compensation low-rank beside it");
    if (r->rank < 1 || r->rank > 1024) return wrong(w, "rank", "out of range", "a whole number of 1 to 1024");
    if (threshold && !json_is_number(threshold)) return wrong(w, "threshold", "no number", "a share of the output of 0 to 1");
    if (threshold && !error) return wrong(w, "threshold", "given", "a compensation of the error beside it");
    if (!(r->threshold >= 0 && r->threshold < 1)) return wrong(w, "threshold", "out of range", "a share of the output of 0 to 1");
    if (r->compensation & DSB_COMP_RECALIBRATE && !error && !dsb_algorithm_find(r->algorithm)->needs) return wrong(w, "compensation", "recalibrate alone", "an algorithm or a compensation beside it that chooses by calibration,");
    return DSB_OK;
}

static dsb_status read_rule(const where *w, const json_t *obj, dsb_rule *r) {
    static const char *const k_keys[] = {"match", "role", "when", "format", "fallback", "group", "zero_point", "algorithm", "act_order", "damp", "clip", "activation", "calibrator", "percentile", "static_margin", "transform", "alpha", "compensation", "rank", "threshold", NULL};
    if (!json_is_object(obj)) return dsb_fail(w->err, DSB_EINPUT, "%s: rule %d is no object", w->name, w->rule + 1);
    DSB_TRY(known_keys(w, obj, k_keys));
    *r = (dsb_rule){0};
    DSB_TRY(text(w, obj, "match", &r->match));
    DSB_TRY(read_role(w, obj, r));
    if (!r->match && !r->role) return dsb_fail(w->err, DSB_EINPUT, "%s: rule %d has neither \"role\" nor \"match\"; one is wanted", w->name, w->rule + 1);
    DSB_TRY(read_format(w, obj, r));
    DSB_TRY(read_fallback(w, obj, r));
    DSB_TRY(read_group(w, obj, r));
    DSB_TRY(read_activation(w, obj, r));
    DSB_TRY(read_calibrator(w, obj, r));
    DSB_TRY(read_algorithm(w, obj, r));
    DSB_TRY(read_transform(w, obj, r));
    DSB_TRY(read_when(w, obj, r));
    DSB_TRY(read_compensation(w, obj, r));
    return read_numbers(w, obj, r);
}

/* What decides the experts that a budget does not take: the next rule without a test. */
static const dsb_rule *low_rule(const dsb_recipe *r, int i) {
    while (++i < r->n_rule)
        if (r->rules[i].when == DSB_WHEN_ALWAYS && !r->rules[i].match && r->rules[i].role && covers_experts(r->rules[i].role)) return &r->rules[i];
    return NULL;
}

/* A scheme's name stands in lists (a,b), in RUN:scheme and in file names. */
static dsb_status check_name(const char *file, const char *name, dsb_err *err) {
    if (strcmp(name, "reference") == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"name\" is reference, which is reserved for the unquantized model; another name is wanted", file);
    if (strlen(name) > 64 || strpbrk(name, ",:/\\") || name[0] == '.' || name[0] == '-')
        return dsb_fail(err, DSB_EINPUT, "%s: \"name\" is \"%.80s\"; up to 64 characters without , : / \\, not starting with . or -, are wanted", file, name);
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < ' ') return dsb_fail(err, DSB_EINPUT, "%s: \"name\" holds a control character; none is wanted", file);
    return DSB_OK;
}

bool dsb_role_writes_stream(dsb_role role) { return role == DSB_ROLE_ATTN_O || role == DSB_ROLE_DENSE_DOWN || role == DSB_ROLE_SHARED_DOWN || role == DSB_ROLE_EXPERT_DOWN; }
bool dsb_role_reads_stream(dsb_role role) { return role != DSB_ROLE_EMBED && role != DSB_ROLE_ATTN_Q_B && role != DSB_ROLE_ATTN_KV_B && !dsb_role_writes_stream(role); }

/* "rotate": "hadamard" of the whole recipe. What calibration saw of an unrotated input says little of a rotated one's range. */
static dsb_status read_rotate(const where *w, const json_t *doc, dsb_recipe *r) {
    const char *name = "none";
    DSB_TRY(text(w, doc, "rotate", &name));
    r->rotate = strcmp(name, "hadamard") == 0;
    if (!r->rotate && strcmp(name, "none") != 0) return wrong(w, "rotate", name, "hadamard or none");
    if (r->source && !*r->source) return wrong(w, "source", "empty", "a folder, or none,");
    return r->rotate && r->source ? wrong(w, "source", r->source, "none beside \"rotate\", which folds the norms of the model's own checkpoint,") : DSB_OK;
}

static dsb_status check_rotated(const where *w, const dsb_rule *r) {
    bool reads = !r->role;
    for (int i = 0; i < DSB_ROLE_COUNT && !reads; i++) reads = dsb_role_reads_stream((dsb_role)i) && fnmatch(r->role, k_role[i], 0) == 0;
    if (!reads) return DSB_OK;
    if (dsb_activation_is_static(r->activation)) return wrong(w, "activation", "static", "a dynamic one beside \"rotate\", as ranges are of inputs that aren't rotated (static ones may stand beside the roles *.down, attn.o, attn.q_b and attn.kv_b)");
    return r->transform == DSB_TRANSFORM_SMOOTH ? wrong(w, "transform", "smooth", "none or hadamard beside \"rotate\" (smooth may stand beside the roles *.down, attn.o, attn.q_b and attn.kv_b)") : DSB_OK;
}

/* The experts beyond a budget go to a rule that takes all of them, and that stores fewer bits. */
static dsb_status check_budget(const where *w, const dsb_recipe *r) {
    const dsb_rule *low = low_rule(r, w->rule);
    if (!low || !low->format) return wrong(w, "budget", "given without a rule behind it that quantizes all experts", "such a rule, of the format of experts beyond the budget,");
    if (r->rules[w->rule].when_value < low->format->bits) return wrong(w, "bits", "below those of the rule behind it", "as many bits a weight as all experts take in its format, or more,");
    if (low->format->bits < r->rules[w->rule].format->bits) return DSB_OK;
    return wrong(w, "budget", "beside a format of no more bits than that of the rule behind it", "a format of more bits");
}

dsb_status dsb_recipe_parse(const dsb_recipe **out, dsb_arena *arena, const char *name, const json_t *doc, dsb_err *err) {
    static const char *const k_keys[] = {"name", "what", "source", "rules", "rotate", NULL};
    where w = {name, -1, arena, err};
    void *p;
    if (!json_is_object(doc)) return dsb_fail(err, DSB_EINPUT, "%s: a recipe must be a JSON object", name);
    DSB_TRY(known_keys(&w, doc, k_keys));
    const json_t *rules = json_object_get(doc, "rules"), *own = json_object_get(doc, "name");
    if (!json_is_string(own) || !*json_string_value(own)) return dsb_fail(err, DSB_EINPUT, "%s: \"name\" is missing; a recipe has a name", name);
    DSB_TRY(check_name(name, json_string_value(own), err));
    if (!json_is_array(rules) || json_array_size(rules) == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"rules\" must be an array of at least one rule", name);
    DSB_TRY(dsb_arena_take(arena, &p, 1, sizeof(dsb_recipe), "recipe", err));
    dsb_recipe *r = p;
    r->carrier_bf16 = true;
    r->what = "";
    DSB_TRY(text(&w, doc, "name", &r->name));
    DSB_TRY(text(&w, doc, "what", &r->what));
    DSB_TRY(text(&w, doc, "source", &r->source));
    DSB_TRY(read_rotate(&w, doc, r));
    r->n_rule = (int)json_array_size(rules);
    DSB_TRY(dsb_arena_take(arena, &p, (size_t)r->n_rule, sizeof(dsb_rule), "rules", err));
    dsb_rule *list = p;
    r->rules = list;
    for (w.rule = 0; w.rule < r->n_rule; w.rule++) {
        DSB_TRY(read_rule(&w, json_array_get(rules, (size_t)w.rule), &list[w.rule]));
        if (r->rotate) DSB_TRY(check_rotated(&w, &list[w.rule]));
        r->needs_calibration |= dsb_activation_is_static(list[w.rule].activation) || list[w.rule].when == DSB_WHEN_ACTIVITY_RANK_BELOW;
        r->needs_calibration |= list[w.rule].when == DSB_WHEN_BUDGET && (list[w.rule].by == DSB_BY_ACTIVITY || list[w.rule].by == DSB_BY_SENSITIVITY);
        r->needs_histogram |= list[w.rule].calibrator != DSB_CAL_MINMAX;
        r->needs |= dsb_rule_needs(&list[w.rule]);
    }
    r->needs |= r->rotate && r->needs & DSB_NEED_CHANNELS ? DSB_NEED_GRAM : 0;
    r->needs_calibration |= r->needs != 0;
    for (w.rule = 0; w.rule < r->n_rule; w.rule++)
        if (list[w.rule].when == DSB_WHEN_BUDGET) DSB_TRY(check_budget(&w, r));
    char *json = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS); /* one text for one recipe */
    r->json = json ? dsb_arena_strdup(arena, json) : NULL;
    free(json);
    *out = r;
    return r->json ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "%s: no memory for a recipe", name);
}

dsb_status dsb_recipe_load(const dsb_recipe **out, dsb_arena *arena, const char *path, dsb_err *err) {
    json_t *doc;
    DSB_TRY(dsb_json_load_own(&doc, path, err));
    dsb_status s = dsb_recipe_parse(out, arena, path, doc, err);
    json_decref(doc);
    return s;
}

double dsb_rule_bpw(const dsb_rule *rule, int64_t rows, int64_t cols) {
    int64_t group;
    const dsb_format *f = dsb_rule_format(rule, cols, &group);
    if (!f) f = rule->format;
    if (!f) return 16;
    if (f->is_float || (f->block && f->group == f->block)) return dsb_format_bpw(f);
    double scales = group == DSB_GROUP_TENSOR ? 1 : group == DSB_GROUP_CHANNEL ? (double)rows : (double)rows * (double)((cols + group - 1) / group);
    return f->bits + scales * (f->scale_bits + dsb_zero_bits(rule->zero_point, f)) / ((double)rows * (double)cols);
}

int64_t dsb_recipe_within_budget(const dsb_recipe *recipe, int i, const dsb_expert_facts *f) {
    const dsb_rule *high = &recipe->rules[i], *low = low_rule(recipe, i);
    double h = (2 * dsb_rule_bpw(high, f->d_ff, f->d_model) + dsb_rule_bpw(high, f->d_model, f->d_ff)) / 3;
    double l = low ? (2 * dsb_rule_bpw(low, f->d_ff, f->d_model) + dsb_rule_bpw(low, f->d_model, f->d_ff)) / 3 : 0;
    int64_t n = 0;
    while (n < f->n_expert && (double)(n + 1) * h + (double)(f->n_expert - n - 1) * l <= high->when_value * (double)f->n_expert) n++;
    return n;
}

static bool within_budget(const dsb_recipe *recipe, int i, const dsb_expert_facts *f) {
    const dsb_rule *r = &recipe->rules[i];
    if (!f || !f->is_expert || f->n_expert <= 0) return false;
    if ((r->by == DSB_BY_ACTIVITY || r->by == DSB_BY_SENSITIVITY) && !f->activity_known) return false;
    int64_t n = dsb_recipe_within_budget(recipe, i, f);
    if (r->by == DSB_BY_EVEN) return (f->expert + 1) * n / f->n_expert > f->expert * n / f->n_expert;
    return f->place[r->by] < n;
}

void dsb_rule_condition(const dsb_rule *rule, char out[64]) {
    *out = 0;
    if (rule->when == DSB_WHEN_BUDGET) snprintf(out, 64, "budget %g by %s", rule->when_value, k_by[rule->by]);
    else if (rule->when) snprintf(out, 64, "%s %g", k_when[rule->when], rule->when_value);
}

static bool passes(const dsb_rule *r, const dsb_expert_facts *f) {
    if (r->when == DSB_WHEN_ALWAYS) return true;
    if (!f || !f->is_expert) return false;
    switch (r->when) {
    case DSB_WHEN_ACTIVITY_RANK_BELOW: return f->activity_known && f->activity_rank < r->when_value;
    case DSB_WHEN_MEAN_ABS_RANK_BELOW: return f->mean_abs_rank < r->when_value;
    default: return f->mean_abs < r->when_value;
    }
}

void dsb_rule_grouping(const dsb_rule *rule, char out[24]) { dsb_group_name(rule->group, out); }

const dsb_format *dsb_rule_format(const dsb_rule *rule, int64_t cols, int64_t *group) {
    *group = rule->group;
    if (!rule->format || dsb_format_divides(rule->format, cols)) return rule->format;
    if (!rule->fallback || !dsb_format_divides(rule->fallback, cols)) return NULL;
    *group = rule->fallback->group;
    return rule->fallback;
}

bool dsb_rule_covers(const dsb_rule *r, dsb_role role, const char *tensor) {
    bool outside = role == DSB_ROLE_ROUTER || role == DSB_ROLE_EMBED || role == DSB_ROLE_LM_HEAD;
    if (r->role && outside && strcmp(r->role, "*") == 0) return false; /* these are kept unless named */
    if (r->role && fnmatch(r->role, k_role[role], 0) != 0) return false;
    return !r->match || fnmatch(r->match, tensor, 0) == 0;
}

int dsb_recipe_needs(const dsb_recipe *recipe, dsb_role role, const char *tensor) {
    int needs = 0;
    for (int i = 0; i < recipe->n_rule; i++) {
        const dsb_rule *r = &recipe->rules[i];
        if (!dsb_rule_covers(r, role, tensor)) continue;
        needs |= dsb_rule_needs(r);
        if (recipe->rotate && dsb_role_reads_stream(role) && needs & DSB_NEED_CHANNELS) needs |= DSB_NEED_GRAM; /* squares of rotated channels */
        if (r->when == DSB_WHEN_ALWAYS) break;
    }
    return needs;
}

bool dsb_recipe_by_rows(const dsb_recipe *recipe, dsb_role role, const char *tensor, int64_t cols) {
    for (int i = 0; i < recipe->n_rule; i++) {
        const dsb_rule *r = &recipe->rules[i];
        if (!dsb_rule_covers(r, role, tensor)) continue;
        if (!dsb_rule_by_rows(r, cols)) return false;
        if (r->when == DSB_WHEN_ALWAYS) break;
    }
    return true;
}

const dsb_rule *dsb_recipe_match(const dsb_recipe *recipe, dsb_role role, const char *tensor, const dsb_expert_facts *facts) {
    for (int i = 0; i < recipe->n_rule; i++)
        if (dsb_rule_covers(&recipe->rules[i], role, tensor) && (recipe->rules[i].when == DSB_WHEN_BUDGET ? within_budget(recipe, i, facts) : passes(&recipe->rules[i], facts))) return &recipe->rules[i];
    return NULL;
}
