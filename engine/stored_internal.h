/* What the finders of packings share. */
#ifndef DSB_ENGINE_STORED_INTERNAL_H
#define DSB_ENGINE_STORED_INTERNAL_H

#include "engine/stored.h"

static inline int64_t stored_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* Elements at .. at+n of a float tensor, in f32. */
static inline void stored_widen(const dsb_st_tensor *t, int64_t at, int64_t n, float *dst) { dsb_widen_f32(t->dtype, t->data + (size_t)at * dsb_dtype_size(t->dtype), (size_t)n, dst); }
/* Tensor `stem` + `name`, or NULL; and where it must be there. */
const dsb_st_tensor *stored_part(const dsb_checkpoint *cp, const char *stem, const char *name);
dsb_status stored_need(const dsb_checkpoint *cp, const char *stem, const char *name, const char *beside, const dsb_st_tensor **out, dsb_err *err);
/* DSB_EINPUT unless the tensor has exactly these dimensions; unless ok. */
dsb_status stored_want(const dsb_checkpoint *cp, const dsb_st_tensor *t, int n, const int64_t *shape, dsb_err *err);
dsb_status stored_want_type(const dsb_checkpoint *cp, const dsb_st_tensor *t, bool ok, const char *wanted, dsb_err *err);
#define WANT(t, ...) DSB_TRY(stored_want(cp, t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}, err))

/* Integer codes (stored_codes.c): s->w is what was found first. */
dsb_status stored_find_plain_codes(dsb_stored *s, const char *stem, dsb_err *err);  /* .weight, I8 */
dsb_status stored_find_packed_codes(dsb_stored *s, const char *stem, dsb_err *err); /* .weight_packed, I32 */
dsb_status stored_find_gptq_awq(dsb_stored *s, const char *stem, dsb_err *err);     /* .qweight */
int stored_code(const dsb_stored *s, int64_t r, int64_t c);

#endif
