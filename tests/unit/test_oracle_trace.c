/* `dsbench trace` against expected activations: transformers' own class on the built-in model (committed), and the oracle's
 * fixtures of every architecture where ../shared is there. Tolerances are the oracle README's: logits, nll, router and gate weights
 * 5e-4 absolute; hidden states 1e-4 of the largest value of their layer; expert sets exact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/safetensors.h"

#define LOGITS_TOLERANCE 5e-4
#define HIDDEN_TOLERANCE 1e-4

extern char **environ;

static const char *env_or(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static int run_trace(const char *model, const char *tokens, const char *out) {
    const char *argv[] = { env_or("DSBENCH_BIN", "build/dsbench"), "trace", "--model", model, "--tokens", tokens, "-o", out, "--quiet", NULL };
    pid_t pid;
    int status = 0;
    if (posix_spawn(&pid, argv[0], NULL, NULL, (char **)argv, environ)) return -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

typedef struct pair {
    dsb_st_file want, got;
    int failures;
} pair;

static void complain(pair *p, const char *tensor, const char *what, double found) {
    if (p->failures++ < 10) print_error("%s: %s (%.3g)\n", tensor, what, found);
}

static float f32_at(const dsb_st_tensor *t, int64_t i) {
    float x;
    memcpy(&x, t->data + 4 * i, 4);
    return x;
}
static int32_t i32_at(const dsb_st_tensor *t, int64_t i) {
    int32_t x;
    memcpy(&x, t->data + 4 * i, 4);
    return x;
}

/* The trace's tensor of that name; its last dimensions must be those wanted (from dimension `from` on). */
static const dsb_st_tensor *counterpart(pair *p, const dsb_st_tensor *want, int from) {
    const dsb_st_tensor *got = dsb_st_find(&p->got, want->name);
    if (!got || got->ndim != want->ndim || got->dtype != want->dtype) {
        complain(p, want->name, "missing in the trace, or of another kind", 0);
        return NULL;
    }
    for (int d = from; d < want->ndim; d++)
        if (got->shape[d] != want->shape[d]) {
            complain(p, want->name, "another shape", (double)got->shape[d]);
            return NULL;
        }
    return got;
}

/* Largest |want - got| of n values from each offset; NaN counts as infinite. */
static double largest_difference(const dsb_st_tensor *want, int64_t w0, const dsb_st_tensor *got, int64_t g0, int64_t n, double *largest) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)f32_at(want, w0 + i), d = fabs(x - (double)f32_at(got, g0 + i));
        if (!(d <= most)) most = isnan(d) ? INFINITY : d;
        if (largest && fabs(x) > *largest) *largest = fabs(x);
    }
    return most;
}

static void compare_whole(pair *p, const dsb_st_tensor *want) {
    const dsb_st_tensor *got = counterpart(p, want, 0);
    if (!got) return;
    double d = largest_difference(want, 0, got, 0, (int64_t)(want->bytes / 4), NULL);
    if (d > LOGITS_TOLERANCE) complain(p, want->name, "differs", d);
}

/* (P, vocab) wanted at `positions` of (n, vocab). */
static void compare_logits(pair *p, const dsb_st_tensor *want, const dsb_st_tensor *positions) {
    const dsb_st_tensor *got = counterpart(p, want, 1);
    int64_t vocab = want->shape[1];
    for (int64_t r = 0; got && r < want->shape[0]; r++) {
        int64_t at = i32_at(positions, r);
        double d = at < got->shape[0] ? largest_difference(want, r * vocab, got, at * vocab, vocab, NULL) : INFINITY;
        if (d > LOGITS_TOLERANCE) complain(p, want->name, "differs", d);
    }
}

/* (layers, P, d) wanted at `positions` of (layers, n, d), relative to the layer's largest value. */
static void compare_hidden(pair *p, const dsb_st_tensor *want, const dsb_st_tensor *positions) {
    const dsb_st_tensor *got = dsb_st_find(&p->got, want->name);
    if (!got || got->ndim != 3 || got->shape[0] != want->shape[0] || got->shape[2] != want->shape[2]) {
        complain(p, want->name, "missing in the trace, or of another shape", 0);
        return;
    }
    int64_t rows = want->shape[1], n = got->shape[1], d = want->shape[2];
    for (int64_t l = 0; l < want->shape[0]; l++) {
        double most = 0, scale = 1e-6;
        for (int64_t r = 0; r < rows; r++) {
            int64_t at = i32_at(positions, r);
            double one = at < n ? largest_difference(want, (l * rows + r) * d, got, (l * n + at) * d, d, &scale) : INFINITY;
            if (one > most) most = one;
        }
        if (most > HIDDEN_TOLERANCE * scale) complain(p, want->name, "differs, relative", most / scale);
    }
}

/* Sets: both are ascending by expert id. */
static void compare_experts(pair *p, const dsb_st_tensor *want) {
    const dsb_st_tensor *got = counterpart(p, want, 0);
    if (!got) return;
    for (int64_t i = 0; i < (int64_t)(want->bytes / 4); i++)
        if (i32_at(want, i) != i32_at(got, i)) {
            complain(p, want->name, "other experts, first at slot", (double)i);
            return;
        }
}

static void compare_tensor(pair *p, const dsb_st_tensor *want, int64_t *compared) {
    const char *kind = strchr(want->name, '.');
    char positions[128];
    if (!kind || strcmp(kind, ".positions") == 0) return;
    snprintf(positions, sizeof positions, "%.*s.positions", (int)(kind - want->name), want->name);
    const dsb_st_tensor *at = dsb_st_find(&p->want, positions);
    const char *last = strrchr(want->name, '.') + 1;
    ++*compared;
    if (!at) complain(p, positions, "missing in the expected file", 0);
    else if (strcmp(last, "logits") == 0) compare_logits(p, want, at);
    else if (strcmp(last, "hidden") == 0) compare_hidden(p, want, at);
    else if (strcmp(last, "topk_indices") == 0) compare_experts(p, want);
    else if (strcmp(last, "nll") == 0 || strcmp(last, "router_logits") == 0 || strcmp(last, "router_scores") == 0 || strcmp(last, "topk_weights") == 0) compare_whole(p, want);
    else --*compared; /* something of the oracle's own */
}

/* Traces the model over dir/tokens.json and compares with dir/expected.safetensors. */
static void check(const char *model, const char *dir) {
    char tokens[1024], expected[1024], trace[] = "/tmp/dsbench-trace-XXXXXX";
    pair p = { .failures = 0 };
    dsb_err err = { 0 };
    int64_t compared = 0;
    snprintf(tokens, sizeof tokens, "%s/tokens.json", dir);
    snprintf(expected, sizeof expected, "%s/expected.safetensors", dir);
    int fd = mkstemp(trace);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(run_trace(model, tokens, trace), 0);
    if (dsb_st_open(&p.want, expected, &err) || dsb_st_open(&p.got, trace, &err)) fail_msg("%s", err.text);
    for (int64_t i = 0; i < p.want.n_tensor; i++) compare_tensor(&p, &p.want.tensors[i], &compared);
    print_message("%s: %lld tensors compared\n", dir, (long long)compared);
    dsb_st_close(&p.want);
    dsb_st_close(&p.got);
    unlink(trace);
    assert_true(compared >= 8);
    assert_int_equal(p.failures, 0);
}

static void check_oracle(const char *name) {
    char dir[1024], config[1100];
    snprintf(dir, sizeof dir, "%s/oracle/dev/%s", env_or("DSBENCH_SHARED", "../shared"), name);
    snprintf(config, sizeof config, "%s/config.json", dir);
    if (access(config, R_OK) != 0) skip();
    check(dir, dir);
}

static void test_trace__agrees_with_transformers_on_the_builtin_model(void **state) { check("models/dsmoe-tiny", "tests/fixtures/dsmoe-tiny-logits"); }
/* tests/fixtures/architectures/make.py: options that real checkpoints leave alone. */
static void test_trace__agrees_with_transformers_on_tiny_models(void **state) {
    static const char *const k_name[] = {"deepseek_v1", "deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "mixtral", "mixtral_fused", "olmoe", "qwen2_moe", "qwen3_moe"};
    char dir[256];
    for (size_t i = 0; i < sizeof k_name / sizeof *k_name; i++) {
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_name[i]);
        check(dir, dir);
    }
}
static void test_trace__agrees_with_the_oracle_v2_lite(void **state) { check_oracle("deepseek_v2_lite"); }
static void test_trace__agrees_with_the_oracle_v2(void **state) { check_oracle("deepseek_v2"); }
static void test_trace__agrees_with_the_oracle_v3(void **state) { check_oracle("deepseek_v3"); }
static void test_trace__agrees_with_the_oracle_v3_fp8(void **state) { check_oracle("deepseek_v3_fp8"); }
static void test_trace__agrees_with_the_oracle_glm4_moe(void **state) { check_oracle("glm4_moe"); }
static void test_trace__agrees_with_the_oracle_gpt_oss(void **state) { check_oracle("gpt_oss"); }
static void test_trace__agrees_with_the_oracle_mixtral(void **state) { check_oracle("mixtral"); }
static void test_trace__agrees_with_the_oracle_olmoe(void **state) { check_oracle("olmoe"); }
static void test_trace__agrees_with_the_oracle_qwen2_moe(void **state) { check_oracle("qwen2_moe"); }
static void test_trace__agrees_with_the_oracle_qwen3_moe(void **state) { check_oracle("qwen3_moe"); }
static void test_trace__agrees_with_the_oracle_v1(void **state) { check_oracle("deepseek_v1"); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace__agrees_with_transformers_on_the_builtin_model),
        cmocka_unit_test(test_trace__agrees_with_transformers_on_tiny_models),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_v2_lite),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_v2),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_v3),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_v3_fp8),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_glm4_moe),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_gpt_oss),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_mixtral),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_olmoe),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_qwen2_moe),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_qwen3_moe),
        cmocka_unit_test(test_trace__agrees_with_the_oracle_v1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
