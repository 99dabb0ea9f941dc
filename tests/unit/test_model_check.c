/* What is found before any work: rules that decide nothing, tensors that no rule takes, integers that are stored in another format than a rule names. */
#include "sweep_run.h"
#include "temp_files.h"

static const dsb_recipe *recipe_of(sr_run *r, const char *text) {
    const dsb_recipe *recipe;
    json_t *doc;
    dsb_err err = {0};
    if (dsb_json_parse(&doc, "test", text, strlen(text), &err) || dsb_recipe_parse(&recipe, &r->arena, "test", doc, &err)) fail_msg("%s", err.text);
    json_decref(doc);
    return recipe;
}

static void test_model_check__rules_that_decide_nothing_are_marked(void **state) {
    sr_run *r = sr_open();
    const dsb_recipe *recipe = recipe_of(r, "{\"name\": \"x\", \"rules\": [{\"role\": \"expert.*\", \"when\": {\"mean_abs_below\": 1}, \"format\": \"int4\"}, {\"match\": \"*.no_such_proj.weight\", \"format\": \"int8\"},"
                                            "{\"role\": \"expert.*\", \"format\": \"int8\"}, {\"role\": \"expert.up\", \"format\": \"int4\"}, {\"role\": \"embed\", \"format\": \"keep\"}, {\"role\": \"*\", \"format\": \"keep\"}]}");
    static const bool k_want[] = {true, false, true, false, true, true}; /* misspelled; behind one that takes all it would */
    bool used[6] = {0};
    dsb_err err = {0};
    if (dsb_model_check_recipe(&r->m, recipe, used, &err)) fail_msg("%s", err.text);
    assert_memory_equal(used, k_want, sizeof used);
    sr_close(r);
}

static void test_model_check__a_weight_that_no_rule_is_sure_to_take_is_an_error(void **state) {
    sr_run *r = sr_open();
    bool used[2];
    dsb_err err = {0};
    const dsb_recipe *attention = recipe_of(r, "{\"name\": \"part\", \"rules\": [{\"role\": \"attn.*\", \"format\": \"int8\"}]}");
    refused(dsb_model_check_recipe(&r->m, attention, used, &err), &err, DSB_EINPUT, "scheme part: tensor model.layers.0.mlp.gate_proj.weight (role dense.gate)", "\"keep\"");
    const dsb_recipe *tested = recipe_of(r, "{\"name\": \"part\", \"rules\": [{\"role\": \"[ads]*\", \"format\": \"int8\"}, {\"role\": \"expert.*\", \"when\": {\"activity_rank_below\": 0.5}, \"format\": \"int4\"}]}");
    refused(dsb_model_check_recipe(&r->m, tested, used, &err), &err, DSB_EINPUT, "role expert.gate", "without a test");
    assert_int_equal(dsb_model_check_recipe(&r->m, attention, NULL, &err), DSB_OK); /* commands that look at one tensor */
    sr_close(r);
}

/* The built-in qat-int8 stores INT8 under every rule of its preset. */
static void test_model_check__stored_integers_want_their_own_format(void **state) {
    static const struct {
        const char *format;
        dsb_status want;
    } k_case[] = {{"int8", DSB_OK}, {"keep", DSB_OK}, {"f16", DSB_OK}, {"int4", DSB_EINPUT}, {"q8_0", DSB_EINPUT}};
    sr_run *r = sr_open();
    for (int i = 0; i < 5; i++) {
        char text[200];
        dsb_scheme_source source;
        dsb_err err = {0};
        snprintf(text, sizeof text, "{\"name\": \"x\", \"source\": \"qat-int8\", \"rules\": [{\"role\": \"router\", \"format\": \"keep\"}, {\"role\": \"*\", \"format\": \"%s\"}]}", k_case[i].format);
        dsb_status s = dsb_scheme_source_open(&source, &r->m, r->dir, recipe_of(r, text), NULL, &err);
        if (k_case[i].want) refused(s, &err, DSB_EINPUT, "scheme x: rule 2: tensor model.layers.0.", "stored as int8");
        else if (s) fail_msg("%s: %s", k_case[i].format, err.text);
        dsb_scheme_source_close(&source);
    }
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_check__rules_that_decide_nothing_are_marked),
        cmocka_unit_test(test_model_check__a_weight_that_no_rule_is_sure_to_take_is_an_error),
        cmocka_unit_test(test_model_check__stored_integers_want_their_own_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
