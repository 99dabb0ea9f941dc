/* What the kernel tests share: repeatable inputs, outputs between guard bytes, and a tape of results to compare by bits. */
#ifndef DSB_TESTS_KERNEL_CASES_H
#define DSB_TESTS_KERNEL_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host_memory.h"
#include "kernels/backend.h"

enum { KC_GUARD = 64, KC_PATTERN = 0xa5 };

static uint32_t kc_state = 1;
static inline void kc_seed(uint32_t seed) { kc_state = seed * 2654435761u + 1; }
static inline uint32_t kc_random(void) { return kc_state = kc_state * 1664525u + 1013904223u; }
/* [-1, 1) in steps of 2^-15. */
static inline float kc_unit(void) { return (float)((int32_t)(kc_random() >> 16) - 32768) / 32768.0f; }

/* Memory that ends where its page does, so that the processor sees a read or write past it; bytes before it are guarded until kc_free.
 * DSBENCH_TEST_SLACK: so many guarded bytes between, for emulators that read more than an instruction does. */
static inline size_t kc_slack(void) {
    const char *text = getenv("DSBENCH_TEST_SLACK");
    char *end;
    if (!text) return 0;
    unsigned long bytes = strtoul(text, &end, 10);
    if (*end || bytes > 4096) fail_msg("DSBENCH_TEST_SLACK=%s: a number of bytes up to 4096 is wanted", text);
    return bytes;
}
typedef struct kc_map {
    uint8_t *at;
    size_t bytes;
} kc_map;
static inline void *kc_memory(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), before = KC_GUARD + sizeof(kc_map), after = kc_slack(), data = (bytes + before + after + page - 1) / page * page;
    kc_map m = {mmap(NULL, data + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), data + page};
    assert_true(m.at != MAP_FAILED && mprotect(m.at + data, page, PROT_NONE) == 0);
    uint8_t *p = m.at + data - after - bytes;
    memset(p - KC_GUARD, KC_PATTERN, KC_GUARD);
    memset(p + bytes, KC_PATTERN, after);
    memcpy(p - before, &m, sizeof m);
    return p;
}
static inline void kc_free(void *p) {
    kc_map m;
    for (ptrdiff_t i = 1; i <= KC_GUARD; i++) assert_int_equal(((uint8_t *)p)[-i], KC_PATTERN);
    memcpy(&m, (uint8_t *)p - KC_GUARD - sizeof m, sizeof m);
    const uint8_t *end = m.at + m.bytes - sysconf(_SC_PAGESIZE);
    for (size_t i = 1; i <= kc_slack(); i++) assert_int_equal(*(end - i), KC_PATTERN);
    assert_int_equal(munmap(m.at, m.bytes), 0);
}

static inline float *kc_floats(int64_t n, float scale) {
    float *x = kc_memory((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = scale * kc_unit();
    return x;
}
/* Ordinary values, zeros of both signs, subnormal, tiny and large ones. */
static inline float *kc_ugly(int64_t n) {
    static const float k_odd[] = {0.0f, -0.0f, 1e-45f, -3e-40f, 1.17549435e-38f, 1e-20f, -1e18f, 3e18f};
    float *x = kc_floats(n, 4);
    for (int64_t i = 0; i < n; i++)
        if (kc_random() >> 30 == 0) x[i] = k_odd[kc_random() >> 29];
    return x;
}

/* An output between guards. */
typedef struct kc_out {
    uint8_t *raw;
    size_t bytes;
    void *p;
} kc_out;
/* It begins where what has `alignment` bytes is aligned, and nothing larger. */
static inline kc_out kc_output_aligned(size_t bytes, size_t alignment) {
    kc_out o = {malloc(bytes + 2 * KC_GUARD + alignment), bytes, NULL};
    assert_non_null(o.raw);
    memset(o.raw, KC_PATTERN, bytes + 2 * KC_GUARD + alignment);
    o.p = o.raw + KC_GUARD + alignment;
    return o;
}
static inline kc_out kc_output(size_t bytes) { return kc_output_aligned(bytes, 4); }
static inline void kc_check_guards(const kc_out *o) {
    for (size_t i = 0; i < KC_GUARD; i++) {
        assert_int_equal(((uint8_t *)o->p)[-1 - (ptrdiff_t)i], KC_PATTERN);
        assert_int_equal(((uint8_t *)o->p)[o->bytes + i], KC_PATTERN);
    }
}

/* Everything that a case produced. */
typedef struct kc_tape {
    uint8_t *data;
    size_t n;
} kc_tape;
static inline void kc_record(kc_tape *t, const void *p, size_t bytes) {
    t->data = realloc(t->data, t->n + bytes + 1);
    assert_non_null(t->data);
    if (bytes) memcpy(t->data + t->n, p, bytes);
    t->n += bytes;
}
/* Checks the guards, records the output, frees it. */
static inline void kc_take(kc_tape *t, kc_out *o) {
    kc_check_guards(o);
    kc_record(t, o->p, o->bytes);
    free(o->raw);
}

/* Every instruction set of this machine, the reference first, and a device where the tests are given one. */
enum { KC_LEVELS = 8 };
static inline int kc_backends(const dsb_backend *out[KC_LEVELS]) {
    const dsb_kernel_row *rows;
    int n = 1;
    out[0] = dsb_backend_cpu("ref");
    for (int i = dsb_kernel_list(&rows) - 1; i >= 0; i--)
        if (dsb_backend_cpu(rows[i].isa) && strcmp(out[n - 1]->isa, rows[i].isa) != 0) out[n++] = dsb_backend_cpu(rows[i].isa);
    if (hm_table()) out[n++] = hm_table();
    return n;
}

/* A case gives the same bits on every instruction set, with 1 to 5 threads, and when it is run again. */
static inline void kc_same_everywhere(void (*run)(const dsb_backend *, kc_tape *)) {
    const dsb_backend *be[KC_LEVELS];
    int n = kc_backends(be), before = omp_get_max_threads();
    kc_tape want = {0};
    omp_set_num_threads(1);
    run(be[0], &want);
    assert_true(want.n > 0);
    for (int i = 0; i < n; i++)
        for (int threads = 1; threads <= 5; threads++) {
            kc_tape got = {0};
            omp_set_num_threads(threads);
            run(be[i], &got);
            if (got.n != want.n) fail_msg("%s: %zu bytes, wanted %zu", be[i]->isa, got.n, want.n);
            for (size_t b = 0; b < got.n; b++)
                if (got.data[b] != want.data[b]) fail_msg("%s with %d threads: byte %zu of %zu differs from ref's", be[i]->isa, threads, b, got.n);
            free(got.data);
        }
    omp_set_num_threads(before);
    free(want.data);
}

static inline void kc_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("got %.17g, wanted %.17g within %g", got, want, tolerance);
}

#endif
