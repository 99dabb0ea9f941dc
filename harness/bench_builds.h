/* Two builds of dsbench in turns: `dsbench bench --base-build BIN`. Each round runs both as programs of their own, base first in one, second in the next;
 * each row's speeds are judged by Mann-Whitney over the rounds (metrics/speed.h), all rows as one family. */
#ifndef DSB_HARNESS_BENCH_BUILDS_H
#define DSB_HARNESS_BENCH_BUILDS_H

#include <stdbool.h>
#include <stdint.h>

#include "metrics/judge.h"
#include "reports/grid.h"

typedef struct dsb_bench_builds {
    const char *base;  /* the other program; NULL: not asked for */
    int64_t rounds;    /* at least DSB_ROUNDS_LEAST */
    double tolerance;  /* share of speed that may be lost */
    int argc;          /* the command as typed, from "bench" on: what both run */
    char **argv;
} dsb_bench_builds;

enum { DSB_BUILD_BASE, DSB_BUILD_HEAD, DSB_BUILDS };
typedef struct dsb_build_row {
    const char *name, *of;    /* format or scheme and phase, or kernel and shape */
    double *tps[DSB_BUILDS];  /* (n) tokens, or calls, a second of each round; in the arena */
    int64_t n[DSB_BUILDS];
    dsb_judgement j;
} dsb_build_row;

/* Runs the rounds and judges the rows, all as one family. DSB_EINPUT: a program can't be run or says something else than rows. */
dsb_status dsb_bench_builds_measure(const dsb_bench_builds *b, bool quiet, dsb_arena *arena, dsb_build_row **rows, int64_t *n, dsb_err *err);
/* The same, and prints the table. DSB_EREGRESSED names the slowest row that regressed. */
dsb_status dsb_bench_builds_run(const dsb_bench_builds *b, dsb_report_format format, bool quiet, dsb_arena *arena, dsb_err *err);

#endif
