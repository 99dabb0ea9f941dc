/* One transformer block's parts, called by both drivers: attention (MLA or grouped keys), feed-forward (dense, shared or one expert), router.
 * Streams are rows of d_model values on the device. `bf16` rounds inputs and outputs of products, as serving engines do. */
#ifndef DSB_ENGINE_BLOCK_H
#define DSB_ENGINE_BLOCK_H

#include "engine/model.h"

typedef struct dsb_attn_weights {
    dsb_linear q, q_a, q_b, kv_a, kv_b, k, v, o; /* q alone, or q_a and q_b; kv_a and kv_b, or k and v */
    float *input_norm, *q_a_norm, *kv_a_norm;    /* (d_model), (q_lora), (kv_lora) */
    float *q_norm, *k_norm;                      /* of a head's values, or of all heads'; or NULL */
    float *sinks;                                /* (heads) or NULL */
    int64_t window;                              /* keys a query sees; 0: all before it */
    bool norms_borrowed;                         /* all vectors */
    dsb_wmat *absorbed_k, *absorbed_v;           /* (heads) kv_b's parts, or NULL: key part (kv_lora, nope), value part (v_dim, kv_lora) */
    int64_t absorbed_heads;
    float *absorbed_bias;                        /* (heads, v_dim) of kv_b's values, or NULL */
} dsb_attn_weights;

typedef struct dsb_ffn_weights {
    dsb_linear gate, up, down;
} dsb_ffn_weights;

typedef struct dsb_router_weights {
    float *norm; /* post_attention_layernorm, (d_model); dense blocks have it too */
    dsb_linear w;
    float *bias; /* (n_expert) or NULL */
    dsb_wmat shared_gate; /* (1, d_model), as stored under every scheme; no data where the family has none */
    bool borrowed;        /* all but w */
} dsb_router_weights;

/* Sees the input of each linear, for calibration. */
typedef struct dsb_input_observer {
    void *ctx;
    void (*input)(void *ctx, dsb_role role, const float *x, int64_t n, int64_t cols);
} dsb_input_observer;

/* Scratch buffers of the device (be NULL: of the host), grown when needed, kept between calls. */
enum { DSB_WS_SLOTS = 24 };
typedef struct dsb_workspace {
    const dsb_backend *be;
    void *slot[DSB_WS_SLOTS];
    size_t bytes[DSB_WS_SLOTS];
    int64_t clipped, static_values; /* running counts of activations quantized with static scales */
} dsb_workspace;
void dsb_workspace_init(dsb_workspace *ws, const dsb_backend *be);
void dsb_workspace_release(dsb_workspace *ws);
dsb_status dsb_workspace_take(dsb_workspace *ws, int slot, size_t bytes, void **out, dsb_err *err);

/* What is kept of sequences of one length; rows 0 .. len of each are filled. MLA: the latent as kv_b reads it (transformed, its codes times their
 * scale) and the rotated shared part of keys, for all heads. Else keys and values. */
typedef struct dsb_kv_cache {
    float *k, *v; /* (sequences, room, kv_lora+rope), NULL; or (sequences, room, kv_heads, nope+rope), (sequences, room, kv_heads, v_dim) */
    int64_t len, room;
} dsb_kv_cache;
static inline int64_t dsb_cached_k(const dsb_config *c) { return c->kv_lora ? c->kv_lora + c->rope_dim : dsb_key_width(c); }
static inline int64_t dsb_cached_v(const dsb_config *c) { return c->kv_lora ? 0 : dsb_value_width(c); }

/* out (n, d_model) = attention(norm(x)). pos: (n) device. kv NULL: seqs' keys are the rows of x themselves;
 * else n / n_seq new rows are appended to each of the cache's n_seq sequences, and seqs refer to cache rows. obs may be NULL.
 * MLA on an empty cache, or none, expands keys and values of all heads; on a filled one it is absorbed: queries pass through kv_b's key
 * part, latents are the keys and values of all heads, their mean passes through its value part (DeepSeek-V2, arXiv:2405.04434, 2.1.2). */
dsb_status dsb_attention_forward(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *x, int64_t n, const int32_t *pos, const dsb_seq *seqs, int64_t n_seq, dsb_kv_cache *kv, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err);

/* Makes absorbed_k and absorbed_v of kv_b: BF16 where the carrier is or nothing is lost, else F32. */
dsb_status dsb_attn_absorb(const dsb_model *m, dsb_attn_weights *w, bool bf16, dsb_err *err);

/* y (n, rows) = x · Wᵀ with the linear's own activation format, rounded when bf16. */
dsb_status dsb_linear_apply(const dsb_model *m, const dsb_linear *l, bool bf16, const float *x, int64_t n, dsb_workspace *ws, float *y, dsb_err *err);

/* out (n, d_model) = down(silu(gate(x)) * up(x)); x is already normed. roles: gate's; up and down follow it. */
dsb_status dsb_ffn_forward(const dsb_model *m, const dsb_ffn_weights *w, dsb_role gate_role, bool bf16, const float *x, int64_t n, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err);

/* The same of several feed-forwards of one shape that read their inputs alike, all products of a step as one list (dsb_products): x and out hold
 * the units' rows one behind the other. */
enum { DSB_FFN_UNITS = 64 };
typedef struct dsb_ffn_unit {
    const dsb_ffn_weights *w;
    int64_t n;
} dsb_ffn_unit;
bool dsb_ffn_alike(const dsb_ffn_weights *a, const dsb_ffn_weights *b);
dsb_status dsb_ffn_units_forward(const dsb_model *m, const dsb_ffn_unit *units, int64_t n_unit, dsb_role gate_role, bool bf16, const float *x, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err);

/* down(silu(gate(x)) * up(x)) of the shared expert, scaled by its gate where it has one. */
dsb_status dsb_shared_forward(const dsb_model *m, const dsb_ffn_weights *w, const dsb_router_weights *router, bool bf16, const float *x, int64_t n, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err);

/* y (n, d_model) = norm(x), rounded when bf16. */
void dsb_ffn_norm(const dsb_model *m, const dsb_router_weights *w, bool bf16, const float *x, int64_t n, float *y);

/* Host-side routing of n tokens; arrays owned by the struct, sized by dsb_routing_alloc. */
typedef struct dsb_routing {
    int64_t n, k, n_expert;
    float *logits, *scores; /* (n, n_expert); NULL unless asked for */
    int32_t *idx;           /* (n, k) ascending */
    float *weight, *margin; /* (n, k), (n) */
} dsb_routing;
dsb_status dsb_routing_alloc(dsb_routing *r, const dsb_config *c, int64_t n, bool scores, dsb_err *err);
void dsb_routing_release(dsb_routing *r);
/* mass (n_expert) += Σ gate weight of each expert's tokens: a partial a chunk of n_ctx tokens, added in the chunks' order. */
dsb_status dsb_routing_mass(const dsb_routing *r, int64_t n_ctx, double *mass, dsb_err *err);
/* Routes n normed rows x (n, d_model): idx and weight (n, k) on the device, where they stay. */
dsb_status dsb_router_on_device(const dsb_model *m, const dsb_router_weights *w, const float *x, int64_t n, dsb_workspace *ws, int32_t *idx, float *weight, dsb_err *err);
/* Routes rows at..at+n of r by their normed inputs x (n, d_model). */
dsb_status dsb_router_forward(const dsb_model *m, const dsb_router_weights *w, const float *x, int64_t at, int64_t n, dsb_workspace *ws, dsb_routing *r, dsb_err *err);

/* Where the weights of one block are, in order, for loading. */
int dsb_attn_specs(const dsb_config *c, int64_t layer, dsb_linear_spec specs[5]);
dsb_linear *dsb_attn_linear(dsb_attn_weights *w, dsb_role role);
/* kind: dense (expert -1), shared (-1) or expert e: gate, up, down. */
void dsb_ffn_specs(const dsb_config *c, int64_t layer, dsb_role gate_role, int64_t expert, dsb_linear_spec specs[3]);
void dsb_router_spec(const dsb_config *c, int64_t layer, dsb_linear_spec *spec);
/* rotation: of the stream (engine/rotate.h), 0: none; where it is rotated, norms of the stream are folded into what reads it. */
dsb_status dsb_attn_load_norms(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, int64_t rotation, dsb_attn_weights *w, dsb_err *err);
dsb_status dsb_router_load_vectors(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, int64_t rotation, dsb_router_weights *w, dsb_err *err);
/* w takes the other's vectors (not its linears); they stay the other's. */
void dsb_attn_borrow(dsb_attn_weights *w, const dsb_attn_weights *from);
void dsb_router_borrow(dsb_router_weights *w, const dsb_router_weights *from);
/* Whether a layer's vectors (norms, sinks, correction bias, shared gate) are there; and how many values they have, all layers and the final norm. */
dsb_status dsb_block_check_vectors(const dsb_config *c, const dsb_checkpoint *cp, int64_t layer, dsb_err *err);
int64_t dsb_block_vector_values(const dsb_config *c);
void dsb_attn_release(const dsb_backend *be, dsb_attn_weights *w);
void dsb_ffn_release(const dsb_backend *be, dsb_ffn_weights *w);
void dsb_router_release(const dsb_backend *be, dsb_router_weights *w);

#endif
