/* Command lines as tables: options, values checked against their range, `--help` written from the same rows.
 * Every command takes --help, --json (some --csv), --db, --threads, --device, --isa and --quiet beside its own rows. */
#ifndef DSB_HARNESS_OPTIONS_H
#define DSB_HARNESS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

enum { DSB_OPT_LIST_MAX = 64 };
typedef struct dsb_opt_list {
    int n;
    const char *item[DSB_OPT_LIST_MAX]; /* borrowed from argv */
} dsb_opt_list;

/* What `to` points at: bool, const char *, int64_t, double, dsb_opt_list (the option may be repeated). */
typedef enum dsb_opt_kind { DSB_OPT_FLAG, DSB_OPT_STRING, DSB_OPT_INT, DSB_OPT_REAL, DSB_OPT_LIST } dsb_opt_kind;

typedef struct dsb_option {
    const char *name; /* "context", for --context N and --context=N */
    char short_name;  /* 'o' for -o FILE, or 0 */
    dsb_opt_kind kind;
    void *to;
    const char *metavar, *help;
    double min, max; /* of INT and REAL, both inclusive; both 0: any */
} dsb_option;

typedef struct dsb_usage {
    const char *command, *args, *what; /* "compare", "BASE HEAD", one line or more of help */
    int min_args, max_args;
    const dsb_option *options;
    int n_option;
    const char *more; /* after the options: examples; or NULL */
    bool csv;         /* takes --csv too */
} dsb_usage;
#define DSB_OPTIONS(rows) (rows), (int)(sizeof(rows) / sizeof *(rows))

typedef struct dsb_parsed {
    const char *db;     /* "dsbench.db" unless --db */
    int64_t threads;    /* 0: as many as the machine has; already given to OpenMP otherwise */
    bool json, csv, quiet; /* not both of the first two */
    bool help;          /* help was printed: return 0 */
    const char **arg;   /* positional arguments, borrowed from argv */
    int n_arg;
} dsb_parsed;

/* What `dsbench man` and `dsbench completion` are written from: while a visitor is set, dsb_options_parse() gives it the command's usage, whose own
 * rows come first (n_own of n), and reports that help was printed, so that the command does nothing. NULL: back to work. */
typedef void dsb_usage_visit(void *ctx, const dsb_usage *usage, const dsb_option *rows, int n_own, int n);
void dsb_options_visit(dsb_usage_visit *visit, void *ctx);

/* Reads argv[1..] (argv is reordered). DSB_EUSAGE or DSB_EUNSUPPORTED with one line that names the option, found and wanted. */
dsb_status dsb_options_parse(const dsb_usage *usage, int argc, char **argv, dsb_parsed *out, dsb_err *err);
/* DSB_EUSAGE where the CPU has no such level of kernels, with one line that names the levels here; `from`: what asked for it. */
dsb_status dsb_isa_check(const char *from, const char *isa, dsb_err *err);
/* Prints "dsbench: <text>" on stderr and returns the exit code; for a command's last line. */
int dsb_command_fail(const dsb_err *err);
/* The command line as typed, in the arena; before dsb_options_parse, which reorders argv. */
const char *dsb_command_line(dsb_arena *arena, int argc, char **argv);
/* The name nearest to `name` by edits, or NULL if none is near enough to suggest. */
const char *dsb_name_nearest(const char *name, const char *const *names, int n);

#endif
