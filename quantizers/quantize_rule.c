#include "quantizers/quantize_rule.h"

#include <stdlib.h>

int dsb_rule_needs(const dsb_rule *rule) {
    const dsb_transform_row *transforms;
    dsb_transform_list(&transforms);
    int needs = (rule->format ? dsb_algorithm_find(rule->algorithm)->needs : 0) | dsb_compensation_needs(rule->compensation);
    if (rule->transform == DSB_TRANSFORM_HADAMARD && needs & DSB_NEED_CHANNELS) needs |= DSB_NEED_GRAM; /* squares of rotated channels */
    return needs | (rule->format ? transforms[rule->transform].needs : 0);
}

static dsb_status find_codes(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    const dsb_transform_row *transforms;
    bool unseen = !stats || stats->n_token == 0;
    dsb_transform_list(&transforms);
    out->used = dsb_algorithm_find(rule->algorithm);
    out->starved = unseen && (out->used->needs || transforms[rule->transform].needs);
    if ((unseen && out->used->needs) || format != rule->format) out->used = dsb_algorithm_find("rtn");
    if (out->used->method == DSB_METHOD_IMATRIX) return dsb_quantize_important(&out->q, format, group, stats->sum_sq, w, rows, cols, err);
    return dsb_quantize(&out->q, format, out->used, group, rule->zero_point && format->qmax > 0, w, rows, cols, err);
}

/* Codes and compensation of a weight and the statistics of its input, both transformed or neither. */
static dsb_status find(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, float *decoded, dsb_err *err) {
    DSB_TRY(find_codes(out, rule, format, group, w, rows, cols, stats, err));
    dsb_dequantize(&out->q, w, decoded);
    DSB_TRY(dsb_compensate(rule, w, rows, cols, stats, &out->q, decoded, &out->correction, &out->won, err));
    out->q.stored_bytes += out->won.bytes;
    return DSB_OK;
}

static dsb_status find_transformed(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, float *decoded, dsb_err *err) {
    dsb_input_stats seen = {0};
    bool asks = stats && (dsb_algorithm_find(rule->algorithm)->needs | dsb_compensation_needs(rule->compensation)) != 0;
    if (asks) DSB_TRY(dsb_transform_stats(&out->in, stats, &seen, err));
    dsb_status s = find(out, rule, format, group, w, rows, cols, asks ? &seen : stats, decoded, err);
    dsb_input_stats_release(&seen);
    return s;
}

dsb_status dsb_quantize_rule(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, float *decoded, dsb_err *err) {
    float *turned = NULL;
    *out = (dsb_quantized){0};
    DSB_TRY(dsb_transform_find(&out->in, rule->transform, rule->alpha, w, rows, cols, stats, err));
    dsb_status s;
    if (!dsb_transform_changes(&out->in)) {
        s = find(out, rule, format, group, w, rows, cols, stats, decoded, err);
    } else {
        s = DSB_NEW(turned, rows * cols, "transformed weight", err);
        if (!s) {
            dsb_transform_weight(&out->in, w, rows, cols, turned);
            s = find_transformed(out, rule, format, group, turned, rows, cols, stats, decoded, err);
        }
        out->q.stored_bytes += out->in.in_scale ? (size_t)cols * 4 : 0;
    }
    free(turned);
    if (s) dsb_quantized_release(out);
    return s;
}

void dsb_quantized_release(dsb_quantized *q) {
    dsb_qtensor_release(&q->q);
    dsb_transform_release(&q->in);
    dsb_correction_release(&q->correction);
}
