#include "harness/throughput.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness/record.h"
#include "metrics/stats.h"

enum { MAX_REPEATS = 32 };

typedef struct speed {
    double prefill_s[MAX_REPEATS], decode_s[MAX_REPEATS];
    double *token_s; /* (repeats, decode): every decoded token by itself */
} speed;

/* Busy CPU seconds of the whole machine since boot, or -1. */
static double machine_busy_s(void) {
    FILE *f = fopen("/proc/stat", "re");
    double user, nice, sys, idle, io, irq, soft;
    if (!f) return -1;
    int n = fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &sys, &idle, &io, &irq, &soft);
    fclose(f);
    return n == 7 ? (user + nice + sys + irq + soft) / (double)sysconf(_SC_CLK_TCK) : -1;
}

static double own_busy_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* One prefill and the decoding after it. The text's own tokens are fed, whatever the logits say. */
static dsb_status once(dsb_session *s, const dsb_throughput_plan *p, float *logits, double *prefill_s, double *decode_s, double *token_s, dsb_err *err) {
    dsb_session_rewind(s);
    double t0 = dsb_now_s();
    DSB_TRY(dsb_session_forward(s, p->tokens, p->prefill, 1, logits, NULL, err));
    double t1 = dsb_now_s(), before = t1;
    for (int64_t i = 0; i < p->decode; i++) {
        DSB_TRY(dsb_session_forward(s, p->tokens + p->prefill + i, 1, 1, logits, NULL, err));
        double now = dsb_now_s();
        token_s[i] = now - before;
        before = now;
    }
    *prefill_s = t1 - t0;
    *decode_s = before - t1;
    return DSB_OK;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Distinct kernels of all products, as table scheme has them. */
static void list_kernels(const dsb_session *s, char list[256]) {
    list[0] = 0;
    for (int64_t l = 0; l < s->m->config.n_layer; l++) {
        const dsb_layer_weights *w = &s->layers[l];
        const dsb_linear *all[] = {&w->attn.q, &w->attn.q_a, &w->attn.q_b, &w->attn.kv_a, &w->attn.kv_b, &w->attn.k, &w->attn.v, &w->attn.o, &w->router.w, &w->dense.gate, &w->dense.up, &w->dense.down};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) dsb_kernel_list_add(list, all[i]->w.kernel);
        for (int64_t e = 0; w->experts && e < s->m->config.n_expert; e++) {
            dsb_kernel_list_add(list, w->experts[e].gate.w.kernel);
            dsb_kernel_list_add(list, w->experts[e].up.w.kernel);
            dsb_kernel_list_add(list, w->experts[e].down.w.kernel);
        }
    }
    dsb_kernel_list_add(list, s->lm_head.w.kernel);
}

static dsb_status put(const dsb_throughput_plan *p, dsb_db *db, const char *run_id, int i, const dsb_session *s, speed *v, const dsb_roofline *roof, double busy, dsb_err *err) {
    bool integer = s->layers[0].attn.o.w.kind == DSB_W_I8 || s->layers[0].attn.o.w.kind == DSB_W_I4 || s->layers[0].dense.down.w.kind >= DSB_W_I8;
    int64_t n_token = p->repeats * p->decode;
    char kernels[256];
    list_kernels(s, kernels);
    dsb_sort(v->token_s, n_token);
    for (int phase = 0; phase < 2; phase++) {
        double *t = phase ? v->decode_s : v->prefill_s, n = (double)(phase ? p->decode : p->prefill);
        qsort(t, (size_t)p->repeats, sizeof *t, ascending);
        double median = p->repeats % 2 ? t[p->repeats / 2] : 0.5 * (t[p->repeats / 2 - 1] + t[p->repeats / 2]);
        double tps = n / median, gops = tps * s->token_ops * 1e-9, gbps = tps * (double)s->token_bytes * 1e-9, peak = integer ? roof->int8_gops : roof->f32_gflops;
        dsb_throughput row = {.scheme = p->schemes[i].name, .phase = phase ? "decode" : "prefill", .n_token = (int64_t)n, .depth = phase ? p->prefill : 0, .batch = 1, .repeats = p->repeats,
                              .tps_median = tps, .tps_min = n / t[p->repeats - 1], .tps_max = n / t[0], .gbps = phase ? gbps : NAN, .gops = gops,
                              .roofline_percent = phase ? 100 * gbps / roof->read_gbps : 100 * gops / peak, .busy_percent = busy, .triad_gbps = roof->triad_gbps, .read_gbps = roof->read_gbps, .peak_gops = peak,
                              .weight_bytes = (int64_t)s->token_bytes, .ttft_ms = phase ? NAN : 1e3 * median, .tpot_ms = phase ? 1e3 * median / n : NAN,
                              .tpot_p50_ms = phase ? 1e3 * dsb_quantile_sorted(v->token_s, n_token, 0.5) : NAN, .tpot_p99_ms = phase ? 1e3 * dsb_quantile_sorted(v->token_s, n_token, 0.99) : NAN, .kernel = kernels};
        DSB_TRY(dsb_db_put_throughput(db, run_id, &row, err));
    }
    return DSB_OK;
}

static dsb_status measure(const dsb_throughput_plan *p, dsb_session *s, speed *v, float *logits, dsb_progress *progress, dsb_err *err) {
    double unused;
    char what[96];
    for (int64_t r = -1; r < p->repeats; r++)
        for (int i = 0; i < p->n_scheme; i++) {
            snprintf(what, sizeof what, "speed: %s", p->schemes[i].name);
            dsb_progress_show(progress, 0.85 + 0.14 * (double)((r + 1) * p->n_scheme + i) / (double)((p->repeats + 1) * p->n_scheme), what);
            DSB_TRY(once(&s[i], p, logits, r < 0 ? &unused : &v[i].prefill_s[r], r < 0 ? &unused : &v[i].decode_s[r], v[i].token_s + (r < 0 ? 0 : r * p->decode), err));
        }
    return DSB_OK;
}

dsb_status dsb_throughput_run(const dsb_throughput_plan *plan, dsb_db *db, const char *run_id, dsb_progress *progress, dsb_err *err) {
    dsb_session *s = NULL;
    speed *v = NULL;
    float *logits = NULL;
    dsb_roofline roof;
    if (plan->repeats < 1 || plan->repeats > MAX_REPEATS) return dsb_fail(err, DSB_EUSAGE, "repeats is %lld; 1 to %d is wanted", (long long)plan->repeats, MAX_REPEATS);
    dsb_status st = DSB_NEW(s, plan->n_scheme, "sessions", err);
    if (!st) st = DSB_NEW(v, plan->n_scheme, "timings", err);
    if (!st) st = DSB_NEW(logits, plan->m->config.vocab, "logits", err);
    for (int i = 0; i < plan->n_scheme && !st; i++) st = DSB_NEW(v[i].token_s, plan->repeats * plan->decode, "timings", err);
    dsb_roofline_measure(plan->m->be, &roof);
    for (int i = 0; i < plan->n_scheme && !st; i++) st = dsb_session_open(&s[i], plan->m, &plan->schemes[i], plan->calibration, plan->prefill + plan->decode, err);
    double wall = dsb_now_s(), all = machine_busy_s(), own = own_busy_s();
    if (!st) st = measure(plan, s, v, logits, progress, err);
    wall = dsb_now_s() - wall;
    double others = machine_busy_s() - all - (own_busy_s() - own);
    double busy = all < 0 ? NAN : 100 * (others > 0 ? others : 0) / (wall * (double)sysconf(_SC_NPROCESSORS_ONLN));
    if (!st) st = dsb_db_begin(db, err);
    for (int i = 0; i < plan->n_scheme && !st; i++) st = put(plan, db, run_id, i, &s[i], &v[i], &roof, busy, err);
    if (!st) st = dsb_db_commit(db, err);
    if (st) dsb_db_rollback(db);
    for (int i = 0; s && i < plan->n_scheme; i++) dsb_session_close(&s[i]);
    for (int i = 0; v && i < plan->n_scheme; i++) free(v[i].token_s);
    free(s);
    free(v);
    free(logits);
    return st;
}
