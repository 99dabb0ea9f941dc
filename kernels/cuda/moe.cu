/* A layer's routed experts in one piece: rows sorted by expert, activations quantized once a token, gate and up in one product with SwiGLU
 * behind it, down, then each token's weighted sum over its experts in ascending order. Bits are those of the backend's single rows. Hopper only. */
#include <cudaTypedefs.h>
#include <stdlib.h>

#include "kernels/cuda/grouped.cuh"

struct dsb_experts {
    int64_t n_expert, k, d, ff, room; /* room: rows the buffers hold */
    int8_t *w1, *w2;                  /* (n_expert, 2 ff, d): 8 rows of gate, 8 of up, ...; (n_expert, d, ff) */
    float *s1, *s2;
    int8_t *q, *q2;                   /* permuted rows: (room, d), (room, ff) */
    float *qs, *qs2;
    uint16_t *h, *part;               /* BF16: (room, ff) permuted; (room, d) by slot */
    int32_t *first, *slot_of_row, *row_of_slot;
    CUtensorMap weights[2], few_weights[2], rows[2][9]; /* rows by log2 of the box's height */
};

/* ---- the plan: rows sorted by expert, in each by token ---- */

/* Each thread has a run of slots (a multiple of 4), so that a scan over threads keeps their order. */
__device__ static int64_t run_of(int64_t slots, int threads) { return cu_ceil(cu_ceil(slots, threads), 4) * 4; }

template <class F> __device__ static void each_slot(const int32_t *idx, int64_t slots, int64_t run, F f) {
    int64_t from = threadIdx.x * run, to = from + run < slots ? from + run : slots, i = from;
    for (; i + 4 <= to; i += 4) {
        int4 v = *(const int4 *)(idx + i);
        f(i, v.x), f(i + 1, v.y), f(i + 2, v.z), f(i + 3, v.w);
    }
    for (; i < to; i++) f(i, idx[i]);
}

__global__ static void count_experts(const int32_t *idx, int64_t slots, int32_t *count) {
    __shared__ int n;
    int mine = 0, e = blockIdx.x;
    hp_begin();
    if (threadIdx.x == 0) n = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < slots / 4; i += blockDim.x) {
        int4 v = ((const int4 *)idx)[i];
        mine += (v.x == e) + (v.y == e) + (v.z == e) + (v.w == e);
    }
    for (int64_t i = slots / 4 * 4 + threadIdx.x; i < slots; i += blockDim.x) mine += idx[i] == e;
    for (int d = 16; d > 0; d /= 2) mine += __shfl_xor_sync(~0u, mine, d);
    if (threadIdx.x % 32 == 0 && mine) atomicAdd(&n, mine);
    __syncthreads();
    if (threadIdx.x == 0) count[e] = n;
}

/* A block an expert: its rows begin after those of the experts before it. count: every expert's, or NULL: they are counted here. */
__global__ static void place_rows(const int32_t *idx, int64_t slots, const int32_t *count, int32_t *first, int32_t *slot_of_row, int32_t *row_of_slot) {
    __shared__ int base, warp_sum[32];
    int e = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32, before = 0, mine = 0;
    int64_t run = run_of(slots, blockDim.x);
    hp_begin();
    if (threadIdx.x == 0) base = 0;
    __syncthreads();
    each_slot(idx, slots, run, [&](int64_t, int x) {
        mine += x == e;
        before += x < e;
    });
    if (count) {
        before = 0;
        for (int i = threadIdx.x; i < e; i += blockDim.x) before += count[i];
    }
    int upto = mine;
    for (int d = 1; d < 32; d *= 2) {
        int o = __shfl_up_sync(~0u, upto, d);
        if (lane >= d) upto += o;
    }
    for (int d = 16; d > 0; d /= 2) before += __shfl_xor_sync(~0u, before, d);
    if (lane == 0 && before) atomicAdd(&base, before);
    if (lane == 31) warp_sum[warp] = upto;
    __syncthreads();
    int row = base + upto - mine;
    for (int w = 0; w < warp; w++) row += warp_sum[w];
    if (threadIdx.x == 0) first[e] = base;
    if (e == (int)gridDim.x - 1 && threadIdx.x == blockDim.x - 1) first[e + 1] = row + mine;
    if (mine)
        each_slot(idx, slots, run, [&](int64_t i, int x) {
            if (x != e) return;
            slot_of_row[row] = (int32_t)i;
            row_of_slot[i] = row++;
        });
}

/* ---- activations ---- */

template <class T> __device__ static void load8(const T *p, float v[8]);
template <> __device__ void load8<float>(const float *p, float v[8]) {
    for (int i = 0; i < 2; i++) {
        float4 f = ((const float4 *)p)[i];
        v[4 * i] = f.x, v[4 * i + 1] = f.y, v[4 * i + 2] = f.z, v[4 * i + 3] = f.w;
    }
}
template <> __device__ void load8<uint16_t>(const uint16_t *p, float v[8]) {
    uint4 u = *(const uint4 *)p;
    uint32_t w[4] = {u.x, u.y, u.z, u.w};
    for (int i = 0; i < 4; i++) {
        v[2 * i] = dsb_f32_from_bits(w[i] << 16);
        v[2 * i + 1] = dsb_f32_from_bits(w[i] & 0xffff0000u);
    }
}

/* Eight times round_half_even(v / s), as bytes: by the reciprocal, unless a quotient lies so near a tie that its error (127·2^-23) could matter. */
__device__ static uint2 codes_of(const float v[8], float s, float inverse) {
    uint32_t w[2] = {0, 0};
    bool near = s < 1e-30f; /* a tiny scale: its reciprocal may overflow, and codes pass the largest */
    float r[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float q = v[i] * inverse;
        r[i] = pm_round_code(q);
        near |= fabsf(q - r[i]) > 0.4999f;
    }
    if (near)
#pragma unroll
        for (int i = 0; i < 8; i++) r[i] = fminf(fmaxf(rintf(v[i] / s), -127.0f), 127.0f);
#pragma unroll
    for (int i = 0; i < 8; i++) w[i / 4] |= (uint32_t)(uint8_t)(int)r[i] << 8 * (i % 4);
    return s > 0 ? make_uint2(w[0], w[1]) : make_uint2(0, 0);
}

/* THREADS a row (of cols, a multiple of 16, at most 64 a thread): its scale and codes, to `copies` rows (row_of_slot) or to its own (NULL). */
template <class T, int THREADS> __global__ static void __launch_bounds__(128) quantize(const T *x, int64_t n, int64_t cols, int copies, const int32_t *row_of_slot, int8_t *q, float *scale) {
    enum { HELD = 8 };
    int64_t at = blockIdx.x * (int64_t)(128 / THREADS) + threadIdx.x / THREADS;
    int lane = threadIdx.x % THREADS;
    hp_begin();
    if (at >= n) return; /* whole warps */
    const T *row = x + at * cols;
    float v[HELD][8];
    uint32_t top = 0;
#pragma unroll
    for (int c = 0; c < HELD; c++) {
        int64_t k = (c * THREADS + lane) * 8;
        if (k >= cols) break;
        load8(row + k, v[c]);
        for (int i = 0; i < 8; i++) top = max(top, dsb_f32_bits(v[c][i]) & 0x7fffffffu);
    }
    if (THREADS == 32) top = __reduce_max_sync(~0u, top);
    else top = cu_block_max(top);
    float most = dsb_f32_from_bits(top), s = most <= FLT_MAX ? most / 127.0f : NAN, inverse = 1.0f / s;
    int own = !row_of_slot ? (int)at : lane % 32 < copies ? row_of_slot[at * copies + lane % 32] : 0; /* at most 32 copies */
    if (lane < copies) scale[own] = s;
#pragma unroll
    for (int c = 0; c < HELD; c++) {
        int64_t k = (c * THREADS + lane) * 8;
        if (c * THREADS * 8 >= cols) break;
        uint2 w = codes_of(v[c], s, inverse);
        for (int t = 0; t < copies; t++) {
            int64_t to = __shfl_sync(~0u, own, t);
            if (k < cols) *(uint2 *)(q + to * cols + k) = w;
        }
    }
}

template <class T> __global__ static void __launch_bounds__(128) combine(const uint16_t *part, const float *weight, int64_t n, int64_t k, int64_t d, T *y) {
    hp_begin();
    CU_EACH(at, n * (d / 8)) {
        int64_t token = at / (d / 8), c = at % (d / 8) * 8;
        float sum[8] = {};
        for (int64_t j = 0; j < k; j++) {
            float v[8], w = weight[token * k + j];
            load8(part + (token * k + j) * d + c, v);
            for (int i = 0; i < 8; i++) sum[i] = fmaf(w, v[i], sum[i]);
        }
        if (sizeof(T) == 2) {
            *(uint4 *)((uint16_t *)y + token * d + c) = make_uint4(gp_pair(sum[0], sum[1]), gp_pair(sum[2], sum[3]), gp_pair(sum[4], sum[5]), gp_pair(sum[6], sum[7]));
        } else {
            for (int i = 0; i < 2; i++) ((float4 *)((float *)y + token * d + c))[i] = make_float4(gp_round(sum[4 * i]), gp_round(sum[4 * i + 1]), gp_round(sum[4 * i + 2]), gp_round(sum[4 * i + 3]));
        }
    }
}

/* ---- memory ---- */

static bool describe(CUtensorMap *map, const void *base, int64_t rows, int64_t cols, int height) {
    static PFN_cuTensorMapEncodeTiled_v12000 encode;
    cudaDriverEntryPointQueryResult found;
    if (!encode && !CU(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", (void **)&encode, 12000, cudaEnableDefault, &found))) return false;
    cuuint64_t size[2] = {(cuuint64_t)cols, (cuuint64_t)rows}, stride[1] = {(cuuint64_t)cols};
    cuuint32_t box[2] = {GP_K, (cuuint32_t)height}, step[2] = {1, 1};
    CUresult r = encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, (void *)base, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS || cu_ok(cudaErrorUnknown, "cuTensorMapEncodeTiled");
}

void cu_experts_release(dsb_experts *m) {
    if (!m) return;
    void *all[] = {m->w1, m->w2, m->s1, m->s2, m->q, m->q2, m->qs, m->qs2, m->h, m->part, m->first, m->slot_of_row, m->row_of_slot};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cu_drop(all[i]);
    free(m);
}

static dsb_experts *experts_open(int64_t n_expert, int64_t k, int64_t d, int64_t ff) {
    dsb_experts *m = NULL;
    if (cu_capability != 90 || d % 16 || ff % 16 || d > 8192 || ff > 8192 || k > 32 || n_expert > GP_EXPERTS || !(m = (dsb_experts *)calloc(1, sizeof *m))) return NULL;
    *m = (dsb_experts){.n_expert = n_expert, .k = k, .d = d, .ff = ff};
    m->w1 = (int8_t *)cu_take((size_t)(n_expert * 2 * ff * d));
    m->w2 = (int8_t *)cu_take((size_t)(n_expert * d * ff));
    m->s1 = (float *)cu_take((size_t)(n_expert * 2 * ff) * 4);
    m->s2 = (float *)cu_take((size_t)(n_expert * d) * 4);
    m->first = (int32_t *)cu_take((size_t)(2 * n_expert + 2) * 4);
    bool ok = m->w1 && m->w2 && m->s1 && m->s2 && m->first;
    ok = ok && describe(&m->weights[0], m->w1, n_expert * 2 * ff, d, 256) && describe(&m->weights[1], m->w2, n_expert * d, ff, 256);
    ok = ok && describe(&m->few_weights[0], m->w1, n_expert * 2 * ff, d, GP_M) && describe(&m->few_weights[1], m->w2, n_expert * d, ff, GP_M);
    if (ok) return m;
    cu_experts_release(m);
    return NULL;
}

/* Gate and up alternate, 8 rows each. The rows of w are padded to `from` bytes. */
static void load(dsb_experts *m, int64_t e, const dsb_wmat w[3]) {
    int64_t d = m->d, ff = m->ff, from = cu_code_stride(d, d);
    for (int which = 0; which < 2; which++)
        for (int64_t r = 0; r < 8; r++) { /* row r of each eight */
            CU(cudaMemcpy2DAsync(m->w1 + (e * 2 * ff + 8 * which + r) * d, (size_t)(16 * d), (int8_t *)w[which].data + r * from, (size_t)(8 * from), (size_t)d, (size_t)(ff / 8), cudaMemcpyDeviceToDevice, cu_stream));
        }
    for (int which = 0; which < 2; which++) CU(cudaMemcpy2DAsync(m->s1 + e * 2 * ff + 8 * which, 64, w[which].scales, 32, 32, (size_t)(ff / 8), cudaMemcpyDeviceToDevice, cu_stream));
    CU(cudaMemcpy2DAsync(m->w2 + e * d * ff, (size_t)ff, w[2].data, (size_t)cu_code_stride(ff, ff), (size_t)ff, (size_t)d, cudaMemcpyDeviceToDevice, cu_stream));
    CU(cudaMemcpyAsync(m->s2 + e * d, w[2].scales, (size_t)d * 4, cudaMemcpyDeviceToDevice, cu_stream));
}

dsb_status cu_fuse_experts(dsb_experts **out, const dsb_wmat *w, int64_t n_expert, int64_t k, dsb_err *err) {
    int64_t d = w[0].cols, ff = w[0].rows;
    *out = NULL;
    for (int64_t i = 0; i < 3 * n_expert; i++)
        if (w[i].kind != DSB_W_I8 || w[i].group < w[i].cols || w[i].rows != (i % 3 == 2 ? d : ff) || w[i].cols != (i % 3 == 2 ? ff : d)) return DSB_OK;
    dsb_experts *m = experts_open(n_expert, k, d, ff);
    for (int64_t e = 0; m && e < n_expert; e++) load(m, e, w + 3 * e);
    *out = m;
    return cu_check(err);
}

static bool make_room(dsb_experts *m, int64_t rows) {
    if (rows <= m->room) return true;
    void **all[] = {(void **)&m->q, (void **)&m->q2, (void **)&m->qs, (void **)&m->qs2, (void **)&m->h, (void **)&m->part, (void **)&m->slot_of_row, (void **)&m->row_of_slot};
    size_t bytes[] = {(size_t)m->d, (size_t)m->ff, 4, 4, (size_t)m->ff * 2, (size_t)m->d * 2, 4, 4};
    m->room = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cu_drop(*all[i]);
        if (!(*all[i] = cu_take((size_t)rows * bytes[i]))) return false;
    }
    for (int b = 3; b < 9; b++)
        if (!describe(&m->rows[0][b], m->q, rows, m->d, 1 << b) || !describe(&m->rows[1][b], m->q2, rows, m->ff, 1 << b)) return false;
    m->room = rows;
    return true;
}

/* ---- a forward pass ---- */

/* A launch; where `overlap`, one that may begin while the kernel before it ends (every kernel here begins with hp_begin). That pays for few tokens; with
 * many it costs: blocks of a product that begin one after another no longer read the same weights at the same time. */
template <class... P, class... A> static void launch(bool overlap, const char *what, void (*kernel)(P...), int64_t blocks, int threads, size_t shared, A... args) {
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

template <class T> static void quantize_rows(bool few, const T *x, int64_t n, int64_t cols, int64_t copies, const int32_t *row_of_slot, int8_t *q, float *scale) {
    if (cols <= 2048 && n > 4 * cu_processors) launch(few, "quantize", quantize<T, 32>, cu_ceil(n, 4), 128, 0, x, n, cols, copies, row_of_slot, q, scale);
    else launch(few, "quantize", quantize<T, 128>, n, 128, 0, x, n, cols, copies, row_of_slot, q, scale);
}

template <int N, bool FEW, bool GATED> static void product(dsb_experts *m, const gp_args &p, int log_tokens) {
    CU_SHARED_ONCE((gp_product<N, FEW, GATED>), gp_shared<N>);
    launch(FEW, "gp_product", gp_product<N, FEW, GATED>, cu_processors, GP_THREADS, gp_shared<N>, FEW ? m->few_weights[!GATED] : m->weights[!GATED], m->rows[!GATED][log_tokens], p);
}

/* Tiles by how many tokens an expert gets on average. */
template <bool GATED> static void experts(dsb_experts *m, const gp_args &p, int64_t slots) {
    int64_t each = cu_ceil(slots, m->n_expert);
    if (each > 64) product<256, false, GATED>(m, p, 7);
    else if (each > 32) product<64, true, GATED>(m, p, 6);
    else if (each > 12) product<32, true, GATED>(m, p, 5);
    else if (each > 4) product<16, true, GATED>(m, p, 4);
    else product<8, true, GATED>(m, p, 3);
}

template <class T> static void forward(dsb_experts *m, const T *x, int64_t n, const int32_t *idx, const float *weight, T *y) {
    int64_t slots = n * m->k, d = m->d, ff = m->ff;
    int32_t *count = m->first + m->n_expert + 1;
    bool few = slots <= 64 * m->n_expert;
    if (slots > 4096) launch(few, "count_experts", count_experts, m->n_expert, 1024, 0, idx, slots, count);
    launch(few, "place_rows", place_rows, m->n_expert, slots > 1024 ? 1024 : 256, 0, idx, slots, slots > 4096 ? count : NULL, m->first, m->slot_of_row, m->row_of_slot);
    quantize_rows(few, x, n, d, m->k, m->row_of_slot, m->q, m->qs);
    gp_args up = {m->first, m->s1, m->qs, NULL, m->h, (int)m->n_expert, (int)(2 * ff), (int)cu_ceil(d, GP_K), (int)ff};
    experts<true>(m, up, slots);
    quantize_rows(few, m->h, slots, ff, 1, NULL, m->q2, m->qs2);
    gp_args down = {m->first, m->s2, m->qs2, m->slot_of_row, m->part, (int)m->n_expert, (int)d, (int)cu_ceil(ff, GP_K), (int)d};
    experts<false>(m, down, slots);
    launch(few, "combine", combine<T>, cu_grid(n * (d / 8), 128), 128, 0, m->part, weight, n, m->k, d, y);
}

void cu_experts_forward(dsb_experts *m, const float *x, int64_t n, const int32_t *idx, const float *weight, float *y) {
    if (n > 0 && make_room(m, n * m->k)) forward<float>(m, x, n, idx, weight, y);
}

/* BF16 rows in and out, for measuring beside others. */
void cu_experts_forward_bf16(dsb_experts *m, const uint16_t *x, int64_t n, const int32_t *idx, const float *weight, uint16_t *y) {
    if (n > 0 && make_room(m, n * m->k)) forward<uint16_t>(m, x, n, idx, weight, y);
}
