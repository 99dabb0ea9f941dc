/* `dsbench baseline set RUN|show|list`: the run that nightly runs of a suite are judged against. */
#include <string.h>

#include "db/history.h"
#include "harness/commands.h"
#include "harness/host.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/history.h"

static dsb_status name_of(dsb_db *db, dsb_arena *arena, const char *run_id, const char *given, const char **name, dsb_err *err) {
    dsb_run_record run;
    DSB_TRY(dsb_db_run_get(db, arena, run_id, &run, err));
    *name = given ? given : dsb_run_suite_name(&run, arena);
    if (strcmp(run.status, "done")) return dsb_fail(err, DSB_EUSAGE, "run %s is %s, so no baseline; a finished run is wanted", run_id, run.status);
    return **name ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "run %s has no suite's name; name the baseline with --name", run_id);
}

static dsb_status set(dsb_db *db, dsb_arena *arena, const char *run, const char *given, bool quiet, dsb_text *out, dsb_err *err) {
    dsb_baseline b = { .set_utc = dsb_utc_now(arena) };
    DSB_TRY(dsb_db_run_resolve(db, arena, run, &b.run_id, err));
    DSB_TRY(name_of(db, arena, b.run_id, given, &b.name, err));
    DSB_TRY(dsb_db_baseline_set(db, &b, err));
    const char *line = dsb_text_clean(arena, dsb_text_format(arena, "baseline of %.200s: run %.140s", b.name, b.run_id));
    if (!quiet) dsb_text_printf(out, "%s\n", line ? line : "?");
    return DSB_OK;
}

/* only: its name, or NULL for all. */
static dsb_status show(dsb_db *db, dsb_arena *arena, const char *only, bool json, dsb_text *out, dsb_err *err) {
    static const dsb_grid_head heads[] = { { "suite", "suite", NULL, true }, { "run", "run", NULL, true }, { "set", "set", "UTC", true }, { "created", "run started", "UTC", true }, { "build", "build", NULL, true } };
    dsb_baseline *rows;
    dsb_run_record run;
    dsb_grid g;
    int64_t n;
    DSB_TRY(dsb_db_baseline_list(db, arena, &rows, &n, err));
    dsb_grid_init(&g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < n; i++) {
        if (only && strcmp(only, rows[i].name)) continue;
        DSB_TRY(dsb_db_run_get(db, arena, rows[i].run_id, &run, err));
        dsb_grid_text(&g, rows[i].name);
        dsb_grid_text(&g, rows[i].run_id);
        dsb_grid_text(&g, rows[i].set_utc);
        dsb_grid_text(&g, run.created_utc);
        dsb_grid_text(&g, dsb_text_format(arena, "%.40s %.20s", run.build_version ? run.build_version : "?", run.build_hash ? run.build_hash : ""));
    }
    if (only && !dsb_grid_rows(&g)) return dsb_fail(err, DSB_EUSAGE, "no baseline of '%s'; pin one: dsbench baseline set RUN --name %s", only, only);
    DSB_TRY(dsb_grid_write(&g, json ? DSB_REPORT_JSON : DSB_REPORT_TEXT, out, err));
    if (!n && !json) dsb_text_put(out, "no baseline yet: pin one with `dsbench baseline set RUN`\n");
    return DSB_OK;
}

static dsb_status baseline(const dsb_parsed *p, const char *name, dsb_arena *arena, dsb_text *out, dsb_err *err) {
    const char *verb = p->n_arg ? p->arg[0] : "list";
    bool setting = !strcmp(verb, "set"), showing = !strcmp(verb, "show");
    dsb_db *db = NULL;
    if (!setting && !showing && strcmp(verb, "list")) return dsb_fail(err, DSB_EUSAGE, "baseline: '%s' is unknown; set RUN, show or list is wanted", verb);
    if (setting != (p->n_arg == 2)) return dsb_fail(err, DSB_EUSAGE, setting ? "baseline set: a run is wanted: dsbench baseline set RUN" : "baseline %s takes no run; --name SUITE picks one", verb);
    dsb_status s = setting ? dsb_stored_db_change(&db, p->db, err) : dsb_db_open(&db, p->db, false, err);
    if (!s) s = setting ? set(db, arena, p->arg[1], name, p->quiet, out, err) : show(db, arena, showing ? name : NULL, p->json, out, err);
    dsb_db_close(db);
    return s ? s : dsb_print(out, err);
}

int dsb_cmd_baseline(int argc, char **argv) {
    const char *name = NULL;
    const dsb_option rows[] = { { "name", 0, DSB_OPT_STRING, &name, "SUITE", "the suite it is of (default: that of the run; show: all)", 0, 0 } };
    const dsb_usage usage = { "baseline", "set RUN | show | list", "Pins the run that nightly runs of its suite are judged against, or shows what is pinned. RUN is an id, a prefix or `latest`.", 0, 2, DSB_OPTIONS(rows),
                              "example: dsbench baseline set latest", false };
    dsb_parsed p;
    dsb_err err = { 0 };
    dsb_arena arena;
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &p, &err);
    if (s) return dsb_command_fail(&err);
    if (p.help) return 0;
    dsb_arena_init(&arena);
    dsb_text_init(&out);
    s = baseline(&p, name, &arena, &out, &err);
    dsb_text_release(&out);
    dsb_arena_release(&arena);
    return s ? dsb_command_fail(&err) : 0;
}
