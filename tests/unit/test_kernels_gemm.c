/* Products: every packed kind of every instruction set against plain sums in the header's order, bit for bit. */
#include "kernel_cases.h"

#include "base/format.h"

static const int64_t k_n[] = {0, 1, 2, 3, 4, 5, 6, 7, 13, 129}, k_rows[] = {1, 7, 8, 9, 15, 16, 17, 33}, k_cols[] = {1, 2, 3, 4, 5, 31, 32, 33, 64, 130};
static const int64_t k_group[] = {1, 3, 4, 32, 64, 1 << 20};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void want_floats(const float *w, const float *x, int64_t n, int64_t rows, int64_t cols, float *y) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < rows; r++) {
            float acc = 0;
            for (int64_t k = 0; k < cols; k++) acc = fmaf(x[i * cols + k], w[r * cols + k], acc);
            y[i * rows + r] = acc;
        }
}

static void want_ints(const int8_t *w, const float *w_scale, int64_t group, const int8_t *x, const float *x_scale, int64_t n, int64_t rows, int64_t cols, float *y) {
    int64_t groups = (cols + group - 1) / group;
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < rows; r++) {
            float f = 0;
            for (int64_t g = 0; g < groups; g++) {
                int64_t sum = 0;
                for (int64_t k = g * group; k < cols && k < (g + 1) * group; k++) sum += x[i * cols + k] * w[r * cols + k];
                f = fmaf((float)sum, w_scale[r * groups + g], f);
            }
            y[i * rows + r] = f * x_scale[i];
        }
}

static void same_floats(const dsb_backend *be, const char *kernel, const kc_out *got, const float *want, int64_t n, int64_t rows, int64_t cols) {
    kc_check_guards(got);
    if (memcmp(got->p, want, (size_t)(n * rows) * sizeof *want) != 0) fail_msg("%s %s: n %lld, rows %lld, cols %lld", be->isa, kernel, (long long)n, (long long)rows, (long long)cols);
}

/* What activations hold: any f32; BF16; or BF16 in which some rows have subnormals, or meet weights so small that products and sums are. */
typedef enum inputs { ANY_F32, ALL_BF16, ODD_BF16 } inputs;

static float as_bf16(float x) { return dsb_bf16_to_f32(dsb_f32_to_bf16(x)); }

static void float_case(const dsb_backend *be, dsb_wkind kind, inputs in, int64_t n, int64_t rows, int64_t cols) {
    dsb_wmat m;
    float *w = kc_floats(rows * cols, in == ODD_BF16 && rows % 2 ? 0x1p-90f : 1), *x = in == ALL_BF16 ? kc_floats(n * cols, 4) : kc_ugly(n * cols), *want = kc_memory((size_t)(n * rows) * 4);
    for (int64_t i = 0; in != ANY_F32 && i < n * cols; i++) x[i] = as_bf16(in == ODD_BF16 && i / cols % 3 ? 0x1p-20f * kc_unit() : x[i]);
    for (int64_t i = 0; i < rows * cols; i++) w[i] = kind == DSB_W_BF16 ? as_bf16(w[i]) : kind == DSB_W_F16 ? dsb_f16_to_f32(dsb_f32_to_f16(w[i])) : w[i];
    if (kind == DSB_W_F16) w[rows * cols / 2] = 5.9604644775390625e-8f; /* the smallest subnormal of FP16 */
    kc_out y = kc_output((size_t)(n * rows) * 4);
    assert_int_equal(be->pack_float(&m, kind, w, rows, cols, NULL), DSB_OK);
    want_floats(w, x, n, rows, cols, want);
    be->gemm(&m, &(dsb_act){.n = n, .cols = cols, .f32 = x}, y.p);
    same_floats(be, m.kernel, &y, want, n, rows, cols);
    assert_int_equal(m.bytes, (size_t)(rows * cols) * (kind == DSB_W_F32 ? 4 : 2));
    be->unpack(&m);
    free(y.raw);
    kc_free(w);
    kc_free(x);
    kc_free(want);
}

static int8_t code_within(int most) { return (int8_t)((int)(kc_random() >> 16) % (2 * most + 1) - most); }

/* full: every code is ± the largest, so that the sums are as large as they get; row 0 of x is zero. */
static void int_case(const dsb_backend *be, dsb_wkind kind, int64_t group, bool full, int64_t n, int64_t rows, int64_t cols) {
    dsb_wmat m;
    int most = kind == DSB_W_I8 ? 127 : 7;
    if (group > cols) group = cols;
    int64_t groups = (cols + group - 1) / group;
    int8_t *w = kc_memory((size_t)(rows * cols)), *x = kc_memory((size_t)(n * cols));
    float *w_scale = kc_floats(rows * groups, 0.1f), *x_scale = kc_floats(n, 0.1f), *want = kc_memory((size_t)(n * rows) * 4);
    for (int64_t i = 0; i < rows * cols; i++) w[i] = full ? (int8_t)(kc_random() >> 31 ? most : -most) : code_within(most);
    for (int64_t i = 0; i < n * cols; i++) x[i] = i < cols && n > 1 ? 0 : full ? 127 : code_within(127);
    kc_out y = kc_output((size_t)(n * rows) * 4);
    assert_int_equal(be->pack_int(&m, kind, w, w_scale, group, rows, cols, NULL), DSB_OK);
    want_ints(w, w_scale, group, x, x_scale, n, rows, cols, want);
    be->gemm(&m, &(dsb_act){.n = n, .cols = cols, .q = x, .scale = x_scale}, y.p);
    same_floats(be, m.kernel, &y, want, n, rows, cols);
    be->unpack(&m);
    free(y.raw);
    kc_free(w);
    kc_free(x);
    kc_free(w_scale);
    kc_free(x_scale);
    kc_free(want);
}

static void test_kernels_gemm__floats_are_one_fused_chain_an_output(void **state) {
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n = kc_backends(be); b < n; b++)
        for (int kind = DSB_W_F32; kind <= DSB_W_F16; kind++)
            for (int i = 0; i < COUNT(k_n); i++)
                for (int j = 0; j < COUNT(k_rows); j++) {
                    kc_seed((uint32_t)(100 * i + j));
                    for (int in = ANY_F32; in <= ODD_BF16; in++) float_case(be[b], (dsb_wkind)kind, (inputs)in, k_n[i], k_rows[j], k_cols[(i + 3 * j) % COUNT(k_cols)]);
                }
}

static void test_kernels_gemm__integer_sums_are_exact_in_any_group(void **state) {
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n = kc_backends(be); b < n; b++)
        for (int kind = DSB_W_I8; kind <= DSB_W_I4; kind++)
            for (int i = 0; i < COUNT(k_n); i++)
                for (int j = 0; j < COUNT(k_cols); j++)
                    for (int g = 0; g < COUNT(k_group); g++) {
                        kc_seed((uint32_t)(1000 * i + 10 * j + g));
                        int_case(be[b], (dsb_wkind)kind, k_group[g], false, k_n[i], k_rows[(i + j + g) % COUNT(k_rows)], k_cols[j]);
                    }
}

static void test_kernels_gemm__largest_codes_don_t_overflow(void **state) {
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n = kc_backends(be); b < n; b++)
        for (int kind = DSB_W_I8; kind <= DSB_W_I4; kind++) {
            int_case(be[b], (dsb_wkind)kind, 1 << 20, true, 5, 9, 8192 + 3);
            int_case(be[b], (dsb_wkind)kind, 32, true, 5, 9, 8192);
        }
}

/* Longer than a block of inputs, more rows than a block and than the largest tile, panels of every remainder by four. */
static void test_kernels_gemm__blocks_and_tiles_of_every_remainder(void **state) {
    static const int64_t n[] = {1, 2, 3, 4, 11, 12, 23, 109}, rows[] = {16, 32, 47, 64, 65, 70, 120};
    const dsb_backend *be[KC_LEVELS];
    for (int b = 1, n_be = kc_backends(be); b < n_be; b++)
        for (int i = 0; i < COUNT(n); i++) {
            float_case(be[b], (dsb_wkind)(i % 3), ANY_F32, n[i], rows[i % COUNT(rows)], 1024 + 13);
            float_case(be[b], (dsb_wkind)((i + 1) % 3), ANY_F32, n[i], rows[(i + 3) % COUNT(rows)], 2 * 1024);
            float_case(be[b], DSB_W_BF16, ALL_BF16, n[i], rows[i % COUNT(rows)], 1024 + 13);
            float_case(be[b], DSB_W_BF16, ODD_BF16, n[i], rows[i % COUNT(rows)], 2 * 1024);
            for (int kind = DSB_W_I8; kind <= DSB_W_I4; kind++) {
                int_case(be[b], (dsb_wkind)kind, 1 << 20, false, n[i], rows[i % COUNT(rows)], 1024 + 13);
                int_case(be[b], (dsb_wkind)kind, 128, true, n[i], rows[(i + 3) % COUNT(rows)], 1024 + 64);
            }
        }
}

/* A list of more products than any array on the stack has, of all kinds and sizes: some read what the one before does, in the same groups or in
 * others, some have no rows; each has gemm's bits. */
static void test_kernels_gemm__a_list_is_its_products(void **state) {
    enum { LIST = 45, MOST_N = 200, ROWS = 70, COLS = 300 };
    const dsb_backend *be[KC_LEVELS];
    int8_t *codes = kc_memory(ROWS * COLS), *q = kc_memory(MOST_N * COLS);
    float *w = kc_floats(ROWS * COLS, 1), *scale = kc_floats(ROWS * COLS, 0.1f), *x = kc_floats(MOST_N * COLS, 1), *x_scale = kc_floats(MOST_N, 1);
    for (int64_t i = 0; i < ROWS * COLS; i++) codes[i] = code_within(7), w[i] = as_bf16(w[i]);
    for (int64_t i = 0; i < MOST_N * COLS; i++) q[i] = code_within(127), x[i] = i / COLS % 5 ? as_bf16(x[i]) : x[i];
    for (int b = 0, n_be = kc_backends(be); b < n_be; b++) {
        dsb_wmat m[LIST];
        dsb_act act[LIST];
        dsb_product list[LIST];
        for (int i = 0; i < LIST; i++) {
            static const int64_t n[] = {3, 1, 120, 0, MOST_N}, group[] = {32, 32, 30, 1 << 20};
            int64_t rows = 16 + 18 * (i % 4), cols = COLS - 7 * (i / 4 % 3);
            dsb_wkind kind = (dsb_wkind[]){DSB_W_F32, DSB_W_BF16, DSB_W_I8, DSB_W_I4, DSB_W_F16}[i / 6 % 5];
            bool ints = kind >= DSB_W_I8;
            if (ints) assert_int_equal(be[b]->pack_int(&m[i], kind, codes, scale, group[i % 4] < cols ? group[i % 4] : cols, rows, cols, NULL), DSB_OK);
            else assert_int_equal(be[b]->pack_float(&m[i], kind, w, rows, cols, NULL), DSB_OK);
            act[i] = (dsb_act){.n = n[i / 3 % 5], .cols = cols, .f32 = ints ? NULL : x, .q = ints ? q : NULL, .scale = ints ? x_scale : NULL};
            list[i] = (dsb_product){&m[i], &act[i], kc_memory((size_t)(act[i].n * rows) * sizeof(float) + 4)};
        }
        be[b]->gemm_list(list, LIST);
        for (int i = 0; i < LIST; i++) {
            size_t bytes = (size_t)(act[i].n * m[i].rows) * sizeof(float);
            float *one = kc_memory(bytes + 4);
            be[b]->gemm(&m[i], &act[i], one);
            assert_memory_equal(one, list[i].y, bytes);
            kc_free(one);
            kc_free(list[i].y);
            be[b]->unpack(&m[i]);
        }
    }
    kc_free(codes);
    kc_free(q);
    kc_free(w);
    kc_free(scale);
    kc_free(x);
    kc_free(x_scale);
}

/* The largest codes there are: -128 of weights that others stored, and -8. */
static void test_kernels_gemm__least_weight_codes_are_exact(void **state) {
    enum { ROWS = 19, COLS = 4096 };
    const dsb_backend *be[KC_LEVELS];
    int8_t *w = kc_memory(ROWS * COLS), *x = kc_memory(5 * COLS);
    float one[ROWS], y[5 * ROWS];
    for (int i = 0; i < ROWS; i++) one[i] = 1;
    for (int i = 0; i < 5 * COLS; i++) x[i] = i < 2 * COLS ? 127 : -127;
    for (int kind = DSB_W_I8; kind <= DSB_W_I4; kind++) {
        int least = kind == DSB_W_I8 ? -128 : -8;
        for (int i = 0; i < ROWS * COLS; i++) w[i] = (int8_t)least;
        for (int b = 0, n = kc_backends(be); b < n; b++) {
            dsb_wmat m;
            assert_int_equal(be[b]->pack_int(&m, (dsb_wkind)kind, w, one, COLS, ROWS, COLS, NULL), DSB_OK);
            be[b]->gemm(&m, &(dsb_act){.n = 5, .cols = COLS, .q = x, .scale = one}, y);
            for (int i = 0; i < 5 * ROWS; i++) assert_true(y[i] == (float)((i < 2 * ROWS ? 127 : -127) * least * COLS));
            be[b]->unpack(&m);
        }
    }
    kc_free(w);
    kc_free(x);
}

/* Overflow to infinity, and weights or activations that are none: what is infinite or NaN is so on every instruction set. */
static void test_kernels_gemm__bf16_products_of_large_and_nonfinite_values(void **state) {
    enum { N = 4, COLS = 7 };
    static const float odd[] = {INFINITY, -INFINITY, NAN, 0x1.fep127f};
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n = kc_backends(be); b < n; b++)
        for (int i = 0; i < 2 * 4; i++) {
            dsb_wmat m;
            float w[COLS], x[N * COLS], y[N];
            for (int k = 0; k < COLS; k++) w[k] = 0x1p100f;
            for (int k = 0; k < N * COLS; k++) x[k] = k < COLS ? 0x1p100f : k < 2 * COLS ? 0 : k % 2 ? 3 : -5;
            if (i % 2) w[i / 2] = odd[i / 2];
            else x[3 * COLS + i / 2] = odd[i / 2];
            float want[N] = {0};
            for (int r = 0; r < N; r++)
                for (int k = 0; k < COLS; k++) want[r] = fmaf(x[r * COLS + k], w[k], want[r]);
            assert_int_equal(be[b]->pack_float(&m, DSB_W_BF16, w, 1, COLS, NULL), DSB_OK);
            be[b]->gemm(&m, &(dsb_act){.n = N, .cols = COLS, .f32 = x}, y);
            for (int r = 0; r < N; r++) assert_true(isnan(want[r]) ? isnan(y[r]) : y[r] == want[r]);
            be[b]->unpack(&m);
        }
}

/* Codes of -8 come from checkpoints that others packed. */
static void test_kernels_gemm__int4_holds_minus_eight(void **state) {
    static const int8_t w[] = {-8, 7, -8, -8, 0}, x[] = {127, -127, 1, -127, 5};
    static const float one[] = {1};
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n = kc_backends(be); b < n; b++) {
        dsb_wmat m;
        float y;
        assert_int_equal(be[b]->pack_int(&m, DSB_W_I4, w, one, 5, 1, 5, NULL), DSB_OK);
        be[b]->gemm(&m, &(dsb_act){.n = 1, .cols = 5, .q = x, .scale = one}, &y);
        assert_true(y == -8 * 127 - 7 * 127 - 8 + 8 * 127);
        be[b]->unpack(&m);
    }
}

static void test_kernels_gemm__packing_rounds_to_nearest_even(void **state) {
    static const float w[] = {1.00390625f, 1.01171875f, -1.00390625f, 3.0f}, one[] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    static const float bf16[] = {1.0f, 1.015625f, -1.0f, 3.0f}; /* ties of BF16, whose last place is 2^-7; exact in FP16 */
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n = kc_backends(be); b < n; b++) {
        dsb_wmat m;
        float y[4];
        assert_int_equal(be[b]->pack_float(&m, DSB_W_BF16, w, 1, 4, NULL), DSB_OK);
        be[b]->gemm(&m, &(dsb_act){.n = 4, .cols = 4, .f32 = one}, y);
        assert_memory_equal(y, bf16, sizeof y);
        be[b]->unpack(&m);
        assert_int_equal(be[b]->pack_float(&m, DSB_W_F16, w, 1, 4, NULL), DSB_OK);
        be[b]->gemm(&m, &(dsb_act){.n = 4, .cols = 4, .f32 = one}, y);
        assert_memory_equal(y, w, sizeof y);
        be[b]->unpack(&m);
    }
}

/* Large enough for threads; each row again by itself, as a decoder would ask for it. */
static void batch_case(const dsb_backend *be, kc_tape *tape) {
    enum { N = 131, ROWS = 97, COLS = 196 };
    kc_seed(7);
    float *w = kc_floats(ROWS * COLS, 1), *x = kc_floats(N * COLS, 3), *scales = kc_floats(ROWS * 7, 0.1f), *x_scale = kc_memory(N * 4);
    int8_t *codes = kc_memory(ROWS * COLS), *q = kc_memory(N * COLS);
    for (int i = 0; i < ROWS * COLS; i++) codes[i] = code_within(7);
    be->quantize_dynamic(x, N, COLS, q, x_scale);
    for (int kind = DSB_W_F32; kind <= DSB_W_I4; kind++) {
        if (kind == DSB_W_BLOCK) continue; /* test_kernels_block.c */
        dsb_wmat m;
        kc_out all = kc_output((size_t)N * ROWS * 4);
        float one[ROWS];
        if (kind >= DSB_W_I8) assert_int_equal(be->pack_int(&m, (dsb_wkind)kind, codes, scales, 32, ROWS, COLS, NULL), DSB_OK);
        else assert_int_equal(be->pack_float(&m, (dsb_wkind)kind, w, ROWS, COLS, NULL), DSB_OK);
        be->gemm(&m, &(dsb_act){.n = N, .cols = COLS, .f32 = x, .q = q, .scale = x_scale}, all.p);
        for (int i = 0; i < N; i++) {
            be->gemm(&m, &(dsb_act){.n = 1, .cols = COLS, .f32 = x + i * COLS, .q = q + i * COLS, .scale = x_scale + i}, one);
            assert_memory_equal(one, (float *)all.p + i * ROWS, sizeof one);
        }
        be->unpack(&m);
        kc_take(tape, &all);
    }
    kc_free(w);
    kc_free(x);
    kc_free(scales);
    kc_free(x_scale);
    kc_free(codes);
    kc_free(q);
}

static void test_kernels_gemm__a_row_depends_on_itself_alone(void **state) { kc_same_everywhere(batch_case); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_gemm__floats_are_one_fused_chain_an_output),
        cmocka_unit_test(test_kernels_gemm__integer_sums_are_exact_in_any_group),
        cmocka_unit_test(test_kernels_gemm__largest_codes_don_t_overflow),
        cmocka_unit_test(test_kernels_gemm__blocks_and_tiles_of_every_remainder),
        cmocka_unit_test(test_kernels_gemm__a_list_is_its_products),
        cmocka_unit_test(test_kernels_gemm__least_weight_codes_are_exact),
        cmocka_unit_test(test_kernels_gemm__bf16_products_of_large_and_nonfinite_values),
        cmocka_unit_test(test_kernels_gemm__int4_holds_minus_eight),
        cmocka_unit_test(test_kernels_gemm__packing_rounds_to_nearest_even),
        cmocka_unit_test(test_kernels_gemm__a_row_depends_on_itself_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
