/* `dsbench layers RUN`: error of layers and tensors, worst first. */
#include <string.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"
#include "reports/inspect.h"

static dsb_status tensors(dsb_stored_run *r, const dsb_filter *f, dsb_grid *g, dsb_err *err) {
    dsb_tensor_error *rows;
    int64_t n;
    DSB_TRY(dsb_db_get_tensor_error(r->db, &r->arena, r->id, f->scheme, &rows, &n, err));
    return dsb_inspect_tensors(rows, n, f, &r->arena, g, err);
}

static dsb_status check_kind(const char *kind, dsb_err *err) {
    if (!kind || !strcmp(kind, "isolated") || !strcmp(kind, "block") || !strcmp(kind, "accumulated")) return DSB_OK;
    return dsb_fail(err, DSB_EUSAGE, "--kind %s: no such kind; it is isolated, block or accumulated", kind);
}

static dsb_status show(const dsb_parsed *o, dsb_stored_run *r, const dsb_filter *f, bool by_tensor, dsb_text *out, dsb_err *err) {
    dsb_grid g;
    DSB_TRY(check_kind(f->kind, err));
    DSB_TRY(dsb_stored_run_open(r, o->db, o->n_arg ? o->arg[0] : NULL, err));
    DSB_TRY(dsb_inspect_check_scheme(&r->data, f->scheme, err));
    if (by_tensor || f->expert >= 0) DSB_TRY(tensors(r, f, &g, err));
    else DSB_TRY(dsb_inspect_layers(&r->data, f, &r->arena, &g, err));
    DSB_TRY(dsb_grid_write(&g, o->json ? DSB_REPORT_JSON : DSB_REPORT_TEXT, out, err));
    if (!dsb_grid_rows(&g) && !o->json) dsb_text_printf(out, "run %s has no such rows\n", r->id);
    return dsb_print(out, err);
}

int dsb_cmd_layers(int argc, char **argv) {
    dsb_filter f = DSB_FILTER_ALL;
    bool by_tensor = false;
    f.top = 20;
    const dsb_option options[] = {
        { "scheme", 's', DSB_OPT_STRING, &f.scheme, "NAME", "only this scheme", 0, 0 },
        { "layer", 'l', DSB_OPT_INT, &f.layer, "N", "only this layer", 0, 1e9 },
        { "expert", 'e', DSB_OPT_INT, &f.expert, "N", "the weights of this expert, instead of layer outputs", 0, 1e9 },
        { "kind", 'k', DSB_OPT_STRING, &f.kind, "KIND", "only isolated (the reference's input), block (isolated, but the block's own attention) or accumulated (the scheme's own)", 0, 0 },
        { "tensors", 't', DSB_OPT_FLAG, &by_tensor, NULL, "weights before and after quantization, instead of layer outputs", 0, 0 },
        { "sort", 0, DSB_OPT_STRING, &f.sort, "METRIC", "rank by nmse (default), rel_l2, sqnr_db, cosine, max_abs, f16_headroom_bits, saturation, bpw", 0, 0 },
        { "top", 'n', DSB_OPT_INT, &f.top, "N", "rows shown, worst first (default 20, 0 for all)", 0, 1e9 },
    };
    const dsb_usage usage = { "layers", "[RUN]", "Where the error arises: outputs of layers, or weights, worst first. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench layers latest --scheme int4-rtn --kind isolated" };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_stored_run r = { 0 };
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    dsb_text_init(&out);
    s = show(&o, &r, &f, by_tensor, &out, &err);
    dsb_text_release(&out);
    dsb_stored_run_close(&r);
    return s ? dsb_command_fail(&err) : 0;
}
