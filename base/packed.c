#include "base/packed.h"

#include <string.h>

#include "base/blocks.h"
#include "base/format.h"
#include "base/ggml.h"

/* A block of `bytes` for `n` inputs, or (n 0) a header of `bytes` and codes of `bits` for any number of them. */
static const struct row {
    int n, bytes, bits;
    uint32_t ggml;
    dsb_packed_field field[2];
} k_row[DSB_PACKED_COUNT] = {
    [DSB_PACKED_q4_0] = {32, 18, 0, 2, {{0, 2}}},
    [DSB_PACKED_q5_0] = {32, 22, 0, 6, {{0, 2}}},
    [DSB_PACKED_q8_0] = {32, 34, 0, 8, {{0, 2}}},
    [DSB_PACKED_iq4_nl] = {32, 18, 0, 20, {{0, 2}}},
    [DSB_PACKED_q2_K] = {256, 84, 0, 10, {{80, 2}, {82, 2}}},
    [DSB_PACKED_q3_K] = {256, 110, 0, 11, {{108, 2}}},
    [DSB_PACKED_q4_K] = {256, 144, 0, 12, {{0, 2}, {2, 2}}},
    [DSB_PACKED_q5_K] = {256, 176, 0, 13, {{0, 2}, {2, 2}}},
    [DSB_PACKED_q6_K] = {256, 210, 0, 14, {{208, 2}}},
    [DSB_PACKED_mxfp4] = {32, 17, 0, 0, {{0, 1}}},
    [DSB_PACKED_mxfp8] = {32, 33, 0, 0, {{0, 1}}},
    [DSB_PACKED_nvfp4] = {16, 9, 0, 0, {{0, 1}}},
    [DSB_PACKED_fp8_e4m3] = {0, 4, 8, 0, {{0, 0}}},
    [DSB_PACKED_fp8_e5m2] = {0, 4, 8, 0, {{0, 0}}},
    [DSB_PACKED_nf4] = {0, 4, 4, 0, {{0, 0}}},
    [DSB_PACKED_w4a16] = {0, 8, 4, 0, {{0, 0}}},
    [DSB_PACKED_w8a16] = {0, 8, 8, 0, {{0, 0}}},
};

bool dsb_packed_of_ggml(uint32_t ggml, dsb_packed_type *out) {
    for (int i = 0; i < DSB_PACKED_COUNT; i++) {
        if (!k_row[i].ggml || k_row[i].ggml != ggml) continue;
        *out = (dsb_packed_type)i;
        return true;
    }
    return false;
}

int dsb_packed_header(dsb_packed_type type) { return k_row[type].n ? 0 : k_row[type].bytes; }

int64_t dsb_packed_bytes(const dsb_packed *p, int64_t n) {
    const struct row *r = &k_row[p->type];
    return r->n ? r->bytes : r->bytes + (n * r->bits + 31) / 32 * 4;
}

int64_t dsb_packed_row_bytes(const dsb_packed *p, int64_t cols) { return cols / p->n * dsb_packed_bytes(p, p->n) + (cols % p->n ? dsb_packed_bytes(p, cols % p->n) : 0); }

int dsb_packed_fields(dsb_packed_type type, const dsb_packed_field **out) {
    *out = k_row[type].field;
    return (k_row[type].field[0].width > 0) + (k_row[type].field[1].width > 0);
}

static int nibble(const uint8_t *codes, int64_t i) { return codes[i / 2] >> i % 2 * 4 & 15; }

void dsb_packed_decode(const dsb_packed *p, const uint8_t *b, int64_t n, float *dst) {
    const uint8_t *codes = b + dsb_packed_header(p->type);
    float scale = 0, zero = 0;
    if (codes > b) memcpy(&scale, b, sizeof scale);
    if (codes > b + sizeof scale) memcpy(&zero, b + sizeof scale, sizeof zero);
    switch (p->type) {
    case DSB_PACKED_mxfp4: dsb_decode_mxfp4(b + 1, b, (size_t)n, dst); return;
    case DSB_PACKED_nvfp4: dsb_decode_nvfp4(b + 1, b, p->global, (size_t)n, dst); return;
    case DSB_PACKED_mxfp8:
        for (int64_t i = 0; i < n; i++) dst[i] = dsb_e4m3_to_f32(b[1 + i]) * dsb_e8m0_to_f32(b[0]);
        return;
    case DSB_PACKED_fp8_e4m3:
        for (int64_t i = 0; i < n; i++) dst[i] = dsb_e4m3_to_f32(codes[i]) * scale;
        return;
    case DSB_PACKED_fp8_e5m2:
        for (int64_t i = 0; i < n; i++) dst[i] = dsb_e5m2_to_f32(codes[i]) * scale;
        return;
    case DSB_PACKED_nf4:
        for (int64_t i = 0; i < n; i++) dst[i] = dsb_nf4_value[nibble(codes, i)] * scale;
        return;
    case DSB_PACKED_w4a16:
        for (int64_t i = 0; i < n; i++) dst[i] = ((float)(nibble(codes, i) - 8) - zero) * scale;
        return;
    case DSB_PACKED_w8a16:
        for (int64_t i = 0; i < n; i++) dst[i] = ((float)(int8_t)codes[i] - zero) * scale;
        return;
    default: dsb_ggml_find(k_row[p->type].ggml)->decode(b, dst);
    }
}
