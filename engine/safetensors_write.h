/* Writes one safetensors file: tensors are declared first, their data follow in the same order, the file appears when finished.
 * The header is JSON padded to 8 bytes; the data go to a temporary file beside the path, renamed at the end. */
#ifndef DSB_ENGINE_SAFETENSORS_WRITE_H
#define DSB_ENGINE_SAFETENSORS_WRITE_H

#include <jansson.h>
#include <stdio.h>

#include "base/format.h"
#include "base/status.h"

typedef struct dsb_st_writer {
    char *path, *temp;
    json_t *header;
    FILE *file;
    size_t declared, written; /* bytes of data */
} dsb_st_writer;

dsb_status dsb_st_writer_open(dsb_st_writer *w, const char *path, dsb_err *err);
/* Declares the next tensor; a name twice is DSB_EINTERNAL. */
dsb_status dsb_st_writer_declare(dsb_st_writer *w, const char *name, dsb_dtype dtype, int ndim, const int64_t *shape, dsb_err *err);
/* Data of the declared tensors in their order, in pieces of any size. The first piece writes the header. DSB_EOUTPUT. */
dsb_status dsb_st_writer_write(dsb_st_writer *w, const void *data, size_t bytes, dsb_err *err);
/* Renames into place; DSB_EINTERNAL if data are missing. Close afterwards in any case. */
dsb_status dsb_st_writer_finish(dsb_st_writer *w, dsb_err *err);
void dsb_st_writer_close(dsb_st_writer *w); /* drops an unfinished file */

#endif
