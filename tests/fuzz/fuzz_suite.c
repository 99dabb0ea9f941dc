/* Suites. Whatever is accepted can be written as JSON and read again to the same JSON: runs are resumed from it. */
#include <string.h>

#include "harness/suite.h"
#include "tests/fuzz/fuzz_file.h"

static void try_suite(const json_t *doc) {
    dsb_arena arena;
    dsb_suite s = {.name = "quick", .model = "m", .convention = "llama", .n_ctx = 512, .n_chunk = 16, .n_cal_chunk = 16, .isolated_every = 4, .prefill = 512, .decode = 32, .repeats = 3}, back = s;
    dsb_err err;
    json_t *again;
    const char *text, *text2;
    dsb_arena_init(&arena);
    if (!dsb_suite_apply(&s, &arena, "s.json", doc, &err)) {
        dsb_suite_check(&s, &err);
        MUST(dsb_suite_json(&s, &arena, &text, &err) == DSB_OK);
        MUST(dsb_json_parse(&again, "again", text, strlen(text), &err) == DSB_OK);
        MUST(dsb_suite_apply(&back, &arena, "again", again, &err) == DSB_OK);
        MUST(dsb_suite_json(&back, &arena, &text2, &err) == DSB_OK && strcmp(text, text2) == 0);
        json_decref(again);
    }
    dsb_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) { return fuzz_json(data, n, try_suite); }
