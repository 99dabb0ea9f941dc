/* Damage by structure: what attention, router, shared and routed experts, dense blocks and the head add, each by itself.
 * From isolated figures, per layer in units of the block's output: attention and MLP dd/xx of the block; the router what the whole block has beyond them; an MoE
 * layer's MLP is divided between shared and routed experts by the squared error of their weights that a token meets; the head by its weights' nmse. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metrics/moments.h"
#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

enum { ATTENTION, ROUTER, SHARED, ROUTED, DENSE, HEAD, N_PART, PANELS = 9 };
static const char *const part_names[N_PART] = { "attention", "router", "shared", "routed", "dense", "head" };

/* Σdd of a role's weights in one layer; NAN where there are none. */
static double role_dd(const dsb_run_data *d, const char *scheme, int64_t layer, const char *prefix, double *xx) {
    double dd = 0, all = 0;
    for (int64_t i = 0; i < d->n_role; i++) {
        const dsb_role_error *r = &d->roles[i];
        if (r->layer != layer || strcmp(r->scheme, scheme) || strncmp(r->role, prefix, strlen(prefix))) continue;
        dd += r->dd;
        all += r->xx;
    }
    *xx = all;
    return all > 0 ? dd : NAN;
}

static double part_of(const dsb_run_data *d, const char *scheme, int64_t layer, const char *point, double block_xx) {
    const dsb_layer_error *e = dsb_run_layer(d, scheme, layer, point, "isolated");
    return e && block_xx > 0 && isfinite(e->m.dd) ? e->m.dd / block_xx : 0;
}

static void add_layer(const dsb_run_data *d, const char *scheme, int64_t layer, double parts[N_PART]) {
    const dsb_layer_error *block = dsb_run_layer(d, scheme, layer, "block", "isolated");
    double all = block ? dsb_moments_nmse(&block->m) : NAN, xx, k = (double)d->run.model.k / (double)(d->run.model.n_expert > 0 ? d->run.model.n_expert : 1);
    if (!isfinite(all)) return;
    double attention = part_of(d, scheme, layer, "attention", block->m.xx), mlp = part_of(d, scheme, layer, "mlp", block->m.xx);
    parts[ATTENTION] += attention;
    if (isnan(dsb_run_routing(d, scheme, layer, "block", "selection_change"))) {
        parts[DENSE] += mlp;
        return;
    }
    double shared = role_dd(d, scheme, layer, "shared.", &xx), routed = role_dd(d, scheme, layer, "expert.", &xx) * k;
    double share = isnan(shared) || !(shared + routed > 0) ? 0 : shared / (shared + routed);
    parts[SHARED] += mlp * share;
    parts[ROUTED] += mlp * (1 - share);
    parts[ROUTER] += fmax(0, all - attention - mlp);
}

static double fill(const dsb_run_data *d, const char *scheme, double parts[N_PART]) {
    double sum = 0, xx;
    memset(parts, 0, N_PART * sizeof *parts);
    for (int64_t l = 0; l < dsb_run_layer_count(d); l++) add_layer(d, scheme, l, parts);
    double head = role_dd(d, scheme, -1, "lm_head", &xx);
    if (xx > 0 && isfinite(head)) parts[HEAD] = head / xx;
    for (int i = 0; i < N_PART; i++) sum += parts[i];
    return sum;
}

bool dsb_plot_waterfall(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    const dsb_digest *shown[PANELS];
    double total[PANELS];
    int n = 0;
    for (int64_t i = 0; i < s->n && n < PANELS; i++) {
        double parts[N_PART], at = 0, sum = dsb_plot_shown(&s->schemes[i]) ? fill(s->data, s->schemes[i].scheme->name, parts) : 0;
        char block[32];
        if (!(sum > 0) || !isfinite(sum)) continue;
        snprintf(block, sizeof block, "$fall%d", n);
        dsb_plot_block(script, block, s->schemes[i].scheme->name, "row\tfrom\tto\tpart", NULL);
        for (int k = 0; k < N_PART; k++) {
            dsb_text_printf(script, "%d %.6g %.6g \"%s\"\n", k, at, at + parts[k], part_names[k]);
            at += parts[k];
        }
        dsb_text_printf(script, "%d 0 %.6g \"all\"\nEND\n", N_PART, sum);
        total[n] = sum;
        shown[n++] = &s->schemes[i];
    }
    if (!n) return false;
    int columns = n > 4 ? 3 : n > 1 ? 2 : 1, rows = (n + columns - 1) / columns;
    dsb_text_printf(script, "set multiplot layout %d,%d title 'Where the damage arises: error that each structure adds by itself, all layers' margins 0.08,0.98,0.13,0.87 spacing 0.07,0.09\nunset key\nset grid xtics back linestyle 100\n", rows,
                    columns);
    dsb_text_printf(script, "colour(k) = k == %d ? 0x555555 : k == %d ? 0xCC79A7 : k == %d ? 0xD55E00 : k == %d ? 0x56B4E9 : k == %d ? 0x0072B2 : k == %d ? 0x009E73 : 0xE69F00\n", N_PART, ROUTER, ATTENTION, SHARED, ROUTED, DENSE);
    dsb_text_put(script, "set xrange [-0.6:6.6]\nset yrange [0:*]\nset format y '%g'\n");
    for (int i = 0; i < n; i++) {
        bool bottom = i + columns >= n;
        dsb_text_put(script, "set title ");
        dsb_gnuplot_quote(script, shown[i]->scheme->name, 30);
        dsb_text_put(script, " offset 0,-0.7\n");
        if (i) dsb_text_put(script, "unset label 99\n");
        dsb_text_put(script, bottom ? "set xtics ('attention' 0, 'router' 1, 'shared' 2, 'routed' 3, 'dense' 4, 'head' 5, 'all' 6) rotate by -40 font ',8'\n" : "set xtics ('' 0, '' 1, '' 2, '' 3, '' 4, '' 5, '' 6)\n");
        dsb_text_printf(script, "set ytics 0,%g font ',8'\n", dsb_plot_tic_step(total[i] > 0 ? total[i] : 1));
        dsb_text_printf(script, "set ylabel %s\n", i % columns ? "''" : "'sum of nmse' font ',9' offset 1.5,0");
        dsb_text_printf(script, "plot $fall%d using 1:2:($1-0.38):($1+0.38):2:3:(colour($1)) with boxxyerror fillstyle solid 0.9 noborder linecolor rgb variable\n", i);
    }
    dsb_text_put(script, "unset multiplot\n");
    return true;
}
