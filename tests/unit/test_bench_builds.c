/* Two builds in turns: this test program plays both, as `bench` that answers at once; what they say depends on the name they are called by. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "harness/bench_builds.h"

enum { ROUNDS = 5 };
static char dir[64], base[96], log_path[96];

static bool has(int argc, char **argv, const char *word) {
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], word)) return true;
    return false;
}

/* Rows of a build: "slow" and "fast" say how the other one does beside it. Every call leaves a letter in the log. */
static int play(int argc, char **argv) {
    bool head = !strcmp(argv[0], "/proc/self/exe");
    const char *log = getenv("TEST_BUILDS_LOG");
    FILE *f = log ? fopen(log, "a") : NULL;
    if (!f) return 9;
    fputc(head ? 'h' : 'b', f);
    long n = ftell(f);
    fclose(f);
    if (has(argc, argv, "--rounds") || has(argc, argv, "--base-build") || has(argc, argv, "--tolerance=0.03") || !has(argc, argv, "--json") || !has(argc, argv, "--quiet") || !has(argc, argv, "--db")) return 8;
    if (!head && has(argc, argv, "ends-badly")) return 3;
    double wobble = (double)(n % 7) * 0.1, slower = head && has(argc, argv, "slow") ? 0.9 : 1;
    printf("[{\"format\": \"int8\", \"phase\": \"prefill\", \"tps\": %g}, {\"name\": \"gemm_i8\", \"shape\": \"1x2x3\", \"us\": %g}", 100 * slower + wobble, 1e4 + wobble);
    if (!head && has(argc, argv, "more")) printf(", {\"format\": \"int4\", \"phase\": \"decode\", \"tps\": 1}");
    printf("]\n");
    return 0;
}

static int set_up(void **state) {
    char self[256] = { 0 };
    snprintf(dir, sizeof dir, "/tmp/dsb_test_builds_XXXXXX");
    if (!mkdtemp(dir) || readlink("/proc/self/exe", self, sizeof self - 1) < 1) return -1;
    snprintf(base, sizeof base, "%s/other", dir);
    snprintf(log_path, sizeof log_path, "%s/log", dir);
    setenv("TEST_BUILDS_LOG", log_path, 1);
    setenv("TMPDIR", dir, 1);
    return symlink(self, base);
}

static int tear_down(void **state) {
    unlink(base);
    unlink(log_path);
    return rmdir(dir); /* fails if a folder of the command was left there */
}

/* What the command prints on standard output is read back from a file. */
static dsb_status run(const char *program, const char *how, double tolerance, dsb_report_format format, char *out, size_t room, dsb_err *err) {
    char rounds[] = "--rounds", five[] = "5", typed[] = "bench", build[] = "--base-build=x", share[] = "--tolerance=0.03", word[32], path[128];
    char *argv[] = { typed, rounds, five, build, share, word };
    snprintf(word, sizeof word, "%s", how);
    snprintf(path, sizeof path, "%s/out", dir);
    dsb_bench_builds asked = { program, ROUNDS, tolerance, 6, argv };
    dsb_arena arena;
    unlink(log_path);
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    assert_non_null(freopen(path, "w", stdout));
    dsb_arena_init(&arena);
    dsb_status s = dsb_bench_builds_run(&asked, format, true, &arena, err);
    dsb_arena_release(&arena);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    out[fread(out, 1, room - 1, f)] = 0;
    fclose(f);
    unlink(path);
    return s;
}

static void test_bench_builds__take_turns_and_the_slower_one_is_named(void **state) {
    char out[4096], order[32] = { 0 };
    dsb_err err = { 0 };
    assert_int_equal(run(base, "slow", 0.02, DSB_REPORT_JSON, out, sizeof out, &err), DSB_EREGRESSED);
    assert_non_null(strstr(err.text, "int8 prefill by"));
    FILE *f = fopen(log_path, "r");
    assert_non_null(f);
    assert_int_equal(fread(order, 1, sizeof order - 1, f), 2 * ROUNDS);
    fclose(f);
    assert_string_equal(order, "bhhbbhhbbh");
    json_t *doc;
    assert_int_equal(dsb_json_parse(&doc, "out", out, strlen(out), &err), 0);
    assert_int_equal(json_array_size(doc), 2);
    const json_t *slow = json_array_get(doc, 0), *same = json_array_get(doc, 1);
    assert_string_equal(json_string_value(json_object_get(slow, "verdict")), "regressed");
    assert_string_equal(json_string_value(json_object_get(same, "phase")), "1x2x3");
    assert_true(json_number_value(json_object_get(slow, "difference_percent")) < -9 && json_number_value(json_object_get(same, "base")) < 101);
    json_decref(doc);
}

static void test_bench_builds__a_tolerance_bears_it(void **state) {
    char out[4096];
    dsb_err err = { 0 };
    assert_int_equal(run(base, "slow", 0.15, DSB_REPORT_CSV, out, sizeof out, &err), DSB_OK);
    assert_non_null(strstr(out, "int8,prefill,"));
    assert_null(strstr(out, "regressed"));
}

static void test_bench_builds__what_cannot_be_compared_is_named(void **state) {
    char out[4096];
    dsb_err err = { 0 };
    assert_int_equal(run("/nonexistent/dsbench", "slow", 0, DSB_REPORT_TEXT, out, sizeof out, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "/nonexistent/dsbench: can't be run"));
    assert_int_equal(run("/bin/true", "slow", 0, DSB_REPORT_TEXT, out, sizeof out, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "/bin/true"));
    assert_int_equal(run(base, "ends-badly", 0, DSB_REPORT_TEXT, out, sizeof out, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "exit code 3"));
    assert_int_equal(run(base, "more", 0, DSB_REPORT_TEXT, out, sizeof out, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "int4 decode"));
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "bench")) return play(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bench_builds__take_turns_and_the_slower_one_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bench_builds__a_tolerance_bears_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bench_builds__what_cannot_be_compared_is_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
