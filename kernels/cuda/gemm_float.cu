/* Products with float weights: f32 FMA, one chain an output in ascending k as backend.h wants, so tensor cores (which add in their own order)
 * are not for these. Many rows: tiles of 128 outputs x 128 rows, 8 x 8 a thread. Few rows: a thread an output. */
#include <cuda_fp16.h>

#include "kernels/cuda/device.cuh"

enum { BM = 128, BN = 128, BK = 16, THREADS = 256, FEW = 16 };

__device__ static float widen(float v) { return v; }
__device__ static float widen(uint16_t v) { return dsb_bf16_to_f32(v); }
__device__ static float widen(__half v) { return __half2float(v); }

/* One K-step of both sides on its way through registers: 8 values of each a thread. */
template <class T> struct step {
    float w[8], x[8];
    __device__ void load(const T *panels, int64_t rows, int64_t cols, const float *x_all, int64_t n, int64_t o0, int64_t i0, int64_t k0) {
        int t = threadIdx.x;
        for (int c = 0; c < 8; c++) { /* weights: thread t has output t % 128, k = t / 128 + 2c */
            int64_t o = o0 + t % BM, k = k0 + t / BM + 2 * c;
            w[c] = o < rows && k < cols ? widen(panels[(o / CU_PANEL * cols + k) * CU_PANEL + o % CU_PANEL]) : 0.0f;
        }
        for (int c = 0; c < 8; c++) { /* rows: 16 threads read one row's 16 values */
            int64_t i = i0 + t / BK + 16 * c, k = k0 + t % BK;
            x[c] = i < n && k < cols ? x_all[i * cols + k] : 0.0f;
        }
    }
    __device__ void store(float (*ws)[BM], float (*xs)[BN + 1]) const {
        int t = threadIdx.x;
        for (int c = 0; c < 8; c++) ws[t / BM + 2 * c][t % BM] = w[c];
        for (int c = 0; c < 8; c++) xs[t % BK][t / BK + 16 * c] = x[c];
    }
};

template <class T> __global__ static void __launch_bounds__(THREADS) gemm_many(const T *panels, int64_t rows, int64_t cols, const float *x, int64_t n, float *y) {
    __shared__ float ws[2][BK][BM], xs[2][BK][BN + 1];
    int64_t o0 = (int64_t)blockIdx.x * BM, i0 = (int64_t)blockIdx.y * BN, steps = cols / BK, rest = cols % BK;
    int to = threadIdx.x % 16, ti = threadIdx.x / 16;
    float acc[8][8] = {};
    step<T> next;
    next.load(panels, rows, cols, x, n, o0, i0, 0);
    next.store(ws[0], xs[0]);
    __syncthreads();
    for (int64_t s = 0; s <= steps; s++) {
        int b = s & 1, kk = s < steps ? BK : (int)rest; /* zeros beyond the last input could turn -0 into 0: they are left out */
        if (s < steps) next.load(panels, rows, cols, x, n, o0, i0, (s + 1) * BK);
#pragma unroll 4
        for (int k = 0; k < kk; k++) {
            float w[8], v[8];
            for (int j = 0; j < 8; j++) w[j] = ws[b][k][to + 16 * j];
            for (int i = 0; i < 8; i++) v[i] = xs[b][k][ti * 8 + i];
            for (int i = 0; i < 8; i++)
                for (int j = 0; j < 8; j++) acc[i][j] = fmaf(v[i], w[j], acc[i][j]);
        }
        if (s < steps) next.store(ws[b ^ 1], xs[b ^ 1]);
        __syncthreads();
    }
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) {
            int64_t row = i0 + ti * 8 + i, o = o0 + to + 16 * j;
            if (row < n && o < rows) y[row * rows + o] = acc[i][j];
        }
}

/* R rows at once against 32 outputs a block; rows pass through shared memory in pieces. */
template <class T, int R> __global__ static void __launch_bounds__(32) gemm_few(const T *panels, int64_t rows, int64_t cols, const float *x, int64_t n, float *y) {
    enum { PIECE = 256, AHEAD = 8 };
    __shared__ float xs[R][PIECE];
    int64_t o = (int64_t)blockIdx.x * 32 + threadIdx.x, i0 = (int64_t)blockIdx.y * R, panel = o / CU_PANEL;
    bool real = o < cu_ceil(rows, CU_PANEL) * CU_PANEL;
    const T *w = panels + panel * cols * CU_PANEL + o % CU_PANEL;
    float acc[R] = {};
    for (int64_t k0 = 0; k0 < cols; k0 += PIECE) {
        int len = cols - k0 < PIECE ? (int)(cols - k0) : PIECE;
        __syncwarp();
        for (int i = 0; i < R; i++)
            for (int k = threadIdx.x; k < len; k += 32) xs[i][k] = i0 + i < n ? x[(i0 + i) * cols + k0 + k] : 0.0f;
        __syncwarp();
        int k = 0;
        for (; real && k + AHEAD <= len; k += AHEAD) {
            float v[AHEAD];
            for (int a = 0; a < AHEAD; a++) v[a] = widen(w[(k0 + k + a) * CU_PANEL]);
            for (int a = 0; a < AHEAD; a++)
                for (int i = 0; i < R; i++) acc[i] = fmaf(xs[i][k + a], v[a], acc[i]);
        }
        for (; real && k < len; k++)
            for (int i = 0; i < R; i++) acc[i] = fmaf(xs[i][k], widen(w[(k0 + k) * CU_PANEL]), acc[i]);
    }
    for (int i = 0; i < R; i++)
        if (o < rows && i0 + i < n) y[(i0 + i) * rows + o] = acc[i];
}

/* ---- a matrix a head ---- */

enum { HEADS = 64 };
struct head_weights {
    const void *data[HEADS];
};

/* x (n, heads, cols + tail) -> y (n, heads, rows + tail): a thread an output of head first + blockIdx.z, or one value of the tail. */
template <class T> __global__ static void __launch_bounds__(64) gemm_each_head(head_weights w, int64_t first, int64_t heads, int64_t rows, int64_t cols, int64_t tail, const float *x, float *y) {
    int64_t o = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at = blockIdx.y * heads + first + blockIdx.z;
    const float *from = x + at * (cols + tail);
    float *to = y + at * (rows + tail), sum = 0;
    if (o >= rows + tail) return;
    if (o >= rows) {
        to[o] = from[cols + o - rows];
        return;
    }
    const T *panel = (const T *)w.data[blockIdx.z] + o / CU_PANEL * cols * CU_PANEL + o % CU_PANEL;
#pragma unroll 8
    for (int64_t k = 0; k < cols; k++) sum = fmaf(from[k], widen(panel[k * CU_PANEL]), sum);
    to[o] = sum;
}

void cu_gemm_heads(const dsb_wmat *w, int64_t heads, const float *x, int64_t n, int64_t tail, float *y) {
    for (int64_t h = 0; n > 0 && h < heads; h += HEADS) {
        head_weights all;
        int m = heads - h < HEADS ? (int)(heads - h) : HEADS;
        for (int i = 0; i < m; i++) all.data[i] = w[h + i].data;
        for (int64_t at = 0; at < n; at += 32768) { /* bounds the grid's y */
            dim3 grid((unsigned)cu_ceil(w->rows + tail, 64), (unsigned)(n - at < 32768 ? n - at : 32768), (unsigned)m);
            const float *from = x + at * heads * (w->cols + tail);
            float *to = y + at * heads * (w->rows + tail);
            if (w->kind == DSB_W_F32) gemm_each_head<float><<<grid, 64, 0, cu_stream>>>(all, h, heads, w->rows, w->cols, tail, from, to);
            else if (w->kind == DSB_W_BF16) gemm_each_head<uint16_t><<<grid, 64, 0, cu_stream>>>(all, h, heads, w->rows, w->cols, tail, from, to);
            else gemm_each_head<__half><<<grid, 64, 0, cu_stream>>>(all, h, heads, w->rows, w->cols, tail, from, to);
            CU_LAUNCHED("gemm_each_head");
        }
    }
}

/* ---- one matrix ---- */

template <class T> static void gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    const T *p = (const T *)w->data;
    if (x->n > FEW) {
        dim3 grid((unsigned)cu_ceil(w->rows, BM), (unsigned)cu_ceil(x->n, BN));
        gemm_many<T><<<grid, THREADS, 0, cu_stream>>>(p, w->rows, w->cols, x->f32, x->n, y);
    } else {
        int r = x->n == 1 ? 1 : x->n <= 4 ? 4 : 8;
        dim3 grid((unsigned)cu_ceil(w->rows, 32), (unsigned)cu_ceil(x->n, r));
        if (r == 1) gemm_few<T, 1><<<grid, 32, 0, cu_stream>>>(p, w->rows, w->cols, x->f32, x->n, y);
        if (r == 4) gemm_few<T, 4><<<grid, 32, 0, cu_stream>>>(p, w->rows, w->cols, x->f32, x->n, y);
        if (r == 8) gemm_few<T, 8><<<grid, 32, 0, cu_stream>>>(p, w->rows, w->cols, x->f32, x->n, y);
    }
    CU_LAUNCHED("gemm_float");
}

void cu_gemm_float(const dsb_wmat *w, const dsb_act *x, float *y) {
    if (w->kind == DSB_W_F32) gemm<float>(w, x, y);
    else if (w->kind == DSB_W_BF16) gemm<uint16_t>(w, x, y);
    else gemm<__half>(w, x, y);
}
