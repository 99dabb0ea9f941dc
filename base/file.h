/* Files: read-only maps, whole reads, writes that are complete or absent, SHA-256. Errors name the path and errno's text. */
#ifndef DSB_BASE_FILE_H
#define DSB_BASE_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_map {
    const uint8_t *data; /* borrowed until dsb_map_close */
    size_t size;
} dsb_map;

/* Maps a regular file for reading (size 0 gives data NULL). DSB_EINPUT if missing, a directory or unreadable. */
dsb_status dsb_map_open(dsb_map *map, const char *path, dsb_err *err);
void dsb_map_close(dsb_map *map);

/* Of bytes within a map: asks the system to read them ahead; gives their pages back, which a later look reads again. */
void dsb_map_want(const void *data, size_t n);
void dsb_map_drop(const void *data, size_t n);

/* Writes n bytes beside path and renames over it: a reader sees the old file or the whole new one. DSB_EOUTPUT. */
dsb_status dsb_file_write(const char *path, const void *data, size_t n, dsb_err *err);
/* Makes a directory and its parents (0777 less umask); fine if it is there. DSB_EOUTPUT. */
dsb_status dsb_dir_make(const char *path, dsb_err *err);

/* The folder of the running program, without a last slash; false if it can't be told. */
bool dsb_program_dir(char out[PATH_MAX]);

/* Lower-case hex SHA-256 (64 digits and a NUL) of bytes, or of a file's content. */
void dsb_sha256_hex(const void *data, size_t n, char out[65]);
dsb_status dsb_sha256_file(const char *path, char out[65], dsb_err *err);

#endif
