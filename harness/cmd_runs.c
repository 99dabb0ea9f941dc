/* `dsbench runs`: the stored runs, newest first; `runs prune` keeps the database small. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/output.h"
#include "harness/prune.h"
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

typedef struct options {
    int64_t keep;
    dsb_opt_list kept;
    const char *suite;
    bool thin, dry_run;
} options;

static dsb_status list(dsb_report_format format, dsb_db *db, dsb_arena *arena, dsb_text *out, dsb_err *err) {
    dsb_run_record *rows;
    int64_t n;
    dsb_grid g;
    DSB_TRY(dsb_db_run_list(db, arena, &rows, &n, err));
    fill(rows, n, arena, &g);
    DSB_TRY(dsb_grid_write(&g, format, out, err));
    if (!n && format == DSB_REPORT_TEXT) dsb_text_put(out, "no run yet: make one with `dsbench run`\n");
    return dsb_print(out, err);
}

static double file_size(const char *path) {
    struct stat st;
    return stat(path, &st) ? -1 : (double)st.st_size;
}

static dsb_status print_pruned(const dsb_parsed *p, const options *o, const dsb_pruned *gone, double before, dsb_arena *arena, dsb_text *out, dsb_err *err) {
    double after = file_size(p->db);
    if (p->json) {
        static const dsb_grid_head heads[] = { { "id", "id", NULL, true } };
        dsb_grid g;
        dsb_grid_init(&g, arena, heads, 1);
        for (int64_t i = 0; i < gone->n; i++) dsb_grid_text(&g, gone->ids[i]);
        DSB_TRY(dsb_grid_write(&g, DSB_REPORT_JSON, out, err));
        return dsb_print(out, err);
    }
    for (int64_t i = 0; i < gone->n && !p->quiet; i++) {
        char *id = dsb_text_clean(arena, gone->ids[i]);
        dsb_text_printf(out, "%s\n", id ? id : "?");
    }
    dsb_text_printf(out, "%lld runs %s%s", (long long)gone->n, o->dry_run ? "would be " : "", o->thin ? "thinned" : "removed");
    if (!o->dry_run) dsb_text_printf(out, ", %s: %s → %s", p->db, dsb_text_size(arena, before), dsb_text_size(arena, after));
    dsb_text_put(out, "\n");
    return dsb_print(out, err);
}

static dsb_status prune(const dsb_parsed *p, const options *o, dsb_db *db, dsb_arena *arena, dsb_text *out, dsb_err *err) {
    const char *kept[DSB_OPT_LIST_MAX];
    dsb_prune_request q = { o->keep, kept, o->kept.n, o->suite, o->thin, o->dry_run };
    dsb_pruned gone;
    double before = file_size(p->db);
    for (int i = 0; i < o->kept.n; i++) DSB_TRY(dsb_db_run_resolve(db, arena, o->kept.item[i], &kept[i], err));
    DSB_TRY(dsb_prune(db, arena, &q, &gone, err));
    return print_pruned(p, o, &gone, before, arena, out, err);
}

int dsb_cmd_runs(int argc, char **argv) {
    options o = { .keep = -1 };
    const dsb_option rows[] = {
        { "keep", 0, DSB_OPT_INT, &o.keep, "N", "prune: the newest N runs of each suite stay", 0, 1 << 30 },
        { "keep-run", 0, DSB_OPT_LIST, &o.kept, "RUN", "prune: this run stays besides; may be repeated", 0, 0 },
        { "suite", 0, DSB_OPT_STRING, &o.suite, "NAME", "prune: only runs of this suite", 0, 0 },
        { "thin", 0, DSB_OPT_FLAG, &o.thin, NULL, "prune: older runs keep their figures (for the trend) and lose layers, tensors, experts and routing", 0, 0 },
        { "dry-run", 0, DSB_OPT_FLAG, &o.dry_run, NULL, "prune: only tells what would go", 0, 0 },
    };
    const dsb_usage usage = { "runs", "[prune --keep N]", "The runs stored in the database, newest first; or, with prune, removes old ones. Pinned baselines always stay.", 0, 1, DSB_OPTIONS(rows),
                              "example: dsbench runs prune --keep 14 --thin", true };
    dsb_parsed p;
    dsb_err err = { 0 };
    dsb_db *db = NULL;
    dsb_arena arena;
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &p, &err);
    if (s) return dsb_command_fail(&err);
    if (p.help) return 0;
    bool pruning = p.n_arg > 0;
    dsb_arena_init(&arena);
    dsb_text_init(&out);
    if (pruning && strcmp(p.arg[0], "prune")) s = dsb_fail(&err, DSB_EUSAGE, "runs: '%s' is unknown; `runs` lists them, `runs prune --keep N` removes old ones", p.arg[0]);
    else if (pruning && o.keep < 0) s = dsb_fail(&err, DSB_EUSAGE, "runs prune: --keep N is wanted: how many of the newest runs of each suite stay");
    else if (!pruning && (o.keep >= 0 || o.kept.n || o.suite || o.thin || o.dry_run)) s = dsb_fail(&err, DSB_EUSAGE, "runs: --keep, --keep-run, --suite, --thin and --dry-run belong to `runs prune`");
    else if (pruning && p.csv) s = dsb_fail(&err, DSB_EUSAGE, "runs prune: --csv is of the list of runs");
    if (!s) s = pruning && !o.dry_run ? dsb_stored_db_change(&db, p.db, &err) : dsb_db_open(&db, p.db, false, &err);
    if (!s) s = pruning ? prune(&p, &o, db, &arena, &out, &err) : list(dsb_plain_format(&p), db, &arena, &out, &err);
    dsb_text_release(&out);
    dsb_arena_release(&arena);
    dsb_db_close(db);
    return s ? dsb_command_fail(&err) : 0;
}
