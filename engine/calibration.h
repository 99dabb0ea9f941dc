/* What calibration saw: ranges of every linear's input on the reference's stream, and how busy each expert was. Small. */
#ifndef DSB_ENGINE_CALIBRATION_H
#define DSB_ENGINE_CALIBRATION_H

#include "engine/model.h"

/* Which tokens an expert's ranges and statistics rest on: those routed to it; or, where a suite asks for a minimum and these are fewer,
 * also those whose router score for it is the largest of all that did not choose it, or all tokens, or none (rtn, dynamic scales). */
typedef enum dsb_cover { DSB_COVER_ROUTED, DSB_COVER_NEXT_BEST, DSB_COVER_ALL, DSB_COVER_NONE } dsb_cover;
const char *dsb_cover_name(dsb_cover cover); /* of what stands in: NULL, "next-best", "all-tokens", "rtn" */
typedef enum dsb_starved { DSB_STARVED_RTN, DSB_STARVED_ALL_TOKENS, DSB_STARVED_ERROR } dsb_starved;
typedef struct dsb_cover_policy {
    int64_t min_tokens;  /* an expert below it is starved; 0: none is */
    bool balance;        /* tokens of the next-best routing top it up first */
    bool all;            /* all tokens through all experts, whatever the router says */
    dsb_starved starved; /* what stands in then */
} dsb_cover_policy;

typedef struct dsb_layer_calibration {
    dsb_range_observer role[DSB_ROLE_COUNT]; /* all linears but the experts' */
    dsb_range_observer *expert;              /* (n_expert, 3): gate, up, down */
    double *activity;                     /* (n_expert): Σ gate weight of routed calibration tokens */
    double *mean_abs;                     /* (n_expert): mean |W| of its three matrices; zeros unless a recipe asks or no scheme ran */
    double *sensitivity;                  /* (n_expert): Σ over routed calibration tokens of (gate weight)² · ‖output − output at INT4 (32)‖²; where a recipe asks */
    bool sensitivity_known;
    int64_t *routed, *seen;               /* (n_expert): calibration tokens that the router sends to it, and that its statistics rest on */
    dsb_cover *cover;                     /* (n_expert) */
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
