/* What the GPU does at most, measured: plain reads and a triad of its memory, multiply-adds over registers, tensor cores over operands that are there.
 * And its clock (events), and its sensors: NVML, opened at run time. Operands are not zeros: those take less power, and clocks would be higher than any product's. */
#include <dlfcn.h>
#include <stdio.h>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/hopper.cuh"

extern "C" {
#include "kernels/roofline.h"
}

/* ---- the clock ---- */

static cudaEvent_t mark[2];

static void clock_begin(void) {
    for (int i = 0; i < 2; i++)
        if (!mark[i]) CU(cudaEventCreate(&mark[i]));
    CU(cudaEventRecord(mark[0], cu_stream));
}
static double clock_end(void) {
    float ms = 0;
    if (CU(cudaEventRecord(mark[1], cu_stream)) && CU(cudaEventSynchronize(mark[1]))) CU(cudaEventElapsedTime(&ms, mark[0], mark[1]));
    return 1e-3 * (double)ms;
}

/* ---- memory ---- */

enum { T = 256 };

__global__ static void fill(uint32_t *p, int64_t n) {
    CU_EACH(i, n) p[i] = (uint32_t)i * 2654435761u;
}

/* Every byte once, four loads of 16 on their way a thread; nothing is stored. */
__global__ static void __launch_bounds__(T) read_all(const uint4 *p, int64_t n, uint32_t *never) {
    int64_t step = (int64_t)gridDim.x * T, i = blockIdx.x * (int64_t)T + threadIdx.x;
    uint32_t all = 0;
    for (; i + 3 * step < n; i += 4 * step) {
        uint4 v[4];
        for (int j = 0; j < 4; j++) v[j] = __ldcs(p + i + j * step);
        for (int j = 0; j < 4; j++) all ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    for (; i < n; i += step) all ^= p[i].x;
    if (all == 0x12345678u && n < 0) *never = all;
}

__global__ static void __launch_bounds__(T) triad(float4 *a, const float4 *b, const float4 *c, int64_t n) {
    CU_EACH(i, n) {
        float4 x = b[i], y = c[i];
        a[i] = make_float4(x.x + 3.0f * y.x, x.y + 3.0f * y.y, x.z + 3.0f * y.z, x.w + 3.0f * y.w);
    }
}

/* ---- arithmetic ---- */

enum { CHAINS = 16 };

__global__ static void __launch_bounds__(T) fma_loop(int turns, float *out) {
    float a[CHAINS], x = 0.999f + 1e-6f * (float)threadIdx.x, y = 1e-3f;
    for (int i = 0; i < CHAINS; i++) a[i] = (float)i;
    for (int t = 0; t < turns; t++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++) a[i] = fmaf(a[i], x, y);
    for (int i = 1; i < CHAINS; i++) a[0] += a[i];
    if (turns < 0) *out = a[0];
}

enum { MMA_BF16, MMA_FP8, MMA_INT8 };

/* Products of a warp: eight sums of 16 x 8. */
template <int WHAT> __global__ static void __launch_bounds__(T) mma_loop(int turns, float *out) {
    enum { SUMS = 8 };
    uint32_t a[4], b[2], c[SUMS][4] = {}, mask = WHAT == MMA_BF16 ? 0x3fbf3fbfu : WHAT == MMA_FP8 ? 0xbfbfbfbfu : ~0u;
    for (int i = 0; i < 4; i++) a[i] = (threadIdx.x * 2654435761u + i * 2246822519u) & mask;
    for (int i = 0; i < 2; i++) b[i] = (threadIdx.x * 3266489917u + i * 668265263u) & mask;
    for (int t = 0; t < turns; t++)
#pragma unroll
        for (int s = 0; s < SUMS; s++) {
            if (WHAT == MMA_BF16) {
                asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+r"(c[s][0]), "+r"(c[s][1]), "+r"(c[s][2]), "+r"(c[s][3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
            } else if (WHAT == MMA_INT8) {
                asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+r"(c[s][0]), "+r"(c[s][1]), "+r"(c[s][2]), "+r"(c[s][3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
            } else {
#if __CUDA_ARCH__ >= 890
                asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+r"(c[s][0]), "+r"(c[s][1]), "+r"(c[s][2]), "+r"(c[s][3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
            }
        }
    uint32_t sum = 0;
    for (int s = 0; s < SUMS; s++) sum ^= c[s][0] ^ c[s][1] ^ c[s][2] ^ c[s][3];
    if (turns < 0) *out = (float)sum;
}

/* Hopper: 64 x 256 a warpgroup over 128 bytes of K a turn, both operands in shared memory. */
#define WGMMA_ALL                                                                                                                                                    \
    "{" HP_T16_0 "," HP_T16_1 "," HP_T16_2 "," HP_T16_3 "," HP_T16_4 "," HP_T16_5 "," HP_T16_6 "," HP_T16_7 "}, %128, %129, "
#define WGMMA(shape, tail) \
    asm volatile("wgmma.mma_async.sync.aligned.m64n256" shape " " WGMMA_ALL tail ";" : HP_R16(0), HP_R16(16), HP_R16(32), HP_R16(48), HP_R16(64), HP_R16(80), HP_R16(96), HP_R16(112) : "l"(x), "l"(y))

template <int WHAT> __global__ static void __launch_bounds__(T) wgmma_loop(int turns, float *out) {
#if __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(1024) uint8_t shared[];
    uint8_t *rows = (uint8_t *)(((uintptr_t)shared + 1023) & ~(uintptr_t)1023);
    uint32_t mask = WHAT == MMA_BF16 ? 0x3fbf3fbfu : WHAT == MMA_FP8 ? 0xbfbfbfbfu : ~0u, acc[128] = {};
    for (int i = threadIdx.x; i < (128 + 256) * 32; i += T) ((uint32_t *)rows)[i] = ((uint32_t)i * 2654435761u ^ (uint32_t)i << 7) & mask;
    __syncthreads();
    asm volatile("fence.proxy.async;" ::: "memory");
    uint64_t left = hp_operand(rows + threadIdx.x / 128 * 64 * 128), right = hp_operand(rows + 128 * 128);
    for (int t = 0; t < turns; t++) {
        hp_fence();
#pragma unroll
        for (int k = 0; k < 4; k++) { /* 32 bytes each */
            uint64_t x = left + 2 * k, y = right + 2 * k;
            if (WHAT == MMA_BF16) WGMMA("k16.f32.bf16.bf16", "1, 1, 1, 0, 0");
            else if (WHAT == MMA_FP8) WGMMA("k32.f32.e4m3.e4m3", "1, 1, 1");
            else WGMMA("k32.s32.s8.s8", "1");
        }
        hp_commit();
        hp_wait_products<0>();
    }
    uint32_t sum = 0;
    for (int i = 0; i < 128; i++) sum ^= acc[i];
    if (turns < 0) *out = (float)sum;
#endif
}

/* The best of some rounds of `work` operations or bytes, in 10⁹ a second. */
template <class F> static double best(double work, F launch) {
    enum { ROUNDS = 8 };
    double most = NAN;
    for (int i = -1; i < ROUNDS; i++) {
        clock_begin();
        launch();
        if (!CU_LAUNCHED("ceilings")) return NAN;
        double rate = 1e-9 * work / clock_end();
        if (i >= 0 && !(most >= rate)) most = rate;
    }
    return most;
}

template <int WHAT> static double tensor_peak(float *out) {
    enum { SHARED = (128 + 256) * 128 + 1024 };
    int turns = 4096, blocks = cu_processors;
    double k = WHAT == MMA_BF16 ? 16 : 32;
    if (cu_capability == 90) {
        CU_SHARED_ONCE(wgmma_loop<WHAT>, SHARED);
        return best(2.0 * 64 * 256 * 4 * k * 2 * turns * blocks, [&] { wgmma_loop<WHAT><<<blocks, T, SHARED, cu_stream>>>(turns, out); });
    }
    if (WHAT == MMA_FP8 && cu_capability < 89) return NAN;
    blocks *= 4;
    return best(2.0 * 16 * 8 * 8 * k * ((int)T / 32) * turns * blocks, [&] { mma_loop<WHAT><<<blocks, T, 0, cu_stream>>>(turns, out); });
}

static void ceilings(dsb_roofline *out) {
    size_t have = 0, all = 0;
    *out = {NAN, NAN, NAN, NAN, NAN, NAN};
    if (!CU(cudaMemGetInfo(&have, &all))) return;
    size_t bytes = (have / 4 < (size_t)3 << 30 ? have / 4 : (size_t)3 << 30) / (48 << 10) * (48 << 10);
    char *buffer = (char *)cu_take(bytes);
    int64_t n = (int64_t)(bytes / 16), third = n / 3;
    int blocks = cu_processors * 8, turns = 1 << 14;
    if (!buffer || n == 0) return cu_drop(buffer);
    fill<<<cu_grid((int64_t)(bytes / 4), T), T, 0, cu_stream>>>((uint32_t *)buffer, (int64_t)(bytes / 4));
    CU_LAUNCHED("ceilings");
    float *never = (float *)buffer;
    out->read_gbps = best((double)bytes, [&] { read_all<<<blocks, T, 0, cu_stream>>>((const uint4 *)buffer, n, (uint32_t *)buffer); });
    out->triad_gbps = best(48.0 * (double)third, [&] { triad<<<cu_grid(third, T), T, 0, cu_stream>>>((float4 *)buffer, (const float4 *)buffer + third, (const float4 *)buffer + 2 * third, third); });
    out->f32_gflops = best(2.0 * (int)CHAINS * (int)T * turns * blocks, [&] { fma_loop<<<blocks, T, 0, cu_stream>>>(turns, never); });
    out->bf16_gflops = tensor_peak<MMA_BF16>(never);
    out->fp8_gflops = tensor_peak<MMA_FP8>(never);
    out->int8_gops = tensor_peak<MMA_INT8>(never);
    cu_drop(buffer);
}

/* ---- sensors ---- */

/* Of NVML what is used here; its library comes with the driver. Source: NVIDIA's NVML reference, "Device Queries". */
enum { NVML_CLOCK_SM = 1, NVML_TEMPERATURE_GPU = 0 };
static struct {
    void *device;
    int (*clock)(void *device, int type, unsigned *mhz);
    int (*power)(void *device, unsigned *mw);
    int (*temperature)(void *device, int sensor, unsigned *celsius);
    int (*energy)(void *device, unsigned long long *mj);
    char note[sizeof(dsb_device_facts::note)];
} nvml;

static void open_sensors(void) {
    static bool tried;
    int device = 0;
    char bus[32];
    int (*init)(void), (*find)(const char *bus, void **device);
    if (tried) return;
    tried = true;
    void *lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL); /* stays open */
    if (!lib) {
        snprintf(nvml.note, sizeof nvml.note, "clock, power, temperature and energy are not known: libnvidia-ml.so.1 is not there");
        return;
    }
    *(void **)&init = dlsym(lib, "nvmlInit_v2");
    *(void **)&find = dlsym(lib, "nvmlDeviceGetHandleByPciBusId_v2");
    *(void **)&nvml.clock = dlsym(lib, "nvmlDeviceGetClockInfo");
    *(void **)&nvml.power = dlsym(lib, "nvmlDeviceGetPowerUsage");
    *(void **)&nvml.temperature = dlsym(lib, "nvmlDeviceGetTemperature");
    *(void **)&nvml.energy = dlsym(lib, "nvmlDeviceGetTotalEnergyConsumption");
    bool ok = init && find && CU(cudaGetDevice(&device)) && CU(cudaDeviceGetPCIBusId(bus, sizeof bus, device)) && init() == 0 && find(bus, &nvml.device) == 0;
    if (ok) return;
    nvml.device = NULL;
    snprintf(nvml.note, sizeof nvml.note, "clock, power, temperature and energy are not known: NVML doesn't give them here");
}

static void facts(dsb_device_facts *out) {
    int device = 0;
    size_t have = 0, all = 0;
    unsigned v = 0;
    unsigned long long mj = 0;
    cudaDeviceProp p;
    memset(out, 0, sizeof *out);
    out->sm_mhz = out->power_w = out->temperature_c = out->energy_j = NAN;
    if (!CU(cudaGetDevice(&device)) || !CU(cudaGetDeviceProperties(&p, device)) || !CU(cudaMemGetInfo(&have, &all))) return;
    snprintf(out->name, sizeof out->name, "%.90s", p.name);
    out->cache_bytes = p.l2CacheSize;
    out->memory_bytes = (int64_t)all;
    out->used_bytes = (int64_t)(all - have);
    open_sensors();
    snprintf(out->note, sizeof out->note, "%s", nvml.note);
    if (!nvml.device) return;
    if (nvml.clock && nvml.clock(nvml.device, NVML_CLOCK_SM, &v) == 0) out->sm_mhz = v;
    if (nvml.power && nvml.power(nvml.device, &v) == 0) out->power_w = 1e-3 * v;
    if (nvml.temperature && nvml.temperature(nvml.device, NVML_TEMPERATURE_GPU, &v) == 0) out->temperature_c = v;
    if (nvml.energy && nvml.energy(nvml.device, &mj) == 0) out->energy_j = 1e-3 * (double)mj;
}

void cu_probe_fill(dsb_backend *b) {
    b->clock_begin = clock_begin;
    b->clock_end = clock_end;
    b->facts = facts;
    b->ceilings = ceilings;
}
