/* llama.cpp's logits files: hand-made files, closed forms, and every way a file can be bad. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metrics/llama_logits.h"

/* 2 chunks of 8 tokens, 3 scored positions each (4, 5, 6), a vocabulary of 3: codes are padded to 4. */
enum { CTX = 8, VOCAB = 3, CHUNK = 2, ROWS = 6, ROW_BYTES = 8 + 8, HEADER = 20, TOKENS = 4 * CTX * CHUNK, SIZE = HEADER + TOKENS + ROWS * ROW_BYTES };

static void put_u32(uint8_t *p, uint32_t x) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(x >> (8 * i));
}
static void put_f32(uint8_t *p, float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    put_u32(p, bits);
}

/* Row r: ln p = scale·q − 4 with codes {r, 10, 20 + r}: exact in f32. */
static void file_make(uint8_t *b, float scale) {
    memset(b, 0, SIZE);
    memcpy(b, "_logits_", 8);
    put_u32(b + 8, CTX);
    put_u32(b + 12, VOCAB);
    put_u32(b + 16, CHUNK);
    for (uint32_t i = 0; i < CTX * CHUNK; i++) put_u32(b + HEADER + 4 * i, i % VOCAB);
    for (int r = 0; r < ROWS; r++) {
        uint8_t *row = b + HEADER + TOKENS + r * ROW_BYTES;
        put_f32(row, scale);
        put_f32(row + 4, -4);
        row[8] = (uint8_t)r;
        row[10] = 10;
        row[12] = (uint8_t)(20 + r);
    }
}

static void file_write(char path[32], const uint8_t *bytes, size_t n) {
    snprintf(path, 32, "/tmp/dsb_llama_XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static void near(double got, double want, double rel) {
    if (!(fabs(got - want) <= rel * fabs(want))) fail_msg("got %.17g, wanted %.17g", got, want);
}

static void test_llama_file__layout(void **state) {
    uint8_t b[SIZE];
    char path[32];
    dsb_llama_file f;
    file_make(b, 0.125f);
    file_write(path, b, SIZE);
    assert_true(dsb_llama_is_logits(path));
    assert_int_equal(dsb_llama_open(&f, path, NULL), 0);
    assert_true(f.n_ctx == CTX && f.n_vocab == VOCAB && f.n_chunk == CHUNK && f.first == 4 && f.per_chunk == 3);
    assert_int_equal(dsb_llama_token(&f, 1, 3), (CTX + 3) % VOCAB);
    dsb_llama_row row = dsb_llama_row_at(&f, 1, 2);
    assert_true(row.scale == 0.125f && row.lp_min == -4 && row.q[0] == 5 && row.q[4] == 25);
    dsb_llama_close(&f);
    unlink(path);
}

static void expect_refused(const uint8_t *bytes, size_t n, const char *part) {
    char path[32];
    dsb_llama_file f;
    dsb_err err;
    file_write(path, bytes, n);
    assert_int_equal(dsb_llama_open(&f, path, &err), DSB_EINPUT);
    unlink(path);
    if (!strstr(err.text, part) || !strstr(err.text, path)) fail_msg("message is '%s', wanted the path and '%s'", err.text, part);
}

static void test_llama_file__bad_ones_are_refused(void **state) {
    uint8_t b[SIZE + 1];
    file_make(b, 0.125f);
    b[SIZE] = 0;
    expect_refused(b, SIZE - 1, "truncated");
    expect_refused(b, SIZE + 1, "truncated, or written with other settings");
    expect_refused(b, 12, "not a llama.cpp logits file");
    expect_refused(b, 0, "not a llama.cpp logits file");
    put_u32(b + HEADER + 4, VOCAB);
    expect_refused(b, SIZE, "token 1 is 3; wanted 0 to 2");
    for (int at = 8; at <= 16; at += 4) {
        file_make(b, 0.125f);
        put_u32(b + at, 0x7fffffff);
        expect_refused(b, SIZE, "need");
        put_u32(b + at, 0xffffffff);
        expect_refused(b, SIZE, "header says");
    }
    b[0] = 'x';
    expect_refused(b, SIZE, "not a llama.cpp logits file");
    assert_false(dsb_llama_is_logits("/nonexistent"));
}

static void expect_not_comparable(int at, uint32_t x, size_t size, const char *part) {
    uint8_t a[SIZE], b[2 * SIZE] = { 0 };
    char base[32], test[32];
    dsb_figures f;
    dsb_err err;
    int64_t n;
    file_make(a, 0.125f);
    file_make(b, 0.125f);
    put_u32(b + at, x);
    file_write(base, a, SIZE);
    file_write(test, b, size);
    assert_int_equal(dsb_llama_compare(base, test, &f, &n, &err), DSB_ECOMPARE);
    unlink(base);
    unlink(test);
    if (!strstr(err.text, part)) fail_msg("message is '%s', wanted '%s'", err.text, part);
}

static void test_llama_compare__other_text_vocabulary_context(void **state) {
    expect_not_comparable(HEADER, 2, SIZE, "token 0 is 2, in ");
    expect_not_comparable(12, 4, SIZE, "vocabulary of 4 tokens"); /* 4 codes take the same bytes as 3 with the pad */
    expect_not_comparable(16, 1, HEADER + TOKENS / 2 + ROWS / 2 * ROW_BYTES, "1 chunks of 8 tokens");
}

static void test_llama_encode__round_trip_within_half_a_code(void **state) {
    float z[5] = { 1.5f, -3, 0.25f, 40, 28 }, scale, lp_min;
    uint16_t q[5];
    dsb_llama_encode(z, 5, &scale, &lp_min, q);
    near(scale, 16.0 / 65535, 1e-7); /* the range is cut at max − 16 */
    double lse = 40 + log1p(exp(-12) + exp(-38.5) + exp(-39.75) + exp(-43));
    near(lp_min, 24 - lse, 1e-6);
    assert_true(q[0] == 0 && q[1] == 0 && q[2] == 0 && q[3] == 65535);
    near(scale * q[4] + lp_min, 28 - lse, 1e-5);
    float flat[2] = { 2, 2 };
    dsb_llama_encode(flat, 2, &scale, &lp_min, q);
    assert_true(scale == 0 && q[0] == 0 && q[1] == 0);
    near(lp_min, -log(2), 1e-6);
}

/* 200 positions over two tokens: the base says (3/4, 1/4) exactly up to f32, the test (1/2, 1/2) on even positions and
 * the base's own on odd ones. Every mean and ± follows by hand from two values taken half of the time each. */
static void test_llama_figures__two_token_closed_form(void **state) {
    enum { N = 200 };
    dsb_llama_acc acc;
    dsb_figures f;
    float even[2] = { 0, 0 }, odd[2] = { logf(3), 0 }, scale, lp_min;
    uint16_t q[2];
    dsb_llama_encode(odd, 2, &scale, &lp_min, q);
    dsb_llama_row base = { scale, lp_min, (const uint8_t *)q };
    assert_int_equal(dsb_llama_acc_init(&acc, N, NULL), 0);
    for (int i = 0; i < N; i++) {
        dsb_llama_acc_row(&acc, &base, i % 2 ? odd : even, true, 2, 0);
        if (i == 98) {
            dsb_llama_figures(&acc, &f);
            assert_int_equal(f.n, 0); /* nothing below 100 */
        }
    }
    dsb_llama_figures(&acc, &f);
    double kl = log(2) + 0.75 * log(0.75) + 0.25 * log(0.25), gap = log(1.5), root = sqrt(N - 1);
    const dsb_figure *ppl = dsb_figures_find(&f, "llama_ppl"), *ratio = dsb_figures_find(&f, "llama_ln_ratio"), *kld = dsb_figures_find(&f, "llama_kld_mean");
    near(ppl->value, exp(0.5 * (log(2) - log(0.75))), 1e-6);
    near(ppl->hi - ppl->value, ppl->value * gap / 2 / root, 1e-5);
    near(dsb_figures_find(&f, "llama_ppl_base")->value, 4.0 / 3, 1e-6);
    near(ratio->value, gap / 2, 1e-6);
    near(ratio->hi - ratio->value, gap / 2 / root, 1e-4);
    near(kld->value, kl / 2, 1e-5);
    near(kld->value - kld->lo, kl / 2 / root, 1e-5);
    near(dsb_figures_find(&f, "llama_kld_max")->value, kl, 1e-5);
    near(dsb_figures_find(&f, "llama_kld_median")->value, kl / 2, 1e-5);
    near(dsb_figures_find(&f, "llama_delta_p_mean")->value, -0.125, 1e-6);
    near(dsb_figures_find(&f, "llama_delta_p_min")->value, -0.25, 1e-6);
    /* RMS = √(1/32); its ± is 0.5·u/R with u = (1/32)/√(n−1): Δp² is 1/16 half of the time */
    const dsb_figure *rms = dsb_figures_find(&f, "llama_delta_p_rms"), *same = dsb_figures_find(&f, "llama_same_top");
    near(rms->value, sqrt(1.0 / 32), 1e-6);
    near(rms->hi - rms->value, 0.5 * (1.0 / 32 / root) / sqrt(1.0 / 32), 1e-5);
    assert_true(same->value == 1 && same->lo == 1); /* a tie goes to the lower index, as the base's argmax */
    assert_int_equal(kld->n, N);
    dsb_llama_acc_release(&acc);
}

static void test_llama_figures__entries_below_minus_16_are_left_out(void **state) {
    dsb_llama_acc acc;
    float test[2] = { 0, -1 };
    uint16_t q[2] = { 1, 0 };
    /* ln p of the base: 0 and −16.5; the second would add e^−16.5·(−16.5 + 1 + lse), which must not be there. */
    dsb_llama_row base = { 16.5f, -16.5f, (const uint8_t *)q };
    dsb_llama_acc_init(&acc, 1, NULL);
    dsb_llama_acc_row(&acc, &base, test, true, 2, 0);
    near(acc.kld_sum, log1p(exp(-1)), 1e-7);
    dsb_llama_acc_release(&acc);
}

/* Percentile position in f32: φ = 0.1f, n = 101 is 10.000000149 in f64 and 10 in f32. */
static void test_llama_figures__percentile_position_is_f32(void **state) {
    enum { N = 101 };
    dsb_llama_acc acc;
    dsb_figures f;
    dsb_llama_acc_init(&acc, N, NULL);
    for (int i = 0; i < N; i++) acc.kld[i] = (float)(N - 1 - i);
    acc.n = N;
    dsb_llama_figures(&acc, &f);
    assert_true(dsb_figures_find(&f, "llama_kld_p10")->value == 10);
    assert_true(dsb_figures_find(&f, "llama_kld_median")->value == 50);
    assert_true(dsb_figures_find(&f, "llama_kld_min")->value == 0);
    dsb_llama_acc_release(&acc);
}

static void test_llama_compare__same_file_is_zero(void **state) {
    uint8_t b[SIZE];
    char path[32];
    dsb_figures f;
    int64_t n;
    file_make(b, 0.125f);
    file_write(path, b, SIZE);
    assert_int_equal(dsb_llama_compare(path, path, &f, &n, NULL), 0);
    assert_true(n == ROWS && f.n == 0); /* six positions: counted, nothing printed */
    unlink(path);
}

/* The test's ln p are taken as stored: no renormalisation, and the target's is −(scale·q + lp_min). */
static void test_llama_acc__stored_log_probabilities_are_taken_as_they_are(void **state) {
    dsb_llama_acc acc;
    float lp[2] = { -1, -3 };
    uint16_t q[2] = { 2, 0 };
    dsb_llama_row base = { 1, -3, (const uint8_t *)q };
    dsb_llama_acc_init(&acc, 1, NULL);
    dsb_llama_acc_row(&acc, &base, lp, false, 2, 1);
    assert_true(acc.nll == 3 && acc.nll_base == 3 && acc.kld_sum == 0 && acc.p_diff_sum == 0 && acc.same_top == 1);
    dsb_llama_acc_release(&acc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_file__layout),
        cmocka_unit_test(test_llama_file__bad_ones_are_refused),
        cmocka_unit_test(test_llama_compare__other_text_vocabulary_context),
        cmocka_unit_test(test_llama_encode__round_trip_within_half_a_code),
        cmocka_unit_test(test_llama_figures__two_token_closed_form),
        cmocka_unit_test(test_llama_figures__entries_below_minus_16_are_left_out),
        cmocka_unit_test(test_llama_figures__percentile_position_is_f32),
        cmocka_unit_test(test_llama_compare__same_file_is_zero),
        cmocka_unit_test(test_llama_acc__stored_log_probabilities_are_taken_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
