/* Calibration: what was seen of one linear's input, and the static scale that comes of it. Maxima and counts don't depend on the order. */
#ifndef DSB_QUANTIZERS_OBSERVER_H
#define DSB_QUANTIZERS_OBSERVER_H

#include <stdbool.h>
#include <stdint.h>

/* Zeros are an observer that saw nothing. */
typedef struct dsb_range_observer {
    float absmax;    /* of the finite batches */
    int64_t n_token; /* rows seen; 0: uncovered */
    bool nonfinite;  /* a NaN or Inf was among them */
} dsb_range_observer;

/* Adds n rows whose largest magnitude is absmax, as the backend's row of that name gives it. */
void dsb_range_observer_add(dsb_range_observer *o, float absmax, int64_t n);

/* *scale = f32(absmax · margin) / qmax. False, and *scale 0, where the range can't give one: nothing seen, only zeros, or a
 * non-finite value. Use dynamic scales then, and say so. */
bool dsb_static_scale(const dsb_range_observer *o, int qmax, double margin, float *scale);

#endif
