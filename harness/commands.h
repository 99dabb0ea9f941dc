/* The commands. To add one: harness/cmd_NAME.c with dsb_cmd_NAME() and a line here; main.c, man page, completion and the tests read this list.
 * argv[0] is the command's own name; the result is the process's exit code (docs/DESIGN.md §4). */
#ifndef DSB_HARNESS_COMMANDS_H
#define DSB_HARNESS_COMMANDS_H

#include <stdbool.h>

#include "reports/grid.h"

/* name, one line of help */
#define DSB_COMMANDS(X)                                                             \
    X(run, "measure every scheme against the reference: accuracy, routing, speed")  \
    X(compare, "differences between two runs, or two schemes, with verdicts")       \
    X(baseline, "the run that nightly runs of a suite are judged against: set, show, list") \
    X(nightly, "run a suite, judge it against its baseline, write report, JUnit and Markdown") \
    X(layers, "where the error arises: outputs of layers, worst first")             \
    X(tensors, "weights before and after quantization, worst first")                \
    X(routing, "where the router picks other experts, layer by layer")              \
    X(experts, "experts whose output or tokens changed most, worst first")          \
    X(plot, "pictures of a run (svg, png, or in the terminal)")                     \
    X(report, "a run as one self-contained HTML page")                              \
    X(runs, "the runs stored in the database")                                      \
    X(export, "a table or view of the record as CSV")                               \
    X(bench, "speed of a model's formats, or of kernels, beside what this machine can do") \
    X(trace, "dump activations, routing and logits of given tokens")                \
    X(tensor, "quantize and dequantize the tensors of a file")                      \
    X(logits, "figures from two dumps of logits, of any engine")                    \
    X(tokenize, "token ids of a text")                                              \
    X(list, "the tables: schemes, formats, algorithms, activations, transforms, compensations, archs, kernels, metrics, plots") \
    X(doctor, "what this machine has, and what is missing")                         \
    X(completion, "a script that completes command lines in bash or zsh")           \
    X(man, "the manual page")

#define DSB_COMMAND_DECLARE(name, help) int dsb_cmd_##name(int argc, char **argv);
DSB_COMMANDS(DSB_COMMAND_DECLARE)
#undef DSB_COMMAND_DECLARE

/* Prints a table of `dsbench list`. DSB_EUSAGE names those there are. */
dsb_status dsb_list_table(const char *name, dsb_report_format format, dsb_err *err);

typedef struct dsb_command {
    const char *name, *help;
    int (*call)(int argc, char **argv);
} dsb_command;
/* Returns how many. */
int dsb_command_list(const dsb_command **out);

#endif
