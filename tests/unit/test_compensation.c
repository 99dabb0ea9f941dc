/* Compensation against sums and systems written out by hand, and in the two drivers. */
#include <math.h>

#include "sweep_run.h"
#include "values.h"

#include "quantizers/quantize_rule.h"

enum { N = 37, ROWS = 9, COLS = 40, GROUP = 16, GROUPS = 3 };

typedef struct fixture {
    float x[N * COLS], w[ROWS * COLS], decoded[ROWS * COLS], before[ROWS * COLS];
    dsb_input_stats s;
    double lambda;
} fixture;

static fixture *fixture_open(void) {
    fixture *f = calloc(1, sizeof *f);
    for (int64_t i = 0; i < N * COLS; i++) f->x[i] = value(i) + (i % COLS == 3 ? 2 : 0.25f); /* means that are not zero, one channel larger */
    for (int64_t i = 0; i < ROWS * COLS; i++) f->w[i] = value(i + 9999);
    assert_int_equal(dsb_input_stats_begin(&f->s, DSB_NEED_GRAM | DSB_NEED_CHANNELS, COLS, NULL), DSB_OK);
    dsb_input_stats_add(&f->s, dsb_backend_cpu(NULL), f->x, N);
    for (int64_t i = 0; i < COLS; i++) f->lambda += 0.01 * f->s.sum_sq[i] / COLS;
    return f;
}
static void fixture_close(fixture *f) {
    dsb_input_stats_release(&f->s);
    free(f);
}
static void quantized(fixture *f, dsb_qtensor *q, bool affine) {
    assert_int_equal(dsb_quantize_rtn(q, dsb_format_find("int3"), GROUP, affine, f->w, ROWS, COLS, NULL), DSB_OK);
    dsb_dequantize(q, f->w, f->decoded);
    memcpy(f->before, f->decoded, sizeof f->before);
}
/* a·(H + λ)·b by tokens. */
static double form(const fixture *f, const double *a, const double *b) {
    double sum = 0;
    for (int t = 0; t < N; t++) {
        double p = 0, q = 0;
        for (int i = 0; i < COLS; i++) p += a[i] * (double)f->x[t * COLS + i], q += b[i] * (double)f->x[t * COLS + i];
        sum += p * q;
    }
    for (int i = 0; i < COLS; i++) sum += f->lambda * a[i] * b[i];
    return sum;
}
static void row(const float *w, int r, double *out) {
    for (int i = 0; i < COLS; i++) out[i] = (double)w[r * COLS + i];
}
static double loss(const fixture *f, const float *w, const float *v, int r) {
    double e[COLS];
    for (int i = 0; i < COLS; i++) e[i] = (double)w[r * COLS + i] - (double)v[r * COLS + i];
    return form(f, e, e);
}

static void test_compensation__a_channels_factor_is_the_closed_form(void **state) {
    for (int affine = 0; affine < 2; affine++) {
        fixture *f = fixture_open();
        dsb_qtensor q;
        quantized(f, &q, affine);
        assert_int_equal(dsb_fit_row_scales(&f->s, 0.01, f->w, &q, f->decoded, NULL), DSB_OK);
        for (int r = 0; r < ROWS; r++) {
            double w[COLS], v[COLS];
            row(f->w, r, w);
            row(f->before, r, v);
            double factor = form(f, w, v) / form(f, v, v);
            /* the factor and each scale are rounded to f32, and once more when decoded: 4 halves of an ulp of at most 2^-23 */
            for (int i = 0; i < COLS; i++) assert_true(fabs((double)f->decoded[r * COLS + i] - factor * v[i]) <= 0x1p-22 * fabs(factor * v[i]));
            assert_true(loss(f, f->w, f->decoded, r) <= loss(f, f->w, f->before, r) * (1 + 0x1p-20));
        }
        dsb_qtensor_release(&q);
        fixture_close(f);
    }
}

/* x = a⁻¹ b by elimination with pivots. */
static void solve(int n, double *a, double *b) {
    for (int k = 0; k < n; k++) {
        int p = k;
        for (int i = k + 1; i < n; i++) p = fabs(a[i * n + k]) > fabs(a[p * n + k]) ? i : p;
        for (int j = 0; j < n; j++) { double t = a[k * n + j]; a[k * n + j] = a[p * n + j]; a[p * n + j] = t; }
        double t = b[k]; b[k] = b[p]; b[p] = t;
        for (int i = k + 1; i < n; i++) {
            double m = a[i * n + k] / a[k * n + k];
            for (int j = k; j < n; j++) a[i * n + j] -= m * a[k * n + j];
            b[i] -= m * b[k];
        }
    }
    for (int k = n; k-- > 0;) {
        for (int j = k + 1; j < n; j++) b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
}

static void test_compensation__group_scales_solve_the_normal_equations(void **state) {
    for (int affine = 0; affine < 2; affine++) {
        fixture *f = fixture_open();
        dsb_qtensor q;
        quantized(f, &q, affine);
        assert_int_equal(dsb_fit_group_scales(&f->s, 0.01, f->w, &q, f->decoded, NULL), DSB_OK);
        for (int r = 0; r < ROWS; r++) {
            double c[GROUPS][COLS] = {{0}}, g[GROUPS * GROUPS], b[GROUPS], w[COLS];
            row(f->w, r, w);
            for (int i = 0; i < COLS; i++) c[i / GROUP][i] = (double)q.codes[r * COLS + i] - (affine ? (double)q.zeros[r * GROUPS + i / GROUP] : 0);
            for (int i = 0; i < GROUPS; i++) {
                for (int j = 0; j < GROUPS; j++) g[i * GROUPS + j] = form(f, c[i], c[j]);
                b[i] = form(f, c[i], w);
            }
            solve(GROUPS, g, b);
            double best[COLS] = {0}, left[COLS], least, rounding;
            for (int i = 0; i < COLS; i++) best[i] = b[i / GROUP] * c[i / GROUP][i], left[i] = w[i] - best[i];
            least = form(f, left, left);
            /* f32 scales and products move a row by d, ‖d‖ <= 2^-23 ‖ŵ‖, so the loss by at most 2 √(least) √tr(H + λ) ‖d‖ and d's own */
            double size = 0, inputs = COLS * f->lambda;
            for (int i = 0; i < COLS; i++) size += best[i] * best[i], inputs += f->s.sum_sq[i];
            rounding = 0x1p-23 * sqrt(size * inputs);
            assert_true(loss(f, f->w, f->decoded, r) <= least * (1 + 1e-9) + 2 * sqrt(least) * rounding + rounding * rounding);
            assert_true(least < loss(f, f->w, f->before, r));
        }
        dsb_qtensor_release(&q);
        fixture_close(f);
    }
}

static void test_compensation__a_bias_is_the_mean_error(void **state) {
    fixture *f = fixture_open();
    dsb_rule rule = {.format = dsb_format_find("int3"), .group = GROUP, .algorithm = "rtn", .damp = 0.01, .compensation = DSB_COMP_BIAS};
    dsb_quantized z;
    assert_int_equal(dsb_quantize_rule(&z, &rule, rule.format, GROUP, f->w, ROWS, COLS, &f->s, f->decoded, NULL), DSB_OK);
    double before = 0, after = 0, total = 0;
    for (int r = 0; r < ROWS; r++) {
        double mean = 0, size = 0;
        for (int t = 0; t < N; t++)
            for (int i = 0; i < COLS; i++) {
                double one = ((double)f->w[r * COLS + i] - (double)f->decoded[r * COLS + i]) * (double)f->x[t * COLS + i];
                mean += one / N;
                size += fabs(one) / N;
            }
        /* errors and the bias are rounded to f32 */
        assert_true(fabs((double)z.correction.bias[r] - mean) <= 0x1p-23 * size);
        for (int t = 0; t < N; t++) {
            double y = 0, e = 0;
            for (int i = 0; i < COLS; i++) y += (double)f->w[r * COLS + i] * (double)f->x[t * COLS + i], e += ((double)f->w[r * COLS + i] - (double)f->decoded[r * COLS + i]) * (double)f->x[t * COLS + i];
            total += y * y;
            before += e * e;
            after += (e - (double)z.correction.bias[r]) * (e - (double)z.correction.bias[r]);
        }
    }
    assert_true(fabs(z.won.loss_before - before / total) <= 0x1p-20 * before / total);
    assert_true(fabs(z.won.loss_after - after / total) <= 0x1p-20 * before / total);
    assert_true(after < before);
    assert_int_equal(z.won.bytes, ROWS * sizeof(float));
    dsb_quantized_release(&z);
    fixture_close(f);
}

/* The largest eigenvalue of E (H + λ) Eᵀ by powers, its trace, and its largest possible error of BF16 factors. */
static void spectrum(const fixture *f, const float *e, double *trace, double *top) {
    double m[ROWS][ROWS], v[ROWS];
    *trace = 0;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < ROWS; j++) {
            double a[COLS], b[COLS];
            row(e, i, a);
            row(e, j, b);
            m[i][j] = form(f, a, b);
            *trace += i == j ? m[i][j] : 0;
        }
    for (int i = 0; i < ROWS; i++) v[i] = 1 + 0.1 * i;
    for (int step = 0; step < 20000; step++) {
        double y[ROWS] = {0}, n = 0;
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < ROWS; j++) y[i] += m[i][j] * v[j];
        for (int i = 0; i < ROWS; i++) n += y[i] * y[i];
        for (int i = 0; i < ROWS; i++) v[i] = y[i] / sqrt(n);
        *top = sqrt(n);
    }
}

static void test_compensation__low_rank_leaves_what_the_spectrum_leaves(void **state) {
    fixture *f = fixture_open();
    dsb_qtensor q;
    float e[ROWS * COLS], ab[ROWS * COLS];
    double trace, top, inputs = COLS * f->lambda, b_size;
    quantized(f, &q, false);
    for (int i = 0; i < ROWS * COLS; i++) e[i] = f->w[i] - f->decoded[i];
    for (int i = 0; i < COLS; i++) inputs += f->s.sum_sq[i];
    spectrum(f, e, &trace, &top);
    for (int rank = 1; rank <= ROWS + 3; rank += ROWS - 1) { /* 1; all; more than there are, cut */
        dsb_correction c = {0};
        double left = 0, least = rank == 1 ? trace - top : 0, rounding;
        assert_int_equal(dsb_fit_low_rank(&f->s, 0.01, e, ROWS, COLS, rank, &c, NULL), DSB_OK);
        assert_int_equal(c.rank, rank < ROWS ? rank : ROWS);
        memset(ab, 0, sizeof ab);
        dsb_correction_add(&c, ROWS, COLS, ab);
        for (int r = 0; r < ROWS; r++) left += loss(f, e, ab, r);
        b_size = 0;
        for (int64_t i = 0; i < c.rank * COLS; i++) b_size += (double)c.b[i] * (double)c.b[i];
        /* BF16 takes 2^-8 of a factor: of a (orthonormal columns) times ‖b‖ in the loss's norm, of b times √tr(H + λ); and 2^-8 of 2^-8 */
        rounding = 0x1p-8 * (1 + 0x1p-8) * (sqrt(c.rank * trace) + sqrt(inputs * b_size));
        assert_true(left >= least * (1 - 1e-9));
        assert_true(sqrt(left) <= sqrt(least) + rounding);
        dsb_correction_release(&c);
    }
    dsb_qtensor_release(&q);
    fixture_close(f);
}

static void test_compensation__least_squares_towards_the_stored_weights(void **state) {
    fixture *f = fixture_open();
    double c[2 * COLS], h[COLS * COLS], want[COLS];
    float w[2 * COLS];
    memcpy(w, f->w, sizeof w);
    for (int i = 0; i < 2 * COLS; i++) c[i] = (double)value(i + 77) * 10;
    assert_int_equal(dsb_fit_residual(&f->s, 0.01, c, 2, w, NULL), DSB_OK);
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < COLS * COLS; i++) h[i] = f->s.gram[i] + (i % (COLS + 1) == 0 ? f->lambda : 0);
        memcpy(want, c + r * COLS, sizeof want);
        solve(COLS, h, want);
        /* f32 of the sum; two f64 solutions of a system whose condition is at most trace / λ = 100 · COLS */
        for (int i = 0; i < COLS; i++) assert_true(fabs((double)w[r * COLS + i] - ((double)f->w[r * COLS + i] + want[i])) <= 0x1p-23 * (1 + fabs(want[i])) + 1e-9);
    }
    fixture_close(f);
}

static void test_compensation__is_the_same_for_any_number_of_threads(void **state) {
    fixture *f = fixture_open();
    dsb_rule rule = {.format = dsb_format_find("int3"), .group = GROUP, .algorithm = "rtn", .damp = 0.01, .rank = 4, .compensation = DSB_COMP_SCALE | DSB_COMP_SCALE_GRADIENT | DSB_COMP_LOW_RANK | DSB_COMP_BIAS};
    dsb_quantized z[2];
    float decoded[2][ROWS * COLS];
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i ? 3 : 1);
        assert_int_equal(dsb_quantize_rule(&z[i], &rule, rule.format, GROUP, f->w, ROWS, COLS, &f->s, decoded[i], NULL), DSB_OK);
    }
    omp_set_num_threads(1);
    assert_memory_equal(decoded[0], decoded[1], sizeof decoded[0]);
    assert_memory_equal(z[0].correction.a, z[1].correction.a, ROWS * 4 * sizeof(float));
    assert_memory_equal(z[0].correction.b, z[1].correction.b, COLS * 4 * sizeof(float));
    assert_memory_equal(z[0].correction.bias, z[1].correction.bias, ROWS * sizeof(float));
    assert_true(z[0].won.loss_after == z[1].won.loss_after && z[0].won.loss_after < z[0].won.loss_before);
    assert_int_equal(z[0].won.done, rule.compensation);
    for (int i = 0; i < 2; i++) dsb_quantized_release(&z[i]);
    fixture_close(f);
}

static void test_compensation__without_tokens_nothing_but_the_plain_error_is_compensated(void **state) {
    fixture *f = fixture_open();
    dsb_rule rule = {.format = dsb_format_find("int3"), .group = GROUP, .algorithm = "rtn", .damp = 0.01, .rank = ROWS, .compensation = DSB_COMP_SCALE | DSB_COMP_BIAS};
    dsb_quantized z;
    quantized(f, &z.q, false);
    dsb_qtensor_release(&z.q);
    f->s.n_token = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dsb_quantize_rule(&z, &rule, rule.format, GROUP, f->w, ROWS, COLS, i ? NULL : &f->s, f->decoded, NULL), DSB_OK);
        assert_true(z.won.starved && !z.won.done && !z.correction.bias && !z.starved);
        assert_memory_equal(f->decoded, f->before, sizeof f->before);
        dsb_quantized_release(&z);
    }
    rule.compensation |= DSB_COMP_LOW_RANK;
    assert_int_equal(dsb_quantize_rule(&z, &rule, rule.format, GROUP, f->w, ROWS, COLS, NULL, f->decoded, NULL), DSB_OK);
    assert_true(z.won.starved && z.won.done == DSB_COMP_LOW_RANK);
    double is = 0, was = 0;
    dsb_correction_add(&z.correction, ROWS, COLS, f->decoded);
    for (int i = 0; i < ROWS * COLS; i++) {
        is += pow((double)f->w[i] - (double)f->decoded[i], 2);
        was += pow((double)f->w[i] - (double)f->before[i], 2);
    }
    assert_true(sqrt(is) <= 0x1p-8 * (1 + 0x1p-8) * (sqrt(ROWS) + 1) * sqrt(was) + 0x1p-20); /* full rank: BF16 factors' rounding alone */
    dsb_quantized_release(&z);
    fixture_close(f);
}

/* ---- in the drivers ---- */

#define INT3 "\"format\":\"int3\",\"group\":32,\"activation\":\"int8-dynamic\""

/* The first two schemes' errors behind the last block. */
static void assert_schemes_differ(const sr_run *r) {
    int64_t last = r->m.config.n_layer - 1;
    assert_memory_not_equal(&r->layer[0][last][DSB_POINT_BLOCK][DSB_KIND_ACCUMULATED][0], &r->layer[1][last][DSB_POINT_BLOCK][DSB_KIND_ACCUMULATED][0], sizeof(dsb_moments));
}

/* Without calibration both drivers compensate plain errors: logits of a session are those of the sweep. */
static void test_compensation__low_rank_runs_in_both_drivers(void **state) {
    sr_run *r = sr_open();
    sr_add_json(r, "{\"name\":\"plain\",\"rules\":[{\"role\":\"*\"," INT3 "}]}");
    sr_add_json(r, "{\"name\":\"low-rank\",\"rules\":[{\"role\":\"*\"," INT3 ",\"compensation\":\"low-rank\",\"rank\":8}]}");
    sr_sweep(r, 0);
    int64_t d = r->m.config.d_model, layers = r->m.config.n_layer;
    for (int i = 0; i < 2; i++) {
        dsb_session s, ref;
        float *hidden = calloc((size_t)(layers * SR_CTX * d), sizeof *hidden), *want = calloc((size_t)(layers * SR_CTX * d), sizeof *want);
        dsb_trace_sink sink = {.hidden = hidden}, ref_sink = {.hidden = want};
        dsb_moments m;
        assert_int_equal(dsb_session_open(&s, &r->m, &r->schemes[i], NULL, SR_CTX, NULL), DSB_OK);
        assert_int_equal(dsb_session_open(&ref, &r->m, &r->reference, NULL, SR_CTX, NULL), DSB_OK);
        assert_int_equal(dsb_session_forward(&s, r->tokens, SR_CTX, 0, NULL, &sink, NULL), DSB_OK);
        assert_int_equal(dsb_session_forward(&ref, r->tokens, SR_CTX, 0, NULL, &ref_sink, NULL), DSB_OK);
        for (int64_t l = 0; l < layers; l++) {
            r->m.be->moments(want + l * SR_CTX * d, hidden + l * SR_CTX * d, SR_CTX * d, &m);
            assert_memory_equal(&m, &r->layer[i][l][DSB_POINT_BLOCK][DSB_KIND_ACCUMULATED][0], sizeof m);
        }
        free(hidden);
        free(want);
        dsb_session_close(&s);
        dsb_session_close(&ref);
    }
    assert_schemes_differ(r);
    sr_close(r);
}

/* A scheme's own stream changes what it is compensated by; the first block's first inputs are the embedding's, rounded. */
static void test_compensation__recalibration_uses_the_schemes_own_inputs(void **state) {
    sr_run *r = sr_open();
    sr_add_json(r, "{\"name\":\"scale\",\"rules\":[{\"role\":\"*\"," INT3 ",\"compensation\":\"layer-scale\"}]}");
    sr_add_json(r, "{\"name\":\"own\",\"rules\":[{\"role\":\"*\"," INT3 ",\"compensation\":[\"layer-scale\",\"recalibrate\"]}]}");
    sr_sweep(r, 2);
    assert_schemes_differ(r);
    sr_close(r);
}

/* States that attention reads, in the order of its calls: a hooked backend keeps what the norm before it saw. */
enum { CALLS = 6 }; /* a block: calibration of the reference, the scheme's before and after it is made, the reference, the scheme, isolated */
static const dsb_backend *real;
static struct {
    int64_t d, n_call;
    float *last, *state[CALLS * SR_LAYERS]; /* (SR_CTX, d) each */
} seen;

static void norm_and_look(const float *x, int64_t stride, const float *w, double eps, int64_t n, int64_t d, float *y, int64_t y_stride) {
    if (n == SR_CTX && d == seen.d && stride == d) memcpy(seen.last, x, (size_t)(n * d) * sizeof *x);
    real->rms_norm(x, stride, w, eps, n, d, y, y_stride);
}
static void attend_and_keep(const dsb_attention_shape *shape, const dsb_seq *seqs, int64_t n_seq, const float *q, const float *k, const float *v, float *out) {
    size_t bytes = (size_t)(SR_CTX * seen.d) * sizeof *seen.last;
    assert_true(seen.n_call < CALLS * SR_LAYERS);
    seen.state[seen.n_call] = malloc(bytes);
    memcpy(seen.state[seen.n_call++], seen.last, bytes);
    real->attention(shape, seqs, n_seq, q, k, v, out);
}

/* The calibration text is the evaluated one, of one chunk: a scheme's own calibration stream holds the bits of the stream that it is measured on,
 * block after block, and they are not the reference's. */
static void test_compensation__a_schemes_own_stream_is_its_own_run(void **state) {
    real = dsb_backend_cpu(NULL);
    dsb_backend looking = *real;
    looking.rms_norm = norm_and_look;
    looking.attention = attend_and_keep;
    sr_run *r = sr_open_on(&looking);
    size_t bytes = (size_t)(SR_CTX * r->m.config.d_model) * sizeof(float);
    memset(&seen, 0, sizeof seen);
    seen.d = r->m.config.d_model;
    seen.last = malloc(bytes);
    sr_add_json(r, "{\"name\":\"own\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\",\"compensation\":\"router\"},{\"role\":\"*\"," INT3 ",\"compensation\":[\"layer-scale\",\"recalibrate\"]}]}");
    sr_sweep_chunks(r, 0, 1, 0, 1, 1);
    assert_int_equal(seen.n_call, CALLS * r->m.config.n_layer);
    for (int64_t l = 0; l < r->m.config.n_layer; l++) {
        float **call = seen.state + CALLS * l;
        assert_memory_equal(call[0], call[3], bytes); /* the reference's streams of the same text */
        assert_memory_equal(call[1], call[2], bytes);
        assert_memory_equal(call[1], call[4], bytes);
        assert_int_equal(memcmp(call[3], call[4], bytes) == 0, l == 0); /* the embedding is BF16 already */
    }
    for (int64_t i = 0; i < seen.n_call; i++) free(seen.state[i]);
    free(seen.last);
    sr_close(r);
}

/* A re-fitted router is another one under a quantized model, and moves only a little under an exact one. */
static void test_compensation__routers_are_refitted(void **state) {
    sr_run *r = sr_open();
    sr_add_json(r, "{\"name\":\"int3\",\"rules\":[{\"role\":\"*\"," INT3 "}]}");
    sr_add_json(r, "{\"name\":\"router\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\",\"compensation\":\"router\"},{\"role\":\"*\"," INT3 "}]}");
    sr_sweep(r, 3);
    int64_t last = r->m.config.n_layer - 1;
    assert_true(r->same_isolated_routing[0][last]);
    assert_false(r->same_isolated_routing[1][last]);
    assert_true(r->router[1][last].dd > 0);
    assert_true(r->router[0][last].dd == 0);
    sr_close(r);
}

static void test_compensation__bad_recipes_are_named(void **state) {
    static const struct { const char *rule, *says; } k_bad[] = {
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"lowrank\"}", "one of none, layer-scale, layer-scale-gradient, low-rank, bias, recalibrate, router"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":[\"bias\",3]}", "\"compensation\" is no name"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":{}}", "\"compensation\" is no name"},
        {"{\"role\":\"*\",\"format\":\"keep\",\"compensation\":\"bias\"}", "none with keep"},
        {"{\"role\":\"*\",\"format\":\"nf4\",\"compensation\":\"layer-scale\"}", "low-rank or bias"},
        {"{\"role\":\"*\",\"format\":\"int8\",\"group\":\"tensor\",\"compensation\":\"layer-scale\"}", "low-rank or bias"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"router\"}", "the role router"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"recalibrate\"}", "recalibrate alone"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"low-rank\",\"rank\":0}", "1 to 1024"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"low-rank\",\"rank\":1025}", "1 to 1024"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"low-rank\",\"rank\":\"8\"}", "1 to 1024"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"bias\",\"rank\":8}", "low-rank beside it"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"threshold\":0.1}", "a compensation of the error"},
        {"{\"role\":\"*\",\"format\":\"int4\",\"compensation\":\"bias\",\"threshold\":1}", "0 to 1"},
    };
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        char text[256];
        const dsb_recipe *recipe;
        dsb_arena arena;
        json_t *doc;
        dsb_err err = {0};
        dsb_arena_init(&arena);
        snprintf(text, sizeof text, "{\"name\":\"x\",\"rules\":[%s]}", k_bad[i].rule);
        assert_int_equal(dsb_json_parse(&doc, "test", text, strlen(text), &err), DSB_OK);
        assert_int_equal(dsb_recipe_parse(&recipe, &arena, "test", doc, &err), DSB_EINPUT);
        if (!strstr(err.text, k_bad[i].says)) fail_msg("%s: %s", k_bad[i].rule, err.text);
        json_decref(doc);
        dsb_arena_release(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compensation__a_channels_factor_is_the_closed_form),
        cmocka_unit_test(test_compensation__group_scales_solve_the_normal_equations),
        cmocka_unit_test(test_compensation__a_bias_is_the_mean_error),
        cmocka_unit_test(test_compensation__low_rank_leaves_what_the_spectrum_leaves),
        cmocka_unit_test(test_compensation__least_squares_towards_the_stored_weights),
        cmocka_unit_test(test_compensation__is_the_same_for_any_number_of_threads),
        cmocka_unit_test(test_compensation__without_tokens_nothing_but_the_plain_error_is_compensated),
        cmocka_unit_test(test_compensation__low_rank_runs_in_both_drivers),
        cmocka_unit_test(test_compensation__recalibration_uses_the_schemes_own_inputs),
        cmocka_unit_test(test_compensation__a_schemes_own_stream_is_its_own_run),
        cmocka_unit_test(test_compensation__routers_are_refitted),
        cmocka_unit_test(test_compensation__bad_recipes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
