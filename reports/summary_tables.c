/* The summary as tables and sentences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/inspect.h"
#include "reports/summary.h"

static double percent_ppl(double delta_nll) { return 100 * expm1(delta_nll); }

const char *dsb_summary_verdict(const dsb_digest *d, dsb_arena *arena) {
    switch (d->standing) {
    case DSB_STANDING_REFERENCE: return "reference";
    case DSB_STANDING_FLOOR: return "noise floor";
    case DSB_STANDING_WITHIN: return "not distinguishable from " DSB_FLOOR;
    case DSB_STANDING_UNSURE: return "no perplexity difference shown";
    case DSB_STANDING_UNKNOWN: return "not measured";
    default:
        return dsb_text_format(arena, "perplexity %+.3g %% [%+.3g, %+.3g]", percent_ppl(d->delta_nll.value), percent_ppl(d->delta_nll.lo),
                               percent_ppl(d->delta_nll.hi));
    }
}

void dsb_summary_accuracy(const dsb_summary *s, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },
        { "ppl", "ppl [95 %]", NULL, false },
        { "delta_nll", "Δnll [95 %]", "10⁻³ nats/token", false },
        { "kld_mean", "KLD mean", "nats/token", false },
        { "kld_p99", "KLD p99", "nats/token", false },
        { "top1_agreement", "same top-1", "%", false },
        { "accuracy_kept", "accuracy kept", "%", false },
        { "selection_change", "rerouted", "% of tokens", false },
        { "worst_layer_nmse", "worst layer", "nmse (layer)", false },
        { "verdict", "verdict", NULL, true },
        { "delta_nll_lo", NULL, NULL, false }, { "delta_nll_hi", NULL, NULL, false }, { "kld_lo", NULL, NULL, false }, { "kld_hi", NULL, NULL, false },
        { "worst_layer", NULL, NULL, false },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_digest *d = &s->schemes[i];
        if (d == s->ship) g->marked = i;
        dsb_grid_text(g, d->scheme->name);
        if (isnan(d->ppl.lo)) dsb_grid_figure(g, d->ppl.value, "%.3f", d->ppl.value);
        else dsb_grid_figure(g, d->ppl.value, "%.5g [%.4g, %.4g]", d->ppl.value, d->ppl.lo, d->ppl.hi);
        if (isnan(d->delta_nll.lo)) dsb_grid_figure(g, d->delta_nll.value, "%+.2f", 1e3 * d->delta_nll.value);
        else dsb_grid_figure(g, d->delta_nll.value, "%+.2f [%+.2f, %+.2f]", 1e3 * d->delta_nll.value, 1e3 * d->delta_nll.lo, 1e3 * d->delta_nll.hi);
        dsb_grid_figure(g, d->kld.value, "%.2e", d->kld.value);
        dsb_grid_figure(g, d->kld_p99, "%.2e", d->kld_p99);
        dsb_grid_figure(g, d->top1_agreement, "%.2f", 100 * d->top1_agreement);
        dsb_grid_figure(g, d->accuracy_kept, "%.2f", 100 * d->accuracy_kept);
        dsb_grid_figure(g, d->selection_change, "%.2f", 100 * d->selection_change);
        if (d->worst_nonfinite) dsb_grid_not_finite(g, d->worst_nonfinite);
        else dsb_grid_figure(g, d->worst_nmse, "%.1e (%lld)", d->worst_nmse, (long long)d->worst_layer);
        dsb_grid_text(g, dsb_summary_verdict(d, arena));
        dsb_grid_figure(g, d->delta_nll.lo, "%g", d->delta_nll.lo);
        dsb_grid_figure(g, d->delta_nll.hi, "%g", d->delta_nll.hi);
        dsb_grid_figure(g, d->kld.lo, "%g", d->kld.lo);
        dsb_grid_figure(g, d->kld.hi, "%g", d->kld.hi);
        dsb_grid_int(g, d->worst_layer);
    }
}

static double tps(const dsb_throughput *t) { return t ? t->tps_median : NAN; }

/* Enough digits for three figures: 1480, 71.3, 6.54. */
static void speed_cell(dsb_grid *g, const dsb_throughput *t) {
    double v = tps(t);
    dsb_grid_figure(g, v, "%.*f", v < 10 ? 2 : v < 100 ? 1 : 0, v);
}

static void time_cell(dsb_grid *g, double ms) { dsb_grid_figure(g, ms, "%.2f", ms); }

void dsb_summary_cost(const dsb_summary *s, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },
        { "bpw", "bits", "per weight", false },
        { "weight_bytes", "size", NULL, false },
        { "smaller_than_f32", "smaller", "than FP32", false },
        { "smaller_than_bf16", "smaller", "than BF16", false },
        { "prefill_tps", "prefill", "tokens/s", false },
        { "prefill_vs_bf16", "faster", "than bf16", false },
        { "prefill_vs_f32", "faster", "than FP32", false },
        { "decode_tps", "decode", "tokens/s", false },
        { "decode_vs_bf16", "faster", "than bf16", false },
        { "decode_vs_f32", "faster", "than FP32", false },
        { "kernels", "kernels", NULL, true },
        { "ttft_ms", NULL, NULL, false }, { "tpot_ms", NULL, NULL, false }, { "tpot_p50_ms", NULL, NULL, false }, { "tpot_p99_ms", NULL, NULL, false },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_digest *d = &s->schemes[i];
        if (d == s->ship) g->marked = i;
        dsb_grid_text(g, d->scheme->name);
        dsb_grid_figure(g, d->scheme->bpw_total, "%.2f", d->scheme->bpw_total);
        dsb_grid_figure(g, d->bytes, "%s", dsb_text_size(arena, d->bytes));
        dsb_grid_figure(g, d->vs_f32_size, "%.2f×", d->vs_f32_size);
        dsb_grid_figure(g, d->vs_bf16_size, "%.2f×", d->vs_bf16_size);
        speed_cell(g, d->prefill);
        dsb_grid_figure(g, d->prefill_vs_bf16, "%.2f×", d->prefill_vs_bf16);
        dsb_grid_figure(g, d->prefill_vs_f32, "%.2f×", d->prefill_vs_f32);
        speed_cell(g, d->decode);
        dsb_grid_figure(g, d->decode_vs_bf16, "%.2f×", d->decode_vs_bf16);
        dsb_grid_figure(g, d->decode_vs_f32, "%.2f×", d->decode_vs_f32);
        dsb_grid_text(g, d->scheme->kernels);
        time_cell(g, d->prefill ? d->prefill->ttft_ms : NAN);
        time_cell(g, d->decode ? d->decode->tpot_ms : NAN);
        time_cell(g, d->decode ? d->decode->tpot_p50_ms : NAN);
        time_cell(g, d->decode ? d->decode->tpot_p99_ms : NAN);
    }
}

/* "yes 3.97×" against a least value, judged as it prints: a quarter is 4.0× with one decimal. */
static void claim_cell(dsb_grid *g, dsb_arena *arena, double value, double least) {
    if (isnan(value)) dsb_grid_text(g, NULL);
    else dsb_grid_text(g, dsb_text_format(arena, "%s %.1f×", round(value * 10) / 10 >= least ? "yes" : "no", value));
}

void dsb_summary_claim(const dsb_summary *s, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },
        { "size_vs_f32", "¼ of the size?", "against FP32", false },
        { "prefill_vs_f32", "2–3× prefill?", "against FP32", false },
        { "decode_vs_f32", "2–3× decode?", "against FP32", false },
        { "size_vs_bf16", "¼ of the size?", "against BF16", false },
        { "prefill_vs_bf16", "2–3× prefill?", "against bf16", false },
        { "decode_vs_bf16", "2–3× decode?", "against bf16", false },
        { "accuracy", "95 % of the accuracy?", "top-1, next token", false },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_digest *d = &s->schemes[i];
        if (d->standing == DSB_STANDING_REFERENCE) continue;
        if (d == s->ship) g->marked = dsb_grid_rows(g);
        dsb_grid_text(g, d->scheme->name);
        claim_cell(g, arena, d->vs_f32_size, 4);
        claim_cell(g, arena, d->prefill_vs_f32, 2);
        claim_cell(g, arena, d->decode_vs_f32, 2);
        claim_cell(g, arena, d->vs_bf16_size, 4);
        claim_cell(g, arena, d->prefill_vs_bf16, 2);
        claim_cell(g, arena, d->decode_vs_bf16, 2);
        if (isnan(d->accuracy_kept)) dsb_grid_text(g, NULL);
        else dsb_grid_text(g, dsb_text_format(arena, "%s %.1f %%", d->accuracy_kept >= 0.95 ? "yes" : "no", 100 * d->accuracy_kept));
    }
}

/* "48.3 [41.2, 55.4]" in per cent, or points with a sign. */
static void share_cell(dsb_grid *g, const dsb_run_data *d, const char *scheme, const char *metric, bool sign) {
    const dsb_quality *q = dsb_run_quality(d, scheme, metric);
    double v = q ? q->value : NAN;
    if (!q || isnan(q->lo)) dsb_grid_figure(g, v, sign ? "%+.2f" : "%.2f", 100 * v);
    else dsb_grid_figure(g, v, sign ? "%+.2f [%+.2f, %+.2f]" : "%.2f [%.2f, %.2f]", 100 * v, 100 * q->lo, 100 * q->hi);
}

static void count_cell(dsb_grid *g, const dsb_run_data *d, const char *scheme, const char *metric) {
    double v = dsb_run_value(d, scheme, metric);
    dsb_grid_figure(g, v, "%.0f", v);
}

void dsb_summary_choice(const dsb_summary *s, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },
        { "acc", "acc [95 %]", "%", false },
        { "delta_acc", "Δacc [95 %]", "points", false },
        { "acc_changed", "changed", "% of answers", false },
        { "acc_right_to_wrong", "right→wrong", "items", false },
        { "acc_wrong_to_right", "wrong→right", "items", false },
        { "acc_norm", "acc_norm [95 %]", "%", false },
        { "delta_acc_norm", "Δacc_norm [95 %]", "points", false },
        { "acc_norm_changed", "changed", "% of answers", false },
        { "acc_norm_right_to_wrong", "right→wrong", "items", false },
        { "acc_norm_wrong_to_right", "wrong→right", "items", false },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_digest *d = &s->schemes[i];
        const char *name = d->scheme->name;
        if (!dsb_run_quality(s->data, name, "acc")) continue;
        if (d == s->ship) g->marked = dsb_grid_rows(g);
        dsb_grid_text(g, name);
        share_cell(g, s->data, name, "acc", false);
        share_cell(g, s->data, name, "delta_acc", true);
        share_cell(g, s->data, name, "acc_changed", false);
        count_cell(g, s->data, name, "acc_right_to_wrong");
        count_cell(g, s->data, name, "acc_wrong_to_right");
        share_cell(g, s->data, name, "acc_norm", false);
        share_cell(g, s->data, name, "delta_acc_norm", true);
        share_cell(g, s->data, name, "acc_norm_changed", false);
        count_cell(g, s->data, name, "acc_norm_right_to_wrong");
        count_cell(g, s->data, name, "acc_norm_wrong_to_right");
    }
}

static const char *name_of(const dsb_digest *d, dsb_arena *arena) {
    const char *name = dsb_text_clean(arena, d->scheme->name);
    return name ? name : "?";
}

static void describe(const dsb_digest *d, dsb_arena *arena, dsb_text *out) {
    dsb_text_printf(out, "%s: %.2f bits per weight", name_of(d, arena), d->scheme->bpw_total);
    if (!isnan(d->vs_bf16_size)) dsb_text_printf(out, ", %.1f× smaller than BF16", d->vs_bf16_size);
    if (!isnan(d->decode_vs_bf16)) dsb_text_printf(out, ", decodes %.1f× as fast as bf16", d->decode_vs_bf16);
    dsb_text_printf(out, ", perplexity %+.2f %%", percent_ppl(d->delta_nll.value));
    if (!isnan(d->delta_nll.lo)) dsb_text_printf(out, " [%+.2f, %+.2f]", percent_ppl(d->delta_nll.lo), percent_ppl(d->delta_nll.hi));
    if (!isnan(d->top1_agreement)) dsb_text_printf(out, ", same next token %.1f %% of the time", 100 * d->top1_agreement);
}

void dsb_summary_answer(const dsb_summary *s, dsb_arena *arena, dsb_text *out) {
    if (!s->ship) dsb_text_put(out, "No scheme of this run keeps the perplexity within 1 % (upper end of the 95 % interval).");
    if (s->ship) {
        dsb_text_put(out, "Ship ");
        describe(s->ship, arena, out);
        bool known = !isnan(s->ship->delta_nll.hi);
        dsb_text_printf(out, ". It is the smallest whose perplexity rises by at most 1 %% (%s).", known ? "upper end of the 95 % interval" : "measured; too few chunks for an interval");
    }
    if (s->frugal) {
        dsb_text_put(out, "\nWhere 5 % may be lost, ");
        describe(s->frugal, arena, out);
        dsb_text_put(out, ".");
    }
    if (s->faithful && s->faithful != s->ship && s->faithful != s->frugal) {
        dsb_text_put(out, "\nNearest to the reference, ");
        describe(s->faithful, arena, out);
        dsb_text_put(out, ".");
    }
}

static void warnings(const dsb_run_data *d, dsb_arena *arena, dsb_report_format format, dsb_text *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_event; i++) {
        const dsb_event *e = &d->events[i];
        if (!dsb_event_is_warning(e) || ++n > DSB_WARNINGS_SHOWN) continue;
        const char *scheme = e->scheme ? dsb_text_clean(arena, e->scheme) : NULL, *text = dsb_text_clean(arena, e->text ? e->text : "?");
        dsb_text_printf(out, "%s%s%s%s%s\n", n == 1 && format == DSB_REPORT_MARKDOWN ? "\n" : "", format == DSB_REPORT_MARKDOWN ? "- " : "warning: ", scheme ? scheme : "", scheme ? ": " : "", text ? text : "?");
    }
    if (n > DSB_WARNINGS_SHOWN) dsb_text_printf(out, "%sand %lld more, in table event\n", format == DSB_REPORT_MARKDOWN ? "- " : "warning: ", (long long)(n - DSB_WARNINGS_SHOWN));
}

/* What schemes report of themselves: what compensation won. */
static void notes(const dsb_run_data *d, dsb_arena *arena, dsb_report_format format, dsb_text *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_event; i++) {
        const dsb_event *e = &d->events[i];
        if (!dsb_event_is_note(e)) continue;
        const char *scheme = dsb_text_clean(arena, e->scheme), *text = dsb_text_clean(arena, e->text);
        const char *won = dsb_event_is_last_note(d, e) ? dsb_compensation_won(d, arena, e->scheme) : NULL, *item = format == DSB_REPORT_MARKDOWN ? "- " : "";
        dsb_text_printf(out, "%s%s%s: %s\n", n++ == 0 ? "\n" : "", item, scheme ? scheme : "?", text ? text : "?");
        if (won) dsb_text_printf(out, "%s%s: %s\n", item, scheme ? scheme : "?", won);
    }
}

static json_t *warnings_json(const dsb_run_data *d, dsb_arena *arena) {
    json_t *list = json_array();
    for (int64_t i = 0; i < d->n_event; i++) {
        const dsb_event *e = &d->events[i];
        if (!dsb_event_is_warning(e)) continue;
        const char *scheme = e->scheme ? dsb_text_clean(arena, e->scheme) : NULL, *text = dsb_text_clean(arena, e->text ? e->text : "?");
        json_array_append_new(list, json_pack("{s:s?, s:s?, s:o, s:s?}", "scheme", scheme, "level", e->level, "layer", e->layer < 0 ? json_null() : json_integer(e->layer), "text", text));
    }
    return list;
}

static json_t *merged_json(const dsb_summary *s, dsb_arena *arena) {
    dsb_grid accuracy, cost, choice;
    dsb_summary_accuracy(s, arena, &accuracy);
    dsb_summary_cost(s, arena, &cost);
    json_t *schemes = dsb_grid_json(&accuracy), *more = dsb_grid_json(&cost), *doc = json_object();
    for (size_t i = 0; i < json_array_size(schemes); i++) json_object_update_missing(json_array_get(schemes, i), json_array_get(more, i));
    json_decref(more);
    dsb_summary_choice(s, arena, &choice);
    if (dsb_grid_rows(&choice)) json_object_set_new(doc, "task", dsb_grid_json(&choice));
    const char *id = dsb_text_clean(arena, s->data->run.id);
    json_object_set_new(doc, "run", json_string(id ? id : ""));
    json_object_set_new(doc, "status", s->data->run.status ? json_string(s->data->run.status) : json_null());
    json_object_set_new(doc, "ship", s->ship ? json_string(name_of(s->ship, arena)) : json_null());
    json_object_set_new(doc, "schemes", schemes);
    json_object_set_new(doc, "warnings", warnings_json(s->data, arena));
    return doc;
}

static void section(const dsb_grid *g, dsb_report_format format, const char *title, dsb_text *out) {
    dsb_text_printf(out, format == DSB_REPORT_MARKDOWN ? "\n### %s\n\n" : "\n%s\n", title);
    dsb_grid_write(g, format, out, NULL);
}

static const char *task_title(const dsb_run_record *run, dsb_arena *arena) {
    const char *path = dsb_text_clean(arena, run->task_path ? run->task_path : "?");
    return dsb_text_format(arena, "Multiple choice: %.120s, %lld items", path ? path : "?", (long long)run->n_item);
}

static dsb_status print_run(const dsb_summary *s, dsb_arena *arena, dsb_report_format format, dsb_text *out, dsb_err *err) {
    const dsb_run_record *run = &s->data->run;
    const char *nothing = "?";
    dsb_grid g;
    if (format == DSB_REPORT_JSON) {
        json_t *doc = merged_json(s, arena);
        char *text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
        json_decref(doc);
        dsb_text_put(out, text);
        dsb_text_put(out, "\n");
        bool ok = text != NULL;
        free(text);
        return ok ? dsb_text_check(out, "the summary", err) : dsb_fail(err, DSB_ENOMEM, "out of memory while writing the summary");
    }
    const char *model = dsb_text_clean(arena, run->model.name ? run->model.name : nothing), *text = dsb_text_clean(arena, run->dataset.name ? run->dataset.name : nothing);
    dsb_text_printf(out, "Run %s (%s): model %s, text %s, %lld chunks of %lld tokens, %lld scored, convention %s\n", run->id, run->status, model, text,
                    (long long)run->n_chunk, (long long)run->n_ctx, (long long)run->n_scored, run->convention ? run->convention : nothing);
    warnings(s->data, arena, format, out);
    notes(s->data, arena, format, out);
    dsb_summary_accuracy(s, arena, &g);
    section(&g, format, "Accuracy against the reference", out);
    dsb_summary_choice(s, arena, &g);
    if (dsb_grid_rows(&g)) section(&g, format, task_title(run, arena), out);
    dsb_summary_cost(s, arena, &g);
    section(&g, format, "Size and speed", out);
    dsb_summary_claim(s, arena, &g);
    section(&g, format, "\"A quarter of the size, 2 to 3 times the speed, 95 % of the accuracy\": is it so?", out);
    dsb_text_put(out, "\n");
    dsb_summary_answer(s, arena, out);
    dsb_text_put(out, "\n");
    char guide[1024];
    if (dsb_expert_guide(s->data, arena, guide, sizeof guide)) dsb_text_printf(out, "%s\n", guide);
    return dsb_text_check(out, "the summary", err);
}

dsb_status dsb_summary_print(dsb_db *db, const char *run_id, dsb_report_format format, dsb_text *out, dsb_err *err) {
    dsb_arena arena;
    dsb_run_data data;
    dsb_summary summary;
    dsb_arena_init(&arena);
    dsb_status s = dsb_run_data_load(db, &arena, run_id, &data, err);
    if (!s) s = dsb_summary_make(&data, &arena, &summary, err);
    if (!s) s = print_run(&summary, &arena, format, out, err);
    dsb_arena_release(&arena);
    return s;
}
