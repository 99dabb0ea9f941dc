/* A layer's experts in one piece (kernels/cuda/moe.cu), checked against the single rows on fresh random inputs, then timed at the shapes of
 * DeepSeek-V2-Lite and V3: `build/experts_cuda [check|v2-lite|v3] [FORMAT]`. INT8: bit for bit. Float formats add in another order, so BF16 values between
 * the products may fall on the other side: the RMS of the difference stays below one BF16 rounding (2^-8) of the RMS; FP8: tensor cores keep some
 * 14 bits of a sum, so what is quantized again differs by up to 2^-7 of itself, and one code in 2^4 by a step of at most 2^-3: below sqrt(2^-7 · 2^-3). A figure is the median of 40 replays of a graph after a warm-up; 256 MB
 * are written before each, so that no weight lies in the cache. TOPS counts 2·tokens·k·3·d·ff, TB/s the weights of the experts hit. */
#include <algorithm>
#include <stdio.h>
#include <string.h>
#include <string>
#include <time.h>
#include <vector>

#include "kernels/cuda/device.cuh"
extern "C" {
#include "kernels/cuda/plugin.h"
const dsb_backend *dsb_cuda_open(int abi, int device, char *why, size_t room);
}

struct shape {
    const char *name;
    int experts, k, d, ff;
    std::vector<int> tokens;
};
static const shape k_check[] = {{"small", 4, 2, 64, 32, {1, 5, 40, 300}}, {"narrow", 64, 6, 256, 128, {1, 8, 64, 500, 3000}}, {"seven", 7, 3, 2048, 1408, {1, 9, 100, 600}}};
static const shape k_bench[] = {{"v2-lite", 64, 6, 2048, 1408, {1, 8, 64, 512, 4096, 16384}}, {"v3", 256, 8, 7168, 2048, {1, 8, 64, 512, 4096, 16384}}};

static const dsb_backend *be;
static uint64_t state;
static uint32_t next() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 16);
}
static float unit() { return (float)(int32_t)next() / 2147483648.0f; }
static float bell() { return (unit() + unit() + unit() + unit() + unit() + unit()) * 0.707f; }

static void must() {
    dsb_err err;
    if (!be->check(&err)) return;
    printf("%s\n", err.text);
    exit(1);
}

template <class T> struct buffer {
    T *p;
    size_t n;
    explicit buffer(size_t n) : p((T *)cu_take(n * sizeof(T))), n(n) { must(); }
    explicit buffer(const std::vector<T> &v) : buffer(v.size()) { cu_to_device(p, v.data(), n * sizeof(T)); }
    buffer(const buffer &) = delete;
    ~buffer() { cu_drop(p); }
    std::vector<T> host() const {
        std::vector<T> v(n);
        cu_to_host(v.data(), p, n * sizeof(T));
        must();
        return v;
    }
};

struct format {
    const char *name;
    dsb_experts_act act;
    double bits, read, bound; /* of a weight's code; the same with its scale, as the kernels read it; of the difference's RMS against the RMS, 0: none */
    dsb_wkind kind;
    dsb_packed packed;
    int64_t group;
};
static const format k_formats[] = {
    {"int8", DSB_EXPERTS_INT8, 8, 8, 0, DSB_W_I8},
    {"fp8", DSB_EXPERTS_E4M3, 8, 8, 0x1p-5, DSB_W_BLOCK, {DSB_PACKED_fp8_e4m3}},
    {"bf16", DSB_EXPERTS_PLAIN, 16, 16, 0x1p-8, DSB_W_BF16},
    {"w4a16", DSB_EXPERTS_PLAIN, 4, 4.375, 0x1p-8, DSB_W_BLOCK, {DSB_PACKED_w4a16}, 128},
    {"w4a16-32", DSB_EXPERTS_PLAIN, 4, 5.5, 0x1p-8, DSB_W_BLOCK, {DSB_PACKED_w4a16}, 32},
    {"mxfp4", DSB_EXPERTS_PLAIN, 4, 5, 0x1p-8, DSB_W_BLOCK, {DSB_PACKED_mxfp4}, 32},
    {"w4a8", DSB_EXPERTS_INT8, 4, 4.25, 0, DSB_W_I4, {}, 128},
    {"w4a8-32", DSB_EXPERTS_INT8, 4, 5, 0, DSB_W_I4, {}, 32},
};

/* An expert's matrix as the fused experts take it, and as the single rows multiply it. */
struct matrix {
    dsb_wmat fused, rows;
};

static void free_matrix(matrix *m) {
    if (m->rows.data && m->rows.data != m->fused.data) be->unpack(&m->rows);
    be->unpack(&m->fused);
}

/* rows too: also what the single rows need. */
static matrix make_matrix(const format &f, int64_t rows, int64_t cols, bool both) {
    matrix m = {};
    dsb_err err;
    dsb_status st = DSB_OK;
    int64_t group = f.group ? f.group : cols, groups = cols / group;
    std::vector<float> w(rows * cols), scale(rows * groups);
    for (auto &v : scale) v = (1.0f + unit() * 0.5f) * 4.3f / sqrtf((float)cols);
    if (f.kind == DSB_W_I8 || f.kind == DSB_W_I4) {
        int top = f.kind == DSB_W_I8 ? 127 : 7;
        std::vector<int8_t> codes(rows * cols);
        for (auto &c : codes) c = (int8_t)((int)(next() % (2 * top + 1)) - top);
        for (auto &v : scale) v *= 0.24f / top;
        st = be->pack_int(&m.fused, f.kind, codes.data(), scale.data(), group, rows, cols, &err);
        m.rows = m.fused;
    } else if (f.kind == DSB_W_BLOCK) {
        static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
        dsb_packed how = {f.packed.type, group};
        int head = how.type == DSB_PACKED_w4a16 ? 8 : how.type == DSB_PACKED_mxfp4 ? 1 : 4;
        int64_t block = head + (int64_t)(group * f.bits / 8);
        std::vector<uint8_t> raw(rows * groups * block);
        for (int64_t b = 0; b < rows * groups; b++) {
            uint8_t *to = &raw[b * block];
            float zero = (float)((int)(next() % 7) - 3), s = scale[b] / (how.type == DSB_PACKED_w4a16 ? 20 : 448), *v = &w[b * group];
            int exponent = 121 + (int)(next() % 3);
            if (how.type == DSB_PACKED_mxfp4) *to = (uint8_t)exponent;
            else memcpy(to, &s, 4);
            if (how.type == DSB_PACKED_w4a16) memcpy(to + 4, &zero, 4);
            for (int64_t i = 0; i < group; i++) {
                if (how.type == DSB_PACKED_fp8_e4m3) {
                    float value = bell() / sqrtf((float)cols);
                    to[head + i] = dsb_f32_to_e4m3(value / s);
                    v[i] = pm_e4m3(value / s) * s;
                    continue;
                }
                int code = next() % 16;
                to[head + i / 2] |= (uint8_t)(code << i % 2 * 4);
                v[i] = how.type == DSB_PACKED_mxfp4 ? (code & 8 ? -1 : 1) * ldexpf(e2m1[code & 7], exponent - 127) : ((float)(code - 8) - zero) * s;
            }
        }
        st = be->pack_blocks(&m.fused, &how, raw.data(), rows, cols, &err);
        if (!st && both) st = be->pack_float(&m.rows, DSB_W_F32, w.data(), rows, cols, &err);
    } else {
        for (auto &v : w) v = bell() / sqrtf((float)cols);
        st = be->pack_float(&m.fused, DSB_W_BF16, w.data(), rows, cols, &err);
        m.rows = m.fused;
    }
    if (st) printf("%s\n", err.text), exit(1);
    must();
    return m;
}

struct inputs {
    std::vector<float> x, weight;
    std::vector<int32_t> idx;
    inputs(const shape &s, int n) : x((size_t)n * s.d), weight((size_t)n * s.k), idx((size_t)n * s.k) {
        for (auto &v : x) v = dsb_bf16_to_f32(dsb_f32_to_bf16(bell()));
        for (auto &v : weight) v = 0.5f + 0.4f * unit();
        std::vector<int> all(s.experts);
        for (int t = 0; t < n; t++) {
            for (int e = 0; e < s.experts; e++) all[e] = e;
            for (int j = 0; j < s.k; j++) std::swap(all[j], all[j + next() % (s.experts - j)]);
            std::sort(all.begin(), all.begin() + s.k);
            std::copy(all.begin(), all.begin() + s.k, idx.begin() + (size_t)t * s.k);
        }
    }
};

/* Expert after expert through the single rows, as the engine does without fused experts. */
static std::vector<float> by_rows(const shape &s, const format &f, const std::vector<matrix> &w, const inputs &in, int n) {
    size_t wide = (size_t)n * std::max(s.d, s.ff);
    buffer<float> x(in.x), sum((size_t)n * s.d), g(wide), u(wide), out((size_t)n * s.d), scale(n);
    buffer<int8_t> q(wide);
    auto quantized = [&](float *v, int64_t m, int64_t cols) -> dsb_act {
        if (f.act == DSB_EXPERTS_INT8) be->quantize_dynamic(v, m, cols, q.p, scale.p);
        if (f.act == DSB_EXPERTS_E4M3) be->round_e4m3(v, m, cols, 0, v);
        return {m, cols, f.act == DSB_EXPERTS_INT8 ? NULL : v, q.p, scale.p};
    };
    be->zero(sum.p, sum.n * 4);
    for (int e = 0; e < s.experts; e++) {
        std::vector<int32_t> rows;
        std::vector<float> weight;
        for (size_t i = 0; i < in.idx.size(); i++)
            if (in.idx[i] == e) rows.push_back((int32_t)(i / s.k)), weight.push_back(in.weight[i]);
        if (rows.empty()) continue;
        int64_t m = (int64_t)rows.size();
        buffer<int32_t> at(rows);
        buffer<float> gate(weight);
        be->gather(x.p, at.p, m, s.d, out.p);
        dsb_act a = quantized(out.p, m, s.d);
        be->gemm(&w[3 * e].rows, &a, g.p);
        be->round_bf16(g.p, m * s.ff);
        be->gemm(&w[3 * e + 1].rows, &a, u.p);
        be->round_bf16(u.p, m * s.ff);
        be->silu_mul(g.p, u.p, m * s.ff, true, g.p);
        dsb_act b = quantized(g.p, m, s.ff);
        be->gemm(&w[3 * e + 2].rows, &b, out.p);
        be->round_bf16(out.p, m * s.d);
        be->scatter_add(sum.p, at.p, gate.p, out.p, m, s.d);
    }
    be->round_bf16(sum.p, n * s.d);
    return sum.host();
}

static dsb_experts *fused(const std::vector<matrix> &w, const shape &s, const format &f) {
    dsb_experts *m = NULL;
    dsb_err err;
    std::vector<dsb_wmat> all;
    for (auto &x : w) all.push_back(x.fused);
    if (be->fuse_experts(&m, all.data(), s.experts, s.k, f.act, &err)) printf("%s\n", err.text), exit(1);
    if (!m) printf("%s: the device doesn't take these experts in one piece\n", s.name), exit(1);
    return m;
}

static int check(const shape &s, const format &f) {
    std::vector<matrix> w;
    for (int i = 0; i < 3 * s.experts; i++) w.push_back(make_matrix(f, i % 3 == 2 ? s.d : s.ff, i % 3 == 2 ? s.ff : s.d, true));
    dsb_experts *m = fused(w, s, f);
    int bad = 0;
    for (int n : s.tokens) {
        inputs in(s, n);
        buffer<float> x(in.x), weight(in.weight), y((size_t)n * s.d);
        buffer<int32_t> idx(in.idx);
        CU(cudaMemsetAsync(y.p, 0xff, y.n * 4, cu_stream)); /* what isn't written is NaN */
        be->experts_forward(m, x.p, n, idx.p, weight.p, y.p);
        std::vector<float> got = y.host(), want = by_rows(s, f, w, in, n);
        size_t differ = 0;
        double error = 0, all = 0;
        for (size_t i = 0; i < got.size(); i++) {
            differ += dsb_f32_bits(got[i]) != dsb_f32_bits(want[i]);
            error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
            all += (double)want[i] * want[i];
        }
        be->experts_forward(m, x.p, n, idx.p, weight.p, y.p);
        bool again = y.host() == got, ok = again && (f.bound > 0 ? sqrt(error / all) <= f.bound : differ == 0);
        printf("%s %-8s %-8s %5d tokens: %zu of %zu values differ from the single rows, RMS %.2g of theirs%s\n", ok ? "ok" : "FAILED", f.name, s.name, n, differ, got.size(), sqrt(error / all), again ? "" : "; a second run differs");
        bad += !ok;
    }
    be->experts_release(m);
    for (auto &x : w) free_matrix(&x);
    return bad;
}

static void measure(const shape &s, const format &f) {
    matrix one[3];
    std::vector<matrix> w;
    for (int i = 0; i < 3; i++) one[i] = make_matrix(f, i == 2 ? s.d : s.ff, i == 2 ? s.ff : s.d, false);
    for (int i = 0; i < 3 * s.experts; i++) w.push_back(one[i % 3]); /* one expert's weights for all, to spare the host's time */
    dsb_experts *m = fused(w, s, f);
    for (auto &x : one) free_matrix(&x);
    buffer<char> flush(256 << 20);
    for (int n : s.tokens) {
        inputs in(s, n);
        buffer<float> wide(in.x), weight(in.weight);
        buffer<uint16_t> x(in.x.size()), y(in.x.size());
        buffer<int32_t> idx(in.idx);
        be->store_bf16(wide.p, (int64_t)wide.n, x.p);
        cu_experts_forward_bf16(m, x.p, n, idx.p, weight.p, y.p);
        must();
        cudaGraph_t graph;
        cudaGraphExec_t run;
        cudaEvent_t from, to;
        CU(cudaStreamBeginCapture(cu_stream, cudaStreamCaptureModeThreadLocal));
        cu_experts_forward_bf16(m, x.p, n, idx.p, weight.p, y.p);
        CU(cudaStreamEndCapture(cu_stream, &graph));
        CU(cudaGraphInstantiate(&run, graph, 0));
        CU(cudaEventCreate(&from));
        CU(cudaEventCreate(&to));
        for (int i = 0; i < (n <= 64 ? 1500 : 5); i++) CU(cudaGraphLaunch(run, cu_stream));
        std::vector<float> us;
        for (int i = 0; i < 40; i++) {
            float ms = 0;
            CU(cudaMemsetAsync(flush.p, 0, flush.n, cu_stream));
            CU(cudaEventRecord(from, cu_stream));
            CU(cudaGraphLaunch(run, cu_stream));
            CU(cudaEventRecord(to, cu_stream));
            CU(cudaEventSynchronize(to));
            CU(cudaEventElapsedTime(&ms, from, to));
            us.push_back(ms * 1e3f);
        }
        must();
        std::sort(us.begin(), us.end());
        std::vector<char> hit(s.experts);
        for (int e : in.idx) hit[e] = 1;
        double t = us[us.size() / 2], each = 3.0 * s.d * s.ff, ops = 2.0 * n * s.k * each, bytes = (double)std::count(hit.begin(), hit.end(), 1) * each * f.read / 8;
        printf("%-8s %-8s %6d tokens %9.1f us (%.1f to %.1f) %7.1f TOPS, weights %.2f TB/s\n", s.name, f.name, n, t, us.front(), us.back(), ops / t / 1e6, bytes / t / 1e6);
        fflush(stdout);
        cudaGraphExecDestroy(run);
        cudaGraphDestroy(graph);
        cudaEventDestroy(from);
        cudaEventDestroy(to);
    }
    be->experts_release(m);
}

int main(int argc, char **argv) {
    char why[512];
    std::string what = argc > 1 ? argv[1] : "check";
    be = dsb_cuda_open(DSB_CUDA_ABI, 0, why, sizeof why);
    if (!be) return printf("%s\n", why), 1;
    if (!be->fuse_experts) return printf("skipped: this GPU has no fused experts (Hopper is wanted)\n"), 0;
    state = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15ull | 1;
    int bad = 0, n = 0;
    for (const format &f : k_formats) {
        if (argc > 2 && strcmp(argv[2], f.name)) continue;
        for (const shape &s : k_check)
            if (what == "check" && s.ff % (f.bits < 8 ? 128 : 1) == 0) bad += check(s, f), n += (int)s.tokens.size();
        for (const shape &s : k_bench)
            if (what == s.name) measure(s, f), n++;
    }
    if (n == 0) return printf("usage: %s [check|v2-lite|v3] [FORMAT]\n", argv[0]), 2;
    if (what == "check") printf("%d passed, %d failed\n", n - bad, bad);
    return bad > 0;
}
