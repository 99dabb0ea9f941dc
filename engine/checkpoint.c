#include "engine/checkpoint.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "engine/stored.h"

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

dsb_status dsb_checkpoint_check_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_err *err) {
    dsb_stored s;
    return dsb_stored_find(cp, stem, rows, cols, &s, err);
}

dsb_status dsb_checkpoint_read_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err) {
    dsb_stored s;
    *codes = (dsb_qtensor){0};
    DSB_TRY(dsb_stored_find(cp, stem, rows, cols, &s, err));
    DSB_TRY(dsb_stored_decode(&s, 0, rows, w, err));
    if (s.codes) DSB_TRY(dsb_stored_codes(&s, codes, err));
    codes->format = s.format;
    codes->stored_bytes = dsb_stored_bytes(&s);
    *stored = s.codes ? DSB_I8 : s.w->dtype;
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
