/* The backend table: what a device can do. The engine holds opaque device pointers and calls these rows, nothing else.
 * Every row is batch-invariant and independent of the number of threads: an output row's bits depend on that row alone.
 * f32 products: acc = fma(x[k], w[k], acc), k ascending from acc = 0, on every ISA; integer sums are exact (int32),
 * the epilogue is f = fma((float)acc_g, w_scale_g, f) over groups ascending, then y = f * x_scale. So all ISAs agree bit for bit.
 * All matrices are row-major, contiguous unless a stride (in elements) is given. Rows never fail except alloc and pack. */
#ifndef DSB_KERNELS_BACKEND_H
#define DSB_KERNELS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/format.h"
#include "base/moments.h"
#include "base/packed.h"
#include "base/status.h"

/* How a weight matrix is stored for its kernel. BLOCK: packed as base/packed.h says. I4 holds codes -8..7 as nibbles (int4, int3, int2 share it). */
typedef enum dsb_wkind { DSB_W_F32, DSB_W_BF16, DSB_W_F16, DSB_W_BLOCK, DSB_W_I8, DSB_W_I4 } dsb_wkind; /* from I8 on, activations are integers too */

/* A packed weight matrix W (rows = outputs, cols = inputs), made by `pack`, freed by `unpack`. Layout is the backend's own. */
typedef struct dsb_wmat {
    dsb_wkind kind;
    int64_t rows, cols;
    int64_t group;   /* inputs per scale; == cols for one scale a row; integer kinds only; the last group may be short */
    int32_t least;   /* of BF16: the least biased exponent of its values, zeros left out (256: no others); -1 where one is not finite */
    void *data;      /* device, owned */
    float *scales;   /* device, owned; NULL but for integer kinds */
    dsb_packed packed; /* of BLOCK */
    size_t bytes;    /* of data and scales, for GB/s */
    const char *kernel; /* the row that multiplies it: "avx2/gemm_i8" */
} dsb_wmat;

/* Activations as a product reads them: f32 rows, or int8 rows with one scale each. */
typedef struct dsb_act {
    int64_t n, cols;
    const float *f32; /* (n, cols) or NULL */
    const int8_t *q;  /* (n, cols) or NULL: codes within ±127 */
    const float *scale; /* (n): dynamic, or the static one repeated */
} dsb_act;

/* One product of a list: y (n, rows) = x · Wᵀ. */
typedef struct dsb_product {
    const dsb_wmat *w;
    const dsb_act *x;
    float *y;
} dsb_product;

/* One run of rows that attend to one another: causal, query i of n_q sees keys 0 .. n_kv - n_q + i. */
typedef struct dsb_seq {
    int64_t q0, n_q;   /* rows of q and of the output */
    int64_t kv0, n_kv; /* rows of k and v */
} dsb_seq;

/* q: (rows, heads, qk_dim); k: (rows, kv_heads, qk_dim); v: (rows, kv_heads, v_dim); out: (rows, heads, v_dim). */
typedef struct dsb_attention_shape {
    int64_t heads, kv_heads, qk_dim, v_dim; /* heads / kv_heads queries share a key */
    int64_t k_stride, v_stride; /* values between rows of k, of v; 0: kv_heads times the width */
    int64_t window;     /* keys a query sees, itself included; 0: all before it */
    float scale;
    const float *sinks; /* (heads) device: one more logit of the softmax, of no value; or NULL */
} dsb_attention_shape;

typedef enum dsb_scoring { DSB_SCORE_SOFTMAX, DSB_SCORE_SIGMOID } dsb_scoring;
typedef enum dsb_group_rank { DSB_GROUP_MAX, DSB_GROUP_TOP2 } dsb_group_rank; /* V2: best score; V3: sum of the two best */

/* Router: logits -> k experts a token. selection score = score + bias; groups not kept are masked by 0 (original V3 code). */
typedef struct dsb_router_shape {
    int64_t n_expert, k, n_group, topk_group; /* n_group <= 1: no groups */
    dsb_scoring scoring;
    dsb_group_rank group_rank;
    bool norm_topk;        /* divide the k weights by their sum (+1e-20) */
    bool scale_after_norm; /* apply `scale` also when norm_topk (V3 yes, V2 no) */
    float scale;           /* routed_scaling_factor */
} dsb_router_shape;

/* Magnitudes by their leading bits: bin i holds dsb_bin_edge(i) <= |x| < dsb_bin_edge(i + 1), 16 a power of two from 2^-28 to 2^20; what is
 * smaller is in the first, what is larger in the last. */
enum { DSB_BINS = 768, DSB_BIN_FIRST = (127 - 28) * 16 };
static inline float dsb_bin_edge(int i) { return dsb_f32_from_bits((uint32_t)(DSB_BIN_FIRST + i) << 19); }

typedef struct dsb_experts dsb_experts; /* a backend's own */
typedef enum dsb_experts_act { DSB_EXPERTS_PLAIN, DSB_EXPERTS_INT8, DSB_EXPERTS_E4M3 } dsb_experts_act; /* how their inputs are quantized, per token */
struct dsb_roofline;                    /* kernels/roofline.h */

/* A stored BF16 weight (rows, cols) on a device, of which all its forms are made there. */
typedef struct dsb_whole {
    uint16_t *words; /* device, owned */
    float *wide;     /* the same in f32 */
    int64_t rows, cols;
} dsb_whole;

/* A GPU and its sensors, as they are now; NAN or 0 where they are not known. */
typedef struct dsb_device_facts {
    char name[96], note[128]; /* note: why there are no sensors; or empty */
    int64_t cache_bytes, memory_bytes, used_bytes;
    double sm_mhz, power_w, temperature_c, energy_j; /* energy: since the driver began */
} dsb_device_facts;

/* Calls of one kernel, or of copies one way, and what they took one by one. */
typedef struct dsb_watched {
    const char *name;
    int64_t calls;
    double seconds, bytes; /* bytes: of copies */
} dsb_watched;

typedef struct dsb_backend {
    const char *name; /* "cpu", "cuda" */
    const char *isa;  /* a level of dsb_backend_cpu: "ref", "avx2", …; "cuda" */
    /* Memory of the device, 64-byte aligned, zeroed; DSB_ENOMEM. */
    dsb_status (*alloc)(void **out, size_t bytes, const char *what, dsb_err *err);
    void (*release)(void *p);
    /* Both return when the host's side may be used again. */
    void (*upload)(void *device, const void *host, size_t bytes);
    void (*download)(void *host, const void *device, size_t bytes);
    void (*copy)(void *device_dst, const void *device_src, size_t bytes);
    void (*zero)(void *device, size_t bytes);
    void (*sync)(void);
    dsb_status (*check)(dsb_err *err); /* waits; the device's first failure since it was opened (rows can't fail themselves) */

    /* Packs host f32 weights (rows, cols) as F32, BF16 or F16 (rounded to nearest even; exact where they fit). */
    dsb_status (*pack_float)(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err);
    /* Packs host int8 codes (rows, cols) with f32 scales (rows, ceil(cols/group)) as I8, or I4 if all codes are within ±7. */
    dsb_status (*pack_int)(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err);
    /* Packs host rows of blocks (rows, dsb_packed_row_bytes) as BLOCK; its products are those of the decoded weights, bit for bit. NULL: a device without. */
    dsb_status (*pack_blocks)(dsb_wmat *out, const dsb_packed *how, const uint8_t *blocks, int64_t rows, int64_t cols, dsb_err *err);
    void (*unpack)(dsb_wmat *w); /* frees */
    /* The same on a device of what it has whole, beside what it computes; all NULL where the host does that. whole_round: codes of round-to-nearest as
     * dsb_quantize finds them (symmetric, groups of `group` inputs, within ±qmax; I4 from 7 down). Figures of the decoded weights (whole_moments: of the
     * weight itself) against it are added to *sum as moments_later does, block by block; sum NULL: none are wanted. */
    dsb_status (*whole_open)(dsb_whole *out, const uint16_t *bf16, int64_t rows, int64_t cols, dsb_err *err);
    void (*whole_close)(dsb_whole *w);
    dsb_status (*whole_pack)(dsb_wmat *out, const dsb_whole *w, dsb_err *err); /* as BF16 */
    dsb_status (*whole_round)(dsb_wmat *out, const dsb_whole *w, int64_t group, int qmax, dsb_moments *sum, dsb_err *err);
    void (*whole_moments)(const dsb_whole *w, dsb_moments *sum);

    /* y (n, rows) = x · Wᵀ. Integer kinds need x.q, the others x.f32. */
    void (*gemm)(const dsb_wmat *w, const dsb_act *x, float *y);
    /* Products that don't read one another's outputs, as one list of tasks for all threads; the bits are gemm's. NULL: a device without. */
    void (*gemm_list)(const dsb_product *list, int64_t n);
    /* A matrix a head, all of one shape and of float kinds. x: (n, heads, cols + tail), y: (n, heads, rows + tail): each head's first values are
     * multiplied, the tail is copied. */
    void (*gemm_heads)(const dsb_wmat *w, int64_t heads, const float *x, int64_t n, int64_t tail, float *y);
    /* Per-token symmetric int8: scale = absmax/127 (f32 division), q = round_half_even(x/scale) within ±127, 0 where scale is 0.
     * A row that holds NaN or Inf has scale NaN and codes 0, here and below: its products are NaN, so that it is found. */
    void (*quantize_dynamic)(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale);
    /* A layer's routed experts in one piece, where a device has that (else NULL). w: (n_expert, 3), each expert's gate, up and down, whose rows are
     * quantized per token; *out stays NULL where their kind or shape doesn't fit. Carrier BF16, SwiGLU; y (n, d) is the sum over the k experts of each
     * row, in the order of idx (n, k: ascending), with weight (n, k), rounded to BF16: the bits of the single rows. */
    dsb_status (*fuse_experts)(dsb_experts **out, const dsb_wmat *w, int64_t n_expert, int64_t k, dsb_experts_act act, dsb_err *err);
    void (*experts_forward)(dsb_experts *e, const float *x, int64_t n, const int32_t *idx, const float *weight, float *y);
    void (*experts_release)(dsb_experts *e);
    /* One given scale, clamped to ±127; returns how many were clipped (of finite rows). */
    int64_t (*quantize_static)(const float *x, int64_t n, int64_t cols, float given, int8_t *q, float *scale);

    /* From the first call on quantize_static and round_e4m3 return 0, and what they count after this one is added to *sum, which stays where it is, by the time
     * settle returns; sum NULL: nobody counts. NULL: a device whose rows make nobody wait. */
    void (*count_into)(int64_t *sum);

    /* y (n, cols) = codes times their row's scale: what a product reads. */
    void (*dequantize)(const int8_t *q, const float *scale, int64_t n, int64_t cols, float *y);

    /* The same per token within ±7: scale = absmax/7. */
    void (*quantize_int4)(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale);
    /* y = e4m3(x/scale)·scale in f32, scale = absmax/448 a token, or the given one where it is positive; returns how many saturated.
     * A row that holds NaN or Inf is NaN. */
    int64_t (*round_e4m3)(const float *x, int64_t n, int64_t cols, float given, float *y);

    /* y = x · diag(scale), and y = x·H in blocks of a power of two that divides cols: butterflies from neighbours up, then times 1/√block in f32. y may be x. */
    void (*scale_columns)(const float *x, int64_t n, int64_t cols, const float *scale, float *y);
    void (*hadamard)(const float *x, int64_t n, int64_t cols, int64_t block, float *y);

    void (*rms_norm)(const float *x, int64_t x_stride, const float *weight, double eps, int64_t n, int64_t d, float *y, int64_t y_stride);
    /* Rotates the first `dim` values of each head in place by position pos[row]: pairs (2i, 2i+1), or (i, i + dim/2) where half;
     * cos, sin: (max_pos, dim/2) f32. x: n rows of `heads` vectors `head_stride` apart, rows row_stride apart. */
    void (*rope)(float *x, int64_t n, int64_t heads, int64_t row_stride, int64_t head_stride, int64_t dim, bool half, const int32_t *pos, const float *cos_table, const float *sin_table);
    /* MLA: kv (n, heads, nope+v_dim) and one rotated k_pe row of `rope` values a token (kpe_stride apart) -> k (n, heads, nope+rope), v (n, heads, v_dim; NULL where v_dim is 0). */
    void (*mla_assemble)(const float *kv, const float *k_pe, int64_t kpe_stride, int64_t n, int64_t heads, int64_t nope, int64_t v_dim, int64_t rope, float *k, float *v);
    void (*attention)(const dsb_attention_shape *shape, const dsb_seq *seqs, int64_t n_seq, const float *q, const float *k, const float *v, float *out);
    /* out = silu(gate) * up, elementwise over n values. round: results (and the silu) rounded to BF16. */
    void (*silu_mul)(const float *gate, const float *up, int64_t n, bool round, float *out);
    /* GPT-OSS: g = min(gate, limit), u = up within ±limit, out = (u + 1) * g * sigmoid(alpha * g). round: out rounded to BF16. */
    void (*swiglu_clamped)(const float *gate, const float *up, int64_t n, float alpha, float limit, bool round, float *out);
    void (*add_bias)(float *y, const float *bias, int64_t n, int64_t d); /* every row of y (n, d) += bias (d) */
    void (*clamp)(float *x, int64_t n, float limit);                      /* within ±limit, in place; NaN stays */
    void (*sigmoid_gate)(float *y, const float *logit, int64_t n, int64_t d); /* row i of y (n, d) *= sigmoid(logit[i]) */
    void (*round_bf16)(float *x, int64_t n); /* in place, nearest even */
    void (*round_f16)(float *x, int64_t n);
    /* BF16 storage of streams: exact both ways for rounded values. */
    void (*load_bf16)(const uint16_t *src, int64_t n, float *dst);
    void (*store_bf16)(const float *src, int64_t n, uint16_t *dst);
    void (*add)(float *y, const float *x, int64_t n); /* y += x */
    /* Embedding and gather: dst[i] = src[idx[i]], rows of d. */
    void (*gather)(const float *src, const int32_t *idx, int64_t n, int64_t d, float *dst);
    /* acc[idx[i]] = fma(weight[i], x[i], acc[idx[i]]); weight NULL means 1; an index occurs at most once a call. */
    void (*scatter_add)(float *acc, const int32_t *idx, const float *weight, const float *x, int64_t n, int64_t d);
    /* logits, scores: (n, n_expert); bias (n_expert) or NULL. idx, weight: (n, k) ascending by expert id.
     * margin: (n) selection score of the k-th kept minus the best not kept (+inf if none). scores may be NULL. */
    void (*route)(const dsb_router_shape *shape, const float *logits, const float *bias, int64_t n, float *scores, int32_t *idx, float *weight, float *margin);

    /* Reductions that metrics need. `x` NULL means zeros. */
    void (*moments)(const float *x, const float *y, int64_t n, dsb_moments *out);
    /* *sum, which stays where it is, has these figures added by the time settle returns, calls in their order; NULL: a device that makes nobody wait. */
    void (*moments_later)(const float *x, const float *y, int64_t n, dsb_moments *sum);
    void (*settle)(void);
    float (*absmax)(const float *x, int64_t n); /* NaN if one is NaN; 0 if n is 0 */
    void (*histogram)(const float *x, int64_t n, uint64_t *bins); /* bins (DSB_BINS) host += magnitudes of finite values */
    /* Sums of calibration, in f64, rows ascending: of x, |x|, x² and the largest |x| of each column; and xᵀx (cols, cols), whole. Outputs are on the host and are added to. */
    void (*channel_sums)(const float *x, int64_t n, int64_t cols, double *sum, double *sum_abs, double *sum_sq, float *absmax);
    void (*gram)(const float *x, int64_t n, int64_t cols, double *gram);
    /* ref, test: (n, vocab); target (n) host ids or -1; out (n) host. test NULL: only the reference's own figures. */
    void (*logit_rows)(const float *ref, const float *test, const int32_t *target, int64_t n, int64_t vocab, dsb_logit_row *out);

    /* A device's own clock, sensors and ceilings; NULL: a CPU. */
    void (*clock_begin)(void);
    double (*clock_end)(void); /* waits; seconds the device took since clock_begin */
    void (*facts)(dsb_device_facts *out);
    void (*ceilings)(struct dsb_roofline *out);
    /* on: from now on each kernel and copy is waited for and counted by its name, which slows all down. watched: what was counted since. */
    void (*watch)(bool on);
    int (*watched)(const dsb_watched **rows);
} dsb_backend;

static inline void dsb_products(const dsb_backend *be, const dsb_product *list, int64_t n) {
    if (be->gemm_list) be->gemm_list(list, n);
    for (int64_t i = 0; !be->gemm_list && i < n; i++) be->gemm(list[i].w, list[i].x, list[i].y);
}

/* The CPU's best backend here, or the named level ("ref", "avx2", "avx512", "neon"); NULL if this machine lacks it. */
const dsb_backend *dsb_backend_cpu(const char *isa);

/* Chooses where this process computes: "cpu", "cuda" or "cuda:N" (DSB_EUSAGE else). Without the plugin, a driver or that GPU it is the CPU,
 * and `note` says why in one line (else it is empty). */
dsb_status dsb_device_choose(const char *name, char *note, size_t room, dsb_err *err);
/* The chosen device's table; the CPU's best until one was chosen. Host memory is for dsb_backend_cpu's rows only. */
const dsb_backend *dsb_device(void);
/* As --device names it: "cpu", "cuda:0". */
const char *dsb_device_name(void);

/* The kernel table, for `dsbench list kernels`: best first, reference last. */
typedef struct dsb_kernel_row {
    const char *name, *isa, *what;
    bool available;
} dsb_kernel_row;
int dsb_kernel_list(const dsb_kernel_row **rows);

#endif
