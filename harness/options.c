#include "harness/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"

enum { N_COMMON = 8, MAX_NAME = 31, MAX_THREADS = 4096, MAX_ROWS = 64 };

/* One command line being read. */
typedef struct reader {
    const dsb_usage *usage;
    dsb_option common[N_COMMON];
    const char *device, *isa;
    int argc, at;
    char **argv;
    dsb_parsed *out;
    dsb_err *err;
} reader;

static void common_init(reader *r) {
    dsb_parsed *o = r->out;
    dsb_option rows[N_COMMON] = {
        { "csv", 0, DSB_OPT_FLAG, &o->csv, NULL, "CSV instead of a table", 0, 0 }, /* first: left out where the command has none, else as its own */
        { "db", 0, DSB_OPT_STRING, &o->db, "FILE", "the database (default dsbench.db)", 0, 0 },
        { "json", 0, DSB_OPT_FLAG, &o->json, NULL, "JSON instead of a table", 0, 0 },
        { "threads", 0, DSB_OPT_INT, &o->threads, "N", "threads (default: all; results don't depend on it)", 1, MAX_THREADS },
        { "device", 0, DSB_OPT_STRING, &r->device, "cpu|cuda[:N]", "where to compute (default cpu)", 0, 0 },
        { "isa", 0, DSB_OPT_STRING, &r->isa, "LEVEL", "kernels of that level (default: the best here; list kernels tells them; results don't depend on it)", 0, 0 },
        { "quiet", 'q', DSB_OPT_FLAG, &o->quiet, NULL, "no progress line", 0, 0 },
        { "help", 'h', DSB_OPT_FLAG, &o->help, NULL, "this text", 0, 0 },
    };
    memcpy(r->common, rows, sizeof rows);
}

static const dsb_option *option_at(const reader *r, int i) {
    return i < r->usage->n_option ? &r->usage->options[i] : &r->common[i - r->usage->n_option + !r->usage->csv];
}
static int option_count(const reader *r) { return r->usage->n_option + N_COMMON - !r->usage->csv; }

/* True where an earlier row has that name: a command's own row stands before the common one. */
static bool shadowed(const reader *r, int i) {
    for (int k = 0; k < i; k++)
        if (strcmp(option_at(r, k)->name, option_at(r, i)->name) == 0) return true;
    return false;
}

static const dsb_option *find_long(const reader *r, const char *name, size_t n) {
    for (int i = 0; i < option_count(r); i++) {
        const dsb_option *o = option_at(r, i);
        if (strlen(o->name) == n && strncmp(o->name, name, n) == 0) return o;
    }
    return NULL;
}

static const dsb_option *find_short(const reader *r, char c) {
    for (int i = 0; i < option_count(r); i++)
        if (option_at(r, i)->short_name == c) return option_at(r, i);
    return NULL;
}

static dsb_status unknown_option(const reader *r, const char *found, const char *name) {
    const char *names[MAX_ROWS], *near;
    int n = 0;
    for (int i = 0; i < option_count(r) && n < MAX_ROWS; i++) names[n++] = option_at(r, i)->name;
    near = dsb_name_nearest(name, names, n);
    if (near) return dsb_fail(r->err, DSB_EUSAGE, "%s: unknown option %s; did you mean --%s?", r->usage->command, found, near);
    return dsb_fail(r->err, DSB_EUSAGE, "%s: unknown option %s; see dsbench %s --help", r->usage->command, found, r->usage->command);
}

static dsb_status out_of_range(const reader *r, const dsb_option *o, const char *value) {
    if (o->max >= 9e15) return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s %s is out of range; %g or more is wanted", r->usage->command, o->name, value, o->min);
    return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s %s is out of range; %.10g to %.10g is wanted", r->usage->command, o->name, value, o->min, o->max);
}

static dsb_status read_int(const reader *r, const dsb_option *o, const char *value) {
    char *end;
    errno = 0;
    long long x = strtoll(value, &end, 10);
    if (end == value || *end || isspace((unsigned char)*value)) return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s '%s' is not a whole number", r->usage->command, o->name, value);
    bool bounded = o->min != 0 || o->max != 0;
    if (errno == ERANGE || (bounded && ((double)x < o->min || (double)x > o->max))) return out_of_range(r, o, value);
    *(int64_t *)o->to = x;
    return DSB_OK;
}

static dsb_status read_real(const reader *r, const dsb_option *o, const char *value) {
    char *end;
    double x = strtod(value, &end);
    if (end == value || *end || isspace((unsigned char)*value) || !isfinite(x)) return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s '%s' is not a number", r->usage->command, o->name, value);
    bool bounded = o->min != 0 || o->max != 0;
    if (bounded && (x < o->min || x > o->max)) return out_of_range(r, o, value);
    *(double *)o->to = x;
    return DSB_OK;
}

static dsb_status read_list(const reader *r, const dsb_option *o, const char *value) {
    dsb_opt_list *list = o->to;
    if (list->n == DSB_OPT_LIST_MAX) return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s is given more than %d times", r->usage->command, o->name, DSB_OPT_LIST_MAX);
    list->item[list->n++] = value;
    return DSB_OK;
}

static dsb_status store(const reader *r, const dsb_option *o, const char *value) {
    switch (o->kind) {
    case DSB_OPT_FLAG: *(bool *)o->to = true; return DSB_OK;
    case DSB_OPT_STRING:
        if (!*value) return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s is empty; %s is wanted", r->usage->command, o->name, o->metavar);
        *(const char **)o->to = value;
        return DSB_OK;
    case DSB_OPT_INT: return read_int(r, o, value);
    case DSB_OPT_REAL: return read_real(r, o, value);
    default: return read_list(r, o, value);
    }
}

/* The value in the same word (`inside`), or the next word. */
static dsb_status option_take(reader *r, const dsb_option *o, const char *inside) {
    if (o->kind == DSB_OPT_FLAG) {
        if (inside) return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s takes no value, found '%s'", r->usage->command, o->name, inside);
        return store(r, o, "");
    }
    if (!inside && r->at >= r->argc) return dsb_fail(r->err, DSB_EUSAGE, "%s: --%s needs a value: --%s %s", r->usage->command, o->name, o->name, o->metavar);
    return store(r, o, inside ? inside : r->argv[r->at++]);
}

static dsb_status long_option(reader *r, const char *word) {
    const char *name = word + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const dsb_option *o = find_long(r, name, n);
    if (o) return option_take(r, o, eq ? eq + 1 : NULL);
    char plain[MAX_NAME + 1];
    snprintf(plain, sizeof plain, "%.*s", (int)(n > MAX_NAME ? MAX_NAME : n), name);
    return unknown_option(r, word, plain);
}

/* -o FILE or -oFILE; flags are not bundled. */
static dsb_status short_option(reader *r, const char *word) {
    const dsb_option *o = find_short(r, word[1]);
    if (!o) return unknown_option(r, word, word + 1);
    return option_take(r, o, word[2] ? word + 2 : NULL);
}

static dsb_status words_read(reader *r) {
    bool only_args = false;
    for (r->at = 1; r->at < r->argc;) {
        char *word = r->argv[r->at++];
        if (only_args || word[0] != '-' || !word[1]) r->out->arg[r->out->n_arg++] = word;
        else if (strcmp(word, "--") == 0) only_args = true;
        else DSB_TRY(word[1] == '-' ? long_option(r, word) : short_option(r, word));
        if (r->out->help) return DSB_OK;
    }
    return DSB_OK;
}

static dsb_status args_check(const reader *r) {
    const dsb_usage *u = r->usage;
    const char *args = u->args ? u->args : "";
    if (r->out->n_arg < u->min_args)
        return dsb_fail(r->err, DSB_EUSAGE, "%s: %s wanted, %d given: dsbench %s %s", u->command, args, r->out->n_arg, u->command, args);
    if (r->out->n_arg > u->max_args)
        return dsb_fail(r->err, DSB_EUSAGE, "%s: '%s' is one argument too many; wanted: dsbench %s%s%s", u->command, r->out->arg[u->max_args], u->command, *args ? " " : "", args);
    return DSB_OK;
}

static void help_row(const dsb_option *o) {
    char left[64], mark[8] = "    ";
    if (o->short_name) snprintf(mark, sizeof mark, "-%c, ", o->short_name);
    snprintf(left, sizeof left, "%s--%s%s%s", mark, o->name, o->metavar ? " " : "", o->metavar ? o->metavar : "");
    printf("  %-27s %s\n", left, o->help);
}

static void help_print(const reader *r) {
    const dsb_usage *u = r->usage;
    printf("usage: dsbench %s%s%s [options]\n\n%s\n\noptions:\n", u->command, u->args && *u->args ? " " : "", u->args ? u->args : "", u->what);
    for (int i = 0; i < option_count(r); i++)
        if (!shadowed(r, i)) help_row(option_at(r, i));
    if (u->more) printf("\n%s\n", u->more);
}

static dsb_status device_choose(const reader *r) {
    char note[1024];
    dsb_err why;
    if (!r->device) return DSB_OK;
    if (dsb_device_choose(r->device, note, sizeof note, &why)) return dsb_fail(r->err, why.code, "%s: %s", r->usage->command, why.text);
    if (*note) fprintf(stderr, "dsbench: %s\n", note);
    return DSB_OK;
}

dsb_status dsb_isa_check(const char *from, const char *isa, dsb_err *err) {
    const dsb_kernel_row *rows;
    char here[128] = "";
    int n = dsb_kernel_list(&rows);
    for (int i = 0; i < n; i++) {
        if (!dsb_backend_cpu(rows[i].isa) || (i > 0 && strcmp(rows[i].isa, rows[i - 1].isa) == 0)) continue;
        if (strcmp(rows[i].isa, isa) == 0) return DSB_OK;
        snprintf(here + strlen(here), sizeof here - strlen(here), "%s%s", *here ? ", " : "", rows[i].isa);
    }
    return dsb_fail(err, DSB_EUSAGE, "%s '%s': this machine or build has no such level; one of %s is wanted", from, isa, here);
}

/* The level reaches the backend's choice as an environment variable does. */
static dsb_status isa_use(const reader *r) {
    char from[64];
    if (!r->isa) return DSB_OK;
    snprintf(from, sizeof from, "%s: --isa", r->usage->command);
    DSB_TRY(dsb_isa_check(from, r->isa, r->err));
    return setenv("DSBENCH_ISA", r->isa, 1) == 0 ? DSB_OK : dsb_fail(r->err, DSB_ENOMEM, "%s %s: out of memory", from, r->isa);
}

static dsb_usage_visit *visitor;
static void *visitor_ctx;

void dsb_options_visit(dsb_usage_visit *visit, void *ctx) {
    visitor = visit;
    visitor_ctx = ctx;
}

static void be_visited(const reader *r) {
    dsb_option rows[MAX_ROWS];
    int n = 0;
    for (int i = 0; i < option_count(r) && n < MAX_ROWS; i++)
        if (!shadowed(r, i)) rows[n++] = *option_at(r, i);
    visitor(visitor_ctx, r->usage, rows, r->usage->n_option + r->usage->csv, n);
}

dsb_status dsb_options_parse(const dsb_usage *usage, int argc, char **argv, dsb_parsed *out, dsb_err *err) {
    *out = (dsb_parsed){ .db = "dsbench.db", .arg = (const char **)argv };
    reader r = { .usage = usage, .argc = argc, .argv = argv, .out = out, .err = err };
    common_init(&r);
    if (visitor) {
        be_visited(&r);
        out->help = true;
        return DSB_OK;
    }
    DSB_TRY(words_read(&r));
    if (out->help) {
        help_print(&r);
        return DSB_OK;
    }
    DSB_TRY(args_check(&r));
    if (out->json && out->csv) return dsb_fail(err, DSB_EUSAGE, "%s: --json and --csv are both given; one is wanted", usage->command);
    DSB_TRY(device_choose(&r));
    DSB_TRY(isa_use(&r));
    if (out->threads) omp_set_num_threads((int)out->threads);
    return DSB_OK;
}

int dsb_command_fail(const dsb_err *err) {
    fflush(stdout);
    fprintf(stderr, "dsbench: %s\n", err->text);
    return dsb_exit_code(err->code);
}

/* Edits (insert, drop, replace, swap neighbours) between two short names. */
static int edit_distance(const char *a, const char *b) {
    int la = (int)strlen(a), lb = (int)strlen(b), d[MAX_NAME + 2][MAX_NAME + 2];
    if (la > MAX_NAME || lb > MAX_NAME) return MAX_NAME + 1;
    for (int i = 0; i <= la; i++) {
        for (int j = 0; j <= lb; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[la][lb];
}

const char *dsb_name_nearest(const char *name, const char *const *names, int n) {
    const char *best = NULL;
    int least = (int)strlen(name) / 3 + 1; /* a third of the letters may be wrong */
    for (int i = 0; i < n; i++) {
        int d = edit_distance(name, names[i]);
        if (d <= least && (!best || d < least)) {
            best = names[i];
            least = d;
        }
    }
    return best;
}

const char *dsb_command_line(dsb_arena *arena, int argc, char **argv) {
    size_t n = 16;
    for (int i = 0; i < argc; i++) n += strlen(argv[i]) + 1;
    char *text = malloc(n);
    if (!text) return NULL;
    int at = snprintf(text, n, "dsbench");
    for (int i = 0; i < argc; i++) at += snprintf(text + at, n - (size_t)at, " %s", argv[i]);
    const char *kept = dsb_arena_strdup(arena, text);
    free(text);
    return kept;
}
