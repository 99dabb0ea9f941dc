/* exp and log in a fixed order of plain operations: the same bits on every ISA, and compilers can vectorise them.
 * expf: 2 ulp over [-87, 88], 0 below. exp: relative error under 4e-16 over [-708, 700]. log: under 4e-16 for normal x > 0. */
#ifndef DSB_KERNELS_PORTABLE_MATH_H
#define DSB_KERNELS_PORTABLE_MATH_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/format.h"

DSB_INLINE float pm_expf(float x) {
    float c = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = (c * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest integer */
    float r = (c - n * 0.693359375f) - n * -2.12194440e-4f;  /* n·ln2 in two parts: the first product is exact */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float y = p * (r * r) + r + 1.0f;
    uint32_t e = (uint32_t)((int32_t)n + 127) << 23; /* NaN: any scale keeps it */
    float s;
    memcpy(&s, &e, 4);
    y *= s;
    return x < -87.0f ? 0.0f : y;
}

DSB_INLINE double pm_exp(double x) {
    double c = x < -708.0 ? -708.0 : x > 700.0 ? 700.0 : x;
    double n = (c * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0;
    double r = (c - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    double y = (p * r) * r + r + 1.0;
    double biased = n + (6755399441055744.0 + 1023.0); /* the low mantissa bits are n + 1023 */
    uint64_t e;
    memcpy(&e, &biased, 8);
    e <<= 52;
    double s;
    memcpy(&s, &e, 8);
    return x < -708.0 ? 0.0 : y * s;
}

DSB_INLINE double pm_log(double x) {
    uint64_t u, t, eb, magic;
    memcpy(&u, &x, 8);
    t = u - 0x3fe6a09e667f3bcdull + (1023ull << 52); /* so that the mantissa lies in [√½, √2); the exponent e plus 1023 leads */
    eb = t >> 52;
    magic = 0x4330000000000000ull | eb; /* 2^52 + eb: logical operations alone, which every ISA has */
    double ef;
    memcpy(&ef, &magic, 8);
    ef -= 4503599627370496.0 + 1023.0;
    uint64_t mb = u - ((eb - 1023) << 52);
    double m;
    memcpy(&m, &mb, 8);
    double f = m - 1.0, s = f / (2.0 + f), z = s * s;
    double p = 1.0 / 21.0;
    p = p * z + 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    return ef * 6.93147180369123816490e-01 + (2.0 * s + (2.0 * s * z * p + ef * 1.90821492927058770002e-10));
}

/* To the nearest integer, half to even, |v| < 2^22. */
DSB_INLINE float pm_round_code(float v) { return (v + 12582912.0f) - 12582912.0f; }

/* To the nearest E4M3 value, ties to even; |v| stays at 448. Below 2^-6 steps are 2^-9: the last place of 2^14. */
DSB_INLINE float pm_e4m3(float v) {
    float a = fabsf(v);
    uint32_t u = dsb_f32_bits(a), rounded = (u + 0x7ffffu + (u >> 20 & 1u)) & 0xfff00000u;
    float r = a < 0x1p-6f ? (a + 0x1p14f) - 0x1p14f : dsb_f32_from_bits(rounded);
    return copysignf(r > 448.0f ? 448.0f : r, v);
}

/* What a group of experts is ranked by: its best score, or the sum of its two best. */
DSB_INLINE float pm_group_figure(bool best_alone, const float *sel, int64_t size) {
    float a = -INFINITY, b = -INFINITY;
    for (int64_t i = 0; i < size; i++) {
        if (sel[i] > a) {
            b = a;
            a = sel[i];
        } else if (sel[i] > b) {
            b = sel[i];
        }
    }
    return best_alone || size < 2 ? a : a + b;
}

/* How many of a's first k stand among b's. */
DSB_INLINE int32_t pm_overlap(const int32_t *a, const int32_t *b, int k) {
    int32_t n = 0;
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) n += a[i] == b[j];
    return n;
}

#endif
