#include "kernels/roofline.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/probe.h"

enum { SLICE = 1 << 16 }; /* what a thread takes at once; a multiple of what dsb_probe.read wants */
static const double k_seconds = 0.1, k_round_s = 2e-3; /* of passes over memory together; of a round over registers */
enum { PASSES = 12 };                                  /* over memory, at least: on a busy machine few go undisturbed */
static const size_t k_least = (size_t)128 << 20, k_page = (size_t)2 << 20;

/* Best first. */
static const dsb_probe *const k_probes[] = {
#if defined(__x86_64__)
#ifdef DSB_AMX
    &dsb_probe_amx,
#endif
    &dsb_probe_avx512,
    &dsb_probe_avx2,
#elif defined(__aarch64__)
    &dsb_probe_neon,
#endif
    &dsb_probe_ref,
};
enum { N_PROBE = sizeof k_probes / sizeof *k_probes };

size_t dsb_cache_bytes(void) {
    long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return bytes > 0 ? (size_t)bytes : (size_t)32 << 20;
}

static double thread_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Operations a second of the calling thread, by its own processor time: what others take of the machine doesn't count. */
static double rate(double (*probe)(int64_t), int64_t turns) {
    double t = thread_s(), ops = probe(turns);
    return ops / (thread_s() - t);
}

/* All threads at once, as products run: the sum of their rates, the best of some rounds. */
static double peak(double (*probe)(int64_t)) {
    enum { ROUNDS = 20 };
    int64_t turns = 1 << 10;
    double best = 0, t;
    int threads = omp_get_max_threads() < omp_get_num_procs() ? omp_get_max_threads() : omp_get_num_procs();
    do {
        turns *= 2;
        t = thread_s();
        probe(turns);
    } while (thread_s() - t < k_round_s);
    for (int i = 0; i < ROUNDS; i++) {
        double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
        sum += rate(probe, turns);
        best = sum > best ? sum : best;
    }
    return 1e-9 * best;
}

/* The first instruction set here that has such products, or NULL. */
static double (*find_peak(dsb_arithmetic a))(int64_t) {
    for (int i = 0; i < N_PROBE; i++) {
        const dsb_probe *p = k_probes[i];
        if (!dsb_backend_cpu(p->isa)) continue;
        if (a == DSB_ARITH_F32 && p->f32) return p->f32;
        if (a == DSB_ARITH_INT8 && p->int8) return p->int8;
        if (a == DSB_ARITH_BF16 && p->bf16 && (!p->has_bf16 || p->has_bf16())) return p->bf16;
    }
    return NULL;
}

static const dsb_probe *reader(void) {
    int i = 0;
    while (!k_probes[i]->read || !dsb_backend_cpu(k_probes[i]->isa)) i++; /* ref is everywhere */
    return k_probes[i];
}

/* Whether a measurement that began at `start` and made n passes goes on. */
static bool goes_on(double start, int n) { return n < PASSES || dsb_now_s() < start + k_seconds; }

static double read_gbps(const char *a, size_t bytes) {
    uint64_t (*slice)(const void *, size_t) = reader()->read;
    double best = 0, start = dsb_now_s();
    uint64_t all = 0;
    for (int n = 0; goes_on(start, n); n++) {
        double t = dsb_now_s();
#pragma omp parallel for schedule(static) reduction(^ : all)
        for (size_t b = 0; b < bytes; b += SLICE) all ^= slice(a + b, SLICE);
        double g = 1e-9 * (double)bytes / (dsb_now_s() - t);
        best = g > best ? g : best;
    }
    __asm__ volatile("" : : "r"(all));
    return best;
}

static double triad_gbps(double *a, size_t size) {
    double best = 0, start = dsb_now_s(), *b = a + size, *c = b + size;
    for (int n = 0; goes_on(start, n); n++) {
        double t = dsb_now_s();
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < size; i++) a[i] = b[i] + 3.0 * c[i];
        double g = 24e-9 * (double)size / (dsb_now_s() - t);
        best = g > best ? g : best;
    }
    return best;
}

/* Far beyond the caches, and no more than a quarter of what is free. */
static size_t buffer_bytes(void) {
    size_t wanted = 4 * dsb_cache_bytes(), most = (size_t)sysconf(_SC_AVPHYS_PAGES) / 4 * (size_t)sysconf(_SC_PAGESIZE);
    if (wanted < k_least) wanted = k_least;
    if (wanted > most) wanted = most;
    return wanted / (3 * k_page) * (3 * k_page);
}

/* In ordinary pages, as weights lie: huge ones cost seconds to make where a hypervisor backs them late. */
static void measure_memory(dsb_roofline *out) {
    size_t bytes = buffer_bytes();
    double *a = bytes ? aligned_alloc(k_page, bytes) : NULL;
    if (!a) return;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < bytes / sizeof *a; i++) a[i] = (double)i;
    out->read_gbps = read_gbps((const char *)a, bytes);
    out->triad_gbps = triad_gbps(a, bytes / sizeof *a / 3);
    free(a);
}

void dsb_roofline_measure(const dsb_backend *be, dsb_roofline *out) {
    double *gops[DSB_ARITH_COUNT] = {[DSB_ARITH_F32] = &out->f32_gflops, [DSB_ARITH_BF16] = &out->bf16_gflops, [DSB_ARITH_INT8] = &out->int8_gops};
    *out = (dsb_roofline){NAN, NAN, NAN, NAN, NAN, NAN};
    if (be->ceilings) {
        be->ceilings(out);
        return;
    }
    if (strcmp(be->name, "cpu") != 0) return;
    measure_memory(out);
    for (int a = 0; a < DSB_ARITH_COUNT; a++) {
        double (*probe)(int64_t) = find_peak((dsb_arithmetic)a);
        *gops[a] = probe ? peak(probe) : out->f32_gflops;
    }
}

double dsb_roofline_peak(const dsb_roofline *r, dsb_arithmetic a) { return a == DSB_ARITH_INT8 ? r->int8_gops : a == DSB_ARITH_BF16 ? r->bf16_gflops : r->f32_gflops; }

double dsb_roofline_percent(const dsb_roofline *r, const double ops[DSB_ARITH_COUNT], double bytes, double seconds, bool *memory) {
    double compute = 0, moving = bytes / (1e9 * r->read_gbps);
    for (int a = 0; a < DSB_ARITH_COUNT; a++)
        if (ops[a] > 0) compute += ops[a] / (1e9 * dsb_roofline_peak(r, (dsb_arithmetic)a));
    if (memory) *memory = moving > compute;
    double least = moving > compute ? moving : compute;
    return least > 0 && seconds > 0 && isfinite(least) ? 100 * least / seconds : NAN;
}
