/* One run from suite to summary: inputs checked, the run's row committed, the sweep, the speeds, the pictures. */
#ifndef DSB_HARNESS_RUN_H
#define DSB_HARNESS_RUN_H

#include "db/db.h"
#include "harness/suite.h"

typedef struct dsb_run_request {
    const dsb_suite *suite;
    const char *db, *out, *run_id; /* out, run_id may be NULL */
    const char *command_line;
    const dsb_run_record *stored;  /* the row of a run that is made again from the same inputs; NULL: a new run */
    bool json, quiet, profile; /* profile: what the sweep takes of device and host, on stderr; slows it down */
    bool unshown; /* no summary is printed, nothing is written to `out` */
    int64_t threads;
    int64_t memory; /* bytes that the program may take; 0: what is available, less a margin */
} dsb_run_request;

/* Bad input leaves the database untouched. Prints the summary on stdout. DSB_ENONFINITE: done and stored, but a figure is NaN or Inf. */
dsb_status dsb_run_execute(const dsb_run_request *q, dsb_arena *arena, dsb_err *err);
/* The summary of a stored run on stdout; out (may be NULL) receives report and plots. */
dsb_status dsb_run_show(const char *db, const char *run_id, const char *out, bool json, bool quiet, dsb_err *err);

#endif
