/* f32: FMLA. int8: SDOT, or SMMLA where the machine has I8MM. As assembler text, so that no compiler takes equal sums for one. */
#include "kernels/probe.h"

#include <arm_neon.h>
#include <sys/auxv.h>

/* Enough sums that none waits for itself: up to four a cycle, four cycles each. */
enum { CHAINS = 16, I8MM = 1 << 13 /* of AT_HWCAP2 */ };
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define ZERO(i) int32x4_t acc##i = vdupq_n_s32(0);
#define KEEP(i) __asm__ volatile("" : : "w"(acc##i));
/* name: `turns` turns of acc += a · b, one step a chain, `products` each. */
#define PROBE(name, STEP, products)                                       \
    static double name(int64_t turns) {                                   \
        int8x16_t a = vdupq_n_s8(0), b = a;                               \
        EACH_CHAIN(ZERO)                                                  \
        for (int64_t t = 0; t < turns; t++) { EACH_CHAIN(STEP) }          \
        EACH_CHAIN(KEEP)                                                  \
        return 2.0 * products * CHAINS * (double)turns;                   \
    }
#define FMA(i) __asm__ volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(acc##i) : "w"(a), "w"(b));
#define DOT(i) __asm__ volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc##i) : "w"(a), "w"(b));
#define MATRIX(i) __asm__ volatile(".arch_extension i8mm\n\tsmmla %0.4s, %1.16b, %2.16b" : "+w"(acc##i) : "w"(a), "w"(b));
PROBE(f32, FMA, 4)
PROBE(dot, DOT, 16)
PROBE(matrix, MATRIX, 32)

static double int8(int64_t turns) { return getauxval(AT_HWCAP2) & I8MM ? matrix(turns) : dot(turns); }

static uint64_t read(const void *p, size_t bytes) {
    const uint8_t *x = p;
    uint8x16_t acc[8];
    for (int j = 0; j < 8; j++) acc[j] = vdupq_n_u8(0);
    for (size_t i = 0; i < bytes; i += sizeof acc)
        for (size_t j = 0; j < 8; j++) acc[j] = veorq_u8(acc[j], vld1q_u8(x + i + 16 * j));
    for (int j = 1; j < 8; j++) acc[0] = veorq_u8(acc[0], acc[j]);
    uint64x2_t both = vreinterpretq_u64_u8(acc[0]);
    return vgetq_lane_u64(both, 0) ^ vgetq_lane_u64(both, 1);
}

const dsb_probe dsb_probe_neon = {.isa = "neon", .f32 = f32, .int8 = int8, .read = read};
