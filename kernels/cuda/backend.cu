/* The plugin's door: device, memory rows, failures, and the table. */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/plugin.h"

cudaStream_t cu_stream;
cudaStream_t cu_copies;
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

bool cu_launched_in(cudaStream_t stream, const char *what) {
    if (!cu_ok(cudaGetLastError(), what)) return false;
    if (!watching) return true;
    double t = now_s();
    bool ok = CU(cudaStreamSynchronize(stream));
    count(what, now_s() - t, 0);
    return ok;
}

bool cu_launched(const char *what) { return cu_launched_in(cu_stream, what); }

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

bool cu_failed(void) { return failed.code != cudaSuccess; }

dsb_status cu_check(dsb_err *err) {
    CU(cudaStreamSynchronize(cu_copies));
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

enum { RING = 16 };

/* Pieces taken in turn; one is free again when what was copied from it has gone. */
struct cu_ring {
    char *base;
    int piece;
    size_t used;
    cudaEvent_t gone[RING];
};
static cu_ring rings[2];

char *cu_ring_take(cudaStream_t stream, size_t n) {
    cu_ring *r = &rings[stream == cu_copies];
    if (!r->base) {
        if (!CU(cudaHostAlloc((void **)&r->base, (size_t)RING * CU_RING_PIECE, cudaHostAllocDefault))) return NULL;
        for (int i = 0; i < RING; i++) CU(cudaEventCreateWithFlags(&r->gone[i], cudaEventDisableTiming));
    }
    if (r->used + n > CU_RING_PIECE) {
        CU(cudaEventRecord(r->gone[r->piece], stream));
        r->piece = (r->piece + 1) % RING;
        r->used = 0;
        if (!CU(cudaEventSynchronize(r->gone[r->piece]))) return NULL;
    }
    char *p = r->base + (size_t)r->piece * CU_RING_PIECE + r->used;
    r->used += (n + 255) / 256 * 256;
    return p;
}

double cu_watch_begin(void) { return watching ? now_s() : -1; }
void cu_watch_end(const char *what, double start, cudaStream_t stream, size_t bytes) {
    if (start < 0) return;
    CU(cudaStreamSynchronize(stream));
    count(what, now_s() - start, bytes);
}

void cu_send(cudaStream_t stream, void *dst, const void *src, size_t n) {
    cu_stage(stream, dst, n, [&](char *to, size_t first, size_t m) { memcpy(to, (const char *)src + first, m); });
}
void cu_to_device(void *dst, const void *src, size_t n) { cu_send(cu_stream, dst, src, n); }

void cu_to_host(void *dst, const void *src, size_t n) {
    double t = watching ? now_s() : 0;
    if (n && CU(cudaMemcpyAsync(dst, src, n, cudaMemcpyDeviceToHost, cu_stream))) CU(cudaStreamSynchronize(cu_stream));
    if (watching) count("copies to the host", now_s() - t, n);
}

/* Memory of a weight, allocated and filled beside cu_stream; its users come after `arrived`, and free it in cu_stream. */
dsb_status cu_take_beside(void **out, size_t bytes, const char *what, dsb_err *err) { return take_in(cu_copies, out, bytes, what, err); }
void cu_arrived(void) {
    static cudaEvent_t last;
    if (!last) CU(cudaEventCreateWithFlags(&last, cudaEventDisableTiming));
    if (last && CU(cudaEventRecord(last, cu_copies))) CU(cudaStreamWaitEvent(cu_stream, last, 0));
}
void *cu_scratch_beside(size_t bytes) {
    void *p = NULL;
    return CU(cudaMallocAsync(&p, bytes ? bytes : 1, cu_copies)) ? p : NULL;
}
void cu_drop_beside(void *p) {
    if (p) CU(cudaFreeAsync(p, cu_copies));
}

dsb_status cu_send_beside(void **out, const void *src, size_t bytes, const char *what, dsb_err *err) {
    if (dsb_status s = cu_take_beside(out, bytes, what, err)) return s;
    cu_send(cu_copies, *out, src, bytes);
    cu_arrived();
    return failed.code ? cu_check(err) : DSB_OK;
}

static void copy(void *dst, const void *src, size_t n) {
    if (n) CU(cudaMemcpyAsync(dst, src, n, cudaMemcpyDeviceToDevice, cu_stream));
}
static void zero(void *p, size_t n) {
    if (n) CU(cudaMemsetAsync(p, 0, n, cu_stream));
}
static void sync(void) { CU(cudaStreamSynchronize(cu_stream)); }

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
    if (!e) e = cudaStreamCreateWithFlags(&cu_copies, cudaStreamNonBlocking);
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
    cu_pack_fill(&table);
    table.pack_blocks = cu_pack_blocks;
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
