/* What limits these figures: noise floor, little text, saturation, coverage, what perplexity hides. */
#include <math.h>
#include <string.h>

#include "reports/html_parts.h"

static void item(dsb_page *p, const char *text) {
    dsb_text_put(p->out, "<li>");
    dsb_text_html(p->out, text);
    dsb_text_put(p->out, "</li>\n");
}

static void floor_item(dsb_page *p) {
    const dsb_digest *floor = dsb_summary_find(p->s, DSB_FLOOR);
    int within = 0;
    const char *name = NULL;
    if (!floor || isnan(floor->kld.value)) {
        item(p, "Noise floor: not measured (the scheme bf16 is not in this run), so small differences can't be told from what any engine does.");
        return;
    }
    for (int64_t i = 0; i < p->s->n; i++)
        if (p->s->schemes[i].standing == DSB_STANDING_WITHIN) within++, name = p->s->schemes[i].scheme->name;
    item(p, dsb_text_format(p->arena, "Noise floor: bf16 alone moves the mean KLD to %.2e nats a token%s; what lies within it can't be told from the reference.", floor->kld.value,
                            within == 1 ? dsb_text_format(p->arena, ", and %.60s with it", name) : within > 1 ? dsb_text_format(p->arena, ", and %d schemes lie within it", within) : ""));
}

/* Schemes whose perplexity can't be told from the reference's although their predictions move. */
static void perplexity_item(dsb_page *p) {
    int unsure = 0, better = 0;
    for (int64_t i = 0; i < p->s->n; i++) {
        unsure += p->s->schemes[i].standing == DSB_STANDING_UNSURE;
        better += p->s->schemes[i].standing == DSB_STANDING_BETTER;
    }
    if (unsure) item(p, dsb_text_format(p->arena, "Perplexity: of %d scheme%s the interval of the change holds zero while the predictions move (KLD): this text is too short to show it, which is not the same as no loss.", unsure, unsure == 1 ? "" : "s"));
    if (better) item(p, "Perplexity: lower than the reference's is no proof of a better model; further training on like text, or chance, does that. KLD and the share of equal next tokens can't fall so.");
}

static void text_item(dsb_page *p) {
    const dsb_run_record *r = &p->s->data->run;
    if (r->n_chunk > 0 && r->n_chunk < 16) item(p, dsb_text_format(p->arena, "Text: %lld chunks are few; chunks, not tokens, are the independent unit, so that intervals are wide and rest on little.", (long long)r->n_chunk));
}

static void saturation_item(dsb_page *p) {
    const dsb_run_data *d = p->s->data;
    const dsb_layer_error *worst = NULL;
    for (int64_t i = 0; i < d->n_layer_row; i++)
        if (d->layers[i].saturation > 1e-3 && (!worst || d->layers[i].saturation > worst->saturation)) worst = &d->layers[i];
    if (worst) item(p, dsb_text_format(p->arena, "Saturation: static scales clip up to %.2f %% of activations (%.60s, layer %lld): the calibration's range is too narrow for this text.", 100 * worst->saturation, worst->scheme, (long long)worst->layer));
}

static void coverage_item(dsb_page *p) {
    const dsb_run_data *d = p->s->data;
    int64_t low = 0;
    for (int64_t i = 0; i < d->n_coverage; i++) low += d->coverage[i].tokens >= 0 && d->coverage[i].tokens < d->coverage[i].minimum;
    if (low) item(p, dsb_text_format(p->arena, "Coverage: %lld of %lld experts and tensors (over the schemes that calibrate) saw fewer calibration tokens than the minimum; see Calibration coverage.", (long long)low, (long long)d->n_coverage));
}

static void speed_item(dsb_page *p) {
    const dsb_run_data *d = p->s->data;
    double busy = 0;
    for (int64_t i = 0; i < d->n_speed; i++)
        if (d->speed[i].busy_percent > busy) busy = d->speed[i].busy_percent;
    if (busy > 10) item(p, dsb_text_format(p->arena, "Speed: other programs took up to %.0f %% of the machine meanwhile; these speeds are no measure of the program.", busy));
}

void dsb_page_caveats(dsb_page *p) {
    if (!p->s->n) return;
    dsb_text_put(p->out, "<section id=\"caveats\"><h2>What limits these figures</h2><ul>\n");
    floor_item(p);
    text_item(p);
    perplexity_item(p);
    saturation_item(p);
    coverage_item(p);
    speed_item(p);
    dsb_text_put(p->out, "</ul></section>\n");
}
