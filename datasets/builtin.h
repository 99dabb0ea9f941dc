/* The built-in texts that `make data` fetches: where they are, and what they must hash to. */
#ifndef DSB_DATASETS_BUILTIN_H
#define DSB_DATASETS_BUILTIN_H

#include "datasets/text.h"

typedef enum dsb_builtin_kind { DSB_BUILTIN_EVALUATION, DSB_BUILTIN_CALIBRATION, DSB_BUILTIN_COUNT } dsb_builtin_kind;

typedef struct dsb_builtin {
    const char *name;   /* "jargon" */
    const char *title;  /* "The Jargon File 4.4.7" */
    const char *file;   /* "jargon.txt" */
    const char *sha256; /* of the file as fetched, before the reflow */
} dsb_builtin;
extern const dsb_builtin dsb_builtin_table[DSB_BUILTIN_COUNT];

/* The file's path: $DSBENCH_DATA, else data/ beside the program, else PREFIX/share/dsbench/data of an installed one. *path is owned, free() it.
 * DSB_EINPUT where it is not there: the message says `make data`. */
dsb_status dsb_dataset_builtin_path(dsb_builtin_kind kind, char **path, dsb_err *err);
/* The text, its checksum verified (DSB_EINPUT if it differs), reflowed. */
dsb_status dsb_dataset_builtin_load(dsb_builtin_kind kind, dsb_text_file *out, dsb_err *err);

#endif
