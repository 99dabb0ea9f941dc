/* `dsbench export NAME [RUN]`: a table or view of the record as CSV or JSON, row by row; docs/database.md tells what there is. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "db/export.h"
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/output.h"
#include "harness/stored_run.h"

typedef struct writer {
    dsb_text line;
    bool json, screen; /* screen: control characters of strangers' files stay away from it */
} writer;

/* The shorter of two ways that read back as the same number. */
static void put_real(dsb_text *t, double x) {
    char text[40];
    snprintf(text, sizeof text, "%.15g", x);
    if (strtod(text, NULL) != x) snprintf(text, sizeof text, "%.17g", x);
    dsb_text_put(t, text);
}

static void put_csv(writer *w, int64_t row, const dsb_db_cell *c, dsb_arena *arena) {
    if (row < 0) dsb_text_csv(&w->line, c->column);
    else if (c->kind == DSB_DB_INT) dsb_text_printf(&w->line, "%lld", (long long)c->integer);
    else if (c->kind == DSB_DB_REAL) put_real(&w->line, c->real);
    else if (c->kind == DSB_DB_TEXT) {
        const char *text = w->screen ? dsb_text_clean(arena, c->text) : c->text;
        dsb_text_csv(&w->line, text ? text : "?");
    }
}

/* Text that is no UTF-8 has no JSON: its broken bytes are '?'. */
static json_t *cell_json(const dsb_db_cell *c, dsb_arena *arena) {
    switch (c->kind) {
    case DSB_DB_INT: return json_integer(c->integer);
    case DSB_DB_REAL: return isfinite(c->real) ? json_real(c->real) : json_null();
    case DSB_DB_TEXT: {
        json_t *text = json_string(c->text);
        return text ? text : json_string(dsb_text_clean(arena, c->text));
    }
    default: return json_null();
    }
}

static dsb_status put_json(writer *w, int64_t row, const dsb_db_cell *cells, int n, dsb_arena *arena, dsb_err *err) {
    if (row < 0) return DSB_OK;
    json_t *object = json_object();
    for (int c = 0; c < n; c++) json_object_set_new(object, cells[c].column, cell_json(&cells[c], arena));
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text) return dsb_fail(err, DSB_ENOMEM, "out of memory while exporting a row");
    dsb_text_put(&w->line, row ? ",\n " : "[\n ");
    dsb_text_put(&w->line, text);
    free(text);
    return DSB_OK;
}

static dsb_status write_row(void *to, int64_t row, const dsb_db_cell *cells, int n, dsb_err *err) {
    writer *w = to;
    dsb_arena arena;
    w->line.size = 0;
    dsb_arena_init(&arena);
    dsb_status s = DSB_OK;
    if (w->json) s = put_json(w, row, cells, n, &arena, err);
    for (int c = 0; c < n && !w->json; c++) {
        if (c) dsb_text_put(&w->line, ",");
        put_csv(w, row, &cells[c], &arena);
    }
    if (!w->json) dsb_text_put(&w->line, "\n");
    dsb_arena_release(&arena);
    if (!s) s = dsb_text_check(&w->line, "a row", err);
    if (!s && w->line.size) fwrite(w->line.data, 1, w->line.size, stdout);
    if (!s && ferror(stdout)) s = dsb_print_done(err);
    return s;
}

static dsb_status export_rows(const dsb_parsed *o, dsb_db *db, dsb_err *err) {
    writer w = { .json = o->json, .screen = isatty(STDOUT_FILENO) };
    const char *run = NULL;
    dsb_arena arena;
    dsb_arena_init(&arena);
    dsb_text_init(&w.line);
    dsb_status s = o->n_arg > 1 ? dsb_db_run_resolve(db, &arena, o->arg[1], &run, err) : DSB_OK;
    if (!s) s = dsb_db_export(db, o->arg[0], run, write_row, &w, err);
    if (!s && o->json) fputs(w.line.size ? "\n]\n" : "[]\n", stdout);
    if (!s) s = dsb_print_done(err);
    dsb_text_release(&w.line);
    dsb_arena_release(&arena);
    return s;
}

int dsb_cmd_export(int argc, char **argv) {
    static const dsb_usage usage = { "export", "NAME [RUN]", "A table or view of the record as CSV (or JSON), all of it or one run's rows: figures as they read back, NULL as nothing. `export about` explains every column.", 1, 2,
                              NULL, 0, "example: dsbench export layer_damage latest > layers.csv", true };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_db *db = NULL;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    s = dsb_db_open(&db, o.db, false, &err);
    if (!s) s = export_rows(&o, db, &err);
    dsb_db_close(db);
    return s ? dsb_command_fail(&err) : 0;
}
