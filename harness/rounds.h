/* Two builds timed in turns on this machine: base, head, head, base, … so that what slows the machine down slows both. Each round is a process of its own:
 * `BUILD bench` on the suite's model, its presets and its workload. */
#ifndef DSB_HARNESS_ROUNDS_H
#define DSB_HARNESS_ROUNDS_H

#include "harness/suite.h"

typedef struct dsb_rounds_series {
    const char *scheme, *phase; /* prefill, decode */
    double *base, *head;        /* (n) tokens/s of each round */
} dsb_rounds_series;

typedef struct dsb_rounds {
    dsb_rounds_series *series; /* (n_series), in the arena */
    int64_t n_series, n;
} dsb_rounds;

/* dir: where both keep their own database of speeds. DSB_EINPUT: a build can't be run, fails, or prints no rows of `bench --json`; DSB_EUSAGE: the suite has no
 * preset that both could be asked for. */
dsb_status dsb_rounds_run(const char *base_build, const dsb_suite *suite, int64_t n, const char *dir, dsb_arena *arena, dsb_rounds *out, dsb_err *err);

#endif
