/* The grouped product of a layer's experts on Hopper: int8 x int8 -> int32, e4m3 x e4m3 or bf16 x bf16 -> f32. One persistent block a multiprocessor takes
 * tiles (expert, weight rows, token rows); one thread keeps stages of shared memory filled by the copy engine, two warpgroups multiply and finish.
 * Many tokens: a tile is 128 tokens x 256 weight rows. Few: 128 weight rows, the product's long side, and up to N tokens, so that nothing is wasted; weights
 * are loaded while the kernel before still runs. */
#ifndef DSB_KERNELS_CUDA_GROUPED_CUH
#define DSB_KERNELS_CUDA_GROUPED_CUH

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/hopper.cuh"

enum { GP_THREADS = 384, GP_M = 128, GP_K = 128, GP_EXPERTS = 1024 }; /* GP_K: bytes */

struct gp_args {
    const int32_t *first;  /* (n_expert + 1) rows of each expert among the permuted tokens; or NULL, then of: */
    const int32_t *idx;    /* (slots) the expert of each */
    const float *w_scale;  /* (n_expert, weight_rows); NULL for BF16 */
    const float *x_scale;  /* (rows); NULL for BF16 */
    const int32_t *place;  /* (rows) the output's row of each, or NULL: its own */
    uint16_t *out;         /* BF16, out_cols a row */
    int n_expert, slots, weight_rows, loops; /* loops: GP_K bytes of K each */
    int out_cols;
    const uint8_t *chunks; /* of nibbles (nibbles.cuh) */
};

/* N: the short side's rows of a tile: weights, or tokens if few. */
template <int N> struct gp_stage {
    uint8_t m[GP_M * GP_K], n[N * GP_K];
};
template <int N> constexpr int gp_stages = (200 << 10) / (int)sizeof(gp_stage<N>) > 11 ? 11 : (200 << 10) / (int)sizeof(gp_stage<N>);
template <int N> constexpr size_t gp_shared = 1024 + gp_stages<N> * sizeof(gp_stage<N>);

/* The experts' rows and, of `size` each, tiles of rows: those before each expert. */
struct gp_plan {
    int first[GP_EXPERTS + 1], before[GP_EXPERTS + 1];
};
__device__ static inline void gp_make_plan(const gp_args &p, int size, gp_plan *plan) {
    if (p.idx) {
        for (int e = threadIdx.x; e < p.n_expert; e += blockDim.x) plan->first[e] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < p.slots; i += blockDim.x) atomicAdd(&plan->first[p.idx[i]], 1);
        __syncthreads();
    }
    if (threadIdx.x < 32) {
        int rows = 0, tiles = 0;
        for (int e = threadIdx.x; e < (p.n_expert + 31) / 32 * 32; e += 32) {
            int n = e >= p.n_expert ? 0 : p.idx ? plan->first[e] : p.first[e + 1] - p.first[e], t = (n + size - 1) / size, my_rows = n, my_tiles = t;
            for (int d = 1; d < 32; d *= 2) {
                int on = __shfl_up_sync(~0u, n, d), ot = __shfl_up_sync(~0u, t, d);
                if ((int)threadIdx.x >= d) n += on, t += ot;
            }
            if (e < p.n_expert) plan->first[e] = rows + n - my_rows, plan->before[e] = tiles + t - my_tiles;
            rows += __shfl_sync(~0u, n, 31);
            tiles += __shfl_sync(~0u, t, 31);
        }
        if (threadIdx.x == 0) plan->first[p.n_expert] = rows, plan->before[p.n_expert] = tiles;
    }
    __syncthreads();
}

struct gp_tile {
    int expert, weight, token; /* first weight row of the expert, first token row of all */
    int end;                   /* the expert's last token row + 1 */
};

/* Tile `id` of the list: experts ascending, in each all token tiles of a weight tile before the next. */
__device__ static inline gp_tile gp_find(const gp_plan *plan, int n_expert, int weight_tiles, int weight_size, int token_size, int id) {
    int lo = 0, hi = n_expert;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (plan->before[mid] * weight_tiles <= id) lo = mid;
        else hi = mid;
    }
    int of = plan->before[lo + 1] - plan->before[lo], at = id - plan->before[lo] * weight_tiles;
    return {lo, at / of * weight_size, plan->first[lo] + at % of * token_size, plan->first[lo + 1]};
}

__device__ static inline uint32_t gp_pair(float a, float b) { /* two BF16 values, a in the low half */
    uint32_t v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
    return v;
}
__device__ static inline float gp_round(float a) { return dsb_f32_from_bits(gp_pair(0, a) & 0xffff0000u); }

/* silu of four values rounded to BF16. EXACT: to the bits of kernels/portable; quick ones, unless one lies so near the middle of two BF16 values that the
 * difference could matter: in units of 2^-23 of the value, where |g| <= 16, ex2 errs by 2, its argument by 0.25, 1 + e by 0.5, the quotient by 2; the
 * portable exp by 1.5, its sum and quotient by 0.5 each: 7.25 in all, less than 15 places of the value's last bit. */
template <bool EXACT> __device__ static inline void gp_silu(const float g[4], float s[4]) {
    enum { NEAR = 15 };
    uint32_t near = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float e, r = fmaf(g[i], -1.44269504f, 12582912.0f), n = r - 12582912.0f; /* 2^t in two parts: t's whole part goes to the exponent */
        if (EXACT) {
            e = fmaf(g[i], -1.92596299e-8f, fmaf(g[i], -1.44269504f, -n));
            asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(e));
            e = dsb_f32_from_bits(dsb_f32_bits(e) + (dsb_f32_bits(r) << 23));
        } else {
            e = __expf(-g[i]);
        }
        s[i] = __fdividef(g[i], 1.0f + e);
        if (EXACT) near |= (uint32_t)(!(fabsf(g[i]) <= 16.0f) || (dsb_f32_bits(s[i]) + 0x8000 + NEAR & 0xffff) <= 2 * NEAR) << i;
    }
    while (EXACT && near) {
        int i = __ffs(near) - 1;
        float v = i == 0 ? g[0] : i == 1 ? g[1] : i == 2 ? g[2] : g[3], r = v / (1.0f + pm_expf(-v));
        if (i == 0) s[0] = r;
        if (i == 1) s[1] = r;
        if (i == 2) s[2] = r;
        if (i == 3) s[3] = r;
        near &= near - 1;
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

template <int KIND> __device__ static inline float gp_value(uint32_t acc, float w_scale, float x_scale) {
    return KIND == HP_I8 ? (float)(int32_t)acc * w_scale * x_scale : KIND == HP_BF16 ? dsb_f32_from_bits(acc) : KIND == HP_SUM ? dsb_f32_from_bits(acc) * x_scale : dsb_f32_from_bits(acc) * w_scale * x_scale;
}

/* What a warpgroup's threads read about a tile before its product, so that the wait lies behind it. */
template <int N> struct __align__(16) gp_side {
    float n_scale[N]; /* of the short side's rows: weights, or tokens if few */
    int to[N];        /* few: the output's row of each token, -1 past the end */
};
template <int H> struct gp_rows {
    float scale[H]; /* of the thread's rows of the long side, every eighth */
    int to[H];      /* many: the output's rows, -1 past the end */
};

/* H: rows a thread; many: rows 64 apart from the third on. */
template <int KIND, int N, bool FEW, int H> __device__ static gp_rows<H> gp_prepare(const gp_args &p, const gp_tile &t, int wg, gp_side<N> *side) {
    int lane = threadIdx.x % 32, in = (FEW ? wg * 64 : 0) + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const float *ws = p.w_scale + (int64_t)t.expert * p.weight_rows;
    gp_rows<H> r;
    asm volatile("bar.sync %0, 128;" ::"r"(1 + wg) : "memory"); /* the tile before is done with `side` */
    for (int i = threadIdx.x % 128; i < N; i += 128) {
        int token = t.token + i;
        if (FEW) {
            if (KIND != HP_BF16) side->n_scale[i] = token < t.end ? p.x_scale[token] : 0;
            side->to[i] = token < t.end ? p.place ? p.place[token] : token : -1;
        } else if (KIND != HP_BF16) {
            side->n_scale[i] = t.weight + i < p.weight_rows ? ws[t.weight + i] : 0;
        }
    }
    for (int h = 0; h < H; h++) {
        int row = (FEW ? t.weight : t.token) + in + h / 2 * 64 + h % 2 * 8;
        bool real = row < (FEW ? p.weight_rows : t.end);
        r.scale[h] = real && KIND != HP_BF16 && KIND != HP_SUM ? (FEW ? ws : p.x_scale)[row] : 0;
        r.to[h] = !real ? -1 : FEW || !p.place ? row : p.place[row];
    }
    asm volatile("bar.sync %0, 128;" ::"r"(1 + wg) : "memory");
    return r;
}

/* 64 rows x N sums, rows are tokens, columns weights; half: which of the thread's pairs of rows. GATED: weight rows alternate, 8 of gate and 8 of up. */
template <int KIND, int N, bool GATED> __device__ static void gp_finish_many(const gp_args &p, const gp_tile &t, const gp_rows<4> &r, int half, const gp_side<N> *side, const uint32_t *acc) {
    enum { WORDS = GATED ? N / 16 : N / 8 }; /* pairs of the output's columns a row: 8 columns lie with four lanes */
    int pair = threadIdx.x % 4 * 2, columns = (GATED ? p.weight_rows / 2 : p.weight_rows) - (GATED ? t.weight / 2 : t.weight);
    const float *ws = side->n_scale + pair;
    uint16_t *to[2];
    for (int h = 0; h < 2; h++) to[h] = p.out + (int64_t)r.to[2 * half + h] * p.out_cols + (GATED ? t.weight / 2 : t.weight) + 4 * pair;
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
                    g[i] = gp_round(gp_value<KIND>(acc[4 * j + i], i % 2 ? a.y : a.x, r.scale[2 * half + i / 2]));
                    u[i] = gp_round(gp_value<KIND>(acc[4 * j + 4 + i], i % 2 ? b.y : b.x, r.scale[2 * half + i / 2]));
                }
                gp_silu<KIND == HP_I8 || KIND == HP_SUM>(g, s);
                for (int h = 0; h < 2; h++) v[h][w - w0] = gp_pair(s[2 * h] * u[2 * h], s[2 * h + 1] * u[2 * h + 1]);
            } else {
                for (int h = 0; h < 2; h++) v[h][w - w0] = gp_pair(gp_value<KIND>(acc[4 * j + 2 * h], a.x, r.scale[2 * half + h]), gp_value<KIND>(acc[4 * j + 2 * h + 1], a.y, r.scale[2 * half + h]));
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint4 o = gp_transpose(v[h][0], v[h][1], v[h][2], v[h][3]);
            if (r.to[2 * half + h] >= 0 && 8 * w0 + 4 * pair < columns) *(uint4 *)(to[h] + 8 * w0) = o;
        }
    }
}

/* The same where rows are weights and columns tokens. */
template <int KIND, int N, bool GATED> __device__ static void gp_finish_few(const gp_args &p, const gp_rows<2> &r, const gp_side<N> *side, const uint32_t *acc) {
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
            lo[i] = gp_value<KIND>(acc[of], r.scale[0], side->n_scale[column]);
            hi[i] = gp_value<KIND>(acc[of + 2], r.scale[1], side->n_scale[column]);
            if (GATED) lo[i] = gp_round(lo[i]), hi[i] = gp_round(hi[i]);
        }
        if (GATED) gp_silu<KIND == HP_I8 || KIND == HP_SUM>(lo, s);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint16_t *to = p.out + (int64_t)row[i] * p.out_cols + at;
            if (row[i] < 0) continue;
            *to = (uint16_t)gp_pair(GATED ? s[i] * hi[i] : lo[i], 0);
            if (!GATED && r.to[1] >= 0) to[8] = (uint16_t)gp_pair(hi[i], 0);
        }
    }
}

/* Calls f(tile, loop, how many loads before) for this block's loads from number `from` to `to`. */
template <class F> __device__ static inline void gp_each_load(const gp_args &p, const gp_plan *plan, int weight_tiles, int token_size, int tiles, int from, int to, F f) {
    int at = 0;
    for (int id = blockIdx.x; id < tiles && at < to; id += gridDim.x, at += p.loops) {
        if (at + p.loops <= from) continue;
        gp_tile t = gp_find(plan, p.n_expert, weight_tiles, GP_M, token_size, id);
        for (int l = from > at ? from - at : 0; l < p.loops && at + l < to; l++) f(t, l, at + l);
    }
}

template <int KIND, int N, bool GATED> __global__ static void __launch_bounds__(GP_THREADS, 1) gp_few(const __grid_constant__ CUtensorMap weights, const __grid_constant__ CUtensorMap tokens, gp_args p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    enum { STAGES = gp_stages<N> };
    extern __shared__ uint8_t raw[];
    gp_stage<N> *stages = (gp_stage<N> *)(((uintptr_t)raw + 1023) & ~(uintptr_t)1023);
    __shared__ uint64_t full[STAGES], empty[STAGES];
    __shared__ gp_plan plan;
    __shared__ gp_side<N> sides[2];
    int weight_tiles = (p.weight_rows + GP_M - 1) / GP_M, wg = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            hp_barrier_init(&full[s], 1);
            hp_barrier_init(&empty[s], 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    gp_make_plan(p, N, &plan);
    int tiles = plan.before[p.n_expert] * weight_tiles, at = 0;
    if (wg == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 256) {
            auto weight = [&](const gp_tile &t, int l, int at) { hp_load(stages[at % STAGES].m, &weights, l * GP_K, t.expert * p.weight_rows + t.weight, &full[at % STAGES]); };
            auto token = [&](const gp_tile &t, int l, int at) { hp_load(stages[at % STAGES].n, &tokens, l * GP_K, t.token, &full[at % STAGES]); };
            gp_each_load(p, &plan, weight_tiles, N, tiles, 0, STAGES, [&](const gp_tile &t, int l, int at) {
                hp_expect(&full[at % STAGES], sizeof(gp_stage<N>));
                weight(t, l, at);
            });
            hp_wait_before();
            hp_let_next();
            gp_each_load(p, &plan, weight_tiles, N, tiles, 0, STAGES, token);
            gp_each_load(p, &plan, weight_tiles, N, tiles, STAGES, INT32_MAX, [&](const gp_tile &t, int l, int at) {
                hp_wait(&empty[at % STAGES], (at / STAGES & 1) ^ 1);
                hp_expect(&full[at % STAGES], sizeof(gp_stage<N>));
                weight(t, l, at);
                token(t, l, at);
            });
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        uint32_t acc[N / 2];
        hp_wait_before();
        for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
            gp_tile t = gp_find(&plan, p.n_expert, weight_tiles, GP_M, N, id);
            gp_rows<2> rows = gp_prepare<KIND, N, true, 2>(p, t, wg, &sides[wg]);
            for (int l = 0; l < p.loops; l++, at++) {
                int s = at % STAGES;
                hp_wait(&full[s], at / STAGES & 1);
                uint64_t m = hp_operand(stages[s].m + wg * 64 * GP_K), n = hp_operand(stages[s].n);
                hp_fence();
#pragma unroll
                for (int k = 0; k < GP_K / 32; k++) hp_product<KIND, N>::run(acc, m + 2 * k, n + 2 * k, l > 0 || k > 0);
                hp_commit();
                hp_wait_products<1>();
                if (l > 0 && threadIdx.x % 128 == 0) hp_arrive(&empty[(at - 1) % STAGES]);
            }
            hp_wait_products<0>();
            if (threadIdx.x % 128 == 0) hp_arrive(&empty[(at - 1) % STAGES]);
            gp_finish_few<KIND, N, GATED>(p, rows, &sides[wg], acc);
        }
    }
#endif
}

/* Both warpgroups on one tile of 128 tokens x 256 weights. */
template <int KIND, bool GATED> __global__ static void __launch_bounds__(GP_THREADS, 1) gp_many(const __grid_constant__ CUtensorMap weights, const __grid_constant__ CUtensorMap tokens, gp_args p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    enum { N = 256, STAGES = gp_stages<N>, HALF = 64 };
    extern __shared__ uint8_t raw[];
    gp_stage<N> *stages = (gp_stage<N> *)(((uintptr_t)raw + 1023) & ~(uintptr_t)1023);
    __shared__ uint64_t full[STAGES], empty[STAGES];
    __shared__ gp_plan plan;
    __shared__ gp_side<N> sides[2];
    int weight_tiles = (p.weight_rows + N - 1) / N, wg = threadIdx.x / 128;
    hp_begin();
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            hp_barrier_init(&full[s], 1);
            hp_barrier_init(&empty[s], 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    gp_make_plan(p, GP_M, &plan);
    int tiles = plan.before[p.n_expert] * weight_tiles, at = 0;
    if (wg == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 256)
            for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
                gp_tile t = gp_find(&plan, p.n_expert, weight_tiles, N, GP_M, id);
                int w_row = t.expert * p.weight_rows + t.weight;
                for (int l = 0; l < p.loops; l++, at++) {
                    int s = at % STAGES;
                    hp_wait(&empty[s], (at / STAGES & 1) ^ 1);
                    hp_expect(&full[s], sizeof(gp_stage<N>));
                    for (int h = 0; h < 2; h++) hp_load(stages[s].m + h * HALF * GP_K, &tokens, l * GP_K, t.token + h * HALF, &full[s]);
                    for (int h = 0; h < 2; h++) hp_load(stages[s].n + h * GP_M * GP_K, &weights, l * GP_K, w_row + h * GP_M, &full[s]);
                }
            }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        uint32_t acc[N / 2];
        for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
            gp_tile t = gp_find(&plan, p.n_expert, weight_tiles, N, GP_M, id);
            gp_rows<4> rows = gp_prepare<KIND, N, false, 4>(p, t, wg, &sides[wg]);
            for (int l = 0; l < p.loops; l++, at++) {
                int s = at % STAGES;
                hp_wait(&full[s], at / STAGES & 1);
                uint64_t m = hp_operand(stages[s].m + wg * 64 * GP_K), n = hp_operand(stages[s].n);
                hp_fence();
#pragma unroll
                for (int k = 0; k < GP_K / 32; k++) hp_product<KIND, N>::run(acc, m + 2 * k, n + 2 * k, l > 0 || k > 0);
                hp_commit();
                hp_wait_products<1>();
                if (l > 0 && threadIdx.x % 128 == 0) hp_arrive(&empty[(at - 1) % STAGES]);
            }
            hp_wait_products<0>();
            if (threadIdx.x % 128 == 0) hp_arrive(&empty[(at - 1) % STAGES]);
            if (wg == 0) gp_finish_many<KIND, N, GATED>(p, t, rows, 0, &sides[0], acc);
            else gp_finish_many<KIND, N, GATED>(p, t, rows, 1, &sides[1], acc);
        }
    }
#endif
}

#endif
