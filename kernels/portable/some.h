/* The first n of 16 floats, for an instruction set without masks: after its vf, vf_load and vf_store (kernels/portable/packed.h). */
#ifndef DSB_KERNELS_PORTABLE_SOME_H
#define DSB_KERNELS_PORTABLE_SOME_H

#include <string.h>

#ifdef VF
static inline __attribute__((always_inline)) vf vf_load_some(const float *p, int n) {
    float t[DSB_NR] = {0};
    if (n == DSB_NR) return vf_load(p);
    memcpy(t, p, (size_t)n * sizeof *t);
    return vf_load(t);
}
static inline __attribute__((always_inline)) void vf_store_some(float *p, vf v, int n) {
    float t[DSB_NR];
    vf_store(n == DSB_NR ? p : t, v);
    if (n < DSB_NR) memcpy(p, t, (size_t)n * sizeof *t);
}
#endif

#endif
