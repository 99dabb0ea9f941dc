/* `dsbench doctor`: what this machine has, what is missing, and what to do about it. Finding something missing is no error. */
#include <dirent.h>
#include <jansson.h>
#include <omp.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "datasets/builtin.h"
#include "engine/checkpoint.h"
#include "harness/commands.h"
#include "harness/host.h"
#include "harness/options.h"
#include "harness/output.h"
#include "harness/suite.h"
#include "harness/version.h"
#include "kernels/backend.h"
#include "reports/gnuplot.h"

typedef struct doctor {
    dsb_arena arena;
    dsb_grid grid;
    int missing;
} doctor;

static void row(doctor *d, const char *what, const char *state, const char *found, const char *todo) {
    dsb_grid_text(&d->grid, what);
    dsb_grid_text(&d->grid, state);
    dsb_grid_text(&d->grid, found);
    dsb_grid_text(&d->grid, todo);
    if (strcmp(state, "missing") == 0) d->missing++;
}

static void check_program(doctor *d) {
    dsb_host_facts host;
    row(d, "dsbench", "ok", dsb_text_format(&d->arena, "%s (%s), %s", dsb_version, dsb_git_hash, dsb_compiler), NULL);
    if (dsb_host_read(&host, &d->arena, NULL)) return;
    row(d, "system", "ok", host.os, NULL);
    row(d, "processor", "ok", host.cpu, NULL);
}

static void check_isa(doctor *d) {
    const dsb_kernel_row *rows;
    const char *last = "", *have = "";
    int n = dsb_kernel_list(&rows);
    for (int i = 0; i < n; i++) {
        if (strcmp(rows[i].isa, last) == 0 || !rows[i].available) continue;
        last = rows[i].isa;
        have = dsb_text_format(&d->arena, "%s%s%s", have, *have ? ", " : "", last);
    }
    row(d, "instruction sets", "ok", dsb_text_format(&d->arena, "%s; used: %s", have, dsb_backend_cpu(NULL)->isa), NULL);
    row(d, "threads", "ok", dsb_text_format(&d->arena, "%d of %ld processors", omp_get_max_threads(), sysconf(_SC_NPROCESSORS_ONLN)), NULL);
}

static double meminfo_bytes(const char *key) {
    char line[256];
    double kib = -1;
    size_t n = strlen(key);
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && kib < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && line[n] == ':') kib = strtod(line + n + 1, NULL);
    if (f) fclose(f);
    return kib < 0 ? -1 : kib * 1024;
}

static void check_memory(doctor *d) {
    double total = meminfo_bytes("MemTotal"), left = meminfo_bytes("MemAvailable");
    bool tight = left >= 0 && left < 600e6; /* the built-in suite stays below 500 MB */
    row(d, "memory", tight ? "note" : "ok", dsb_text_format(&d->arena, "%s, %s available", dsb_text_size(&d->arena, total), dsb_text_size(&d->arena, left)), tight ? "the built-in suite wants 500 MB: close something" : NULL);
}

/* The first `name` in PATH, as execvp would find it. */
static const char *path_find(doctor *d, const char *name) {
    const char *path = getenv("PATH");
    if (strchr(name, '/')) return name;
    for (const char *p = path ? path : ""; *p; p += *p == ':') {
        size_t n = strcspn(p, ":");
        const char *file = dsb_text_format(&d->arena, "%.*s/%s", (int)n, p, name);
        if (access(file, X_OK) == 0) return file;
        p += n;
        if (!*p) break;
    }
    return NULL;
}

static void check_gnuplot(doctor *d) {
    const char *given = getenv("DSBENCH_GNUPLOT"), *file = path_find(d, given && *given ? given : "gnuplot");
    dsb_text out;
    dsb_err err;
    if (!file) {
        row(d, "gnuplot", "missing", "not in PATH", "plots need it: apt-get install gnuplot-nox; all else works");
        return;
    }
    dsb_text_init(&out);
    if (dsb_gnuplot_run("set print '-'\nprint sprintf('%.1f.%s', GPVAL_VERSION, GPVAL_PATCHLEVEL)\n", 10, &out, &err)) {
        row(d, "gnuplot", "missing", err.text, "plots need a working one: apt-get install gnuplot-nox; all else works");
    } else {
        row(d, "gnuplot", "ok", dsb_text_format(&d->arena, "%.*s, %s", (int)strcspn(out.data, "\r\n"), out.data, file), NULL);
    }
    dsb_text_release(&out);
}

/* True where a folder, or one up to three levels below it, holds a TrueType or OpenType font. */
static bool has_font(const char *dir, int depth) {
    DIR *d = opendir(dir);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        if (e->d_name[0] == '.') continue;
        if (dot && (strcmp(dot, ".ttf") == 0 || strcmp(dot, ".otf") == 0)) {
            found = true;
            break;
        }
        char sub[1024];
        if (depth && snprintf(sub, sizeof sub, "%s/%s", dir, e->d_name) < (int)sizeof sub) found = has_font(sub, depth - 1);
    }
    if (d) closedir(d);
    return found;
}

static void check_fonts(doctor *d) {
    bool found = has_font("/usr/share/fonts", 3) || has_font("/usr/local/share/fonts", 3);
    row(d, "fonts", found ? "ok" : "missing", found ? "present" : "no font in /usr/share/fonts", found ? NULL : "PNG pictures lack their text: apt-get install fonts-dejavu-core");
}

static void check_libraries(doctor *d) {
    char pcre[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    row(d, "SQLite", "ok", sqlite3_libversion(), NULL);
    row(d, "libraries", "ok", dsb_text_format(&d->arena, "jansson %s, PCRE2 %s", jansson_version_str(), pcre), NULL);
}

static void check_text(doctor *d, dsb_builtin_kind kind, const char *what) {
    const dsb_builtin *b = &dsb_builtin_table[kind];
    char *path, sha[65];
    dsb_err err;
    if (dsb_dataset_builtin_path(kind, &path, &err)) {
        row(d, what, "missing", dsb_text_format(&d->arena, "%s (%s)", b->file, b->title), "make data, or DSBENCH_DATA=DIR; dsbench run needs it unless --text is given");
        return;
    }
    if (dsb_sha256_file(path, sha, &err)) row(d, what, "missing", err.text, "make data");
    else if (strcmp(sha, b->sha256) != 0) row(d, what, "missing", dsb_text_format(&d->arena, "%s: sha256 %.12s…, wanted %.12s…", path, sha, b->sha256), "remove it, then make data");
    else row(d, what, "ok", dsb_text_format(&d->arena, "%s, sha256 %.12s…", path, sha), NULL);
    free(path);
}

static void check_model(doctor *d) {
    const char *dir;
    dsb_checkpoint cp;
    dsb_err err;
    if (dsb_builtin_model(&d->arena, &dir, &err) || dsb_checkpoint_open(&cp, dir, &err)) {
        row(d, "built-in model", "missing", err.text, "DSBENCH_MODELS=DIR, or dsbench run --model DIR");
        return;
    }
    row(d, "built-in model", "ok", dsb_text_format(&d->arena, "%s, %s of tensors", dir, dsb_text_size(&d->arena, (double)cp.bytes)), NULL);
    dsb_checkpoint_close(&cp);
}

static dsb_status doctor_print(doctor *d, bool json, dsb_err *err) {
    DSB_TRY(dsb_print_grid(&d->grid, json ? DSB_REPORT_JSON : DSB_REPORT_TEXT, err));
    if (json) return DSB_OK;
    if (d->missing) printf("\n%d missing: see the last column\n", d->missing);
    else printf("\nnothing is missing\n");
    return dsb_print_done(err);
}

int dsb_cmd_doctor(int argc, char **argv) {
    static const dsb_usage usage = { .command = "doctor", .what = "What this machine has, what is missing, and what to do about it. The exit code is 0 either way." };
    static const dsb_grid_head heads[] = { { "what", "what", NULL, true }, { "state", "state", NULL, true }, { "found", "found", NULL, true }, { "todo", "what to do", NULL, true } };
    dsb_parsed p;
    dsb_err err;
    if (dsb_options_parse(&usage, argc, argv, &p, &err)) return dsb_command_fail(&err);
    if (p.help) return 0;
    doctor d = { 0 };
    dsb_arena_init(&d.arena);
    dsb_grid_init(&d.grid, &d.arena, heads, 4);
    check_program(&d);
    check_isa(&d);
    check_memory(&d);
    check_gnuplot(&d);
    check_fonts(&d);
    check_libraries(&d);
    row(&d, "CUDA", "note", "not built into this version", NULL);
    check_text(&d, DSB_BUILTIN_EVALUATION, "evaluation text");
    check_text(&d, DSB_BUILTIN_CALIBRATION, "calibration text");
    check_model(&d);
    dsb_status s = doctor_print(&d, p.json, &err);
    dsb_arena_release(&d.arena);
    return s ? dsb_command_fail(&err) : 0;
}
