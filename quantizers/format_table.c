/* Table 1 of a recipe: formats. `keep` is no row: it stands for the stored weights, and a rule without a format. */
#include <string.h>

#include "quantizers/quantize.h"

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
