#include "quantizers/observer.h"

#include <math.h>

void dsb_range_observer_add(dsb_range_observer *o, float absmax, int64_t n) {
    if (!isfinite(absmax)) o->nonfinite = true;
    else if (absmax > o->absmax) o->absmax = absmax;
    o->n_token += n;
}

bool dsb_static_scale(const dsb_range_observer *o, int qmax, double margin, float *scale) {
    *scale = 0;
    if (o->n_token == 0 || o->nonfinite) return false;
    float s = (float)((double)o->absmax * margin) / (float)qmax;
    if (!(s > 0) || !isfinite(s)) return false;
    *scale = s;
    return true;
}
