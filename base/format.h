/* Number formats: storage types and their exact conversions to f32, rounding to nearest even from f32.
 * e4m3 saturates at 448, e5m2 overflows to infinity (as torch's casts do). All inline: the tight loops use them. */
#ifndef DSB_BASE_FORMAT_H
#define DSB_BASE_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Inline here and in kernels/portable/math.h is also a GPU's, so that one text gives one arithmetic. */
#ifdef __CUDACC__
#define DSB_INLINE static __host__ __device__ inline
#else
#define DSB_INLINE static inline
#endif

typedef enum dsb_dtype {
    DSB_F64, DSB_F32, DSB_F16, DSB_BF16, DSB_FP8_E4M3, DSB_FP8_E5M2, DSB_FP8_E8M0,
    DSB_I64, DSB_I32, DSB_I16, DSB_I8, DSB_U64, DSB_U32, DSB_U16, DSB_U8, DSB_BOOL, DSB_DTYPE_COUNT
} dsb_dtype;

static inline int dsb_dtype_is_float(dsb_dtype type) { return type <= DSB_FP8_E8M0; }
/* Bytes of one element. */
size_t dsb_dtype_size(dsb_dtype type);
/* The safetensors name ("BF16"), and back; -1 if unknown. */
const char *dsb_dtype_name(dsb_dtype type);
int dsb_dtype_parse(const char *name);
/* Widens n stored elements of a float type (F64 is narrowed) to f32. Returns 0, or -1 for an integer type. */
int dsb_widen_f32(dsb_dtype type, const void *src, size_t n, float *dst);

DSB_INLINE uint32_t dsb_f32_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
DSB_INLINE float dsb_f32_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}
DSB_INLINE float dsb_bf16_to_f32(uint16_t h) { return dsb_f32_from_bits((uint32_t)h << 16); }
DSB_INLINE uint16_t dsb_f32_to_bf16(float x) {
    uint32_t u = dsb_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
float dsb_f16_to_f32(uint16_t h);
uint16_t dsb_f32_to_f16(float x);
float dsb_e4m3_to_f32(uint8_t c);
float dsb_e5m2_to_f32(uint8_t c);
float dsb_e8m0_to_f32(uint8_t c); /* 2^(c - 127); 255 is NaN */

/* Normal results round on the bits; subnormal ones by a sum whose last place is theirs. No branch, so that loops vectorise. */
DSB_INLINE uint8_t dsb_f32_to_e4m3(float x) {
    uint32_t u = dsb_f32_bits(x), a = u & 0x7fffffffu;
    uint32_t low = dsb_f32_bits(dsb_f32_from_bits(a < 0x3c800000u ? a : 0) + 0x1p14f) - 0x46800000u;
    uint32_t code = a < 0x3c800000u ? low : ((a + 0x7ffffu + (a >> 20 & 1u)) >> 20) - 960u;
    code = a >= 0x43e00000u ? 0x7eu : code; /* 448 */
    return (uint8_t)((u >> 24 & 0x80u) | (a > 0x7f800000u ? 0x7fu : code));
}
DSB_INLINE uint8_t dsb_f32_to_e5m2(float x) {
    uint32_t u = dsb_f32_bits(x), a = u & 0x7fffffffu;
    uint32_t low = dsb_f32_bits(dsb_f32_from_bits(a < 0x38800000u ? a : 0) + 0x1p7f) - 0x43000000u;
    uint32_t code = a < 0x38800000u ? low : ((a + 0xfffffu + (a >> 21 & 1u)) >> 21) - 448u;
    code = a >= 0x47700000u ? 0x7cu : code; /* 61440 */
    return (uint8_t)((u >> 24 & 0x80u) | (a > 0x7f800000u ? 0x7fu : code));
}

#endif
