/* Figures of a whole run from one dsb_logit_row a position: perplexity, divergence, agreement, flips.
 * Source: docs/METRICS.md, "Logits". Sums are per chunk, added in chunk order, so that threads and resume change no bit.
 * A position with a non-finite logit makes every figure that would average it NaN, and is counted and located. */
#ifndef DSB_METRICS_LOGITS_H
#define DSB_METRICS_LOGITS_H

#include <stdint.h>

#include "base/moments.h"
#include "base/status.h"
#include "metrics/figure.h"

/* One scheme's rows against the reference; all borrowed. Every row is a scored position. */
typedef struct dsb_logit_run {
    const dsb_logit_row *rows;  /* (n), in position order */
    const int32_t *target;      /* (n) the true next token; -1: has none, counts for divergence and agreement only */
    const int64_t *chunk_start; /* (n_chunk + 1) row offsets: chunk c is rows chunk_start[c] .. chunk_start[c+1]-1 */
    int64_t n_chunk;
    int64_t bytes_scored; /* UTF-8 bytes of the targets; 0: unknown, no bits_per_byte */
} dsb_logit_run;

/* Fills the list with docs/METRICS.md's names; intervals are 95 % bootstrap-t over chunks (fixed seed), NaN below 4 chunks
 * and for percentiles and counts. DSB_EINPUT if there is no row or the offsets don't ascend. */
dsb_status dsb_logit_figures(const dsb_logit_run *run, dsb_figures *out, dsb_err *err);
/* The reference's own: nll, ppl, bits_per_byte, top1_accuracy, from nll_ref and top_ref only. */
dsb_status dsb_logit_figures_reference(const dsb_logit_run *run, dsb_figures *out, dsb_err *err);

/* Means over one chunk (table chunk_quality); nll and accuracy are NaN if the chunk has no target, all if a logit is not finite. */
typedef struct dsb_logit_chunk {
    int64_t n, n_target;
    double nll_ref, nll_test, kld, top1; /* top1: share of equal argmax */
    double accuracy_ref, accuracy_test;  /* share whose argmax is the target */
} dsb_logit_chunk;
void dsb_logit_chunks(const dsb_logit_run *run, dsb_logit_chunk *out /* (n_chunk) */);

/* Positions by the reference's confidence (its largest probability): bucket b holds [b/10, (b+1)/10), the last one 1 too. */
enum { DSB_LOGIT_BUCKETS = 10 };
typedef struct dsb_logit_bucket {
    int64_t n;
    double kld_mean, top1_agreement; /* NaN if empty */
    int64_t right_to_wrong, wrong_to_right;
} dsb_logit_bucket;
void dsb_logit_buckets(const dsb_logit_run *run, dsb_logit_bucket out[DSB_LOGIT_BUCKETS]);

/* KLD counts in ten log10 bins a decade from 1e-8 to 10: bin i holds [10^(−8+i/10), 10^(−8+(i+1)/10)). */
enum { DSB_KLD_BINS = 90 };
typedef struct dsb_kld_histogram {
    int64_t under, bin[DSB_KLD_BINS], over; /* under: below 1e-8, zeros included */
} dsb_kld_histogram;
void dsb_kld_histogram_fill(const dsb_logit_run *run, dsb_kld_histogram *out);
/* Lower edge of bin i, i = 0 .. DSB_KLD_BINS. */
double dsb_kld_bin_edge(int i);

/* Row of the first position with a non-finite logit, -1 if there is none; *count (may be NULL) how many there are. */
int64_t dsb_logit_first_nonfinite(const dsb_logit_run *run, int64_t *count);

#endif
