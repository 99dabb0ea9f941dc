#include "datasets/jsonl.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_blank(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r", p[i]) || !p[i]) return false;
    return true;
}

static dsb_status take_line(const char *where, const char *line, size_t n, dsb_jsonl_take take, void *ctx, dsb_err *err) {
    json_t *doc;
    DSB_TRY(dsb_json_parse(&doc, where, line, n, err));
    dsb_status s = json_is_object(doc) ? take(ctx, where, doc, err) : dsb_fail(err, DSB_EINPUT, "%s: not a JSON object; JSONL wants one on each line", where);
    json_decref(doc);
    return s;
}

dsb_status dsb_jsonl_each(const char *name, const char *data, size_t n, dsb_jsonl_take take, void *ctx, dsb_err *err) {
    char where[PATH_MAX + 32];
    size_t number = 1;
    for (size_t from = 0; from < n; number++) {
        const char *newline = memchr(data + from, '\n', n - from);
        size_t len = newline ? (size_t)(newline - data) - from : n - from;
        snprintf(where, sizeof where, "%.*s, line %zu", PATH_MAX, name, number);
        if (!is_blank(data + from, len)) DSB_TRY(take_line(where, data + from, len, take, ctx, err));
        from += len + 1;
    }
    return DSB_OK;
}
