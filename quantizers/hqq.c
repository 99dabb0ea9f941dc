#include "quantizers/hqq.h"

#include <math.h>
#include <stdbool.h>

#include "quantizers/codec.h"
#include "quantizers/dot.h"

enum { STEPS = 20, PIECE = 256 };
static const double k_p = 0.7, k_beta = 10;

/* What the shrinkage of l_p keeps of an error: |e| − |e|^(p−1)/β, or nothing. */
static float shrunk(float e) {
    double a = fabs((double)e), kept = a - pow(a, k_p - 1) / k_beta;
    return kept > 0 ? copysignf((float)kept, e) : 0;
}

/* One step from `zero`: the mean |error| that it leaves, and the next. Few errors, if any, are so large that something of them is kept. */
DSB_CLONES static double step(const float *w, int64_t n, float scale, float zero, int top, float *next) {
    float inverse = 1.0f / scale, large = (float)pow(k_beta, -1 / (2 - k_p)), most = (float)top, e[PIECE], a[PIECE], z[PIECE];
    double error = 0, sum = 0;
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t size = n - at < PIECE ? n - at : PIECE;
        bool any = false;
        for (int64_t i = 0; i < size; i++) {
            float v = w[at + i] * inverse, q = dsb_round_even(v + zero);
            q = q < 0 ? 0 : q > most ? most : q;
            e[i] = w[at + i] - (q - zero) * scale;
            a[i] = fabsf(e[i]);
            z[i] = q - v;
            any |= a[i] > large;
        }
        for (int64_t i = 0; any && i < size; i++)
            if (a[i] > large) z[i] += shrunk(e[i]) * inverse;
        error += dsb_sum_f(a, size);
        sum += dsb_sum_f(z, size);
    }
    *next = (float)(sum / (double)n);
    return error / (double)n;
}

float dsb_hqq_zero(const float *w, int64_t n, float scale, float zero, int top) {
    double best = INFINITY;
    for (int k = 0; k < STEPS; k++) {
        float next;
        double error = step(w, n, scale, zero, top, &next);
        if (!isfinite(next)) break; /* the largest numbers there are */
        zero = next;
        if (!(error < best)) break;
        best = error;
    }
    return zero;
}
