/* SmoothQuant's α found: the one of 0, 0.05 … 1 whose product is expected least wrong. Of the rounded weight the error is exact, by the gram. Of integer inputs
 * it is a model's, errors of channels independent: rounding adds min(mean x_j², s²/12) a token, s the step; a static range also cuts what new tokens
 * bring: beyond channel j's largest of n, a_j, with tails of mean θ_j = a_j / ln n, that is (2 θ_j² / n) · exp((a_j − range) / θ_j). The step of a
 * token of its own is taken as of a largest input of √(2 ln cols) times the largest channel's rms. Floats add nothing that α changes.
 * Source: Xiao et al. 2022, arXiv 2211.10438, which searches α by trial on the model; the model of errors is dsbench's. */
#ifndef DSB_QUANTIZERS_SMOOTH_SEARCH_H
#define DSB_QUANTIZERS_SMOOTH_SEARCH_H

#include "quantizers/recipe.h"

/* α for w (rows, cols) rounded to this format; stats has channels and the gram, of at least one token. DSB_ENOMEM. */
dsb_status dsb_smooth_alpha(double *alpha, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err);

#endif
