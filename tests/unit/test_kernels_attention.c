/* Attention against its definition, bit for bit on every instruction set and with any number of threads: many queries and few, shared keys,
 * windows, sinks, keys and values that lie in one row; 32,768 tokens within memory that grows with the keys alone. And products by head. */
#include "kernel_cases.h"

#include <sys/resource.h>

#include "kernels/portable/math.h"

typedef struct place {
    int64_t heads, kv_heads, qk, dv, n_q, n_kv, window;
    bool sinks, latent; /* latent: one row holds keys, whose first values are the values */
} place;

static const place k_places[] = {
    {4, 4, 5, 3, 40, 40, 0, false, false},    {4, 1, 24, 16, 13, 70, 0, true, false},  {6, 2, 48, 40, 30, 61, 7, false, false},
    {2, 2, 9, 33, 3, 50, 0, false, false},    {6, 3, 17, 20, 1, 33, 40, true, false},  {8, 1, 20, 16, 1, 90, 0, false, true},
    {4, 1, 36, 33, 9, 65, 0, false, true},    {1, 1, 6, 5, 30, 1100, 0, false, false}, {2, 1, 6, 5, 2, 1100, 50, false, false},
    {1, 1, 3, 2, 130, 1100, 1060, true, false},
};

typedef struct inputs {
    dsb_attention_shape shape;
    dsb_seq seqs[2];
    float *q, *k, *v, *sinks;
    int64_t kr, vr;
} inputs;

/* Two sequences; the second one's keys and queries begin after the first's. */
static void make(inputs *in, const place *p) {
    kc_seed((uint32_t)(p->n_kv * 31 + p->qk));
    in->kr = p->latent ? p->qk + 3 : p->kv_heads * p->qk;
    in->vr = p->latent ? in->kr : p->kv_heads * p->dv;
    in->q = kc_floats(2 * p->n_q * p->heads * p->qk, 2);
    in->k = kc_floats(2 * p->n_kv * in->kr, 2);
    in->v = p->latent ? in->k : kc_floats(2 * p->n_kv * in->vr, 2);
    in->sinks = kc_floats(p->heads, 2);
    in->shape = (dsb_attention_shape){.heads = p->heads, .kv_heads = p->kv_heads, .qk_dim = p->qk, .v_dim = p->dv, .window = p->window, .scale = 0.3f, .sinks = p->sinks ? in->sinks : NULL};
    if (p->latent) in->shape.k_stride = in->shape.v_stride = in->kr;
    for (int i = 0; i < 2; i++) in->seqs[i] = (dsb_seq){i * p->n_q, p->n_q, i * p->n_kv, p->n_kv};
}

static void drop(inputs *in, const place *p) {
    kc_free(in->q);
    kc_free(in->k);
    if (!p->latent) kc_free(in->v);
    kc_free(in->sinks);
}

/* backend.h's order, one chain after the other: out (v_dim) of query i, head h of a sequence. */
static void define(const inputs *in, const dsb_seq *seq, int64_t i, int64_t h, float *out) {
    const dsb_attention_shape *a = &in->shape;
    int64_t end = seq->n_kv - seq->n_q + i + 1, first = a->window > 0 && end > a->window ? end - a->window : 0, n = end - first, of = h / (a->heads / a->kv_heads);
    const float *q = in->q + ((seq->q0 + i) * a->heads + h) * a->qk_dim, *k = in->k + (seq->kv0 + first) * in->kr + of * a->qk_dim, *v = in->v + (seq->kv0 + first) * in->vr + of * a->v_dim;
    float *s = malloc((size_t)(n + 8) * sizeof *s), top = a->sinks ? a->sinks[h] : -INFINITY, lane[8] = {0};
    for (int64_t j = 0; j < n; j++) {
        s[j] = 0;
        for (int64_t d = 0; d < a->qk_dim; d++) s[j] = fmaf(q[d], k[j * in->kr + d], s[j]);
        s[j] *= a->scale;
        top = s[j] > top ? s[j] : top;
    }
    for (int64_t j = 0; j < n; j++) lane[j % 8] += s[j] = pm_expf(s[j] - top);
    float sum = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    if (a->sinks) sum += pm_expf(a->sinks[h] - top);
    for (int64_t d = 0; d < a->v_dim; d++) {
        out[d] = 0;
        for (int64_t j = 0; j < n; j++) out[d] = fmaf(s[j], v[j * in->vr + d], out[d]);
        out[d] = out[d] / sum;
    }
    free(s);
}

static void is_defined(const dsb_backend *be, const inputs *in, const place *p, int n_seq, const float *out) {
    float want[64];
    for (int64_t r = 0; r < n_seq * p->n_q * p->heads; r++) {
        define(in, &in->seqs[r / p->heads / p->n_q], r / p->heads % p->n_q, r % p->heads, want);
        if (memcmp(want, out + r * p->dv, (size_t)p->dv * sizeof *want)) fail_msg("%s, place %d, %d sequences: row %d: %.9g, wanted %.9g", be->isa, (int)(p - k_places), n_seq, (int)r, (double)out[r * p->dv], (double)want[0]);
    }
}

static void attend_all(const dsb_backend *be, kc_tape *t) {
    for (size_t i = 0; i < sizeof k_places / sizeof *k_places; i++) {
        const place *p = &k_places[i];
        inputs in;
        make(&in, p);
        for (int n_seq = 1; n_seq <= 2; n_seq++) {
            kc_out out = kc_output((size_t)(n_seq * p->n_q * p->heads * p->dv) * 4);
            be->attention(&in.shape, in.seqs, n_seq, in.q, in.k, in.v, out.p);
            if (omp_get_max_threads() == 1) is_defined(be, &in, p, n_seq, out.p);
            kc_take(t, &out);
        }
        drop(&in, p);
    }
}

static void test_kernels_attention__every_form_is_the_definition(void **state) { kc_same_everywhere(attend_all); }

/* A value that is not finite reaches the queries that see its key, and no other. */
static void test_kernels_attention__bad_values_stay_with_those_who_see_them(void **state) {
    const dsb_backend *be[KC_LEVELS];
    enum { N = 40, BAD = 17, WINDOW = 9 };
    for (int b = 0, n = kc_backends(be); b < n; b++)
        for (int few = 0; few < 2; few++) {
            place p = {2, 1, 6, 5, few ? 12 : N, N, WINDOW, false, false};
            inputs in;
            float out[N * 10];
            make(&in, &p);
            in.v[BAD * in.vr + 3] = INFINITY;
            be[b]->attention(&in.shape, in.seqs, 1, in.q, in.k, in.v, out);
            for (int64_t r = 0; r < p.n_q * 10; r++) {
                int64_t query = N - p.n_q + r / 10;
                assert_int_equal(!isfinite(out[r]), query >= BAD && query < BAD + WINDOW && r % 5 == 3);
            }
            drop(&in, &p);
        }
}

/* 4 GiB of scores if they were all held. What grows with the keys is, for each thread, keys of 4 values, values in panels of up to 32 and 24
 * rows of scores: 60 floats, 7.5 MiB. */
static void test_kernels_attention__long_contexts_need_no_square_of_memory(void **state) {
    enum { N = 32768, THREADS = 2 };
    const dsb_backend *be = dsb_backend_cpu(NULL);
    place p = {1, 1, 4, 4, N, N, 0, false, false};
    inputs in;
    struct rusage before, after;
    int threads = omp_get_max_threads();
    if (!strcmp(be->isa, "ref")) skip(); /* minutes */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
    skip(); /* its shadow of each byte read is memory too */
#endif
#endif
    omp_set_num_threads(THREADS);
    make(&in, &p);
    float *out = calloc(N * 4, sizeof *out), want[4];
    getrusage(RUSAGE_SELF, &before);
    be->attention(&in.shape, in.seqs, 1, in.q, in.k, in.v, out);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss <= THREADS * 8 * 1024 + 8 * 1024); /* KiB; with a little for the threads */
    for (int64_t i = 0; i < N; i += 4681) {
        define(&in, in.seqs, i, 0, want);
        assert_memory_equal(out + i * 4, want, sizeof want);
    }
    omp_set_num_threads(threads);
    free(out);
    drop(&in, &p);
}

/* Each head's product is gemm's, its tail a copy. */
static void heads(const dsb_backend *be, kc_tape *t) {
    static const int64_t k_shapes[][5] = {{1, 1, 5, 3, 0}, {3, 1, 20, 17, 4}, {2, 4, 33, 16, 1}, {16, 7, 64, 48, 8}, {0, 2, 4, 4, 1}}; /* n, heads, cols, rows, tail */
    kc_seed(3);
    for (size_t c = 0; c < sizeof k_shapes / sizeof *k_shapes; c++)
        for (int kind = DSB_W_F32; kind <= DSB_W_BF16; kind++) {
            int64_t n = k_shapes[c][0], h = k_shapes[c][1], cols = k_shapes[c][2], rows = k_shapes[c][3], tail = k_shapes[c][4];
            dsb_wmat w[8];
            float *x = kc_floats(n * h * (cols + tail), 2), one[64], row[64];
            kc_out y = kc_output((size_t)(n * h * (rows + tail)) * 4);
            for (int64_t i = 0; i < h; i++) {
                float *m = kc_floats(rows * cols, 1);
                assert_int_equal(be->pack_float(&w[i], (dsb_wkind)kind, m, rows, cols, NULL), DSB_OK);
                kc_free(m);
            }
            be->gemm_heads(w, h, x, n, tail, y.p);
            for (int64_t i = 0; i < n * h; i++) {
                const float *from = x + i * (cols + tail), *to = (const float *)y.p + i * (rows + tail);
                memcpy(row, from, (size_t)cols * sizeof *row);
                be->gemm(&w[i % h], &(dsb_act){.n = 1, .cols = cols, .f32 = row}, one);
                assert_memory_equal(to, one, (size_t)rows * sizeof *one);
                assert_memory_equal(to + rows, from + cols, (size_t)tail * sizeof *one);
            }
            for (int64_t i = 0; i < h; i++) be->unpack(&w[i]);
            kc_take(t, &y);
            kc_free(x);
        }
}

static void test_kernels_attention__heads_are_multiplied_as_gemm_does(void **state) { kc_same_everywhere(heads); }

static void test_kernels_attention__codes_times_their_scale(void **state) {
    const dsb_backend *be[KC_LEVELS];
    static const int8_t q[] = {127, -127, 0, 3, 1, -1};
    static const float scale[] = {0.1f, 3}, want[] = {127 * 0.1f, -127 * 0.1f, 0, 9, 3, -3};
    for (int b = 0, n = kc_backends(be); b < n; b++) {
        float y[6];
        be[b]->dequantize(q, scale, 2, 3, y);
        assert_memory_equal(y, want, sizeof y);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_attention__every_form_is_the_definition),
        cmocka_unit_test(test_kernels_attention__bad_values_stay_with_those_who_see_them),
        cmocka_unit_test(test_kernels_attention__long_contexts_need_no_square_of_memory),
        cmocka_unit_test(test_kernels_attention__heads_are_multiplied_as_gemm_does),
        cmocka_unit_test(test_kernels_attention__codes_times_their_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
