/* Hopper's copy engine, barriers and warpgroup products in the few forms that grouped.cuh uses. Operands of a product lie in shared memory in
 * rows of 128 bytes with the 128-byte swizzle that the copy engine writes; both are K-major. Source: PTX ISA, "wgmma", "cp.async.bulk.tensor". */
#ifndef DSB_KERNELS_CUDA_HOPPER_CUH
#define DSB_KERNELS_CUDA_HOPPER_CUH

#include <cuda.h>
#include <stdint.h>

/* For kernels launched while the one before still runs (moe.cu's launch): the next may begin; wait for what came before. In this order a kernel's
 * next one, before its own wait, sees all that came before this one. */
__device__ static inline void hp_let_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ static inline void hp_wait_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ static inline void hp_begin() { hp_wait_before(), hp_let_next(); }

__device__ static inline uint32_t hp_shared(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ static inline void hp_barrier_init(uint64_t *bar, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(hp_shared(bar)), "r"(count)); }
__device__ static inline void hp_arrive(uint64_t *bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(hp_shared(bar)) : "memory"); }
__device__ static inline void hp_expect(uint64_t *bar, uint32_t bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(hp_shared(bar)), "r"(bytes) : "memory"); }
__device__ static inline void hp_wait(uint64_t *bar, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra out;\nbra again;\nout:\n}" ::"r"(hp_shared(bar)), "r"(parity) : "memory");
}
/* A box of the map at (column, row), announced at bar. */
__device__ static inline void hp_load(void *to, const CUtensorMap *map, int column, int row, uint64_t *bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(hp_shared(to)), "l"(map), "r"(column), "r"(row), "r"(hp_shared(bar)) : "memory");
}

/* Bytes side by side. */
__device__ static inline void hp_load_bytes(void *to, const void *from, uint32_t bytes, uint64_t *bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(hp_shared(to)), "l"(from), "r"(bytes), "r"(hp_shared(bar)) : "memory");
}

__device__ static inline uint64_t hp_operand(const void *p) { return (uint64_t)((hp_shared(p) & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)64 << 32 | (uint64_t)1 << 62; }
__device__ static inline void hp_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ static inline void hp_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ static inline void hp_wait_products() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

/* acc (64 x N, N/2 values a thread; f32 as bits) = or += A (64 rows) · B (N rows)ᵀ over 32 bytes of K. */
enum hp_kind { HP_I8, HP_E4M3, HP_BF16, HP_SUM }; /* SUM: of finished sums, only their inputs' scales are left */
template <int KIND, int N> struct hp_product;
#define HP_S4(a, b, c, d) "%" #a ",%" #b ",%" #c ",%" #d
#define HP_R4(i) "+r"(acc[i]), "+r"(acc[(i) + 1]), "+r"(acc[(i) + 2]), "+r"(acc[(i) + 3])
#define HP_R16(i) HP_R4(i), HP_R4((i) + 4), HP_R4((i) + 8), HP_R4((i) + 12)
#define HP_T16_0 HP_S4(0, 1, 2, 3) "," HP_S4(4, 5, 6, 7) "," HP_S4(8, 9, 10, 11) "," HP_S4(12, 13, 14, 15)
#define HP_T16_1 HP_S4(16, 17, 18, 19) "," HP_S4(20, 21, 22, 23) "," HP_S4(24, 25, 26, 27) "," HP_S4(28, 29, 30, 31)
#define HP_T16_2 HP_S4(32, 33, 34, 35) "," HP_S4(36, 37, 38, 39) "," HP_S4(40, 41, 42, 43) "," HP_S4(44, 45, 46, 47)
#define HP_T16_3 HP_S4(48, 49, 50, 51) "," HP_S4(52, 53, 54, 55) "," HP_S4(56, 57, 58, 59) "," HP_S4(60, 61, 62, 63)
#define HP_T16_4 HP_S4(64, 65, 66, 67) "," HP_S4(68, 69, 70, 71) "," HP_S4(72, 73, 74, 75) "," HP_S4(76, 77, 78, 79)
#define HP_T16_5 HP_S4(80, 81, 82, 83) "," HP_S4(84, 85, 86, 87) "," HP_S4(88, 89, 90, 91) "," HP_S4(92, 93, 94, 95)
#define HP_T16_6 HP_S4(96, 97, 98, 99) "," HP_S4(100, 101, 102, 103) "," HP_S4(104, 105, 106, 107) "," HP_S4(108, 109, 110, 111)
#define HP_T16_7 HP_S4(112, 113, 114, 115) "," HP_S4(116, 117, 118, 119) "," HP_S4(120, 121, 122, 123) "," HP_S4(124, 125, 126, 127)
#define HP_OF(kind, n, what, tail, list, a, b, p, ...)                                                                                    \
    template <> struct hp_product<kind, n> {                                                                                              \
        __device__ static void run(uint32_t *acc, uint64_t x, uint64_t y, int add) {                                                      \
            asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #p ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n what " {" list "}, %" #a ", %" #b ", add" tail ";\n}" \
                         : __VA_ARGS__                                                                                                    \
                         : "l"(x), "l"(y), "r"(add));                                                                                     \
        }                                                                                                                                 \
    };
#define HP_PRODUCT(n, list, a, b, p, ...)                                                          \
    HP_OF(HP_I8, n, "k32.s32.s8.s8", "", list, a, b, p, __VA_ARGS__)                               \
    HP_OF(HP_E4M3, n, "k32.f32.e4m3.e4m3", ", 1, 1", list, a, b, p, __VA_ARGS__)                   \
    HP_OF(HP_BF16, n, "k16.f32.bf16.bf16", ", 1, 1, 0, 0", list, a, b, p, __VA_ARGS__)
HP_PRODUCT(8, HP_S4(0, 1, 2, 3), 4, 5, 6, HP_R4(0))
HP_PRODUCT(16, HP_S4(0, 1, 2, 3) "," HP_S4(4, 5, 6, 7), 8, 9, 10, HP_R4(0), HP_R4(4))
HP_PRODUCT(32, HP_T16_0, 16, 17, 18, HP_R16(0))
HP_PRODUCT(64, HP_T16_0 "," HP_T16_1, 32, 33, 34, HP_R16(0), HP_R16(16))
HP_PRODUCT(128, HP_T16_0 "," HP_T16_1 "," HP_T16_2 "," HP_T16_3, 64, 65, 66, HP_R16(0), HP_R16(16), HP_R16(32), HP_R16(48))
HP_PRODUCT(160, HP_T16_0 "," HP_T16_1 "," HP_T16_2 "," HP_T16_3 "," HP_T16_4, 80, 81, 82, HP_R16(0), HP_R16(16), HP_R16(32), HP_R16(48), HP_R16(64))
HP_PRODUCT(256, HP_T16_0 "," HP_T16_1 "," HP_T16_2 "," HP_T16_3 "," HP_T16_4 "," HP_T16_5 "," HP_T16_6 "," HP_T16_7, 128, 129, 130, HP_R16(0), HP_R16(16), HP_R16(32), HP_R16(48), HP_R16(64), HP_R16(80), HP_R16(96), HP_R16(112))

/* The same with A in registers, 4 words a thread: rows lane / 4 and + 8 of the warp's 16, K's bytes 4·(lane % 4) and + 16. */
template <int KIND, int N> struct hp_product_of;
#define HP_OF_REGISTERS(kind, n, what, tail, list, a0, a1, a2, a3, b, p, ...)                                                             \
    template <> struct hp_product_of<kind, n> {                                                                                           \
        __device__ static void run(uint32_t *acc, const uint32_t *x, uint64_t y, int add) {                                               \
            asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #p ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n what " {" list "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", add" tail ";\n}" \
                         : __VA_ARGS__                                                                                                    \
                         : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "l"(y), "r"(add));                                                 \
        }                                                                                                                                 \
    };
#define HP_PRODUCT_OF(n, list, a0, a1, a2, a3, b, p, ...)                                              \
    HP_OF_REGISTERS(HP_I8, n, "k32.s32.s8.s8", "", list, a0, a1, a2, a3, b, p, __VA_ARGS__)            \
    HP_OF_REGISTERS(HP_BF16, n, "k16.f32.bf16.bf16", ", 1, 1, 0", list, a0, a1, a2, a3, b, p, __VA_ARGS__)
HP_PRODUCT_OF(8, HP_S4(0, 1, 2, 3), 4, 5, 6, 7, 8, 9, HP_R4(0))
HP_PRODUCT_OF(32, HP_T16_0, 16, 17, 18, 19, 20, 21, HP_R16(0))
HP_PRODUCT_OF(64, HP_T16_0 "," HP_T16_1, 32, 33, 34, 35, 36, 37, HP_R16(0), HP_R16(16))
HP_PRODUCT_OF(128, HP_T16_0 "," HP_T16_1 "," HP_T16_2 "," HP_T16_3, 64, 65, 66, 67, 68, 69, HP_R16(0), HP_R16(16), HP_R16(32), HP_R16(48))

#endif
