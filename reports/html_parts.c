#include "reports/html_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reports/inspect.h"
#include "reports/plot_table.h"

void dsb_page_grid(dsb_page *p, const dsb_grid *g) {
    if (dsb_grid_rows(g)) dsb_grid_write(g, DSB_REPORT_HTML, p->out, NULL);
}

/* gnuplot gives the same ids to every picture; in one page each needs its own, in definition and use. */
static void put_svg(dsb_page *p, const char *svg) {
    static const char *const marks[] = { "id=\"", "id='", "href='#", "href=\"#", "url(#" };
    const char *at = strstr(svg, "<svg");
    if (!at) return;
    while (*at) {
        size_t match = 0;
        for (size_t i = 0; i < sizeof marks / sizeof *marks && !match; i++)
            if (!strncmp(at, marks[i], strlen(marks[i]))) match = strlen(marks[i]);
        dsb_text_bytes(p->out, at, match ? match : 1);
        if (match) dsb_text_printf(p->out, "p%d_", p->n_plot);
        at += match ? match : 1;
    }
}

void dsb_page_plot(dsb_page *p, const char *name, const char *caption) {
    const dsb_plot *plot = dsb_plot_find(name);
    dsb_text svg;
    dsb_err err = { 0 };
    bool drawn = false;
    if (!plot || p->missing[0]) return; /* one failure is enough: a hanging gnuplot would hang ten times */
    dsb_text_init(&svg);
    if (dsb_plot_draw(plot, p->s, DSB_PICTURE_SVG, &svg, &drawn, &err)) snprintf(p->missing, sizeof p->missing, "%.299s", err.text);
    else if (drawn && svg.data) {
        p->n_plot++;
        dsb_text_printf(p->out, "<figure id=\"plot-%s\">\n", name);
        put_svg(p, svg.data);
        dsb_text_put(p->out, "<figcaption>");
        dsb_text_html(p->out, caption);
        dsb_text_put(p->out, "</figcaption></figure>\n");
    }
    dsb_text_release(&svg);
}

static void tile(dsb_page *p, const char *figure, const char *what) {
    dsb_text_put(p->out, "<div class=\"tile\"><b>");
    dsb_text_html(p->out, figure);
    dsb_text_put(p->out, "</b><span>");
    dsb_text_html(p->out, what);
    dsb_text_put(p->out, "</span></div>");
}

static void tile_figure(dsb_page *p, double value, const char *figure, const char *what) {
    if (!isnan(value)) tile(p, figure, what);
}

static void tiles(dsb_page *p, const dsb_digest *d) {
    dsb_arena *a = p->arena;
    double ppl = 100 * expm1(d->delta_nll.value);
    dsb_text_put(p->out, "<div class=\"tiles\">");
    tile_figure(p, d->vs_bf16_size, dsb_text_format(a, "%.2f×", d->vs_bf16_size), "smaller than BF16");
    tile_figure(p, d->vs_f32_size, dsb_text_format(a, "%.2f×", d->vs_f32_size), "smaller than FP32");
    tile_figure(p, d->prefill_vs_bf16, dsb_text_format(a, "%.2f×", d->prefill_vs_bf16), "prefill speed of bf16");
    tile_figure(p, d->decode_vs_bf16, dsb_text_format(a, "%.2f×", d->decode_vs_bf16), "decode speed of bf16");
    tile_figure(p, ppl, dsb_text_format(a, "%+.2f %%", ppl), "perplexity");
    tile_figure(p, d->top1_agreement, dsb_text_format(a, "%.1f %%", 100 * d->top1_agreement), "same next token");
    tile_figure(p, d->selection_change, dsb_text_format(a, "%.1f %%", 100 * d->selection_change), "tokens rerouted, per layer");
    dsb_text_put(p->out, "</div>\n");
}

void dsb_page_answer(dsb_page *p) {
    dsb_text answer;
    dsb_text_init(&answer);
    dsb_summary_answer(p->s, p->arena, &answer);
    dsb_text_put(p->out, "<section class=\"answer\" id=\"answer\"><span class=\"soft\">Which scheme should I ship?</span><strong>");
    if (p->s->ship) dsb_text_html(p->out, p->s->ship->scheme->name);
    else dsb_text_put(p->out, "None of these");
    dsb_text_put(p->out, "</strong>\n");
    for (char *line = answer.data; line && *line;) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        dsb_text_put(p->out, "<p>");
        dsb_text_html(p->out, line);
        dsb_text_put(p->out, "</p>\n");
        line = end ? end + 1 : NULL;
    }
    if (p->s->ship) tiles(p, p->s->ship);
    dsb_text_put(p->out, "</section>\n");
    dsb_text_release(&answer);
}

void dsb_page_warnings(dsb_page *p) {
    const dsb_run_data *d = p->s->data;
    bool unfinished = !d->run.status || strcmp(d->run.status, "done");
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_event; i++) n += dsb_event_is_warning(&d->events[i]);
    if (!unfinished && !n) return;
    dsb_text_put(p->out, "<section class=\"warn\" id=\"warnings\"><h2>Read this first</h2><ul>\n");
    if (unfinished) {
        dsb_text_put(p->out, "<li>This run's status is <b>");
        dsb_text_html(p->out, d->run.status ? d->run.status : "unknown");
        dsb_text_put(p->out, "</b>: what follows is what it stored, not a whole result.</li>\n");
    }
    int64_t shown = 0;
    for (int64_t i = 0; i < d->n_event && shown < DSB_WARNINGS_SHOWN; i++) {
        if (!dsb_event_is_warning(&d->events[i])) continue;
        shown++;
        dsb_text_put(p->out, "<li>");
        if (d->events[i].scheme) {
            dsb_text_html(p->out, d->events[i].scheme);
            dsb_text_put(p->out, ": ");
        }
        dsb_text_html(p->out, d->events[i].text);
        dsb_text_put(p->out, "</li>\n");
    }
    if (n > shown) dsb_text_printf(p->out, "<li>and %lld more, in table event</li>\n", (long long)(n - shown));
    dsb_text_put(p->out, "</ul></section>\n");
}

static void note(dsb_page *p, const char *scheme, const char *text) {
    dsb_text_put(p->out, "<li><b>");
    dsb_text_html(p->out, scheme);
    dsb_text_put(p->out, "</b>: ");
    dsb_text_html(p->out, text);
    dsb_text_put(p->out, "</li>\n");
}

void dsb_page_notes(dsb_page *p) {
    const dsb_run_data *d = p->s->data;
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_event; i++) {
        const dsb_event *e = &d->events[i];
        if (!dsb_event_is_note(e)) continue;
        if (n++ == 0) dsb_text_put(p->out, "<section id=\"notes\"><h2>What compensation won</h2><ul>\n");
        note(p, e->scheme, e->text);
        const char *won = dsb_event_is_last_note(d, e) ? dsb_compensation_won(d, p->arena, e->scheme) : NULL;
        if (won) note(p, e->scheme, won);
    }
    if (n) dsb_text_put(p->out, "</ul></section>\n");
}

static const char *const reading[][2] = {
    { "ppl", "Perplexity: e to the mean negative log probability of the true next token, with its 95 % interval over this text; schemes are compared by Δnll, which is paired and far sharper." },
    { "Δnll", "Mean difference of negative log probability, scheme minus reference, over the same positions. 95 % interval by bootstrap over chunks. 0.01 is 1 % of perplexity." },
    { "KLD", "Kullback–Leibler divergence of the scheme's next-token distribution from the reference's: 0 means the same prediction. p99: the worst hundredth of the positions." },
    { "same top-1", "Share of positions where both would choose the same next token." },
    { "accuracy kept", "Right next tokens of the scheme as a share of those of the reference, greedy choice." },
    { "rerouted", "Share of tokens that a layer sends to another set of experts than the reference does; mean over MoE layers, each scheme on its own stream." },
    { "nmse", "Σ(x−y)² / Σx² of a layer's output x (reference) against y (scheme). 0.01 is an error of a tenth of the signal's size." },
    { "isolated, accumulated", "Isolated: the reference's input goes into the scheme's layer, so the error is that layer's own. Accumulated: the scheme's own input, so errors of earlier layers are in it." },
    { "noise floor", "bf16: the reference's weights with the activations that serving engines carry. A scheme whose KLD is not above it can't be told from it." },
    { "bits per weight", "All stored bytes, scales included, over all weights." },
    { "roofline", "Achieved GB/s or GOP/s as a share of what this machine's memory or arithmetic gave, measured in the same run." },
};

void dsb_page_reading(dsb_page *p) {
    dsb_text_put(p->out, "<section id=\"reading\"><h2>How to read it</h2><dl>\n");
    for (size_t i = 0; i < sizeof reading / sizeof *reading; i++) {
        dsb_text_put(p->out, "<dt>");
        dsb_text_html(p->out, reading[i][0]);
        dsb_text_put(p->out, "</dt><dd>");
        dsb_text_html(p->out, reading[i][1]);
        dsb_text_put(p->out, "</dd>\n");
    }
    dsb_text_put(p->out, "</dl></section>\n");
}

static void fact(dsb_page *p, const char *what, bool code, const char *value) {
    if (!value || !*value) return;
    dsb_text_put(p->out, "<dt>");
    dsb_text_html(p->out, what);
    dsb_text_put(p->out, code ? "</dt><dd><code>" : "</dt><dd>");
    dsb_text_html(p->out, value);
    dsb_text_put(p->out, code ? "</code></dd>\n" : "</dd>\n");
}

static void text_facts(dsb_page *p, const char *what, const dsb_dataset_facts *t) {
    if (!t->path && !t->name) return;
    fact(p, what, false, dsb_text_format(p->arena, "%.120s, %s%s", t->name ? t->name : t->path, dsb_text_size(p->arena, (double)t->bytes), t->reflowed == 1 ? ", reflowed" : ""));
    fact(p, "its SHA-256", true, t->sha256);
}

static const char *or_unknown(const char *text) { return text ? text : "?"; }

void dsb_page_facts(dsb_page *p) {
    const dsb_run_record *r = &p->s->data->run;
    const dsb_model_facts *m = &r->model;
    dsb_arena *a = p->arena;
    dsb_text_put(p->out, "<section id=\"facts\"><h2>Facts of the run</h2><dl>\n");
    fact(p, "run", true, r->id);
    fact(p, "started", false, r->created_utc);
    fact(p, "command", true, r->command_line);
    fact(p, "model", false, dsb_text_format(a, "%.120s (%.60s): %.1f M weights, %lld layers, %lld experts, %lld chosen a token", or_unknown(m->name), or_unknown(m->arch), (double)m->n_param / 1e6,
                                            (long long)m->n_layer, (long long)m->n_expert, (long long)m->k));
    fact(p, "its path", true, m->path);
    fact(p, "its SHA-256", true, m->sha256);
    text_facts(p, "text", &r->dataset);
    text_facts(p, "calibration text", &r->calibration);
    if (r->task_path) fact(p, "multiple choice", false, dsb_text_format(a, "%.120s, %lld items", r->task_path, (long long)r->n_item));
    fact(p, "its SHA-256", true, r->task_sha256);
    fact(p, "convention", false, dsb_text_format(a, "%.40s: %lld chunks of %lld tokens, %lld positions scored", or_unknown(r->convention), (long long)r->n_chunk, (long long)r->n_ctx, (long long)r->n_scored));
    fact(p, "build", false, dsb_text_format(a, "dsbench %.40s %.60s", or_unknown(r->build_version), r->build_hash ? r->build_hash : ""));
    fact(p, "machine", false, dsb_text_format(a, "%.120s, %lld cores, %s memory, %.60s", or_unknown(r->host.cpu), (long long)r->host.cores, dsb_text_size(a, (double)r->host.memory_bytes), or_unknown(r->host.os)));
    fact(p, "ran on", false, dsb_text_format(a, "%.20s, %.20s kernels, %lld threads", or_unknown(r->device), or_unknown(r->isa), (long long)r->threads));
    if (!isnan(r->wall_s)) fact(p, "took", false, dsb_text_format(a, "%.1f s, peak memory %s", r->wall_s, dsb_text_size(a, (double)r->peak_rss_bytes)));
    fact(p, "seed", false, dsb_text_format(a, "%lld", (long long)r->seed));
    dsb_text_put(p->out, "</dl></section>\n");
}

void dsb_page_recipes(dsb_page *p, const dsb_recipe_rule_row *rules, int64_t n) {
    static const dsb_grid_head heads[] = { { "scheme", "scheme", NULL, true },       { "pattern", "tensors", NULL, true },     { "format", "format", NULL, true },
                                           { "grouping", "group", NULL, true },      { "algorithm", "algorithm", NULL, true }, { "activation", "activations", NULL, true },
                                           { "condition", "condition", NULL, true } };
    dsb_grid g;
    dsb_grid_init(&g, p->arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < p->s->data->n_scheme; i++)
        for (int64_t j = 0; j < n; j++) {
            if (strcmp(rules[j].scheme, p->s->data->schemes[i].name)) continue;
            dsb_grid_text(&g, rules[j].scheme);
            dsb_grid_text(&g, rules[j].pattern);
            dsb_grid_text(&g, rules[j].format);
            dsb_grid_text(&g, rules[j].grouping);
            dsb_grid_text(&g, rules[j].algorithm);
            dsb_grid_text(&g, rules[j].activation);
            dsb_grid_text(&g, rules[j].condition);
        }
    if (!dsb_grid_rows(&g)) return;
    dsb_text_put(p->out, "<section id=\"recipes\"><h2>Recipes</h2><p class=\"soft\">The first rule that matches a tensor decides it.</p>\n");
    dsb_page_grid(p, &g);
    dsb_text_put(p->out, "</section>\n");
}
