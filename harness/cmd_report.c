/* `dsbench report RUN -o FILE.html`: a run as one page. */
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/html.h"

/* The page, with the verdict against base (NULL: none). */
static dsb_status page(dsb_db *db, dsb_arena *arena, const char *id, const char *base, const char *path, dsb_err *err) {
    dsb_comparison c;
    dsb_compare_request q = { base, id, NULL };
    if (base) DSB_TRY(dsb_compare_make(db, arena, &q, &c, err));
    return dsb_html_write(db, id, base ? &c : NULL, path, err);
}

static dsb_status report(const dsb_parsed *o, const char *base, const char *path, dsb_report_format format, bool html, dsb_err *err) {
    const char *id;
    dsb_db *db = NULL;
    dsb_arena arena;
    dsb_text out;
    dsb_arena_init(&arena);
    dsb_text_init(&out);
    dsb_status s = dsb_db_open(&db, o->db, false, err);
    if (!s) s = dsb_db_run_resolve(db, &arena, o->n_arg ? o->arg[0] : "latest", &id, err);
    if (!s && html) s = page(db, &arena, id, base, path, err);
    if (!s && html && !o->quiet) dsb_text_printf(&out, "%s\n", path);
    if (!s && !html) s = dsb_summary_print(db, id, format, &out, err);
    if (!s) s = dsb_print(&out, err);
    dsb_text_release(&out);
    dsb_db_close(db);
    dsb_arena_release(&arena);
    return s;
}

int dsb_cmd_report(int argc, char **argv) {
    const char *path = "report.html", *format = NULL, *base = NULL;
    const dsb_option options[] = {
        { "output", 'o', DSB_OPT_STRING, &path, "FILE", "the page (default report.html)", 0, 0 },
        { "base", 'b', DSB_OPT_STRING, &base, "RUN", "the page begins with the verdict against this run", 0, 0 },
        { "format", 'f', DSB_OPT_STRING, &format, "text|md|json", "the summary on standard output instead of a page", 0, 0 },
    };
    const dsb_usage usage = { "report", "[RUN]", "A run as one self-contained HTML page. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options), "example: dsbench report latest -o report.html", false };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_report_format kind = DSB_REPORT_TEXT;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    s = dsb_format_parse(format, o.json, false, &kind, &err);
    if (!s) s = report(&o, base, path, kind, !format && !o.json, &err);
    return s ? dsb_command_fail(&err) : 0;
}
