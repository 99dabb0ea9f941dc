#include "reports/compare.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "db/history.h"
#include "metrics/metric_table.h"
#include "metrics/speed.h"
#include "metrics/stats.h"
#include "reports/comparable.h"

/* What is paired by chunk. */
#define NO_MINUS SIZE_MAX
static const struct paired {
    const char *metric;
    size_t offset, minus; /* of the chunk's mean, and of what is taken from it */
    bool by_target;       /* weighted by n_target, else by n */
} paired[] = {
    { "delta_nll", offsetof(dsb_chunk_quality, nll_test), offsetof(dsb_chunk_quality, nll_ref), true },
    { "kld_mean", offsetof(dsb_chunk_quality, kld), NO_MINUS, false },
    { "selection_change", offsetof(dsb_chunk_quality, selection_change), NO_MINUS, false },
    { "slot_change", offsetof(dsb_chunk_quality, slot_change), NO_MINUS, false },
    { "top1_agreement", offsetof(dsb_chunk_quality, top1), NO_MINUS, false },
    { "top1_accuracy", offsetof(dsb_chunk_quality, accuracy_test), NO_MINUS, true },
};
/* The reference is measured against nothing: its own nll says whether a build moved it. */
static const struct paired own_nll = { "nll", offsetof(dsb_chunk_quality, nll_test), NO_MINUS, true };
enum { N_PAIRED = sizeof paired / sizeof *paired, N_OTHER = 5 }; /* acc, acc_norm, size, two speeds */

typedef struct work {
    dsb_db *db;
    dsb_arena *arena;
    const dsb_tolerances *tolerances;
    dsb_comparison *c;
    double *base, *head; /* room for one scheme's chunks, or items */
    dsb_err *err;
} work;

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

static double chunk_value(const dsb_chunk_quality *c, const struct paired *k) {
    double v, minus = 0;
    memcpy(&v, (const char *)c + k->offset, sizeof v);
    if (k->minus != NO_MINUS) memcpy(&minus, (const char *)c + k->minus, sizeof minus);
    return v - minus;
}

static dsb_compare_row *add_row(work *w, const char *metric, const char *bs, const char *hs) {
    dsb_compare_row *r = &w->c->rows[w->c->n_row++];
    const dsb_metric *m = dsb_metric_find(metric);
    *r = (dsb_compare_row){ .base_scheme = bs, .head_scheme = hs, .metric = metric, .unit = m ? m->unit : NULL, .base = NAN, .head = NAN, .verdict = "reported" };
    dsb_judgement_init(&r->j, m ? m->better : DSB_BETTER_NONE);
    if (m && m->better == DSB_BETTER_HIGHER) r->j.perfect = 1;
    return r;
}

static void set_tolerance(const work *w, dsb_compare_row *r, double base) {
    dsb_tolerance t = dsb_tolerance_of(w->tolerances, r->head_scheme, r->metric);
    r->j.gating = t.gate;
    r->j.tolerance = dsb_tolerance_at(&t, base);
}

/* The figure of the floor scheme in the base run, as a mean over chunks: what a scheme's figure is not told from. */
static double floor_of(const dsb_run_data *d, const char *scheme, const struct paired *k) {
    int64_t n, m = 0;
    double sum = 0;
    const dsb_chunk_quality *c = dsb_run_chunks(d, DSB_FLOOR, &n);
    if (!strcmp(scheme, DSB_FLOOR) || !strcmp(scheme, DSB_REFERENCE)) return NAN;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(chunk_value(&c[i], k))) sum += chunk_value(&c[i], k), m++;
    return m ? sum / (double)m : NAN;
}

/* One paired metric over the chunks that both have. Two schemes on other chunks share none: no row. */
static dsb_status add_paired(work *w, const struct paired *k, const char *bs, const char *hs) {
    int64_t n_base, n_head, n = 0, j = 0;
    const dsb_chunk_quality *b = dsb_run_chunks(&w->c->base, bs, &n_base), *h = dsb_run_chunks(&w->c->head, hs, &n_head);
    double sum_base = 0, sum_head = 0, weight = 0, plain = 0;
    for (int64_t i = 0; i < n_base; i++) {
        while (j < n_head && h[j].chunk < b[i].chunk) j++;
        if (j == n_head || h[j].chunk != b[i].chunk) continue;
        double vb = chunk_value(&b[i], k), vh = chunk_value(&h[j], k), of = (double)(k->by_target ? b[i].n_target : b[i].n);
        if (isnan(vb) || !(of > 0)) continue;
        w->base[n] = vb;
        w->head[n++] = vh;
        plain += vb;
        sum_base += of * vb;
        sum_head += of * vh;
        weight += of;
    }
    if (!n) return DSB_OK;
    dsb_compare_row *r = add_row(w, k->metric, bs, hs);
    r->base = sum_base / weight;
    r->head = sum_head / weight;
    set_tolerance(w, r, plain / (double)n);
    r->j.floor = floor_of(&w->c->base, hs, k);
    return dsb_judge_chunks(&r->j, w->base, w->head, n, w->err);
}

/* Sizes are exact. */
static void add_size(work *w, const char *bs, const char *hs) {
    const dsb_scheme_record *b = dsb_run_scheme(&w->c->base, bs), *h = dsb_run_scheme(&w->c->head, hs);
    if (!b || !h || b->weight_bytes < 0 || h->weight_bytes < 0) return;
    dsb_compare_row *r = add_row(w, "weight_bytes", bs, hs);
    r->base = (double)b->weight_bytes;
    r->head = (double)h->weight_bytes;
    r->j.diff = r->head - r->base;
    r->verdict = r->j.diff == 0 ? "equivalent" : r->j.diff < 0 ? "improved" : "regressed";
}

/* Speed of separate runs is judged by the host's history; without one it is reported (docs/METRICS.md). */
static dsb_status add_speed(work *w, const char *metric, const char *phase, const char *bs, const char *hs) {
    const dsb_throughput *b = dsb_run_speed(&w->c->base, bs, phase), *h = dsb_run_speed(&w->c->head, hs, phase);
    double *history;
    int64_t n;
    if (!b || !h || isnan(b->tps_median) || isnan(h->tps_median)) return DSB_OK;
    dsb_compare_row *r = add_row(w, metric, bs, hs);
    r->unit = "tokens/s";
    r->base = b->tps_median;
    r->head = h->tps_median;
    r->j.better = DSB_BETTER_HIGHER;
    r->j.diff = r->head / r->base - 1;
    set_tolerance(w, r, NAN);
    r->j.tolerance = dsb_tolerance_of(w->tolerances, hs, metric).relative;
    DSB_TRY(dsb_db_speed_history(w->db, w->arena, &w->c->head.run, h, &history, &n, w->err));
    return dsb_judge_history(&r->j, history, n, h->tps_median, w->err);
}

static const dsb_task_item *item_of(const dsb_run_data *d, const char *scheme, int64_t item) {
    for (int64_t i = 0; i < d->n_item; i++)
        if (d->items[i].item == item && !strcmp(d->items[i].scheme, scheme)) return &d->items[i];
    return NULL;
}

/* Multiple choice, paired by item: right or wrong in both runs. Only where both asked the same. */
static dsb_status add_choice(work *w, const char *metric, bool norm, const char *bs, const char *hs) {
    const dsb_run_data *base = &w->c->base, *head = &w->c->head;
    const dsb_task_item *h = item_of(head, hs, 0), *end = head->items + head->n_item;
    double right_base = 0, right_head = 0;
    int64_t n = 0;
    if (!base->run.task_sha256 || !head->run.task_sha256 || strcmp(base->run.task_sha256, head->run.task_sha256)) return DSB_OK;
    for (const dsb_task_item *b = item_of(base, bs, 0); b && h && b < base->items + base->n_item && h < end && !strcmp(b->scheme, bs) && !strcmp(h->scheme, hs) && b->item == h->item; b++, h++) {
        int64_t x = norm ? b->answer_norm : b->answer, y = norm ? h->answer_norm : h->answer;
        if (x < 0 || y < 0) return DSB_OK; /* not finite: no figure */
        right_base += w->base[n] = x == b->gold;
        right_head += w->head[n++] = y == h->gold;
    }
    if (!n) return DSB_OK;
    dsb_compare_row *r = add_row(w, metric, bs, hs);
    r->base = right_base / (double)n;
    r->head = right_head / (double)n;
    set_tolerance(w, r, r->base);
    return dsb_judge_chunks(&r->j, w->base, w->head, n, w->err);
}

static dsb_status add_scheme(work *w, const char *bs, const char *hs) {
    if (!strcmp(bs, DSB_REFERENCE) && !strcmp(hs, DSB_REFERENCE)) DSB_TRY(add_paired(w, &own_nll, bs, hs));
    else for (int k = 0; k < N_PAIRED; k++) DSB_TRY(add_paired(w, &paired[k], bs, hs));
    DSB_TRY(add_choice(w, "acc", false, bs, hs));
    DSB_TRY(add_choice(w, "acc_norm", true, bs, hs));
    add_size(w, bs, hs);
    DSB_TRY(add_speed(w, "prefill_tps", "prefill", bs, hs));
    return add_speed(w, "decode_tps", "decode", bs, hs);
}

static dsb_status collect(work *w) {
    const dsb_run_data *base = &w->c->base, *head = &w->c->head;
    const char *bs = w->c->base_scheme, *hs = w->c->head_scheme, *only = bs ? bs : hs;
    size_t room = (size_t)(head->n_scheme + 1) * (N_PAIRED + N_OTHER), most = (size_t)(base->n_chunk_row > base->n_item ? base->n_chunk_row : base->n_item) + 1;
    DSB_TRY(dsb_arena_take(w->arena, (void **)&w->c->rows, room, sizeof *w->c->rows, "a comparison", w->err));
    DSB_TRY(dsb_arena_take(w->arena, (void **)&w->base, most, sizeof *w->base, "a comparison", w->err));
    DSB_TRY(dsb_arena_take(w->arena, (void **)&w->head, most, sizeof *w->head, "a comparison", w->err));
    if (bs && hs) DSB_TRY(add_scheme(w, bs, hs));
    for (int64_t i = 0; i < head->n_scheme && !(bs && hs); i++) {
        const char *scheme = head->schemes[i].name;
        if (dsb_run_scheme(base, scheme) && (!only || !strcmp(only, scheme))) DSB_TRY(add_scheme(w, scheme, scheme));
    }
    if (w->c->n_row) return DSB_OK;
    return dsb_fail(w->err, DSB_ECOMPARE, "not comparable: runs %s and %s have no scheme with common figures; compare RUN:scheme RUN:scheme", base->run.id, head->run.id);
}

/* Quality is one family, speed by history and speed by rounds others (metrics/judge.h): the rows of one kind of test. */
static dsb_status judge_family(dsb_comparison *c, dsb_test test, dsb_arena *arena, dsb_err *err) {
    dsb_judgement *family;
    int64_t n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)&family, (size_t)c->n_row, sizeof *family, "a comparison", err));
    for (int64_t i = 0; i < c->n_row; i++)
        if (c->rows[i].j.test == test) family[n++] = c->rows[i].j;
    if (!n) return DSB_OK;
    DSB_TRY(dsb_judge(family, n, err));
    c->alarm = c->alarm || dsb_judge_alarm(family, n);
    c->open = c->open || dsb_judge_open(family, n);
    n = 0;
    for (int64_t i = 0; i < c->n_row; i++) {
        dsb_compare_row *r = &c->rows[i];
        if (r->j.test != test) continue;
        r->j = family[n++];
        r->verdict = dsb_verdict_name(r->j.verdict);
    }
    return DSB_OK;
}

/* Whether any figure of that pair of schemes moved. */
static bool moved(const dsb_comparison *c, const char *bs, const char *hs) {
    for (int64_t i = 0; i < c->n_row; i++) {
        const dsb_compare_row *r = &c->rows[i];
        if (!strcmp(r->base_scheme, bs) && !strcmp(r->head_scheme, hs) && r->j.test == DSB_TEST_CHUNKS && !r->j.identical) return true;
    }
    return false;
}

bool dsb_compare_moved(const dsb_comparison *c) {
    for (int64_t i = 0; i < c->n_row; i++)
        if (c->rows[i].j.test == DSB_TEST_CHUNKS && !c->rows[i].j.identical) return true;
    return false;
}

static dsb_status find_causes(work *w) {
    dsb_comparison *c = w->c;
    DSB_TRY(dsb_arena_take(w->arena, (void **)&c->blames, (size_t)(c->head.n_scheme + 1) * DSB_BLAME_LAYERS, sizeof *c->blames, "a comparison", w->err));
    for (int64_t i = 0; i < c->n_row; i++) {
        const char *bs = c->rows[i].base_scheme, *hs = c->rows[i].head_scheme;
        int64_t upstream = 0;
        bool first = i == 0 || strcmp(c->rows[i - 1].head_scheme, hs);
        if (!first || !moved(c, bs, hs)) continue;
        DSB_TRY(dsb_blame_scheme(w->db, w->arena, &c->base, bs, &c->head, hs, c->blames, &c->n_blame, &upstream, w->err));
        c->n_upstream += upstream;
    }
    return DSB_OK;
}

static dsb_status check_scheme(const dsb_run_data *d, const char *scheme, dsb_err *err) {
    if (!scheme || dsb_run_scheme(d, scheme)) return DSB_OK;
    return dsb_fail(err, DSB_EUSAGE, "run %s has no scheme '%s'; `dsbench layers %s` shows those it has", d->run.id, scheme, d->run.id);
}

dsb_status dsb_compare_make(dsb_db *db, dsb_arena *arena, const dsb_compare_request *q, dsb_comparison *c, dsb_err *err) {
    const char *base_id, *head_id;
    *c = (dsb_comparison){ .base_name = q->base, .head_name = q->head, .tolerances = q->tolerances };
    work w = { db, arena, q->tolerances, c, NULL, NULL, err };
    DSB_TRY(resolve(db, arena, q->base, &base_id, &c->base_scheme, err));
    DSB_TRY(resolve(db, arena, q->head, &head_id, &c->head_scheme, err));
    DSB_TRY(dsb_run_figures_load(db, arena, base_id, &c->base, err));
    DSB_TRY(dsb_run_figures_load(db, arena, head_id, &c->head, err));
    DSB_TRY(check_scheme(&c->base, c->base_scheme, err));
    DSB_TRY(check_scheme(&c->head, c->head_scheme, err));
    DSB_TRY(dsb_comparable(&c->base.run, &c->head.run, err));
    DSB_TRY(dsb_run_differences(&c->base, &c->head, arena, &c->differences, &c->n_difference, err));
    DSB_TRY(collect(&w));
    DSB_TRY(judge_family(c, DSB_TEST_CHUNKS, arena, err));
    DSB_TRY(judge_family(c, DSB_TEST_HISTORY, arena, err));
    return find_causes(&w);
}

static double median(const double *x, int64_t n, double *sorted) {
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i])) sorted[m++] = x[i];
    dsb_sort(sorted, m);
    return dsb_quantile_sorted(sorted, m, 0.5);
}

/* The row of a scheme's speed; behind the scheme's other rows where the runs measured none. There is room for both speeds of every scheme. */
static dsb_compare_row *speed_row(dsb_comparison *c, const char *scheme, const char *metric) {
    int64_t last = -1;
    for (int64_t i = 0; i < c->n_row; i++) {
        if (strcmp(c->rows[i].head_scheme, scheme)) continue;
        if (!strcmp(c->rows[i].metric, metric)) return &c->rows[i];
        last = i;
    }
    if (last < 0) return NULL;
    dsb_compare_row *r = &c->rows[last + 1];
    memmove(r + 1, r, (size_t)(c->n_row++ - last - 1) * sizeof *r);
    *r = (dsb_compare_row){ .base_scheme = c->rows[last].base_scheme, .head_scheme = c->rows[last].head_scheme, .metric = metric, .unit = "tokens/s", .verdict = "reported" };
    return r;
}

dsb_status dsb_compare_add_rounds(dsb_comparison *c, dsb_arena *arena, const char *scheme, const char *metric, const double *base, const double *head, int64_t n, const dsb_tolerances *tolerances,
                                  dsb_err *err) {
    double *sorted;
    dsb_compare_row *r = speed_row(c, scheme, metric);
    if (!r) return DSB_OK; /* a scheme that isn't compared */
    DSB_TRY(dsb_arena_take(arena, (void **)&sorted, (size_t)n, sizeof *sorted, "rounds", err));
    r->base = median(base, n, sorted);
    r->head = median(head, n, sorted);
    dsb_judgement_init(&r->j, DSB_BETTER_HIGHER);
    r->j.gating = true;
    r->j.tolerance = dsb_tolerance_of(tolerances, scheme, metric).relative;
    return dsb_judge_rounds(&r->j, base, n, head, n, err);
}

dsb_status dsb_compare_judge_rounds(dsb_comparison *c, dsb_arena *arena, dsb_err *err) { return judge_family(c, DSB_TEST_ROUNDS, arena, err); }

const char *dsb_compare_verdict(const dsb_comparison *c) {
    bool improved = false;
    for (int64_t i = 0; i < c->n_row; i++) improved = improved || (c->rows[i].j.gating && c->rows[i].j.test != DSB_TEST_NONE && c->rows[i].j.verdict == DSB_VERDICT_IMPROVED);
    return c->alarm ? "regressed" : c->open ? "inconclusive" : improved ? "improved" : "equivalent";
}
