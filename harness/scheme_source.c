#include "harness/scheme_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model_check.h"

dsb_status dsb_scheme_source_open(dsb_scheme_source *s, const dsb_model *m, const char *model_dir, const dsb_recipe *recipe, const char *dir, dsb_err *err) {
    char path[4096];
    *s = (dsb_scheme_source){.scheme = {.name = recipe ? recipe->name : "reference", .recipe = recipe, .source = &m->checkpoint, .own_source = true, .bf16 = recipe && recipe->carrier_bf16}};
    DSB_TRY(dsb_model_check_recipe(m, recipe, NULL, err));
    if (!dir && recipe && recipe->source && strcmp(recipe->source, ".") == 0) dir = model_dir; /* which may be a file */
    if (!dir && recipe && recipe->source) {
        int n = recipe->source[0] == '/' ? snprintf(path, sizeof path, "%s", recipe->source) : snprintf(path, sizeof path, "%s/%s", model_dir, recipe->source);
        if (n < 0 || (size_t)n >= sizeof path) return dsb_fail(err, DSB_EINPUT, "scheme %s: the path of its source is too long", recipe->name);
        dir = path;
    }
    if (!dir) return DSB_OK;
    if (recipe && recipe->rotate) return dsb_fail(err, DSB_EUSAGE, "scheme %s: \"rotate\" folds the norms of the model's own checkpoint; no other checkpoint (%s) is wanted", recipe->name, dir);
    dsb_err inner = {0};
    dsb_status st = dsb_checkpoint_open(&s->own, dir, &inner);
    if (st) return dsb_fail(err, st, "scheme %s: %s (another checkpoint can be given: --scheme %s=DIR)", s->scheme.name, inner.text, s->scheme.name);
    s->opened = true;
    s->scheme.source = &s->own;
    s->scheme.own_source = false;
    st = dsb_model_check_stored(m, &s->scheme, err);
    if (st) dsb_scheme_source_close(s);
    return st;
}

void dsb_scheme_source_close(dsb_scheme_source *s) {
    if (s->opened) dsb_checkpoint_close(&s->own);
    s->opened = false;
}
