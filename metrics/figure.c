#include "metrics/figure.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "metrics/metric_table.h"

static double clamp(double x, double min, double max) {
    return x < min ? min : x > max ? max : x; /* NaN passes */
}

void dsb_figures_put(dsb_figures *list, const char *metric, double value, double lo, double hi, int64_t n) {
    const dsb_metric *m = dsb_metric_find(metric);
    assert(m && list->n < DSB_FIGURES_MAX);
    dsb_figure *f = &list->item[list->n++];
    snprintf(f->metric, sizeof f->metric, "%s", metric);
    f->value = value;
    f->lo = clamp(lo, m->min, m->max);
    f->hi = clamp(hi, m->min, m->max);
    f->n = n;
    f->unit = m->unit;
}

const dsb_figure *dsb_figures_find(const dsb_figures *list, const char *metric) {
    for (int i = 0; i < list->n; i++)
        if (!strcmp(list->item[i].metric, metric)) return &list->item[i];
    return NULL;
}
