/* Table 2 of a recipe: how codes and scales are chosen. A row is a line. */
#include <string.h>

#include "quantizers/input_stats.h"
#include "quantizers/quantize.h"

static const dsb_algorithm k_algorithm[] = {
    {"rtn", "round to nearest; the scale is absmax (symmetric) or min-max (affine) over its group, or what the format's own definition says", DSB_RANGE_WHOLE, DSB_METHOD_ROUND, 0},
    {"rtn-percentile", "the same over the range that holds 99.9 % of a group's magnitudes (of either side, affine); groups under 1000 weights keep all", DSB_RANGE_PERCENTILE, DSB_METHOD_ROUND, 0},
    {"rtn-mse", "the same over the share of the range, from all down to a third, that leaves the least squared error in a group", DSB_RANGE_MSE, DSB_METHOD_ROUND, 0},
    {"rtn-kl", "the same, but no group's range goes beyond the one whose quantized histogram of all the matrix's magnitudes is nearest to what it was, by KL divergence", DSB_RANGE_KL, DSB_METHOD_ROUND, 0},
    {"hqq", "integer formats with real zero points (\"zero_point\": \"real\"): rtn, then the zero point that leaves the least |error|^0.7 in a group, by half-quadratic steps", DSB_RANGE_WHOLE, DSB_METHOD_HQQ, 0},
    {"imatrix", "GGUF formats of searched scales (q8_0 has none): squared errors weigh by the sum of x² of their input column in calibration", DSB_RANGE_WHOLE, DSB_METHOD_IMATRIX, DSB_NEED_CHANNELS},
    {"gptq", "integer formats: columns one after the other, each one's error made up for by those that follow, by the products of calibration inputs (\"act_order\", \"damp\")", DSB_RANGE_WHOLE, DSB_METHOD_GPTQ, DSB_NEED_GRAM},
    {"awq", "integer formats: input channels that carry much activation are scaled up before rounding and their inputs down, by the power of mean |x| that leaves the least output error (\"clip\": each group is cut where that leaves less)", DSB_RANGE_WHOLE, DSB_METHOD_AWQ, DSB_NEED_CHANNELS | DSB_NEED_GRAM},
};

const dsb_algorithm *dsb_algorithm_find(const char *name) {
    for (size_t i = 0; i < sizeof k_algorithm / sizeof *k_algorithm; i++)
        if (strcmp(k_algorithm[i].name, name) == 0) return &k_algorithm[i];
    return NULL;
}

int dsb_algorithm_list(const dsb_algorithm **rows) {
    *rows = k_algorithm;
    return (int)(sizeof k_algorithm / sizeof *k_algorithm);
}
