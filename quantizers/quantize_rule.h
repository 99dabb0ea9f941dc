/* One weight as a rule of a recipe wants it: transform, codes, compensation, in this order (docs/DESIGN.md §2).
 * What a product then does: x is multiplied by in_scale and rotated, its activations are quantized, the product with `decoded` (or its
 * codes) is taken, and what compensation added follows. Without a transform or a compensation only q is there. */
#ifndef DSB_QUANTIZERS_QUANTIZE_RULE_H
#define DSB_QUANTIZERS_QUANTIZE_RULE_H

#include "quantizers/compensation.h"

typedef struct dsb_quantized {
    dsb_qtensor q;              /* of the transformed weight */
    const dsb_algorithm *used;  /* the rule's, or rtn where calibration saw too little */
    bool starved;               /* … which this says, or that a transform wanted statistics and changes nothing */
    dsb_input_transform in;
    dsb_correction correction;  /* that follows the product */
    dsb_compensated won;
} dsb_quantized;

/* Whether a rule's codes of rows of `cols` are integers by round-to-nearest, symmetric, each group by itself, and nothing goes with them. */
bool dsb_rule_is_plain(const dsb_rule *rule, int64_t cols);
/* What calibration must see for a rule. */
int dsb_rule_needs(const dsb_rule *rule);
/* Quantizes w (rows, cols) on the host to `format` and `group`, the rule's own or its fallback's; stats may be NULL. decoded (rows, cols)
 * receives the transformed weight as its codes give it, without the correction (dsb_transform_undo: beside the input as it was). DSB_ENONFINITE, DSB_EINPUT, DSB_ENOMEM as dsb_quantize. */
dsb_status dsb_quantize_rule(dsb_quantized *out, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, float *decoded, dsb_err *err);
void dsb_quantized_release(dsb_quantized *q);

#endif
