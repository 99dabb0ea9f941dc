/* What the plugin's files share: the stream, checks of every call and launch, scratch memory, and the arithmetic of kernels/portable
 * compiled for the device. A failed call is remembered, later ones do nothing, and `check` reports the first. */
#ifndef DSB_KERNELS_CUDA_DEVICE_CUH
#define DSB_KERNELS_CUDA_DEVICE_CUH

#include <cuda_runtime.h>
#include <float.h>
#include <math.h>
#include <stdint.h>

extern "C" {
#include "kernels/backend.h"
#include "kernels/portable/math.h"
}

extern cudaStream_t cu_stream;
extern int cu_processors, cu_capability; /* of the opened device: multiprocessors; 80, 90, … */

/* Remembers the first failure; true if all went well so far. */
bool cu_ok(cudaError_t e, const char *what);
#define CU(call) cu_ok((call), #call)
#define CU_LAUNCHED(what) cu_launched(what)
bool cu_launched(const char *what); /* of the launch just made */
/* Lets a kernel have so much dynamic shared memory; asked of the driver once. */
#define CU_SHARED_ONCE(kernel, bytes)                                                                                                \
    do {                                                                                                                             \
        static bool ready;                                                                                                           \
        if (!ready) ready = CU(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)));              \
    } while (0)

/* The row of the table: memory of the device, zeroed. */
dsb_status cu_alloc(void **out, size_t bytes, const char *what, dsb_err *err);
/* A launch; where `overlap`, one that may begin while the kernel before it ends (which waits for it by itself, hp_wait_before). Not for a product of many
 * tokens: blocks that begin one after another no longer read the same weights at the same time. */
template <class... P, class... A> static void cu_launch(bool overlap, const char *what, void (*kernel)(P...), int64_t blocks, int threads, size_t shared, A... args) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t c = {};
    c.gridDim = dim3((unsigned)blocks);
    c.blockDim = dim3((unsigned)threads);
    c.dynamicSmemBytes = shared;
    c.stream = cu_stream;
    c.attrs = &early;
    c.numAttrs = overlap;
    cu_ok(cudaLaunchKernelEx(&c, kernel, (P)args...), what);
}

/* Scratch of one row's call, in the order of the stream; NULL after a failure. */
void *cu_take(size_t bytes);
void cu_drop(void *p);
/* New memory with these bytes, that arrive beside what cu_stream computes; freed by cu_drop. */
dsb_status cu_send_beside(void **out, const void *src, size_t bytes, const char *what, dsb_err *err);
/* The same in parts: memory and scratch of cu_copies, whose users in cu_stream come after cu_arrived. */
extern cudaStream_t cu_copies;
dsb_status cu_take_beside(void **out, size_t bytes, const char *what, dsb_err *err);
void *cu_scratch_beside(size_t bytes);
void cu_drop_beside(void *p);
void cu_arrived(void);
void cu_send(cudaStream_t stream, void *dst, const void *src, size_t bytes);
bool cu_launched_in(cudaStream_t stream, const char *what);
bool cu_failed(void);
/* *sum += figures of y against x, block by block, in cu_copies; by the time `settle` returns. */
void cu_moments_beside(const float *x, const float *y, int64_t n, dsb_moments *sum);
/* To the device through pinned memory, so that nobody waits but for that to be free again: room for n bytes of it (one of two streams'), at most a piece. */
enum { CU_RING_PIECE = 4 << 20 };
char *cu_ring_take(cudaStream_t stream, size_t n);
double cu_watch_begin(void);
void cu_watch_end(const char *what, double start, cudaStream_t stream, size_t bytes);
/* n bytes to dst in the order of the stream; fill(to, first, n) writes some of them. */
template <class F> static void cu_stage(cudaStream_t stream, void *dst, size_t n, F fill) {
    enum { PARALLEL = 1 << 20 };
    double start = cu_watch_begin();
    for (size_t at = 0; at < n; at += CU_RING_PIECE) {
        size_t m = n - at < CU_RING_PIECE ? n - at : CU_RING_PIECE, part = m > PARALLEL ? PARALLEL / 4 : m;
        char *p = cu_ring_take(stream, m);
        if (!p) return;
#pragma omp parallel for schedule(static) if (m > PARALLEL)
        for (size_t i = 0; i < m; i += part) fill(p + i, at + i, m - i < part ? m - i : part);
        CU(cudaMemcpyAsync((char *)dst + at, p, m, cudaMemcpyHostToDevice, stream));
    }
    cu_watch_end("copies to the device", start, stream, n);
}
void cu_to_device(void *dst, const void *src, size_t bytes);
void cu_to_host(void *dst, const void *src, size_t bytes); /* waits */

__host__ __device__ static inline int64_t cu_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* Blocks for n items, one thread each with a stride: enough to fill the device. */
static inline unsigned cu_grid(int64_t n, int threads) {
    int64_t b = cu_ceil(n, threads), most = (int64_t)cu_processors * 16;
    return (unsigned)(b < most ? b : most);
}
/* Packed weights. Floats: panels of 16 outputs, [panel][k][16]. Codes: by row, each group padded to steps of 32 and the row to 64 (a step of
 * the product's loop); rows padded to whole tiles; scales [group][padded rows]. */
enum { CU_PANEL = 16, CU_STEP = 32, CU_LOOP = 64, CU_TILE_ROWS = 128 };
static inline int64_t cu_padded_group(int64_t group) { return cu_ceil(group, CU_STEP) * CU_STEP; }
static inline int64_t cu_code_stride(int64_t cols, int64_t group) { return cu_ceil(cols / group * cu_padded_group(group) + cols % group, CU_LOOP) * CU_LOOP; }

#define CU_EACH(i, n) for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

__device__ static inline float cu_bf16(float x) { return dsb_bf16_to_f32(dsb_f32_to_bf16(x)); }

/* The lanes' tree of kernels/portable/rows.h. */
template <class T> __device__ static inline T cu_tree(const T a[8]) { return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7])); }

/* The largest over a block of up to 1024 threads, given to all. */
__device__ static inline uint32_t cu_block_max(uint32_t v) {
    __shared__ uint32_t part[33];
    for (int d = 16; d > 0; d /= 2) v = max(v, __shfl_xor_sync(~0u, v, d));
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x < 32) {
        v = threadIdx.x < (blockDim.x + 31) / 32 ? part[threadIdx.x] : 0;
        for (int d = 16; d > 0; d /= 2) v = max(v, __shfl_xor_sync(~0u, v, d));
        if (threadIdx.x == 0) part[32] = v;
    }
    __syncthreads();
    return part[32];
}

/* Codes (rows, cols) to padded rows (cu_code_stride), whose padding is zero already. */
void cu_pad_codes(const int8_t *codes, int64_t rows, int64_t cols, int64_t group, int8_t *out);

/* Rows by file. */
dsb_status cu_pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err);
dsb_status cu_pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err);
dsb_status cu_pack_blocks(dsb_wmat *out, const dsb_packed *how, const uint8_t *blocks, int64_t rows, int64_t cols, dsb_err *err);
void cu_unpack(dsb_wmat *w);
void cu_gemm(const dsb_wmat *w, const dsb_act *x, float *y);
void cu_gemm_float(const dsb_wmat *w, const dsb_act *x, float *y);
void cu_gemm_heads(const dsb_wmat *w, int64_t heads, const float *x, int64_t n, int64_t tail, float *y);
void cu_gemm_block(const dsb_wmat *w, const dsb_act *x, float *y);
void cu_gemm_int(const dsb_wmat *w, const dsb_act *x, float *y);
void cu_attention(const dsb_attention_shape *shape, const dsb_seq *seqs, int64_t n_seq, const float *q, const float *k, const float *v, float *out);
void cu_route(const dsb_router_shape *shape, const float *logits, const float *bias, int64_t n, float *scores, int32_t *idx, float *weight, float *margin);
dsb_status cu_check(dsb_err *err);
dsb_status cu_fuse_experts(dsb_experts **out, const dsb_wmat *w, int64_t n_expert, int64_t k, dsb_experts_act act, dsb_err *err);
void cu_experts_forward(dsb_experts *m, const float *x, int64_t n, const int32_t *idx, const float *weight, float *y);
void cu_experts_forward_bf16(dsb_experts *m, const uint16_t *x, int64_t n, const int32_t *idx, const float *weight, uint16_t *y);
void cu_experts_release(dsb_experts *m);
void cu_pack_fill(dsb_backend *b);    /* pack.cu: weights */
void cu_rows_fill(dsb_backend *b);    /* rows.cu: elementwise rows, norms, activation quantizers */
void cu_probe_fill(dsb_backend *b);   /* probe.cu: ceilings, clock, sensors */
void cu_reduce_fill(dsb_backend *b);  /* reduce.cu: reductions that metrics and calibration read */

#endif
