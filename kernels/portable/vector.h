/* The vector of f32 that tiles keep their sums in: an instruction set's own where its folder has a vector.h that was included before this;
 * else four values, written out. */
#ifndef DSB_KERNELS_PORTABLE_VECTOR_H
#define DSB_KERNELS_PORTABLE_VECTOR_H

#include <math.h>
#include <string.h>

#ifndef PR_VEC
typedef struct pr_vec4 {
    float v[4];
} pr_vec4;

static inline pr_vec4 pr_vec4_load(const float *p) {
    pr_vec4 y;
    memcpy(&y, p, sizeof y);
    return y;
}

static inline pr_vec4 pr_vec4_fma(float a, pr_vec4 v, pr_vec4 sum) {
    for (int l = 0; l < 4; l++) sum.v[l] = fmaf(a, v.v[l], sum.v[l]);
    return sum;
}

#define PR_VEC pr_vec4
#define PR_WIDTH 4
#define PR_ROWS 4
#define PR_ZERO() ((pr_vec4){{0}})
#define PR_LOAD(p) pr_vec4_load(p)
#define PR_STORE(p, x) memcpy(p, &(x), sizeof(pr_vec4))
#define PR_FMA(a, v, sum) pr_vec4_fma(a, v, sum)
#endif

#endif
