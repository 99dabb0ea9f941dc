/* Calibration: what was seen of one tensor's activations, and the static scale that a calibrator makes of it.
 * Ranges of chunks are merged; maxima and counts don't depend on the order. */
#ifndef DSB_QUANTIZERS_OBSERVER_H
#define DSB_QUANTIZERS_OBSERVER_H

#include <stdbool.h>
#include <stdint.h>

/* Zeros are an observer that saw nothing. */
typedef struct dsb_range_observer {
    float absmax;        /* of the finite values */
    int64_t n_token;     /* rows seen; 0: uncovered */
    int64_t n_nonfinite; /* NaN and Inf: counted, kept out of absmax */
} dsb_range_observer;

/* Adds n rows of cols values; host memory, borrowed. */
void dsb_range_observer_add(dsb_range_observer *o, const float *x, int64_t n, int64_t cols);
void dsb_range_observer_merge(dsb_range_observer *a, const dsb_range_observer *b); /* a becomes what both saw */

/* How a range becomes the scale of symmetric codes within ±qmax; margin widens it (1: as it is). */
typedef struct dsb_calibrator {
    const char *name, *what;
    float (*scale)(const dsb_range_observer *o, int qmax, double margin);
} dsb_calibrator;
int dsb_calibrator_list(const dsb_calibrator **rows);
const dsb_calibrator *dsb_calibrator_find(const char *name); /* NULL if unknown */

/* False, and *scale 0, where the range can't give one: nothing seen, only zeros, or a non-finite value. Use dynamic scales then, and say so. */
bool dsb_static_scale(const dsb_calibrator *c, const dsb_range_observer *o, int qmax, double margin, float *scale);

#endif
