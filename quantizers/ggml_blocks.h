/* Blocks of GGUF's quantized types, byte by byte: what the encoders fill and base/ggml.h decodes. Source: ggml's block layouts. */
#ifndef DSB_QUANTIZERS_GGML_BLOCKS_H
#define DSB_QUANTIZERS_GGML_BLOCKS_H

#include <stdint.h>

#include "base/format.h"

typedef struct { uint8_t d[2]; int8_t q[32]; } dsb_block_q8_0;
typedef struct { uint8_t d[2], q[16]; } dsb_block_q4_0;
typedef struct { uint8_t d[2], high[4], q[16]; } dsb_block_q5_0;
typedef struct { uint8_t d[2], q[16]; } dsb_block_iq4_nl;
typedef struct { uint8_t scales[16], q[64], d[2], dmin[2]; } dsb_block_q2_K;  /* a scale and a minimum in a byte */
typedef struct { uint8_t high[32], q[64], scales[12], d[2]; } dsb_block_q3_K;
typedef struct { uint8_t d[2], dmin[2], scales[12], q[128]; } dsb_block_q4_K;
typedef struct { uint8_t d[2], dmin[2], scales[12], high[32], q[128]; } dsb_block_q5_K;
typedef struct { uint8_t low[128], high[64]; int8_t scales[16]; uint8_t d[2]; } dsb_block_q6_K;
_Static_assert(sizeof(dsb_block_q8_0) == 34, "q8_0");
_Static_assert(sizeof(dsb_block_q4_0) == 18, "q4_0");
_Static_assert(sizeof(dsb_block_q5_0) == 22, "q5_0");
_Static_assert(sizeof(dsb_block_iq4_nl) == 18, "iq4_nl");
_Static_assert(sizeof(dsb_block_q2_K) == 84, "q2_K");
_Static_assert(sizeof(dsb_block_q3_K) == 110, "q3_K");
_Static_assert(sizeof(dsb_block_q4_K) == 144, "q4_K");
_Static_assert(sizeof(dsb_block_q5_K) == 176, "q5_K");
_Static_assert(sizeof(dsb_block_q6_K) == 210, "q6_K");

static inline void dsb_put_half(uint8_t at[2], float x) {
    uint16_t h = dsb_f32_to_f16(x);
    at[0] = (uint8_t)h;
    at[1] = (uint8_t)(h >> 8);
}
static inline float dsb_half(const uint8_t at[2]) { return dsb_f16_to_f32((uint16_t)(at[0] | at[1] << 8)); }

#endif
