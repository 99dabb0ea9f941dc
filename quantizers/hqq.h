/* HQQ's zero point: half-quadratic steps on min_z Σ |w − S·(Q − z)|^p, p 0.7, Q = clamp(round(w/S + z)): the shrinkage of l_p sets the error's outliers
 * aside, then z is the mean that fits the rest. At most 20 steps, ended by the first that leaves no less mean |error|; β stays 10, as in the package,
 * whose growth κ no line uses. A group stops by itself, where the original stops a whole matrix, so that rows don't depend on each other.
 * Source: Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models"; hqq 0.2.8, optimize_weights_proximal_legacy. */
#ifndef DSB_QUANTIZERS_HQQ_H
#define DSB_QUANTIZERS_HQQ_H

#include <stdint.h>

/* The zero point of n weights with this step, codes 0 .. top, that begins with `zero`. */
float dsb_hqq_zero(const float *w, int64_t n, float scale, float zero, int top);

#endif
