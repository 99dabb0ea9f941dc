/* Products of f32 rows with packed weights (base/packed.h), in vectors of 16 outputs. An instruction set's gemm_block.c defines the vectors
 * and their operations, then includes this:
 *   vf, vi: 16 floats, 16 int32; vf_set vf_load vf_store vf_load_some vf_store_some (the first n) vf_half (16 FP16) vf_mul vf_sub
 *   vf_fma (a·b + c) vf_fms (a·b − c) vf_int (from vi) vf_bits (the same bits) vf_nibble (low 4 bits) vf_look (table[low 4 bits]);
 *   vi_u8 vi_s8 (16 bytes) vi_set vi_shr vi_shl vi_and vi_or vi_sub vi_max
 *   PK_GEMM: the product's name; PK_WIDE: panels at once where there is one row; PK_PAIR: panels, PK_ROWS(X): rows of a tile of sums.
 * Values are those of dsb_packed_decode: where it rounds twice and this once, the first result is exact (FP16 times small integers). */
#ifndef DSB_KERNELS_PORTABLE_PACKED_H
#define DSB_KERNELS_PORTABLE_PACKED_H

#include "base/blocks.h"
#include "base/ggml.h"
#include "kernels/layout.h"

#define PK_INLINE static inline __attribute__((always_inline))
enum { PK_DEPTH = 256, PK_BLOCK = 96 }; /* inputs of a decoded tile, which stays in the first-level cache; rows that pass over it */

/* Where values go: into a tile [k][16], or times x into a sum a panel. */
typedef struct pk_sink {
    float *tile;
    const float *x;
    vf sum[PK_WIDE];
} pk_sink;

PK_INLINE void pk_put(pk_sink *s, bool tile, int j, int64_t k, vf w) {
    if (tile) vf_store(s->tile + k * DSB_NR, w);
    else s->sum[j] = vf_fma(vf_set(s->x[k]), w, s->sum[j]);
}

/* Byte i of the 16 blocks of a panel; a half there; a byte as a number. */
PK_INLINE const uint8_t *pk_at(const uint8_t *b, int64_t i) { return b + i * DSB_NR; }
PK_INLINE vf pk_half(const uint8_t *b, int64_t i) { return vf_half(pk_at(b, i)); }
PK_INLINE vi pk_u8(const uint8_t *b, int64_t i) { return vi_u8(pk_at(b, i)); }
PK_INLINE vi pk_s8(const uint8_t *b, int64_t i) { return vi_s8(pk_at(b, i)); }
PK_INLINE vi pk_bits(vi v, int shift, int mask) { return vi_and(vi_shr(v, shift), mask); }

/* Signed bytes: the fields moved to f32's places, then the exponent's bias made up by an exact product. */
PK_INLINE vf pk_e4m3(vi c) { return vf_mul(vf_bits(vi_and(vi_shl(c, 20), (int)0x87f00000)), vf_set(0x1p120f)); }
PK_INLINE vf pk_e5m2(vi c) { return vf_mul(vf_bits(vi_and(vi_shl(c, 21), (int)0x8fe00000)), vf_set(0x1p112f)); }
PK_INLINE vf pk_e8m0(vi c) { return vf_bits(vi_max(vi_shl(c, 23), 0x00400000)); } /* 0 is 2^-127, a subnormal */

static const float pk_q4_level[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
static const float pk_iq4_level[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* Each type: a scale (and what goes with it) of group g of a block, the code of input i + u of the group (i even, u 0 or 1), the value.
 * Groups are of PK_GROUP_… inputs; 0: the whole of what there is, `b` then points to the codes and `head` to what is before them. */
#define PK_SCALE(t) PK_INLINE void pk_scale_##t(const dsb_packed *p, const uint8_t *b, int g, vf *scale, vf *rest)
#define PK_CODE(t) PK_INLINE vf pk_code_##t(const uint8_t *b, int g, int64_t i, int u)
#define PK_VALUE(t, expression) \
    PK_INLINE vf pk_value_##t(vf code, vf scale, vf rest) { return expression; }
#define PK_TIMES(t) PK_VALUE(t, vf_mul(code, scale))
#define PK_LESS_MIN(t) PK_VALUE(t, vf_fms(scale, code, rest))
#define PK_LESS_ZERO(t) PK_VALUE(t, vf_mul(vf_sub(code, rest), scale))

enum { PK_GROUP_q4_0 = 16, PK_GROUP_q5_0 = 16, PK_GROUP_q8_0 = 32, PK_GROUP_iq4_nl = 16, PK_GROUP_q2_K = 16, PK_GROUP_q3_K = 16, PK_GROUP_q4_K = 32, PK_GROUP_q5_K = 32, PK_GROUP_q6_K = 16,
       PK_GROUP_mxfp4 = 32, PK_GROUP_mxfp8 = 32, PK_GROUP_nvfp4 = 16, PK_GROUP_fp8_e4m3 = 0, PK_GROUP_fp8_e5m2 = 0, PK_GROUP_nf4 = 0, PK_GROUP_w4a16 = 0, PK_GROUP_w8a16 = 0 };

PK_SCALE(q4_0) { *scale = pk_half(b, 0); }
PK_CODE(q4_0) { return vf_look(pk_q4_level, vi_shr(pk_u8(b, 2 + i + u), 4 * g)); }
PK_TIMES(q4_0)

PK_SCALE(iq4_nl) { *scale = pk_half(b, 0); }
PK_CODE(iq4_nl) { return vf_look(pk_iq4_level, vi_shr(pk_u8(b, 2 + i + u), 4 * g)); }
PK_TIMES(iq4_nl)

PK_SCALE(q5_0) { *scale = pk_half(b, 0); }
PK_CODE(q5_0) {
    int k = 16 * g + (int)i + u;
    return vf_int(vi_sub(vi_or(pk_bits(pk_u8(b, 6 + i + u), 4 * g, 15), vi_shl(pk_bits(pk_u8(b, 2 + k / 8), k % 8, 1), 4)), 16));
}
PK_TIMES(q5_0)

PK_SCALE(q8_0) { *scale = pk_half(b, 0); }
PK_CODE(q8_0) { return vf_int(pk_s8(b, 2 + i + u)); }
PK_TIMES(q8_0)

PK_SCALE(q2_K) {
    vi s = pk_u8(b, g);
    *scale = vf_mul(pk_half(b, 80), vf_nibble(s));
    *rest = vf_mul(pk_half(b, 82), vf_nibble(vi_shr(s, 4)));
}
PK_CODE(q2_K) { return vf_int(pk_bits(pk_u8(b, 16 + g / 8 * 32 + g % 2 * 16 + i + u), g % 8 / 2 * 2, 3)); }
PK_LESS_MIN(q2_K)

PK_SCALE(q3_K) {
    vi s = vi_or(pk_bits(pk_u8(b, 96 + g % 8), g / 8 * 4, 15), vi_shl(pk_bits(pk_u8(b, 104 + g % 4), g / 4 * 2, 3), 4));
    *scale = vf_mul(pk_half(b, 108), vf_int(vi_sub(s, 32)));
}
PK_CODE(q3_K) {
    vi low = pk_bits(pk_u8(b, 32 + g / 8 * 32 + g % 2 * 16 + i + u), g % 8 / 2 * 2, 3), high = pk_bits(pk_u8(b, g % 2 * 16 + i + u), g / 2, 1);
    return vf_int(vi_sub(vi_or(low, vi_shl(high, 2)), 4));
}
PK_TIMES(q3_K)

/* Scales and minima of 6 bits in 12 bytes. */
PK_SCALE(q4_K) {
    const uint8_t *s = pk_at(b, 4);
    vi a, m;
    if (g < 4) {
        a = pk_bits(pk_u8(s, g), 0, 63);
        m = pk_bits(pk_u8(s, g + 4), 0, 63);
    } else {
        a = vi_or(pk_bits(pk_u8(s, g + 4), 0, 15), vi_shl(pk_bits(pk_u8(s, g - 4), 6, 3), 4));
        m = vi_or(pk_bits(pk_u8(s, g + 4), 4, 15), vi_shl(pk_bits(pk_u8(s, g), 6, 3), 4));
    }
    *scale = vf_mul(pk_half(b, 0), vf_int(a));
    *rest = vf_mul(pk_half(b, 2), vf_int(m));
}
PK_CODE(q4_K) { return vf_nibble(vi_shr(pk_u8(b, 16 + g / 2 * 32 + i + u), g % 2 * 4)); }
PK_LESS_MIN(q4_K)

PK_SCALE(q5_K) { pk_scale_q4_K(p, b, g, scale, rest); }
PK_CODE(q5_K) { return vf_int(vi_or(pk_bits(pk_u8(b, 48 + g / 2 * 32 + i + u), g % 2 * 4, 15), vi_shl(pk_bits(pk_u8(b, 16 + i + u), g, 1), 4))); }
PK_LESS_MIN(q5_K)

PK_SCALE(q6_K) { *scale = vf_mul(pk_half(b, 208), vf_int(pk_s8(b, 192 + g))); }
PK_CODE(q6_K) {
    vi low = pk_bits(pk_u8(b, g / 8 * 64 + g % 4 * 16 + i + u), g % 8 / 4 * 4, 15), high = pk_bits(pk_u8(b, 128 + g / 8 * 32 + g % 2 * 16 + i + u), g % 8 / 2 * 2, 3);
    return vf_int(vi_sub(vi_or(low, vi_shl(high, 4)), 32));
}
PK_TIMES(q6_K)

PK_SCALE(mxfp4) { *scale = pk_e8m0(pk_u8(b, 0)); }
PK_CODE(mxfp4) { return vf_look(dsb_e2m1_value, vi_shr(pk_u8(b, 1 + i / 2), 4 * u)); }
PK_TIMES(mxfp4)

PK_SCALE(mxfp8) { *scale = pk_e8m0(pk_u8(b, 0)); }
PK_CODE(mxfp8) { return pk_e4m3(pk_s8(b, 1 + i + u)); }
PK_TIMES(mxfp8)

PK_SCALE(nvfp4) {
    *scale = pk_e4m3(pk_s8(b, 0));
    *rest = vf_set(p->global);
}
PK_CODE(nvfp4) { return vf_look(dsb_e2m1_value, vi_shr(pk_u8(b, 1 + g * 8 + i / 2), 4 * u)); }
PK_VALUE(nvfp4, vf_mul(vf_mul(code, scale), rest))

PK_INLINE vf pk_f32(const uint8_t *head) { return vf_load((const float *)(const void *)head); }
PK_SCALE(fp8_e4m3) { *scale = pk_f32(b); }
PK_CODE(fp8_e4m3) { return pk_e4m3(pk_s8(b, i + u)); }
PK_TIMES(fp8_e4m3)

PK_SCALE(fp8_e5m2) { *scale = pk_f32(b); }
PK_CODE(fp8_e5m2) { return pk_e5m2(pk_s8(b, i + u)); }
PK_TIMES(fp8_e5m2)

PK_SCALE(nf4) { *scale = pk_f32(b); }
PK_CODE(nf4) { return vf_look(dsb_nf4_value, vi_shr(pk_u8(b, i / 2), 4 * u)); }
PK_TIMES(nf4)

PK_SCALE(w4a16) {
    *scale = pk_f32(b);
    *rest = vf_int(vi_sub(pk_s8(b, 4), -8));
}
PK_CODE(w4a16) { return vf_nibble(vi_shr(pk_u8(b, i / 2), 4 * u)); }
PK_LESS_ZERO(w4a16)

PK_SCALE(w8a16) {
    *scale = pk_f32(b);
    *rest = vf_int(pk_s8(b, 4));
}
PK_CODE(w8a16) { return vf_int(pk_s8(b, i + u)); }
PK_LESS_ZERO(w8a16)

/* Outputs of panel p. */
PK_INLINE int pk_width(const dsb_wmat *w, int64_t p) { return w->rows - p * DSB_NR < DSB_NR ? (int)(w->rows - p * DSB_NR) : DSB_NR; }

/* n inputs of a block whose panels lie `stride` bytes apart. */
#define PK_PIECE(ignored, t)                                                                                                                                                                     \
    PK_INLINE void pk_piece_##t(pk_sink *s, bool tile, int np, const dsb_packed *p, const uint8_t *head, const uint8_t *b, int64_t stride, int64_t n) {                               \
        int64_t group = PK_GROUP_##t ? PK_GROUP_##t : n;                                                                                                                               \
        for (int g = 0; g * group < n; g++) {                                                                                                                                          \
            vf scale[PK_WIDE], rest[PK_WIDE];                                                                                                                                          \
            for (int j = 0; j < np; j++) pk_scale_##t(p, head + j * stride, g, &scale[j], &rest[j]);                                                                                   \
            for (int64_t i = 0; i + 2 <= group; i += 2)                                                                                                                                \
                for (int u = 0; u < 2; u++)                                                                                                                                            \
                    for (int j = 0; j < np; j++) pk_put(s, tile, j, g * group + i + u, pk_value_##t(pk_code_##t(b + j * stride, g, i, u), scale[j], rest[j]));                         \
            if (PK_GROUP_##t == 0 && n % 2)                                                                                                                                            \
                for (int j = 0; j < np; j++) pk_put(s, tile, j, n - 1, pk_value_##t(pk_code_##t(b + j * stride, g, n - 1, 0), scale[j], rest[j]));                                     \
        }                                                                                                                                                                              \
    }                                                                                                                                                                                  \
    /* One row x against np panels from p on. */                                                                                                                                       \
    PK_INLINE void pk_panels_##t(const dsb_wmat *w, int64_t p, int np, const float *x, float *y) {                                                                                     \
        int64_t n = w->packed.n, stride = dsb_packed_row_bytes(&w->packed, w->cols) * DSB_NR, bytes = dsb_packed_bytes(&w->packed, n) * DSB_NR;                                         \
        const uint8_t *b = (const uint8_t *)w->data + p * stride;                                                                                                                      \
        pk_sink s;                                                                                                                                                                     \
        for (int j = 0; j < np; j++) s.sum[j] = vf_set(0);                                                                                                                             \
        for (int64_t k = 0; k < w->cols; k += n, b += bytes) {                                                                                                                         \
            s.x = x + k;                                                                                                                                                               \
            pk_piece_##t(&s, false, np, &w->packed, b, b + dsb_packed_header(DSB_PACKED_##t) * DSB_NR, stride, w->cols - k < n ? w->cols - k : n);                                     \
        }                                                                                                                                                                              \
        for (int j = 0; j < np; j++) vf_store_some(y + (p + j) * DSB_NR, s.sum[j], pk_width(w, p + j));                                                                                \
    }                                                                                                                                                                                  \
    static __attribute__((noinline)) void pk_wide_##t(const dsb_wmat *w, int64_t p, const float *x, float *y) { pk_panels_##t(w, p, PK_WIDE, x, y); }                                  \
    static __attribute__((noinline)) void pk_one_##t(const dsb_wmat *w, int64_t p, const float *x, float *y) { pk_panels_##t(w, p, 1, x, y); }                                         \
    /* n inputs of one block into a tile. */                                                                                                                                           \
    static __attribute__((noinline)) void pk_tile_##t(const dsb_packed *p, const uint8_t *head, const uint8_t *b, int64_t n, float *tile) {                                            \
        pk_sink s;                                                                                                                                                                     \
        s.tile = tile;                                                                                                                                                                 \
        pk_piece_##t(&s, true, 1, p, head, b, 0, n);                                                                                                                                   \
    }

DSB_PACKED_TYPES(PK_PIECE, 0)

#define PK_ROW(ignored, t) [DSB_PACKED_##t] = {pk_wide_##t, pk_one_##t, pk_tile_##t},
static const struct pk_row {
    void (*wide)(const dsb_wmat *w, int64_t p, const float *x, float *y);
    void (*one)(const dsb_wmat *w, int64_t p, const float *x, float *y);
    void (*tile)(const dsb_packed *p, const uint8_t *head, const uint8_t *b, int64_t n, float *tile);
} k_type[DSB_PACKED_COUNT] = {DSB_PACKED_TYPES(PK_ROW, 0)};

/* Decodes panel p from input k on, as far as whole pieces fit PK_DEPTH; a block of any number of inputs is cut at an even one. Returns how many. */
static int64_t pk_fill(const dsb_wmat *w, int64_t p, int64_t k, float *tile) {
    const dsb_packed *f = &w->packed;
    const uint8_t *panel = (const uint8_t *)w->data + p * dsb_packed_row_bytes(f, w->cols) * DSB_NR;
    int64_t header = dsb_packed_header(f->type), first = k;
    while (k < w->cols) {
        int64_t in = k % f->n, left = f->n - in < w->cols - k ? f->n - in : w->cols - k, room = PK_DEPTH - (k - first), n = left <= room ? left : header ? room / 2 * 2 : 0;
        if (n == 0) break;
        const uint8_t *block = panel + k / f->n * dsb_packed_bytes(f, f->n) * DSB_NR;
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

void PK_GEMM(const dsb_wmat *w, const dsb_act *x, float *y) {
    int64_t panels = dsb_ceil_div(w->rows, DSB_NR), at_once = x->n == 1 ? PK_WIDE : PK_PAIR, steps = dsb_ceil_div(panels, at_once), blocks = dsb_ceil_div(x->n, PK_BLOCK);
#pragma omp parallel for schedule(static) collapse(2) if (x->n * w->rows * w->cols > 1 << 18)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t s = 0; s < steps; s++) {
            int64_t p = s * at_once, end = p + at_once < panels ? p + at_once : panels, first = b * PK_BLOCK, last = first + PK_BLOCK < x->n ? first + PK_BLOCK : x->n;
            if (x->n > 1)
                for (; p < end; p += PK_PAIR) pk_rows(w, x, p, end - p < PK_PAIR ? 1 : PK_PAIR, first, last, y);
            else if (end - p == PK_WIDE) k_type[w->packed.type].wide(w, p, x->f32, y);
            else
                for (; p < end; p++) k_type[w->packed.type].one(w, p, x->f32, y);
        }
}

#endif
