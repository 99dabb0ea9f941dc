/* GGUF formats: whole blocks with their scales inside. The plain ones of 32 give the bytes that ggml's reference code gives; iq4_nl
 * searches its scale. Decoded by base/ggml.h. Vectors: the oracle's gguf_quantize.*. */
#include <math.h>
#include <string.h>

#include "base/format.h"
#include "quantizers/codec.h"
#include "quantizers/ggml_blocks.h"

/* The value of largest magnitude, the first of equal ones, with its sign. */
static float extreme(const float *w, int n) {
    float best = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(w[i]) > fabsf(best)) best = w[i];
    return best;
}

/* Halves away from zero, as the definition has it. |x| < 2^31. */
static inline int32_t round_away(float x) {
    float a = fabsf(x);
    int32_t t = (int32_t)a;
    t += a - (float)t >= 0.5f;
    return x < 0 ? -t : t;
}

DSB_CLONES static void encode_q8_0(const float *w, uint8_t *block) {
    dsb_block_q8_0 *b = (dsb_block_q8_0 *)block;
    float d = dsb_largest(w, 32) / 127, inverse = d > 0 ? 1 / d : 0;
    dsb_put_half(b->d, d);
    if (isinf(inverse)) /* a subnormal scale, which f16 has not */
        memset(b->q, 0, sizeof b->q);
    else
        for (int i = 0; i < 32; i++) b->q[i] = (int8_t)round_away(w[i] * inverse);
}

static void put_nibbles(const uint8_t *codes, uint8_t *q) {
    for (int i = 0; i < 16; i++) q[i] = (uint8_t)((codes[i] & 15) | (codes[16 + i] & 15) << 4);
}

/* The extreme value is the code -half; q = trunc(w/d + half + 1/2). Puts the scale and the low nibbles. */
static void offset_block(const float *w, int half, uint8_t scale[2], uint8_t *codes, uint8_t *q4) {
    float d = extreme(w, 32) / (float)-half, inverse = d != 0 ? 1 / d : 0, most = (float)(2 * half - 1);
    dsb_put_half(scale, d);
    for (int i = 0; i < 32; i++) {
        float q = (isinf(inverse) ? w[i] / d : w[i] * inverse) + (float)half + 0.5f;
        codes[i] = (uint8_t)(q > most ? most : q < 0 ? 0 : q);
    }
    put_nibbles(codes, q4);
}

DSB_CLONES static void encode_q4_0(const float *w, uint8_t *block) {
    dsb_block_q4_0 *b = (dsb_block_q4_0 *)block;
    uint8_t codes[32];
    offset_block(w, 8, b->d, codes, b->q);
}

DSB_CLONES static void encode_q5_0(const float *w, uint8_t *block) {
    dsb_block_q5_0 *b = (dsb_block_q5_0 *)block;
    uint8_t codes[32];
    offset_block(w, 16, b->d, codes, b->q);
    memset(b->high, 0, sizeof b->high);
    for (int i = 0; i < 32; i++) b->high[i / 8] |= (uint8_t)((codes[i] >> 4) << i % 8);
}

/* iq4_nl: Σ of value·level and level² for one scale's inverse; levels as code indices if asked. */
static inline float middle(int k) { return (float)(dsb_iq4_level[k] + dsb_iq4_level[k + 1]) / 2; }

static inline __attribute__((always_inline)) void level_sums(const float *w, float inverse, float *dot, float *square) {
    float a[8] = {0}, b[8] = {0};
    for (int i = 0; i < 32; i += 8)
        for (int j = 0; j < 8; j++) {
            float v = w[i + j] * inverse, level = -127;
            for (int k = 0; k < 15; k++) level += v > middle(k) ? (float)(dsb_iq4_level[k + 1] - dsb_iq4_level[k]) : 0;
            a[j] += w[i + j] * level;
            b[j] += level * level;
        }
    *dot = dsb_lanes(a);
    *square = dsb_lanes(b);
}

/* Scales that put the extreme value at either end and around, each then refitted by least squares; the one that leaves least. */
DSB_CLONES static void encode_iq4_nl(const float *w, uint8_t *block) {
    enum { TRIES = 8 };
    dsb_block_iq4_nl *b = (dsb_block_iq4_nl *)block;
    float top = extreme(w, 32), best = -1, d = 0, dot, square;
    uint8_t codes[32];
    for (int k = -TRIES; k <= TRIES && top != 0; k++) {
        float end = k < 0 ? -127 + 4.0f * (float)(k + TRIES - 3) : 113 + 4.0f * (float)(k - 3), s = top / end;
        for (int fit = 0; fit < 2 && s != 0 && isfinite(1 / s); fit++) {
            level_sums(w, 1 / s, &dot, &square);
            if (dot * dot > best * square) {
                best = dot * dot / square;
                d = dot / square;
            }
            s = dot / square;
        }
    }
    dsb_put_half(b->d, d);
    d = dsb_half(b->d);
    float inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < 32; i++) {
        int c = 0;
        for (int k = 0; k < 15; k++) c += w[i] * inverse > middle(k);
        codes[i] = (uint8_t)c;
    }
    put_nibbles(codes, b->q);
}

static const struct {
    uint32_t id;
    dsb_ggml_encoder encode;
} k_encoder[] = {{8, encode_q8_0}, {2, encode_q4_0}, {6, encode_q5_0}, {10, dsb_encode_q2_K}, {11, dsb_encode_q3_K}, {12, dsb_encode_q4_K}, {13, dsb_encode_q5_K}, {14, dsb_encode_q6_K}, {20, encode_iq4_nl}};

static void layout(dsb_qtensor *q) {
    const dsb_ggml_type *t = dsb_ggml_find(q->format->ggml);
    q->raw_rows = q->rows;
    q->raw_cols = q->cols / t->n * t->bytes;
}

static void encode(dsb_qtensor *q, const float *w) {
    const dsb_ggml_type *t = dsb_ggml_find(q->format->ggml);
    dsb_ggml_encoder one = NULL;
    for (size_t i = 0; i < sizeof k_encoder / sizeof *k_encoder; i++)
        if (k_encoder[i].id == t->id) one = k_encoder[i].encode;
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 14)
    for (int64_t b = 0; b < q->rows * q->cols / t->n; b++) one(w + b * t->n, q->raw + b * t->bytes);
}

static void decode(const dsb_qtensor *q, float *dst) {
    const dsb_ggml_type *t = dsb_ggml_find(q->format->ggml);
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t b = 0; b < q->rows * q->cols / t->n; b++) t->decode(q->raw + b * t->bytes, dst + b * t->n);
}

const dsb_codec dsb_codec_ggml = {layout, encode, decode};
