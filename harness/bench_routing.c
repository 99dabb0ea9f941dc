#include "harness/bench_routing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/safetensors.h"

static const char *const k_names[] = {"real", "uniform", "zipf", "recorded"};

int dsb_routing_kind_find(const char *name) {
    for (int i = 0; i < (int)(sizeof k_names / sizeof *k_names); i++)
        if (strcmp(name, k_names[i]) == 0) return i;
    return -1;
}

const char *dsb_routing_kind_name(dsb_routing_kind kind) { return k_names[kind]; }

/* The next of a sequence: SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static double unit(uint64_t *state) { return (double)(next(state) >> 11) * 0x1p-53; }

static int ascending(const void *a, const void *b) { return (*(const int32_t *)a > *(const int32_t *)b) - (*(const int32_t *)a < *(const int32_t *)b); }

/* k of n with the given weights (0: taken already), which are changed and put back. */
static void draw(int32_t *out, int64_t k, const double *weight, double *left, int64_t n, uint64_t *state) {
    double sum = 0;
    memcpy(left, weight, (size_t)n * sizeof *left);
    for (int64_t i = 0; i < n; i++) sum += left[i];
    for (int64_t j = 0; j < k; j++) {
        double at = sum * unit(state);
        int64_t e = 0, last = -1;
        for (; e < n; e++) {
            if (left[e] == 0) continue;
            last = e;
            if ((at -= left[e]) < 0) break;
        }
        e = last; /* rounding may leave a trifle behind the last */
        out[j] = (int32_t)e;
        sum -= left[e];
        left[e] = 0;
    }
    qsort(out, (size_t)k, sizeof *out, ascending);
}

/* Expert i's weight: 1, or 1 / its place in a drawn order. */
static void weigh(double *weight, int64_t n, dsb_routing_kind kind, uint64_t *state) {
    for (int64_t i = 0; i < n; i++) weight[i] = kind == DSB_ROUTING_ZIPF ? 1 / (double)(i + 1) : 1;
    for (int64_t i = n - 1; i > 0 && kind == DSB_ROUTING_ZIPF; i--) {
        int64_t j = (int64_t)(unit(state) * (double)(i + 1));
        double kept = weight[i];
        weight[i] = weight[j];
        weight[j] = kept;
    }
}

dsb_status dsb_routing_ids_make(int32_t **ids, int64_t n_row, dsb_routing_kind kind, const dsb_config *c, dsb_err *err) {
    double *weight;
    uint64_t state = 1;
    int64_t n = c->n_expert, k = c->router.k;
    DSB_TRY(DSB_NEW(weight, 2 * n, "experts", err));
    dsb_status s = DSB_NEW(*ids, c->n_layer * n_row * k, "experts", err);
    for (int64_t l = 0; l < c->n_layer && !s; l++) {
        if (!dsb_layer_is_moe(c, l)) continue;
        weigh(weight, n, kind, &state);
        for (int64_t i = 0; i < n_row; i++) draw(*ids + (l * n_row + i) * k, k, weight, weight + n, n, &state);
    }
    free(weight);
    return s;
}

static const dsb_st_tensor *indices(const dsb_st_file *f, int64_t sequence, int64_t layer, char name[64]) {
    snprintf(name, 64, "seq%lld.layer%lld.topk_indices", (long long)sequence, (long long)layer);
    return dsb_st_find(f, name);
}

/* With k of 4 bytes a row there are no more rows than the file has room for. */
static bool is_choice(const dsb_st_tensor *t, int64_t k) { return t->dtype == DSB_I32 && t->ndim == 2 && t->shape[1] == k; }

/* One sequence's rows of a layer. */
static dsb_status read_rows(int32_t *out, const dsb_st_file *f, int64_t sequence, int64_t layer, int64_t n, const dsb_config *c, dsb_err *err) {
    char name[64];
    const dsb_st_tensor *t = indices(f, sequence, layer, name);
    int64_t k = c->router.k;
    if (!t) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is missing; a trace of this model is wanted", f->path, name);
    if (!is_choice(t, k) || t->shape[0] != n)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is not I32 of shape (%lld, %lld); a trace of this model is wanted", f->path, name, (long long)n, (long long)k);
    memcpy(out, t->data, (size_t)(n * k) * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        int32_t *row = out + i * k;
        qsort(row, (size_t)k, sizeof *row, ascending);
        for (int64_t j = 0; j < k; j++)
            if (row[j] < 0 || row[j] >= c->n_expert || (j > 0 && row[j] == row[j - 1]))
                return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: row %lld is no choice of %lld of %lld experts", f->path, name, (long long)i, (long long)k, (long long)c->n_expert);
    }
    return DSB_OK;
}

static dsb_status read_all(int32_t **ids, int64_t *n_row, const dsb_st_file *f, const dsb_config *c, dsb_err *err) {
    char name[64];
    const dsb_st_tensor *t;
    int64_t first = 0, k = c->router.k, at = 0, n_seq = 0;
    while (first < c->n_layer && !dsb_layer_is_moe(c, first)) first++;
    *n_row = 0;
    for (; (t = indices(f, n_seq, first, name)) && is_choice(t, k); n_seq++) *n_row += t->shape[0];
    if (*n_row == 0) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s of %lld experts a token is missing; what dsbench trace wrote of this model is wanted", f->path, name, (long long)k);
    DSB_TRY(DSB_NEW(*ids, c->n_layer * *n_row * k, "experts", err));
    for (int64_t q = 0; q < n_seq; q++) {
        int64_t n = indices(f, q, first, name)->shape[0];
        for (int64_t l = first; l < c->n_layer; l++)
            if (dsb_layer_is_moe(c, l)) DSB_TRY(read_rows(*ids + (l * *n_row + at) * k, f, q, l, n, c, err));
        at += n;
    }
    return DSB_OK;
}

dsb_status dsb_routing_ids_read(int32_t **ids, int64_t *n_row, const char *path, const dsb_config *c, dsb_err *err) {
    dsb_st_file f;
    DSB_TRY(dsb_st_open(&f, path, err));
    dsb_status s = read_all(ids, n_row, &f, c, err);
    dsb_st_close(&f);
    if (s) {
        free(*ids);
        *ids = NULL;
    }
    return s;
}
