/* Routing drift of one MoE layer: which experts the test picks where the reference picked others, and by how much.
 * Source: docs/METRICS.md, "Routing". One accumulator per (scheme, layer, kind: isolated, block, accumulated).
 * A call of _add is one chunk: its partial sums are made from zero, then added, so adding in chunk order
 * and merging per-chunk accumulators in chunk order give the same bits. */
#ifndef DSB_METRICS_ROUTING_H
#define DSB_METRICS_ROUTING_H

#include <stdint.h>

#include "base/status.h"
#include "metrics/figure.h"

/* One chunk's routing by both; borrowed. E = n_expert. idx ascend by expert id within a token. */
typedef struct dsb_routing_pair {
    int64_t n;
    const int32_t *ref_idx, *test_idx;      /* (n, k) */
    const float *ref_weight, *test_weight;  /* (n, k) gate weights, of any scale: they are normalised to sum 1 here */
    const float *ref_scores, *test_scores;  /* (n, E) before bias; both or neither (NULL: no router_kld, rank, prediction) */
    const float *ref_bias, *test_bias;      /* (E) or NULL */
    const float *ref_margin;                /* (n) or NULL */
    int32_t *changed;                       /* out (n) |A∖B| of each token, or NULL */
} dsb_routing_pair;

/* Log-spaced bins of margins and score errors: 8 an octave from 2^-26 to 2^4; smaller and larger ones fall into the end bins.
 * Bounded memory whatever the number of tokens, and counts add exactly; a bin is 9 % wide. */
enum { DSB_MARGIN_BINS = 240 };

typedef struct dsb_routing_acc {
    int64_t n_expert, k, n_group;
    int64_t n;                                /* tokens */
    int64_t changed_tokens, changed_slots, changed_top1, changed_groups;
    int64_t new_slots;                        /* behind rank_sum */
    int64_t n_scored;                         /* tokens with scores */
    double jaccard, gate_l1, mass_lost, router_kld, rank_sum; /* sums over tokens (rank: over new slots) */
    int64_t margin_n[DSB_MARGIN_BINS], margin_changed[DSB_MARGIN_BINS]; /* tokens by reference margin; of those, changed */
    int64_t error_n[DSB_MARGIN_BINS];         /* tokens by |score error difference| of the boundary pair */
    int64_t error_zero;                       /* tokens where that is exactly 0 */
    int64_t *hits_ref, *hits_test;            /* (E) owned: tokens sent to each expert */
    int64_t *moved_away, *moved_toward;       /* (E) owned: slots only the reference, only the test gave it */
} dsb_routing_acc;

/* n_group <= 1: no groups. DSB_EINPUT for k outside 1 .. n_expert or groups that don't divide the experts, DSB_ENOMEM. */
dsb_status dsb_routing_acc_init(dsb_routing_acc *acc, int64_t n_expert, int64_t k, int64_t n_group, dsb_err *err);
void dsb_routing_acc_release(dsb_routing_acc *acc);
/* Empties it, keeping its shape. */
void dsb_routing_acc_clear(dsb_routing_acc *acc);
void dsb_routing_acc_add(dsb_routing_acc *acc, const dsb_routing_pair *pair);
/* a += b; same shape. */
void dsb_routing_acc_merge(dsb_routing_acc *a, const dsb_routing_acc *b);

/* Pair for predictions: the weakest expert kept by the reference and the best one not kept (of those not above it, as
 * group limits may exclude better ones); its score error difference is how far the test moved one against the other. */

/* selection_change, slot_change, jaccard, top1_change, gate_l1, mass_lost, router_kld, group_change, rank_of_new,
 * predicted_change, load_*: values over tokens; NaN where not applicable (no scores, no groups, nothing new). */
void dsb_routing_acc_figures(const dsb_routing_acc *acc, dsb_figures *out);

/* Tokens by margin decile, smallest margins first. Whole bins are dealt to deciles, so sizes are near n/10, not equal. */
typedef struct dsb_margin_decile {
    double margin_lo, margin_hi;      /* edges of its bins; NaN if empty */
    int64_t n;
    double change_rate;               /* share of them whose set changed */
    double predicted_rate;            /* ½·P(|error difference| > margin), error taken as independent of the margin */
} dsb_margin_decile;
void dsb_routing_acc_deciles(const dsb_routing_acc *acc, dsb_margin_decile out[10]);

/* Load of one hit histogram. */
typedef struct dsb_load {
    double cv;           /* population sd / mean */
    double entropy_nats;
    int64_t unused;      /* experts without a token */
} dsb_load;
dsb_load dsb_load_of(const int64_t *hits, int64_t n_expert);

/* Across layers. changed[l]: (n_token) of layer l, from dsb_routing_pair; kld (n_token) or NULL, NaN where not scored. */
typedef struct dsb_routing_across_figures {
    int64_t n_token;
    double any_change;       /* share of tokens with a change in some layer */
    double first_layer_mean; /* mean index (into `changed`) of the first changed layer; NaN if none changed */
    double slots_kld_correlation; /* Pearson over scored tokens: changed slots of all layers against KLD */
} dsb_routing_across_figures;
/* first_layer (n_layer) or NULL: tokens whose first change is in that layer. */
dsb_status dsb_routing_across(const int32_t *const *changed, int64_t n_layer, int64_t n_token, const double *kld, int64_t *first_layer, dsb_routing_across_figures *out, dsb_err *err);

#endif
