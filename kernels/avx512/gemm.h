/* AVX-512 products in the canonical order of kernels/backend.h: bit-identical to the reference. */
#ifndef DSB_KERNELS_AVX512_GEMM_H
#define DSB_KERNELS_AVX512_GEMM_H

#include "kernels/portable/products.h"

void dsb_plan_float_avx512(pr_job *j);
void dsb_plan_block_avx512(pr_job *j);
void dsb_plan_int_avx512(pr_job *j);

/* A loop over a tile's rows or panels, unrolled whatever the compiler thinks of it: else the sums are in memory. */
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)

/* Shapes of a tile whose sums stay in registers: panels of outputs x rows of inputs. */
#define DSB_TILES(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 12) X(2, 1) X(2, 2) X(2, 4) X(2, 6) X(2, 12)

/* Tiles of so many rows leave time: each asks for its part of the panels that follow its own (48 rows of int8: 750 -> 950 GOP/s a core). */
enum { DSB_MANY = 6 };

#endif
