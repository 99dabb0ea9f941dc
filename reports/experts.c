/* Calibration coverage layer by layer, and whether an expert's activity tells what low bits cost it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metrics/stats.h"
#include "reports/inspect.h"

/* Rows of one layer in one scheme, ascending by expert, as counts that can be sorted. */
static int64_t layer_tokens(const dsb_run_data *d, const char *scheme, int64_t layer, double *tokens) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_coverage; i++) {
        const dsb_calibration_coverage *c = &d->coverage[i];
        if (c->layer == layer && c->expert >= 0 && strcmp(c->scheme, scheme) == 0) tokens[n++] = (double)c->tokens;
    }
    return n;
}

/* The experts below the minimum by number and, in brackets, their tokens; cut where there are many. */
static const char *starved(const dsb_run_data *d, dsb_arena *arena, const char *scheme, int64_t layer, int64_t *n_starved, const char **fallback) {
    char text[160] = "";
    size_t at = 0;
    *n_starved = 0;
    *fallback = NULL;
    for (int64_t i = 0; i < d->n_coverage; i++) {
        const dsb_calibration_coverage *c = &d->coverage[i];
        if (c->layer != layer || c->expert < 0 || strcmp(c->scheme, scheme) != 0) continue;
        if (c->fallback) *fallback = c->fallback;
        if (c->tokens >= c->minimum) continue;
        if (++*n_starved <= 8) at += (size_t)snprintf(text + at, sizeof text - at, "%s%lld (%lld)", at ? ", " : "", (long long)c->expert, (long long)c->tokens);
        else if (*n_starved == 9) snprintf(text + at, sizeof text - at, " …");
    }
    return *n_starved ? dsb_arena_strdup(arena, text) : NULL;
}

/* Coverage is of the calibration's own stream: the same for every scheme, so the first scheme with rows stands for all. */
void dsb_inspect_coverage_layers(const dsb_run_data *d, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "layer", "layer", NULL, false },     { "least", "least", "tokens", false },        { "median", "median", "tokens", false }, { "most", "most", "tokens", false },
        { "minimum", "minimum", "tokens", false }, { "below", "below", "experts", false }, { "starved", "starved experts", "number (tokens)", true }, { "fallback", "what stands in", NULL, true },
    };
    int64_t n_layer = 0;
    double *tokens = NULL;
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    if (d->n_coverage == 0 || dsb_arena_take(arena, (void **)&tokens, (size_t)d->n_coverage, sizeof *tokens, "coverage", NULL)) return;
    for (int64_t i = 0; i < d->n_coverage; i++) n_layer = d->coverage[i].layer >= n_layer ? d->coverage[i].layer + 1 : n_layer;
    for (int64_t l = 0; l < n_layer && l < 1 << 16; l++) {
        const char *scheme = d->coverage[0].scheme, *fallback;
        int64_t n = layer_tokens(d, scheme, l, tokens), below;
        if (n == 0) continue;
        dsb_sort(tokens, n);
        const char *who = starved(d, arena, scheme, l, &below, &fallback);
        dsb_grid_int(g, l);
        dsb_grid_figure(g, tokens[0], "%.0f", tokens[0]);
        double median = dsb_quantile_sorted(tokens, n, 0.5);
        dsb_grid_figure(g, median, "%.0f", median);
        dsb_grid_figure(g, tokens[n - 1], "%.0f", tokens[n - 1]);
        dsb_grid_int(g, d->coverage[0].minimum);
        dsb_grid_int(g, below);
        dsb_grid_text(g, who);
        dsb_grid_text(g, fallback);
    }
}

/* ---- is activity a good guide? ---- */

static int64_t figures_of(const dsb_run_data *d, const char *kind, int64_t layer, double *value) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_detail; i++)
        if (d->detail[i].layer == layer && strcmp(d->detail[i].kind, kind) == 0) value[n++] = d->detail[i].value;
    return n;
}

/* Ranks with the mean rank for ties: Pearson's correlation of them is Spearman's. */
static void ranks(const double *x, int64_t n, double *rank) {
    for (int64_t i = 0; i < n; i++) {
        double below = 0, same = 0;
        for (int64_t j = 0; j < n; j++) {
            below += x[j] < x[i];
            same += x[j] == x[i];
        }
        rank[i] = below + (same - 1) / 2;
    }
}

enum { MOST_EXPERTS = 4096 };

double dsb_expert_agreement(const dsb_run_data *d, dsb_arena *arena, const char *kind, int64_t *n_layer) {
    double *x, *y, sum = 0;
    *n_layer = 0;
    if (d->n_detail == 0 || dsb_arena_take(arena, (void **)&x, (size_t)d->n_detail * 4, sizeof *x, "ranks", NULL)) return NAN;
    y = x + d->n_detail;
    for (int64_t l = 0, end = dsb_run_layer_count(d); l < end; l++) {
        int64_t n = figures_of(d, kind, l, x), m = figures_of(d, "expert_sensitivity", l, y);
        if (n < 3 || n != m || n > MOST_EXPERTS) continue;
        ranks(x, n, x + 2 * d->n_detail);
        ranks(y, n, y + 2 * d->n_detail);
        double r = dsb_correlation(x + 2 * d->n_detail, y + 2 * d->n_detail, n);
        if (isnan(r)) continue;
        sum += r;
        ++*n_layer;
    }
    return *n_layer ? sum / (double)*n_layer : NAN;
}

static double kld_of(const dsb_chunk_quality *c) { return c->kld; }

bool dsb_expert_guide(const dsb_run_data *d, dsb_arena *arena, char *out, size_t size) {
    static const char *const k_other[] = { "sparse-even", "sparse-mean-abs", "sparse-sensitivity" };
    int n_better = 0, n_worse = 0, n = 0;
    char text[512] = "";
    for (int i = 0; i < 3; i++) {
        double mean, lo, hi;
        size_t at = strlen(text);
        if (!dsb_inspect_paired(d, arena, "sparse-activity", k_other[i], kld_of, &mean, &lo, &hi)) continue;
        if (i < 2) n_better += hi < 0, n_worse += lo > 0, n++;
        snprintf(text + at, sizeof text - at, "%s%s %+.2g [%+.2g, %+.2g]%s", at ? ", " : "", k_other[i], mean, lo, hi, lo <= 0 && hi >= 0 ? " (not separated)" : "");
    }
    if (n == 0) return false;
    int64_t layers, ignored;
    double activity = dsb_expert_agreement(d, arena, "expert_activity", &layers), size_of = dsb_expert_agreement(d, arena, "expert_mean_abs", &ignored);
    int at = snprintf(out, size, "Activity is %s for spending bits on experts of this model, at the same average: KLD of sparse-activity less that of %s, nats a token, paired by chunk.",
                      n_better == n ? "a good guide" : n_worse ? "a bad guide" : n_better ? "a guide that only part of the comparisons bears out" : "no guide that this text shows to help", text);
    if (!isnan(activity) && at > 0 && (size_t)at < size)
        snprintf(out + at, size - (size_t)at, " Over a layer's experts, rank correlation with what INT4 costs the output: activity %.2f%s (mean of %lld layers).", activity,
                 isnan(size_of) ? "" : dsb_text_format(arena, ", mean |W| %.2f", size_of), (long long)layers);
    return true;
}
