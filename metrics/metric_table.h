/* Every metric by name: unit, direction, legal range, formula. `dsbench list metrics` prints it. */
#ifndef DSB_METRICS_METRIC_TABLE_H
#define DSB_METRICS_METRIC_TABLE_H

typedef enum dsb_better { DSB_BETTER_NONE, DSB_BETTER_LOWER, DSB_BETTER_HIGHER } dsb_better;

typedef struct dsb_metric {
    const char *name, *unit;
    dsb_better better;
    double min, max;  /* a value can't lie outside; ±INFINITY where unbounded */
    const char *what; /* one line, the formula first */
} dsb_metric;

/* The table in reading order; returns its length. */
int dsb_metric_list(const dsb_metric **rows);
/* NULL if there is no such metric. */
const dsb_metric *dsb_metric_find(const char *name);
/* "lower", "higher", "-". */
const char *dsb_better_name(dsb_better better);

#endif
