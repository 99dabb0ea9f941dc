/* llama.cpp's `_logits_` files and the figures of `llama-perplexity --kl-divergence`, in its own arithmetic.
 * They live under their own names (llama_*) and are never mixed with ours. Source: docs/METRICS.md, "llama.cpp-compatible figures". */
#ifndef DSB_METRICS_LLAMA_LOGITS_H
#define DSB_METRICS_LLAMA_LOGITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"
#include "metrics/figure.h"

/* One scored position: ln p(i) = scale·q[i] + lp_min in f32. */
typedef struct dsb_llama_row {
    float scale, lp_min;
    const uint8_t *q; /* V little-endian uint16, 2-byte aligned or not; borrowed */
} dsb_llama_row;

/* An open file; rows are read from its map. */
typedef struct dsb_llama_file {
    dsb_map map;
    int64_t n_ctx, n_vocab, n_chunk;
    int64_t first, per_chunk; /* scored positions of a chunk: first .. first + per_chunk − 1 (⌊n_ctx/2⌋ … n_ctx−2) */
    const uint8_t *tokens;    /* n_ctx·n_chunk little-endian int32 */
    const uint8_t *rows;
    int64_t row_bytes;
} dsb_llama_file;

/* DSB_EINPUT names the path and what is wrong: magic, absurd header, size unlike n_ctx × n_vocab × n_chunk. */
dsb_status dsb_llama_open(dsb_llama_file *f, const char *path, dsb_err *err);
void dsb_llama_close(dsb_llama_file *f);
/* True if the file begins with the magic (false too if it can't be read). */
bool dsb_llama_is_logits(const char *path);
int32_t dsb_llama_token(const dsb_llama_file *f, int64_t chunk, int64_t pos);
dsb_llama_row dsb_llama_row_at(const dsb_llama_file *f, int64_t chunk, int64_t i);

/* Logits (n_vocab) → what llama.cpp would store of them; q (n_vocab) is the caller's. */
void dsb_llama_encode(const float *logits, int64_t n_vocab, float *scale, float *lp_min, uint16_t *q);

/* Sums of a run. Rows come in position order; kld and p_diff are kept for the percentiles. */
typedef struct dsb_llama_acc {
    int64_t n, cap, same_top;
    double nll, nll2, nll_base, nll_base2, nll_nll_base;
    double kld_sum, kld_sum2, p_diff_sum, p_diff2, p_diff4;
    float *kld, *p_diff; /* (cap) owned */
} dsb_llama_acc;
dsb_status dsb_llama_acc_init(dsb_llama_acc *acc, int64_t cap, dsb_err *err);
void dsb_llama_acc_release(dsb_llama_acc *acc);
/* One position: test (n_vocab) f32. is_logits: raw logits, else ln p already (from another `_logits_` file: not renormalised). */
void dsb_llama_acc_row(dsb_llama_acc *acc, const dsb_llama_row *base, const float *test, bool is_logits, int64_t n_vocab, int32_t target);

/* llama_ppl, llama_ppl_base, llama_ln_ratio, llama_kld_mean, …; lo, hi = value ∓ llama.cpp's "±". Nothing below n = 100.
 * Sorts acc->kld and acc->p_diff. */
void dsb_llama_figures(dsb_llama_acc *acc, dsb_figures *out);

/* Two files, the base and the test. DSB_ECOMPARE if contexts, vocabularies or tokens differ. */
dsb_status dsb_llama_compare(const char *base_path, const char *test_path, dsb_figures *out, int64_t *n, dsb_err *err);

#endif
