#include "engine/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEY = 65535, MAX_NAME = 255, MAX_NESTING = 4 };

/* What is left of the file. */
typedef struct cursor {
    dsb_gguf *f;
    const uint8_t *at, *end;
} cursor;

static uint64_t little(const uint8_t *p, int n) {
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

/* The next n bytes, or NULL and the error. */
static dsb_status take(cursor *c, uint64_t n, const char *what, const uint8_t **out, dsb_err *err) {
    size_t left = (size_t)(c->end - c->at);
    *out = NULL;
    if (n > left) return dsb_fail(err, DSB_EINPUT, "%s: %s wants %llu bytes, %zu follow; truncated or damaged", c->f->path, what, (unsigned long long)n, left);
    *out = c->at;
    c->at += n;
    return DSB_OK;
}

static dsb_status take_int(cursor *c, int bytes, const char *what, uint64_t *out, dsb_err *err) {
    const uint8_t *p = NULL;
    *out = 0;
    DSB_TRY(take(c, (uint64_t)bytes, what, &p, err));
    *out = little(p, bytes);
    return DSB_OK;
}

/* A name of the file as a C string in the arena. */
static dsb_status take_name(cursor *c, const char *what, uint64_t longest, const char **out, dsb_err *err) {
    uint64_t n;
    const uint8_t *p;
    void *copy;
    DSB_TRY(take_int(c, 8, what, &n, err));
    if (n == 0 || n > longest) return dsb_fail(err, DSB_EINPUT, "%s: %s of %llu bytes; 1 to %llu is wanted", c->f->path, what, (unsigned long long)n, (unsigned long long)longest);
    DSB_TRY(take(c, n, what, &p, err));
    if (memchr(p, 0, n)) return dsb_fail(err, DSB_EINPUT, "%s: %s holds a NUL byte", c->f->path, what);
    DSB_TRY(dsb_arena_take(&c->f->arena, &copy, n + 1, 1, c->f->path, err));
    memcpy(copy, p, n);
    *out = copy;
    return DSB_OK;
}

static int type_bytes(uint64_t type) {
    static const int k_bytes[DSB_GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return k_bytes[type];
}

static const char *type_name(const dsb_gguf_value *v) {
    static const char *const k_name[DSB_GGUF_TYPE_COUNT] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "a boolean", "a string", "an array", "u64", "i64", "f64"};
    return v->is_array ? "an array" : k_name[v->type];
}

static dsb_status bad_type(const cursor *c, const char *key, uint64_t type, dsb_err *err) {
    return dsb_fail(err, DSB_EINPUT, "%s: key %s: value type %llu is unknown; 0 to %d is wanted", c->f->path, key, (unsigned long long)type, DSB_GGUF_TYPE_COUNT - 1);
}

/* Passes over n values of a type; an array's header is its element type and count. */
static dsb_status skip_values(cursor *c, const char *key, uint64_t type, uint64_t n, int depth, dsb_err *err) {
    const uint8_t *p;
    uint64_t inner, count;
    size_t bytes;
    if (type_bytes(type)) {
        if (!dsb_mul((size_t)n, (size_t)type_bytes(type), &bytes)) return dsb_fail(err, DSB_EINPUT, "%s: key %s: %llu values are announced; damaged", c->f->path, key, (unsigned long long)n);
        return take(c, bytes, key, &p, err);
    }
    if (depth > MAX_NESTING) return dsb_fail(err, DSB_EINPUT, "%s: key %s: arrays within arrays, deeper than %d", c->f->path, key, MAX_NESTING);
    for (uint64_t i = 0; i < n; i++) {
        if (type == DSB_GGUF_STRING) {
            DSB_TRY(take_int(c, 8, key, &count, err));
            DSB_TRY(take(c, count, key, &p, err));
            continue;
        }
        DSB_TRY(take_int(c, 4, key, &inner, err));
        DSB_TRY(take_int(c, 8, key, &count, err));
        if (inner >= DSB_GGUF_TYPE_COUNT) return bad_type(c, key, inner, err);
        DSB_TRY(skip_values(c, key, inner, count, depth + 1, err));
    }
    return DSB_OK;
}

static dsb_status read_value(cursor *c, dsb_gguf_value *v, dsb_err *err) {
    uint64_t type;
    DSB_TRY(take_name(c, "a key", MAX_KEY, &v->key, err));
    DSB_TRY(take_int(c, 4, v->key, &type, err));
    v->n = 1;
    if (type == DSB_GGUF_ARRAY) {
        v->is_array = true;
        DSB_TRY(take_int(c, 4, v->key, &type, err));
        DSB_TRY(take_int(c, 8, v->key, &v->n, err));
    }
    if (type >= DSB_GGUF_TYPE_COUNT) return bad_type(c, v->key, type, err);
    v->type = (dsb_gguf_type)type;
    v->data = c->at;
    return skip_values(c, v->key, type, v->n, 0, err);
}

static int by_key(const void *a, const void *b) { return strcmp(((const dsb_gguf_value *)a)->key, ((const dsb_gguf_value *)b)->key); }
static int by_name(const void *a, const void *b) { return strcmp(((const dsb_st_tensor *)a)->name, ((const dsb_st_tensor *)b)->name); }

static dsb_status read_values(cursor *c, uint64_t n, dsb_err *err) {
    dsb_gguf *f = c->f;
    void *p;
    if (n > (uint64_t)(c->end - c->at) / 13) return dsb_fail(err, DSB_EINPUT, "%s: %llu metadata keys are announced, the file is too short for them", f->path, (unsigned long long)n); /* 8 + 1 + 4 bytes at least */
    DSB_TRY(dsb_arena_take(&f->arena, &p, (size_t)n + 1, sizeof *f->values, f->path, err));
    f->values = p;
    for (; f->n_value < (int64_t)n; f->n_value++) DSB_TRY(read_value(c, &f->values[f->n_value], err));
    qsort(f->values, (size_t)n, sizeof *f->values, by_key);
    for (int64_t i = 1; i < f->n_value; i++)
        if (strcmp(f->values[i - 1].key, f->values[i].key) == 0) return dsb_fail(err, DSB_EINPUT, "%s: key %s is there twice", f->path, f->values[i].key);
    return DSB_OK;
}

/* The type's place in the engine: plain elements or blocks. */
static dsb_status read_type(const dsb_gguf *f, dsb_st_tensor *t, uint64_t id, dsb_err *err) {
    static const struct {
        uint64_t id;
        dsb_dtype dtype;
    } k_plain[] = {{0, DSB_F32}, {1, DSB_F16}, {30, DSB_BF16}, {28, DSB_F64}, {24, DSB_I8}, {25, DSB_I16}, {26, DSB_I32}, {27, DSB_I64}};
    for (size_t i = 0; i < sizeof k_plain / sizeof *k_plain; i++)
        if (k_plain[i].id == id) {
            t->dtype = k_plain[i].dtype;
            return DSB_OK;
        }
    t->dtype = DSB_U8;
    t->blocks = id <= UINT32_MAX ? dsb_ggml_find((uint32_t)id) : NULL;
    if (t->blocks) return DSB_OK;
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: ggml type %llu (%s) can't be read; F32, F16, BF16, Q8_0, Q4_0 to Q5_1, Q2_K to Q6_K, IQ4_NL, IQ4_XS or MXFP4 is wanted", f->path, t->name, (unsigned long long)id, dsb_ggml_name((uint32_t)id));
}

static dsb_status read_tensor(cursor *c, dsb_st_tensor *t, uint64_t *offset, dsb_err *err) {
    const dsb_gguf *f = c->f;
    uint64_t n_dim, type, dim;
    DSB_TRY(take_name(c, "a tensor's name", MAX_NAME, &t->name, err));
    DSB_TRY(take_int(c, 4, t->name, &n_dim, err));
    if (n_dim < 1 || n_dim > DSB_ST_MAX_DIM) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %llu dimensions; 1 to %d is wanted", f->path, t->name, (unsigned long long)n_dim, DSB_ST_MAX_DIM);
    t->ndim = (int)n_dim;
    size_t count = 1;
    for (int i = 0; i < t->ndim; i++) {
        DSB_TRY(take_int(c, 8, t->name, &dim, err));
        if (dim == 0) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dimension %d is 0", f->path, t->name, i);
        if (dim > INT64_MAX || !dsb_mul(count, (size_t)dim, &count)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dimension %d is absurdly large", f->path, t->name, i);
        t->shape[t->ndim - 1 - i] = (int64_t)dim; /* the file's first is the contiguous one */
    }
    DSB_TRY(take_int(c, 4, t->name, &type, err));
    DSB_TRY(read_type(f, t, type, err));
    int64_t row = t->shape[t->ndim - 1];
    if (t->blocks && row % t->blocks->n) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: rows of %lld values don't split into %s blocks of %d", f->path, t->name, (long long)row, t->blocks->name, t->blocks->n);
    size_t units = t->blocks ? count / (size_t)t->blocks->n : count;
    if (!dsb_mul(units, t->blocks ? (size_t)t->blocks->bytes : dsb_dtype_size(t->dtype), &t->bytes)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its shape is absurdly large", f->path, t->name);
    return take_int(c, 8, t->name, offset, err);
}

static int by_place(const void *a, const void *b) {
    const dsb_st_tensor *x = a, *y = b;
    return x->data != y->data ? (x->data > y->data) - (x->data < y->data) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* No two tensors share bytes, and no two a name; then they are in order of name. */
static dsb_status check_tensors(dsb_gguf *f, dsb_err *err) {
    qsort(f->tensors, (size_t)f->n_tensor, sizeof *f->tensors, by_place);
    for (int64_t i = 1; i < f->n_tensor; i++)
        if (f->tensors[i - 1].data + f->tensors[i - 1].bytes > f->tensors[i].data)
            return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its data begin inside those of %s", f->path, f->tensors[i].name, f->tensors[i - 1].name);
    qsort(f->tensors, (size_t)f->n_tensor, sizeof *f->tensors, by_name);
    for (int64_t i = 1; i < f->n_tensor; i++)
        if (strcmp(f->tensors[i - 1].name, f->tensors[i].name) == 0) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is there twice", f->path, f->tensors[i].name);
    return DSB_OK;
}

static dsb_status read_tensors(cursor *c, uint64_t n, dsb_err *err) {
    dsb_gguf *f = c->f;
    void *p;
    uint64_t *offsets;
    int64_t align = 32;
    if (n > (uint64_t)(c->end - c->at) / 33) return dsb_fail(err, DSB_EINPUT, "%s: %llu tensors are announced, the file is too short for them", f->path, (unsigned long long)n); /* 8 + 1 + 4 + 8 + 4 + 8 bytes at least */
    DSB_TRY(dsb_gguf_int(f, "general.alignment", false, 1, 1 << 20, &align, err));
    if (align & (align - 1)) return dsb_fail(err, DSB_EINPUT, "%s: general.alignment is %lld; a power of two is wanted", f->path, (long long)align);
    DSB_TRY(dsb_arena_take(&f->arena, &p, (size_t)n + 1, sizeof *f->tensors, f->path, err));
    f->tensors = p;
    DSB_TRY(dsb_arena_take(&f->arena, &p, (size_t)n + 1, sizeof *offsets, f->path, err));
    offsets = p;
    for (uint64_t i = 0; i < n; i++) DSB_TRY(read_tensor(c, &f->tensors[i], &offsets[i], err));
    f->n_tensor = (int64_t)n;
    size_t head = (size_t)(c->at - f->map.data), data = (head + (size_t)align - 1) & ~((size_t)align - 1), room = data < f->map.size ? f->map.size - data : 0;
    for (uint64_t i = 0; i < n; i++) {
        dsb_st_tensor *t = &f->tensors[i];
        if (offsets[i] % (uint64_t)align) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its offset %llu is no multiple of %lld", f->path, t->name, (unsigned long long)offsets[i], (long long)align);
        if (offsets[i] > room || t->bytes > room - offsets[i])
            return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %zu bytes at offset %llu lie outside the file's %zu data bytes; is it truncated?", f->path, t->name, t->bytes, (unsigned long long)offsets[i], room);
        t->data = f->map.data + (room ? data + offsets[i] : 0);
    }
    return check_tensors(f, err);
}

static dsb_status read_file(dsb_gguf *f, dsb_err *err) {
    if (f->map.size < 4) return dsb_fail(err, DSB_EINPUT, "%s: %zu bytes; a GGUF file is wanted", f->path, f->map.size);
    cursor c = {f, f->map.data, f->map.data + f->map.size};
    const uint8_t *magic;
    uint64_t version, n_tensor, n_value;
    DSB_TRY(take(&c, 4, "a GGUF file", &magic, err));
    if (memcmp(magic, "GGUF", 4) != 0) return dsb_fail(err, DSB_EINPUT, "%s: does not begin with GGUF; a GGUF file is wanted", f->path);
    DSB_TRY(take_int(&c, 4, "the version", &version, err));
    if (version > 0xffff) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: a big-endian GGUF file; a little-endian one is wanted", f->path);
    if (version < 2 || version > 3) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: GGUF version %llu; 2 or 3 is wanted", f->path, (unsigned long long)version);
    f->version = (uint32_t)version;
    DSB_TRY(take_int(&c, 8, "the number of tensors", &n_tensor, err));
    DSB_TRY(take_int(&c, 8, "the number of keys", &n_value, err));
    DSB_TRY(read_values(&c, n_value, err));
    return read_tensors(&c, n_tensor, err);
}

bool dsb_gguf_is(const char *path) {
    dsb_map map;
    if (dsb_map_open(&map, path, NULL)) return false;
    bool is = map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0;
    dsb_map_close(&map);
    return is;
}

dsb_status dsb_gguf_open(dsb_gguf *f, const char *path, dsb_err *err) {
    *f = (dsb_gguf){0};
    dsb_arena_init(&f->arena);
    f->path = dsb_arena_strdup(&f->arena, path);
    dsb_status s = f->path ? dsb_map_open(&f->map, path, err) : dsb_fail(err, DSB_ENOMEM, "%s: no memory", path);
    if (!s) s = read_file(f, err);
    if (s) dsb_gguf_close(f);
    return s;
}

void dsb_gguf_close(dsb_gguf *f) {
    dsb_map_close(&f->map);
    dsb_arena_release(&f->arena);
    *f = (dsb_gguf){0};
}

const dsb_gguf_value *dsb_gguf_find(const dsb_gguf *f, const char *key) {
    dsb_gguf_value k = {.key = key};
    return f->n_value ? bsearch(&k, f->values, (size_t)f->n_value, sizeof k, by_key) : NULL;
}

/* The entry, NULL where it is absent and need not be there; `fits` says whether its type is the one wanted. */
static dsb_status entry(const dsb_gguf *f, const char *key, bool required, bool (*fits)(const dsb_gguf_value *), const char *wanted, const dsb_gguf_value **out, dsb_err *err) {
    *out = dsb_gguf_find(f, key);
    if (!*out) return required ? dsb_fail(err, DSB_EINPUT, "%s: key %s is missing", f->path, key) : DSB_OK;
    return fits(*out) ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: key %s is %s; %s is wanted", f->path, key, type_name(*out), wanted);
}

static bool integer_type(const dsb_gguf_value *v) { return type_bytes(v->type) && v->type != DSB_GGUF_F32 && v->type != DSB_GGUF_F64; }
static bool is_int(const dsb_gguf_value *v) { return !v->is_array && v->type != DSB_GGUF_BOOL && integer_type(v); }
static bool is_number(const dsb_gguf_value *v) { return !v->is_array && v->type != DSB_GGUF_BOOL && type_bytes(v->type); }
static bool is_bool(const dsb_gguf_value *v) { return !v->is_array && v->type == DSB_GGUF_BOOL; }
static bool is_string(const dsb_gguf_value *v) { return !v->is_array && v->type == DSB_GGUF_STRING; }
static bool is_strings(const dsb_gguf_value *v) { return v->is_array && v->type == DSB_GGUF_STRING; }
static bool is_ints(const dsb_gguf_value *v) { return v->is_array && integer_type(v); }
static bool is_numbers(const dsb_gguf_value *v) { return v->is_array && type_bytes(v->type); }

/* Integer i; false where a u64 is past int64. */
static bool int_at(const dsb_gguf_value *v, uint64_t i, int64_t *out) {
    int n = type_bytes(v->type);
    uint64_t u = little(v->data + i * (uint64_t)n, n);
    bool is_signed = v->type == DSB_GGUF_I8 || v->type == DSB_GGUF_I16 || v->type == DSB_GGUF_I32 || v->type == DSB_GGUF_I64;
    if (is_signed && n < 8 && u >> (8 * n - 1)) u |= ~UINT64_C(0) << 8 * n;
    *out = (int64_t)u;
    return is_signed || u <= INT64_MAX;
}

static double number_at(const dsb_gguf_value *v, uint64_t i) {
    int64_t x;
    float f;
    double d;
    if (v->type == DSB_GGUF_F32) return memcpy(&f, v->data + 4 * i, 4), (double)f;
    if (v->type == DSB_GGUF_F64) return memcpy(&d, v->data + 8 * i, 8), d;
    return int_at(v, i, &x) ? (double)x : (double)(uint64_t)x;
}

dsb_status dsb_gguf_int(const dsb_gguf *f, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, dsb_err *err) {
    const dsb_gguf_value *v;
    int64_t x;
    DSB_TRY(entry(f, key, required, is_int, "an integer", &v, err));
    if (!v) return DSB_OK;
    if (!int_at(v, 0, &x) || x < lo || x > hi) return dsb_fail(err, DSB_EINPUT, "%s: key %s is %lld; %lld to %lld is wanted", f->path, key, (long long)x, (long long)lo, (long long)hi);
    *out = x;
    return DSB_OK;
}

dsb_status dsb_gguf_real(const dsb_gguf *f, const char *key, bool required, double *out, dsb_err *err) {
    const dsb_gguf_value *v;
    DSB_TRY(entry(f, key, required, is_number, "a number", &v, err));
    if (v) *out = number_at(v, 0);
    return DSB_OK;
}

dsb_status dsb_gguf_bool(const dsb_gguf *f, const char *key, bool required, bool *out, dsb_err *err) {
    const dsb_gguf_value *v;
    DSB_TRY(entry(f, key, required, is_bool, "a boolean", &v, err));
    if (v) *out = v->data[0] != 0;
    return DSB_OK;
}

dsb_status dsb_gguf_text(dsb_gguf *f, const char *key, bool required, const char **out, dsb_err *err) {
    const dsb_gguf_value *v;
    void *p;
    DSB_TRY(entry(f, key, required, is_string, "a string", &v, err));
    if (!v) return DSB_OK;
    size_t n = (size_t)little(v->data, 8);
    if (memchr(v->data + 8, 0, n)) return dsb_fail(err, DSB_EINPUT, "%s: key %s holds a NUL byte", f->path, key);
    DSB_TRY(dsb_arena_take(&f->arena, &p, n + 1, 1, key, err));
    memcpy(p, v->data + 8, n);
    *out = p;
    return DSB_OK;
}

dsb_status dsb_gguf_strings(dsb_gguf *f, const char *key, bool required, const dsb_gguf_string **out, size_t *n, dsb_err *err) {
    const dsb_gguf_value *v;
    void *p;
    *out = NULL;
    *n = 0;
    DSB_TRY(entry(f, key, required, is_strings, "an array of strings", &v, err));
    if (!v) return DSB_OK;
    DSB_TRY(dsb_arena_take(&f->arena, &p, (size_t)v->n + 1, sizeof **out, key, err));
    dsb_gguf_string *list = p;
    const uint8_t *at = v->data;
    for (uint64_t i = 0; i < v->n; i++) {
        list[i] = (dsb_gguf_string){(const char *)at + 8, (size_t)little(at, 8)};
        at += 8 + list[i].n;
    }
    *out = list;
    *n = (size_t)v->n;
    return DSB_OK;
}

dsb_status dsb_gguf_ints(dsb_gguf *f, const char *key, bool required, const int64_t **out, size_t *n, dsb_err *err) {
    const dsb_gguf_value *v;
    void *p;
    *out = NULL;
    *n = 0;
    DSB_TRY(entry(f, key, required, is_ints, "an array of integers", &v, err));
    if (!v) return DSB_OK;
    DSB_TRY(dsb_arena_take(&f->arena, &p, (size_t)v->n + 1, sizeof **out, key, err));
    int64_t *list = p;
    for (uint64_t i = 0; i < v->n; i++)
        if (!int_at(v, i, &list[i])) return dsb_fail(err, DSB_EINPUT, "%s: key %s: entry %llu is past 2^63", f->path, key, (unsigned long long)i);
    *out = list;
    *n = (size_t)v->n;
    return DSB_OK;
}

dsb_status dsb_gguf_floats(dsb_gguf *f, const char *key, bool required, const float **out, size_t *n, dsb_err *err) {
    const dsb_gguf_value *v;
    void *p;
    *out = NULL;
    *n = 0;
    DSB_TRY(entry(f, key, required, is_numbers, "an array of numbers", &v, err));
    if (!v) return DSB_OK;
    DSB_TRY(dsb_arena_take(&f->arena, &p, (size_t)v->n + 1, sizeof **out, key, err));
    float *list = p;
    for (uint64_t i = 0; i < v->n; i++) list[i] = (float)number_at(v, i);
    *out = list;
    *n = (size_t)v->n;
    return DSB_OK;
}
