/* `dsbench routing RUN`, `dsbench experts RUN`: where the router picks other experts, layer by layer or expert by expert, worst first. */
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/inspect.h"

enum { BY_EXPERT, COVERAGE, N_VIEW }; /* else by layer */

static dsb_status show_coverage(const dsb_stored_run *r, dsb_arena *arena, bool json, dsb_err *err) {
    dsb_grid g;
    dsb_inspect_coverage_layers(&r->data, arena, &g);
    return dsb_print_inspection(r, &g, NULL, NULL, json, err);
}

static dsb_status show_experts(const dsb_stored_run *r, const dsb_filter *f, dsb_arena *arena, bool json, dsb_err *err) {
    dsb_spark_lines lines;
    dsb_grid g;
    DSB_TRY(dsb_inspect_experts(&r->data, f, arena, &g, err));
    const char *worst = f->scheme ? f->scheme : dsb_grid_rows(&g) ? g.cells[0].text : DSB_REFERENCE; /* the first row's */
    DSB_TRY(dsb_spark_experts(&r->data, worst, f, arena, &lines, err));
    return dsb_print_inspection(r, &g, f->sort ? f->sort : "nmse", &lines, json, err);
}

static dsb_status show_layers(const dsb_stored_run *r, const dsb_filter *f, dsb_arena *arena, bool json, dsb_err *err) {
    dsb_spark_lines lines;
    dsb_grid g;
    DSB_TRY(dsb_inspect_routing(&r->data, f, arena, &g, err));
    DSB_TRY(dsb_spark_routing(&r->data, f, arena, &lines, err));
    return dsb_print_inspection(r, &g, f->sort ? f->sort : "selection_change", &lines, json, err);
}

static dsb_status show(const dsb_parsed *o, dsb_stored_run *r, const dsb_filter *f, const bool *view, dsb_err *err) {
    DSB_TRY(dsb_stored_run_open(r, o->db, o->n_arg ? o->arg[0] : NULL, err));
    DSB_TRY(dsb_inspect_check_scheme(&r->data, f->scheme, err));
    if (view[COVERAGE]) return show_coverage(r, &r->arena, o->json, err);
    return view[BY_EXPERT] || f->expert >= 0 ? show_experts(r, f, &r->arena, o->json, err) : show_layers(r, f, &r->arena, o->json, err);
}

static int run(const dsb_usage *usage, int argc, char **argv, const dsb_filter *f, const bool *view) {
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_stored_run r = { 0 };
    dsb_status s = dsb_options_parse(usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    s = show(&o, &r, f, view, &err);
    dsb_stored_run_close(&r);
    return s ? dsb_command_fail(&err) : 0;
}

int dsb_cmd_routing(int argc, char **argv) {
    dsb_filter f = DSB_FILTER_ALL;
    bool view[N_VIEW] = { false };
    f.top = 20;
    const dsb_option options[] = {
        { "scheme", 's', DSB_OPT_STRING, &f.scheme, "NAME", "only this scheme", 0, 0 },
        { "layer", 'l', DSB_OPT_INT, &f.layer, "N", "only this layer", 0, 1e9 },
        { "expert", 'e', DSB_OPT_INT, &f.expert, "N", "this expert, layer by layer", 0, 1e9 },
        { "experts", 'x', DSB_OPT_FLAG, &view[BY_EXPERT], NULL, "expert by expert, instead of layer by layer (dsbench experts)", 0, 0 },
        { "coverage", 'c', DSB_OPT_FLAG, &view[COVERAGE], NULL, "calibration tokens of the experts of each layer, starved ones named", 0, 0 },
        { "sort", 0, DSB_OPT_STRING, &f.sort, "METRIC", "layers: selection_change (default), slot_change, router_kld, load_tv …; experts: nmse (default), moved, load_change, hits", 0, 0 },
        { "top", 'n', DSB_OPT_INT, &f.top, "N", "rows shown, worst first (default 20, 0 for all)", 0, 1e9 },
    };
    const dsb_usage usage = { "routing", "[RUN]", "Where the router picks other experts than the reference's, worst first, and a line of each scheme along the layers. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench routing latest --sort router_kld --top 10" };
    return run(&usage, argc, argv, &f, view);
}

int dsb_cmd_experts(int argc, char **argv) {
    dsb_filter f = DSB_FILTER_ALL;
    const bool view[N_VIEW] = { [BY_EXPERT] = true };
    f.top = 20;
    const dsb_option options[] = {
        { "scheme", 's', DSB_OPT_STRING, &f.scheme, "NAME", "only this scheme", 0, 0 },
        { "layer", 'l', DSB_OPT_INT, &f.layer, "N", "only this layer", 0, 1e9 },
        { "expert", 'e', DSB_OPT_INT, &f.expert, "N", "this expert, layer by layer", 0, 1e9 },
        { "sort", 0, DSB_OPT_STRING, &f.sort, "METRIC", "rank by nmse (default), moved, load_change, hits", 0, 0 },
        { "top", 'n', DSB_OPT_INT, &f.top, "N", "rows shown, worst first (default 20, 0 for all)", 0, 1e9 },
    };
    const dsb_usage usage = { "experts", "[RUN]", "Experts whose output, or whose tokens, changed most, and a line along the experts of each layer. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench experts latest --scheme int4-rtn --sort moved --top 10" };
    return run(&usage, argc, argv, &f, view);
}
