/* What joins runs: pinned baselines, a host's history of speed, and keeping the file small. */
#ifndef DSB_DB_HISTORY_H
#define DSB_DB_HISTORY_H

#include "db/db.h"

/* Beyond this share of other load a speed is no measure of the program, and not part of the history. */
#define DSB_HISTORY_BUSY_PERCENT 10.0

/* tokens/s of earlier finished runs, oldest first, like `of` (scheme, phase, sizes) on the same host, model, device, level and threads as `run`. In the arena. */
dsb_status dsb_db_speed_history(dsb_db *db, dsb_arena *arena, const dsb_run_record *run, const dsb_throughput *of, double **tps, int64_t *n, dsb_err *err);

typedef struct dsb_baseline {
    const char *name, *run_id, *set_utc; /* name: of a suite */
} dsb_baseline;

/* Pins a run (a full id that exists) under a name, instead of the one before. */
dsb_status dsb_db_baseline_set(dsb_db *db, const dsb_baseline *baseline, dsb_err *err);
/* *run_id NULL: none is pinned under that name. */
dsb_status dsb_db_baseline_get(dsb_db *db, dsb_arena *arena, const char *name, const char **run_id, dsb_err *err);
/* By name. */
dsb_status dsb_db_baseline_list(dsb_db *db, dsb_arena *arena, dsb_baseline **rows, int64_t *n, dsb_err *err);

/* Removes a run, or (thin) only what grows with layers × experts: its tensors, layers, experts, routing and details; figures, chunks and speed stay,
 * and an event says so. A pinned baseline can't be removed: DSB_EUSAGE. Inside the caller's transaction. */
dsb_status dsb_db_run_remove(dsb_db *db, const char *run_id, bool thin, dsb_err *err);
/* Whether its details are gone, or never were. */
bool dsb_db_run_is_thin(dsb_db *db, const char *run_id);
/* Gives freed pages back to the file system; outside any transaction. */
dsb_status dsb_db_shrink(dsb_db *db, dsb_err *err);

#endif
