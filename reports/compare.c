#include "reports/compare.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "metrics/metric_table.h"
#include "metrics/stats.h"
#include "reports/summary.h"

#define ALPHA 0.05
#define POWER 0.8

/* What is paired by chunk. Gating metrics form the family that Holm adjusts. */
#define NO_MINUS SIZE_MAX
static const struct paired {
    const char *metric;
    size_t offset, minus;   /* of the chunk's mean, and of what is taken from it */
    bool by_target, gating; /* weighted by n_target, else by n */
} paired[] = {
    { "delta_nll", offsetof(dsb_chunk_quality, nll_test), offsetof(dsb_chunk_quality, nll_ref), true, true },
    { "kld_mean", offsetof(dsb_chunk_quality, kld), NO_MINUS, false, true },
    { "selection_change", offsetof(dsb_chunk_quality, selection_change), NO_MINUS, false, true },
    { "slot_change", offsetof(dsb_chunk_quality, slot_change), NO_MINUS, false, false },
    { "top1_agreement", offsetof(dsb_chunk_quality, top1), NO_MINUS, false, false },
    { "top1_accuracy", offsetof(dsb_chunk_quality, accuracy_test), NO_MINUS, true, false },
};
enum { N_PAIRED = sizeof paired / sizeof *paired, N_OTHER = 5 }; /* acc, acc_norm, size, two speeds */

typedef struct row {
    const char *base_scheme, *head_scheme, *metric, *unit, *verdict;
    double base, head, diff, lo, hi, p, adjusted, detectable;
    int64_t n;
    bool gating;
} row;

typedef struct table {
    row *rows;
    int64_t n;
    double *diff; /* room for one scheme's chunks, or items */
} table;

/* RUN, else RUN:scheme split at the last colon (a run's id may hold one). */
static dsb_status resolve(dsb_db *db, dsb_arena *arena, const char *name, const char **run_id, const char **scheme, dsb_err *err) {
    dsb_err whole = { 0 };
    const char *colon = strrchr(name, ':');
    *scheme = NULL;
    dsb_status s = dsb_db_run_resolve(db, arena, name, run_id, &whole);
    if (!s) return DSB_OK;
    if (!colon) return dsb_fail(err, s, "%s", whole.text);
    char *run = dsb_arena_strdup(arena, name);
    if (!run) return dsb_fail(err, DSB_ENOMEM, "out of memory while comparing");
    run[colon - name] = 0;
    *scheme = colon + 1;
    return dsb_db_run_resolve(db, arena, run, run_id, err);
}

static bool same_text(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

static dsb_status differ(const char *what, const char *a, const char *b, dsb_err *err) {
    return dsb_fail(err, DSB_ECOMPARE, "not comparable: %s differs: %s against %s; compare runs of the same model, text and convention", what, a ? a : "none", b ? b : "none");
}

/* What the run's figures are relative to, as its suite says (`dsbench run --reference`). */
static bool bf16_reference(const dsb_run_record *r) {
    const char *v = NULL;
    json_t *doc;
    dsb_err ignored;
    if (!r->suite_json || dsb_json_parse(&doc, "suite", r->suite_json, strlen(r->suite_json), &ignored)) return false;
    bool bf16 = json_is_object(doc) && !dsb_json_string(doc, "suite", "reference", false, &v, &ignored) && v && !strcmp(v, "bf16");
    json_decref(doc);
    return bf16;
}

static dsb_status check_comparable(const dsb_run_data *a, const dsb_run_data *b, dsb_err *err) {
    const dsb_run_record *x = &a->run, *y = &b->run;
    if (!same_text(x->model.sha256, y->model.sha256)) return differ("the model (SHA-256)", x->model.sha256, y->model.sha256, err);
    if (!x->model.sha256 && !same_text(x->model.path, y->model.path)) return differ("the model", x->model.path, y->model.path, err);
    if (!same_text(x->dataset.sha256, y->dataset.sha256)) return differ("the text (SHA-256)", x->dataset.sha256, y->dataset.sha256, err);
    if (!x->dataset.sha256 && !same_text(x->dataset.path, y->dataset.path)) return differ("the text", x->dataset.path, y->dataset.path, err);
    if (!same_text(x->convention, y->convention)) return differ("the convention", x->convention, y->convention, err);
    bool bf16 = bf16_reference(x);
    if (bf16 != bf16_reference(y))
        return dsb_fail(err, DSB_ECOMPARE, "not comparable: the reference's arithmetic differs: %s against %s products; compare runs of the same --reference", bf16 ? "bf16" : "f32", bf16 ? "f32" : "bf16");
    if (x->n_ctx != y->n_ctx) return dsb_fail(err, DSB_ECOMPARE, "not comparable: the context differs: %lld against %lld tokens; compare runs of the same context", (long long)x->n_ctx, (long long)y->n_ctx);
    /* Chunks are spread over the text: another number of them is other text under the same chunk's number. */
    if (x->n_chunk != y->n_chunk)
        return dsb_fail(err, DSB_ECOMPARE, "not comparable: the number of chunks differs: %lld against %lld; compare runs of the same --chunks", (long long)x->n_chunk, (long long)y->n_chunk);
    if (x->n_scored != y->n_scored)
        return dsb_fail(err, DSB_ECOMPARE, "not comparable: scored positions differ: %lld against %lld over as many chunks", (long long)x->n_scored, (long long)y->n_scored);
    return DSB_OK;
}

static double chunk_value(const dsb_chunk_quality *c, const struct paired *k) {
    double v, minus = 0;
    memcpy(&v, (const char *)c + k->offset, sizeof v);
    if (k->minus != NO_MINUS) memcpy(&minus, (const char *)c + k->minus, sizeof minus);
    return v - minus;
}

static const char *judge(const char *metric, double lo, double hi, bool identical, bool significant) {
    const dsb_metric *m = dsb_metric_find(metric);
    if (identical) return "equivalent";
    if (!m || m->better == DSB_BETTER_NONE) return "reported";
    if (!significant || isnan(lo) || isnan(hi) || (lo <= 0 && hi >= 0)) return "inconclusive";
    return (lo > 0) == (m->better == DSB_BETTER_LOWER) ? "regressed" : "improved";
}

/* One paired metric over the chunks that both have. Two schemes on other chunks share none: no row. */
static void add_paired(table *t, const struct paired *k, const dsb_run_data *base, const char *bs, const dsb_run_data *head, const char *hs) {
    const dsb_metric *m = dsb_metric_find(k->metric);
    row r = { .base_scheme = bs, .head_scheme = hs, .metric = k->metric, .unit = m ? m->unit : NULL, .gating = k->gating, .adjusted = NAN };
    double weight = 0;
    bool identical = true;
    for (int64_t i = 0; i < base->n_chunk_row; i++) {
        const dsb_chunk_quality *b = &base->chunks[i], *h = !strcmp(b->scheme, bs) ? dsb_run_chunk(head, hs, b->chunk) : NULL;
        double vb = h ? chunk_value(b, k) : NAN, vh = h ? chunk_value(h, k) : NAN, w = (double)(k->by_target ? b->n_target : b->n);
        if (isnan(vb) || isnan(vh) || !(w > 0)) continue;
        t->diff[r.n++] = vh - vb;
        r.base += w * vb;
        r.head += w * vh;
        weight += w;
        identical = identical && vb == vh;
    }
    if (!r.n) return;
    dsb_sample sample = dsb_sample_of(t->diff, r.n);
    r.base /= weight;
    r.head /= weight;
    r.diff = r.head - r.base;
    r.p = dsb_t_test(t->diff, r.n, 0);
    dsb_t_interval(t->diff, r.n, 1 - ALPHA, &r.lo, &r.hi);
    r.detectable = dsb_min_detectable(sample.se, r.n, ALPHA, POWER);
    r.verdict = judge(k->metric, r.lo, r.hi, identical, r.p < ALPHA);
    t->rows[t->n++] = r;
}

/* A figure without chunks: sizes are exact, speeds of separate runs are reported only (docs/METRICS.md). */
static void add_plain(table *t, const char *metric, bool exact, const char *bs, double base, const char *hs, double head) {
    const dsb_metric *m = dsb_metric_find(metric);
    if (isnan(base) || isnan(head)) return;
    double diff = head - base;
    t->rows[t->n++] = (row){ .base_scheme = bs, .head_scheme = hs, .metric = metric, .unit = m ? m->unit : NULL, .base = base, .head = head, .diff = diff, .lo = NAN, .hi = NAN,
                             .p = NAN, .adjusted = NAN, .detectable = NAN, .n = -1, .verdict = exact ? judge(metric, diff, diff, diff == 0, true) : "reported" };
}

static const dsb_task_item *item_of(const dsb_run_data *d, const char *scheme, int64_t item) {
    for (int64_t i = 0; i < d->n_item; i++)
        if (d->items[i].item == item && !strcmp(d->items[i].scheme, scheme)) return &d->items[i];
    return NULL;
}

/* Multiple choice, paired by item: right or wrong in both runs. Only where both asked the same. */
static void add_choice(table *t, const char *metric, bool norm, const dsb_run_data *base, const char *bs, const dsb_run_data *head, const char *hs) {
    const dsb_metric *m = dsb_metric_find(metric);
    row r = { .base_scheme = bs, .head_scheme = hs, .metric = metric, .unit = m ? m->unit : NULL, .adjusted = NAN };
    const dsb_task_item *h = item_of(head, hs, 0), *end = head->items + head->n_item;
    bool identical = true;
    if (!base->run.task_sha256 || !same_text(base->run.task_sha256, head->run.task_sha256)) return;
    for (const dsb_task_item *b = item_of(base, bs, 0); b && h && b < base->items + base->n_item && h < end && !strcmp(b->scheme, bs) && !strcmp(h->scheme, hs) && b->item == h->item; b++, h++) {
        int64_t x = norm ? b->answer_norm : b->answer, y = norm ? h->answer_norm : h->answer;
        if (x < 0 || y < 0) return; /* not finite: no figure */
        t->diff[r.n++] = (double)(y == h->gold) - (double)(x == b->gold);
        r.base += x == b->gold;
        r.head += y == h->gold;
        identical = identical && x == y;
    }
    if (!r.n) return;
    dsb_sample sample = dsb_sample_of(t->diff, r.n);
    r.base /= (double)r.n;
    r.head /= (double)r.n;
    r.diff = r.head - r.base;
    r.p = dsb_t_test(t->diff, r.n, 0);
    dsb_t_interval(t->diff, r.n, 1 - ALPHA, &r.lo, &r.hi);
    r.detectable = dsb_min_detectable(sample.se, r.n, ALPHA, POWER);
    r.verdict = judge(metric, r.lo, r.hi, identical, r.p < ALPHA);
    t->rows[t->n++] = r;
}

static double tps(const dsb_run_data *d, const char *scheme, const char *phase) {
    const dsb_throughput *t = dsb_run_speed(d, scheme, phase);
    return t ? t->tps_median : NAN;
}

static double size_of(const dsb_run_data *d, const char *scheme) {
    const dsb_scheme_record *s = dsb_run_scheme(d, scheme);
    return s && s->weight_bytes >= 0 ? (double)s->weight_bytes : NAN;
}

static void add_scheme(table *t, const dsb_run_data *base, const char *bs, const dsb_run_data *head, const char *hs) {
    for (int k = 0; k < N_PAIRED; k++) add_paired(t, &paired[k], base, bs, head, hs);
    add_choice(t, "acc", false, base, bs, head, hs);
    add_choice(t, "acc_norm", true, base, bs, head, hs);
    add_plain(t, "weight_bytes", true, bs, size_of(base, bs), hs, size_of(head, hs));
    add_plain(t, "prefill_tps", false, bs, tps(base, bs, "prefill"), hs, tps(head, hs, "prefill"));
    add_plain(t, "decode_tps", false, bs, tps(base, bs, "decode"), hs, tps(head, hs, "decode"));
}

/* Holm over the gating rows; a verdict that rested on the plain p alone becomes inconclusive. */
static dsb_status adjust(table *t, dsb_arena *arena, bool *regressed, dsb_err *err) {
    double *p;
    int64_t n = 0, at = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)&p, (size_t)t->n + 1, sizeof *p, "p values", err));
    for (int64_t i = 0; i < t->n; i++)
        if (t->rows[i].gating && !isnan(t->rows[i].p)) p[n++] = t->rows[i].p;
    if (n) DSB_TRY(dsb_holm(p, n, p, err));
    *regressed = false;
    for (int64_t i = 0; i < t->n; i++) {
        row *r = &t->rows[i];
        if (!r->gating || isnan(r->p)) continue;
        r->adjusted = p[at++];
        if (strcmp(r->verdict, "equivalent") && !(r->adjusted < ALPHA)) r->verdict = "inconclusive";
        *regressed = *regressed || !strcmp(r->verdict, "regressed");
    }
    return DSB_OK;
}

static void fill_grid(const table *t, bool pair, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },        { "metric", "metric", NULL, true },      { "base", "base", NULL, false },
        { "head", "head", NULL, false },           { "difference", "difference", NULL, false }, { "interval", "95 % interval", NULL, false },
        { "detectable", "detectable", "80 % power", false }, { "p", "p", NULL, false },     { "p_adjusted", "p", "Holm", false },
        { "n", "chunks", "or items", false },            { "unit", "unit", NULL, true },          { "verdict", "verdict", NULL, true },
        { "lo", NULL, NULL, false },               { "hi", NULL, NULL, false },             { "base_scheme", NULL, NULL, true },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < t->n; i++) {
        const row *r = &t->rows[i];
        dsb_grid_text(g, pair ? dsb_text_format(arena, "%.60s → %.60s", r->base_scheme, r->head_scheme) : r->head_scheme);
        dsb_grid_text(g, r->metric);
        dsb_grid_figure(g, r->base, "%.6g", r->base);
        dsb_grid_figure(g, r->head, "%.6g", r->head);
        dsb_grid_figure(g, r->diff, "%+.3g", r->diff);
        if (isnan(r->lo)) dsb_grid_text(g, NULL);
        else dsb_grid_text(g, dsb_text_format(arena, "[%+.2e, %+.2e]", r->lo, r->hi));
        dsb_grid_figure(g, r->detectable, "%.2e", r->detectable);
        dsb_grid_figure(g, r->p, "%.3g", r->p);
        dsb_grid_figure(g, r->adjusted, "%.3g", r->adjusted);
        dsb_grid_int(g, r->n);
        dsb_grid_text(g, r->unit);
        dsb_grid_text(g, r->verdict);
        dsb_grid_figure(g, r->lo, "%g", r->lo);
        dsb_grid_figure(g, r->hi, "%g", r->hi);
        dsb_grid_text(g, r->base_scheme);
    }
}

static dsb_status write_json(const dsb_grid *g, const char *base, const char *head, bool regressed, dsb_text *out, dsb_err *err) {
    json_t *doc = json_object();
    char *clean_base = dsb_text_clean(g->arena, base), *clean_head = dsb_text_clean(g->arena, head);
    json_object_set_new(doc, "base", json_string(clean_base ? clean_base : ""));
    json_object_set_new(doc, "head", json_string(clean_head ? clean_head : ""));
    json_object_set_new(doc, "regressed", json_boolean(regressed));
    json_object_set_new(doc, "rows", dsb_grid_json(g));
    char *text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
    json_decref(doc);
    if (!text) return dsb_fail(err, DSB_ENOMEM, "out of memory while writing the comparison");
    dsb_text_put(out, text);
    dsb_text_put(out, "\n");
    free(text);
    return DSB_OK;
}

static dsb_status collect(table *t, const dsb_run_data *base, const char *bs, const dsb_run_data *head, const char *hs, dsb_arena *arena, dsb_err *err) {
    size_t room = (size_t)(head->n_scheme + 1) * (N_PAIRED + N_OTHER), most = (size_t)(base->n_chunk_row > base->n_item ? base->n_chunk_row : base->n_item);
    DSB_TRY(dsb_arena_take(arena, (void **)&t->rows, room, sizeof *t->rows, "a comparison", err));
    DSB_TRY(dsb_arena_take(arena, (void **)&t->diff, most + 1, sizeof *t->diff, "a comparison", err));
    if (bs && hs) add_scheme(t, base, bs, head, hs);
    for (int64_t i = 0; i < head->n_scheme && !(bs && hs); i++) {
        const char *scheme = head->schemes[i].name, *only = bs ? bs : hs;
        if (dsb_run_scheme(base, scheme) && (!only || !strcmp(only, scheme))) add_scheme(t, base, scheme, head, scheme);
    }
    if (!t->n) return dsb_fail(err, DSB_ECOMPARE, "not comparable: runs %s and %s have no scheme with common figures; compare RUN:scheme RUN:scheme", base->run.id, head->run.id);
    return DSB_OK;
}

static dsb_status check_scheme(const dsb_run_data *d, const char *scheme, dsb_err *err) {
    if (!scheme || dsb_run_scheme(d, scheme)) return DSB_OK;
    return dsb_fail(err, DSB_EUSAGE, "run %s has no scheme '%s'; `dsbench layers %s` shows those it has", d->run.id, scheme, d->run.id);
}

static dsb_status compare(dsb_db *db, dsb_arena *arena, const char *base, const char *head, dsb_report_format format, dsb_text *out, bool *regressed, dsb_err *err) {
    const char *base_id, *head_id, *bs, *hs;
    dsb_run_data b, h;
    table t = { 0 };
    dsb_grid g;
    DSB_TRY(resolve(db, arena, base, &base_id, &bs, err));
    DSB_TRY(resolve(db, arena, head, &head_id, &hs, err));
    DSB_TRY(dsb_run_data_load(db, arena, base_id, &b, err));
    DSB_TRY(dsb_run_data_load(db, arena, head_id, &h, err));
    DSB_TRY(check_scheme(&b, bs, err));
    DSB_TRY(check_scheme(&h, hs, err));
    DSB_TRY(check_comparable(&b, &h, err));
    DSB_TRY(collect(&t, &b, bs, &h, hs, arena, err));
    DSB_TRY(adjust(&t, arena, regressed, err));
    fill_grid(&t, bs && hs && strcmp(bs, hs), arena, &g);
    if (format == DSB_REPORT_JSON) return write_json(&g, base, head, *regressed, out, err);
    dsb_text_printf(out, "base %s, head %s: %lld and %lld chunks, differences are head minus base, paired by chunk (acc, acc_norm: by item)\n\n", base, head, (long long)b.run.n_chunk, (long long)h.run.n_chunk);
    DSB_TRY(dsb_grid_write(&g, format, out, err));
    dsb_text_printf(out, "\n%s\n", *regressed ? "Regressed: a gating metric (delta_nll, kld_mean, selection_change) got worse." : "No regression shown.");
    return dsb_text_check(out, "the comparison", err);
}

dsb_status dsb_compare(dsb_db *db, const char *base, const char *head, dsb_report_format format, dsb_text *out, bool *regressed, dsb_err *err) {
    dsb_arena arena;
    dsb_arena_init(&arena);
    dsb_status s = compare(db, &arena, base, head, format, out, regressed, err);
    dsb_arena_release(&arena);
    return s;
}
