/* Kernels by themselves, on the cases that the tests hold to plain C. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/bench.h"
#include "harness/busy.h"
#include "metrics/stats.h"

static const double k_repeat_s = 0.02; /* a repeat's calls take at least so long: a clock's step and a thread's start don't count */

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

static const dsb_case_row *find_case(const char *name) {
    const dsb_case_row *rows;
    for (int i = 0, n = dsb_case_list(&rows); i < n; i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

static dsb_status unknown_kernel(const char *name, const char *plain, dsb_err *err) {
    const dsb_case_row *rows;
    const char *names[DSB_OPT_LIST_MAX];
    char list[512] = "";
    int n = dsb_case_list(&rows), at = 0;
    for (int i = 0; i < n && i < DSB_OPT_LIST_MAX; i++) {
        names[i] = rows[i].name;
        if (at < (int)sizeof list) at += snprintf(list + at, sizeof list - (size_t)at, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = dsb_name_nearest(plain, names, n);
    return dsb_fail(err, DSB_EUSAGE, "bench: --kernel: unknown kernel '%.60s'%s%s%s; there are: %s; all", name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", list);
}

/* "gemm_i8" on the backend that runs here, or "avx2/gemm_i8". */
static dsb_status find_kernel(const dsb_bench_kernels *b, const char *name, dsb_bench_job *job, dsb_err *err) {
    const char *slash = strchr(name, '/'), *plain = slash ? slash + 1 : name;
    char isa[16] = "";
    job->be = b->be;
    if (slash) {
        snprintf(isa, sizeof isa, "%.*s", (int)(slash - name < 15 ? slash - name : 15), name);
        job->be = dsb_backend_cpu(isa);
    }
    job->row = find_case(plain);
    if (!job->row) return unknown_kernel(name, plain, err);
    return job->be ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "bench: --kernel %.60s: this machine or build has no instruction set '%s'; `dsbench list kernels` tells what there is", name, isa);
}

static dsb_status add_jobs(dsb_bench_kernels *b, const dsb_bench_job *kernel, const dsb_case_shape *shapes, int n_shape, dsb_err *err) {
    for (int i = 0; i < (n_shape ? n_shape : 1); i++) {
        dsb_bench_job *job = &b->jobs[b->n++];
        *job = *kernel;
        job->shape = n_shape ? shapes[i] : kernel->row->shape;
        job->shape.group = b->group ? b->group : kernel->row->shape.group;
        if (!b->group && job->shape.group > job->shape.cols) job->shape.group = job->shape.cols;
        DSB_TRY(dsb_case_shape_check(job->row, &job->shape, err));
    }
    return DSB_OK;
}

dsb_status dsb_bench_kernels_open(dsb_bench_kernels *b, dsb_arena *arena, dsb_err *err) {
    dsb_opt_list names, words;
    const dsb_case_row *rows;
    dsb_case_shape shapes[DSB_OPT_LIST_MAX] = {{0}};
    dsb_bench_job kernel;
    int n_all = dsb_case_list(&rows), n_shape = 0;
    DSB_TRY(dsb_words_split(&names, arena, "--kernel", b->names, err));
    if (b->shapes) {
        DSB_TRY(dsb_words_split(&words, arena, "--shape", b->shapes, err));
        for (; n_shape < words.n; n_shape++) DSB_TRY(dsb_shape_parse(&shapes[n_shape], words.item[n_shape], err));
    }
    DSB_TRY(dsb_arena_take(arena, (void **)&b->jobs, (size_t)((names.n + 1) * n_all * (n_shape + 1)), sizeof *b->jobs, "kernels", err));
    for (int i = 0; i < names.n; i++) {
        if (strcmp(names.item[i], "all") != 0) {
            DSB_TRY(find_kernel(b, names.item[i], &kernel, err));
            DSB_TRY(add_jobs(b, &kernel, shapes, n_shape, err));
            continue;
        }
        if (n_shape) return dsb_fail(err, DSB_EUSAGE, "bench: --kernel all: one shape doesn't suit all kernels; leave --shape out, or name the kernels");
        for (int j = 0; j < n_all; j++) DSB_TRY(add_jobs(b, &(dsb_bench_job){.row = &rows[j], .be = b->be}, NULL, 0, err));
    }
    return DSB_OK;
}

/* Seconds of one call in each repeat. Copies take turns all along. */
static void time_case(const dsb_case *c, int64_t repeats, double *seconds) {
    int64_t calls = 0, turn = 0;
    double t = dsb_now_s();
    while (dsb_now_s() - t < k_repeat_s || calls < 2) { /* the warm-up, that tells how many calls a repeat wants */
        dsb_case_run(c, (int)(turn++ % c->copies));
        calls++;
    }
    for (int64_t r = 0; r < repeats; r++) {
        t = dsb_now_s();
        for (int64_t i = 0; i < calls; i++) dsb_case_run(c, (int)(turn++ % c->copies));
        seconds[r] = (dsb_now_s() - t) / (double)calls;
    }
    dsb_sort(seconds, repeats);
}

static dsb_status run_job(const dsb_bench_kernels *b, const dsb_bench_job *job, dsb_arena *arena, const dsb_roofline *roof, double *seconds, dsb_bench_row *row, dsb_err *err) {
    dsb_case c;
    dsb_cpu_times cpu[2];
    bool memory;
    DSB_TRY(dsb_case_open(&c, job->row, job->be, &job->shape, DSB_FILL_PLAIN, 0, err));
    dsb_status s = dsb_case_check(&c, err);
    if (!s) {
        dsb_cpu_times_read(&cpu[0]);
        time_case(&c, b->repeats, seconds);
        dsb_cpu_times_read(&cpu[1]);
        double median = dsb_quantile_sorted(seconds, b->repeats, 0.5), ops[DSB_ARITH_COUNT] = {0};
        const dsb_case_shape *p = &c.shape;
        const char *shape = p->group < p->cols ? dsb_text_format(arena, "%lldx%lldx%lld group %lld", (long long)p->rows, (long long)p->cols, (long long)p->n, (long long)p->group) : dsb_text_format(arena, "%lldx%lldx%lld", (long long)p->rows, (long long)p->cols, (long long)p->n);
        ops[job->row->arithmetic] = c.ops;
        *row = (dsb_bench_row){.kind = "kernel", .name = job->row->name, .shape = shape, .n_token = -1, .depth = -1, .batch = -1, .repeats = b->repeats, .seconds = median, .seconds_min = seconds[0],
                               .seconds_max = seconds[b->repeats - 1], .tps = NAN, .p50_ms = NAN, .p99_ms = NAN, .gops = 1e-9 * c.ops / median, .gbps = 1e-9 * c.bytes / median,
                               .roofline_percent = dsb_roofline_percent(roof, ops, c.bytes, median, &memory), .busy_percent = dsb_busy_percent(&cpu[0], &cpu[1]), .steal_percent = dsb_steal_percent(&cpu[0], &cpu[1]),
                               .kernel = c.w && c.w[0].kernel ? c.w[0].kernel : dsb_text_format(arena, "%s/%s", job->be->isa, job->row->name)};
        row->bound = memory ? "memory" : "compute";
    }
    dsb_case_close(&c);
    return s;
}

dsb_status dsb_bench_kernels_run(const dsb_bench_kernels *b, dsb_arena *arena, const dsb_roofline *roof, dsb_bench_rows *out, dsb_progress *progress, dsb_err *err) {
    double *seconds;
    DSB_TRY(dsb_arena_take(arena, (void **)&out->row, (size_t)b->n, sizeof *out->row, "rows", err));
    DSB_TRY(dsb_arena_take(arena, (void **)&seconds, (size_t)b->repeats, sizeof *seconds, "timings", err));
    for (out->n = 0; out->n < b->n; out->n++) {
        dsb_progress_show(progress, (double)out->n / b->n, b->jobs[out->n].row->name);
        DSB_TRY(run_job(b, &b->jobs[out->n], arena, roof, seconds, &out->row[out->n], err));
    }
    return DSB_OK;
}
