#include "harness/throughput.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/busy.h"
#include "harness/record.h"
#include "metrics/stats.h"

/* What is kept of one scheme while it is timed. */
typedef struct timings {
    double *prefill_s, *decode_s; /* (repeats) */
    double *step_s;               /* (repeats, decode): every decoded step by itself */
    dsb_work prefill, decode;
    dsb_sensors sensors[2]; /* of prefill, of decode */
} timings;

typedef struct bench {
    const dsb_throughput_plan *p;
    int64_t length;  /* tokens of a sequence */
    int32_t *step;   /* (batch, longest pass) */
    float *logits;   /* (batch, vocab) */
    dsb_progress *progress;
} bench;

/* n tokens of every sequence from its position `at` on, one sequence behind the other. */
static const int32_t *pick(bench *b, int64_t at, int64_t n) {
    for (int64_t i = 0; i < b->p->batch; i++) memcpy(b->step + i * n, b->p->tokens + i * b->length + at, (size_t)n * sizeof *b->step);
    return b->step;
}

/* What stands in the caches before anything is timed. */
static dsb_status fill(bench *b, dsb_session *s, dsb_err *err) {
    enum { PASS = 256 };
    for (int64_t at = 0; at < b->p->depth; at += PASS) {
        int64_t n = b->p->depth - at < PASS ? b->p->depth - at : PASS;
        DSB_TRY(dsb_session_forward(s, pick(b, at, n), n, 0, NULL, NULL, err));
    }
    return DSB_OK;
}

static void sense(dsb_sensors *s, const dsb_backend *be) {
    dsb_sensors_look(s, be);
    dsb_sensors_end(s, be);
}

/* One prefill and the decoding after it; r < 0: the warm-up, not kept. The text's own tokens are fed, whatever the logits say. */
static dsb_status once(bench *b, dsb_session *s, timings *v, int64_t r, dsb_err *err) {
    const dsb_throughput_plan *p = b->p;
    int64_t at = p->depth, kept = r < 0 ? 0 : r;
    dsb_session_rewind_to(s, p->depth);
    s->done = (dsb_work){0};
    if (p->prefill) {
        const int32_t *tokens = pick(b, at, p->prefill);
        if (r >= 0) dsb_sensors_begin(&v->sensors[0], p->m->be);
        double t = dsb_now_s();
        DSB_TRY(dsb_session_forward(s, tokens, p->prefill, 1, b->logits, NULL, err));
        v->prefill_s[kept] = dsb_now_s() - t;
        if (r >= 0) sense(&v->sensors[0], p->m->be);
    }
    v->prefill = s->done;
    s->done = (dsb_work){0};
    at += p->prefill;
    if (r >= 0) dsb_sensors_begin(&v->sensors[1], p->m->be);
    double first = dsb_now_s(), before = first;
    for (int64_t i = 0; i < p->decode; i++) {
        DSB_TRY(dsb_session_forward(s, pick(b, at + i, 1), 1, 1, b->logits, NULL, err));
        double now = dsb_now_s();
        v->step_s[kept * p->decode + i] = now - before;
        before = now;
    }
    v->decode_s[kept] = before - first;
    if (r >= 0) sense(&v->sensors[1], p->m->be);
    v->decode = s->done;
    return DSB_OK;
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

static void summarize(const dsb_throughput_plan *p, const dsb_roofline *roof, const dsb_session *s, timings *v, bool decode, const dsb_cpu_times cpu[2], dsb_speed *out) {
    double *t = decode ? v->decode_s : v->prefill_s;
    int64_t n_step = p->repeats * p->decode;
    dsb_sort(t, p->repeats);
    *out = (dsb_speed){.scheme = s->scheme, .decode = decode, .n_token = decode ? p->decode : p->prefill, .depth = p->depth + (decode ? p->prefill : 0), .seconds = dsb_quantile_sorted(t, p->repeats, 0.5),
                       .seconds_min = t[0], .seconds_max = t[p->repeats - 1], .p50_ms = NAN, .p99_ms = NAN, .work = decode ? v->decode : v->prefill, .busy_percent = dsb_busy_percent(&cpu[0], &cpu[1]),
                       .steal_percent = dsb_steal_percent(&cpu[0], &cpu[1]), .token_bytes = (int64_t)s->token_bytes, .sensors = dsb_sensors_mean(&v->sensors[decode], (double)p->repeats)};
    if (decode) {
        dsb_sort(v->step_s, n_step);
        out->p50_ms = 1e3 * dsb_quantile_sorted(v->step_s, n_step, 0.5);
        out->p99_ms = 1e3 * dsb_quantile_sorted(v->step_s, n_step, 0.99);
    }
    int most = 0;
    for (int a = 1; a < DSB_ARITH_COUNT; a++)
        if (out->work.ops[a] > out->work.ops[most]) most = a;
    out->peak_gops = dsb_roofline_peak(roof, (dsb_arithmetic)most);
    out->roofline_percent = dsb_roofline_percent(roof, out->work.ops, out->work.bytes, out->seconds, &out->memory);
    list_kernels(s, out->kernels);
}

static dsb_status timings_make(timings *v, const dsb_throughput_plan *p, dsb_err *err) {
    for (int i = 0; i < 2; i++) dsb_sensors_init(&v->sensors[i]);
    DSB_TRY(DSB_NEW(v->prefill_s, p->repeats, "timings", err));
    DSB_TRY(DSB_NEW(v->decode_s, p->repeats, "timings", err));
    return DSB_NEW(v->step_s, p->repeats * p->decode + 1, "timings", err);
}

static void timings_free(timings *v) {
    free(v->prefill_s);
    free(v->decode_s);
    free(v->step_s);
}

/* Schemes first .. first+n in memory at once, taking turns. */
static dsb_status measure_together(bench *b, int first, int n, const dsb_roofline *roof, dsb_session *s, timings *v, dsb_speed *speeds, int *n_speed, dsb_err *err) {
    const dsb_throughput_plan *p = b->p;
    dsb_cpu_times cpu[2];
    char what[96];
    for (int i = first; i < first + n; i++) {
        snprintf(what, sizeof what, "loading: %s", p->schemes[i].name);
        dsb_progress_show(b->progress, p->from + (p->to - p->from) * i / p->n_scheme, what);
        DSB_TRY(dsb_session_open_batch(&s[i], p->m, &p->schemes[i], p->calibration, b->length, p->batch, err));
        DSB_TRY(fill(b, &s[i], err));
    }
    dsb_cpu_times_read(&cpu[0]);
    for (int64_t r = -1; r < p->repeats; r++)
        for (int i = first; i < first + n; i++) {
            double round = (double)((r + 1) * n + i - first) / (double)((p->repeats + 1) * n);
            snprintf(what, sizeof what, "speed: %s", p->schemes[i].name);
            dsb_progress_show(b->progress, p->from + (p->to - p->from) * (first + round * n) / p->n_scheme, what);
            DSB_TRY(once(b, &s[i], &v[i], r, err));
        }
    dsb_cpu_times_read(&cpu[1]);
    for (int i = first; i < first + n; i++)
        for (int decode = 0; decode < 2; decode++)
            if (decode ? p->decode : p->prefill) summarize(p, roof, &s[i], &v[i], decode, cpu, &speeds[(*n_speed)++]);
    return DSB_OK;
}

static dsb_status measure(bench *b, const dsb_roofline *roof, dsb_session *s, timings *v, dsb_speed *speeds, int *n, dsb_err *err) {
    const dsb_throughput_plan *p = b->p;
    int64_t longest = p->prefill > p->depth ? p->prefill : p->depth;
    b->length = p->depth + p->prefill + p->decode;
    DSB_TRY(DSB_NEW(b->step, p->batch * (longest + 1), "tokens", err));
    DSB_TRY(DSB_NEW(b->logits, p->batch * p->m->config.vocab, "logits", err));
    for (int i = 0; i < p->n_scheme; i++) DSB_TRY(timings_make(&v[i], p, err));
    for (int i = 0; i < p->n_scheme; i += p->apart ? 1 : p->n_scheme) {
        DSB_TRY(measure_together(b, i, p->apart ? 1 : p->n_scheme, roof, s, v, speeds, n, err));
        if (p->apart) dsb_session_close(&s[i]);
    }
    return DSB_OK;
}

dsb_status dsb_throughput_measure(const dsb_throughput_plan *plan, const dsb_roofline *roof, dsb_speed *speeds, int *n, dsb_progress *progress, dsb_err *err) {
    bench b = {.p = plan, .progress = progress};
    dsb_session *s = NULL;
    timings *v = NULL;
    *n = 0;
    if (plan->repeats < 1 || plan->repeats > DSB_MAX_REPEATS) return dsb_fail(err, DSB_EUSAGE, "repeats is %lld; 1 to %d is wanted", (long long)plan->repeats, DSB_MAX_REPEATS);
    dsb_status st = DSB_NEW(s, plan->n_scheme, "sessions", err);
    if (!st) st = DSB_NEW(v, plan->n_scheme, "timings", err);
    if (!st) st = measure(&b, roof, s, v, speeds, n, err);
    for (int i = 0; s && i < plan->n_scheme; i++) dsb_session_close(&s[i]);
    for (int i = 0; v && i < plan->n_scheme; i++) timings_free(&v[i]);
    free(s);
    free(v);
    free(b.step);
    free(b.logits);
    return st;
}

static dsb_status put(const dsb_throughput_plan *p, const dsb_roofline *roof, const dsb_speed *v, dsb_db *db, const char *run_id, dsb_err *err) {
    double gops = 0;
    for (int a = 0; a < DSB_ARITH_COUNT; a++) gops += 1e-9 * v->work.ops[a] / v->seconds;
    dsb_throughput row = {.scheme = v->scheme->name, .phase = v->decode ? "decode" : "prefill", .n_token = v->n_token, .depth = v->depth, .batch = p->batch, .repeats = p->repeats,
                          .tps_median = dsb_speed_tps(v, p->batch, v->seconds), .tps_min = dsb_speed_tps(v, p->batch, v->seconds_max), .tps_max = dsb_speed_tps(v, p->batch, v->seconds_min),
                          .gbps = 1e-9 * v->work.bytes / v->seconds, .gops = gops, .roofline_percent = v->roofline_percent, .busy_percent = v->busy_percent, .triad_gbps = roof->triad_gbps,
                          .read_gbps = roof->read_gbps, .peak_gops = v->peak_gops, .weight_bytes = v->token_bytes, .ttft_ms = v->decode ? NAN : 1e3 * v->seconds,
                          .tpot_ms = v->decode ? 1e3 * v->seconds / (double)v->n_token : NAN, .tpot_p50_ms = v->p50_ms, .tpot_p99_ms = v->p99_ms, .kernel = v->kernels};
    return dsb_db_put_throughput(db, run_id, &row, err);
}

dsb_status dsb_throughput_run(const dsb_throughput_plan *plan, dsb_db *db, const char *run_id, dsb_progress *progress, dsb_err *err) {
    dsb_roofline roof;
    dsb_speed *speeds;
    int n;
    DSB_TRY(DSB_NEW(speeds, 2 * plan->n_scheme, "speeds", err));
    dsb_roofline_measure(plan->m->be, &roof);
    dsb_status st = dsb_throughput_measure(plan, &roof, speeds, &n, progress, err);
    if (!st) st = dsb_db_begin(db, err);
    for (int i = 0; i < n && !st; i++) st = put(plan, &roof, &speeds[i], db, run_id, err);
    if (!st) st = dsb_db_commit(db, err);
    if (st) dsb_db_rollback(db);
    free(speeds);
    return st;
}
