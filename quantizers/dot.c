#include "quantizers/dot.h"

#include "quantizers/codec.h"

#define LANES(at)                                                                                  \
    double s[8] = {0};                                                                             \
    int64_t i = 0;                                                                                 \
    for (; i + 8 <= n; i += 8)                                                                     \
        for (int k = 0; k < 8; k++) s[k] += at(i + k);                                             \
    for (int k = 0; i + k < n; k++) s[k] += at(i + k);                                             \
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))

#define VALUE(i) ((double)a[i])
#define PRODUCT(i) (a[i] * (double)b[i])
#define DIFFERENCE(i) (a[i] * ((double)b[i] - (double)c[i]))

DSB_CLONES double dsb_sum_f(const float *a, int64_t n) { LANES(VALUE); }
DSB_CLONES double dsb_dot_df(const double *a, const float *b, int64_t n) { LANES(PRODUCT); }
DSB_CLONES double dsb_dot_dd(const double *a, const double *b, int64_t n) { LANES(PRODUCT); }
DSB_CLONES double dsb_dot_difference(const double *a, const float *b, const float *c, int64_t n) { LANES(DIFFERENCE); }
