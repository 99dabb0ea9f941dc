#include "reports/tolerance.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

/* What is judged. Gating are those of docs/METRICS.md; nll is the reference's own, which no change of a build should move. */
static const struct judged {
    const char *metric;
    dsb_tolerance tolerance;
} judged[] = {
    { "nll", { 1e-4, 0, true } },
    { "delta_nll", { 0.001, 0.05, true } },
    { "kld_mean", { 2e-5, 0.05, true } },
    { "selection_change", { 0.002, 0.05, true } },
    { "slot_change", { 0.002, 0.05, false } },
    { "top1_agreement", { 0.005, 0, false } },
    { "top1_accuracy", { 0.005, 0, false } },
    { "acc", { 0.005, 0, false } },
    { "acc_norm", { 0.005, 0, false } },
    { "prefill_tps", { 0, 0.03, false } },
    { "decode_tps", { 0, 0.03, false } },
};
enum { N_JUDGED = sizeof judged / sizeof *judged };

static const struct judged *find(const char *metric) {
    for (int i = 0; i < N_JUDGED; i++)
        if (!strcmp(judged[i].metric, metric)) return &judged[i];
    return NULL;
}

static dsb_status unknown_metric(const char *where, const char *metric, dsb_err *err) {
    char names[300] = "";
    for (int i = 0; i < N_JUDGED; i++) snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", judged[i].metric);
    return dsb_fail(err, DSB_EINPUT, "%s: \"%.60s\" is no metric that is judged; one of %s is wanted", where, metric, names);
}

static dsb_status read_share(const json_t *value, const char *where, const char *key, double *out, dsb_err *err) {
    if (!json_is_number(value)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is no number; one of 0 or more is wanted", where, key);
    *out = json_number_value(value);
    if (!(*out >= 0) || !isfinite(*out)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %g; a number of 0 or more is wanted", where, key, *out);
    return DSB_OK;
}

static dsb_status read_row(dsb_tolerance_row *row, const char *where, const json_t *value, dsb_err *err) {
    const char *key;
    json_t *v;
    if (!json_is_object(value)) return read_share(value, where, "absolute", &row->absolute, err);
    json_object_foreach((json_t *)value, key, v) {
        if (!strcmp(key, "absolute")) DSB_TRY(read_share(v, where, key, &row->absolute, err));
        else if (!strcmp(key, "relative")) DSB_TRY(read_share(v, where, key, &row->relative, err));
        else if (!strcmp(key, "gate") && json_is_boolean(v)) row->gate = json_is_true(v);
        else if (!strcmp(key, "gate")) return dsb_fail(err, DSB_EINPUT, "%s: \"gate\" is neither true nor false; one of them is wanted", where);
        else return dsb_fail(err, DSB_EINPUT, "%s: unknown key \"%.60s\"; absolute, relative or gate is wanted", where, key);
    }
    return DSB_OK;
}

static dsb_status read_metrics(dsb_tolerances *t, dsb_arena *arena, const char *path, const char *scheme, const json_t *doc, dsb_err *err) {
    const char *metric;
    json_t *value;
    char where[300];
    if (!json_is_object(doc)) return dsb_fail(err, DSB_EINPUT, "%s: %s%.60s is no object; metrics with their tolerances are wanted", path, scheme ? "scheme " : "\"metrics\"", scheme ? scheme : "");
    json_object_foreach((json_t *)doc, metric, value) {
        const struct judged *known = find(metric);
        dsb_tolerance_row *row = &t->rows[t->n];
        snprintf(where, sizeof where, "%.120s: %.60s%s%.60s", path, scheme ? scheme : "metrics", ".", metric);
        if (!known) return unknown_metric(where, metric, err);
        *row = (dsb_tolerance_row){ NULL, known->metric, NAN, NAN, -1 };
        if (scheme && !(row->scheme = dsb_arena_strdup(arena, scheme))) return dsb_fail(err, DSB_ENOMEM, "out of memory while reading %s", path);
        DSB_TRY(read_row(row, where, value, err));
        t->n++;
    }
    return DSB_OK;
}

static dsb_status read_document(dsb_tolerances *t, dsb_arena *arena, const char *path, const json_t *doc, dsb_err *err) {
    const json_t *metrics = json_object_get(doc, "metrics"), *schemes = json_object_get(doc, "schemes");
    const char *key;
    json_t *value;
    size_t room = json_object_size(metrics) + 1;
    if (!json_is_object(doc)) return dsb_fail(err, DSB_EINPUT, "%s: no JSON object; { \"metrics\": …, \"schemes\": … } is wanted", path);
    json_object_foreach((json_t *)doc, key, value)
        if (strcmp(key, "metrics") && strcmp(key, "schemes")) return dsb_fail(err, DSB_EINPUT, "%s: unknown key \"%.60s\"; metrics or schemes is wanted", path, key);
    if (schemes && !json_is_object(schemes)) return dsb_fail(err, DSB_EINPUT, "%s: \"schemes\" is no object; schemes with their metrics are wanted", path);
    json_object_foreach((json_t *)schemes, key, value) room += json_object_size(value);
    DSB_TRY(dsb_arena_take(arena, (void **)&t->rows, room, sizeof *t->rows, "tolerances", err));
    if (metrics) DSB_TRY(read_metrics(t, arena, path, NULL, metrics, err));
    json_object_foreach((json_t *)schemes, key, value) DSB_TRY(read_metrics(t, arena, path, key, value, err));
    return DSB_OK;
}

dsb_status dsb_tolerances_load(dsb_tolerances *out, dsb_arena *arena, const char *path, dsb_err *err) {
    json_t *doc;
    *out = (dsb_tolerances){ 0 };
    DSB_TRY(dsb_json_load_own(&doc, path, err));
    dsb_status s = read_document(out, arena, path, doc, err);
    json_decref(doc);
    return s;
}

dsb_tolerance dsb_tolerance_of(const dsb_tolerances *t, const char *scheme, const char *metric) {
    const struct judged *known = find(metric);
    dsb_tolerance out = known ? known->tolerance : (dsb_tolerance){ 0, 0, false };
    for (int of_scheme = 0; of_scheme < 2 && t; of_scheme++)
        for (int64_t i = 0; i < t->n; i++) {
            const dsb_tolerance_row *r = &t->rows[i];
            if (strcmp(r->metric, metric) || (of_scheme ? !r->scheme || strcmp(r->scheme, scheme) : r->scheme != NULL)) continue;
            if (!isnan(r->absolute)) out.absolute = r->absolute;
            if (!isnan(r->relative)) out.relative = r->relative;
            if (r->gate >= 0) out.gate = r->gate;
        }
    return out;
}

double dsb_tolerance_at(const dsb_tolerance *t, double base) { return fmax(t->absolute, isfinite(base) ? t->relative * fabs(base) : 0); }
