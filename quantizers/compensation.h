/* Table 5 of a recipe: what wins back a part of the precision that a weight lost, after its codes are chosen. Errors are those of outputs
 * on calibration tokens, with a small part of plain error: the loss of a row e of W − Ŵ is e·(H + λ)·eᵀ, H = Σ xᵀx, λ = damp · mean of H's diagonal.
 * Several of a rule apply in the table's order. Paragraphs with sources: docs/compensation.md. */
#ifndef DSB_QUANTIZERS_COMPENSATION_H
#define DSB_QUANTIZERS_COMPENSATION_H

#include "quantizers/input_stats.h"
#include "quantizers/recipe.h"

enum { DSB_COMP_SCALE = 1, DSB_COMP_SCALE_GRADIENT = 2, DSB_COMP_LOW_RANK = 4, DSB_COMP_BIAS = 8, DSB_COMP_RECALIBRATE = 16, DSB_COMP_ROUTER = 32 };

typedef struct dsb_compensation_row {
    const char *name, *what;
    int bit, needs; /* DSB_COMP_…, DSB_NEED_… */
} dsb_compensation_row;
int dsb_compensation_list(const dsb_compensation_row **rows);
const dsb_compensation_row *dsb_compensation_find(const char *name); /* NULL if unknown */
/* What calibration must see for a set of them. */
int dsb_compensation_needs(int set);

/* What it won and what it costs. */
typedef struct dsb_compensated {
    int done;                        /* DSB_COMP_… that changed something */
    bool starved;                    /* no calibration token: nothing done, or the plain error taken (low-rank) */
    double loss_before, loss_after;  /* Σ‖(W − Ŵ)x‖² / Σ‖Wx‖² of what calibration saw */
    int64_t n_token, changed_before, changed_after; /* router: calibration tokens, and those whose set of experts differs from the reference's */
    size_t bytes;                    /* stored beside the weight */
    double ms;
} dsb_compensated;

/* What follows a product: its output += a·(b·x) + bias. */
typedef struct dsb_correction {
    int64_t rank;
    float *a, *b; /* (rows, rank), (rank, cols), BF16 values; owned; NULL: none */
    float *bias;  /* (rows), owned; NULL: none */
} dsb_correction;
void dsb_correction_release(dsb_correction *c);
/* w (rows, cols) += a·b. */
void dsb_correction_add(const dsb_correction *c, int64_t rows, int64_t cols, float *w);

/* Compensates w (rows, cols), of which q is the quantized form and decoded what it gives; both may change. stats may be NULL. DSB_ENOMEM. */
dsb_status dsb_compensate(const dsb_rule *rule, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_qtensor *q, float *decoded, dsb_correction *out, dsb_compensated *won, dsb_err *err);

/* The parts. Scale of each output channel of least loss, and of each group's by conjugate gradients. */
dsb_status dsb_fit_row_scales(const dsb_input_stats *s, double damp, const float *w, dsb_qtensor *q, float *decoded, dsb_err *err);
dsb_status dsb_fit_group_scales(const dsb_input_stats *s, double damp, const float *w, dsb_qtensor *q, float *decoded, dsb_err *err);
/* a·b of that rank nearest to e (rows, cols) in the loss; stats NULL or of no token: in plain squares. A rank above the smaller side is cut to it. */
dsb_status dsb_fit_low_rank(const dsb_input_stats *s, double damp, const float *e, int64_t rows, int64_t cols, int64_t rank, dsb_correction *out, dsb_err *err);
/* w (rows, cols) += C·(H + λ)⁻¹, C (rows, cols) = Σ over tokens of residual · xᵀ: ridge least squares towards w. DSB_EINPUT: no token. */
dsb_status dsb_fit_residual(const dsb_input_stats *s, double damp, const double *c, int64_t rows, float *w, dsb_err *err);

#endif
