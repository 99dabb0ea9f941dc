/* Times something that runs again and again, by the host's clock or by the device's own. */
#ifndef DSB_HARNESS_BENCH_TIMING_H
#define DSB_HARNESS_BENCH_TIMING_H

#include "harness/sensors.h"

typedef struct dsb_timed {
    const dsb_backend *be;
    void *ctx;
    void (*start)(void *ctx, int64_t turn); /* a device may still be at it when this returns */
} dsb_timed;
/* Seconds of one call in each of `repeats`, ascending, after a warm-up that tells how many calls a repeat wants. turn: 0, 1, … *sensors: means, energy of a call. */
void dsb_timed_run(const dsb_timed *t, int64_t repeats, double *seconds, dsb_sensors *sensors);

#endif
