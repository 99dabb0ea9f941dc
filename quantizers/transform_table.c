/* Table 4 of a recipe: what a weight and its input go through before quantizing. A row is a line. */
#include "quantizers/transform.h"

static const dsb_transform_row k_transform[DSB_TRANSFORM_COUNT] = {
    [DSB_TRANSFORM_NONE] = {"none", "weights and inputs as they are", 0},
    [DSB_TRANSFORM_SMOOTH] = {"smooth", "SmoothQuant: channels of the input are scaled so that weights carry a part (alpha) of their outliers", DSB_NEED_CHANNELS},
    [DSB_TRANSFORM_HADAMARD] = {"hadamard", "input and weight are rotated by a Hadamard matrix in blocks of the largest power of two that divides the input", 0},
};

int dsb_transform_list(const dsb_transform_row **rows) {
    *rows = k_transform;
    return DSB_TRANSFORM_COUNT;
}
