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

/* The histogram in even bins up to top: a bin's counts spread over those it covers. What is nearly 0 weighs no more than its neighbours. */
enum { EVEN = 2048, EVEN_STEP = 16 };
static void even_bins(const uint64_t *bins, double top, double even[EVEN]) {
    double each = top / EVEN;
    for (int i = 0; i < EVEN; i++) even[i] = 0;
    for (int b = 1; b < DSB_BINS; b++) {
        double lo = (double)dsb_bin_edge(b), hi = fmin((double)dsb_bin_edge(b + 1), top), w = hi - lo;
        if (bins[b] && !(w > 0)) even[EVEN - 1] += (double)bins[b];
        for (int i = (int)(lo / each); bins[b] && w > 0 && i < EVEN && i * each < hi; i++) {
            double share = fmin(hi, (i + 1) * each) - fmax(lo, i * each);
            if (share > 0) even[i] += (double)bins[b] * share / w;
        }
    }
    even[0] = even[1];
}

/* KL(seen, clipped to the first n bins ‖ quantized): a code's mass spreads over those of its bins that hold something. What was clipped
 * stands in the last bin in the one and nowhere in the other. */
static double divergence(const double even[EVEN], int n, double each, int qmax) {
    enum { CODES = 512 };
    double mass[CODES] = {0}, filled[CODES] = {0}, inside = 0, all = 0, sum = 0;
    for (int i = 0; i < EVEN; i++) all += even[i];
    for (int i = 0; i < n; i++) {
        int c = code_of((i + 0.5) * each, n * each / qmax, qmax);
        mass[c] += even[i];
        filled[c] += even[i] > 0;
        inside += even[i];
    }
    for (int i = 0; i < n; i++) {
        int c = code_of((i + 0.5) * each, n * each / qmax, qmax);
        double p = (even[i] + (i == n - 1 ? all - inside : 0)) / all, q = even[i] > 0 ? mass[c] / filled[c] / inside : 0;
        if (p > 0) sum += p * log(p / fmax(q, 1e-12));
    }
    return sum;
}

static double least_divergence(const dsb_range_observer *o, int qmax) {
    double even[EVEN], each = (double)o->absmax / EVEN, best = INFINITY, range = (double)o->absmax;
    even_bins(o->bins, (double)o->absmax, even);
    for (int n = EVEN; n >= 128; n -= EVEN_STEP) {
        double d = divergence(even, n, each, qmax);
        if (!(d < best)) continue;
        best = d;
        range = n * each;
    }
    return range;
}

static double least_square(const dsb_range_observer *o, int qmax) {
    double range = (double)o->absmax, best = square_error(o->bins, range, qmax);
    for (int i = DSB_BINS - 1; i > 0 && (double)dsb_bin_edge(i) > (double)o->absmax / 128; i--) {
        double edge = (double)dsb_bin_edge(i), c;
        if (edge >= (double)o->absmax) continue;
        c = square_error(o->bins, edge, qmax);
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
    if (how == DSB_CAL_MSE) return least_square(o, qmax);
    if (how == DSB_CAL_KL) return least_divergence(o, qmax);
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
