#include "datasets/builtin.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

const dsb_builtin dsb_builtin_table[DSB_BUILTIN_COUNT] = {
    [DSB_BUILTIN_EVALUATION] = { "jargon", "The Jargon File 4.4.7", "jargon.txt", "40dfb4b98191a670a09a183d5798d50f243d23fdbd1495dcc0aca2ce5895ba97" },
    [DSB_BUILTIN_CALIBRATION] = { "fortunes", "fortune cookies", "fortunes.txt", "91f1c7e7c1de5793fd98e0acbdc7be20443114f733f578444e7e1204360dd782" },
};

dsb_status dsb_dataset_builtin_path(dsb_builtin_kind kind, char **path, dsb_err *err) {
    const dsb_builtin *b = &dsb_builtin_table[kind];
    const char *data = getenv("DSBENCH_DATA");
    char exe[PATH_MAX];
    *path = NULL;
    bool given = data && *data;
    if (given || !dsb_program_dir(exe)) snprintf(exe, sizeof exe, "build");
    /* Built: build/data. Installed: PREFIX/bin/dsbench and PREFIX/share/dsbench/data. */
    char beside[PATH_MAX + 8], installed[PATH_MAX + 32];
    snprintf(beside, sizeof beside, "%s/data", exe);
    snprintf(installed, sizeof installed, "%s/../share/dsbench/data", exe);
    const char *dir = given ? data : access(beside, F_OK) != 0 && access(installed, F_OK) == 0 ? installed : beside;
    if (asprintf(path, "%s/%s", dir, b->file) < 0) {
        *path = NULL;
        return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its path", b->file);
    }
    if (access(*path, R_OK) == 0) return DSB_OK;
    dsb_status s = dsb_fail(err, DSB_EINPUT, "%s: the built-in text \"%s\" (%s) isn't there; `make data` fetches it, DSBENCH_DATA names another folder", *path, b->name, b->title);
    free(*path);
    *path = NULL;
    return s;
}

dsb_status dsb_dataset_builtin_load(dsb_builtin_kind kind, dsb_text_file *out, dsb_err *err) {
    const dsb_builtin *b = &dsb_builtin_table[kind];
    char *path;
    *out = (dsb_text_file){0};
    DSB_TRY(dsb_dataset_builtin_path(kind, &path, err));
    dsb_status s = dsb_text_file_load(out, path, err);
    if (!s && strcmp(out->sha256, b->sha256) != 0)
        s = dsb_fail(err, DSB_EINPUT, "%s: SHA-256 is %s, but %s is wanted; `make data` after removing it", path, out->sha256, b->sha256);
    free(path);
    if (s) dsb_text_file_release(out);
    else dsb_text_reflow(out);
    return s;
}
