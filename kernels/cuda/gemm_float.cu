/* Products with float weights: f32 FMA, one chain an output in ascending k as backend.h wants, so tensor cores (which add in their own order)
 * are not for these. Many rows: tiles of 128 outputs x 128 or 64 rows, 8 x 8 or 8 x 4 a thread. Few rows: a thread an output. */
#include <cuda_fp16.h>

#include "kernels/cuda/device.cuh"

enum { BM = 128, BK = 16, THREADS = 256, FEW = 16, W_PITCH = BM + 16 };

__device__ static float widen(float v) { return v; }
__device__ static float widen(uint16_t v) { return dsb_bf16_to_f32(v); }
__device__ static float widen(__half v) { return __half2float(v); }

/* 16 bytes of weights to floats. */
__device__ static void widen_all(uint4 raw, float v[4], const float *) { memcpy(v, &raw, sizeof raw); }
template <class T> __device__ static void widen_all(uint4 raw, float v[8], const T *) {
    T h[8];
    memcpy(h, &raw, sizeof raw);
    for (int i = 0; i < 8; i++) v[i] = widen(h[i]);
}

/* One K-step of both sides on its way through registers: 128 outputs x 16 inputs, N rows x 16 inputs. Of a panel the 16 x 16 values lie one behind the other. */
template <class T, int N> struct step {
    enum { AT_ONCE = 16 / (int)sizeof(T), WS = BM * BK / AT_ONCE / THREADS, XS = N * BK / 4 / THREADS };
    uint4 w[WS];
    float x[XS][4];
    /* panels, x_all: the tile's first; rows, n: that are left from there. */
    __device__ void load(const T *panels, int rows, int cols, const float *x_all, int n, int k0, bool quads) {
        for (int c = 0; c < WS; c++) {
            int t = threadIdx.x + c * THREADS, in = t % (16 * CU_PANEL / AT_ONCE) * AT_ONCE, panel = t / (16 * CU_PANEL / AT_ONCE);
            w[c] = panel * CU_PANEL < rows && k0 + in / CU_PANEL < cols ? *(const uint4 *)(panels + (panel * cols + k0) * CU_PANEL + in) : make_uint4(0, 0, 0, 0);
        }
        for (int c = 0; c < XS; c++) {
            int t = threadIdx.x + c * THREADS, i = t / 4, k = k0 + t % 4 * 4;
            const float *from = x_all + i * cols + k;
            if (i < n && quads && k < cols) {
                *(float4 *)x[c] = *(const float4 *)from;
            } else {
                for (int j = 0; j < 4; j++) x[c][j] = i < n && k + j < cols ? from[j] : 0.0f;
            }
        }
    }
    __device__ void store(float (*ws)[W_PITCH], float (*xs)[N + 4]) const {
        for (int c = 0; c < WS; c++) {
            int t = threadIdx.x + c * THREADS, in = t % (16 * CU_PANEL / AT_ONCE) * AT_ONCE;
            float *to = &ws[in / CU_PANEL][t / (16 * CU_PANEL / AT_ONCE) * CU_PANEL + in % CU_PANEL], v[AT_ONCE];
            widen_all(w[c], v, (const T *)NULL);
            for (int j = 0; j < AT_ONCE; j += 4) *(float4 *)(to + j) = make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]);
        }
        for (int c = 0; c < XS; c++) {
            int t = threadIdx.x + c * THREADS;
            for (int j = 0; j < 4; j++) xs[t % 4 * 4 + j][t / 4] = x[c][j];
        }
    }
};

/* N rows; quads: rows of x begin at multiples of 16 bytes. A thread has 4 outputs of each half, and 4 rows of each 64. */
template <class T, int N> __global__ static void __launch_bounds__(THREADS, 2) gemm_many(const T *panels, int64_t rows, int64_t cols, const float *x, int64_t n, bool quads, bool quads_out, float *y) {
    enum { R = N / 16 };
    __shared__ __align__(16) float ws[2][BK][W_PITCH], xs[2][BK][N + 4];
    int64_t o0 = (int64_t)blockIdx.x * BM, i0 = (int64_t)blockIdx.y * N;
    int steps = (int)(cols / BK), rest = (int)(cols % BK), rows_left = rows - o0 < BM ? (int)(rows - o0) : BM, n_left = n - i0 < N ? (int)(n - i0) : N;
    int to = threadIdx.x % 16 * 4, ti = threadIdx.x / 16 * 4;
    float acc[R][8] = {};
    step<T, N> next;
    panels += o0 * cols; /* whole panels */
    x += i0 * cols;
    next.load(panels, rows_left, (int)cols, x, n_left, 0, quads);
    next.store(ws[0], xs[0]);
    __syncthreads();
    for (int s = 0; s <= steps; s++) {
        int b = s & 1, kk = s < steps ? BK : rest; /* zeros beyond the last input could turn -0 into 0: they are left out */
        if (s < steps) next.load(panels, rows_left, (int)cols, x, n_left, (s + 1) * BK, quads);
#pragma unroll 2
        for (int k = 0; k < kk; k++) {
            float w[8], v[R];
            for (int h = 0; h < 2; h++) *(float4 *)(w + 4 * h) = *(const float4 *)&ws[b][k][64 * h + to];
            for (int h = 0; h < R / 4; h++) *(float4 *)(v + 4 * h) = *(const float4 *)&xs[b][k][64 * h + ti];
            for (int i = 0; i < R; i++)
                for (int j = 0; j < 8; j++) acc[i][j] = fmaf(v[i], w[j], acc[i][j]);
        }
        if (s < steps) next.store(ws[b ^ 1], xs[b ^ 1]);
        __syncthreads();
    }
    for (int i = 0; i < R; i++)
        for (int h = 0; h < 2; h++) {
            int row = i / 4 * 64 + ti + i % 4, o = 64 * h + to;
            float *out = y + (i0 + row) * rows + o0 + o;
            if (row >= n_left) continue;
            if (quads_out && o + 3 < rows_left) {
                *(float4 *)out = *(float4 *)(acc[i] + 4 * h);
            } else {
                for (int j = 0; j < 4; j++)
                    if (o + j < rows_left) out[j] = acc[i][4 * h + j];
            }
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
        bool quads = w->cols % 4 == 0 && (uintptr_t)x->f32 % 16 == 0, quads_out = w->rows % 4 == 0 && (uintptr_t)y % 16 == 0, wide = cu_ceil(w->rows, BM) * cu_ceil(x->n, 128) >= 4 * cu_processors; /* else too few blocks share the device evenly */
        dim3 grid((unsigned)cu_ceil(w->rows, BM), (unsigned)cu_ceil(x->n, wide ? 128 : 64));
        if (wide) gemm_many<T, 128><<<grid, THREADS, 0, cu_stream>>>(p, w->rows, w->cols, x->f32, x->n, quads, quads_out, y);
        else gemm_many<T, 64><<<grid, THREADS, 0, cu_stream>>>(p, w->rows, w->cols, x->f32, x->n, quads, quads_out, y);
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
