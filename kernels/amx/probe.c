/* int8 and BF16: tiles of 16 x 64 bytes, six sums. The rest is AVX-512's. */
#include "kernels/probe.h"

#include <cpuid.h>
#include <immintrin.h>

enum { SUMS = 6 };

/* Every tile 16 rows of 64 bytes, of zeros. */
static void tiles_begin(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        c.rows[t] = 16;
        c.row_bytes[t] = 64;
    }
    __asm__ volatile("" : : "r"(&c) : "memory"); /* the intrinsic tells the compiler of 8 of its bytes */
    _tile_loadconfig(&c);
}

#define PROBE(name, DOT, products)                                       \
    static double name(int64_t turns) {                                  \
        tiles_begin();                                                   \
        for (int64_t t = 0; t < turns; t++) {                            \
            DOT(0, 6, 7);                                                \
            DOT(1, 6, 7);                                                \
            DOT(2, 6, 7);                                                \
            DOT(3, 6, 7);                                                \
            DOT(4, 6, 7);                                                \
            DOT(5, 6, 7);                                                \
        }                                                                \
        _tile_release();                                                 \
        return 2.0 * (16 * 16 * (products)) * SUMS * (double)turns;      \
    }
PROBE(int8, _tile_dpbssd, 64)
PROBE(bf16, _tile_dpbf16ps, 32)

static bool has_bf16(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
}

const dsb_probe dsb_probe_amx = {.isa = "amx", .bf16 = bf16, .int8 = int8, .has_bf16 = has_bf16};
