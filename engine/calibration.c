#include "engine/calibration.h"

#include <stdlib.h>

const char *dsb_cover_name(dsb_cover cover) {
    static const char *const k_name[] = {NULL, "next-best", "all-tokens", "rtn"};
    return k_name[cover];
}

dsb_status dsb_calibration_init(dsb_calibration *c, const dsb_config *config, dsb_err *err) {
    *c = (dsb_calibration){.n_layer = config->n_layer, .n_expert = config->n_expert};
    DSB_TRY(DSB_NEW(c->layers, c->n_layer, "calibration", err));
    for (int64_t l = 0; l < c->n_layer; l++) {
        dsb_layer_calibration *x = &c->layers[l];
        DSB_TRY(DSB_NEW(x->expert, c->n_expert * 3, "calibration", err));
        DSB_TRY(DSB_NEW(x->activity, c->n_expert, "calibration", err));
        DSB_TRY(DSB_NEW(x->mean_abs, c->n_expert, "calibration", err));
        DSB_TRY(DSB_NEW(x->sensitivity, c->n_expert, "calibration", err));
        DSB_TRY(DSB_NEW(x->routed, c->n_expert, "calibration", err));
        DSB_TRY(DSB_NEW(x->seen, c->n_expert, "calibration", err));
        DSB_TRY(DSB_NEW(x->cover, c->n_expert, "calibration", err));
        DSB_TRY(DSB_NEW(x->activity_rank, c->n_expert, "calibration", err));
        DSB_TRY(DSB_NEW(x->mean_abs_rank, c->n_expert, "calibration", err));
    }
    return DSB_OK;
}

dsb_status dsb_calibration_count(dsb_calibration *c, dsb_err *err) {
    int64_t n = DSB_ROLE_COUNT + c->n_expert * 3;
    for (int64_t l = 0; l < c->n_layer; l++) {
        dsb_layer_calibration *x = &c->layers[l];
        if (x->bins) continue;
        DSB_TRY(DSB_NEW(x->bins, n * DSB_BINS, "calibration histograms", err));
        for (int64_t i = 0; i < n; i++) (i < DSB_ROLE_COUNT ? &x->role[i] : &x->expert[i - DSB_ROLE_COUNT])->bins = x->bins + i * DSB_BINS;
    }
    return DSB_OK;
}

void dsb_calibration_release(dsb_calibration *c) {
    for (int64_t l = 0; c->layers && l < c->n_layer; l++) {
        free(c->layers[l].expert);
        free(c->layers[l].bins);
        free(c->layers[l].activity);
        free(c->layers[l].mean_abs);
        free(c->layers[l].sensitivity);
        free(c->layers[l].routed);
        free(c->layers[l].seen);
        free(c->layers[l].cover);
        free(c->layers[l].activity_rank);
        free(c->layers[l].mean_abs_rank);
    }
    free(c->layers);
    *c = (dsb_calibration){0};
}

void dsb_range_observe(const dsb_backend *be, dsb_range_observer *r, const float *x, int64_t n, int64_t cols) {
    dsb_range_observer_add(r, be->absmax(x, n * cols), n);
    if (r->bins) be->histogram(x, n * cols, r->bins);
}

void dsb_rank(const double *value, int64_t n, double *rank) {
    for (int64_t i = 0; i < n; i++) {
        int64_t below = 0;
        for (int64_t j = 0; j < n; j++) below += value[j] < value[i];
        rank[i] = (double)below / (double)n;
    }
}

const dsb_range_observer *dsb_calibration_range(const dsb_calibration *c, const dsb_linear_spec *spec) {
    if (!c || spec->layer < 0) return NULL;
    const dsb_layer_calibration *l = &c->layers[spec->layer];
    if (spec->expert >= 0 && l->cover[spec->expert] == DSB_COVER_NONE) return NULL;
    return spec->expert >= 0 ? &l->expert[spec->expert * 3 + (spec->role - DSB_ROLE_EXPERT_GATE)] : &l->role[spec->role];
}

/* How many of the layer's experts have a larger figure; the lower index goes before where two are equal. */
static int64_t place(const double *value, int64_t n, int64_t e) {
    int64_t before = 0;
    for (int64_t i = 0; i < n; i++) before += value[i] > value[e] || (value[i] == value[e] && i < e);
    return before;
}

dsb_expert_facts dsb_calibration_facts(const dsb_calibration *c, const dsb_linear_spec *spec) {
    dsb_expert_facts f = {.is_expert = spec->expert >= 0};
    if (!c || !f.is_expert) return f;
    const dsb_layer_calibration *l = &c->layers[spec->layer];
    f.activity_known = l->activity_known;
    f.activity_rank = l->activity_rank[spec->expert];
    f.mean_abs = l->mean_abs[spec->expert];
    f.mean_abs_rank = l->mean_abs_rank[spec->expert];
    f.expert = spec->expert;
    f.n_expert = c->n_expert;
    bool down = spec->role == DSB_ROLE_EXPERT_DOWN;
    f.d_ff = down ? spec->cols : spec->rows;
    f.d_model = down ? spec->rows : spec->cols;
    f.place[DSB_BY_ACTIVITY] = place(l->activity, c->n_expert, spec->expert);
    f.place[DSB_BY_SENSITIVITY] = place(l->sensitivity, c->n_expert, spec->expert);
    f.place[DSB_BY_MEAN_ABS] = place(l->mean_abs, c->n_expert, spec->expert);
    return f;
}
