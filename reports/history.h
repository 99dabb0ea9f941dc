/* A suite's runs over time: what the trend shows, and from which night and build on a figure is another.
 * Quality of a deterministic engine: consecutive nights are judged over their chunks (metrics/judge.h), equal bits are no step. Speed is noisy: change
 * points by ranks (metrics/change_point.h), of one host alone. */
#ifndef DSB_REPORTS_HISTORY_H
#define DSB_REPORTS_HISTORY_H

#include "metrics/judge.h"
#include "reports/run_data.h"
#include "reports/tolerance.h"

enum { DSB_HISTORY_NIGHTS = 90 };

typedef struct dsb_night {
    dsb_run_data data; /* run, schemes, quality, chunks, speed; nothing else */
    bool same_host;    /* as the last night */
} dsb_night;

typedef struct dsb_step {
    int64_t night; /* the first of the new level */
    const char *scheme, *metric;
    double before, after;
    bool worse;
} dsb_step;

typedef struct dsb_history {
    dsb_night *nights; /* oldest first; the last is the run asked for */
    dsb_step *steps;   /* by night */
    int64_t n, n_step;
} dsb_history;

/* "name" of the run's stored suite; "" where there is none. In the arena. */
const char *dsb_run_suite_name(const dsb_run_record *run, dsb_arena *arena);
/* The run and the newest finished runs before it of the same suite that are comparable with it. */
dsb_status dsb_history_load(dsb_db *db, dsb_arena *arena, const char *run_id, const dsb_tolerances *tolerances, dsb_history *out, dsb_err *err);
/* Figures that the trend shows: gating metrics, then speeds. NULL behind the last. */
extern const char *const dsb_trend_metrics[];
/* The figure of a night with its interval (NAN where there is none); speeds: median with the range of repeats. */
dsb_quality dsb_night_figure(const dsb_night *night, const char *scheme, const char *metric);
/* "night 5, build …: kld_mean of int8 0.001 → 0.4, worse". In the arena. */
const char *dsb_step_text(const dsb_history *h, const dsb_step *s, dsb_arena *arena);

#endif
