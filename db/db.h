/* The record: one SQLite file (WAL, STRICT tables, foreign keys, user_version 6). Tables and views: db/schema.c, db/views.c.
 * Order of writing: dsb_db_run_insert (commits alone, before any work), dsb_db_put_scheme for every scheme with the
 * reference among them, then rows between dsb_db_begin and dsb_db_commit, one transaction a finished block.
 * Strings of a row are borrowed for the call (NULL is stored as NULL); NaN is stored as NULL and read back as NaN. */
#ifndef DSB_DB_DB_H
#define DSB_DB_DB_H

#include "base/memory.h"
#include "base/status.h"
#include "db/rows.h"

typedef struct dsb_db dsb_db;

/* create: opens for writing, making file and tables where absent; otherwise the file must be there and may be read-only.
 * DSB_EINPUT: missing, not a database, someone else's, or of a newer dsbench. DSB_EOUTPUT: can't be written. *out is owned. */
dsb_status dsb_db_open(dsb_db **out, const char *path, bool create, dsb_err *err);
void dsb_db_close(dsb_db *db); /* rolls an open transaction back; NULL is fine */
const char *dsb_db_path(const dsb_db *db);

dsb_status dsb_db_begin(dsb_db *db, dsb_err *err);
dsb_status dsb_db_commit(dsb_db *db, dsb_err *err);
void dsb_db_rollback(dsb_db *db);

/* Runs. A taken id is DSB_EUSAGE. delete_results drops schemes and all their rows, for a restart; finish stores how it ended. */
dsb_status dsb_db_run_insert(dsb_db *db, const dsb_run_record *run, dsb_err *err);
dsb_status dsb_db_run_finish(dsb_db *db, const char *run_id, const char *status, double wall_s, int64_t peak_rss_bytes, dsb_err *err);
dsb_status dsb_db_run_delete_results(dsb_db *db, const char *run_id, dsb_err *err);
/* What is known only after the start: tokens, chunks and scored positions. */
dsb_status dsb_db_run_set_counts(dsb_db *db, const char *run_id, int64_t n_chunk, int64_t n_token, int64_t n_scored, dsb_err *err);
/* An id, `latest`, or a unique prefix -> the full id in the arena. DSB_EUSAGE lists the ids there are. */
dsb_status dsb_db_run_resolve(dsb_db *db, dsb_arena *arena, const char *name, const char **run_id, dsb_err *err);
/* Newest first; rows and strings live in the arena. */
dsb_status dsb_db_run_list(dsb_db *db, dsb_arena *arena, dsb_run_record **rows, int64_t *n, dsb_err *err);
dsb_status dsb_db_run_get(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_run_record *run, dsb_err *err);

/* Each row kind has a put (a row with the same key is replaced) and a get: the run's rows, of one scheme or of all
 * (scheme NULL), in the table's key order; schemes by ordinal. Rows and strings live in the arena. */
#define DSB_DB_ROW(name, type)                                                                          \
    dsb_status dsb_db_put_##name(dsb_db *db, const char *run_id, const type *row, dsb_err *err);        \
    dsb_status dsb_db_get_##name(dsb_db *db, dsb_arena *arena, const char *run_id, const char *scheme,  \
                                 type **rows, int64_t *n, dsb_err *err)
DSB_DB_ROW(scheme, dsb_scheme_record);
DSB_DB_ROW(recipe_rule, dsb_recipe_rule_row);
DSB_DB_ROW(tensor_error, dsb_tensor_error);
DSB_DB_ROW(layer_error, dsb_layer_error);
DSB_DB_ROW(routing_layer, dsb_routing_layer);
DSB_DB_ROW(routing_expert, dsb_routing_expert);
DSB_DB_ROW(chunk_quality, dsb_chunk_quality);
DSB_DB_ROW(quality, dsb_quality);
DSB_DB_ROW(quality_detail, dsb_quality_detail);
DSB_DB_ROW(task_item, dsb_task_item);
DSB_DB_ROW(throughput, dsb_throughput);
DSB_DB_ROW(calibration_coverage, dsb_calibration_coverage);
DSB_DB_ROW(event, dsb_event);
#undef DSB_DB_ROW

/* Measurements that belong to no run, in one transaction; of kernels alone the model has no path. */
dsb_status dsb_db_put_bench(dsb_db *db, const dsb_host_facts *host, const dsb_model_facts *model, const dsb_bench_row *rows, int64_t n, dsb_err *err);

#endif
