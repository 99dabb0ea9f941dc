/* Table 2 of a recipe: how codes and scales are chosen. A row is a line. */
#include "quantizers/quantize.h"

static const dsb_algorithm k_algorithm[] = {
    {"rtn", "round to nearest; the scale is absmax (symmetric) or min-max (affine) over its group"},
};

int dsb_algorithm_list(const dsb_algorithm **rows) {
    *rows = k_algorithm;
    return (int)(sizeof k_algorithm / sizeof *k_algorithm);
}
