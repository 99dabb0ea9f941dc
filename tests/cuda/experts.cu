/* A layer's experts in one piece (kernels/cuda/moe.cu): checked bit for bit against the single rows on fresh random inputs, then timed at the
 * shapes of DeepSeek-V2-Lite and V3: `build/experts_cuda [check|v2-lite|v3]`. A figure is the median of 40 replays of a graph after a warm-up; 256 MB
 * are written before each, so that no weight lies in the cache. TOPS counts 2·tokens·k·3·d·ff, TB/s the weights of the experts hit. */
#include <algorithm>
#include <stdio.h>
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
static const shape k_check[] = {{"small", 4, 2, 64, 32, {1, 5, 40, 300}}, {"narrow", 64, 6, 256, 112, {1, 8, 64, 500, 3000}}, {"seven", 7, 3, 2048, 1408, {1, 9, 100, 600}}};
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

/* Random codes and scales; `same`: one expert's for all, to spare the host's time. */
static std::vector<dsb_wmat> make_weights(const shape &s, bool same) {
    std::vector<dsb_wmat> w(3 * s.experts);
    std::vector<int8_t> codes[3];
    std::vector<float> scales[3];
    for (int e = 0; e < s.experts; e++)
        for (int i = 0; i < 3; i++) {
            int64_t rows = i == 2 ? s.d : s.ff, cols = i == 2 ? s.ff : s.d;
            if (!same || e == 0) {
                codes[i].resize(rows * cols);
                scales[i].resize(rows);
                for (auto &c : codes[i]) c = (int8_t)((int)(next() % 255) - 127);
                for (auto &c : scales[i]) c = (1.0f + unit() * 0.5f) * 0.6f / (74.0f * sqrtf((float)cols));
            }
            dsb_err err;
            if (be->pack_int(&w[3 * e + i], DSB_W_I8, codes[i].data(), scales[i].data(), cols, rows, cols, &err)) printf("%s\n", err.text), exit(1);
        }
    return w;
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
static std::vector<float> by_rows(const shape &s, const std::vector<dsb_wmat> &w, const inputs &in, int n) {
    size_t wide = (size_t)n * std::max(s.d, s.ff);
    buffer<float> x(in.x), sum((size_t)n * s.d), g(wide), u(wide), out((size_t)n * s.d), scale(n);
    buffer<int8_t> q(wide);
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
        be->quantize_dynamic(out.p, m, s.d, q.p, scale.p);
        dsb_act a = {m, s.d, NULL, q.p, scale.p}, b = {m, s.ff, NULL, q.p, scale.p};
        be->gemm(&w[3 * e], &a, g.p);
        be->round_bf16(g.p, m * s.ff);
        be->gemm(&w[3 * e + 1], &a, u.p);
        be->round_bf16(u.p, m * s.ff);
        be->silu_mul(g.p, u.p, m * s.ff, true, g.p);
        be->quantize_dynamic(g.p, m, s.ff, q.p, scale.p);
        be->gemm(&w[3 * e + 2], &b, out.p);
        be->round_bf16(out.p, m * s.d);
        be->scatter_add(sum.p, at.p, gate.p, out.p, m, s.d);
    }
    be->round_bf16(sum.p, n * s.d);
    return sum.host();
}

static dsb_experts *fused(const std::vector<dsb_wmat> &w, const shape &s) {
    dsb_experts *m = NULL;
    dsb_err err;
    if (be->fuse_experts(&m, w.data(), s.experts, s.k, &err)) printf("%s\n", err.text), exit(1);
    if (!m) printf("%s: the device doesn't take these experts in one piece\n", s.name), exit(1);
    return m;
}

static int check(const shape &s) {
    std::vector<dsb_wmat> w = make_weights(s, false);
    dsb_experts *m = fused(w, s);
    int bad = 0;
    for (int n : s.tokens) {
        inputs in(s, n);
        buffer<float> x(in.x), weight(in.weight), y((size_t)n * s.d);
        buffer<int32_t> idx(in.idx);
        CU(cudaMemsetAsync(y.p, 0xff, y.n * 4, cu_stream)); /* what isn't written is NaN */
        be->experts_forward(m, x.p, n, idx.p, weight.p, y.p);
        std::vector<float> got = y.host(), want = by_rows(s, w, in, n);
        size_t differ = 0;
        for (size_t i = 0; i < got.size(); i++) differ += dsb_f32_bits(got[i]) != dsb_f32_bits(want[i]);
        be->experts_forward(m, x.p, n, idx.p, weight.p, y.p);
        bool again = y.host() == got;
        printf("%s %-8s %5d tokens: %zu of %zu values differ from the single rows%s\n", differ || !again ? "FAILED" : "ok", s.name, n, differ, got.size(), again ? "" : "; a second run differs");
        bad += differ || !again;
    }
    be->experts_release(m);
    for (auto &x : w) be->unpack(&x);
    return bad;
}

static void measure(const shape &s) {
    std::vector<dsb_wmat> w = make_weights(s, true);
    dsb_experts *m = fused(w, s);
    for (auto &x : w) be->unpack(&x);
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
        double t = us[us.size() / 2], each = 3.0 * s.d * s.ff, ops = 2.0 * n * s.k * each, bytes = (double)std::count(hit.begin(), hit.end(), 1) * each;
        printf("%-8s int8 %6d tokens %9.1f us (%.1f to %.1f) %7.1f TOPS, weights %.2f TB/s\n", s.name, n, t, us.front(), us.back(), ops / t / 1e6, bytes / t / 1e6);
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
    for (const shape &s : k_check)
        if (what == "check") bad += check(s), n += (int)s.tokens.size();
    for (const shape &s : k_bench)
        if (what == s.name) measure(s), n++;
    if (n == 0) return printf("usage: %s [check|v2-lite|v3]\n", argv[0]), 2;
    if (what == "check") printf("%d passed, %d failed\n", n - bad, bad);
    return bad > 0;
}
