/* `dsbench man`: the manual page, in roff, from the tables that commands read their options by. */
#include <string.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/output.h"
#include "harness/stored_run.h"
#include "harness/version.h"

/* Text of a line: what roff would take as its own is escaped. literal: dashes are to be typed. */
static void put(dsb_text *out, const char *text, bool literal) {
    bool begins = true;
    for (const char *p = text; *p; begins = *p++ == '\n') {
        if (begins && (*p == '.' || *p == '\'')) dsb_text_put(out, "\\&");
        if (*p == '\\') dsb_text_put(out, "\\e");
        else if (*p == '-' && literal) dsb_text_put(out, "\\-");
        else dsb_text_bytes(out, p, 1);
    }
}

static void put_option(dsb_text *out, const dsb_option *o) {
    dsb_text_put(out, ".TP\n\\fB");
    if (o->short_name) dsb_text_printf(out, "\\-%c\\fR, \\fB", o->short_name);
    dsb_text_put(out, "\\-\\-");
    put(out, o->name, true);
    dsb_text_put(out, "\\fR");
    if (o->metavar) {
        dsb_text_put(out, " \\fI");
        put(out, o->metavar, true);
        dsb_text_put(out, "\\fR");
    }
    dsb_text_put(out, "\n");
    put(out, o->help, false);
    dsb_text_put(out, "\n");
}

static void put_command(void *ctx, const dsb_usage *u, const dsb_option *rows, int n_own, int n) {
    dsb_text *out = ctx;
    dsb_text_put(out, ".SS \"");
    put(out, u->command, true);
    if (u->args && *u->args) {
        dsb_text_put(out, " ");
        put(out, u->args, true);
    }
    dsb_text_put(out, "\"\n");
    put(out, u->what, false);
    dsb_text_put(out, "\n");
    for (int i = 0; i < n_own; i++) put_option(out, &rows[i]);
    if (!u->more) return;
    dsb_text_put(out, ".PP\n.nf\n");
    put(out, u->more, true);
    dsb_text_put(out, "\n.fi\n");
}

static void put_common(void *ctx, const dsb_usage *u, const dsb_option *rows, int n_own, int n) {
    for (int i = n_own; i < n; i++) put_option(ctx, &rows[i]);
}

static void visit(const dsb_command *c, dsb_usage_visit *see, dsb_text *out) {
    char name[] = "dsbench", *argv[] = { name, NULL };
    dsb_options_visit(see, out);
    c->call(1, argv);
    dsb_options_visit(NULL, NULL);
}

static void page(dsb_text *out) {
    const dsb_command *commands;
    int n = dsb_command_list(&commands);
    dsb_text_printf(out, ".\\\" made by `dsbench man`\n.TH DSBENCH 1 \"\" \"dsbench %s\" \"User Commands\"\n", dsb_version);
    dsb_text_put(out, ".SH NAME\ndsbench \\- accuracy and speed of quantized Mixture\\-of\\-Experts language models\n"
                      ".SH SYNOPSIS\n.B dsbench\n.I COMMAND\n[\\fIoptions\\fR]\n.br\n.B dsbench \\-\\-help\n|\n.B \\-\\-version\n"
                      ".SH DESCRIPTION\nRuns quantization schemes of one model through one engine beside the unquantized reference, stores what it finds in one SQLite file, and tells which scheme to ship, what it costs in "
                      "accuracy, where the damage arises and how fast it is. Start with\n.BR \"dsbench run\" .\nA RUN is an id, a unique beginning of one, or `latest'.\n.SH COMMANDS\n");
    for (int i = 0; i < n; i++) visit(&commands[i], put_command, out);
    dsb_text_put(out, ".SH OPTIONS OF ALL COMMANDS\n");
    for (int i = 0; i < n; i++)
        if (!strcmp(commands[i].name, "man")) visit(&commands[i], put_common, out);
    dsb_text_put(out, ".SH EXIT STATUS\n.TP\n0\ndone; compare: no regression shown\n.TP\n1\na gating metric regressed, or a figure is not finite\n.TP\n2\nwrong usage, or a named input that is missing, unreadable or malformed\n"
                      ".TP\n3\nnot comparable\n.TP\n4\noutput, disk, database, memory or gnuplot\n.TP\n5\nan error of dsbench itself\n"
                      ".SH ENVIRONMENT\n.TP\nDSBENCH_MODELS\nfolder of the built\\-in model\n.TP\nDSBENCH_DATA\nfolder of the built\\-in texts\n.TP\nDSBENCH_GNUPLOT\nthe program that draws (default: gnuplot)\n"
                      ".TP\nDSBENCH_ISA\nas \\-\\-isa\n.TP\nNO_COLOR\nnot empty: no colours in a terminal\n.TP\nTMPDIR\nfolder of streams that memory doesn't hold\n"
                      ".SH FILES\n.TP\ndsbench.db\nthe record, in the folder where a run was started\n.SH SEE ALSO\n.BR gnuplot (1),\n.BR sqlite3 (1)\n");
}

int dsb_cmd_man(int argc, char **argv) {
    const dsb_usage usage = { "man", "", "The manual page on standard output, made from the tables of options.", 0, 0, NULL, 0, "example: dsbench man | man -l -", false };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    dsb_text_init(&out);
    page(&out);
    return dsb_print_and_end(&out, DSB_OK, &err);
}
