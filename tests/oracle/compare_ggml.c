/* Our encoders of GGUF's formats beside ggml's own (`ggml_quantize_chunk` of a libggml-base.so, llama-cpp-python's for one), each in
 * one thread, in turns, by processor time; and what both leave on the same matrices, with and without an importance of columns.
 *   gcc -O2 -std=gnu11 -D_GNU_SOURCE -I. -fopenmp tests/oracle/compare_ggml.c build/libdsbench.a -lm -ldl -o build/compare_ggml
 *   build/compare_ggml PATH/libggml-base.so        (no part of make check) */
#include <dlfcn.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/ggml.h"
#include "quantizers/quantize.h"

enum { ROWS = 512, COLS = 2048, N = ROWS * COLS, TURNS = 3 };
typedef size_t (*chunk_fn)(int type, const float *src, void *dst, int64_t start, int64_t n_row, int64_t n_col, const float *importance);

static uint64_t random_state = 1;
static double uniform(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(random_state >> 11) + 0.5) * 0x1p-53;
}
static double normal(void) { return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()); }

static const char *const k_kind[] = {"normal", "laplace", "student", "outlier"};
static float draw(int kind) {
    double x = normal();
    if (kind == 1) x = (uniform() < 0.5 ? 1 : -1) * log(uniform());
    if (kind == 2) x /= sqrt((pow(normal(), 2) + pow(normal(), 2) + pow(normal(), 2) + pow(normal(), 2)) / 4);
    if (kind == 3 && uniform() < 0.005) x *= 60;
    return (float)(x * 0.02);
}

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static double error_of(const dsb_ggml_type *t, const uint8_t *bytes, const float *w, const float *importance) {
    double sum = 0;
    float y[256];
    for (int64_t b = 0; b < N / t->n; b++) {
        t->decode(bytes + b * t->bytes, y);
        for (int i = 0; i < t->n; i++) {
            double e = (double)y[i] - (double)w[b * t->n + i];
            sum += e * e * (importance ? (double)importance[(b * t->n + i) % COLS] : 1);
        }
    }
    return sum;
}

/* Both by the same importance of columns: what is left, weighed by it. */
static void compare_important(const dsb_format *f, int kind, chunk_fn chunk, const float *w, uint8_t *theirs) {
    const dsb_ggml_type *t = dsb_ggml_find(f->ggml);
    static float importance[COLS];
    static double sum_sq[COLS];
    dsb_qtensor q;
    random_state = 7;
    for (int i = 0; i < COLS; i++) sum_sq[i] = (double)(importance[i] = (float)exp(1.5 * normal()));
    if (dsb_quantize_important(&q, f, f->group, sum_sq, w, ROWS, COLS, NULL)) exit(1);
    chunk((int)f->ggml, w, theirs, 0, ROWS, COLS, importance);
    double ours_e = error_of(t, q.raw, w, importance), theirs_e = error_of(t, theirs, w, importance);
    printf("%-8s %-8s %9s %9s %7s %12.6g %12.6g %7.4f\n", f->name, k_kind[kind], "imatrix", "imatrix", "-", ours_e, theirs_e, ours_e / theirs_e);
    dsb_qtensor_release(&q);
}

static void compare(const dsb_format *f, int kind, chunk_fn chunk, const float *w, uint8_t *theirs) {
    const dsb_ggml_type *t = dsb_ggml_find(f->ggml);
    double ours_s = INFINITY, theirs_s = INFINITY, ours_e = 0, theirs_e = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        dsb_qtensor q;
        double start = seconds();
        if (dsb_quantize_rtn(&q, f, f->group, false, w, ROWS, COLS, NULL)) exit(1);
        double middle = seconds();
        chunk((int)f->ggml, w, theirs, 0, ROWS, COLS, NULL);
        theirs_s = fmin(theirs_s, seconds() - middle);
        ours_s = fmin(ours_s, middle - start);
        if (turn == 0) {
            ours_e = error_of(t, q.raw, w, NULL);
            theirs_e = error_of(t, theirs, w, NULL);
        }
        dsb_qtensor_release(&q);
    }
    printf("%-8s %-8s %9.1f %9.1f %7.2f %12.6g %12.6g %7.4f\n", f->name, k_kind[kind], N / ours_s / 1e6, N / theirs_s / 1e6, theirs_s / ours_s, ours_e, theirs_e, ours_e / theirs_e);
}

int main(int argc, char **argv) {
    void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    void (*init)(int) = lib ? (void (*)(int))dlsym(lib, "ggml_quantize_init") : NULL;
    chunk_fn chunk = lib ? (chunk_fn)dlsym(lib, "ggml_quantize_chunk") : NULL;
    const dsb_format *rows;
    if (!chunk || !init) {
        fprintf(stderr, "compare_ggml: the path of a libggml-base.so is wanted\n");
        return 2;
    }
    omp_set_num_threads(1);
    float *w = malloc(N * sizeof *w);
    uint8_t *theirs = malloc(N * 2);
    printf("%-8s %-8s %9s %9s %7s %12s %12s %7s\n", "format", "matrix", "ours_mw_s", "ggml_mw_s", "ratio", "ours_sq", "ggml_sq", "ratio");
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < N; i++) w[i] = draw(kind);
        for (int i = 0, n = dsb_format_list(&rows); i < n; i++)
            if (rows[i].ggml) {
                init((int)rows[i].ggml);
                compare(&rows[i], kind, chunk, w, theirs);
                compare_important(&rows[i], kind, chunk, w, theirs);
            }
    }
    free(w);
    free(theirs);
    return 0;
}
