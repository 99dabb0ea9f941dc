/* `dsbench compare BASE HEAD`: differences between two runs or two schemes. Exit 1 when a gating metric got worse. */
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/compare.h"

int dsb_cmd_compare(int argc, char **argv) {
    const char *format = NULL;
    const dsb_option options[] = {
        { "format", 'f', DSB_OPT_STRING, &format, "text|md|json", "how it is written (default text)", 0, 0 },
    };
    const dsb_usage usage = { "compare", "BASE HEAD", "Differences between two runs, or two schemes (RUN:scheme), paired by chunk. A run is an id, a prefix or `latest`.", 2, 2, DSB_OPTIONS(options),
                              "example: dsbench compare latest:bf16 latest:dynamic-int8\nexit: 0 no regression shown, 1 regressed, 2 bad input, 3 not comparable" };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_report_format kind = DSB_REPORT_TEXT;
    dsb_db *db = NULL;
    dsb_text out;
    bool regressed = false;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    dsb_text_init(&out);
    s = dsb_format_parse(format, o.json, false, &kind, &err);
    if (!s) s = dsb_db_open(&db, o.db, false, &err);
    if (!s) s = dsb_compare(db, o.arg[0], o.arg[1], kind, &out, &regressed, &err);
    if (!s) s = dsb_print(&out, &err);
    dsb_text_release(&out);
    dsb_db_close(db);
    if (s) return dsb_command_fail(&err);
    return regressed ? dsb_exit_code(DSB_EREGRESSED) : 0;
}
