/* A device's sensors over some time: means of what they said at single moments, and the energy between begin and end. NAN where there are none (a CPU). */
#ifndef DSB_HARNESS_SENSORS_H
#define DSB_HARNESS_SENSORS_H

#include "kernels/backend.h"

typedef struct dsb_sensors {
    int64_t n, used_bytes; /* moments; the most memory in use at one, -1: not known */
    double sm_mhz, power_w, temperature_c, energy_j; /* sums over moments, but energy, until dsb_sensors_mean */
    double from_j;
} dsb_sensors;
void dsb_sensors_init(dsb_sensors *s);
void dsb_sensors_begin(dsb_sensors *s, const dsb_backend *be);
/* While the device computes, best. */
void dsb_sensors_look(dsb_sensors *s, const dsb_backend *be);
void dsb_sensors_end(dsb_sensors *s, const dsb_backend *be);
/* calls: that the energy was of. */
dsb_sensors dsb_sensors_mean(const dsb_sensors *s, double calls);

#endif
