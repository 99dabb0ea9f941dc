/* `dsbench routing RUN`, `dsbench experts RUN`: where the router picks other experts, layer by layer or expert by expert, worst first. */
#include "harness/commands.h"
#include "harness/stored_run.h"
#include "reports/inspect.h"

/* What a command line asks for. */
typedef struct request {
    dsb_filter f;
    bool by_expert, coverage; /* else by layer */
} request;

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

static dsb_status show(dsb_stored_run *r, const void *what, bool json, dsb_err *err) {
    const request *q = what;
    DSB_TRY(dsb_inspect_check_scheme(&r->data, q->f.scheme, err));
    if (q->coverage) return show_coverage(r, &r->arena, json, err);
    return q->by_expert || q->f.expert >= 0 ? show_experts(r, &q->f, &r->arena, json, err) : show_layers(r, &q->f, &r->arena, json, err);
}

int dsb_cmd_routing(int argc, char **argv) {
    request q = { DSB_FILTER_ALL, false, false };
    q.f.top = 20;
    const dsb_option options[] = {
        DSB_FILTER_PLACES(q.f, "this expert, layer by layer"),
        { "experts", 'x', DSB_OPT_FLAG, &q.by_expert, NULL, "expert by expert, instead of layer by layer (dsbench experts)", 0, 0 },
        { "coverage", 'c', DSB_OPT_FLAG, &q.coverage, NULL, "calibration tokens of the experts of each layer, starved ones named", 0, 0 },
        { "sort", 0, DSB_OPT_STRING, &q.f.sort, "METRIC", "layers: selection_change (default), slot_change, router_kld, load_tv …; experts: nmse (default), moved, load_change, hits", 0, 0 },
        DSB_FILTER_TOP(q.f),
    };
    const dsb_usage usage = { "routing", "[RUN]", "Where the router picks other experts than the reference's, worst first, and a line of each scheme along the layers. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench routing latest --sort router_kld --top 10", true };
    return dsb_stored_run_command(&usage, argc, argv, show, &q);
}

int dsb_cmd_experts(int argc, char **argv) {
    request q = { DSB_FILTER_ALL, true, false };
    q.f.top = 20;
    const dsb_option options[] = {
        DSB_FILTER_PLACES(q.f, "this expert, layer by layer"),
        { "sort", 0, DSB_OPT_STRING, &q.f.sort, "METRIC", "rank by nmse (default), moved, load_change, hits", 0, 0 },
        DSB_FILTER_TOP(q.f),
    };
    const dsb_usage usage = { "experts", "[RUN]", "Experts whose output, or whose tokens, changed most, and a line along the experts of each layer. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench experts latest --scheme int4-rtn --sort moved --top 10", true };
    return dsb_stored_run_command(&usage, argc, argv, show, &q);
}
