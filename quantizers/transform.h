/* What a weight and its input go through before quantizing, exact in full precision: W·x = (W·diag(1/t))·(diag(t)·x) = (W·H)·(H·x).
 * smooth: t_j = max|W_j|^(1-alpha) / max|x_j|^alpha (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438). hadamard: H is block-diagonal,
 * symmetric and orthonormal, its blocks the largest power of two that divides the input (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456). */
#ifndef DSB_QUANTIZERS_TRANSFORM_H
#define DSB_QUANTIZERS_TRANSFORM_H

#include "quantizers/input_stats.h"

typedef enum dsb_transform { DSB_TRANSFORM_NONE, DSB_TRANSFORM_SMOOTH, DSB_TRANSFORM_HADAMARD, DSB_TRANSFORM_COUNT } dsb_transform;
typedef struct dsb_transform_row {
    const char *name, *what;
    int needs; /* of calibration */
} dsb_transform_row;
int dsb_transform_list(const dsb_transform_row **rows); /* indexed by dsb_transform */

/* What one linear's input goes through: times in_scale, then rotated. Zeros change nothing. */
typedef struct dsb_input_transform {
    float *in_scale;  /* (cols), owned; NULL: none */
    int64_t rotation; /* size of H's blocks; 0: none */
    float absmax;     /* of the scaled input in calibration; 0 where that isn't known */
} dsb_input_transform;

/* The transform of w (rows, cols); stats may be NULL, smooth changes nothing then. DSB_ENOMEM. */
dsb_status dsb_transform_find(dsb_input_transform *out, dsb_transform how, double alpha, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err);
void dsb_transform_release(dsb_input_transform *t);
bool dsb_transform_changes(const dsb_input_transform *t);
/* Sets absmax by what calibration saw of the input before it is scaled. */
void dsb_transform_see(dsb_input_transform *t, const dsb_input_stats *stats);
/* to (rows, cols) = the weight that reads the transformed input; undo: the weight that reads the input as it was, in place. */
void dsb_transform_weight(const dsb_input_transform *t, const float *w, int64_t rows, int64_t cols, float *to);
void dsb_transform_undo(const dsb_input_transform *t, int64_t rows, int64_t cols, float *w);
/* Statistics of the transformed input. Exact but for the rotation of channel sums: Σx² comes of the products where they are counted,
 * else is 0 (dsb_rule_needs asks for them); Σ|x| and absmax are their upper bounds √(n·Σx²) and √Σx². out is released as any. DSB_ENOMEM. */
dsb_status dsb_transform_stats(const dsb_input_transform *t, const dsb_input_stats *in, dsb_input_stats *out, dsb_err *err);

#endif
