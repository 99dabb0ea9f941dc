/* Command lines: values, ranges, suggestions, and the one line that each mistake gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/options.h"
#include "kernels/backend.h"

typedef struct values {
    bool strict;
    const char *out;
    int64_t context;
    double margin;
    dsb_opt_list schemes;
} values;

/* Parses up to eight words into v. */
static dsb_status parse(values *v, dsb_parsed *p, dsb_err *err, const char *const *words) {
    const dsb_option rows[] = {
        { "strict", 0, DSB_OPT_FLAG, &v->strict, NULL, "strict", 0, 0 },
        { "out", 'o', DSB_OPT_STRING, &v->out, "FILE", "output", 0, 0 },
        { "context", 0, DSB_OPT_INT, &v->context, "N", "context", 4, 4096 },
        { "margin", 0, DSB_OPT_REAL, &v->margin, "X", "margin", 0, 1 },
        { "scheme", 0, DSB_OPT_LIST, &v->schemes, "S", "scheme", 0, 0 },
    };
    const dsb_usage usage = { .command = "test", .args = "A [B]", .what = "what", .min_args = 1, .max_args = 2, DSB_OPTIONS(rows) };
    static char *argv[10];
    static char copy[10][64];
    int argc = 1;
    argv[0] = "test";
    for (int i = 0; words[i]; i++, argc++) {
        snprintf(copy[argc], sizeof copy[argc], "%s", words[i]);
        argv[argc] = copy[argc];
    }
    *v = (values){ .context = 512 };
    *err = (dsb_err){ 0 };
    return dsb_options_parse(&usage, argc, argv, p, err);
}
#define PARSE(...) parse(&v, &p, &err, (const char *const[]){ __VA_ARGS__, NULL })

static void test_options__values_land_where_the_table_points(void **state) {
    values v;
    dsb_parsed p;
    dsb_err err;
    assert_int_equal(PARSE("a", "--strict", "--context=64", "-o", "x.html", "--scheme", "s1", "--scheme=s2", "b"), DSB_OK);
    assert_true(v.strict);
    assert_int_equal(v.context, 64);
    assert_string_equal(v.out, "x.html");
    assert_int_equal(v.schemes.n, 2);
    assert_string_equal(v.schemes.item[1], "s2");
    assert_int_equal(p.n_arg, 2);
    assert_string_equal(p.arg[0], "a");
    assert_string_equal(p.arg[1], "b");
    assert_string_equal(p.db, "dsbench.db");
}

static void test_options__a_double_dash_and_a_single_dash_are_arguments(void **state) {
    values v;
    dsb_parsed p;
    dsb_err err;
    assert_int_equal(PARSE("-", "--", "--strict"), DSB_OK);
    assert_int_equal(p.n_arg, 2);
    assert_string_equal(p.arg[0], "-");
    assert_string_equal(p.arg[1], "--strict");
    assert_false(v.strict);
}

static void test_options__a_value_may_begin_with_a_dash(void **state) {
    values v;
    dsb_parsed p;
    dsb_err err;
    assert_int_equal(PARSE("a", "--margin", "-0.5"), DSB_EUSAGE);
    assert_string_equal(err.text, "test: --margin -0.5 is out of range; 0 to 1 is wanted");
    assert_int_equal(PARSE("a", "-o-"), DSB_OK);
    assert_string_equal(v.out, "-");
}

static void test_options__threads_reach_openmp(void **state) {
    values v;
    dsb_parsed p;
    dsb_err err;
    int before = omp_get_max_threads();
    assert_int_equal(PARSE("a", "--threads", "3", "--json", "-q"), DSB_OK);
    assert_int_equal(omp_get_max_threads(), 3);
    assert_true(p.json && p.quiet);
    omp_set_num_threads(before);
}

static void test_options__isa_chooses_the_backend(void **state) {
    values v;
    dsb_parsed p;
    dsb_err err;
    const char *const before = dsb_backend_cpu(NULL)->isa;
    assert_int_equal(PARSE("a", "--isa", "ref"), DSB_OK);
    assert_string_equal(dsb_backend_cpu(NULL)->isa, "ref");
    assert_int_equal(PARSE("a", "--isa", "avx9"), DSB_EUSAGE);
    assert_non_null(strstr(err.text, "test: --isa 'avx9': this machine or build has no such level; one of "));
    assert_non_null(strstr(err.text, "ref is wanted"));
    assert_int_equal(PARSE("a", "--isa="), DSB_EUSAGE);
    assert_string_equal(dsb_backend_cpu(NULL)->isa, "ref");
    assert_int_equal(unsetenv("DSBENCH_ISA"), 0);
    assert_string_equal(dsb_backend_cpu(NULL)->isa, before);
}

static void test_options__each_mistake_has_its_line(void **state) {
    values v;
    dsb_parsed p;
    dsb_err err;
#define MISTAKE(line, ...)                            \
    assert_int_equal(PARSE(__VA_ARGS__), DSB_EUSAGE); \
    assert_string_equal(err.text, line)
    MISTAKE("test: unknown option --contxt; did you mean --context?", "a", "--contxt", "3");
    MISTAKE("test: unknown option --frobnicate; see dsbench test --help", "a", "--frobnicate");
    MISTAKE("test: unknown option -z; see dsbench test --help", "a", "-z");
    MISTAKE("test: --out needs a value: --out FILE", "a", "--out");
    MISTAKE("test: --out is empty; FILE is wanted", "a", "--out=");
    MISTAKE("test: --strict takes no value, found 'yes'", "a", "--strict=yes");
    MISTAKE("test: --context 'many' is not a whole number", "a", "--context", "many");
    MISTAKE("test: --context '64k' is not a whole number", "a", "--context", "64k");
    MISTAKE("test: --context 3 is out of range; 4 to 4096 is wanted", "a", "--context", "3");
    MISTAKE("test: --context 99999999999999999999 is out of range; 4 to 4096 is wanted", "a", "--context", "99999999999999999999");
    MISTAKE("test: --margin 'nan' is not a number", "a", "--margin", "nan");
    MISTAKE("test: A [B] wanted, 0 given: dsbench test A [B]", "--strict");
    MISTAKE("test: 'c' is one argument too many; wanted: dsbench test A [B]", "a", "b", "c");
    MISTAKE("test: --device gpu is unknown; cpu, cuda or cuda:N is wanted", "a", "--device", "gpu");
#undef MISTAKE
    assert_int_equal(PARSE("a", "--device", "cuda:4095"), DSB_OK); /* no machine has so many: the CPU, with a line on standard error */
    assert_ptr_equal(dsb_device(), dsb_backend_cpu(NULL));
}

static void test_options__the_nearest_name_is_suggested_only_when_near(void **state) {
    const char *const names[] = { "run", "runs", "report", "routing" };
    assert_string_equal(dsb_name_nearest("rnu", names, 4), "run");
    assert_string_equal(dsb_name_nearest("reprot", names, 4), "report");
    assert_string_equal(dsb_name_nearest("routin", names, 4), "routing");
    assert_null(dsb_name_nearest("frobnicate", names, 4));
    assert_null(dsb_name_nearest("a-name-much-longer-than-any-option-could-ever-be", names, 4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options__values_land_where_the_table_points),
        cmocka_unit_test(test_options__a_double_dash_and_a_single_dash_are_arguments),
        cmocka_unit_test(test_options__a_value_may_begin_with_a_dash),
        cmocka_unit_test(test_options__threads_reach_openmp),
        cmocka_unit_test(test_options__isa_chooses_the_backend),
        cmocka_unit_test(test_options__each_mistake_has_its_line),
        cmocka_unit_test(test_options__the_nearest_name_is_suggested_only_when_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
