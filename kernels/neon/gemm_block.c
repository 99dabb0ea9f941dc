/* Packed weights decoded in registers, 16 outputs in four vectors. */
#include <arm_neon.h>

#include "kernels/neon/gemm.h"

enum { NQ = 4 };
typedef struct vf {
    float32x4_t q[NQ];
} vf;
typedef struct vi {
    int32x4_t q[NQ];
} vi;
#define VF static inline __attribute__((always_inline)) vf
#define VI static inline __attribute__((always_inline)) vi
#define MADE(type, expression)                  \
    type out;                                   \
    for (int i = 0; i < NQ; i++) out.q[i] = expression; \
    return out

VF vf_set(float x) { MADE(vf, vdupq_n_f32(x)); }
VF vf_load(const float *p) { MADE(vf, vld1q_f32(p + 4 * i)); }
VF vf_half(const uint8_t *p) { MADE(vf, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * i)))); }
VF vf_mul(vf a, vf b) { MADE(vf, vmulq_f32(a.q[i], b.q[i])); }
VF vf_sub(vf a, vf b) { MADE(vf, vsubq_f32(a.q[i], b.q[i])); }
VF vf_fma(vf a, vf b, vf c) { MADE(vf, vfmaq_f32(c.q[i], a.q[i], b.q[i])); }
VF vf_fms(vf a, vf b, vf c) { MADE(vf, vfmaq_f32(vnegq_f32(c.q[i]), a.q[i], b.q[i])); }
VF vf_int(vi v) { MADE(vf, vcvtq_f32_s32(v.q[i])); }
VF vf_bits(vi v) { MADE(vf, vreinterpretq_f32_s32(v.q[i])); }
static inline __attribute__((always_inline)) void vf_store(float *p, vf v) {
    for (int i = 0; i < NQ; i++) vst1q_f32(p + 4 * i, v.q[i]);
}
VI vi_word(const uint8_t *p) { MADE(vi, vreinterpretq_s32_u8(vld1q_u8(p + 16 * i))); }
VI vi_u8(const uint8_t *p) {
    uint8x16_t b = vld1q_u8(p);
    uint16x8_t low = vmovl_u8(vget_low_u8(b)), high = vmovl_u8(vget_high_u8(b));
    return (vi){{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))), vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
                 vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
}
VI vi_shl(vi v, int n) { MADE(vi, vshlq_s32(v.q[i], vdupq_n_s32(n))); }
VI vi_shr(vi v, int n) { MADE(vi, vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v.q[i]), vdupq_n_s32(-n)))); }
VI vi_sar(vi v, int n) { MADE(vi, vshlq_s32(v.q[i], vdupq_n_s32(-n))); }
VI vi_and(vi v, int mask) { MADE(vi, vandq_s32(v.q[i], vdupq_n_s32(mask))); }
VI vi_or(vi a, vi b) { MADE(vi, vorrq_s32(a.q[i], b.q[i])); }
VI vi_sub(vi v, int n) { MADE(vi, vsubq_s32(v.q[i], vdupq_n_s32(n))); }
VI vi_max(vi v, int n) { MADE(vi, vmaxq_s32(v.q[i], vdupq_n_s32(n))); }
VI vi_ror(vi v, int n) { return vi_or(vi_shr(v, n & 31), vi_shl(v, 32 - (n & 31))); }
VI vi_merge(int mask, vi a, vi b) { MADE(vi, vbslq_s32(vdupq_n_u32((uint32_t)mask), a.q[i], b.q[i])); }
VF vf_nibble8(vi v) { return vf_int(vi_sub(vi_and(v, 15), 8)); }
VF vf_nibble(vi v) { return vf_int(vi_and(v, 15)); }
#include "kernels/portable/some.h"

/* Four bytes of the table's 64 for each index. */
VF vf_look(const float *table, vi v) {
    const uint8_t *t = (const uint8_t *)table;
    uint8x16x4_t all = {{vld1q_u8(t), vld1q_u8(t + 16), vld1q_u8(t + 32), vld1q_u8(t + 48)}};
    MADE(vf, vreinterpretq_f32_u8(vqtbl4q_u8(all, vreinterpretq_u8_s32(vmlaq_n_s32(vdupq_n_s32(0x03020100), vandq_s32(v.q[i], vdupq_n_s32(15)), 0x04040404)))));
}

#define PK_PLAN dsb_plan_block_neon
enum { PK_PAIR = 1 };
#define PK_ROWS(X) X(6) X(2) X(1)
#include "kernels/portable/packed.h"
