#include "quantizers/quantize_rule.h"

#include <stdlib.h>

#include "base/memory.h"
#include "quantizers/awq.h"
#include "quantizers/codec.h"
#include "quantizers/gptq.h"
#include "quantizers/smooth_search.h"

int dsb_rule_needs(const dsb_rule *rule) {
    const dsb_transform_row *transforms;
    dsb_transform_list(&transforms);
    int needs = (rule->format ? dsb_algorithm_find(rule->algorithm)->needs : 0) | dsb_compensation_needs(rule->compensation);
    if (rule->transform == DSB_TRANSFORM_HADAMARD && needs & DSB_NEED_CHANNELS) needs |= DSB_NEED_GRAM; /* squares of rotated channels */
    if (rule->format && rule->transform == DSB_TRANSFORM_SMOOTH && rule->alpha == DSB_ALPHA_SEARCH) needs |= DSB_NEED_GRAM;
    return needs | (rule->format ? transforms[rule->transform].needs : 0);
}

bool dsb_rule_by_rows(const dsb_rule *rule, int64_t cols) {
    int64_t group;
    const dsb_format *f = dsb_rule_format(rule, cols, &group);
    const dsb_algorithm *how = dsb_algorithm_find(rule->algorithm);
    if (!rule->format) return true;
    if (!f || how->needs & DSB_NEED_GRAM || how->range == DSB_RANGE_KL || rule->compensation & ~DSB_COMP_RECALIBRATE || rule->transform == DSB_TRANSFORM_SMOOTH) return false;
    return dsb_format_by_rows(f, group, cols) || (f->codec == &dsb_codec_fp8 && group == DSB_FP8_BLOCK);
}

bool dsb_rule_is_plain(const dsb_rule *rule, int64_t cols) {
    int64_t group;
    const dsb_format *f = dsb_rule_format(rule, cols, &group);
    const dsb_algorithm *how = dsb_algorithm_find(rule->algorithm);
    return f && f == rule->format && f->qmax > 0 && group != DSB_GROUP_TENSOR && how->method == DSB_METHOD_ROUND && how->range == DSB_RANGE_WHOLE && rule->zero_point == DSB_ZERO_NONE && rule->transform == DSB_TRANSFORM_NONE &&
           rule->compensation == 0;
}

static dsb_status find_codes(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    const dsb_transform_row *transforms;
    bool unseen = !stats || stats->n_token == 0;
    dsb_transform_list(&transforms);
    out->used = dsb_algorithm_find(rule->algorithm);
    out->starved = unseen && (out->used->needs || transforms[rule->transform].needs);
    if ((unseen && out->used->needs) || format != rule->format) out->used = dsb_algorithm_find("rtn");
    if (out->used->method == DSB_METHOD_IMATRIX) return dsb_quantize_important(&out->q, format, group, stats->sum_sq, w, rows, cols, err);
    bool clip = out->used->method == DSB_METHOD_AWQ && rule->clip;
    if (out->used->method != DSB_METHOD_GPTQ && !clip) return dsb_quantize(&out->q, format, out->used, group, format->qmax > 0 ? rule->zero_point : DSB_ZERO_NONE, w, rows, cols, err);
    DSB_TRY(dsb_qtensor_begin(&out->q, format, group, rule->zero_point, w, rows, cols, err));
    if (clip) return dsb_awq_clip(&out->q, w, stats, err);
    return dsb_gptq(&out->q, w, stats, rule->damp, rule->act_order, DSB_GPTQ_BLOCK, err);
}

/* AWQ's scales are an input transform too; recipes name no other beside it. */
static dsb_status find_awq(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    if (dsb_algorithm_find(rule->algorithm)->method != DSB_METHOD_AWQ || format != rule->format || !stats || stats->n_token == 0) return DSB_OK;
    DSB_TRY(DSB_NEW(out->in.in_scale, cols, "scales of inputs", err));
    DSB_TRY(dsb_awq_scale(out->in.in_scale, format, group, rule->zero_point, w, rows, cols, stats, err));
    dsb_transform_see(&out->in, stats);
    return DSB_OK;
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
    dsb_method method = dsb_algorithm_find(rule->algorithm)->method; /* AWQ has its scales already */
    bool asks = stats && (method == DSB_METHOD_IMATRIX || method == DSB_METHOD_GPTQ || rule->clip || dsb_compensation_needs(rule->compensation));
    if (asks) DSB_TRY(dsb_transform_stats(&out->in, stats, &seen, err));
    dsb_status s = find(out, rule, format, group, w, rows, cols, asks ? &seen : stats, decoded, err);
    dsb_input_stats_release(&seen);
    return s;
}

dsb_status dsb_quantize_rule(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, float *decoded, dsb_err *err) {
    float *turned = NULL;
    double alpha = rule->alpha;
    *out = (dsb_quantized){0};
    if (rule->transform == DSB_TRANSFORM_SMOOTH && alpha == DSB_ALPHA_SEARCH && stats && stats->n_token > 0) DSB_TRY(dsb_smooth_alpha(&alpha, rule, format, group, w, rows, cols, stats, err));
    DSB_TRY(dsb_transform_find(&out->in, rule->transform, alpha, w, rows, cols, stats, err));
    dsb_status s = find_awq(out, rule, format, group, w, rows, cols, stats, err);
    if (s) {
        dsb_quantized_release(out);
        return s;
    }
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
