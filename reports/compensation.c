/* What compensation won: a scheme beside the one of the same run whose recipe is the same without it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "metrics/stats.h"
#include "reports/inspect.h"

/* A rule that names a router and keeps it says what no rule says too. */
static bool keeps_router(const json_t *rule) {
    const char *role = json_string_value(json_object_get(rule, "role")), *format = json_string_value(json_object_get(rule, "format"));
    return role && format && strcmp(role, "router") == 0 && strcmp(format, "keep") == 0 && json_object_size(rule) == 2;
}

/* The recipe without compensation and without what only names it, as text to compare; NULL: none. *had: whether it has any. Owned. */
static char *bare(const char *recipe, bool *had) {
    static const char *const k_compensation[] = { "compensation", "rank", "threshold" }, *const k_name[] = { "name", "what" };
    json_t *doc = recipe ? json_loads(recipe, 0, NULL) : NULL, *rules = json_object_get(doc, "rules");
    *had = false;
    for (size_t i = 0; i < 2 && doc; i++) json_object_del(doc, k_name[i]);
    for (size_t i = json_array_size(rules); i-- > 0;) {
        json_t *rule = json_array_get(rules, i);
        for (size_t k = 0; k < 3; k++) *had |= json_object_del(rule, k_compensation[k]) == 0 && k == 0;
        if (keeps_router(rule)) json_array_remove(rules, i);
    }
    char *text = doc ? json_dumps(doc, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}

static const dsb_scheme_record *without(const dsb_run_data *d, const dsb_scheme_record *scheme) {
    bool had, other_had;
    char *mine = bare(scheme->recipe_json, &had);
    const dsb_scheme_record *found = NULL;
    for (int64_t i = 0; i < d->n_scheme && mine && had && !found; i++) {
        const dsb_scheme_record *o = &d->schemes[i];
        char *other = o != scheme ? bare(o->recipe_json, &other_had) : NULL;
        bool same_source = !o->source == !scheme->source && (!o->source || strcmp(o->source, scheme->source) == 0);
        if (other && !other_had && same_source && strcmp(mine, other) == 0) found = o;
        free(other);
    }
    free(mine);
    return found;
}

static double kld_of(const dsb_chunk_quality *c) { return c->kld; }
static double drift_of(const dsb_chunk_quality *c) { return 100 * c->selection_change; }

bool dsb_inspect_paired(const dsb_run_data *d, dsb_arena *arena, const char *a, const char *b, double (*value)(const dsb_chunk_quality *), double *mean, double *lo, double *hi) {
    double *diff;
    int64_t n = 0;
    if (dsb_arena_take(arena, (void **)&diff, (size_t)d->n_chunk_row + 1, sizeof *diff, "chunk differences", NULL)) return false;
    for (int64_t i = 0; i < d->n_chunk_row; i++) {
        const dsb_chunk_quality *x = &d->chunks[i], *y = strcmp(x->scheme, a) == 0 ? dsb_run_chunk(d, b, x->chunk) : NULL;
        double v = y ? value(x) - value(y) : NAN;
        if (isfinite(v)) diff[n++] = v;
    }
    if (n < 4) return false;
    *mean = dsb_sample_of(diff, n).mean;
    dsb_t_interval(diff, n, 0.95, lo, hi);
    return true;
}

const char *dsb_compensation_won(const dsb_run_data *d, dsb_arena *arena, const char *scheme) {
    const dsb_scheme_record *s = dsb_run_scheme(d, scheme), *base = s ? without(d, s) : NULL;
    double kld, kld_lo, kld_hi, drift, drift_lo, drift_hi;
    if (!base || !dsb_inspect_paired(d, arena, scheme, base->name, kld_of, &kld, &kld_lo, &kld_hi)) return NULL;
    const char *name = dsb_text_clean(arena, base->name), *moved = "";
    if (dsb_inspect_paired(d, arena, scheme, base->name, drift_of, &drift, &drift_lo, &drift_hi))
        moved = dsb_text_format(arena, ", rerouted tokens %+.2f percentage points [%+.2f, %+.2f]", drift, drift_lo, drift_hi);
    const char *bytes = s->weight_bytes >= 0 && base->weight_bytes >= 0 ? dsb_text_format(arena, ", %+.2f MB", (double)(s->weight_bytes - base->weight_bytes) / 1e6) : "";
    return dsb_text_format(arena, "beside %.100s (the same without compensation), paired by chunk: KLD %+.2g nats a token [%+.2g, %+.2g]%s%s%s", name ? name : "?", kld, kld_lo, kld_hi, moved, bytes,
                           kld_lo <= 0 && kld_hi >= 0 ? "; no gain in KLD is shown" : "");
}
