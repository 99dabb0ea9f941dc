#include "metrics/choice.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "metrics/stats.h"

#define LEVEL 0.95
enum { SEED = 20250101 };

/* First of the largest values of one item, each over `chars` where that isn't NULL; -1 where one isn't finite. */
static int64_t best(const double *x, const int64_t *chars, int64_t n) {
    int64_t at = -1;
    double max = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = chars ? x[i] / (double)chars[i] : x[i];
        if (!isfinite(v)) return -1;
        if (at < 0 || v > max) max = v, at = i;
    }
    return at;
}

void dsb_choice_answers(const dsb_choice_run *run, const double *loglik, dsb_choice_answer *out) {
    for (int64_t i = 0; i < run->n_item; i++) {
        int64_t first = run->first_choice[i], n = run->first_choice[i + 1] - first;
        const double *x = loglik + first;
        out[i] = (dsb_choice_answer){.sum = best(x, NULL, n), .norm = best(x, run->chars + first, n), .loglik = x[run->gold[i]]};
        double other = -INFINITY;
        for (int64_t c = 0; c < n; c++)
            if (c != run->gold[i] && !(x[c] < other)) other = x[c];
        out[i].margin = out[i].loglik - other;
    }
}

typedef struct work {
    const dsb_choice_run *run;
    dsb_choice_answer *ref, *test; /* (n_item); ref NULL without a reference */
    double *value;                 /* (n_item) */
    dsb_figures *out;
    dsb_err *err;
} work;

/* What an item counts in one figure; NaN where it has no answer. */
typedef double (*item_value)(const work *w, int64_t i, bool norm);

static int64_t answer(const dsb_choice_answer *a, bool norm) { return norm ? a->norm : a->sum; }

static double right_by(const work *w, const dsb_choice_answer *a, int64_t i, bool norm) { return answer(&a[i], norm) < 0 ? NAN : answer(&a[i], norm) == w->run->gold[i]; }
static double right(const work *w, int64_t i, bool norm) { return right_by(w, w->test, i, norm); }
static double gained(const work *w, int64_t i, bool norm) { return right(w, i, norm) - right_by(w, w->ref, i, norm); }
static double changed(const work *w, int64_t i, bool norm) { return isnan(gained(w, i, norm)) ? NAN : answer(&w->ref[i], norm) != answer(&w->test[i], norm); }

static dsb_status put_mean(work *w, bool norm, const char *metric, const char *metric_norm, item_value value) {
    double sum = 0, lo, hi;
    int64_t n = w->run->n_item;
    for (int64_t i = 0; i < n; i++) sum += w->value[i] = value(w, i, norm);
    DSB_TRY(dsb_bootstrap_t(w->value, NULL, n, LEVEL, SEED, &lo, &hi, w->err));
    dsb_figures_put(w->out, norm ? metric_norm : metric, sum / (double)n, lo, hi, n);
    return DSB_OK;
}

static void put_flips(work *w, bool norm) {
    int64_t lost = 0, won = 0;
    for (int64_t i = 0; i < w->run->n_item; i++) {
        lost += gained(w, i, norm) < 0;
        won += gained(w, i, norm) > 0;
    }
    dsb_figures_put(w->out, norm ? "acc_norm_right_to_wrong" : "acc_right_to_wrong", (double)lost, NAN, NAN, w->run->n_item);
    dsb_figures_put(w->out, norm ? "acc_norm_wrong_to_right" : "acc_wrong_to_right", (double)won, NAN, NAN, w->run->n_item);
}

static dsb_status put_figures(work *w, bool norm) {
    DSB_TRY(put_mean(w, norm, "acc", "acc_norm", right));
    if (!w->ref) return DSB_OK;
    DSB_TRY(put_mean(w, norm, "delta_acc", "delta_acc_norm", gained));
    DSB_TRY(put_mean(w, norm, "acc_changed", "acc_norm_changed", changed));
    put_flips(w, norm);
    return DSB_OK;
}

dsb_status dsb_choice_figures(const dsb_choice_run *run, dsb_figures *out, dsb_err *err) {
    work w = {.run = run, .out = out, .err = err};
    out->n = 0;
    if (run->n_item < 1) return dsb_fail(err, DSB_EINPUT, "multiple choice: no item");
    dsb_status s = DSB_NEW(w.value, run->n_item, "answers", err);
    if (!s) s = DSB_NEW(w.test, run->n_item, "answers", err);
    if (!s && run->ref) s = DSB_NEW(w.ref, run->n_item, "answers", err);
    if (!s) dsb_choice_answers(run, run->test, w.test);
    if (!s && run->ref) dsb_choice_answers(run, run->ref, w.ref);
    for (int norm = 0; norm < 2 && !s; norm++) s = put_figures(&w, norm);
    free(w.value);
    free(w.test);
    free(w.ref);
    return s;
}
