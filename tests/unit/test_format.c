/* Number formats against closed forms: every code of the 8- and 16-bit floats there and back, every rounding boundary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/format.h"

/* A float format by its definition: (-1)^s · 2^(e−bias) · (1 + m/2^M), subnormal below; e4m3 has no infinity, NaN only as 0x7f. */
typedef struct layout {
    int ebits, mbits, bias;
    int has_inf;
} layout;
static const layout k_f16 = {5, 10, 15, 1}, k_bf16 = {8, 7, 127, 1}, k_e4m3 = {4, 3, 7, 0}, k_e5m2 = {5, 2, 15, 1};

static uint32_t sign_bit(const layout *l) { return 1u << (l->ebits + l->mbits); }
/* The codes from here on (without the sign) are infinity and NaNs. */
static uint32_t first_special(const layout *l) { return l->has_inf ? ((1u << l->ebits) - 1) << l->mbits : sign_bit(l) - 1; }

static double value_of(const layout *l, uint32_t code) {
    uint32_t e = code >> l->mbits & ((1u << l->ebits) - 1), m = code & ((1u << l->mbits) - 1);
    double v = e ? ldexp(1 + ldexp((double)m, -l->mbits), (int)e - l->bias) : ldexp((double)m, 1 - l->bias - l->mbits);
    return code & sign_bit(l) ? -v : v;
}

typedef float (*decoder)(uint32_t);
typedef uint32_t (*encoder)(float);
static float f16_decode(uint32_t c) { return dsb_f16_to_f32((uint16_t)c); }
static float bf16_decode(uint32_t c) { return dsb_bf16_to_f32((uint16_t)c); }
static float e4m3_decode(uint32_t c) { return dsb_e4m3_to_f32((uint8_t)c); }
static float e5m2_decode(uint32_t c) { return dsb_e5m2_to_f32((uint8_t)c); }
static uint32_t f16_encode(float x) { return dsb_f32_to_f16(x); }
static uint32_t bf16_encode(float x) { return dsb_f32_to_bf16(x); }
static uint32_t e4m3_encode(float x) { return dsb_f32_to_e4m3(x); }
static uint32_t e5m2_encode(float x) { return dsb_f32_to_e5m2(x); }

static void every_code(const layout *l, decoder decode, encoder encode) {
    for (uint32_t sign = 0; sign <= sign_bit(l); sign += sign_bit(l))
        for (uint32_t c = 0; c < first_special(l); c++) {
            double want = value_of(l, sign | c);
            float x = decode(sign | c);
            if ((double)x != want || !signbit(x) != !sign) fail_msg("code 0x%x is %g, wanted %g", sign | c, (double)x, want);
            if (encode(x) != (sign | c)) fail_msg("%g becomes 0x%x, wanted 0x%x", (double)x, encode(x), sign | c);
        }
}

/* Halfway between neighbours goes to the even code, one ulp of f32 beside it to the nearer one; both signs. */
static void every_boundary(const layout *l, encoder encode) {
    for (uint32_t c = 0; c + 1 < first_special(l); c++) {
        float mid = (float)((value_of(l, c) + value_of(l, c + 1)) / 2); /* exact: f32 has spare bits for all of them */
        uint32_t even = c % 2 ? c + 1 : c;
        assert_int_equal(encode(mid), even);
        assert_int_equal(encode(-mid), sign_bit(l) | even);
        assert_int_equal(encode(nextafterf(mid, 0)), c);
        assert_int_equal(encode(nextafterf(mid, INFINITY)), c + 1);
    }
}

static void test_format__f16_closed_form(void **state) {
    every_code(&k_f16, f16_decode, f16_encode);
    every_boundary(&k_f16, f16_encode);
}
static void test_format__bf16_closed_form(void **state) {
    every_code(&k_bf16, bf16_decode, bf16_encode);
    every_boundary(&k_bf16, bf16_encode);
}
static void test_format__e4m3_closed_form(void **state) {
    every_code(&k_e4m3, e4m3_decode, e4m3_encode);
    every_boundary(&k_e4m3, e4m3_encode);
}
static void test_format__e5m2_closed_form(void **state) {
    every_code(&k_e5m2, e5m2_decode, e5m2_encode);
    every_boundary(&k_e5m2, e5m2_encode);
}

static void test_format__ends_of_the_range(void **state) {
    /* f16: 65504 is the largest; halfway to 65536 goes to the even neighbour, which is infinity. */
    assert_int_equal(dsb_f32_to_f16(nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(dsb_f32_to_f16(65520), 0x7c00);
    assert_int_equal(dsb_f32_to_f16(-3e38f), 0xfc00);
    assert_int_equal(dsb_f32_to_f16(0x1p-25f), 0); /* half of the smallest subnormal */
    assert_int_equal(dsb_f32_to_f16(nextafterf(0x1p-25f, 1)), 1);
    assert_int_equal(dsb_f32_to_f16(-1e-45f), 0x8000);
    /* bf16: f32's largest rounds up to infinity. */
    assert_int_equal(dsb_f32_to_bf16(3.4028235e38f), 0x7f80);
    assert_int_equal(dsb_f32_to_bf16(dsb_f32_from_bits(0x7f7f7fff)), 0x7f7f);
    /* e4m3 saturates at 448, e5m2 goes to infinity from 61440 on. */
    assert_int_equal(dsb_f32_to_e4m3(449), 0x7e);
    assert_int_equal(dsb_f32_to_e4m3(-INFINITY), 0xfe);
    assert_int_equal(dsb_f32_to_e5m2(nextafterf(61440, 0)), 0x7b);
    assert_int_equal(dsb_f32_to_e5m2(61440), 0x7c);
}

static void test_format__infinity_and_nan(void **state) {
    assert_true(isinf(dsb_f16_to_f32(0x7c00)) && dsb_f16_to_f32(0xfc00) == -INFINITY);
    assert_int_equal(dsb_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(dsb_f32_to_bf16(-INFINITY), 0xff80);
    assert_true(dsb_e5m2_to_f32(0x7c) == INFINITY && dsb_e5m2_to_f32(0xfc) == -INFINITY);
    for (uint32_t m = 1; m < 1024; m++) assert_true(isnan(dsb_f16_to_f32((uint16_t)(0x7c00 | m))));
    for (uint32_t m = 1; m < 4; m++) assert_true(isnan(dsb_e5m2_to_f32((uint8_t)(0x7c | m))));
    assert_true(isnan(dsb_e4m3_to_f32(0x7f)) && isnan(dsb_e4m3_to_f32(0xff)));
    /* A NaN stays a NaN whatever its payload: the lowest bit alone would be lost by truncation. */
    const uint32_t nans[] = {0x7f800001, 0xff800001, 0x7fc00000, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        float x = dsb_f32_from_bits(nans[i]);
        assert_true(isnan(dsb_bf16_to_f32(dsb_f32_to_bf16(x))));
        assert_true(isnan(dsb_f16_to_f32(dsb_f32_to_f16(x))));
        assert_true(isnan(dsb_e4m3_to_f32(dsb_f32_to_e4m3(x))));
        assert_true(isnan(dsb_e5m2_to_f32(dsb_f32_to_e5m2(x))));
    }
}

static void test_format__dtype_names_and_sizes(void **state) {
    for (int i = 0; i < DSB_DTYPE_COUNT; i++) assert_int_equal(dsb_dtype_parse(dsb_dtype_name((dsb_dtype)i)), i);
    assert_int_equal(dsb_dtype_parse("BF16"), DSB_BF16);
    assert_int_equal(dsb_dtype_parse("bf16"), -1);
    assert_int_equal(dsb_dtype_parse(""), -1);
    assert_int_equal(dsb_dtype_size(DSB_F64), 8);
    assert_int_equal(dsb_dtype_size(DSB_BF16), 2);
    assert_int_equal(dsb_dtype_size(DSB_FP8_E4M3), 1);
}

static void test_format__widens_unaligned(void **state) {
    uint8_t b[1 + 16];
    float x[2];
    double d[2] = {1.5, 1e300};
    uint16_t h[2] = {0x3c00, 0xc000};
    memcpy(b + 1, d, sizeof d);
    assert_int_equal(dsb_widen_f32(DSB_F64, b + 1, 2, x), 0);
    assert_true(x[0] == 1.5f && isinf(x[1]));
    memcpy(b + 1, h, sizeof h);
    assert_int_equal(dsb_widen_f32(DSB_F16, b + 1, 2, x), 0);
    assert_true(x[0] == 1 && x[1] == -2);
    assert_int_equal(dsb_widen_f32(DSB_BF16, b + 1, 2, x), 0);
    assert_true(x[0] == dsb_bf16_to_f32(0x3c00) && x[1] == -2);
    b[1] = 0x38, b[2] = 0xbc;
    assert_int_equal(dsb_widen_f32(DSB_FP8_E4M3, b + 1, 2, x), 0);
    assert_true(x[0] == 1 && x[1] == -1.5f);
    assert_int_equal(dsb_widen_f32(DSB_FP8_E5M2, b + 1, 2, x), 0);
    assert_true(x[0] == 0.5f && x[1] == -1);
    for (int t = 0; t < DSB_DTYPE_COUNT; t++) assert_int_equal(dsb_widen_f32((dsb_dtype)t, b, 1, x), dsb_dtype_is_float((dsb_dtype)t) ? 0 : -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format__f16_closed_form),       cmocka_unit_test(test_format__bf16_closed_form),
        cmocka_unit_test(test_format__e4m3_closed_form),      cmocka_unit_test(test_format__e5m2_closed_form),
        cmocka_unit_test(test_format__ends_of_the_range),     cmocka_unit_test(test_format__infinity_and_nan),
        cmocka_unit_test(test_format__dtype_names_and_sizes), cmocka_unit_test(test_format__widens_unaligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
