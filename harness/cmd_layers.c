/* `dsbench layers RUN`, `dsbench tensors RUN`: error of layers' outputs, or of weights, worst first. */
#include <string.h>

#include "harness/commands.h"
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

/* What a command line asks for. */
typedef struct request {
    dsb_filter f;
    bool by_tensor;
} request;

static dsb_status show(dsb_stored_run *r, const void *what, bool json, dsb_err *err) {
    const request *q = what;
    DSB_TRY(check_kind(q->f.kind, err));
    DSB_TRY(dsb_inspect_check_scheme(&r->data, q->f.scheme, err));
    return q->by_tensor || q->f.expert >= 0 ? show_tensors(r, &q->f, &r->arena, json, err) : show_layers(r, &q->f, &r->arena, json, err);
}

int dsb_cmd_layers(int argc, char **argv) {
    request q = { DSB_FILTER_ALL, false };
    q.f.top = 20;
    const dsb_option options[] = {
        DSB_FILTER_PLACES(q.f, "the weights of this expert, instead of layer outputs"),
        { "kind", 'k', DSB_OPT_STRING, &q.f.kind, "isolated|block|accumulated", "only isolated (the reference's input), block (isolated, but the block's own attention) or accumulated (the scheme's own)", 0, 0 },
        { "tensors", 't', DSB_OPT_FLAG, &q.by_tensor, NULL, "weights before and after quantization, instead of layer outputs (dsbench tensors)", 0, 0 },
        { "sort", 0, DSB_OPT_STRING, &q.f.sort, "METRIC", "rank by nmse (default), rel_l2, sqnr_db, cosine, max_abs, f16_headroom_bits, saturation", 0, 0 },
        DSB_FILTER_TOP(q.f),
    };
    const dsb_usage usage = { "layers", "[RUN]", "Where the error arises: outputs of layers, worst first, and a line of each scheme along the layers. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench layers latest --scheme int4-rtn --kind isolated", true };
    return dsb_stored_run_command(&usage, argc, argv, show, &q);
}

int dsb_cmd_tensors(int argc, char **argv) {
    request q = { DSB_FILTER_ALL, true };
    q.f.top = 20;
    const dsb_option options[] = {
        DSB_FILTER_PLACES(q.f, "only this expert"),
        { "sort", 0, DSB_OPT_STRING, &q.f.sort, "METRIC", "rank by nmse (default), rel_l2, sqnr_db, cosine, max_abs, bpw", 0, 0 },
        DSB_FILTER_TOP(q.f),
    };
    const dsb_usage usage = { "tensors", "[RUN]", "Weights before and after quantization, worst first. RUN is an id, a prefix or `latest`.", 0, 1, DSB_OPTIONS(options),
                              "example: dsbench tensors latest --scheme int4-rtn --layer 3", true };
    return dsb_stored_run_command(&usage, argc, argv, show, &q);
}
