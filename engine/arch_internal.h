/* What the readers of config.json share: arch_table.c (rows), arch_deepseek.c, arch_gqa.c, arch_rope.c. */
#ifndef DSB_ENGINE_ARCH_INTERNAL_H
#define DSB_ENGINE_ARCH_INTERNAL_H

#include "base/json.h"
#include "engine/arch.h"

enum { ARCH_MAX_DIM = 1 << 20, ARCH_MAX_FF = 1 << 24, ARCH_MAX_HEADS = 65536, ARCH_MAX_EXPERT = 65536 };

#define INT(key, required, lo, hi, out) DSB_TRY(dsb_json_int(j, path, key, required, lo, hi, out, err))
#define REAL(key, required, out) DSB_TRY(dsb_json_real(j, path, key, required, out, err))
#define BOOL(key, required, out) DSB_TRY(dsb_json_bool(j, path, key, required, out, err))
#define TEXT(key, required, out) DSB_TRY(dsb_json_string(j, path, key, required, out, err))

/* Whether `key` is a word of the space-separated list. */
bool arch_knows(const char *list, const char *key);
/* A number that is there and absurd is no model's: an error instead of NaN in every figure. */
dsb_status arch_want_range(const char *path, const char *key, double x, double lo, double hi, dsb_err *err);
/* *out: the text of key, or `fallback`; must be a or b (b may be NULL). */
dsb_status arch_want_text(const json_t *j, const char *path, const char *key, const char *fallback, const char *a, const char *b, const char **out, dsb_err *err);

/* Layers, width, vocabulary, positions, epsilon, tied embedding, activation. Set defaults of *c first. */
dsb_status arch_read_size(dsb_config *c, const json_t *j, const char *path, dsb_err *err);
/* n_expert by any of its three names; names that disagree are an error. */
dsb_status arch_read_n_expert(dsb_config *c, const json_t *j, const char *path, bool required, dsb_err *err);
/* Experts a token, groups, scale, norm_topk_prob. Set scoring and defaults of c->router first. */
dsb_status arch_read_router(dsb_config *c, const json_t *j, const char *path, dsb_err *err);
/* "rope_parameters", or "rope_scaling", whichever is there and not null; else NULL. */
const json_t *arch_rope_object(const json_t *j);
dsb_rope_config arch_rope_default(double theta);
/* RoPE of any spelling, of the types in the space-separated list; rope_dim, max_pos and c->rope's defaults come first. */
dsb_status arch_read_rope(dsb_config *c, const json_t *j, const char *path, const char *types, dsb_err *err);

extern const dsb_part_names arch_names_deepseek, arch_names_qwen, arch_names_mixtral, arch_names_gpt_oss;
dsb_status arch_read_deepseek_v1(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_deepseek_v2(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_deepseek_v3(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_qwen2(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_qwen3(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_mixtral(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_olmoe(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_glm4(dsb_config *c, const void *doc, const char *path, dsb_err *err);
dsb_status arch_read_gpt_oss(dsb_config *c, const void *doc, const char *path, dsb_err *err);

#endif
