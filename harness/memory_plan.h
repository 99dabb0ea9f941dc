/* How much memory a run may take, what its sweep does with it, and the line that says so before the start. */
#ifndef DSB_HARNESS_MEMORY_PLAN_H
#define DSB_HARNESS_MEMORY_PLAN_H

#include <limits.h>
#include <stdio.h>

#include "engine/sweep.h"

typedef struct dsb_memory_plan {
    int64_t limit;             /* of the whole program, bytes */
    int64_t sweep, program;    /* of that the sweep's, and all else */
    char spill_dir[PATH_MAX];  /* $TMPDIR, else the folder of the output or database */
    dsb_sweep_costs costs;
} dsb_memory_plan;

/* limit 0: nine tenths of what is available. beside: a folder, or (is_file) a file whose folder is meant.
 * DSB_EUSAGE: too small a limit, says the least. DSB_EOUTPUT: the temporary file has no folder that can be written. */
dsb_status dsb_memory_plan_make(dsb_memory_plan *p, const dsb_sweep_plan *plan, int64_t n_scored, int64_t limit, const char *beside, bool is_file, dsb_err *err);
/* One line: bytes to read, memory and what it is for, the temporary file, a rough time. */
void dsb_memory_plan_print(const dsb_memory_plan *p, FILE *to);
/* Bytes of a speed measurement that holds all these schemes at once, with caches of so many tokens, of all sequences together. */
int64_t dsb_memory_of_sessions(const dsb_model *m, const dsb_scheme *schemes, int n_scheme, int64_t tokens);

#endif
