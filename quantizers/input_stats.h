/* What calibration saw of one linear's input, for algorithms that choose codes by it: sums over tokens in f64, tokens ascending,
 * so that they depend on nothing but the tokens. An algorithm's row says what it needs; what nobody needs is not counted.
 * Σ ‖(W − Ŵ) x‖² over the tokens is Σ over rows e of W − Ŵ of e · gram · eᵀ. */
#ifndef DSB_QUANTIZERS_INPUT_STATS_H
#define DSB_QUANTIZERS_INPUT_STATS_H

#include <stdint.h>

#include "base/status.h"
#include "kernels/backend.h"

enum { DSB_NEED_CHANNELS = 1, DSB_NEED_GRAM = 2, DSB_NEED_OWN_INPUT = 4 }; /* OWN_INPUT: of the quantized model's own stream */

/* What an algorithm made of the products once, for the linears and schemes that read the same input. */
typedef struct dsb_gram_factor {
    double *upper; /* (cols, cols), owned; NULL: not made yet */
    double damp;
    bool act_order;
} dsb_gram_factor;

/* Zeros are statistics that saw nothing. */
typedef struct dsb_input_stats {
    int64_t cols, n_token;
    double *sum, *sum_abs, *sum_sq; /* (cols) of x, |x|, x²; owned; NULL: not counted */
    float *absmax;                  /* (cols) */
    double *gram;                   /* (cols, cols) Σ xᵀx, symmetric and whole; owned; NULL: not counted */
    dsb_gram_factor *factor;        /* of gram (gptq.h), owned, dropped when tokens come; NULL where gram is */
} dsb_input_stats;

/* Empties the statistics of an input of so many columns, of what `needs` asks for. DSB_ENOMEM. */
dsb_status dsb_input_stats_begin(dsb_input_stats *s, int needs, int64_t cols, dsb_err *err);
/* Adds n rows that lie on the device. */
void dsb_input_stats_add(dsb_input_stats *s, const dsb_backend *be, const float *x, int64_t n);
void dsb_input_stats_release(dsb_input_stats *s);

/* Σ over tokens of ‖(w − v) x‖², rows of w and v (rows, cols) on the host, v NULL: zeros; scratch-free, the same for any number of threads. */
double dsb_input_loss(const dsb_input_stats *s, const float *w, const float *v, int64_t rows);

#endif
