/* Table 3 of a recipe: how the inputs of a product are quantized. A row is a line. */
#include <string.h>

#include "quantizers/recipe.h"

static const dsb_activation_row k_activation[DSB_ACTIVATION_COUNT] = {
    [DSB_ACT_NONE] = {"none", "activations stay in the carrier's format", false, 0, DSB_ACT_NONE},
    [DSB_ACT_INT8_DYNAMIC] = {"int8-dynamic", "symmetric int8, one scale a token, absmax/127 as it comes", true, 127, DSB_ACT_INT8_DYNAMIC},
    [DSB_ACT_INT8_STATIC] = {"int8-static", "symmetric int8, one scale a tensor from calibration; dynamic where nothing was seen", true, 127, DSB_ACT_INT8_DYNAMIC},
    [DSB_ACT_INT4_DYNAMIC] = {"int4-dynamic", "symmetric int4, one scale a token, absmax/7 as it comes", true, 7, DSB_ACT_INT4_DYNAMIC},
    [DSB_ACT_FP8_DYNAMIC] = {"fp8-dynamic", "E4M3, one scale a token, absmax/448 as it comes; the product is in f32", false, 448, DSB_ACT_FP8_DYNAMIC},
    [DSB_ACT_FP8_STATIC] = {"fp8-static", "E4M3, one scale a tensor from calibration; dynamic where nothing was seen", false, 448, DSB_ACT_FP8_DYNAMIC},
};

int dsb_activation_list(const dsb_activation_row **rows) {
    *rows = k_activation;
    return DSB_ACTIVATION_COUNT;
}

static const char *const k_calibrator[DSB_CALIBRATOR_COUNT] = {"minmax", "percentile", "mse", "kl"};

const char *dsb_calibrator_name(dsb_calibrator c) { return k_calibrator[c]; }

int dsb_calibrator_find(const char *name) {
    for (int i = 0; i < DSB_CALIBRATOR_COUNT; i++)
        if (strcmp(k_calibrator[i], name) == 0) return i;
    return -1;
}
