/* int8 x int8 -> int32 on tensor cores, exactly; the epilogue of backend.h in its order. Tiles of 128 outputs x 64 rows, loops of 64 inputs through
 * three stages of shared memory. Nibbles become bytes when a warp takes its fragment. */
#include "kernels/cuda/device.cuh"

enum { BM = CU_TILE_ROWS, BN = 64, BK = CU_LOOP, STAGES = 3, THREADS = 256, PITCH = BK + 16, NIBBLE_PITCH = BK / 2 + 16 };

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
    for (int t = threadIdx.x; t < BM * PIECES; t += THREADS) cu_copy16(&s->w[t / PIECES][t % PIECES * 16], p.w + (o0 + t / PIECES) * (NIBBLES ? p.stride / 2 : p.stride) + (NIBBLES ? k0 / 2 : k0) + t % PIECES * 16);
    for (int t = threadIdx.x; t < BN * (BK / 16); t += THREADS) {
        int64_t i = i0 + t / (BK / 16) < p.n ? i0 + t / (BK / 16) : p.n - 1;
        cu_copy16(&s->x[t / (BK / 16)][t % (BK / 16) * 16], p.x + i * p.stride + k0 + t % (BK / 16) * 16);
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

/* ---- few rows: a warp an output, its lanes 16 bytes of codes at a time; sums of integers in any order are the same ---- */

enum { FEW = 8, WARPS = 4 };

/* Sums of one step of 16 bytes of w's codes with row i of x. */
template <bool NIBBLES> __device__ static int dot16(uint4 w, const int8_t *x) {
    const uint32_t v[4] = {w.x, w.y, w.z, w.w};
    int sum = 0;
    for (int h = 0; h < (NIBBLES ? 2 : 1); h++) {
        uint4 codes = *(const uint4 *)(x + 16 * h);
        const uint32_t c[4] = {codes.x, codes.y, codes.z, codes.w};
        for (int i = 0; i < 4; i++) sum = __dp4a((int)(NIBBLES ? __vsub4(v[i] >> 4 * h & 0x0f0f0f0fu, 0x08080808u) : v[i]), (int)c[i], sum);
    }
    return sum;
}

/* R rows from blockIdx.y * R on. With several scales a row the sums of groups lie in shared memory, (WARPS, R, groups). */
template <bool NIBBLES, int R> __global__ static void __launch_bounds__(WARPS * 32) gemm_few(product p) {
    enum { CODES = NIBBLES ? 32 : 16 };
    extern __shared__ int group_sum[];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, groups = (int)p.groups;
    int64_t o = blockIdx.x * (int64_t)WARPS + warp, i0 = blockIdx.y * (int64_t)R, group_codes = (int64_t)p.steps_of_group * CU_STEP;
    int n = p.n - i0 < R ? (int)(p.n - i0) : R, acc[R] = {}, *own = group_sum + warp * R * groups;
    if (o >= p.rows) return;
    if (groups > 1) {
        for (int t = lane; t < R * groups; t += 32) own[t] = 0;
        __syncwarp();
    }
    const uint8_t *w = p.w + o * (NIBBLES ? p.stride / 2 : p.stride);
#pragma unroll 4
    for (int64_t k = lane * CODES; k < p.stride; k += 32 * CODES) {
        uint4 codes = __ldcs((const uint4 *)(w + (NIBBLES ? k / 2 : k)));
#pragma unroll
        for (int i = 0; i < R; i++) {
            int sum = i < n ? dot16<NIBBLES>(codes, p.x + (i0 + i) * p.stride + k) : 0;
            if (groups == 1) acc[i] += sum;
            else if (i < n && k / group_codes < groups) atomicAdd(&own[i * groups + k / group_codes], sum);
        }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < R; i++)
        for (int d = 16; d > 0; d /= 2) acc[i] += __shfl_xor_sync(~0u, acc[i], d);
    if (lane >= n) return;
    float f = 0;
    if (groups == 1) {
        int sum = 0;
        for (int i = 0; i < R; i++) sum = lane == i ? acc[i] : sum;
        f = fmaf((float)sum, p.w_scales[o], f);
    }
    for (int g = 0; g < groups && groups > 1; g++) f = fmaf((float)own[lane * groups + g], p.w_scales[g * p.padded_rows + o], f);
    p.y[(i0 + lane) * p.rows + o] = f * p.x_scales[i0 + lane];
}

template <bool NIBBLES, int R> static bool launch_few(const product &p) {
    enum { MOST = 96 << 10 };
    size_t shared = p.groups > 1 ? (size_t)(WARPS * R * p.groups) * sizeof(int) : 0;
    if (shared > MOST) return false;
    CU_SHARED_ONCE((gemm_few<NIBBLES, R>), MOST);
    gemm_few<NIBBLES, R><<<dim3((unsigned)cu_ceil(p.rows, WARPS), (unsigned)cu_ceil(p.n, R)), WARPS * 32, shared, cu_stream>>>(p);
    return true;
}
template <bool NIBBLES> static bool few(const product &p) { return p.n == 1 ? launch_few<NIBBLES, 1>(p) : p.n <= 4 ? launch_few<NIBBLES, 4>(p) : p.n <= FEW && launch_few<NIBBLES, FEW>(p); }

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
    if (nibbles ? few<true>(p) : few<false>(p)) {
        CU_LAUNCHED("gemm_int_few");
        return cu_drop(own);
    }
    CU_SHARED_ONCE(gemm<true>, STAGES * sizeof(stage<true>));
    CU_SHARED_ONCE(gemm<false>, STAGES * sizeof(stage<false>));
    if (nibbles) gemm<true><<<grid, THREADS, shared, cu_stream>>>(p);
    else gemm<false><<<grid, THREADS, shared, cu_stream>>>(p);
    CU_LAUNCHED("gemm_int");
    cu_drop(own);
}
