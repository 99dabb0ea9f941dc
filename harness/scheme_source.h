/* A recipe bound to the checkpoint it reads. */
#ifndef DSB_HARNESS_SCHEME_SOURCE_H
#define DSB_HARNESS_SCHEME_SOURCE_H

#include "engine/model.h"

typedef struct dsb_scheme_source {
    dsb_scheme scheme;
    dsb_checkpoint own; /* open where the scheme reads another directory */
    bool opened;
} dsb_scheme_source;

/* recipe NULL: the reference. dir (may be NULL) stands before the recipe's own source, which is relative to model_dir. */
dsb_status dsb_scheme_source_open(dsb_scheme_source *s, const dsb_model *m, const char *model_dir, const dsb_recipe *recipe, const char *dir, dsb_err *err);
void dsb_scheme_source_close(dsb_scheme_source *s);

#endif
