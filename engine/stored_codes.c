/* Integer codes as compressed-tensors, GPTQ and AWQ pack them: w = (code - zero) * scale in f32. */
#include <stdio.h>
#include <string.h>

#include "engine/stored_internal.h"

static uint32_t word_at(const dsb_st_tensor *t, int64_t i) {
    uint32_t w;
    memcpy(&w, t->data + 4 * i, 4);
    return w;
}

/* Value i of a stream of b-bit values, lowest bits first, in words `stride` apart from word `first` on. */
static int stream_at(const dsb_st_tensor *t, int64_t first, int64_t stride, int64_t i, int b) {
    int64_t word = i * b / 32, bit = i * b % 32;
    uint64_t v = word_at(t, first + word * stride);
    if (bit + b > 32) v |= (uint64_t)word_at(t, first + (word + 1) * stride) << 32;
    return (int)(v >> bit & ((1u << b) - 1));
}

static int64_t stream_words(int64_t n, int b) { return stored_ceil_div(n * b, 32); }

/* AWQ's order of the eight values of a word. */
static int awq_at(const dsb_st_tensor *t, int64_t row, int64_t words, int64_t i) {
    static const int k_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return (int)(word_at(t, row * words + i / 8) >> 4 * k_place[i % 8] & 15);
}

int stored_code(const dsb_stored *s, int64_t r, int64_t c) {
    switch (s->packing) {
    case DSB_STORED_I8: return (int8_t)s->w->data[r * s->cols + c];
    case DSB_STORED_PACKED: return stream_at(s->w, r * stream_words(s->cols, s->bits), 1, c, s->bits) - (1 << (s->bits - 1));
    case DSB_STORED_GPTQ: return stream_at(s->w, r, s->rows, c, s->bits);
    default: return awq_at(s->w, c, s->rows / 8, r);
    }
}

static int zero_at(const dsb_stored *s, int64_t r, int64_t g) {
    if (!s->zero) return 0;
    switch (s->packing) {
    case DSB_STORED_I8:
    case DSB_STORED_PACKED:
        if (s->zero->dtype == DSB_I8) return (int8_t)s->zero->data[s->one_scale ? 0 : r * s->n_group + g];
        return stream_at(s->zero, g, s->n_group, r, s->bits) - (1 << (s->bits - 1));
    case DSB_STORED_GPTQ: {
        int z = stream_at(s->zero, g * stream_words(s->rows, s->bits), 1, r, s->bits);
        return s->cp->quant.zeros_as_they_are ? z : (z + 1) & ((1 << s->bits) - 1);
    }
    default: return awq_at(s->zero, g, s->rows / 8, r);
    }
}

/* Group of input c where inputs are reordered: checked by check_order. */
static int64_t order_at(const dsb_st_tensor *t, int64_t c) { return (int32_t)word_at(t, c); }

static void codes_row(const dsb_stored *s, int64_t r, float *dst, float *scratch) {
    float *scales = scratch, *zeros = scratch + s->n_group;
    for (int64_t g = 0; g < s->n_group; g++) {
        bool across = s->packing == DSB_STORED_GPTQ || s->packing == DSB_STORED_AWQ; /* (groups, outputs) */
        stored_widen(s->scale, s->one_scale ? 0 : across ? g * s->rows + r : r * s->n_group + g, 1, &scales[g]);
        zeros[g] = (float)zero_at(s, r, g);
    }
    for (int64_t c = 0; c < s->cols; c++) {
        int64_t g = s->order ? order_at(s->order, c) : c / s->group;
        dst[c] = ((float)stored_code(s, r, c) - zeros[g]) * scales[g];
    }
}

static dsb_status check_order(dsb_stored *s, const char *stem, const char *name, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    const dsb_st_tensor *t = stored_part(cp, stem, name);
    if (!t) return DSB_OK;
    WANT(t, s->cols);
    DSB_TRY(stored_want_type(cp, t, t->dtype == DSB_I32, "I32", err));
    bool in_order = true;
    for (int64_t c = 0; c < s->cols; c++) {
        int64_t g = order_at(t, c);
        if (g < 0 || g >= s->n_group) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: input %lld is of group %lld; 0 to %lld is wanted", cp->dir, t->name, (long long)c, (long long)g, (long long)s->n_group - 1);
        in_order &= g == c / s->group;
    }
    if (!in_order) s->order = t;
    return DSB_OK;
}

/* Inputs a scale: as the config says where that fits the scales' number, else what divides. */
static dsb_status set_groups(dsb_stored *s, const dsb_st_tensor *t, int64_t n_group, dsb_err *err) {
    int64_t said = s->cp->quant.group;
    s->n_group = n_group;
    if (said > 0 && stored_ceil_div(s->cols, said) == n_group) s->group = said;
    else if (n_group >= 1 && n_group <= s->cols && s->cols % n_group == 0) s->group = s->cols / n_group;
    else return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld groups don't divide %lld inputs", s->cp->dir, t->name, (long long)n_group, (long long)s->cols);
    return DSB_OK;
}

static dsb_status name_format(dsb_stored *s, dsb_err *err) {
    char name[16];
    snprintf(name, sizeof name, "int%d", s->bits);
    static const dsb_format k_odd[9] = {[5] = {.name = "int5", .bits = 5, .qmax = 15}, [6] = {.name = "int6", .bits = 6, .qmax = 31}, [7] = {.name = "int7", .bits = 7, .qmax = 63}};
    s->format = dsb_format_find(name);
    if (!s->format && s->bits >= 5 && s->bits <= 7) s->format = &k_odd[s->bits];
    return s->format ? DSB_OK : dsb_fail(err, DSB_EUNSUPPORTED, "%s: tensor %s: %d-bit codes can't be read", s->cp->dir, s->w->name, s->bits);
}

/* compressed-tensors: scales and zero points beside the codes: one, one an output, or one a group. */
static dsb_status find_scales(dsb_stored *s, const char *stem, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    DSB_TRY(stored_need(cp, stem, ".weight_scale", " beside the integer codes", &s->scale, err));
    const dsb_st_tensor *t = s->scale;
    s->one_scale = t->ndim == 0 || (t->ndim == 1 && t->shape[0] == 1 && s->rows != 1);
    DSB_TRY(set_groups(s, t, t->ndim == 2 ? t->shape[1] : 1, err));
    if (t->ndim == 2) WANT(t, s->rows, s->n_group);
    else if (!s->one_scale) WANT(t, s->rows);
    DSB_TRY(stored_want_type(cp, t, dsb_dtype_is_float(t->dtype), "a float type", err));
    s->zero = t = stored_part(cp, stem, ".weight_zero_point");
    if (t && t->dtype == DSB_I8) {
        if (t->bytes != (size_t)(s->one_scale ? 1 : s->rows * s->n_group)) WANT(t, s->rows, s->n_group);
    } else if (t) {
        DSB_TRY(stored_want_type(cp, t, t->dtype == DSB_I32 && !s->one_scale, "I8, or I32 beside scales of outputs or groups,", err));
        WANT(t, stream_words(s->rows, s->bits), s->n_group);
    }
    DSB_TRY(check_order(s, stem, ".weight_g_idx", err));
    DSB_TRY(name_format(s, err));
    s->codes = !s->zero && !s->order && (s->bits <= 4 || s->bits == 8);
    s->row = codes_row;
    return DSB_OK;
}

dsb_status stored_find_plain_codes(dsb_stored *s, const char *stem, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    s->packing = DSB_STORED_I8;
    s->bits = 8;
    WANT(s->w, s->rows, s->cols);
    return find_scales(s, stem, err);
}

dsb_status stored_find_packed_codes(dsb_stored *s, const char *stem, dsb_err *err) {
    static const int k_bits[] = {4, 8, 2, 3, 5, 6, 7};
    const dsb_checkpoint *cp = s->cp;
    s->packing = DSB_STORED_PACKED;
    DSB_TRY(stored_want_type(cp, s->w, s->w->dtype == DSB_I32, "I32", err));
    for (int i = 0; i < 7 && !s->bits; i++)
        if (s->w->ndim == 2 && s->w->shape[1] == stream_words(s->cols, k_bits[i])) s->bits = k_bits[i];
    if (!s->bits) s->bits = 4; /* for the message */
    WANT(s->w, s->rows, stream_words(s->cols, s->bits));
    return find_scales(s, stem, err);
}

dsb_status stored_find_gptq_awq(dsb_stored *s, const char *stem, dsb_err *err) {
    const dsb_checkpoint *cp = s->cp;
    const dsb_st_tensor *t;
    bool awq = cp->quant.method == DSB_QUANT_AWQ;
    s->packing = awq ? DSB_STORED_AWQ : DSB_STORED_GPTQ;
    s->bits = cp->quant.bits ? cp->quant.bits : 4;
    DSB_TRY(stored_want_type(cp, s->w, s->w->dtype == DSB_I32, "I32", err));
    if (awq && s->rows % 8) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: %lld outputs don't split into words of eight", cp->dir, s->w->name, (long long)s->rows);
    if (awq) WANT(s->w, s->cols, s->rows / 8);
    else WANT(s->w, stream_words(s->cols, s->bits), s->rows);
    DSB_TRY(stored_need(cp, stem, ".scales", " beside the integer codes", &s->scale, err));
    t = s->scale;
    DSB_TRY(set_groups(s, t, t->ndim == 2 ? t->shape[0] : 0, err));
    WANT(t, s->n_group, s->rows);
    DSB_TRY(stored_want_type(cp, t, dsb_dtype_is_float(t->dtype), "a float type", err));
    DSB_TRY(stored_need(cp, stem, ".qzeros", " beside the integer codes", &s->zero, err));
    DSB_TRY(stored_want_type(cp, s->zero, s->zero->dtype == DSB_I32, "I32", err));
    WANT(s->zero, s->n_group, awq ? s->rows / 8 : stream_words(s->rows, s->bits));
    if (!awq) DSB_TRY(check_order(s, stem, ".g_idx", err));
    DSB_TRY(name_format(s, err));
    s->row = codes_row;
    return DSB_OK;
}
