#include "kernels/cuda/nibbles.cuh"

/* ---- packing ---- */

template <int KIND> struct nb_reader {
    nb_source gate, up;
    int group;
    __device__ const nb_source &of(int64_t row, int64_t *at) const {
        *at = up.data ? row / 16 * 8 + row % 8 : row;
        return up.data && row % 16 >= 8 ? up : gate;
    }
    __device__ uint32_t code(int64_t row, int64_t k) const {
        int64_t r;
        const nb_source &s = of(row, &r);
        if (KIND == NB_INT4_INT8) return (uint32_t)((s.data[(r * s.stride + k / 32 * 32) / 2 + k % 16] >> k % 32 / 16 * 4 & 15) - 8) & 15;
        const uint8_t *b = s.data + r * s.stride + k / group * s.block + (KIND == NB_INT4 ? 8 : 1);
        return b[k % group / 2] >> k % 2 * 4 & 15;
    }
    __device__ float scale(int64_t row, int64_t g) const {
        int64_t r;
        const nb_source &s = of(row, &r);
        if (KIND == NB_INT4_INT8) return s.scales[g * s.padded_rows + r] * 0.0625f; /* codes are multiplied as the upper half of a byte */
        const uint8_t *b = s.data + r * s.stride + g * s.block;
        if (KIND == NB_E2M1) return b[0] == 255 ? NAN : dsb_f32_from_bits(b[0] ? (uint32_t)b[0] << 23 : 0x00400000u);
        return dsb_f32_from_bits(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
    }
    __device__ float zero(int64_t row, int64_t g) const {
        int64_t r;
        const nb_source &s = of(row, &r);
        const uint8_t *b = s.data + r * s.stride + g * s.block + 4;
        return dsb_f32_from_bits(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
    }
};

/* A block a chunk. */
template <int KIND> __global__ static void pack_chunks(nb_reader<KIND> w, int64_t loops, int chunk, uint8_t *out, int *bad) {
    int64_t tile = blockIdx.x / loops, l = blockIdx.x % loops;
    uint8_t *to = out + blockIdx.x * (int64_t)chunk;
    int groups = NB_K / w.group;
    for (int i = threadIdx.x; i < NB_CODES / 4; i += blockDim.x) {
        int q = i % 4, t = i / 4 % 128, half = i / 512 % 2, wg = i / 1024, lane = t % 32;
        int64_t row = tile * GP_M + wg * 64 + t / 32 * 16 + lane / 4, k = l * NB_K;
        uint32_t v = 0;
        if (KIND == NB_INT4_INT8) {
            k += (half * 2 + q / 2) * 32 + q % 2 * 16 + lane % 4 * 4;
            for (int b = 0; b < 4; b++) v |= (w.code(row, k + b) | w.code(row + 8, k + b) << 4) << 8 * b;
        } else {
            k += (half * 4 + q) * 16 + lane % 4 * 2;
            for (int p = 0; p < 4; p++)
                for (int e = 0; e < 2; e++) v |= w.code(row + p % 2 * 8, k + p / 2 * 8 + e) << (4 * p + 16 * e);
        }
        ((uint32_t *)to)[i] = v;
    }
    for (int i = threadIdx.x; i < groups * GP_M; i += blockDim.x) {
        int64_t row = tile * GP_M + i % GP_M, g = l * groups + i / GP_M;
        ((float *)(to + NB_CODES))[i] = w.scale(row, g);
        if (KIND == NB_INT4) {
            float z = 136.0f + w.zero(row, g);
            if (!(z == rintf(z) && fabsf(z) <= 256.0f)) *bad = 1;
            ((uint16_t *)(to + NB_CODES + groups * GP_M * 4))[i] = dsb_f32_to_bf16(z);
        }
    }
}

void cu_nibbles_pack(nb_kind kind, int group, nb_source gate, nb_source up, int64_t rows, int64_t cols, uint8_t *chunks, int *bad) {
    int64_t blocks = rows / GP_M * (cols / NB_K);
    int chunk = nb_chunk(kind, group);
    if (kind == NB_INT4) pack_chunks<NB_INT4><<<(unsigned)blocks, 256, 0, cu_stream>>>({gate, up, group}, cols / NB_K, chunk, chunks, bad);
    if (kind == NB_E2M1) pack_chunks<NB_E2M1><<<(unsigned)blocks, 256, 0, cu_stream>>>({gate, up, group}, cols / NB_K, chunk, chunks, bad);
    if (kind == NB_INT4_INT8) pack_chunks<NB_INT4_INT8><<<(unsigned)blocks, 256, 0, cu_stream>>>({gate, up, group}, cols / NB_K, chunk, chunks, bad);
    CU_LAUNCHED("pack_chunks");
}

/* ---- the product ---- */

/* A word's nibbles as A's registers. INT4: 128 + nibble as BF16, less 136 + zero point. E2M1: its bits as BF16's lowest, times 2^126. In both rows lane / 4
 * and + 8 alternate. INT8 inputs: the upper halves of bytes, of two registers. */
template <int KIND> __device__ static inline void nb_widen(uint32_t w, uint32_t zero0, uint32_t zero1, uint32_t *a) {
    if constexpr (KIND == NB_INT4_INT8) {
        a[0] = w << 4 & 0xf0f0f0f0u, a[1] = w & 0xf0f0f0f0u;
    } else {
#pragma unroll
        for (int p = 0; p < 4; p++) {
            uint32_t v = w >> 4 * p;
            if (KIND == NB_INT4) asm("sub.bf16x2 %0, %1, %2;" : "=r"(a[p]) : "r"((v & 0x000f000fu) | 0x43004300u), "r"(p % 2 ? zero1 : zero0));
            else asm("mul.bf16x2 %0, %1, %2;" : "=r"(a[p]) : "r"((v & 0x00080008u) << 12 | (v & 0x00070007u) << 6), "r"(0x7e807e80u));
        }
    }
}

template <int KIND> constexpr int nb_boxes = KIND == NB_INT4_INT8 ? 1 : 2; /* of tokens, 128 bytes wide, a chunk */
template <int KIND, int G> constexpr int nb_weights = (NB_CODES + NB_K / G * GP_M * (KIND == NB_INT4 ? 6 : 4) + 1023) / 1024 * 1024;
template <int N> constexpr int nb_blocks = N <= 32 ? 2 : 1; /* a multiprocessor */
template <int KIND, int G, int N> struct nb_stage {
    uint8_t n[nb_boxes<KIND> * N * GP_K], w[nb_weights<KIND, G>];
};
template <int KIND, int G, int N> constexpr int nb_stages = (200 << 10) / nb_blocks<N> / (int)sizeof(nb_stage<KIND, G, N>) > 8 ? 8 : (200 << 10) / nb_blocks<N> / (int)sizeof(nb_stage<KIND, G, N>);
template <int KIND, int G, int N> constexpr size_t nb_shared = 1024 + nb_stages<KIND, G, N> * sizeof(nb_stage<KIND, G, N>);

template <int KIND, int G, int N, bool GATED> __global__ static void __launch_bounds__(GP_THREADS, nb_blocks<N>) nb_product(const __grid_constant__ CUtensorMap tokens, gp_args p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    enum { STAGES = nb_stages<KIND, G, N>, GROUPS = NB_K / G, WORDS = 8 / GROUPS, STEPS = KIND == NB_INT4_INT8 ? WORDS / 2 : WORDS }; /* a group: words a thread, products */
    enum { BYTES = NB_CODES + GROUPS * GP_M * (KIND == NB_INT4 ? 6 : 4), A = KIND == NB_INT4_INT8 ? HP_I8 : HP_BF16, FINISH = KIND == NB_INT4_INT8 ? HP_SUM : HP_BF16 };
    extern __shared__ uint8_t raw[];
    nb_stage<KIND, G, N> *stages = (nb_stage<KIND, G, N> *)(((uintptr_t)raw + 1023) & ~(uintptr_t)1023);
    __shared__ uint64_t full[STAGES], empty[STAGES];
    __shared__ gp_plan plan;
    __shared__ gp_side<N> sides[2];
    int weight_tiles = p.weight_rows / GP_M, wg = threadIdx.x / 128;
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
        if (nb_blocks<N> == 1) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        else asm volatile("setmaxnreg.dec.sync.aligned.u32 32;");
        if (threadIdx.x != 256) return;
        auto weight = [&](const gp_tile &t, int l, int at) {
            int64_t tile = (int64_t)t.expert * weight_tiles + t.weight / GP_M;
            hp_load_bytes(stages[at % STAGES].w, p.chunks + (tile * p.loops + l) * BYTES, BYTES, &full[at % STAGES]);
        };
        auto token = [&](const gp_tile &t, int l, int at) {
            for (int b = 0; b < nb_boxes<KIND>; b++) hp_load(stages[at % STAGES].n + b * N * GP_K, &tokens, (l * nb_boxes<KIND> + b) * GP_K, t.token, &full[at % STAGES]);
        };
        gp_each_load(p, &plan, weight_tiles, N, tiles, 0, STAGES, [&](const gp_tile &t, int l, int at) {
            hp_expect(&full[at % STAGES], BYTES + sizeof stages->n);
            weight(t, l, at);
        });
        hp_wait_before();
        hp_let_next();
        gp_each_load(p, &plan, weight_tiles, N, tiles, 0, STAGES, token);
        gp_each_load(p, &plan, weight_tiles, N, tiles, STAGES, INT32_MAX, [&](const gp_tile &t, int l, int at) {
            hp_wait(&empty[at % STAGES], (at / STAGES & 1) ^ 1);
            hp_expect(&full[at % STAGES], BYTES + sizeof stages->n);
            weight(t, l, at);
            token(t, l, at);
        });
    } else {
        if (nb_blocks<N> == 1) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        else asm volatile("setmaxnreg.inc.sync.aligned.u32 104;");
        int thread = threadIdx.x % 128, row = wg * 64 + thread / 32 * 16 + thread % 32 / 4;
        uint32_t acc[N / 2], out[N / 2];
        hp_wait_before();
        for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
            gp_tile t = gp_find(&plan, p.n_expert, weight_tiles, GP_M, N, id);
            gp_rows<2> rows = gp_prepare<FINISH, N, true, 2>(p, t, wg, &sides[wg]);
#pragma unroll
            for (int i = 0; i < N / 2; i++) out[i] = 0;
            for (int l = 0; l < p.loops; l++, at++) {
                int s = at % STAGES;
                hp_wait(&full[s], at / STAGES & 1);
                const uint8_t *w = stages[s].w;
                const float *scale = (const float *)(w + NB_CODES) + row;
                const uint16_t *zero = (const uint16_t *)(w + NB_CODES + GROUPS * GP_M * 4) + row;
                const uint4 *codes = (const uint4 *)w + wg * 256 + thread;
                uint4 lo = codes[0], hi = codes[128];
                uint32_t word[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    uint32_t a[STEPS][4], z0 = KIND == NB_INT4 ? zero[g * GP_M] * 0x10001u : 0, z1 = KIND == NB_INT4 ? zero[g * GP_M + 8] * 0x10001u : 0;
                    float s0 = scale[g * GP_M], s1 = scale[g * GP_M + 8];
#pragma unroll
                    for (int i = 0; i < WORDS; i++) nb_widen<KIND>(word[g * WORDS + i], z0, z1, KIND == NB_INT4_INT8 ? &a[i / 2][i % 2 * 2] : a[i]);
                    hp_fence();
#pragma unroll
                    for (int i = 0; i < STEPS; i++) {
                        int k = g * STEPS + i; /* 32 bytes of tokens each */
                        hp_product_of<A, N>::run(acc, a[i], hp_operand(stages[s].n + k / 4 * N * GP_K) + k % 4 * 2, i > 0);
                    }
                    hp_commit();
                    hp_wait_products<0>();
#pragma unroll
                    for (int i = 0; i < N / 2; i++) {
                        float v = KIND == NB_INT4_INT8 ? (float)(int32_t)acc[i] : dsb_f32_from_bits(acc[i]);
                        out[i] = dsb_f32_bits(fmaf(v, i % 4 < 2 ? s0 : s1, dsb_f32_from_bits(out[i])));
                    }
                }
                if (threadIdx.x % 128 == 0) hp_arrive(&empty[s]);
            }
            gp_finish_few<FINISH, N, GATED>(p, rows, &sides[wg], out);
        }
    }
#endif
}

template <int KIND, int G, int N, bool GATED> static void product_of(const CUtensorMap &tokens, const gp_args &p) {
    CU_SHARED_ONCE((nb_product<KIND, G, N, GATED>), (nb_shared<KIND, G, N>));
    cu_launch(N < 128, "nb_product", nb_product<KIND, G, N, GATED>, cu_processors * nb_blocks<N>, GP_THREADS, nb_shared<KIND, G, N>, tokens, p);
}
template <int KIND, int G, bool GATED> static void product_by(int n, const CUtensorMap &tokens, const gp_args &p) {
    if (n == 8) product_of<KIND, G, 8, GATED>(tokens, p);
    if (n == 32) product_of<KIND, G, 32, GATED>(tokens, p);
    if (n == 64) product_of<KIND, G, 64, GATED>(tokens, p);
    if (n == 128) product_of<KIND, G, 128, GATED>(tokens, p);
}
template <int KIND, int G> static void product(int n, bool gated, const CUtensorMap &tokens, const gp_args &p) {
    if (gated) product_by<KIND, G, true>(n, tokens, p);
    else product_by<KIND, G, false>(n, tokens, p);
}

void cu_nibbles_product(nb_kind kind, int group, int n, bool gated, const CUtensorMap &tokens, const gp_args &p) {
    if (kind == NB_INT4 && group == 32) product<NB_INT4, 32>(n, gated, tokens, p);
    if (kind == NB_INT4 && group == 128) product<NB_INT4, 128>(n, gated, tokens, p);
    if (kind == NB_INT4_INT8 && group == 32) product<NB_INT4_INT8, 32>(n, gated, tokens, p);
    if (kind == NB_INT4_INT8 && group == 128) product<NB_INT4_INT8, 128>(n, gated, tokens, p);
    if (kind == NB_E2M1) product<NB_E2M1, 32>(n, gated, tokens, p);
}
