/* Attention: QT queries of one head a block. Scores by chains over the head's values, softmax with sums in 8 lanes, weighted sums by chains over
 * keys: the order of kernels/portable/attention.h. Scores of a block lie in shared memory while they fit, beyond that in scratch. */
#include "kernels/cuda/device.cuh"

enum { QT = 8, KT = 64, THREADS = 128, SHARED_MOST = 96 << 10 };

struct shape {
    dsb_attention_shape a;
    const dsb_seq *seqs;
    const float *q, *k, *v;
    float *out, *scratch; /* scratch: (blocks, QT, stride) or NULL */
    int64_t stride;       /* keys a row of scores has room for, a multiple of 8 */
};

__device__ static void scores(const shape &p, const dsb_seq &s, int64_t head, int64_t first_q, int n_q, int64_t from, int64_t to, float *out) {
    const dsb_attention_shape &a = p.a;
    int64_t kv_head = head / (a.heads / a.kv_heads), kr = a.k_stride ? a.k_stride : a.kv_heads * a.qk_dim;
    for (int64_t at = threadIdx.x; at < (to - from) * n_q; at += THREADS) {
        int64_t j = from + at / n_q;
        int i = (int)(at % n_q);
        const float *q = p.q + ((s.q0 + first_q + i) * a.heads + head) * a.qk_dim, *k = p.k + (s.kv0 + j) * kr + kv_head * a.qk_dim;
        float sum = 0;
        for (int64_t d = 0; d < a.qk_dim; d++) sum = fmaf(q[d], k[d], sum);
        out[i * p.stride + j - from] = sum * a.scale;
    }
}

/* Row i holds the scores of keys first .. first + n - 1, which become weights; returns their sum (in 8 lanes) to every thread. */
__device__ static float softmax(float *s, int64_t n, const float *sink) {
    __shared__ float part[THREADS], lanes[8];
    float top = sink ? *sink : -INFINITY;
    for (int64_t j = threadIdx.x; j < n; j += THREADS) top = s[j] > top ? s[j] : top;
    part[threadIdx.x] = top;
    __syncthreads();
    for (int d = THREADS / 2; d > 0; d /= 2) {
        if (threadIdx.x < d && part[threadIdx.x + d] > part[threadIdx.x]) part[threadIdx.x] = part[threadIdx.x + d];
        __syncthreads();
    }
    top = part[0];
    for (int64_t j = threadIdx.x; j < n; j += THREADS) s[j] = pm_expf(s[j] - top);
    __syncthreads();
    if (threadIdx.x < 8) {
        float sum = 0;
        for (int64_t j = threadIdx.x; j < (n + 7) / 8 * 8; j += 8) sum += j < n ? s[j] : 0.0f;
        lanes[threadIdx.x] = sum;
    }
    __syncthreads();
    float sum = cu_tree(lanes);
    if (sink) sum += pm_expf(*sink - top);
    __syncthreads();
    return sum;
}

__global__ static void __launch_bounds__(THREADS) attend(shape p) {
    extern __shared__ float shared[];
    const dsb_attention_shape &a = p.a;
    dsb_seq s = p.seqs[blockIdx.z];
    int64_t head = blockIdx.y, first_q = (int64_t)blockIdx.x * QT, vr = a.v_stride ? a.v_stride : a.kv_heads * a.v_dim, kv_head = head / (a.heads / a.kv_heads);
    if (first_q >= s.n_q) return;
    int n_q = s.n_q - first_q < QT ? (int)(s.n_q - first_q) : QT;
    float *sc = p.scratch ? p.scratch + ((blockIdx.z * (int64_t)gridDim.y + head) * gridDim.x + blockIdx.x) * QT * p.stride : shared;
    /* keys that any of the block's queries sees */
    int64_t seen = s.n_kv - s.n_q + first_q + 1, from = a.window > 0 && seen > a.window ? seen - a.window : 0, to = seen + n_q - 1;
    scores(p, s, head, first_q, n_q, from, to, sc);
    __syncthreads();
    for (int i = 0; i < n_q; i++) {
        int64_t n = seen + i, first = a.window > 0 && n > a.window ? n - a.window : 0;
        float *row = sc + i * p.stride + first - from, sum = softmax(row, n - first, a.sinks ? a.sinks + head : NULL);
        for (int64_t d = threadIdx.x; d < a.v_dim; d += THREADS) {
            const float *v = p.v + (s.kv0 + first) * vr + kv_head * a.v_dim + d;
            float o = 0;
            for (int64_t j = 0; j < n - first; j++) o = fmaf(row[j], v[j * vr], o);
            p.out[((s.q0 + first_q + i) * a.heads + head) * a.v_dim + d] = o / sum;
        }
    }
}

void cu_attention(const dsb_attention_shape *shape_, const dsb_seq *seqs, int64_t n_seq, const float *q, const float *k, const float *v, float *out) {
    int64_t most_q = 0, most_kv = 0;
    for (int64_t i = 0; i < n_seq; i++) {
        most_q = seqs[i].n_q > most_q ? seqs[i].n_q : most_q;
        most_kv = seqs[i].n_kv > most_kv ? seqs[i].n_kv : most_kv;
    }
    if (most_q == 0) return;
    int64_t keys = shape_->window > 0 && shape_->window + QT < most_kv ? shape_->window + QT : most_kv;
    shape p = {*shape_, NULL, q, k, v, out, NULL, cu_ceil(keys, 8) * 8};
    size_t bytes = (size_t)(QT * p.stride) * sizeof(float);
    dsb_seq *dev = (dsb_seq *)cu_take((size_t)n_seq * sizeof *dev);
    if (!dev) return;
    cu_to_device(dev, seqs, (size_t)n_seq * sizeof *dev);
    p.seqs = dev;
    for (int64_t at = 0; at < n_seq; at += 1024) { /* bounds the scratch, and the grid's z */
        int64_t m = n_seq - at < 1024 ? n_seq - at : 1024;
        if (bytes > SHARED_MOST) m = 1;
        for (int64_t b = 0; b < (n_seq - at < 1024 ? n_seq - at : 1024); b += m) {
            dim3 grid((unsigned)cu_ceil(most_q, QT), (unsigned)p.a.heads, (unsigned)m);
            p.seqs = dev + at + b;
            if (bytes > SHARED_MOST && !(p.scratch = (float *)cu_take(bytes * grid.x * grid.y))) break;
            CU_SHARED_ONCE(attend, SHARED_MOST);
            attend<<<grid, THREADS, p.scratch ? 0 : bytes, cu_stream>>>(p);
            CU_LAUNCHED("attend");
            cu_drop(p.scratch);
        }
    }
    cu_drop(dev);
}
