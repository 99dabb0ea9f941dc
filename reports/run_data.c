#include "reports/run_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Layers and experts index tables: a file that comes from elsewhere may say anything. */
static dsb_status check_place(dsb_db *db, int64_t layer, int64_t least, int64_t expert, dsb_err *err) {
    enum { MOST = 1 << 16 };
    if (layer >= least && layer < MOST && expert >= 0 && expert < MOST) return DSB_OK;
    return dsb_fail(err, DSB_EINPUT, "%s: a row of layer %lld, expert %lld; %lld to %d and 0 to %d are wanted, this is no record of ours", dsb_db_path(db), (long long)layer, (long long)expert, (long long)least, MOST - 1, MOST - 1);
}

dsb_status dsb_run_figures_load(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_run_data *d, dsb_err *err) {
    *d = (dsb_run_data){ 0 };
    DSB_TRY(dsb_db_run_get(db, arena, run_id, &d->run, err));
    DSB_TRY(dsb_db_get_scheme(db, arena, run_id, NULL, &d->schemes, &d->n_scheme, err));
    DSB_TRY(dsb_db_get_layer_error(db, arena, run_id, NULL, &d->layers, &d->n_layer_row, err));
    DSB_TRY(dsb_db_get_routing_layer(db, arena, run_id, NULL, &d->routing, &d->n_routing, err));
    DSB_TRY(dsb_db_get_chunk_quality(db, arena, run_id, NULL, &d->chunks, &d->n_chunk_row, err));
    DSB_TRY(dsb_db_get_quality(db, arena, run_id, NULL, &d->quality, &d->n_quality, err));
    DSB_TRY(dsb_db_get_task_item(db, arena, run_id, NULL, &d->items, &d->n_item, err));
    DSB_TRY(dsb_db_get_throughput(db, arena, run_id, NULL, &d->speed, &d->n_speed, err));
    for (int64_t i = 0; i < d->n_layer_row; i++) DSB_TRY(check_place(db, d->layers[i].layer, -1, 0, err));
    return dsb_db_get_event(db, arena, run_id, NULL, &d->events, &d->n_event, err);
}

dsb_status dsb_run_data_load(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_run_data *d, dsb_err *err) {
    DSB_TRY(dsb_run_figures_load(db, arena, run_id, d, err));
    DSB_TRY(dsb_db_get_routing_expert(db, arena, run_id, NULL, &d->experts, &d->n_expert_row, err));
    for (int64_t i = 0; i < d->n_expert_row; i++) DSB_TRY(check_place(db, d->experts[i].layer, 0, d->experts[i].expert, err));
    DSB_TRY(dsb_db_role_errors(db, arena, run_id, &d->roles, &d->n_role, err));
    DSB_TRY(dsb_db_get_quality_detail(db, arena, run_id, NULL, &d->detail, &d->n_detail, err));
    return dsb_db_get_calibration_coverage(db, arena, run_id, NULL, &d->coverage, &d->n_coverage, err);
}

bool dsb_event_is_warning(const dsb_event *e) { return !e->level || strcmp(e->level, "info"); }
bool dsb_event_is_note(const dsb_event *e) { return !dsb_event_is_warning(e) && e->scheme && e->text; }
bool dsb_event_is_last_note(const dsb_run_data *d, const dsb_event *e) {
    for (const dsb_event *o = e + 1; o < d->events + d->n_event; o++)
        if (dsb_event_is_note(o) && strcmp(o->scheme, e->scheme) == 0) return false;
    return true;
}

const dsb_scheme_record *dsb_run_scheme(const dsb_run_data *d, const char *scheme) {
    for (int64_t i = 0; i < d->n_scheme; i++)
        if (!strcmp(d->schemes[i].name, scheme)) return &d->schemes[i];
    return NULL;
}

/* Rows stand in key order (db.h), text by its bytes: found by halving. compare: of a row with the key. */
static const void *find_row(const void *rows, int64_t n, size_t size, const void *key, int (*compare)(const void *key, const void *row)) {
    return n ? bsearch(key, rows, (size_t)n, size, compare) : NULL;
}

static int order_of(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int compare_quality(const void *pk, const void *pr) {
    const dsb_quality *k = pk, *r = pr;
    int c = strcmp(k->scheme, r->scheme);
    return c ? c : strcmp(k->metric, r->metric);
}

const dsb_quality *dsb_run_quality(const dsb_run_data *d, const char *scheme, const char *metric) {
    dsb_quality key = { .scheme = scheme, .metric = metric };
    return find_row(d->quality, d->n_quality, sizeof key, &key, compare_quality);
}

static int compare_chunk(const void *pk, const void *pr) {
    const dsb_chunk_quality *k = pk, *r = pr;
    int c = strcmp(k->scheme, r->scheme);
    return c ? c : order_of(k->chunk, r->chunk);
}

const dsb_chunk_quality *dsb_run_chunk(const dsb_run_data *d, const char *scheme, int64_t chunk) {
    dsb_chunk_quality key = { .scheme = scheme, .chunk = chunk };
    return find_row(d->chunks, d->n_chunk_row, sizeof key, &key, compare_chunk);
}

const dsb_chunk_quality *dsb_run_chunks(const dsb_run_data *d, const char *scheme, int64_t *n) {
    int64_t first = 0;
    *n = 0;
    while (first < d->n_chunk_row && strcmp(d->chunks[first].scheme, scheme)) first++;
    while (first + *n < d->n_chunk_row && !strcmp(d->chunks[first + *n].scheme, scheme)) ++*n;
    return d->chunks + first;
}

double dsb_run_value(const dsb_run_data *d, const char *scheme, const char *metric) {
    const dsb_quality *q = dsb_run_quality(d, scheme, metric);
    return q ? q->value : NAN;
}

static int compare_layer(const void *pk, const void *pr) {
    const dsb_layer_error *k = pk, *r = pr;
    int c = strcmp(k->scheme, r->scheme);
    if (!c) c = order_of(k->layer, r->layer);
    if (!c) c = strcmp(k->point, r->point);
    return c ? c : strcmp(k->kind, r->kind);
}

const dsb_layer_error *dsb_run_layer(const dsb_run_data *d, const char *scheme, int64_t layer, const char *point, const char *kind) {
    dsb_layer_error key = { .scheme = scheme, .layer = layer, .point = point, .kind = kind };
    return find_row(d->layers, d->n_layer_row, sizeof key, &key, compare_layer);
}

static int compare_routing(const void *pk, const void *pr) {
    const dsb_routing_layer *k = pk, *r = pr;
    int c = strcmp(k->scheme, r->scheme);
    if (!c) c = order_of(k->layer, r->layer);
    if (!c) c = strcmp(k->kind, r->kind);
    return c ? c : strcmp(k->metric, r->metric);
}

double dsb_run_routing(const dsb_run_data *d, const char *scheme, int64_t layer, const char *kind, const char *metric) {
    dsb_routing_layer key = { .scheme = scheme, .layer = layer, .kind = kind, .metric = metric };
    const dsb_routing_layer *r = find_row(d->routing, d->n_routing, sizeof key, &key, compare_routing);
    return r ? r->value : NAN;
}

double dsb_run_routing_mean(const dsb_run_data *d, const char *scheme, const char *kind, const char *metric) {
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_routing; i++) {
        const dsb_routing_layer *r = &d->routing[i];
        if (r->layer < 0 || strcmp(r->metric, metric) || strcmp(r->scheme, scheme) || strcmp(r->kind, kind)) continue;
        sum += r->value;
        n++;
    }
    return n ? sum / (double)n : NAN;
}

const dsb_throughput *dsb_run_speed(const dsb_run_data *d, const char *scheme, const char *phase) {
    for (int64_t i = 0; i < d->n_speed; i++)
        if (!strcmp(d->speed[i].scheme, scheme) && !strcmp(d->speed[i].phase, phase)) return &d->speed[i];
    return NULL;
}

double dsb_run_expert_nmse(const dsb_run_data *d, const dsb_routing_expert *e) {
    const dsb_routing_expert *next = e + 1; /* "accumulated" comes before "isolated" */
    bool same = next < d->experts + d->n_expert_row && next->expert == e->expert && next->layer == e->layer && !strcmp(next->scheme, e->scheme) && !strcmp(next->kind, "isolated");
    return same ? next->nmse : NAN;
}

int64_t dsb_run_layer_count(const dsb_run_data *d) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_layer_row; i++)
        if (d->layers[i].layer >= n) n = d->layers[i].layer + 1;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (d->experts[i].layer >= n) n = d->experts[i].layer + 1;
    return n;
}

int64_t dsb_run_expert_count(const dsb_run_data *d) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (d->experts[i].expert >= n) n = d->experts[i].expert + 1;
    return n;
}
