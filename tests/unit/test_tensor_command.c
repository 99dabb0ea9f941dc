/* `dsbench tensor` of every format: what the file holds is what the quantizer made, in the shapes that DESIGN.md names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/safetensors.h"
#include "engine/safetensors_write.h"
#include "harness/commands.h"
#include "quantizers/quantize.h"
#include "tests/unit/held_streams.h"

enum { ROWS = 5, COLS = 512, N = ROWS * COLS };
static float weights[N];
static char dir[] = "/tmp/dsbench-test-XXXXXX", in[64], out[64];

static int setup(void **state) {
    dsb_st_writer w;
    uint32_t u = 1;
    for (int i = 0; i < N; i++) {
        u = u * 1664525u + 1013904223u;
        weights[i] = (float)((int32_t)(u >> 8) - (1 << 23)) * 0x1p-26f;
    }
    if (!mkdtemp(dir)) return -1;
    snprintf(in, sizeof in, "%s/in.safetensors", dir);
    snprintf(out, sizeof out, "%s/out.safetensors", dir);
    if (dsb_st_writer_open(&w, in, NULL)) return -1;
    dsb_st_writer_declare(&w, "w", DSB_F32, 2, (int64_t[]){ROWS, COLS}, NULL);
    dsb_st_writer_declare(&w, "odd", DSB_F32, 2, (int64_t[]){1, 3}, NULL);
    dsb_st_writer_write(&w, weights, sizeof weights, NULL);
    dsb_st_writer_write(&w, weights, 12, NULL);
    int rc = (int)dsb_st_writer_finish(&w, NULL);
    dsb_st_writer_close(&w);
    return rc;
}

static int teardown(void **state) {
    unlink(in);
    unlink(out);
    return rmdir(dir);
}

/* The exit code, with both streams in nothing. */
static int command(const char *format, const char *key, const char *value) {
    char *argv[] = {"tensor", "--format", (char *)format, in, "-o", out, (char *)key, (char *)value, NULL};
    int null = open("/dev/null", O_WRONLY);
    held_streams held = streams_hold(null, null);
    int rc = dsb_cmd_tensor(key ? 8 : 6, argv);
    streams_give_back(held);
    close(null);
    return rc;
}

static void part_is(const dsb_st_file *f, const char *name, dsb_dtype dtype, int64_t rows, int64_t cols, const void *data) {
    const dsb_st_tensor *t = dsb_st_find(f, name);
    if (!t) fail_msg("%s is not there", name);
    assert_true(t->dtype == dtype && t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols);
    assert_memory_equal(t->data, data, t->bytes);
}

static void holds(const dsb_format *format, int64_t group) {
    dsb_st_file f;
    dsb_qtensor q;
    float y[N];
    assert_int_equal(dsb_st_open(&f, out, NULL), DSB_OK);
    assert_int_equal(dsb_quantize_rtn(&q, format, group, false, weights, ROWS, COLS, NULL), DSB_OK);
    dsb_dequantize(&q, weights, y);
    part_is(&f, "w.dequant", DSB_F32, ROWS, COLS, y);
    if (format->qmax) part_is(&f, "w.codes", DSB_I8, ROWS, COLS, q.codes);
    if (q.raw) part_is(&f, "w.codes", DSB_U8, q.raw_rows, q.raw_cols, q.raw);
    if (q.raw && q.scales) part_is(&f, "w.scales", DSB_F32, q.scale_rows, q.scale_cols, q.scales);
    if (q.scale_codes) part_is(&f, "w.scales", DSB_U8, q.scale_rows, q.scale_cols, q.scale_codes);
    if (format->ggml) assert_null(dsb_st_find(&f, "w.scales"));
    if (strcmp(format->name, "nvfp4") == 0) part_is(&f, "w.global_scale", DSB_F32, 1, 1, &q.global);
    else assert_null(dsb_st_find(&f, "w.global_scale"));
    assert_true((dsb_st_find(&f, "odd.codes") != NULL) == dsb_format_divides(format, 3)); /* else left out */
    dsb_qtensor_release(&q);
    dsb_st_close(&f);
}

static void test_tensor_command__every_format_writes_its_parts(void **state) {
    const dsb_format *rows;
    for (int i = 0, n = dsb_format_list(&rows); i < n; i++) {
        assert_int_equal(command(rows[i].name, NULL, NULL), 0);
        holds(&rows[i], rows[i].group);
    }
    assert_int_equal(command("fp8_e5m2", "--group", "tensor"), 0);
    holds(dsb_format_find("fp8_e5m2"), DSB_GROUP_TENSOR);
    assert_int_equal(command("fp8_e4m3", "--group", "128"), 0);
    holds(dsb_format_find("fp8_e4m3"), 128);
    assert_int_equal(command("nf4", "--group", "channel"), 0);
    holds(dsb_format_find("nf4"), DSB_GROUP_CHANNEL);
}

/* What the file holds decodes to what it says, bit for bit: S·(Q − Z) in f32. */
static void test_tensor_command__real_zero_points_are_written_as_floats(void **state) {
    dsb_st_file f;
    float y[N];
    assert_int_equal(command("int4", "--algorithm", "hqq"), 0);
    assert_int_equal(dsb_st_open(&f, out, NULL), DSB_OK);
    const dsb_st_tensor *codes = dsb_st_find(&f, "w.codes"), *scales = dsb_st_find(&f, "w.scales"), *zeros = dsb_st_find(&f, "w.zeros");
    assert_true(codes->dtype == DSB_U8 && zeros->dtype == DSB_F32 && zeros->shape[0] == ROWS && zeros->shape[1] == COLS / 32);
    for (int i = 0; i < N; i++) {
        float scale, zero;
        memcpy(&scale, scales->data + i / 32 * 4, 4);
        memcpy(&zero, zeros->data + i / 32 * 4, 4);
        assert_true(codes->data[i] < 16 && zero > 0 && zero < 15);
        y[i] = ((float)codes->data[i] - zero) * scale;
    }
    part_is(&f, "w.dequant", DSB_F32, ROWS, COLS, y);
    dsb_st_close(&f);
}

static void test_tensor_command__impossible_combinations_are_usage(void **state) {
    assert_int_equal(command("mxfp4", "--group", "16"), 2);
    assert_int_equal(command("q4_K", "--group", "channel"), 2);
    assert_int_equal(command("fp8_e4m3", "--group", "32"), 2);
    assert_int_equal(command("bf16", "--group", "32"), 2);
    assert_int_equal(command("nf4", "--algorithm", "rtn-mse"), 2);
    assert_int_equal(command("int4", "--algorithm", "rtn-max"), 2);
    assert_int_equal(command("q4_K", "--algorithm", "hqq"), 2);
    assert_int_equal(command("int4", "--algorithm", "rtn-mse"), 0);
    assert_int_equal(command("int4", "--algorithm", "rtn-percentile"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensor_command__every_format_writes_its_parts),
        cmocka_unit_test(test_tensor_command__real_zero_points_are_written_as_floats),
        cmocka_unit_test(test_tensor_command__impossible_combinations_are_usage),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
