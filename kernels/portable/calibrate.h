/* FP8 activations and the histogram that calibration reads. */
#ifndef DSB_KERNELS_PORTABLE_CALIBRATE_H
#define DSB_KERNELS_PORTABLE_CALIBRATE_H

#include "kernels/portable/rows.h"

static int64_t pr_round_e4m3(const float *x, int64_t n, int64_t cols, float given, float *y) {
    int64_t clipped = 0;
#pragma omp parallel for schedule(static) reduction(+ : clipped) if (n * cols > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * cols;
        float *out = y + i * cols, top = pr_row_max(row, cols), s = given > 0 ? given : top / 448.0f;
        bool finite = top <= FLT_MAX;
        int64_t c = 0;
        for (int64_t k = 0; k < cols; k++) {
            float v = s > 0 ? row[k] / s : 0;
            c += fabsf(v) > 448.0f;
            out[k] = finite ? pm_e4m3(v) * s : NAN;
        }
        clipped += finite && given > 0 ? c : 0;
    }
    return clipped;
}

static void pr_histogram(const float *x, int64_t n, uint64_t *bins) {
#pragma omp parallel if (n > PR_PARALLEL)
    {
        uint64_t mine[DSB_BINS] = {0};
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < n; i++) {
            uint32_t u = dsb_f32_bits(x[i]) & 0x7fffffffu;
            int64_t b = (int64_t)(u >> 19) - DSB_BIN_FIRST;
            if (u < 0x7f800000u) mine[b < 0 ? 0 : b >= DSB_BINS ? DSB_BINS - 1 : b]++;
        }
        for (int b = 0; b < DSB_BINS; b++)
            if (mine[b]) {
#pragma omp atomic
                bins[b] += mine[b];
            }
    }
}

static void pr_channel_sums(const float *x, int64_t n, int64_t cols, double *sum, double *sum_abs, double *sum_sq, float *absmax) {
#pragma omp parallel for schedule(static) if (n * cols > PR_PARALLEL)
    for (int64_t from = 0; from < cols; from += 64) {
        int64_t to = from + 64 < cols ? from + 64 : cols;
        for (int64_t r = 0; r < n; r++)
            for (int64_t c = from; c < to; c++) {
                float v = x[r * cols + c], a = fabsf(v);
                sum[c] += (double)v;
                sum_abs[c] += (double)a;
                sum_sq[c] += (double)v * (double)v;
                absmax[c] = a > absmax[c] || a != a ? a : absmax[c];
            }
    }
}

/* One tile of xᵀx: products of two f32 are exact in f64, so fusing them changes nothing. */
static void pr_gram_tile(const float *x, int64_t n, int64_t cols, int64_t i0, int64_t j0, double *gram) {
    enum { I = 4, J = 32 };
    double acc[I][J];
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) acc[i][j] = gram[(i0 + i) * cols + j0 + j];
    for (int64_t r = 0; r < n; r++) {
        const float *a = x + r * cols + i0, *b = x + r * cols + j0;
        double wide[J];
        for (int j = 0; j < J; j++) wide[j] = (double)b[j];
        for (int i = 0; i < I; i++)
            for (int j = 0; j < J; j++) acc[i][j] += (double)a[i] * wide[j];
    }
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) gram[(i0 + i) * cols + j0 + j] = acc[i][j];
}

static void pr_gram_rest(const float *x, int64_t n, int64_t cols, int64_t i, int64_t from, int64_t to, double *gram) {
    for (int64_t j = from; j < to; j++) {
        double sum = gram[i * cols + j];
        for (int64_t r = 0; r < n; r++) sum += (double)x[r * cols + i] * (double)x[r * cols + j];
        gram[i * cols + j] = sum;
    }
}

/* The lower half by tiles of 4 x 32 (a tile may reach over the diagonal), then its mirror image. */
static void pr_gram(const float *x, int64_t n, int64_t cols, double *gram) {
#pragma omp parallel for schedule(dynamic, 8)
    for (int64_t i = 0; i < (cols + 3) / 4; i++) {
        int64_t i0 = i * 4, rows = i0 + 4 <= cols ? 4 : cols - i0, j0 = 0;
        for (; rows == 4 && j0 + 32 <= cols && j0 < i0 + rows; j0 += 32) pr_gram_tile(x, n, cols, i0, j0, gram);
        for (int64_t k = i0; k < i0 + rows; k++) pr_gram_rest(x, n, cols, k, j0, k + 1, gram);
    }
#pragma omp parallel for schedule(dynamic, 8)
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = i + 1; j < cols; j++) gram[i * cols + j] = gram[j * cols + i];
}

#endif
