/* config.json -> what the engine needs to know of a model. One table row an architecture (arch_table). */
#ifndef DSB_ENGINE_ARCH_H
#define DSB_ENGINE_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/backend.h"

/* YaRN as DeepSeek's own code has it; factor 1 means plain RoPE. */
typedef struct dsb_rope_config {
    double theta, factor, beta_fast, beta_slow, mscale, mscale_all_dim;
    int64_t original_max_pos;
} dsb_rope_config;

typedef struct dsb_config {
    char arch[64];
    int64_t n_layer, d_model, vocab, max_pos;
    int64_t heads, q_lora, kv_lora, nope, rope_dim, v_dim; /* q_lora 0: one q_proj */
    int64_t d_ff, d_ff_expert, n_expert, n_shared, first_dense, moe_freq;
    double rms_eps;
    dsb_rope_config rope;
    float attention_scale; /* of q·k, YaRN's mscale squared included */
    dsb_router_shape router;
    bool router_bias; /* e_score_correction_bias is stored */
    bool tied;        /* lm_head is the embedding */
    int64_t n_mtp;    /* multi-token-prediction layers stored and skipped */
} dsb_config;

typedef struct dsb_arch_row {
    const char *name, *what;
    dsb_status (*read)(dsb_config *out, const void *json, const char *path, dsb_err *err);
} dsb_arch_row;
int dsb_arch_list(const dsb_arch_row **rows);

/* Reads DIR/config.json. DSB_EUNSUPPORTED: an architecture or option that would change results; DSB_EINPUT: wrong or absurd fields. */
dsb_status dsb_config_load(dsb_config *out, const char *dir, dsb_err *err);

static inline bool dsb_layer_is_moe(const dsb_config *c, int64_t layer) { return c->n_expert > 0 && layer >= c->first_dense && layer % c->moe_freq == 0; }

/* cos and sin of every position, (n_pos, rope_dim/2) f32, host; YaRN's amplitude included. */
void dsb_rope_tables(const dsb_config *c, int64_t n_pos, float *cos_table, float *sin_table);

#endif
