/* The sweep's observer: sums what the engine reduces, and writes one transaction per finished block. */
#ifndef DSB_HARNESS_RECORD_H
#define DSB_HARNESS_RECORD_H

#include "base/clock.h"
#include "datasets/task.h"
#include "db/db.h"
#include "engine/sweep.h"
#include "metrics/routing.h"

/* Values of one scheme that are NaN or Inf. */
typedef struct dsb_rec_bad {
    int64_t n, layer; /* the first one's layer, -1: none */
    char where[400];  /* "layer 3, mlp output (accumulated), chunk 2, token position 17" */
} dsb_rec_bad;

/* Linears of one scheme that did not get what their rule names. */
typedef struct dsb_rec_fallbacks {
    int64_t uncovered, no_range; /* dynamic scales for static ones: no token seen, no range to be had from those seen */
    int64_t format;              /* tensors that the rule's format doesn't divide */
    int64_t starved;             /* rtn for an algorithm that saw no calibration token */
    int64_t uncompensated;       /* tensors whose compensation saw no calibration token */
    int64_t as_float;            /* products in f32: integer ones take no zero points */
} dsb_rec_fallbacks;

/* What compensation did to the tensors of one scheme. */
typedef struct dsb_rec_won {
    int done;                    /* DSB_COMP_… */
    int64_t n;                   /* tensors whose output error is known */
    double before, after;        /* Σ of relative output errors */
    double bytes, ms, router_ms;
    int64_t n_token, changed_before, changed_after; /* routers: calibration tokens over layers */
} dsb_rec_won;

typedef struct dsb_recorder {
    dsb_db *db;
    const char *run_id;
    const dsb_model *m;
    const dsb_scheme *schemes;
    int n_scheme;
    const dsb_chunks *chunks; /* those that figures of layers, routing and logits are taken of; the sweep may have more, of the task, behind them */
    int64_t min_tokens;       /* that calibration should show an expert; 0: the suite names none */
    bool bf16_reference; /* set by the caller, as the plan has it */
    const dsb_task *task;     /* NULL: none */
    int64_t task_row, n_row;  /* the task's first scored row; rows a scheme has in `logits` */
    dsb_progress *progress;

    /* this block, emptied when it is written */
    dsb_arena block;
    struct rec_row *rows;                                    /* rows to write, newest first; in `block` */
    dsb_moments (*layer_sum)[DSB_POINT_COUNT][DSB_KIND_COUNT]; /* (n_scheme) */
    int64_t *clip_values, *clipped;                          /* (n_scheme) */
    dsb_moments *expert_sum;                                 /* (n_scheme, n_expert) */
    dsb_routing_acc *routing;                                /* (n_scheme): accumulated, kept until the block is written */
    double *mass_ref, *mass_test;                            /* (n_scheme, n_expert) */

    /* the whole run */
    int64_t n_moe, n_token, n_scored;
    int32_t **changed;        /* (n_scheme * n_layer): changed slots of each token, NULL for dense blocks */
    dsb_logit_row *logits;    /* (n_scheme + 1, n_row); the reference first */
    int64_t *stored_bytes, *weights, *block_bytes, *block_weights; /* (n_scheme + 1) */
    char (*kernels)[256];     /* (n_scheme + 1): comma-separated */
    double *routing_sum;      /* (n_scheme, DSB_REC_ROUTING): Σ over MoE layers of accumulated figures, for run-level means */
    int64_t *routing_n;       /* (n_scheme, DSB_REC_ROUTING): layers that have the figure: a layer without new experts has no rank of them */
    dsb_rec_fallbacks *fallbacks; /* (n_scheme) */
    dsb_rec_won *won;         /* (n_scheme) */
    int64_t n_rule;           /* the longest recipe's */
    int64_t *reached, *taken; /* (n_scheme, n_rule): expert tensors that a rule with a test was asked of, and those it took */
    dsb_rec_bad *bad;         /* (n_scheme + 1); the reference first */
    int64_t nonfinite;        /* values met; a run with one fails */
    char nonfinite_text[600]; /* where the first was */
} dsb_recorder;

/* Adds a name to a list separated by commas and spaces that lacks it; NULL adds nothing. */
void dsb_kernel_list_add(char list[256], const char *kernel);

dsb_status dsb_recorder_init(dsb_recorder *r, dsb_db *db, const char *run_id, const dsb_model *m, const dsb_scheme *schemes, int n_scheme, const dsb_chunks *chunks, dsb_progress *progress, dsb_err *err);
/* Multiple choice. apart: the task's chunks come behind `chunks` in the sweep; else they are those. Borrowed; before the sweep. */
dsb_status dsb_recorder_add_task(dsb_recorder *r, const dsb_task *task, bool apart, dsb_err *err);
/* The task's rows of one scheme (-1: the reference); in the caller's transaction. */
dsb_status dsb_recorder_put_task(dsb_recorder *r, int scheme, dsb_err *err);
void dsb_recorder_release(dsb_recorder *r);
/* The callbacks to give to the sweep; valid while r is. */
void dsb_recorder_observer(dsb_recorder *r, dsb_observer *out);
/* Counts n values that are not finite; the format says where the first is. scheme -1: the reference. */
void dsb_recorder_nonfinite(dsb_recorder *r, int scheme, int64_t layer, int64_t n, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* After the sweep: quality, details, sizes, coverage; one transaction. */
/* What the scheme `reference` computes. */
const char *dsb_reference_what(bool bf16);
dsb_status dsb_recorder_finish(dsb_recorder *r, const dsb_calibration *cal, dsb_err *err);

#endif
