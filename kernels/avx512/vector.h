/* The vector that portable rows of this instruction set are written in (kernels/portable/vector.h). */
#ifndef DSB_KERNELS_AVX512_VECTOR_H
#define DSB_KERNELS_AVX512_VECTOR_H

#include <immintrin.h>

#define PR_VEC __m512
#define PR_WIDTH 16
#define PR_ROWS 12 /* of a tile, two vectors each: 24 sums of 32 registers */
#define PR_ZERO() _mm512_setzero_ps()
#define PR_LOAD(p) _mm512_loadu_ps(p)
#define PR_STORE(p, v) _mm512_storeu_ps(p, v)
#define PR_FMA(a, v, sum) _mm512_fmadd_ps(_mm512_set1_ps(a), v, sum) /* a: one value */

#endif
