/* `dsbench plot RUN`: pictures of a run. */
#include <string.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/output.h"
#include "harness/stored_run.h"
#include "reports/plot_table.h"

static dsb_status picture_parse(const char *name, dsb_picture *out, dsb_err *err) {
    if (!name || !strcmp(name, "svg")) *out = DSB_PICTURE_SVG;
    else if (!strcmp(name, "png")) *out = DSB_PICTURE_PNG;
    else if (!strcmp(name, "pdf")) *out = DSB_PICTURE_PDF;
    else if (!strcmp(name, "terminal")) *out = DSB_PICTURE_TERMINAL;
    else return dsb_fail(err, DSB_EUSAGE, "--format %s: no such format; it is svg, png, pdf or terminal", name);
    return DSB_OK;
}

static dsb_status draw(const dsb_parsed *o, const char *format, const char *plot, const char *base, const char *dir, dsb_text *out, dsb_err *err) {
    dsb_picture picture = DSB_PICTURE_SVG;
    const char *id;
    dsb_db *db = NULL;
    dsb_arena arena;
    DSB_TRY(picture_parse(format, &picture, err));
    dsb_arena_init(&arena);
    dsb_status s = dsb_db_open(&db, o->db, false, err);
    if (!s) s = dsb_db_run_resolve(db, &arena, o->n_arg ? o->arg[0] : "latest", &id, err);
    if (!s) s = dsb_plot_run(db, id, base, plot, picture, dir ? dir : ".", out, err);
    dsb_db_close(db);
    dsb_arena_release(&arena);
    return s;
}

int dsb_cmd_plot(int argc, char **argv) {
    const char *plot = NULL, *format = NULL, *dir = NULL, *base = NULL;
    bool list = false;
    const dsb_option options[] = {
        { "plot", 'p', DSB_OPT_STRING, &plot, "NAME", "only this plot (`dsbench list plots` names them)", 0, 0 },
        { "format", 'f', DSB_OPT_STRING, &format, "svg|png|pdf|terminal", "svg (default), png, pdf, or in the terminal, with letters", 0, 0 },
        { "base", 'b', DSB_OPT_STRING, &base, "RUN", "the run beside it, for the plots that compare", 0, 0 },
        { "list", 0, DSB_OPT_FLAG, &list, NULL, "the plots there are, and what each needs", 0, 0 },
        { "out", 'o', DSB_OPT_STRING, &dir, "DIR", "where the files go (default: here)", 0, 0 },
    };
    const dsb_usage usage = { "plot", "[RUN]", "Pictures of a run, one file a plot with its data as CSV beside it; the paths are printed. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench plot latest --plot pareto --format terminal", false };
    dsb_parsed o;
    dsb_err err = { 0 }, print = { 0 };
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    if (list) return dsb_list_table("plots", dsb_plain_format(&o), &err) ? dsb_command_fail(&err) : 0;
    dsb_text_init(&out);
    s = draw(&o, format, plot, base, dir, &out, &err);
    if (dsb_print(&out, &print) && !s) { /* pictures that were drawn are told even if another failed */
        s = print.code;
        err = print;
    }
    dsb_text_release(&out);
    return s ? dsb_command_fail(&err) : 0;
}
