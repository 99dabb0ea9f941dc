#include "engine/stored_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/blocks.h"

static const char *shape_text(const dsb_st_tensor *t, char buf[96]) {
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < t->ndim && used < 96; i++) used += (size_t)snprintf(buf + used, 96 - used, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    return buf;
}

/* The tensor's shape is exactly n dimensions of these sizes. */
dsb_status stored_want(const dsb_checkpoint *cp, const dsb_st_tensor *t, int n, const int64_t *shape, dsb_err *err) {
    bool ok = t->ndim == n;
    char found[96], wanted[96];
    for (int i = 0; i < n && ok; i++) ok = t->shape[i] == shape[i];
    if (ok) return DSB_OK;
    dsb_st_tensor w = {.ndim = n};
    memcpy(w.shape, shape, (size_t)n * sizeof *shape);
    return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: shape is (%s); config.json wants (%s)", cp->dir, t->name, shape_text(t, found), shape_text(&w, wanted));
}
dsb_status stored_want_type(const dsb_checkpoint *cp, const dsb_st_tensor *t, bool ok, const char *wanted, dsb_err *err) {
    return ok ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; %s is wanted", cp->dir, t->name, dsb_dtype_name(t->dtype), wanted);
}

const dsb_st_tensor *stored_part(const dsb_checkpoint *cp, const char *stem, const char *name) {
    char full[512];
    return (size_t)snprintf(full, sizeof full, "%s%s", stem, name) < sizeof full ? dsb_checkpoint_find(cp, full) : NULL;
}

dsb_status stored_need(const dsb_checkpoint *cp, const char *stem, const char *name, const char *beside, const dsb_st_tensor **out, dsb_err *err) {
    *out = stored_part(cp, stem, name);
    return *out ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: tensor %s%s is missing%s", cp->dir, stem, name, beside);
}


/* Plain floats */

static void plain_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    int64_t row = s->first + r * s->step;
    if (s->column_rows == 0) stored_widen(s->w, row * s->cols, s->cols, dst);
    for (int64_t c = 0; s->column_rows > 0 && c < s->cols; c++) stored_widen(s->w, row + c * s->column_rows, 1, dst + c);
}

const uint8_t *dsb_stored_bf16(const dsb_stored *s, int64_t at) {
    if (s->row != plain_row || s->codes || s->scale || s->w->dtype != DSB_BF16 || s->w->blocks || s->column_rows > 0 || s->step != 1) return NULL;
    const uint8_t *p = s->w->data + (size_t)((s->first + at) * s->cols) * 2;
    return (uintptr_t)p % 2 == 0 ? p : NULL;
}

/* GGUF: a type of blocks, or rows that lie elsewhere */

static void gguf_row(const dsb_stored *s, int64_t r, float *dst, float *scratch) { dsb_st_row(s->w, r, dst); }

static dsb_status find_gguf(dsb_stored *s) {
    static const dsb_format k_read_only[] = {{.name = "q4_1", .what = "", .bits = 4}, {.name = "q5_1", .what = "", .bits = 5}, {.name = "iq4_xs", .what = "", .bits = 4}};
    s->row = gguf_row;
    if (s->w->blocks) s->format = dsb_format_find(s->w->blocks->name);
    for (size_t i = 0; s->w->blocks && i < sizeof k_read_only / sizeof *k_read_only; i++)
        if (strcmp(k_read_only[i].name, s->w->blocks->name) == 0) s->format = &k_read_only[i];
    return DSB_OK;
}

/* FP8 with scales: of blocks (DeepSeek-V3's weight_scale_inv), of outputs, or one */

static void fp8_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    stored_widen(s->w, r * s->cols, s->cols, dst);
    stored_widen(s->scale, s->one_scale ? 0 : r / s->block_rows * s->n_group, s->n_group, scales);
    dsb_scale_block_row(dst, 0, s->cols, scales, s->block_rows, s->group);
}

static dsb_status find_fp8(dsb_stored *s, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    const dsb_st_tensor *t = s->scale;
    s->row = fp8_row;
    s->format = s->w->dtype == DSB_FP8_E5M2 ? dsb_format_find("fp8_e5m2") : dsb_format_find("fp8_e4m3");
    s->block_rows = 1;
    DSB_TRY(stored_want_type(cp, t, dsb_dtype_is_float(t->dtype), "a float type", err));
    s->one_scale = t->ndim == 0 || (t->ndim == 1 && t->shape[0] == 1);
    if (s->one_scale || (t->ndim == 1 && t->shape[0] == s->rows) || (t->ndim == 2 && t->shape[0] == s->rows && t->shape[1] == 1)) return DSB_OK;
    s->block_rows = cp->quant.block_rows;
    s->group = cp->quant.block_cols;
    s->n_group = stored_ceil_div(s->cols, s->group);
    WANT(t, stored_ceil_div(s->rows, s->block_rows), s->n_group);
    return DSB_OK;
}

/* compressed-tensors' FP4: two codes a byte; NVFP4 has E4M3 scales for 16 and divides by a global one, MXFP4 E8M0 scales for 32 */

static void nvfp4_row(const dsb_stored *s, int64_t r, float *dst, float *scratch) {
    float global;
    stored_widen(s->global, 0, 1, &global);
    stored_widen(s->scale, r * s->n_group, s->n_group, scratch);
    const uint8_t *packed = s->w->data + r * (s->cols / 2);
    for (int64_t c = 0; c < s->cols; c++) dst[c] = dsb_e2m1_value[packed[c / 2] >> c % 2 * 4 & 15] * (scratch[c / 16] / global);
}

static void mxfp4_row(const dsb_stored *s, int64_t r, float *dst, float *scales) {
    int64_t row = s->first + r * s->step;
    dsb_decode_mxfp4(s->w->data + row * (s->cols / 2), s->scale->data + row * s->n_group, (size_t)s->cols, dst);
}

static dsb_status find_fp4(dsb_stored *s, const char *stem, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    DSB_TRY(stored_need(cp, stem, ".weight_scale", " beside the FP4 codes", &s->scale, err));
    bool nv = s->scale->dtype == DSB_FP8_E4M3;
    DSB_TRY(stored_want_type(cp, s->scale, nv || s->scale->dtype == DSB_U8 || s->scale->dtype == DSB_FP8_E8M0, "F8_E4M3 (NVFP4) or U8 (MXFP4)", err));
    s->group = nv ? 16 : 32;
    s->n_group = s->cols / s->group;
    if (s->cols % s->group) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld inputs don't split into FP4 blocks of %lld", cp->dir, s->w->name, (long long)s->cols, (long long)s->group);
    WANT(s->w, s->rows, s->cols / 2);
    WANT(s->scale, s->rows, s->n_group);
    s->row = nv ? nvfp4_row : mxfp4_row;
    s->format = dsb_format_find(nv ? "nvfp4" : "mxfp4");
    if (!nv) return DSB_OK;
    DSB_TRY(stored_need(cp, stem, ".weight_global_scale", " beside the NVFP4 codes", &s->global, err));
    DSB_TRY(stored_want_type(cp, s->global, dsb_dtype_is_float(s->global->dtype), "a float type", err));
    if (s->global->ndim) WANT(s->global, 1);
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

static dsb_status find_fused_mxfp4(dsb_stored *s, const fused_name *f, const char *what, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    char name[400];
    int64_t all = f->part == 2 ? s->rows : 2 * s->rows;
    snprintf(name, sizeof name, "%s_scales", what);
    DSB_TRY(stored_need(cp, f->stem, name, " beside the MXFP4 blocks", &s->scale, err));
    if (s->cols % 32) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld inputs don't split into MXFP4 blocks of 32", cp->dir, s->w->name, (long long)s->cols);
    s->group = 32;
    s->n_group = s->cols / 32;
    if (s->w->ndim != 4 || s->w->shape[0] <= f->expert) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: expert %lld is not in it", cp->dir, s->w->name, (long long)f->expert);
    WANT(s->w, s->w->shape[0], all, s->n_group, 16);
    WANT(s->scale, s->w->shape[0], all, s->n_group);
    DSB_TRY(stored_want_type(cp, s->w, s->w->dtype == DSB_U8, "U8", err));
    DSB_TRY(stored_want_type(cp, s->scale, s->scale->dtype == DSB_U8, "U8", err));
    s->first = f->expert * all + (f->part == 1);
    s->step = f->part == 2 ? 1 : 2;
    s->row = mxfp4_row;
    s->format = dsb_format_find("mxfp4");
    return DSB_OK;
}

static dsb_status find_fused_plain(dsb_stored *s, const fused_name *f, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    const dsb_st_tensor *t = s->w;
    int64_t all = f->part == 2 ? s->rows : 2 * s->rows;
    DSB_TRY(stored_want_type(cp, t, dsb_dtype_is_float(t->dtype), "a float type", err));
    if (t->ndim != 3 || t->shape[0] <= f->expert) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: expert %lld is not in it", cp->dir, t->name, (long long)f->expert);
    bool gpt_oss = stored_part(cp, f->stem, ".gate_up_proj_bias") != NULL;
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
    if ((s->w = stored_part(s->cp, f.stem, blocks))) return find_fused_mxfp4(s, &f, what, err);
    return (s->w = stored_part(s->cp, f.stem, what)) ? find_fused_plain(s, &f, err) : DSB_OK;
}

dsb_status dsb_stored_find(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_stored *out, dsb_err *err) {
    dsb_stored *s = out;
    *s = (dsb_stored){.cp = cp, .rows = rows, .cols = cols, .step = 1, .group = cols, .n_group = 1};
    if ((s->w = stored_part(cp, stem, ".weight_packed"))) return s->w->dtype == DSB_U8 ? find_fp4(s, stem, err) : stored_find_packed_codes(s, stem, err);
    if ((s->w = stored_part(cp, stem, ".qweight"))) return stored_find_gptq_awq(s, stem, err);
    s->w = stored_part(cp, stem, ".weight");
    if (!s->w) {
        DSB_TRY(find_fused(s, stem, err));
        return s->w ? DSB_OK : stored_need(cp, stem, ".weight", "", &s->w, err);
    }
    if (s->w->dtype == DSB_I8) return stored_find_plain_codes(s, stem, err);
    WANT(s->w, rows, cols);
    DSB_TRY(stored_want_type(cp, s->w, dsb_st_is_float(s->w), "a float type such as BF16", err));
    if (cp->is_gguf) return find_gguf(s);
    if (dsb_dtype_size(s->w->dtype) == 1) {
        s->scale = stored_part(cp, stem, ".weight_scale_inv");
        if (!s->scale) s->scale = stored_part(cp, stem, ".weight_scale");
        if (s->scale) return find_fp8(s, err);
        if (cp->quant.method) return stored_need(cp, stem, ".weight_scale", " beside the FP8 weight", &s->scale, err);
    }
    s->row = plain_row;
    return DSB_OK;
}

dsb_status dsb_stored_find_bias(const dsb_checkpoint *cp, const char *stem, int64_t rows, dsb_stored *out, dsb_err *err) {
    dsb_stored *s = out;
    fused_name f;
    *s = (dsb_stored){.cp = cp, .rows = rows, .cols = 1, .step = 1, .group = 1, .n_group = 1, .row = plain_row};
    s->w = stored_part(cp, stem, ".bias");
    if (!s->w && split_expert(stem, &f)) {
        int64_t all = f.part == 2 ? rows : 2 * rows;
        DSB_TRY(stored_need(cp, f.stem, f.part == 2 ? ".down_proj_bias" : ".gate_up_proj_bias", "", &s->w, err));
        if (s->w->ndim != 2 || s->w->shape[0] <= f.expert) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: expert %lld is not in it", cp->dir, s->w->name, (long long)f.expert);
        WANT(s->w, s->w->shape[0], all);
        s->first = f.expert * all + (f.part == 1);
        s->step = f.part == 2 ? 1 : 2;
    } else {
        if (!s->w) DSB_TRY(stored_need(cp, stem, ".bias", "", &s->w, err));
        WANT(s->w, rows);
    }
    return stored_want_type(cp, s->w, dsb_dtype_is_float(s->w->dtype), "a float type", err);
}

dsb_status dsb_stored_decode(const dsb_stored *s, int64_t at, int64_t n, float *dst, dsb_err *err) {
    float *scratch = NULL;
    bool ok = true;
    if (s->row == plain_row && s->step == 1 && !s->column_rows && n * s->cols < 1 << 15) {
        stored_widen(s->w, (s->first + at) * s->cols, n * s->cols, dst);
        return DSB_OK;
    }
#pragma omp parallel private(scratch) if (n * s->cols > 1 << 15)
    {
        scratch = malloc(2 * (size_t)s->n_group * sizeof *scratch);
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

/* Only eight bits hold a code that no kernel takes. */
static bool within_kernels(const dsb_stored *s) {
    for (int64_t r = 0; r < s->rows && s->bits == 8; r++)
        for (int64_t c = 0; c < s->cols; c++)
            if (stored_code(s, r, c) == -128) return false;
    return true;
}

dsb_status dsb_stored_codes(const dsb_stored *s, int64_t at, int64_t n, dsb_qtensor *q, dsb_err *err) {
    *q = (dsb_qtensor){.format = s->format, .rows = n, .cols = s->cols, .group = s->group, .n_group = s->n_group};
    if (!within_kernels(s)) return DSB_OK;
    dsb_status st = DSB_NEW(q->codes, n * s->cols, s->w->name, err);
    if (!st) st = DSB_NEW(q->scales, n * s->n_group, s->w->name, err);
    if (st) {
        dsb_qtensor_release(q);
        return st;
    }
    stored_widen(s->scale, s->one_scale ? 0 : at * s->n_group, s->one_scale ? 1 : n * s->n_group, q->scales);
    for (int64_t i = 1; s->one_scale && i < n * s->n_group; i++) q->scales[i] = q->scales[0];
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < s->cols; c++) q->codes[r * s->cols + c] = (int8_t)stored_code(s, at + r, c);
    return DSB_OK;
}

size_t dsb_stored_bytes(const dsb_stored *s) {
    const dsb_st_tensor *beside[] = {s->scale, s->zero, s->order, s->global};
    size_t n = s->w->bytes + (s->w->values ? s->w->values->bytes : 0);
    for (int i = 0; i < 4; i++) n += beside[i] ? beside[i]->bytes : 0;
    if (s->w->ndim < 3) return n;
    return (size_t)((double)n * (double)s->rows / (double)(s->w->shape[0] * (s->column_rows ? s->w->shape[2] : s->w->shape[1]))); /* one expert's share */
}
