/* A temporary file without a name, for what doesn't fit memory: it is gone when the program ends, however it ends. */
#ifndef DSB_BASE_SPILL_H
#define DSB_BASE_SPILL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_spill {
    int fd; /* -1: closed */
    const char *dir; /* borrowed */
} dsb_spill;

/* Makes it in dir with room for `bytes` (reserved on the disk at once). DSB_EOUTPUT names the folder. */
dsb_status dsb_spill_open(dsb_spill *s, const char *dir, int64_t bytes, dsb_err *err);
void dsb_spill_close(dsb_spill *s);
dsb_status dsb_spill_read(const dsb_spill *s, int64_t at, void *dst, size_t bytes, dsb_err *err);
dsb_status dsb_spill_write(const dsb_spill *s, int64_t at, const void *src, size_t bytes, dsb_err *err);

#endif
