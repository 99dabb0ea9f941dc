/* The codecs that rows of the format table name: raw codes and their scales. Decoding stands in base/blocks.h and base/ggml.h. */
#ifndef DSB_QUANTIZERS_CODEC_H
#define DSB_QUANTIZERS_CODEC_H

#include "base/format.h"
#include "base/ggml.h"
#include "quantizers/quantize.h"

enum { DSB_FP8_BLOCK = 128 };

extern const dsb_codec dsb_codec_fp8, dsb_codec_nf4, dsb_codec_mxfp4, dsb_codec_mxfp8, dsb_codec_nvfp4, dsb_codec_ggml;

/* Encodes 256 values of a GGUF type, with the importance of each or NULL (codec_ggml.c: blocks of 32; codec_kquants.c: those of 256). */
typedef void (*dsb_ggml_encoder)(const float *w, const float *importance, uint8_t *block);
void dsb_encode_q2_K(const float *w, const float *importance, uint8_t *block);
void dsb_encode_q3_K(const float *w, const float *importance, uint8_t *block);
void dsb_encode_q4_K(const float *w, const float *importance, uint8_t *block);
void dsb_encode_q5_K(const float *w, const float *importance, uint8_t *block);
void dsb_encode_q6_K(const float *w, const float *importance, uint8_t *block);

/* Eight partial sums in one fixed order. */
static inline float dsb_lanes(const float a[8]) { return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7])); }

/* 1.5 · 2^23: a sum with it is rounded to an integer, half to even, for |v| < 2^22; its bits rise with the integer. */
#define DSB_ROUNDER 12582912.0f
static inline float dsb_round_even(float v) { return (v + DSB_ROUNDER) - DSB_ROUNDER; }

/* Loops over weights are compiled for this machine's vectors too: the same operations in the same order, so the same bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define DSB_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define DSB_CLONES
#endif
/* What they call is compiled with them. */
#define INLINE static inline __attribute__((always_inline))

/* Magnitudes are ordered as their bits are: integers, so that the loop vectorises. */
INLINE float dsb_largest(const float *w, int64_t n) {
    uint32_t top = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = dsb_f32_bits(w[i]) & 0x7fffffffu;
        top = u > top ? u : top;
    }
    return dsb_f32_from_bits(top);
}

#endif
