#include "quantizers/quantize_rule.h"

int dsb_rule_needs(const dsb_rule *rule) { return (rule->format ? dsb_algorithm_find(rule->algorithm)->needs : 0) | dsb_compensation_needs(rule->compensation); }

static dsb_status find_codes(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    out->used = dsb_algorithm_find(rule->algorithm);
    out->starved = out->used->needs && (!stats || stats->n_token == 0);
    if (out->starved || format != rule->format) out->used = dsb_algorithm_find("rtn");
    if (out->used->method == DSB_METHOD_IMATRIX) return dsb_quantize_important(&out->q, format, group, stats->sum_sq, w, rows, cols, err);
    return dsb_quantize(&out->q, format, out->used, group, rule->zero_point && format->qmax > 0, w, rows, cols, err);
}

dsb_status dsb_quantize_rule(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, float *decoded, dsb_err *err) {
    *out = (dsb_quantized){0};
    DSB_TRY(find_codes(out, rule, format, group, w, rows, cols, stats, err));
    dsb_dequantize(&out->q, w, decoded);
    dsb_status s = dsb_compensate(rule, w, rows, cols, stats, &out->q, decoded, &out->correction, &out->won, err);
    out->q.stored_bytes += out->won.bytes;
    if (s) dsb_quantized_release(out);
    return s;
}

void dsb_quantized_release(dsb_quantized *q) {
    dsb_qtensor_release(&q->q);
    dsb_correction_release(&q->correction);
}
