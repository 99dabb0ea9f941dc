/* AWQ: channels of the input that carry much activation are scaled up in the weight and down in the input before rounding, by
 * s = (mean |x|)^α, normalised so that √(max s · min s) = 1; α is the one of 20 steps of [0, 1) whose rounded weight leaves the least squared
 * error of outputs. The original's clipping search is left out. Source: Lin et al. 2023, arXiv:2306.00978. */
#ifndef DSB_QUANTIZERS_AWQ_H
#define DSB_QUANTIZERS_AWQ_H

#include "quantizers/input_stats.h"
#include "quantizers/quantize.h"

/* in_scale (cols) receives 1/s, what the input is multiplied by, for w (rows, cols) rounded to an integer format; stats has channel sums and the gram,
 * of at least one token. α = 0 (all ones) is among those tried. DSB_ENOMEM. */
dsb_status dsb_awq_scale(float *in_scale, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err);

#endif
