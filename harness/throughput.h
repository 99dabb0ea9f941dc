/* Prefill and decode speed of every scheme, interleaved: repeats of all schemes go round, so that drift hits all alike.
 * Units: tokens/s. Warm-up runs are apart. Source: docs/METRICS.md, "Throughput and size". */
#ifndef DSB_HARNESS_THROUGHPUT_H
#define DSB_HARNESS_THROUGHPUT_H

#include "base/clock.h"
#include "db/db.h"
#include "engine/session.h"

typedef struct dsb_throughput_plan {
    const dsb_model *m;
    const dsb_scheme *schemes; /* the reference (FP32 weights) first */
    int n_scheme;
    const dsb_calibration *calibration;
    const int32_t *tokens; /* real text: prefill + decode tokens */
    int64_t prefill, decode, repeats;
} dsb_throughput_plan;

/* Measures and stores rows of table throughput in one transaction. */
dsb_status dsb_throughput_run(const dsb_throughput_plan *plan, dsb_db *db, const char *run_id, dsb_progress *progress, dsb_err *err);

#endif
