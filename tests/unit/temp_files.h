/* What tests of readers share: a folder of their own with files in it, and the check of a refusal. */
#ifndef DSB_TESTS_TEMP_FILES_H
#define DSB_TESTS_TEMP_FILES_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

typedef struct temp_dir {
    char path[64];
    char file[512]; /* of the latest temp_put */
} temp_dir;

static inline void temp_make(temp_dir *t) {
    snprintf(t->path, sizeof t->path, "/tmp/dsb_test_XXXXXX");
    assert_non_null(mkdtemp(t->path));
}

/* Writes a file of the folder; its path is in t->file. */
static inline const char *temp_put(temp_dir *t, const char *leaf, const void *data, size_t n) {
    snprintf(t->file, sizeof t->file, "%s/%s", t->path, leaf);
    assert_int_equal(dsb_file_write(t->file, data, n, NULL), DSB_OK);
    return t->file;
}
static inline const char *temp_text(temp_dir *t, const char *leaf, const char *text) { return temp_put(t, leaf, text, strlen(text)); }

static inline int temp_drop(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}
static inline void temp_remove(temp_dir *t) { nftw(t->path, temp_drop, 8, FTW_DEPTH | FTW_PHYS); }

/* Files in a folder, hidden ones apart. */
static inline int temp_entries(const char *dir) {
    DIR *d = opendir(dir);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* The status, and a message of one line that holds every part (NULL: no more). */
static inline void refused(dsb_status got, const dsb_err *err, dsb_status want, const char *a, const char *b) {
    if (got != want) fail_msg("status %d, wanted %d; message: %s", got, want, got ? err->text : "");
    if (strchr(err->text, '\n')) fail_msg("more than one line: %s", err->text);
    if (!strstr(err->text, a) || (b && !strstr(err->text, b))) fail_msg("message is '%s', wanted '%s' and '%s'", err->text, a, b ? b : "");
}

#endif
