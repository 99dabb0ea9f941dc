/* Vectors of 16 bytes, which every compiler maps on what its baseline has: a product and a sum, unfused; no 8-bit products. */
#include "kernels/probe.h"

enum { CHAINS = 8, LANES = 4 };
typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint64_t words __attribute__((vector_size(16)));

static double f32(int64_t turns) {
    floats acc[CHAINS] = {{0}}, a, b, sum = {0};
    for (int j = 0; j < LANES; j++) a[j] = 0.5f, b[j] = 0.25f;
    __asm__ volatile("" : "+m"(a), "+m"(b)); /* not known to the compiler */
    for (int64_t t = 0; t < turns; t++)
        for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * a + b;
    for (int i = 0; i < CHAINS; i++) sum += acc[i];
    __asm__ volatile("" : : "m"(sum));
    return 2.0 * CHAINS * LANES * (double)turns;
}

static uint64_t read(const void *p, size_t bytes) {
    const words *x = p;
    words acc[4] = {{0}};
    for (size_t i = 0; i < bytes / sizeof *x; i += 4)
        for (int j = 0; j < 4; j++) acc[j] ^= x[i + (size_t)j];
    acc[0] ^= acc[1] ^ acc[2] ^ acc[3];
    return acc[0][0] ^ acc[0][1];
}

const dsb_probe dsb_probe_ref = {.isa = "ref", .f32 = f32, .read = read};
