/* Kernels by themselves, on the cases that the tests hold to plain C (kernels/cases.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench.h"
#include "harness/bench_case.h"
#include "harness/bench_timing.h"
#include "harness/busy.h"
#include "metrics/stats.h"

dsb_status dsb_shape_parse(dsb_case_shape *out, const char *text, dsb_err *err) {
    int64_t *to[] = {&out->rows, &out->cols, &out->n};
    const char *at = text;
    for (int i = 0; i < 3; i++) {
        char *end;
        long long v = *at >= '0' && *at <= '9' ? strtoll(at, &end, 10) : 0;
        if (v < 1 || v > INT32_MAX || *end != (i < 2 ? 'x' : '\0')) return dsb_fail(err, DSB_EUSAGE, "bench: --shape '%.60s': three whole numbers from 1, as in 1408x2048x512, are wanted", text);
        *to[i] = v;
        at = end + 1;
    }
    return DSB_OK;
}

static const dsb_kernel_case *find_case(const char *name) {
    const dsb_kernel_case *k;
    for (int i = 0, n = dsb_bench_cases(&k); i < n; i++)
        if (strcmp(k[i].name, name) == 0) return &k[i];
    return NULL;
}

static dsb_status unknown_kernel(const char *name, const char *plain, dsb_err *err) {
    const dsb_kernel_case *k;
    const char *names[DSB_OPT_LIST_MAX];
    char list[900] = "";
    int n = dsb_bench_cases(&k), at = 0;
    for (int i = 0; i < n && i < DSB_OPT_LIST_MAX; i++) {
        names[i] = k[i].name;
        if (at < (int)sizeof list) at += snprintf(list + at, sizeof list - (size_t)at, "%s, ", names[i]);
    }
    const char *near = dsb_name_nearest(plain, names, n < DSB_OPT_LIST_MAX ? n : DSB_OPT_LIST_MAX);
    return dsb_fail(err, DSB_EUSAGE, "bench: --kernel: unknown kernel '%.60s'%s%s%s; there are: %sgemm (all products), all", name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", list);
}

static dsb_status add_job(dsb_bench_kernels *b, const dsb_kernel_case *k, const dsb_backend *be, const dsb_case_shape *given, dsb_err *err) {
    dsb_bench_job *job = &b->jobs[b->n++];
    dsb_case_shape own = dsb_bench_case_shape(k);
    *job = (dsb_bench_job){.k = k, .be = be, .shape = given ? *given : own};
    job->shape.group = b->group ? b->group : own.group < job->shape.cols ? own.group : 0;
    return dsb_bench_case_check_shape(k, &job->shape, err);
}

/* The kernels that a word names: one, all, or all products; "avx2/": of that instruction set, else of the one that runs here. */
static dsb_status add_jobs(dsb_bench_kernels *b, const char *name, const dsb_case_shape *shapes, int n_shape, dsb_err *err) {
    const char *slash = strchr(name, '/'), *plain = slash ? slash + 1 : name;
    const dsb_backend *be = b->be;
    const dsb_kernel_case *k;
    char isa[16] = "";
    bool experts = strcmp(plain, "experts") == 0, all = strcmp(plain, "all") == 0, products = strcmp(plain, "gemm") == 0;
    if (!experts && !all && !products && !find_case(plain)) return unknown_kernel(name, plain, err);
    if (slash) {
        snprintf(isa, sizeof isa, "%.*s", (int)(slash - name < 15 ? slash - name : 15), name);
        be = strcmp(isa, b->be->isa) == 0 ? b->be : *isa && !b->be->facts ? dsb_backend_cpu(isa) : NULL;
        if (!be && b->be->facts) return dsb_fail(err, DSB_EUSAGE, "bench: --kernel %.60s: --device cuda measures the GPU's kernels; without --device is wanted", name);
        if (!be) return dsb_fail(err, DSB_EUSAGE, "bench: --kernel %.60s: this machine or build has no instruction set '%s'; `dsbench list kernels` tells what there is", name, isa);
    }
    if (all && n_shape) return dsb_fail(err, DSB_EUSAGE, "bench: --kernel all: one shape doesn't suit all kernels; leave --shape out, or name the kernels");
    for (int i = 0; experts && i < (n_shape ? n_shape : 1); i++) {
        b->jobs[b->n] = (dsb_bench_job){.be = be, .shape = n_shape ? shapes[i] : (dsb_case_shape){512, 1408, 2048, 0}};
        DSB_TRY(dsb_bench_experts_check(b, &b->jobs[b->n++], err));
    }
    for (int i = 0, n = dsb_bench_cases(&k); i < n && !experts; i++) {
        bool named = strcmp(k[i].name, plain) == 0;
        if (!all && !(products && k[i].product) && !named) continue;
        if (k[i].kind == DSB_W_BLOCK && !be->pack_blocks && !named) continue;
        if (k[i].kind == DSB_W_BLOCK && !be->pack_blocks) return dsb_fail(err, DSB_EUNSUPPORTED, "bench: --kernel %.60s: this device has no products of packed weights; decoded ones run as gemm_f32", name);
        for (int s = 0; s < (n_shape ? n_shape : 1); s++) DSB_TRY(add_job(b, &k[i], be, n_shape ? &shapes[s] : NULL, err));
    }
    return DSB_OK;
}

dsb_status dsb_bench_kernels_open(dsb_bench_kernels *b, dsb_arena *arena, dsb_err *err) {
    dsb_opt_list names, words;
    const dsb_kernel_case *k;
    dsb_case_shape shapes[DSB_OPT_LIST_MAX] = {{0}};
    int n_all = dsb_bench_cases(&k), n_shape = 0;
    DSB_TRY(dsb_words_split(&names, arena, "--kernel", b->names, err));
    if (b->shapes) {
        DSB_TRY(dsb_words_split(&words, arena, "--shape", b->shapes, err));
        for (; n_shape < words.n; n_shape++) DSB_TRY(dsb_shape_parse(&shapes[n_shape], words.item[n_shape], err));
    }
    DSB_TRY(dsb_arena_take(arena, (void **)&b->jobs, (size_t)(names.n * n_all * (n_shape + 1)), sizeof *b->jobs, "kernels", err));
    for (int i = 0; i < names.n; i++) DSB_TRY(add_jobs(b, names.item[i], shapes, n_shape, err));
    return DSB_OK;
}

static void start_case(void *ctx, int64_t turn) {
    dsb_bench_case *c = ctx;
    dsb_bench_case_start(c, (int)(turn % c->copies));
}

static const char *shape_text(dsb_arena *arena, const dsb_case_shape *s) {
    if (s->group) return dsb_text_format(arena, "%lldx%lldx%lld group %lld", (long long)s->rows, (long long)s->cols, (long long)s->n, (long long)s->group);
    return dsb_text_format(arena, "%lldx%lldx%lld", (long long)s->rows, (long long)s->cols, (long long)s->n);
}

static void fill_row(const dsb_bench_kernels *b, const dsb_bench_case *c, dsb_arena *arena, const dsb_roofline *roof, const double *seconds, const dsb_cpu_times cpu[2], const dsb_sensors *sensors, dsb_bench_row *row) {
    double median = dsb_quantile_sorted(seconds, b->repeats, 0.5), ops = 0;
    bool memory;
    for (int a = 0; a < DSB_ARITH_COUNT; a++) ops += c->ops[a];
    *row = (dsb_bench_row){.kind = "kernel", .name = c->k->name, .shape = shape_text(arena, &c->call.shape), .n_token = -1, .depth = -1, .batch = -1, .repeats = b->repeats, .seconds = median, .seconds_min = seconds[0],
                           .seconds_max = seconds[b->repeats - 1], .tps = NAN, .p50_ms = NAN, .p99_ms = NAN, .gops = ops > 0 ? 1e-9 * ops / median : NAN, .gbps = 1e-9 * c->bytes / median,
                           .roofline_percent = dsb_roofline_percent(roof, c->ops, c->bytes, median, &memory), .busy_percent = dsb_busy_percent(&cpu[0], &cpu[1]), .steal_percent = dsb_steal_percent(&cpu[0], &cpu[1]),
                           .sm_mhz = sensors->sm_mhz, .power_w = sensors->power_w, .temperature_c = sensors->temperature_c, .energy_j = sensors->energy_j, .device_bytes = sensors->used_bytes,
                           .kernel = c->kernel ? c->kernel : dsb_text_format(arena, "%s/%s", c->call.be->isa, c->k->name)};
    row->bound = memory ? "memory" : "compute";
}

static dsb_status run_job(const dsb_bench_kernels *b, const dsb_bench_job *job, dsb_arena *arena, const dsb_roofline *roof, double *seconds, dsb_bench_row *row, dsb_err *err) {
    dsb_bench_case c;
    dsb_cpu_times cpu[2];
    dsb_sensors sensors;
    if (!job->k) return dsb_bench_experts_run(b, job, arena, roof, seconds, row, err);
    DSB_TRY(dsb_bench_case_open(&c, job->k, job->be, &job->shape, 0, err));
    dsb_status s = dsb_bench_case_verify(&c, err);
    if (!s) {
        dsb_cpu_times_read(&cpu[0]);
        dsb_timed_run(&(dsb_timed){job->be, &c, start_case}, b->repeats, seconds, &sensors);
        dsb_cpu_times_read(&cpu[1]);
        fill_row(b, &c, arena, roof, seconds, cpu, &sensors, row);
        s = job->be->check(err);
    }
    dsb_bench_case_close(&c);
    return s;
}

dsb_status dsb_bench_kernels_run(const dsb_bench_kernels *b, dsb_arena *arena, const dsb_roofline *roof, dsb_bench_rows *out, dsb_progress *progress, dsb_err *err) {
    double *seconds;
    DSB_TRY(dsb_arena_take(arena, (void **)&out->row, (size_t)b->n, sizeof *out->row, "rows", err));
    DSB_TRY(dsb_arena_take(arena, (void **)&seconds, (size_t)b->repeats, sizeof *seconds, "timings", err));
    for (out->n = 0; out->n < b->n; out->n++) {
        dsb_progress_show(progress, (double)out->n / b->n, b->jobs[out->n].k ? b->jobs[out->n].k->name : "experts");
        DSB_TRY(run_job(b, &b->jobs[out->n], arena, roof, seconds, &out->row[out->n], err));
    }
    return DSB_OK;
}
