/* What the speed measurement stores; how fast anything is, no test says. */
#include "sweep_run.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "harness/record.h"
#include "harness/throughput.h"
#include "synthetic_run.h"

static void test_throughput__rows_tell_kernels_tokens_and_bandwidth(void **state) {
    sr_run *r = sr_open();
    char dir[] = "/tmp/dsbench-speed-XXXXXX", path[64];
    dsb_db *db;
    dsb_err err = {0};
    dsb_progress progress = {0};
    dsb_throughput *rows;
    int64_t n;
    dsb_run_record run = synthetic_record("speed", 2, 2);
    dsb_scheme_record scheme = {.name = "mixed", .weight_bytes = -1, .n_param = -1};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/r.db", dir);
    sr_add_json(r, "{\"name\": \"mixed\", \"rules\": [{\"role\": \"attn.*\", \"format\": \"keep\"}, {\"role\": \"*\", \"format\": \"int8\", \"activation\": \"int8-dynamic\"}]}");
    if (dsb_db_open(&db, path, true, &err) || dsb_db_run_insert(db, &run, &err) || dsb_db_put_scheme(db, "speed", &scheme, &err)) fail_msg("%s", err.text);
    dsb_throughput_plan plan = {.m = &r->m, .schemes = r->schemes, .n_scheme = 1, .tokens = r->tokens, .prefill = 8, .decode = 5, .repeats = 2, .batch = 1};
    if (dsb_throughput_run(&plan, db, "speed", &progress, &err)) fail_msg("%s", err.text);
    assert_int_equal(dsb_db_get_throughput(db, &r->arena, "speed", "mixed", &rows, &n, &err), DSB_OK);
    assert_int_equal(n, 2);
    const dsb_throughput *decode = &rows[0], *prefill = &rows[1]; /* by phase */
    assert_string_equal(decode->phase, "decode");
    assert_true(decode->tpot_p50_ms > 0 && decode->tpot_p99_ms >= decode->tpot_p50_ms && isnan(prefill->tpot_p50_ms) && isnan(prefill->tpot_p99_ms));
    assert_true(decode->read_gbps > 0 && decode->read_gbps == prefill->read_gbps);
    assert_true(fabs(decode->roofline_percent - 100 * decode->gbps / decode->read_gbps) <= 1e-9 * decode->roofline_percent);
    assert_string_equal(decode->kernel, prefill->kernel);
    /* attention's kernel first, then the experts'; each once */
    dsb_session s;
    char list[256] = "";
    assert_int_equal(dsb_session_open(&s, &r->m, &r->schemes[0], NULL, SR_CTX, &err), DSB_OK);
    const char *attention = s.layers[0].attn.o.w.kernel, *expert = s.layers[r->m.config.n_layer - 1].experts[0].up.w.kernel;
    assert_string_not_equal(attention, expert);
    for (int i = 0; i < 2; i++) {
        dsb_kernel_list_add(list, attention);
        dsb_kernel_list_add(list, expert);
        dsb_kernel_list_add(list, NULL);
    }
    assert_true(strlen(list) == strlen(attention) + 2 + strlen(expert));
    assert_non_null(strstr(decode->kernel, attention));
    assert_non_null(strstr(decode->kernel, expert));
    dsb_session_close(&s);
    dsb_db_close(db);
    unlink(path);
    rmdir(dir);
    sr_close(r);
}

/* One scheme in memory at a time or all of them, the same work is counted; a phase of no tokens has no row; depth is where a phase begins. */
static void test_throughput__apart_or_together_the_work_is_the_same(void **state) {
    enum { DEPTH = 3, PREFILL = 4, DECODE = 2, BATCH = 2, LENGTH = DEPTH + PREFILL + DECODE };
    sr_run *r = sr_open();
    dsb_err err = {0};
    dsb_progress progress = {0};
    dsb_roofline roof = {.read_gbps = 1, .f32_gflops = 1, .bf16_gflops = 2, .int8_gops = 4};
    dsb_speed speeds[2][4];
    int n;
    sr_add_preset(r, "bf16");
    sr_add_preset(r, "dynamic-int8");
    dsb_throughput_plan plan = {.m = &r->m, .schemes = r->schemes, .n_scheme = 2, .tokens = r->tokens, .depth = DEPTH, .prefill = PREFILL, .decode = DECODE, .repeats = 1, .batch = BATCH};
    for (int apart = 0; apart < 2; apart++) {
        plan.apart = apart;
        if (dsb_throughput_measure(&plan, &roof, speeds[apart], &n, &progress, &err)) fail_msg("%s", err.text);
        assert_int_equal(n, 4);
    }
    for (int i = 0; i < 4; i++) {
        const dsb_speed *v = &speeds[0][i];
        assert_memory_equal(&v->work, &speeds[1][i].work, sizeof v->work);
        assert_true(v->scheme == &r->schemes[i / 2] && v->decode == i % 2 && v->n_token == (i % 2 ? DECODE : PREFILL) && v->depth == DEPTH + (i % 2 ? PREFILL : 0));
        assert_true(v->work.bytes > 0 && v->roofline_percent > 0 && isnan(v->p50_ms) == !v->decode);
        /* bf16 has no integer products, dynamic-int8 has both kinds (its router and vocabulary are kept); absorbed products are of f32 */
        assert_true(v->work.ops[DSB_ARITH_F32] > 0 && v->work.ops[DSB_ARITH_BF16] > 0 && (v->work.ops[DSB_ARITH_INT8] > 0) == (i >= 2));
        assert_true(v->peak_gops == (i >= 2 ? 4 : 2) || v->decode); /* a step's vocabulary may outweigh its blocks */
    }
    /* A prompt's operations: its tokens through the blocks, and one row of logits a sequence. */
    dsb_session s;
    assert_int_equal(dsb_session_open(&s, &r->m, &r->schemes[1], NULL, LENGTH, &err), DSB_OK);
    for (int a = 0; a < DSB_ARITH_COUNT; a++) {
        double want = BATCH * (PREFILL * (s.token.ops[a] + s.absorbed.ops[a]) + s.head.ops[a]), got = speeds[0][2].work.ops[a];
        assert_true(fabs(got - want) <= 1e-12 * want);
    }
    dsb_session_close(&s);
    plan.prefill = 0;
    assert_int_equal(dsb_throughput_measure(&plan, &roof, speeds[0], &n, &progress, &err), DSB_OK);
    assert_true(n == 2 && speeds[0][0].decode && speeds[0][1].decode && speeds[0][0].depth == DEPTH);
    plan.repeats = DSB_MAX_REPEATS + 1;
    assert_int_equal(dsb_throughput_measure(&plan, &roof, speeds[0], &n, &progress, &err), DSB_EUSAGE);
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_throughput__apart_or_together_the_work_is_the_same),
        cmocka_unit_test(test_throughput__rows_tell_kernels_tokens_and_bandwidth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
