/* What the sweep tells whoever measures: reduced figures, per chunk and in chunk order, never activations.
 * scheme is its index in the plan; -1 is the reference. Callbacks return a status that ends the sweep when not DSB_OK. */
#ifndef DSB_ENGINE_OBSERVER_H
#define DSB_ENGINE_OBSERVER_H

#include "engine/block.h"
#include "engine/calibration.h"

typedef enum dsb_point { DSB_POINT_ATTENTION, DSB_POINT_MLP, DSB_POINT_BLOCK, DSB_POINT_COUNT } dsb_point;
/* BLOCK is of routing only: from the reference's block input (docs/METRICS.md, "Routing"). */
typedef enum dsb_kind { DSB_KIND_ISOLATED, DSB_KIND_BLOCK, DSB_KIND_ACCUMULATED, DSB_KIND_COUNT } dsb_kind;

typedef struct dsb_layer_event {
    int scheme;
    int64_t layer, chunk;
    dsb_point point;
    dsb_kind kind;
    const dsb_moments *moments;
} dsb_layer_event;

/* One expert's output on the reference's own tokens (whole sampled chunks). */
typedef struct dsb_expert_event {
    int scheme;
    int64_t layer, expert, tokens;
    const dsb_moments *moments;
} dsb_expert_event;

/* Routing of whole chunks, n_chunk of them; arrays hold n_chunk*n_ctx tokens, chunk after chunk. Both have scores. */
typedef struct dsb_routing_event {
    int scheme;
    int64_t layer, n_chunk, n_ctx;
    const int64_t *chunks; /* their numbers */
    dsb_kind kind;
    const dsb_routing *ref, *test;
    const float *ref_bias, *test_bias; /* host, (n_expert), or NULL */
} dsb_routing_event;

/* Scored positions first .. first+n of all scored positions, in order; rows compare reference and scheme. */
typedef struct dsb_logits_event {
    int scheme;
    int64_t first, n;
    const dsb_logit_row *rows;
} dsb_logits_event;

/* Activations of a scheme's own stream quantized with static scales while a block ran, and how many were clipped. */
typedef struct dsb_clip_event {
    int scheme;
    int64_t layer, values, clipped;
} dsb_clip_event;

typedef struct dsb_observer {
    void *ctx;
    dsb_status (*tensor)(void *ctx, int scheme, const dsb_tensor_event *e, dsb_err *err);
    dsb_status (*layer)(void *ctx, const dsb_layer_event *e, dsb_err *err);
    dsb_status (*expert)(void *ctx, const dsb_expert_event *e, dsb_err *err);
    dsb_status (*routing)(void *ctx, const dsb_routing_event *e, dsb_err *err);
    dsb_status (*logits)(void *ctx, const dsb_logits_event *e, dsb_err *err);
    /* The logits themselves, (n, n_vocab) on the host, of the same positions in the same order; NULL: nobody wants them. */
    dsb_status (*logit_rows)(void *ctx, int scheme, int64_t n, int64_t n_vocab, const float *logits, dsb_err *err);
    dsb_status (*clip)(void *ctx, const dsb_clip_event *e, dsb_err *err);
    dsb_status (*block_done)(void *ctx, int64_t layer, dsb_err *err); /* layer == n_layer: the vocabulary projection */
    void (*progress)(void *ctx, double share, const char *what);
} dsb_observer;

#endif
