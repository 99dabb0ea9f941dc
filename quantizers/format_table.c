/* Tables 1 to 3 of a recipe: formats, algorithms, activations. A row is a line. */
#include <string.h>

#include "quantizers/recipe.h"

static const dsb_format k_format[] = {
    {"f32", "IEEE single: the stored weights as they are", 32, 0, true},
    {"f16", "IEEE half, rounded to nearest even; overflow becomes infinity", 16, 0, true},
    {"bf16", "bfloat16, rounded to nearest even", 16, 0, true},
    {"int8", "8-bit integers: symmetric within 127, or affine with zero points", 8, 127, false},
    {"int4", "4-bit integers: symmetric within 7, or affine", 4, 7, false},
    {"int3", "3-bit integers: symmetric within 3, or affine", 3, 3, false},
    {"int2", "2-bit integers: symmetric within 1, or affine", 2, 1, false},
};

const dsb_format *dsb_format_find(const char *name) {
    for (size_t i = 0; i < sizeof k_format / sizeof *k_format; i++)
        if (strcmp(k_format[i].name, name) == 0) return &k_format[i];
    return NULL;
}

int dsb_format_list(const dsb_format **rows) {
    *rows = k_format;
    return (int)(sizeof k_format / sizeof *k_format);
}

static const dsb_algorithm k_algorithm[] = {
    {"rtn", "round to nearest; the scale is absmax (symmetric) or min-max (affine) over its group"},
};

int dsb_algorithm_list(const dsb_algorithm **rows) {
    *rows = k_algorithm;
    return (int)(sizeof k_algorithm / sizeof *k_algorithm);
}

static const dsb_activation_row k_activation[DSB_ACTIVATION_COUNT] = {
    [DSB_ACT_NONE] = {"none", "activations stay in the carrier's format"},
    [DSB_ACT_INT8_DYNAMIC] = {"int8-dynamic", "symmetric int8, one scale a token, absmax/127 as it comes"},
    [DSB_ACT_INT8_STATIC] = {"int8-static", "symmetric int8, one scale a tensor from calibration; dynamic where nothing was seen"},
};

int dsb_activation_list(const dsb_activation_row **rows) {
    *rows = k_activation;
    return DSB_ACTIVATION_COUNT;
}
