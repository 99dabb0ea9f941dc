/* The layer-major driver: block by block and expert by expert, weights are read once; the reference, calibration and
 * every scheme pass through them before the next are read. Memory: the streams and one expert, whatever the model's size. */
#ifndef DSB_ENGINE_SWEEP_H
#define DSB_ENGINE_SWEEP_H

#include "engine/observer.h"

typedef struct dsb_sweep_plan {
    const dsb_model *m;
    int n_scheme;
    const dsb_scheme *schemes;    /* without the reference */
    int64_t n_chunk, n_ctx;
    const int32_t *tokens;        /* (n_chunk, n_ctx) */
    const int32_t *targets;       /* (n_chunk, n_ctx): the token to predict, or -1 where nothing is scored */
    const int32_t *positions;     /* (n_chunk, n_ctx) of each token in its own sequence, 0 begins one; NULL: a chunk is one sequence */
    int64_t n_isolated_chunk;     /* isolated figures come from the first so many chunks; 0: from all */
    int64_t n_cal_chunk;          /* calibration chunks of n_ctx tokens: extra streams of the same pass */
    const int32_t *cal_tokens;    /* (n_cal_chunk, n_ctx) */
    int64_t isolated_every;       /* every so many chunks isolated figures are taken; 1: all */
    const dsb_observer *obs;
} dsb_sweep_plan;

/* Runs the plan; *cal (uninitialised before, owned after, also on error) receives what calibration saw.
 * With n_scheme 0 it calibrates and measures the reference alone. */
dsb_status dsb_sweep_run(const dsb_sweep_plan *plan, dsb_calibration *cal, dsb_err *err);

#endif
