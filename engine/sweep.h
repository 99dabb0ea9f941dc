/* The layer-major driver: block by block and expert by expert, weights are read once; the reference, calibration and
 * every scheme pass through them before the next are read. Memory: the streams and one expert, whatever the model's size;
 * where a limit is given, streams go to a temporary file and fewer weights are held at a time. Results are the same bits. */
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
    dsb_cover_policy cover;       /* of experts that few calibration tokens reach */
    int64_t isolated_every;       /* every so many chunks isolated figures are taken; 1: all */
    bool bf16_reference;          /* the reference's products, but the router's: BF16 inputs and weights, f32 sums; else f32 throughout */
    int64_t memory;               /* bytes that the sweep may take; 0: any */
    const char *spill_dir;        /* folder of the temporary file; NULL: the current one */
    const struct dsb_sweep_costs *how; /* a given way, whatever it takes; NULL: the quickest within `memory` */
    const dsb_observer *obs;
    dsb_load_times *times;        /* borrowed, added to; or NULL */
} dsb_sweep_plan;

/* How a sweep keeps to its memory, and what that takes. */
typedef struct dsb_sweep_costs {
    bool hold;                    /* all experts of a block, for all schemes, at once; tokens pass in tiles */
    bool all_schemes;             /* attention and feed-forwards of all schemes at once; else one scheme after the other */
    bool hold_head;               /* the vocabulary matrix of all schemes; else it is read again for every head_rows positions */
    bool spill;                   /* streams of all tokens lie in a temporary file */
    int64_t tile_chunks;          /* chunks that pass through attention together */
    int64_t tile_weights;         /* of a wide linear of attention or a feed-forward loaded at a time, again for each product; 0: they are held whole */
    int64_t head_rows, head_tile; /* positions whose logits are held; rows of the vocabulary matrix loaded at a time */
    int64_t read_bytes;           /* of checkpoints, first looks only */
    int64_t weight_bytes, activation_bytes, spill_bytes, scratch_bytes; /* memory at its peak, but spill_bytes of the disk */
    int64_t total_bytes;          /* of memory */
    int64_t least_bytes;          /* that any limit must leave */
    double operations;            /* 2 x multiply-adds of all streams */
    double encoded;               /* weights x schemes to be quantized */
} dsb_sweep_costs;

/* Picks the fastest way that keeps to plan->memory. DSB_EUSAGE where none does: says what the least is. */
dsb_status dsb_sweep_costs_of(const dsb_sweep_plan *plan, dsb_sweep_costs *out, dsb_err *err);

/* Runs the plan; *cal (uninitialised before, owned after, also on error) receives what calibration saw.
 * With n_scheme 0 it calibrates and measures the reference alone. */
dsb_status dsb_sweep_run(const dsb_sweep_plan *plan, dsb_calibration *cal, dsb_err *err);

#endif
