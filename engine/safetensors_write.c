#include "engine/safetensors_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

dsb_status dsb_st_writer_open(dsb_st_writer *w, const char *path, dsb_err *err) {
    *w = (dsb_st_writer){.path = strdup(path), .header = json_object()};
    if (!w->path || !w->header || asprintf(&w->temp, "%s.XXXXXX", path) < 0) {
        w->temp = NULL;
        dsb_st_writer_close(w);
        return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its name", path);
    }
    int fd = mkstemp(w->temp);
    if (fd >= 0) w->file = fdopen(fd, "wb");
    if (w->file) return DSB_OK;
    int e = errno;
    if (fd >= 0) close(fd);
    dsb_st_writer_close(w);
    return dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", path, strerror(e));
}

dsb_status dsb_st_writer_declare(dsb_st_writer *w, const char *name, dsb_dtype dtype, int ndim, const int64_t *shape, dsb_err *err) {
    size_t bytes = dsb_dtype_size(dtype);
    json_t *dims = json_array(), *entry = NULL;
    for (int i = 0; i < ndim; i++) {
        json_array_append_new(dims, json_integer(shape[i]));
        if (!dsb_mul(bytes, (size_t)shape[i], &bytes)) bytes = SIZE_MAX;
    }
    if (bytes < SIZE_MAX / 2 && !json_object_get(w->header, name))
        entry = json_pack("{s:s, s:O, s:[I, I]}", "dtype", dsb_dtype_name(dtype), "shape", dims, "data_offsets", (json_int_t)w->declared, (json_int_t)(w->declared + bytes));
    json_decref(dims);
    if (!entry || json_object_set_new(w->header, name, entry) != 0) return dsb_fail(err, DSB_EINTERNAL, "%s: tensor %s can't be declared", w->path, name);
    w->declared += bytes;
    return DSB_OK;
}

static dsb_status put(dsb_st_writer *w, const void *data, size_t n, dsb_err *err) {
    if (n == 0 || fwrite(data, 1, n, w->file) == n) return DSB_OK;
    return dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", w->path, strerror(errno));
}

static dsb_status put_header(dsb_st_writer *w, dsb_err *err) {
    char *text = json_dumps(w->header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text) return dsb_fail(err, DSB_EINTERNAL, "%s: its header can't be written as JSON", w->path);
    size_t n = strlen(text), pad = (8 - n % 8) % 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((n + pad) >> 8 * i);
    dsb_status s = put(w, length, 8, err);
    if (!s) s = put(w, text, n, err);
    if (!s) s = put(w, "       ", pad, err);
    free(text);
    json_decref(w->header);
    w->header = NULL;
    return s;
}

dsb_status dsb_st_writer_write(dsb_st_writer *w, const void *data, size_t bytes, dsb_err *err) {
    if (w->header) DSB_TRY(put_header(w, err));
    w->written += bytes;
    return put(w, data, bytes, err);
}

dsb_status dsb_st_writer_finish(dsb_st_writer *w, dsb_err *err) {
    if (w->header) DSB_TRY(put_header(w, err));
    if (w->written != w->declared) return dsb_fail(err, DSB_EINTERNAL, "%s: %zu bytes written, %zu declared", w->path, w->written, w->declared);
    mode_t mask = umask(0);
    umask(mask);
    int bad = fflush(w->file) != 0 || fchmod(fileno(w->file), 0666 & ~mask) != 0, e = errno;
    if (fclose(w->file) != 0 && !bad) {
        bad = 1;
        e = errno;
    }
    w->file = NULL;
    if (!bad && rename(w->temp, w->path) != 0) {
        bad = 1;
        e = errno;
    }
    if (bad) return dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", w->path, strerror(e));
    free(w->temp);
    w->temp = NULL;
    return DSB_OK;
}

void dsb_st_writer_close(dsb_st_writer *w) {
    if (w->file) fclose(w->file);
    if (w->temp) unlink(w->temp);
    json_decref(w->header);
    free(w->temp);
    free(w->path);
    *w = (dsb_st_writer){0};
}
