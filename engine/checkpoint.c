#include "engine/checkpoint.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"

static dsb_status open_file(dsb_checkpoint *cp, const char *leaf, dsb_err *err) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", cp->dir, leaf) >= sizeof path) return dsb_fail(err, DSB_EINPUT, "%s: the path is too long", cp->dir);
    dsb_st_file *more = realloc(cp->files, ((size_t)cp->n_file + 1) * sizeof *more);
    if (!more) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its shards", cp->dir);
    cp->files = more;
    DSB_TRY(dsb_st_open(&cp->files[cp->n_file], path, err));
    dsb_st_file *f = &cp->files[cp->n_file++];
    for (int64_t i = 0; i < f->n_tensor; i++) cp->bytes += f->tensors[i].bytes;
    return DSB_OK;
}

static bool has_file(const dsb_checkpoint *cp, const char *leaf) {
    size_t n = strlen(leaf);
    for (int i = 0; i < cp->n_file; i++) {
        size_t m = strlen(cp->files[i].path);
        if (m > n && strcmp(cp->files[i].path + m - n, leaf) == 0 && cp->files[i].path[m - n - 1] == '/') return true;
    }
    return false;
}

/* Opens every shard the index names, and checks that each indexed tensor is in one of them. */
static dsb_status open_shards(dsb_checkpoint *cp, const char *index_path, const json_t *index, dsb_err *err) {
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"weight_map\" is missing or empty", index_path);
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)map, name, v) {
        const char *leaf = json_string_value(v);
        if (!leaf || !*leaf || strchr(leaf, '/') || strcmp(leaf, "..") == 0)
            return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its shard must be a plain file name in this directory, found %s", index_path, name, leaf ? leaf : "no string");
        if (!has_file(cp, leaf)) DSB_TRY(open_file(cp, leaf, err));
    }
    json_object_foreach((json_t *)map, name, v) {
        if (!dsb_checkpoint_find(cp, name)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is in the index, but in none of its %d shards", index_path, name, cp->n_file);
    }
    return DSB_OK;
}

dsb_status dsb_checkpoint_open(dsb_checkpoint *out, const char *dir, dsb_err *err) {
    *out = (dsb_checkpoint){.dir = strdup(dir)};
    char path[4096];
    struct stat st;
    if (!out->dir) return dsb_fail(err, DSB_ENOMEM, "%s: no memory", dir);
    dsb_status s = DSB_OK;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        s = dsb_fail(err, DSB_EINPUT, "%s: no model directory there; a folder with config.json and model.safetensors is wanted", dir);
    } else if (snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir), stat(path, &st) == 0) {
        json_t *index;
        s = dsb_json_load(&index, path, err);
        if (!s) s = open_shards(out, path, index, err);
        json_decref(index);
    } else {
        s = open_file(out, "model.safetensors", err);
    }
    if (s) dsb_checkpoint_close(out);
    return s;
}

void dsb_checkpoint_close(dsb_checkpoint *cp) {
    for (int i = 0; i < cp->n_file; i++) dsb_st_close(&cp->files[i]);
    free(cp->files);
    free(cp->dir);
    *cp = (dsb_checkpoint){0};
}

const dsb_st_tensor *dsb_checkpoint_find(const dsb_checkpoint *cp, const char *name) {
    for (int i = 0; i < cp->n_file; i++) {
        const dsb_st_tensor *t = dsb_st_find(&cp->files[i], name);
        if (t) return t;
    }
    return NULL;
}

static const char *shape_text(const dsb_st_tensor *t, char *buf, size_t n) {
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < t->ndim && used < n; i++) used += (size_t)snprintf(buf + used, n - used, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    return buf;
}

static dsb_status want_shape(const dsb_checkpoint *cp, const dsb_st_tensor *t, int64_t rows, int64_t cols, dsb_err *err) {
    bool ok = cols ? t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols : t->ndim == 1 && t->shape[0] == rows;
    char buf[96];
    if (ok) return DSB_OK;
    if (cols)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: shape is (%s); config.json wants (%lld, %lld)", cp->dir, t->name, shape_text(t, buf, sizeof buf), (long long)rows, (long long)cols);
    return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: shape is (%s); config.json wants (%lld)", cp->dir, t->name, shape_text(t, buf, sizeof buf), (long long)rows);
}

dsb_status dsb_checkpoint_check(const dsb_checkpoint *cp, const char *name, int64_t rows, int64_t cols, dsb_err *err) {
    const dsb_st_tensor *t = dsb_checkpoint_find(cp, name);
    float unused;
    if (!t) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is missing", cp->dir, name);
    DSB_TRY(want_shape(cp, t, rows, cols, err));
    if (t->dtype == DSB_FP8_E4M3 || t->dtype == DSB_FP8_E5M2)
        return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: FP8 weights can't be read yet; a BF16, F16 or F32 checkpoint is wanted", cp->dir, name);
    if (dsb_widen_f32(t->dtype, NULL, 0, &unused) != 0)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a float type such as BF16 is wanted", cp->dir, name, dsb_dtype_name(t->dtype));
    return DSB_OK;
}

dsb_status dsb_checkpoint_read(const dsb_checkpoint *cp, const char *name, int64_t rows, int64_t cols, float *dst, dsb_dtype *stored, dsb_err *err) {
    DSB_TRY(dsb_checkpoint_check(cp, name, rows, cols, err));
    const dsb_st_tensor *t = dsb_checkpoint_find(cp, name);
    if (stored) *stored = t->dtype;
    if (dsb_widen_f32(t->dtype, t->data, (size_t)(rows * (cols ? cols : 1)), dst) != 0)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a float type is wanted", cp->dir, name, dsb_dtype_name(t->dtype));
    return DSB_OK;
}

static int64_t read_i32(const uint8_t *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* compressed-tensors pack-quantized INT4: eight codes an int32 along the inputs, offset by 8, lowest bits first. */
static void unpack_int4(const dsb_st_tensor *t, int64_t rows, int64_t cols, int8_t *codes) {
    int64_t words = (cols + 7) / 8;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            uint32_t w = (uint32_t)read_i32(t->data + 4 * (r * words + c / 8));
            codes[r * cols + c] = (int8_t)((int)(w >> 4 * (c % 8) & 15u) - 8);
        }
}

/* The integer codes of a linear weight, or its float tensor, or NULL; *format is NULL for floats. */
static const dsb_st_tensor *find_linear(const dsb_checkpoint *cp, const char *stem, char name[512], const dsb_format **format) {
    snprintf(name, 512, "%s.weight_packed", stem);
    const dsb_st_tensor *t = dsb_checkpoint_find(cp, name);
    *format = t ? dsb_format_find("int4") : NULL;
    if (t) return t;
    snprintf(name, 512, "%s.weight", stem);
    t = dsb_checkpoint_find(cp, name);
    if (t && t->dtype == DSB_I8) *format = dsb_format_find("int8");
    return t;
}

/* Shapes and types of codes t and of the scales beside them, without reading either. */
static dsb_status check_codes(const dsb_checkpoint *cp, const char *stem, const dsb_st_tensor *t, int64_t rows, int64_t cols, const dsb_st_tensor **out, dsb_err *err) {
    char name[512];
    float unused;
    bool packed = t->dtype != DSB_I8;
    if (packed && t->dtype != DSB_I32) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; I32 is wanted for packed 4-bit codes", cp->dir, t->name, dsb_dtype_name(t->dtype));
    DSB_TRY(want_shape(cp, t, rows, packed ? (cols + 7) / 8 : cols, err));
    snprintf(name, sizeof name, "%s.weight_scale", stem);
    const dsb_st_tensor *scale = *out = dsb_checkpoint_find(cp, name);
    if (!scale) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is missing beside the integer codes", cp->dir, name);
    int64_t groups = scale->ndim == 2 ? scale->shape[1] : 1;
    if (groups < 1 || groups > cols || cols % groups) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld groups don't divide %lld inputs", cp->dir, name, (long long)groups, (long long)cols);
    DSB_TRY(want_shape(cp, scale, rows, scale->ndim == 2 ? groups : 0, err));
    if (dsb_widen_f32(scale->dtype, NULL, 0, &unused) != 0)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a float type is wanted", cp->dir, name, dsb_dtype_name(scale->dtype));
    snprintf(name, sizeof name, "%s.weight_zero_point", stem);
    if (dsb_checkpoint_find(cp, name)) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: zero points of stored codes can't be read yet", cp->dir, name);
    return DSB_OK;
}

static dsb_status read_codes(const dsb_checkpoint *cp, const char *stem, const dsb_st_tensor *t, const dsb_format *format, int64_t rows, int64_t cols, dsb_qtensor *q, dsb_err *err) {
    const dsb_st_tensor *scale;
    DSB_TRY(check_codes(cp, stem, t, rows, cols, &scale, err));
    int64_t groups = scale->ndim == 2 ? scale->shape[1] : 1;
    *q = (dsb_qtensor){.format = format, .rows = rows, .cols = cols, .group = cols / groups, .n_group = groups};
    DSB_TRY(DSB_NEW(q->codes, rows * cols, stem, err));
    DSB_TRY(DSB_NEW(q->scales, rows * groups, stem, err));
    dsb_widen_f32(scale->dtype, scale->data, (size_t)(rows * groups), q->scales);
    if (t->dtype == DSB_I8) memcpy(q->codes, t->data, (size_t)(rows * cols));
    else unpack_int4(t, rows, cols, q->codes);
    for (int64_t i = 0; i < rows * cols; i++)
        if (q->codes[i] == -128) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: code -128; symmetric INT8 within 127 is wanted", cp->dir, t->name);
    q->stored_bytes = t->bytes + scale->bytes;
    return DSB_OK;
}

dsb_status dsb_checkpoint_check_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_err *err) {
    char name[512];
    const dsb_format *format;
    const dsb_st_tensor *t = find_linear(cp, stem, name, &format), *scale;
    return format ? check_codes(cp, stem, t, rows, cols, &scale, err) : dsb_checkpoint_check(cp, name, rows, cols, err);
}

dsb_status dsb_checkpoint_read_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err) {
    char name[512];
    const dsb_format *format;
    const dsb_st_tensor *t = find_linear(cp, stem, name, &format);
    *codes = (dsb_qtensor){0};
    if (!format) return dsb_checkpoint_read(cp, name, rows, cols, w, stored, err);
    dsb_status s = read_codes(cp, stem, t, format, rows, cols, codes, err);
    if (s) {
        dsb_qtensor_release(codes);
        return s;
    }
    *stored = DSB_I8;
    dsb_dequantize(codes, NULL, w);
    return DSB_OK;
}

dsb_status dsb_checkpoint_hash(const dsb_checkpoint *cp, char out[65], dsb_err *err) {
    struct sha256_ctx ctx;
    uint8_t digest[SHA256_DIGEST_SIZE];
    (void)err;
    sha256_init(&ctx);
    for (int i = 0; i < cp->n_file; i++) sha256_update(&ctx, cp->files[i].map.size, cp->files[i].map.data);
    sha256_digest(&ctx, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return DSB_OK;
}
