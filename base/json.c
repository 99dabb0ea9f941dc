#include "base/json.h"

#include "base/file.h"

static const char *type_name(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

static dsb_status parse(json_t **out, const char *name, const char *text, size_t n, size_t flags, dsb_err *err) {
    json_error_t e;
    *out = json_loadb(text ? text : "", n, JSON_ALLOW_NUL | flags, &e);
    if (!*out) return dsb_fail(err, DSB_EINPUT, "%s: not valid JSON at line %d, column %d: %s", name, e.line, e.column, e.text);
    return DSB_OK;
}

dsb_status dsb_json_parse(json_t **out, const char *name, const char *text, size_t n, dsb_err *err) { return parse(out, name, text, n, 0, err); }

static dsb_status load(json_t **out, const char *path, size_t flags, dsb_err *err) {
    dsb_map map;
    *out = NULL;
    DSB_TRY(dsb_map_open(&map, path, err));
    dsb_status s = parse(out, path, (const char *)map.data, map.size, flags, err);
    dsb_map_close(&map);
    return s;
}

dsb_status dsb_json_load(json_t **out, const char *path, dsb_err *err) { return load(out, path, 0, err); }
dsb_status dsb_json_load_own(json_t **out, const char *path, dsb_err *err) { return load(out, path, JSON_REJECT_DUPLICATES, err); }

/* The field, or NULL where it is absent or null; *s says whether that is an error. */
static const json_t *field(const json_t *obj, const char *name, const char *key, bool required, dsb_status *s, dsb_err *err) {
    const json_t *v = json_object_get(obj, key);
    *s = DSB_OK;
    if (v && !json_is_null(v)) return v;
    if (required) *s = dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is missing", name, key);
    return NULL;
}

dsb_status dsb_json_int(const json_t *obj, const char *name, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, dsb_err *err) {
    dsb_status s;
    const json_t *v = field(obj, name, key, required, &s, err);
    if (!v) return s;
    if (!json_is_integer(v)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %s; an integer is wanted", name, key, type_name(v));
    int64_t x = json_integer_value(v);
    if (x < lo || x > hi)
        return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %lld; %lld to %lld is wanted", name, key, (long long)x, (long long)lo, (long long)hi);
    *out = x;
    return DSB_OK;
}

dsb_status dsb_json_real(const json_t *obj, const char *name, const char *key, bool required, double *out, dsb_err *err) {
    dsb_status s;
    const json_t *v = field(obj, name, key, required, &s, err);
    if (!v) return s;
    if (!json_is_number(v)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %s; a number is wanted", name, key, type_name(v));
    *out = json_number_value(v);
    return DSB_OK;
}

dsb_status dsb_json_bool(const json_t *obj, const char *name, const char *key, bool required, bool *out, dsb_err *err) {
    dsb_status s;
    const json_t *v = field(obj, name, key, required, &s, err);
    if (!v) return s;
    if (!json_is_boolean(v)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %s; true or false is wanted", name, key, type_name(v));
    *out = json_is_true(v);
    return DSB_OK;
}

dsb_status dsb_json_string(const json_t *obj, const char *name, const char *key, bool required, const char **out, dsb_err *err) {
    dsb_status s;
    const json_t *v = field(obj, name, key, required, &s, err);
    if (!v) return s;
    if (!json_is_string(v)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %s; a string is wanted", name, key, type_name(v));
    *out = json_string_value(v);
    return DSB_OK;
}
