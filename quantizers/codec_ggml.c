/* GGUF formats: whole blocks with their scales inside. The plain ones of 32 give the bytes that ggml's reference code gives; iq4_nl
 * searches its scale. Decoded by base/ggml.h. Vectors: the oracle's gguf_quantize.*. */
#include <math.h>
#include <string.h>

#include "base/format.h"
#include "quantizers/codec.h"
#include "quantizers/ggml_blocks.h"
#include "quantizers/scale_search.h"

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

static void put_fifth_bits(const uint8_t *codes, uint8_t high[4]) {
    memset(high, 0, 4);
    for (int i = 0; i < 32; i++) high[i / 8] |= (uint8_t)((codes[i] >> 4) << i % 8);
}

DSB_CLONES static void encode_q5_0(const float *w, uint8_t *block) {
    dsb_block_q5_0 *b = (dsb_block_q5_0 *)block;
    uint8_t codes[32];
    offset_block(w, 16, b->d, codes, b->q);
    put_fifth_bits(codes, b->high);
}

/* Searched: eight blocks of 32 at once. x ≈ d·q with d as f16 gives it back; codes are q + half. */
INLINE vec halves_of(vec d) {
    for (int l = 0; l < LANES; l++) d[l] = dsb_f16_to_f32(dsb_f32_to_f16(d[l] > 65504.0f ? 65504.0f : d[l] > -65504.0f ? d[l] : -65504.0f));
    return d;
}

/* q4_0 and q5_0 by the importance of columns: the signed search. */
INLINE void offset_search(const float *w, const float *p, float half, vec *d, uint8_t *codes) {
    run b;
    int8_t q[BLOCK];
    load_run(&b, w, p, PAIRS | WEIGHED);
    *d = halves_of(fit_signed(&b, -half, PAIRS | WEIGHED));
    put_codes(&b, *d, (vec){0}, -half, half - 1, q);
    for (int i = 0; i < BLOCK; i++) codes[i] = (uint8_t)(q[i] + (int)half);
}

DSB_CLONES static void search_q4_0(const float *w, const float *p, uint8_t *block) {
    dsb_block_q4_0 *b = (dsb_block_q4_0 *)block;
    uint8_t codes[BLOCK];
    vec d;
    offset_search(w, p, 8, &d, codes);
    for (int k = 0; k < 8; k++) {
        dsb_put_half(b[k].d, d[2 * k]);
        put_nibbles(codes + 32 * k, b[k].q);
    }
}

DSB_CLONES static void search_q5_0(const float *w, const float *p, uint8_t *block) {
    dsb_block_q5_0 *b = (dsb_block_q5_0 *)block;
    uint8_t codes[BLOCK];
    vec d;
    offset_search(w, p, 16, &d, codes);
    for (int k = 0; k < 8; k++) {
        dsb_put_half(b[k].d, d[2 * k]);
        put_nibbles(codes + 32 * k, b[k].q);
        put_fifth_bits(codes + 32 * k, b[k].high);
    }
}

/* iq4_nl: the nearest level, by midpoints. */
static inline float middle(int k) { return (float)(dsb_iq4_level[k] + dsb_iq4_level[k + 1]) / 2; }
INLINE vec level_of(vec v) {
    vec level = all(-127);
    for (int k = 0; k < 15; k++) level += pick(v > middle(k), all((float)(dsb_iq4_level[k + 1] - dsb_iq4_level[k])), (vec){0});
    return level;
}

/* Scales that put the extreme value at either end and around, each then refitted by least squares; the one that leaves least. */
INLINE void iq4_search(const float *w, const float *p, dsb_block_iq4_nl *block, int how) {
    enum { TRIES = 8 };
    run b;
    vec best = {0}, d = {0};
    load_run(&b, w, p, how);
    vec top = extreme_of(b.x, how);
    for (int k = -TRIES; k <= TRIES; k++) {
        vec s = top / (k < 0 ? -127 + 4.0f * (float)(k + TRIES - 3) : 113 + 4.0f * (float)(k - 3));
        for (int fit = 0; fit < 2; fit++) {
            vec inverse = inverse_of(s), dot = {0}, square = {0};
            for (int j = 0; j < 16; j++) {
                vec level = level_of(b.x[j] * inverse);
                dot += (how & WEIGHED ? b.px[j] : b.x[j]) * level;
                square += how & WEIGHED ? b.p[j] * level * level : level * level;
            }
            dot = joined(dot, how);
            s = dot / joined(square, how);
            ivec better = (inverse != 0) & (dot * s > best);
            best = pick(better, dot * s, best);
            d = pick(better, s, d);
        }
    }
    d = halves_of(d);
    vec inverse = inverse_of(d);
    uint8_t codes[BLOCK];
    for (int j = 0; j < 16; j++) {
        vec c = {0};
        for (int k = 0; k < 15; k++) c += pick(b.x[j] * inverse > middle(k), all(1), (vec){0});
        for (int l = 0; l < LANES; l++) codes[16 * l + j] = (uint8_t)(int)c[l];
    }
    for (int k = 0; k < 8; k++) {
        dsb_put_half(block[k].d, d[2 * k]);
        put_nibbles(codes + 32 * k, block[k].q);
    }
}

DSB_CLONES static void encode_iq4_nl(const float *w, const float *p, uint8_t *block) {
    if (p) iq4_search(w, p, (dsb_block_iq4_nl *)block, PAIRS | WEIGHED);
    else iq4_search(w, NULL, (dsb_block_iq4_nl *)block, PAIRS);
}

/* 256 weights of the plain formats. */
#define PLAIN(type)                                                                                      \
    static void plain_##type(const float *w, uint8_t *block) {                                            \
        for (int i = 0; i < 8; i++) encode_##type(w + 32 * i, block + (size_t)i * sizeof(dsb_block_##type)); \
    }
PLAIN(q8_0)
PLAIN(q4_0)
PLAIN(q5_0)
static void encode_256_q8_0(const float *w, const float *p, uint8_t *block) { plain_q8_0(w, block); }
static void encode_256_q4_0(const float *w, const float *p, uint8_t *block) {
    if (p) search_q4_0(w, p, block);
    else plain_q4_0(w, block);
}
static void encode_256_q5_0(const float *w, const float *p, uint8_t *block) {
    if (p) search_q5_0(w, p, block);
    else plain_q5_0(w, block);
}

static const struct {
    uint32_t id;
    dsb_ggml_encoder encode;
} k_encoder[] = {{8, encode_256_q8_0}, {2, encode_256_q4_0}, {6, encode_256_q5_0}, {10, dsb_encode_q2_K}, {11, dsb_encode_q3_K}, {12, dsb_encode_q4_K}, {13, dsb_encode_q5_K}, {14, dsb_encode_q6_K}, {20, encode_iq4_nl}};

static void layout(dsb_qtensor *q) {
    const dsb_ggml_type *t = dsb_ggml_find(q->format->ggml);
    q->raw_rows = q->rows;
    q->raw_cols = q->cols / t->n * t->bytes;
}

static void encode(dsb_qtensor *q, const float *w, const float *importance) {
    const dsb_ggml_type *t = dsb_ggml_find(q->format->ggml);
    dsb_ggml_encoder encode_256 = NULL;
    int64_t n = q->rows * q->cols;
    for (size_t i = 0; i < sizeof k_encoder / sizeof *k_encoder; i++)
        if (k_encoder[i].id == t->id) encode_256 = k_encoder[i].encode;
#pragma omp parallel for schedule(static) if (n > 1 << 14)
    for (int64_t at = 0; at < n; at += BLOCK) {
        float x[BLOCK] = {0}, p[BLOCK];
        uint8_t blocks[BLOCK * 2];
        int64_t size = n - at < BLOCK ? n - at : BLOCK; /* blocks of 32 may end amid 256 */
        for (int64_t i = 0; importance && i < BLOCK; i++) p[i] = importance[(at + i) % q->cols];
        if (size < BLOCK) memcpy(x, w + at, (size_t)size * sizeof *x);
        encode_256(size < BLOCK ? x : w + at, importance ? p : NULL, size < BLOCK ? blocks : q->raw + at / t->n * t->bytes);
        if (size < BLOCK) memcpy(q->raw + at / t->n * t->bytes, blocks, (size_t)(size / t->n * t->bytes));
    }
}

static void decode(const dsb_qtensor *q, float *dst) {
    const dsb_ggml_type *t = dsb_ggml_find(q->format->ggml);
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t b = 0; b < q->rows * q->cols / t->n; b++) t->decode(q->raw + b * t->bytes, dst + b * t->n);
}

const dsb_codec dsb_codec_ggml = {layout, encode, decode};
