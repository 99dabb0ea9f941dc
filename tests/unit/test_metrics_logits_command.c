/* `dsbench logits` from files to JSON and exit codes: two tokens, closed forms. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "harness/commands.h"
#include "metrics/llama_write.h"
#include "tests/unit/held_streams.h"

enum { N = 4, V = 12 };

/* A safetensors file: `logits` (N, vocab) F32 and, unless tokens is NULL, `name` (N) I32. */
static void file_make(char path[40], const float *logits, int64_t vocab, const char *name, const int32_t *tokens) {
    char header[512];
    size_t bytes = (size_t)(N * vocab) * 4;
    int n = snprintf(header, sizeof header, "{\"logits\":{\"dtype\":\"F32\",\"shape\":[%d,%lld],\"data_offsets\":[0,%zu]}", N, (long long)vocab, bytes);
    if (tokens) n += snprintf(header + n, sizeof header - (size_t)n, ",\"%s\":{\"dtype\":\"I32\",\"shape\":[%d],\"data_offsets\":[%zu,%zu]}", name, N, bytes, bytes + 4 * N);
    n += snprintf(header + n, sizeof header - (size_t)n, "}");
    while (n % 8) header[n++] = ' ';
    snprintf(path, 40, "/tmp/dsb_logits_XXXXXX");
    FILE *f = fdopen(mkstemp(path), "wb");
    assert_non_null(f);
    uint64_t length = (uint64_t)n;
    fwrite(&length, 8, 1, f);
    fwrite(header, 1, (size_t)n, f);
    fwrite(logits, 1, bytes, f);
    if (tokens) fwrite(tokens, 4, N, f);
    fclose(f);
}

/* Runs the command with stdout and stderr in files; returns its exit code, *out (may be NULL) the JSON. */
static int command(const char *ref, const char *test, json_t **out) {
    char shown[] = "/tmp/dsb_logits_out_XXXXXX";
    char *argv[] = { "logits", (char *)ref, (char *)test, "--json", NULL };
    int fd = mkstemp(shown), null = open("/dev/null", O_WRONLY);
    held_streams held = streams_hold(fd, null);
    int rc = dsb_cmd_logits(4, argv);
    streams_give_back(held);
    close(null);
    close(fd);
    if (out) assert_int_equal(dsb_json_load(out, shown, NULL), 0);
    unlink(shown);
    return rc;
}

/* Reference (3/4, 1/4) on two of V tokens, the test (1/2, 1/2); the others have no probability. */
static void logits_make(float *ref, float *test) {
    for (int i = 0; i < N * V; i++) ref[i] = test[i] = i % V < 2 ? 0 : -1000;
    for (int i = 0; i < N; i++) ref[i * V] = logf(3);
}

static double number(const json_t *o, const char *key) {
    assert_true(json_is_number(json_object_get(o, key)));
    return json_number_value(json_object_get(o, key));
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-6 * fmax(1, fabs(want)))) fail_msg("got %.17g, wanted %.17g", got, want);
}

static void test_logits_command__tokens_are_shifted_by_one(void **state) {
    float ref[N * V], test[N * V];
    int32_t tokens[N] = { 5, 0, 0, 1 };
    char a[40], b[40];
    json_t *o;
    logits_make(ref, test);
    file_make(a, ref, V, "tokens", tokens);
    file_make(b, test, V, NULL, NULL);
    assert_int_equal(command(a, b, &o), 0);
    near(number(o, "nll"), log(2));
    near(number(json_object_get(o, "reference"), "nll"), (-2 * log(0.75) - log(0.25)) / 3);
    near(number(o, "kld_mean"), log(2) + 0.75 * log(0.75) + 0.25 * log(0.25));
    near(number(o, "top1_accuracy"), 2.0 / 3); /* the last row has no target */
    near(number(o, "n"), N);
    json_decref(o);
    unlink(a);
    unlink(b);
}

static void test_logits_command__targets_are_used_as_they_are(void **state) {
    float ref[N * V], test[N * V];
    int32_t targets[N] = { 1, 1, -1, 1 };
    char a[40], b[40];
    json_t *o;
    logits_make(ref, test);
    file_make(a, ref, V, "targets", targets);
    file_make(b, test, V, "targets", targets);
    assert_int_equal(command(a, b, &o), 0);
    near(number(json_object_get(o, "reference"), "nll"), log(4));
    near(number(o, "delta_nll"), -log(2));
    json_decref(o);
    unlink(a);
    unlink(b);
}

static void test_logits_command__exit_codes(void **state) {
    float ref[N * V], test[N * V];
    int32_t tokens[N] = { 0, 1, 0, 1 }, other[N] = { 0, 1, 1, 1 }, large[N] = { 0, V, 0, 0 };
    char a[40], b[40], bad[40];
    logits_make(ref, test);
    file_make(a, ref, V, "tokens", tokens);
    file_make(b, test, V - 1, NULL, NULL);
    assert_int_equal(command(a, b, NULL), 3); /* another vocabulary */
    assert_int_equal(command(b, a, NULL), 3);
    assert_int_equal(command(a, "/nonexistent", NULL), 2);
    unlink(b);
    file_make(b, test, V, "tokens", other);
    assert_int_equal(command(a, b, NULL), 3); /* another text */
    file_make(bad, test, V, "tokens", large);
    assert_int_equal(command(bad, b, NULL), 2); /* a token outside the vocabulary */
    unlink(bad);
    file_make(bad, test, V, NULL, NULL);
    assert_int_equal(command(bad, b, NULL), 2); /* nothing says what a row predicts */
    unlink(bad);
    test[V + 3] = NAN;
    file_make(bad, test, V, "tokens", tokens);
    assert_int_equal(command(a, bad, NULL), 1); /* non-finite */
    assert_int_equal(truncate(bad, 100), 0);
    assert_int_equal(command(a, bad, NULL), 2);
    unlink(a);
    unlink(b);
    unlink(bad);
}

/* A `_logits_` file whose every scored row is z (2); 102 rows, as llama.cpp prints nothing of fewer than 100. */
static void llama_file_make(char path[40], const float z[2]) {
    enum { CTX = 206 };
    int32_t tokens[CTX] = { 0 };
    dsb_llama_writer w;
    dsb_err err;
    snprintf(path, 40, "/tmp/dsb_logits_XXXXXX");
    close(mkstemp(path));
    assert_int_equal(dsb_llama_writer_open(&w, path, CTX, 2, 1, tokens, &err), DSB_OK);
    for (int i = 0; i < CTX - 1 - CTX / 2; i++) assert_int_equal(dsb_llama_writer_row(&w, z, &err), DSB_OK);
    assert_int_equal(dsb_llama_writer_finish(&w, &err), DSB_OK);
    dsb_llama_writer_close(&w);
}

static void test_logits_command__llama_files_give_both_sets_of_figures(void **state) {
    const float ref[2] = { logf(3), 0 }, test[2] = { 0, 0 };
    char a[40], b[40];
    json_t *o;
    double kld = log(2) + 0.75 * log(0.75) + 0.25 * log(0.25);
    llama_file_make(a, ref);
    llama_file_make(b, test);
    assert_int_equal(command(a, b, &o), 0);
    near(number(o, "llama_ppl"), 2);
    near(number(o, "ppl"), 2);
    near(number(o, "llama_kld_mean"), kld);
    near(number(o, "kld_mean"), kld);
    near(number(json_object_get(o, "reference"), "nll"), -log(0.75));
    near(number(o, "n"), 102);
    json_decref(o);
    unlink(a);
    unlink(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_command__tokens_are_shifted_by_one),
        cmocka_unit_test(test_logits_command__targets_are_used_as_they_are),
        cmocka_unit_test(test_logits_command__llama_files_give_both_sets_of_figures),
        cmocka_unit_test(test_logits_command__exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
