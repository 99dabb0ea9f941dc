/* Routing, a warp a token: kernels/portable/route.h with its sums in the same order and ties to the lower index. */
#include "kernels/cuda/device.cuh"

enum { WARPS = 4 };

/* Index of the best not taken among n, ties to the lower index; the same for all lanes. n is at least 1. */
__device__ static int best(const float *v, const bool *taken, int n) {
    int at = -1, lane = threadIdx.x % 32;
    float top = 0;
    for (int i = lane; i < n; i += 32)
        if (!taken[i] && (at < 0 || v[i] > top)) {
            at = i;
            top = v[i];
        }
    for (int d = 16; d > 0; d /= 2) {
        int other = __shfl_xor_sync(~0u, at, d);
        float its = __shfl_xor_sync(~0u, top, d);
        /* As one walk over ascending indices finds it: a later one wins only if it is larger. */
        bool mine_first = other < 0 || (at >= 0 && at < other), take = other >= 0 && (at < 0 || (mine_first ? its > top : !(top > its)));
        at = take ? other : at;
        top = take ? its : top;
    }
    return at;
}

__device__ static void scores(dsb_scoring scoring, const float *logits, int n, float *s) {
    int lane = threadIdx.x % 32;
    if (scoring == DSB_SCORE_SIGMOID) {
        for (int i = lane; i < n; i += 32) s[i] = 1.0f / (1.0f + pm_expf(-logits[i]));
        return;
    }
    float top = -INFINITY;
    for (int i = lane; i < n; i += 32) top = logits[i] > top ? logits[i] : top;
    for (int d = 16; d > 0; d /= 2) {
        float other = __shfl_xor_sync(~0u, top, d);
        top = other > top ? other : top;
    }
    for (int i = lane; i < n; i += 32) s[i] = pm_expf(logits[i] - top);
    __syncwarp();
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)s[i];
    __syncwarp();
    for (int i = lane; i < n; i += 32) s[i] = (float)((double)s[i] / sum);
}

__device__ static void limit_groups(const dsb_router_shape &r, float *sel, float *figure, bool *kept) {
    int lane = threadIdx.x % 32, groups = (int)r.n_group, size = (int)(r.n_expert / r.n_group);
    for (int g = lane; g < groups; g += 32) {
        figure[g] = pm_group_figure(r.group_rank == DSB_GROUP_MAX, sel + g * size, size);
        kept[g] = false;
    }
    __syncwarp();
    for (int i = 0; i < r.topk_group; i++) {
        int g = best(figure, kept, groups);
        if (lane == 0) kept[g] = true;
        __syncwarp();
    }
    for (int i = lane; i < groups * size; i += 32)
        if (!kept[i / size]) sel[i] = 0;
    __syncwarp();
}

__global__ static void route(dsb_router_shape r, const float *logits, const float *bias, int64_t n, float *scores_out, int32_t *idx, float *weight, float *margin) {
    extern __shared__ float raw[];
    int e = (int)r.n_expert, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float *s = raw + warp * (4 * e), *sel = s + e, *figure = sel + e;
    bool *taken = (bool *)(figure + e);
    int64_t t = blockIdx.x * (int64_t)WARPS + warp;
    if (t >= n) return;
    scores(r.scoring, logits + t * e, e, s);
    __syncwarp();
    for (int i = lane; i < e; i += 32) {
        sel[i] = bias ? s[i] + bias[i] : s[i];
        if (scores_out) scores_out[t * e + i] = s[i];
    }
    __syncwarp();
    if (r.n_group > 1) limit_groups(r, sel, figure, taken);
    for (int i = lane; i < e; i += 32) taken[i] = false;
    __syncwarp();
    float last = 0;
    for (int i = 0; i < r.k; i++) {
        int x = best(sel, taken, e);
        last = sel[x];
        __syncwarp();
        if (lane == 0) taken[x] = true;
        __syncwarp();
    }
    int next = r.k < r.n_expert ? best(sel, taken, e) : -1;
    if (lane) return;
    margin[t] = next < 0 ? INFINITY : last - sel[next];
    float sum = 0;
    int64_t at = t * r.k;
    for (int i = 0; i < e; i++)
        if (taken[i]) {
            idx[at] = i;
            weight[at++] = s[i];
            sum += s[i];
        }
    for (int64_t i = t * r.k; i < (t + 1) * r.k; i++) {
        if (r.norm_topk) weight[i] = weight[i] / (sum + 1e-20f);
        if (!r.norm_topk || r.scale_after_norm) weight[i] *= r.scale;
    }
}

void cu_route(const dsb_router_shape *shape, const float *logits, const float *bias, int64_t n, float *scores_out, int32_t *idx, float *weight, float *margin) {
    size_t bytes = (size_t)(WARPS * 4 * shape->n_expert) * sizeof(float);
    if (n == 0) return;
    CU_SHARED_ONCE(route, 96 << 10);
    route<<<(unsigned)cu_ceil(n, WARPS), WARPS * 32, bytes, cu_stream>>>(*shape, logits, bias, n, scores_out, idx, weight, margin);
    CU_LAUNCHED("route");
}
