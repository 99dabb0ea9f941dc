/* What a comparison bears: per metric, and per scheme, how much worse is still the same. From a JSON file, over defaults that ship as
 * harness/tolerances.json. τ = max(absolute, relative·|base|), in the metric's unit; of speeds a share (0.03: 3 % slower is borne).
 *   { "metrics": { "kld_mean": { "absolute": 0.0001, "relative": 0.05, "gate": true } }, "schemes": { "int4-rtn": { "delta_nll": 0.002 } } }
 * A bare number is the absolute part. What a file doesn't name keeps its default; a scheme's row stands above the metric's. */
#ifndef DSB_REPORTS_TOLERANCE_H
#define DSB_REPORTS_TOLERANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

typedef struct dsb_tolerance {
    double absolute, relative;
    bool gate; /* a regression is an alarm */
} dsb_tolerance;

typedef struct dsb_tolerance_row {
    const char *scheme, *metric;  /* scheme NULL: of all */
    double absolute, relative;    /* NAN: as below it */
    int gate;                     /* -1: as below it */
} dsb_tolerance_row;

/* Rows in the file's order, in the arena. Zeroed: the defaults alone. */
typedef struct dsb_tolerances {
    dsb_tolerance_row *rows;
    int64_t n;
} dsb_tolerances;

/* The whole file is checked: unknown keys and metrics, values below 0 or not finite are DSB_EINPUT with file, key, found and wanted. */
dsb_status dsb_tolerances_load(dsb_tolerances *out, dsb_arena *arena, const char *path, dsb_err *err);
/* t NULL: the defaults. A metric without a default has none, and doesn't gate. */
dsb_tolerance dsb_tolerance_of(const dsb_tolerances *t, const char *scheme, const char *metric);
/* τ beside that base figure. */
double dsb_tolerance_at(const dsb_tolerance *t, double base);

#endif
