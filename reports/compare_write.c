/* A comparison as text, Markdown, JSON and JUnit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/compare.h"

void dsb_compare_grid(const dsb_comparison *c, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },        { "metric", "metric", NULL, true },      { "base", "base", NULL, false },
        { "head", "head", NULL, false },           { "difference", "difference", NULL, false }, { "interval", "95 % interval", NULL, false },
        { "tolerance", "tolerance", NULL, false }, { "detectable", "detectable", "80 % power", false }, { "p", NULL, NULL, false },
        { "p_adjusted", "p", "of worse, Holm", false }, { "n", "n", "pairs", false }, { "unit", "unit", NULL, true },
        { "verdict", "verdict", NULL, true },      { "gating", NULL, NULL, false },         { "lo", NULL, NULL, false },
        { "hi", NULL, NULL, false },               { "p_check", NULL, NULL, false },        { "within_floor", NULL, NULL, false },
        { "base_scheme", NULL, NULL, true },
    };
    bool pair = c->base_scheme && c->head_scheme && strcmp(c->base_scheme, c->head_scheme);
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < c->n_row; i++) {
        const dsb_compare_row *r = &c->rows[i];
        const dsb_judgement *j = &r->j;
        bool tested = j->test != DSB_TEST_NONE, speed = r->unit && !strcmp(r->unit, "tokens/s");
        double diff = j->diff;
        dsb_grid_text(g, pair ? dsb_text_format(arena, "%.60s → %.60s", r->base_scheme, r->head_scheme) : r->head_scheme);
        dsb_grid_text(g, r->metric);
        dsb_grid_figure(g, r->base, "%.6g", r->base);
        dsb_grid_figure(g, r->head, "%.6g", r->head);
        dsb_grid_figure(g, diff, speed ? "%+.1f %%" : "%+.3g", speed ? 100 * diff : diff);
        if (isnan(j->lo) || !tested || j->identical) dsb_grid_text(g, NULL);
        else if (speed) dsb_grid_text(g, dsb_text_format(arena, "[%+.1f, %+.1f] %%", 100 * j->lo, 100 * j->hi));
        else dsb_grid_text(g, dsb_text_format(arena, "[%+.2e, %+.2e]", j->lo, j->hi));
        dsb_grid_figure(g, tested ? j->tolerance : NAN, "%.2g", j->tolerance);
        dsb_grid_figure(g, j->detectable, "%.2e", j->detectable);
        dsb_grid_figure(g, j->p, "%.3g", j->p);
        dsb_grid_figure(g, tested && !j->identical ? j->p_adjusted : NAN, "%.3g", j->p_adjusted);
        dsb_grid_int(g, tested ? j->n : -1);
        dsb_grid_text(g, r->unit);
        dsb_grid_text(g, j->within_floor && !strcmp(r->verdict, "inconclusive") ? "not distinguishable (noise floor)" : r->verdict);
        dsb_grid_int(g, j->gating);
        dsb_grid_figure(g, j->lo, "%g", j->lo);
        dsb_grid_figure(g, j->hi, "%g", j->hi);
        dsb_grid_figure(g, j->p_check, "%g", j->p_check);
        dsb_grid_int(g, j->within_floor);
        dsb_grid_text(g, r->base_scheme);
    }
}

/* How many causes stand before this one: those of a layer's own before those that follow, then the larger change. */
static int64_t rank_of(const dsb_comparison *c, const dsb_blame *b) {
    int64_t before = 0;
    for (int64_t i = 0; i < c->n_blame; i++) {
        const dsb_blame *o = &c->blames[i];
        bool own = b->cause != DSB_CAUSE_UPSTREAM, other = o->cause != DSB_CAUSE_UPSTREAM;
        before += own != other ? other : o->score != b->score ? o->score > b->score : o < b;
    }
    return before;
}

void dsb_compare_causes(const dsb_comparison *c, int64_t most, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true }, { "layer", "layer", NULL, false }, { "cause", "likely cause", NULL, true }, { "what", "what changed", NULL, true },
        { "point", NULL, NULL, true },      { "base_nmse", NULL, NULL, false }, { "head_nmse", NULL, NULL, false },     { "base_rerouted", NULL, NULL, false }, { "head_rerouted", NULL, NULL, false },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < c->n_blame; i++) {
        const dsb_blame *b = &c->blames[i];
        if (most && rank_of(c, b) >= most) continue;
        dsb_grid_text(g, b->head_scheme);
        dsb_grid_int(g, b->layer);
        dsb_grid_text(g, dsb_cause_name(b->cause));
        dsb_grid_text(g, dsb_blame_text(b, arena));
        dsb_grid_text(g, b->point);
        dsb_grid_figure(g, b->base_nmse, "%g", b->base_nmse);
        dsb_grid_figure(g, b->head_nmse, "%g", b->head_nmse);
        dsb_grid_figure(g, b->base_rerouted, "%g", b->base_rerouted);
        dsb_grid_figure(g, b->head_rerouted, "%g", b->head_rerouted);
    }
}

static bool is_gating(const dsb_compare_row *r, dsb_verdict v) { return r->j.gating && r->j.test != DSB_TEST_NONE && r->j.verdict == v; }

/* "kld_mean of int8, delta_nll of int8" of gating rows with that verdict, the first few. */
static void put_rows(const dsb_comparison *c, dsb_verdict v, dsb_text *t) {
    int64_t n = 0;
    for (int64_t i = 0; i < c->n_row; i++) {
        if (!is_gating(&c->rows[i], v)) continue;
        if (n++ < 4) dsb_text_printf(t, "%s%s of %.60s", n > 1 ? ", " : "", c->rows[i].metric, c->rows[i].head_scheme);
    }
    if (n > 4) dsb_text_printf(t, " and %lld more", (long long)n - 4);
}

static const dsb_blame *first_cause(const dsb_comparison *c) {
    const dsb_blame *best = NULL;
    for (int64_t i = 0; i < c->n_blame; i++)
        if (c->blames[i].cause != DSB_CAUSE_UPSTREAM && (!best || c->blames[i].score > best->score)) best = &c->blames[i];
    return best;
}

const char *dsb_compare_sentence(const dsb_comparison *c, dsb_arena *arena) {
    const dsb_blame *b = first_cause(c);
    bool same = !dsb_compare_moved(c);
    dsb_text t;
    dsb_text_init(&t);
    if (c->alarm) dsb_text_put(&t, "Regressed: "), put_rows(c, DSB_VERDICT_REGRESSED, &t);
    else if (same) dsb_text_put(&t, "Equivalent: every figure of every chunk is the same, bit for bit");
    else if (c->open) dsb_text_put(&t, "Inconclusive (no regression shown): "), put_rows(c, DSB_VERDICT_INCONCLUSIVE, &t);
    else if (!strcmp(dsb_compare_verdict(c), "improved")) dsb_text_put(&t, "Improved: "), put_rows(c, DSB_VERDICT_IMPROVED, &t);
    else dsb_text_put(&t, "Equivalent: every gating figure lies within its tolerance");
    dsb_text_put(&t, ".");
    if (b && !same) dsb_text_printf(&t, " The largest change begins in layer %lld (%s).", (long long)b->layer, dsb_cause_name(b->cause));
    const char *kept = dsb_text_clean(arena, t.data ? t.data : "?");
    dsb_text_release(&t);
    return kept ? kept : "?";
}

static void put_line(bool md, const char *line, dsb_text *out) {
    dsb_text_put(out, md ? "- " : "  ");
    if (md) dsb_text_markdown(out, line ? line : "?");
    else dsb_text_put(out, line ? line : "?");
    dsb_text_put(out, "\n");
}

static void put_differences(const dsb_comparison *c, dsb_arena *arena, dsb_report_format format, dsb_text *out) {
    bool md = format == DSB_REPORT_MARKDOWN;
    if (!c->n_difference) return;
    dsb_text_put(out, md ? "\n**What else differs between the runs**\n\n" : "\nWhat else differs between the runs:\n");
    for (int64_t i = 0; i < c->n_difference; i++) {
        const dsb_run_difference *d = &c->differences[i];
        put_line(md, dsb_text_clean(arena, dsb_text_format(arena, "%s: %.120s → %.120s", d->what, d->base, d->head)), out);
    }
}

static void put_causes(const dsb_comparison *c, dsb_arena *arena, dsb_report_format format, dsb_text *out) {
    bool md = format == DSB_REPORT_MARKDOWN;
    if (!c->n_blame) return;
    dsb_text_put(out, md ? "\n**Where it changed most, and the likely cause**\n\n" : "\nWhere it changed most, and the likely cause:\n");
    for (int64_t i = 0; i < c->n_blame; i++) {
        const dsb_blame *b = &c->blames[i];
        const char *line = dsb_text_clean(arena, dsb_text_format(arena, "%.60s, layer %lld: %s: %s", b->head_scheme, (long long)b->layer, dsb_cause_name(b->cause), dsb_blame_text(b, arena)));
        put_line(md, line, out);
    }
    if (c->n_upstream) put_line(md, dsb_text_format(arena, "%lld layers (of all schemes together) only follow: by themselves they are as they were", (long long)c->n_upstream), out);
}

static dsb_status write_reading(const dsb_comparison *c, dsb_arena *arena, dsb_report_format format, dsb_text *out, dsb_err *err) {
    bool md = format == DSB_REPORT_MARKDOWN;
    dsb_grid rows;
    const char *sentence = dsb_compare_sentence(c, arena), *names = dsb_text_clean(arena, dsb_text_format(arena, "base %.140s, head %.140s", c->base_name, c->head_name));
    dsb_text_put(out, md ? "### dsbench: " : "");
    if (md) dsb_text_markdown(out, sentence);
    else dsb_text_put(out, sentence);
    dsb_text_put(out, "\n\n");
    if (md) dsb_text_markdown(out, names ? names : "?");
    else dsb_text_put(out, names ? names : "?");
    dsb_text_printf(out, ": %lld chunks of %lld tokens; differences are head minus base, paired by chunk (acc, acc_norm: by item)\n\n", (long long)c->head.run.n_chunk, (long long)c->head.run.n_ctx);
    dsb_compare_grid(c, arena, &rows);
    DSB_TRY(dsb_grid_write(&rows, format, out, err));
    put_causes(c, arena, format, out);
    put_differences(c, arena, format, out);
    return dsb_text_check(out, "the comparison", err);
}

static json_t *differences_json(const dsb_comparison *c, dsb_arena *arena) {
    json_t *array = json_array();
    for (int64_t i = 0; i < c->n_difference; i++) {
        const dsb_run_difference *d = &c->differences[i];
        const char *const text[] = { d->what, d->base, d->head }, *const keys[] = { "what", "base", "head" };
        json_t *object = json_object();
        for (int k = 0; k < 3; k++) {
            char *clean = dsb_text_clean(arena, text[k]);
            json_object_set_new(object, keys[k], json_string(clean ? clean : ""));
        }
        json_array_append_new(array, object);
    }
    return array;
}

static dsb_status write_json(const dsb_comparison *c, dsb_arena *arena, dsb_text *out, dsb_err *err) {
    dsb_grid rows, causes;
    json_t *doc = json_object();
    char *clean_base = dsb_text_clean(arena, c->base_name), *clean_head = dsb_text_clean(arena, c->head_name);
    dsb_compare_grid(c, arena, &rows);
    dsb_compare_causes(c, 0, arena, &causes);
    json_object_set_new(doc, "base", json_string(clean_base ? clean_base : ""));
    json_object_set_new(doc, "head", json_string(clean_head ? clean_head : ""));
    json_object_set_new(doc, "verdict", json_string(dsb_compare_verdict(c)));
    json_object_set_new(doc, "sentence", json_string(dsb_compare_sentence(c, arena)));
    json_object_set_new(doc, "regressed", json_boolean(c->alarm));
    json_object_set_new(doc, "inconclusive", json_boolean(c->open));
    json_object_set_new(doc, "rows", dsb_grid_json(&rows));
    json_object_set_new(doc, "causes", dsb_grid_json(&causes));
    json_object_set_new(doc, "differences", differences_json(c, arena));
    char *text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
    json_decref(doc);
    if (!text) return dsb_fail(err, DSB_ENOMEM, "out of memory while writing the comparison");
    dsb_text_put(out, text);
    dsb_text_put(out, "\n");
    free(text);
    return dsb_text_check(out, "the comparison", err);
}

dsb_status dsb_compare_write(const dsb_comparison *c, dsb_arena *arena, dsb_report_format format, dsb_text *out, dsb_err *err) {
    return format == DSB_REPORT_JSON ? write_json(c, arena, out, err) : write_reading(c, arena, format, out, err);
}

/* Cleaned of what XML can't hold, then escaped. */
static void put_xml(dsb_text *out, dsb_arena *arena, const char *text) {
    char *clean = dsb_text_clean(arena, text);
    dsb_text_html(out, clean ? clean : "?");
}

static bool fails(const dsb_compare_row *r, bool strict) { return is_gating(r, DSB_VERDICT_REGRESSED) || (strict && is_gating(r, DSB_VERDICT_INCONCLUSIVE)); }
static bool skips(const dsb_compare_row *r, bool strict) { return !strict && is_gating(r, DSB_VERDICT_INCONCLUSIVE); }

static const char *row_message(const dsb_compare_row *r, dsb_arena *arena) {
    const dsb_judgement *j = &r->j;
    return dsb_text_format(arena, "%s: %.6g against %.6g, difference %+.3g [%+.3g, %+.3g], tolerance %.3g, p %.3g, detectable %.3g %s", r->verdict, r->head, r->base, j->diff, j->lo, j->hi, j->tolerance,
                           j->p_adjusted, j->detectable, r->unit ? r->unit : "");
}

static void put_case(const dsb_comparison *c, const dsb_compare_row *r, dsb_arena *arena, bool strict, dsb_text *out) {
    dsb_text_put(out, "  <testcase classname=\"dsbench.");
    put_xml(out, arena, r->head_scheme);
    dsb_text_put(out, "\" name=\"");
    put_xml(out, arena, r->metric);
    dsb_text_put(out, "\">");
    if (fails(r, strict) || skips(r, strict)) {
        dsb_text_printf(out, fails(r, strict) ? "<failure type=\"%s\" message=\"" : "<skipped message=\"", r->verdict);
        put_xml(out, arena, row_message(r, arena));
        dsb_text_put(out, fails(r, strict) ? "\">" : "\"/>");
    }
    for (int64_t i = 0; i < c->n_blame && fails(r, strict); i++) {
        const dsb_blame *b = &c->blames[i];
        if (strcmp(b->head_scheme, r->head_scheme)) continue;
        put_xml(out, arena, dsb_text_format(arena, "layer %lld, %s: %s", (long long)b->layer, dsb_cause_name(b->cause), dsb_blame_text(b, arena)));
        dsb_text_put(out, "\n");
    }
    if (fails(r, strict)) dsb_text_put(out, "</failure>");
    dsb_text_put(out, "<system-out>");
    put_xml(out, arena, row_message(r, arena));
    dsb_text_put(out, "</system-out></testcase>\n");
}

dsb_status dsb_compare_junit(const dsb_comparison *c, dsb_arena *arena, bool strict, dsb_text *out, dsb_err *err) {
    dsb_text_put(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"dsbench\">\n");
    for (int64_t i = 0, end; i < c->n_row; i = end) {
        int64_t failed = 0, skipped = 0;
        for (end = i; end < c->n_row && !strcmp(c->rows[end].head_scheme, c->rows[i].head_scheme); end++) failed += fails(&c->rows[end], strict), skipped += skips(&c->rows[end], strict);
        dsb_text_put(out, " <testsuite name=\"");
        put_xml(out, arena, c->rows[i].head_scheme);
        dsb_text_printf(out, "\" tests=\"%lld\" failures=\"%lld\" errors=\"0\" skipped=\"%lld\">\n", (long long)(end - i), (long long)failed, (long long)skipped);
        for (int64_t k = i; k < end; k++) put_case(c, &c->rows[k], arena, strict, out);
        dsb_text_put(out, " </testsuite>\n");
    }
    dsb_text_put(out, "</testsuites>\n");
    return dsb_text_check(out, "the comparison", err);
}
