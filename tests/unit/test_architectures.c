/* Both drivers on a tiny model of every architecture, with every preset: what the sweep reports of logits is what a session
 * computes, and decoding through the cache is prefill. Kernels are batch-invariant, so comparisons are of bits, but for absorbed MLA. */
#include "sweep_run.h"

#include <math.h>
#include <unistd.h>

static const char *const k_model[] = {"deepseek_v1", "deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "mixtral", "mixtral_fused", "olmoe", "qwen2_moe", "qwen3_moe"};

/* Rules that name what presets leave alone. */
static const char k_whole[] = "{\"name\": \"whole\", \"rules\": [{\"role\": \"embed\", \"format\": \"int8\", \"group\": \"channel\"}, {\"role\": \"lm_head\", \"format\": \"int8\", \"activation\": \"int8-dynamic\"},"
                              " {\"role\": \"router\", \"format\": \"int8\", \"activation\": \"int8-dynamic\"}, {\"role\": \"attn.*\", \"format\": \"int4\", \"group\": 4, \"zero_point\": true},"
                              " {\"role\": \"*\", \"format\": \"int8\", \"activation\": \"int8-static\"}]}";

static void add_schemes(sr_run *r) {
    const dsb_preset_row *presets;
    for (int i = 0, n = dsb_preset_list(&presets); i < n; i++) {
        const dsb_recipe *recipe;
        dsb_err err = {0};
        if (dsb_recipe_preset(&recipe, &r->arena, presets[i].name, &err)) fail_msg("%s", err.text);
        if (!recipe->source && !recipe->needs) sr_add_if_it_fits(r, recipe); /* a session has no statistics to choose by */
    }
    sr_add_json(r, k_whole);
}

/* Logits of a chunk: whole, or a prompt and then token by token. */
static void chunk_logits(sr_run *r, dsb_session *s, int chunk, bool decode, float *z) {
    const int32_t *tokens = r->tokens + chunk * SR_CTX;
    int64_t prompt = decode ? SR_CTX / 2 : SR_CTX, v = r->m.config.vocab;
    dsb_session_rewind(s);
    assert_int_equal(dsb_session_forward(s, tokens, prompt, prompt, z, NULL, NULL), DSB_OK);
    for (int64_t i = prompt; i < SR_CTX; i++) assert_int_equal(dsb_session_forward(s, tokens + i, 1, 1, z + i * v, NULL, NULL), DSB_OK);
}

/* Decoding over keys and values is prefill bit for bit. MLA decodes in absorbed form: the reference's logits within 1e-4, of other schemes the
 * prompt's bits (test_absorb holds their attention to a bound; an ulp may flip a code, then an expert). */
static void decoded(const sr_run *r, bool reference, const float *whole, const float *one) {
    int64_t v = r->m.config.vocab, same = r->m.config.kv_lora ? SR_CTX / 2 : SR_CTX;
    assert_memory_equal(one, whole, (size_t)(same * v) * sizeof *one);
    for (int64_t i = same * v; i < SR_CTX * v; i++) assert_true(reference ? fabsf(one[i] - whole[i]) <= 1e-4f : isfinite(one[i]));
}

static void check_model(const char *dir) {
    sr_run *r = sr_open_model(dsb_backend_cpu(NULL), dir);
    int64_t v = r->m.config.vocab;
    dsb_err err = {0};
    add_schemes(r);
    sr_sweep(r, 1);
    float *ref = malloc((size_t)(SR_CHUNKS * SR_CTX * v) * sizeof *ref), *z = malloc((size_t)(SR_CTX * v) * sizeof *z), *one = malloc((size_t)(SR_CTX * v) * sizeof *one);
    for (int i = -1; i < r->n_scheme; i++) {
        dsb_session s;
        if (dsb_session_open(&s, &r->m, i < 0 ? &r->reference : &r->schemes[i], &r->cal, SR_CTX, &err)) fail_msg("%s: %s", dir, err.text);
        for (int c = 0; c < SR_CHUNKS; c++) {
            dsb_logit_row rows[SR_CTX];
            float *ref_chunk = ref + c * SR_CTX * v;
            chunk_logits(r, &s, c, false, i < 0 ? ref_chunk : z);
            chunk_logits(r, &s, c, true, one);
            decoded(r, i < 0, i < 0 ? ref_chunk : z, one);
            r->m.be->logit_rows(ref_chunk, i < 0 ? NULL : z, r->targets + c * SR_CTX, SR_CTX - 1, v, rows);
            assert_int_equal(rows[0].nonfinite, 0);
            assert_memory_equal(rows, &r->rows[i + 1][c * (SR_CTX - 1)], (SR_CTX - 1) * sizeof *rows);
        }
        dsb_session_close(&s);
    }
    free(ref);
    free(z);
    free(one);
    sr_close(r);
}

static void test_architectures__both_drivers_agree_with_every_scheme(void **state) {
    for (size_t i = 0; i < sizeof k_model / sizeof *k_model; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_model[i]);
        check_model(dir);
    }
}

/* The oracle's MXFP4 experts and FP8 blocks. */
static void test_architectures__both_drivers_agree_on_stored_low_bits(void **state) {
    static const char *const k_name[] = {"gpt_oss", "deepseek_v3_fp8"};
    const char *shared = getenv("DSBENCH_SHARED");
    for (int i = 0; i < 2; i++) {
        char dir[1024], config[1100];
        snprintf(dir, sizeof dir, "%s/oracle/dev/%s", shared && *shared ? shared : "../shared", k_name[i]);
        snprintf(config, sizeof config, "%s/config.json", dir);
        if (access(config, R_OK) != 0) skip();
        check_model(dir);
    }
}

/* A scheme that reads a checkpoint of its own takes every norm, bias, sink and gate from it: the same folder, the same bits. */
static void test_architectures__another_checkpoint_is_read_whole(void **state) {
    for (size_t i = 0; i < sizeof k_model / sizeof *k_model; i++) {
        char dir[128];
        dsb_err err = {0};
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_model[i]);
        sr_run *r = sr_open_model(dsb_backend_cpu(NULL), dir);
        sr_add_preset(r, "dynamic-int8");
        if (dsb_scheme_source_open(&r->sources[1], &r->m, dir, r->schemes[0].recipe, dir, &err)) fail_msg("%s", err.text);
        r->schemes[1] = r->sources[1].scheme;
        r->n_scheme = 2;
        assert_true(r->schemes[0].own_source && !r->schemes[1].own_source);
        sr_sweep(r, 1);
        assert_memory_equal(r->rows[2], r->rows[1], sizeof r->rows[1]);
        assert_memory_equal(r->layer[1], r->layer[0], sizeof r->layer[0]);
        sr_close(r);
    }
}

/* Rows that 32 doesn't divide take the fallback, and run; without one the scheme is refused before any work. */
static void test_architectures__rows_that_do_not_divide_take_the_fallback(void **state) {
    int divides = 0, refused = 0;
    for (size_t i = 0; i < sizeof k_model / sizeof *k_model; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_model[i]);
        sr_run *r = sr_open_model(dsb_backend_cpu(NULL), dir);
        int here = 0;
        sr_add_json(r, "{\"name\": \"blocks\", \"rules\": [{\"role\": \"*\", \"format\": \"mxfp4\", \"fallback\": \"nf4\", \"activation\": \"fp8-dynamic\"}]}");
        sr_sweep(r, 1);
        for (int64_t l = 0; l < r->m.config.n_layer; l++) {
            dsb_linear_spec specs[5];
            for (int j = 0, n = dsb_attn_specs(&r->m.config, l, specs); j < n; j++) {
                const sr_tensor *t = &r->other[0][l][specs[j].role];
                here += specs[j].cols % 32 != 0;
                divides += specs[j].cols % 32 == 0;
                assert_string_equal(t->format, specs[j].cols % 32 ? "nf4" : "mxfp4");
                assert_int_equal(t->activation, DSB_ACT_FP8_DYNAMIC);
            }
        }
        dsb_scheme_source source;
        dsb_recipe alone = *r->schemes[0].recipe;
        dsb_rule rule = alone.rules[0];
        dsb_err err = {0};
        rule.fallback = NULL;
        alone.rules = &rule;
        if (here) {
            assert_int_equal(dsb_scheme_source_open(&source, &r->m, dir, &alone, NULL, &err), DSB_EINPUT);
            assert_non_null(strstr(err.text, "scheme blocks: rule 1: tensor model.layers.0."));
            refused++;
        }
        sr_close(r);
    }
    assert_true(divides + refused > 0);
}

/* BF16 is the noise floor, 8 bits are more, 3 bits more still: on weights whose products matter. */
static void test_architectures__fewer_bits_cost_more(void **state) {
    for (size_t i = 0; i < sizeof k_model / sizeof *k_model; i++) {
        char dir[128];
        double kld[3] = {0};
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_model[i]);
        sr_run *r = sr_open_model(dsb_backend_cpu(NULL), dir);
        sr_add_preset(r, "bf16");
        sr_add_preset(r, "dynamic-int8");
        sr_add_preset(r, "int3-rtn");
        sr_sweep(r, 1);
        for (int s = 0; s < 3; s++)
            for (int j = 0; j < SR_CHUNKS * (SR_CTX - 1); j++) kld[s] += r->rows[s + 1][j].kld;
        assert_true(kld[0] > 0 && kld[2] > kld[1] && kld[2] > kld[0]);
        sr_close(r);
    }
}

/* The BF16 reference on models whose weights are BF16, and F32: close to the f32 one but not the same, and no scheme without calibration
 * changes by a bit, those that keep its weights included. */
static void test_architectures__the_references_arithmetic_is_its_own(void **state) {
    static const char *const k_dir[] = {"deepseek_v2", "deepseek_v3", "olmoe"};
    for (size_t i = 0; i < sizeof k_dir / sizeof *k_dir; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_dir[i]);
        sr_run *r = sr_open_model(dsb_backend_cpu(NULL), dir);
        sr_add_preset(r, "bf16");
        sr_add_preset(r, "int4-rtn");
        sr_sweep(r, 0);
        static dsb_logit_row before[3][SR_CHUNKS * SR_CTX];
        dsb_moments router = r->router[0][r->m.config.n_layer - 1];
        memcpy(before, r->rows, sizeof before);
        dsb_calibration_release(&r->cal);
        memset(r->seen, 0, sizeof r->seen);
        r->bf16_reference = true;
        sr_sweep(r, 0);
        bool changed = false;
        for (int j = 0; j < SR_CHUNKS * (SR_CTX - 1); j++) {
            changed |= r->rows[0][j].nll_ref != before[0][j].nll_ref;
            for (int s = 1; s <= 2; s++) assert_true(r->rows[s][j].nll_test == before[s][j].nll_test && r->rows[s][j].nll_ref == r->rows[0][j].nll_ref);
        }
        assert_true(changed);
        assert_memory_equal(&router, &r->router[0][r->m.config.n_layer - 1], sizeof router);
        sr_close(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures__both_drivers_agree_with_every_scheme),
        cmocka_unit_test(test_architectures__both_drivers_agree_on_stored_low_bits),
        cmocka_unit_test(test_architectures__another_checkpoint_is_read_whole),
        cmocka_unit_test(test_architectures__rows_that_do_not_divide_take_the_fallback),
        cmocka_unit_test(test_architectures__the_references_arithmetic_is_its_own),
        cmocka_unit_test(test_architectures__fewer_bits_cost_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
