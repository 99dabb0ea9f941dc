/* This machine's ceilings, measured with all threads: memory by large reads and a triad, arithmetic by our own product kernels on a cached tile. */
#include <omp.h>
#include <stdlib.h>

#include "base/clock.h"
#include "kernels/layout.h"

enum { WORDS = 1 << 23, SECONDS_MS = 100 }; /* 64 MB an array: larger than most caches */

static double read_gbps(const double *a) {
    double best = 0, sink = 0, t_end = dsb_now_s() + 1e-3 * SECONDS_MS;
    do {
        double t = dsb_now_s(), s = 0;
#pragma omp parallel for schedule(static) reduction(+ : s)
        for (int64_t b = 0; b < WORDS; b += 4096) {
            double v[8] = {0};
            for (int64_t i = b; i < b + 4096; i += 8)
                for (int j = 0; j < 8; j++) v[j] += a[i + j];
            s += v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];
        }
        sink += s;
        double g = WORDS * 8.0 / (dsb_now_s() - t) * 1e-9;
        best = g > best ? g : best;
    } while (dsb_now_s() < t_end);
    return sink == -1 ? 0 : best;
}

static double triad_gbps(double *a, const double *b, const double *c) {
    double best = 0, t_end = dsb_now_s() + 1e-3 * SECONDS_MS;
    do {
        double t = dsb_now_s();
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < WORDS; i++) a[i] = b[i] + 3.0 * c[i];
        double g = WORDS * 24.0 / (dsb_now_s() - t) * 1e-9;
        best = g > best ? g : best;
    } while (dsb_now_s() < t_end);
    return best;
}

/* Giga-operations a second of a product that stays in cache. */
static double product_gops(const dsb_backend *be, const dsb_wmat *w, const dsb_act *x, float *y) {
    double best = 0, t_end = dsb_now_s() + 1e-3 * SECONDS_MS;
    do {
        double t = dsb_now_s();
        be->gemm(w, x, y);
        double g = 2.0 * (double)(x->n * w->rows * w->cols) / (dsb_now_s() - t) * 1e-9;
        best = g > best ? g : best;
    } while (dsb_now_s() < t_end);
    return best;
}

void dsb_roofline_measure(const dsb_backend *be, dsb_roofline *out) {
    enum { N = 384, D = 256 };
    *out = (dsb_roofline){0};
    double *a = malloc(3 * (size_t)WORDS * sizeof *a);
    if (a) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < 3 * (int64_t)WORDS; i++) a[i] = (double)i;
        out->read_gbps = read_gbps(a);
        out->triad_gbps = triad_gbps(a, a + WORDS, a + 2 * WORDS);
    }
    free(a);
    float *w = calloc((size_t)(D * D + N * D * 2 + N), sizeof *w);
    int8_t *codes = calloc((size_t)(D * D + N * D), 1);
    dsb_wmat wf = {0}, wi = {0};
    if (w && codes) {
        float *x = w + D * D, *y = x + N * D, *scale = y + N * D;
        for (int64_t i = 0; i < D * D + N * D; i++) {
            w[i] = (float)(i % 17) - 8;
            codes[i] = (int8_t)(i % 251 - 125);
        }
        dsb_act xf = {.n = N, .cols = D, .f32 = x}, xi = {.n = N, .cols = D, .q = codes + D * D, .scale = scale};
        if (!be->pack_float(&wf, DSB_W_F32, w, D, D, NULL)) out->f32_gflops = product_gops(be, &wf, &xf, y);
        if (!be->pack_int(&wi, DSB_W_I8, codes, w, D, D, D, NULL)) out->int8_gops = product_gops(be, &wi, &xi, y);
    }
    be->unpack(&wf);
    be->unpack(&wi);
    free(w);
    free(codes);
}
