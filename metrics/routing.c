#include "metrics/routing.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "metrics/stats.h"

enum { BINS_PER_OCTAVE = 8, FIRST_OCTAVE = -26 };

dsb_status dsb_routing_acc_init(dsb_routing_acc *acc, int64_t n_expert, int64_t k, int64_t n_group, dsb_err *err) {
    *acc = (dsb_routing_acc){ .n_expert = n_expert, .k = k, .n_group = n_group < 1 ? 1 : n_group };
    if (k < 1 || k > n_expert)
        return dsb_fail(err, DSB_EINPUT, "routing: %lld experts a token of %lld experts; wanted 1 to that many", (long long)k, (long long)n_expert);
    if (n_expert % acc->n_group)
        return dsb_fail(err, DSB_EINPUT, "routing: %lld groups don't divide %lld experts", (long long)n_group, (long long)n_expert);
    DSB_TRY(DSB_NEW(acc->hits_ref, n_expert, "expert hits", err));
    DSB_TRY(DSB_NEW(acc->hits_test, n_expert, "expert hits", err));
    DSB_TRY(DSB_NEW(acc->moved_away, n_expert, "expert moves", err));
    return DSB_NEW(acc->moved_toward, n_expert, "expert moves", err);
}

void dsb_routing_acc_release(dsb_routing_acc *acc) {
    free(acc->hits_ref);
    free(acc->hits_test);
    free(acc->moved_away);
    free(acc->moved_toward);
    memset(acc, 0, sizeof *acc);
}

void dsb_routing_acc_clear(dsb_routing_acc *acc) {
    dsb_routing_acc empty = { .n_expert = acc->n_expert, .k = acc->k, .n_group = acc->n_group,
                              .hits_ref = acc->hits_ref, .hits_test = acc->hits_test,
                              .moved_away = acc->moved_away, .moved_toward = acc->moved_toward };
    *acc = empty;
    size_t bytes = (size_t)acc->n_expert * sizeof(int64_t);
    memset(acc->hits_ref, 0, bytes);
    memset(acc->hits_test, 0, bytes);
    memset(acc->moved_away, 0, bytes);
    memset(acc->moved_toward, 0, bytes);
}

/* Values at or below the first edge (0 included) fall into bin 0, +inf into the last. */
static int margin_bin(double x) {
    if (!(x > 0)) return 0;
    double at = floor((log2(x) - FIRST_OCTAVE) * BINS_PER_OCTAVE);
    return at < 0 ? 0 : at >= DSB_MARGIN_BINS ? DSB_MARGIN_BINS - 1 : (int)at;
}

static double margin_edge(int bin) { return exp2(FIRST_OCTAVE + (double)bin / BINS_PER_OCTAVE); }

/* f64 sums of one call, added to the accumulator once: a chunk's partial. */
typedef struct partial {
    double jaccard, gate_l1, mass_lost, router_kld, rank_sum;
} partial;

typedef struct token {
    const int32_t *a, *b;     /* (k) reference, test */
    const float *wa, *wb;     /* (k) */
    const float *sa, *sb;     /* (E) or NULL */
    const float *bias_a, *bias_b;
    double sum_a, sum_b;      /* of the gate weights; 1 where it is 0 */
} token;

static double weight_sum(const float *w, int64_t k) {
    double s = 0;
    for (int64_t i = 0; i < k; i++) s += w[i];
    return s > 0 ? s : 1;
}

static token token_of(const dsb_routing_acc *acc, const dsb_routing_pair *p, int64_t i) {
    token t = { p->ref_idx + i * acc->k, p->test_idx + i * acc->k, p->ref_weight + i * acc->k, p->test_weight + i * acc->k,
                NULL, NULL, p->ref_bias, p->test_bias, 0, 0 };
    t.sum_a = weight_sum(t.wa, acc->k);
    t.sum_b = weight_sum(t.wb, acc->k);
    if (p->ref_scores && p->test_scores) {
        t.sa = p->ref_scores + i * acc->n_expert;
        t.sb = p->test_scores + i * acc->n_expert;
    }
    return t;
}

/* In f32, as the router kernel adds it. */
static float selection_score(const float *scores, const float *bias, int64_t e) { return bias ? scores[e] + bias[e] : scores[e]; }

/* 1-based rank of expert e by the reference's selection scores (ties to the lower index), group limits set aside. */
static int64_t reference_rank(const dsb_routing_acc *acc, const token *t, int32_t e) {
    float mine = selection_score(t->sa, t->bias_a, e);
    int64_t rank = 1;
    for (int64_t j = 0; j < acc->n_expert; j++) {
        float other = selection_score(t->sa, t->bias_a, j);
        rank += other > mine || (other == mine && j < e);
    }
    return rank;
}

static int32_t heaviest(const int32_t *idx, const float *w, int64_t k) {
    int64_t best = 0;
    for (int64_t i = 1; i < k; i++)
        if (w[i] > w[best]) best = i;
    return idx[best];
}

static void add_lost(dsb_routing_acc *acc, partial *sum, int32_t e, double weight) {
    acc->moved_away[e]++;
    sum->mass_lost += weight;
}

static void add_new(dsb_routing_acc *acc, partial *sum, const token *t, int32_t e) {
    acc->moved_toward[e]++;
    if (!t->sa) return;
    acc->new_slots++;
    sum->rank_sum += (double)reference_rank(acc, t, e);
}

/* Walks both ascending lists at once; returns |A∖B|. */
static int32_t compare_sets(dsb_routing_acc *acc, partial *sum, const token *t) {
    int64_t i = 0, j = 0, k = acc->k, both = 0;
    double l1 = 0;
    while (i < k || j < k) {
        bool left = j >= k || (i < k && t->a[i] < t->b[j]), right = i >= k || (j < k && t->b[j] < t->a[i]);
        double wa = right ? 0 : t->wa[i] / t->sum_a, wb = left ? 0 : t->wb[j] / t->sum_b;
        l1 += fabs(wa - wb);
        if (left) add_lost(acc, sum, t->a[i], wa);
        else if (right) add_new(acc, sum, t, t->b[j]);
        else both++;
        if (!right) acc->hits_ref[t->a[i++]]++;
        if (!left) acc->hits_test[t->b[j++]]++;
    }
    sum->gate_l1 += 0.5 * l1;
    sum->jaccard += (double)both / (double)(2 * k - both);
    return (int32_t)(k - both);
}

/* idx ascend, so groups come in order too: compare the runs of groups. */
static bool groups_differ(const dsb_routing_acc *acc, const token *t) {
    int64_t size = acc->n_expert / acc->n_group, i = 0, j = 0, k = acc->k;
    while (i < k && j < k) {
        int64_t ga = t->a[i] / size, gb = t->b[j] / size;
        if (ga != gb) return true;
        while (i < k && t->a[i] / size == ga) i++;
        while (j < k && t->b[j] / size == gb) j++;
    }
    return i < k || j < k;
}

/* KLD of the score distributions, each normalised to sum 1 (softmax scores have it already). A test score that
 * underflowed to 0 counts as the smallest normal f32, so that the mean stays finite. */
static double router_kld(const token *t, int64_t n_expert) {
    if (!memcmp(t->sa, t->sb, (size_t)n_expert * sizeof *t->sa)) return 0;
    double sum_a = 0, sum_b = 0, kld = 0;
    for (int64_t e = 0; e < n_expert; e++) sum_a += t->sa[e], sum_b += t->sb[e];
    for (int64_t e = 0; e < n_expert; e++) {
        if (!(t->sa[e] > 0)) continue;
        double q = t->sb[e] > FLT_MIN ? t->sb[e] : FLT_MIN;
        kld += t->sa[e] / sum_a * (log(t->sa[e] / sum_a) - log(q / sum_b));
    }
    return kld;
}

/* How far the test moved the best expert not kept against the weakest one kept; NaN if there is no such pair. */
static double boundary_error(const dsb_routing_acc *acc, const token *t) {
    int64_t low = t->a[0], next = -1, at = 0;
    float low_score = selection_score(t->sa, t->bias_a, low), next_score = 0;
    for (int64_t i = 1; i < acc->k; i++) {
        float s = selection_score(t->sa, t->bias_a, t->a[i]);
        if (s < low_score) low = t->a[i], low_score = s;
    }
    for (int64_t e = 0; e < acc->n_expert; e++) {
        if (at < acc->k && t->a[at] == e) {
            at++;
            continue;
        }
        float s = selection_score(t->sa, t->bias_a, e);
        if (s <= low_score && (next < 0 || s > next_score)) next = e, next_score = s;
    }
    if (next < 0) return NAN;
    double moved_next = (double)selection_score(t->sb, t->bias_b, next) - next_score;
    return moved_next - ((double)selection_score(t->sb, t->bias_b, low) - low_score);
}

/* Each token's, by all threads: logarithms of all experts are what a pair costs. NULL: no scores, or no memory for them. */
static double *router_klds(const dsb_routing_acc *acc, const dsb_routing_pair *p) {
    double *kld = p->ref_scores && p->test_scores && p->n > 0 ? malloc((size_t)p->n * sizeof *kld) : NULL;
#pragma omp parallel for schedule(static) if (kld && p->n * acc->n_expert > 1 << 12)
    for (int64_t i = 0; i < (kld ? p->n : 0); i++) {
        token t = token_of(acc, p, i);
        kld[i] = router_kld(&t, acc->n_expert);
    }
    return kld;
}

static void add_scores(dsb_routing_acc *acc, partial *sum, const token *t, const double *kld) {
    acc->n_scored++;
    sum->router_kld += kld ? *kld : router_kld(t, acc->n_expert);
    double moved = fabs(boundary_error(acc, t));
    if (moved == 0) acc->error_zero++;
    else if (!isnan(moved)) acc->error_n[margin_bin(moved)]++;
}

void dsb_routing_acc_add(dsb_routing_acc *acc, const dsb_routing_pair *p) {
    partial sum = { 0 };
    double *kld = router_klds(acc, p);
    for (int64_t i = 0; i < p->n; i++) {
        token t = token_of(acc, p, i);
        int32_t changed = compare_sets(acc, &sum, &t);
        acc->changed_slots += changed;
        acc->changed_tokens += changed > 0;
        acc->changed_top1 += heaviest(t.a, t.wa, acc->k) != heaviest(t.b, t.wb, acc->k);
        if (acc->n_group > 1) acc->changed_groups += groups_differ(acc, &t);
        if (t.sa) add_scores(acc, &sum, &t, kld ? &kld[i] : NULL);
        if (p->ref_margin) {
            int bin = margin_bin(p->ref_margin[i]);
            acc->margin_n[bin]++;
            acc->margin_changed[bin] += changed > 0;
        }
        if (p->changed) p->changed[i] = changed;
    }
    free(kld);
    acc->n += p->n;
    acc->jaccard += sum.jaccard;
    acc->gate_l1 += sum.gate_l1;
    acc->mass_lost += sum.mass_lost;
    acc->router_kld += sum.router_kld;
    acc->rank_sum += sum.rank_sum;
}

void dsb_routing_acc_merge(dsb_routing_acc *a, const dsb_routing_acc *b) {
    a->n += b->n;
    a->changed_tokens += b->changed_tokens;
    a->changed_slots += b->changed_slots;
    a->changed_top1 += b->changed_top1;
    a->changed_groups += b->changed_groups;
    a->new_slots += b->new_slots;
    a->n_scored += b->n_scored;
    a->jaccard += b->jaccard;
    a->gate_l1 += b->gate_l1;
    a->mass_lost += b->mass_lost;
    a->router_kld += b->router_kld;
    a->rank_sum += b->rank_sum;
    a->error_zero += b->error_zero;
    for (int i = 0; i < DSB_MARGIN_BINS; i++) {
        a->margin_n[i] += b->margin_n[i];
        a->margin_changed[i] += b->margin_changed[i];
        a->error_n[i] += b->error_n[i];
    }
    for (int64_t e = 0; e < a->n_expert; e++) {
        a->hits_ref[e] += b->hits_ref[e];
        a->hits_test[e] += b->hits_test[e];
        a->moved_away[e] += b->moved_away[e];
        a->moved_toward[e] += b->moved_toward[e];
    }
}

/* rate[bin] = ½·P(|error| > margin) for a margin in that bin; an error in the same bin counts half. */
static void predicted_rates(const dsb_routing_acc *acc, double rate[DSB_MARGIN_BINS]) {
    int64_t total = acc->error_zero;
    for (int i = 0; i < DSB_MARGIN_BINS; i++) total += acc->error_n[i];
    double above = 0;
    for (int i = DSB_MARGIN_BINS - 1; i >= 0; i--) {
        rate[i] = 0.5 * (above + 0.5 * (double)acc->error_n[i]) / (double)total;
        above += (double)acc->error_n[i];
    }
}

void dsb_routing_acc_deciles(const dsb_routing_acc *acc, dsb_margin_decile out[10]) {
    double rate[DSB_MARGIN_BINS];
    int64_t total = 0, before = 0;
    predicted_rates(acc, rate);
    for (int d = 0; d < 10; d++) out[d] = (dsb_margin_decile){ NAN, NAN, 0, 0, 0 };
    for (int i = 0; i < DSB_MARGIN_BINS; i++) total += acc->margin_n[i];
    for (int i = 0; i < DSB_MARGIN_BINS; i++) {
        int64_t n = acc->margin_n[i];
        if (!n) continue;
        /* A bin goes whole to the decile that its middle token is in. */
        int d = (int)(((double)before + 0.5 * (double)n) * 10 / (double)total);
        dsb_margin_decile *m = &out[d > 9 ? 9 : d];
        if (!m->n) m->margin_lo = i ? margin_edge(i) : 0;
        m->margin_hi = i == DSB_MARGIN_BINS - 1 ? INFINITY : margin_edge(i + 1);
        m->n += n;
        m->change_rate += (double)acc->margin_changed[i];
        m->predicted_rate += rate[i] * (double)n;
        before += n;
    }
    for (int d = 0; d < 10; d++) {
        out[d].change_rate /= (double)out[d].n; /* NaN where empty */
        out[d].predicted_rate /= (double)out[d].n;
    }
}

dsb_load dsb_load_of(const int64_t *hits, int64_t n_expert) {
    dsb_load load = { NAN, NAN, 0 };
    double total = 0, squares = 0, entropy = 0;
    for (int64_t e = 0; e < n_expert; e++) {
        total += (double)hits[e];
        load.unused += hits[e] == 0;
    }
    if (!(total > 0)) return load;
    double mean = total / (double)n_expert;
    for (int64_t e = 0; e < n_expert; e++) {
        double p = (double)hits[e] / total;
        squares += ((double)hits[e] - mean) * ((double)hits[e] - mean);
        if (hits[e]) entropy -= p * log(p);
    }
    load.cv = sqrt(squares / (double)n_expert) / mean;
    load.entropy_nats = entropy;
    return load;
}

static void put(dsb_figures *out, const char *metric, double value, int64_t n) { dsb_figures_put(out, metric, value, NAN, NAN, n); }

static double predicted_change(const dsb_routing_acc *acc) {
    double rate[DSB_MARGIN_BINS], sum = 0;
    int64_t n = 0;
    predicted_rates(acc, rate);
    for (int i = 0; i < DSB_MARGIN_BINS; i++) {
        if (!acc->margin_n[i]) continue;
        sum += rate[i] * (double)acc->margin_n[i];
        n += acc->margin_n[i];
    }
    return sum / (double)n;
}

static void put_load(const dsb_routing_acc *acc, dsb_figures *out) {
    dsb_load ref = dsb_load_of(acc->hits_ref, acc->n_expert), test = dsb_load_of(acc->hits_test, acc->n_expert);
    double slots = (double)acc->n * (double)acc->k, apart = 0;
    int64_t gained = 0, lost = 0;
    for (int64_t e = 0; e < acc->n_expert; e++) {
        apart += fabs((double)(acc->hits_ref[e] - acc->hits_test[e]));
        gained += !acc->hits_ref[e] && acc->hits_test[e];
        lost += acc->hits_ref[e] && !acc->hits_test[e];
    }
    put(out, "load_cv", test.cv, acc->n_expert);
    put(out, "load_cv_ref", ref.cv, acc->n_expert);
    put(out, "load_entropy", test.entropy_nats, acc->n_expert);
    put(out, "load_entropy_ref", ref.entropy_nats, acc->n_expert);
    put(out, "load_tv", 0.5 * apart / slots, acc->n_expert);
    put(out, "experts_gained_all", (double)gained, acc->n_expert);
    put(out, "experts_lost_all", (double)lost, acc->n_expert);
}

void dsb_routing_acc_figures(const dsb_routing_acc *acc, dsb_figures *out) {
    double n = (double)acc->n; /* 0 tokens: every share is 0/0 = NaN */
    out->n = 0;
    put(out, "selection_change", (double)acc->changed_tokens / n, acc->n);
    put(out, "slot_change", (double)acc->changed_slots / (n * (double)acc->k), acc->n);
    put(out, "jaccard", acc->jaccard / n, acc->n);
    put(out, "top1_change", (double)acc->changed_top1 / n, acc->n);
    put(out, "gate_l1", acc->gate_l1 / n, acc->n);
    put(out, "mass_lost", acc->mass_lost / n, acc->n);
    put(out, "router_kld", acc->router_kld / (double)acc->n_scored, acc->n_scored);
    put(out, "group_change", acc->n_group > 1 ? (double)acc->changed_groups / n : NAN, acc->n);
    put(out, "rank_of_new", acc->rank_sum / (double)acc->new_slots, acc->new_slots);
    put(out, "predicted_change", predicted_change(acc), acc->n_scored);
    put_load(acc, out);
}

dsb_status dsb_routing_across(const int32_t *const *changed, int64_t n_layer, int64_t n_token, const double *kld, int64_t *first_layer, dsb_routing_across_figures *out, dsb_err *err) {
    *out = (dsb_routing_across_figures){ n_token, NAN, NAN, NAN };
    if (first_layer) memset(first_layer, 0, (size_t)n_layer * sizeof *first_layer);
    if (n_layer < 1 || n_token < 1) return DSB_OK;
    double *slots;
    DSB_TRY(DSB_NEW(slots, n_token, "changed slots of tokens", err));
    int64_t any = 0, layers = 0;
    for (int64_t i = 0; i < n_token; i++) {
        int64_t first = -1, sum = 0;
        for (int64_t l = 0; l < n_layer; l++) {
            sum += changed[l][i];
            if (first < 0 && changed[l][i]) first = l;
        }
        slots[i] = (double)sum;
        if (first < 0) continue;
        any++;
        layers += first;
        if (first_layer) first_layer[first]++;
    }
    out->any_change = (double)any / (double)n_token;
    out->first_layer_mean = (double)layers / (double)any;
    if (kld) out->slots_kld_correlation = dsb_correlation(slots, kld, n_token);
    free(slots);
    return DSB_OK;
}
