/* Activations as products of BF16 pairs read them, and which rows may be multiplied so. Hardware that adds the products of a pair one after
 * the other, each with one rounding, gives the bits of the f32 chain, but takes subnormals for zeros. So a row is multiplied in pairs
 * if its values are BF16 and it can meet no subnormal: values of exponents a and b are multiples of 2^(a-7) and 2^(b-7), so where a + b >= 14 - 126
 * all products, all sums and all that they are rounded to are multiples of 2^-126, hence zero or normal. Any other row takes the chain itself. */
#ifndef DSB_KERNELS_PORTABLE_PAIRS_H
#define DSB_KERNELS_PORTABLE_PAIRS_H

#include <string.h>

#include "kernels/layout.h"

enum { PR_LEAST_SUM = 14 - 126 + 2 * 127 }; /* of the two biased exponents */

typedef struct pr_pairs {
    uint32_t *words; /* (n, stride): the even input in the high half, as weights lie */
    int64_t stride;
    int32_t *least;  /* (n): the least biased exponent of a row's values, zeros left out (256: no others); -1 where one is not BF16 or not finite */
} pr_pairs;

/* Rows a power of two apart would share places in the first-level cache: a line more. */
static inline void pr_pairs_plan(pr_pairs *c, int64_t cols) { c->stride = ((cols + 1) / 2 + 15) / 16 * 16 + 16; }
static inline size_t pr_pairs_bytes(const pr_pairs *c, int64_t n) { return (size_t)(n * (c->stride + 1)) * sizeof *c->words + 1; }
static inline void pr_pairs_place(pr_pairs *c, int64_t n, void *room) {
    c->words = room;
    c->least = (int32_t *)room + n * c->stride;
}

/* Packs one row; a word is made of the two values in 64 bits. */
static inline void pr_pairs_row(const pr_pairs *c, const dsb_act *x, int64_t i) {
    enum { PART = 128 };
    const float *row = x->f32 + i * x->cols;
    uint32_t *to = c->words + i * c->stride;
    uint32_t least = 256, low = 0, largest = 0;
    c->least[i] = -1;
    for (int64_t at = 0, some; at < x->cols; at += PART, to += PART / 2) {
        uint32_t u[PART], part[PART / 2];
        uint64_t two[PART / 2];
        some = x->cols - at < PART ? x->cols - at : PART;
        if (some < PART) memset(u, 0, sizeof u);
        memcpy(u, row + at, (size_t)some * sizeof *u);
        memcpy(two, u, sizeof two);
        for (int k = 0; k < PART; k++) {
            uint32_t e = u[k] >> 23 & 255, counted = u[k] << 1 ? e : 256;
            low |= u[k];
            least = counted < least ? counted : least;
            largest = e > largest ? e : largest;
        }
        if (low & 0xffff || largest == 255) return;
        for (int k = 0; k < PART / 2; k++) part[k] = (uint32_t)(two[k] | two[k] >> 48);
        memcpy(to, part, (size_t)((some + 1) / 2) * sizeof *to);
    }
    c->least[i] = (int32_t)least;
}

static inline bool pr_pairs_may(const pr_pairs *c, const dsb_wmat *w, int64_t i) { return w->least >= 0 && c->least[i] >= 0 && c->least[i] + w->least >= PR_LEAST_SUM; }

#endif
