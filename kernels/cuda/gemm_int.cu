/* int8 x int8 -> int32 on tensor cores, exactly; the epilogue of backend.h in its order. Tiles of 128 outputs x 64 rows, loops of 64 inputs through
 * three stages of shared memory. Nibbles become bytes when a warp takes its fragment. */
#include "kernels/cuda/device.cuh"

enum { BM = CU_TILE_ROWS, BN = 64, BK = CU_LOOP, STAGES = 3, THREADS = 256, PITCH = BK + 16, NIBBLE_PITCH = BK / 2 + 16 };

__device__ static void copy16(void *to, const void *from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from));
}
__device__ static void mma(int c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

struct product {
    const uint8_t *w;
    const float *w_scales, *x_scales;
    const int8_t *x;
    int64_t rows, padded_rows, n, stride, groups; /* stride: padded inputs of a row */
    int steps_of_group;                           /* steps of 32 */
    float *y;
};

template <bool NIBBLES> struct __align__(16) stage {
    uint8_t w[BM][NIBBLES ? NIBBLE_PITCH : PITCH];
    int8_t x[BN][PITCH];
};

template <bool NIBBLES> __device__ static void fetch(const product &p, stage<NIBBLES> *s, int64_t o0, int64_t i0, int64_t k0) {
    enum { BYTES = NIBBLES ? BK / 2 : BK, PIECES = BYTES / 16 };
    for (int t = threadIdx.x; t < BM * PIECES; t += THREADS) copy16(&s->w[t / PIECES][t % PIECES * 16], p.w + (o0 + t / PIECES) * (NIBBLES ? p.stride / 2 : p.stride) + (NIBBLES ? k0 / 2 : k0) + t % PIECES * 16);
    for (int t = threadIdx.x; t < BN * (BK / 16); t += THREADS) {
        int64_t i = i0 + t / (BK / 16) < p.n ? i0 + t / (BK / 16) : p.n - 1;
        copy16(&s->x[t / (BK / 16)][t % (BK / 16) * 16], p.x + i * p.stride + k0 + t % (BK / 16) * 16);
    }
}

/* The A fragment of a warp's 16 outputs for one step of 32 inputs. */
template <bool NIBBLES> __device__ static void fragment(const stage<NIBBLES> *s, int row, int quad, int step, uint32_t a[4]) {
    if (NIBBLES) {
        for (int h = 0; h < 2; h++) {
            uint32_t v = *(const uint32_t *)&s->w[row + 8 * h][step * 16 + quad * 4];
            a[h] = __vsub4(v & 0x0f0f0f0fu, 0x08080808u);
            a[2 + h] = __vsub4(v >> 4 & 0x0f0f0f0fu, 0x08080808u);
        }
    } else {
        for (int h = 0; h < 2; h++)
            for (int k = 0; k < 2; k++) a[2 * k + h] = *(const uint32_t *)&s->w[row + 8 * h][step * 32 + k * 16 + quad * 4];
    }
}

template <bool NIBBLES> __global__ static void __launch_bounds__(THREADS) gemm(product p) {
    extern __shared__ __align__(16) uint8_t raw[];
    stage<NIBBLES> *stages = (stage<NIBBLES> *)raw;
    int64_t o0 = (int64_t)blockIdx.x * BM, i0 = (int64_t)blockIdx.y * BN, loops = p.stride / BK;
    int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, quad = lane % 4;
    int acc[BN / 8][4] = {};
    float f[BN / 8][4] = {};
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < loops) fetch<NIBBLES>(p, &stages[s], o0, i0, s * BK);
        asm volatile("cp.async.commit_group;");
    }
    int64_t group = 0;
    int left = p.steps_of_group;
    for (int64_t l = 0; l < loops; l++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2));
        __syncthreads();
        if (l + STAGES - 1 < loops) fetch<NIBBLES>(p, &stages[(l + STAGES - 1) % STAGES], o0, i0, (l + STAGES - 1) * BK);
        asm volatile("cp.async.commit_group;");
        const stage<NIBBLES> *s = &stages[l % STAGES];
        for (int step = 0; step < BK / CU_STEP; step++) {
            uint32_t a[4];
            fragment<NIBBLES>(s, row, quad, step, a);
#pragma unroll
            for (int t = 0; t < BN / 8; t++) {
                uint32_t b[2];
                for (int k = 0; k < 2; k++) b[k] = *(const uint32_t *)&s->x[t * 8 + lane / 4][step * 32 + k * 16 + quad * 4];
                mma(acc[t], a, b);
            }
            bool last = l == loops - 1 && step == BK / CU_STEP - 1;
            if ((--left == 0 || last) && group < p.groups) {
                float scale[2] = {p.w_scales[group * p.padded_rows + o0 + row], p.w_scales[group * p.padded_rows + o0 + row + 8]};
#pragma unroll
                for (int t = 0; t < BN / 8; t++)
                    for (int c = 0; c < 4; c++) {
                        f[t][c] = fmaf((float)acc[t][c], scale[c / 2], f[t][c]);
                        acc[t][c] = 0;
                    }
                group++;
                left = p.steps_of_group;
            }
        }
    }
#pragma unroll
    for (int t = 0; t < BN / 8; t++)
        for (int c = 0; c < 4; c++) {
            int64_t i = i0 + t * 8 + quad * 2 + c % 2, o = o0 + row + c / 2 * 8;
            if (i < p.n && o < p.rows) p.y[i * p.rows + o] = f[t][c] * p.x_scales[i];
        }
}

void cu_gemm_int(const dsb_wmat *w, const dsb_act *x, float *y) {
    int64_t stride = cu_code_stride(w->cols, w->group), padded_group = cu_padded_group(w->group);
    product p = {(const uint8_t *)w->data, w->scales, x->scale, x->q, w->rows, cu_ceil(w->rows, BM) * BM, x->n, stride, cu_ceil(w->cols, w->group), (int)(padded_group / CU_STEP), y};
    int8_t *own = NULL;
    if (stride != w->cols || (w->group != padded_group && w->group < w->cols) || (uintptr_t)x->q % 16) {
        own = (int8_t *)cu_take((size_t)(x->n * stride));
        if (!own) return;
        CU(cudaMemsetAsync(own, 0, (size_t)(x->n * stride), cu_stream));
        cu_pad_codes(x->q, x->n, w->cols, w->group, own);
        p.x = own;
    }
    dim3 grid((unsigned)cu_ceil(w->rows, BM), (unsigned)cu_ceil(x->n, BN));
    bool nibbles = w->kind == DSB_W_I4;
    size_t shared = STAGES * (nibbles ? sizeof(stage<true>) : sizeof(stage<false>));
    CU_SHARED_ONCE(gemm<true>, STAGES * sizeof(stage<true>));
    CU_SHARED_ONCE(gemm<false>, STAGES * sizeof(stage<false>));
    if (nibbles) gemm<true><<<grid, THREADS, shared, cu_stream>>>(p);
    else gemm<false><<<grid, THREADS, shared, cu_stream>>>(p);
    CU_LAUNCHED("gemm_int");
    cu_drop(own);
}
