/* What `dsbench bench` is asked for: lists, shapes, made and recorded routings. How fast anything is, no test says. */
#include "sweep_run.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/safetensors_write.h"
#include "harness/bench.h"
#include "harness/bench_case.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void test_bench__words_are_split_at_commas(void **state) {
    static const char *const bad[] = {"", ",", "a,", ",a", "a,,b", " , "};
    dsb_arena arena;
    dsb_opt_list list;
    dsb_err err = {0};
    dsb_arena_init(&arena);
    assert_int_equal(dsb_words_split(&list, &arena, "--formats", "bf16, int8 ,q4_K", &err), DSB_OK);
    assert_int_equal(list.n, 3);
    assert_string_equal(list.item[0], "bf16");
    assert_string_equal(list.item[1], "int8");
    assert_string_equal(list.item[2], "q4_K");
    for (int i = 0; i < COUNT(bad); i++) {
        assert_int_equal(dsb_words_split(&list, &arena, "--formats", bad[i], &err), DSB_EUSAGE);
        assert_non_null(strstr(err.text, "--formats"));
    }
    char many[2 * DSB_OPT_LIST_MAX + 2];
    for (int i = 0; i <= DSB_OPT_LIST_MAX; i++) memcpy(many + 2 * i, "a,", 2);
    many[2 * DSB_OPT_LIST_MAX + 1] = 0;
    assert_int_equal(dsb_words_split(&list, &arena, "--formats", many, &err), DSB_EUSAGE);
    dsb_arena_release(&arena);
}

static void test_bench__shapes_are_three_numbers(void **state) {
    static const char *const bad[] = {"", "1", "1x2", "1x2x", "1x2x3x4", "1x2x0", "-1x2x3", "1x 2x3", "1x2x3 ", "ax2x3", "1X2X3", "1,2,3", "99999999999x1x1", "0x10x1x1", "1.5x2x3", "+1x2x3"};
    dsb_case_shape s = {.group = 7};
    dsb_err err = {0};
    assert_int_equal(dsb_shape_parse(&s, "1408x2048x512", &err), DSB_OK);
    assert_true(s.rows == 1408 && s.cols == 2048 && s.n == 512 && s.group == 7);
    for (int i = 0; i < COUNT(bad); i++)
        if (dsb_shape_parse(&s, bad[i], &err) != DSB_EUSAGE) fail_msg("'%s' was read", bad[i]);
}

static void test_bench__kernels_are_found_by_name_and_instruction_set(void **state) {
    dsb_arena arena;
    dsb_err err = {0};
    const dsb_kernel_case *k;
    int n = dsb_bench_cases(&k), products = 0;
    for (int i = 0; i < n; i++) products += k[i].product;
    dsb_arena_init(&arena);
    dsb_bench_kernels b = {.names = "gemm_i4,ref/gemm_i8", .shapes = "3x20x5,1x64x2", .be = dsb_backend_cpu(NULL)};
    assert_int_equal(dsb_bench_kernels_open(&b, &arena, &err), DSB_OK);
    assert_int_equal(b.n, 4);
    assert_string_equal(b.jobs[0].k->name, "gemm_i4");
    assert_true(b.jobs[0].shape.group == 0 && b.jobs[1].shape.group == 32); /* the case's own, where a row is longer */
    assert_string_equal(b.jobs[2].be->isa, "ref");
    b = (dsb_bench_kernels){.names = "all,gemm", .be = dsb_backend_cpu(NULL)};
    assert_int_equal(dsb_bench_kernels_open(&b, &arena, &err), DSB_OK);
    assert_int_equal(b.n, n + products);
    static const struct {
        const char *names, *shapes, *says;
        int64_t group;
    } bad[] = {{"gemm_i9", NULL, "did you mean 'gemm_", 0}, {"ge", NULL, "unknown kernel", 0}, {"mmx/gemm_i8", NULL, "no instruction set 'mmx'", 0}, {"/gemm_i8", NULL, "no instruction set", 0},
               {"all", "1x2x3", "one shape", 0}, {"gemm_i8", "1x2", "1408x2048x512", 0}, {"gemm_i8", "4x8x1", "group of 9", 9}, {"rope", "3x4x1", "no weights", 0}, {"gemm_i8,", NULL, "--kernel", 0}};
    for (int i = 0; i < COUNT(bad); i++) {
        b = (dsb_bench_kernels){.names = bad[i].names, .shapes = bad[i].shapes, .group = bad[i].group, .be = dsb_backend_cpu(NULL)};
        assert_int_equal(dsb_bench_kernels_open(&b, &arena, &err), DSB_EUSAGE);
        if (!strstr(err.text, bad[i].says)) fail_msg("'%s' isn't in: %s", bad[i].says, err.text);
    }
    dsb_arena_release(&arena);
}

static void test_bench__every_case_opens_counts_and_is_plain_c_s(void **state) {
    static const dsb_case_shape shapes[] = {{1, 1, 1, 0}, {5, 1, 66, 0}, {9, 1, 33, 3}, {3, 1, 512, 0}};
    const dsb_kernel_case *k;
    dsb_bench_case c;
    dsb_err err = {0};
    for (int i = 0, n = dsb_bench_cases(&k); i < n; i++) {
        dsb_case_shape own = dsb_bench_case_shape(&k[i]);
        assert_int_equal(dsb_bench_case_check_shape(&k[i], &own, &err), DSB_OK);
        char kernel[64];
        snprintf(kernel, sizeof kernel, "ref/%s", k[i].name);
        for (int s = 0; s < COUNT(shapes); s++) {
            dsb_case_shape shape = shapes[s];
            shape.rows = k[i].product ? 17 : 1;
            dsb_status st = dsb_bench_case_open(&c, &k[i], dsb_backend_cpu(NULL), &shape, 1 + s, &err);
            if (st == DSB_EUSAGE && k[i].kind == DSB_W_BLOCK && shape.cols < 512) continue; /* blocks that don't divide it, or are smaller as f32 */
            if (st || dsb_bench_case_verify(&c, &err)) fail_msg("%s", err.text);
            assert_true(!c.kernel || strcmp(strchr(c.kernel, '/'), strchr(kernel, '/')) == 0);
            assert_true(c.bytes > 0 && (!k[i].product || c.ops[0] + c.ops[1] + c.ops[2] == 2.0 * 17 * (double)(shape.cols * shape.n)));
            dsb_bench_case_close(&c);
        }
    }
}

/* A backend that computes one value of the last row wrong. */
static void (*right_gemm)(const dsb_wmat *, const dsb_act *, float *);
static void off_by_one_bit(const dsb_wmat *w, const dsb_act *x, float *y) {
    right_gemm(w, x, y);
    y[w->rows * x->n - 1] = nextafterf(y[w->rows * x->n - 1], INFINITY);
}

static void test_bench__a_wrong_bit_is_found_before_anything_is_timed(void **state) {
    const dsb_kernel_case *k;
    dsb_backend be = *dsb_backend_cpu("ref");
    dsb_bench_case c;
    dsb_err err = {0};
    dsb_case_shape shape = {11, 5, 7, 0};
    dsb_bench_cases(&k);
    right_gemm = be.gemm;
    be.gemm = off_by_one_bit;
    assert_int_equal(dsb_bench_case_open(&c, &k[0], &be, &shape, 2, &err), DSB_OK);
    assert_int_equal(dsb_bench_case_verify(&c, &err), DSB_EINTERNAL);
    assert_string_equal(err.text, "ref/gemm_f32, 5x7x11: output 0 differs from plain C's (row 10)");
    dsb_bench_case_close(&c);
}

static void test_bench__copies_outgrow_the_cache(void **state) {
    const dsb_kernel_case *k;
    dsb_bench_case c;
    dsb_err err = {0};
    dsb_case_shape shape = {1, 256, 1024, 0};
    dsb_bench_cases(&k);
    if (dsb_bench_case_open(&c, &k[0], dsb_backend_cpu(NULL), &shape, 0, &err)) fail_msg("%s", err.text);
    double wanted = 4 * (double)dsb_cache_bytes();
    assert_true(c.bytes == 4.0 * 256 * 1024 && (c.copies == 1024 || c.copies * c.bytes >= (wanted < 1e9 ? wanted : 1e9)));
    dsb_bench_case_close(&c);
}

static void test_bench__absurd_shapes_are_refused(void **state) {
    static const dsb_case_shape bad[] = {{0, 1, 1, 0}, {1, 1, -1, 0}, {1, 0, 1, 0}, {1, 1 << 24, 1 << 24, 0}, {1 << 24, 1, 1 << 24, 0}, {INT64_MAX, INT64_MAX, INT64_MAX, 0}, {1, 1, 8, 9}, {1, 1, 8, -1}};
    const dsb_kernel_case *k;
    dsb_err err = {0};
    for (int i = 0, n = dsb_bench_cases(&k); i < n; i++)
        for (int b = 0; b < COUNT(bad); b++) assert_int_equal(dsb_bench_case_check_shape(&k[i], &bad[b], &err), DSB_EUSAGE);
}

enum { LAYERS = 3, EXPERTS = 16, K = 3, ROWS = 4096 };

static dsb_config small_config(sr_run *r) {
    dsb_config c = r->m.config;
    c.n_layer = LAYERS;
    c.n_expert = EXPERTS;
    c.router.k = K;
    return c;
}

/* Hits of each expert of a layer, and that each row is a choice. */
static void count_hits(const int32_t *ids, int64_t layer, int64_t hits[EXPERTS]) {
    memset(hits, 0, EXPERTS * sizeof *hits);
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < K; j++) {
            const int32_t *row = ids + (layer * ROWS + i) * K;
            assert_true(row[j] >= 0 && row[j] < EXPERTS && (j == 0 || row[j] > row[j - 1]));
            hits[row[j]]++;
        }
}

static int descending(const void *a, const void *b) { return (*(const int64_t *)b > *(const int64_t *)a) - (*(const int64_t *)b < *(const int64_t *)a); }

static void test_bench__made_routings_have_their_distributions(void **state) {
    sr_run *r = sr_open();
    dsb_config c = small_config(r);
    int64_t moe = LAYERS - 1, hits[EXPERTS];
    int32_t *uniform, *again, *zipf;
    assert_true(dsb_layer_is_moe(&c, moe) && dsb_layer_is_moe(&c, moe - 1));
    assert_int_equal(dsb_routing_ids_make(&uniform, ROWS, DSB_ROUTING_UNIFORM, &c, NULL), DSB_OK);
    assert_int_equal(dsb_routing_ids_make(&again, ROWS, DSB_ROUTING_UNIFORM, &c, NULL), DSB_OK);
    assert_int_equal(dsb_routing_ids_make(&zipf, ROWS, DSB_ROUTING_ZIPF, &c, NULL), DSB_OK);
    assert_memory_equal(uniform, again, LAYERS * ROWS * K * sizeof *uniform);
    /* Each expert is hit by a row with chance K / EXPERTS: a binomial count; seven deviations are beyond any doubt. */
    double p = (double)K / EXPERTS, mean = ROWS * p, far = 7 * sqrt(ROWS * p * (1 - p));
    count_hits(uniform, moe, hits);
    for (int e = 0; e < EXPERTS; e++) assert_true(fabs((double)hits[e] - mean) < far);
    /* The first of a row's draws is the heaviest expert with chance 1 / (1 + 1/2 + … + 1/16) = 0.296, so that it is hit in more rows than that; the
     * lightest by less than K draws of 1/16 over what is left when the two heaviest are gone: 3 · (1/16) / (3.381 − 1.5) = 0.0997. */
    count_hits(zipf, moe, hits);
    qsort(hits, EXPERTS, sizeof *hits, descending);
    assert_true((double)hits[0] > 0.296 * ROWS - 7 * sqrt(0.21 * ROWS) && (double)hits[EXPERTS - 1] < 0.0997 * ROWS + 7 * sqrt(0.09 * ROWS));
    int64_t other[EXPERTS];
    count_hits(zipf, moe, hits);
    count_hits(zipf, moe - 1, other);
    assert_memory_not_equal(hits, other, sizeof hits); /* an order of its own in each layer */
    free(uniform);
    free(again);
    free(zipf);
    assert_int_equal(dsb_routing_kind_find("zipf"), DSB_ROUTING_ZIPF);
    assert_int_equal(dsb_routing_kind_find("nope"), -1);
    sr_close(r);
}

static void write_trace(const char *path, const dsb_config *c, int64_t n_seq, const int64_t *n, int64_t k, int32_t change) {
    dsb_st_writer w;
    int32_t next = 0;
    char name[64];
    assert_int_equal(dsb_st_writer_open(&w, path, NULL), DSB_OK);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t q = 0; q < n_seq; q++)
            for (int64_t l = 0; l < c->n_layer; l++) {
                if (!dsb_layer_is_moe(c, l)) continue;
                int64_t shape[] = {n[q], k};
                int32_t row[K];
                snprintf(name, sizeof name, "seq%lld.layer%lld.topk_indices", (long long)q, (long long)l);
                if (pass == 0) assert_int_equal(dsb_st_writer_declare(&w, name, DSB_I32, 2, shape, NULL), DSB_OK);
                for (int64_t i = 0; pass == 1 && i < n[q]; i++, next++) {
                    for (int64_t j = 0; j < k; j++) row[j] = (int32_t)((next + j * 5) % EXPERTS);
                    if (next == 3) row[0] = change ? change : row[0];
                    assert_int_equal(dsb_st_writer_write(&w, row, (size_t)k * sizeof *row, NULL), DSB_OK);
                }
            }
    assert_int_equal(dsb_st_writer_finish(&w, NULL), DSB_OK);
    dsb_st_writer_close(&w);
}

static void test_bench__recorded_routing_is_the_trace_s(void **state) {
    sr_run *r = sr_open();
    dsb_config c = small_config(r);
    static const int64_t n[] = {3, 2};
    char dir[] = "/tmp/dsbench-bench-XXXXXX", path[64];
    int32_t *ids = NULL;
    int64_t n_row = 0, first = 0;
    dsb_err err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/t.safetensors", dir);
    while (!dsb_layer_is_moe(&c, first)) first++;
    write_trace(path, &c, 2, n, K, 0);
    if (dsb_routing_ids_read(&ids, &n_row, path, &c, &err)) fail_msg("%s", err.text);
    assert_int_equal(n_row, 5);
    /* Rows are numbered as they were written, each layer of a sequence after the other. */
    for (int64_t l = first; l < LAYERS; l++)
        for (int64_t i = 0; i < n_row; i++) {
            int64_t moe = LAYERS - first, number = i < n[0] ? (l - first) * n[0] + i : moe * n[0] + (l - first) * n[1] + i - n[0];
            const int32_t *row = ids + (l * n_row + i) * K;
            for (int64_t j = 0, found = 0; j < K; j++, found = 0) {
                for (int64_t t = 0; t < K; t++) found += row[t] == (number + j * 5) % EXPERTS;
                assert_int_equal(found, 1);
            }
            assert_true(row[0] < row[1] && row[1] < row[2]);
        }
    free(ids);
    write_trace(path, &c, 2, n, K, EXPERTS);
    assert_int_equal(dsb_routing_ids_read(&ids, &n_row, path, &c, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "no choice of 3 of 16 experts"));
    write_trace(path, &c, 2, n, K - 1, 0);
    assert_int_equal(dsb_routing_ids_read(&ids, &n_row, path, &c, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "topk_indices"));
    assert_int_equal(dsb_routing_ids_read(&ids, &n_row, "models/dsmoe-tiny/model.safetensors", &c, &err), DSB_EINPUT);
    unlink(path);
    rmdir(dir);
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench__words_are_split_at_commas),
        cmocka_unit_test(test_bench__shapes_are_three_numbers),
        cmocka_unit_test(test_bench__kernels_are_found_by_name_and_instruction_set),
        cmocka_unit_test(test_bench__every_case_opens_counts_and_is_plain_c_s),
        cmocka_unit_test(test_bench__a_wrong_bit_is_found_before_anything_is_timed),
        cmocka_unit_test(test_bench__copies_outgrow_the_cache),
        cmocka_unit_test(test_bench__absurd_shapes_are_refused),
        cmocka_unit_test(test_bench__made_routings_have_their_distributions),
        cmocka_unit_test(test_bench__recorded_routing_is_the_trace_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
