#include "harness/rounds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "reports/text.h"

extern char **environ;

enum { OUTPUT_LIMIT = 16 << 20, NAMES = 4096 };

typedef struct call {
    const dsb_suite *suite;
    const char *schemes, *db[2], *build[2]; /* base, head */
    char prefill[24], decode[24];
} call;

/* "a,b": the suite's presets, which both builds know by name. */
static const char *preset_names(const dsb_suite *suite, dsb_arena *arena) {
    const dsb_preset_row *rows;
    char names[NAMES] = "";
    size_t used = 0;
    int n = dsb_preset_list(&rows);
    for (int i = 0; i < suite->n_scheme; i++)
        for (int k = 0; k < n; k++)
            if (!strcmp(rows[k].name, suite->recipes[i]->name) && used + strlen(rows[k].name) + 2 < sizeof names) used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? "," : "", rows[k].name);
    return names[0] ? dsb_arena_strdup(arena, names) : NULL;
}

static int start(const call *c, int which, pid_t *pid, int out) {
    char *argv[] = { (char *)c->build[which], "bench", "--model", (char *)c->suite->model, "--schemes", (char *)c->schemes, "--prefill", (char *)c->prefill, "--decode", (char *)c->decode,
                     "--repeats", "1", "--json", "--quiet", "--db", (char *)c->db[which], c->suite->text ? "--text" : NULL, (char *)c->suite->text, NULL };
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", 0, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    int rc = posix_spawn(pid, c->build[which], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static void drain(int fd, dsb_text *text) {
    char buffer[65536];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        if (text->size < OUTPUT_LIMIT) dsb_text_bytes(text, buffer, (size_t)n);
    }
}

static dsb_status run_build(const call *c, int which, dsb_text *text, dsb_err *err) {
    int pipes[2], status = 0;
    pid_t pid;
    if (pipe2(pipes, O_CLOEXEC)) return dsb_fail(err, DSB_EOUTPUT, "a pipe can't be made: %s", strerror(errno));
    int rc = start(c, which, &pid, pipes[1]);
    close(pipes[1]);
    if (!rc) drain(pipes[0], text);
    close(pipes[0]);
    if (rc) return dsb_fail(err, DSB_EINPUT, "--base-build %s: can't be run: %s", c->build[which], strerror(rc));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    /* 3: `bench` was disturbed by other load, and said so; both builds are. */
    bool fine = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
    if (fine) return dsb_text_check(text, "rows of bench", err);
    return dsb_fail(err, DSB_EINPUT, "%s bench: ended with %s %d; a build that can measure %s is wanted", c->build[which], WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), c->suite->model);
}

static dsb_rounds_series *series_of(dsb_rounds *r, const char *scheme, const char *phase) {
    for (int64_t i = 0; i < r->n_series; i++)
        if (!strcmp(r->series[i].scheme, scheme) && !strcmp(r->series[i].phase, phase)) return &r->series[i];
    return NULL;
}

static dsb_status read_rows(const call *c, int which, int64_t round, const dsb_text *text, dsb_rounds *out, dsb_err *err) {
    json_t *doc;
    size_t i;
    json_t *row;
    char name[PATH_MAX];
    int64_t found = 0;
    snprintf(name, sizeof name, "output of %s bench", c->build[which]);
    DSB_TRY(dsb_json_parse(&doc, name, text->data ? text->data : "", text->size, err));
    json_array_foreach(doc, i, row) {
        const char *scheme = json_string_value(json_object_get(row, "format")), *phase = json_string_value(json_object_get(row, "phase"));
        double tps = json_number_value(json_object_get(row, "tps"));
        dsb_rounds_series *s = scheme && phase ? series_of(out, scheme, phase) : NULL;
        if (!s || !(tps > 0) || !isfinite(tps)) continue;
        (which ? s->head : s->base)[round] = tps;
        found++;
    }
    json_decref(doc);
    return found ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: no row of speed found; an array of rows with format, phase and tps is wanted", name);
}

static dsb_status make_series(const dsb_suite *suite, int64_t n, dsb_arena *arena, dsb_rounds *out, dsb_err *err) {
    static const char *const phases[] = { "prefill", "decode" };
    DSB_TRY(dsb_arena_take(arena, (void **)&out->series, (size_t)suite->n_scheme * 2 + 1, sizeof *out->series, "rounds", err));
    for (int i = 0; i < suite->n_scheme * 2; i++) {
        dsb_rounds_series *s = &out->series[out->n_series++];
        *s = (dsb_rounds_series){ .scheme = suite->recipes[i / 2]->name, .phase = phases[i % 2] };
        DSB_TRY(dsb_arena_take(arena, (void **)&s->base, (size_t)n, sizeof *s->base, "rounds", err));
        DSB_TRY(dsb_arena_take(arena, (void **)&s->head, (size_t)n, sizeof *s->head, "rounds", err));
        for (int64_t k = 0; k < n; k++) s->base[k] = s->head[k] = NAN;
    }
    out->n = n;
    return DSB_OK;
}

static dsb_status all_rounds(const call *c, int64_t n, dsb_rounds *out, dsb_err *err) {
    for (int64_t i = 0; i < 2 * n; i++) {
        int which = (i + 1) / 2 % 2; /* base head head base base head … */
        dsb_text text;
        dsb_text_init(&text);
        dsb_status s = run_build(c, which, &text, err);
        if (!s) s = read_rows(c, which, i / 2, &text, out, err);
        dsb_text_release(&text);
        DSB_TRY(s);
    }
    return DSB_OK;
}

dsb_status dsb_rounds_run(const char *base_build, const dsb_suite *suite, int64_t n, const char *dir, dsb_arena *arena, dsb_rounds *out, dsb_err *err) {
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    *out = (dsb_rounds){ 0 };
    self[len > 0 ? len : 0] = 0;
    call c = { suite, preset_names(suite, arena), { dsb_text_format(arena, "%s/speed-base.db", dir), dsb_text_format(arena, "%s/speed-head.db", dir) }, { base_build, self }, "", "" };
    if (!c.schemes) return dsb_fail(err, DSB_EUSAGE, "--base-build: the suite names no preset of `dsbench list schemes` that two builds could be timed with");
    snprintf(c.prefill, sizeof c.prefill, "%lld", (long long)suite->prefill);
    snprintf(c.decode, sizeof c.decode, "%lld", (long long)suite->decode);
    DSB_TRY(dsb_dir_make(dir, err));
    DSB_TRY(make_series(suite, n, arena, out, err));
    return all_rounds(&c, n, out, err);
}
