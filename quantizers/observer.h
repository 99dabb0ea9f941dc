/* Calibration: what was seen of one linear's input, and the static scale that comes of it. Maxima and counts don't depend on the order. */
#ifndef DSB_QUANTIZERS_OBSERVER_H
#define DSB_QUANTIZERS_OBSERVER_H

#include <stdbool.h>
#include <stdint.h>

/* How a static scale comes from what was seen: the largest magnitude; the one that so many percent don't pass; the range of least
 * squared error; the range whose quantized histogram is nearest to the one seen, by KL divergence. */
typedef enum dsb_calibrator { DSB_CAL_MINMAX, DSB_CAL_PERCENTILE, DSB_CAL_MSE, DSB_CAL_KL, DSB_CALIBRATOR_COUNT } dsb_calibrator;
const char *dsb_calibrator_name(dsb_calibrator c);
int dsb_calibrator_find(const char *name); /* -1: unknown */

/* Zeros are an observer that saw nothing. */
typedef struct dsb_range_observer {
    float absmax;    /* of the finite batches */
    int64_t n_token; /* rows seen; 0: uncovered */
    bool nonfinite;  /* a NaN or Inf was among them */
    uint64_t *bins;  /* (DSB_BINS) magnitudes as the backend's histogram counts them, borrowed; NULL: not counted */
} dsb_range_observer;

/* Adds n rows whose largest magnitude is absmax, as the backend's row of that name gives it. */
void dsb_range_observer_add(dsb_range_observer *o, float absmax, int64_t n);

/* *scale = f32(absmax · margin) / qmax. False, and *scale 0, where the range can't give one: nothing seen, only zeros, or a
 * non-finite value. Use dynamic scales then, and say so. */
bool dsb_static_scale(const dsb_range_observer *o, int qmax, double margin, float *scale);
/* The same over the range that a calibrator gives; without bins that is the largest magnitude. qmax 448 is E4M3, else integers. */
bool dsb_calibrated_scale(const dsb_range_observer *o, dsb_calibrator how, double percentile, int qmax, double margin, float *scale);
/* The range itself. */
double dsb_calibrated_range(const dsb_range_observer *o, dsb_calibrator how, double percentile, int qmax);

#endif
