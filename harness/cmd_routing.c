/* `dsbench routing RUN`: where the router picks other experts, worst first. */
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/inspect.h"

static dsb_status show(const dsb_parsed *o, dsb_stored_run *r, const dsb_filter *f, bool by_expert, bool coverage, dsb_text *out, dsb_err *err) {
    dsb_grid g;
    DSB_TRY(dsb_stored_run_open(r, o->db, o->n_arg ? o->arg[0] : NULL, err));
    DSB_TRY(dsb_inspect_check_scheme(&r->data, f->scheme, err));
    if (coverage) dsb_inspect_coverage_layers(&r->data, &r->arena, &g);
    else if (by_expert || f->expert >= 0) DSB_TRY(dsb_inspect_experts(&r->data, f, &r->arena, &g, err));
    else DSB_TRY(dsb_inspect_routing(&r->data, f, &r->arena, &g, err));
    DSB_TRY(dsb_grid_write(&g, o->json ? DSB_REPORT_JSON : DSB_REPORT_TEXT, out, err));
    if (!dsb_grid_rows(&g) && !o->json) dsb_text_printf(out, "run %s has no such rows\n", r->id);
    return dsb_print(out, err);
}

int dsb_cmd_routing(int argc, char **argv) {
    dsb_filter f = DSB_FILTER_ALL;
    bool by_expert = false, coverage = false;
    f.top = 20;
    const dsb_option options[] = {
        { "scheme", 's', DSB_OPT_STRING, &f.scheme, "NAME", "only this scheme", 0, 0 },
        { "layer", 'l', DSB_OPT_INT, &f.layer, "N", "only this layer", 0, 1e9 },
        { "expert", 'e', DSB_OPT_INT, &f.expert, "N", "this expert, layer by layer", 0, 1e9 },
        { "experts", 'x', DSB_OPT_FLAG, &by_expert, NULL, "expert by expert, instead of layer by layer", 0, 0 },
        { "coverage", 'c', DSB_OPT_FLAG, &coverage, NULL, "calibration tokens of the experts of each layer, starved ones named", 0, 0 },
        { "sort", 0, DSB_OPT_STRING, &f.sort, "METRIC", "layers: selection_change (default), slot_change, router_kld, load_tv …; experts: nmse (default), moved, load_change, hits", 0, 0 },
        { "top", 'n', DSB_OPT_INT, &f.top, "N", "rows shown, worst first (default 20, 0 for all)", 0, 1e9 },
    };
    const dsb_usage usage = { "routing", "[RUN]", "Where the router picks other experts than the reference's, worst first. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench routing latest --experts --sort moved --top 10" };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_stored_run r = { 0 };
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    dsb_text_init(&out);
    s = show(&o, &r, &f, by_expert, coverage, &out, &err);
    dsb_text_release(&out);
    dsb_stored_run_close(&r);
    return s ? dsb_command_fail(&err) : 0;
}
