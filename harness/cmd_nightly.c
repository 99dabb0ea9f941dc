/* `dsbench nightly SUITE.json`: run, judge, write; the exit code is the verdict. */
#include "base/memory.h"
#include "harness/commands.h"
#include "harness/nightly.h"
#include "harness/options.h"
#include "harness/stored_run.h"

typedef struct options {
    const char *model, *baseline, *tolerances, *out, *run_id, *base_build;
    int64_t rounds;
    bool strict;
    int64_t keep;
} options;

static dsb_status print_night(const dsb_parsed *p, const dsb_nightly_request *q, const dsb_nightly_result *r, dsb_arena *arena, dsb_text *text, dsb_err *err) {
    DSB_TRY(dsb_nightly_write(r, arena, p->json ? DSB_REPORT_JSON : DSB_REPORT_TEXT, text, err));
    if (!p->json && q->run.out) dsb_text_printf(text, "\nwritten: %s/report.html, summary.md, junit.xml\n", q->run.out);
    return dsb_print(text, err);
}

static dsb_status execute(const options *o, const dsb_parsed *p, const char *typed, dsb_arena *arena, int *code, dsb_err *err) {
    dsb_suite suite;
    dsb_tolerances tolerances = { 0 };
    dsb_nightly_result r;
    dsb_text text;
    if (o->tolerances) DSB_TRY(dsb_tolerances_load(&tolerances, arena, o->tolerances, err));
    DSB_TRY(dsb_suite_load(&suite, arena, p->arg[0], o->model, err));
    DSB_TRY(dsb_suite_reference(&suite, arena, NULL, err));
    dsb_nightly_request q = { .run = { .suite = &suite, .db = p->db, .out = o->out, .run_id = o->run_id, .command_line = typed, .json = p->json, .quiet = p->quiet, .threads = p->threads },
                              .baseline = o->baseline, .tolerances = &tolerances, .base_build = o->base_build, .rounds = o->rounds, .strict = o->strict, .keep_detail = o->keep };
    dsb_status s = dsb_nightly(&q, arena, &r, err);
    if (s && s != DSB_ENONFINITE) return s;
    dsb_err print = { 0 };
    dsb_text_init(&text);
    dsb_status t = print_night(p, &q, &r, arena, &text, &print);
    dsb_text_release(&text);
    if (!s && t) return dsb_fail(err, t, "%s", print.text);
    *code = r.code;
    return s;
}

int dsb_cmd_nightly(int argc, char **argv) {
    options o = { .out = "nightly", .keep = -1, .rounds = 7 };
    const dsb_option rows[] = {
        { "model", 0, DSB_OPT_STRING, &o.model, "DIR", "model directory or GGUF file instead of the suite's", 0, 0 },
        { "baseline", 0, DSB_OPT_STRING, &o.baseline, "RUN", "judge against this run instead of the pinned one", 0, 0 },
        { "tolerances", 't', DSB_OPT_STRING, &o.tolerances, "FILE", "JSON: how much worse is still the same (docs/nightly.md)", 0, 0 },
        { "out", 'o', DSB_OPT_STRING, &o.out, "DIR", "folder for report.html, junit.xml and summary.md (default: nightly)", 0, 0 },
        { "run-id", 0, DSB_OPT_STRING, &o.run_id, "NAME", "the run's name (default: made from the time)", 0, 0 },
        { "base-build", 0, DSB_OPT_STRING, &o.base_build, "PROGRAM", "a build of dsbench that is timed in turns with this one; its speeds gate", 0, 0 },
        { "rounds", 0, DSB_OPT_INT, &o.rounds, "N", "rounds of each build (7; 5 at least)", 5, 100 },
        { "strict", 0, DSB_OPT_FLAG, &o.strict, NULL, "exit 3 where a gating metric is inconclusive, or no baseline is pinned", 0, 0 },
        { "keep-detail", 0, DSB_OPT_INT, &o.keep, "N", "older runs of the suite than the newest N lose layers, tensors and experts (as runs prune --thin; default: none)", 0, 1 << 30 },
    };
    const dsb_usage usage = { "nightly", "SUITE.json", "Runs a suite, judges it against the baseline pinned for it and the host's history of speed, and writes report, JUnit and Markdown.", 1, 1, DSB_OPTIONS(rows),
                              "example: dsbench nightly quick --db nightly.db; then, once: dsbench baseline set latest --db nightly.db\n"
                              "exit: 0 no regression, 1 regressed or not finite, 2 bad input, 3 not comparable (or inconclusive, with --strict), 4 output", false };
    dsb_parsed p;
    dsb_err err = { 0 };
    dsb_arena arena;
    int code = 0;
    dsb_arena_init(&arena);
    const char *typed = dsb_command_line(&arena, argc, argv); /* before argv is reordered */
    dsb_status s = dsb_options_parse(&usage, argc, argv, &p, &err);
    if (!s && !p.help) s = execute(&o, &p, typed, &arena, &code, &err);
    dsb_arena_release(&arena);
    return s ? dsb_command_fail(&err) : code;
}
