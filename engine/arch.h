/* config.json -> what the engine needs to know of a model. One table row an architecture (arch_table). */
#ifndef DSB_ENGINE_ARCH_H
#define DSB_ENGINE_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/backend.h"

enum { DSB_MAX_LAYER = 4096 };
typedef struct dsb_layer_set {
    uint64_t bits[DSB_MAX_LAYER / 64];
} dsb_layer_set;
static inline bool dsb_layer_in(const dsb_layer_set *s, int64_t layer) { return s->bits[layer / 64] >> layer % 64 & 1; }
static inline void dsb_layer_add(dsb_layer_set *s, int64_t layer) { s->bits[layer / 64] |= (uint64_t)1 << layer % 64; }

typedef enum dsb_rope_type { DSB_ROPE_DEFAULT, DSB_ROPE_LINEAR, DSB_ROPE_YARN, DSB_ROPE_LLAMA3 } dsb_rope_type;
typedef struct dsb_rope_config {
    dsb_rope_type type;
    bool half;                           /* pairs (i, i + dim/2); else (2i, 2i+1), as MLA's weights are stored */
    bool truncate;                       /* yarn: the ramp's ends are whole dimensions */
    double theta, factor, amplitude;     /* amplitude: of cos and sin */
    double beta_fast, beta_slow;         /* yarn */
    double mscale, mscale_all_dim;       /* yarn; 0: absent */
    double low_freq_factor, high_freq_factor; /* llama3 */
    int64_t original_max_pos;
} dsb_rope_config;

/* What a family calls its parts. */
typedef struct dsb_part_names {
    const char *moe;      /* "mlp", "block_sparse_moe" */
    const char *router;   /* "gate", "router" */
    const char *shared;   /* "shared_experts", "shared_expert" */
    const char *expert[3]; /* gate, up, down */
} dsb_part_names;

typedef struct dsb_config {
    char arch[64];
    const dsb_part_names *names;
    int64_t n_layer, d_model, vocab, max_pos;
    int64_t heads, kv_heads;       /* MLA expands keys for every head */
    int64_t q_lora, kv_lora;       /* q_lora 0: one q_proj; kv_lora 0: no MLA, but q, k and v projections */
    int64_t nope, rope_dim, v_dim; /* of a head: not rotated and rotated values of q and k, values of v */
    int64_t d_ff, d_ff_expert, d_ff_shared, n_expert, n_shared;
    dsb_layer_set moe;
    int64_t window;                /* of the layers in `sliding` */
    dsb_layer_set sliding;
    double rms_eps;
    dsb_rope_config rope;
    float attention_scale; /* of q·k, YaRN's mscale squared included */
    bool qkv_bias;         /* of q, k and v; in MLA of q_a and kv_a */
    bool o_bias;
    bool head_norm;        /* q and k are normed head by head */
    bool whole_norm;       /* or over all heads at once */
    double clip_qkv;       /* q, k and v are clamped after the norm; 0: not */
    bool sinks;            /* a learned logit a head in attention's softmax */
    dsb_router_shape router;
    bool router_bias;         /* e_score_correction_bias is stored */
    bool router_linear_bias;  /* the router's product has a bias */
    bool expert_bias;
    bool shared_gate;         /* the shared expert's output is scaled by a sigmoid of its own */
    float swiglu_alpha, swiglu_limit; /* limit > 0: the clamped SwiGLU of GPT-OSS */
    bool tied;     /* lm_head is the embedding */
    int64_t n_mtp; /* multi-token-prediction layers that config.json names; skipped where they are stored */
} dsb_config;

typedef struct dsb_arch_row {
    const char *name, *what;
    dsb_status (*read)(dsb_config *out, const void *json, const char *path, dsb_err *err);
    const char *fields; /* that the reader reads or that change nothing here, in spaces; any other is an error */
} dsb_arch_row;
int dsb_arch_list(const dsb_arch_row **rows);

/* Reads DIR/config.json, or the metadata of a GGUF file. DSB_EUNSUPPORTED: an architecture, field or option that would change results; DSB_EINPUT: wrong or absurd fields. */
dsb_status dsb_config_load(dsb_config *out, const char *dir, dsb_err *err);

static inline bool dsb_layer_is_moe(const dsb_config *c, int64_t layer) { return dsb_layer_in(&c->moe, layer); }
/* Values of a token's keys and of its values, all heads. */
static inline int64_t dsb_key_width(const dsb_config *c) { return c->kv_heads * (c->nope + c->rope_dim); }
static inline int64_t dsb_value_width(const dsb_config *c) { return c->kv_heads * c->v_dim; }

/* cos and sin of every position, (n_pos, rope_dim/2) f32, host; amplitude included. */
void dsb_rope_tables(const dsb_config *c, int64_t n_pos, float *cos_table, float *sin_table);

#endif
