/* `dsbench tensor IN -o OUT`: every 2-D float tensor of a file quantized and dequantized, with its error. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/safetensors.h"
#include "engine/safetensors_write.h"
#include "harness/commands.h"
#include "harness/options.h"
#include "kernels/backend.h"
#include "metrics/moments.h"
#include "quantizers/quantize.h"

static const char MORE[] =
    "Of each tensor NAME: NAME.codes (I8 in the tensor's shape; U8 with --affine or hqq; the raw bytes of all other formats),\n"
    "NAME.scales (F32, rows or 1 by groups; U8 of MX formats and NVFP4; none where they lie in the codes' blocks),\n"
    "NAME.zeros (I32, --affine only; F32, hqq only), NAME.global_scale (F32, NVFP4 only), NAME.dequant (F32).\n"
    "Without --group: channel for int8 and FP8, 64 for nf4, else 32 or the format's own block. The last group of a row may be\n"
    "short; FP8 with --group 128 has a scale a block of 128 x 128.\n"
    "Tensors that are not 2-D, hold no floats or have rows that the format's blocks don't divide are skipped, and named on stderr.\n"
    "Exit: 0 done, 1 dequantized values that are not finite, 2 bad input, 4 output.\n";

typedef struct options {
    const dsb_format *format;
    const dsb_algorithm *algorithm;
    const char *in, *out;
    int64_t group; /* DSB_GROUP_TENSOR, DSB_GROUP_CHANNEL or inputs per scale */
    dsb_zero zero;
    bool affine, json, help;
} options;

/* One tensor that is quantized, and what came of it. */
typedef struct result {
    const dsb_st_tensor *t;
    dsb_moments moments;
    double bpw;
} result;

/* Buffers of the largest tensor. */
typedef struct buffers {
    float *w, *dequant;
    uint8_t *codes;
} buffers;

static dsb_status format_read(options *o, const char *name, dsb_err *err) {
    char known[256] = "";
    const dsb_format *rows;
    if (name) o->format = dsb_format_find(name);
    if (o->format) return DSB_OK;
    for (int i = 0, n = dsb_format_list(&rows); i < n; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", rows[i].name);
    }
    if (!name) return dsb_fail(err, DSB_EUSAGE, "tensor: --format is missing; one of %s is wanted", known);
    return dsb_fail(err, DSB_EUSAGE, "tensor: --format %s is unknown; one of %s is wanted", name, known);
}

static dsb_status algorithm_read(options *o, const char *name, dsb_err *err) {
    char known[256] = "";
    const dsb_algorithm *rows;
    o->algorithm = dsb_algorithm_find(name);
    bool integers = o->algorithm && (o->algorithm->range != DSB_RANGE_WHOLE || o->algorithm->method == DSB_METHOD_HQQ);
    if (integers && o->format->qmax == 0) return dsb_fail(err, DSB_EUSAGE, "tensor: --algorithm %s: format %s has scales of its own; rtn, or an integer format, is wanted", name, o->format->name);
    if (o->algorithm && o->algorithm->needs) return dsb_fail(err, DSB_EUSAGE, "tensor: --algorithm %s: it chooses by calibration, which a file of tensors has not; rtn is wanted", name);
    for (int i = 0, n = dsb_algorithm_list(&rows); i < n; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", rows[i].name);
    }
    return o->algorithm ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "tensor: --algorithm %s is unknown; one of %s is wanted", name, known);
}

static dsb_status group_read(options *o, const char *text, dsb_err *err) {
    if (o->affine && o->format->qmax == 0 && !o->format->is_float) return dsb_fail(err, DSB_EUSAGE, "tensor: --affine: format %s has no zero points; leave --affine out", o->format->name);
    if (o->format->is_float) {
        if (text) return dsb_fail(err, DSB_EUSAGE, "tensor: --group %s: format %s has no scales; leave --group out", text, o->format->name);
        if (o->affine) return dsb_fail(err, DSB_EUSAGE, "tensor: --affine: format %s has no zero points; leave --affine out", o->format->name);
        return DSB_OK;
    }
    o->group = o->format->group;
    if (!text) return DSB_OK;
    if (strcmp(text, "channel") == 0) {
        o->group = DSB_GROUP_CHANNEL;
    } else if (strcmp(text, "tensor") == 0) {
        o->group = DSB_GROUP_TENSOR;
    } else {
        char *end;
        errno = 0;
        long long n = strtoll(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || errno || n < 1 || n > INT32_MAX)
            return dsb_fail(err, DSB_EUSAGE, "tensor: --group %s is no granularity; tensor, channel or a number of inputs is wanted", text);
        o->group = n;
    }
    const char *wanted;
    if (!dsb_format_takes_group(o->format, o->group, &wanted)) return dsb_fail(err, DSB_EUSAGE, "tensor: --group %s: format %s takes %s", text, o->format->name, wanted);
    return DSB_OK;
}

static dsb_status options_read(options *o, int argc, char **argv, dsb_err *err) {
    const char *format = NULL, *group = NULL, *algorithm = "rtn";
    *o = (options){0};
    const dsb_option rows[] = {
        {"format", 0, DSB_OPT_STRING, &format, "F", "one of `dsbench list formats`", 0, 0},
        {"group", 0, DSB_OPT_STRING, &group, "tensor|channel|N", "one scale a tensor, a channel, or N inputs of a row", 0, 0},
        {"algorithm", 0, DSB_OPT_STRING, &algorithm, "A", "how codes are chosen (default rtn)", 0, 0},
        {"affine", 0, DSB_OPT_FLAG, &o->affine, NULL, "codes with a zero point instead of symmetric ones", 0, 0},
        {"output", 'o', DSB_OPT_STRING, &o->out, "FILE", "where the result goes", 0, 0},
    };
    const dsb_usage usage = {"tensor", "IN.safetensors", "Quantizes and dequantizes each 2-D tensor of a file.", 1, 1, DSB_OPTIONS(rows), MORE, false};
    dsb_parsed parsed;
    DSB_TRY(dsb_options_parse(&usage, argc, argv, &parsed, err));
    o->help = parsed.help;
    o->json = parsed.json;
    if (o->help) return DSB_OK;
    o->in = parsed.arg[0];
    if (!o->out) return dsb_fail(err, DSB_EUSAGE, "tensor: -o FILE is missing; it names the file to write");
    DSB_TRY(format_read(o, format, err));
    DSB_TRY(algorithm_read(o, algorithm, err));
    o->zero = o->algorithm->method == DSB_METHOD_HQQ ? DSB_ZERO_REAL : o->affine && o->format->qmax ? DSB_ZERO_CODE : DSB_ZERO_NONE;
    return group_read(o, group, err);
}

/* Why a tensor is left out, or NULL. */
static const char *skip_reason(const dsb_st_tensor *t) {
    if (t->ndim != 2) return "not 2-D";
    if (t->dtype >= DSB_I64) return "no float type";
    return t->shape[0] == 0 || t->shape[1] == 0 ? "empty" : NULL;
}

static dsb_status select_tensors(const options *o, const dsb_st_file *f, result *list, int64_t *n, dsb_err *err) {
    *n = 0;
    for (int64_t i = 0; i < f->n_tensor; i++) {
        const dsb_st_tensor *t = &f->tensors[i];
        const char *why = skip_reason(t);
        if (!why && !dsb_format_divides(o->format, t->shape[1])) why = "its rows don't split into the format's blocks";
        if (!why) list[(*n)++].t = t;
        else fprintf(stderr, "dsbench: %s: tensor %s skipped: %s (%d-D %s)\n", o->in, t->name, why, t->ndim, dsb_dtype_name(t->dtype));
    }
    if (*n) return DSB_OK;
    return dsb_fail(err, DSB_EINPUT, "%s: none of its %lld tensors is a 2-D float tensor whose rows format %s takes; at least one is wanted", o->in, (long long)f->n_tensor, o->format->name);
}

static int64_t scale_rows(const options *o, const dsb_st_tensor *t) { return o->group == DSB_GROUP_TENSOR ? 1 : t->shape[0]; }
static int64_t scale_cols(const options *o, const dsb_st_tensor *t) { return o->group > 0 && o->group < t->shape[1] ? (t->shape[1] + o->group - 1) / o->group : 1; }

static dsb_status declare_part(dsb_st_writer *out, const dsb_st_tensor *t, const char *part, dsb_dtype dtype, int64_t rows, int64_t cols, dsb_err *err) {
    char *name;
    if (asprintf(&name, "%s.%s", t->name, part) < 0) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for a tensor's name", out->path);
    dsb_status s = dsb_st_writer_declare(out, name, dtype, 2, (int64_t[]){rows, cols}, err);
    free(name);
    return s;
}

static bool has_global(const options *o) { return o->format->global_scale; }

/* Raw codes and their scales, as the codec lays them out. */
static dsb_status declare_raw(const options *o, dsb_st_writer *out, const dsb_st_tensor *t, dsb_err *err) {
    dsb_qtensor q = {.format = o->format, .rows = t->shape[0], .cols = t->shape[1], .asked = o->group};
    o->format->codec->layout(&q);
    DSB_TRY(declare_part(out, t, "codes", DSB_U8, q.raw_rows, q.raw_cols, err));
    if (o->format->scale_bits) DSB_TRY(declare_part(out, t, "scales", o->format->scale_bits == 8 ? DSB_U8 : DSB_F32, q.scale_rows, q.scale_cols, err));
    return has_global(o) ? declare_part(out, t, "global_scale", DSB_F32, 1, 1, err) : DSB_OK;
}

static dsb_status declare(const options *o, dsb_st_writer *out, const dsb_st_tensor *t, dsb_err *err) {
    int64_t rows = t->shape[0], cols = t->shape[1], bytes = (int64_t)o->format->bits / 8;
    if (o->format->is_float) {
        DSB_TRY(declare_part(out, t, "codes", DSB_U8, rows, cols * bytes, err));
    } else if (o->format->codec) {
        DSB_TRY(declare_raw(o, out, t, err));
    } else {
        DSB_TRY(declare_part(out, t, "codes", o->zero ? DSB_U8 : DSB_I8, rows, cols, err));
        DSB_TRY(declare_part(out, t, "scales", DSB_F32, scale_rows(o, t), scale_cols(o, t), err));
        if (o->zero) DSB_TRY(declare_part(out, t, "zeros", o->zero == DSB_ZERO_REAL ? DSB_F32 : DSB_I32, scale_rows(o, t), scale_cols(o, t), err));
    }
    return declare_part(out, t, "dequant", DSB_F32, rows, cols, err);
}

/* The bytes of a float format, little-endian; values are rounded already, so that this is exact. */
static size_t float_bytes(const dsb_format *format, const float *x, int64_t n, uint8_t *out) {
    bool half = strcmp(format->name, "f16") == 0;
    if (format->bits == 32) {
        memcpy(out, x, (size_t)n * 4);
        return (size_t)n * 4;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t u = half ? dsb_f32_to_f16(x[i]) : dsb_f32_to_bf16(x[i]);
        out[2 * i] = (uint8_t)u;
        out[2 * i + 1] = (uint8_t)(u >> 8);
    }
    return (size_t)n * 2;
}

/* Codes and zero points as the field writes them: 0 .. 2^b-1, where dsb_qtensor holds them shifted. */
static dsb_status write_codes(const options *o, dsb_st_writer *out, const dsb_qtensor *q, buffers *b, dsb_err *err) {
    int64_t n = q->rows * q->cols, n_scale = (o->group == DSB_GROUP_TENSOR ? 1 : q->rows) * q->n_group;
    int half = 1 << ((int)o->format->bits - 1);
    for (int64_t i = 0; i < n; i++) b->codes[i] = (uint8_t)(q->affine ? q->codes[i] + half : q->codes[i]);
    DSB_TRY(dsb_st_writer_write(out, b->codes, (size_t)n, err));
    DSB_TRY(dsb_st_writer_write(out, q->scales, (size_t)n_scale * sizeof(float), err));
    for (int64_t i = 0; q->affine && i < n_scale; i++) {
        float zero = q->zeros[i] + (float)half;
        int32_t code = (int32_t)zero;
        DSB_TRY(dsb_st_writer_write(out, q->affine == DSB_ZERO_REAL ? (const void *)&zero : &code, sizeof code, err));
    }
    return DSB_OK;
}

static dsb_status write_raw(dsb_st_writer *out, const dsb_qtensor *q, dsb_err *err) {
    size_t n_scale = (size_t)(q->scale_rows * q->scale_cols);
    DSB_TRY(dsb_st_writer_write(out, q->raw, (size_t)(q->raw_rows * q->raw_cols), err));
    if (q->scale_codes) return dsb_st_writer_write(out, q->scale_codes, n_scale, err);
    return q->scales ? dsb_st_writer_write(out, q->scales, n_scale * sizeof(float), err) : DSB_OK;
}

static dsb_status quantize_one(const options *o, dsb_st_writer *out, result *r, buffers *b, dsb_err *err) {
    const dsb_st_tensor *t = r->t;
    int64_t rows = t->shape[0], cols = t->shape[1], n = rows * cols;
    dsb_qtensor q;
    dsb_err inner = {0};
    dsb_widen_f32(t->dtype, t->data, (size_t)n, b->w);
    dsb_status s = dsb_quantize(&q, o->format, o->algorithm, o->group, o->zero, b->w, rows, cols, &inner);
    /* A bad weight is a bad input here, no figure of a model. */
    if (s) return dsb_fail(err, s == DSB_ENONFINITE ? DSB_EINPUT : s, "%s: tensor %s: %s", o->in, t->name, inner.text);
    dsb_dequantize(&q, b->w, b->dequant);
    dsb_backend_cpu(NULL)->moments(b->w, b->dequant, n, &r->moments);
    r->bpw = 8.0 * (double)q.stored_bytes / (double)n;
    if (o->format->is_float) s = dsb_st_writer_write(out, b->codes, float_bytes(o->format, b->dequant, n, b->codes), err);
    else if (o->format->codec) s = write_raw(out, &q, err);
    else s = write_codes(o, out, &q, b, err);
    if (!s && has_global(o)) s = dsb_st_writer_write(out, &q.global, sizeof q.global, err);
    if (!s) s = dsb_st_writer_write(out, b->dequant, (size_t)n * sizeof(float), err);
    dsb_qtensor_release(&q);
    return s;
}

static dsb_status buffers_make(buffers *b, const options *o, const result *list, int64_t n, dsb_err *err) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t size = list[i].t->shape[0] * list[i].t->shape[1];
        if (size > most) most = size;
    }
    *b = (buffers){0};
    DSB_TRY(DSB_NEW(b->w, most, o->in, err));
    DSB_TRY(DSB_NEW(b->dequant, most, o->in, err));
    return DSB_NEW(b->codes, most * (o->format->is_float ? (int64_t)o->format->bits / 8 : 1), o->in, err);
}

static dsb_status write_all(const options *o, result *list, int64_t n, dsb_err *err) {
    dsb_st_writer out;
    buffers b;
    dsb_status s = buffers_make(&b, o, list, n, err);
    if (!s) {
        s = dsb_st_writer_open(&out, o->out, err);
        bool opened = !s;
        for (int64_t i = 0; !s && i < n; i++) s = declare(o, &out, list[i].t, err);
        for (int64_t i = 0; !s && i < n; i++) s = quantize_one(o, &out, &list[i], &b, err);
        if (!s) s = dsb_st_writer_finish(&out, err);
        if (opened) dsb_st_writer_close(&out);
    }
    free(b.w);
    free(b.dequant);
    free(b.codes);
    return s;
}

static void group_name(const options *o, char *out, size_t size) {
    if (o->format->is_float) snprintf(out, size, "-");
    else if (o->group > 0) snprintf(out, size, "%lld", (long long)o->group);
    else snprintf(out, size, "%s", o->group == DSB_GROUP_TENSOR ? "tensor" : "channel");
}

static void print_number(double x, int width, int digits) {
    if (isnan(x)) printf(" %*s", width, "-");
    else printf(" %*.*g", width, digits, x);
}

static void print_table(const result *list, int64_t n) {
    int width = 6;
    for (int64_t i = 0; i < n; i++)
        if ((int)strlen(list[i].t->name) > width) width = (int)strlen(list[i].t->name);
    printf("%-*s %11s %9s %11s %8s\n", width, "tensor", "nmse", "sqnr_db", "max_abs", "bpw");
    for (int64_t i = 0; i < n; i++) {
        dsb_moment_figures f = dsb_moments_figures(&list[i].moments);
        printf("%-*s", width, list[i].t->name);
        print_number(f.nmse, 11, 4);
        print_number(f.sqnr_db, 9, 4);
        print_number(f.max_abs, 11, 4);
        print_number(list[i].bpw, 8, 5);
        printf("\n");
    }
}

/* JSON has no NaN and no infinity. */
static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *row_json(const options *o, const result *r) {
    char group[32];
    dsb_moment_figures f = dsb_moments_figures(&r->moments);
    group_name(o, group, sizeof group);
    json_t *row = json_pack("{s:s, s:s, s:s, s:b, s:[I, I], s:I, s:I}", "tensor", r->t->name, "format", o->format->name, "group", group, "affine", o->zero != DSB_ZERO_NONE, "shape", (json_int_t)r->t->shape[0],
                            (json_int_t)r->t->shape[1], "n", (json_int_t)(r->t->shape[0] * r->t->shape[1]), "nonfinite", (json_int_t)r->moments.nonfinite);
    json_object_set_new(row, "nmse", number(f.nmse));
    json_object_set_new(row, "sqnr_db", number(f.sqnr_db));
    json_object_set_new(row, "cosine", number(f.cosine));
    json_object_set_new(row, "max_abs", number(f.max_abs));
    json_object_set_new(row, "bpw", number(r->bpw));
    return row;
}

static void print_json(const options *o, const result *list, int64_t n) {
    json_t *rows = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(rows, row_json(o, &list[i]));
    json_dumpf(rows, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    printf("\n");
    json_decref(rows);
}

/* The file is written all the same: an infinity in it is the format's answer to such a weight. */
static void warn_nonfinite(const options *o, const result *list, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (list[i].moments.nonfinite)
            fprintf(stderr, "dsbench: warning: %s: tensor %s: %lld values are beyond %s's range, the first at element %lld; a format of wider range is wanted\n", o->in, list[i].t->name,
                    (long long)list[i].moments.nonfinite, o->format->name, (long long)list[i].moments.first_bad);
}

static dsb_status tensor_run(const options *o, const dsb_st_file *in, dsb_err *err) {
    result *list;
    int64_t n;
    DSB_TRY(DSB_NEW(list, in->n_tensor, "tensors", err));
    dsb_status s = select_tensors(o, in, list, &n, err);
    if (!s) s = write_all(o, list, n, err);
    if (!s) {
        if (o->json) print_json(o, list, n);
        else print_table(list, n);
        if (fflush(stdout)) s = dsb_fail(err, DSB_EOUTPUT, "standard output: the table could not be written");
        else warn_nonfinite(o, list, n);
    }
    free(list);
    return s;
}

int dsb_cmd_tensor(int argc, char **argv) {
    dsb_err err = {0};
    options o;
    dsb_st_file in;
    if (options_read(&o, argc, argv, &err)) return dsb_command_fail(&err);
    if (o.help) return 0;
    if (dsb_st_open(&in, o.in, &err)) return dsb_command_fail(&err);
    dsb_status s = tensor_run(&o, &in, &err);
    dsb_st_close(&in);
    return s ? dsb_command_fail(&err) : 0;
}
