#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

dsb_status dsb_map_open(dsb_map *map, const char *path, dsb_err *err) {
    *map = (dsb_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused below, not waited for */
    if (fd < 0) return dsb_fail(err, DSB_EINPUT, "%s: can't be opened: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return dsb_fail(err, DSB_EINPUT, "%s: not a regular file", path);
    }
    map->size = (size_t)st.st_size;
    if (map->size > 0) {
        void *p = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            int e = errno;
            close(fd);
            *map = (dsb_map){0};
            return dsb_fail(err, DSB_EINPUT, "%s: can't be mapped: %s", path, strerror(e));
        }
        map->data = p;
    }
    close(fd);
    return DSB_OK;
}

void dsb_map_close(dsb_map *map) {
    if (map->data) munmap((void *)map->data, map->size);
    *map = (dsb_map){0};
}

void dsb_map_want(const void *data, size_t n) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)data / page * page;
    if (n > 0) madvise((void *)from, (uintptr_t)data + n - from, MADV_WILLNEED);
}

/* Whole pages only: those at the ends hold others' bytes too. */
void dsb_map_drop(const void *data, size_t n) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)data + page - 1) / page * page, to = ((uintptr_t)data + n) / page * page;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

static int write_all(int fd, const char *p, size_t n) {
    while (n > 0) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return -1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

dsb_status dsb_file_write(const char *path, const void *data, size_t n, dsb_err *err) {
    char *temp = NULL;
    if (asprintf(&temp, "%s.XXXXXX", path) < 0) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its name", path);
    int fd = mkstemp(temp);
    if (fd < 0) {
        dsb_status s = dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", path, strerror(errno));
        free(temp);
        return s;
    }
    mode_t mask = umask(0);
    umask(mask);
    int bad = write_all(fd, data, n) != 0 || fchmod(fd, 0666 & ~mask) != 0 || fsync(fd) != 0;
    int e = errno;
    if (close(fd) != 0 && !bad) {
        bad = 1;
        e = errno;
    }
    if (!bad && rename(temp, path) != 0) {
        bad = 1;
        e = errno;
    }
    if (bad) unlink(temp);
    free(temp);
    return bad ? dsb_fail(err, DSB_EOUTPUT, "%s: can't be written: %s", path, strerror(e)) : DSB_OK;
}

dsb_status dsb_dir_make(const char *path, dsb_err *err) {
    char *p = strdup(path);
    if (!p) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its name", path);
    for (char *c = p + 1;; c++) {
        if (*c && *c != '/') continue;
        char keep = *c;
        *c = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            dsb_status s = dsb_fail(err, DSB_EOUTPUT, "%s: the folder can't be made: %s", p, strerror(errno));
            free(p);
            return s;
        }
        *c = keep;
        if (!keep) break;
    }
    struct stat st;
    int ok = stat(p, &st) == 0 && S_ISDIR(st.st_mode);
    free(p);
    return ok ? DSB_OK : dsb_fail(err, DSB_EOUTPUT, "%s: is there, but is no folder", path);
}

bool dsb_program_dir(char out[PATH_MAX]) {
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0) return false;
    out[n] = 0;
    char *slash = strrchr(out, '/');
    if (slash) *slash = 0;
    return slash != NULL;
}

void dsb_sha256_hex(const void *data, size_t n, char out[65]) {
    struct sha256_ctx ctx;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&ctx);
    sha256_update(&ctx, n, data);
    sha256_digest(&ctx, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

dsb_status dsb_sha256_file(const char *path, char out[65], dsb_err *err) {
    dsb_map map;
    DSB_TRY(dsb_map_open(&map, path, err));
    dsb_sha256_hex(map.data, map.size, out);
    dsb_map_close(&map);
    return DSB_OK;
}
