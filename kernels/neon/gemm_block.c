/* Packed weights decoded in registers, 16 outputs in four vectors; levels of 4-bit codes are one table of 64 bytes. */
#include <arm_neon.h>
#include <string.h>

#include "kernels/neon/gemm.h"

typedef struct vf {
    float32x4_t a, b, c, d;
} vf;
typedef struct vi {
    int32x4_t a, b, c, d;
} vi;
#define VF static inline __attribute__((always_inline)) vf
#define VI static inline __attribute__((always_inline)) vi
/* f of each of the four vectors of v, of v and w, of all three; then what else f takes. */
#define ONE(type, f, ...) (type){f((v).a, ##__VA_ARGS__), f((v).b, ##__VA_ARGS__), f((v).c, ##__VA_ARGS__), f((v).d, ##__VA_ARGS__)}
#define TWO(type, f) (type){f((v).a, (w).a), f((v).b, (w).b), f((v).c, (w).c), f((v).d, (w).d)}
#define THREE(type, f) (type){f((u).a, (v).a, (w).a), f((u).b, (v).b, (w).b), f((u).c, (v).c, (w).c), f((u).d, (v).d, (w).d)}

VF vf_set(float x) { return (vf){vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}; }
VF vf_load(const float *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
static inline __attribute__((always_inline)) float32x4_t half4(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
VF vf_half(const uint8_t *p) { return (vf){half4(p), half4(p + 8), half4(p + 16), half4(p + 24)}; }
VF vf_mul(vf v, vf w) { return TWO(vf, vmulq_f32); }
VF vf_sub(vf v, vf w) { return TWO(vf, vsubq_f32); }
VF vf_fma(vf v, vf w, vf u) { return THREE(vf, vfmaq_f32); }
VF vf_neg(vf v) { return ONE(vf, vnegq_f32); }
VF vf_fms(vf a, vf b, vf c) { return vf_fma(a, b, vf_neg(c)); }
VF vf_int(vi v) { return ONE(vf, vcvtq_f32_s32); }
VF vf_bits(vi v) { return ONE(vf, vreinterpretq_f32_s32); }
static inline __attribute__((always_inline)) void vf_store(float *p, vf v) {
    vst1q_f32(p, v.a);
    vst1q_f32(p + 4, v.b);
    vst1q_f32(p + 8, v.c);
    vst1q_f32(p + 12, v.d);
}
VF vf_load_some(const float *p, int n) {
    float t[DSB_NR] = {0};
    if (n == DSB_NR) return vf_load(p);
    memcpy(t, p, (size_t)n * sizeof *t);
    return vf_load(t);
}
static inline __attribute__((always_inline)) void vf_store_some(float *p, vf v, int n) {
    float t[DSB_NR];
    vf_store(n == DSB_NR ? p : t, v);
    if (n < DSB_NR) memcpy(p, t, (size_t)n * sizeof *t);
}
static inline __attribute__((always_inline)) int32x4_t word4(const uint8_t *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
VI vi_word(const uint8_t *p) { return (vi){word4(p), word4(p + 16), word4(p + 32), word4(p + 48)}; }
VI vi_u8(const uint8_t *p) {
    uint8x16_t v = vld1q_u8(p);
    uint16x8_t low = vmovl_u8(vget_low_u8(v)), high = vmovl_u8(vget_high_u8(v));
    return (vi){vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))), vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))};
}
static inline __attribute__((always_inline)) int32x4_t shift4(int32x4_t v, int32x4_t n) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), n)); }
VI vi_sar(vi v, int n) { return ONE(vi, vshlq_s32, vdupq_n_s32(-n)); }
VI vi_shr(vi v, int n) { return ONE(vi, shift4, vdupq_n_s32(-n)); }
VI vi_shl(vi v, int n) { return ONE(vi, shift4, vdupq_n_s32(n)); }
VI vi_and(vi v, int mask) { return ONE(vi, vandq_s32, vdupq_n_s32(mask)); }
VI vi_or(vi v, vi w) { return TWO(vi, vorrq_s32); }
VI vi_ror(vi v, int n) { return vi_or(vi_shr(v, n & 31), vi_shl(v, 32 - (n & 31))); }
VI vi_merge(int mask, vi a, vi b) { return vi_or(vi_and(a, mask), vi_and(b, ~mask)); }
VI vi_sub(vi v, int n) { return ONE(vi, vsubq_s32, vdupq_n_s32(n)); }
VI vi_max(vi v, int n) { return ONE(vi, vmaxq_s32, vdupq_n_s32(n)); }
VF vf_nibble(vi v) { return vf_int(vi_and(v, 15)); }

/* The four bytes of each level by their places: code · 4 + 0 .. 3. */
static inline __attribute__((always_inline)) float32x4_t look4(int32x4_t v, uint8x16x4_t table) {
    int32x4_t at = vmlaq_n_s32(vdupq_n_s32(0x03020100), vandq_s32(v, vdupq_n_s32(15)), 0x04040404);
    return vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_s32(at)));
}
VF vf_look(const float *levels, vi v) {
    uint8x16x4_t table = {{vreinterpretq_u8_f32(vld1q_f32(levels)), vreinterpretq_u8_f32(vld1q_f32(levels + 4)), vreinterpretq_u8_f32(vld1q_f32(levels + 8)), vreinterpretq_u8_f32(vld1q_f32(levels + 12))}};
    return ONE(vf, look4, table);
}

#define PK_GEMM dsb_gemm_block_neon
enum { PK_WIDE = 1, PK_PAIR = 1 };
#define PK_ROWS(X) X(6) X(2) X(1)
#include "kernels/portable/packed.h"
