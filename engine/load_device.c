/* Weights that lie in a checkpoint as plain BF16, on a device that makes their forms by itself: uploaded once as they are, then packed, rounded to
 * codes and compared there for every scheme. What they become is what the host makes of them, bit for bit. */
#include <string.h>

#include "base/clock.h"
#include "engine/load_internal.h"
#include "engine/rotate.h"
#include "quantizers/quantize_rule.h"

void load_whole_release(dsb_loader *l) {
    for (int i = 0; i < DSB_LOADED; i++)
        if (l->whole[i].w.words) l->model->be->whole_close(&l->whole[i].w);
    memset(l->whole, 0, sizeof l->whole);
}

static const dsb_loaded *find(const dsb_loader *l, const dsb_linear_spec *spec) {
    for (int i = 0; i < DSB_LOADED; i++) {
        const dsb_loaded *at = &l->whole[i];
        if (at->w.words && strcmp(at->stem, spec->stem) == 0 && at->first == spec->first && at->w.rows == spec->rows) return at;
    }
    return NULL;
}

dsb_status load_whole(dsb_loader *l, const dsb_linear_spec *spec, const dsb_loaded **out, dsb_err *err) {
    const dsb_backend *be = l->model->be;
    const dsb_checkpoint *cp = &l->model->checkpoint;
    double start = dsb_now_s();
    size_t bytes;
    *out = be->whole_open ? find(l, spec) : NULL;
    if (*out || !be->whole_open) return DSB_OK;
    const uint16_t *words = dsb_checkpoint_bf16(cp, spec->stem, spec->of ? spec->of : spec->rows, spec->cols, spec->first, spec->rows, &bytes);
    if (!words) return DSB_OK;
    dsb_loaded *to = &l->whole[l->whole_next];
    l->whole_next = (l->whole_next + 1) % DSB_LOADED;
    if (to->w.words) be->whole_close(&to->w);
    DSB_TRY(be->whole_open(&to->w, words, spec->rows, spec->cols, err));
    dsb_checkpoint_drop_rows(cp, words, spec->rows, spec->cols);
    memcpy(to->stem, spec->stem, sizeof to->stem);
    to->first = spec->first;
    to->bytes = bytes;
    *out = to;
    if (l->times) l->times->read_s += dsb_now_s() - start;
    return DSB_OK;
}

bool load_fits_device(const dsb_loader *l, const dsb_scheme *s, const dsb_rule *rule, const dsb_linear_spec *spec) {
    const dsb_activation_row *acts;
    dsb_activation_list(&acts);
    if (!l->model->be->whole_open || !s->own_source || l->refit || dsb_scheme_rotation(s, &l->model->config)) return false;
    return rule && rule->format ? acts[rule->activation].integer && dsb_rule_is_plain(rule, spec->cols) : !s->f32_weights;
}

/* A weight that no rule changes: the reference's own where that is held, which is BF16 too. */
static dsb_status keep(const dsb_loader *l, const dsb_loaded *whole, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, bool figures, dsb_err *err) {
    event->stored_bytes = whole->bytes;
    if (figures) l->model->be->whole_moments(&whole->w, &event->moments);
    if (!ref) return l->model->be->whole_pack(&out->w, &whole->w, err);
    *out = *ref;
    out->borrowed = true;
    out->bf16_input = false; /* the reference's own arithmetic */
    return DSB_OK;
}

dsb_status load_scheme_device(dsb_loader *l, const dsb_loaded *whole, const dsb_scheme *s, const dsb_rule *rule, const dsb_linear_spec *spec, const dsb_range_observer *range, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, bool figures, dsb_err *err) {
    double start = dsb_now_s();
    dsb_status st;
    if (rule && rule->format) {
        const dsb_format *f = dsb_rule_format(rule, spec->cols, &event->group);
        int64_t group = event->group > 0 && event->group < spec->cols ? event->group : spec->cols;
        event->format = f->name;
        event->algorithm = rule->algorithm;
        event->stored_bytes = dsb_integer_bytes(f, event->group, spec->rows, spec->cols);
        load_set_activation(rule, range, out, event);
        st = l->model->be->whole_round(&out->w, &whole->w, group, f->qmax, figures ? &event->moments : NULL, err);
    } else {
        st = keep(l, whole, ref, out, event, figures, err);
    }
    if (!st && !out->borrowed) st = dsb_load_bias(l->model, s, spec, out, err);
    event->kernel = out->w.kernel;
    event->activation = out->activation;
    if (l->times) l->times->quantize_s += dsb_now_s() - start;
    return st;
}
