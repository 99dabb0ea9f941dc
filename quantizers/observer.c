#include "quantizers/observer.h"

#include <math.h>

#include "kernels/backend.h"

void dsb_range_observer_add(dsb_range_observer *o, float absmax, int64_t n) {
    if (!isfinite(absmax)) o->nonfinite = true;
    else if (absmax > o->absmax) o->absmax = absmax;
    o->n_token += n;
}

/* The code of a magnitude: a step's number, or an E4M3 code; both rise with it. */
static int code_of(double v, double scale, int qmax) {
    double q = v / scale;
    if (qmax == 448) return dsb_f32_to_e4m3((float)q);
    return q >= qmax ? qmax : (int)nearbyint(q);
}

static double value_of(int code, double scale, int qmax) { return scale * (qmax == 448 ? (double)dsb_e4m3_to_f32((uint8_t)code) : (double)code); }

static double middle(int i) { return i == 0 ? 0 : 0.5 * ((double)dsb_bin_edge(i) + (double)dsb_bin_edge(i + 1)); }
static double width(int i) { return (double)dsb_bin_edge(i + 1) - (double)dsb_bin_edge(i); }

/* Mean squared error of a bin's values: at four points of it, or of a step where many lie in it. */
static double bin_error(int i, double range, int qmax) {
    double scale = range / qmax, sum = 0;
    if (qmax != 448 && (double)dsb_bin_edge(i + 1) <= range && scale < width(i) / 4) return scale * scale / 12;
    for (int k = 0; k < 4; k++) {
        double v = i == 0 ? 0 : (double)dsb_bin_edge(i) + width(i) * (k + 0.5) / 4, e = v - value_of(code_of(v, scale, qmax), scale, qmax);
        sum += e * e / 4;
    }
    return sum;
}

static double square_error(const uint64_t *bins, double range, int qmax) {
    double sum = 0;
    for (int i = 0; i < DSB_BINS; i++)
        if (bins[i]) sum += (double)bins[i] * bin_error(i, range, qmax);
    return sum;
}

/* KL(seen, clipped to the range ‖ quantized), exact zeros and what is almost one left out: a code's mass spreads over the bins it came from in proportion to their width. What was
 * clipped stands at the range's end in the one and nowhere in the other. */
static double divergence(const uint64_t *bins, double range, int qmax) {
    enum { CODES = 512 };
    double mass[CODES] = {0}, room[CODES] = {0}, inside = 0, all = 0, sum = 0;
    int last = 0; /* the highest bin inside: none, and the sum stays 0, where all is zeros */
    for (int i = 1; i < DSB_BINS; i++) {
        all += (double)bins[i];
        if (!bins[i] || (double)dsb_bin_edge(i) >= range) continue;
        int c = code_of(middle(i), range / qmax, qmax);
        mass[c] += (double)bins[i];
        room[c] += width(i);
        inside += (double)bins[i];
        last = i;
    }
    for (int i = 1; i <= last; i++) {
        if (!bins[i]) continue;
        int c = code_of(middle(i), range / qmax, qmax);
        double p = ((double)bins[i] + (i == last ? all - inside : 0)) / all, q = mass[c] * width(i) / room[c] / inside;
        sum += p * log(p / q);
    }
    return sum;
}

static double least(const dsb_range_observer *o, int qmax, double (*cost)(const uint64_t *bins, double range, int qmax)) {
    double range = (double)o->absmax, best = cost(o->bins, range, qmax);
    for (int i = DSB_BINS - 1; i > 0 && (double)dsb_bin_edge(i) > (double)o->absmax / 128; i--) {
        double edge = (double)dsb_bin_edge(i), c;
        if (edge >= (double)o->absmax) continue;
        c = cost(o->bins, edge, qmax);
        if (c < best) {
            best = c;
            range = edge;
        }
    }
    return range;
}

double dsb_calibrated_range(const dsb_range_observer *o, dsb_calibrator how, double percentile, int qmax) {
    double all = 0, below = 0;
    if (!o->bins || how == DSB_CAL_MINMAX || !(o->absmax > 0)) return (double)o->absmax;
    if (how == DSB_CAL_MSE) return least(o, qmax, square_error);
    if (how == DSB_CAL_KL) return least(o, qmax, divergence);
    for (int i = 0; i < DSB_BINS; i++) all += (double)o->bins[i];
    for (int i = 0; i < DSB_BINS; i++) {
        below += (double)o->bins[i];
        if (below >= all * percentile / 100) return fmin((double)dsb_bin_edge(i + 1), (double)o->absmax);
    }
    return (double)o->absmax;
}

bool dsb_calibrated_scale(const dsb_range_observer *o, dsb_calibrator how, double percentile, int qmax, double margin, float *scale) {
    *scale = 0;
    if (o->n_token == 0 || o->nonfinite) return false;
    float s = (float)(dsb_calibrated_range(o, how, percentile, qmax) * margin) / (float)qmax;
    if (!(s > 0) || !isfinite(s)) return false;
    *scale = s;
    return true;
}

bool dsb_static_scale(const dsb_range_observer *o, int qmax, double margin, float *scale) { return dsb_calibrated_scale(o, DSB_CAL_MINMAX, 100, qmax, margin, scale); }
