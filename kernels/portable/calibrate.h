/* FP8 activations and the histogram that calibration reads. */
#ifndef DSB_KERNELS_PORTABLE_CALIBRATE_H
#define DSB_KERNELS_PORTABLE_CALIBRATE_H

#include "kernels/portable/rows.h"

/* To the nearest E4M3 value, ties to even; |v| stays at 448. Below 2^-6 steps are 2^-9: the last place of 2^14. */
static inline float pr_e4m3(float v) {
    float a = fabsf(v);
    uint32_t u = dsb_f32_bits(a), rounded = (u + 0x7ffffu + (u >> 20 & 1u)) & 0xfff00000u;
    float r = a < 0x1p-6f ? (a + 0x1p14f) - 0x1p14f : dsb_f32_from_bits(rounded);
    return copysignf(r > 448.0f ? 448.0f : r, v);
}

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
            out[k] = finite ? pr_e4m3(v) * s : NAN;
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

#endif
