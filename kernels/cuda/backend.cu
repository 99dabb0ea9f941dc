/* The plugin's door: device, memory rows, failures, and the table. */
#include <stdarg.h>
#include <cuda_fp16.h>
#include <stdio.h>
#include <time.h>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/plugin.h"

cudaStream_t cu_stream;
static cudaStream_t copies; /* weights on their way, beside what cu_stream computes */
int cu_processors, cu_capability;

static struct {
    cudaError_t code;
    char what[96];
} failed;

bool cu_ok(cudaError_t e, const char *what) {
    if (failed.code) return false;
    if (e == cudaSuccess) return true;
    failed.code = e;
    snprintf(failed.what, sizeof failed.what, "%s", what);
    return false;
}

/* ---- what runs, by name (`watch`): each call is waited for, so that none before it is left in the stream ---- */

static bool watching;
static dsb_watched watched_rows[96];
static int n_watched;

static double now_s() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void count(const char *name, double seconds, size_t bytes) {
    int i = 0;
    while (i < n_watched && strcmp(watched_rows[i].name, name) != 0) i++;
    if (i == (int)(sizeof watched_rows / sizeof *watched_rows)) return;
    if (i == n_watched) watched_rows[n_watched++] = {name, 0, 0, 0};
    watched_rows[i].calls++;
    watched_rows[i].seconds += seconds;
    watched_rows[i].bytes += (double)bytes;
}

static bool launched_in(cudaStream_t stream, const char *what) {
    if (!cu_ok(cudaGetLastError(), what)) return false;
    if (!watching) return true;
    double t = now_s();
    bool ok = CU(cudaStreamSynchronize(stream));
    count(what, now_s() - t, 0);
    return ok;
}

bool cu_launched(const char *what) { return launched_in(cu_stream, what); }

static void watch(bool on) {
    watching = on;
    if (on) n_watched = 0;
}
static int watched(const dsb_watched **rows) {
    *rows = watched_rows;
    return n_watched;
}

static dsb_status fail(dsb_err *err, dsb_status code, const char *fmt, ...) {
    if (!err) return code;
    va_list args;
    va_start(args, fmt);
    err->code = code;
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return code;
}

dsb_status cu_check(dsb_err *err) {
    CU(cudaStreamSynchronize(copies));
    CU(cudaStreamSynchronize(cu_stream));
    if (!failed.code) return DSB_OK;
    if (failed.code == cudaErrorMemoryAllocation) return fail(err, DSB_ENOMEM, "GPU: out of memory (%s); fewer schemes, a smaller --context, or --memory would take less", failed.what);
    return fail(err, DSB_EINTERNAL, "GPU: %s failed: %s", failed.what, cudaGetErrorString(failed.code));
}

void *cu_take(size_t bytes) {
    void *p = NULL;
    return CU(cudaMallocAsync(&p, bytes ? bytes : 1, cu_stream)) ? p : NULL;
}
void cu_drop(void *p) {
    if (p) CU(cudaFreeAsync(p, cu_stream));
}

static dsb_status take_in(cudaStream_t stream, void **out, size_t bytes, const char *what, dsb_err *err) {
    *out = NULL;
    if (failed.code) return cu_check(err);
    cudaError_t e = cudaMallocAsync(out, bytes ? bytes : 1, stream);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* not sticky: the caller may take less */
        size_t have = 0, all = 0;
        CU(cudaMemGetInfo(&have, &all));
        *out = NULL;
        return fail(err, DSB_ENOMEM, "GPU: %s: %.1f MB don't fit (%.0f of %.0f MB are free); fewer schemes or --memory take less", what, (double)bytes / 1e6, (double)have / 1e6, (double)all / 1e6);
    }
    return cu_ok(e, "cudaMallocAsync") ? DSB_OK : cu_check(err);
}

dsb_status cu_alloc(void **out, size_t bytes, const char *what, dsb_err *err) {
    if (dsb_status s = take_in(cu_stream, out, bytes, what, err)) return s;
    return CU(cudaMemsetAsync(*out, 0, bytes, cu_stream)) ? DSB_OK : cu_check(err);
}

static void release(void *p) { cu_drop(p); }

/* ---- to the device: through pinned memory, so that nobody waits but for the memory to be free again ---- */

enum { RING = 16, RING_PIECE = 4 << 20, PARALLEL = 1 << 20 };

/* Pieces taken in turn; one is free again when what was copied from it has gone. */
typedef struct ring {
    char *base;
    int piece;
    size_t used;
    cudaEvent_t gone[RING];
} ring;
static ring of_stream, of_copies;

/* Room for n bytes of pinned memory, at most a piece; NULL after a failure. */
static char *ring_take(ring *r, cudaStream_t stream, size_t n) {
    if (!r->base) {
        if (!CU(cudaHostAlloc((void **)&r->base, (size_t)RING * RING_PIECE, cudaHostAllocDefault))) return NULL;
        for (int i = 0; i < RING; i++) CU(cudaEventCreateWithFlags(&r->gone[i], cudaEventDisableTiming));
    }
    if (r->used + n > RING_PIECE) {
        CU(cudaEventRecord(r->gone[r->piece], stream));
        r->piece = (r->piece + 1) % RING;
        r->used = 0;
        if (!CU(cudaEventSynchronize(r->gone[r->piece]))) return NULL;
    }
    char *p = r->base + (size_t)r->piece * RING_PIECE + r->used;
    r->used += (n + 255) / 256 * 256;
    return p;
}

/* n bytes to dst in the order of the stream; fill(to, first, n) writes some of them. */
template <class F> static void stage(ring *r, cudaStream_t stream, void *dst, size_t n, F fill) {
    double t = watching ? now_s() : 0;
    for (size_t at = 0; at < n; at += RING_PIECE) {
        size_t m = n - at < RING_PIECE ? n - at : RING_PIECE, part = m > PARALLEL ? PARALLEL / 4 : m;
        char *p = ring_take(r, stream, m);
        if (!p) return;
#pragma omp parallel for schedule(static) if (m > PARALLEL)
        for (size_t i = 0; i < m; i += part) fill(p + i, at + i, m - i < part ? m - i : part);
        CU(cudaMemcpyAsync((char *)dst + at, p, m, cudaMemcpyHostToDevice, stream));
    }
    if (!watching) return;
    CU(cudaStreamSynchronize(stream));
    count("copies to the device", now_s() - t, n);
}

static void send(ring *r, cudaStream_t stream, void *dst, const void *src, size_t n) {
    stage(r, stream, dst, n, [&](char *to, size_t first, size_t m) { memcpy(to, (const char *)src + first, m); });
}
void cu_to_device(void *dst, const void *src, size_t n) { send(&of_stream, cu_stream, dst, src, n); }

void cu_to_host(void *dst, const void *src, size_t n) {
    double t = watching ? now_s() : 0;
    if (n && CU(cudaMemcpyAsync(dst, src, n, cudaMemcpyDeviceToHost, cu_stream))) CU(cudaStreamSynchronize(cu_stream));
    if (watching) count("copies to the host", now_s() - t, n);
}

/* Memory of a weight, allocated and filled beside cu_stream; its users come after `arrived`, and free it in cu_stream. */
static dsb_status take_beside(void **out, size_t bytes, const char *what, dsb_err *err) { return take_in(copies, out, bytes, what, err); }
static void arrived(void) {
    static cudaEvent_t last;
    if (!last) CU(cudaEventCreateWithFlags(&last, cudaEventDisableTiming));
    if (last && CU(cudaEventRecord(last, copies))) CU(cudaStreamWaitEvent(cu_stream, last, 0));
}
static void *scratch_beside(size_t bytes) {
    void *p = NULL;
    return CU(cudaMallocAsync(&p, bytes ? bytes : 1, copies)) ? p : NULL;
}
static void drop_beside(void *p) {
    if (p) CU(cudaFreeAsync(p, copies));
}

dsb_status cu_send_beside(void **out, const void *src, size_t bytes, const char *what, dsb_err *err) {
    if (dsb_status s = take_beside(out, bytes, what, err)) return s;
    send(&of_copies, copies, *out, src, bytes);
    arrived();
    return failed.code ? cu_check(err) : DSB_OK;
}

static void copy(void *dst, const void *src, size_t n) {
    if (n) CU(cudaMemcpyAsync(dst, src, n, cudaMemcpyDeviceToDevice, cu_stream));
}
static void zero(void *p, size_t n) {
    if (n) CU(cudaMemsetAsync(p, 0, n, cu_stream));
}
static void sync(void) { CU(cudaStreamSynchronize(cu_stream)); }

/* ---- packed weights: floats in panels [panel][k][16]; codes by row, each group padded to whole steps of 32, scales [group][row] ---- */

enum { NR = CU_PANEL };

template <class T, bool HALF> __global__ static void pack_panels(const float *w, int64_t rows, int64_t cols, T *out) {
    CU_EACH(at, cu_ceil(rows, NR) * NR * cols) {
        int64_t j = at % NR, k = at / NR % cols, r = at / NR / cols * NR + j;
        float v = r < rows ? w[r * cols + k] : 0.0f;
        out[at] = HALF ? (T)__half_as_ushort(__float2half_rn(v)) : (T)v;
    }
}

template <class T, bool HALF> static void pack_from(const float *raw, int64_t rows, int64_t cols, void *out) {
    pack_panels<T, HALF><<<cu_grid(cu_ceil(rows, NR) * NR * cols, 256), 256, 0, copies>>>(raw, rows, cols, (T *)out);
}
/* BF16 is rounded on its way: half the bytes. */
__global__ static void pack_words(const uint16_t *w, int64_t rows, int64_t cols, uint16_t *out) {
    CU_EACH(at, cu_ceil(rows, NR) * NR * cols) {
        int64_t j = at % NR, k = at / NR % cols, r = at / NR / cols * NR + j;
        out[at] = r < rows ? w[r * cols + k] : 0;
    }
}

dsb_status cu_pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    static const char *const k_name[] = {"cuda/gemm_f32", "cuda/gemm_bf16", "cuda/gemm_f16"};
    size_t size = kind == DSB_W_F32 ? 4 : 2, sent = kind == DSB_W_BF16 ? 2 : 4;
    int64_t n = cu_ceil(rows, NR) * NR * cols;
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = cols, .data = NULL, .scales = NULL, .bytes = (size_t)(rows * cols) * size, .kernel = k_name[kind]};
    if (dsb_status s = take_beside(&out->data, (size_t)n * size, "packed weights", err)) return s;
    void *raw = scratch_beside((size_t)(rows * cols) * sent);
    if (raw && n > 0) {
        if (kind == DSB_W_BF16) {
            stage(&of_copies, copies, raw, (size_t)(rows * cols) * 2, [&](char *to, size_t first, size_t m) {
                for (size_t i = 0; i < m / 2; i++) ((uint16_t *)to)[i] = dsb_f32_to_bf16(w[first / 2 + i]);
            });
            pack_words<<<cu_grid(n, 256), 256, 0, copies>>>((const uint16_t *)raw, rows, cols, (uint16_t *)out->data);
        } else {
            send(&of_copies, copies, raw, w, (size_t)(rows * cols) * 4);
            if (kind == DSB_W_F32) pack_from<float, false>((const float *)raw, rows, cols, out->data);
            else pack_from<uint16_t, true>((const float *)raw, rows, cols, out->data);
        }
        launched_in(copies, "pack_panels");
    }
    drop_beside(raw);
    arrived();
    return failed.code ? cu_check(err) : DSB_OK;
}

__global__ static void pad_each(const int8_t *codes, int64_t rows, int64_t cols, int64_t group, int64_t padded_group, int64_t stride, int8_t *out) {
    CU_EACH(at, rows * cols) out[at / cols * stride + at % cols / group * padded_group + at % cols % group] = codes[at];
}

static void pad_in(cudaStream_t stream, const int8_t *codes, int64_t rows, int64_t cols, int64_t group, int8_t *out) {
    pad_each<<<cu_grid(rows * cols, 256), 256, 0, stream>>>(codes, rows, cols, group, cu_padded_group(group), cu_code_stride(cols, group), out);
    launched_in(stream, "pad_codes");
}
void cu_pad_codes(const int8_t *codes, int64_t rows, int64_t cols, int64_t group, int8_t *out) { pad_in(cu_stream, codes, rows, cols, group, out); }

/* Nibbles offset by 8: of each step of 32 codes the first 16 are the low ones of its 16 bytes. */
__global__ static void pack_nibbles(const int8_t *padded, int64_t n, uint8_t *out) {
    CU_EACH(at, n / 2) {
        const int8_t *step = padded + at / 16 * 32;
        out[at] = (uint8_t)((step[at % 16] + 8) | (step[16 + at % 16] + 8) << 4);
    }
}

__global__ static void pack_scales(const float *scales, int64_t rows, int64_t groups, int64_t padded_rows, float *out) {
    CU_EACH(at, rows * groups) out[at % groups * padded_rows + at / groups] = scales[at];
}

dsb_status cu_pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err) {
    int64_t groups = cu_ceil(cols, group), stride = cu_code_stride(cols, group), padded = cu_ceil(rows, CU_TILE_ROWS) * CU_TILE_ROWS, n = rows * cols;
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = group, .data = NULL, .scales = NULL, .bytes = (size_t)n * (kind == DSB_W_I8 ? 2 : 1) / 2 + (size_t)(rows * groups) * 4, .kernel = kind == DSB_W_I8 ? "cuda/gemm_i8" : "cuda/gemm_i4"};
    void *p = NULL;
    if (dsb_status s = take_beside(&out->data, (size_t)(padded * stride) / (kind == DSB_W_I8 ? 1 : 2), "packed codes", err)) return s;
    if (dsb_status s = take_beside(&p, (size_t)(padded * groups) * 4, "packed scales", err)) {
        drop_beside(out->data);
        out->data = NULL;
        return s;
    }
    out->scales = (float *)p;
    int8_t *raw = (int8_t *)scratch_beside((size_t)n), *wide = kind == DSB_W_I8 ? (int8_t *)out->data : (int8_t *)scratch_beside((size_t)(padded * stride));
    float *raw_scales = (float *)scratch_beside((size_t)(rows * groups) * 4);
    if (raw && wide && raw_scales && n > 0) {
        send(&of_copies, copies, raw, codes, (size_t)n);
        send(&of_copies, copies, raw_scales, scales, (size_t)(rows * groups) * 4);
        CU(cudaMemsetAsync(wide, 0, (size_t)(padded * stride), copies));
        CU(cudaMemsetAsync(out->scales, 0, (size_t)(padded * groups) * 4, copies));
        pad_in(copies, raw, rows, cols, group, wide);
        if (kind == DSB_W_I4) pack_nibbles<<<cu_grid(padded * stride / 2, 256), 256, 0, copies>>>(wide, padded * stride, (uint8_t *)out->data);
        launched_in(copies, "pack_nibbles");
        pack_scales<<<cu_grid(rows * groups, 256), 256, 0, copies>>>(raw_scales, rows, groups, padded, out->scales);
        launched_in(copies, "pack_scales");
    }
    drop_beside(raw);
    drop_beside(raw_scales);
    if (kind == DSB_W_I4) drop_beside(wide);
    arrived();
    return failed.code ? cu_check(err) : DSB_OK;
}

void cu_unpack(dsb_wmat *w) {
    cu_drop(w->data);
    cu_drop(w->scales);
    memset(w, 0, sizeof *w);
}

void cu_gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    if (x->n == 0 || w->rows == 0) return;
    if (w->kind >= DSB_W_I8) cu_gemm_int(w, x, y);
    else if (w->kind == DSB_W_BLOCK) cu_gemm_block(w, x, y);
    else cu_gemm_float(w, x, y);
}

/* ---- the door ---- */

static bool open_device(int device, char *why, size_t room) {
    int n = 0, pools = 0, wait = 0; /* wait 0: new memory rather than a stream that waits for another to free some */
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n == 0) {
        snprintf(why, room, "%s", e == cudaSuccess || e == cudaErrorNoDevice ? "no GPU is there" : e == cudaErrorInsufficientDriver ? "NVIDIA's driver is missing or too old" : cudaGetErrorString(e));
        return false;
    }
    if (device < 0 || device >= n) {
        snprintf(why, room, "GPU %d is not there; 0 to %d are", device, n - 1);
        return false;
    }
    cudaDeviceProp p;
    cudaMemPool_t pool;
    uint64_t keep = UINT64_MAX; /* freed memory stays with the program: blocks of weights come and go */
    e = cudaSetDevice(device);
    if (!e) e = cudaGetDeviceProperties(&p, device);
    if (!e && p.major < 8) {
        snprintf(why, room, "GPU %d (%s) has compute capability %d.%d; 8.0 or newer is wanted", device, p.name, p.major, p.minor);
        return false;
    }
    if (!e) e = cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, device);
    if (!e && !pools) e = cudaErrorNotSupported;
    if (!e) e = cudaDeviceGetDefaultMemPool(&pool, device);
    if (!e) e = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep);
    if (!e) e = cudaMemPoolSetAttribute(pool, cudaMemPoolReuseAllowInternalDependencies, &wait);
    if (!e) e = cudaStreamCreateWithFlags(&cu_stream, cudaStreamNonBlocking);
    if (!e) e = cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking);
    if (e) snprintf(why, room, "GPU %d can't be used: %s", device, cudaGetErrorString(e));
    cu_processors = p.multiProcessorCount;
    cu_capability = 10 * p.major + p.minor;
    return !e;
}

extern "C" __attribute__((visibility("default"))) const dsb_backend *dsb_cuda_open(int abi, int device, char *why, size_t room);

const dsb_backend *dsb_cuda_open(int abi, int device, char *why, size_t room) {
    static dsb_backend table;
    static int opened = -1;
    if (abi != DSB_CUDA_ABI) {
        snprintf(why, room, "%s is of another version; make cuda builds it anew", DSB_CUDA_FILE);
        return NULL;
    }
    if (opened >= 0 && opened != device) {
        snprintf(why, room, "GPU %d is in use by this process; one is wanted", opened);
        return NULL;
    }
    if (opened >= 0) return &table;
    if (!open_device(device, why, room)) return NULL;
    opened = device;
    table.name = "cuda";
    table.isa = "cuda";
    table.alloc = cu_alloc;
    table.release = release;
    table.upload = cu_to_device;
    table.download = cu_to_host;
    table.copy = copy;
    table.zero = zero;
    table.sync = sync;
    table.check = cu_check;
    if (cu_capability == 90) {
        table.fuse_experts = cu_fuse_experts;
        table.experts_forward = cu_experts_forward;
        table.experts_release = cu_experts_release;
    }
    table.pack_float = cu_pack_float;
    table.pack_int = cu_pack_int;
    table.pack_blocks = cu_pack_blocks;
    table.unpack = cu_unpack;
    table.gemm = cu_gemm;
    table.gemm_heads = cu_gemm_heads;
    table.attention = cu_attention;
    table.route = cu_route;
    table.watch = watch;
    table.watched = watched;
    cu_rows_fill(&table);
    cu_reduce_fill(&table);
    cu_probe_fill(&table);
    return &table;
}
