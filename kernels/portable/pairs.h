/* Activations as products of BF16 pairs read them, and which rows may be multiplied so. Hardware that adds the products of a pair one after
 * the other, each with one rounding, gives the bits of the f32 chain, but takes subnormals for zeros. So a row is multiplied in pairs
 * if its values are BF16 and it can meet no subnormal: values of exponents a and b are multiples of 2^(a-7) and 2^(b-7), so where a + b >= 14 - 126
 * all products, all sums and all that they are rounded to are multiples of 2^-126, hence zero or normal. Any other row takes the chain itself. */
#ifndef DSB_KERNELS_PORTABLE_PAIRS_H
#define DSB_KERNELS_PORTABLE_PAIRS_H

#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"

enum { PR_LEAST_SUM = 14 - 126 + 2 * 127 }; /* of the two biased exponents */

typedef struct pr_pairs {
    uint32_t *words; /* (n, stride): the even input in the high half, as weights lie */
    int64_t stride;
    bool *may;       /* (n) */
    void *owned;
} pr_pairs;

/* Packs one row; false where it must not be used. */
static inline bool pr_pair_row(const float *x, int64_t cols, int32_t least, uint32_t *to) {
    enum { PART = 64 };
    for (int64_t at = 0; at < cols; at += PART) {
        uint32_t u[PART] = {0}, low = 0, smallest = 256, largest = 0;
        memcpy(u, x + at, (size_t)(cols - at < PART ? cols - at : PART) * sizeof *u);
        for (int i = 0; i < PART; i++) {
            uint32_t e = u[i] >> 23 & 255, counted = u[i] << 1 ? e : 256;
            low |= u[i];
            smallest = counted < smallest ? counted : smallest;
            largest = e > largest ? e : largest;
        }
        if (low & 0xffff || largest == 255 || (int32_t)smallest + least < PR_LEAST_SUM) return false;
        for (int64_t i = 0; i < PART && at + i < cols; i += 2) to[(at + i) / 2] = u[i] | u[i + 1] >> 16;
    }
    return true;
}

static inline void pr_pairs_init(pr_pairs *c, const dsb_wmat *w, const dsb_act *x) {
    c->stride = (w->cols + 1) / 2;
    c->owned = malloc((size_t)(x->n * c->stride) * sizeof *c->words + (size_t)x->n + 1);
    if (!c->owned) abort(); /* half as large as the activations that are there already */
    c->words = c->owned;
    c->may = (bool *)(c->words + x->n * c->stride);
#pragma omp parallel for schedule(static) if (x->n * w->cols > 1 << 18)
    for (int64_t i = 0; i < x->n; i++) c->may[i] = w->least >= 0 && pr_pair_row(x->f32 + i * w->cols, w->cols, w->least, c->words + i * c->stride);
}

static inline void pr_pairs_release(pr_pairs *c) { free(c->owned); }

#endif
