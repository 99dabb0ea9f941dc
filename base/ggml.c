#include "base/ggml.h"

#include <string.h>

#include "base/blocks.h"
#include "base/format.h"

static float half_at(const uint8_t *p) { return dsb_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static void q8_0(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

/* Low nibbles are values 0 to 15, high nibbles 16 to 31. */
static void q4_0(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)((b[2 + i % 16] >> i / 16 * 4 & 15) - 8);
}

static void q4_1(const uint8_t *b, float *y) {
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(b[4 + i % 16] >> i / 16 * 4 & 15) + m;
}

/* The fifth bit of value i is bit i of 32. */
static int q5_code(const uint8_t *high, const uint8_t *nibbles, int i) { return (nibbles[i % 16] >> i / 16 * 4 & 15) | (high[i / 8] >> i % 8 & 1) << 4; }

static void q5_0(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(q5_code(b + 2, b + 6, i) - 16);
}

static void q5_1(const uint8_t *b, float *y) {
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 32; i++) y[i] = d * (float)q5_code(b + 4, b + 8, i) + m;
}

/* 16 groups of 16: scale and minimum in a nibble each; 2-bit codes, four planes in a byte, 128 values in 32 bytes. */
static void q2_K(const uint8_t *b, float *y) {
    const uint8_t *scales = b, *qs = b + 16;
    float d = half_at(b + 80), min = half_at(b + 82);
    for (int i = 0; i < 256; i++) {
        float dl = d * (float)(scales[i / 16] & 15), ml = min * (float)(scales[i / 16] >> 4);
        y[i] = dl * (float)(qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - ml;
    }
}

/* 16 groups of 16: 6-bit scales, low nibbles in 8 bytes, high bits in 4; a code's high bit, where clear, subtracts 4. */
static void q3_K(const uint8_t *b, float *y) {
    const uint8_t *high = b, *qs = b + 32, *s = b + 96;
    float d = half_at(b + 108);
    for (int i = 0; i < 256; i++) {
        int g = i / 16, scale = (s[g % 8] >> g / 8 * 4 & 15) | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4;
        int code = (qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - (high[i % 32] >> i / 32 & 1 ? 0 : 4);
        y[i] = d * (float)(scale - 32) * (float)code;
    }
}

/* 8 groups of 32: 6-bit scales and minima in 12 bytes, shared by q4_K and q5_K. */
static void scale_min(const uint8_t *s, int g, float *scale, float *min) {
    int a = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    int m = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
    *scale = (float)a;
    *min = (float)m;
}

static void q45_K(const uint8_t *b, const uint8_t *high, const uint8_t *qs, float *y) {
    float d = half_at(b), dmin = half_at(b + 2), scale, min;
    for (int g = 0; g < 8; g++) {
        scale_min(b + 4, g, &scale, &min);
        float dl = d * scale, ml = dmin * min;
        for (int i = 0; i < 32; i++) {
            int code = (qs[g / 2 * 32 + i] >> g % 2 * 4 & 15) | (high ? (high[i] >> g & 1) << 4 : 0);
            y[g * 32 + i] = dl * (float)code - ml;
        }
    }
}

static void q4_K(const uint8_t *b, float *y) { q45_K(b, NULL, b + 16, y); }
static void q5_K(const uint8_t *b, float *y) { q45_K(b, b + 16, b + 48, y); }

/* 16 groups of 16 with int8 scales; in each half of 128: low nibbles of 64 bytes, two high bits in 32 bytes. */
static void q6_K(const uint8_t *b, float *y) {
    float d = half_at(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, in = i % 128, plane = in / 32;
        int low = b[64 * half + in % 64] >> in / 64 * 4 & 15, high = b[128 + 32 * half + in % 32] >> plane * 2 & 3;
        float dl = d * (float)(int8_t)b[192 + i / 16];
        y[i] = dl * (float)((low | high << 4) - 32);
    }
}

static void iq4_nl(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)dsb_iq4_level[b[2 + i % 16] >> i / 16 * 4 & 15];
}

/* 8 groups of 32: 6-bit scales, high bits in 2 bytes, low nibbles in 4. */
static void iq4_xs(const uint8_t *b, float *y) {
    float d = half_at(b);
    int high = b[2] | b[3] << 8;
    for (int i = 0; i < 256; i++) {
        int g = i / 32, in = i % 32, scale = (b[4 + g / 2] >> g % 2 * 4 & 15) | (high >> 2 * g & 3) << 4;
        y[i] = d * (float)(scale - 32) * (float)dsb_iq4_level[b[8 + g * 16 + in % 16] >> in / 16 * 4 & 15];
    }
}

/* ggml keeps doubled E2M1 values and half the scale: 2^(e - 128), which for 255 is 2^127 and no NaN. */
static void mxfp4(const uint8_t *b, float *y) {
    float d = b[0] == 255 ? 0x1p127f : dsb_e8m0_to_f32(b[0]) * 0.5f;
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int)(dsb_e2m1_value[b[1 + i % 16] >> i / 16 * 4 & 15] * 2); /* no negative zero */
}

static const dsb_ggml_type k_type[] = {
    {2, "q4_0", 32, 18, q4_0},    {3, "q4_1", 32, 20, q4_1},     {6, "q5_0", 32, 22, q5_0},      {7, "q5_1", 32, 24, q5_1},       {8, "q8_0", 32, 34, q8_0},
    {10, "q2_K", 256, 84, q2_K},  {11, "q3_K", 256, 110, q3_K},  {12, "q4_K", 256, 144, q4_K},   {13, "q5_K", 256, 176, q5_K},    {14, "q6_K", 256, 210, q6_K},
    {20, "iq4_nl", 32, 18, iq4_nl}, {23, "iq4_xs", 256, 136, iq4_xs}, {39, "mxfp4", 32, 17, mxfp4},
};

const dsb_ggml_type *dsb_ggml_find(uint32_t id) {
    for (size_t i = 0; i < sizeof k_type / sizeof *k_type; i++)
        if (k_type[i].id == id) return &k_type[i];
    return NULL;
}

const char *dsb_ggml_name(uint32_t id) {
    static const char *const k_name[] = {"f32", "f16", "q4_0", "q4_1", "q4_2", "q4_3", "q5_0", "q5_1", "q8_0", "q8_1", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_K", "iq2_xxs", "iq2_xs", "iq3_xxs", "iq1_s",
                                         "iq4_nl", "iq3_s", "iq2_s", "iq4_xs", "i8", "i16", "i32", "i64", "f64", "iq1_m", "bf16", "q4_0_4_4", "q4_0_4_8", "q4_0_8_8", "tq1_0", "tq2_0", "iq4_nl_4_4",
                                         "iq4_nl_4_8", "iq4_nl_8_8", "mxfp4"};
    return id < sizeof k_name / sizeof *k_name ? k_name[id] : "unknown";
}
