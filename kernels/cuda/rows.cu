/* Elementwise rows, norms, rotations and activation quantizers, each value as kernels/portable computes it. */
#include <cuda_fp16.h>

#include "kernels/cuda/device.cuh"

enum { T = 256 };
#define RUN(name, n, ...)                                             \
    do {                                                              \
        if ((n) > 0) {                                                \
            name<<<cu_grid((n), T), T, 0, cu_stream>>>(__VA_ARGS__);  \
            CU_LAUNCHED(#name);                                       \
        }                                                             \
    } while (0)
/* One block a row. */
#define RUN_ROWS(name, n, ...)                                        \
    do {                                                              \
        if ((n) > 0) {                                                \
            name<<<(unsigned)(n), T, 0, cu_stream>>>(__VA_ARGS__);    \
            CU_LAUNCHED(#name);                                       \
        }                                                             \
    } while (0)

/* ---- activation quantizers ---- */

__device__ static float row_max(const float *row, int64_t cols) {
    uint32_t top = 0;
    for (int64_t k = threadIdx.x; k < cols; k += T) top = max(top, dsb_f32_bits(row[k]) & 0x7fffffffu);
    return dsb_f32_from_bits(cu_block_max(top));
}

__global__ static void quantize_rows(const float *x, int64_t cols, float most, int8_t *q, float *scale) {
    const float *row = x + blockIdx.x * cols;
    float top = row_max(row, cols), s = top <= FLT_MAX ? top / most : NAN;
    if (threadIdx.x == 0) scale[blockIdx.x] = s;
    for (int64_t k = threadIdx.x; k < cols; k += T) {
        float r = pm_round_code(row[k] / s);
        q[blockIdx.x * cols + k] = s > 0 ? (int8_t)(int32_t)(r > most ? most : r < -most ? -most : r) : 0;
    }
}

__global__ static void quantize_fixed(const float *x, int64_t cols, float given, int8_t *q, float *scale, unsigned long long *clipped) {
    const float *row = x + blockIdx.x * cols;
    bool finite = row_max(row, cols) <= FLT_MAX;
    int c = 0;
    if (threadIdx.x == 0) scale[blockIdx.x] = finite ? given : NAN;
    for (int64_t k = threadIdx.x; k < cols; k += T) {
        float v = finite && given > 0 ? row[k] / given : 0, r = pm_round_code(v > 1e6f ? 1e6f : v < -1e6f ? -1e6f : v);
        c += r > 127.0f || r < -127.0f;
        q[blockIdx.x * cols + k] = (int8_t)(int32_t)(r > 127.0f ? 127.0f : r < -127.0f ? -127.0f : r);
    }
    if (c) atomicAdd(clipped, (unsigned long long)c);
}

__global__ static void fp8_rows(const float *x, int64_t cols, float given, float *y, unsigned long long *clipped) {
    const float *row = x + blockIdx.x * cols;
    float top = row_max(row, cols), s = given > 0 ? given : top / 448.0f;
    bool finite = top <= FLT_MAX;
    int c = 0;
    for (int64_t k = threadIdx.x; k < cols; k += T) {
        float v = s > 0 ? row[k] / s : 0;
        c += fabsf(v) > 448.0f;
        y[blockIdx.x * cols + k] = finite ? pm_e4m3(v) * s : NAN;
    }
    if (c && finite && given > 0) atomicAdd(clipped, (unsigned long long)c);
}

static void quantize_dynamic(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { RUN_ROWS(quantize_rows, n, x, cols, 127.0f, q, scale); }
__global__ static void dequantize_each(const int8_t *q, const float *scale, int64_t n, int64_t cols, float *y) {
    CU_EACH(at, n * cols) y[at] = (float)q[at] * scale[at / cols];
}
static void dequantize(const int8_t *q, const float *scale, int64_t n, int64_t cols, float *y) { RUN(dequantize_each, n * cols, q, scale, n, cols, y); }
static void quantize_int4(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { RUN_ROWS(quantize_rows, n, x, cols, 7.0f, q, scale); }

static unsigned long long *counter(void) {
    unsigned long long *c = (unsigned long long *)cu_take(sizeof *c);
    if (c) CU(cudaMemsetAsync(c, 0, sizeof *c, cu_stream));
    return c;
}
static int64_t counted(unsigned long long *c) {
    unsigned long long n = 0;
    cu_to_host(&n, c, sizeof n);
    cu_drop(c);
    return (int64_t)n;
}
static int64_t quantize_static(const float *x, int64_t n, int64_t cols, float given, int8_t *q, float *scale) {
    unsigned long long *c = counter();
    if (!c) return 0;
    RUN_ROWS(quantize_fixed, n, x, cols, given, q, scale, c);
    return counted(c);
}
static int64_t round_e4m3(const float *x, int64_t n, int64_t cols, float given, float *y) {
    unsigned long long *c = given > 0 ? counter() : NULL; /* nothing saturates by its own largest */
    if (given > 0 && !c) return 0;
    RUN_ROWS(fp8_rows, n, x, cols, given, y, c);
    return c ? counted(c) : 0;
}

/* ---- norms and rotations ---- */

/* 8 threads a row have a lane each. */
__global__ static void norm_rows(const float *x, int64_t x_stride, const float *weight, double eps, int64_t n, int64_t d, float *y, int64_t y_stride) {
    __shared__ double lane[T / 8][8];
    __shared__ float inverse[T / 8];
    int64_t first = blockIdx.x * (int64_t)(T / 8), i = first + threadIdx.x / 8;
    double a = 0;
    if (i < n)
        for (int64_t k = threadIdx.x % 8; k < d; k += 8) a += (double)x[i * x_stride + k] * (double)x[i * x_stride + k];
    lane[threadIdx.x / 8][threadIdx.x % 8] = a;
    __syncthreads();
    if (threadIdx.x % 8 == 0) inverse[threadIdx.x / 8] = (float)(1.0 / sqrt(cu_tree(lane[threadIdx.x / 8]) / (double)d + eps));
    __syncthreads();
    for (int64_t at = threadIdx.x; at < T / 8 * d; at += T) {
        int64_t r = at / d, k = at % d;
        if (first + r < n) y[(first + r) * y_stride + k] = x[(first + r) * x_stride + k] * inverse[r] * weight[k];
    }
}
static void rms_norm(const float *x, int64_t x_stride, const float *weight, double eps, int64_t n, int64_t d, float *y, int64_t y_stride) {
    RUN_ROWS(norm_rows, cu_ceil(n, T / 8), x, x_stride, weight, eps, n, d, y, y_stride);
}

__global__ static void rotate(float *x, int64_t n, int64_t heads, int64_t row_stride, int64_t head_stride, int64_t dim, bool half, const int32_t *pos, const float *cos_table, const float *sin_table) {
    int64_t pairs = dim / 2, step = half ? 1 : 2, other = half ? pairs : 1;
    CU_EACH(at, n * heads * pairs) {
        int64_t j = at % pairs, h = at / pairs % heads, i = at / pairs / heads;
        float *v = x + i * row_stride + h * head_stride + step * j, c = cos_table[pos[i] * pairs + j], s = sin_table[pos[i] * pairs + j], a = v[0], b = v[other];
        v[0] = a * c - b * s;
        v[other] = b * c + a * s;
    }
}
static void rope(float *x, int64_t n, int64_t heads, int64_t row_stride, int64_t head_stride, int64_t dim, bool half, const int32_t *pos, const float *cos_table, const float *sin_table) {
    RUN(rotate, n * heads * (dim / 2), x, n, heads, row_stride, head_stride, dim, half, pos, cos_table, sin_table);
}

__global__ static void assemble(const float *kv, const float *k_pe, int64_t kpe_stride, int64_t n, int64_t heads, int64_t nope, int64_t v_dim, int64_t rope_dim, float *k, float *v) {
    int64_t width = nope + rope_dim + v_dim;
    CU_EACH(at, n * heads * width) {
        int64_t c = at % width, row = at / width;
        if (c < nope) k[row * (nope + rope_dim) + c] = kv[row * (nope + v_dim) + c];
        else if (c < nope + rope_dim) k[row * (nope + rope_dim) + c] = k_pe[row / heads * kpe_stride + c - nope];
        else v[row * v_dim + c - nope - rope_dim] = kv[row * (nope + v_dim) + c - rope_dim];
    }
}
static void mla_assemble(const float *kv, const float *k_pe, int64_t kpe_stride, int64_t n, int64_t heads, int64_t nope, int64_t v_dim, int64_t rope_dim, float *k, float *v) {
    RUN(assemble, n * heads * (nope + rope_dim + v_dim), kv, k_pe, kpe_stride, n, heads, nope, v_dim, rope_dim, k, v);
}

__global__ static void scale_each(const float *x, int64_t n, int64_t cols, const float *scale, float *y) {
    CU_EACH(at, n * cols) y[at] = x[at] * scale[at % cols];
}
static void scale_columns(const float *x, int64_t n, int64_t cols, const float *scale, float *y) { RUN(scale_each, n * cols, x, n, cols, scale, y); }

/* One block a row; butterflies of a step touch values of their own. */
__global__ static void hadamard_rows(const float *x, int64_t cols, int64_t block, float scale, float *y) {
    float *row = y + blockIdx.x * cols;
    for (int64_t k = threadIdx.x; k < cols && x != y; k += T) row[k] = x[blockIdx.x * cols + k];
    __syncthreads();
    for (int64_t h = 1; h < block; h *= 2) {
        for (int64_t at = threadIdx.x; at < cols / 2; at += T) {
            int64_t k = at / h * 2 * h + at % h;
            float a = row[k], b = row[k + h];
            row[k] = a + b;
            row[k + h] = a - b;
        }
        __syncthreads();
    }
    for (int64_t k = threadIdx.x; k < cols; k += T) row[k] *= scale;
}
static void hadamard(const float *x, int64_t n, int64_t cols, int64_t block, float *y) { RUN_ROWS(hadamard_rows, n, x, cols, block, (float)(1 / sqrt((double)block)), y); }

/* ---- elementwise ---- */

__global__ static void silu(const float *gate, const float *up, int64_t n, bool round, float *out) {
    CU_EACH(i, n) {
        float s = gate[i] / (1.0f + pm_expf(-gate[i]));
        out[i] = round ? cu_bf16(cu_bf16(s) * up[i]) : s * up[i];
    }
}
static void silu_mul(const float *gate, const float *up, int64_t n, bool round, float *out) { RUN(silu, n, gate, up, n, round, out); }

__global__ static void swiglu(const float *gate, const float *up, int64_t n, float alpha, float limit, bool round, float *out) {
    CU_EACH(i, n) {
        float g = gate[i] > limit ? limit : gate[i], u = up[i] > limit ? limit : up[i] < -limit ? -limit : up[i], y = (u + 1.0f) * (g / (1.0f + pm_expf(-(alpha * g))));
        out[i] = round ? cu_bf16(y) : y;
    }
}
static void swiglu_clamped(const float *gate, const float *up, int64_t n, float alpha, float limit, bool round, float *out) { RUN(swiglu, n, gate, up, n, alpha, limit, round, out); }

__global__ static void bias_each(float *y, const float *bias, int64_t n, int64_t d) {
    CU_EACH(at, n * d) y[at] += bias[at % d];
}
static void add_bias(float *y, const float *bias, int64_t n, int64_t d) { RUN(bias_each, n * d, y, bias, n, d); }

__global__ static void clamp_each(float *x, int64_t n, float limit) {
    CU_EACH(i, n) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}
static void clamp(float *x, int64_t n, float limit) { RUN(clamp_each, n, x, n, limit); }

__global__ static void gate_each(float *y, const float *logit, int64_t n, int64_t d) {
    CU_EACH(at, n * d) y[at] *= 1.0f / (1.0f + pm_expf(-logit[at / d]));
}
static void sigmoid_gate(float *y, const float *logit, int64_t n, int64_t d) { RUN(gate_each, n * d, y, logit, n, d); }

__global__ static void bf16_each(float *x, int64_t n) {
    CU_EACH(i, n) x[i] = cu_bf16(x[i]);
}
static void round_bf16(float *x, int64_t n) { RUN(bf16_each, n, x, n); }

__global__ static void f16_each(float *x, int64_t n) {
    CU_EACH(i, n) x[i] = __half2float(__float2half_rn(x[i]));
}
static void round_f16(float *x, int64_t n) { RUN(f16_each, n, x, n); }

__global__ static void widen_each(const uint16_t *src, int64_t n, float *dst) {
    CU_EACH(i, n) dst[i] = dsb_bf16_to_f32(src[i]);
}
static void load_bf16(const uint16_t *src, int64_t n, float *dst) { RUN(widen_each, n, src, n, dst); }

__global__ static void narrow_each(const float *src, int64_t n, uint16_t *dst) {
    CU_EACH(i, n) dst[i] = dsb_f32_to_bf16(src[i]);
}
static void store_bf16(const float *src, int64_t n, uint16_t *dst) { RUN(narrow_each, n, src, n, dst); }

__global__ static void add_each(float *y, const float *x, int64_t n) {
    CU_EACH(i, n) y[i] += x[i];
}
static void add(float *y, const float *x, int64_t n) { RUN(add_each, n, y, x, n); }

__global__ static void gather_each(const float *src, const int32_t *idx, int64_t n, int64_t d, float *dst) {
    CU_EACH(at, n * d) dst[at] = src[idx[at / d] * d + at % d];
}
static void gather(const float *src, const int32_t *idx, int64_t n, int64_t d, float *dst) { RUN(gather_each, n * d, src, idx, n, d, dst); }

__global__ static void scatter_each(float *acc, const int32_t *idx, const float *weight, const float *x, int64_t n, int64_t d) {
    CU_EACH(at, n * d) {
        float *to = acc + idx[at / d] * d + at % d;
        *to = fmaf(weight ? weight[at / d] : 1.0f, x[at], *to);
    }
}
static void scatter_add(float *acc, const int32_t *idx, const float *weight, const float *x, int64_t n, int64_t d) { RUN(scatter_each, n * d, acc, idx, weight, x, n, d); }

void cu_rows_fill(dsb_backend *b) {
    b->quantize_dynamic = quantize_dynamic;
    b->quantize_static = quantize_static;
    b->quantize_int4 = quantize_int4;
    b->dequantize = dequantize;
    b->round_e4m3 = round_e4m3;
    b->scale_columns = scale_columns;
    b->hadamard = hadamard;
    b->rms_norm = rms_norm;
    b->rope = rope;
    b->mla_assemble = mla_assemble;
    b->silu_mul = silu_mul;
    b->swiglu_clamped = swiglu_clamped;
    b->add_bias = add_bias;
    b->clamp = clamp;
    b->sigmoid_gate = sigmoid_gate;
    b->round_bf16 = round_bf16;
    b->round_f16 = round_f16;
    b->load_bf16 = load_bf16;
    b->store_bf16 = store_bf16;
    b->add = add;
    b->gather = gather;
    b->scatter_add = scatter_add;
}
