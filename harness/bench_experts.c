/* A layer's routed experts in one piece, INT8 by channel, tokens spread evenly over them by chance. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "harness/bench.h"
#include "harness/bench_timing.h"
#include "harness/busy.h"
#include "metrics/stats.h"

enum { SETS = 8, SPREAD = 4096 }; /* routings that take turns; places where a matrix may begin in the codes that all share */

typedef struct bench {
    const dsb_backend *be;
    int64_t ff, d, n, n_expert, k;
    int8_t *codes;    /* (ff · d + SPREAD) */
    float *scales, *x, *weight; /* (ff or d, the larger), (n, d), (n, k) host */
    int32_t *idx;     /* (SETS, n, k) host, ascending */
    void *dev_x, *dev_weight, *dev_idx, *dev_y;
    dsb_experts *fused;
} bench;

static uint32_t next(uint32_t *state) { return (*state = *state * 1664525u + 1013904223u) >> 8; }

dsb_status dsb_bench_experts_check(const dsb_bench_kernels *b, const dsb_bench_job *job, dsb_err *err) {
    const dsb_case_shape *s = &job->shape;
    if (!job->be->fuse_experts) return dsb_fail(err, DSB_EUNSUPPORTED, "bench: --kernel experts: this device has no experts in one piece; --device cuda on Hopper is wanted");
    if (b->top_k > b->n_expert) return dsb_fail(err, DSB_EUSAGE, "bench: --top-k %lld of --experts %lld", (long long)b->top_k, (long long)b->n_expert);
    if (s->rows > 1 << 16 || s->cols > 1 << 16 || s->n > 1 << 20) return dsb_fail(err, DSB_EUSAGE, "bench: --kernel experts: shape %lldx%lldx%lld; widths to 65536 and 2^20 tokens are wanted", (long long)s->rows, (long long)s->cols, (long long)s->n);
    return DSB_OK;
}

/* Codes of matrix i (gate, up, down) of expert e. */
static const int8_t *codes_of(const bench *t, int64_t e, int i) { return t->codes + (e * 3 + i) * 61 % SPREAD; }
static int64_t rows_of(const bench *t, int i) { return i == 2 ? t->d : t->ff; }
static int64_t cols_of(const bench *t, int i) { return i == 2 ? t->ff : t->d; }

static dsb_status fill(bench *t, dsb_err *err) {
    uint32_t state = 1;
    int64_t widest = t->ff > t->d ? t->ff : t->d, e = t->n_expert;
    DSB_TRY(DSB_NEW(t->codes, t->ff * t->d + SPREAD, "experts", err));
    DSB_TRY(DSB_NEW(t->scales, widest, "experts", err));
    DSB_TRY(DSB_NEW(t->x, t->n * t->d, "tokens", err));
    DSB_TRY(DSB_NEW(t->weight, t->n * t->k, "tokens", err));
    DSB_TRY(DSB_NEW(t->idx, SETS * t->n * t->k, "tokens", err));
    for (int64_t i = 0; i < t->ff * t->d + SPREAD; i++) t->codes[i] = (int8_t)((int)(next(&state) % 255) - 127);
    for (int64_t i = 0; i < widest; i++) t->scales[i] = 1e-4f * (float)(1 + next(&state) % 8);
    for (int64_t i = 0; i < t->n * t->d; i++) t->x[i] = dsb_bf16_to_f32(dsb_f32_to_bf16((float)((int)(next(&state) % 4096) - 2048) / 1024.0f));
    for (int64_t i = 0; i < t->n * t->k; i++) t->weight[i] = 1.0f / (float)t->k;
    for (int64_t i = 0; i < SETS * t->n; i++)
        for (int64_t seen = 0, at = 0; at < t->k; seen++) /* each of those left with the same chance: ascending, all different */
            if (next(&state) % (uint32_t)(e - seen) < (uint32_t)(t->k - at)) t->idx[i * t->k + at++] = (int32_t)seen;
    return DSB_OK;
}

static dsb_status send(const dsb_backend *be, void **out, const void *host, size_t bytes, dsb_err *err) {
    DSB_TRY(be->alloc(out, bytes, "a kernel's data", err));
    if (host) be->upload(*out, host, bytes);
    return DSB_OK;
}

static dsb_status pack(bench *t, dsb_wmat *all, dsb_err *err) {
    for (int64_t e = 0; e < t->n_expert; e++)
        for (int i = 0; i < 3; i++) DSB_TRY(t->be->pack_int(&all[3 * e + i], DSB_W_I8, codes_of(t, e, i), t->scales, cols_of(t, i), rows_of(t, i), cols_of(t, i), err));
    DSB_TRY(t->be->fuse_experts(&t->fused, all, t->n_expert, t->k, DSB_EXPERTS_INT8, err));
    return t->fused ? DSB_OK : dsb_fail(err, DSB_EUNSUPPORTED, "bench: --kernel experts: %lldx%lld, %lld experts, %lld a token: not what the device takes in one piece", (long long)t->ff, (long long)t->d, (long long)t->n_expert, (long long)t->k);
}

static dsb_status open(bench *t, dsb_err *err) {
    dsb_wmat *all;
    size_t slots = (size_t)(t->n * t->k);
    DSB_TRY(fill(t, err));
    DSB_TRY(send(t->be, &t->dev_x, t->x, (size_t)(t->n * t->d) * sizeof *t->x, err));
    DSB_TRY(send(t->be, &t->dev_weight, t->weight, slots * sizeof *t->weight, err));
    DSB_TRY(send(t->be, &t->dev_idx, t->idx, SETS * slots * sizeof *t->idx, err));
    DSB_TRY(send(t->be, &t->dev_y, NULL, (size_t)(t->n * t->d) * sizeof *t->x, err));
    DSB_TRY(DSB_NEW(all, 3 * t->n_expert, "experts", err));
    dsb_status s = pack(t, all, err);
    for (int64_t i = 0; i < 3 * t->n_expert; i++)
        if (all[i].data) t->be->unpack(&all[i]);
    free(all);
    return s;
}

static void bench_close(bench *t) {
    void *device[] = {t->dev_x, t->dev_weight, t->dev_idx, t->dev_y}, *host[] = {t->codes, t->scales, t->x, t->weight, t->idx};
    if (t->fused) t->be->experts_release(t->fused);
    for (int i = 0; i < 4; i++)
        if (device[i]) t->be->release(device[i]);
    for (int i = 0; i < 5; i++) free(host[i]);
}

static void start(void *ctx, int64_t turn) {
    bench *t = ctx;
    t->be->experts_forward(t->fused, t->dev_x, t->n, (const int32_t *)t->dev_idx + turn % SETS * t->n * t->k, t->dev_weight, t->dev_y);
}

/* One row through one matrix on the CPU, as an INT8 linear of a BF16 carrier. */
static dsb_status linear(const bench *t, int64_t e, int i, const float *x, float *y, int8_t *q, dsb_err *err) {
    const dsb_backend *cpu = dsb_backend_cpu(NULL);
    int64_t rows = rows_of(t, i), cols = cols_of(t, i);
    float scale;
    dsb_wmat w;
    DSB_TRY(cpu->pack_int(&w, DSB_W_I8, codes_of(t, e, i), t->scales, cols, rows, cols, err));
    cpu->quantize_dynamic(x, 1, cols, q, &scale);
    cpu->gemm(&w, &(dsb_act){.n = 1, .cols = cols, .q = q, .scale = &scale}, y);
    cpu->round_bf16(y, rows);
    cpu->unpack(&w);
    return DSB_OK;
}

/* Token `row` of the first routing; work: (4 · widest). */
static dsb_status want_row(const bench *t, int64_t row, float *work, int64_t widest, int8_t *q, dsb_err *err) {
    const dsb_backend *cpu = dsb_backend_cpu(NULL);
    float *sum = work, *gate = work + widest, *up = gate + widest, *out = up + widest;
    memset(sum, 0, (size_t)t->d * sizeof *sum);
    for (int64_t j = 0; j < t->k; j++) {
        int32_t e = t->idx[row * t->k + j], first = 0;
        DSB_TRY(linear(t, e, 0, t->x + row * t->d, gate, q, err));
        DSB_TRY(linear(t, e, 1, t->x + row * t->d, up, q, err));
        cpu->silu_mul(gate, up, t->ff, true, gate);
        DSB_TRY(linear(t, e, 2, gate, out, q, err));
        cpu->scatter_add(sum, &first, &t->weight[row * t->k + j], out, 1, t->d);
    }
    cpu->round_bf16(sum, t->d);
    return DSB_OK;
}

static dsb_status verify(bench *t, dsb_err *err) {
    int64_t widest = t->ff > t->d ? t->ff : t->d;
    float *work, *got;
    DSB_TRY(DSB_NEW(work, 5 * widest + widest / 4 + 16, "a token", err));
    got = work + 4 * widest;
    int8_t *q = (int8_t *)(got + widest);
    start(t, 0);
    dsb_status s = t->be->check(err);
    for (int64_t row = 0; row < t->n && !s; row += t->n > 1 ? t->n - 1 : 1) {
        s = want_row(t, row, work, widest, q, err);
        if (s) break;
        t->be->download(got, (const float *)t->dev_y + row * t->d, (size_t)t->d * sizeof *got);
        if (memcmp(got, work, (size_t)t->d * sizeof *got) != 0)
            s = dsb_fail(err, DSB_EINTERNAL, "%s/experts, %lldx%lldx%lld: token %lld differs from the CPU's single rows", t->be->isa, (long long)t->ff, (long long)t->d, (long long)t->n, (long long)row);
    }
    free(work);
    return s;
}

/* Bytes of the experts that a call reads, a mean of the routings. */
static double expert_bytes(const bench *t) {
    int64_t used = 0;
    for (int set = 0; set < SETS; set++)
        for (int64_t e = 0; e < t->n_expert; e++) {
            bool any = false;
            for (int64_t i = 0; i < t->n * t->k && !any; i++) any = t->idx[set * t->n * t->k + i] == e;
            used += any;
        }
    return (double)used / SETS * (3.0 * (double)t->ff * (double)t->d + 4.0 * (double)(2 * t->ff + t->d));
}

static dsb_status measure(bench *t, const dsb_bench_kernels *b, dsb_arena *arena, const dsb_roofline *roof, double *seconds, dsb_bench_row *row, dsb_err *err) {
    dsb_cpu_times cpu[2];
    dsb_sensors sensors;
    bool memory;
    DSB_TRY(open(t, err));
    DSB_TRY(verify(t, err));
    dsb_cpu_times_read(&cpu[0]);
    dsb_timed_run(&(dsb_timed){t->be, t, start}, b->repeats, seconds, &sensors);
    dsb_cpu_times_read(&cpu[1]);
    double median = dsb_quantile_sorted(seconds, b->repeats, 0.5), bytes = expert_bytes(t), ops[DSB_ARITH_COUNT] = {[DSB_ARITH_INT8] = 6.0 * (double)t->ff * (double)t->d * (double)(t->n * t->k)};
    *row = (dsb_bench_row){.kind = "kernel", .name = "experts", .shape = dsb_text_format(arena, "%lldx%lldx%lld, %lld of %lld", (long long)t->ff, (long long)t->d, (long long)t->n, (long long)t->k, (long long)t->n_expert), .n_token = -1,
                           .depth = -1, .batch = -1, .repeats = b->repeats, .seconds = median, .seconds_min = seconds[0], .seconds_max = seconds[b->repeats - 1], .tps = NAN, .p50_ms = NAN, .p99_ms = NAN,
                           .gops = 1e-9 * ops[DSB_ARITH_INT8] / median, .gbps = 1e-9 * bytes / median, .roofline_percent = dsb_roofline_percent(roof, ops, bytes, median, &memory), .busy_percent = dsb_busy_percent(&cpu[0], &cpu[1]),
                           .steal_percent = dsb_steal_percent(&cpu[0], &cpu[1]), .sm_mhz = sensors.sm_mhz, .power_w = sensors.power_w, .temperature_c = sensors.temperature_c, .energy_j = sensors.energy_j,
                           .device_bytes = sensors.used_bytes, .kernel = dsb_text_format(arena, "%s/experts_i8", t->be->isa)};
    row->bound = memory ? "memory" : "compute";
    return t->be->check(err);
}

dsb_status dsb_bench_experts_run(const dsb_bench_kernels *b, const dsb_bench_job *job, dsb_arena *arena, const dsb_roofline *roof, double *seconds, dsb_bench_row *row, dsb_err *err) {
    bench t = {.be = job->be, .ff = job->shape.rows, .d = job->shape.cols, .n = job->shape.n, .n_expert = b->n_expert, .k = b->top_k};
    dsb_status s = measure(&t, b, arena, roof, seconds, row, err);
    bench_close(&t);
    return s;
}
