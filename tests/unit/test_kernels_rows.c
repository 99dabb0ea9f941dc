/* Rows of the backend table, beside what test_kernel_cases.c holds for all: definitions spelled out, gaps between rows untouched, counts, and
 * the same bits on each instruction set and with any number of threads. */
#include "kernel_cases.h"

#include "base/format.h"

static const int64_t k_n[] = {0, 1, 2, 7}, k_d[] = {1, 2, 7, 8, 9, 16, 31, 33, 130};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
enum { BIG_N = 517, BIG_D = 259 }; /* above each row's threshold for threads */

/* Calls f for each small shape and once for one that runs in threads. */
static void for_shapes(const dsb_backend *be, kc_tape *t, void (*f)(const dsb_backend *, kc_tape *, int64_t, int64_t)) {
    kc_seed(11);
    for (int i = 0; i < COUNT(k_n); i++)
        for (int j = 0; j < COUNT(k_d); j++) f(be, t, k_n[i], k_d[j]);
    f(be, t, BIG_N, BIG_D);
}

static void same_row(const kc_out *all, int64_t i, const void *one, size_t bytes) { assert_memory_equal((uint8_t *)all->p + (size_t)i * bytes, one, bytes); }

static void quantize_static(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    float *x = kc_ugly(n * d);
    kc_out q = kc_output((size_t)(n * d)), s = kc_output((size_t)n * 4);
    int64_t clipped = be->quantize_static(x, n, d, 0.02f, q.p, s.p), one_by_one = 0;
    for (int64_t i = 0; i < n; i++) {
        int8_t one[BIG_D];
        float scale;
        one_by_one += be->quantize_static(x + i * d, 1, d, 0.02f, one, &scale);
        same_row(&q, i, one, (size_t)d);
    }
    assert_int_equal(clipped, one_by_one);
    kc_record(t, &clipped, sizeof clipped);
    kc_take(t, &q);
    kc_take(t, &s);
    kc_free(x);
}

static void quantize_int4(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    float *x = kc_ugly(n * d);
    kc_out q = kc_output((size_t)(n * d)), s = kc_output((size_t)n * 4);
    be->quantize_int4(x, n, d, q.p, s.p);
    for (int64_t i = 0; i < n * d; i++) {
        float scale = ((float *)s.p)[i / d], v = scale > 0 ? rintf(x[i] / scale) : 0;
        assert_int_equal(((int8_t *)q.p)[i], v > 7 ? 7 : v < -7 ? -7 : (int)v);
    }
    kc_take(t, &q);
    kc_take(t, &s);
    kc_free(x);
}

/* The bytes that E4M3 has, times the scale; a given scale counts what it saturates, a token's own never does but for subnormal ones. */
static void round_e4m3(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    float *x = kc_ugly(n * d);
    for (int fixed = 0; fixed < 2; fixed++) {
        kc_out y = kc_output((size_t)(n * d) * 4);
        int64_t clipped = be->round_e4m3(x, n, d, fixed ? 0.004f : 0, y.p), want = 0;
        for (int64_t i = 0; i < n * d; i++) {
            float top = be->absmax(x + i / d * d, d), scale = fixed ? 0.004f : top / 448.0f, v = scale > 0 ? x[i] / scale : 0, r = dsb_e4m3_to_f32(dsb_f32_to_e4m3(v)) * scale;
            want += fixed && fabsf(v) > 448;
            assert_memory_equal((float *)y.p + i, &r, 4);
        }
        assert_int_equal(clipped, want);
        kc_take(t, &y);
    }
    for (int bad = 0; bad < 2 && n > 1; bad++) {
        x[d] = bad ? NAN : -INFINITY;
        float *y = malloc((size_t)(n * d) * sizeof *y);
        be->round_e4m3(x, n, d, 0.004f, y);
        for (int64_t k = 0; k < d; k++) assert_true(isnan(y[d + k]) && !isnan(y[k]));
        free(y);
    }
    kc_free(x);
}

static void histogram(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    uint64_t bins[DSB_BINS] = {0}, all = 0;
    float *x = kc_ugly(n * d);
    be->histogram(x, n * d, bins);
    for (int i = 0; i < DSB_BINS; i++) {
        uint64_t want = 0;
        for (int64_t k = 0; k < n * d && n * d < 1000; k++) want += (fabsf(x[k]) >= dsb_bin_edge(i) || i == 0) && (fabsf(x[k]) < dsb_bin_edge(i + 1) || i == DSB_BINS - 1);
        if (n * d < 1000) assert_int_equal(bins[i], want);
        all += bins[i];
    }
    assert_int_equal(all, n * d);
    kc_record(t, bins, sizeof bins);
    if (n * d > 1) x[0] = NAN;
    if (n * d > 1) x[1] = INFINITY;
    memset(bins, 0, sizeof bins);
    be->histogram(x, n * d < 2 ? 0 : 2, bins);
    for (int i = 0; i < DSB_BINS; i++) assert_int_equal(bins[i], 0);
    kc_free(x);
}

/* Rows lie apart in memory: what is between them stays. */
static void rms_norm(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    float *x = kc_ugly(n * (d + 3)), *w = kc_floats(d, 2), one[BIG_D];
    kc_out y = kc_output((size_t)(n * (d + 5)) * 4);
    be->rms_norm(x, d + 3, w, 1e-6, n, d, y.p, d + 5);
    for (int64_t i = 0; i < n; i++) {
        be->rms_norm(x + i * (d + 3), d, w, 1e-6, 1, d, one, d);
        assert_memory_equal((float *)y.p + i * (d + 5), one, (size_t)d * 4);
        for (size_t b = 0; b < 20; b++) assert_int_equal(((uint8_t *)((float *)y.p + i * (d + 5) + d))[b], KC_PATTERN);
    }
    kc_take(t, &y);
    kc_free(x);
    kc_free(w);
}

static void rope(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    enum { HEADS = 3, GAP = 2, POS = 9 };
    int64_t dim = 2 * d, head = dim + GAP, row = HEADS * head + GAP;
    float *tables = kc_floats(2 * POS * d, 1), *x = kc_ugly(n * row), *one = kc_memory((size_t)row * 4);
    int32_t *pos = kc_memory((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) pos[i] = (int32_t)((5 * i + 1) % POS);
    kc_out y = kc_output((size_t)(n * row) * 4);
    for (int half = 0; half < 2; half++) {
        memcpy(y.p, x, y.bytes);
        be->rope(y.p, n, HEADS, row, head, dim, half, pos, tables, tables + POS * d);
        kc_record(t, y.p, y.bytes);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t h = 0; h < HEADS; h++) assert_memory_equal((float *)y.p + i * row + h * head + dim, x + i * row + h * head + dim, GAP * 4);
            memcpy(one, x + i * row, (size_t)row * 4);
            be->rope(one, 1, HEADS, row, head, dim, half, pos + i, tables, tables + POS * d);
            same_row(&y, i, one, (size_t)row * 4);
        }
    }
    kc_take(t, &y);
    kc_free(tables);
    kc_free(x);
    kc_free(one);
    kc_free(pos);
}

static void mla_assemble(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    enum { HEADS = 3, V = 5, ROPE = 4 };
    float *kv = kc_ugly(n * HEADS * (d + V)), *pe = kc_ugly(n * (ROPE + 3));
    kc_out k = kc_output((size_t)(n * HEADS * (d + ROPE)) * 4), v = kc_output((size_t)(n * HEADS * V) * 4);
    be->mla_assemble(kv, pe, ROPE + 3, n, HEADS, d, V, ROPE, k.p, v.p);
    for (int64_t i = 0; i < n * HEADS; i++) {
        const float *key = (float *)k.p + i * (d + ROPE);
        assert_memory_equal(key, kv + i * (d + V), (size_t)d * 4);
        assert_memory_equal(key + d, pe + i / HEADS * (ROPE + 3), ROPE * 4);
        assert_memory_equal((float *)v.p + i * V, kv + i * (d + V) + d, V * 4);
    }
    kc_take(t, &k);
    kc_take(t, &v);
    kc_free(kv);
    kc_free(pe);
}

/* Two sequences of n rows; then each query alone against the keys it may see, as decoding asks. All keys, a key a head; then a window, one key for both heads, and sinks. */
static void attention(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    enum { HEADS = 2 };
    if (n > 7) n = 37;
    if (d > 130) d = 24;
    int64_t dv = d / 2 + 1, rows = 2 * n;
    float *q = kc_floats(rows * HEADS * d, 2), *k = kc_floats(rows * HEADS * d, 2), *v = kc_floats(rows * HEADS * dv, 2), *sinks = kc_floats(HEADS, 2), one[HEADS * 70];
    dsb_seq seqs[] = {{0, n, 0, n}, {n, n, n, n}};
    dsb_attention_shape shapes[] = {{.heads = HEADS, .kv_heads = HEADS, .qk_dim = d, .v_dim = dv, .scale = 0.3f},
                                    {.heads = HEADS, .kv_heads = 1, .qk_dim = d, .v_dim = dv, .window = 5, .scale = 0.3f, .sinks = sinks}};
    kc_out out = kc_output((size_t)(rows * HEADS * dv) * 4);
    for (int s = 0; s < COUNT(shapes); s++) {
        be->attention(&shapes[s], seqs, 2, q, k, v, out.p);
        kc_record(t, out.p, out.bytes);
        for (int64_t i = 0; i < rows; i++) {
            int64_t first = i < n ? 0 : n;
            dsb_seq seq = {0, 1, first, i - first + 1};
            be->attention(&shapes[s], &seq, 1, q + i * HEADS * d, k, v, one);
            same_row(&out, i, one, (size_t)(HEADS * dv) * 4);
        }
    }
    kc_take(t, &out);
    kc_free(q);
    kc_free(k);
    kc_free(v);
    kc_free(sinks);
}

static void gather_and_scatter(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    float *x = kc_ugly((n + 1) * d), *w = kc_floats(n, 1);
    int32_t *idx = kc_memory((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) idx[i] = (int32_t)(n - i); /* row 0 stays as it is */
    kc_out got = kc_output((size_t)(n * d) * 4), acc = kc_output((size_t)((n + 1) * d) * 4);
    memcpy(acc.p, x, acc.bytes);
    be->gather(x, idx, n, d, got.p);
    for (int64_t i = 0; i < n; i++) assert_memory_equal((float *)got.p + i * d, x + idx[i] * d, (size_t)d * 4);
    be->scatter_add(acc.p, idx, w, got.p, n, d);
    be->scatter_add(acc.p, idx, NULL, got.p, n, d);
    assert_memory_equal(acc.p, x, (size_t)d * 4);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++) {
            float v = x[idx[i] * d + k], want = fmaf(w[i], v, v) + v;
            assert_memory_equal((float *)acc.p + idx[i] * d + k, &want, 4);
        }
    kc_take(t, &got);
    kc_take(t, &acc);
    kc_free(x);
    kc_free(w);
    kc_free(idx);
}

static void route_shape(const dsb_backend *be, kc_tape *t, const dsb_router_shape *r, bool with_bias, int64_t n) {
    int64_t e = r->n_expert, k = r->k;
    float *logits = kc_floats(n * e, 3), *bias = kc_floats(e, 0.2f);
    for (int64_t i = 0; i < n * e; i += 3) logits[i] = 0.5f; /* ties */
    kc_out s = kc_output((size_t)(n * e) * 4), idx = kc_output((size_t)(n * k) * 4), w = kc_output((size_t)(n * k) * 4), m = kc_output((size_t)n * 4);
    be->route(r, logits, with_bias ? bias : NULL, n, s.p, idx.p, w.p, m.p);
    for (int64_t i = 0; i < n; i++) {
        int32_t one_idx[64];
        float one_w[64], one_m;
        be->route(r, logits + i * e, with_bias ? bias : NULL, 1, NULL, one_idx, one_w, &one_m);
        same_row(&idx, i, one_idx, (size_t)k * 4);
        same_row(&w, i, one_w, (size_t)k * 4);
        same_row(&m, i, &one_m, 4);
        for (int64_t j = 1; j < k; j++) assert_true(one_idx[j] > one_idx[j - 1]);
    }
    kc_take(t, &s);
    kc_take(t, &idx);
    kc_take(t, &w);
    kc_take(t, &m);
    kc_free(logits);
    kc_free(bias);
}

static void route(const dsb_backend *be, kc_tape *t) {
    static const dsb_router_shape k_shape[] = {
        {.n_expert = 1, .k = 1, .scoring = DSB_SCORE_SOFTMAX, .scale = 1},
        {.n_expert = 7, .k = 7, .scoring = DSB_SCORE_SOFTMAX, .scale = 2},
        {.n_expert = 64, .k = 6, .scoring = DSB_SCORE_SOFTMAX, .norm_topk = true, .scale = 1},
        {.n_expert = 160, .k = 6, .n_group = 8, .topk_group = 3, .scoring = DSB_SCORE_SOFTMAX, .group_rank = DSB_GROUP_MAX, .scale = 16},
        {.n_expert = 256, .k = 8, .n_group = 8, .topk_group = 4, .scoring = DSB_SCORE_SIGMOID, .group_rank = DSB_GROUP_TOP2, .norm_topk = true, .scale_after_norm = true, .scale = 2.5f},
    };
    kc_seed(5);
    for (int i = 0; i < COUNT(k_shape); i++)
        for (int with_bias = 0; with_bias < 2; with_bias++) {
            route_shape(be, t, &k_shape[i], with_bias, 0);
            route_shape(be, t, &k_shape[i], with_bias, 300);
        }
}

/* Field by field: a struct's padding has no value. */
static void record_moments(kc_tape *t, const dsb_moments *m) {
    int64_t n[] = {m->n, m->nonfinite, m->first_bad};
    double x[] = {m->xx, m->yy, m->xy, m->dd, m->max_diff, m->max_x, m->max_y};
    kc_record(t, n, sizeof n);
    kc_record(t, x, sizeof x);
}

static void moments(const dsb_backend *be, kc_tape *t, int64_t n, int64_t d) {
    float *x = kc_ugly(n * d), *y = kc_ugly(n * d), top = be->absmax(x, n * d);
    dsb_moments m;
    be->moments(x, y, n * d, &m);
    record_moments(t, &m);
    assert_int_equal(m.n, n * d);
    assert_true(m.max_x == (double)top && m.first_bad == -1);
    be->moments(NULL, y, n * d, &m);
    record_moments(t, &m);
    assert_true(m.xx == 0 && m.xy == 0 && m.dd == m.yy);
    kc_record(t, &top, 4);
    kc_free(x);
    kc_free(y);
}

#define SHAPES(name)                                                                    \
    static void name##_shapes(const dsb_backend *be, kc_tape *t) { for_shapes(be, t, name); } \
    static void test_kernels_rows__##name##_same_everywhere(void **state) { kc_same_everywhere(name##_shapes); }
SHAPES(quantize_static)
SHAPES(quantize_int4)
SHAPES(round_e4m3)
SHAPES(histogram)
SHAPES(rms_norm)
SHAPES(rope)
SHAPES(mla_assemble)
SHAPES(attention)
SHAPES(gather_and_scatter)
SHAPES(moments)
static void test_kernels_rows__route_same_everywhere(void **state) { kc_same_everywhere(route); }

static void test_kernels_rows__memory_is_aligned_and_zero(void **state) {
    const dsb_backend *be[KC_LEVELS];
    for (int b = 0, n = kc_backends(be); b < n; b++)
        for (size_t bytes = 0; bytes < 200; bytes += 33) {
            void *p, *other;
            uint8_t host[200], zeros[200] = {0};
            assert_int_equal(be[b]->alloc(&p, bytes, "test", NULL), DSB_OK);
            assert_int_equal((uintptr_t)p % 64, 0);
            be[b]->sync();
            be[b]->download(host, p, bytes);
            assert_memory_equal(host, zeros, bytes);
            memset(host, 7, sizeof host);
            be[b]->upload(p, host, bytes);
            be[b]->zero(p, bytes / 2);
            assert_int_equal(be[b]->alloc(&other, bytes, "test", NULL), DSB_OK);
            be[b]->copy(other, p, bytes);
            be[b]->download(host, other, bytes);
            be[b]->release(other);
            for (size_t i = 0; i < bytes; i++) assert_int_equal(host[i], i < bytes / 2 ? 0 : 7);
            be[b]->release(p);
        }
}

static void test_kernels_rows__the_list_names_what_runs(void **state) {
    const dsb_kernel_row *rows;
    const dsb_backend *be[KC_LEVELS];
    static const float w[] = {1}, scale[] = {1};
    static const int8_t code[] = {1};
    int n_row = dsb_kernel_list(&rows);
    for (int b = 0, n = kc_backends(be); b < n; b++)
        for (int kind = DSB_W_F32; kind <= DSB_W_I4; kind++) {
            dsb_wmat m;
            int found = 0;
            if (kind == DSB_W_BLOCK) continue; /* test_kernels_block.c */
            if (kind >= DSB_W_I8) assert_int_equal(be[b]->pack_int(&m, (dsb_wkind)kind, code, scale, 1, 1, 1, NULL), DSB_OK);
            else assert_int_equal(be[b]->pack_float(&m, (dsb_wkind)kind, w, 1, 1, NULL), DSB_OK);
            for (int i = 0; i < n_row; i++) found += rows[i].available && strcmp(rows[i].name, m.kernel) == 0;
            assert_int_equal(found, 1);
            be[b]->unpack(&m);
            assert_null(m.data);
        }
    assert_null(dsb_backend_cpu("no such level"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_rows__quantize_static_same_everywhere),
        cmocka_unit_test(test_kernels_rows__quantize_int4_same_everywhere),
        cmocka_unit_test(test_kernels_rows__round_e4m3_same_everywhere),
        cmocka_unit_test(test_kernels_rows__histogram_same_everywhere),
        cmocka_unit_test(test_kernels_rows__rms_norm_same_everywhere),
        cmocka_unit_test(test_kernels_rows__rope_same_everywhere),
        cmocka_unit_test(test_kernels_rows__mla_assemble_same_everywhere),
        cmocka_unit_test(test_kernels_rows__attention_same_everywhere),
        cmocka_unit_test(test_kernels_rows__gather_and_scatter_same_everywhere),
        cmocka_unit_test(test_kernels_rows__route_same_everywhere),
        cmocka_unit_test(test_kernels_rows__moments_same_everywhere),
        cmocka_unit_test(test_kernels_rows__memory_is_aligned_and_zero),
        cmocka_unit_test(test_kernels_rows__the_list_names_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
