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

/* The open shard of that name, or NULL. */
static const dsb_st_file *find_file(const dsb_checkpoint *cp, const char *leaf) {
    size_t n = strlen(leaf);
    for (int i = 0; i < cp->n_file; i++) {
        size_t m = strlen(cp->files[i].path);
        if (m > n && strcmp(cp->files[i].path + m - n, leaf) == 0 && cp->files[i].path[m - n - 1] == '/') return &cp->files[i];
    }
    return NULL;
}

/* Opens every shard the index names, and checks that each indexed tensor is in its own. */
static dsb_status open_shards(dsb_checkpoint *cp, const char *index_path, const json_t *index, dsb_err *err) {
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"weight_map\" is missing or empty", index_path);
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)map, name, v) {
        const char *leaf = json_string_value(v);
        if (!leaf || !*leaf || strchr(leaf, '/') || strcmp(leaf, "..") == 0)
            return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its shard must be a plain file name in this directory, found %s", index_path, name, leaf ? leaf : "no string");
        if (!find_file(cp, leaf)) DSB_TRY(open_file(cp, leaf, err));
    }
    json_object_foreach((json_t *)map, name, v) {
        const char *leaf = json_string_value(v);
        if (!dsb_st_find(find_file(cp, leaf), name)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %s is named as its shard, but does not hold it", index_path, name, leaf);
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
    if (!t) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is missing", cp->dir, name);
    DSB_TRY(want_shape(cp, t, rows, cols, err));
    if (t->dtype == DSB_FP8_E4M3 || t->dtype == DSB_FP8_E5M2)
        return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: FP8 weights can't be read yet; a BF16, F16 or F32 checkpoint is wanted", cp->dir, name);
    if (!dsb_dtype_is_float(t->dtype))
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a float type such as BF16 is wanted", cp->dir, name, dsb_dtype_name(t->dtype));
    return DSB_OK;
}

dsb_status dsb_checkpoint_read(const dsb_checkpoint *cp, const char *name, int64_t rows, int64_t cols, float *dst, dsb_dtype *stored, dsb_err *err) {
    DSB_TRY(dsb_checkpoint_check(cp, name, rows, cols, err));
    const dsb_st_tensor *t = dsb_checkpoint_find(cp, name);
    if (stored) *stored = t->dtype;
    dsb_widen_f32(t->dtype, t->data, (size_t)(rows * (cols ? cols : 1)), dst);
    return DSB_OK;
}

/* A linear's stored integer codes and their scales; codes NULL: floats are stored. */
typedef struct stored_codes {
    const dsb_st_tensor *codes, *scale;
    const dsb_format *format;
    int64_t groups;
} stored_codes;

static const dsb_st_tensor *find_part(const dsb_checkpoint *cp, const char *stem, const char *part, char name[512]) {
    snprintf(name, 512, "%s.%s", stem, part);
    return dsb_checkpoint_find(cp, name);
}

/* compressed-tensors: int-quantized I8, or pack-quantized INT4 of eight codes an I32; scales by channel or by group of inputs. */
static dsb_status find_codes(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, stored_codes *out, dsb_err *err) {
    char name[512];
    const dsb_st_tensor *packed = find_part(cp, stem, "weight_packed", name), *plain = packed ? NULL : find_part(cp, stem, "weight", name);
    *out = (stored_codes){0};
    if (!packed && (!plain || plain->dtype != DSB_I8)) return DSB_OK;
    const dsb_st_tensor *codes = packed ? packed : plain;
    if (packed && packed->dtype != DSB_I32) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; I32 is wanted for packed 4-bit codes", cp->dir, codes->name, dsb_dtype_name(codes->dtype));
    DSB_TRY(want_shape(cp, codes, rows, packed ? (cols + 7) / 8 : cols, err));
    if (find_part(cp, stem, "weight_zero_point", name)) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: zero points of stored codes can't be read yet", cp->dir, name);
    if (find_part(cp, stem, "weight_g_idx", name)) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: stored codes whose inputs are reordered can't be read yet", cp->dir, name);
    const dsb_st_tensor *scale = find_part(cp, stem, "weight_scale", name);
    if (!scale) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is missing beside the integer codes", cp->dir, name);
    int64_t groups = scale->ndim == 2 ? scale->shape[1] : 1;
    if (groups < 1 || groups > cols || cols % groups) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld groups don't divide %lld inputs", cp->dir, name, (long long)groups, (long long)cols);
    DSB_TRY(want_shape(cp, scale, rows, scale->ndim == 2 ? groups : 0, err));
    if (!dsb_dtype_is_float(scale->dtype)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a float type is wanted", cp->dir, name, dsb_dtype_name(scale->dtype));
    *out = (stored_codes){codes, scale, dsb_format_find(packed ? "int4" : "int8"), groups};
    return DSB_OK;
}

dsb_status dsb_checkpoint_check_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_err *err) {
    char name[512];
    stored_codes c;
    DSB_TRY(find_codes(cp, stem, rows, cols, &c, err));
    if (c.codes) return DSB_OK;
    snprintf(name, sizeof name, "%s.weight", stem);
    return dsb_checkpoint_check(cp, name, rows, cols, err);
}

/* Packed codes are offset by 8, along the inputs, lowest bits first. */
static void unpack_int4(const uint8_t *data, int64_t rows, int64_t cols, int8_t *codes) {
    int64_t words = (cols + 7) / 8;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            uint32_t w;
            memcpy(&w, data + 4 * (r * words + c / 8), 4);
            codes[r * cols + c] = (int8_t)((int)(w >> 4 * (c % 8) & 15u) - 8);
        }
}

static dsb_status read_codes(const dsb_checkpoint *cp, const char *stem, const stored_codes *c, int64_t rows, int64_t cols, dsb_qtensor *q, dsb_err *err) {
    *q = (dsb_qtensor){.format = c->format, .rows = rows, .cols = cols, .group = cols / c->groups, .n_group = c->groups};
    DSB_TRY(DSB_NEW(q->codes, rows * cols, stem, err));
    DSB_TRY(DSB_NEW(q->scales, rows * c->groups, stem, err));
    dsb_widen_f32(c->scale->dtype, c->scale->data, (size_t)(rows * c->groups), q->scales);
    if (c->codes->dtype == DSB_I8) memcpy(q->codes, c->codes->data, (size_t)(rows * cols));
    else unpack_int4(c->codes->data, rows, cols, q->codes);
    for (int64_t i = 0; i < rows * cols; i++)
        if (q->codes[i] == -128) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: code -128; symmetric INT8 within 127 is wanted", cp->dir, c->codes->name);
    q->stored_bytes = c->codes->bytes + c->scale->bytes;
    return DSB_OK;
}

dsb_status dsb_checkpoint_read_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err) {
    char name[512];
    stored_codes c;
    *codes = (dsb_qtensor){0};
    DSB_TRY(find_codes(cp, stem, rows, cols, &c, err));
    if (!c.codes) {
        snprintf(name, sizeof name, "%s.weight", stem);
        return dsb_checkpoint_read(cp, name, rows, cols, w, stored, err);
    }
    dsb_status s = read_codes(cp, stem, &c, rows, cols, codes, err);
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
