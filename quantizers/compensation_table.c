/* Table 5 of a recipe. A row is a line. */
#include <string.h>

#include "quantizers/compensation.h"

static const dsb_compensation_row k_row[] = {
    {"layer-scale", "each output channel's scales times the factor of least output error, in closed form; of integer formats, no bytes more", DSB_COMP_SCALE, DSB_NEED_GRAM},
    {"layer-scale-gradient", "every group's scale by conjugate gradients on the output error, codes as they are; of integer formats, no bytes more", DSB_COMP_SCALE_GRADIENT, DSB_NEED_GRAM},
    {"low-rank", "two BF16 factors of \"rank\" (16) beside the weight: the part of the error that costs outputs most; 2 rank (rows + columns) bytes and two small products", DSB_COMP_LOW_RANK, DSB_NEED_GRAM},
    {"bias", "the mean error of each output, added back as a bias; 4 bytes a row", DSB_COMP_BIAS, DSB_NEED_CHANNELS | DSB_NEED_GRAM},
    {"recalibrate", "statistics come from the quantized model's own inputs, block after block", DSB_COMP_RECALIBRATE, DSB_NEED_OWN_INPUT},
    {"router", "the router re-fitted on the quantized model's own state, so that it selects as the reference does; of role router, also with keep; no bytes more", DSB_COMP_ROUTER, DSB_NEED_GRAM | DSB_NEED_OWN_INPUT},
};

enum { N_ROW = sizeof k_row / sizeof *k_row };

int dsb_compensation_list(const dsb_compensation_row **rows) {
    *rows = k_row;
    return N_ROW;
}

const dsb_compensation_row *dsb_compensation_find(const char *name) {
    for (int i = 0; i < N_ROW; i++)
        if (strcmp(k_row[i].name, name) == 0) return &k_row[i];
    return NULL;
}

int dsb_compensation_needs(int set) {
    int needs = 0;
    for (int i = 0; i < N_ROW; i++) needs |= set & k_row[i].bit ? k_row[i].needs : 0;
    return needs;
}
