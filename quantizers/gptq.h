/* GPTQ: columns are rounded one after the other, and each one's error is made up for by those that follow, as the inverse of
 * H = 2/n Σ xxᵀ says. Group parameters come from the weights as they are when the column's block of `block` begins (128 in the original),
 * with act_order, from the stored weights, and columns go by falling diagonal of H. Source: Frantar et al. 2022, arXiv:2210.17323. */
#ifndef DSB_QUANTIZERS_GPTQ_H
#define DSB_QUANTIZERS_GPTQ_H

#include "quantizers/input_stats.h"
#include "quantizers/quantize.h"

enum { DSB_GPTQ_BLOCK = 128 };

/* Fills codes, scales and zero points of q, as dsb_qtensor_begin laid it out, from w (rows, cols) and the gram of stats, which saw tokens.
 * damp: added to H's diagonal, of its mean. The same for any number of threads. DSB_ENOMEM; DSB_EINPUT: H has no inverse. */
dsb_status dsb_gptq(dsb_qtensor *q, const float *w, const dsb_input_stats *stats, double damp, bool act_order, int64_t block, dsb_err *err);

#endif
