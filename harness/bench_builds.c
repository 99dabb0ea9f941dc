#include "harness/bench_builds.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "harness/stored_run.h"
#include "metrics/speed.h"

#define OUTPUT_LIMIT ((size_t)16 << 20) /* bytes of JSON: more is no bench */
extern char **environ;

typedef struct builds {
    const dsb_bench_builds *asked;
    dsb_build_row *rows;
    int64_t n;
    char **argv; /* of both programs */
    char folder[64];
    dsb_arena *arena;
    dsb_err *err;
} builds;

/* Options that are this program's alone; `takes`: a value stands behind it. */
static bool is_ours(const char *word, bool *takes) {
    static const struct {
        const char *name;
        bool takes;
    } k_ours[] = { { "--base-build", true }, { "--rounds", true }, { "--tolerance", true }, { "--format", true }, { "--db", true }, { "--json", false }, { "--quiet", false }, { "-q", false } };
    for (size_t i = 0; i < sizeof k_ours / sizeof *k_ours; i++) {
        size_t n = strlen(k_ours[i].name);
        if (strncmp(word, k_ours[i].name, n) || (word[n] && word[n] != '=')) continue;
        *takes = k_ours[i].takes && !word[n];
        return true;
    }
    return false;
}

/* What was typed, without what is ours, into rows and a database that nobody keeps: the other build may know another version of it. */
static dsb_status child_arguments(builds *b) {
    const char *database = dsb_text_format(b->arena, "%s/bench.db", b->folder);
    int n = 0;
    bool takes = false;
    DSB_TRY(dsb_arena_take(b->arena, (void **)&b->argv, (size_t)b->asked->argc + 5, sizeof *b->argv, "arguments", b->err));
    for (int i = 0; i < b->asked->argc; i++) {
        if (i && is_ours(b->asked->argv[i], &takes)) i += takes;
        else b->argv[1 + n++] = b->asked->argv[i];
    }
    const char *const more[] = { "--json", "--quiet", "--db", database };
    for (int i = 0; i < 4; i++) b->argv[1 + n++] = (char *)more[i];
    return DSB_OK;
}

static dsb_status read_all(int fd, dsb_text *out, const char *program, dsb_err *err) {
    char buffer[65536];
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0 && out->size + (size_t)n > OUTPUT_LIMIT) return dsb_fail(err, DSB_EINPUT, "%s: wrote more than rows of a bench; a build of dsbench is wanted", program);
        if (n > 0) dsb_text_bytes(out, buffer, (size_t)n);
    }
    return dsb_text_check(out, "what a build wrote", err);
}

/* One program to its end; what it says on standard error stays there. */
static dsb_status run_program(builds *b, const char *program, dsb_text *out) {
    posix_spawn_file_actions_t files;
    int pipes[2], status = 0;
    pid_t pid;
    if (pipe2(pipes, O_CLOEXEC)) return dsb_fail(b->err, DSB_EOUTPUT, "bench: no pipe to %s: %s", program, strerror(errno));
    b->argv[0] = (char *)program;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, pipes[1], STDOUT_FILENO);
    int rc = posix_spawn(&pid, program, &files, NULL, b->argv, environ);
    posix_spawn_file_actions_destroy(&files);
    close(pipes[1]);
    dsb_status s = rc ? dsb_fail(b->err, DSB_EINPUT, "--base-build %s: can't be run: %s; a build of dsbench is wanted", program, strerror(rc)) : read_all(pipes[0], out, program, b->err);
    close(pipes[0]);
    while (!rc && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (s || status == 0) return s;
    if (WIFSIGNALED(status)) return dsb_fail(b->err, DSB_EINPUT, "bench: %s was killed by signal %d", program, WTERMSIG(status));
    return dsb_fail(b->err, DSB_EINPUT, "bench: %s ended with exit code %d; what it refuses stands above", program, WEXITSTATUS(status));
}

static const char *word_of(const json_t *row, const char *a, const char *b) {
    const char *x = json_string_value(json_object_get(row, a)), *y = json_string_value(json_object_get(row, b));
    return x ? x : y ? y : "";
}

/* Tokens a second; of a kernel calls a second. */
static double speed_of(const json_t *row) {
    double us = json_number_value(json_object_get(row, "us"));
    return json_is_number(json_object_get(row, "tps")) ? json_number_value(json_object_get(row, "tps")) : us > 0 ? 1e6 / us : NAN;
}

static dsb_status find_row(builds *b, const char *name, const char *of, int64_t room, dsb_build_row **out) {
    for (int64_t i = 0; i < b->n; i++)
        if (!strcmp(b->rows[i].name, name) && !strcmp(b->rows[i].of, of)) return *out = &b->rows[i], DSB_OK;
    if (b->n == room) return dsb_fail(b->err, DSB_EINPUT, "bench: the builds have other rows: %.60s %.60s stands in one alone", name, of);
    dsb_build_row *r = &b->rows[b->n++];
    r->name = dsb_text_clean(b->arena, name);
    r->of = dsb_text_clean(b->arena, of);
    for (int side = 0; side < DSB_BUILDS; side++) DSB_TRY(dsb_arena_take(b->arena, (void **)&r->tps[side], (size_t)b->asked->rounds, sizeof(double), "speeds", b->err));
    if (!r->name || !r->of) return dsb_fail(b->err, DSB_ENOMEM, "out of memory while reading a build's rows");
    return *out = r, DSB_OK;
}

/* The first program's first rows say which there are. */
static dsb_status take_rows(builds *b, const json_t *doc, int side, int64_t round) {
    int64_t n = (int64_t)json_array_size(doc), room = b->rows ? b->n : n;
    dsb_build_row *r = NULL;
    if (n < 1) return dsb_fail(b->err, DSB_EINPUT, "bench: a build gave no rows");
    if (!b->rows) DSB_TRY(dsb_arena_take(b->arena, (void **)&b->rows, (size_t)n, sizeof *b->rows, "speeds", b->err));
    for (int64_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(doc, (size_t)i);
        DSB_TRY(find_row(b, word_of(row, "format", "name"), word_of(row, "phase", "shape"), room, &r));
        if (r->n[side] != round) return dsb_fail(b->err, DSB_EINPUT, "bench: a build gave %s %s twice, or not in each round", r->name, r->of);
        r->tps[side][r->n[side]++] = speed_of(row);
    }
    return DSB_OK;
}

static dsb_status measure(builds *b, int side, int64_t round) {
    const char *program = side == DSB_BUILD_HEAD ? "/proc/self/exe" : b->asked->base;
    json_t *doc = NULL;
    dsb_text out;
    dsb_text_init(&out);
    dsb_status s = run_program(b, program, &out);
    if (!s) s = dsb_json_parse(&doc, program, out.data ? out.data : "", out.size, b->err);
    if (!s) s = take_rows(b, doc, side, round);
    json_decref(doc);
    dsb_text_release(&out);
    return s;
}

static dsb_status judge(builds *b, dsb_judgement *family) {
    for (int64_t i = 0; i < b->n; i++) {
        dsb_build_row *r = &b->rows[i];
        if (r->n[DSB_BUILD_BASE] != r->n[DSB_BUILD_HEAD]) return dsb_fail(b->err, DSB_EINPUT, "bench: %s %s stands in the rows of one build alone", r->name, r->of);
        dsb_judgement_init(&family[i], DSB_BETTER_HIGHER);
        family[i].tolerance = b->asked->tolerance;
        family[i].gating = true;
        DSB_TRY(dsb_judge_rounds(&family[i], r->tps[DSB_BUILD_BASE], r->n[DSB_BUILD_BASE], r->tps[DSB_BUILD_HEAD], r->n[DSB_BUILD_HEAD], b->err));
    }
    DSB_TRY(dsb_judge(family, b->n, b->err));
    for (int64_t i = 0; i < b->n; i++) b->rows[i].j = family[i];
    return DSB_OK;
}

static void fill_grid(const builds *b, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "name", "of", NULL, true }, { "phase", "phase", "or shape", true }, { "base", "base", "a second", false }, { "head", "head", "a second", false }, { "difference_percent", "difference", "%", false },
        { "interval", "95 % interval", "%", false }, { "detectable_percent", "detectable", "% slower", false }, { "p", "p", NULL, false }, { "p_adjusted", "p", "Holm", false }, { "rounds", "rounds", NULL, false },
        { "verdict", "verdict", NULL, true }, { "lo_percent", NULL, NULL, false }, { "hi_percent", NULL, NULL, false },
    };
    dsb_grid_init(g, b->arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < b->n; i++) {
        const dsb_judgement *j = &b->rows[i].j;
        dsb_grid_text(g, b->rows[i].name);
        dsb_grid_text(g, b->rows[i].of);
        dsb_grid_figure(g, j->base, "%.4g", j->base);
        dsb_grid_figure(g, j->head, "%.4g", j->head);
        dsb_grid_figure(g, 100 * j->diff, "%+.2f", 100 * j->diff);
        dsb_grid_text(g, dsb_text_format(b->arena, "[%+.2f, %+.2f]", 100 * j->lo, 100 * j->hi));
        if (isinf(j->detectable)) dsb_grid_text(g, "more rounds");
        else dsb_grid_figure(g, 100 * j->detectable, "%.2f", 100 * j->detectable);
        dsb_grid_figure(g, j->p, "%.3g", j->p);
        dsb_grid_figure(g, j->p_adjusted, "%.3g", j->p_adjusted);
        dsb_grid_int(g, j->n);
        dsb_grid_text(g, dsb_verdict_name(j->verdict));
        dsb_grid_figure(g, 100 * j->lo, "%g", 100 * j->lo);
        dsb_grid_figure(g, 100 * j->hi, "%g", 100 * j->hi);
    }
}

static dsb_status print_all(const builds *b, dsb_report_format format, dsb_err *err) {
    dsb_grid g;
    dsb_text out;
    const dsb_build_row *worst = NULL;
    fill_grid(b, &g);
    dsb_text_init(&out);
    dsb_status s = dsb_grid_write(&g, format, &out, err);
    if (!s) s = dsb_print(&out, err);
    dsb_text_release(&out);
    for (int64_t i = 0; i < b->n; i++)
        if (b->rows[i].j.verdict == DSB_VERDICT_REGRESSED && (!worst || b->rows[i].j.diff < worst->j.diff)) worst = &b->rows[i];
    if (s || !worst) return s;
    return dsb_fail(err, DSB_EREGRESSED, "bench: slower than %s: %s %s by %.2f %% (tolerance %g %%)", b->asked->base, worst->name, worst->of, -100 * worst->j.diff, 100 * b->asked->tolerance);
}

static dsb_status run_rounds(builds *b, bool quiet) {
    dsb_progress progress;
    dsb_status s = DSB_OK;
    dsb_progress_init(&progress, quiet);
    for (int64_t i = 0; i < 2 * b->asked->rounds && !s; i++) {
        int side = (i % 2 + i / 2) % 2; /* base head head base … */
        dsb_progress_show(&progress, (double)i / (double)(2 * b->asked->rounds), side == DSB_BUILD_BASE ? "the other build" : "this build");
        s = measure(b, side, i / 2);
    }
    dsb_progress_clear(&progress);
    return s;
}

static dsb_status measured(builds *b, bool quiet) {
    dsb_judgement *family;
    const char *tmp = getenv("TMPDIR"), *ends[] = { "", "-wal", "-shm" };
    snprintf(b->folder, sizeof b->folder, "%.40s/dsbench-XXXXXX", tmp && *tmp && strlen(tmp) <= 40 ? tmp : "/tmp");
    if (!mkdtemp(b->folder)) return dsb_fail(b->err, DSB_EOUTPUT, "%s: can't be made: %s", b->folder, strerror(errno));
    dsb_status s = child_arguments(b);
    if (!s) s = run_rounds(b, quiet);
    if (!s) s = dsb_arena_take(b->arena, (void **)&family, (size_t)b->n, sizeof *family, "verdicts", b->err);
    if (!s) s = judge(b, family);
    for (int i = 0; i < 3; i++) unlink(dsb_text_format(b->arena, "%s/bench.db%s", b->folder, ends[i]));
    rmdir(b->folder);
    return s;
}

dsb_status dsb_bench_builds_measure(const dsb_bench_builds *asked, bool quiet, dsb_arena *arena, dsb_build_row **rows, int64_t *n, dsb_err *err) {
    builds b = { .asked = asked, .arena = arena, .err = err };
    dsb_status s = measured(&b, quiet);
    *rows = b.rows;
    *n = b.n;
    return s;
}

dsb_status dsb_bench_builds_run(const dsb_bench_builds *asked, dsb_report_format format, bool quiet, dsb_arena *arena, dsb_err *err) {
    builds b = { .asked = asked, .arena = arena, .err = err };
    DSB_TRY(measured(&b, quiet));
    return print_all(&b, format, err);
}
