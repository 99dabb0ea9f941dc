/* Shared by the two ways to load a linear: model.c on the host, load_device.c on a device that makes all forms of a weight by itself. */
#ifndef DSB_ENGINE_LOAD_INTERNAL_H
#define DSB_ENGINE_LOAD_INTERNAL_H

#include "engine/model.h"

/* The activations a product runs with: a static scale wants a calibrated range. */
void load_set_activation(const dsb_rule *rule, const dsb_range_observer *range, dsb_linear *out, dsb_tensor_event *event);

/* Puts the reference's tensor on the device; *out stays NULL where the device doesn't do that, or the tensor is no plain BF16. Borrowed until DSB_LOADED others came. */
dsb_status load_whole(dsb_loader *l, const dsb_linear_spec *spec, const dsb_loaded **out, dsb_err *err);
void load_whole_release(dsb_loader *l);
/* Whether the device makes what rule (NULL: none) wants of the reference's tensor under scheme s. */
bool load_fits_device(const dsb_loader *l, const dsb_scheme *s, const dsb_rule *rule, const dsb_linear_spec *spec);
/* As dsb_load_scheme, of a tensor that is there. event holds spec, rule and "keep" already; figures: they are wanted. */
dsb_status load_scheme_device(dsb_loader *l, const dsb_loaded *whole, const dsb_scheme *s, const dsb_rule *rule, const dsb_linear_spec *spec, const dsb_range_observer *range, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, bool figures, dsb_err *err);

#endif
