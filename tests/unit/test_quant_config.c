/* "quantization_config" of each method, and a message for each way one can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "engine/quant_config.h"
#include "tests/unit/temp_files.h"

static dsb_status parse(dsb_quant_config *c, const char *text, dsb_err *err) {
    json_t *doc;
    assert_int_equal(dsb_json_parse(&doc, "test", text, strlen(text), NULL), DSB_OK);
    dsb_status s = dsb_quant_config_parse(c, doc, "config.json", err);
    json_decref(doc);
    return s;
}

static void test_quant_config__each_method(void **state) {
    dsb_quant_config c;
    dsb_err err;
    assert_int_equal(parse(&c, "{\"quant_method\": \"fp8\", \"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", \"weight_block_size\": [64, 32]}", &err), DSB_OK);
    assert_true(c.method == DSB_QUANT_FP8 && c.block_rows == 64 && c.block_cols == 32);
    assert_string_equal(dsb_quant_config_group(&c, dsb_format_find("int8"))->asked, "fp8 dynamic");
    assert_int_equal(parse(&c, "{\"quant_method\": \"gptq\", \"bits\": 3, \"group_size\": 128, \"desc_act\": true, \"sym\": true, \"checkpoint_format\": \"gptq_v2\"}", &err), DSB_OK);
    assert_true(c.method == DSB_QUANT_GPTQ && c.bits == 3 && c.group == 128 && c.zeros_as_they_are);
    assert_int_equal(parse(&c, "{\"bits\": 4, \"group_size\": -1}", &err), DSB_OK); /* an old quantize_config.json */
    assert_true(c.method == DSB_QUANT_GPTQ && c.group == -1 && !c.zeros_as_they_are);
    assert_int_equal(parse(&c, "{\"w_bit\": 4, \"q_group_size\": 64, \"zero_point\": true, \"version\": \"GEMM\"}", &err), DSB_OK); /* an old quant_config.json */
    assert_true(c.method == DSB_QUANT_AWQ && c.bits == 4 && c.group == 64);
    assert_int_equal(parse(&c, "{\"quant_method\": \"mxfp4\", \"modules_to_not_convert\": [\"lm_head\"]}", &err), DSB_OK);
    assert_true(c.method == DSB_QUANT_MXFP4 && c.n_group == 0);
}

static void test_quant_config__activations_of_compressed_tensors(void **state) {
    dsb_quant_config c;
    dsb_err err;
    static const char k_two[] = "{\"quant_method\": \"compressed-tensors\", \"format\": \"int-quantized\", \"config_groups\": {"
                                "\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"channel\"},"
                                " \"input_activations\": {\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"token\", \"dynamic\": true, \"symmetric\": true}},"
                                "\"group_1\": {\"targets\": [\"re:.*experts.*\"], \"weights\": {\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"group\", \"group_size\": 32}, \"input_activations\": null}}}";
    assert_int_equal(parse(&c, k_two, &err), DSB_OK);
    assert_true(c.n_group == 2 && c.group == 32);
    assert_true(dsb_quant_config_group(&c, dsb_format_find("int8"))->activation == DSB_ACT_INT8_DYNAMIC);
    assert_true(dsb_quant_config_group(&c, dsb_format_find("int4"))->activation == DSB_ACT_NONE);
    assert_null(dsb_quant_config_group(&c, dsb_format_find("int3")));
    assert_int_equal(parse(&c, "{\"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 8, \"type\": \"float\"}, \"input_activations\": {\"num_bits\": 8, \"type\": \"float\", \"dynamic\": true}}}}", &err), DSB_OK);
    assert_true(c.groups[0].activation == DSB_ACT_NONE);
    assert_string_equal(c.groups[0].asked, "fp8 dynamic");
    assert_int_equal(parse(&c, "{\"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 8}, \"input_activations\": {\"num_bits\": 8, \"dynamic\": false}}}}", &err), DSB_OK);
    assert_true(c.groups[0].activation == DSB_ACT_INT8_STATIC);
}

static const struct {
    const char *text, *part;
    dsb_status status;
} k_bad[] = {
    {"[]", "is no object", DSB_EINPUT},
    {"{}", "\"quant_method\" of the quantization is \"missing\"", DSB_EUNSUPPORTED},
    {"{\"quant_method\": 4}", "\"quant_method\" is an integer", DSB_EINPUT},
    {"{\"quant_method\": \"bitsandbytes\"}", "\"bitsandbytes\"; fp8, compressed-tensors, gptq, awq or mxfp4 is wanted", DSB_EUNSUPPORTED},
    {"{\"quant_method\": \"gptq\"}", "\"bits\" is missing", DSB_EINPUT},
    {"{\"quant_method\": \"gptq\", \"bits\": 5}", "\"bits\" is 5; 2, 3, 4 or 8", DSB_EUNSUPPORTED},
    {"{\"quant_method\": \"gptq\", \"bits\": 99}", "\"bits\" is 99; 2 to 8", DSB_EINPUT},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": -2}", "\"group_size\" is -2", DSB_EINPUT},
    {"{\"quant_method\": \"gptq\", \"bits\": 4, \"checkpoint_format\": \"marlin\"}", "\"marlin\"; gptq or gptq_v2 is wanted", DSB_EUNSUPPORTED},
    {"{\"quant_method\": \"awq\", \"version\": \"gemv\"}", "\"gemv\"; gemm is wanted", DSB_EUNSUPPORTED},
    {"{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}", "\"weight_block_size\" must be two sizes", DSB_EINPUT},
    {"{\"quant_method\": \"fp8\", \"weight_block_size\": [0, 128]}", "\"weight_block_size\" must be two sizes", DSB_EINPUT},
    {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"odd\"}", "\"odd\"; dynamic or static", DSB_EUNSUPPORTED},
    {"{\"config_groups\": []}", "\"config_groups\" must be an object", DSB_EINPUT},
    {"{\"config_groups\": {\"g\": 1}}", "config group \"g\" must be an object", DSB_EINPUT},
    {"{\"config_groups\": {\"g\": {\"weights\": 1}}}", "must be objects", DSB_EINPUT},
    {"{\"config_groups\": {\"g\": {\"weights\": {\"type\": \"odd\"}}}}", "\"odd\"; int or float", DSB_EUNSUPPORTED},
    {"{\"config_groups\": {\"g\": {\"output_activations\": {}}}}", "\"output_activations\" can't be computed", DSB_EUNSUPPORTED},
    {"{\"config_groups\": {}, \"sparsity_config\": {\"format\": \"sparse-24\"}}", "\"sparse-24\"; dense is wanted", DSB_EUNSUPPORTED},
    {"{\"config_groups\": {}, \"transform_config\": {\"config_groups\": {\"u\": {}}}}", "rotations while serving", DSB_EUNSUPPORTED},
    {"{\"config_groups\": {\"a\": {\"weights\": {}}, \"b\": {\"weights\": {}, \"input_activations\": {}}}}", "two config groups of 8-bit weights differ", DSB_EUNSUPPORTED},
};

static void test_quant_config__bad_ones(void **state) {
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        dsb_quant_config c;
        dsb_err err;
        refused(parse(&c, k_bad[i].text, &err), &err, k_bad[i].status, "config.json: ", k_bad[i].part);
    }
}

static void test_quant_config__files(void **state) {
    dsb_quant_config c;
    temp_dir t;
    temp_make(&t);
    assert_int_equal(dsb_quant_config_load(&c, t.path, NULL), DSB_OK);
    assert_true(c.method == DSB_QUANT_NONE && c.block_rows == 128);
    temp_text(&t, "config.json", "{\"quantization_config\": null}");
    temp_text(&t, "quantize_config.json", "{\"bits\": 8, \"group_size\": 64}");
    assert_int_equal(dsb_quant_config_load(&c, t.path, NULL), DSB_OK);
    assert_true(c.method == DSB_QUANT_GPTQ && c.bits == 8);
    temp_text(&t, "config.json", "{\"compression_config\": {\"quant_method\": \"compressed-tensors\"}}");
    assert_int_equal(dsb_quant_config_load(&c, t.path, NULL), DSB_OK);
    assert_true(c.method == DSB_QUANT_COMPRESSED_TENSORS);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quant_config__each_method),
        cmocka_unit_test(test_quant_config__activations_of_compressed_tensors),
        cmocka_unit_test(test_quant_config__bad_ones),
        cmocka_unit_test(test_quant_config__files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
