/* Files and tensors; gguf_config.c has the metadata. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf_internal.h"

static const gguf_arch k_arch[] = {
    {"deepseek", "DeepseekForCausalLM", "mlp", "gate", "shared_experts", {"gate_proj", "up_proj", "down_proj"}, true},
    {"deepseek2", "DeepseekV3ForCausalLM", "mlp", "gate", "shared_experts", {"gate_proj", "up_proj", "down_proj"}, false}, /* V2 where routing is softmax */
    {"qwen2moe", "Qwen2MoeForCausalLM", "mlp", "gate", "shared_expert", {"gate_proj", "up_proj", "down_proj"}, false},
    {"qwen3moe", "Qwen3MoeForCausalLM", "mlp", "gate", "", {"gate_proj", "up_proj", "down_proj"}, false},
    {"llama", "MixtralForCausalLM", "block_sparse_moe", "gate", "", {"w1", "w3", "w2"}, true},
    {"olmoe", "OlmoeForCausalLM", "mlp", "gate", "", {"gate_proj", "up_proj", "down_proj"}, false},
    {"glm4moe", "Glm4MoeForCausalLM", "mlp", "gate", "shared_experts", {"gate_proj", "up_proj", "down_proj"}, false},
    {"gpt-oss", "GptOssForCausalLM", "mlp", "router", "", {"gate_proj", "up_proj", "down_proj"}, false},
};

dsb_status gguf_arch_of(dsb_gguf *f, const gguf_arch **out, dsb_err *err) {
    const char *name = "";
    char known[256] = "";
    DSB_TRY(dsb_gguf_text(f, "general.architecture", true, &name, err));
    for (size_t i = 0; i < sizeof k_arch / sizeof *k_arch; i++) {
        if (strcmp(k_arch[i].name, name) == 0) {
            *out = &k_arch[i];
            return DSB_OK;
        }
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", k_arch[i].name);
    }
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: architecture \"%s\" is unknown; one of %s is wanted", f->path, name, known);
}

dsb_status gguf_int(const dsb_gguf *f, const gguf_arch *a, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, dsb_err *err) {
    char full[128];
    snprintf(full, sizeof full, "%s.%s", a->name, key);
    return dsb_gguf_int(f, full, required, lo, hi, out, err);
}

static int by_name(const void *a, const void *b) { return strcmp(((const dsb_st_tensor *)a)->name, ((const dsb_st_tensor *)b)->name); }

const dsb_st_tensor *gguf_tensor_find(const dsb_gguf_model *m, const char *name) {
    const dsb_st_tensor key = {.name = name}, *found = NULL;
    for (int i = 0; i < m->n_file && !found; i++)
        if (m->files[i].n_tensor) found = bsearch(&key, m->files[i].tensors, (size_t)m->files[i].n_tensor, sizeof key, by_name);
    return found;
}

/* What a block's tensor is called there. %m, %r, %s: the family's words for MoE, router and shared expert. */
typedef enum kind { WHOLE, ROTATED_Q, ROTATED_K, EXPERT_GATE, EXPERT_UP, EXPERT_DOWN, ROW, SPLIT_K, SPLIT_V, SKIPPED } kind;
static const struct {
    const char *gguf, *hf;
    kind kind;
} k_name[] = {
    {"attn_norm", "input_layernorm", WHOLE},
    {"ffn_norm", "post_attention_layernorm", WHOLE},
    {"post_attention_norm", "post_attention_layernorm", WHOLE},
    {"attn_q", "self_attn.q_proj", ROTATED_Q},
    {"attn_k", "self_attn.k_proj", ROTATED_K},
    {"attn_v", "self_attn.v_proj", WHOLE},
    {"attn_output", "self_attn.o_proj", WHOLE},
    {"attn_q_norm", "self_attn.q_norm", WHOLE},
    {"attn_k_norm", "self_attn.k_norm", WHOLE},
    {"attn_q_a", "self_attn.q_a_proj", WHOLE},
    {"attn_q_b", "self_attn.q_b_proj", WHOLE},
    {"attn_q_a_norm", "self_attn.q_a_layernorm", WHOLE},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", WHOLE},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm", WHOLE},
    {"attn_kv_b", "self_attn.kv_b_proj", WHOLE},
    {"attn_k_b", "self_attn.kv_b_proj", SPLIT_K},
    {"attn_v_b", "", SPLIT_V},
    {"attn_sinks", "self_attn.sinks", WHOLE},
    {"ffn_gate", "mlp.gate_proj", WHOLE},
    {"ffn_up", "mlp.up_proj", WHOLE},
    {"ffn_down", "mlp.down_proj", WHOLE},
    {"ffn_gate_inp", "%m.%r", WHOLE},
    {"exp_probs_b", "mlp.gate.e_score_correction_bias", WHOLE},
    {"ffn_gate_exps", "", EXPERT_GATE},
    {"ffn_up_exps", "", EXPERT_UP},
    {"ffn_down_exps", "", EXPERT_DOWN},
    {"ffn_gate_shexp", "mlp.%s.gate_proj", WHOLE},
    {"ffn_up_shexp", "mlp.%s.up_proj", WHOLE},
    {"ffn_down_shexp", "mlp.%s.down_proj", WHOLE},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate", ROW},
    {"attn_rot_embd", "", SKIPPED},
};

typedef struct maker {
    dsb_gguf_model *m;
    const gguf_arch *arch;
    int64_t n_layer, heads, kv_heads, room;
    dsb_err *err;
} maker;

static dsb_status add(maker *k, const char *name, dsb_st_tensor t) {
    dsb_gguf_model *m = k->m;
    if (m->n_tensor == k->room) {
        int64_t room = 2 * k->room + 64;
        dsb_st_tensor *more = realloc(m->tensors, (size_t)room * sizeof *more);
        if (!more) return dsb_fail(k->err, DSB_ENOMEM, "%s: no memory for its tensors", m->files[0].path);
        m->tensors = more;
        k->room = room;
    }
    t.name = dsb_arena_strdup(&m->arena, name);
    if (!t.name) return dsb_fail(k->err, DSB_ENOMEM, "%s: no memory for names of tensors", m->files[0].path);
    m->tensors[m->n_tensor++] = t;
    return DSB_OK;
}

static dsb_status odd(const maker *k, const dsb_st_tensor *t, const char *what) { return dsb_fail(k->err, DSB_EINPUT, "%s: tensor %s: %s", k->m->files[0].path, t->name, what); }

/* The k-th of the n parts that the first dimension counts. */
static dsb_st_tensor slice(const dsb_st_tensor *t, int64_t i) {
    dsb_st_tensor s = *t;
    s.ndim--;
    for (int d = 0; d < s.ndim; d++) s.shape[d] = t->shape[d + 1];
    s.bytes = t->bytes / (size_t)t->shape[0];
    s.data = t->data + s.bytes * (size_t)i;
    return s;
}

static dsb_status add_experts(maker *k, long layer, int part, const char *tail, const dsb_st_tensor *t) {
    char name[200];
    if (t->ndim < 2 || t->shape[0] < 1 || t->shape[0] > 65536) return odd(k, t, "no experts in its last dimension");
    for (int64_t e = 0; e < t->shape[0]; e++) {
        snprintf(name, sizeof name, "model.layers.%ld.%s.experts.%lld.%s.%s", layer, k->arch->moe, (long long)e, k->arch->expert[part], tail);
        DSB_TRY(add(k, name, slice(t, e)));
    }
    return DSB_OK;
}

/* The converter moved row t*half + j of each head to 2j + t. */
static dsb_status add_rotated(maker *k, const char *name, const dsb_st_tensor *t, int64_t heads) {
    dsb_st_tensor s = *t;
    if (!k->arch->interleaved) return add(k, name, s);
    if (t->ndim != 2 || t->shape[0] % (2 * heads)) return odd(k, t, "its rows don't split into heads of even size");
    s.rotated = t->shape[0] / heads;
    return add(k, name, s);
}

/* MLA: k_b (heads, kv_lora, nope) and v_b (heads, v, kv_lora) are together kv_b (heads * (nope + v), kv_lora). */
static dsb_status add_split(maker *k, const char *name, const dsb_st_tensor *t) {
    char other[64];
    snprintf(other, sizeof other, "%s", t->name);
    char *at = strstr(other, "attn_k_b");
    at[5] = 'v';
    const dsb_st_tensor *v = gguf_tensor_find(k->m, other);
    if (!v) return dsb_fail(k->err, DSB_EINPUT, "%s: tensor %s is missing beside %s", k->m->files[0].path, other, t->name);
    if (t->ndim != 3 || v->ndim != 3 || t->shape[0] != v->shape[0] || t->shape[1] != v->shape[2]) return odd(k, t, "its shape does not fit that of attn_v_b");
    dsb_st_tensor s = *t;
    s.ndim = 2;
    if (t->shape[2] > INT32_MAX || v->shape[1] > INT32_MAX || t->shape[0] > INT32_MAX) return odd(k, t, "its shape is absurdly large");
    s.shape[0] = t->shape[0] * (t->shape[2] + v->shape[1]);
    s.shape[1] = t->shape[1];
    s.shape[2] = 0;
    s.nope = t->shape[2];
    s.values = v;
    return add(k, name, s);
}

/* Fills in the family's words. */
static void hf_name(const maker *k, long layer, const char *pattern, const char *tail, char out[200]) {
    size_t at = (size_t)snprintf(out, 200, "model.layers.%ld.", layer);
    for (const char *p = pattern; *p && at < 160; p++) {
        if (*p != '%') {
            out[at++] = *p;
            continue;
        }
        p++;
        at += (size_t)snprintf(out + at, 200 - at, "%s", *p == 'm' ? k->arch->moe : *p == 'r' ? k->arch->router : k->arch->shared);
    }
    /* Two of them are no linear's weight. */
    bool bare = strcmp(pattern, "self_attn.sinks") == 0 || strcmp(pattern, "mlp.gate.e_score_correction_bias") == 0;
    snprintf(out + at, 200 - at, "%s%s", bare ? "" : ".", bare ? "" : tail);
}

/* Mixtral's old files have a tensor an expert: ffn_gate.E. */
static bool old_expert(const char *rest, int *part, long *expert, const char **tail) {
    static const char *const k_part[] = {"ffn_gate.", "ffn_up.", "ffn_down."};
    for (*part = 0; *part < 3; ++*part) {
        size_t n = strlen(k_part[*part]);
        char *end;
        if (strncmp(rest, k_part[*part], n) != 0 || rest[n] < '0' || rest[n] > '9') continue;
        *expert = strtol(rest + n, &end, 10);
        *tail = end + 1;
        return *end == '.' && *expert <= 65536;
    }
    return false;
}

static dsb_status add_named(maker *k, long layer, const dsb_st_tensor *t, const char *rest) {
    char name[200], stem[64];
    const char *dot = strrchr(rest, '.'), *tail = dot ? dot + 1 : "weight";
    int part;
    long expert;
    if (old_expert(rest, &part, &expert, &tail)) {
        snprintf(name, sizeof name, "model.layers.%ld.%s.experts.%ld.%s.%.16s", layer, k->arch->moe, expert, k->arch->expert[part], tail);
        return add(k, name, *t);
    }
    snprintf(stem, sizeof stem, "%.*s", dot ? (int)(dot - rest) : 63, rest);
    for (size_t i = 0; i < sizeof k_name / sizeof *k_name; i++) {
        if (strcmp(k_name[i].gguf, stem) != 0) continue;
        hf_name(k, layer, k_name[i].hf, tail, name);
        switch (k_name[i].kind) {
        case WHOLE: return add(k, name, *t);
        case ROTATED_Q: return add_rotated(k, name, t, k->heads);
        case ROTATED_K: return add_rotated(k, name, t, k->kv_heads);
        case SPLIT_K: return add_split(k, name, t);
        case ROW: {
            dsb_st_tensor s = *t;
            if (t->ndim != 1) return add(k, name, s);
            s.ndim = 2;
            s.shape[0] = 1;
            s.shape[1] = t->shape[0];
            return add(k, name, s);
        }
        case SPLIT_V:
        case SKIPPED: return DSB_OK;
        default: return add_experts(k, layer, (int)(k_name[i].kind - EXPERT_GATE), tail, t);
        }
    }
    return dsb_fail(k->err, DSB_EUNSUPPORTED, "%s: tensor %s is unknown and may change the result", k->m->files[0].path, t->name);
}

static dsb_status add_tensor(maker *k, const dsb_st_tensor *t) {
    if (strcmp(t->name, "token_embd.weight") == 0) return add(k, "model.embed_tokens.weight", *t);
    if (strcmp(t->name, "output_norm.weight") == 0) return add(k, "model.norm.weight", *t);
    if (strcmp(t->name, "output.weight") == 0) return add(k, "lm_head.weight", *t);
    char *end;
    if (strncmp(t->name, "blk.", 4) == 0 && t->name[4] >= '0' && t->name[4] <= '9') {
        long layer = strtol(t->name + 4, &end, 10);
        if (*end == '.' && layer >= k->n_layer && layer < 65536) return DSB_OK; /* next-token-prediction layers are not evaluated */
        if (*end == '.' && layer < k->n_layer) return add_named(k, layer, t, end + 1);
    }
    return dsb_fail(k->err, DSB_EUNSUPPORTED, "%s: tensor %s is unknown and may change the result", k->m->files[0].path, t->name);
}

static dsb_status make_tensors(dsb_gguf_model *m, dsb_err *err) {
    maker k = {.m = m, .err = err, .heads = 1};
    dsb_gguf *f = &m->files[0];
    DSB_TRY(gguf_arch_of(f, &k.arch, err));
    DSB_TRY(gguf_layers(f, k.arch, &k.n_layer, err));
    DSB_TRY(gguf_int(f, k.arch, "attention.head_count", true, 1, 65536, &k.heads, err));
    k.kv_heads = k.heads;
    DSB_TRY(gguf_int(f, k.arch, "attention.head_count_kv", false, 1, 65536, &k.kv_heads, err));
    for (int i = 0; i < m->n_file; i++)
        for (int64_t t = 0; t < m->files[i].n_tensor; t++) DSB_TRY(add_tensor(&k, &m->files[i].tensors[t]));
    if (m->n_tensor) qsort(m->tensors, (size_t)m->n_tensor, sizeof *m->tensors, by_name);
    for (int64_t i = 1; i < m->n_tensor; i++)
        if (strcmp(m->tensors[i - 1].name, m->tensors[i].name) == 0) return dsb_fail(err, DSB_EINPUT, "%s: %s is there twice, under two names or in two files", f->path, m->tensors[i].name);
    return DSB_OK;
}

static dsb_status open_one(dsb_gguf_model *m, const char *path, dsb_err *err) {
    dsb_gguf *more = realloc(m->files, (size_t)(m->n_file + 1) * sizeof *more);
    if (!more) return dsb_fail(err, DSB_ENOMEM, "%s: no memory", path);
    m->files = more;
    DSB_TRY(dsb_gguf_open(&m->files[m->n_file], path, err));
    m->n_file++;
    return DSB_OK;
}

/* The other files of a split model. */
static dsb_status open_split(dsb_gguf_model *m, const char *path, dsb_err *err) {
    int64_t count = 1, no = 0, tensors = -1, total = 0;
    size_t n = strlen(path);
    char tail[64], other[4096];
    DSB_TRY(dsb_gguf_int(&m->files[0], "split.count", false, 0, 65535, &count, err));
    DSB_TRY(dsb_gguf_int(&m->files[0], "split.no", false, 0, 65535, &no, err));
    DSB_TRY(dsb_gguf_int(&m->files[0], "split.tensors.count", false, 0, INT64_MAX, &tensors, err));
    if (count <= 1) return DSB_OK;
    if (no != 0) return dsb_fail(err, DSB_EINPUT, "%s: part %lld of a split model; its first file, which ends in -00001-of-%05lld.gguf, is wanted", path, (long long)no + 1, (long long)count);
    snprintf(tail, sizeof tail, "-00001-of-%05lld.gguf", (long long)count);
    if (n <= strlen(tail) || strcmp(path + n - strlen(tail), tail) != 0)
        return dsb_fail(err, DSB_EINPUT, "%s: the first of %lld files; a name that ends in %s is wanted, so that the others can be found", path, (long long)count, tail);
    for (int64_t i = 1; i < count; i++) {
        int64_t its = -1;
        if ((size_t)snprintf(other, sizeof other, "%.*s-%05lld-of-%05lld.gguf", (int)(n - strlen(tail)), path, (long long)i + 1, (long long)count) >= sizeof other) return dsb_fail(err, DSB_EINPUT, "%s: the path is too long", path);
        DSB_TRY(open_one(m, other, err));
        DSB_TRY(dsb_gguf_int(&m->files[i], "split.no", true, 0, 65535, &its, err));
        if (its != i) return dsb_fail(err, DSB_EINPUT, "%s: holds part %lld of a split model; part %lld is wanted by its name", other, (long long)its + 1, (long long)i + 1);
    }
    for (int i = 0; i < m->n_file; i++) total += m->files[i].n_tensor;
    if (tensors >= 0 && total != tensors) return dsb_fail(err, DSB_EINPUT, "%s: %lld tensors in its %lld files; split.tensors.count wants %lld", path, (long long)total, (long long)count, (long long)tensors);
    return DSB_OK;
}

dsb_status dsb_gguf_model_open(dsb_gguf_model *m, const char *path, dsb_err *err) {
    *m = (dsb_gguf_model){0};
    dsb_arena_init(&m->arena);
    dsb_status s = open_one(m, path, err);
    if (!s) s = open_split(m, path, err);
    if (!s) s = make_tensors(m, err);
    if (s) dsb_gguf_model_close(m);
    return s;
}

void dsb_gguf_model_close(dsb_gguf_model *m) {
    for (int i = 0; i < m->n_file; i++) dsb_gguf_close(&m->files[i]);
    free(m->files);
    free(m->tensors);
    dsb_arena_release(&m->arena);
    *m = (dsb_gguf_model){0};
}
