/* Tables of the simulations: shares in percent, marked * outside the 99 % binomial bounds of what they should be. */
#ifndef DSB_TESTS_TABLE_H
#define DSB_TESTS_TABLE_H

#include <stdbool.h>

#include "tests/simulation/draws.h"

static inline bool table_inside(int64_t k, int64_t n, double p) {
    int64_t least, most;
    binomial_bounds(n, p, 0.005, &least, &most);
    return least <= k && k <= most;
}

static inline void table_cell(int64_t k, int64_t n, double p) { printf(" %.1f%s |", 100.0 * (double)k / (double)n, table_inside(k, n, p) ? "" : " *"); }

/* What a cell shows that should be p, says one line above the table. */
static inline void table_bounds(int64_t n, const char *of) {
    static const double p[] = { 0.05, 0.8, 0.95 };
    int64_t least, most;
    printf("%lld %s a line; 99 %% bounds:", (long long)n, of);
    for (int i = 0; i < 3; i++) {
        binomial_bounds(n, p[i], 0.005, &least, &most);
        printf(" %g %%: %.1f to %.1f%s", 100 * p[i], 100.0 * (double)least / (double)n, 100.0 * (double)most / (double)n, i < 2 ? "," : ".\n\n");
    }
}

#endif
