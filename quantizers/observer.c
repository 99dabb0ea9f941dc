#include "quantizers/observer.h"

#include <math.h>
#include <string.h>

#include "base/format.h"

/* Magnitudes of floats are ordered as their bits are, so the loop is integer arithmetic and vectorizes. */
void dsb_range_observer_add(dsb_range_observer *o, const float *x, int64_t n, int64_t cols) {
    const uint32_t infinite = 0x7f800000u;
    uint32_t top = 0;
    int64_t bad = 0;
    for (int64_t i = 0; i < n * cols; i++) {
        uint32_t u = dsb_f32_bits(x[i]) & 0x7fffffffu;
        uint32_t finite = u < infinite ? u : 0;
        bad += u >= infinite;
        top = finite > top ? finite : top;
    }
    dsb_range_observer seen = {dsb_f32_from_bits(top), n, bad};
    dsb_range_observer_merge(o, &seen);
}

void dsb_range_observer_merge(dsb_range_observer *a, const dsb_range_observer *b) {
    if (b->absmax > a->absmax) a->absmax = b->absmax;
    a->n_token += b->n_token;
    a->n_nonfinite += b->n_nonfinite;
}

/* Rounded to f32 before the division: the engine's scales are f32(absmax · margin) / qmax. */
static float minmax_scale(const dsb_range_observer *o, int qmax, double margin) { return (float)(o->absmax * margin) / (float)qmax; }

static const dsb_calibrator k_calibrator[] = {
    {"minmax", "the largest magnitude seen becomes the largest code", minmax_scale},
};

int dsb_calibrator_list(const dsb_calibrator **rows) {
    *rows = k_calibrator;
    return (int)(sizeof k_calibrator / sizeof *k_calibrator);
}

const dsb_calibrator *dsb_calibrator_find(const char *name) {
    for (size_t i = 0; i < sizeof k_calibrator / sizeof *k_calibrator; i++)
        if (strcmp(k_calibrator[i].name, name) == 0) return &k_calibrator[i];
    return NULL;
}

bool dsb_static_scale(const dsb_calibrator *c, const dsb_range_observer *o, int qmax, double margin, float *scale) {
    *scale = 0;
    if (o->n_token == 0 || o->n_nonfinite > 0) return false;
    float s = c->scale(o, qmax, margin);
    if (!(s > 0) || !isfinite(s)) return false;
    *scale = s;
    return true;
}
