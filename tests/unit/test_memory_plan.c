/* The memory of a run: too small a limit is refused with the least, which is enough then; the temporary file's folder is checked. */
#include "sweep_run.h"
#include "temp_files.h"

#include "harness/memory_plan.h"

enum { CHUNKS = 128, TOKENS = CHUNKS * SR_CTX }; /* streams larger than what the least is rounded by */
static int32_t tokens[TOKENS], targets[TOKENS];

static sr_run *opened(dsb_sweep_plan *plan) {
    sr_run *r = sr_open();
    sr_add_preset(r, "bf16");
    sr_add_preset(r, "int4-rtn");
    for (int i = 0; i < TOKENS; i++) targets[i] = i % SR_CTX < SR_CTX - 1 ? 0 : -1;
    *plan = (dsb_sweep_plan){.m = &r->m, .n_scheme = r->n_scheme, .schemes = r->schemes, .n_chunk = CHUNKS, .n_ctx = SR_CTX, .tokens = tokens, .targets = targets, .isolated_every = 4};
    return r;
}

/* The limit that the refusal of 1 byte asks for. */
static int64_t least_limit(const dsb_sweep_plan *plan) {
    dsb_memory_plan p;
    dsb_err err = {0};
    long long m = 0;
    refused(dsb_memory_plan_make(&p, plan, TOKENS, 1, "x.db", true, &err), &err, DSB_EUSAGE, "--memory", "at least");
    const char *at = strstr(err.text, "run; --memory ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "run; --memory %lldM", &m), 1);
    return m << 20;
}

static void test_memory_plan__the_least_that_is_told_is_enough(void **state) {
    dsb_sweep_plan plan;
    dsb_memory_plan p;
    dsb_err err = {0};
    sr_run *r = opened(&plan);
    int64_t limit = least_limit(&plan);
    if (dsb_memory_plan_make(&p, &plan, TOKENS, limit, "x.db", true, &err)) fail_msg("%s", err.text);
    assert_true(p.limit == limit && p.sweep < limit && p.costs.total_bytes <= p.sweep);
    sr_close(r);
}

static void test_memory_plan__the_folder_of_the_temporary_file(void **state) {
    dsb_sweep_plan plan;
    dsb_memory_plan p;
    dsb_err err = {0};
    sr_run *r = opened(&plan);
    unsetenv("TMPDIR");
    assert_int_equal(dsb_memory_plan_make(&p, &plan, TOKENS, 0, "some/where/x.db", true, &err), DSB_OK);
    assert_string_equal(p.spill_dir, "some/where");
    assert_int_equal(dsb_memory_plan_make(&p, &plan, TOKENS, 0, "x.db", true, &err), DSB_OK);
    assert_string_equal(p.spill_dir, ".");
    assert_int_equal(dsb_memory_plan_make(&p, &plan, TOKENS, 0, "out/pictures", false, &err), DSB_OK);
    assert_string_equal(p.spill_dir, "out/pictures");
    setenv("TMPDIR", "/nonexistent/dsbench", 1);
    assert_int_equal(dsb_memory_plan_make(&p, &plan, TOKENS, 0, "x.db", true, &err), DSB_OK); /* nothing is spilled */
    assert_false(p.costs.spill);
    refused(dsb_memory_plan_make(&p, &plan, TOKENS, least_limit(&plan), "x.db", true, &err), &err, DSB_EOUTPUT, "/nonexistent/dsbench", "TMPDIR");
    unsetenv("TMPDIR");
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_plan__the_least_that_is_told_is_enough),
        cmocka_unit_test(test_memory_plan__the_folder_of_the_temporary_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
