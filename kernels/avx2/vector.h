/* The vector that portable rows of this instruction set are written in (kernels/portable/vector.h). */
#ifndef DSB_KERNELS_AVX2_VECTOR_H
#define DSB_KERNELS_AVX2_VECTOR_H

#include <immintrin.h>

#define PR_VEC __m256
#define PR_WIDTH 8
#define PR_ROWS 6 /* of a tile, two vectors each: 12 sums of 16 registers */
#define PR_ZERO() _mm256_setzero_ps()
#define PR_LOAD(p) _mm256_loadu_ps(p)
#define PR_STORE(p, v) _mm256_storeu_ps(p, v)
#define PR_FMA(a, v, sum) _mm256_fmadd_ps(_mm256_set1_ps(a), v, sum) /* a: one value */

#endif
