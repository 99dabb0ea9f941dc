/* Which stored runs go: all but the newest of each suite, pinned baselines, and those named. */
#ifndef DSB_HARNESS_PRUNE_H
#define DSB_HARNESS_PRUNE_H

#include "db/db.h"

typedef struct dsb_prune_request {
    int64_t keep;                 /* newest runs of each suite that stay */
    const char *const *kept_runs; /* (n_kept_run): full ids that stay besides; NULL: none */
    int64_t n_kept_run;
    const char *suite;            /* only runs of this suite; NULL: of all */
    bool thin;                    /* details go, figures stay for the trend */
    bool dry_run;
} dsb_prune_request;

typedef struct dsb_pruned {
    const char **ids; /* in the arena, newest first */
    int64_t n;
} dsb_pruned;

/* One transaction, then the file shrinks. */
dsb_status dsb_prune(dsb_db *db, dsb_arena *arena, const dsb_prune_request *request, dsb_pruned *out, dsb_err *err);

#endif
