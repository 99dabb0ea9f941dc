#include "metrics/metric_table.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LOWER DSB_BETTER_LOWER
#define HIGHER DSB_BETTER_HIGHER
#define NONE DSB_BETTER_NONE
#define INF INFINITY

static const dsb_metric metric_table[] = {
    /* tensors and layers */
    { "nmse", "1", LOWER, 0, INF, "sum (x-y)^2 / sum x^2; x reference, y test" },
    { "rel_l2", "1", LOWER, 0, INF, "sqrt(nmse)" },
    { "sqnr_db", "dB", HIGHER, -INF, INF, "-10 log10(nmse); infinite when identical" },
    { "cosine", "1", HIGHER, -1, 1, "sum xy / sqrt(sum x^2 sum y^2)" },
    { "max_abs", "1", LOWER, 0, INF, "max |x-y|" },
    { "f16_headroom_bits", "bit", HIGHER, -INF, INF, "log2(65504 / max |y|) of an activation" },
    { "saturation", "share", LOWER, 0, 1, "share of activations clipped by a static scale" },
    /* logits */
    { "nll", "nats/token", LOWER, 0, INF, "mean -ln q(next token) over scored positions" },
    { "ppl", "1", LOWER, 1, INF, "exp(nll)" },
    { "delta_nll", "nats/token", LOWER, -INF, INF, "mean (nll of test - nll of reference)" },
    { "delta_nll_design_effect", "1", NONE, 0, INF, "(SE of delta_nll from chunks / SE as if positions were independent)^2" },
    { "ppl_ratio", "1", LOWER, 0, INF, "exp(delta_nll)" },
    { "bits_per_byte", "bit/byte", LOWER, 0, INF, "sum nll / (ln 2 * bytes scored)" },
    { "kld_mean", "nats/token", LOWER, 0, INF, "mean of KLD = sum p (ln p - ln q)" },
    { "kld_mean_design_effect", "1", NONE, 0, INF, "(SE of kld_mean from chunks / SE as if positions were independent)^2" },
    { "kld_median", "nats/token", LOWER, 0, INF, "median of KLD" },
    { "kld_p90", "nats/token", LOWER, 0, INF, "90th percentile of KLD" },
    { "kld_p95", "nats/token", LOWER, 0, INF, "95th percentile of KLD" },
    { "kld_p99", "nats/token", LOWER, 0, INF, "99th percentile of KLD" },
    { "kld_p999", "nats/token", LOWER, 0, INF, "99.9th percentile of KLD" },
    { "kld_max", "nats/token", LOWER, 0, INF, "largest KLD" },
    { "kld_reverse_mean", "nats/token", LOWER, 0, INF, "mean sum q (ln q - ln p)" },
    { "js_mean", "nats/token", LOWER, 0, INF, "mean Jensen-Shannon divergence" },
    { "tv_mean", "share", LOWER, 0, 1, "mean total variation, 1/2 sum |p-q|" },
    { "top1_agreement", "share", HIGHER, 0, 1, "share of positions with the same argmax" },
    { "top5_agreement", "share", HIGHER, 0, 1, "mean |top5 of p and of q| / 5" },
    { "top10_agreement", "share", HIGHER, 0, 1, "mean |top10 of p and of q| / 10" },
    { "flips_right_to_wrong", "tokens", LOWER, 0, INF, "argmax right in the reference, wrong in the test" },
    { "flips_wrong_to_right", "tokens", NONE, 0, INF, "argmax wrong in the reference, right in the test" },
    { "delta_p_mean", "share", HIGHER, -1, 1, "mean q(true) - p(true)" },
    { "delta_p_rms", "share", LOWER, 0, 1, "root mean square of q(true) - p(true)" },
    { "delta_p_p01", "share", HIGHER, -1, 1, "1st percentile of q(true) - p(true)" },
    { "delta_p_p05", "share", HIGHER, -1, 1, "5th percentile of q(true) - p(true)" },
    { "delta_p_p50", "share", HIGHER, -1, 1, "median of q(true) - p(true)" },
    { "delta_p_p95", "share", NONE, -1, 1, "95th percentile of q(true) - p(true)" },
    { "delta_p_p99", "share", NONE, -1, 1, "99th percentile of q(true) - p(true)" },
    { "top1_accuracy", "share", HIGHER, 0, 1, "share of positions whose argmax is the true next token" },
    { "top1_accuracy_ref", "share", NONE, 0, 1, "top1_accuracy of the reference" },
    { "accuracy_kept", "share", HIGHER, 0, INF, "top1_accuracy / top1_accuracy_ref" },
    { "nonfinite_positions", "tokens", LOWER, 0, INF, "positions with a NaN or infinite logit" },
    /* multiple choice */
    { "acc", "share", HIGHER, 0, 1, "share of items whose right choice has the largest log-likelihood" },
    { "acc_norm", "share", HIGHER, 0, 1, "share of items whose right choice has the largest log-likelihood per character" },
    { "delta_acc", "share", HIGHER, -1, 1, "acc - acc of the reference" },
    { "delta_acc_norm", "share", HIGHER, -1, 1, "acc_norm - acc_norm of the reference" },
    { "acc_changed", "share", LOWER, 0, 1, "share of items answered otherwise than by the reference" },
    { "acc_norm_changed", "share", LOWER, 0, 1, "the same, by log-likelihood per character" },
    { "acc_right_to_wrong", "items", LOWER, 0, INF, "items right in the reference, wrong in the test" },
    { "acc_wrong_to_right", "items", NONE, 0, INF, "items wrong in the reference, right in the test" },
    { "acc_norm_right_to_wrong", "items", LOWER, 0, INF, "the same, by log-likelihood per character" },
    { "acc_norm_wrong_to_right", "items", NONE, 0, INF, "the same, by log-likelihood per character" },
    /* routing */
    { "selection_change", "share", LOWER, 0, 1, "share of tokens whose expert set differs: A != B" },
    { "slot_change", "share", LOWER, 0, 1, "1 - |A and B| / k" },
    { "jaccard", "share", HIGHER, 0, 1, "mean |A and B| / |A or B|" },
    { "top1_change", "share", LOWER, 0, 1, "share of tokens whose heaviest expert differs" },
    { "gate_l1", "share", LOWER, 0, 1, "1/2 sum |a_e - b_e| of normalised gate weights" },
    { "mass_lost", "share", LOWER, 0, 1, "gate weight of the experts in A that B lacks" },
    { "router_kld", "nats/token", LOWER, 0, INF, "KLD of the full router distribution" },
    { "group_change", "share", LOWER, 0, 1, "share of tokens whose experts come from other groups" },
    { "rank_of_new", "rank", LOWER, 1, INF, "mean reference rank (1 = best) of newly chosen experts" },
    { "predicted_change", "share", NONE, 0, 1, "flip rate that the score error alone predicts: 1/2 P(|error difference| > margin)" },
    { "any_change", "share", LOWER, 0, 1, "share of tokens whose expert set differs in some layer" },
    { "first_layer_mean", "layer", NONE, 0, INF, "mean number of the first layer where a token's expert set differs" },
    { "slots_kld_correlation", "1", NONE, -1, 1, "Pearson of a scored token's changed slots, all layers, with its KLD" },
    { "load_cv", "1", NONE, 0, INF, "coefficient of variation of the test's hits per expert" },
    { "load_cv_ref", "1", NONE, 0, INF, "coefficient of variation of the reference's hits per expert" },
    { "load_entropy", "nats", NONE, 0, INF, "entropy of the test's hits" },
    { "load_entropy_ref", "nats", NONE, 0, INF, "entropy of the reference's hits" },
    { "load_tv", "share", LOWER, 0, 1, "total variation between both hit histograms" },
    { "experts_gained_all", "experts", LOWER, 0, INF, "experts that only the test uses" },
    { "experts_lost_all", "experts", LOWER, 0, INF, "experts that only the reference uses" },
    /* the figures of llama-perplexity --kl-divergence, in its arithmetic; lo and hi are its +- */
    { "llama_ppl", "1", LOWER, 0, INF, "Mean PPL(Q)" },
    { "llama_ppl_base", "1", NONE, 0, INF, "Mean PPL(base)" },
    { "llama_ppl_correlation", "1", HIGHER, -INF, INF, "Cor(ln(PPL(Q)), ln(PPL(base)))" },
    { "llama_ln_ratio", "nats/token", LOWER, -INF, INF, "Mean ln(PPL(Q)/PPL(base))" },
    { "llama_ppl_ratio", "1", LOWER, 0, INF, "Mean PPL(Q)/PPL(base)" },
    { "llama_ppl_diff", "1", LOWER, -INF, INF, "Mean PPL(Q)-PPL(base)" },
    { "llama_kld_mean", "nats/token", LOWER, -INF, INF, "Mean KLD" },
    { "llama_kld_max", "nats/token", LOWER, -INF, INF, "Maximum KLD" },
    { "llama_kld_p999", "nats/token", LOWER, -INF, INF, "99.9% KLD" },
    { "llama_kld_p99", "nats/token", LOWER, -INF, INF, "99.0% KLD" },
    { "llama_kld_p95", "nats/token", LOWER, -INF, INF, "95.0% KLD" },
    { "llama_kld_p90", "nats/token", LOWER, -INF, INF, "90.0% KLD" },
    { "llama_kld_median", "nats/token", LOWER, -INF, INF, "Median KLD" },
    { "llama_kld_p10", "nats/token", LOWER, -INF, INF, "10.0% KLD" },
    { "llama_kld_p05", "nats/token", LOWER, -INF, INF, "5.0% KLD" },
    { "llama_kld_p01", "nats/token", LOWER, -INF, INF, "1.0% KLD" },
    { "llama_kld_p001", "nats/token", LOWER, -INF, INF, "0.1% KLD" },
    { "llama_kld_min", "nats/token", LOWER, -INF, INF, "Minimum KLD" },
    { "llama_delta_p_mean", "share", HIGHER, -INF, INF, "Mean delta p (llama.cpp prints percent)" },
    { "llama_delta_p_max", "share", NONE, -INF, INF, "Maximum delta p" },
    { "llama_delta_p_p999", "share", NONE, -INF, INF, "99.9% delta p" },
    { "llama_delta_p_p99", "share", NONE, -INF, INF, "99.0% delta p" },
    { "llama_delta_p_p95", "share", NONE, -INF, INF, "95.0% delta p" },
    { "llama_delta_p_p90", "share", NONE, -INF, INF, "90.0% delta p" },
    { "llama_delta_p_p75", "share", NONE, -INF, INF, "75.0% delta p" },
    { "llama_delta_p_median", "share", HIGHER, -INF, INF, "Median delta p" },
    { "llama_delta_p_p25", "share", HIGHER, -INF, INF, "25.0% delta p" },
    { "llama_delta_p_p10", "share", HIGHER, -INF, INF, "10.0% delta p" },
    { "llama_delta_p_p05", "share", HIGHER, -INF, INF, "5.0% delta p" },
    { "llama_delta_p_p01", "share", HIGHER, -INF, INF, "1.0% delta p" },
    { "llama_delta_p_p001", "share", HIGHER, -INF, INF, "0.1% delta p" },
    { "llama_delta_p_min", "share", HIGHER, -INF, INF, "Minimum delta p" },
    { "llama_delta_p_rms", "share", LOWER, -INF, INF, "RMS delta p" },
    { "llama_same_top", "share", HIGHER, -INF, INF, "Same top p" },
    /* throughput and size */
    { "prefill_tps", "token/s", HIGHER, 0, INF, "prompt tokens a second, median of repeats" },
    { "decode_tps", "token/s", HIGHER, 0, INF, "generated tokens a second, median of repeats" },
    { "ttft_ms", "ms", LOWER, 0, INF, "time to the first token" },
    { "tpot_ms", "ms", LOWER, 0, INF, "time per generated token" },
    { "tpot_p50_ms", "ms", LOWER, 0, INF, "median time of one generated token, over all repeats" },
    { "tpot_p99_ms", "ms", LOWER, 0, INF, "99th percentile of the time of one generated token, over all repeats" },
    { "bpw", "bit/weight", LOWER, 0, INF, "8 * stored bytes (scales included) / weights" },
    { "weight_bytes", "byte", LOWER, 0, INF, "stored bytes of all weights" },
};

enum { METRIC_COUNT = sizeof metric_table / sizeof metric_table[0] };

int dsb_metric_list(const dsb_metric **rows) {
    *rows = metric_table;
    return METRIC_COUNT;
}

const dsb_metric *dsb_metric_find(const char *name) {
    for (int i = 0; i < METRIC_COUNT; i++)
        if (!strcmp(metric_table[i].name, name)) return &metric_table[i];
    return NULL;
}

const char *dsb_better_name(dsb_better better) {
    switch (better) {
    case DSB_BETTER_LOWER: return "lower";
    case DSB_BETTER_HIGHER: return "higher";
    default: return "-";
    }
}
