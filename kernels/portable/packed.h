/* Products of f32 rows with packed weights (base/packed.h), in vectors of 16 outputs. An instruction set's gemm_block.c defines the vectors
 * and their operations, then includes this:
 *   vf, vi: 16 floats, 16 int32; vf_set vf_load vf_store vf_load_some vf_store_some (the first n) vf_half (16 FP16) vf_mul vf_sub
 *   vf_fma (a·b + c) vf_fms (a·b − c) vf_int (from vi) vf_bits (the same bits) vf_nibble (low 4 bits) vf_nibble8 (less 8) vf_look (table[low 4 bits]);
 *   vi_word (16 words) vi_u8 (16 bytes) vi_shr vi_sar vi_shl vi_ror (bits to the left come back at the right: by -4 is 4 to the left)
 *   vi_merge (bits of the first where mask, else of the second) vi_and vi_or vi_sub vi_max
 *   A device that decodes a row of its own a thread defines PK_LANES 1, PK_INLINE and PK_TABLE, gets the types alone, and layout is then the raw row's.
 *   PK_PLAN: the plan's name; PK_PAIR: panels, PK_ROWS(X): rows of a tile of sums.
 * Values are those of dsb_packed_decode: where it rounds twice and this once, the first result is exact (FP16 times small integers). */
#ifndef DSB_KERNELS_PORTABLE_PACKED_H
#define DSB_KERNELS_PORTABLE_PACKED_H

#include "base/blocks.h"
#include "base/ggml.h"

#ifdef PK_PLAN
#include "kernels/portable/products.h"

#define PK_INLINE static inline __attribute__((always_inline))
#define PK_TABLE static const float
#define PK_LANES DSB_NR
enum { PK_WIDE = DSB_ABREAST, PK_DEPTH = 256, PK_BLOCK = 96, PK_AHEAD = 2048, PK_FEW = 12 }; /* panels at once where rows are few; inputs of a decoded tile, which stays in the first-level cache; rows that pass over it; bytes fetched ahead where panels are streams of their own; rows whose sums stay in registers */

/* Where values go: into a tile [k][16], or times x into a sum a panel. */
typedef struct pk_sink {
    float *tile;
    const float *x; /* rows `cols` apart */
    int64_t cols;
    vf sum[4][PK_WIDE];
} pk_sink;

/* m rows; 0: into the tile. */
PK_INLINE void pk_put(pk_sink *s, int m, int j, int64_t k, vf w) {
    if (m == 0) vf_store(s->tile + k * DSB_NR, w);
    for (int r = 0; r < m; r++) s->sum[r][j] = vf_fma(vf_set(s->x[r * s->cols + k]), w, s->sum[r][j]);
}

#endif

#if defined PK_PLAN || defined PK_LANES
/* Of the 16 blocks of a panel: the half or byte field at i; of the word at byte `word`, its byte u: bits from `shift` on with all that is above,
 * or `mask` of them; the word turned so that its bit `shift` (which may be negative) is the lowest; the byte as the highest of a word, whatever is below; with its sign. */
PK_INLINE vf pk_half(const uint8_t *b, int64_t i) { return vf_half(b + i * PK_LANES); }
PK_INLINE vi pk_byte(const uint8_t *b, int64_t i) { return vi_u8(b + i * PK_LANES); }
PK_INLINE vi pk_from(const uint8_t *b, int64_t word, int u, int shift) { return vi_shr(vi_word(b + word * PK_LANES), u * 8 + shift); }
PK_INLINE vi pk_turned(const uint8_t *b, int64_t word, int u, int shift) { return vi_ror(vi_word(b + word * PK_LANES), u * 8 + shift); }
PK_INLINE vi pk_bits(const uint8_t *b, int64_t word, int u, int shift, int mask) { return vi_and(pk_from(b, word, u, shift), mask); }
PK_INLINE vi pk_top(const uint8_t *b, int64_t word, int u) { return vi_shl(vi_word(b + word * PK_LANES), 24 - u * 8); }
PK_INLINE vi pk_s8(const uint8_t *b, int64_t word, int u) { return vi_sar(pk_top(b, word, u), 24); }

/* A byte that is the highest of its word: the fields moved to f32's places, then the exponent's bias made up by an exact product. */
PK_INLINE vf pk_e4m3(vi top) { return vf_mul(vf_bits(vi_and(vi_sar(top, 4), (int)0x87f00000)), vf_set(0x1p120f)); }
PK_INLINE vf pk_e5m2(vi top) { return vf_mul(vf_bits(vi_and(vi_sar(top, 3), (int)0x8fe00000)), vf_set(0x1p112f)); }
PK_INLINE vf pk_e8m0(vi c) { return vf_bits(vi_max(vi_shl(c, 23), 0x00400000)); } /* 0 is 2^-127, a subnormal */

PK_TABLE pk_iq4_level[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* Each type: the scale (and what goes with it) of group g of a block, the code of input i + u of the group (i begins a word,
 * u is within it), the value. PK_GROUP_…: inputs of a group; 0: all there are, and codes are apart from what is before them. PK_UNIT_…: inputs of a word;
 * PK_STEP_…: bytes of a panel for so many; PK_AHEAD_…: bytes ahead of their use that the stream of four panels is asked for, where measurements found
 * most (a core of an AMD EPYC of family 26, one row: q4_0 20, 28, 25 GB/s at 4, 8, 16 KB, q8_0 30, 42, 47, q4_K 17, 24, 29). */
#define PK_TYPE(t, group, unit, step, ahead) enum { PK_GROUP_##t = group, PK_UNIT_##t = unit, PK_STEP_##t = step, PK_AHEAD_##t = ahead };
#define PK_SCALE(t) PK_INLINE void pk_scale_##t(const dsb_packed *p, const uint8_t *b, int g, vf *scale, vf *rest)
#define PK_CODE(t) PK_INLINE vf pk_code_##t(const uint8_t *b, int g, int64_t i, int u)
#define PK_VALUE(t, expression) \
    PK_INLINE vf pk_value_##t(vf code, vf scale, vf rest) { return expression; }
#define PK_TIMES(t) PK_VALUE(t, vf_mul(code, scale))
#define PK_LESS_MIN(t) PK_VALUE(t, vf_fms(scale, code, rest))
#define PK_LESS_ZERO(t) PK_VALUE(t, vf_mul(vf_sub(code, rest), scale))

PK_TYPE(q4_0, 16, 4, 36, 8192)
PK_SCALE(q4_0) { *scale = pk_half(b, 0); }
PK_CODE(q4_0) { return vf_nibble8(pk_from(b, 2 + i, u, 4 * g)); }
PK_TIMES(q4_0)

PK_TYPE(iq4_nl, 16, 4, 36, 8192)
PK_SCALE(iq4_nl) { *scale = pk_half(b, 0); }
PK_CODE(iq4_nl) { return vf_look(pk_iq4_level, pk_from(b, 2 + i, u, 4 * g)); }
PK_TIMES(iq4_nl)

PK_TYPE(q5_0, 16, 4, 44, 8192)
PK_SCALE(q5_0) { *scale = pk_half(b, 0); }
PK_CODE(q5_0) {
    vi high = pk_turned(b, 2, 0, 16 * g + (int)i + u - 4); /* of 32 in a word */
    return vf_int(vi_sub(vi_and(vi_merge(15, pk_from(b, 6 + i, u, 4 * g), high), 31), 16));
}
PK_TIMES(q5_0)

PK_TYPE(q8_0, 32, 4, 68, 16384)
PK_SCALE(q8_0) { *scale = pk_half(b, 0); }
PK_CODE(q8_0) { return vf_int(pk_s8(b, 2 + i, u)); }
PK_TIMES(q8_0)

PK_TYPE(q2_K, 16, 4, 21, 16384)
PK_SCALE(q2_K) {
    *scale = vf_mul(pk_half(b, 80), vf_nibble(pk_from(b, g / 4 * 4, g % 4, 0)));
    *rest = vf_mul(pk_half(b, 82), vf_nibble(pk_from(b, g / 4 * 4, g % 4, 4)));
}
PK_CODE(q2_K) { return vf_int(pk_bits(b, 16 + g / 8 * 32 + g % 2 * 16 + i, u, g % 8 / 2 * 2, 3)); }
PK_LESS_MIN(q2_K)

PK_TYPE(q3_K, 16, 4, 28, 16384)
PK_SCALE(q3_K) {
    *scale = vf_mul(pk_half(b, 108), vf_int(vi_sub(vi_or(pk_bits(b, 96 + g % 8 / 4 * 4, g % 4, g / 8 * 4, 15), vi_shl(pk_bits(b, 104, g % 4, g / 4 * 2, 3), 4)), 32)));
    *rest = vf_mul(*scale, vf_set(4));
}
PK_CODE(q3_K) {
    vi low = pk_from(b, 32 + g / 8 * 32 + g % 2 * 16 + i, u, g % 8 / 2 * 2), high = pk_turned(b, g % 2 * 16 + i, u, g / 2 - 2);
    return vf_int(vi_and(vi_merge(3, low, high), 7));
}
PK_LESS_MIN(q3_K)

/* Scales and minima of 6 bits in 12 bytes. */
PK_TYPE(q4_K, 32, 4, 36, 16384)
PK_SCALE(q4_K) {
    vi a, m;
    if (g < 4) {
        a = pk_bits(b, 4, g, 0, 63);
        m = pk_bits(b, 8, g, 0, 63);
    } else {
        a = vi_or(pk_bits(b, 12, g - 4, 0, 15), vi_shl(pk_bits(b, 4, g - 4, 6, 3), 4));
        m = vi_or(pk_bits(b, 12, g - 4, 4, 15), vi_shl(pk_bits(b, 8, g - 4, 6, 3), 4));
    }
    *scale = vf_mul(pk_half(b, 0), vf_int(a));
    *rest = vf_mul(pk_half(b, 2), vf_int(m));
}
PK_CODE(q4_K) { return vf_nibble(pk_from(b, 16 + g / 2 * 32 + i, u, g % 2 * 4)); }
PK_LESS_MIN(q4_K)

PK_TYPE(q5_K, 32, 4, 44, 16384)
PK_SCALE(q5_K) { pk_scale_q4_K(p, b, g, scale, rest); }
PK_CODE(q5_K) { return vf_int(vi_and(vi_merge(15, pk_from(b, 48 + g / 2 * 32 + i, u, g % 2 * 4), pk_turned(b, 16 + i, u, g - 4)), 31)); }
PK_LESS_MIN(q5_K)

PK_TYPE(q6_K, 16, 4, 53, 16384)
PK_SCALE(q6_K) {
    *scale = vf_mul(pk_half(b, 208), vf_int(pk_s8(b, 192 + g / 4 * 4, g % 4)));
    *rest = vf_mul(*scale, vf_set(32));
}
PK_CODE(q6_K) {
    vi low = pk_from(b, g / 8 * 64 + g % 4 * 16 + i, u, g % 8 / 4 * 4), high = pk_turned(b, 128 + g / 8 * 32 + g % 2 * 16 + i, u, g % 8 / 2 * 2 - 4);
    return vf_int(vi_and(vi_merge(15, low, high), 63));
}
PK_LESS_MIN(q6_K)

PK_TYPE(mxfp4, 32, 8, 68, 8192)
PK_SCALE(mxfp4) { *scale = pk_e8m0(pk_byte(b, 0)); }
PK_CODE(mxfp4) { return vf_look(dsb_e2m1_value, pk_from(b, 1 + i / 2, u / 2, u % 2 * 4)); }
PK_TIMES(mxfp4)

PK_TYPE(mxfp8, 32, 4, 66, 16384)
PK_SCALE(mxfp8) { *scale = pk_e8m0(pk_byte(b, 0)); }
PK_CODE(mxfp8) { return pk_e4m3(pk_top(b, 1 + i, u)); }
PK_TIMES(mxfp8)

PK_TYPE(nvfp4, 16, 8, 72, 8192)
PK_SCALE(nvfp4) {
    *scale = pk_e4m3(vi_shl(pk_byte(b, 0), 24));
    *rest = vf_set(p->global);
}
PK_CODE(nvfp4) { return vf_look(dsb_e2m1_value, pk_from(b, 1 + i / 2, u / 2, u % 2 * 4)); }
PK_VALUE(nvfp4, vf_mul(vf_mul(code, scale), rest))

PK_INLINE vf pk_f32(const uint8_t *head) { return vf_bits(vi_word(head)); }
PK_TYPE(fp8_e4m3, 0, 4, 64, 4096)
PK_SCALE(fp8_e4m3) { *scale = pk_f32(b); }
PK_CODE(fp8_e4m3) { return pk_e4m3(pk_top(b, i, u)); }
PK_TIMES(fp8_e4m3)

PK_TYPE(fp8_e5m2, 0, 4, 64, 4096)
PK_SCALE(fp8_e5m2) { *scale = pk_f32(b); }
PK_CODE(fp8_e5m2) { return pk_e5m2(pk_top(b, i, u)); }
PK_TIMES(fp8_e5m2)

PK_TYPE(nf4, 0, 8, 64, 4096)
PK_SCALE(nf4) { *scale = pk_f32(b); }
PK_CODE(nf4) { return vf_look(dsb_nf4_value, pk_from(b, i / 2, u / 2, u % 2 * 4)); }
PK_TIMES(nf4)

PK_TYPE(w4a16, 0, 8, 64, 4096)
PK_SCALE(w4a16) {
    *scale = pk_f32(b);
    *rest = pk_f32(b + 4 * PK_LANES);
}
PK_CODE(w4a16) { return vf_nibble8(pk_from(b, i / 2, u / 2, u % 2 * 4)); }
PK_LESS_ZERO(w4a16)

PK_TYPE(w8a16, 0, 4, 64, 4096)
PK_SCALE(w8a16) {
    *scale = pk_f32(b);
    *rest = pk_f32(b + 4 * PK_LANES);
}
PK_CODE(w8a16) { return vf_int(pk_s8(b, i, u)); }
PK_LESS_ZERO(w8a16)

#endif

#ifdef PK_PLAN
/* Outputs of panel p. */
PK_INLINE int pk_width(const dsb_wmat *w, int64_t p) { return w->rows - p * DSB_NR < DSB_NR ? (int)(w->rows - p * DSB_NR) : DSB_NR; }

/* n inputs of a block whose panels lie `stride` bytes apart, asked for `ahead` bytes before their use. */
#define PK_PIECE(ignored, t)                                                                                                                                                                         \
    PK_INLINE void pk_piece_##t(pk_sink *s, int m, int np, const dsb_packed *p, const uint8_t *head, const uint8_t *b, int64_t stride, int64_t ahead, int64_t n) {                                   \
        int64_t group = PK_GROUP_##t ? PK_GROUP_##t : n, whole = group - group % PK_UNIT_##t;                                                                                                        \
        for (int g = 0; g * group < n; g++) {                                                                                                                                                        \
            vf scale[PK_WIDE], rest[PK_WIDE];                                                                                                                                                        \
            for (int j = 0; j < np; j++) pk_scale_##t(p, head + j * stride, g, &scale[j], &rest[j]);                                                                                                 \
            for (int64_t i = 0; i < whole; i += PK_UNIT_##t) {                                                                                                                                       \
                for (int j = 0; j < np; j++) __builtin_prefetch(b + j * stride + (g * group + i) / PK_UNIT_##t * PK_STEP_##t + ahead);                                                               \
                for (int u = 0; u < PK_UNIT_##t; u++)                                                                                                                                                \
                    for (int j = 0; j < np; j++) pk_put(s, m, j, g * group + i + u, pk_value_##t(pk_code_##t(b + j * stride, g, i, u), scale[j], rest[j]));                                          \
            }                                                                                                                                                                                        \
            for (int u = 0; u < group - whole; u++)                                                                                                                                                  \
                for (int j = 0; j < np; j++) pk_put(s, m, j, whole + u, pk_value_##t(pk_code_##t(b + j * stride, g, whole, u), scale[j], rest[j]));                                                  \
        }                                                                                                                                                                                            \
    }                                                                                                                                                                                                \
    /* m rows x against np panels from p on, which lie abreast. */                                                                                                                                   \
    PK_INLINE void pk_panels_##t(const dsb_wmat *w, int64_t p, int np, int m, const float *x, float *y) {                                                                                            \
        int64_t n = w->packed.n, bytes = dsb_packed_bytes(&w->packed, n) * DSB_NR, header = dsb_packed_header(DSB_PACKED_##t) * DSB_NR, step = bytes * dsb_abreast(w->rows, p);                      \
        int64_t ahead = n < w->cols ? PK_AHEAD_##t : PK_AHEAD, place = p % DSB_ABREAST;                                                                                                              \
        const uint8_t *b = (const uint8_t *)w->data + dsb_block_at(&w->packed, w->rows, w->cols, p - place, 0);                                                                                      \
        pk_sink s;                                                                                                                                                                                   \
        s.cols = w->cols;                                                                                                                                                                            \
        for (int r = 0; r < m; r++)                                                                                                                                                                  \
            for (int j = 0; j < np; j++) s.sum[r][j] = vf_set(0);                                                                                                                                    \
        for (int64_t k = 0; k < w->cols; k += n, b += step) {                                                                                                                                        \
            int64_t some = w->cols - k < n ? w->cols - k : n, stride = some < n ? dsb_packed_bytes(&w->packed, some) * DSB_NR : bytes;                                                               \
            s.x = x + k;                                                                                                                                                                             \
            pk_piece_##t(&s, m, np, &w->packed, b + place * stride, b + place * stride + header, stride, ahead, some);                                                                               \
        }                                                                                                                                                                                            \
        for (int r = 0; r < m; r++)                                                                                                                                                                  \
            for (int j = 0; j < np; j++) vf_store_some(y + r * w->rows + (p + j) * DSB_NR, s.sum[r][j], pk_width(w, p + j));                                                                         \
    }                                                                                                                                                                                                \
    static __attribute__((noinline)) void pk_wide_1_##t(const dsb_wmat *w, int64_t p, const float *x, float *y) { pk_panels_##t(w, p, PK_WIDE, 1, x, y); }                                           \
    static __attribute__((noinline)) void pk_wide_2_##t(const dsb_wmat *w, int64_t p, const float *x, float *y) { pk_panels_##t(w, p, PK_WIDE, 2, x, y); }                                           \
    static __attribute__((noinline)) void pk_wide_4_##t(const dsb_wmat *w, int64_t p, const float *x, float *y) { pk_panels_##t(w, p, PK_WIDE, 4, x, y); }                                           \
    static __attribute__((noinline)) void pk_one_##t(const dsb_wmat *w, int64_t p, const float *x, float *y) { pk_panels_##t(w, p, 1, 1, x, y); }                                                    \
    /* n inputs of one block into a tile. */                                                                                                                                                         \
    static __attribute__((noinline)) void pk_tile_##t(const dsb_packed *p, const uint8_t *head, const uint8_t *b, int64_t n, float *tile) {                                                          \
        pk_sink s;                                                                                                                                                                                   \
        s.tile = tile;                                                                                                                                                                               \
        pk_piece_##t(&s, 0, 1, p, head, b, 0, PK_AHEAD, n);                                                                                                                                                    \
    }

DSB_PACKED_TYPES(PK_PIECE, 0)

#define PK_ROW(ignored, t) [DSB_PACKED_##t] = {{pk_wide_1_##t, pk_wide_2_##t, pk_wide_4_##t}, pk_one_##t, pk_tile_##t},
static const struct pk_row {
    void (*wide[3])(const dsb_wmat *w, int64_t p, const float *x, float *y); /* of 1, 2, 4 rows */
    void (*one)(const dsb_wmat *w, int64_t p, const float *x, float *y);
    void (*tile)(const dsb_packed *p, const uint8_t *head, const uint8_t *b, int64_t n, float *tile);
} k_type[DSB_PACKED_COUNT] = {DSB_PACKED_TYPES(PK_ROW, 0)};

/* Decodes panel p from input k on, as far as whole pieces fit PK_DEPTH; a block of any number of inputs is cut at a whole word. Returns how many. */
static int64_t pk_fill(const dsb_wmat *w, int64_t p, int64_t k, float *tile) {
    const dsb_packed *f = &w->packed;
    int64_t header = dsb_packed_header(f->type), first = k;
    while (k < w->cols) {
        int64_t in = k % f->n, left = f->n - in < w->cols - k ? f->n - in : w->cols - k, room = PK_DEPTH - (k - first), n = left <= room ? left : header ? room / 8 * 8 : 0;
        if (n == 0) break;
        const uint8_t *block = (const uint8_t *)w->data + dsb_block_at(f, w->rows, w->cols, p, k - in);
        k_type[f->type].tile(f, block, block + (header ? dsb_packed_bytes(f, in) : 0) * DSB_NR, n, tile + (k - first) * DSB_NR);
        k += n;
    }
    return k - first;
}

/* m rows x (stride apart) times tiles of n inputs: sums that wait in y between tiles, which changes no bit. */
typedef struct pk_part {
    const float (*tile)[PK_DEPTH * DSB_NR];
    const float *x;
    float *y;
    int64_t n, cols, rows;
    int width[PK_PAIR];
    bool first;
} pk_part;

PK_INLINE void pk_product(const pk_part *t, int np, int m) {
    vf sum[16][PK_PAIR];
    for (int r = 0; r < m; r++)
        for (int j = 0; j < np; j++) sum[r][j] = t->first ? vf_set(0) : vf_load_some(t->y + r * t->rows + j * DSB_NR, t->width[j]);
    for (int64_t k = 0; k < t->n; k++) {
        vf v[PK_PAIR];
        for (int j = 0; j < np; j++) v[j] = vf_load(t->tile[j] + k * DSB_NR);
        for (int r = 0; r < m; r++) {
            vf b = vf_set(t->x[r * t->cols + k]);
            for (int j = 0; j < np; j++) sum[r][j] = vf_fma(b, v[j], sum[r][j]);
        }
    }
    for (int r = 0; r < m; r++)
        for (int j = 0; j < np; j++) vf_store_some(t->y + r * t->rows + j * DSB_NR, sum[r][j], t->width[j]);
}

/* One function a shape: each keeps its sums in registers. */
#define PK_PRODUCT(m)                                                                            \
    static __attribute__((noinline)) void pk_pair_##m(const pk_part *t) { pk_product(t, PK_PAIR, m); } \
    static __attribute__((noinline)) void pk_single_##m(const pk_part *t) { pk_product(t, 1, m); }
PK_ROWS(PK_PRODUCT)
#define PK_SHAPE(m) {m, pk_pair_##m, pk_single_##m},
static const struct pk_shape {
    int m;
    void (*pair)(const pk_part *t), (*single)(const pk_part *t);
} k_shape[] = {PK_ROWS(PK_SHAPE)};

/* Rows first .. last against np panels from p on. */
static void pk_rows(const dsb_wmat *w, const dsb_act *x, int64_t p, int np, int64_t first, int64_t last, float *y) {
    float tile[PK_PAIR][PK_DEPTH * DSB_NR] __attribute__((aligned(64)));
    pk_part t = {.tile = (const float(*)[PK_DEPTH * DSB_NR])tile, .cols = w->cols, .rows = w->rows};
    for (int j = 0; j < np; j++) t.width[j] = pk_width(w, p + j);
    for (int64_t k = 0; k < w->cols; k += t.n) {
        for (int j = 0; j < np; j++) t.n = pk_fill(w, p + j, k, tile[j]);
        t.first = k == 0;
        const struct pk_shape *s = k_shape;
        for (int64_t i = first; i < last; i += s->m) {
            while (i + s->m > last) s++;
            t.x = x->f32 + i * w->cols + k;
            t.y = y + i * w->rows + p * DSB_NR;
            if (np == 1) s->single(&t);
            else s->pair(&t);
        }
    }
}

/* Few rows against panels p .. end: sums stay in registers. */
static void pk_few(const dsb_wmat *w, const dsb_act *x, int64_t p, int64_t end, float *y) {
    const struct pk_row *t = &k_type[w->packed.type];
    bool wide = end - p == PK_WIDE;
    for (int64_t i = 0, m; i < x->n; i += m) {
        int shape = !wide || x->n - i == 1 ? 0 : x->n - i < 4 ? 1 : 2;
        m = 1 << shape;
        if (wide) t->wide[shape](w, p, x->f32 + i * w->cols, y + i * w->rows);
        for (int64_t q = p; q < end && !wide; q++) t->one(w, q, x->f32 + i * w->cols, y + i * w->rows);
    }
}

static void pk_run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    if (j->x->n <= PK_FEW) pk_few(j->w, j->x, p, end, j->y);
    else pk_rows(j->w, j->x, p, (int)(end - p), first, last, j->y);
}

void PK_PLAN(pr_job *j) { pr_cut(j, PK_BLOCK, j->x->n <= PK_FEW ? PK_WIDE : PK_PAIR, pk_run); }

#endif

#endif
