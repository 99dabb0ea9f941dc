#include "engine/model.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/load_internal.h"
#include "engine/rotate.h"
#include "quantizers/quantize_rule.h"

dsb_status dsb_model_open(dsb_model *m, const dsb_backend *be, const char *dir, int64_t n_pos, dsb_err *err) {
    *m = (dsb_model){.be = be, .n_pos = n_pos};
    DSB_TRY(dsb_config_load(&m->config, dir, err));
    DSB_TRY(dsb_checkpoint_open(&m->checkpoint, dir, err));
    size_t n;
    float *host = NULL;
    void *p;
    bool fits = dsb_mul((size_t)n_pos, (size_t)m->config.rope_dim / 2 * 4, &n);
    dsb_status s = fits ? DSB_NEW(host, n / 2, "RoPE tables", err) : dsb_fail(err, DSB_ENOMEM, "%s: context of %lld is too long", dir, (long long)n_pos);
    if (!s) s = be->alloc(&p, n, "RoPE tables", err);
    if (!s) {
        m->cos_table = p;
        s = be->alloc(&p, n, "RoPE tables", err);
    }
    if (!s) {
        m->sin_table = p;
        dsb_rope_tables(&m->config, n_pos, host, host + n / 4);
        be->upload(m->cos_table, host, n);
        be->upload(m->sin_table, host + n / 4, n);
    }
    free(host);
    if (s) dsb_model_close(m);
    return s;
}

void dsb_model_close(dsb_model *m) {
    if (m->cos_table) m->be->release(m->cos_table);
    if (m->sin_table) m->be->release(m->sin_table);
    dsb_checkpoint_close(&m->checkpoint);
    m->cos_table = m->sin_table = NULL;
}

void dsb_linear_release(const dsb_backend *be, dsb_linear *l) {
    if (!l->borrowed && l->w.data) be->unpack(&l->w);
    if (!l->borrowed && l->bias) be->release(l->bias);
    if (!l->borrowed && l->a.data) be->unpack(&l->a);
    if (!l->borrowed && l->b.data) be->unpack(&l->b);
    if (!l->borrowed && l->in_scale) be->release(l->in_scale);
    if (!l->borrowed) free(l->tiles);
    *l = (dsb_linear){0};
}

void dsb_linear_spec_make(dsb_linear_spec *s, dsb_role role, int64_t layer, int64_t expert, int64_t rows, int64_t cols, const char *fmt, ...) {
    *s = (dsb_linear_spec){.role = role, .layer = layer, .expert = expert, .rows = rows, .cols = cols};
    va_list args;
    va_start(args, fmt);
    vsnprintf(s->stem, sizeof s->stem, fmt, args);
    va_end(args);
}

dsb_linear_spec dsb_linear_spec_part(const dsb_linear_spec *whole, int64_t first, int64_t n) {
    dsb_linear_spec part = *whole;
    part.of = whole->rows;
    part.first = first;
    part.rows = whole->rows - first < n ? whole->rows - first : n;
    part.bias = false;
    return part;
}

void dsb_loader_init(dsb_loader *l, const dsb_model *m) { *l = (dsb_loader){.model = m}; }

void dsb_loader_release(dsb_loader *l) {
    load_whole_release(l);
    free(l->w_ref);
    free(l->w_own);
    free(l->w_deq);
    *l = (dsb_loader){0};
}

static dsb_status loader_grow(dsb_loader *l, const dsb_linear_spec *spec, dsb_err *err) {
    size_t n;
    if (!dsb_mul((size_t)spec->rows, (size_t)spec->cols, &n)) return dsb_fail(err, DSB_ENOMEM, "tensor %s: absurd shape", spec->stem);
    if (n <= l->room) return DSB_OK;
    dsb_loader kept = *l;
    memset(l->whole, 0, sizeof l->whole);
    dsb_loader_release(l);
    memcpy(l->whole, kept.whole, sizeof l->whole);
    l->whole_next = kept.whole_next;
    l->model = kept.model;
    l->times = kept.times;
    l->refit = kept.refit;
    l->bf16_reference = kept.bf16_reference;
    DSB_TRY(DSB_NEW(l->w_ref, n, spec->stem, err));
    l->room = n;
    return DSB_OK;
}

/* A buffer beside w_ref, made when a scheme first needs it. */
static dsb_status loader_buffer(dsb_loader *l, float **buffer, const dsb_linear_spec *spec, dsb_err *err) { return *buffer ? DSB_OK : DSB_NEW(*buffer, l->room, spec->stem, err); }

static dsb_wkind kind_of(dsb_dtype stored) { return stored == DSB_BF16 ? DSB_W_BF16 : stored == DSB_F16 ? DSB_W_F16 : DSB_W_F32; }

/* Adds the time since `start` to one of the loader's. */
static void spend(dsb_loader *l, double start, size_t at) {
    if (l->times) *(double *)((char *)l->times + at) += dsb_now_s() - start;
}

static dsb_status read_rows(const dsb_checkpoint *cp, const dsb_linear_spec *spec, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err) {
    return dsb_checkpoint_read_rows(cp, spec->stem, spec->of ? spec->of : spec->rows, spec->cols, spec->first, spec->rows, w, codes, stored, err);
}

/* Of a weight in one format of a rule, scales included, as pack_codes packs it. */
static double format_bytes(const dsb_backend *be, const dsb_rule *r, const dsb_format *f, int64_t group) {
    const dsb_activation_row *acts;
    dsb_activation_list(&acts);
    if (f->is_float) return f->bits / 8;
    if (f->qmax && acts[r->activation].integer && !r->zero_point) return f->qmax > 7 ? 1.25 : 0.75;
    return be->pack_blocks ? dsb_format_packed_bytes(f, group) : 4;
}

double dsb_scheme_weight_bytes(const dsb_backend *be, const dsb_scheme *s) {
    double most = s->own_source && !(s->recipe && s->recipe->rotate) ? 0 : 4;
    for (int i = 0; s->recipe && i < s->recipe->n_rule; i++) {
        const dsb_rule *r = &s->recipe->rules[i];
        if (!r->format) continue;
        double bytes = format_bytes(be, r, r->format, r->group), other = r->fallback ? format_bytes(be, r, r->fallback, r->fallback->group) : 0;
        most = bytes > most ? bytes : most;
        most = other > most ? other : most;
    }
    return most;
}

/* A device vector of its own with these values, added to what is there. */
static dsb_status add_vector(const dsb_backend *be, float *host, int64_t n, float **to, dsb_err *err) {
    void *p = *to;
    if (!p) DSB_TRY(be->alloc(&p, (size_t)n * sizeof *host, "bias", err));
    *to = p;
    float *sum;
    DSB_TRY(DSB_NEW(sum, n, "bias", err));
    be->download(sum, p, (size_t)n * sizeof *sum);
    for (int64_t i = 0; i < n; i++) sum[i] += host[i];
    be->upload(p, sum, (size_t)n * sizeof *sum);
    free(sum);
    return DSB_OK;
}

/* Biases stay as they are stored under every scheme, or are rotated with the stream they are added to; a compensation's is added. */
dsb_status dsb_load_bias(const dsb_model *m, const dsb_scheme *s, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err) {
    const dsb_checkpoint *cp = s ? s->source : &m->checkpoint;
    int64_t block = s && dsb_role_writes_stream(spec->role) ? dsb_scheme_rotation(s, &m->config) : 0;
    float *host;
    if (!spec->bias) return DSB_OK;
    DSB_TRY(DSB_NEW(host, spec->rows, spec->stem, err));
    dsb_status st = dsb_checkpoint_read_bias(cp, spec->stem, spec->rows, host, err);
    if (!st) dsb_rotate_rows(dsb_backend_cpu(NULL), block, host, 1, spec->rows);
    if (!st) st = add_vector(m->be, host, spec->rows, &out->bias, err);
    free(host);
    return st;
}

dsb_status dsb_load_reference(dsb_loader *l, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err) {
    dsb_qtensor codes;
    const dsb_loaded *there = NULL;
    if (out) *out = (dsb_linear){0};
    if (out) DSB_TRY(load_whole(l, spec, &there, err));
    if (there) {
        out->bf16_input = l->bf16_reference && spec->role != DSB_ROLE_ROUTER;
        DSB_TRY(l->model->be->whole_pack(&out->w, &there->w, err));
        return dsb_load_bias(l->model, NULL, spec, out, err);
    }
    DSB_TRY(loader_grow(l, spec, err));
    if (strcmp(l->ref_stem, spec->stem) != 0 || l->ref_first != spec->first || l->ref_rows != spec->rows) {
        l->ref_stem[0] = 0;
        l->kept_known = false;
        double start = dsb_now_s();
        DSB_TRY(read_rows(&l->model->checkpoint, spec, l->w_ref, &codes, &l->ref_dtype, err));
        spend(l, start, offsetof(dsb_load_times, read_s));
        l->ref_bytes = codes.stored_bytes;
        dsb_qtensor_release(&codes);
        memcpy(l->ref_stem, spec->stem, sizeof l->ref_stem);
        l->ref_first = spec->first;
        l->ref_rows = spec->rows;
    }
    if (!out) return DSB_OK;
    out->bf16_input = l->bf16_reference && spec->role != DSB_ROLE_ROUTER;
    DSB_TRY(l->model->be->pack_float(&out->w, out->bf16_input ? DSB_W_BF16 : kind_of(l->ref_dtype), l->w_ref, spec->rows, spec->cols, err));
    return dsb_load_bias(l->model, NULL, spec, out, err);
}

void load_set_activation(const dsb_rule *rule, const dsb_range_observer *range, dsb_linear *out, dsb_tensor_event *event) {
    const dsb_activation_row *acts;
    dsb_activation_list(&acts);
    out->activation = rule->activation;
    if (!dsb_activation_is_static(rule->activation)) return;
    if (range && dsb_calibrated_scale(range, rule->calibrator, rule->percentile, acts[rule->activation].most, rule->static_margin, &out->static_scale)) return;
    out->activation = acts[rule->activation].dynamic;
    event->fell_back = true;
    event->no_range = range && range->n_token > 0;
}

/* Codes that stay packed beside float activations; decoded to f32 where no kernel reads them. */
static dsb_status pack_blocks(dsb_loader *l, const dsb_qtensor *q, dsb_linear *out, dsb_err *err) {
    const dsb_backend *be = l->model->be;
    dsb_packed how;
    const uint8_t *blocks = NULL;
    uint8_t *owned = NULL;
    if (be->pack_blocks) DSB_TRY(dsb_qtensor_blocks(q, &how, &blocks, &owned, err));
    dsb_status s = blocks ? be->pack_blocks(&out->w, &how, blocks, q->rows, q->cols, err) : be->pack_float(&out->w, DSB_W_F32, l->w_deq, q->rows, q->cols, err);
    free(owned);
    return s;
}

/* Codes to a kernel's matrix: integers beside integer activations, or blocks. */
static dsb_status pack_codes(dsb_loader *l, const dsb_rule *rule, const dsb_qtensor *q, const dsb_range_observer *range, dsb_linear *out, dsb_tensor_event *event, dsb_err *err) {
    const dsb_backend *be = l->model->be;
    const dsb_activation_row *acts;
    dsb_activation_list(&acts);
    bool integers = q->codes && !q->affine;
    if (integers || !acts[rule->activation].integer) load_set_activation(rule, range, out, event);
    if (!integers || !acts[out->activation].integer) return pack_blocks(l, q, out, err);
    dsb_wkind kind = q->format->qmax <= 7 ? DSB_W_I4 : DSB_W_I8;
    return be->pack_int(&out->w, kind, q->codes, q->scales, q->group, q->rows, q->cols, err);
}

/* A weight that is NaN or Inf is a bad input: the checkpoint and the tensor are named. */
static dsb_status quantize(dsb_loader *l, const dsb_rule *rule, const dsb_format *format, int64_t group, const dsb_linear_spec *spec, const char *dir, const float *w, const dsb_input_stats *stats, dsb_quantized *out, dsb_err *err) {
    dsb_err inner = {0};
    dsb_status s = dsb_quantize_rule(out, rule, format, group, w, spec->rows, spec->cols, stats, l->w_deq, &inner);
    return s ? dsb_fail(err, s == DSB_ENONFINITE ? DSB_EINPUT : s, "%s: tensor %s.weight: %s", dir, spec->stem, inner.text) : DSB_OK;
}

/* Integers that a checkpoint stores stay as they are. */
static dsb_status pack_stored(dsb_loader *l, const dsb_rule *rule, const dsb_linear_spec *spec, const float *own, const dsb_qtensor *codes, const dsb_range_observer *range, dsb_linear *out, dsb_tensor_event *event, dsb_err *err) {
    event->format = codes->format->name;
    event->stored_bytes = codes->stored_bytes;
    if (!codes->codes) {
        memcpy(l->w_deq, own, (size_t)(spec->rows * spec->cols) * sizeof *own);
        return l->model->be->pack_float(&out->w, DSB_W_F32, own, spec->rows, spec->cols, err);
    }
    dsb_dequantize(codes, NULL, l->w_deq);
    return pack_codes(l, rule, codes, range, out, event, err);
}

/* What follows the product, and the weight as it then is. */
static dsb_status load_correction(dsb_loader *l, const dsb_correction *c, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err) {
    const dsb_backend *be = l->model->be;
    if (c->bias) DSB_TRY(add_vector(be, c->bias, spec->rows, &out->bias, err));
    if (!c->a) return DSB_OK;
    DSB_TRY(be->pack_float(&out->a, DSB_W_BF16, c->a, spec->rows, c->rank, err));
    DSB_TRY(be->pack_float(&out->b, DSB_W_BF16, c->b, c->rank, spec->cols, err));
    dsb_correction_add(c, spec->rows, spec->cols, l->w_deq);
    return DSB_OK;
}

/* The transform that a product's input goes through. */
static dsb_status load_transform(const dsb_backend *be, const dsb_input_transform *t, int64_t cols, dsb_linear *out, dsb_err *err) {
    void *p;
    out->rotation = t->rotation;
    if (!t->in_scale) return DSB_OK;
    DSB_TRY(be->alloc(&p, (size_t)cols * sizeof *t->in_scale, "scales of inputs", err));
    be->upload(p, t->in_scale, (size_t)cols * sizeof *t->in_scale);
    out->in_scale = p;
    return DSB_OK;
}

static dsb_status load_ruled(dsb_loader *l, const dsb_rule *rule, const dsb_linear_spec *spec, const char *dir, const float *own, const dsb_qtensor *codes, const dsb_range_observer *range, const dsb_input_stats *stats, dsb_linear *out, dsb_tensor_event *event, dsb_err *err) {
    dsb_quantized z;
    const dsb_format *format = dsb_rule_format(rule, spec->cols, &event->group);
    DSB_TRY(loader_buffer(l, &l->w_deq, spec, err));
    event->algorithm = rule->algorithm;
    if (codes->format && codes->format->qmax > 0 && !(format && format->is_float)) return pack_stored(l, rule, spec, own, codes, range, out, event, err);
    event->other_format = format != rule->format;
    if (!format) format = rule->format; /* its error says what is wanted */
    DSB_TRY(quantize(l, rule, format, event->group, spec, dir, own, stats, &z, err));
    event->format = format->name;
    event->algorithm = z.used->name;
    event->starved = z.starved;
    event->stored_bytes = z.q.stored_bytes;
    event->won = z.won;
    dsb_range_observer scaled = {.absmax = z.in.absmax, .n_token = 1};
    if (z.in.in_scale) range = &scaled;
    dsb_wkind kind = strcmp(format->name, "f16") == 0 ? DSB_W_F16 : strcmp(format->name, "bf16") == 0 ? DSB_W_BF16 : DSB_W_F32;
    dsb_status s = format->is_float ? l->model->be->pack_float(&out->w, kind, l->w_deq, spec->rows, spec->cols, err) : pack_codes(l, rule, &z.q, range, out, event, err);
    if (!s) s = load_transform(l->model->be, &z.in, spec->cols, out, err);
    if (!s) s = load_correction(l, &z.correction, spec, out, err);
    if (!s) dsb_transform_undo(&z.in, spec->rows, spec->cols, l->w_deq); /* compared where the stored weight is */
    dsb_quantized_release(&z);
    return s;
}

/* A weight that no rule changes. Codes of another checkpoint run as it says they are served; what no kernel does is decoded. */
static dsb_status pack_kept(dsb_loader *l, const dsb_scheme *s, const dsb_linear_spec *spec, const dsb_qtensor *codes, const float *own, dsb_dtype stored, dsb_linear *out, dsb_err *err) {
    const dsb_backend *be = l->model->be;
    if (codes->codes) DSB_TRY(dsb_checkpoint_activation(s->source, spec->stem, codes->format, &out->activation, &out->static_scale, err));
    if (out->activation == DSB_ACT_NONE) return be->pack_float(&out->w, s->f32_weights ? DSB_W_F32 : kind_of(stored), own, spec->rows, spec->cols, err);
    return be->pack_int(&out->w, codes->format->qmax <= 7 ? DSB_W_I4 : DSB_W_I8, codes->codes, codes->scales, codes->group, spec->rows, spec->cols, err);
}

/* A rule's linear of a rotated stream. What reads it has rotated inputs already: a Hadamard transform would turn them back. */
static dsb_status load_turned(dsb_loader *l, const dsb_rotation *turn, const dsb_rule *rule, const dsb_linear_spec *spec, const char *dir, const dsb_range_observer *range, const dsb_input_stats *stats, dsb_linear *out, dsb_tensor_event *event, dsb_err *err) {
    dsb_input_stats seen = {0};
    dsb_rule own = *rule;
    if (!turn->writes && own.transform == DSB_TRANSFORM_HADAMARD) own.transform = DSB_TRANSFORM_NONE;
    bool asks = !turn->writes && stats && stats->n_token > 0 && dsb_rule_needs(&own);
    if (asks) DSB_TRY(dsb_transform_stats(&turn->in, stats, &seen, err));
    dsb_status s = load_ruled(l, &own, spec, dir, l->w_own, &(dsb_qtensor){0}, turn->writes ? range : NULL, asks ? &seen : stats, out, event, err);
    dsb_input_stats_release(&seen);
    return s;
}

/* A kept one: in its stored type, as a BF16 carrier would hold it; routers, and what an f32 carrier reads, in f32. */
static dsb_status keep_turned(dsb_loader *l, const dsb_scheme *s, const dsb_linear_spec *spec, dsb_linear *out, dsb_tensor_event *event, dsb_err *err) {
    dsb_wkind kind = s->bf16 && spec->role != DSB_ROLE_ROUTER ? kind_of(l->ref_dtype) : DSB_W_F32;
    int64_t n = spec->rows * spec->cols;
    float *w = l->w_own;
    DSB_TRY(l->model->be->pack_float(&out->w, kind, w, spec->rows, spec->cols, err));
    for (int64_t i = 0; i < n && kind != DSB_W_F32; i++) w[i] = kind == DSB_W_BF16 ? dsb_bf16_to_f32(dsb_f32_to_bf16(w[i])) : dsb_f16_to_f32(dsb_f32_to_f16(w[i]));
    event->stored_bytes = (size_t)n * (kind == DSB_W_F32 ? 4 : 2);
    return DSB_OK;
}

/* w: the stored weight. *deq: what became of it, beside the stream as it was. */
static dsb_status rotate(dsb_loader *l, const dsb_scheme *s, const dsb_rotation *turn, const dsb_rule *rule, const dsb_linear_spec *spec, const float *w, const dsb_range_observer *range, const dsb_input_stats *stats, dsb_linear *out, dsb_tensor_event *event, const float **deq, dsb_err *err) {
    DSB_TRY(loader_buffer(l, &l->w_own, spec, err));
    dsb_rotation_apply(turn, w, spec->rows, spec->cols, l->w_own);
    bool quantized = rule && rule->format;
    DSB_TRY(quantized ? load_turned(l, turn, rule, spec, s->source->dir, range, stats, out, event, err) : keep_turned(l, s, spec, out, event, err));
    float *result = quantized ? l->w_deq : l->w_own;
    dsb_rotation_undo(turn, w, spec->rows, spec->cols, result);
    *deq = result;
    return DSB_OK;
}

/* sum += figures of y against x, both host memory: the whole tensor's blocks, in their order. */
static void add_moments(const float *x, const float *y, int64_t n, dsb_moments *sum) {
    enum { BATCH = 64 };
    const dsb_backend *be = dsb_backend_cpu(NULL);
    dsb_moments part[BATCH];
    if (sum->n == 0) {
        be->moments(x, y, n, sum);
        return;
    }
    for (int64_t at = 0; at < n; at += BATCH * DSB_MOMENT_BLOCK) {
        int64_t blocks = (n - at + DSB_MOMENT_BLOCK - 1) / DSB_MOMENT_BLOCK;
#pragma omp parallel for schedule(static)
        for (int64_t b = 0; b < (blocks < BATCH ? blocks : BATCH); b++) {
            int64_t first = at + b * DSB_MOMENT_BLOCK;
            be->moments(x + first, y + first, n - first < DSB_MOMENT_BLOCK ? n - first : DSB_MOMENT_BLOCK, &part[b]);
        }
        for (int64_t b = 0; b < blocks && b < BATCH; b++) dsb_moments_add(sum, &part[b]);
    }
}

dsb_status dsb_load_scheme(dsb_loader *l, const dsb_scheme *s, const dsb_linear_spec *spec, const dsb_expert_facts *facts, const dsb_range_observer *range, const dsb_input_stats *stats, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *told, dsb_err *err) {
    dsb_qtensor codes = {0};
    char tensor[300];
    dsb_tensor_event own_event, *event = told ? told : &own_event, before = {0};
    if (told && spec->first > 0) before = *told;
    *out = (dsb_linear){0};
    *event = (dsb_tensor_event){.spec = spec, .format = "keep"};
    snprintf(tensor, sizeof tensor, "%s.weight", spec->stem);
    const dsb_rule *rule = s->recipe ? dsb_recipe_match(s->recipe, spec->role, tensor, facts) : NULL;
    event->rule = rule;
    const dsb_loaded *there = NULL;
    if (load_fits_device(l, s, rule, spec)) DSB_TRY(load_whole(l, spec, &there, err));
    if (there) {
        event->moments = before.moments;
        DSB_TRY(load_scheme_device(l, there, s, rule, spec, range, ref, out, event, told != NULL, err));
        event->stored_bytes += before.stored_bytes;
        return DSB_OK;
    }
    DSB_TRY(dsb_load_reference(l, spec, NULL, err));
    const float *own = l->refit && s->own_source ? l->refit : l->w_ref;
    dsb_dtype stored = l->ref_dtype;
    if (!s->own_source) {
        DSB_TRY(loader_buffer(l, &l->w_own, spec, err));
        DSB_TRY(read_rows(s->source, spec, l->w_own, &codes, &stored, err));
        own = l->w_own;
    }
    int64_t n = spec->rows * spec->cols;
    dsb_rotation turn;
    dsb_status st = dsb_rotation_find(&turn, l->model, s, spec, err);
    const float *deq = own;
    double start = dsb_now_s();
    if (st) {
        dsb_qtensor_release(&codes);
        return st;
    }
    if (turn.block) {
        st = rotate(l, s, &turn, rule, spec, own, range, stats, out, event, &deq, err);
    } else if (rule && rule->format) {
        st = load_ruled(l, rule, spec, s->source->dir, own, &codes, range, stats, out, event, err);
        deq = l->w_deq;
    } else if (ref && own == l->w_ref && (!ref->bf16_input || stored == DSB_BF16)) {
        *out = *ref;
        out->borrowed = true;
        out->bf16_input = false; /* the reference's own arithmetic */
        event->stored_bytes = l->ref_bytes;
    } else {
        st = pack_kept(l, s, spec, &codes, own, stored, out, err);
        if (codes.format) event->format = codes.format->name;
        event->stored_bytes = s->own_source ? l->ref_bytes : codes.stored_bytes;
    }
    dsb_qtensor_release(&codes);
    if (!st && !out->borrowed) st = dsb_load_bias(l->model, s, spec, out, err);
    dsb_rotation_release(&turn);
    spend(l, start, offsetof(dsb_load_times, quantize_s));
    start = dsb_now_s();
    if (st) return st;
    if (!told) return DSB_OK;
    event->kernel = out->w.kernel;
    event->activation = out->activation;
    event->moments = before.moments;
    event->stored_bytes += before.stored_bytes;
    bool kept = deq == l->w_ref;
    if (kept && l->kept_known) {
        event->moments = l->kept;
        return DSB_OK;
    }
    add_moments(l->w_ref, deq, n, &event->moments);
    spend(l, start, offsetof(dsb_load_times, compare_s));
    if (kept) l->kept = event->moments;
    l->kept_known |= kept;
    return DSB_OK;
}

dsb_status dsb_load_vector(const dsb_model *m, const dsb_checkpoint *cp, int64_t n, float **out, dsb_err *err, const char *fmt, ...) {
    char name[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    float *host = NULL;
    void *p = NULL;
    *out = NULL;
    dsb_status s = DSB_NEW(host, n, name, err);
    if (!s) s = dsb_checkpoint_read(cp, name, n, 0, host, NULL, err);
    if (!s) s = m->be->alloc(&p, (size_t)n * sizeof *host, name, err);
    if (!s) m->be->upload(p, host, (size_t)n * sizeof *host);
    free(host);
    *out = p;
    return s;
}
