/* How fast weights are quantized: every format and algorithm of ranges over one matrix of normal weights, then GPTQ over a DeepSeek-V2-Lite
 * expert (gate and up 1408 x 2048, down 2048 x 1408), by processor time: threads' times are added, so other load on the machine counts little.
 *   gcc -O2 -std=gnu11 -D_GNU_SOURCE -I. -fopenmp tests/oracle/encode_rates.c build/libdsbench.a -llapacke -lm -ldl -o build/encode_rates
 *   build/encode_rates [FORMAT | gptq]        (no part of make check) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "quantizers/gptq.h"

enum { ROWS = 1408, COLS = 2048, N = ROWS * COLS, TURNS = 5, TOKENS = 512 };

static uint64_t random_state = 1;
static double uniform(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(random_state >> 11) + 0.5) * 0x1p-53;
}
static float normal(void) { return (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform())); }

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static void rate(const dsb_format *f, const char *algorithm, int64_t group, bool affine, const float *w) {
    double best = INFINITY;
    char name[24];
    for (int turn = 0; turn < TURNS; turn++) {
        dsb_qtensor q;
        double start = seconds();
        if (dsb_quantize(&q, f, dsb_algorithm_find(algorithm), group, affine, w, ROWS, COLS, NULL)) exit(1);
        best = fmin(best, seconds() - start);
        dsb_qtensor_release(&q);
    }
    dsb_group_name(group, name);
    printf("%-9s %-15s %-8s %-7s %9.0f %9.2f\n", f->name, algorithm, name, affine ? "affine" : "", N / best / 1e6, 2 * 2 * N / best / 1e9);
}

static void rates(const char *only, const float *w) {
    static const char *const k_algorithm[] = {"rtn", "rtn-percentile", "rtn-mse"};
    const dsb_format *f;
    printf("%-9s %-15s %-8s %-7s %9s %9s\n", "format", "algorithm", "group", "", "mw_s", "gb_s_of_2");
    for (int i = 0, n = dsb_format_list(&f); i < n; i++) {
        bool integer = f[i].qmax > 0;
        if (f[i].is_float || (only && strcmp(only, f[i].name) != 0)) continue;
        for (int a = 0; a < (integer ? 3 : 1); a++)
            for (int affine = 0; affine < (integer ? 2 : 1); affine++) {
                rate(&f[i], k_algorithm[a], f[i].group, affine, w);
                if (f[i].group <= 0) rate(&f[i], k_algorithm[a], integer ? 32 : 128, affine, w);
                if (a == 0 && integer) rate(&f[i], k_algorithm[a], DSB_GROUP_TENSOR, affine, w);
            }
    }
}

/* Inputs whose channels share a part, so that their products are no diagonal. */
static void fill_stats(dsb_input_stats *s, int64_t cols) {
    const dsb_backend *be = dsb_backend_cpu(NULL);
    float *x = malloc((size_t)(TOKENS * cols) * sizeof *x);
    if (!x || dsb_input_stats_begin(s, DSB_NEED_GRAM, cols, NULL)) exit(1);
    for (int t = 0; t < TOKENS; t++) {
        float common = normal();
        for (int64_t c = 0; c < cols; c++) x[t * cols + c] = normal() + 0.5f * common;
    }
    double start = seconds();
    dsb_input_stats_add(s, be, x, TOKENS);
    printf("products of %d tokens of %lld inputs: %.2f s\n", TOKENS, (long long)cols, seconds() - start);
    free(x);
}

static void gptq(const float *w) {
    dsb_input_stats in[2] = {0};
    fill_stats(&in[0], COLS);
    fill_stats(&in[1], ROWS);
    for (int64_t group = 32; group <= 128; group *= 4) {
        double start = seconds(), first = 0;
        for (int i = 0; i < 3; i++) {
            dsb_qtensor q;
            int64_t rows = i == 2 ? COLS : ROWS, cols = i == 2 ? ROWS : COLS;
            if (dsb_qtensor_begin(&q, dsb_format_find("int4"), group, false, w, rows, cols, NULL) || dsb_gptq(&q, w, &in[i == 2], 0.01, false, DSB_GPTQ_BLOCK, NULL)) exit(1);
            dsb_qtensor_release(&q);
            if (i == 0) first = seconds() - start;
        }
        printf("gptq, int4, groups of %lld: %.2f s of processor time for the expert's three matrices, %.2f s for the first\n", (long long)group, seconds() - start, first);
    }
    dsb_input_stats_release(&in[0]);
    dsb_input_stats_release(&in[1]);
}

int main(int argc, char **argv) {
    const char *only = argc > 1 ? argv[1] : NULL;
    float *w = malloc(N * sizeof *w);
    if (!w) return 1;
    for (int i = 0; i < N; i++) w[i] = 0.02f * normal();
    if (!only || strcmp(only, "gptq") != 0) rates(only, w);
    if (!only || strcmp(only, "gptq") == 0) gptq(w);
    free(w);
    return 0;
}
