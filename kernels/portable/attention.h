/* Attention: scores by a fused chain over a head's values, softmax by rows, a fused chain over keys for each output. All queries that share
 * a head of keys pass together, in blocks of PA_BLOCK rows; a block's scores are all that grows with the keys: no n² memory.
 * Tiles, blocks and threads only say which chains run side by side; the order within each is fixed, so they change no bit. */
#ifndef DSB_KERNELS_PORTABLE_ATTENTION_H
#define DSB_KERNELS_PORTABLE_ATTENTION_H

#include <omp.h>

#include "kernels/portable/rows.h"
#include "kernels/portable/vector.h"

/* LANES: keys (or outputs) of a panel. BLOCK: rows whose scores are held, whole tiles of each instruction set. DEPTH: keys of which a
 * panel's values stay in the second-level cache. */
enum { PA_LANES = 2 * PR_WIDTH, PA_BLOCK = 24, PA_DEPTH = 1024 };

static inline int64_t pa_up(int64_t n) { return dsb_ceil_div(n, PA_LANES) * PA_LANES; }

/* y[r][l] (+)= Σ a[r][i] · b[i][l], i ascending; PA_LANES lanes. add: from what y holds, else from 0. Strides in values. */
static inline __attribute__((always_inline)) void pa_tile(const float *a, int64_t a_stride, const float *b, int64_t b_stride, int64_t n, int m, bool add, float *y, int64_t y_stride) {
    PR_VEC s[PR_ROWS][2];
    for (int r = 0; r < m; r++)
        for (int j = 0; j < 2; j++) s[r][j] = add ? PR_LOAD(y + r * y_stride + j * PR_WIDTH) : PR_ZERO();
    for (int64_t i = 0; i < n; i++, b += b_stride) {
        PR_VEC v[2];
        for (int j = 0; j < 2; j++) v[j] = PR_LOAD(b + j * PR_WIDTH);
        for (int r = 0; r < m; r++)
            for (int j = 0; j < 2; j++) s[r][j] = PR_FMA(a[r * a_stride + i], v[j], s[r][j]);
    }
    for (int r = 0; r < m; r++)
        for (int j = 0; j < 2; j++) PR_STORE(y + r * y_stride + j * PR_WIDTH, s[r][j]);
}

/* One function a number of rows: each keeps its sums in registers. */
#define PA_TILE(m) \
    static __attribute__((noinline)) void pa_tile_##m(const float *a, int64_t a_stride, const float *b, int64_t b_stride, int64_t n, bool add, float *y, int64_t y_stride) { pa_tile(a, a_stride, b, b_stride, n, m, add, y, y_stride); }
PA_TILE(1)
PA_TILE(2)
PA_TILE(4)
#if PR_ROWS >= 6
PA_TILE(6)
#endif
#if PR_ROWS >= 12
PA_TILE(12)
#endif

/* The most rows a tile takes of those left. */
static inline int pa_rows(int64_t left) { return left >= 12 && PR_ROWS >= 12 ? 12 : left >= 6 && PR_ROWS >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1; }

static void pa_multiply(int m, const float *a, int64_t a_stride, const float *b, int64_t b_stride, int64_t n, bool add, float *y, int64_t y_stride) {
    switch (m) {
#if PR_ROWS >= 12
    case 12: pa_tile_12(a, a_stride, b, b_stride, n, add, y, y_stride); break;
#endif
#if PR_ROWS >= 6
    case 6: pa_tile_6(a, a_stride, b, b_stride, n, add, y, y_stride); break;
#endif
    case 4: pa_tile_4(a, a_stride, b, b_stride, n, add, y, y_stride); break;
    case 2: pa_tile_2(a, a_stride, b, b_stride, n, add, y, y_stride); break;
    default: pa_tile_1(a, a_stride, b, b_stride, n, add, y, y_stride);
    }
}

/* One sequence with one head of keys. Row r is query r / group of head r % group of those that share it. */
typedef struct pa_part {
    const dsb_attention_shape *a;
    const dsb_seq *seq;
    const float *q, *k, *v; /* the whole arrays */
    float *out;
    int64_t head, group, k_stride, v_stride; /* head: of keys */
    int64_t width;                           /* of a row of scores: keys in whole panels */
} pa_part;

static pa_part pa_part_of(const dsb_attention_shape *a, const dsb_seq *seq, int64_t head, const float *q, const float *k, const float *v, float *out) {
    int64_t kr = a->k_stride ? a->k_stride : a->kv_heads * a->qk_dim, vr = a->v_stride ? a->v_stride : a->kv_heads * a->v_dim;
    return (pa_part){.a = a, .seq = seq, .q = q, .k = k + seq->kv0 * kr + head * a->qk_dim, .v = v + seq->kv0 * vr + head * a->v_dim, .out = out, .head = head, .group = a->heads / a->kv_heads, .k_stride = kr, .v_stride = vr, .width = pa_up(seq->n_kv)};
}

/* A row's place among rows of q and of the output, in heads. */
static int64_t pa_row(const pa_part *p, int64_t r) { return (p->seq->q0 + r / p->group) * p->a->heads + p->head * p->group + r % p->group; }

/* Keys that row r sees: *first .. its result. */
static int64_t pa_keys(const pa_part *p, int64_t r, int64_t *first) {
    int64_t n = p->seq->n_kv - p->seq->n_q + r / p->group + 1;
    *first = p->a->window > 0 && n > p->a->window ? n - p->a->window : 0;
    return n;
}

/* Keys j0 .. j0 + PA_LANES (of n) as a panel (qk, PA_LANES): zero where they end. */
static void pa_pack_keys(const pa_part *p, int64_t j0, float *panel) {
    int64_t qk = p->a->qk_dim, n = p->seq->n_kv - j0 < PA_LANES ? p->seq->n_kv - j0 : PA_LANES;
    if (n < PA_LANES) memset(panel, 0, (size_t)(qk * PA_LANES) * sizeof *panel);
    for (int64_t l = 0; l < n; l++) {
        const float *row = p->k + (j0 + l) * p->k_stride;
        for (int64_t i = 0; i < qk; i++) panel[i * PA_LANES + l] = row[i];
    }
}

/* Values d0 .. d0 + PA_LANES of keys j0 .. j0 + n as a panel (n, PA_LANES). */
static void pa_pack_values(const pa_part *p, int64_t d0, int64_t j0, int64_t n, float *panel) {
    int64_t w = p->a->v_dim - d0 < PA_LANES ? p->a->v_dim - d0 : PA_LANES;
    for (int64_t j = 0; j < n; j++, panel += PA_LANES) {
        if (w < PA_LANES) memset(panel, 0, PA_LANES * sizeof *panel);
        memcpy(panel, p->v + (j0 + j) * p->v_stride + d0, (size_t)w * sizeof *panel);
    }
}

/* Scores of n rows from r0 on against the panel of keys that begins at j0; q (n, qk), s (n, width). Rows that see none of them are left out. */
static void pa_scores(const pa_part *p, int64_t r0, int64_t n, const float *q, int64_t j0, const float *panel, float *s) {
    int64_t qk = p->a->qk_dim, first, last;
    for (int64_t r = 0, m; r < n; r += m) {
        m = pa_rows(n - r);
        last = pa_keys(p, r0 + r + m - 1, &first);
        pa_keys(p, r0 + r, &first);
        if (last > j0 && first < j0 + PA_LANES) pa_multiply((int)m, q + r * qk, qk, panel, PA_LANES, qk, false, s + r * p->width + j0, p->width);
    }
}

/* s[0..n) becomes exp(scale·s − top); returns their sum in 8 lanes. s has room for n rounded up to 8. A sink is one more logit, of no value. */
static float pa_softmax(float *s, int64_t n, float scale, const float *sink) {
    enum { TOPS = 16 };
    float tops[TOPS], top = sink ? *sink : -INFINITY, a[8] = {0};
    int64_t j = 0, padded = (n + 7) / 8 * 8;
    for (int l = 0; l < TOPS; l++) tops[l] = -INFINITY;
    for (; j + TOPS <= n; j += TOPS)
        for (int l = 0; l < TOPS; l++) {
            s[j + l] *= scale;
            tops[l] = s[j + l] > tops[l] ? s[j + l] : tops[l];
        }
    for (; j < n; j++) {
        s[j] *= scale;
        top = s[j] > top ? s[j] : top;
    }
    for (int l = 0; l < TOPS; l++) top = tops[l] > top ? tops[l] : top;
    for (j = 0; j < n; j++) s[j] = pm_expf(s[j] - top);
    for (; j < padded; j++) s[j] = 0;
    for (j = 0; j < padded; j += 8)
        for (int l = 0; l < 8; l++) a[l] += s[j + l];
    float sum = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
    return sink ? sum + pm_expf(*sink - top) : sum;
}

/* Softmax of row r's scores; 0 on the other keys of from .. end, which rows of the same block see. Returns the sum. */
static float pa_softmax_row(const pa_part *p, int64_t r, int64_t from, int64_t end, float *s) {
    const float *sinks = p->a->sinks;
    int64_t first, n = pa_keys(p, r, &first);
    float sum = pa_softmax(s + first, n - first, p->a->scale, sinks ? sinks + p->head * p->group + r % p->group : NULL);
    if (first > from) memset(s + from, 0, (size_t)(first - from) * sizeof *s);
    if (end > n) memset(s + n, 0, (size_t)(end - n) * sizeof *s);
    return sum;
}

/* o (n, o_stride) (+)= weights · values of keys j0 .. j0 + count, PA_LANES outputs. Where values are finite, rows of a tile share their keys:
 * those that a row doesn't see have weight 0. */
static void pa_values(const pa_part *p, int64_t r0, int64_t n, const float *s, int64_t j0, int64_t count, const float *b, int64_t b_stride, bool finite, bool add, float *o, int64_t o_stride) {
    for (int64_t r = 0, m; r < n; r += m) {
        int64_t from, end, ignored;
        m = finite ? pa_rows(n - r) : 1;
        pa_keys(p, r0 + r, &from);
        end = pa_keys(p, r0 + r + m - 1, &ignored);
        from = from > j0 ? from : j0;
        end = end < j0 + count ? end : j0 + count;
        if (end <= from) from = end = j0;
        if (!add || end > from) pa_multiply((int)m, s + r * p->width + from, p->width, b + (from - j0) * b_stride, b_stride, end - from, add, o + r * o_stride, o_stride);
    }
}

static bool pa_finite(const pa_part *p) {
    for (int64_t j = 0; j < p->seq->n_kv; j++)
        if (!(pr_row_max(p->v + j * p->v_stride, p->a->v_dim) <= FLT_MAX)) return false;
    return true;
}

static void pa_gather(const pa_part *p, int64_t r0, int64_t n, float *q) {
    for (int64_t r = 0; r < n; r++) memcpy(q + r * p->a->qk_dim, p->q + pa_row(p, r0 + r) * p->a->qk_dim, (size_t)p->a->qk_dim * sizeof *q);
}

static void pa_put(const pa_part *p, int64_t r, const float *o, float sum) {
    float *out = p->out + pa_row(p, r) * p->a->v_dim;
    for (int64_t d = 0; d < p->a->v_dim; d++) out[d] = o[d] / sum;
}

static float *pa_alloc(int64_t values) {
    float *x = aligned_alloc(64, (size_t)((values * 4 + 63) / 64 * 64));
    if (!x) abort(); /* little beside the keys and values that are there: nothing can go on */
    return x;
}

/* ---- many queries: keys and values are packed once for all blocks of rows ---- */

/* Values of one thread's scratch, for sequences of at most n_kv keys. */
static int64_t pa_many_scratch(const dsb_attention_shape *a, int64_t n_kv) { return pa_up(n_kv) * (a->qk_dim + pa_up(a->v_dim) + PA_BLOCK) + PA_BLOCK * (a->qk_dim + pa_up(a->v_dim)); }

/* Rows r0 .. r1, whole blocks but for the last. */
static void pa_many(const pa_part *p, int64_t r0, int64_t r1, float *scratch) {
    int64_t qk = p->a->qk_dim, dv = pa_up(p->a->v_dim), n_kv = p->seq->n_kv, from, ignored, end = pa_keys(p, r1 - 1, &ignored);
    float *kp = scratch, *vp = kp + p->width * qk, *s = vp + p->width * dv, *q = s + PA_BLOCK * p->width, *o = q + PA_BLOCK * qk, sum[PA_BLOCK];
    bool finite = pa_finite(p);
    pa_keys(p, r0, &from);
    from = from / PA_LANES * PA_LANES;
    for (int64_t j = from; j < end; j += PA_LANES) pa_pack_keys(p, j, kp + j * qk);
    for (int64_t d = 0; d < dv; d += PA_LANES) pa_pack_values(p, d, from, end - from, vp + d * n_kv + from * PA_LANES);
    for (int64_t at = r0; at < r1; at += PA_BLOCK) {
        int64_t n = r1 - at < PA_BLOCK ? r1 - at : PA_BLOCK;
        end = pa_keys(p, at + n - 1, &ignored);
        pa_keys(p, at, &from);
        from = from / PA_LANES * PA_LANES;
        pa_gather(p, at, n, q);
        for (int64_t j = from; j < end; j += PA_LANES) pa_scores(p, at, n, q, j, kp + j * qk, s);
        for (int64_t r = 0; r < n; r++) sum[r] = pa_softmax_row(p, at + r, from, end, s + r * p->width);
        for (int64_t j = from; j < end; j += PA_DEPTH)
            for (int64_t d = 0; d < dv; d += PA_LANES) pa_values(p, at, n, s, j, end - j < PA_DEPTH ? end - j : PA_DEPTH, vp + d * n_kv + j * PA_LANES, PA_LANES, finite, j > from, o + d, dv);
        for (int64_t r = 0; r < n; r++) pa_put(p, at + r, o + r * dv, sum[r]);
    }
}

/* ---- few queries of one sequence: threads share its keys, and its values ---- */

typedef struct pa_few_room {
    float *q, *s, *o, *sum; /* (kv_heads, rows, qk), (…, width), (…, dv), (kv_heads, rows) */
} pa_few_room;

static void pa_few_values(const pa_part *p, int64_t rows, int64_t d0, int64_t d1, const float *s, bool finite, float *tile, float *o, int64_t dv) {
    enum { KEYS = 128 };
    for (int64_t j = 0; j < p->seq->n_kv; j += KEYS) {
        int64_t n = p->seq->n_kv - j < KEYS ? p->seq->n_kv - j : KEYS;
        for (int64_t d = d0; d < d1; d += PA_LANES) {
            bool whole = d + PA_LANES <= p->a->v_dim;
            if (!whole) pa_pack_values(p, d, j, n, tile);
            pa_values(p, 0, rows, s, j, n, whole ? p->v + j * p->v_stride + d : tile, whole ? p->v_stride : PA_LANES, finite, j > 0, o + d, dv);
        }
    }
}

static void pa_few(const dsb_attention_shape *a, const dsb_seq *seq, const float *q, const float *k, const float *v, float *out) {
    pa_part one = pa_part_of(a, seq, 0, q, k, v, out);
    int64_t rows = seq->n_q * one.group, all = rows * a->kv_heads, dv = pa_up(a->v_dim), panels = one.width / PA_LANES, threads = omp_get_max_threads();
    int64_t parts = dsb_ceil_div(threads, a->kv_heads), step;
    parts = parts > dv / PA_LANES ? dv / PA_LANES : parts;
    step = pa_up(dsb_ceil_div(dv, parts));
    float *room = pa_alloc(all * (a->qk_dim + one.width + dv + 1));
    pa_few_room f = {.q = room, .s = room + all * a->qk_dim};
    f.o = f.s + all * one.width;
    f.sum = f.o + all * dv;
    bool *finite = malloc((size_t)a->kv_heads * sizeof *finite);
    if (!finite) abort();
#pragma omp parallel if (all * seq->n_kv * (a->qk_dim + dv) > PR_PARALLEL)
    {
        float *tile = pa_alloc(PA_LANES * (a->qk_dim > 128 ? a->qk_dim : 128));
#pragma omp for schedule(static)
        for (int64_t h = 0; h < a->kv_heads; h++) {
            pa_part p = pa_part_of(a, seq, h, q, k, v, out);
            pa_gather(&p, 0, rows, f.q + h * rows * a->qk_dim);
            finite[h] = rows == 1 || pa_finite(&p);
        }
#pragma omp for schedule(static) collapse(2)
        for (int64_t h = 0; h < a->kv_heads; h++)
            for (int64_t j = 0; j < panels; j++) {
                pa_part p = pa_part_of(a, seq, h, q, k, v, out);
                pa_pack_keys(&p, j * PA_LANES, tile);
                pa_scores(&p, 0, rows, f.q + h * rows * a->qk_dim, j * PA_LANES, tile, f.s + h * rows * p.width);
            }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < all; r++) {
            pa_part p = pa_part_of(a, seq, r / rows, q, k, v, out);
            f.sum[r] = pa_softmax_row(&p, r % rows, 0, p.width, f.s + r * p.width);
        }
#pragma omp for schedule(static) collapse(2)
        for (int64_t h = 0; h < a->kv_heads; h++)
            for (int64_t i = 0; i < parts; i++) {
                pa_part p = pa_part_of(a, seq, h, q, k, v, out);
                pa_few_values(&p, rows, i * step < dv ? i * step : dv, (i + 1) * step < dv ? (i + 1) * step : dv, f.s + h * rows * p.width, finite[h], tile, f.o + h * rows * dv, dv);
            }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < all; r++) {
            pa_part p = pa_part_of(a, seq, r / rows, q, k, v, out);
            pa_put(&p, r % rows, f.o + r * dv, f.sum[r]);
        }
        free(tile);
    }
    free(finite);
    free(room);
}

static void pr_attention(const dsb_attention_shape *a, const dsb_seq *seqs, int64_t n_seq, const float *q, const float *k, const float *v, float *out) {
    enum { FEW_KEYS = 256 }; /* of sequences that are worth all threads one after the other */
    int64_t longest = 0, most = 0, group = a->heads / a->kv_heads;
    for (int64_t i = 0; i < n_seq; i++) {
        longest = seqs[i].n_kv > longest ? seqs[i].n_kv : longest;
        most = seqs[i].n_q > most ? seqs[i].n_q : most;
    }
    if (most == 0) return;
    if (most * group <= PA_BLOCK && (n_seq == 1 || longest >= FEW_KEYS)) {
        for (int64_t i = 0; i < n_seq; i++) pa_few(a, &seqs[i], q, k, v, out);
        return;
    }
    /* Where heads are too few for the threads, each packs the keys of its share of the rows. */
    int64_t parts = dsb_ceil_div(2 * omp_get_max_threads(), n_seq * a->kv_heads), blocks = dsb_ceil_div(most * group, PA_BLOCK);
    parts = parts > blocks ? blocks : parts;
    int64_t step = dsb_ceil_div(blocks, parts) * PA_BLOCK;
#pragma omp parallel
    {
        float *scratch = pa_alloc(pa_many_scratch(a, longest));
#pragma omp for schedule(dynamic) collapse(3)
        for (int64_t i = 0; i < n_seq; i++)
            for (int64_t h = 0; h < a->kv_heads; h++)
                for (int64_t part = 0; part < parts; part++) {
                    pa_part p = pa_part_of(a, &seqs[i], h, q, k, v, out);
                    int64_t rows = seqs[i].n_q * group, r0 = part * step, r1 = r0 + step < rows ? r0 + step : rows;
                    if (r0 < r1) pa_many(&p, r0, r1, scratch);
                }
        free(scratch);
    }
}

#endif
