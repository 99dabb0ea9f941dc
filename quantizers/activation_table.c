/* Table 3 of a recipe: how the inputs of an integer product are quantized. A row is a line. */
#include "quantizers/recipe.h"

static const dsb_activation_row k_activation[DSB_ACTIVATION_COUNT] = {
    [DSB_ACT_NONE] = {"none", "activations stay in the carrier's format"},
    [DSB_ACT_INT8_DYNAMIC] = {"int8-dynamic", "symmetric int8, one scale a token, absmax/127 as it comes"},
    [DSB_ACT_INT8_STATIC] = {"int8-static", "symmetric int8, one scale a tensor from calibration; dynamic where nothing was seen"},
};

int dsb_activation_list(const dsb_activation_row **rows) {
    *rows = k_activation;
    return DSB_ACTIVATION_COUNT;
}
