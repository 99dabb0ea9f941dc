/* AWQ: channels of the input that carry much activation are scaled up in the weight and down in the input before rounding, by
 * s = (mean |x|)^α, normalised so that √(max s · min s) = 1; α is the one of 20 steps of [0, 1) whose rounded weight leaves the least squared
 * error of outputs. Then, if asked, each group is cut at the share of its largest magnitude (1, 0.95 … 0.55) of least error.
 * Source: Lin et al. 2023, arXiv:2306.00978; the grids are those of its code, llm-awq. */
#ifndef DSB_QUANTIZERS_AWQ_H
#define DSB_QUANTIZERS_AWQ_H

#include "quantizers/input_stats.h"
#include "quantizers/quantize.h"
#include "quantizers/transform.h"

/* in_scale (cols) receives 1/s, what the input is multiplied by, for w (rows, cols) rounded to an integer format; stats has channel sums and the gram,
 * of at least one token. α = 0 (all ones) is among those tried. DSB_ENOMEM. */
dsb_status dsb_awq_scale(float *in_scale, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err);
/* Codes, scales and zero points of w (rows, cols), both q's and stats' (of the scaled input), each group cut where Σ over tokens of the square of what it adds
 * wrongly to its output is least: e · B · eᵀ, B its block of the gram. q comes from dsb_qtensor_begin; not of one scale a tensor. DSB_ENOMEM. */
dsb_status dsb_awq_clip(dsb_qtensor *q, const float *w, const dsb_input_stats *stats, dsb_err *err);
/* v (rows, cols) = the weight that reads the transformed input, rounded and decoded. DSB_ENOMEM, DSB_ENONFINITE. */
dsb_status dsb_round_transformed(const dsb_input_transform *t, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, float *v, dsb_err *err);

#endif
