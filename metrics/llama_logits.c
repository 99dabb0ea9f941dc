#include "metrics/llama_logits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Every float below is one where llama.cpp has one: the figures are to agree to the last printed digit, so widths,
 * the order of additions and the -16 cut are part of the definition. */
static const float LP_CUT = -16.f;
enum { MAGIC_BYTES = 8, HEADER_BYTES = MAGIC_BYTES + 12, PRINT_MIN = 100 };
static const char MAGIC[MAGIC_BYTES + 1] = "_logits_";

static int32_t load_i32(const uint8_t *p) { return (int32_t)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24); }
static uint16_t load_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static float load_f32(const uint8_t *p) {
    int32_t bits = load_i32(p);
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static dsb_status header_read(dsb_llama_file *f, const char *path, dsb_err *err) {
    if (f->map.size < HEADER_BYTES || memcmp(f->map.data, MAGIC, MAGIC_BYTES))
        return dsb_fail(err, DSB_EINPUT, "%s: not a llama.cpp logits file: %zu bytes that don't begin with \"%s\" and a header; make one with llama-perplexity --kl-divergence-base", path, f->map.size, MAGIC);
    f->n_ctx = load_i32(f->map.data + 8);
    f->n_vocab = load_i32(f->map.data + 12);
    f->n_chunk = load_i32(f->map.data + 16);
    if (f->n_ctx < 3 || f->n_vocab < 1 || f->n_chunk < 1)
        return dsb_fail(err, DSB_EINPUT, "%s: header says n_ctx %lld, n_vocab %lld, n_chunk %lld; wanted at least 3, 1, 1", path, (long long)f->n_ctx, (long long)f->n_vocab, (long long)f->n_chunk);
    return DSB_OK;
}

static dsb_status layout_check(dsb_llama_file *f, const char *path, dsb_err *err) {
    size_t tokens, rows, size;
    f->first = f->n_ctx / 2;
    f->per_chunk = f->n_ctx - 1 - f->first;
    f->row_bytes = 8 + 2 * ((f->n_vocab + 1) / 2 * 2); /* V codes, padded to an even number */
    bool fits = dsb_mul((size_t)f->n_ctx, (size_t)f->n_chunk, &tokens) && dsb_mul(tokens, 4, &tokens) &&
                dsb_mul((size_t)f->per_chunk, (size_t)f->n_chunk, &rows) && dsb_mul(rows, (size_t)f->row_bytes, &rows) &&
                dsb_add(tokens, rows, &size) && dsb_add(size, HEADER_BYTES, &size);
    if (!fits || size != f->map.size)
        return dsb_fail(err, DSB_EINPUT, "%s: %zu bytes, but n_ctx %lld, n_vocab %lld, n_chunk %lld need %zu; truncated, or written with other settings", path, f->map.size, (long long)f->n_ctx,
                        (long long)f->n_vocab, (long long)f->n_chunk, fits ? size : (size_t)0);
    f->tokens = f->map.data + HEADER_BYTES;
    f->rows = f->tokens + tokens;
    return DSB_OK;
}

static dsb_status tokens_check(const dsb_llama_file *f, const char *path, dsb_err *err) {
    for (int64_t i = 0; i < f->n_ctx * f->n_chunk; i++) {
        int32_t t = load_i32(f->tokens + 4 * i);
        if (t < 0 || t >= f->n_vocab)
            return dsb_fail(err, DSB_EINPUT, "%s: token %lld is %d; wanted 0 to %lld", path, (long long)i, t, (long long)f->n_vocab - 1);
    }
    return DSB_OK;
}

dsb_status dsb_llama_open(dsb_llama_file *f, const char *path, dsb_err *err) {
    memset(f, 0, sizeof *f);
    DSB_TRY(dsb_map_open(&f->map, path, err));
    dsb_status st = header_read(f, path, err);
    if (!st) st = layout_check(f, path, err);
    if (!st) st = tokens_check(f, path, err);
    if (st) dsb_llama_close(f);
    return st;
}

void dsb_llama_close(dsb_llama_file *f) {
    dsb_map_close(&f->map);
    memset(f, 0, sizeof *f);
}

bool dsb_llama_is_logits(const char *path) {
    char head[MAGIC_BYTES];
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    size_t n = fread(head, 1, sizeof head, file);
    fclose(file);
    return n == sizeof head && !memcmp(head, MAGIC, sizeof head);
}

int32_t dsb_llama_token(const dsb_llama_file *f, int64_t chunk, int64_t pos) { return load_i32(f->tokens + 4 * (chunk * f->n_ctx + pos)); }

dsb_llama_row dsb_llama_row_at(const dsb_llama_file *f, int64_t chunk, int64_t i) {
    const uint8_t *p = f->rows + (chunk * f->per_chunk + i) * f->row_bytes;
    return (dsb_llama_row){ load_f32(p), load_f32(p + 4), p + 8 };
}

static float max_of(const float *x, int64_t n, int64_t *at) {
    float max = x[0];
    *at = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > max) max = x[i], *at = i;
    return max;
}

static float log_sum_exp(const float *x, int64_t n, float max) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += expf(x[i] - max);
    return (float)log(sum);
}

void dsb_llama_encode(const float *logits, int64_t n_vocab, float *scale, float *lp_min, uint16_t *q) {
    int64_t at;
    float max = max_of(logits, n_vocab, &at), min = max;
    for (int64_t i = 0; i < n_vocab; i++)
        if (logits[i] < min) min = logits[i];
    if (min < max - 16) min = max - 16;
    *lp_min = min - max - log_sum_exp(logits, n_vocab, max);
    *scale = (max - min) / 65535.f;
    float inverse = *scale != 0 ? 1 / *scale : 0;
    for (int64_t i = 0; i < n_vocab; i++) q[i] = logits[i] > min ? (uint16_t)lrintf(inverse * (logits[i] - min)) : 0;
}

dsb_status dsb_llama_acc_init(dsb_llama_acc *acc, int64_t cap, dsb_err *err) {
    *acc = (dsb_llama_acc){ .cap = cap };
    DSB_TRY(DSB_NEW(acc->kld, cap, "llama.cpp KLD values", err));
    return DSB_NEW(acc->p_diff, cap, "llama.cpp probability differences", err);
}

void dsb_llama_acc_release(dsb_llama_acc *acc) {
    free(acc->kld);
    free(acc->p_diff);
    memset(acc, 0, sizeof *acc);
}

/* Σ p_base·(ln p_base − ln p) over entries above the cut; *top is the base's argmax. norm = max + ln Σexp of the test. */
static double row_kld(const dsb_llama_row *base, const float *test, float norm, int64_t n_vocab, int64_t *top) {
    double sum = 0;
    float best = 0;
    for (int64_t i = 0; i < n_vocab; i++) {
        float lp = base->scale * load_u16(base->q + 2 * i) + base->lp_min;
        if (i == 0 || lp > best) best = lp, *top = i;
        if (lp > LP_CUT) sum += expf(lp) * (lp - test[i] + norm);
    }
    return sum;
}

void dsb_llama_acc_row(dsb_llama_acc *acc, const dsb_llama_row *base, const float *test, bool is_logits, int64_t n_vocab, int32_t target) {
    if (acc->n >= acc->cap) return; /* cap is the number of scored positions: never more */
    int64_t top_test, top_base = -1;
    float max = max_of(test, n_vocab, &top_test), lse = is_logits ? log_sum_exp(test, n_vocab, max) : 0;
    if (!is_logits) max = 0;
    float nll = max + lse - test[target];
    float nll_base = -(base->scale * load_u16(base->q + 2 * (int64_t)target) + base->lp_min);
    double kld = row_kld(base, test, max + lse, n_vocab, &top_base);
    float p_diff = expf(-nll) - expf(-nll_base);
    float nll2 = nll * nll, nll_base2 = nll_base * nll_base, product = nll * nll_base, square = p_diff * p_diff;
    acc->nll += nll;
    acc->nll2 += nll2;
    acc->nll_base += nll_base;
    acc->nll_base2 += nll_base2;
    acc->nll_nll_base += product;
    acc->kld_sum += kld;
    acc->kld_sum2 += kld * kld;
    acc->p_diff_sum += p_diff;
    acc->p_diff2 += square;
    acc->p_diff4 += (double)square * (double)square;
    acc->same_top += top_test == top_base;
    acc->kld[acc->n] = (float)kld;
    acc->p_diff[acc->n++] = p_diff;
}

typedef struct mean {
    double value, unc; /* "±" */
} mean;

static mean mean_of(double sum, double sum2, int64_t n) {
    double value = sum / (double)n, spread = sum2 / (double)n - value * value;
    return (mean){ value, spread > 0 && n > 10 ? sqrt(spread / (double)(n - 1)) : 0 };
}

static int compare_floats(const void *pa, const void *pb) {
    float a = *(const float *)pa, b = *(const float *)pb;
    return (a > b) - (a < b);
}

/* The position is a float, as llama.cpp has it: above 2^24 values it lands beside the exact place. */
static float percentile(const float *x, int64_t n, float phi) {
    float at = phi * (float)(n - 1);
    int64_t i = (int64_t)at;
    at -= (float)i;
    if (i > n - 1) i = n - 1;
    return (1 - at) * x[i] + at * x[i + 1 < n ? i + 1 : n - 1];
}

static float median(const float *x, int64_t n) { return n % 2 ? x[n / 2] : 0.5f * (x[n / 2] + x[n / 2 - 1]); }

static void put(dsb_figures *out, const char *metric, mean m, int64_t n) { dsb_figures_put(out, metric, m.value, m.value - m.unc, m.value + m.unc, n); }

static void put_one(dsb_figures *out, const char *prefix, const char *name, double value, int64_t n) {
    char metric[32];
    snprintf(metric, sizeof metric, "%s_%s", prefix, name);
    dsb_figures_put(out, metric, value, NAN, NAN, n);
}

typedef struct cut {
    const char *name;
    float phi;
} cut;

static void put_cuts(dsb_figures *out, const char *prefix, const float *x, int64_t n, const cut *cuts, int count) {
    put_one(out, prefix, "max", x[n - 1], n);
    for (int i = 0; i < count; i++) put_one(out, prefix, cuts[i].name, cuts[i].phi == 0.5f ? median(x, n) : percentile(x, n, cuts[i].phi), n);
    put_one(out, prefix, "min", x[0], n);
}

static void put_perplexity(const dsb_llama_acc *acc, dsb_figures *out) {
    int64_t n = acc->n;
    double count = (double)n;
    mean test = mean_of(acc->nll, acc->nll2, n), base = mean_of(acc->nll_base, acc->nll_base2, n);
    double cov = (acc->nll_nll_base / count - acc->nll / count * (acc->nll_base / count)) / (count - 1);
    double variance = test.unc * test.unc + base.unc * base.unc - 2 * cov;
    mean ratio = { test.value - base.value, sqrt(variance > 0 ? variance : 0) }; /* llama.cpp prints nan where rounding leaves it below 0 */
    mean ppl = { exp(test.value), exp(test.value) * test.unc }, ppl_base = { exp(base.value), exp(base.value) * base.unc };
    double diff = ppl.unc * ppl.unc + ppl_base.unc * ppl_base.unc - 2 * ppl.value * ppl_base.value * cov;
    put(out, "llama_ppl", ppl, n);
    put(out, "llama_ppl_base", ppl_base, n);
    put_one(out, "llama", "ppl_correlation", cov / (test.unc * base.unc), n);
    put(out, "llama_ln_ratio", ratio, n);
    put(out, "llama_ppl_ratio", (mean){ exp(ratio.value), exp(ratio.value) * ratio.unc }, n);
    put(out, "llama_ppl_diff", (mean){ ppl.value - ppl_base.value, sqrt(diff > 0 ? diff : 0) }, n);
}

static void put_percentiles(const dsb_llama_acc *acc, dsb_figures *out) {
    static const cut kld[] = { { "p999", 0.999f }, { "p99", 0.99f }, { "p95", 0.95f }, { "p90", 0.9f }, { "median", 0.5f },
                               { "p10", 0.1f }, { "p05", 0.05f }, { "p01", 0.01f }, { "p001", 0.001f } };
    static const cut dp[] = { { "p999", 0.999f }, { "p99", 0.99f }, { "p95", 0.95f }, { "p90", 0.9f }, { "p75", 0.75f }, { "median", 0.5f },
                              { "p25", 0.25f }, { "p10", 0.1f }, { "p05", 0.05f }, { "p01", 0.01f }, { "p001", 0.001f } };
    qsort(acc->kld, (size_t)acc->n, sizeof(float), compare_floats);
    qsort(acc->p_diff, (size_t)acc->n, sizeof(float), compare_floats);
    put(out, "llama_kld_mean", mean_of(acc->kld_sum, acc->kld_sum2, acc->n), acc->n);
    put_cuts(out, "llama_kld", acc->kld, acc->n, kld, sizeof kld / sizeof kld[0]);
    put(out, "llama_delta_p_mean", mean_of(acc->p_diff_sum, acc->p_diff2, acc->n), acc->n);
    put_cuts(out, "llama_delta_p", acc->p_diff, acc->n, dp, sizeof dp / sizeof dp[0]);
}

void dsb_llama_figures(dsb_llama_acc *acc, dsb_figures *out) {
    out->n = 0;
    if (acc->n < PRINT_MIN) return;
    put_perplexity(acc, out);
    put_percentiles(acc, out);
    mean square = mean_of(acc->p_diff2, acc->p_diff4, acc->n);
    double rms = sqrt(square.value), same = (double)acc->same_top / (double)acc->n;
    put(out, "llama_delta_p_rms", (mean){ rms, rms > 0 ? 0.5 / rms * square.unc : 0 }, acc->n);
    put(out, "llama_same_top", (mean){ same, sqrt(same * (1 - same) / (double)(acc->n - 1)) }, acc->n);
}

static dsb_status pair_check(const dsb_llama_file *a, const dsb_llama_file *b, const char *base_path, const char *test_path, dsb_err *err) {
    if (a->n_vocab != b->n_vocab)
        return dsb_fail(err, DSB_ECOMPARE, "%s: vocabulary of %lld tokens, %s has %lld; figures need the same one", test_path, (long long)b->n_vocab, base_path, (long long)a->n_vocab);
    if (a->n_ctx != b->n_ctx || a->n_chunk != b->n_chunk)
        return dsb_fail(err, DSB_ECOMPARE, "%s: %lld chunks of %lld tokens, %s has %lld of %lld; make both with the same -c and --chunks", test_path, (long long)b->n_chunk, (long long)b->n_ctx, base_path,
                        (long long)a->n_chunk, (long long)a->n_ctx);
    for (int64_t i = 0; i < a->n_ctx * a->n_chunk; i++)
        if (load_i32(a->tokens + 4 * i) != load_i32(b->tokens + 4 * i))
            return dsb_fail(err, DSB_ECOMPARE, "%s: token %lld is %d, in %s it is %d; both must be made from the same text", test_path, (long long)i, load_i32(b->tokens + 4 * i), base_path, load_i32(a->tokens + 4 * i));
    return DSB_OK;
}

static dsb_status pair_add(const dsb_llama_file *a, const dsb_llama_file *b, dsb_llama_acc *acc, dsb_err *err) {
    float *lp;
    DSB_TRY(DSB_NEW(lp, a->n_vocab, "log-probabilities of one position", err));
    for (int64_t c = 0; c < a->n_chunk; c++) {
        for (int64_t i = 0; i < a->per_chunk; i++) {
            dsb_llama_row base = dsb_llama_row_at(a, c, i), test = dsb_llama_row_at(b, c, i);
            for (int64_t v = 0; v < a->n_vocab; v++) lp[v] = test.scale * load_u16(test.q + 2 * v) + test.lp_min;
            dsb_llama_acc_row(acc, &base, lp, false, a->n_vocab, dsb_llama_token(a, c, a->first + i + 1));
        }
    }
    free(lp);
    return DSB_OK;
}

static dsb_status files_compare(const dsb_llama_file *a, const dsb_llama_file *b, dsb_figures *out, int64_t *n, dsb_err *err) {
    dsb_llama_acc acc;
    dsb_status st = dsb_llama_acc_init(&acc, a->n_chunk * a->per_chunk, err);
    if (!st) st = pair_add(a, b, &acc, err);
    if (!st) dsb_llama_figures(&acc, out);
    *n = acc.n;
    dsb_llama_acc_release(&acc);
    return st;
}

dsb_status dsb_llama_compare(const char *base_path, const char *test_path, dsb_figures *out, int64_t *n, dsb_err *err) {
    dsb_llama_file a, b;
    DSB_TRY(dsb_llama_open(&a, base_path, err));
    dsb_status st = dsb_llama_open(&b, test_path, err);
    if (!st) {
        st = pair_check(&a, &b, base_path, test_path, err);
        if (!st) st = files_compare(&a, &b, out, n, err);
        dsb_llama_close(&b);
    }
    dsb_llama_close(&a);
    return st;
}
