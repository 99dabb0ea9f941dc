/* Reductions that metrics and calibration read: f64 sums in 8 lanes and a tree, blocks added in their order, as kernels/portable. A tile's
 * terms are computed by all threads into shared memory, then one thread a lane adds them in ascending order. */
#include <stdlib.h>

#include "kernels/cuda/device.cuh"

enum { T = 256, TILE = 1024, TOP = 10 };

/* lane[threadIdx.x] += its terms of a tile; threads beyond 8·sums do nothing. terms: (sums, TILE). */
__device__ static void add_lanes(const double *terms, int sums, int len, double *lane) {
    if (threadIdx.x < 8 * sums)
        for (int i = threadIdx.x % 8; i < len; i += 8) *lane += terms[threadIdx.x / 8 * TILE + i];
}
/* The tree of sum s of the lanes that add_lanes left. */
__device__ static double lane_tree(const double *lanes, int s) { return cu_tree(lanes + 8 * s); }

/* ---- moments ---- */

__global__ static void __launch_bounds__(T) moment_blocks(const float *x, const float *y, int64_t n, dsb_moments *out) {
    __shared__ double terms[4 * TILE], lanes[32], most_d[T];
    __shared__ float most_x[T], most_y[T];
    __shared__ unsigned long long first_bad;
    __shared__ int bad;
    int64_t first = blockIdx.x * (int64_t)DSB_MOMENT_BLOCK, len = n - first < DSB_MOMENT_BLOCK ? n - first : DSB_MOMENT_BLOCK;
    double lane = 0, md = 0;
    float mx = 0, my = 0;
    if (threadIdx.x == 0) {
        bad = 0;
        first_bad = ~0ull;
    }
    __syncthreads();
    for (int64_t at = 0; at < len; at += TILE) {
        int m = len - at < TILE ? (int)(len - at) : TILE;
        for (int i = threadIdx.x; i < m; i += T) {
            float xf = x ? x[first + at + i] : 0, yf = y[first + at + i];
            bool fin = fabsf(xf) <= FLT_MAX && fabsf(yf) <= FLT_MAX;
            if (!fin) {
                atomicAdd(&bad, 1);
                atomicMin(&first_bad, (unsigned long long)(at + i));
                xf = yf = 0;
            }
            double dx = (double)xf, dy = (double)yf, d = dx - dy, ad = fabs(d);
            terms[i] = dx * dx;
            terms[TILE + i] = dy * dy;
            terms[2 * TILE + i] = dx * dy;
            terms[3 * TILE + i] = d * d;
            md = ad > md ? ad : md;
            mx = fmaxf(mx, fabsf(xf));
            my = fmaxf(my, fabsf(yf));
        }
        __syncthreads();
        add_lanes(terms, 4, m, &lane);
        __syncthreads();
    }
    if (threadIdx.x < 32) lanes[threadIdx.x] = lane;
    most_d[threadIdx.x] = md;
    most_x[threadIdx.x] = mx;
    most_y[threadIdx.x] = my;
    __syncthreads();
    if (threadIdx.x) return;
    for (int t = 1; t < T; t++) {
        md = most_d[t] > md ? most_d[t] : md;
        mx = fmaxf(mx, most_x[t]);
        my = fmaxf(my, most_y[t]);
    }
    dsb_moments *o = &out[blockIdx.x];
    o->n = len;
    o->nonfinite = bad;
    o->first_bad = bad ? (int64_t)first_bad : -1;
    o->xx = lane_tree(lanes, 0);
    o->yy = lane_tree(lanes, 1);
    o->xy = lane_tree(lanes, 2);
    o->dd = lane_tree(lanes, 3);
    o->max_diff = md;
    o->max_x = (double)mx;
    o->max_y = (double)my;
}

static void moments(const float *x, const float *y, int64_t n, dsb_moments *out) {
    int64_t blocks = cu_ceil(n, DSB_MOMENT_BLOCK);
    memset(out, 0, sizeof *out);
    out->first_bad = -1;
    if (n == 0) return;
    dsb_moments *dev = (dsb_moments *)cu_take((size_t)blocks * sizeof *dev), *part = (dsb_moments *)malloc((size_t)blocks * sizeof *part);
    if (dev && part) {
        moment_blocks<<<(unsigned)blocks, T, 0, cu_stream>>>(x, y, n, dev);
        if (CU_LAUNCHED("moment_blocks")) cu_to_host(part, dev, (size_t)blocks * sizeof *part);
        for (int64_t b = 0; b < blocks; b++) dsb_moments_add(out, &part[b]);
    } else {
        CU(cudaErrorMemoryAllocation);
    }
    free(part);
    cu_drop(dev);
}

/* ---- moments that nobody waits for: partials stay on the device until `settle` ---- */

enum { LATER = 1 << 17, LATER_CALLS = 1 << 15 };
static struct {
    dsb_moments *part; /* device, (LATER) */
    int64_t n_part;
    int n;
    struct {
        dsb_moments *sum;
        int64_t first, n;
        bool direct; /* blocks are added to the sum one by one, not first to one another */
    } call[LATER_CALLS];
} later;

static void settle(void) {
    cu_arrived(); /* what cu_copies wrote */
    dsb_moments *host = later.n_part ? (dsb_moments *)malloc((size_t)later.n_part * sizeof *host) : NULL;
    if (host) cu_to_host(host, later.part, (size_t)later.n_part * sizeof *host);
    else if (later.n_part) CU(cudaErrorMemoryAllocation);
    for (int i = 0; i < later.n && host; i++) {
        dsb_moments one = {};
        for (int64_t b = 0; b < later.call[i].n; b++) dsb_moments_add(later.call[i].direct ? later.call[i].sum : &one, &host[later.call[i].first + b]);
        if (!later.call[i].direct) dsb_moments_add(later.call[i].sum, &one);
    }
    free(host);
    later.n = 0;
    later.n_part = 0;
}

/* A tensor of more blocks than there is room for goes in pieces: those of one call are added to one another only where it has one piece. */
static void add_later(cudaStream_t stream, const float *x, const float *y, int64_t n, bool direct, dsb_moments *sum) {
    enum { MOST = LATER / 4 };
    if (!later.part) {
        later.part = (dsb_moments *)cu_take(LATER * sizeof *later.part);
        CU(cudaStreamSynchronize(cu_stream)); /* both streams write there */
    }
    for (int64_t at = 0; at < n && later.part; at += MOST * (int64_t)DSB_MOMENT_BLOCK) {
        int64_t m = n - at < MOST * (int64_t)DSB_MOMENT_BLOCK ? n - at : MOST * (int64_t)DSB_MOMENT_BLOCK, blocks = cu_ceil(m, DSB_MOMENT_BLOCK);
        if (later.n == LATER_CALLS || later.n_part + blocks > LATER) settle();
        moment_blocks<<<(unsigned)blocks, T, 0, stream>>>(x ? x + at : NULL, y + at, m, later.part + later.n_part);
        cu_launched_in(stream, "moment_blocks");
        later.call[later.n++] = {sum, later.n_part, blocks, direct};
        later.n_part += blocks;
    }
}
static void moments_later(const float *x, const float *y, int64_t n, dsb_moments *sum) {
    dsb_moments one;
    if (n <= LATER / 4 * (int64_t)DSB_MOMENT_BLOCK) return add_later(cu_stream, x, y, n, false, sum);
    settle();
    moments(x, y, n, &one);
    dsb_moments_add(sum, &one);
}
void cu_moments_beside(const float *x, const float *y, int64_t n, dsb_moments *sum) { add_later(cu_copies, x, y, n, true, sum); }

__global__ static void largest(const float *x, int64_t n, uint32_t *top) {
    uint32_t m = 0;
    CU_EACH(i, n) m = max(m, dsb_f32_bits(x[i]) & 0x7fffffffu);
    m = cu_block_max(m);
    if (threadIdx.x == 0) atomicMax(top, m);
}
static float absmax(const float *x, int64_t n) {
    uint32_t top = 0, *dev = (uint32_t *)cu_take(sizeof *dev);
    if (dev && n > 0 && CU(cudaMemsetAsync(dev, 0, sizeof *dev, cu_stream))) {
        largest<<<cu_grid(n, T), T, 0, cu_stream>>>(x, n, dev);
        if (CU_LAUNCHED("largest")) cu_to_host(&top, dev, sizeof top);
    }
    cu_drop(dev);
    return dsb_f32_from_bits(top);
}

/* ---- calibration ---- */

__global__ static void count_bins(const float *x, int64_t n, unsigned long long *bins) {
    __shared__ unsigned mine[DSB_BINS];
    for (int b = threadIdx.x; b < DSB_BINS; b += T) mine[b] = 0;
    __syncthreads();
    CU_EACH(i, n) {
        uint32_t u = dsb_f32_bits(x[i]) & 0x7fffffffu;
        int64_t b = (int64_t)(u >> 19) - DSB_BIN_FIRST;
        if (u < 0x7f800000u) atomicAdd(&mine[b < 0 ? 0 : b >= DSB_BINS ? DSB_BINS - 1 : b], 1u);
    }
    __syncthreads();
    for (int b = threadIdx.x; b < DSB_BINS; b += T)
        if (mine[b]) atomicAdd(&bins[b], (unsigned long long)mine[b]);
}
static void histogram(const float *x, int64_t n, uint64_t *bins) {
    uint64_t more[DSB_BINS] = {0};
    unsigned long long *dev = (unsigned long long *)cu_take(sizeof more);
    if (dev && n > 0 && CU(cudaMemsetAsync(dev, 0, sizeof more, cu_stream))) {
        count_bins<<<cu_grid(n, T), T, 0, cu_stream>>>(x, n, dev);
        if (CU_LAUNCHED("count_bins")) cu_to_host(more, dev, sizeof more);
    }
    for (int b = 0; b < DSB_BINS; b++) bins[b] += more[b];
    cu_drop(dev);
}

__global__ static void column_sums(const float *x, int64_t n, int64_t cols, double *sum, double *sum_abs, double *sum_sq, float *top) {
    CU_EACH(c, cols) {
        double s = sum[c], a = sum_abs[c], q = sum_sq[c];
        float m = top[c];
        for (int64_t r = 0; r < n; r++) {
            float v = x[r * cols + c], b = fabsf(v);
            s += (double)v;
            a += (double)b;
            q += (double)v * (double)v;
            m = b > m || b != b ? b : m;
        }
        sum[c] = s;
        sum_abs[c] = a;
        sum_sq[c] = q;
        top[c] = m;
    }
}
static void channel_sums(const float *x, int64_t n, int64_t cols, double *sum, double *sum_abs, double *sum_sq, float *top) {
    size_t d = (size_t)cols * sizeof *sum;
    char *dev = (char *)cu_take(3 * d + (size_t)cols * sizeof *top);
    if (!dev || n == 0) return cu_drop(dev);
    double *s = (double *)dev, *a = s + cols, *q = a + cols;
    float *m = (float *)(q + cols);
    cu_to_device(s, sum, d);
    cu_to_device(a, sum_abs, d);
    cu_to_device(q, sum_sq, d);
    cu_to_device(m, top, (size_t)cols * sizeof *top);
    column_sums<<<cu_grid(cols, 32), 32, 0, cu_stream>>>(x, n, cols, s, a, q, m);
    if (CU_LAUNCHED("column_sums")) {
        cu_to_host(sum, s, d);
        cu_to_host(sum_abs, a, d);
        cu_to_host(sum_sq, q, d);
        cu_to_host(top, m, (size_t)cols * sizeof *top);
    }
    cu_drop(dev);
}

/* 64 x 64 of xᵀx a block, 4 x 4 a thread, rows ascending. */
__global__ static void __launch_bounds__(T) gram_tiles(const float *x, int64_t n, int64_t cols, double *gram) {
    enum { S = 64, R = 16 };
    __shared__ float left[R][S], right[R][S];
    int64_t i0 = (int64_t)blockIdx.y * S, j0 = (int64_t)blockIdx.x * S;
    int ti = threadIdx.x / 16, tj = threadIdx.x % 16;
    double acc[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int64_t a = i0 + ti * 4 + i, b = j0 + tj * 4 + j;
            acc[i][j] = a < cols && b < cols ? gram[a * cols + b] : 0;
        }
    for (int64_t r0 = 0; r0 < n; r0 += R) {
        for (int t = threadIdx.x; t < R * S; t += T) {
            int64_t r = r0 + t / S, a = i0 + t % S, b = j0 + t % S;
            left[t / S][t % S] = r < n && a < cols ? x[r * cols + a] : 0;
            right[t / S][t % S] = r < n && b < cols ? x[r * cols + b] : 0;
        }
        __syncthreads();
        for (int r = 0; r < R && r0 + r < n; r++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) acc[i][j] += (double)left[r][ti * 4 + i] * (double)right[r][tj * 4 + j];
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int64_t a = i0 + ti * 4 + i, b = j0 + tj * 4 + j;
            if (a < cols && b < cols) gram[a * cols + b] = acc[i][j];
        }
}
static void gram(const float *x, int64_t n, int64_t cols, double *out) {
    size_t bytes = (size_t)(cols * cols) * sizeof *out;
    double *dev = (double *)cu_take(bytes);
    if (!dev || n == 0) return cu_drop(dev);
    cu_to_device(dev, out, bytes);
    dim3 grid((unsigned)cu_ceil(cols, 64), (unsigned)cu_ceil(cols, 64));
    gram_tiles<<<grid, T, 0, cu_stream>>>(x, n, cols, dev);
    if (CU_LAUNCHED("gram_tiles")) cu_to_host(out, dev, bytes);
    cu_drop(dev);
}

/* ---- figures of logits ---- */

/* What the first pass over a position's rows leaves; index 0 the reference's, 1 the test's. */
struct sides {
    double sum[2], at_target[2]; /* Σ exp(z − top), exp(z[target] − top) */
    float z_target[2], top[2];
    int32_t best[2][TOP], nonfinite;
};

/* The TOP best of z, descending, ties to the lower index: each pass takes the largest after the one before. */
__device__ static void find_top(const float *z, int64_t n, int32_t *best) {
    __shared__ float value[T];
    __shared__ int32_t index[T];
    float last = INFINITY;
    int32_t last_at = -1;
    for (int k = 0; k < TOP && k < n; k++) {
        float v = -INFINITY;
        int32_t at = -1;
        for (int64_t i = threadIdx.x; i < n; i += T) {
            float c = z[i];
            bool after = c < last || (c == last && i > last_at);
            if (after && (at < 0 || c > v)) {
                v = c;
                at = (int32_t)i;
            }
        }
        value[threadIdx.x] = v;
        index[threadIdx.x] = at;
        __syncthreads();
        for (int d = T / 2; d > 0; d /= 2) {
            if (threadIdx.x < d) {
                float ov = value[threadIdx.x + d], mv = value[threadIdx.x];
                int32_t oi = index[threadIdx.x + d], mi = index[threadIdx.x];
                if (oi >= 0 && (mi < 0 || ov > mv || (ov == mv && oi < mi))) {
                    value[threadIdx.x] = ov;
                    index[threadIdx.x] = oi;
                }
            }
            __syncthreads();
        }
        last = value[0];
        last_at = index[0];
        if (threadIdx.x == 0) best[k] = last_at;
        __syncthreads();
    }
}

__global__ static void __launch_bounds__(T) first_pass(const float *ref, const float *test, const int32_t *target, int64_t vocab, sides *out) {
    __shared__ double terms[2 * TILE], lanes[16];
    __shared__ int bad;
    const float *z[2] = {ref + blockIdx.x * vocab, test ? test + blockIdx.x * vocab : NULL};
    sides *o = &out[blockIdx.x];
    if (threadIdx.x == 0) bad = 0;
    __syncthreads();
    int mine = 0;
    for (int64_t i = threadIdx.x; i < vocab; i += T) mine += !(fabsf(z[0][i]) <= FLT_MAX) + (z[1] && !(fabsf(z[1][i]) <= FLT_MAX));
    if (mine) atomicAdd(&bad, mine);
    __syncthreads();
    if (threadIdx.x == 0) o->nonfinite = bad;
    if (bad) return;
    int n = z[1] ? 2 : 1;
    for (int s = 0; s < n; s++) find_top(z[s], vocab, o->best[s]);
    __syncthreads();
    double top[2], lane = 0;
    for (int s = 0; s < n; s++) top[s] = (double)z[s][o->best[s][0]];
    for (int64_t at = 0; at < vocab; at += TILE) {
        int m = vocab - at < TILE ? (int)(vocab - at) : TILE;
        for (int i = threadIdx.x; i < n * m; i += T) terms[i / m * TILE + i % m] = pm_exp((double)z[i / m][at + i % m] - top[i / m]);
        __syncthreads();
        add_lanes(terms, n, m, &lane);
        __syncthreads();
    }
    if (threadIdx.x < 16) lanes[threadIdx.x] = lane;
    __syncthreads();
    if (threadIdx.x >= n) return;
    int s = threadIdx.x, t = target[blockIdx.x];
    o->sum[s] = lane_tree(lanes, s);
    o->top[s] = z[s][o->best[s][0]];
    o->z_target[s] = t >= 0 ? z[s][t] : 0;
    o->at_target[s] = t >= 0 ? pm_exp((double)z[s][t] - top[s]) : 0;
}

/* ln of the sums comes from the host: its libm's last bit is the CPU's. */
__global__ static void __launch_bounds__(T) second_pass(const float *ref, const float *test, const sides *first, const double *ln, int64_t vocab, double *out) {
    __shared__ double terms[4 * TILE], lanes[32];
    const float *r = ref + blockIdx.x * vocab, *t = test + blockIdx.x * vocab;
    const sides *f = &first[blockIdx.x];
    if (f->nonfinite) return;
    double inv_r = 1.0 / f->sum[0], inv_t = 1.0 / f->sum[1], top_r = (double)f->top[0], top_t = (double)f->top[1], lr = ln[2 * blockIdx.x], lt = ln[2 * blockIdx.x + 1], lane = 0;
    for (int64_t at = 0; at < vocab; at += TILE) {
        int len = vocab - at < TILE ? (int)(vocab - at) : TILE;
        for (int i = threadIdx.x; i < len; i += T) {
            double zr = (double)r[at + i] - top_r, zt = (double)t[at + i] - top_t, ln_r = zr - lr, ln_t = zt - lt;
            double p = pm_exp(zr) * inv_r, q = pm_exp(zt) * inv_t, m = 0.5 * (p + q), lm = pm_log(m > 1e-300 ? m : 1e-300), diff = ln_r - ln_t;
            terms[i] = p * diff;
            terms[TILE + i] = -(q * diff);
            terms[2 * TILE + i] = m > 1e-300 ? 0.5 * (p * (ln_r - lm) + q * (ln_t - lm)) : 0.0;
            terms[3 * TILE + i] = 0.5 * fabs(p - q);
        }
        __syncthreads();
        add_lanes(terms, 4, len, &lane);
        __syncthreads();
    }
    if (threadIdx.x < 32) lanes[threadIdx.x] = lane;
    __syncthreads();
    if (threadIdx.x < 4) out[4 * blockIdx.x + threadIdx.x] = lane_tree(lanes, threadIdx.x);
}

static void finish(const sides *s, const double *ln, const double *sums, bool test, int32_t target, int64_t vocab, dsb_logit_row *o) {
    int m = vocab < TOP ? (int)vocab : TOP;
    memset(o, 0, sizeof *o);
    o->nonfinite = s->nonfinite;
    if (s->nonfinite) return;
    o->top_ref = s->best[0][0];
    o->conf_ref = 1.0 / s->sum[0];
    if (target >= 0) {
        o->nll_ref = ln[0] - ((double)s->z_target[0] - (double)s->top[0]);
        o->p_ref = s->at_target[0] / s->sum[0];
    }
    if (!test) return;
    o->top_test = s->best[1][0];
    if (target >= 0) {
        o->nll_test = ln[1] - ((double)s->z_target[1] - (double)s->top[1]);
        o->p_test = s->at_target[1] / s->sum[1];
    }
    o->overlap5 = pm_overlap(s->best[0], s->best[1], m < 5 ? m : 5);
    o->overlap10 = pm_overlap(s->best[0], s->best[1], m);
    o->kld = sums[0];
    o->kld_reverse = sums[1];
    o->js = sums[2];
    o->tv = sums[3];
}

static void logit_rows(const float *ref, const float *test, const int32_t *target, int64_t n, int64_t vocab, dsb_logit_row *out) {
    size_t bytes = (size_t)n * (sizeof(sides) + 6 * sizeof(double) + sizeof(int32_t));
    char *dev = n > 0 ? (char *)cu_take(bytes) : NULL, *host = (char *)calloc(bytes + 1, 1);
    if (dev && host) {
        sides *d_first = (sides *)dev, *first = (sides *)host;
        double *d_ln = (double *)(d_first + n), *d_sums = d_ln + 2 * n, *ln = (double *)(first + n), *sums = ln + 2 * n;
        int32_t *d_target = (int32_t *)(d_sums + 4 * n), *t = (int32_t *)(sums + 4 * n);
        for (int64_t i = 0; i < n; i++) t[i] = target ? target[i] : -1;
        cu_to_device(d_target, t, (size_t)n * sizeof *t);
        first_pass<<<(unsigned)n, T, 0, cu_stream>>>(ref, test, d_target, vocab, d_first);
        if (CU_LAUNCHED("first_pass")) cu_to_host(first, d_first, (size_t)n * sizeof *first);
        for (int64_t i = 0; i < 2 * n; i++) ln[i] = log(first[i / 2].sum[i % 2]);
        if (test) {
            cu_to_device(d_ln, ln, (size_t)(2 * n) * sizeof *ln);
            second_pass<<<(unsigned)n, T, 0, cu_stream>>>(ref, test, d_first, d_ln, vocab, d_sums);
            if (CU_LAUNCHED("second_pass")) cu_to_host(sums, d_sums, (size_t)(4 * n) * sizeof *sums);
        }
        for (int64_t i = 0; i < n; i++) finish(&first[i], ln + 2 * i, sums + 4 * i, test != NULL, t[i], vocab, &out[i]);
    } else if (n > 0) {
        CU(cudaErrorMemoryAllocation);
    }
    free(host);
    cu_drop(dev);
}

void cu_reduce_fill(dsb_backend *b) {
    b->moments = moments;
    b->moments_later = moments_later;
    b->settle = settle;
    b->absmax = absmax;
    b->histogram = histogram;
    b->channel_sums = channel_sums;
    b->gram = gram;
    b->logit_rows = logit_rows;
}
