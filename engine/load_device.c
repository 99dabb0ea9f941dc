/* Weights that lie in a checkpoint as plain BF16, on a device that makes their forms by itself: uploaded once as they are, then packed, rounded to
 * codes and compared there for every scheme. What they become is what the host makes of them, bit for bit. */
#include <string.h>

#include "base/clock.h"
#include "engine/load_internal.h"
#include "engine/rotate.h"
#include "quantizers/quantize_rule.h"

void load_whole_release(dsb_loader *l) {
    if (l->whole.words) l->model->be->whole_close(&l->whole);
    l->whole_stem[0] = 0;
}

dsb_status load_whole(dsb_loader *l, const dsb_linear_spec *spec, bool *there, dsb_err *err) {
    const dsb_backend *be = l->model->be;
    const dsb_checkpoint *cp = &l->model->checkpoint;
    double start = dsb_now_s();
    size_t bytes;
    *there = be->whole_open && strcmp(l->whole_stem, spec->stem) == 0 && l->whole_first == spec->first && l->whole_rows == spec->rows;
    if (*there || !be->whole_open) return DSB_OK;
    const uint16_t *words = dsb_checkpoint_bf16(cp, spec->stem, spec->of ? spec->of : spec->rows, spec->cols, spec->first, spec->rows, &bytes);
    if (!words) return DSB_OK;
    load_whole_release(l);
    DSB_TRY(be->whole_open(&l->whole, words, spec->rows, spec->cols, err));
    dsb_checkpoint_drop_rows(cp, words, spec->rows, spec->cols);
    memcpy(l->whole_stem, spec->stem, sizeof l->whole_stem);
    l->whole_first = spec->first;
    l->whole_rows = spec->rows;
    l->whole_bytes = bytes;
    *there = true;
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
static dsb_status keep(dsb_loader *l, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, bool figures, dsb_err *err) {
    event->stored_bytes = l->whole_bytes;
    if (figures) l->model->be->whole_moments(&l->whole, &event->moments);
    if (!ref) return l->model->be->whole_pack(&out->w, &l->whole, err);
    *out = *ref;
    out->borrowed = true;
    out->bf16_input = false; /* the reference's own arithmetic */
    return DSB_OK;
}

dsb_status load_scheme_device(dsb_loader *l, const dsb_scheme *s, const dsb_rule *rule, const dsb_linear_spec *spec, const dsb_range_observer *range, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, bool figures, dsb_err *err) {
    double start = dsb_now_s();
    dsb_status st;
    if (rule && rule->format) {
        const dsb_format *f = dsb_rule_format(rule, spec->cols, &event->group);
        int64_t group = event->group > 0 && event->group < spec->cols ? event->group : spec->cols;
        event->format = f->name;
        event->algorithm = rule->algorithm;
        event->stored_bytes = dsb_integer_bytes(f, event->group, spec->rows, spec->cols);
        load_set_activation(rule, range, out, event);
        st = l->model->be->whole_round(&out->w, &l->whole, group, f->qmax, figures ? &event->moments : NULL, err);
    } else {
        st = keep(l, ref, out, event, figures, err);
    }
    if (!st && !out->borrowed) st = dsb_load_bias(l->model, s, spec, out, err);
    event->kernel = out->w.kernel;
    event->activation = out->activation;
    if (l->times) l->times->quantize_s += dsb_now_s() - start;
    return st;
}
