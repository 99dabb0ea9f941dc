#include "reports/plot_table.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "reports/compare.h"
#include "reports/gnuplot.h"
#include "reports/history.h"
#include "reports/plot_csv.h"
#include "reports/plots/plots.h"

static const dsb_plot plots[] = {
    { "pareto", "Accuracy against bits per weight", DSB_PLOT_RUN, dsb_plot_pareto },
    { "perplexity", "Change of perplexity, with 95 % intervals", DSB_PLOT_RUN, dsb_plot_perplexity },
    { "kld", "Distribution of KLD over positions", DSB_PLOT_RUN, dsb_plot_kld },
    { "kld_confidence", "KLD by how sure the reference is", DSB_PLOT_RUN, dsb_plot_kld_confidence },
    { "waterfall", "Damage by structure: attention, router, shared, routed, dense, head", DSB_PLOT_RUN, dsb_plot_waterfall },
    { "error", "Error of each block's output, accumulated", DSB_PLOT_RUN, dsb_plot_error_accumulated },
    { "error_isolated", "Error that each block adds by itself", DSB_PLOT_RUN, dsb_plot_error_isolated },
    { "routing", "Tokens sent to other experts, by layer", DSB_PLOT_RUN, dsb_plot_routing_drift },
    { "margins", "Tokens rerouted by the margin of the reference's choice", DSB_PLOT_RUN, dsb_plot_margins },
    { "heat_drift", "Tokens that left or joined each expert", DSB_PLOT_RUN, dsb_plot_heat_drift },
    { "heat_worst", "The same, the worst layers of the scheme that reroutes most", DSB_PLOT_RUN, dsb_plot_heat_worst },
    { "heat_load", "Load of each expert, and how it changes", DSB_PLOT_RUN, dsb_plot_heat_load },
    { "expert_error", "Error of each expert's output", DSB_PLOT_RUN, dsb_plot_expert_error },
    { "expert_scatter", "Error of each expert against its load", DSB_PLOT_RUN, dsb_plot_expert_scatter },
    { "throughput", "Prefill and decode speed", DSB_PLOT_RUN, dsb_plot_throughput },
    { "trend", "Accuracy over the suite's runs, with steps", DSB_PLOT_RUNS, dsb_plot_trend },
    { "trend_speed", "Speed over the suite's runs on this host, with change points", DSB_PLOT_RUNS, dsb_plot_trend_speed },
    { "comparison", "Change of figures and layers against another run", DSB_PLOT_BASE, dsb_plot_comparison },
};

int dsb_plot_list(const dsb_plot **rows) {
    *rows = plots;
    return (int)(sizeof plots / sizeof *plots);
}

const dsb_plot *dsb_plot_find(const char *name) {
    for (size_t i = 0; i < sizeof plots / sizeof *plots; i++)
        if (!strcmp(plots[i].name, name)) return &plots[i];
    return NULL;
}

/* noenhanced: '_', '{}', '^' and '@' in names are letters. */
static const char *const terminals[] = {
    [DSB_PICTURE_SVG] = "set terminal svg size 900,560 dynamic noenhanced font 'DejaVu Sans,Verdana,sans-serif,12.5' background rgb 'white'\n",
    [DSB_PICTURE_PNG] = "set terminal pngcairo size 900,560 noenhanced font 'DejaVu Sans,10' background rgb 'white'\n",
    [DSB_PICTURE_PDF] = "set terminal pdfcairo size 9in,5.6in noenhanced font 'DejaVu Sans,10' background rgb 'white'\n",
    [DSB_PICTURE_TERMINAL] = "set terminal dumb size 118,34 noenhanced\n",
};

static const char preamble[] =
    "set encoding utf8\n"
    "set datafile missing '?'\n"
    "set style line 100 linecolor rgb '#d9d9d9' linewidth 1\n"
    "set style line 101 linecolor rgb '#444444' linewidth 1\n"
    "set border 3 linestyle 101\n"
    "set grid back linestyle 100\n"
    "set tics nomirror textcolor rgb '#222222'\n"
    "set key outside right top Left reverse samplen 3 spacing 1.25 noenhanced\n";

/* Which run it shows, small in the lower corner: pictures travel alone. */
static void write_origin(const dsb_run_record *run, dsb_arena *arena, dsb_text *script) {
    dsb_text_put(script, "set label 99 ");
    dsb_gnuplot_quote(script, dsb_text_format(arena, "dsbench · %.40s · %.40s · run %.40s", run->model.name ? run->model.name : "?", run->dataset.name ? run->dataset.name : "?", run->id), 0);
    dsb_text_put(script, " at screen 0.99,0.018 right font ',9' textcolor rgb '#8a8a8a'\n");
}

/* A heat map is one embedded picture with a pixel a cell: viewers are told not to smooth it. */
static void keep_pixels(const dsb_text *svg, dsb_text *out) {
    static const char mark[] = "<image ";
    const char *at = svg->data, *next;
    for (; at && (next = strstr(at, mark)); at = next + strlen(mark)) {
        dsb_text_bytes(out, at, (size_t)(next - at));
        dsb_text_put(out, "<image style='image-rendering:pixelated' ");
    }
    dsb_text_put(out, at ? at : "");
}

static dsb_status draw_script(const dsb_text *script, dsb_picture picture, dsb_text *out, dsb_err *err) {
    dsb_text svg;
    if (picture != DSB_PICTURE_SVG) return dsb_gnuplot_run(script->data, DSB_GNUPLOT_LIMIT_S, out, err);
    dsb_text_init(&svg);
    dsb_status s = dsb_gnuplot_run(script->data, DSB_GNUPLOT_LIMIT_S, &svg, err);
    if (!s) keep_pixels(&svg, out);
    dsb_text_release(&svg);
    return s ? s : dsb_text_check(out, "a picture", err);
}

/* csv: receives the data; NULL: not wanted. */
static dsb_status draw(const dsb_plot *plot, const dsb_summary *s, dsb_picture picture, dsb_text *out, dsb_text *csv, bool *drawn, dsb_err *err) {
    dsb_text script;
    dsb_arena arena;
    dsb_text_init(&script);
    dsb_arena_init(&arena);
    dsb_text_put(&script, terminals[picture]);
    dsb_text_put(&script, preamble);
    if (picture == DSB_PICTURE_TERMINAL) dsb_text_put(&script, "unset grid\n");
    if (picture != DSB_PICTURE_TERMINAL) write_origin(&s->data->run, &arena, &script);
    *drawn = plot->write(s, &arena, &script);
    dsb_status st = dsb_text_check(&script, "a plot", err);
    if (!st && *drawn) {
        dsb_err why = { 0 };
        st = draw_script(&script, picture, out, &why);
        if (st) dsb_fail(err, st, "plot %s: %s", plot->name, why.text);
    }
    if (!st && *drawn && csv) {
        dsb_plot_csv(script.data, csv);
        st = dsb_text_check(csv, "a plot's data", err);
    }
    dsb_arena_release(&arena);
    dsb_text_release(&script);
    return st;
}

dsb_status dsb_plot_draw(const dsb_plot *plot, const dsb_summary *s, dsb_picture picture, dsb_text *out, bool *drawn, dsb_err *err) { return draw(plot, s, picture, out, NULL, drawn, err); }

static dsb_status write_file(const char *dir, const dsb_plot *plot, const char *suffix, const dsb_text *data, dsb_text *out, dsb_err *err) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s.%s", dir, plot->name, suffix);
    if (n < 0 || (size_t)n >= sizeof path) return dsb_fail(err, DSB_EOUTPUT, "%.200s…: the path is too long; name a shorter --out", dir);
    DSB_TRY(dsb_file_write(path, data->data ? data->data : "", data->size, err));
    dsb_text_printf(out, "%s\n", path);
    return DSB_OK;
}

static dsb_status one(const dsb_plot *plot, const dsb_summary *s, dsb_picture picture, const char *dir, dsb_text *out, dsb_err *err) {
    static const char *const suffixes[] = { "svg", "png", "pdf" };
    dsb_text image, csv;
    bool drawn = false;
    dsb_text_init(&image);
    dsb_text_init(&csv);
    dsb_status st = draw(plot, s, picture, &image, &csv, &drawn, err);
    if (!st && drawn && picture == DSB_PICTURE_TERMINAL) dsb_text_bytes(out, image.data, image.size);
    else if (!st && drawn) st = write_file(dir, plot, suffixes[picture], &image, out, err);
    if (!st && drawn && picture != DSB_PICTURE_TERMINAL) st = write_file(dir, plot, "csv", &csv, out, err);
    dsb_text_release(&image);
    dsb_text_release(&csv);
    return st;
}

static dsb_status chosen(const dsb_plot *only, const dsb_summary *s, dsb_picture picture, const char *dir, dsb_text *out, dsb_err *err) {
    dsb_status first = DSB_OK;
    if (picture != DSB_PICTURE_TERMINAL) DSB_TRY(dsb_dir_make(dir, err));
    for (size_t i = 0; i < sizeof plots / sizeof *plots; i++) {
        dsb_err why = { 0 };
        if (only && only != &plots[i]) continue;
        dsb_status st = one(&plots[i], s, picture, dir, out, &why);
        if (st && !first) first = dsb_fail(err, st, "%s", why.text);
    }
    return first;
}

dsb_status dsb_plot_run(dsb_db *db, const char *run_id, const char *base, const char *name, dsb_picture picture, const char *dir, dsb_text *out, dsb_err *err) {
    const dsb_plot *only = name ? dsb_plot_find(name) : NULL;
    if (name && !only) return dsb_fail(err, DSB_EUSAGE, "--plot %s: no such plot; `dsbench list plots` names them", name);
    dsb_arena arena;
    dsb_run_data data;
    dsb_summary summary;
    dsb_history history;
    dsb_comparison comparison;
    dsb_compare_request q = { base, run_id, NULL };
    dsb_arena_init(&arena);
    dsb_status s = dsb_run_data_load(db, &arena, run_id, &data, err);
    if (!s) s = dsb_summary_make(&data, &arena, &summary, err);
    if (!s) s = dsb_history_load(db, &arena, run_id, NULL, &history, err);
    if (!s && base) s = dsb_compare_make(db, &arena, &q, &comparison, err);
    summary.history = &history;
    summary.comparison = base ? &comparison : NULL;
    size_t before = out->size;
    if (!s) s = chosen(only, &summary, picture, dir, out, err);
    if (!s && out->size == before) s = dsb_fail(err, DSB_EINPUT, "run %s has no data for %s; choose another plot or run", run_id, name ? name : "any plot");
    dsb_arena_release(&arena);
    return s;
}
