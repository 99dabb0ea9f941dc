/* Finds the command and calls it: the only place that knows all of them. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/version.h"

enum { MAX_COMMAND = 64 };

static void help_print(FILE *to) {
    const dsb_command *commands;
    int n = dsb_command_list(&commands);
    fprintf(to, "usage: dsbench COMMAND [options]\n\nAccuracy and speed of quantized Mixture-of-Experts language models.\n\ncommands:\n");
    for (int i = 0; i < n; i++) fprintf(to, "  %-11s%s\n", commands[i].name, commands[i].help);
    fprintf(to, "\ndsbench COMMAND --help tells a command's options. Start with: dsbench run\n");
}

static int unknown_command(const char *name) {
    const char *names[MAX_COMMAND];
    const dsb_command *commands;
    dsb_err err;
    int n = dsb_command_list(&commands);
    for (int i = 0; i < n && i < MAX_COMMAND; i++) names[i] = commands[i].name;
    const char *near = dsb_name_nearest(name, names, n < MAX_COMMAND ? n : MAX_COMMAND);
    if (near) dsb_fail(&err, DSB_EUSAGE, "unknown command '%s'; did you mean '%s'?", name, near);
    else dsb_fail(&err, DSB_EUSAGE, "unknown command '%s'; see dsbench --help", name);
    return dsb_command_fail(&err);
}

int main(int argc, char **argv) {
    dsb_err err;
#ifdef M_MMAP_THRESHOLD
    /* Fixed: glibc would raise it with each large block freed, and then keep such blocks: a quarter more memory in a run. */
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
#endif
    signal(SIGPIPE, SIG_IGN); /* harness/output.h */
    if (argc < 2) {
        help_print(stderr);
        return dsb_exit_code(DSB_EUSAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help_print(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("dsbench %s (%s)\n", dsb_version, dsb_git_hash);
        return 0;
    }
    const dsb_command *commands;
    int n = dsb_command_list(&commands);
    for (int i = 0; i < n; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        const char *isa = getenv("DSBENCH_ISA");
        if (isa && *isa && dsb_isa_check("DSBENCH_ISA", isa, &err)) return dsb_command_fail(&err); /* else it ends in a null table later */
        return commands[i].call(argc - 1, argv + 1);
    }
    return unknown_command(argv[1]);
}
