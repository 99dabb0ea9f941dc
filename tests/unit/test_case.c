/* Every case that `dsbench bench --kernel` times, over odd sizes, on every instruction set: the bits of plain C, and nothing written beside the output. */
#include "kernel_cases.h"

#include "kernels/case.h"

/* rows, cols, n; cols is made even or cut where a case wants it so. */
static const dsb_case_shape k_shapes[] = {{1, 1, 1, 0}, {1, 2, 3, 1}, {16, 64, 1, 32}, {17, 33, 2, 32}, {47, 130, 13, 64}, {8, 4, 25, 0}, {33, 67, 5, 3}};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static dsb_case_shape fitting(const dsb_case_row *row, dsb_case_shape s) {
    if (row->even) s.cols += s.cols % 2;
    if (strcmp(row->name, "route") == 0 && s.cols > s.rows) s.cols = s.rows;
    if (strcmp(row->name, "route") == 0 && s.cols > 8) s.cols = 8;
    if (strcmp(row->name, "logit_rows") == 0) s.rows = 1;
    if (s.group > s.cols) s.group = s.cols;
    return s;
}

static void checked(const dsb_case_row *row, const dsb_backend *be, dsb_case_shape shape, dsb_case_fill fill, int copies) {
    dsb_case c;
    dsb_err err = {0};
    if (dsb_case_open(&c, row, be, &shape, fill, copies, &err)) fail_msg("%s", err.text);
    assert_true(c.ops > 0 && c.bytes > 0 && c.items >= 1);
    if (dsb_case_check(&c, &err)) fail_msg("%s", err.text);
    dsb_case_close(&c);
}

static void test_case__every_kernel_gives_the_bits_of_plain_c(void **state) {
    const dsb_case_row *rows;
    const dsb_backend *be[KC_LEVELS];
    int n_be = kc_backends(be), before = omp_get_max_threads();
    for (int i = 0, n = dsb_case_list(&rows); i < n; i++)
        for (int s = 0; s < COUNT(k_shapes); s++)
            for (int fill = 0; fill < DSB_FILL_COUNT; fill++)
                for (int b = 0; b < n_be; b++) {
                    omp_set_num_threads(1 + (i + s + fill) % 3);
                    checked(&rows[i], be[b], fitting(&rows[i], k_shapes[s]), (dsb_case_fill)fill, 1 + s % 2);
                }
    omp_set_num_threads(before);
}

/* A backend that computes one value wrong, and one that writes behind its output. */
static void (*right_gemm)(const dsb_wmat *, const dsb_act *, float *);
static void off_by_one_bit(const dsb_wmat *w, const dsb_act *x, float *y) {
    right_gemm(w, x, y);
    y[w->rows - 1] = nextafterf(y[w->rows - 1], INFINITY);
}
static void one_too_many(const dsb_wmat *w, const dsb_act *x, float *y) {
    right_gemm(w, x, y);
    y[w->rows * x->n] = 0;
}

static void test_case__a_wrong_bit_and_a_stray_write_are_found(void **state) {
    const dsb_case_row *rows;
    dsb_backend be = *dsb_backend_cpu("ref");
    dsb_case c;
    dsb_err err = {0};
    dsb_case_shape shape = {5, 7, 3, 0};
    dsb_case_list(&rows);
    right_gemm = be.gemm;
    be.gemm = off_by_one_bit;
    assert_int_equal(dsb_case_open(&c, &rows[0], &be, &shape, DSB_FILL_PLAIN, 2, &err), DSB_OK);
    assert_int_equal(dsb_case_check(&c, &err), DSB_EINTERNAL);
    assert_string_equal(err.text, "ref/gemm_f32, 5x7x3 group 7: differs from plain C (item 0, byte 16)");
    dsb_case_close(&c);
    be.gemm = one_too_many;
    assert_int_equal(dsb_case_open(&c, &rows[0], &be, &shape, DSB_FILL_PLAIN, 1, &err), DSB_OK);
    assert_int_equal(dsb_case_check(&c, &err), DSB_EINTERNAL);
    assert_non_null(strstr(err.text, "written behind the output"));
    dsb_case_close(&c);
}

static void test_case__copies_outgrow_the_cache(void **state) {
    const dsb_case_row *rows;
    dsb_case c;
    dsb_err err = {0};
    dsb_case_shape shape = {256, 1024, 1, 0};
    dsb_case_list(&rows);
    if (dsb_case_open(&c, &rows[0], dsb_backend_cpu(NULL), &shape, DSB_FILL_PLAIN, 0, &err)) fail_msg("%s", err.text);
    double all = c.copies * c.bytes, wanted = 4 * (double)dsb_cache_bytes();
    assert_true(c.bytes == 4.0 * 256 * 1024 && (c.copies == 1024 || all >= (wanted < 1e9 ? wanted : 1e9)));
    dsb_case_close(&c);
}

static void test_case__absurd_shapes_are_refused(void **state) {
    static const dsb_case_shape bad[] = {{0, 1, 1, 0}, {1, -1, 1, 0}, {1, 1, 0, 0}, {1 << 24, 1 << 24, 1, 0}, {1, 1 << 24, 1 << 24, 0}, {INT64_MAX, INT64_MAX, INT64_MAX, 0}, {4, 8, 1, 9}, {4, 8, 1, -1}};
    const dsb_case_row *rows;
    dsb_err err = {0};
    for (int i = 0, n = dsb_case_list(&rows); i < n; i++) {
        for (int b = 0; b < COUNT(bad); b++) assert_int_equal(dsb_case_shape_check(&rows[i], &bad[b], &err), DSB_EUSAGE);
        assert_int_equal(dsb_case_shape_check(&rows[i], &rows[i].shape, &err), DSB_OK);
        if (rows[i].even) assert_int_equal(dsb_case_shape_check(&rows[i], &(dsb_case_shape){2, 3, 1, 0}, &err), DSB_EUSAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_case__every_kernel_gives_the_bits_of_plain_c),
        cmocka_unit_test(test_case__a_wrong_bit_and_a_stray_write_are_found),
        cmocka_unit_test(test_case__copies_outgrow_the_cache),
        cmocka_unit_test(test_case__absurd_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
