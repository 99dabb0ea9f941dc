/* `dsbench compare BASE HEAD`: differences between two runs or two schemes. Exit 1 when a gating metric got worse. */
#include <string.h>

#include "base/file.h"
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/compare.h"

typedef struct options {
    const char *format, *tolerances, *junit;
    bool strict;
} options;

static dsb_status write_junit(const dsb_comparison *c, dsb_arena *arena, const options *o, dsb_err *err) {
    dsb_text xml;
    dsb_text_init(&xml);
    dsb_status s = dsb_compare_junit(c, arena, o->strict, &xml, err);
    if (!s) s = dsb_file_write(o->junit, xml.data, xml.size, err);
    dsb_text_release(&xml);
    return s;
}

/* The exit code is that of the verdict, once everything is written. */
static dsb_status compare(const dsb_parsed *p, const options *o, dsb_arena *arena, dsb_text *out, int *code, dsb_err *err) {
    bool xml = o->format && !strcmp(o->format, "junit");
    dsb_report_format kind = DSB_REPORT_TEXT;
    dsb_tolerances tolerances = { 0 };
    dsb_comparison c;
    dsb_db *db = NULL;
    dsb_compare_request q = { p->arg[0], p->arg[1], &tolerances };
    if (!xml) DSB_TRY(dsb_format_parse(o->format, p->json, false, &kind, err));
    if (o->tolerances) DSB_TRY(dsb_tolerances_load(&tolerances, arena, o->tolerances, err));
    DSB_TRY(dsb_db_open(&db, p->db, false, err));
    dsb_status s = dsb_compare_make(db, arena, &q, &c, err);
    if (!s) s = xml ? dsb_compare_junit(&c, arena, o->strict, out, err) : dsb_compare_write(&c, arena, kind, out, err);
    if (!s && o->junit) s = write_junit(&c, arena, o, err);
    if (!s) s = dsb_print(out, err);
    dsb_db_close(db);
    if (!s) *code = c.alarm ? dsb_exit_code(DSB_EREGRESSED) : c.open && o->strict ? dsb_exit_code(DSB_ECOMPARE) : 0;
    return s;
}

int dsb_cmd_compare(int argc, char **argv) {
    options o = { 0 };
    const dsb_option rows[] = {
        { "format", 'f', DSB_OPT_STRING, &o.format, "text|md|json|junit", "how it is written (default text; md for a pull request)", 0, 0 },
        { "tolerances", 't', DSB_OPT_STRING, &o.tolerances, "FILE", "JSON: how much worse is still the same, per metric and scheme (defaults: harness/tolerances.json; docs/nightly.md)", 0, 0 },
        { "tolerance", 0, DSB_OPT_STRING, &o.tolerances, "FILE", "the same", 0, 0 },
        { "junit", 0, DSB_OPT_STRING, &o.junit, "FILE", "writes the verdicts as JUnit XML beside the output", 0, 0 },
        { "strict", 0, DSB_OPT_FLAG, &o.strict, NULL, "exit 3 where a gating metric is inconclusive", 0, 0 },
    };
    const dsb_usage usage = { "compare", "BASE HEAD",
                              "Differences between two runs (of two builds, machines, nights), or two schemes (RUN:scheme), paired by chunk, with verdicts, and the layers, experts and tensors that changed most. "
                              "A run is an id, a prefix or `latest`.",
                              2, 2, DSB_OPTIONS(rows),
                              "example: dsbench compare latest:bf16 latest:dynamic-int8\nexit: 0 no regression shown, 1 regressed, 2 bad input, 3 not comparable (or inconclusive, with --strict)", false };
    dsb_parsed p;
    dsb_err err = { 0 };
    dsb_arena arena;
    dsb_text out;
    int code = 0;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &p, &err);
    if (s) return dsb_command_fail(&err);
    if (p.help) return 0;
    dsb_arena_init(&arena);
    dsb_text_init(&out);
    s = compare(&p, &o, &arena, &out, &code, &err);
    dsb_text_release(&out);
    dsb_arena_release(&arena);
    return s ? dsb_command_fail(&err) : code;
}
