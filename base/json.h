/* JSON over jansson: loading with one-line errors, typed fields that say file, key, found and wanted. */
#ifndef DSB_BASE_JSON_H
#define DSB_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* A document from a file or from bytes (`name` is used in messages); *out is owned, json_decref() it. */
dsb_status dsb_json_load(json_t **out, const char *path, dsb_err *err);
/* The same of a file that a user wrote (recipe, suite): a key that stands twice is an error. */
dsb_status dsb_json_load_own(json_t **out, const char *path, dsb_err *err);
dsb_status dsb_json_parse(json_t **out, const char *name, const char *text, size_t n, dsb_err *err);

/* Typed fields of an object; where the key is absent or null, *out keeps its value (set the default first).
 * `required` makes absence an error. Integers outside lo..hi are errors that name the range. */
dsb_status dsb_json_int(const json_t *obj, const char *name, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, dsb_err *err);
dsb_status dsb_json_real(const json_t *obj, const char *name, const char *key, bool required, double *out, dsb_err *err);
dsb_status dsb_json_bool(const json_t *obj, const char *name, const char *key, bool required, bool *out, dsb_err *err);
/* *out is borrowed from the document. */
dsb_status dsb_json_string(const json_t *obj, const char *name, const char *key, bool required, const char **out, dsb_err *err);

#endif
