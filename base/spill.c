#include "base/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Not every file system knows O_TMPFILE: elsewhere the name is taken away at once. */
static int open_nameless(const char *dir) {
    char path[4096];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    if ((size_t)snprintf(path, sizeof path, "%s/dsbench.XXXXXX", dir) >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

dsb_status dsb_spill_open(dsb_spill *s, const char *dir, int64_t bytes, dsb_err *err) {
    *s = (dsb_spill){.fd = open_nameless(dir), .dir = dir};
    int e = s->fd < 0 ? errno : bytes > 0 ? posix_fallocate(s->fd, 0, bytes) : 0;
    if (!e) return DSB_OK;
    dsb_spill_close(s);
    return dsb_fail(err, DSB_EOUTPUT, "%s: no temporary file of %lld bytes for activations: %s; set TMPDIR to a folder with room, or --memory higher", dir, (long long)bytes, strerror(e));
}

void dsb_spill_close(dsb_spill *s) {
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
}

dsb_status dsb_spill_read(const dsb_spill *s, int64_t at, void *dst, size_t bytes, dsb_err *err) {
    for (char *p = dst; bytes > 0;) {
        ssize_t k = pread(s->fd, p, bytes, at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return dsb_fail(err, DSB_EOUTPUT, "%s: the temporary file of activations can't be read: %s", s->dir, k < 0 ? strerror(errno) : "it ends too early");
        p += k;
        at += k;
        bytes -= (size_t)k;
    }
    return DSB_OK;
}

dsb_status dsb_spill_write(const dsb_spill *s, int64_t at, const void *src, size_t bytes, dsb_err *err) {
    for (const char *p = src; bytes > 0;) {
        ssize_t k = pwrite(s->fd, p, bytes, at);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return dsb_fail(err, DSB_EOUTPUT, "%s: the temporary file of activations can't be written: %s", s->dir, strerror(errno));
        p += k;
        at += k;
        bytes -= (size_t)k;
    }
    return DSB_OK;
}
