/* Recipes: which rule decides a tensor, what is kept, tests of experts, presets, and the line each mistake gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "quantizers/recipe.h"

static dsb_arena arena;
static int setup(void **state) {
    dsb_arena_init(&arena);
    return 0;
}
static int teardown(void **state) {
    dsb_arena_release(&arena);
    return 0;
}

static dsb_status parse(const dsb_recipe **out, const char *text, dsb_err *err) {
    json_t *doc;
    *err = (dsb_err){0};
    DSB_TRY(dsb_json_parse(&doc, "file.json", text, strlen(text), err));
    dsb_status s = dsb_recipe_parse(out, &arena, "file.json", doc, err);
    json_decref(doc);
    return s;
}

/* A recipe of these rules, single quotes standing for double ones. */
static const dsb_recipe *recipe(const char *rules) {
    const dsb_recipe *r;
    dsb_err err;
    char text[2048];
    snprintf(text, sizeof text, "{'name': 'test', 'rules': [%s]}", rules);
    for (char *p = text; *p; p++)
        if (*p == '\'') *p = '"';
    if (parse(&r, text, &err)) fail_msg("%s", err.text);
    return r;
}

/* The mistake's message must hold every one of these texts. */
static void wrong(const char *text, const char *a, const char *b, const char *c) {
    const dsb_recipe *r;
    dsb_err err;
    char copy[2048];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *p = copy; *p; p++)
        if (*p == '\'') *p = '"';
    assert_int_equal(parse(&r, copy, &err), DSB_EINPUT);
    const char *all[] = {"file.json", a, b, c};
    for (int i = 0; i < 4; i++)
        if (all[i] && !strstr(err.text, all[i])) fail_msg("\"%s\" is missing in: %s", all[i], err.text);
    assert_null(strchr(err.text, '\n'));
}
#define RULE(text) "{'name': 'x', 'rules': [" text "]}"

static const char *format_of(const dsb_recipe *r, dsb_role role, const char *tensor, const dsb_expert_facts *facts) {
    const dsb_rule *rule = dsb_recipe_match(r, role, tensor, facts);
    return rule && rule->format ? rule->format->name : "keep";
}

static void test_recipe__the_first_rule_that_matches_decides(void **state) {
    const dsb_recipe *r = recipe("{'role': 'attn.o', 'format': 'keep'}, {'role': 'attn.*', 'format': 'f16'}, {'role': 'attn.q', 'format': 'int8'}, {'role': '*', 'format': 'int4'}");
    assert_string_equal(format_of(r, DSB_ROLE_ATTN_O, "", NULL), "keep");
    assert_ptr_equal(dsb_recipe_match(r, DSB_ROLE_ATTN_O, "", NULL), &r->rules[0]);
    assert_string_equal(format_of(r, DSB_ROLE_ATTN_Q, "", NULL), "f16");
    assert_string_equal(format_of(r, DSB_ROLE_ATTN_KV_B, "", NULL), "f16");
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "", NULL), "int4");
    assert_string_equal(format_of(r, DSB_ROLE_DENSE_DOWN, "", NULL), "int4");
    assert_null(dsb_recipe_match(recipe("{'role': 'expert.*', 'format': 'int8'}"), DSB_ROLE_SHARED_UP, "", NULL));
}

static void test_recipe__a_star_covers_blocks_and_not_what_is_kept_unless_named(void **state) {
    static const dsb_role k_outside[] = {DSB_ROLE_ROUTER, DSB_ROLE_EMBED, DSB_ROLE_LM_HEAD};
    const dsb_recipe *star = recipe("{'role': '*', 'format': 'int8'}"), *named = recipe("{'role': 'router', 'format': 'int8'}, {'role': 'embed', 'format': 'bf16'}, {'role': 'lm_head', 'format': 'int4'}, {'role': '*', 'format': 'int2'}");
    int covered = 0;
    for (int role = 0; role < DSB_ROLE_COUNT; role++) covered += dsb_recipe_match(star, (dsb_role)role, "x", NULL) != NULL;
    assert_int_equal(covered, DSB_ROLE_COUNT - 3);
    for (int i = 0; i < 3; i++) assert_null(dsb_recipe_match(star, k_outside[i], "x", NULL));
    assert_string_equal(format_of(named, DSB_ROLE_ROUTER, "x", NULL), "int8");
    assert_string_equal(format_of(named, DSB_ROLE_EMBED, "x", NULL), "bf16");
    assert_string_equal(format_of(named, DSB_ROLE_LM_HEAD, "x", NULL), "int4");
}

static void test_recipe__match_is_a_glob_over_tensor_names(void **state) {
    const dsb_recipe *r = recipe("{'match': 'model.layers.3.mlp.experts.*.down_proj.weight', 'format': 'int4'}, {'match': 'model.layers.[01].*', 'role': 'attn.*', 'format': 'f16'}, {'role': '*', 'format': 'int8'}");
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_DOWN, "model.layers.3.mlp.experts.11.down_proj.weight", NULL), "int4");
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_DOWN, "model.layers.13.mlp.experts.11.down_proj.weight", NULL), "int8");
    assert_string_equal(format_of(r, DSB_ROLE_ATTN_Q, "model.layers.1.self_attn.q_proj.weight", NULL), "f16");
    assert_string_equal(format_of(r, DSB_ROLE_ATTN_Q, "model.layers.2.self_attn.q_proj.weight", NULL), "int8");
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "model.layers.1.mlp.experts.0.up_proj.weight", NULL), "int8"); /* role and match must both fit */
}

static void test_recipe__tests_of_experts(void **state) {
    const dsb_recipe *r = recipe("{'role': 'expert.*', 'when': {'activity_rank_below': 0.5}, 'format': 'int2'}, {'role': 'expert.*', 'when': {'mean_abs_rank_below': 0.25}, 'format': 'int3'},"
                                 "{'role': 'expert.*', 'when': {'mean_abs_below': 0.1}, 'format': 'int4'}, {'role': '*', 'format': 'int8'}");
    dsb_expert_facts f = {.is_expert = true, .activity_known = true, .activity_rank = 0.5, .mean_abs_rank = 0.25, .mean_abs = 0.1};
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &f), "int8"); /* below, not at */
    f.mean_abs = 0.0999;
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &f), "int4");
    f.mean_abs_rank = 0;
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &f), "int3");
    f.activity_rank = 0.49;
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &f), "int2");
    f.activity_known = false; /* without calibration no rank passes */
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &f), "int3");
    f.is_expert = false;
    assert_string_equal(format_of(r, DSB_ROLE_SHARED_UP, "x", &f), "int8");
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", NULL), "int8");
    assert_true(dsb_rule_covers(&r->rules[0], DSB_ROLE_EXPERT_UP, "x") && !dsb_rule_covers(&r->rules[0], DSB_ROLE_SHARED_UP, "x"));
}

static void test_recipe__values_and_their_defaults(void **state) {
    const dsb_recipe *r = recipe("{'role': 'attn.*', 'format': 'int4', 'group': 64, 'zero_point': true, 'algorithm': 'rtn'}, {'role': 'dense.*', 'format': 'int8', 'group': 'tensor', 'activation': 'int8-static', 'static_margin': 1.5},"
                                 "{'role': '*', 'format': 'int3'}, {'role': 'router', 'format': 'int8'}");
    assert_true(r->rules[0].group == 64 && r->rules[0].zero_point && r->rules[0].activation == DSB_ACT_NONE && r->rules[0].static_margin == 1);
    assert_true(r->rules[1].group == DSB_GROUP_TENSOR && !r->rules[1].zero_point && r->rules[1].activation == DSB_ACT_INT8_STATIC && r->rules[1].static_margin == 1.5);
    assert_true(r->rules[2].group == 32 && strcmp(r->rules[2].algorithm, "rtn") == 0);
    assert_true(r->rules[3].group == DSB_GROUP_CHANNEL);
    const dsb_recipe *real = recipe("{'role': '*', 'format': 'int4', 'group': 64, 'zero_point': 'real', 'algorithm': 'hqq'}");
    assert_true(real->rules[0].zero_point == DSB_ZERO_REAL && !real->needs_calibration && dsb_rule_bpw(&real->rules[0], 8, 128) == 4 + 64.0 / 64);
    assert_true(r->needs_calibration && r->carrier_bf16 && r->source == NULL);
    assert_false(recipe("{'role': '*', 'format': 'int8', 'activation': 'int8-dynamic'}")->needs_calibration);
    assert_true(recipe("{'role': 'expert.*', 'format': 'int8', 'when': {'activity_rank_below': 1}}")->needs_calibration);
    assert_false(recipe("{'role': 'expert.*', 'format': 'int8', 'when': {'mean_abs_below': 1}}")->needs_calibration);
}

static void test_recipe__the_stored_text_reads_back_the_same(void **state) {
    const dsb_recipe *a = recipe("{'format': 'int8', 'role': '*', 'group': 'channel'}"), *b;
    dsb_err err;
    if (parse(&b, a->json, &err)) fail_msg("%s", err.text);
    assert_string_equal(a->json, b->json);
    assert_string_equal(a->json, recipe("{'group':'channel','role':'*',   'format':'int8'}")->json);
}

static void test_recipe__every_preset_is_read(void **state) {
    static const char *const k_wanted[] = {"bf16", "as-stored", "dynamic-int8", "static-int8", "mixed-fp16-int8", "sparse-expert", "qat-int8", "qat-int4", "int4-rtn", "int3-rtn"};
    const dsb_preset_row *rows;
    const dsb_recipe *r;
    dsb_err err;
    int n = dsb_preset_list(&rows);
    for (size_t i = 0; i < sizeof k_wanted / sizeof *k_wanted; i++) {
        if (dsb_recipe_preset(&r, &arena, k_wanted[i], &err)) fail_msg("%s", err.text);
        assert_string_equal(r->name, k_wanted[i]);
        assert_true(*r->what && r->carrier_bf16);
        assert_string_equal(format_of(r, DSB_ROLE_ROUTER, "model.layers.1.mlp.gate.weight", NULL), "keep");
        assert_string_equal(format_of(r, DSB_ROLE_LM_HEAD, "lm_head.weight", NULL), "keep");
        assert_string_equal(format_of(r, DSB_ROLE_EMBED, "model.embed_tokens.weight", NULL), "keep");
        assert_true(dsb_recipe_match(r, DSB_ROLE_EXPERT_DOWN, "x", NULL) != NULL);
    }
    for (int i = 0; i < n; i++) assert_int_equal(dsb_recipe_preset(&r, &arena, rows[i].name, &err), DSB_OK);
    assert_int_equal(dsb_recipe_preset(&r, &arena, "int9", &err), DSB_EUSAGE);
    assert_non_null(strstr(err.text, "\"int9\" is unknown"));
    assert_non_null(strstr(err.text, "sparse-expert"));
}

static void test_recipe__presets_are_what_their_names_say(void **state) {
    const dsb_recipe *r;
    dsb_err err;
    assert_int_equal(dsb_recipe_preset(&r, &arena, "mixed-fp16-int8", &err), DSB_OK);
    assert_string_equal(format_of(r, DSB_ROLE_ATTN_Q_A, "x", NULL), "f16");
    assert_string_equal(format_of(r, DSB_ROLE_SHARED_UP, "x", NULL), "int8");
    assert_int_equal(dsb_recipe_preset(&r, &arena, "static-int8", &err), DSB_OK);
    assert_int_equal(dsb_recipe_match(r, DSB_ROLE_ATTN_O, "x", NULL)->activation, DSB_ACT_INT8_STATIC);
    assert_true(r->needs_calibration);
    assert_int_equal(dsb_recipe_preset(&r, &arena, "qat-int4", &err), DSB_OK);
    assert_string_equal(r->source, "qat-int4");
    assert_int_equal(dsb_recipe_preset(&r, &arena, "sparse-expert", &err), DSB_OK);
    dsb_expert_facts quiet = {.is_expert = true, .activity_known = true, .activity_rank = 0.4, .mean_abs_rank = 0.9}, busy = quiet, small = quiet;
    busy.activity_rank = small.activity_rank = 0.6;
    small.mean_abs_rank = 0.2;
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &quiet), "int4");
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &small), "int4");
    assert_string_equal(format_of(r, DSB_ROLE_EXPERT_UP, "x", &busy), "int8");
    assert_string_equal(format_of(r, DSB_ROLE_SHARED_UP, "x", NULL), "int8");
}

static void test_recipe__mistakes_name_the_rule_the_key_and_what_is_wanted(void **state) {
    wrong("[]", "must be a JSON object", NULL, NULL);
    wrong("{'rules': [{'role': '*', 'format': 'int8'}]}", "\"name\" is missing", NULL, NULL);
    wrong("{'name': 'x'}", "\"rules\"", "at least one rule", NULL);
    wrong("{'name': 'x', 'rules': []}", "at least one rule", NULL, NULL);
    wrong("{'name': 'x', 'rules': [], 'extra': 1}", "\"extra\" is unknown", "one of name, what, source, rules", NULL);
    wrong("{'name': 'reference', 'rules': [{'role': '*', 'format': 'int8'}]}", "reserved", NULL, NULL);
    wrong("{'name': 'a,b', 'rules': [{'role': '*', 'format': 'int8'}]}", "a,b", "are wanted", NULL);
    wrong("{'name': 'x', 'source': 1, 'rules': [{'role': '*', 'format': 'int8'}]}", "\"source\"", "a string is wanted", NULL);
    wrong(RULE("1"), "rule 1 is no object", NULL, NULL);
    wrong(RULE("{'role': '*', 'format': 'int8'}, {'role': '*', 'format': 'int5'}"), "rule 2: \"format\" is int5", "keep", "int4");
    wrong(RULE("{'role': '*'}"), "\"format\" is missing", "one of", NULL);
    wrong(RULE("{'format': 'int8'}"), "neither \"role\" nor \"match\"", NULL, NULL);
    wrong(RULE("{'role': 'atn.*', 'format': 'int8'}"), "atn.*", "attn.q_a", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'grup': 32}"), "\"grup\" is unknown", "group", "static_margin");
    wrong(RULE("{'role': '*', 'format': 'int8', 'group': 'row'}"), "\"group\" is row", "tensor, channel or a number", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'group': 0}"), "\"group\"", "tensor, channel or a number", NULL);
    wrong(RULE("{'role': '*', 'format': 'f16', 'group': 32}"), "\"group\"", "none with keep or a float format", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'activation': 'int7'}"), "int7", "int8-dynamic", NULL);
    wrong(RULE("{'role': '*', 'format': 'bf16', 'activation': 'int8-dynamic'}"), "\"activation\"", "none with keep or a float format", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'algorithm': 'gtpq'}"), "gtpq", "rtn", "gptq");
    wrong(RULE("{'role': '*', 'format': 'nf4', 'algorithm': 'gptq'}"), "\"algorithm\" is gptq", "an integer format", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'algorithm': 'gptq', 'damp': 0}"), "\"damp\" is out of range", "above 0", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'algorithm': 'awq', 'transform': 'hadamard'}"), "\"transform\" is hadamard", "none beside awq", NULL);
    wrong(RULE("{'role': 'lm_head', 'format': 'int4', 'algorithm': 'rtn-kl'}"), "\"algorithm\" is rtn-kl", "lm_head out", NULL);
    wrong(RULE("{'match': '*', 'format': 'int4', 'algorithm': 'awq'}"), "\"algorithm\" is awq", "beside the embedding", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'algorithm': 'gptq', 'clip': true}"), "\"clip\" is true", "the algorithm awq", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'algorithm': 'awq', 'clip': 0.5}"), "\"clip\" is no boolean", "true or false", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'algorithm': 'awq', 'clip': true, 'group': 'tensor'}"), "\"clip\" is true beside one scale a tensor", "a channel or group", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'zero_point': 1}"), "\"zero_point\"", "true, false or real", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'zero_point': 'float'}"), "\"zero_point\"", "true, false or real", NULL);
    wrong(RULE("{'role': '*', 'format': 'q4_K', 'zero_point': 'real'}"), "\"zero_point\" is real", "false with a format that isn't of integers", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'zero_point': 'real', 'algorithm': 'gptq'}"), "\"zero_point\" is real", "rtn, hqq or awq beside it", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'zero_point': 'real', 'algorithm': 'rtn-mse'}"), "\"zero_point\" is real", "rtn, hqq or awq beside it", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'algorithm': 'hqq'}"), "\"zero_point\" is missing", "real beside hqq", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'zero_point': true, 'algorithm': 'hqq'}"), "\"zero_point\" is no real one", "real beside hqq", NULL);
    wrong(RULE("{'role': '*', 'format': 'nf4', 'algorithm': 'hqq'}"), "\"algorithm\" is hqq", "an integer format", NULL);
    wrong(RULE("{'role': '*', 'format': 'f16', 'zero_point': true}"), "\"zero_point\"", "false with a format that isn't of integers", NULL);
    wrong(RULE("{'role': '*', 'format': 'nf4', 'zero_point': true}"), "\"zero_point\"", "false with a format that isn't of integers", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'static_margin': 0}"), "\"static_margin\"", "a factor", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'activation': 'int8-static', 'static_margin': 1e308}"), "\"static_margin\"", "a factor", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'activation': 'int8-dynamic', 'static_margin': 2}"), "\"static_margin\" is given", "a static activation", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'damp': 0.5}"), "\"damp\" is given", "gptq or a compensation", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'act_order': true}"), "\"act_order\" is given", "gptq", NULL);
    wrong(RULE("{'role': 'embed', 'format': 'int4', 'algorithm': 'gptq'}"), "\"algorithm\" is gptq", "rtn beside the embedding", NULL);
    wrong(RULE("{'role': 'embed', 'format': 'int4', 'activation': 'int8-dynamic'}"), "\"activation\" is int8-dynamic", "none beside the embedding", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'compensation': ['bias', 3]}"), "\"compensation\" is no name", "one of none, layer-scale", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'compensation': 'bias', 'threshold': 'x'}"), "\"threshold\" is no number", "0 to 1", NULL);
    wrong(RULE("{'role': '*', 'format': 'int4', 'compensation': 'low-rank', 'rank': 1.5}"), "\"rank\" is out of range", "a whole number", NULL);
    wrong("{'name': 'x', 'source': '', 'rules': [{'role': '*', 'format': 'int8'}]}", "\"source\" is empty", "a folder", NULL);
    wrong(RULE("{'role': 'expert.*', 'format': 'int8', 'when': {'budget': {'bits': 2, 'by': 'even'}}}, {'role': '*', 'format': 'int4'}"), "\"bits\" is below", "or more", NULL);
    wrong(RULE("{'role': 'expert.*', 'format': 'int8', 'when': {'budget': {'bits': 5}}}, {'role': '*', 'format': 'int4'}"), "\"by\" is missing", "activity, sensitivity", NULL);
    wrong(RULE("{'role': 'attn.*', 'format': 'int8', 'when': {'mean_abs_below': 1}}"), "attn.*", "a role of experts", NULL);
    wrong(RULE("{'role': 'expert.*', 'format': 'int8', 'when': {}}"), "\"when\"", "one of activity_rank_below", NULL);
    wrong(RULE("{'role': 'expert.*', 'format': 'int8', 'when': {'rank': 1}}"), "\"rank\" is unknown", "mean_abs_below", NULL);
    wrong(RULE("{'role': 'expert.*', 'format': 'int8', 'when': {'activity_rank_below': 1.5}}"), "activity_rank_below", "a share of 0 to 1", NULL);
    wrong(RULE("{'role': 'expert.*', 'format': 'int8', 'when': {'mean_abs_below': 'x'}}"), "mean_abs_below", "a number", NULL);
}

static void test_recipe__blocks_take_their_own_group_and_a_fallback(void **state) {
    wrong(RULE("{'role': '*', 'format': 'int8', 'fallback': 'q8_0'}"), "\"fallback\"", "rows of any length", NULL);
    wrong(RULE("{'role': '*', 'format': 'q4_K', 'fallback': 'q9'}"), "\"fallback\" is q9", "list formats", NULL);
    wrong(RULE("{'role': '*', 'format': 'q4_K', 'fallback': 'keep'}"), "\"fallback\" is keep", "a format", NULL);
    wrong(RULE("{'role': '*', 'format': 'mxfp4', 'group': 16}"), "\"group\" is 16", "32, the format's own block", NULL);
    wrong(RULE("{'role': '*', 'format': 'q6_K', 'group': 'channel'}"), "\"group\" is channel", "256, the format's own block", NULL);
    wrong(RULE("{'role': '*', 'format': 'fp8_e4m3', 'group': 64}"), "\"group\" is 64", "tensor, channel or 128", NULL);
    const dsb_recipe *r = recipe("{'role': 'attn.*', 'format': 'q4_K', 'fallback': 'q8_0'}, {'role': '*', 'format': 'nf4'}, {'role': 'router', 'format': 'fp8_e5m2', 'group': 128}");
    int64_t group;
    assert_true(r->rules[0].group == 256 && r->rules[1].group == 64 && r->rules[2].group == 128);
    assert_string_equal(dsb_rule_format(&r->rules[0], 512, &group)->name, "q4_K");
    assert_true(group == 256);
    assert_string_equal(dsb_rule_format(&r->rules[0], 288, &group)->name, "q8_0");
    assert_true(group == 32);
    assert_null(dsb_rule_format(&r->rules[0], 40, &group));
    assert_string_equal(dsb_rule_format(&r->rules[1], 40, &group)->name, "nf4");
}

static void test_recipe__transforms_and_what_stands_beside_them(void **state) {
    wrong(RULE("{'role': '*', 'format': 'int8', 'transform': 'smoth'}"), "\"transform\" is smoth", "none, smooth, hadamard", NULL);
    wrong(RULE("{'role': '*', 'format': 'keep', 'transform': 'hadamard'}"), "\"transform\" is hadamard", "none with keep", NULL);
    wrong(RULE("{'role': 'lm_head', 'format': 'int8', 'transform': 'smooth'}"), "\"transform\" is smooth", "lm_head out", NULL);
    wrong(RULE("{'match': '*', 'format': 'int8', 'transform': 'smooth'}"), "\"transform\" is smooth", "embedding", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'alpha': 0.5}"), "\"alpha\" is given", "smooth", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'transform': 'smooth', 'alpha': 1.5}"), "\"alpha\"", "0 to 1", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'transform': 'smooth', 'alpha': '1'}"), "\"alpha\"", "0 to 1, or search", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'alpha': 'search'}"), "\"alpha\" is given", "smooth", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'transform': 'hadamard', 'activation': 'int8-static'}"), "\"transform\" is hadamard", "a dynamic activation", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'transform': 'smooth', 'activation': 'int8-static', 'calibrator': 'kl'}"), "\"transform\" is smooth", "minmax", NULL);
    wrong("{'name': 'x', 'rotate': 'walsh', 'rules': [{'role': '*', 'format': 'int4'}]}", "\"rotate\" is walsh", "hadamard or none", NULL);
    wrong("{'name': 'x', 'rotate': true, 'rules': [{'role': '*', 'format': 'int4'}]}", "\"rotate\"", "a string is wanted", NULL);
    wrong("{'name': 'x', 'rotate': 'hadamard', 'source': 'qat-int4', 'rules': [{'role': '*', 'format': 'int4'}]}", "\"source\" is qat-int4", "none beside \"rotate\"", NULL);
    wrong("{'name': 'x', 'rotate': 'hadamard', 'rules': [{'role': 'attn.o', 'format': 'int8', 'activation': 'int8-static'}, {'role': 'expert.*', 'format': 'int8', 'activation': 'int8-static'}]}", "rule 2: \"activation\" is static", "a dynamic one beside \"rotate\"", NULL);
    wrong("{'name': 'x', 'rotate': 'hadamard', 'rules': [{'match': '*.down_proj.weight', 'format': 'int8', 'transform': 'smooth', 'role': '*'}]}", "\"transform\" is smooth", "none or hadamard", NULL);
    const dsb_recipe *r = recipe("{'role': '*', 'format': 'int8', 'transform': 'smooth', 'alpha': 0.75}");
    assert_false(r->rotate);
    assert_true(r->needs_calibration && r->rules[0].transform == DSB_TRANSFORM_SMOOTH && r->rules[0].alpha == 0.75 && r->needs == DSB_NEED_CHANNELS);
    r = recipe("{'role': '*', 'format': 'int8', 'transform': 'smooth', 'alpha': 'search'}");
    assert_true(r->rules[0].alpha == DSB_ALPHA_SEARCH && r->needs == (DSB_NEED_CHANNELS | DSB_NEED_GRAM));
    r = recipe("{'role': '*', 'format': 'int4', 'transform': 'hadamard'}");
    assert_true(!r->needs_calibration && r->rules[0].transform == DSB_TRANSFORM_HADAMARD && r->needs == 0);
}

/* What weighs a whole matrix is not quantized in parts of it. */
static void test_recipe__rows_by_themselves(void **state) {
    const dsb_recipe *r = recipe("{'role': 'attn.*', 'format': 'int4', 'algorithm': 'rtn-mse'}, {'role': 'attn.*', 'format': 'int4', 'zero_point': 'real', 'algorithm': 'hqq'}, {'role': 'attn.*', 'format': 'keep'},"
                                 "{'role': 'attn.*', 'format': 'int4', 'algorithm': 'rtn-kl'}, {'role': 'attn.*', 'format': 'int4', 'group': 'tensor'}, {'role': 'attn.*', 'format': 'int4', 'algorithm': 'awq'},"
                                 "{'role': '*', 'format': 'int4', 'transform': 'smooth', 'alpha': 'search'}");
    for (int i = 0; i < r->n_rule; i++) assert_true(dsb_rule_by_rows(&r->rules[i], 256) == (i < 3));
}

static void test_recipe__activations_and_their_calibrators(void **state) {
    wrong(RULE("{'role': '*', 'format': 'q4_K', 'activation': 'int8-dynamic'}"), "\"activation\" is int8-dynamic", "an integer format", NULL);
    wrong(RULE("{'role': '*', 'format': 'bf16', 'activation': 'fp8-dynamic'}"), "\"activation\"", "none with keep or a float format", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'activation': 'int8-dynamic', 'calibrator': 'mse'}"), "\"calibrator\" is mse", "a static activation", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'activation': 'int8-static', 'calibrator': 'max'}"), "\"calibrator\" is max", "minmax, percentile, mse, kl", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'activation': 'int8-static', 'percentile': 99}"), "\"percentile\"", "the calibrator percentile", NULL);
    wrong(RULE("{'role': '*', 'format': 'int8', 'activation': 'int8-static', 'calibrator': 'percentile', 'percentile': 101}"), "\"percentile\"", "at most 100", NULL);
    const dsb_recipe *r = recipe("{'role': '*', 'format': 'fp8_e4m3', 'activation': 'fp8-static', 'calibrator': 'percentile', 'percentile': 99.5}");
    assert_true(r->needs_calibration && r->needs_histogram && r->rules[0].calibrator == DSB_CAL_PERCENTILE && r->rules[0].percentile == 99.5);
    r = recipe("{'role': '*', 'format': 'int4', 'activation': 'int4-dynamic'}");
    assert_false(r->needs_calibration || r->needs_histogram);
    assert_false(recipe("{'role': '*', 'format': 'int8', 'activation': 'int8-static'}")->needs_histogram);
}

static void test_recipe__files_are_read_and_named(void **state) {
    char path[] = "/tmp/dsbench-recipe-XXXXXX";
    static const char text[] = "{\"name\": \"mine\", \"what\": \"a test\", \"rules\": [{\"role\": \"*\", \"format\": \"int8\"}]}";
    const dsb_recipe *r;
    dsb_err err = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    if (dsb_recipe_load(&r, &arena, path, &err)) fail_msg("%s", err.text);
    assert_string_equal(r->name, "mine");
    assert_string_equal(r->what, "a test");
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(dsb_recipe_load(&r, &arena, path, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, path));
    unlink(path);
    assert_int_equal(dsb_recipe_load(&r, &arena, path, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, path));
}

/* The most experts whose average stays within the budget; one more would not. */
static void test_recipe__a_budget_gives_its_format_to_as_many_experts_as_it_pays_for(void **state) {
    const dsb_recipe *r = recipe("{'role': 'expert.*', 'when': {'budget': {'bits': 6.5, 'by': 'activity'}}, 'format': 'int8'}, {'role': '*', 'format': 'int4'}");
    const char *tensor = "model.layers.3.mlp.experts.7.down_proj.weight";
    dsb_expert_facts f = {.is_expert = true, .activity_known = true, .n_expert = 8, .d_ff = 256, .d_model = 256};
    assert_true(r->needs_calibration);
    double high = dsb_rule_bpw(&r->rules[0], 256, 256), low = dsb_rule_bpw(&r->rules[1], 256, 256);
    int64_t n = dsb_recipe_within_budget(r, 0, &f);
    assert_true(n > 0 && n < 8 && (double)n * high + (double)(8 - n) * low <= 6.5 * 8 && (double)(n + 1) * high + (double)(7 - n) * low > 6.5 * 8);
    for (f.place[DSB_BY_ACTIVITY] = 0; f.place[DSB_BY_ACTIVITY] < 8; f.place[DSB_BY_ACTIVITY]++)
        assert_ptr_equal(dsb_recipe_match(r, DSB_ROLE_EXPERT_DOWN, tensor, &f), &r->rules[f.place[DSB_BY_ACTIVITY] < n ? 0 : 1]);
    f.activity_known = false;
    f.place[DSB_BY_ACTIVITY] = 0;
    assert_ptr_equal(dsb_recipe_match(r, DSB_ROLE_EXPERT_DOWN, tensor, &f), &r->rules[1]); /* nothing known: the low format */
    r = recipe("{'role': 'expert.*', 'when': {'budget': {'bits': 6.5, 'by': 'even'}}, 'format': 'int8'}, {'role': '*', 'format': 'int4'}");
    int64_t even = 0;
    for (f.expert = 0; f.expert < 8; f.expert++) even += dsb_recipe_match(r, DSB_ROLE_EXPERT_DOWN, tensor, &f) == &r->rules[0];
    assert_true(even == n && !r->needs_calibration);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipe__the_first_rule_that_matches_decides),
        cmocka_unit_test(test_recipe__a_star_covers_blocks_and_not_what_is_kept_unless_named),
        cmocka_unit_test(test_recipe__match_is_a_glob_over_tensor_names),
        cmocka_unit_test(test_recipe__tests_of_experts),
        cmocka_unit_test(test_recipe__a_budget_gives_its_format_to_as_many_experts_as_it_pays_for),
        cmocka_unit_test(test_recipe__values_and_their_defaults),
        cmocka_unit_test(test_recipe__the_stored_text_reads_back_the_same),
        cmocka_unit_test(test_recipe__every_preset_is_read),
        cmocka_unit_test(test_recipe__presets_are_what_their_names_say),
        cmocka_unit_test(test_recipe__mistakes_name_the_rule_the_key_and_what_is_wanted),
        cmocka_unit_test(test_recipe__blocks_take_their_own_group_and_a_fallback),
        cmocka_unit_test(test_recipe__transforms_and_what_stands_beside_them),
        cmocka_unit_test(test_recipe__rows_by_themselves),
        cmocka_unit_test(test_recipe__activations_and_their_calibrators),
        cmocka_unit_test(test_recipe__files_are_read_and_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
