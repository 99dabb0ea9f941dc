/* What differs between a scheme of one run and a scheme of another, found by SQLite so that the big tables need not be read whole. */
#ifndef DSB_DB_DIFF_H
#define DSB_DB_DIFF_H

#include "db/db.h"

typedef struct dsb_scheme_pair {
    const char *base_run, *base_scheme, *head_run, *head_scheme;
} dsb_scheme_pair;

/* Weights of one layer together (-1: lm_head): Σdd/Σxx over its tensors. */
typedef struct dsb_weights_diff {
    int64_t layer;
    double base_nmse, head_nmse;
} dsb_weights_diff;

typedef struct dsb_tensor_diff {
    const char *tensor, *base_format, *head_format;
    int64_t expert;
    double base_nmse, head_nmse;
} dsb_tensor_diff;

typedef struct dsb_expert_diff {
    int64_t expert, base_hits, head_hits; /* tokens that the scheme sent there */
    double base_nmse, head_nmse;          /* of its output, isolated; NAN where no token of the sample came */
} dsb_expert_diff;

/* Rows live in the arena. Layers that both have, ascending. */
dsb_status dsb_db_diff_weights(dsb_db *db, dsb_arena *arena, const dsb_scheme_pair *pair, dsb_weights_diff **rows, int64_t *n, dsb_err *err);
/* Of one layer, those that changed most first, at most `most`: tensors by nmse, experts by tokens (by_load) or by nmse. */
dsb_status dsb_db_diff_tensors(dsb_db *db, dsb_arena *arena, const dsb_scheme_pair *pair, int64_t layer, int64_t most, dsb_tensor_diff **rows, int64_t *n, dsb_err *err);
dsb_status dsb_db_diff_experts(dsb_db *db, dsb_arena *arena, const dsb_scheme_pair *pair, int64_t layer, bool by_load, int64_t most, dsb_expert_diff **rows, int64_t *n, dsb_err *err);

#endif
