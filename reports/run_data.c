#include "reports/run_data.h"

#include <math.h>
#include <string.h>

dsb_status dsb_run_data_load(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_run_data *d, dsb_err *err) {
    *d = (dsb_run_data){ 0 };
    DSB_TRY(dsb_db_run_get(db, arena, run_id, &d->run, err));
    DSB_TRY(dsb_db_get_scheme(db, arena, run_id, NULL, &d->schemes, &d->n_scheme, err));
    DSB_TRY(dsb_db_get_layer_error(db, arena, run_id, NULL, &d->layers, &d->n_layer_row, err));
    DSB_TRY(dsb_db_get_routing_layer(db, arena, run_id, NULL, &d->routing, &d->n_routing, err));
    DSB_TRY(dsb_db_get_routing_expert(db, arena, run_id, NULL, &d->experts, &d->n_expert_row, err));
    DSB_TRY(dsb_db_get_chunk_quality(db, arena, run_id, NULL, &d->chunks, &d->n_chunk_row, err));
    DSB_TRY(dsb_db_get_quality(db, arena, run_id, NULL, &d->quality, &d->n_quality, err));
    DSB_TRY(dsb_db_get_quality_detail(db, arena, run_id, NULL, &d->detail, &d->n_detail, err));
    DSB_TRY(dsb_db_get_task_item(db, arena, run_id, NULL, &d->items, &d->n_item, err));
    DSB_TRY(dsb_db_get_throughput(db, arena, run_id, NULL, &d->speed, &d->n_speed, err));
    DSB_TRY(dsb_db_get_calibration_coverage(db, arena, run_id, NULL, &d->coverage, &d->n_coverage, err));
    return dsb_db_get_event(db, arena, run_id, NULL, &d->events, &d->n_event, err);
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

const dsb_quality *dsb_run_quality(const dsb_run_data *d, const char *scheme, const char *metric) {
    for (int64_t i = 0; i < d->n_quality; i++)
        if (!strcmp(d->quality[i].metric, metric) && !strcmp(d->quality[i].scheme, scheme)) return &d->quality[i];
    return NULL;
}

const dsb_chunk_quality *dsb_run_chunk(const dsb_run_data *d, const char *scheme, int64_t chunk) {
    for (int64_t i = 0; i < d->n_chunk_row; i++)
        if (d->chunks[i].chunk == chunk && !strcmp(d->chunks[i].scheme, scheme)) return &d->chunks[i];
    return NULL;
}

double dsb_run_value(const dsb_run_data *d, const char *scheme, const char *metric) {
    const dsb_quality *q = dsb_run_quality(d, scheme, metric);
    return q ? q->value : NAN;
}

const dsb_layer_error *dsb_run_layer(const dsb_run_data *d, const char *scheme, int64_t layer, const char *point, const char *kind) {
    for (int64_t i = 0; i < d->n_layer_row; i++) {
        const dsb_layer_error *e = &d->layers[i];
        if (e->layer == layer && !strcmp(e->scheme, scheme) && !strcmp(e->point, point) && !strcmp(e->kind, kind)) return e;
    }
    return NULL;
}

double dsb_run_routing(const dsb_run_data *d, const char *scheme, int64_t layer, const char *kind, const char *metric) {
    for (int64_t i = 0; i < d->n_routing; i++) {
        const dsb_routing_layer *r = &d->routing[i];
        if (r->layer == layer && !strcmp(r->scheme, scheme) && !strcmp(r->kind, kind) && !strcmp(r->metric, metric)) return r->value;
    }
    return NAN;
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
