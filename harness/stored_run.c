#include "harness/stored_run.h"

#include <stdio.h>
#include <string.h>

#include "harness/output.h"

dsb_status dsb_stored_run_open(dsb_stored_run *r, const char *db_path, const char *name, dsb_err *err) {
    *r = (dsb_stored_run){ 0 };
    dsb_arena_init(&r->arena);
    DSB_TRY(dsb_db_open(&r->db, db_path, false, err));
    DSB_TRY(dsb_db_run_resolve(r->db, &r->arena, name ? name : "latest", &r->id, err));
    return dsb_run_data_load(r->db, &r->arena, r->id, &r->data, err);
}

dsb_status dsb_stored_db_change(dsb_db **out, const char *path, dsb_err *err) {
    DSB_TRY(dsb_db_open(out, path, false, err));
    dsb_db_close(*out);
    *out = NULL;
    return dsb_db_open(out, path, true, err);
}

void dsb_stored_run_close(dsb_stored_run *r) {
    dsb_db_close(r->db);
    dsb_arena_release(&r->arena);
}

int dsb_stored_run_command(const dsb_usage *usage, int argc, char **argv, dsb_stored_run_show *show, const void *what) {
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_stored_run r = { 0 };
    dsb_status s = dsb_options_parse(usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    s = dsb_stored_run_open(&r, o.db, o.n_arg ? o.arg[0] : NULL, &err);
    r.csv = o.csv;
    if (!s) s = show(&r, what, o.json, &err);
    dsb_stored_run_close(&r);
    return s ? dsb_command_fail(&err) : 0;
}

int dsb_print_and_end(dsb_text *text, dsb_status s, dsb_err *err) {
    if (!s) s = dsb_print(text, err);
    dsb_text_release(text);
    return s ? dsb_command_fail(err) : 0;
}

dsb_status dsb_print(const dsb_text *text, dsb_err *err) {
    DSB_TRY(dsb_text_check(text, "the output", err));
    if (text->size) fwrite(text->data, 1, text->size, stdout);
    return dsb_print_done(err);
}

dsb_status dsb_print_inspection(const dsb_stored_run *r, dsb_grid *g, const char *worst, const dsb_spark_lines *lines, bool json, dsb_err *err) {
    dsb_report_format format = r->csv ? DSB_REPORT_CSV : dsb_print_format(json);
    bool table_alone = json || r->csv;
    dsb_text out;
    dsb_text_init(&out);
    if (worst) dsb_grid_shade(g, worst);
    dsb_status s = dsb_grid_write(g, format, &out, err);
    if (!table_alone && !dsb_grid_rows(g)) dsb_text_printf(&out, "run %s has no such rows\n", r->id);
    if (!s && !table_alone && lines && dsb_grid_rows(&lines->grid)) {
        dsb_text_printf(&out, "\n%s\n", lines->caption);
        s = dsb_grid_write(&lines->grid, format, &out, err);
    }
    if (!s) s = dsb_print(&out, err);
    dsb_text_release(&out);
    return s;
}

dsb_status dsb_format_parse(const char *name, bool json, bool csv, dsb_report_format *out, dsb_err *err) {
    if (json || (name && !strcmp(name, "json"))) *out = DSB_REPORT_JSON;
    else if (!name || !strcmp(name, "text")) *out = DSB_REPORT_TEXT;
    else if (!strcmp(name, "md")) *out = DSB_REPORT_MARKDOWN;
    else if (csv && !strcmp(name, "csv")) *out = DSB_REPORT_CSV;
    else return dsb_fail(err, DSB_EUSAGE, "--format %s: no such format; it is text, md%s or json", name, csv ? ", csv" : "");
    return DSB_OK;
}
