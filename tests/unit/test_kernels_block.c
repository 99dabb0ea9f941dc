/* Packed weights (base/packed.h): every type on every instruction set against the decoded weights' own chain of fused products, bit for bit. */
#include "kernel_cases.h"

#include <stdio.h>

#include "base/packed.h"
#include "quantizers/quantize.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
static const int64_t k_n[] = {1, 2, 3, 4, 5, 17, 100}, k_rows[] = {1, 15, 16, 17, 33, 65, 80};

/* What is packed: a format, its grouping, and row lengths it takes. */
typedef struct case_row {
    const char *format;
    int64_t group;
    bool affine;
    const char *kernel;
    int64_t cols[4];
} case_row;
static const case_row k_case[] = {
    {"q4_0", 32, false, "gemm_q4_0", {32, 64, 288, 544}},
    {"q5_0", 32, false, "gemm_q5_0", {32, 64, 288, 544}},
    {"q8_0", 32, false, "gemm_q8_0", {32, 64, 288, 544}},
    {"iq4_nl", 32, false, "gemm_iq4_nl", {32, 64, 288, 544}},
    {"q2_K", 256, false, "gemm_q2_K", {256, 512, 768, 256}},
    {"q3_K", 256, false, "gemm_q3_K", {256, 512, 768, 256}},
    {"q4_K", 256, false, "gemm_q4_K", {256, 512, 768, 256}},
    {"q5_K", 256, false, "gemm_q5_K", {256, 512, 768, 256}},
    {"q6_K", 256, false, "gemm_q6_K", {256, 512, 768, 256}},
    {"mxfp4", 32, false, "gemm_mxfp4", {32, 64, 288, 544}},
    {"mxfp8", 32, false, "gemm_mxfp8", {32, 64, 288, 544}},
    {"nvfp4", 16, false, "gemm_nvfp4", {16, 48, 272, 528}},
    {"fp8_e4m3", DSB_GROUP_CHANNEL, false, "gemm_fp8_e4m3", {5, 33, 257, 515}},
    {"fp8_e4m3", DSB_GROUP_TENSOR, false, "gemm_fp8_e4m3", {5, 33, 257, 515}},
    {"fp8_e4m3", 128, false, "gemm_fp8_e4m3", {100, 129, 384, 515}},
    {"fp8_e5m2", DSB_GROUP_CHANNEL, false, "gemm_fp8_e5m2", {5, 33, 257, 515}},
    {"fp8_e5m2", 128, false, "gemm_fp8_e5m2", {100, 129, 384, 515}},
    {"nf4", 64, false, "gemm_nf4", {64, 96, 320, 520}}, /* 96 and 520: groups run across rows */
    {"nf4", DSB_GROUP_CHANNEL, false, "gemm_nf4", {5, 33, 257, 515}},
    {"nf4", DSB_GROUP_TENSOR, false, "gemm_nf4", {5, 33, 257, 515}},
    {"int8", DSB_GROUP_CHANNEL, false, "gemm_w8a16", {6, 33, 257, 515}},
    {"int8", 32, true, "gemm_w8a16", {6, 33, 257, 515}},
    {"int4", 32, true, "gemm_w4a16", {7, 33, 257, 515}},
    {"int4", 33, true, "gemm_w4a16", {7, 33, 257, 515}},
    {"int4", DSB_GROUP_CHANNEL, false, "gemm_w4a16", {7, 33, 257, 515}},
    {"int3", 32, true, "gemm_w4a16", {7, 33, 257, 515}},
    {"int2", 64, true, "gemm_w4a16", {7, 33, 257, 515}},
};

/* y as the f32 kernel gives it for the decoded weights, and as the packed ones give it. */
static void block_case(const dsb_backend *be, const case_row *c, const float *w, int64_t n, int64_t rows, int64_t cols) {
    const dsb_format *f = dsb_format_find(c->format);
    dsb_qtensor q;
    dsb_packed how;
    const uint8_t *blocks;
    uint8_t *owned;
    dsb_wmat packed, plain;
    dsb_err err;
    if (dsb_quantize_rtn(&q, f, c->group, c->affine, w, rows, cols, &err)) fail_msg("%s", err.text);
    for (int64_t i = 0; c->affine && i < q.rows * q.n_group; i++) q.zeros[i] += 0.37f * kc_unit(); /* zero points need not be whole */
    float *decoded = kc_memory((size_t)(rows * cols) * 4), *x = kc_ugly(n * cols), *want = kc_memory((size_t)(n * rows) * 4);
    kc_out y = kc_output((size_t)(n * rows) * 4);
    dsb_dequantize(&q, NULL, decoded);
    assert_int_equal(dsb_qtensor_blocks(&q, &how, &blocks, &owned, NULL), DSB_OK);
    assert_non_null(blocks);
    uint8_t *copy = kc_memory((size_t)(rows * dsb_packed_row_bytes(&how, cols))); /* ends where its memory ends */
    memcpy(copy, blocks, (size_t)(rows * dsb_packed_row_bytes(&how, cols)));
    assert_int_equal(be->pack_blocks(&packed, &how, copy, rows, cols, NULL), DSB_OK);
    assert_int_equal(be->pack_float(&plain, DSB_W_F32, decoded, rows, cols, NULL), DSB_OK);
    be->gemm(&packed, &(dsb_act){.n = n, .cols = cols, .f32 = x}, y.p);
    be->gemm(&plain, &(dsb_act){.n = n, .cols = cols, .f32 = x}, want);
    kc_check_guards(&y);
    if (memcmp(y.p, want, (size_t)(n * rows) * 4) != 0) fail_msg("%s %s: n %lld, rows %lld, cols %lld", packed.kernel, c->format, (long long)n, (long long)rows, (long long)cols);
    assert_string_equal(strchr(packed.kernel, '/') + 1, c->kernel); /* before it: the level, or one that it borrows from */
    assert_int_equal(packed.bytes, rows * dsb_packed_row_bytes(&how, cols));
    be->unpack(&packed);
    be->unpack(&plain);
    kc_free(copy);
    free(owned);
    free(y.raw);
    kc_free(decoded);
    kc_free(x);
    kc_free(want);
    dsb_qtensor_release(&q);
}

/* Each case with each n, and `turns` of the numbers of rows, others for the next. */
static void each_case(void (*fill)(float *w, int64_t rows, int64_t cols), const int64_t *n, int n_n, int turns) {
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n_be = kc_backends(be); b < n_be; b++)
        for (int c = 0; c < COUNT(k_case) && be[b]->pack_blocks; c++)
            for (int i = 0; i < n_n; i++)
                for (int j = 0; j < turns; j++) {
                    int64_t rows = k_rows[(c + i + 3 * j) % COUNT(k_rows)], cols = k_case[c].cols[(i + j) % 4];
                    kc_seed((uint32_t)(1000 * c + 10 * i + j));
                    float *w = kc_memory((size_t)(rows * cols) * 4);
                    fill(w, rows, cols);
                    block_case(be[b], &k_case[c], w, n[i], rows, cols);
                    kc_free(w);
                }
}

static void ordinary(float *w, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows * cols; i++) w[i] = kc_unit() * kc_unit();
}

static void test_kernels_block__products_are_those_of_decoded_weights(void **state) { each_case(ordinary, k_n, COUNT(k_n), 2); }

static void zero(float *w, int64_t rows, int64_t cols) { memset(w, 0, (size_t)(rows * cols) * sizeof *w); }

/* Values that take the largest codes, rows of zeros, and of numbers so small that scales are subnormal or vanish. */
static void extreme(float *w, int64_t rows, int64_t cols) {
    static const float k_size[] = {1, 0, 1e-41f, 3e-38f, 60000, 1e-10f};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) w[r * cols + c] = k_size[r % 6] * (kc_random() >> 31 ? 1 : -1);
}

static void test_kernels_block__zeros_and_largest_codes(void **state) {
    static const int64_t n[] = {1, 6};
    each_case(zero, n, 1, 1);
    each_case(extreme, n, 2, 2);
}

/* Every byte a code can be (NaN and infinities, which no encoder gives, left out) against base/packed.h's own decoding. */
static void test_kernels_block__every_code_decodes_as_its_definition(void **state) {
    enum { COLS = 768, ROWS = 20 };
    const dsb_backend *be[KC_LEVELS];
    int n_be = kc_backends(be);
    for (int type = 0; type < DSB_PACKED_COUNT; type++) {
        dsb_packed how = {.type = (dsb_packed_type)type, .n = dsb_packed_header((dsb_packed_type)type) ? COLS : 256, .global = 0.37f};
        if (type == DSB_PACKED_nvfp4) how.n = 16;
        else if (type == DSB_PACKED_q4_0 || type == DSB_PACKED_q5_0 || type == DSB_PACKED_q8_0 || type == DSB_PACKED_iq4_nl || type == DSB_PACKED_mxfp4 || type == DSB_PACKED_mxfp8) how.n = 32;
        int64_t row = dsb_packed_row_bytes(&how, COLS), bytes = dsb_packed_bytes(&how, how.n);
        uint8_t *blocks = kc_memory((size_t)(ROWS * row));
        float *w = kc_memory(ROWS * COLS * 4), *x = kc_floats(COLS, 1), got[ROWS], want[ROWS];
        kc_seed((uint32_t)type);
        for (int64_t i = 0; i < ROWS * row; i++) {
            uint8_t c = (uint8_t)(kc_random() >> 24);
            if ((type == DSB_PACKED_fp8_e4m3 || type == DSB_PACKED_mxfp8 || type == DSB_PACKED_nvfp4) && (c & 127) == 127) c = 3;
            if (type == DSB_PACKED_fp8_e5m2 && (c & 127) >= 124) c = 0x83;
            if ((type == DSB_PACKED_mxfp4 || type == DSB_PACKED_mxfp8) && i % bytes == 0) c = (uint8_t)(c % 100 + (c & 1) * 27); /* scales from 2^-127 to 2^-1 */
            blocks[i] = c;
        }
        const dsb_packed_field *f;
        int n_field = dsb_packed_fields(how.type, &f);
        for (int64_t b = 0; b < ROWS * row; b += bytes) { /* scales: ordinary numbers, and subnormal halves */
            float s = 0.01f * kc_unit(), zero = 8 * kc_unit();
            uint16_t h = b % 3 ? dsb_f32_to_f16(s) : (uint16_t)(kc_random() >> 25);
            if (dsb_packed_header(how.type)) memcpy(blocks + b, &s, 4);
            if (dsb_packed_header(how.type) > 4) memcpy(blocks + b + 4, &zero, 4);
            for (int i = 0; i < n_field; i++)
                if (f[i].width == 2) memcpy(blocks + b + f[i].at, &h, 2);
        }
        for (int64_t r = 0; r < ROWS; r++)
            for (int64_t k = 0; k < COLS; k += how.n) dsb_packed_decode(&how, blocks + r * row + k / how.n * bytes, how.n, w + r * COLS + k);
        for (int64_t r = 0; r < ROWS; r++) {
            want[r] = 0;
            for (int64_t k = 0; k < COLS; k++) want[r] = fmaf(x[k], w[r * COLS + k], want[r]);
            assert_true(isfinite(want[r]));
        }
        for (int b = 0; b < n_be; b++) {
            dsb_wmat m;
            if (!be[b]->pack_blocks) continue; /* a device without */
            assert_int_equal(be[b]->pack_blocks(&m, &how, blocks, ROWS, COLS, NULL), DSB_OK);
            be[b]->gemm(&m, &(dsb_act){.n = 1, .cols = COLS, .f32 = x}, got);
            if (memcmp(got, want, sizeof got) != 0) fail_msg("%s", m.kernel);
            be[b]->unpack(&m);
        }
        kc_free(blocks);
        kc_free(w);
        kc_free(x);
    }
}

/* Large enough for threads; each row again by itself. */
static void batch_case(const dsb_backend *be, kc_tape *tape) {
    enum { N = 101, ROWS = 49, COLS = 256 };
    for (int c = 0; c < COUNT(k_case); c++) {
        kc_seed(7);
        float *w = kc_floats(ROWS * COLS, 1), *x = kc_floats(N * COLS, 3), one[ROWS];
        if (!be->pack_blocks) be = dsb_backend_cpu("ref"); /* a device without */
        dsb_qtensor q;
        dsb_packed how;
        const uint8_t *blocks;
        uint8_t *owned;
        dsb_wmat m;
        kc_out all = kc_output((size_t)N * ROWS * 4);
        assert_int_equal(dsb_quantize_rtn(&q, dsb_format_find(k_case[c].format), k_case[c].group, k_case[c].affine, w, ROWS, COLS, NULL), DSB_OK);
        assert_int_equal(dsb_qtensor_blocks(&q, &how, &blocks, &owned, NULL), DSB_OK);
        assert_int_equal(be->pack_blocks(&m, &how, blocks, ROWS, COLS, NULL), DSB_OK);
        be->gemm(&m, &(dsb_act){.n = N, .cols = COLS, .f32 = x}, all.p);
        for (int i = 0; i < N; i += 13) {
            be->gemm(&m, &(dsb_act){.n = 1, .cols = COLS, .f32 = x + i * COLS}, one);
            assert_memory_equal(one, (float *)all.p + i * ROWS, sizeof one);
        }
        be->unpack(&m);
        free(owned);
        dsb_qtensor_release(&q);
        kc_take(tape, &all);
        kc_free(w);
        kc_free(x);
    }
}

static void test_kernels_block__a_row_depends_on_itself_alone(void **state) { kc_same_everywhere(batch_case); }

/* Groups of one input would take more than f32 does: no blocks. Floats have none either. */
static void test_kernels_block__what_f32_holds_smaller_stays_f32(void **state) {
    static const float w[] = {1, -2, 3, 4};
    dsb_qtensor q;
    dsb_packed how;
    const uint8_t *blocks;
    uint8_t *owned;
    assert_int_equal(dsb_quantize_rtn(&q, dsb_format_find("int4"), 1, true, w, 2, 2, NULL), DSB_OK);
    assert_int_equal(dsb_qtensor_blocks(&q, &how, &blocks, &owned, NULL), DSB_OK);
    assert_true(!blocks && !owned);
    dsb_qtensor_release(&q);
    assert_int_equal(dsb_quantize_rtn(&q, dsb_format_find("bf16"), DSB_GROUP_CHANNEL, false, w, 2, 2, NULL), DSB_OK);
    assert_int_equal(dsb_qtensor_blocks(&q, &how, &blocks, &owned, NULL), DSB_OK);
    assert_true(!blocks && !owned);
    dsb_qtensor_release(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_block__products_are_those_of_decoded_weights),
        cmocka_unit_test(test_kernels_block__zeros_and_largest_codes),
        cmocka_unit_test(test_kernels_block__every_code_decodes_as_its_definition),
        cmocka_unit_test(test_kernels_block__a_row_depends_on_itself_alone),
        cmocka_unit_test(test_kernels_block__what_f32_holds_smaller_stays_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
