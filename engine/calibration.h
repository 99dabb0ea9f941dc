/* What calibration saw: ranges of every linear's input on the reference's stream, and how busy each expert was. Small. */
#ifndef DSB_ENGINE_CALIBRATION_H
#define DSB_ENGINE_CALIBRATION_H

#include "engine/model.h"

typedef struct dsb_layer_calibration {
    dsb_range_observer role[DSB_ROLE_COUNT]; /* all linears but the experts' */
    dsb_range_observer *expert;              /* (n_expert, 3): gate, up, down */
    double *activity;                     /* (n_expert): Σ gate weight of routed calibration tokens */
    double *mean_abs;                     /* (n_expert): mean |W| of its three matrices; zeros unless a recipe asks or no scheme ran */
    double *activity_rank, *mean_abs_rank; /* (n_expert): share of the layer's experts with a smaller figure */
    bool activity_known;
    uint64_t *bins; /* (DSB_ROLE_COUNT + 3 n_expert, DSB_BINS) of all ranges, owned; NULL: not counted */
} dsb_layer_calibration;

typedef struct dsb_calibration {
    int64_t n_layer, n_expert;
    int64_t n_token;                /* of the calibration stream; 0: none was run */
    dsb_layer_calibration *layers;  /* (n_layer) */
} dsb_calibration;

dsb_status dsb_calibration_init(dsb_calibration *c, const dsb_config *config, dsb_err *err);
/* From now on ranges count histograms too. */
dsb_status dsb_calibration_count(dsb_calibration *c, dsb_err *err);
void dsb_calibration_release(dsb_calibration *c);

/* Widens a range by n rows of an input. */
void dsb_range_observe(const dsb_backend *be, dsb_range_observer *r, const float *x, int64_t n, int64_t cols);
/* rank[i] = share of values smaller than value[i]. */
void dsb_rank(const double *value, int64_t n, double *rank);
/* The range and facts a scheme's linear is loaded with; c may be NULL. */
const dsb_range_observer *dsb_calibration_range(const dsb_calibration *c, const dsb_linear_spec *spec);
dsb_expert_facts dsb_calibration_facts(const dsb_calibration *c, const dsb_linear_spec *spec);

#endif
