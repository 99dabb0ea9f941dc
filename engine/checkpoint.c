#include "engine/checkpoint.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "engine/stored.h"

/* No path leaves the directory, links included, but for Hugging Face's own cache, whose snapshots are links into blobs/ beside them. */
static dsb_status check_inside(const dsb_checkpoint *cp, const char *leaf, const char *path, dsb_err *err) {
    char dir[PATH_MAX], blobs[PATH_MAX + 16], file[PATH_MAX];
    if (!realpath(path, file) || !realpath(cp->dir, dir)) return DSB_OK; /* opening it says what is wrong */
    size_t n = strlen(dir);
    if (strncmp(file, dir, n) == 0 && (file[n] == '/' || !file[n])) return DSB_OK;
    char *slash = strrchr(dir, '/');
    if (slash && slash - dir > 10 && strncmp(slash - 10, "/snapshots", 10) == 0) {
        slash[-10] = 0;
        n = (size_t)snprintf(blobs, sizeof blobs, "%s/blobs/", dir);
        if (strncmp(file, blobs, n) == 0) return DSB_OK;
    }
    return dsb_fail(err, DSB_EINPUT, "%s: %s is a link to %s, outside the directory; the file itself is wanted", cp->dir, leaf, file);
}

static dsb_status open_file(dsb_checkpoint *cp, const char *leaf, dsb_err *err) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", cp->dir, leaf) >= sizeof path) return dsb_fail(err, DSB_EINPUT, "%s: the path is too long", cp->dir);
    DSB_TRY(check_inside(cp, leaf, path, err));
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

/* What a shard holds and the index gives to another one, or to none. */
static dsb_status check_extra(const dsb_checkpoint *cp, const char *index_path, const json_t *map, dsb_err *err) {
    for (int i = 0; i < cp->n_file; i++) {
        const char *leaf = strrchr(cp->files[i].path, '/') + 1;
        for (int64_t t = 0; t < cp->files[i].n_tensor; t++) {
            const char *name = cp->files[i].tensors[t].name, *shard = json_string_value(json_object_get(map, name));
            if (!shard) return dsb_fail(err, DSB_EINPUT, "%s: %s holds tensor %s, which the index does not name; index and shards of one download are wanted", index_path, leaf, name);
            if (strcmp(shard, leaf) != 0) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is in %s and in %s; one is wanted", index_path, name, shard, leaf);
        }
    }
    return DSB_OK;
}

/* Opens every shard the index names, and checks that each indexed tensor is in its own and no other is anywhere. */
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
    return check_extra(cp, index_path, map, err);
}

/* A name that is there twice would hide one of its shards. */
static dsb_status load_index(json_t **out, const char *path, dsb_err *err) {
    dsb_map map;
    json_error_t e;
    *out = NULL;
    DSB_TRY(dsb_map_open(&map, path, err));
    *out = json_loadb(map.data ? (const char *)map.data : "", map.size, JSON_REJECT_DUPLICATES, &e);
    dsb_map_close(&map);
    return *out ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: not valid JSON at line %d, column %d: %s", path, e.line, e.column, e.text);
}

static int by_name(const void *a, const void *b) { return strcmp((*(const dsb_st_tensor *const *)a)->name, (*(const dsb_st_tensor *const *)b)->name); }

static dsb_status make_index(dsb_checkpoint *cp, dsb_err *err) {
    int64_t n = 0;
    if (cp->is_gguf) n = cp->gguf.n_tensor;
    for (int i = 0; i < cp->n_file; i++) n += cp->files[i].n_tensor;
    DSB_TRY(DSB_NEW(cp->tensors, n + 1, "names of tensors", err));
    for (int i = 0; i < cp->n_file; i++)
        for (int64_t t = 0; t < cp->files[i].n_tensor; t++) cp->tensors[cp->n_tensor++] = &cp->files[i].tensors[t];
    for (int64_t t = 0; cp->is_gguf && t < n; t++) cp->tensors[cp->n_tensor++] = &cp->gguf.tensors[t];
    qsort(cp->tensors, (size_t)n, sizeof *cp->tensors, by_name);
    return DSB_OK;
}

dsb_status dsb_checkpoint_open(dsb_checkpoint *out, const char *dir, dsb_err *err) {
    *out = (dsb_checkpoint){.dir = strdup(dir)};
    char path[4096];
    struct stat st;
    if (!out->dir) return dsb_fail(err, DSB_ENOMEM, "%s: no memory", dir);
    dsb_status s = DSB_OK;
    if (dsb_gguf_is(dir)) {
        s = dsb_gguf_model_open(&out->gguf, dir, err);
        out->is_gguf = !s;
        for (int i = 0; !s && i < out->gguf.n_file; i++)
            for (int64_t t = 0; t < out->gguf.files[i].n_tensor; t++) out->bytes += out->gguf.files[i].tensors[t].bytes;
    } else if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        s = dsb_fail(err, DSB_EINPUT, "%s: no model directory there; a folder with config.json and model.safetensors, or a GGUF file, is wanted", dir);
    } else if (snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir), stat(path, &st) == 0) {
        json_t *index;
        s = load_index(&index, path, err);
        if (!s) s = open_shards(out, path, index, err);
        json_decref(index);
    } else {
        s = open_file(out, "model.safetensors", err);
    }
    if (!s && !out->is_gguf) s = dsb_quant_config_load(&out->quant, dir, err);
    if (!s) s = make_index(out, err);
    if (s) dsb_checkpoint_close(out);
    return s;
}

void dsb_checkpoint_close(dsb_checkpoint *cp) {
    for (int i = 0; i < cp->n_file; i++) dsb_st_close(&cp->files[i]);
    if (cp->is_gguf) dsb_gguf_model_close(&cp->gguf);
    free(cp->files);
    free(cp->tensors);
    free(cp->dir);
    *cp = (dsb_checkpoint){0};
}

static const dsb_st_tensor *find_exactly(const dsb_checkpoint *cp, const char *name) {
    const dsb_st_tensor key = {.name = name}, *k = &key;
    const dsb_st_tensor **found = cp->n_tensor ? bsearch(&k, cp->tensors, (size_t)cp->n_tensor, sizeof *cp->tensors, by_name) : NULL;
    return found ? *found : NULL;
}

const dsb_st_tensor *dsb_checkpoint_find(const dsb_checkpoint *cp, const char *name) {
    static const char k_old[] = ".block_sparse_moe.";
    const dsb_st_tensor *t = find_exactly(cp, name);
    const char *at = t ? NULL : strstr(name, k_old);
    char other[512];
    if (!at || (size_t)snprintf(other, sizeof other, "%.*s.mlp.%s", (int)(at - name), name, at + strlen(k_old)) >= sizeof other) return t;
    return find_exactly(cp, other);
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
    if (!dsb_st_is_float(t))
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a float type such as BF16 is wanted", cp->dir, name, dsb_dtype_name(t->dtype));
    return DSB_OK;
}

dsb_status dsb_checkpoint_read(const dsb_checkpoint *cp, const char *name, int64_t rows, int64_t cols, float *dst, dsb_dtype *stored, dsb_err *err) {
    DSB_TRY(dsb_checkpoint_check(cp, name, rows, cols, err));
    const dsb_st_tensor *t = dsb_checkpoint_find(cp, name);
    if (stored) *stored = t->dtype;
    for (int64_t r = 0; r < (cols ? rows : 1); r++) dsb_st_row(t, r, dst + r * cols);
    return DSB_OK;
}

dsb_status dsb_checkpoint_check_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_err *err) {
    dsb_stored s;
    return dsb_stored_find(cp, stem, rows, cols, &s, err);
}

static int maps_of(const dsb_checkpoint *cp) { return cp->is_gguf ? cp->gguf.n_file : cp->n_file; }
static const dsb_map *map_of(const dsb_checkpoint *cp, int i) { return cp->is_gguf ? &cp->gguf.files[i].map : &cp->files[i].map; }

/* What was read is in buffers of the reader's own: mapped pages must not add up to the checkpoint's size. */
static void drop_pages(const dsb_checkpoint *cp, const dsb_st_tensor *t, const uint8_t *from, size_t n) {
    if (!t || n < 1 << 14) return;
    for (int i = 0; i < maps_of(cp); i++) {
        const dsb_map *map = map_of(cp, i);
        if (from >= map->data && from < map->data + map->size) dsb_map_drop(from, n);
    }
}

void dsb_checkpoint_drop(const dsb_checkpoint *cp, const dsb_st_tensor *t) {
    if (t) drop_pages(cp, t, t->data, t->bytes);
}

/* The rows' share of bytes: those of all parts of a weight add up to the whole's. */
static size_t share_up_to(size_t bytes, int64_t row, int64_t rows) { return bytes / (size_t)rows * (size_t)row + bytes % (size_t)rows * (size_t)row / (size_t)rows; }

dsb_status dsb_checkpoint_read_rows(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, int64_t first, int64_t n, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err) {
    dsb_stored s;
    *codes = (dsb_qtensor){0};
    DSB_TRY(dsb_stored_find(cp, stem, rows, cols, &s, err));
    DSB_TRY(dsb_stored_decode(&s, first, n, w, err));
    if (s.codes) DSB_TRY(dsb_stored_codes(&s, first, n, codes, err));
    size_t row = s.w->bytes / (size_t)(s.w->ndim > 0 ? s.w->shape[0] : 1);
    if (s.w->ndim == 2 && s.w->shape[0] == rows) drop_pages(cp, s.w, s.w->data + (size_t)first * row, (size_t)n * row);
    else drop_pages(cp, s.w, s.w->data, s.w->bytes);
    if (s.scale) drop_pages(cp, s.scale, s.scale->data, s.scale->bytes);
    codes->format = s.format;
    codes->stored_bytes = share_up_to(dsb_stored_bytes(&s), first + n, rows) - share_up_to(dsb_stored_bytes(&s), first, rows);
    *stored = s.codes ? DSB_I8 : s.w->dtype;
    return DSB_OK;
}

const uint16_t *dsb_checkpoint_bf16(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, int64_t first, int64_t n, size_t *stored_bytes) {
    dsb_stored s;
    dsb_err ignored;
    if (dsb_stored_find(cp, stem, rows, cols, &s, &ignored)) return NULL;
    const uint8_t *at = dsb_stored_bf16(&s, first);
    if (!at) return NULL;
    *stored_bytes = share_up_to(dsb_stored_bytes(&s), first + n, rows) - share_up_to(dsb_stored_bytes(&s), first, rows);
    return (const uint16_t *)(const void *)at;
}

void dsb_checkpoint_drop_rows(const dsb_checkpoint *cp, const uint16_t *words, int64_t n, int64_t cols) {
    size_t bytes = (size_t)(n * cols) * sizeof *words;
    if (bytes < 1 << 14) return;
    for (int i = 0; i < maps_of(cp); i++) {
        const dsb_map *map = map_of(cp, i);
        const uint8_t *from = (const uint8_t *)words;
        if (from >= map->data && from < map->data + map->size) dsb_map_drop(from, bytes);
    }
}

bool dsb_checkpoint_is_quantized(const dsb_checkpoint *cp) {
    for (int64_t i = 0; i < cp->n_tensor; i++)
        if (cp->tensors[i]->blocks) return true;
    return cp->quant.method != DSB_QUANT_NONE;
}

dsb_status dsb_checkpoint_activation(const dsb_checkpoint *cp, const char *stem, const dsb_format *format, dsb_activation *out, float *static_scale, dsb_err *err) {
    const dsb_quant_group *g = dsb_quant_config_group(&cp->quant, format);
    char name[512];
    *out = g ? g->activation : DSB_ACT_NONE;
    if (*out != DSB_ACT_INT8_STATIC) return DSB_OK;
    snprintf(name, sizeof name, "%s.input_scale", stem);
    const dsb_st_tensor *t = dsb_checkpoint_find(cp, name);
    if (!t) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is missing; config.json says that activations are static", cp->dir, name);
    if (!dsb_dtype_is_float(t->dtype) || t->bytes != dsb_dtype_size(t->dtype)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: one float is wanted", cp->dir, name);
    dsb_widen_f32(t->dtype, t->data, 1, static_scale);
    if (!(*static_scale > 0)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is %g; a scale above 0 is wanted", cp->dir, name, (double)*static_scale);
    return DSB_OK;
}

dsb_status dsb_checkpoint_read_bias(const dsb_checkpoint *cp, const char *stem, int64_t n, float *dst, dsb_err *err) {
    dsb_stored s;
    DSB_TRY(dsb_stored_find_bias(cp, stem, n, &s, err));
    return dst ? dsb_stored_decode(&s, 0, n, dst, err) : DSB_OK;
}

dsb_status dsb_checkpoint_read_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err) {
    return dsb_checkpoint_read_rows(cp, stem, rows, cols, 0, rows, w, codes, stored, err);
}

void dsb_checkpoint_want(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols) {
    dsb_stored s;
    dsb_err ignored;
    if (dsb_stored_find(cp, stem, rows, cols, &s, &ignored)) return;
    if (s.w->ndim == 2) dsb_map_want(s.w->data, s.w->bytes); /* experts fused in one tensor: the system sees them read in order */
    if (s.w->ndim == 2 && s.scale) dsb_map_want(s.scale->data, s.scale->bytes);
}

enum { HASH_STEP = 1 << 20 };

/* Bytes at .. at+n of a file, a step at a time, so that its pages don't add up. */
static void hash_bytes(struct sha256_ctx *ctx, const dsb_map *map, size_t at, size_t n) {
    for (size_t end = at + n < map->size ? at + n : map->size; at < end; at += HASH_STEP) {
        size_t step = end - at < HASH_STEP ? end - at : HASH_STEP;
        sha256_update(ctx, step, map->data + at);
        dsb_map_drop(map->data + at, step);
    }
}

dsb_status dsb_checkpoint_hash(const dsb_checkpoint *cp, char out[65], dsb_err *err) {
    struct sha256_ctx ctx;
    uint8_t digest[SHA256_DIGEST_SIZE];
    size_t all = 0, head = (size_t)16 << 20, every = (size_t)64 << 20;
    (void)err;
    sha256_init(&ctx);
    for (int i = 0; i < maps_of(cp); i++) all += map_of(cp, i)->size;
    for (int i = 0; i < maps_of(cp); i++) {
        const dsb_map *map = map_of(cp, i);
        uint64_t size = map->size;
        if (all <= (size_t)4 << 30) {
            hash_bytes(&ctx, map, 0, map->size);
            continue;
        }
        sha256_update(&ctx, sizeof size, (const uint8_t *)&size);
        hash_bytes(&ctx, map, 0, head);
        for (size_t at = head; at < map->size; at += every) hash_bytes(&ctx, map, at, HASH_STEP);
    }
    sha256_digest(&ctx, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return DSB_OK;
}
