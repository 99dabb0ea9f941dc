#include "engine/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static int by_name(const void *a, const void *b) { return strcmp(((const dsb_st_tensor *)a)->name, ((const dsb_st_tensor *)b)->name); }

/* One header entry: dtype, shape, data_offsets, all checked. */
static dsb_status read_entry(dsb_st_file *f, dsb_st_tensor *t, const char *name, const json_t *entry, const uint8_t *data, size_t room, dsb_err *err) {
    t->name = dsb_arena_strdup(&f->arena, name);
    if (!t->name) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for tensor names", f->path);
    if (!json_is_object(entry)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its header entry is no object", f->path, name);
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    int dtype = type ? dsb_dtype_parse(type) : -1;
    if (dtype < 0) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a safetensors type such as BF16 or F32 is wanted", f->path, name, type ? type : "missing");
    t->dtype = (dsb_dtype)dtype;
    const json_t *shape = json_object_get(entry, "shape"), *off = json_object_get(entry, "data_offsets");
    if (!json_is_array(shape) || json_array_size(shape) > DSB_ST_MAX_DIM)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: shape is missing or has over %d dimensions", f->path, name, DSB_ST_MAX_DIM);
    t->ndim = (int)json_array_size(shape);
    size_t want = dsb_dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++) {
        const json_t *v = json_array_get(shape, (size_t)i);
        int64_t d = json_is_integer(v) ? json_integer_value(v) : -1;
        if (d < 0 || !dsb_mul(want, (size_t)d, &want))
            return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dimension %d of its shape is negative, no integer, or absurdly large", f->path, name, i);
        t->shape[i] = d;
    }
    if (!json_is_array(off) || json_array_size(off) != 2 || !json_is_integer(json_array_get(off, 0)) || !json_is_integer(json_array_get(off, 1)))
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: data_offsets must be two integers", f->path, name);
    int64_t lo = json_integer_value(json_array_get(off, 0)), hi = json_integer_value(json_array_get(off, 1));
    if (lo < 0 || hi < lo || (uint64_t)hi > room)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: bytes %lld to %lld lie outside the file's %zu data bytes; is it truncated?", f->path, name, (long long)lo, (long long)hi, room);
    if ((size_t)(hi - lo) != want)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld bytes stored, but its shape and %s want %zu", f->path, name, (long long)(hi - lo), type, want);
    t->data = data + lo;
    t->bytes = want;
    return DSB_OK;
}

static int by_place(const void *a, const void *b) {
    const dsb_st_tensor *x = a, *y = b;
    return x->data != y->data ? (x->data > y->data) - (x->data < y->data) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The format allows no holes and no overlaps: the tensors cover the data once, to the last byte. */
static dsb_status check_cover(dsb_st_file *f, const uint8_t *data, size_t room, dsb_err *err) {
    size_t end = 0;
    qsort(f->tensors, (size_t)f->n_tensor, sizeof *f->tensors, by_place);
    for (int64_t i = 0; i < f->n_tensor; i++) {
        const dsb_st_tensor *t = &f->tensors[i];
        size_t begin = (size_t)(t->data - data);
        if (begin != end)
            return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its data begin at byte %zu, %s; byte %zu is wanted", f->path, t->name, begin, begin < end ? "inside another tensor" : "after a hole", end);
        end += t->bytes;
    }
    if (end != room) return dsb_fail(err, DSB_EINPUT, "%s: %zu data bytes, but its tensors end at byte %zu; damaged, or something was appended", f->path, room, end);
    return DSB_OK;
}

static dsb_status read_header(dsb_st_file *f, dsb_err *err) {
    if (f->map.size < 8) return dsb_fail(err, DSB_EINPUT, "%s: %zu bytes; a safetensors file begins with an 8-byte header length", f->path, f->map.size);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | f->map.data[i];
    if (n > f->map.size - 8)
        return dsb_fail(err, DSB_EINPUT, "%s: header of %llu bytes announced, %zu follow; truncated or not a safetensors file", f->path, (unsigned long long)n, f->map.size - 8);
    json_error_t e;
    json_t *header = json_loadb((const char *)f->map.data + 8, (size_t)n, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(header)) {
        json_decref(header);
        return dsb_fail(err, DSB_EINPUT, "%s: its header is no JSON object: %s", f->path, header ? "another JSON value" : e.text);
    }
    void *p;
    dsb_status s = dsb_arena_take(&f->arena, &p, json_object_size(header) + 1, sizeof *f->tensors, f->path, err);
    f->tensors = p;
    const char *name;
    json_t *entry;
    const uint8_t *data = f->map.data + 8 + n;
    size_t room = f->map.size - 8 - (size_t)n;
    json_object_foreach(header, name, entry) {
        if (s) break;
        if (strcmp(name, "__metadata__") == 0) continue;
        s = read_entry(f, &f->tensors[f->n_tensor], name, entry, data, room, err);
        f->n_tensor++;
    }
    json_decref(header);
    if (!s) s = check_cover(f, data, room, err);
    if (!s) qsort(f->tensors, (size_t)f->n_tensor, sizeof *f->tensors, by_name);
    return s;
}

dsb_status dsb_st_open(dsb_st_file *f, const char *path, dsb_err *err) {
    *f = (dsb_st_file){0};
    dsb_arena_init(&f->arena);
    f->path = dsb_arena_strdup(&f->arena, path);
    dsb_status s = f->path ? dsb_map_open(&f->map, path, err) : dsb_fail(err, DSB_ENOMEM, "%s: no memory", path);
    if (!s) s = read_header(f, err);
    if (s) dsb_st_close(f);
    return s;
}

void dsb_st_close(dsb_st_file *f) {
    dsb_map_close(&f->map);
    dsb_arena_release(&f->arena);
    *f = (dsb_st_file){0};
}

const dsb_st_tensor *dsb_st_find(const dsb_st_file *f, const char *name) {
    dsb_st_tensor key = {.name = name};
    return f->n_tensor ? bsearch(&key, f->tensors, (size_t)f->n_tensor, sizeof key, by_name) : NULL;
}

/* n values from value `at` of the tensor's bytes on; at and n are multiples of a block. */
static void decode(const dsb_st_tensor *t, int64_t at, int64_t n, float *dst) {
    if (!t->blocks) {
        dsb_widen_f32(t->dtype, t->data + (size_t)at * dsb_dtype_size(t->dtype), (size_t)n, dst);
        return;
    }
    const uint8_t *b = t->data + at / t->blocks->n * t->blocks->bytes;
    for (int64_t i = 0; i < n; i += t->blocks->n, b += t->blocks->bytes) t->blocks->decode(b, dst + i);
}

/* Row r of kv_b: a head's nope rows are columns of k_b, its others rows of v_b. */
static void split_row(const dsb_st_tensor *t, int64_t r, float *dst) {
    int64_t v_dim = t->values->shape[1], head = r / (t->nope + v_dim), i = r % (t->nope + v_dim), lora = t->shape[1];
    if (i >= t->nope) {
        decode(t->values, (head * v_dim + i - t->nope) * lora, lora, dst);
        return;
    }
    float block[256];
    int64_t n = t->blocks ? t->blocks->n : 1;
    for (int64_t c = 0; c < lora; c++) {
        int64_t at = (head * lora + c) * t->nope + i;
        decode(t, at - at % n, n, block);
        dst[c] = block[at % n];
    }
}

void dsb_st_row(const dsb_st_tensor *t, int64_t r, float *dst) {
    int64_t n = t->ndim ? t->shape[t->ndim - 1] : 1;
    if (t->values) {
        split_row(t, r, dst);
        return;
    }
    if (t->rotated) {
        int64_t in = r % t->rotated, half = t->rotated / 2;
        r += in % half * 2 + in / half - in;
    }
    decode(t, r * n, n, dst);
}
