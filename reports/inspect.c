/* Rows are ranked by one metric, worst first; a row with a non-finite value is the worst of all. */
#include "reports/inspect.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/moments.h"

typedef struct ranked {
    const void *row;
    double badness;
    int64_t order;
} ranked;

typedef double row_value(const dsb_run_data *d, const void *row);
typedef struct sort_key {
    const char *name;
    row_value *value;
    bool higher_is_better;
} sort_key;

static int by_badness(const void *pa, const void *pb) {
    const ranked *a = pa, *b = pb;
    if (a->badness != b->badness) return a->badness < b->badness ? 1 : -1;
    return a->order < b->order ? -1 : 1;
}

static const sort_key *find_key(const sort_key *keys, int n, const char *name, dsb_err *err) {
    char names[400] = "";
    if (!name) return &keys[0];
    for (int i = 0; i < n; i++) {
        if (!strcmp(keys[i].name, name)) return &keys[i];
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", keys[i].name);
    }
    dsb_fail(err, DSB_EUSAGE, "--sort %s: this table has no such metric; it has: %s", name, names);
    return NULL;
}

static void rank_add(ranked *list, int64_t *n, const sort_key *key, const dsb_run_data *d, const void *row, bool nonfinite) {
    double v = key->value(d, row), badness = key->higher_is_better ? -v : v;
    if (isnan(badness)) badness = -INFINITY; /* not measured: last */
    list[*n] = (ranked){ row, nonfinite ? INFINITY : badness, *n };
    (*n)++;
}

/* Every row's struct begins with its scheme's name. */
static const char *scheme_of(const ranked *r) { return *(const char *const *)r->row; }

static int64_t rank_sort(ranked *list, int64_t n, const dsb_filter *f) {
    int64_t kept = 0;
    qsort(list, (size_t)n, sizeof *list, by_badness);
    for (int64_t i = 0; i < n && (f->top <= 0 || kept < f->top); i++) {
        int64_t before = 0;
        for (int64_t j = 0; j < kept && f->per_scheme > 0; j++) before += !strcmp(scheme_of(&list[j]), scheme_of(&list[i]));
        if (f->per_scheme <= 0 || before < f->per_scheme) list[kept++] = list[i];
    }
    return kept;
}

_Static_assert(!offsetof(dsb_layer_error, scheme) && !offsetof(dsb_tensor_error, scheme) && !offsetof(dsb_routing_expert, scheme), "scheme_of");

static bool wanted(const dsb_filter *f, const char *scheme, const char *kind, int64_t layer, int64_t expert) {
    return (!f->scheme || !strcmp(f->scheme, scheme)) && (!f->kind || !kind || !strcmp(f->kind, kind)) && (f->layer < 0 || f->layer == layer) &&
           (f->expert < 0 || f->expert == expert);
}

dsb_status dsb_inspect_check_scheme(const dsb_run_data *d, const char *scheme, dsb_err *err) {
    char names[500] = "";
    if (!scheme || dsb_run_scheme(d, scheme)) return DSB_OK;
    for (int64_t i = 0; i < d->n_scheme; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", d->schemes[i].name);
    }
    return dsb_fail(err, DSB_EUSAGE, "run %s has no scheme '%s'; it has: %s", d->run.id, scheme, names);
}

#define LAYER_VALUE(name, call) \
    static double layer_##name(const dsb_run_data *d, const void *row) { return call(&((const dsb_layer_error *)row)->m); }
#define TENSOR_VALUE(name, call) \
    static double tensor_##name(const dsb_run_data *d, const void *row) { return call(&((const dsb_tensor_error *)row)->m); }
LAYER_VALUE(nmse, dsb_moments_nmse)
LAYER_VALUE(rel_l2, dsb_moments_rel_l2)
LAYER_VALUE(sqnr_db, dsb_moments_sqnr_db)
LAYER_VALUE(cosine, dsb_moments_cosine)
LAYER_VALUE(max_abs, dsb_moments_max_abs)
TENSOR_VALUE(nmse, dsb_moments_nmse)
TENSOR_VALUE(rel_l2, dsb_moments_rel_l2)
TENSOR_VALUE(sqnr_db, dsb_moments_sqnr_db)
TENSOR_VALUE(cosine, dsb_moments_cosine)
TENSOR_VALUE(max_abs, dsb_moments_max_abs)
static double layer_headroom(const dsb_run_data *d, const void *row) { return ((const dsb_layer_error *)row)->f16_headroom_bits; }
static double layer_saturation(const dsb_run_data *d, const void *row) { return ((const dsb_layer_error *)row)->saturation; }
static double tensor_bpw(const dsb_run_data *d, const void *row) { return ((const dsb_tensor_error *)row)->bpw; }

static const sort_key layer_keys[] = {
    { "nmse", layer_nmse, false },       { "rel_l2", layer_rel_l2, false },   { "sqnr_db", layer_sqnr_db, true },
    { "cosine", layer_cosine, true },    { "max_abs", layer_max_abs, false }, { "f16_headroom_bits", layer_headroom, true },
    { "saturation", layer_saturation, false },
};
static const sort_key tensor_keys[] = {
    { "nmse", tensor_nmse, false },    { "rel_l2", tensor_rel_l2, false },   { "sqnr_db", tensor_sqnr_db, true },
    { "cosine", tensor_cosine, true }, { "max_abs", tensor_max_abs, false }, { "bpw", tensor_bpw, false },
};

static void moment_cells(dsb_grid *g, const dsb_moments *m) {
    dsb_moment_figures v = dsb_moments_figures(m);
    if (m->nonfinite) dsb_grid_not_finite(g, m->nonfinite);
    else dsb_grid_figure(g, v.nmse, "%.3e", v.nmse);
    dsb_grid_figure(g, v.rel_l2, "%.2e", v.rel_l2);
    dsb_grid_figure(g, v.sqnr_db, "%.1f", v.sqnr_db);
    dsb_grid_figure(g, v.cosine, "%.6f", v.cosine);
    dsb_grid_figure(g, v.max_abs, "%.3g", v.max_abs);
}

dsb_status dsb_inspect_layers(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_grid *g, dsb_err *err) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },  { "layer", "layer", NULL, false },    { "point", "output of", NULL, true },
        { "kind", "input", NULL, true },     { "nmse", "nmse", NULL, false },      { "rel_l2", "rel_l2", NULL, false },
        { "sqnr_db", "SQNR", "dB", false },  { "cosine", "cosine", NULL, false },  { "max_abs", "max |x−y|", NULL, false },
        { "f16_headroom_bits", "FP16 headroom", "bits", false }, { "saturation", "clipped", "%", false }, { "n", NULL, NULL, false },
        { "nonfinite", NULL, NULL, false },
    };
    const sort_key *key = find_key(layer_keys, (int)(sizeof layer_keys / sizeof *layer_keys), f->sort, err);
    ranked *list;
    int64_t n = 0;
    if (!key) return DSB_EUSAGE;
    DSB_TRY(dsb_arena_take(arena, (void **)&list, (size_t)d->n_layer_row + 1, sizeof *list, "a table", err));
    for (int64_t i = 0; i < d->n_layer_row; i++)
        if (wanted(f, d->layers[i].scheme, d->layers[i].kind, d->layers[i].layer, f->expert))
            rank_add(list, &n, key, d, &d->layers[i], d->layers[i].m.nonfinite > 0);
    n = rank_sort(list, n, f);
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < n; i++) {
        const dsb_layer_error *e = list[i].row;
        dsb_grid_text(g, e->scheme);
        dsb_grid_int(g, e->layer);
        dsb_grid_text(g, e->point);
        dsb_grid_text(g, e->kind);
        moment_cells(g, &e->m);
        dsb_grid_figure(g, e->f16_headroom_bits, "%.1f", e->f16_headroom_bits);
        dsb_grid_figure(g, e->saturation, "%.4f", 100 * e->saturation);
        dsb_grid_int(g, e->m.n);
        dsb_grid_int(g, e->m.nonfinite);
    }
    return DSB_OK;
}

dsb_status dsb_inspect_tensors(const dsb_tensor_error *rows, int64_t n_row, const dsb_filter *f, dsb_arena *arena, dsb_grid *g, dsb_err *err) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },  { "layer", "layer", NULL, false },   { "expert", "expert", NULL, false },
        { "role", "role", NULL, true },      { "nmse", "nmse", NULL, false },     { "rel_l2", "rel_l2", NULL, false },
        { "sqnr_db", "SQNR", "dB", false },  { "cosine", "cosine", NULL, false }, { "max_abs", "max |x−y|", NULL, false },
        { "bpw", "bits", "per weight", false }, { "format", "format", NULL, true }, { "grouping", "group", NULL, true },
        { "kernel", "kernel", NULL, true },  { "tensor", "tensor", NULL, true },  { "nonfinite", NULL, NULL, false },
    };
    const sort_key *key = find_key(tensor_keys, (int)(sizeof tensor_keys / sizeof *tensor_keys), f->sort, err);
    ranked *list;
    int64_t n = 0;
    if (!key) return DSB_EUSAGE;
    DSB_TRY(dsb_arena_take(arena, (void **)&list, (size_t)n_row + 1, sizeof *list, "a table", err));
    for (int64_t i = 0; i < n_row; i++)
        if (wanted(f, rows[i].scheme, NULL, rows[i].layer, rows[i].expert)) rank_add(list, &n, key, NULL, &rows[i], rows[i].m.nonfinite > 0);
    n = rank_sort(list, n, f);
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < n; i++) {
        const dsb_tensor_error *e = list[i].row;
        dsb_grid_text(g, e->scheme);
        dsb_grid_int(g, e->layer);
        dsb_grid_int(g, e->expert);
        dsb_grid_text(g, e->role);
        moment_cells(g, &e->m);
        dsb_grid_figure(g, e->bpw, "%.3f", e->bpw);
        dsb_grid_text(g, e->format);
        dsb_grid_text(g, e->grouping);
        dsb_grid_text(g, e->kernel);
        dsb_grid_text(g, e->tensor);
        dsb_grid_int(g, e->m.nonfinite);
    }
    return DSB_OK;
}

static double expert_nmse(const dsb_run_data *d, const void *row) { return dsb_run_expert_nmse(d, row); }
static double expert_moved(const dsb_run_data *d, const void *row) {
    const dsb_routing_expert *e = row;
    double hits = (double)(e->hits_ref + e->hits_test);
    return hits > 0 && e->moved_away >= 0 && e->moved_to >= 0 ? (double)(e->moved_away + e->moved_to) / hits : NAN;
}
static double expert_load(const dsb_run_data *d, const void *row) {
    const dsb_routing_expert *e = row;
    return e->hits_ref > 0 && e->hits_test >= 0 ? (double)(e->hits_test - e->hits_ref) / (double)e->hits_ref : NAN;
}
static double expert_load_change(const dsb_run_data *d, const void *row) { return fabs(expert_load(d, row)); }
static double expert_hits(const dsb_run_data *d, const void *row) { return (double)((const dsb_routing_expert *)row)->hits_ref; }
static const sort_key expert_keys[] = {
    { "nmse", expert_nmse, false }, { "moved", expert_moved, false }, { "load_change", expert_load_change, false }, { "hits", expert_hits, false },
};

dsb_status dsb_inspect_experts(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_grid *g, dsb_err *err) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },          { "layer", "layer", NULL, false },         { "expert", "expert", NULL, false },
        { "nmse", "output error", "nmse, isolated", false }, { "moved", "left or joined", "% of tokens", false },
        { "load_change", "load change", "%", false }, { "hits_ref", "tokens", "reference", false }, { "hits_test", "tokens", "scheme", false },
        { "moved_away", "left", NULL, false },       { "moved_to", "joined", NULL, false },     { "mass_ref", "gate mass", "reference", false },
        { "mass_test", "gate mass", "scheme", false },
    };
    const sort_key *key = find_key(expert_keys, (int)(sizeof expert_keys / sizeof *expert_keys), f->sort, err);
    ranked *list;
    int64_t n = 0;
    if (!key) return DSB_EUSAGE;
    DSB_TRY(dsb_arena_take(arena, (void **)&list, (size_t)d->n_expert_row + 1, sizeof *list, "a table", err));
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (!strcmp(d->experts[i].kind, "accumulated") && wanted(f, d->experts[i].scheme, NULL, d->experts[i].layer, d->experts[i].expert) && (f->scheme || strcmp(d->experts[i].scheme, DSB_REFERENCE)))
            rank_add(list, &n, key, d, &d->experts[i], false);
    n = rank_sort(list, n, f);
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < n; i++) {
        const dsb_routing_expert *e = list[i].row;
        double nmse = expert_nmse(d, e), moved = expert_moved(d, e), load = expert_load(d, e);
        dsb_grid_text(g, e->scheme);
        dsb_grid_int(g, e->layer);
        dsb_grid_int(g, e->expert);
        dsb_grid_figure(g, nmse, "%.3e", nmse);
        dsb_grid_figure(g, moved, "%.2f", 100 * moved);
        dsb_grid_figure(g, load, "%+.2f", 100 * load);
        dsb_grid_int(g, e->hits_ref);
        dsb_grid_int(g, e->hits_test);
        dsb_grid_int(g, e->moved_away);
        dsb_grid_int(g, e->moved_to);
        dsb_grid_figure(g, e->mass_ref, "%.1f", e->mass_ref);
        dsb_grid_figure(g, e->mass_test, "%.1f", e->mass_test);
    }
    return DSB_OK;
}
