/* JSONL: one JSON object a line. Lines of white space alone are passed over; all else that is no object is an error with its line number. */
#ifndef DSB_DATASETS_JSONL_H
#define DSB_DATASETS_JSONL_H

#include <stddef.h>

#include "base/json.h"

/* `where` names file and line, for messages ("a.jsonl, line 3"); both are borrowed for the call. */
typedef dsb_status (*dsb_jsonl_take)(void *ctx, const char *where, const json_t *object, dsb_err *err);
/* Calls `take` for every object of n bytes of UTF-8, in order; one line is in memory as JSON at a time. */
dsb_status dsb_jsonl_each(const char *name, const char *data, size_t n, dsb_jsonl_take take, void *ctx, dsb_err *err);

#endif
