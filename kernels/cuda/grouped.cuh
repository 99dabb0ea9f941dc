/* The grouped product of a layer's experts on Hopper, int8 x int8 -> int32: one persistent block a multiprocessor takes tiles (expert, weight rows, token
 * rows); one thread keeps stages of shared memory filled by the copy engine, two warpgroups multiply and finish 64 rows each.
 * Many tokens: token rows x 256 weight rows. Few: weight rows are the product's 64-row side and tokens the short one, so that nothing is wasted. */
#ifndef DSB_KERNELS_CUDA_GROUPED_CUH
#define DSB_KERNELS_CUDA_GROUPED_CUH

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/hopper.cuh"

enum { GP_THREADS = 384, GP_M = 128, GP_K = 128, GP_EXPERTS = 1024 };

struct gp_args {
    const int32_t *first;  /* (n_expert + 1) rows of each expert among the permuted tokens */
    const float *w_scale;  /* (n_expert, weight_rows) */
    const float *x_scale;  /* (rows) */
    const int32_t *place;  /* (rows) the output's row of each, or NULL: its own */
    uint16_t *out;         /* BF16, out_cols a row */
    int n_expert, weight_rows, loops; /* loops: 128 bytes of K each */
    int out_cols;
};

/* N: the short side's rows of a tile (tokens if FEW, else weights). */
template <int N> struct gp_stage {
    uint8_t m[GP_M * GP_K], n[N * GP_K];
};
template <int N> constexpr int gp_stages = (200 << 10) / (int)sizeof(gp_stage<N>) > 8 ? 8 : (200 << 10) / (int)sizeof(gp_stage<N>);
template <int N> constexpr size_t gp_shared = 1024 + gp_stages<N> * sizeof(gp_stage<N>);

struct gp_tile {
    int expert, weight, token; /* first weight row of the expert, first token row of all */
    int end;                   /* the expert's last token row + 1 */
};

/* Tile `id` of the list: experts ascending, in each all token tiles of a weight tile before the next. */
__device__ static inline gp_tile gp_find(const int *before, const int32_t *first, int n_expert, int weight_tiles, int weight_size, int token_size, int id) {
    int lo = 0, hi = n_expert;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (before[mid] * weight_tiles <= id) lo = mid;
        else hi = mid;
    }
    int of = before[lo + 1] - before[lo], at = id - before[lo] * weight_tiles;
    return {lo, at / of * weight_size, first[lo] + at % of * token_size, first[lo + 1]};
}

__device__ static inline uint32_t gp_pair(float a, float b) { /* two BF16 values, a in the low half */
    uint32_t v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
    return v;
}
__device__ static inline float gp_round(float a) { return dsb_f32_from_bits(gp_pair(0, a) & 0xffff0000u); }

/* silu of four values rounded to BF16, to the bits of kernels/portable: quick ones, unless one lies so near the middle of two BF16 values that the
 * error could matter: |g| <= 16 bounds that of ex2's argument by 2^-20, so the value's by 13·2^-23 of it, 26 places of its last bit. */
__device__ static inline void gp_silu(const float g[4], float s[4]) {
    enum { NEAR = 32 };
    bool near = false;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        s[i] = __fdividef(g[i], 1.0f + __expf(-g[i]));
        near |= !(fabsf(g[i]) <= 16.0f) || (dsb_f32_bits(s[i]) + 0x8000 + NEAR & 0xffff) <= 2 * NEAR;
    }
    if (near)
#pragma unroll 1
        for (int i = 0; i < 4; i++) {
            float v = i == 0 ? g[0] : i == 1 ? g[1] : i == 2 ? g[2] : g[3], r = v / (1.0f + pm_expf(-v));
            if (i == 0) s[0] = r;
            if (i == 1) s[1] = r;
            if (i == 2) s[2] = r;
            if (i == 3) s[3] = r;
        }
#pragma unroll
    for (int i = 0; i < 4; i++) s[i] = gp_round(s[i]);
}

/* Lane q of four ends with word q of each lane: 16 bytes side by side of what lay scattered. */
__device__ static inline uint4 gp_transpose(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    int q = threadIdx.x % 4;
    uint32_t x = __shfl_xor_sync(~0u, q & 1 ? a : b, 1), y = __shfl_xor_sync(~0u, q & 1 ? c : d, 1);
    if (q & 1) a = x, c = y;
    else b = x, d = y;
    x = __shfl_xor_sync(~0u, q & 2 ? a : c, 2), y = __shfl_xor_sync(~0u, q & 2 ? b : d, 2);
    if (q & 2) a = x, b = y;
    else c = x, d = y;
    return make_uint4(a, b, c, d);
}

__device__ static inline float gp_value(uint32_t acc, float w_scale, float x_scale) { return (float)(int32_t)acc * w_scale * x_scale; }
/* What a warpgroup's threads read about a tile before its product, so that the wait lies behind it. */
template <int N> struct __align__(16) gp_side {
    float n_scale[N]; /* of the short side's rows: weights, or tokens if few */
    int to[N];        /* few: the output's row of each token, -1 past the end */
};
struct gp_rows {
    float scale[2]; /* of the thread's two rows of the long side */
    int to[2];      /* many: the output's rows, -1 past the end */
};

template <int N, bool FEW> __device__ static gp_rows gp_prepare(const gp_args &p, const gp_tile &t, int wg, gp_side<N> *side) {
    int lane = threadIdx.x % 32, in = wg * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const float *ws = p.w_scale + (int64_t)t.expert * p.weight_rows;
    gp_rows r;
    asm volatile("bar.sync %0, 128;" ::"r"(1 + wg) : "memory"); /* the tile before is done with `side` */
    for (int i = threadIdx.x % 128; i < N; i += 128) {
        int token = t.token + i;
        if (FEW) {
            side->n_scale[i] = token < t.end ? p.x_scale[token] : 0;
            side->to[i] = token < t.end ? p.place ? p.place[token] : token : -1;
        } else {
            side->n_scale[i] = t.weight + i < p.weight_rows ? ws[t.weight + i] : 0;
        }
    }
    for (int h = 0; h < 2; h++) {
        int row = (FEW ? t.weight : t.token) + in + 8 * h;
        bool real = row < (FEW ? p.weight_rows : t.end);
        r.scale[h] = real ? (FEW ? ws : p.x_scale)[row] : 0;
        r.to[h] = !real ? -1 : FEW || !p.place ? row : p.place[row];
    }
    asm volatile("bar.sync %0, 128;" ::"r"(1 + wg) : "memory");
    return r;
}

/* A warpgroup's 64 x N sums, rows are tokens, columns weights. GATED: weight rows alternate, 8 of gate and 8 of up. */
template <int N, bool GATED> __device__ static void gp_finish_many(const gp_args &p, const gp_tile &t, const gp_rows &r, const gp_side<N> *side, const uint32_t *acc) {
    enum { WORDS = GATED ? N / 16 : N / 8 }; /* pairs of the output's columns a row: 8 columns lie with four lanes */
    int pair = threadIdx.x % 4 * 2, columns = (GATED ? p.weight_rows / 2 : p.weight_rows) - (GATED ? t.weight / 2 : t.weight);
    const float *ws = side->n_scale + pair;
    uint16_t *to[2];
    for (int h = 0; h < 2; h++) to[h] = p.out + (int64_t)r.to[h] * p.out_cols + (GATED ? t.weight / 2 : t.weight) + 4 * pair;
#pragma unroll
    for (int w0 = 0; w0 < WORDS; w0 += 4) {
        uint32_t v[2][4];
#pragma unroll
        for (int w = w0; w < w0 + 4; w++) {
            int j = GATED ? 2 * w : w;
            float2 a = *(const float2 *)(ws + 8 * j), b = GATED ? *(const float2 *)(ws + 8 * j + 8) : a;
            if (GATED) {
                float g[4], u[4], s[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    g[i] = gp_round(gp_value(acc[4 * j + i], i % 2 ? a.y : a.x, r.scale[i / 2]));
                    u[i] = gp_round(gp_value(acc[4 * j + 4 + i], i % 2 ? b.y : b.x, r.scale[i / 2]));
                }
                gp_silu(g, s);
                for (int h = 0; h < 2; h++) v[h][w - w0] = gp_pair(s[2 * h] * u[2 * h], s[2 * h + 1] * u[2 * h + 1]);
            } else {
                for (int h = 0; h < 2; h++) v[h][w - w0] = gp_pair(gp_value(acc[4 * j + 2 * h], a.x, r.scale[h]), gp_value(acc[4 * j + 2 * h + 1], a.y, r.scale[h]));
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint4 o = gp_transpose(v[h][0], v[h][1], v[h][2], v[h][3]);
            if (r.to[h] >= 0 && 8 * w0 + 4 * pair < columns) *(uint4 *)(to[h] + 8 * w0) = o;
        }
    }
}

/* The same where rows are weights and columns tokens. */
template <int N, bool GATED> __device__ static void gp_finish_few(const gp_args &p, const gp_rows &r, const gp_side<N> *side, const uint32_t *acc) {
    if (r.to[0] < 0) return;
    int at = GATED ? r.to[0] / 16 * 8 + threadIdx.x % 32 / 4 : r.to[0];
#pragma unroll
    for (int j = 0; j < N / 8; j += N == 8 ? 1 : 2) {
        float lo[4], hi[4], s[4];
        int row[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int of = 4 * (N == 8 ? j : j + i / 2) + i % 2, column = 8 * (of / 4) + threadIdx.x % 4 * 2 + i % 2;
            row[i] = N == 8 && i >= 2 ? -1 : side->to[column];
            lo[i] = gp_value(acc[of], r.scale[0], side->n_scale[column]);
            hi[i] = gp_value(acc[of + 2], r.scale[1], side->n_scale[column]);
            if (GATED) lo[i] = gp_round(lo[i]), hi[i] = gp_round(hi[i]);
        }
        if (GATED) gp_silu(lo, s);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint16_t *to = p.out + (int64_t)row[i] * p.out_cols + at;
            if (row[i] < 0) continue;
            *to = (uint16_t)gp_pair(GATED ? s[i] * hi[i] : lo[i], 0);
            if (!GATED && r.to[1] >= 0) to[8] = (uint16_t)gp_pair(hi[i], 0);
        }
    }
}

template <int N, bool FEW, bool GATED> __global__ static void __launch_bounds__(GP_THREADS, 1) gp_product(const __grid_constant__ CUtensorMap weights, const __grid_constant__ CUtensorMap tokens, gp_args p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    enum { STAGES = gp_stages<N>, TOKENS = FEW ? N : GP_M, WEIGHTS = FEW ? GP_M : N };
    extern __shared__ uint8_t raw[];
    gp_stage<N> *stages = (gp_stage<N> *)(((uintptr_t)raw + 1023) & ~(uintptr_t)1023);
    __shared__ uint64_t full[STAGES], empty[STAGES];
    __shared__ int before[GP_EXPERTS + 1];
    __shared__ gp_side<N> sides[2];
    int weight_tiles = (p.weight_rows + WEIGHTS - 1) / WEIGHTS, wg = threadIdx.x / 128;
    hp_begin();
    if (threadIdx.x < 32) { /* token tiles before each expert */
        int sum = 0;
        for (int e = threadIdx.x; e < (p.n_expert + 31) / 32 * 32; e += 32) {
            int n = e < p.n_expert ? (p.first[e + 1] - p.first[e] + TOKENS - 1) / TOKENS : 0, mine = n;
            for (int d = 1; d < 32; d *= 2) {
                int o = __shfl_up_sync(~0u, n, d);
                if ((int)threadIdx.x >= d) n += o;
            }
            if (e < p.n_expert) before[e] = sum + n - mine;
            sum += __shfl_sync(~0u, n, 31);
        }
        if (threadIdx.x == 0) before[p.n_expert] = sum;
    }
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            hp_barrier_init(&full[s], 1);
            hp_barrier_init(&empty[s], 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    int tiles = before[p.n_expert] * weight_tiles, at = 0;
    if (wg == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x != 256) return;
        for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
            gp_tile t = gp_find(before, p.first, p.n_expert, weight_tiles, WEIGHTS, TOKENS, id);
            int w_row = t.expert * p.weight_rows + t.weight;
            for (int l = 0; l < p.loops; l++, at++) {
                int s = at % STAGES;
                hp_wait(&empty[s], (at / STAGES & 1) ^ 1);
                hp_expect(&full[s], sizeof(gp_stage<N>));
                hp_load(stages[s].m, FEW ? &weights : &tokens, l * GP_K, FEW ? w_row : t.token, &full[s]);
                hp_load(stages[s].n, FEW ? &tokens : &weights, l * GP_K, FEW ? t.token : w_row, &full[s]);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        uint32_t acc[N / 2];
        for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
            gp_tile t = gp_find(before, p.first, p.n_expert, weight_tiles, WEIGHTS, TOKENS, id);
            gp_rows rows = gp_prepare<N, FEW>(p, t, wg, &sides[wg]);
            for (int l = 0; l < p.loops; l++, at++) {
                int s = at % STAGES;
                hp_wait(&full[s], at / STAGES & 1);
                uint64_t m = hp_operand(stages[s].m + wg * 64 * GP_K), n = hp_operand(stages[s].n);
                hp_fence();
#pragma unroll
                for (int k = 0; k < GP_K / 32; k++) hp_product<N>::run(acc, m + 2 * k, n + 2 * k, l > 0 || k > 0);
                hp_commit();
                hp_wait_products<1>();
                if (l > 0 && threadIdx.x % 128 == 0) hp_arrive(&empty[(at - 1) % STAGES]);
            }
            hp_wait_products<0>();
            if (threadIdx.x % 128 == 0) hp_arrive(&empty[(at - 1) % STAGES]);
            if (FEW) gp_finish_few<N, GATED>(p, rows, &sides[wg], acc);
            else gp_finish_many<N, GATED>(p, t, rows, &sides[wg], acc);
        }
    }
#endif
}

#endif
