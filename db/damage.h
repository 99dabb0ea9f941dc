/* Where a run's weights suffer, summed or sorted by SQLite, so that the table of tensors need not be read whole. */
#ifndef DSB_DB_DAMAGE_H
#define DSB_DB_DAMAGE_H

#include "db/db.h"

/* Squared error of all weights of one role in one layer. */
typedef struct dsb_role_error {
    const char *scheme, *role;
    int64_t layer; /* -1: lm_head */
    double dd, xx;
} dsb_role_error;
/* By scheme; rows live in the arena. */
dsb_status dsb_db_role_errors(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_role_error **rows, int64_t *n, dsb_err *err);

typedef struct dsb_worst_tensor {
    const char *scheme, *tensor, *format;
    int64_t expert;
    double nmse;
} dsb_worst_tensor;
/* Of one layer, all schemes, worst first, at most `most`. */
dsb_status dsb_db_worst_tensors(dsb_db *db, dsb_arena *arena, const char *run_id, int64_t layer, int64_t most, dsb_worst_tensor **rows, int64_t *n, dsb_err *err);

#endif
