/* A run as read from the record, in one arena, and the look-ups that reports share. */
#ifndef DSB_REPORTS_RUN_DATA_H
#define DSB_REPORTS_RUN_DATA_H

#include "db/damage.h"

#define DSB_REFERENCE "reference" /* the scheme everything is measured against */
#define DSB_FLOOR "bf16"          /* the same weights with the carrier of serving engines: the noise floor */

typedef struct dsb_run_data {
    dsb_run_record run;
    dsb_scheme_record *schemes;
    dsb_layer_error *layers;
    dsb_routing_layer *routing;
    dsb_routing_expert *experts;
    dsb_chunk_quality *chunks;
    dsb_quality *quality;
    dsb_quality_detail *detail;
    dsb_task_item *items;
    dsb_throughput *speed;
    dsb_calibration_coverage *coverage;
    dsb_event *events;
    dsb_role_error *roles;
    int64_t n_scheme, n_layer_row, n_routing, n_expert_row, n_chunk_row, n_quality, n_detail, n_item, n_speed, n_coverage, n_event, n_role;
} dsb_run_data;

/* Summary and report show this many warnings; the rest is counted. */
enum { DSB_WARNINGS_SHOWN = 12 };
/* An event of a level above info. */
bool dsb_event_is_warning(const dsb_event *e);
/* What a scheme reports of itself: what compensation won. */
bool dsb_event_is_note(const dsb_event *e);
/* Whether no note of the same scheme comes after this one. */
bool dsb_event_is_last_note(const dsb_run_data *d, const dsb_event *e);

/* Everything but the tensors (a big model has very many); rows live in the arena. */
dsb_status dsb_run_data_load(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_run_data *out, dsb_err *err);

/* The same without experts, details and coverage, which grow with layers × experts. */
dsb_status dsb_run_figures_load(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_run_data *out, dsb_err *err);

/* Rows of one expert stand together in key order: the isolated one's nmse for an accumulated one (NAN: none). */
double dsb_run_expert_nmse(const dsb_run_data *d, const dsb_routing_expert *accumulated);

/* NULL or NAN where the run has no such row. */
const dsb_scheme_record *dsb_run_scheme(const dsb_run_data *d, const char *scheme);
const dsb_quality *dsb_run_quality(const dsb_run_data *d, const char *scheme, const char *metric);
const dsb_chunk_quality *dsb_run_chunk(const dsb_run_data *d, const char *scheme, int64_t chunk);
/* All of a scheme's, ascending; *n 0 where there is none. */
const dsb_chunk_quality *dsb_run_chunks(const dsb_run_data *d, const char *scheme, int64_t *n);
double dsb_run_value(const dsb_run_data *d, const char *scheme, const char *metric);
const dsb_layer_error *dsb_run_layer(const dsb_run_data *d, const char *scheme, int64_t layer, const char *point, const char *kind);
double dsb_run_routing(const dsb_run_data *d, const char *scheme, int64_t layer, const char *kind, const char *metric);
/* Mean over the MoE layers (layer >= 0). */
double dsb_run_routing_mean(const dsb_run_data *d, const char *scheme, const char *kind, const char *metric);
/* The scheme's first row of that phase in key order: the same workload for every scheme. */
const dsb_throughput *dsb_run_speed(const dsb_run_data *d, const char *scheme, const char *phase);
/* Layers 0 .. n−1 and experts 0 .. n−1 that the rows speak of. */
int64_t dsb_run_layer_count(const dsb_run_data *d);
int64_t dsb_run_expert_count(const dsb_run_data *d);

#endif
