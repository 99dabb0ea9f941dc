/* `dsbench layers RUN`, `dsbench tensors RUN`: error of layers' outputs, or of weights, worst first. */
#include <string.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/inspect.h"

static const char *worst_of(const dsb_filter *f) { return f->sort ? f->sort : "nmse"; }

static dsb_status show_tensors(const dsb_stored_run *r, const dsb_filter *f, dsb_arena *arena, bool json, dsb_err *err) {
    dsb_tensor_error *rows;
    dsb_spark_lines lines;
    dsb_grid g;
    int64_t n;
    DSB_TRY(dsb_db_get_tensor_error(r->db, arena, r->id, f->scheme, &rows, &n, err));
    DSB_TRY(dsb_inspect_tensors(rows, n, f, arena, &g, err));
    DSB_TRY(dsb_spark_tensors(&r->data, rows, n, f, arena, &lines, err));
    return dsb_print_inspection(r, &g, worst_of(f), &lines, json, err);
}

static dsb_status show_layers(const dsb_stored_run *r, const dsb_filter *f, dsb_arena *arena, bool json, dsb_err *err) {
    dsb_spark_lines lines;
    dsb_grid g;
    DSB_TRY(dsb_inspect_layers(&r->data, f, arena, &g, err));
    DSB_TRY(dsb_spark_layers(&r->data, f, arena, &lines, err));
    return dsb_print_inspection(r, &g, worst_of(f), &lines, json, err);
}

static dsb_status check_kind(const char *kind, dsb_err *err) {
    if (!kind || !strcmp(kind, "isolated") || !strcmp(kind, "block") || !strcmp(kind, "accumulated")) return DSB_OK;
    return dsb_fail(err, DSB_EUSAGE, "--kind %s: no such kind; it is isolated, block or accumulated", kind);
}

static dsb_status show(const dsb_parsed *o, dsb_stored_run *r, const dsb_filter *f, bool by_tensor, dsb_err *err) {
    DSB_TRY(check_kind(f->kind, err));
    DSB_TRY(dsb_stored_run_open(r, o->db, o->n_arg ? o->arg[0] : NULL, err));
    DSB_TRY(dsb_inspect_check_scheme(&r->data, f->scheme, err));
    return by_tensor || f->expert >= 0 ? show_tensors(r, f, &r->arena, o->json, err) : show_layers(r, f, &r->arena, o->json, err);
}

static int run(const dsb_usage *usage, int argc, char **argv, const dsb_filter *f, const bool *by_tensor) {
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_stored_run r = { 0 };
    dsb_status s = dsb_options_parse(usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    s = show(&o, &r, f, *by_tensor, &err);
    dsb_stored_run_close(&r);
    return s ? dsb_command_fail(&err) : 0;
}

int dsb_cmd_layers(int argc, char **argv) {
    dsb_filter f = DSB_FILTER_ALL;
    bool by_tensor = false;
    f.top = 20;
    const dsb_option options[] = {
        { "scheme", 's', DSB_OPT_STRING, &f.scheme, "NAME", "only this scheme", 0, 0 },
        { "layer", 'l', DSB_OPT_INT, &f.layer, "N", "only this layer", 0, 1e9 },
        { "expert", 'e', DSB_OPT_INT, &f.expert, "N", "the weights of this expert, instead of layer outputs", 0, 1e9 },
        { "kind", 'k', DSB_OPT_STRING, &f.kind, "isolated|block|accumulated", "only isolated (the reference's input), block (isolated, but the block's own attention) or accumulated (the scheme's own)", 0, 0 },
        { "tensors", 't', DSB_OPT_FLAG, &by_tensor, NULL, "weights before and after quantization, instead of layer outputs (dsbench tensors)", 0, 0 },
        { "sort", 0, DSB_OPT_STRING, &f.sort, "METRIC", "rank by nmse (default), rel_l2, sqnr_db, cosine, max_abs, f16_headroom_bits, saturation", 0, 0 },
        { "top", 'n', DSB_OPT_INT, &f.top, "N", "rows shown, worst first (default 20, 0 for all)", 0, 1e9 },
    };
    const dsb_usage usage = { "layers", "[RUN]", "Where the error arises: outputs of layers, worst first, and a line of each scheme along the layers. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench layers latest --scheme int4-rtn --kind isolated" };
    return run(&usage, argc, argv, &f, &by_tensor);
}

int dsb_cmd_tensors(int argc, char **argv) {
    dsb_filter f = DSB_FILTER_ALL;
    const bool by_tensor = true;
    f.top = 20;
    const dsb_option options[] = {
        { "scheme", 's', DSB_OPT_STRING, &f.scheme, "NAME", "only this scheme", 0, 0 },
        { "layer", 'l', DSB_OPT_INT, &f.layer, "N", "only this layer", 0, 1e9 },
        { "expert", 'e', DSB_OPT_INT, &f.expert, "N", "only this expert", 0, 1e9 },
        { "sort", 0, DSB_OPT_STRING, &f.sort, "METRIC", "rank by nmse (default), rel_l2, sqnr_db, cosine, max_abs, bpw", 0, 0 },
        { "top", 'n', DSB_OPT_INT, &f.top, "N", "rows shown, worst first (default 20, 0 for all)", 0, 1e9 },
    };
    const dsb_usage usage = { "tensors", "[RUN]", "Weights before and after quantization, worst first. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench tensors latest --scheme int4-rtn --layer 3" };
    return run(&usage, argc, argv, &f, &by_tensor);
}
