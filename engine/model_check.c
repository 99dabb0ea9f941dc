#include "engine/model_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/block.h"
#include "engine/rotate.h"
#include "engine/session.h"
#include "engine/stored.h"

static dsb_status check_linear(const dsb_checkpoint *cp, const dsb_linear_spec *s, dsb_err *err) {
    DSB_TRY(dsb_checkpoint_check_linear(cp, s->stem, s->rows, s->cols, err));
    return s->bias ? dsb_checkpoint_read_bias(cp, s->stem, s->rows, NULL, err) : DSB_OK;
}

static dsb_status check_ffn(const dsb_config *c, const dsb_checkpoint *cp, int64_t layer, dsb_role role, int64_t expert, dsb_err *err) {
    dsb_linear_spec specs[3];
    dsb_ffn_specs(c, layer, role, expert, specs);
    for (int i = 0; i < 3; i++) DSB_TRY(check_linear(cp, &specs[i], err));
    return DSB_OK;
}

static dsb_status check_layer(const dsb_config *c, const dsb_checkpoint *cp, int64_t layer, dsb_err *err) {
    dsb_linear_spec specs[5], router;
    int n = dsb_attn_specs(c, layer, specs);
    for (int i = 0; i < n; i++) DSB_TRY(check_linear(cp, &specs[i], err));
    DSB_TRY(dsb_block_check_vectors(c, cp, layer, err));
    if (!dsb_layer_is_moe(c, layer)) return check_ffn(c, cp, layer, DSB_ROLE_DENSE_GATE, -1, err);
    dsb_router_spec(c, layer, &router);
    DSB_TRY(check_linear(cp, &router, err));
    for (int64_t e = 0; e < c->n_expert; e++) DSB_TRY(check_ffn(c, cp, layer, DSB_ROLE_EXPERT_GATE, e, err));
    return c->n_shared ? check_ffn(c, cp, layer, DSB_ROLE_SHARED_GATE, -1, err) : DSB_OK;
}

dsb_status dsb_model_check(const dsb_model *m, const dsb_checkpoint *cp, dsb_err *err) {
    const dsb_config *c = &m->config;
    dsb_linear_spec head;
    dsb_head_spec(c, &head);
    DSB_TRY(dsb_checkpoint_check(cp, "model.embed_tokens.weight", c->vocab, c->d_model, err));
    DSB_TRY(check_linear(cp, &head, err));
    DSB_TRY(dsb_checkpoint_check(cp, "model.norm.weight", c->d_model, 0, err));
    for (int64_t l = 0; l < c->n_layer; l++) DSB_TRY(check_layer(c, cp, l, err));
    return DSB_OK;
}

/* Every rule that may decide it: those with a test, and the first without; used (may be NULL) marks them, and
 * then a block's weight that none is sure to take is an error: a run keeps it by name. Router, embedding and vocabulary projection are kept unless named. */
static dsb_status check_rules(const dsb_recipe *r, const dsb_linear_spec *s, bool *used, dsb_err *err) {
    char tensor[300];
    snprintf(tensor, sizeof tensor, "%s.weight", s->stem);
    for (int i = 0; i < r->n_rule; i++) {
        const dsb_rule *rule = &r->rules[i];
        int64_t group;
        if (!dsb_rule_covers(rule, s->role, tensor)) continue;
        if (used) used[i] = true;
        if (rule->format && !dsb_rule_format(rule, s->cols, &group))
            return dsb_fail(err, DSB_EINPUT, "scheme %s: rule %d: tensor %s: rows of %lld weights don't split into %s's blocks of %lld%s; a \"fallback\" format that takes them is wanted", r->name, i + 1, tensor, (long long)s->cols,
                            rule->format->name, (long long)rule->format->block, rule->fallback ? ", nor its fallback's" : "");
        if (rule->when == DSB_WHEN_ALWAYS) return DSB_OK;
    }
    if (!used || s->role == DSB_ROLE_ROUTER || s->role == DSB_ROLE_EMBED || s->role == DSB_ROLE_LM_HEAD) return DSB_OK;
    return dsb_fail(err, DSB_EINPUT, "scheme %s: tensor %s (role %s): no rule without a test matches it; one that does is wanted, such as {\"role\": \"*\", \"format\": \"keep\"} as the last", r->name, tensor, dsb_role_name(s->role));
}

/* Every linear of the model, blocks first. */
static dsb_status each_linear(const dsb_config *c, dsb_status (*check)(const void *ctx, const dsb_linear_spec *s, dsb_err *err), const void *ctx, dsb_err *err) {
    dsb_linear_spec s[5];
    for (int64_t l = 0; l < c->n_layer; l++) {
        for (int i = 0, n = dsb_attn_specs(c, l, s); i < n; i++) DSB_TRY(check(ctx, &s[i], err));
        bool moe = dsb_layer_is_moe(c, l);
        for (int64_t e = 0; e < (moe ? c->n_expert : 1); e++) {
            dsb_ffn_specs(c, l, moe ? DSB_ROLE_EXPERT_GATE : DSB_ROLE_DENSE_GATE, moe ? e : -1, s);
            for (int i = 0; i < 3; i++) DSB_TRY(check(ctx, &s[i], err));
        }
        if (!moe) continue;
        dsb_router_spec(c, l, s);
        DSB_TRY(check(ctx, s, err));
        if (c->n_shared) dsb_ffn_specs(c, l, DSB_ROLE_SHARED_GATE, -1, s);
        for (int i = 0; c->n_shared && i < 3; i++) DSB_TRY(check(ctx, &s[i], err));
    }
    dsb_head_spec(c, s);
    return check(ctx, s, err);
}

typedef struct ruled {
    const dsb_recipe *recipe;
    bool *used;
} ruled;

static dsb_status check_ruled(const void *ctx, const dsb_linear_spec *s, dsb_err *err) {
    const ruled *r = ctx;
    return check_rules(r->recipe, s, r->used, err);
}

dsb_status dsb_model_check_recipe(const dsb_model *m, const dsb_recipe *recipe, bool *used, dsb_err *err) {
    ruled r = {recipe, used};
    if (!recipe) return DSB_OK;
    DSB_TRY(dsb_rotation_check(recipe, &m->config, err));
    for (int i = 0; used && i < recipe->n_rule; i++) used[i] = false;
    dsb_linear_spec embed;
    dsb_linear_spec_make(&embed, DSB_ROLE_EMBED, -1, -1, m->config.vocab, m->config.d_model, "model.embed_tokens");
    DSB_TRY(check_rules(recipe, &embed, used, err));
    return each_linear(&m->config, check_ruled, &r, err);
}

/* What is missing or of another shape is dsb_model_check's to tell. */
static dsb_status check_stored(const void *ctx, const dsb_linear_spec *s, dsb_err *err) {
    const dsb_scheme *scheme = ctx;
    const dsb_recipe *r = scheme->recipe;
    char tensor[300];
    dsb_stored found;
    dsb_err ignored;
    snprintf(tensor, sizeof tensor, "%s.weight", s->stem);
    if (dsb_stored_find(scheme->source, s->stem, s->rows, s->cols, &found, &ignored) || !found.format || found.format->qmax == 0) return DSB_OK;
    for (int i = 0; i < r->n_rule; i++) {
        const dsb_rule *rule = &r->rules[i];
        int64_t group;
        const dsb_format *f = dsb_rule_covers(rule, s->role, tensor) ? dsb_rule_format(rule, s->cols, &group) : NULL;
        if (f && !f->is_float && f != found.format)
            return dsb_fail(err, DSB_EINPUT, "scheme %s: rule %d: tensor %s is stored as %s in %s and runs so; that format, a float one or keep is wanted, not %s", r->name, i + 1, tensor, found.format->name, scheme->source->dir, f->name);
        if (dsb_rule_covers(rule, s->role, tensor) && rule->when == DSB_WHEN_ALWAYS) break;
    }
    return DSB_OK;
}

dsb_status dsb_model_check_stored(const dsb_model *m, const dsb_scheme *scheme, dsb_err *err) { return scheme->own_source || !scheme->recipe ? DSB_OK : each_linear(&m->config, check_stored, scheme, err); }

dsb_status dsb_model_check_length(const dsb_model *m, const char *dir, const char *what, int64_t n, dsb_err *err) {
    if (n <= m->config.max_pos) return DSB_OK;
    return dsb_fail(err, DSB_EINPUT, "%s: %lld tokens; at most %lld, max_position_embeddings of %s/config.json, are wanted", what, (long long)n, (long long)m->config.max_pos, dir);
}

bool dsb_model_skipped(const dsb_model *m, char text[200]) {
    static const char k_layer[] = "model.layers.";
    int64_t n = 0;
    double bytes = 0;
    for (int f = 0; f < m->checkpoint.n_file; f++)
        for (int64_t i = 0; i < m->checkpoint.files[f].n_tensor; i++) {
            const dsb_st_tensor *t = &m->checkpoint.files[f].tensors[i];
            char *end;
            if (strncmp(t->name, k_layer, strlen(k_layer)) != 0) continue;
            long long layer = strtoll(t->name + strlen(k_layer), &end, 10);
            if (*end != '.' || layer < m->config.n_layer) continue;
            n++;
            bytes += (double)t->bytes;
        }
    if (n) snprintf(text, 200, "%s: %lld tensors (%.3g MB) of layers beyond %lld are skipped", m->config.n_mtp ? "multi-token prediction is no part of the evaluated model" : "config.json has fewer layers than the checkpoint", (long long)n, bytes / 1e6, (long long)m->config.n_layer);
    return n > 0;
}

int64_t dsb_model_params(const dsb_config *c) {
    int64_t n = c->vocab * c->d_model * (c->tied ? 1 : 2) + dsb_block_vector_values(c);
    for (int64_t l = 0; l < c->n_layer; l++) {
        dsb_linear_spec s[5];
        bool moe = dsb_layer_is_moe(c, l);
        for (int i = 0, k = dsb_attn_specs(c, l, s); i < k; i++) n += s[i].rows * s[i].cols;
        n += 3 * c->d_model * (moe ? c->d_ff_expert * c->n_expert + c->d_ff_shared : c->d_ff) + (moe ? c->n_expert * c->d_model : 0);
    }
    return n;
}
