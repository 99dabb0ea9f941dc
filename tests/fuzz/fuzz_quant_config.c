/* "quantization_config", and weights read under it: what is accepted has sizes above 0, and no packing reads outside its tensors. */
#include <string.h>

#include "base/json.h"
#include "engine/stored.h"
#include "tests/fuzz/fuzz_file.h"

/* Tensors of a linear of 16 inputs and 8 outputs in every packing, too small, right or too large as the input's first bytes say. */
static void try_weights(const dsb_quant_config *q, const uint8_t *data, size_t n) {
    static const char *const k_name[] = {"m.weight", "m.weight_packed", "m.qweight", "m.weight_scale", "m.weight_scale_inv", "m.weight_zero_point", "m.weight_g_idx", "m.weight_global_scale", "m.scales", "m.qzeros", "m.g_idx"};
    enum { N = sizeof k_name / sizeof *k_name };
    dsb_st_tensor tensors[N];
    const dsb_st_tensor *index[N];
    uint8_t *bytes[N] = {0};
    dsb_checkpoint cp = {.dir = (char *)"m", .tensors = index, .quant = *q};
    for (size_t i = 0; i < N && 4 * i + 4 <= n; i++) {
        const uint8_t *d = data + 4 * i;
        if (d[0] & 1) continue; /* it is not there */
        dsb_st_tensor t = {.name = k_name[i], .dtype = (dsb_dtype)(d[1] % DSB_DTYPE_COUNT), .ndim = d[0] >> 1 & 3, .shape = {d[2] % 33, d[3] % 33, 1}};
        t.bytes = dsb_dtype_size(t.dtype);
        for (int k = 0; k < t.ndim; k++) t.bytes *= (size_t)t.shape[k];
        t.data = bytes[i] = malloc(t.bytes + 1);
        MUST(bytes[i]);
        for (size_t b = 0; b < t.bytes; b++) bytes[i][b] = data[(b + 4 * i) % n];
        tensors[cp.n_tensor] = t;
        cp.n_tensor++;
    }
    for (int64_t i = 0; i < cp.n_tensor; i++) index[i] = &tensors[i];
    for (int64_t i = 1; i < cp.n_tensor; i++) /* ascending by name */
        for (int64_t j = i; j > 0 && strcmp(index[j - 1]->name, index[j]->name) > 0; j--) {
            const dsb_st_tensor *swap = index[j];
            index[j] = index[j - 1];
            index[j - 1] = swap;
        }
    float w[8 * 16];
    dsb_qtensor codes = {0};
    dsb_dtype stored;
    dsb_err err;
    if (!dsb_checkpoint_read_linear(&cp, "m", 8, 16, w, &codes, &stored, &err)) dsb_qtensor_release(&codes);
    for (size_t i = 0; i < N; i++) free(bytes[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const uint8_t *nul = memchr(data, 0, n); /* JSON, a NUL, tensors */
    size_t n_json = nul ? (size_t)(nul - data) : n;
    dsb_quant_config q;
    dsb_err err;
    json_t *doc;
    if (dsb_json_parse(&doc, "input", (const char *)data, n_json, &err)) return 0;
    dsb_status s = dsb_quant_config_parse(&q, doc, "config.json", &err);
    json_decref(doc);
    if (s) {
        MUST(err.code == DSB_EINPUT || err.code == DSB_EUNSUPPORTED);
        return 0;
    }
    MUST(q.method != DSB_QUANT_NONE && q.block_rows > 0 && q.block_cols > 0 && q.group >= -1 && q.n_group <= DSB_QUANT_GROUPS);
    if (nul && n - n_json > 1) try_weights(&q, nul + 1, n - n_json - 1);
    return 0;
}
