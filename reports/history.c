#include "reports/history.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "metrics/change_point.h"
#include "reports/comparable.h"

const char *const dsb_trend_metrics[] = { "kld_mean", "delta_nll", "selection_change", "prefill_tps", "decode_tps", NULL };

static bool is_speed(const char *metric) { return strstr(metric, "_tps") != NULL; }

const char *dsb_run_suite_name(const dsb_run_record *run, dsb_arena *arena) {
    const char *name = NULL;
    json_t *doc;
    dsb_err ignored;
    if (!run->suite_json || dsb_json_parse(&doc, "suite", run->suite_json, strlen(run->suite_json), &ignored)) return "";
    if (!json_is_object(doc) || dsb_json_string(doc, "suite", "name", false, &name, &ignored) || !name) name = "";
    name = dsb_arena_strdup(arena, name);
    json_decref(doc);
    return name ? name : "";
}

static dsb_status load_night(dsb_db *db, dsb_arena *arena, const dsb_run_record *run, dsb_night *night, dsb_err *err) {
    dsb_run_data *d = &night->data;
    *night = (dsb_night){ .data.run = *run };
    DSB_TRY(dsb_db_get_scheme(db, arena, run->id, NULL, &d->schemes, &d->n_scheme, err));
    DSB_TRY(dsb_db_get_quality(db, arena, run->id, NULL, &d->quality, &d->n_quality, err));
    DSB_TRY(dsb_db_get_chunk_quality(db, arena, run->id, NULL, &d->chunks, &d->n_chunk_row, err));
    return dsb_db_get_throughput(db, arena, run->id, NULL, &d->speed, &d->n_speed, err);
}

/* Newest first as the record lists them: from the run asked for backwards. */
static dsb_status load_nights(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_history *h, dsb_err *err) {
    dsb_run_record *runs;
    int64_t n, last = 0;
    dsb_err ignored;
    DSB_TRY(dsb_db_run_list(db, arena, &runs, &n, err));
    while (last < n && strcmp(runs[last].id, run_id)) last++;
    if (last == n) return dsb_fail(err, DSB_EUSAGE, "%s: no run '%s'", dsb_db_path(db), run_id);
    const char *suite = dsb_run_suite_name(&runs[last], arena);
    DSB_TRY(dsb_arena_take(arena, (void **)&h->nights, DSB_HISTORY_NIGHTS, sizeof *h->nights, "the history of runs", err));
    int64_t at = DSB_HISTORY_NIGHTS;
    for (int64_t i = last; i < n && at > 0; i++) {
        bool finished = runs[i].status && (!strcmp(runs[i].status, "done") || !strcmp(runs[i].status, "nonfinite"));
        if (i != last && (!finished || strcmp(dsb_run_suite_name(&runs[i], arena), suite) || dsb_comparable(&runs[last], &runs[i], &ignored))) continue;
        DSB_TRY(load_night(db, arena, &runs[i], &h->nights[--at], err));
        const char *a = runs[last].host.name_hash, *b = runs[i].host.name_hash;
        h->nights[at].same_host = a && b ? !strcmp(a, b) : a == b;
    }
    h->nights += at;
    h->n = DSB_HISTORY_NIGHTS - at;
    return DSB_OK;
}

dsb_quality dsb_night_figure(const dsb_night *night, const char *scheme, const char *metric) {
    dsb_quality none = { .scheme = scheme, .metric = metric, .value = NAN, .lo = NAN, .hi = NAN };
    if (is_speed(metric)) {
        const dsb_throughput *t = dsb_run_speed(&night->data, scheme, !strcmp(metric, "prefill_tps") ? "prefill" : "decode");
        return t ? (dsb_quality){ scheme, metric, "tokens/s", t->tps_median, t->tps_min, t->tps_max, t->repeats } : none;
    }
    const dsb_quality *q = dsb_run_quality(&night->data, scheme, metric);
    return q ? *q : none;
}

typedef struct finder {
    dsb_arena *arena;
    const dsb_tolerances *tolerances;
    dsb_history *h;
    int64_t room;
    dsb_err *err;
} finder;

static void add_step(finder *f, int64_t night, const char *scheme, const char *metric, double before, double after, bool worse) {
    if (f->h->n_step < f->room) f->h->steps[f->h->n_step++] = (dsb_step){ night, scheme, metric, before, after, worse };
}

static double chunk_figure(const dsb_chunk_quality *c, int metric) {
    return metric == 0 ? c->kld : metric == 1 ? c->nll_test - c->nll_ref : c->selection_change;
}

/* The quality of one scheme of two consecutive nights; judgements of dsb_trend_metrics[0 .. 2]. */
static dsb_status judge_nights(finder *f, int64_t night, const char *scheme, dsb_judgement *j) {
    int64_t n_before, n_after;
    const dsb_chunk_quality *b = dsb_run_chunks(&f->h->nights[night - 1].data, scheme, &n_before), *a = dsb_run_chunks(&f->h->nights[night].data, scheme, &n_after);
    int64_t n = n_before < n_after ? n_before : n_after;
    double *before, *after;
    DSB_TRY(dsb_arena_take(f->arena, (void **)&before, (size_t)n + 1, sizeof *before, "the history of runs", f->err));
    DSB_TRY(dsb_arena_take(f->arena, (void **)&after, (size_t)n + 1, sizeof *after, "the history of runs", f->err));
    for (int m = 0; m < 3; m++) {
        for (int64_t i = 0; i < n; i++) before[i] = chunk_figure(&b[i], m), after[i] = chunk_figure(&a[i], m);
        double base = dsb_night_figure(&f->h->nights[night - 1], scheme, dsb_trend_metrics[m]).value;
        dsb_tolerance t = dsb_tolerance_of(f->tolerances, scheme, dsb_trend_metrics[m]);
        dsb_judgement_init(&j[m], DSB_BETTER_LOWER);
        j[m].gating = true;
        j[m].tolerance = dsb_tolerance_at(&t, base);
        DSB_TRY(dsb_judge_chunks(&j[m], before, after, n, f->err));
    }
    return DSB_OK;
}

/* All schemes of a night are one family. */
static dsb_status step_of_night(finder *f, int64_t night) {
    const dsb_run_data *d = &f->h->nights[night].data;
    dsb_judgement *j;
    DSB_TRY(dsb_arena_take(f->arena, (void **)&j, (size_t)d->n_scheme * 3 + 1, sizeof *j, "the history of runs", f->err));
    for (int64_t i = 0; i < d->n_scheme; i++) DSB_TRY(judge_nights(f, night, d->schemes[i].name, j + 3 * i));
    DSB_TRY(dsb_judge(j, 3 * d->n_scheme, f->err));
    for (int64_t i = 0; i < 3 * d->n_scheme; i++)
        if (j[i].verdict == DSB_VERDICT_REGRESSED || j[i].verdict == DSB_VERDICT_IMPROVED)
            add_step(f, night, d->schemes[i / 3].name, dsb_trend_metrics[i % 3], j[i].base, j[i].head, j[i].verdict == DSB_VERDICT_REGRESSED);
    return DSB_OK;
}

/* One scheme's speed on the last night's host. */
static dsb_status speed_steps(finder *f, const char *scheme, const char *metric) {
    dsb_history *h = f->h;
    double *x;
    int64_t *night, n = 0, found;
    dsb_change_point *points;
    DSB_TRY(dsb_arena_take(f->arena, (void **)&x, (size_t)h->n, sizeof *x, "the history of runs", f->err));
    DSB_TRY(dsb_arena_take(f->arena, (void **)&night, (size_t)h->n, sizeof *night, "the history of runs", f->err));
    DSB_TRY(dsb_arena_take(f->arena, (void **)&points, (size_t)h->n, sizeof *points, "the history of runs", f->err));
    for (int64_t i = 0; i < h->n; i++) {
        double v = dsb_night_figure(&h->nights[i], scheme, metric).value;
        if (!h->nights[i].same_host || !isfinite(v)) continue;
        x[n] = v;
        night[n++] = i;
    }
    DSB_TRY(dsb_change_points(x, n, DSB_JUDGE_ALPHA, points, &found, f->err));
    for (int64_t i = 0; i < found; i++) add_step(f, night[points[i].at], scheme, metric, points[i].before, points[i].after, points[i].after < points[i].before);
    return DSB_OK;
}

static int by_night(const void *pa, const void *pb) {
    const dsb_step *a = pa, *b = pb;
    int c = (a->night > b->night) - (a->night < b->night);
    if (!c) c = strcmp(a->metric, b->metric);
    return c ? c : strcmp(a->scheme, b->scheme);
}

dsb_status dsb_history_load(dsb_db *db, dsb_arena *arena, const char *run_id, const dsb_tolerances *tolerances, dsb_history *out, dsb_err *err) {
    *out = (dsb_history){ 0 };
    finder f = { arena, tolerances, out, 0, err };
    DSB_TRY(load_nights(db, arena, run_id, out, err));
    const dsb_run_data *last = &out->nights[out->n - 1].data;
    f.room = out->n * (last->n_scheme + 1) * 5;
    DSB_TRY(dsb_arena_take(arena, (void **)&out->steps, (size_t)f.room, sizeof *out->steps, "the history of runs", err));
    for (int64_t i = 1; i < out->n; i++) DSB_TRY(step_of_night(&f, i));
    for (int64_t i = 0; i < last->n_scheme; i++)
        for (int m = 3; m < 5; m++) DSB_TRY(speed_steps(&f, last->schemes[i].name, dsb_trend_metrics[m]));
    if (out->n_step > 1) qsort(out->steps, (size_t)out->n_step, sizeof *out->steps, by_night);
    return DSB_OK;
}

const char *dsb_step_text(const dsb_history *h, const dsb_step *s, dsb_arena *arena) {
    const dsb_run_record *r = &h->nights[s->night].data.run;
    const char *text = dsb_text_format(arena, "%.10s, run %.80s, build %.20s %.12s: %s of %.60s %.4g → %.4g, %s", r->created_utc ? r->created_utc : "?", r->id, r->build_version ? r->build_version : "?",
                                       r->build_hash ? r->build_hash : "", s->metric, s->scheme, s->before, s->after, s->worse ? "worse" : "better");
    const char *clean = dsb_text_clean(arena, text);
    return clean ? clean : "?";
}
