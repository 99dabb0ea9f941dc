/* A scheme whose residual stream is rotated ("rotate": "hadamard" in its recipe): it carries x·H where the model carries x, H symmetric and
 * orthonormal in blocks of the largest power of two that divides d_model. A norm's weight g goes into the linears that read it, so that what
 * is left of the norm commutes with H: readers hold W·diag(g)·H, writers H·W and H·bias, the embedding rows e·H. Exact in full precision.
 * Source: QuaRot, Ashkboos et al. 2024, arXiv 2404.00456; SpinQuant's R1, Liu et al. 2024, arXiv 2405.16406. */
#ifndef DSB_ENGINE_ROTATE_H
#define DSB_ENGINE_ROTATE_H

#include "engine/model.h"
#include "quantizers/transform.h"

/* Size of H's blocks for this scheme's stream; 0: it is not rotated. */
int64_t dsb_scheme_rotation(const dsb_scheme *s, const dsb_config *c);
/* DSB_EINPUT: the recipe wants a rotation that this model does not allow, and why. */
dsb_status dsb_rotation_check(const dsb_recipe *recipe, const dsb_config *c, dsb_err *err);

/* What a rotated stream makes of one linear; zeros change nothing. */
typedef struct dsb_rotation {
    int64_t block;
    bool writes;        /* its rows are the stream's, or else its columns */
    float *norm;        /* (cols) of what it reads, owned */
    dsb_input_transform in; /* what statistics of the model's own normed stream go through: 1/norm, then H; owned */
} dsb_rotation;
dsb_status dsb_rotation_find(dsb_rotation *r, const dsb_model *m, const dsb_scheme *s, const dsb_linear_spec *spec, dsb_err *err);
void dsb_rotation_release(dsb_rotation *r);
/* to = the weight (rows, cols) beside a rotated stream; undo: in place, back. Columns of a norm weight of 0 can't be told and become w's. Host memory. */
void dsb_rotation_apply(const dsb_rotation *r, const float *w, int64_t rows, int64_t cols, float *to);
void dsb_rotation_undo(const dsb_rotation *r, const float *w, int64_t rows, int64_t cols, float *turned);

/* x (n, d_model), on the device or the host by be, is rotated in place; twice is back. Nothing where block is 0. */
void dsb_rotate_rows(const dsb_backend *be, int64_t block, float *x, int64_t n, int64_t d);
/* A norm whose weight lies in the linears behind it. */
dsb_status dsb_norm_fold(const dsb_backend *be, float *norm, int64_t n, dsb_err *err);

#endif
