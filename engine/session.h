/* The token-major driver: a whole scheme in memory, a KV cache, prefill and decode as a serving engine does; also `trace`.
 * Calls the same block parts as the sweep, whose kernels are batch-invariant: the same tokens give the same bits. */
#ifndef DSB_ENGINE_SESSION_H
#define DSB_ENGINE_SESSION_H

#include "engine/block.h"
#include "engine/calibration.h"
#include "kernels/roofline.h"

typedef struct dsb_layer_weights {
    dsb_attn_weights attn;
    dsb_router_weights router; /* of a dense block: only its norm */
    dsb_ffn_weights dense;     /* or the shared expert */
    dsb_ffn_weights *experts;  /* (n_expert) or NULL */
    dsb_experts *fused;        /* the experts in one piece, whose own weights are then gone; or NULL */
} dsb_layer_weights;

/* Products: 2 x multiply-adds of each arithmetic, attention left out; bytes of packed weights read. */
typedef struct dsb_work {
    double ops[DSB_ARITH_COUNT], bytes;
} dsb_work;

/* Experts to take in the place of the router's choice: row `row` of every MoE layer's ids (ascending, all different) for each token in turn, again from the
 * first after the last. The router runs all the same, and its gate weights stay. */
typedef struct dsb_forced_routing {
    const int32_t *ids; /* (n_layer, n_row, k) host, borrowed; dense layers' rows are not read */
    int64_t n_row;
} dsb_forced_routing;

typedef struct dsb_session {
    const dsb_model *m;
    const dsb_scheme *scheme;
    dsb_layer_weights *layers;
    float *final_norm;
    dsb_linear lm_head;
    dsb_kv_cache *kv; /* one a layer */
    int64_t batch;    /* sequences that go forward together */
    dsb_seq *seqs;    /* (batch) scratch */
    const dsb_forced_routing *forced; /* borrowed, or NULL */
    dsb_workspace ws, own_ws, host_ws; /* the block parts' scratch; the session's own, on the device and on the host */
    int64_t depth;         /* tokens in the cache, of each sequence */
    size_t weight_bytes;   /* all packed weights */
    size_t token_bytes;    /* read per decoded token: all but the experts not chosen */
    dsb_work token, head;  /* of a token in the blocks (bytes: of a pass, experts and kv_b left out); of a token whose logits are wanted */
    dsb_work expanded, absorbed; /* kv_b's, on an empty cache and on a filled one */
    dsb_work done;         /* by all passes; the caller may set it to 0 */
} dsb_session;

/* What a forward pass leaves for a trace; every pointer may be NULL. */
typedef struct dsb_trace_sink {
    float *hidden;         /* (n_layer, n, d_model) host */
    dsb_routing *routing;  /* (n_layer), allocated with scores, rows 0..n */
} dsb_trace_sink;

/* Loads every weight; calibration may be NULL where the recipe needs none. room: tokens the caches hold, of each of `batch` sequences (one, in the first form). */
dsb_status dsb_session_open(dsb_session *s, const dsb_model *m, const dsb_scheme *scheme, const dsb_calibration *calibration, int64_t room, dsb_err *err);
dsb_status dsb_session_open_batch(dsb_session *s, const dsb_model *m, const dsb_scheme *scheme, const dsb_calibration *calibration, int64_t room, int64_t batch, dsb_err *err);
void dsb_session_close(dsb_session *s);
void dsb_session_rewind(dsb_session *s); /* empties the caches */
void dsb_session_rewind_to(dsb_session *s, int64_t depth); /* keeps each sequence's first `depth` tokens, at most what there is */
/* Runs n tokens of each sequence, (batch, n), after those in the cache; logits (host, (batch, n_logits, vocab)) of the last `n_logits` of each, or none. */
dsb_status dsb_session_forward(dsb_session *s, const int32_t *tokens, int64_t n, int64_t n_logits, float *logits, dsb_trace_sink *sink, dsb_err *err);

/* Embedding rows of ids as the scheme stores them, host f32. DSB_EINPUT names a token outside the vocabulary. */
dsb_status dsb_embed(const dsb_model *m, const dsb_scheme *scheme, const int32_t *ids, int64_t n, float *out, dsb_err *err);
/* The weight of the norm before the vocabulary projection, on the device, owned. */
dsb_status dsb_load_final_norm(const dsb_model *m, const dsb_scheme *scheme, float **out, dsb_err *err);
/* The vocabulary projection's place. */
void dsb_head_spec(const dsb_config *c, dsb_linear_spec *spec);

/* MoE of one layer over n normed rows x (device) routed by r (host): experts ascending, then the shared expert; y (n, d_model). The sweep goes expert by expert over all streams. */
dsb_status dsb_moe_forward(dsb_session *s, int64_t layer, const float *x, int64_t n, const dsb_routing *r, float *y, dsb_err *err);

/* Rows of each expert, ascending: start (n_expert+1), rows (n*k) and the slot's gate weight. */
void dsb_routing_by_expert(const int32_t *idx, const float *weight, int64_t n, int64_t k, int64_t n_expert, int64_t *start, int32_t *rows, float *row_weight);

#endif
