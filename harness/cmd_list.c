/* `dsbench list TABLE`: the tables themselves, so that documents can't go stale. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "engine/arch.h"
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/output.h"
#include "kernels/backend.h"
#include "metrics/metric_table.h"
#include "quantizers/compensation.h"
#include "quantizers/quantize.h"
#include "quantizers/recipe.h"
#include "reports/plot_table.h"

#define COUNT(rows) ((int)(sizeof(rows) / sizeof *(rows)))

static const dsb_grid_head k_name_what[] = { { "name", "name", NULL, true }, { "what", "what", NULL, true } };

static void list_schemes(dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = { { "name", "scheme", NULL, true }, { "what", "what", NULL, true }, { "recipe", NULL, NULL, true } };
    const dsb_preset_row *rows;
    int n = dsb_preset_list(&rows);
    dsb_grid_init(g, arena, heads, COUNT(heads));
    for (int i = 0; i < n; i++) {
        dsb_grid_text(g, rows[i].name);
        dsb_grid_text(g, rows[i].what);
        dsb_grid_text(g, rows[i].json);
    }
}

static void list_formats(dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = { { "name", "format", NULL, true }, { "bits", "bits", NULL, false }, { "bpw", "bpw", NULL, false }, { "group", "group", NULL, true }, { "what", "what", NULL, true } };
    const dsb_format *rows;
    int n = dsb_format_list(&rows);
    dsb_grid_init(g, arena, heads, COUNT(heads));
    for (int i = 0; i < n; i++) {
        dsb_grid_text(g, rows[i].name);
        char group[24] = "";
        if (!rows[i].is_float) dsb_group_name(rows[i].group, group);
        const char *kept = dsb_arena_strdup(arena, group);
        dsb_grid_figure(g, rows[i].bits, "%g", rows[i].bits);
        dsb_grid_figure(g, dsb_format_bpw(&rows[i]), "%g", dsb_format_bpw(&rows[i]));
        dsb_grid_text(g, kept ? kept : "");
        dsb_grid_text(g, rows[i].what);
    }
}

/* Tables of names and what they are. */
#define NAME_WHAT(table, row)                                     \
    static void list_##table##s(dsb_arena *arena, dsb_grid *g) {  \
        const row *rows;                                          \
        int n = dsb_##table##_list(&rows);                        \
        dsb_grid_init(g, arena, k_name_what, COUNT(k_name_what)); \
        for (int i = 0; i < n; i++) {                             \
            dsb_grid_text(g, rows[i].name);                       \
            dsb_grid_text(g, rows[i].what);                       \
        }                                                         \
    }
NAME_WHAT(algorithm, dsb_algorithm)
NAME_WHAT(activation, dsb_activation_row)
NAME_WHAT(transform, dsb_transform_row)
NAME_WHAT(compensation, dsb_compensation_row)

static void list_archs(dsb_arena *arena, dsb_grid *g) {
    const dsb_arch_row *rows;
    int n = dsb_arch_list(&rows);
    dsb_grid_init(g, arena, k_name_what, COUNT(k_name_what));
    for (int i = 0; i < n; i++) {
        dsb_grid_text(g, rows[i].name);
        dsb_grid_text(g, rows[i].what);
    }
}

static void list_kernels(dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = { { "name", "kernel", NULL, true }, { "isa", "isa", NULL, true }, { "available", "here", NULL, true }, { "what", "what", NULL, true } };
    const dsb_kernel_row *rows;
    int n = dsb_kernel_list(&rows);
    dsb_grid_init(g, arena, heads, COUNT(heads));
    for (int i = 0; i < n; i++) {
        dsb_grid_text(g, rows[i].name);
        dsb_grid_text(g, rows[i].isa);
        dsb_grid_text(g, rows[i].available ? "yes" : "no");
        dsb_grid_text(g, rows[i].what);
    }
}

static double finite_or_none(double x) { return isfinite(x) ? x : NAN; }

static void list_metrics(dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "name", "metric", NULL, true }, { "unit", "unit", NULL, true }, { "better", "better", NULL, true },
        { "min", NULL, NULL, false },     { "max", NULL, NULL, false },   { "what", "what", NULL, true },
    };
    const dsb_metric *rows;
    int n = dsb_metric_list(&rows);
    dsb_grid_init(g, arena, heads, COUNT(heads));
    for (int i = 0; i < n; i++) {
        dsb_grid_text(g, rows[i].name);
        dsb_grid_text(g, rows[i].unit);
        dsb_grid_text(g, dsb_better_name(rows[i].better));
        dsb_grid_figure(g, finite_or_none(rows[i].min), "%g", rows[i].min);
        dsb_grid_figure(g, finite_or_none(rows[i].max), "%g", rows[i].max);
        dsb_grid_text(g, rows[i].what);
    }
}

static void list_plots(dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {{"name", "name", NULL, true}, {"needs", "needs", NULL, true}, {"what", "what", NULL, true}};
    static const char *const k_needs[] = {"a run", "two runs of a suite", "--base RUN"};
    const dsb_plot *rows;
    int n = dsb_plot_list(&rows);
    dsb_grid_init(g, arena, heads, COUNT(heads));
    for (int i = 0; i < n; i++) {
        dsb_grid_text(g, rows[i].name);
        dsb_grid_text(g, k_needs[rows[i].needs]);
        dsb_grid_text(g, rows[i].title);
    }
}

static const struct {
    const char *name;
    void (*fill)(dsb_arena *arena, dsb_grid *g);
} k_tables[] = {
    { "schemes", list_schemes }, { "formats", list_formats }, { "algorithms", list_algorithms }, { "activations", list_activations }, { "transforms", list_transforms }, { "compensations", list_compensations }, { "archs", list_archs },
    { "kernels", list_kernels }, { "metrics", list_metrics }, { "plots", list_plots },
};

dsb_status dsb_list_table(const char *name, dsb_report_format format, dsb_err *err) {
    const char *names[COUNT(k_tables)];
    for (int i = 0; i < COUNT(k_tables); i++) {
        names[i] = k_tables[i].name;
        if (strcmp(name, names[i]) != 0) continue;
        dsb_arena arena;
        dsb_grid grid;
        dsb_arena_init(&arena);
        k_tables[i].fill(&arena, &grid);
        dsb_status s = dsb_print_grid(&grid, format, err);
        dsb_arena_release(&arena);
        return s;
    }
    const char *near = dsb_name_nearest(name, names, COUNT(k_tables));
    return dsb_fail(err, DSB_EUSAGE, "list: unknown table '%s'; schemes, formats, algorithms, activations, transforms, compensations, archs, kernels, metrics or plots is wanted%s%s%s", name, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

int dsb_cmd_list(int argc, char **argv) {
    static const dsb_usage usage = { .command = "list", .args = "schemes|formats|algorithms|activations|transforms|compensations|archs|kernels|metrics|plots", .what = "One of the tables of this program, in its own order.", .min_args = 1, .max_args = 1, .csv = true };
    dsb_parsed p;
    dsb_err err;
    if (dsb_options_parse(&usage, argc, argv, &p, &err)) return dsb_command_fail(&err);
    if (p.help) return 0;
    if (dsb_list_table(p.arg[0], dsb_plain_format(&p), &err)) return dsb_command_fail(&err);
    return 0;
}
