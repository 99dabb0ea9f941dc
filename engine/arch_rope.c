/* RoPE: its spellings in config.json, its scalings, and the tables of cos and sin. */
#include <math.h>
#include <string.h>

#include "engine/arch_internal.h"

static const char k_fields[] = "rope_type type rope_theta factor original_max_position_embeddings attention_factor beta_fast beta_slow mscale mscale_all_dim truncate"
                               " low_freq_factor high_freq_factor partial_rotary_factor";

static double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1; }

static bool deepseek(const dsb_config *c) { return c->kv_lora > 0; }

/* DeepSeek's own code divides two mscales and knows no attention_factor; transformers' yarn, of all others, wants both mscales or none. */
static dsb_status yarn_amplitude(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    dsb_rope_config *r = &c->rope;
    const json_t *given = json_object_get(j, "attention_factor");
    bool has = given && !json_is_null(given);
    if (deepseek(c)) {
        if (!r->truncate || has)
            return dsb_fail(err, DSB_EUNSUPPORTED, "%s: yarn with \"%s\" can't be computed; DeepSeek's own yarn (mscale, mscale_all_dim) is wanted", path, has ? "attention_factor" : "truncate");
        r->amplitude = yarn_mscale(r->factor, r->mscale) / yarn_mscale(r->factor, r->mscale_all_dim);
        return DSB_OK;
    }
    r->amplitude = r->mscale != 0 && r->mscale_all_dim != 0 ? yarn_mscale(r->factor, r->mscale) / yarn_mscale(r->factor, r->mscale_all_dim) : yarn_mscale(r->factor, 1);
    REAL("attention_factor", false, &r->amplitude);
    return arch_want_range(path, "attention_factor", r->amplitude, 1e-6, 1e6, err);
}

static dsb_status read_yarn(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    dsb_rope_config *r = &c->rope;
    REAL("beta_fast", false, &r->beta_fast);
    REAL("beta_slow", false, &r->beta_slow);
    REAL("mscale", false, &r->mscale);
    REAL("mscale_all_dim", false, &r->mscale_all_dim);
    BOOL("truncate", false, &r->truncate);
    DSB_TRY(arch_want_range(path, "beta_slow", r->beta_slow, 1e-3, 1e6, err));
    DSB_TRY(arch_want_range(path, "beta_fast", r->beta_fast, r->beta_slow, 1e6, err));
    DSB_TRY(arch_want_range(path, "mscale", r->mscale, 0, 1e3, err));
    DSB_TRY(arch_want_range(path, "mscale_all_dim", r->mscale_all_dim, 0, 1e3, err));
    return yarn_amplitude(c, j, path, err);
}

static dsb_status read_llama3(dsb_rope_config *r, const json_t *j, const char *path, dsb_err *err) {
    REAL("low_freq_factor", true, &r->low_freq_factor);
    REAL("high_freq_factor", true, &r->high_freq_factor);
    DSB_TRY(arch_want_range(path, "low_freq_factor", r->low_freq_factor, 1e-3, 1e6, err));
    if (!(r->high_freq_factor > r->low_freq_factor && r->high_freq_factor <= 1e6))
        return dsb_fail(err, DSB_EINPUT, "%s: \"high_freq_factor\" is %g; more than low_freq_factor, %g, is wanted", path, r->high_freq_factor, r->low_freq_factor);
    return DSB_OK;
}

static dsb_status read_scaling(dsb_config *c, const json_t *j, const char *path, const char *name, const char *types, dsb_err *err) {
    static const char *const k_type[] = {"default", "linear", "yarn", "llama3"};
    dsb_rope_config *r = &c->rope;
    int type = 0;
    while (type < 4 && strcmp(k_type[type], name) != 0) type++;
    if (type == 4 || !arch_knows(types, name)) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: rope scaling of type \"%s\" can't be computed; one of %s is wanted", path, name, types);
    *r = (dsb_rope_config){.type = (dsb_rope_type)type, .half = r->half, .truncate = true, .theta = r->theta, .factor = 1, .amplitude = 1, .beta_fast = 32, .beta_slow = 1, .mscale = deepseek(c) ? 1 : 0};
    if (r->type == DSB_ROPE_DEFAULT) return DSB_OK;
    REAL("factor", true, &r->factor);
    DSB_TRY(arch_want_range(path, "factor", r->factor, 1, 1e6, err));
    if (r->type == DSB_ROPE_LINEAR) return DSB_OK;
    r->original_max_pos = c->max_pos;
    INT("original_max_position_embeddings", deepseek(c), 1, INT32_MAX, &r->original_max_pos);
    return r->type == DSB_ROPE_YARN ? read_yarn(c, j, path, err) : read_llama3(r, j, path, err);
}

const json_t *arch_rope_object(const json_t *j) {
    const json_t *a = json_object_get(j, "rope_parameters"), *b = json_object_get(j, "rope_scaling");
    return a && !json_is_null(a) ? a : b && !json_is_null(b) ? b : NULL;
}

dsb_rope_config arch_rope_default(double theta) { return (dsb_rope_config){.theta = theta, .factor = 1, .amplitude = 1}; }

/* transformers 5 writes "rope_parameters" with theta inside; before, "rope_theta" stood beside "rope_scaling". */
dsb_status arch_read_rope(dsb_config *c, const json_t *doc, const char *path, const char *types, dsb_err *err) {
    const json_t *j = arch_rope_object(doc), *v;
    const char *key = j && j == json_object_get(doc, "rope_parameters") ? "rope_parameters" : "rope_scaling", *name = "default", *field;
    DSB_TRY(dsb_json_real(doc, path, "rope_theta", false, &c->rope.theta, err));
    if (j) {
        if (!json_is_object(j)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is no object; an object or null is wanted", path, key);
        json_object_foreach((json_t *)j, field, v)
            if (!json_is_null(v) && !arch_knows(k_fields, field)) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"%s\" in \"%s\" is unknown and may change the result; take it out if it does not", path, field, key);
        REAL("rope_theta", false, &c->rope.theta);
        TEXT("type", false, &name);
        TEXT("rope_type", false, &name);
        DSB_TRY(read_scaling(c, j, path, name, types, err));
    }
    return arch_want_range(path, "rope_theta", c->rope.theta, 1.001, 1e15, err);
}

/* Dimensions between which yarn goes from the frequency itself to the scaled one. */
typedef struct yarn_ramp {
    double low, high;
} yarn_ramp;

static double turns_at(const dsb_rope_config *r, double dim, double turns) { return dim * log((double)r->original_max_pos / (turns * 2 * M_PI)) / (2 * log(r->theta)); }

static yarn_ramp ramp_of(const dsb_rope_config *r, double dim) {
    yarn_ramp a = {turns_at(r, dim, r->beta_fast), turns_at(r, dim, r->beta_slow)};
    if (r->truncate) {
        a.low = floor(a.low);
        a.high = ceil(a.high);
    }
    if (a.low < 0) a.low = 0;
    if (a.high > dim - 1) a.high = dim - 1;
    if (a.high == a.low) a.high += 0.001;
    return a;
}

static double scaled(const dsb_rope_config *r, double freq, double i, double dim) {
    if (r->type == DSB_ROPE_LINEAR) return freq / r->factor;
    if (r->type == DSB_ROPE_YARN) {
        yarn_ramp a = ramp_of(r, dim);
        double ramp = (i - a.low) / (a.high - a.low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        return freq / r->factor * ramp + freq * (1 - ramp);
    }
    if (r->type == DSB_ROPE_LLAMA3) {
        double turns = (double)r->original_max_pos * freq / (2 * M_PI); /* over the original context */
        double smooth = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        return (1 - smooth) * freq / r->factor + smooth * freq;
    }
    return freq;
}

void dsb_rope_tables(const dsb_config *c, int64_t n_pos, float *cos_table, float *sin_table) {
    const dsb_rope_config *r = &c->rope;
    int64_t half = c->rope_dim / 2;
    double dim = (double)c->rope_dim;
    for (int64_t i = 0; i < half; i++) {
        float f = (float)scaled(r, pow(r->theta, -2.0 * (double)i / dim), (double)i, dim); /* the models' code keeps frequencies and angles in f32 */
        for (int64_t p = 0; p < n_pos; p++) {
            float angle = (float)p * f;
            cos_table[p * half + i] = (float)(cos((double)angle) * r->amplitude);
            sin_table[p * half + i] = (float)(sin((double)angle) * r->amplitude);
        }
    }
}
