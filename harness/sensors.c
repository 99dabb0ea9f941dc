#include "harness/sensors.h"

#include <math.h>

void dsb_sensors_init(dsb_sensors *s) { *s = (dsb_sensors){.used_bytes = -1}; }

void dsb_sensors_begin(dsb_sensors *s, const dsb_backend *be) {
    dsb_device_facts f;
    if (!be->facts) return;
    be->facts(&f);
    s->from_j = f.energy_j;
}

void dsb_sensors_look(dsb_sensors *s, const dsb_backend *be) {
    dsb_device_facts f;
    if (!be->facts) return;
    be->facts(&f);
    s->n++;
    s->sm_mhz += f.sm_mhz;
    s->power_w += f.power_w;
    s->temperature_c += f.temperature_c;
    s->used_bytes = f.used_bytes > s->used_bytes ? f.used_bytes : s->used_bytes;
}

void dsb_sensors_end(dsb_sensors *s, const dsb_backend *be) {
    dsb_device_facts f;
    if (!be->facts) return;
    be->facts(&f);
    s->energy_j += f.energy_j - s->from_j;
}

dsb_sensors dsb_sensors_mean(const dsb_sensors *s, double calls) {
    double n = s->n > 0 ? (double)s->n : NAN;
    return (dsb_sensors){.n = s->n, .used_bytes = s->used_bytes, .sm_mhz = s->sm_mhz / n, .power_w = s->power_w / n, .temperature_c = s->temperature_c / n, .energy_j = s->n > 0 ? s->energy_j / calls : NAN};
}
