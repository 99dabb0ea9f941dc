/* f32: FMLA. int8: SDOT, or SMMLA where the machine has I8MM. */
#include "kernels/probe.h"

#include <arm_neon.h>
#include <sys/auxv.h>

#include "kernels/portable/chains.h"

#define PB_VECTOR int32x4_t
#define PB_NOTHING vdupq_n_s32(0)
#define PB_REGISTER "w"
#define FMA(i) PB_STEP("fmla %0.4s, %1.4s, %2.4s", i)
#define DOT(i) PB_STEP("sdot %0.4s, %1.16b, %2.16b", i)
#define MATRIX(i) PB_STEP(".arch_extension i8mm\n\tsmmla %0.4s, %1.16b, %2.16b", i)
PB_PROBE(f32, 16, FMA, 4)
PB_PROBE(dot, 16, DOT, 16)

#ifdef __clang__ /* it takes no SMMLA where the folder is compiled for machines without */
static double int8(int64_t turns) { return dot(turns); }
#else
PB_PROBE(matrix, 16, MATRIX, 32)

static double int8(int64_t turns) {
    enum { I8MM = 1 << 13 }; /* of AT_HWCAP2 */
    return getauxval(AT_HWCAP2) & I8MM ? matrix(turns) : dot(turns);
}
#endif

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
