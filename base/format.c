#include "base/format.h"

#include <math.h>

static const struct {
    const char *name;
    size_t size;
} k_dtype[DSB_DTYPE_COUNT] = {
    [DSB_F64] = {"F64", 8},           [DSB_F32] = {"F32", 4},           [DSB_F16] = {"F16", 2},           [DSB_BF16] = {"BF16", 2},
    [DSB_FP8_E4M3] = {"F8_E4M3", 1}, [DSB_FP8_E5M2] = {"F8_E5M2", 1}, [DSB_FP8_E8M0] = {"F8_E8M0", 1}, [DSB_I64] = {"I64", 8},
    [DSB_I32] = {"I32", 4},           [DSB_I16] = {"I16", 2},           [DSB_I8] = {"I8", 1},             [DSB_U64] = {"U64", 8},
    [DSB_U32] = {"U32", 4},           [DSB_U16] = {"U16", 2},           [DSB_U8] = {"U8", 1},             [DSB_BOOL] = {"BOOL", 1},
};

size_t dsb_dtype_size(dsb_dtype type) { return k_dtype[type].size; }
const char *dsb_dtype_name(dsb_dtype type) { return k_dtype[type].name; }

int dsb_dtype_parse(const char *name) {
    for (int i = 0; i < DSB_DTYPE_COUNT; i++)
        if (strcmp(k_dtype[i].name, name) == 0) return i;
    return -1;
}

/* |x| to the nearest code (ties to even) of a format whose exponent may run past its largest: the caller clamps. */
static uint32_t f32_to_small(float ax, int mbits, int bias) {
    if (ax == 0) return 0;
    int e;
    frexpf(ax, &e);
    e -= 1;
    if (e < 1 - bias) e = 1 - bias;
    float scaled = ldexpf(ax, mbits - e); /* exact: a power of two */
    uint32_t m = (uint32_t)nearbyintf(scaled);
    if (m >= 1u << (mbits + 1)) {
        m >>= 1;
        e++;
    }
    if (m < 1u << mbits) return m; /* subnormal */
    return (uint32_t)(e + bias) << mbits | (m & ((1u << mbits) - 1));
}

float dsb_f16_to_f32(uint16_t h) {
    if ((h & 0x7c00u) == 0x7c00u) return dsb_f32_from_bits((uint32_t)(h & 0x8000u) << 16 | 0x7f800000u | (uint32_t)(h & 0x3ffu) << 13);
    uint32_t e = h >> 10 & 31u;
    if (e) return dsb_f32_from_bits((uint32_t)(h & 0x8000u) << 16 | (e + 112u) << 23 | (uint32_t)(h & 0x3ffu) << 13);
    float v = (float)(h & 0x3ffu) * 5.9604644775390625e-8f; /* 2^-24 */
    return h & 0x8000u ? -v : v;
}

uint16_t dsb_f32_to_f16(float x) {
    uint32_t u = dsb_f32_bits(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* >= 65520 rounds to infinity */
    if (a >= 0x38800000u) {                                   /* normal */
        uint32_t r = a + 0xfffu + (a >> 13 & 1u);
        return (uint16_t)(sign | (r - 0x38000000u) >> 13);
    }
    return (uint16_t)(sign | f32_to_small(dsb_f32_from_bits(a), 10, 15));
}

/* The fields shifted to f32's places, then the exponent's bias made up by an exact product: subnormals too. */
float dsb_e4m3_to_f32(uint8_t c) {
    if ((c & 0x7f) == 0x7f) return NAN;
    return dsb_f32_from_bits((uint32_t)(c & 0x80) << 24 | (uint32_t)(c & 0x7f) << 20) * 0x1p120f;
}

float dsb_e5m2_to_f32(uint8_t c) {
    if ((c & 0x7c) == 0x7c) return c & 3 ? NAN : (c & 0x80 ? -INFINITY : INFINITY);
    return dsb_f32_from_bits((uint32_t)(c & 0x80) << 24 | (uint32_t)(c & 0x7f) << 21) * 0x1p112f;
}

float dsb_e8m0_to_f32(uint8_t c) { return c == 255 ? NAN : ldexpf(1, (int)c - 127); }

/* Files promise no alignment. */
static uint16_t load_u16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return h;
}

int dsb_widen_f32(dsb_dtype type, const void *src, size_t n, float *dst) {
    const uint8_t *b = src;
    switch (type) {
    case DSB_F32: memcpy(dst, src, n * 4); return 0;
    case DSB_F64:
        for (size_t i = 0; i < n; i++) {
            double d;
            memcpy(&d, b + i * 8, 8);
            dst[i] = (float)d;
        }
        return 0;
    case DSB_BF16:
        for (size_t i = 0; i < n; i++) dst[i] = dsb_bf16_to_f32(load_u16(b + 2 * i));
        return 0;
    case DSB_F16:
        for (size_t i = 0; i < n; i++) dst[i] = dsb_f16_to_f32(load_u16(b + 2 * i));
        return 0;
    case DSB_FP8_E4M3:
        for (size_t i = 0; i < n; i++) dst[i] = dsb_e4m3_to_f32(b[i]);
        return 0;
    case DSB_FP8_E5M2:
        for (size_t i = 0; i < n; i++) dst[i] = dsb_e5m2_to_f32(b[i]);
        return 0;
    case DSB_FP8_E8M0:
        for (size_t i = 0; i < n; i++) dst[i] = dsb_e8m0_to_f32(b[i]);
        return 0;
    default: return -1;
    }
}
