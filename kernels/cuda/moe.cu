/* A layer's routed experts in one piece: rows sorted by expert, activations quantized once a token, gate and up in one product with SwiGLU
 * behind it, down, then each token's weighted sum over its experts in ascending order. INT8: the bits of the backend's single rows; E4M3 and BF16
 * add in the order of the tensor cores. Hopper only. */
#include <cudaTypedefs.h>
#include <stdlib.h>

#include "kernels/cuda/nibbles.cuh"

struct dsb_experts {
    hp_kind kind;                     /* of the activations, and of the weights unless those are */
    bool nibbles;
    nb_kind form;
    int group;
    int64_t width;                    /* bytes of an activation, and of a weight */
    int64_t n_expert, k, d, ff, room; /* room: rows the buffers hold */
    uint8_t *w1, *w2;                 /* (n_expert, 2 ff, d): 8 rows of gate, 8 of up, ...; (n_expert, d, ff); nibbles: in chunks */
    float *s1, *s2;
    uint8_t *q, *q2;                  /* permuted rows: (room, d), (room, ff); BF16: h is the latter */
    float *qs, *qs2;
    uint16_t *h, *part;               /* BF16: (room, ff) permuted; (room, d) by slot */
    int32_t *first, *slot_of_row, *row_of_slot;
    CUtensorMap weights[2], rows[2][21]; /* rows by an eighth of the box's height */
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

/* Eight values as a kind's codes, at `to`. INT8: round_half_even(v / s) by the reciprocal, unless a quotient lies so near a tie that its error
 * (127·2^-23) could matter. */
template <int KIND> struct codes8;
template <> struct codes8<HP_I8> {
    uint2 w;
    __device__ codes8(const float v[8], float s) : w(make_uint2(0, 0)) {
        if (!(s > 0)) return;
        bool near = s < 1e-30f; /* a tiny scale: its reciprocal may overflow, and codes pass the largest */
        float r[8], inverse = 1.0f / s;
        uint32_t b[2] = {0, 0};
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
        for (int i = 0; i < 8; i++) b[i / 4] |= (uint32_t)(uint8_t)(int)r[i] << 8 * (i % 4);
        w = make_uint2(b[0], b[1]);
    }
    __device__ void store(uint8_t *to) const { *(uint2 *)to = w; }
};
template <> struct codes8<HP_E4M3> {
    uint2 w;
    __device__ codes8(const float v[8], float s) : w(make_uint2(0, 0)) {
        if (!(s > 0)) return;
        uint32_t b[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 8; i += 2) {
            float lo = v[i] / s, hi = v[i + 1] / s;
#if __CUDA_ARCH__ >= 890
            uint16_t two;
            asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(two) : "f"(hi), "f"(lo));
#else
            uint32_t two = dsb_f32_to_e4m3(lo) | (uint32_t)dsb_f32_to_e4m3(hi) << 8;
#endif
            b[i / 4] |= (uint32_t)two << 8 * (i % 4);
        }
        w = make_uint2(b[0], b[1]);
    }
    __device__ void store(uint8_t *to) const { *(uint2 *)to = w; }
};
template <> struct codes8<HP_BF16> {
    uint4 w;
    __device__ codes8(const float v[8], float) : w(make_uint4(gp_pair(v[0], v[1]), gp_pair(v[2], v[3]), gp_pair(v[4], v[5]), gp_pair(v[6], v[7]))) {}
    __device__ void store(uint8_t *to) const { *(uint4 *)to = w; }
};
template <int KIND> constexpr int width_of = KIND == HP_BF16 ? 2 : 1;

/* THREADS a row (of cols, a multiple of 16, at most 64 a thread): its scale and codes to `copies` rows, at most 32; lane t of each warp knows the t-th. */
template <class T, int KIND, int THREADS> __device__ static void quantize_row(const T *row, int64_t cols, int copies, int own, uint8_t *q, float *scale) {
    enum { HELD = 8 };
    int lane = threadIdx.x % THREADS;
    float v[HELD][8];
    uint32_t top = 0;
#pragma unroll
    for (int c = 0; c < HELD; c++) {
        int64_t k = (c * THREADS + lane) * 8;
        if (k >= cols) break;
        load8(row + k, v[c]);
        for (int i = 0; i < 8; i++) top = max(top, dsb_f32_bits(v[c][i]) & 0x7fffffffu);
    }
    float s = 1;
    if (KIND != HP_BF16) {
        if (THREADS == 32) top = __reduce_max_sync(~0u, top);
        else top = cu_block_max(top);
        float most = dsb_f32_from_bits(top);
        s = most <= FLT_MAX ? most / (KIND == HP_I8 ? 127.0f : 448.0f) : NAN;
        if (lane < copies) scale[own] = s;
    }
#pragma unroll
    for (int c = 0; c < HELD; c++) {
        int64_t k = (c * THREADS + lane) * 8;
        if (c * THREADS * 8 >= cols) break;
        codes8<KIND> w(v[c], s);
        for (int t = 0; t < copies; t++) {
            int64_t to = __shfl_sync(~0u, own, t);
            if (k < cols) w.store(q + (to * cols + k) * width_of<KIND>);
        }
    }
}

/* Row i to the rows of its slots, or to its own (NULL). */
template <class T, int KIND, int THREADS> __global__ static void __launch_bounds__(128) quantize(const T *x, int64_t n, int64_t cols, int copies, const int32_t *row_of_slot, uint8_t *q, float *scale) {
    int64_t at = blockIdx.x * (int64_t)(128 / THREADS) + threadIdx.x / THREADS;
    int lane = threadIdx.x % 32;
    hp_begin();
    if (at >= n) return; /* whole warps */
    int own = !row_of_slot ? (int)at : lane < copies ? row_of_slot[at * copies + lane] : 0;
    quantize_row<T, KIND, THREADS>(x + at * cols, cols, copies, own, q, scale);
}

/* Plan and quantization of few tokens in one: a block a token finds its slots' rows by itself. */
enum { PLAN_SLOTS = 1024 };
template <class T, int KIND> __global__ static void __launch_bounds__(128) plan_and_quantize(const T *x, int slots, int64_t cols, int k, const int32_t *idx, int32_t *slot_of_row, uint8_t *q, float *scale) {
    __shared__ int all[PLAN_SLOTS], row[32];
    int lane = threadIdx.x % 32, first = (int)blockIdx.x * k;
    hp_begin();
    if (threadIdx.x < 32) row[threadIdx.x] = 0;
    for (int i = threadIdx.x; i < slots; i += 128) all[i] = idx[i];
    __syncthreads();
    for (int j = 0; j < k; j++) {
        int e = all[first + j], before = 0;
        for (int i = threadIdx.x; i < slots; i += 128) before += all[i] < e || (all[i] == e && i < first + j);
        before = __reduce_add_sync(~0u, before);
        if (lane == 0) atomicAdd(&row[j], before);
    }
    __syncthreads();
    if ((int)threadIdx.x < k) slot_of_row[row[threadIdx.x]] = first + (int)threadIdx.x;
    quantize_row<T, KIND, 128>(x + blockIdx.x * cols, cols, k, row[lane], q, scale);
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

/* What a matrix is to these kernels. */
struct form {
    hp_kind kind;
    bool nibbles;
    nb_kind nibble;
    int group;
};

static bool takes(const dsb_wmat *w, dsb_experts_act act, form *f) {
    bool chunks = w->cols % NB_K == 0 && w->rows % GP_M == 0 && (w->group == 32 || w->group == 128);
    *f = {HP_BF16, w->kind == DSB_W_I4 || w->kind == DSB_W_BLOCK, NB_INT4, (int)w->group};
    if (w->kind == DSB_W_I8 && w->group >= w->cols && act == DSB_EXPERTS_INT8) *f = {HP_I8};
    else if (w->kind == DSB_W_BLOCK && w->packed.type == DSB_PACKED_fp8_e4m3 && w->packed.n >= w->cols && act == DSB_EXPERTS_E4M3) *f = {HP_E4M3};
    else if (w->kind == DSB_W_BF16 && act == DSB_EXPERTS_PLAIN) *f = {HP_BF16};
    else if (w->kind == DSB_W_I4 && chunks && act == DSB_EXPERTS_INT8) f->kind = HP_I8, f->nibble = NB_INT4_INT8;
    else if (w->kind == DSB_W_BLOCK && w->packed.type == DSB_PACKED_w4a16 && chunks && act == DSB_EXPERTS_PLAIN) f->nibble = NB_INT4;
    else if (w->kind == DSB_W_BLOCK && w->packed.type == DSB_PACKED_mxfp4 && chunks && act == DSB_EXPERTS_PLAIN) f->nibble = NB_E2M1;
    else return false;
    return true;
}

static dsb_experts *experts_open(const form *f, int64_t n_expert, int64_t k, int64_t d, int64_t ff) {
    dsb_experts *m = NULL;
    if (cu_capability != 90 || d % 16 || ff % 16 || d > 8192 || ff > 8192 || k > 32 || n_expert > GP_EXPERTS || (f->nibbles && ff % 64) || !(m = (dsb_experts *)calloc(1, sizeof *m))) return NULL;
    *m = (dsb_experts){.kind = f->kind, .nibbles = f->nibbles, .form = f->nibble, .group = f->group, .width = f->kind == HP_BF16 ? 2 : 1, .n_expert = n_expert, .k = k, .d = d, .ff = ff};
    int64_t bytes = f->nibbles ? n_expert * (2 * ff / GP_M) * (d / NB_K) * nb_chunk(f->nibble, f->group) : n_expert * 2 * ff * d * m->width;
    m->w1 = (uint8_t *)cu_take((size_t)bytes);
    m->w2 = (uint8_t *)cu_take((size_t)(bytes / 2));
    m->first = (int32_t *)cu_take((size_t)(2 * n_expert + 2) * 4);
    bool ok = m->w1 && m->w2 && m->first;
    if (f->kind != HP_BF16 && !f->nibbles) {
        m->s1 = (float *)cu_take((size_t)(n_expert * 2 * ff) * 4);
        m->s2 = (float *)cu_take((size_t)(n_expert * d) * 4);
        ok = ok && m->s1 && m->s2;
    }
    ok = ok && (f->nibbles || (describe(&m->weights[0], m->w1, n_expert * 2 * ff, d * m->width, GP_M) && describe(&m->weights[1], m->w2, n_expert * d, ff * m->width, GP_M)));
    if (ok) return m;
    cu_experts_release(m);
    return NULL;
}

static void copy_rows(void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t bytes, int64_t rows) {
    CU(cudaMemcpy2DAsync(to, (size_t)to_stride, from, (size_t)from_stride, (size_t)bytes, (size_t)rows, cudaMemcpyDeviceToDevice, cu_stream));
}

/* Panels of 16 outputs, [k][16], to rows. */
__global__ static void rows_of_panels(const uint16_t *panels, int64_t rows, int64_t cols, uint16_t *out) {
    CU_EACH(i, rows * cols) out[i] = panels[(i / cols / CU_PANEL * cols + i % cols) * CU_PANEL + i / cols % CU_PANEL];
}

/* A matrix of `rows` rows, 8 of them in each `turn`: codes (a row's bytes) and scales. */
static void load_matrix(dsb_experts *m, const dsb_wmat *w, int turn, uint8_t *to, float *scale) {
    int64_t bytes = w->cols * m->width, from = bytes, eights = w->rows / 8;
    const uint8_t *data = (const uint8_t *)w->data;
    uint16_t *plain = NULL;
    if (m->kind == HP_I8) from = cu_code_stride(w->cols, w->cols);
    if (m->kind == HP_E4M3) from = (int64_t)w->bytes / w->rows; /* its scale, its codes */
    if (m->kind == HP_BF16) {
        if (!(plain = (uint16_t *)cu_take((size_t)(w->rows * bytes)))) return;
        rows_of_panels<<<cu_grid(w->rows * w->cols, 256), 256, 0, cu_stream>>>((const uint16_t *)w->data, w->rows, w->cols, plain);
        CU_LAUNCHED("rows_of_panels");
        data = (const uint8_t *)plain;
    }
    if (m->kind == HP_E4M3) {
        copy_rows(scale, 4 * 8 * turn, data, 8 * from, 4, eights);
        for (int r = 1; r < 8; r++) copy_rows(scale + r, 4 * 8 * turn, data + r * from, 8 * from, 4, eights);
        data += 4;
    }
    if (m->kind == HP_I8) copy_rows(scale, 4 * 8 * turn, w->scales, 32, 32, eights);
    for (int64_t r = 0; r < 8; r++) copy_rows(to + r * bytes, 8 * turn * bytes, data + r * from, 8 * from, bytes, eights);
    cu_drop(plain);
}

static nb_source source_of(const dsb_wmat *w) {
    if (w->kind == DSB_W_I4) return {(const uint8_t *)w->data, w->scales, cu_code_stride(w->cols, w->group), 0, cu_ceil(w->rows, CU_TILE_ROWS) * CU_TILE_ROWS};
    int64_t stride = (int64_t)w->bytes / w->rows;
    return {(const uint8_t *)w->data, NULL, stride, stride / (w->cols / w->group), 0};
}

/* False where a zero point doesn't fit. */
static bool load_nibbles(dsb_experts *m, const dsb_wmat *w) {
    int64_t one = m->ff / GP_M * (m->d / NB_K) * nb_chunk(m->form, m->group);
    int32_t bad = 0, *mark = m->first; /* free before the first pass */
    CU(cudaMemsetAsync(mark, 0, sizeof *mark, cu_stream));
    for (int64_t e = 0; e < m->n_expert; e++, w += 3) {
        cu_nibbles_pack(m->form, m->group, source_of(&w[0]), source_of(&w[1]), 2 * m->ff, m->d, m->w1 + e * 2 * one, mark);
        cu_nibbles_pack(m->form, m->group, source_of(&w[2]), {}, m->d, m->ff, m->w2 + e * one, mark);
    }
    cu_to_host(&bad, mark, sizeof bad);
    return !bad;
}

dsb_status cu_fuse_experts(dsb_experts **out, const dsb_wmat *w, int64_t n_expert, int64_t k, dsb_experts_act act, dsb_err *err) {
    int64_t d = w[0].cols, ff = w[0].rows;
    form first, f;
    *out = NULL;
    if (!takes(&w[0], act, &first)) return DSB_OK;
    for (int64_t i = 0; i < 3 * n_expert; i++)
        if (!takes(&w[i], act, &f) || f.kind != first.kind || f.nibbles != first.nibbles || f.nibble != first.nibble || f.group != first.group || w[i].rows != (i % 3 == 2 ? d : ff) || w[i].cols != (i % 3 == 2 ? ff : d)) return DSB_OK;
    dsb_experts *m = experts_open(&first, n_expert, k, d, ff);
    if (m && m->nibbles && !load_nibbles(m, w)) {
        cu_experts_release(m);
        m = NULL;
    }
    for (int64_t e = 0; m && !m->nibbles && e < n_expert; e++) {
        for (int which = 0; which < 2; which++) load_matrix(m, &w[3 * e + which], 2, m->w1 + (e * 2 * ff + 8 * which) * d * m->width, m->s1 + e * 2 * ff + 8 * which);
        load_matrix(m, &w[3 * e + 2], 1, m->w2 + e * d * ff * m->width, m->s2 + e * d);
    }
    *out = m;
    return cu_check(err);
}

static bool make_room(dsb_experts *m, int64_t rows) {
    static const int heights[] = {8, 16, 32, 64, 128, 160};
    if (rows <= m->room) return true;
    bool bf16 = m->kind == HP_BF16;
    void **all[] = {(void **)&m->q, (void **)&m->q2, (void **)&m->qs, (void **)&m->qs2, (void **)&m->h, (void **)&m->part, (void **)&m->slot_of_row, (void **)&m->row_of_slot};
    size_t bytes[] = {(size_t)(m->d * m->width), bf16 ? 0 : (size_t)m->ff, 4, 4, (size_t)m->ff * 2, (size_t)m->d * 2, 4, 4};
    m->room = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        cu_drop(*all[i]);
        *all[i] = NULL;
        if (bytes[i] && !(*all[i] = cu_take((size_t)rows * bytes[i]))) return false;
    }
    for (int h : heights)
        if (!describe(&m->rows[0][h / 8], m->q, rows, m->d * m->width, h) || !describe(&m->rows[1][h / 8], bf16 ? (void *)m->h : m->q2, rows, m->ff * m->width, h)) return false;
    m->room = rows;
    return true;
}

/* ---- a forward pass ---- */

template <class T, int KIND> static void quantize_rows(const T *x, int64_t n, int64_t cols, int64_t copies, const int32_t *row_of_slot, uint8_t *q, float *scale) {
    if (cols <= 2048 && n > 4 * cu_processors) cu_launch(true, "quantize", quantize<T, KIND, 32>, cu_ceil(n, 4), 128, 0, x, n, cols, copies, row_of_slot, q, scale);
    else cu_launch(true, "quantize", quantize<T, KIND, 128>, n, 128, 0, x, n, cols, copies, row_of_slot, q, scale);
}

template <int KIND, int N, bool GATED> static void few_tokens(dsb_experts *m, const gp_args &p) {
    CU_SHARED_ONCE((gp_few<KIND, N, GATED>), gp_shared<N>);
    cu_launch(true, "gp_few", gp_few<KIND, N, GATED>, cu_processors, GP_THREADS, gp_shared<N>, m->weights[!GATED], m->rows[!GATED][N / 8], p);
}
template <int KIND, bool GATED> static void many_tokens(dsb_experts *m, const gp_args &p) {
    CU_SHARED_ONCE((gp_many<KIND, GATED>), gp_shared<256>);
    cu_launch(false, "gp_many", gp_many<KIND, GATED>, cu_processors, GP_THREADS, gp_shared<256>, m->weights[!GATED], m->rows[!GATED][64 / 8], p);
}

/* Tiles by how many tokens an expert gets on average: one tile should hold nearly every expert's. */
enum { MANY_EACH = 131 };
template <int KIND, bool GATED> static void product(dsb_experts *m, const gp_args &p, int64_t slots) {
    int64_t each = cu_ceil(slots, m->n_expert);
    if (m->nibbles) {
        int n = each > 52 ? 128 : each > 24 ? 64 : each > 5 ? 32 : 8;
        return cu_nibbles_product(m->form, m->group, n, GATED, m->rows[!GATED][n / 8], p);
    }
    if (each > MANY_EACH) many_tokens<KIND, GATED>(m, p);
    else if (each > 102) few_tokens<KIND, 160, GATED>(m, p);
    else if (each > 52) few_tokens<KIND, 128, GATED>(m, p);
    else if (each > 24) few_tokens<KIND, 64, GATED>(m, p);
    else if (each > 12) few_tokens<KIND, 32, GATED>(m, p);
    else if (each > 4) few_tokens<KIND, 16, GATED>(m, p);
    else few_tokens<KIND, 8, GATED>(m, p);
}

template <int KIND, class T> static void forward(dsb_experts *m, const T *x, int64_t n, const int32_t *idx, const float *weight, T *y) {
    int64_t slots = n * m->k, d = m->d, ff = m->ff;
    int32_t *count = m->first + m->n_expert + 1;
    bool least = slots <= PLAN_SLOTS && slots <= MANY_EACH * m->n_expert;
    if (least) {
        cu_launch(true, "plan_and_quantize", plan_and_quantize<T, KIND>, n, 128, 0, x, slots, d, m->k, idx, m->slot_of_row, m->q, m->qs);
    } else {
        if (slots > 4096) cu_launch(true, "count_experts", count_experts, m->n_expert, 1024, 0, idx, slots, count);
        cu_launch(true, "place_rows", place_rows, m->n_expert, slots > 1024 ? 1024 : 256, 0, idx, slots, slots > 4096 ? count : NULL, m->first, m->slot_of_row, m->row_of_slot);
        quantize_rows<T, KIND>(x, n, d, m->k, m->row_of_slot, m->q, m->qs);
    }
    gp_args up = {least ? NULL : m->first, least ? idx : NULL, m->s1, m->qs, NULL, m->h, (int)m->n_expert, (int)slots, (int)(2 * ff), (int)(m->nibbles ? d / NB_K : cu_ceil(d * m->width, GP_K)), (int)ff, m->w1};
    product<KIND, true>(m, up, slots);
    if (KIND != HP_BF16) quantize_rows<uint16_t, KIND>(m->h, slots, ff, 1, NULL, m->q2, m->qs2);
    gp_args down = {up.first, up.idx, m->s2, m->qs2, m->slot_of_row, m->part, (int)m->n_expert, (int)slots, (int)d, (int)(m->nibbles ? ff / NB_K : cu_ceil(ff * m->width, GP_K)), (int)d, m->w2};
    product<KIND, false>(m, down, slots);
    cu_launch(true, "combine", combine<T>, cu_grid(n * (d / 8), 128), 128, 0, m->part, weight, n, m->k, d, y);
}

template <class T> static void forward_any(dsb_experts *m, const T *x, int64_t n, const int32_t *idx, const float *weight, T *y) {
    if (n <= 0 || !make_room(m, n * m->k)) return;
    if (m->kind == HP_I8) forward<HP_I8>(m, x, n, idx, weight, y);
    if (m->kind == HP_E4M3) forward<HP_E4M3>(m, x, n, idx, weight, y);
    if (m->kind == HP_BF16) forward<HP_BF16>(m, x, n, idx, weight, y);
}
void cu_experts_forward(dsb_experts *m, const float *x, int64_t n, const int32_t *idx, const float *weight, float *y) { forward_any(m, x, n, idx, weight, y); }
/* BF16 rows in and out, for measuring beside others. */
void cu_experts_forward_bf16(dsb_experts *m, const uint16_t *x, int64_t n, const int32_t *idx, const float *weight, uint16_t *y) { forward_any(m, x, n, idx, weight, y); }
