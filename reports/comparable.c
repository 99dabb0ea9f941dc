#include "reports/comparable.h"

#include <string.h>

#include "base/json.h"

static bool same_text(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

static dsb_status differ(const char *what, const char *a, const char *b, dsb_err *err) {
    return dsb_fail(err, DSB_ECOMPARE, "not comparable: %s differs: %s against %s; compare runs of the same model, text and convention", what, a ? a : "none", b ? b : "none");
}

static dsb_status differ_count(const char *what, int64_t a, int64_t b, const char *advice, dsb_err *err) {
    return dsb_fail(err, DSB_ECOMPARE, "not comparable: %s: %lld against %lld%s", what, (long long)a, (long long)b, advice);
}

/* What the run's figures are relative to, as its suite says (`dsbench run --reference`). */
static bool bf16_reference(const dsb_run_record *r) {
    const char *v = NULL;
    json_t *doc;
    dsb_err ignored;
    if (!r->suite_json || dsb_json_parse(&doc, "suite", r->suite_json, strlen(r->suite_json), &ignored)) return false;
    bool bf16 = json_is_object(doc) && !dsb_json_string(doc, "suite", "reference", false, &v, &ignored) && v && !strcmp(v, "bf16");
    json_decref(doc);
    return bf16;
}

dsb_status dsb_comparable(const dsb_run_record *x, const dsb_run_record *y, dsb_err *err) {
    if (!same_text(x->model.sha256, y->model.sha256)) return differ("the model (SHA-256)", x->model.sha256, y->model.sha256, err);
    if (!x->model.sha256 && !same_text(x->model.path, y->model.path)) return differ("the model", x->model.path, y->model.path, err);
    if (!same_text(x->dataset.sha256, y->dataset.sha256)) return differ("the text (SHA-256)", x->dataset.sha256, y->dataset.sha256, err);
    if (!x->dataset.sha256 && !same_text(x->dataset.path, y->dataset.path)) return differ("the text", x->dataset.path, y->dataset.path, err);
    if (!same_text(x->convention, y->convention)) return differ("the convention", x->convention, y->convention, err);
    bool bf16 = bf16_reference(x);
    if (bf16 != bf16_reference(y))
        return dsb_fail(err, DSB_ECOMPARE, "not comparable: the reference's arithmetic differs: %s against %s products; compare runs of the same --reference", bf16 ? "bf16" : "f32", bf16 ? "f32" : "bf16");
    if (x->n_ctx != y->n_ctx) return differ_count("the context differs", x->n_ctx, y->n_ctx, " tokens; compare runs of the same context", err);
    /* Chunks are spread over the text: another number of them is other text under the same chunk's number. */
    if (x->n_chunk != y->n_chunk) return differ_count("the number of chunks differs", x->n_chunk, y->n_chunk, "; compare runs of the same --chunks", err);
    if (x->n_scored != y->n_scored) return differ_count("scored positions differ", x->n_scored, y->n_scored, " over as many chunks", err);
    return DSB_OK;
}

typedef struct list {
    dsb_run_difference *rows;
    int64_t n;
    dsb_arena *arena;
} list;

static void note(list *l, const char *what, const char *a, const char *b) {
    if (!same_text(a, b)) l->rows[l->n++] = (dsb_run_difference){ what, a ? a : "none", b ? b : "none" };
}

static const char *build(const dsb_run_record *r, dsb_arena *arena) { return dsb_text_format(arena, "%.40s %.60s", r->build_version ? r->build_version : "?", r->build_hash ? r->build_hash : ""); }
static const char *threads(const dsb_run_record *r, dsb_arena *arena) { return dsb_text_format(arena, "%lld", (long long)r->threads); }
static const char *host(const dsb_run_record *r, dsb_arena *arena) {
    return dsb_text_format(arena, "%.12s (%.80s, %lld cores)", r->host.name_hash ? r->host.name_hash : "?", r->host.cpu ? r->host.cpu : "?", (long long)r->host.cores);
}

static void note_recipes(list *l, const dsb_run_data *a, const dsb_run_data *b) {
    for (int64_t i = 0; i < b->n_scheme; i++) {
        const dsb_scheme_record *y = &b->schemes[i], *x = dsb_run_scheme(a, y->name);
        if (!x) continue;
        if (!same_text(x->recipe_json, y->recipe_json)) l->rows[l->n++] = (dsb_run_difference){ dsb_text_format(l->arena, "recipe of %.60s", y->name), "as in base", "another" };
        note(l, dsb_text_format(l->arena, "checkpoint of %.60s", y->name), x->source, y->source);
        note(l, dsb_text_format(l->arena, "kernels of %.60s", y->name), x->kernels, y->kernels);
    }
}

dsb_status dsb_run_differences(const dsb_run_data *base, const dsb_run_data *head, dsb_arena *arena, dsb_run_difference **rows, int64_t *n, dsb_err *err) {
    const dsb_run_record *a = &base->run, *b = &head->run;
    list l = { NULL, 0, arena };
    DSB_TRY(dsb_arena_take(arena, (void **)&l.rows, (size_t)(head->n_scheme * 3 + 8), sizeof *l.rows, "a comparison", err));
    note(&l, "build", build(a, arena), build(b, arena));
    note(&l, "host", host(a, arena), host(b, arena));
    note(&l, "device", a->device, b->device);
    note(&l, "kernels' level", a->isa, b->isa);
    note(&l, "threads", threads(a, arena), threads(b, arena));
    note(&l, "calibration text (SHA-256)", a->calibration.sha256, b->calibration.sha256);
    note_recipes(&l, base, head);
    *rows = l.rows;
    *n = l.n;
    return DSB_OK;
}
