/* Weights that stay packed (base/packed.h): their raw rows lie on the device as they are stored. A product decodes them to f32 panels first, value by
 * value as kernels/portable/packed.h has it, and is then that of f32 weights: the same bits. */
#include <cuda_fp16.h>

#include "kernels/cuda/device.cuh"

extern "C" {
#include "base/blocks.h"
}

/* ---- the vectors of kernels/portable/packed.h: one row a thread ---- */

typedef float vf;
typedef int32_t vi;
#define ONE __device__ static inline
ONE vf vf_set(float x) { return x; }
ONE vf vf_half(const uint8_t *p) { return __half2float(__ushort_as_half((unsigned short)(p[0] | p[1] << 8))); }
ONE vf vf_mul(vf a, vf b) { return a * b; }
ONE vf vf_sub(vf a, vf b) { return a - b; }
ONE vf vf_fms(vf a, vf b, vf c) { return fmaf(a, b, -c); }
ONE vf vf_int(vi v) { return (float)v; }
ONE vf vf_bits(vi v) { return __int_as_float(v); }
ONE vf vf_nibble8(vi v) { return (float)((v & 15) - 8); }
ONE vf vf_nibble(vi v) { return (float)(v & 15); }
ONE vf vf_look(const float *table, vi v) { return table[v & 15]; }
ONE vi vi_u8(const uint8_t *p) { return *p; }
ONE vi vi_word(const uint8_t *p) { return (vi)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24); }
ONE vi vi_sar(vi v, int n) { return v >> n; }
ONE vi vi_shr(vi v, int n) { return (vi)((uint32_t)v >> n); }
ONE vi vi_shl(vi v, int n) { return (vi)((uint32_t)v << n); }
ONE vi vi_ror(vi v, int n) { return (vi)__funnelshift_r((uint32_t)v, (uint32_t)v, (unsigned)n & 31u); }
ONE vi vi_merge(int mask, vi a, vi b) { return (a & mask) | (b & ~mask); }
ONE vi vi_and(vi v, int mask) { return v & mask; }
ONE vi vi_or(vi a, vi b) { return a | b; }
ONE vi vi_sub(vi v, int n) { return v - n; }
ONE vi vi_max(vi v, int n) { return v > n ? v : n; }

static __constant__ float e2m1_value[16] = DSB_E2M1_VALUES, nf4_value[16] = DSB_NF4_VALUES;
#define dsb_e2m1_value e2m1_value
#define dsb_nf4_value nf4_value
#define PK_INLINE __device__ static inline
#define PK_TABLE static __constant__ float
#define PK_LANES 1
#include "kernels/portable/packed.h"

/* ---- decoding ---- */

struct packed_rows {
    const uint8_t *data;
    dsb_packed how;
    int64_t rows, cols, row_bytes;
    int header, block_bytes; /* of a whole block */
    float *panels;           /* [panel][k][16] */
};

/* Inputs k .. k + UNIT of row r of a panel, as many as there are: a word of codes. */
#define UNPACK(ignored, t)                                                                                                                              \
    __global__ static void unpack_##t(packed_rows p) {                                                                                                    \
        enum { UNIT = PK_UNIT_##t, GROUP = PK_GROUP_##t };                                                                                                \
        int64_t words = cu_ceil(p.how.n, UNIT), blocks = cu_ceil(p.cols, p.how.n);                                                                        \
        CU_EACH(at, cu_ceil(p.rows, CU_PANEL) * CU_PANEL * words * blocks) {                                                                              \
            int64_t j = at % CU_PANEL, in = at / CU_PANEL % words * UNIT, block = at / CU_PANEL / words % blocks, panel = at / CU_PANEL / words / blocks; \
            int64_t r = panel * CU_PANEL + j, k = block * p.how.n + in, g = GROUP ? in / (GROUP ? GROUP : 1) : 0, i = in - g * GROUP;                      \
            const uint8_t *head = p.data + r * p.row_bytes + block * p.block_bytes;                                                                       \
            float *to = p.panels + (panel * p.cols + k) * CU_PANEL + j;                                                                                   \
            vf scale = 0, rest = 0;                                                                                                                       \
            if (r < p.rows && k < p.cols) pk_scale_##t(&p.how, head, (int)g, &scale, &rest);                                                              \
            for (int u = 0; u < UNIT && in + u < p.how.n && k + u < p.cols; u++)                                                                          \
                to[u * CU_PANEL] = r < p.rows ? pk_value_##t(pk_code_##t(head + p.header, (int)g, i, u), scale, rest) : 0.0f;                             \
        }                                                                                                                                                 \
    }
DSB_PACKED_TYPES(UNPACK, 0)

/* w's values in panels, scratch of the call. */
static float *unpack(const dsb_wmat *w) {
    packed_rows p = {(const uint8_t *)w->data, w->packed, w->rows, w->cols, dsb_packed_row_bytes(&w->packed, w->cols), dsb_packed_header(w->packed.type), (int)dsb_packed_bytes(&w->packed, w->packed.n), NULL};
    int64_t n = cu_ceil(w->rows, CU_PANEL) * CU_PANEL * w->cols;
    p.panels = (float *)cu_take((size_t)n * sizeof *p.panels);
    if (!p.panels) return NULL;
#define LAUNCH(ignored, t) \
    case DSB_PACKED_##t: unpack_##t<<<cu_grid(n / PK_UNIT_##t + 1, 256), 256, 0, cu_stream>>>(p); break;
    switch (w->packed.type) {
        DSB_PACKED_TYPES(LAUNCH, 0)
    default: break;
    }
    CU_LAUNCHED("unpack");
    return p.panels;
}

dsb_status cu_pack_blocks(dsb_wmat *out, const dsb_packed *how, const uint8_t *blocks, int64_t rows, int64_t cols, dsb_err *err) {
#define KERNEL(ignored, t) "cuda/gemm_" #t,
    static const char *const k_kernel[] = {DSB_PACKED_TYPES(KERNEL, 0)};
    size_t bytes = (size_t)(rows * dsb_packed_row_bytes(how, cols));
    memset(out, 0, sizeof *out);
    out->kind = DSB_W_BLOCK;
    out->rows = rows;
    out->cols = cols;
    out->group = how->n;
    out->packed = *how;
    out->bytes = bytes;
    out->kernel = k_kernel[how->type];
    return cu_send_beside(&out->data, blocks, bytes, "packed weights", err);
}

void cu_gemm_block(const dsb_wmat *w, const dsb_act *x, float *y) {
    dsb_wmat floats = *w;
    floats.kind = DSB_W_F32;
    floats.data = unpack(w);
    if (floats.data) cu_gemm_float(&floats, x, y);
    cu_drop(floats.data);
}
