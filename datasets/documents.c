/* What `--text` names: one file, the objects of a JSONL file, or the files of a folder; many documents become one text. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "datasets/jsonl.h"
#include "datasets/text.h"

enum { MAX_DEPTH = 16, MAX_FILES = 1 << 20 };

typedef struct joiner {
    dsb_text_file *out;
    size_t room;
    const char *field;
} joiner;

/* Appends a document; an empty line comes between two. */
static dsb_status append(joiner *j, const char *name, const char *data, size_t n, dsb_err *err) {
    dsb_text_file *t = j->out;
    size_t gap = t->n_document ? 2 : 0, want;
    if (!dsb_add(t->n, n, &want) || !dsb_add(want, gap + 1, &want)) return dsb_fail(err, DSB_ENOMEM, "%s: the text is too long", name);
    if (want > j->room) {
        size_t room = want > 2 * j->room ? want : 2 * j->room;
        char *grown = realloc(t->data, room);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for %zu bytes of text", name, room);
        t->data = grown;
        j->room = room;
    }
    memcpy(t->data + t->n, "\n\n", gap);
    if (n) memcpy(t->data + t->n + gap, data, n);
    t->n += gap + n;
    t->data[t->n] = 0;
    t->n_document++;
    return DSB_OK;
}

static dsb_status append_object(void *ctx, const char *where, const json_t *object, dsb_err *err) {
    joiner *j = ctx;
    const char *field = j->field ? j->field : "text";
    const json_t *v = json_object_get(object, field);
    if (!v) return dsb_fail(err, DSB_EINPUT, "%s: field \"%s\" is missing; name the one that holds the text with --field", where, field);
    if (!json_is_string(v)) return dsb_fail(err, DSB_EINPUT, "%s: field \"%s\" isn't a string; name the one that holds the text with --field", where, field);
    return append(j, where, json_string_value(v), json_string_length(v), err);
}

static bool ends_in(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n > k && strcmp(name + n - k, end) == 0;
}

static dsb_status append_file(joiner *j, const char *path, bool jsonl, dsb_err *err) {
    dsb_text_file file;
    DSB_TRY(dsb_text_file_load(&file, path, err));
    dsb_status s = jsonl ? dsb_jsonl_each(path, file.data, file.n, append_object, j, err) : append(j, path, file.data, file.n, err);
    dsb_text_file_release(&file);
    return s;
}

typedef struct paths {
    char **item; /* (n) owned, each owned */
    size_t n, room;
} paths;

static dsb_status add_path(paths *p, const char *path, dsb_err *err) {
    if (p->n == MAX_FILES) return dsb_fail(err, DSB_EINPUT, "%s: more than %d texts in the folder", path, MAX_FILES);
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        char **grown = realloc(p->item, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its name", path);
        p->item = grown;
        p->room = room;
    }
    p->item[p->n] = strdup(path);
    return p->item[p->n] ? (p->n++, DSB_OK) : dsb_fail(err, DSB_ENOMEM, "%s: no memory for its name", path);
}

static dsb_status list_folder(paths *p, const char *dir, int depth, dsb_err *err);

/* Symbolic links are refused: a folder's texts are those that lie in it, and a hash of them should not hang on what a link points at today. */
static dsb_status list_entry(paths *p, const char *dir, const char *name, int depth, dsb_err *err) {
    char path[PATH_MAX];
    struct stat st, target;
    bool text = ends_in(name, ".txt") || ends_in(name, ".md") || ends_in(name, ".jsonl");
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return dsb_fail(err, DSB_EINPUT, "%s: a name in it is too long", dir);
    if (lstat(path, &st) != 0) return dsb_fail(err, DSB_EINPUT, "%s: can't be read: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return list_folder(p, path, depth + 1, err);
    if (S_ISLNK(st.st_mode) && (text || (stat(path, &target) == 0 && S_ISDIR(target.st_mode))))
        return dsb_fail(err, DSB_EINPUT, "%s: a symbolic link; the texts of a folder must lie in it: copy what it points at, or name that itself", path);
    return text ? add_path(p, path, err) : DSB_OK;
}

static dsb_status list_folder(paths *p, const char *dir, int depth, dsb_err *err) {
    if (depth > MAX_DEPTH) return dsb_fail(err, DSB_EINPUT, "%s: folders are nested deeper than %d", dir, MAX_DEPTH);
    DIR *d = opendir(dir);
    if (!d) return dsb_fail(err, DSB_EINPUT, "%s: can't be read: %s", dir, strerror(errno));
    dsb_status s = DSB_OK;
    for (struct dirent *e; !s && (e = readdir(d));)
        if (e->d_name[0] != '.') s = list_entry(p, dir, e->d_name, depth, err);
    closedir(d);
    return s;
}

static int compare_paths(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static dsb_status append_folder(joiner *j, const char *dir, dsb_err *err) {
    paths p = {0};
    dsb_status s = list_folder(&p, dir, 0, err);
    if (!s && p.n == 0) s = dsb_fail(err, DSB_EINPUT, "%s: no *.txt, *.md or *.jsonl in the folder", dir);
    if (!s) qsort(p.item, p.n, sizeof *p.item, compare_paths);
    for (size_t i = 0; i < p.n && !s; i++) s = append_file(j, p.item[i], ends_in(p.item[i], ".jsonl"), err);
    for (size_t i = 0; i < p.n; i++) free(p.item[i]);
    free(p.item);
    return s;
}

dsb_status dsb_text_load(dsb_text_file *out, const char *path, const char *field, dsb_err *err) {
    struct stat st;
    joiner j = {.out = out, .field = field};
    bool folder = strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode), jsonl = ends_in(path, ".jsonl") || (field && !ends_in(path, ".txt") && !ends_in(path, ".md"));
    if (!folder && !jsonl) return dsb_text_file_load(out, path, err);
    *out = (dsb_text_file){0};
    dsb_status s = folder ? append_folder(&j, path, err) : append_file(&j, path, true, err);
    if (!s && out->n_document == 0) s = dsb_fail(err, DSB_EINPUT, "%s: holds no document", path);
    if (s) dsb_text_file_release(out);
    else dsb_sha256_hex(out->data, out->n, out->sha256);
    return s;
}
