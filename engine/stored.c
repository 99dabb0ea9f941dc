#include "engine/stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/blocks.h"

/* What a kept weight is called where the format table has no row for it. */
static const dsb_format k_fp8_block = {"fp8_e4m3", "FP8 E4M3 with a scale a block", 8, 0, false}, k_mxfp4 = {"mxfp4", "E2M1 with an E8M0 scale for 32", 4.25, 0, false};

static const char *shape_text(const dsb_st_tensor *t, char buf[96]) {
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < t->ndim && used < 96; i++) used += (size_t)snprintf(buf + used, 96 - used, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    return buf;
}

/* The tensor's shape is exactly n dimensions of these sizes. */
static dsb_status want(const dsb_checkpoint *cp, const dsb_st_tensor *t, int n, const int64_t *shape, dsb_err *err) {
    bool ok = t->ndim == n;
    char found[96], wanted[96];
    for (int i = 0; i < n && ok; i++) ok = t->shape[i] == shape[i];
    if (ok) return DSB_OK;
    dsb_st_tensor w = {.ndim = n};
    memcpy(w.shape, shape, (size_t)n * sizeof *shape);
    return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: shape is (%s); config.json wants (%s)", cp->dir, t->name, shape_text(t, found), shape_text(&w, wanted));
}
#define WANT(t, ...) DSB_TRY(want(cp, t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}, err))

static dsb_status want_type(const dsb_checkpoint *cp, const dsb_st_tensor *t, bool ok, const char *wanted, dsb_err *err) {
    return ok ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; %s is wanted", cp->dir, t->name, dsb_dtype_name(t->dtype), wanted);
}

static const dsb_st_tensor *part(const dsb_checkpoint *cp, const char *stem, const char *name) {
    char full[512];
    return (size_t)snprintf(full, sizeof full, "%s%s", stem, name) < sizeof full ? dsb_checkpoint_find(cp, full) : NULL;
}

static dsb_status need(const dsb_checkpoint *cp, const char *stem, const char *name, const char *beside, const dsb_st_tensor **out, dsb_err *err) {
    *out = part(cp, stem, name);
    return *out ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: tensor %s%s is missing%s", cp->dir, stem, name, beside);
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static const uint8_t *element(const dsb_st_tensor *t, int64_t i) { return t->data + (size_t)i * dsb_dtype_size(t->dtype); }
static void widen(const dsb_st_tensor *t, int64_t at, int64_t n, float *dst) { dsb_widen_f32(t->dtype, element(t, at), (size_t)n, dst); }

/* Plain floats */

static void plain_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    int64_t row = s->first + r * s->step;
    if (s->column_rows == 0) widen(s->w, row * s->cols, s->cols, dst);
    for (int64_t c = 0; s->column_rows > 0 && c < s->cols; c++) widen(s->w, row + c * s->column_rows, 1, dst + c);
}

/* FP8, one scale a block of outputs and inputs: DeepSeek-V3's weight_scale_inv */

static void fp8_block_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    widen(s->w, r * s->cols, s->cols, dst);
    widen(s->scale, r / s->block_rows * s->n_group, s->n_group, scales);
    dsb_scale_block_row(dst, 0, s->cols, scales, s->block_rows, s->group);
}

static dsb_status find_fp8_block(dsb_stored *s, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    s->block_rows = s->group = 128;
    s->n_group = ceil_div(s->cols, s->group);
    WANT(s->scale, ceil_div(s->rows, s->block_rows), s->n_group);
    DSB_TRY(want_type(cp, s->scale, dsb_dtype_is_float(s->scale->dtype), "a float type", err));
    s->row = fp8_block_row;
    s->format = &k_fp8_block;
    return DSB_OK;
}

/* compressed-tensors: I8 codes, or eight 4-bit codes an I32, offset by 8, along the inputs, lowest bits first; scales by channel or group */

static void int8_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    const int8_t *q = (const int8_t *)s->w->data + r * s->cols;
    widen(s->scale, r * s->n_group, s->n_group, scales);
    for (int64_t c = 0; c < s->cols; c++) dst[c] = (float)q[c] * scales[c / s->group];
}

static int packed_code(const dsb_stored *s, int64_t r, int64_t c) {
    int64_t per = 32 / s->bits;
    uint32_t word;
    memcpy(&word, s->w->data + 4 * (r * ceil_div(s->cols, per) + c / per), 4);
    return (int)(word >> s->bits * (c % per) & ((1u << s->bits) - 1)) - (1 << (s->bits - 1));
}

static void packed_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    widen(s->scale, r * s->n_group, s->n_group, scales);
    for (int64_t c = 0; c < s->cols; c++) dst[c] = (float)packed_code(s, r, c) * scales[c / s->group];
}

static dsb_status find_codes(dsb_stored *s, const char *stem, bool packed, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    s->bits = packed ? 4 : 8;
    if (packed) DSB_TRY(want_type(cp, s->w, s->w->dtype == DSB_I32, "I32", err));
    WANT(s->w, s->rows, packed ? ceil_div(s->cols, 32 / s->bits) : s->cols);
    const dsb_st_tensor *t = part(cp, stem, ".weight_zero_point");
    if (t) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: zero points of stored codes can't be read yet", cp->dir, t->name);
    if ((t = part(cp, stem, ".weight_g_idx"))) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: stored codes whose inputs are reordered can't be read yet", cp->dir, t->name);
    DSB_TRY(need(cp, stem, ".weight_scale", " beside the integer codes", &s->scale, err));
    t = s->scale;
    s->n_group = t->ndim == 2 ? t->shape[1] : 1;
    if (s->n_group < 1 || s->n_group > s->cols || s->cols % s->n_group)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld groups don't divide %lld inputs", cp->dir, t->name, (long long)s->n_group, (long long)s->cols);
    s->group = s->cols / s->n_group;
    if (t->ndim == 2) WANT(t, s->rows, s->n_group);
    else WANT(t, s->rows);
    DSB_TRY(want_type(cp, t, dsb_dtype_is_float(t->dtype), "a float type", err));
    s->codes = true;
    s->format = dsb_format_find(packed ? "int4" : "int8");
    s->row = packed ? packed_row : int8_row;
    return DSB_OK;
}

/* Experts fused in one tensor a layer. GPT-OSS: gate and up rows interleaved, MXFP4 or a transposed float tensor; transformers 5:
 * gate rows, then up rows. */

typedef struct fused_name {
    char stem[300]; /* model.layers.3.mlp.experts */
    int64_t expert;
    int part;       /* 0 gate, 1 up, 2 down */
} fused_name;

/* Takes "….experts.E.gate_proj" apart; false where the stem is no expert's. */
static bool split_expert(const char *stem, fused_name *out) {
    static const char *const k_part[] = {".gate_proj", ".up_proj", ".down_proj", ".w1", ".w3", ".w2"};
    const char *at = strstr(stem, ".experts.");
    char *end;
    if (!at) return false;
    at += strlen(".experts");
    out->expert = strtoll(at + 1, &end, 10);
    if (end == at + 1 || out->expert < 0 || (size_t)(at - stem) >= sizeof out->stem) return false;
    snprintf(out->stem, sizeof out->stem, "%.*s", (int)(at - stem), stem);
    for (int i = 0; i < 6; i++)
        if (strcmp(end, k_part[i]) == 0) {
            out->part = i % 3;
            return true;
        }
    return false;
}

static void mxfp4_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    int64_t row = s->first + r * s->step;
    dsb_decode_mxfp4(s->w->data + row * s->cols / 2, s->scale->data + row * s->n_group, (size_t)s->cols, dst);
}

static dsb_status find_fused_mxfp4(dsb_stored *s, const fused_name *f, const char *what, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    char name[400];
    int64_t all = f->part == 2 ? s->rows : 2 * s->rows;
    snprintf(name, sizeof name, "%s_scales", what);
    DSB_TRY(need(cp, f->stem, name, " beside the MXFP4 blocks", &s->scale, err));
    if (s->cols % 32) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld inputs don't split into MXFP4 blocks of 32", cp->dir, s->w->name, (long long)s->cols);
    s->group = 32;
    s->n_group = s->cols / 32;
    if (s->w->ndim != 4 || s->w->shape[0] <= f->expert) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: expert %lld is not in it", cp->dir, s->w->name, (long long)f->expert);
    WANT(s->w, s->w->shape[0], all, s->n_group, 16);
    WANT(s->scale, s->w->shape[0], all, s->n_group);
    DSB_TRY(want_type(cp, s->w, s->w->dtype == DSB_U8, "U8", err));
    DSB_TRY(want_type(cp, s->scale, s->scale->dtype == DSB_U8, "U8", err));
    s->first = f->expert * all + (f->part == 1);
    s->step = f->part == 2 ? 1 : 2;
    s->row = mxfp4_row;
    s->format = &k_mxfp4;
    return DSB_OK;
}

static dsb_status find_fused_plain(dsb_stored *s, const fused_name *f, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    const dsb_st_tensor *t = s->w;
    int64_t all = f->part == 2 ? s->rows : 2 * s->rows;
    DSB_TRY(want_type(cp, t, dsb_dtype_is_float(t->dtype), "a float type", err));
    if (t->ndim != 3 || t->shape[0] <= f->expert) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: expert %lld is not in it", cp->dir, t->name, (long long)f->expert);
    bool gpt_oss = part(cp, f->stem, ".gate_up_proj_bias") != NULL;
    s->row = plain_row;
    if (gpt_oss) { /* (experts, inputs, outputs) */
        WANT(t, t->shape[0], s->cols, all);
        s->column_rows = all;
        s->first = f->expert * s->cols * all + (f->part == 1);
        s->step = f->part == 2 ? 1 : 2;
    } else {
        WANT(t, t->shape[0], all, s->cols);
        s->first = f->expert * all + (f->part == 1 ? s->rows : 0);
    }
    return DSB_OK;
}

/* Leaves *s alone where there is no such tensor. */
static dsb_status find_fused(dsb_stored *s, const char *stem, dsb_err *err) {
    fused_name f;
    if (!split_expert(stem, &f)) return DSB_OK;
    const char *what = f.part == 2 ? ".down_proj" : ".gate_up_proj";
    char blocks[64];
    snprintf(blocks, sizeof blocks, "%s_blocks", what);
    if ((s->w = part(s->cp, f.stem, blocks))) return find_fused_mxfp4(s, &f, what, err);
    return (s->w = part(s->cp, f.stem, what)) ? find_fused_plain(s, &f, err) : DSB_OK;
}

dsb_status dsb_stored_find(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_stored *out, dsb_err *err) {
    dsb_stored *s = out;
    *s = (dsb_stored){.cp = cp, .rows = rows, .cols = cols, .step = 1, .group = cols, .n_group = 1};
    if ((s->w = part(cp, stem, ".weight_packed"))) return find_codes(s, stem, true, err);
    s->w = part(cp, stem, ".weight");
    if (!s->w) {
        DSB_TRY(find_fused(s, stem, err));
        return s->w ? DSB_OK : need(cp, stem, ".weight", "", &s->w, err);
    }
    if (s->w->dtype == DSB_I8) return find_codes(s, stem, false, err);
    WANT(s->w, rows, cols);
    DSB_TRY(want_type(cp, s->w, dsb_dtype_is_float(s->w->dtype), "a float type such as BF16", err));
    if (dsb_dtype_size(s->w->dtype) == 1 && (s->scale = part(cp, stem, ".weight_scale_inv"))) return find_fp8_block(s, err);
    s->row = plain_row;
    return DSB_OK;
}

dsb_status dsb_stored_decode(const dsb_stored *s, int64_t at, int64_t n, float *dst, dsb_err *err) {
    float *scratch = NULL;
    bool ok = true;
    if (s->row == plain_row && s->step == 1 && !s->column_rows && n * s->cols < 1 << 15) {
        widen(s->w, (s->first + at) * s->cols, n * s->cols, dst);
        return DSB_OK;
    }
#pragma omp parallel private(scratch) if (n * s->cols > 1 << 15)
    {
        scratch = malloc((size_t)s->n_group * sizeof *scratch);
        if (!scratch) {
#pragma omp atomic write
            ok = false;
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n; r++)
            if (scratch) s->row(s, at + r, dst + r * s->cols, scratch);
        free(scratch);
    }
    return ok ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "%s: tensor %s: no memory for its scales", s->cp->dir, s->w->name);
}

dsb_status dsb_stored_codes(const dsb_stored *s, dsb_qtensor *q, dsb_err *err) {
    bool within = true;
    *q = (dsb_qtensor){.format = s->format, .rows = s->rows, .cols = s->cols, .group = s->group, .n_group = s->n_group};
    dsb_status st = DSB_NEW(q->codes, s->rows * s->cols, s->w->name, err);
    if (!st) st = DSB_NEW(q->scales, s->rows * s->n_group, s->w->name, err);
    if (!st) {
        widen(s->scale, 0, s->rows * s->n_group, q->scales);
        for (int64_t r = 0; r < s->rows; r++)
            for (int64_t c = 0; c < s->cols; c++) q->codes[r * s->cols + c] = (int8_t)(s->bits == 8 ? (int8_t)s->w->data[r * s->cols + c] : packed_code(s, r, c));
        for (int64_t i = 0; i < s->rows * s->cols; i++) within &= q->codes[i] != -128;
    }
    if (st || !within) dsb_qtensor_release(q);
    return st;
}

size_t dsb_stored_bytes(const dsb_stored *s) {
    size_t n = s->w->bytes + (s->scale ? s->scale->bytes : 0);
    if (s->w->ndim < 3) return n;
    return (size_t)((double)n * (double)s->rows / (double)(s->w->shape[0] * (s->column_rows ? s->w->shape[2] : s->w->shape[1]))); /* one expert's share */
}
