/* Weights as products read them (device.cuh says how they lie), made on the device beside what it computes: of the host's, or of a stored weight
 * that is there whole. */
#include <cuda_fp16.h>

#include "kernels/cuda/device.cuh"

enum { NR = CU_PANEL };

template <class T, bool HALF> __global__ static void pack_panels(const float *w, int64_t rows, int64_t cols, T *out) {
    CU_EACH(at, cu_ceil(rows, NR) * NR * cols) {
        int64_t j = at % NR, k = at / NR % cols, r = at / NR / cols * NR + j;
        float v = r < rows ? w[r * cols + k] : 0.0f;
        out[at] = HALF ? (T)__half_as_ushort(__float2half_rn(v)) : (T)v;
    }
}

template <class T, bool HALF> static void pack_from(const float *raw, int64_t rows, int64_t cols, void *out) {
    pack_panels<T, HALF><<<cu_grid(cu_ceil(rows, NR) * NR * cols, 256), 256, 0, cu_copies>>>(raw, rows, cols, (T *)out);
}
/* BF16 is rounded on its way: half the bytes. */
__global__ static void pack_words(const uint16_t *w, int64_t rows, int64_t cols, uint16_t *out) {
    CU_EACH(at, cu_ceil(rows, NR) * NR * cols) {
        int64_t j = at % NR, k = at / NR % cols, r = at / NR / cols * NR + j;
        out[at] = r < rows ? w[r * cols + k] : 0;
    }
}

static dsb_status floats_open(dsb_wmat *out, dsb_wkind kind, int64_t rows, int64_t cols, dsb_err *err) {
    static const char *const k_name[] = {"cuda/gemm_f32", "cuda/gemm_bf16", "cuda/gemm_f16"};
    size_t size = kind == DSB_W_F32 ? 4 : 2;
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = cols, .data = NULL, .scales = NULL, .bytes = (size_t)(rows * cols) * size, .kernel = k_name[kind]};
    return cu_take_beside(&out->data, (size_t)(cu_ceil(rows, NR) * NR * cols) * size, "packed weights", err);
}

dsb_status cu_pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    size_t sent = kind == DSB_W_BF16 ? 2 : 4;
    int64_t n = cu_ceil(rows, NR) * NR * cols;
    if (dsb_status s = floats_open(out, kind, rows, cols, err)) return s;
    void *raw = cu_scratch_beside((size_t)(rows * cols) * sent);
    if (raw && n > 0) {
        if (kind == DSB_W_BF16) {
            cu_stage(cu_copies, raw, (size_t)(rows * cols) * 2, [&](char *to, size_t first, size_t m) {
                for (size_t i = 0; i < m / 2; i++) ((uint16_t *)to)[i] = dsb_f32_to_bf16(w[first / 2 + i]);
            });
            pack_words<<<cu_grid(n, 256), 256, 0, cu_copies>>>((const uint16_t *)raw, rows, cols, (uint16_t *)out->data);
        } else {
            cu_send(cu_copies, raw, w, (size_t)(rows * cols) * 4);
            if (kind == DSB_W_F32) pack_from<float, false>((const float *)raw, rows, cols, out->data);
            else pack_from<uint16_t, true>((const float *)raw, rows, cols, out->data);
        }
        cu_launched_in(cu_copies, "pack_panels");
    }
    cu_drop_beside(raw);
    cu_arrived();
    return cu_failed() ? cu_check(err) : DSB_OK;
}

__global__ static void pad_each(const int8_t *codes, int64_t rows, int64_t cols, int64_t group, int64_t padded_group, int64_t stride, int8_t *out) {
    CU_EACH(at, rows * cols) out[at / cols * stride + at % cols / group * padded_group + at % cols % group] = codes[at];
}

static void pad_in(cudaStream_t stream, const int8_t *codes, int64_t rows, int64_t cols, int64_t group, int8_t *out) {
    pad_each<<<cu_grid(rows * cols, 256), 256, 0, stream>>>(codes, rows, cols, group, cu_padded_group(group), cu_code_stride(cols, group), out);
    cu_launched_in(stream, "pad_codes");
}
void cu_pad_codes(const int8_t *codes, int64_t rows, int64_t cols, int64_t group, int8_t *out) { pad_in(cu_stream, codes, rows, cols, group, out); }

/* Nibbles offset by 8: of each step of 32 codes the first 16 are the low ones of its 16 bytes. */
__global__ static void pack_nibbles(const int8_t *padded, int64_t n, uint8_t *out) {
    CU_EACH(at, n / 2) {
        const int8_t *step = padded + at / 16 * 32;
        out[at] = (uint8_t)((step[at % 16] + 8) | (step[16 + at % 16] + 8) << 4);
    }
}

__global__ static void pack_scales(const float *scales, int64_t rows, int64_t groups, int64_t padded_rows, float *out) {
    CU_EACH(at, rows * groups) out[at % groups * padded_rows + at / groups] = scales[at];
}

static void pack_nibbles_of(const int8_t *padded, int64_t n, dsb_wmat *out) {
    pack_nibbles<<<cu_grid(n / 2, 256), 256, 0, cu_copies>>>(padded, n, (uint8_t *)out->data);
    cu_launched_in(cu_copies, "pack_nibbles");
}

/* How codes lie, and room for them: a byte each in `wide`, which are the product's own where they are I8. All zero. */
struct codes_form {
    int64_t groups, stride, padded_rows;
    int8_t *wide;
};

static dsb_status codes_open(dsb_wmat *out, dsb_wkind kind, int64_t group, int64_t rows, int64_t cols, codes_form *f, dsb_err *err) {
    bool bytes = kind == DSB_W_I8;
    *f = {cu_ceil(cols, group), cu_code_stride(cols, group), cu_ceil(rows, CU_TILE_ROWS) * CU_TILE_ROWS, NULL};
    int64_t n = f->padded_rows * f->stride, n_scale = f->padded_rows * f->groups;
    *out = (dsb_wmat){.kind = kind, .rows = rows, .cols = cols, .group = group, .data = NULL, .scales = NULL, .bytes = (size_t)(rows * cols) / (bytes ? 1 : 2) + (size_t)(rows * f->groups) * 4, .kernel = bytes ? "cuda/gemm_i8" : "cuda/gemm_i4"};
    void *scales = NULL;
    if (dsb_status s = cu_take_beside(&out->data, (size_t)n / (bytes ? 1 : 2), "packed codes", err)) return s;
    if (dsb_status s = cu_take_beside(&scales, (size_t)n_scale * 4, "packed scales", err)) {
        cu_drop_beside(out->data);
        out->data = NULL;
        return s;
    }
    out->scales = (float *)scales;
    f->wide = bytes ? (int8_t *)out->data : (int8_t *)cu_scratch_beside((size_t)n);
    if (f->wide) CU(cudaMemsetAsync(f->wide, 0, (size_t)n, cu_copies));
    CU(cudaMemsetAsync(scales, 0, (size_t)n_scale * 4, cu_copies));
    return DSB_OK;
}

/* wide is filled. */
static void codes_close(dsb_wmat *out, const codes_form *f) {
    if (out->kind == DSB_W_I4 && f->wide) pack_nibbles_of(f->wide, f->padded_rows * f->stride, out);
    if (out->kind == DSB_W_I4) cu_drop_beside(f->wide);
    cu_arrived();
}

dsb_status cu_pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err) {
    int64_t n = rows * cols;
    codes_form f;
    if (dsb_status s = codes_open(out, kind, group, rows, cols, &f, err)) return s;
    int8_t *raw = (int8_t *)cu_scratch_beside((size_t)n);
    float *raw_scales = (float *)cu_scratch_beside((size_t)(rows * f.groups) * 4);
    if (raw && f.wide && raw_scales && n > 0) {
        cu_send(cu_copies, raw, codes, (size_t)n);
        cu_send(cu_copies, raw_scales, scales, (size_t)(rows * f.groups) * 4);
        pad_in(cu_copies, raw, rows, cols, group, f.wide);
        pack_scales<<<cu_grid(rows * f.groups, 256), 256, 0, cu_copies>>>(raw_scales, rows, f.groups, f.padded_rows, out->scales);
        cu_launched_in(cu_copies, "pack_scales");
    }
    cu_drop_beside(raw);
    cu_drop_beside(raw_scales);
    codes_close(out, &f);
    return cu_failed() ? cu_check(err) : DSB_OK;
}

void cu_unpack(dsb_wmat *w) {
    cu_drop(w->data);
    cu_drop(w->scales);
    memset(w, 0, sizeof *w);
}

/* ---- all forms of a stored BF16 weight ---- */

__global__ static void widen_words(const uint16_t *words, int64_t n, float *wide) {
    CU_EACH(i, n) wide[i] = dsb_bf16_to_f32(words[i]);
}

static void whole_close(dsb_whole *w) {
    cu_drop_beside(w->words);
    cu_drop_beside(w->wide);
    memset(w, 0, sizeof *w);
}

static dsb_status whole_open(dsb_whole *out, const uint16_t *bf16, int64_t rows, int64_t cols, dsb_err *err) {
    int64_t n = rows * cols;
    void *words = NULL, *wide = NULL;
    memset(out, 0, sizeof *out);
    if (dsb_status s = cu_take_beside(&words, (size_t)n * 2, "a weight", err)) return s;
    if (dsb_status s = cu_take_beside(&wide, (size_t)n * 4, "a weight", err)) {
        cu_drop_beside(words);
        return s;
    }
    *out = {(uint16_t *)words, (float *)wide, rows, cols};
    cu_send(cu_copies, words, bf16, (size_t)n * 2);
    widen_words<<<cu_grid(n, 256), 256, 0, cu_copies>>>(out->words, n, out->wide);
    cu_launched_in(cu_copies, "widen_words");
    return cu_failed() ? cu_check(err) : DSB_OK;
}

static dsb_status whole_pack(dsb_wmat *out, const dsb_whole *w, dsb_err *err) {
    int64_t n = cu_ceil(w->rows, NR) * NR * w->cols;
    if (dsb_status s = floats_open(out, DSB_W_BF16, w->rows, w->cols, err)) return s;
    pack_words<<<cu_grid(n, 256), 256, 0, cu_copies>>>(w->words, w->rows, w->cols, (uint16_t *)out->data);
    cu_launched_in(cu_copies, "pack_panels");
    cu_arrived();
    return cu_failed() ? cu_check(err) : DSB_OK;
}

/* A warp a group: its largest magnitude, codes, and what they mean. */
__global__ static void round_groups(const float *w, int64_t rows, int64_t cols, int64_t group, int64_t groups, float most, int64_t stride, int64_t padded_group, int64_t padded_rows, int8_t *codes, float *scales, float *decoded) {
    int lane = threadIdx.x % 32;
    for (int64_t at = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / 32; at < rows * groups; at += (int64_t)gridDim.x * blockDim.x / 32) {
        int64_t r = at / groups, g = at % groups, first = r * cols + g * group, n = cols - g * group < group ? cols - g * group : group;
        uint32_t top = 0;
        for (int64_t i = lane; i < n; i += 32) top = max(top, dsb_f32_bits(w[first + i]) & 0x7fffffffu);
        for (int d = 16; d > 0; d /= 2) top = max(top, __shfl_xor_sync(~0u, top, d));
        float scale = dsb_f32_from_bits(top) / most;
        if (lane == 0) scales[g * padded_rows + r] = scale;
        for (int64_t i = lane; i < n; i += 32) {
            float v = w[first + i] / scale;
            v = v > most ? most : v < -most ? -most : v;
            int8_t c = scale > 0 ? (int8_t)(int32_t)rintf(v) : 0;
            codes[r * stride + g * padded_group + i] = c;
            decoded[first + i] = (float)c * scale;
        }
    }
}

static dsb_status whole_round(dsb_wmat *out, const dsb_whole *w, int64_t group, int qmax, dsb_moments *sum, dsb_err *err) {
    codes_form f;
    if (dsb_status s = codes_open(out, qmax > 7 ? DSB_W_I8 : DSB_W_I4, group, w->rows, w->cols, &f, err)) return s;
    float *decoded = (float *)cu_scratch_beside((size_t)(w->rows * w->cols) * 4);
    if (f.wide && decoded) {
        round_groups<<<cu_grid(w->rows * f.groups * 32, 256), 256, 0, cu_copies>>>(w->wide, w->rows, w->cols, group, f.groups, (float)qmax, f.stride, cu_padded_group(group), f.padded_rows, f.wide, out->scales, decoded);
        cu_launched_in(cu_copies, "round_groups");
        if (sum) cu_moments_beside(w->wide, decoded, w->rows * w->cols, sum);
    }
    cu_drop_beside(decoded);
    codes_close(out, &f);
    return cu_failed() ? cu_check(err) : DSB_OK;
}

static void whole_moments(const dsb_whole *w, dsb_moments *sum) {
    cu_moments_beside(w->wide, w->wide, w->rows * w->cols, sum);
    cu_arrived();
}

void cu_pack_fill(dsb_backend *b) {
    b->pack_float = cu_pack_float;
    b->pack_int = cu_pack_int;
    b->unpack = cu_unpack;
    b->whole_open = whole_open;
    b->whole_close = whole_close;
    b->whole_pack = whole_pack;
    b->whole_round = whole_round;
    b->whole_moments = whole_moments;
}
