/* The page in reading order: answer, tables, pictures, where the damage is, routing, speed, facts. */
#include "reports/html.h"

#include "base/file.h"
#include "reports/html_parts.h"
#include "reports/history.h"
#include "reports/html_script.h"
#include "reports/html_style.h"
#include "reports/inspect.h"

static void link(dsb_page *p, bool there, const char *id, const char *title) {
    if (there) dsb_text_printf(p->out, "<a href=\"#%s\">%s</a>", id, title);
}

static bool any_note(const dsb_run_data *d) {
    for (int64_t i = 0; i < d->n_event; i++)
        if (dsb_event_is_note(&d->events[i])) return true;
    return false;
}

/* Base64 of the script's SHA-256: no other script may run in the page. */
static void put_script_hash(dsb_text *out) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char hex[65];
    unsigned bytes[33] = { 0 };
    dsb_sha256_hex(dsb_html_script, sizeof dsb_html_script - 1, hex);
    for (int i = 0; i < 64; i++) bytes[i / 2] = bytes[i / 2] * 16 + (unsigned)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    for (int i = 0; i < 33; i += 3) {
        unsigned v = bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2];
        for (int k = 0; k < 4; k++) dsb_text_printf(out, "%c", i == 30 && k == 3 ? '=' : letters[v >> (18 - 6 * k) & 63]);
    }
}

static void head(dsb_page *p) {
    const dsb_run_record *r = &p->s->data->run;
    dsb_text_put(p->out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-");
    put_script_hash(p->out);
    dsb_text_put(p->out, "'\">\n<title>dsbench: ");
    dsb_text_html(p->out, r->model.name);
    dsb_text_put(p->out, ", run ");
    dsb_text_html(p->out, r->id);
    dsb_text_put(p->out, "</title>\n<style>\n");
    dsb_text_put(p->out, dsb_html_style);
    dsb_text_put(p->out, "</style></head><body><main>\n<header><h1>Quantization of ");
    dsb_text_html(p->out, r->model.name);
    dsb_text_put(p->out, "</h1><p>");
    dsb_text_html(p->out, dsb_text_format(p->arena, "%lld schemes against the reference on %.80s: %lld chunks of %lld tokens, %lld positions scored (convention %.20s) · run %.100s · %.30s",
                                          (long long)p->s->n - (dsb_summary_find(p->s, DSB_REFERENCE) ? 1 : 0), r->dataset.name ? r->dataset.name : "?", (long long)r->n_chunk, (long long)r->n_ctx,
                                          (long long)r->n_scored, r->convention ? r->convention : "?", r->id, r->created_utc ? r->created_utc : "?"));
    dsb_text_put(p->out, "</p>\n<nav>");
    link(p, true, "summary", "Summary");
    link(p, any_note(p->s->data), "notes", "Compensation");
    link(p, true, "caveats", "Limits");
    link(p, p->s->history && p->s->history->n > 1, "trend", "Trend");
    link(p, true, "reading", "How to read it");
    link(p, true, "pictures", "Accuracy");
    link(p, true, "layers", "Layers");
    link(p, true, "each-layer", "Layer by layer");
    link(p, p->s->data->n_routing > 0, "routing", "Routing");
    link(p, p->s->data->n_speed > 0, "speed", "Speed");
    link(p, p->s->data->n_coverage > 0, "calibration", "Calibration");
    link(p, true, "facts", "Facts");
    dsb_text_put(p->out, "</nav></header>\n");
}

/* The verdict against the base, where there is one: before all else. */
static void verdict(dsb_page *p) {
    const dsb_comparison *c = p->s->comparison;
    dsb_grid g;
    if (!c) return;
    dsb_text_printf(p->out, "<section class=\"answer %s\" id=\"verdict\"><span class=\"soft\">Against run ", dsb_compare_verdict(c));
    dsb_text_html(p->out, c->base.run.id);
    dsb_text_put(p->out, "</span><strong>");
    dsb_text_html(p->out, dsb_compare_verdict(c));
    dsb_text_put(p->out, "</strong>\n<p>");
    dsb_text_html(p->out, dsb_compare_sentence(c, p->arena));
    dsb_text_put(p->out, "</p>\n");
    dsb_compare_causes(c, 6, p->arena, &g);
    dsb_page_grid(p, &g);
    if (dsb_compare_moved(c)) dsb_page_plot(p, "comparison", "Above, each gating figure's change in units of its tolerance, with its 95 % interval: beyond 1 is worse than is borne. Below, how each layer's own (isolated) error changed.");
    dsb_text_put(p->out, "<details><summary>All figures</summary>\n");
    dsb_compare_grid(c, p->arena, &g);
    dsb_page_grid(p, &g);
    dsb_compare_causes(c, 0, p->arena, &g);
    if (c->n_blame > 6) dsb_page_grid(p, &g);
    dsb_text_put(p->out, "</details></section>\n");
}

static void trend(dsb_page *p) {
    const dsb_history *h = p->s->history;
    if (!h || h->n < 2) return;
    dsb_text_printf(p->out, "<section id=\"trend\"><h2>Trend over %lld runs</h2>\n", (long long)h->n);
    dsb_page_plot(p, "trend", "The suite's runs, oldest first, with 95 % intervals. A dashed line marks a run from which on a figure is another one beyond its tolerance.");
    dsb_page_plot(p, "trend_speed", "Speed on this host alone: medians with the range of repeats. A dashed line marks a change point.");
    if (h->n_step) dsb_text_put(p->out, "<h3>Steps</h3><ul>\n");
    for (int64_t i = 0; i < h->n_step; i++) {
        dsb_text_put(p->out, "<li>");
        dsb_text_html(p->out, dsb_step_text(h, &h->steps[i], p->arena));
        dsb_text_put(p->out, "</li>\n");
    }
    dsb_text_put(p->out, h->n_step ? "</ul></section>\n" : "</section>\n");
}

static void summary(dsb_page *p) {
    dsb_grid g;
    dsb_text_put(p->out, "<section id=\"summary\"><h2>Summary</h2><h3>Accuracy against the reference</h3>\n");
    dsb_summary_accuracy(p->s, p->arena, &g);
    dsb_page_grid(p, &g);
    dsb_summary_choice(p->s, p->arena, &g);
    if (dsb_grid_rows(&g)) dsb_text_put(p->out, "<h3>Multiple choice</h3>\n<p class=\"soft\">The answer is the choice with the largest log-likelihood (acc), or the largest per character (acc_norm), as lm-eval scores it; changes and flips are against the reference's answers.</p>\n");
    dsb_page_grid(p, &g);
    dsb_text_put(p->out, "<h3>Size and speed</h3>\n");
    dsb_summary_cost(p->s, p->arena, &g);
    dsb_page_grid(p, &g);
    dsb_text_put(p->out, "<h3>“A quarter of the size, 2 to 3 times the speed, 95 % of the accuracy”: is it so?</h3>\n"
                         "<p class=\"soft\">Against FP32, as the claim is mostly meant, and against BF16, which is what one would serve otherwise.</p>\n");
    dsb_summary_claim(p->s, p->arena, &g);
    dsb_page_grid(p, &g);
    dsb_text_put(p->out, "</section>\n");
}

static void pictures(dsb_page *p) {
    dsb_text_put(p->out, "<section id=\"pictures\"><h2>What it costs in accuracy</h2>\n");
    dsb_page_plot(p, "pareto", "Each scheme by size and by how far its predictions are from the reference's; whiskers are 95 % intervals. What lies above the grey line is beaten by another scheme that is no larger.");
    dsb_page_plot(p, "perplexity", "An interval that holds zero shows no difference on this text. Perplexity can fall by chance or by further training (qat schemes); KLD can't.");
    dsb_page_plot(p, "kld", "Where the mean comes from: a curve far to the right is a scheme whose every prediction moves; a long right tail is one that fails on a few.");
    dsb_page_plot(p, "kld_confidence", "Damage where the reference is sure is damage to what the model knows; where it is unsure, other words were nearly as good.");
    dsb_text_put(p->out, "</section>\n");
}

static dsb_status layers(dsb_page *p, dsb_err *err) {
    dsb_filter f = DSB_FILTER_ALL;
    dsb_grid g;
    dsb_text_put(p->out, "<section id=\"layers\"><h2>Where the damage arises</h2>\n");
    dsb_page_plot(p, "waterfall", "What each structure adds by itself, summed over the layers: attention and MLP outputs in units of the block's output, the router what the whole block has beyond them; an MoE layer's MLP divided between shared and routed experts by the error of the weights that a token meets.");
    dsb_page_plot(p, "error", "How the error grows through the model, each scheme on its own stream.");
    dsb_page_plot(p, "error_isolated", "The same with the reference's input into every block: a peak here is a block that is hard to quantize, whatever came before.");
    f.kind = "isolated";
    f.per_scheme = 2;
    DSB_TRY(dsb_inspect_layers(p->s->data, &f, p->arena, &g, err));
    if (dsb_grid_rows(&g)) dsb_text_put(p->out, "<h3>The two worst outputs of each scheme, each layer by itself (isolated)</h3>\n");
    dsb_page_grid(p, &g);
    f.kind = NULL;
    dsb_page_plot(p, "expert_scatter", "Busy experts to the right. Experts that are rarely chosen and badly hit, top left, cost little; the top right costs most.");
    dsb_page_plot(p, "expert_error", "A flat curve: all experts suffer alike. A steep end: a few experts carry the damage and may deserve more bits.");
    DSB_TRY(dsb_inspect_experts(p->s->data, &f, p->arena, &g, err));
    if (dsb_grid_rows(&g)) dsb_text_put(p->out, "<h3>The two worst experts of each scheme, by error of their output</h3>\n");
    dsb_page_grid(p, &g);
    dsb_text_put(p->out, "</section>\n");
    return DSB_OK;
}

static void routing(dsb_page *p) {
    dsb_grid g;
    dsb_inspect_routing_summary(p->s->data, p->arena, &g);
    if (!dsb_grid_rows(&g)) return;
    dsb_text_put(p->out, "<section id=\"routing\"><h2>Routing</h2><p>How often the router picks other experts than the reference's, mean over the MoE layers. "
                         "Router alone: the reference's state into the scheme's router. After attention: the reference's block input. Own stream: everything before it as well.</p>\n");
    dsb_page_grid(p, &g);
    dsb_page_plot(p, "routing", "Share of tokens whose expert set differs, each scheme on its own stream.");
    dsb_page_plot(p, "margins", "Close calls flip first. A curve above its dots: more flips than the error of the scores explains; the state that comes in has moved.");
    dsb_page_plot(p, "heat_drift", "Which experts win and lose tokens. A dark column is an expert whose neighbours take its tokens; a dark row is a layer whose router is unsure.");
    dsb_page_plot(p, "heat_worst", "The worst layers of the scheme that reroutes most, enlarged.");
    dsb_page_plot(p, "heat_load", "Above, how evenly the reference spreads tokens. Below, what the scheme that reroutes most does to the load.");
    dsb_text_put(p->out, "</section>\n");
}

static void speed(dsb_page *p) {
    dsb_grid g;
    dsb_inspect_speed(p->s->data, p->arena, &g);
    if (!dsb_grid_rows(&g)) return;
    dsb_text_put(p->out, "<section id=\"speed\"><h2>Speed on this machine</h2>\n");
    dsb_page_plot(p, "throughput", "Measured on the text's own routing, after warm-up.");
    dsb_page_grid(p, &g);
    dsb_text_put(p->out, "</section>\n");
}

static void coverage(dsb_page *p) {
    dsb_grid g;
    char guide[1024];
    dsb_inspect_coverage(p->s->data, p->arena, &g);
    if (!dsb_grid_rows(&g)) return;
    dsb_text_put(p->out, "<section id=\"calibration\"><h2>Calibration coverage</h2><p>An expert that few calibration tokens reach has scales that rest on little; below the minimum the fall-back stands in.</p>\n");
    dsb_page_grid(p, &g);
    dsb_text_put(p->out, "<h3>Tokens of an expert, layer by layer</h3>\n");
    dsb_inspect_coverage_layers(p->s->data, p->arena, &g);
    dsb_page_grid(p, &g);
    if (dsb_expert_guide(p->s->data, p->arena, guide, sizeof guide)) {
        dsb_text_put(p->out, "<h3>Is activity a good guide?</h3><p>");
        dsb_text_html(p->out, guide);
        dsb_text_put(p->out, "</p>\n");
    }
    dsb_text_put(p->out, "</section>\n");
}

static void foot(dsb_page *p) {
    if (p->missing[0]) {
        dsb_text_put(p->out, "<section class=\"warn\"><h2>No pictures</h2><p>");
        dsb_text_html(p->out, p->missing);
        dsb_text_put(p->out, "</p></section>\n");
    }
    dsb_text_put(p->out, "<footer>Made by dsbench. Every figure is in the database: <code>dsbench runs</code>, <code>layers</code>, <code>routing</code>, or SQL.</footer>\n</main>\n<script>");
    dsb_text_put(p->out, dsb_html_script);
    dsb_text_put(p->out, "</script></body></html>\n");
}

static dsb_status page(dsb_page *p, dsb_db *db, dsb_err *err) {
    dsb_recipe_rule_row *rules = NULL;
    int64_t n_rule = 0;
    DSB_TRY(dsb_db_get_recipe_rule(db, p->arena, p->s->data->run.id, NULL, &rules, &n_rule, err));
    head(p);
    verdict(p);
    dsb_page_answer(p);
    dsb_page_warnings(p);
    summary(p);
    dsb_page_caveats(p);
    dsb_page_notes(p);
    trend(p);
    dsb_page_reading(p);
    pictures(p);
    DSB_TRY(layers(p, err));
    DSB_TRY(dsb_page_layers(p, db, err));
    routing(p);
    speed(p);
    coverage(p);
    dsb_page_recipes(p, rules, n_rule);
    dsb_page_facts(p);
    foot(p);
    return dsb_text_check(p->out, "the report", err);
}

dsb_status dsb_html_report(dsb_db *db, const char *run_id, const dsb_comparison *comparison, dsb_text *out, dsb_err *err) {
    dsb_arena arena;
    dsb_run_data data;
    dsb_summary sum;
    dsb_history history;
    dsb_arena_init(&arena);
    dsb_page p = { .s = &sum, .arena = &arena, .out = out };
    dsb_status s = dsb_run_data_load(db, &arena, run_id, &data, err);
    if (!s) s = dsb_summary_make(&data, &arena, &sum, err);
    if (!s) s = dsb_history_load(db, &arena, run_id, comparison ? comparison->tolerances : NULL, &history, err);
    sum.history = &history;
    sum.comparison = comparison;
    if (!s) s = page(&p, db, err);
    dsb_arena_release(&arena);
    return s;
}

dsb_status dsb_html_write(dsb_db *db, const char *run_id, const dsb_comparison *comparison, const char *path, dsb_err *err) {
    dsb_text out;
    dsb_text_init(&out);
    dsb_status s = dsb_html_report(db, run_id, comparison, &out, err);
    if (!s) s = dsb_file_write(path, out.data, out.size, err);
    dsb_text_release(&out);
    return s;
}
