/* `dsbench runs`: the stored runs, newest first. */
#include <string.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"

static void fill(const dsb_run_record *rows, int64_t n, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "id", "id", NULL, true },            { "created", "started", "UTC", true },    { "status", "status", NULL, true },
        { "model", "model", NULL, true },      { "text", "text", NULL, true },           { "convention", "convention", NULL, true },
        { "n_ctx", "context", NULL, false },   { "n_chunk", "chunks", NULL, false },     { "wall_s", "took", "s", false },
        { "build", "build", NULL, true },      { "n_scored", NULL, NULL, false },        { "model_sha256", NULL, NULL, true },
        { "text_sha256", NULL, NULL, true },   { "command_line", NULL, NULL, true },     { "peak_rss_bytes", NULL, NULL, false },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < n; i++) {
        const dsb_run_record *r = &rows[i];
        dsb_grid_text(g, r->id);
        dsb_grid_text(g, r->created_utc);
        dsb_grid_text(g, r->status);
        dsb_grid_text(g, r->model.name);
        dsb_grid_text(g, r->dataset.name);
        dsb_grid_text(g, r->convention);
        dsb_grid_int(g, r->n_ctx);
        dsb_grid_int(g, r->n_chunk);
        dsb_grid_figure(g, r->wall_s, "%.1f", r->wall_s);
        dsb_grid_text(g, r->build_version);
        dsb_grid_int(g, r->n_scored);
        dsb_grid_text(g, r->model.sha256);
        dsb_grid_text(g, r->dataset.sha256);
        dsb_grid_text(g, r->command_line);
        dsb_grid_int(g, r->peak_rss_bytes);
    }
}

static dsb_status list(const dsb_parsed *o, dsb_db *db, dsb_arena *arena, dsb_text *out, dsb_err *err) {
    dsb_run_record *rows;
    int64_t n;
    dsb_grid g;
    DSB_TRY(dsb_db_run_list(db, arena, &rows, &n, err));
    fill(rows, n, arena, &g);
    DSB_TRY(dsb_grid_write(&g, o->json ? DSB_REPORT_JSON : DSB_REPORT_TEXT, out, err));
    if (!n && !o->json) dsb_text_put(out, "no run yet: make one with `dsbench run`\n");
    return dsb_print(out, err);
}

int dsb_cmd_runs(int argc, char **argv) {
    static const dsb_usage usage = { "runs", "", "The runs stored in the database, newest first.", 0, 0, NULL, 0, NULL };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_db *db = NULL;
    dsb_arena arena;
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    dsb_arena_init(&arena);
    dsb_text_init(&out);
    s = dsb_db_open(&db, o.db, false, &err);
    if (!s) s = list(&o, db, &arena, &out, &err);
    dsb_text_release(&out);
    dsb_arena_release(&arena);
    dsb_db_close(db);
    return s ? dsb_command_fail(&err) : 0;
}
