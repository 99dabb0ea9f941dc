#include "harness/logits_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "datasets/chunks.h"
#include "datasets/text.h"
#include "engine/model_check.h"
#include "engine/sweep.h"
#include "harness/scheme_source.h"
#include "metrics/llama_write.h"

typedef struct writing {
    const dsb_logits_request *q;
    dsb_arena arena;
    dsb_model m;
    dsb_scheme_source source;
    const dsb_recipe *recipe; /* NULL: the reference */
    dsb_chunks chunks;
    int32_t *targets;
    dsb_llama_writer out;
    dsb_progress progress;
} writing;

static dsb_status on_tensor(void *ctx, int scheme, const dsb_tensor_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_layer(void *ctx, const dsb_layer_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_expert(void *ctx, const dsb_expert_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_routing(void *ctx, const dsb_routing_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_logits(void *ctx, const dsb_logits_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_clip(void *ctx, const dsb_clip_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_block(void *ctx, int64_t layer, dsb_err *err) { return DSB_OK; }
static void on_progress(void *ctx, double share, const char *what) { dsb_progress_show(&((writing *)ctx)->progress, share, what); }

static dsb_status on_rows(void *ctx, int scheme, int64_t n, int64_t n_vocab, const float *logits, dsb_err *err) {
    writing *w = ctx;
    if (scheme != (w->recipe ? 0 : -1)) return DSB_OK;
    for (int64_t i = 0; i < n; i++) DSB_TRY(dsb_llama_writer_row(&w->out, logits + i * n_vocab, err));
    return DSB_OK;
}

static dsb_status open_model(writing *w, dsb_err *err) {
    const dsb_logits_request *q = w->q;
    if (q->recipe) DSB_TRY(dsb_recipe_load(&w->recipe, &w->arena, q->recipe, err));
    else if (q->scheme && strcmp(q->scheme, "reference") != 0) DSB_TRY(dsb_recipe_preset(&w->recipe, &w->arena, q->scheme, err));
    if (w->recipe && w->recipe->needs_calibration)
        return dsb_fail(err, DSB_EUNSUPPORTED, "scheme %s needs calibration, which logits --write does not run; a scheme without static scales or activity tests is wanted", w->recipe->name);
    DSB_TRY(dsb_model_open(&w->m, dsb_device(), q->model, q->n_ctx, err));
    DSB_TRY(dsb_model_check_length(&w->m, q->model, "context", q->n_ctx, err));
    DSB_TRY(dsb_model_check(&w->m, &w->m.checkpoint, err));
    DSB_TRY(dsb_scheme_source_open(&w->source, &w->m, q->model, w->recipe, NULL, err));
    return w->source.opened ? dsb_model_check(&w->m, &w->source.own, err) : DSB_OK;
}

static dsb_status make_chunks(writing *w, dsb_err *err) {
    const dsb_logits_request *q = w->q;
    dsb_tokenizer *tok;
    dsb_text_file text;
    DSB_TRY(dsb_text_load(&text, q->text, q->field, err));
    dsb_status s = dsb_tokenizer_open(&tok, q->model, err);
    if (!s) {
        s = dsb_chunks_make(&w->chunks, tok, q->text, &text, DSB_CONVENTION_LLAMA, q->n_ctx, q->n_chunk, false, err);
        dsb_tokenizer_close(tok);
    }
    dsb_text_file_release(&text);
    if (s) return s;
    int64_t n = w->chunks.n_chunk * w->chunks.n_ctx;
    DSB_TRY(DSB_NEW(w->targets, n, "targets", err));
    DSB_TRY(dsb_chunks_check_vocab(&w->chunks, q->model, w->m.config.vocab, err));
    if (n > INT32_MAX) return dsb_fail(err, DSB_EUSAGE, "%lld tokens are more than a sweep takes; fewer --chunks are wanted", (long long)n);
    for (int64_t i = 0; i < n; i++) w->targets[i] = dsb_chunks_target(&w->chunks, i / w->chunks.n_ctx, i % w->chunks.n_ctx);
    return DSB_OK;
}

/* The file holds the text's own tokens, not the BOS that stands in for each chunk's first. */
static dsb_status open_file(writing *w, dsb_err *err) {
    dsb_chunks *c = &w->chunks;
    int32_t *own;
    DSB_TRY(DSB_NEW(own, c->n_chunk * c->n_ctx, "tokens", err));
    memcpy(own, c->tokens, (size_t)(c->n_chunk * c->n_ctx) * sizeof *own);
    for (int64_t i = 0; i < c->n_chunk; i++) own[i * c->n_ctx] = c->first_token[i];
    dsb_status s = dsb_llama_writer_open(&w->out, w->q->path, c->n_ctx, w->m.config.vocab, c->n_chunk, own, err);
    free(own);
    return s;
}

static dsb_status sweep(writing *w, dsb_err *err) {
    dsb_calibration cal;
    dsb_observer obs = {.ctx = w, .tensor = on_tensor, .layer = on_layer, .expert = on_expert, .routing = on_routing, .logits = on_logits, .logit_rows = on_rows, .clip = on_clip, .block_done = on_block, .progress = on_progress};
    dsb_sweep_plan plan = {.m = &w->m, .n_scheme = w->recipe ? 1 : 0, .schemes = &w->source.scheme, .n_chunk = w->chunks.n_chunk, .n_ctx = w->chunks.n_ctx, .tokens = w->chunks.tokens, .targets = w->targets,
                           .isolated_every = w->chunks.n_chunk, .obs = &obs};
    dsb_status s = dsb_sweep_run(&plan, &cal, err);
    dsb_calibration_release(&cal);
    return s;
}

dsb_status dsb_logits_write(const dsb_logits_request *q, dsb_err *err) {
    writing w = {.q = q};
    dsb_arena_init(&w.arena);
    dsb_progress_init(&w.progress, q->quiet);
    dsb_status s = open_model(&w, err);
    if (!s) s = make_chunks(&w, err);
    if (!s) s = open_file(&w, err);
    if (!s) s = sweep(&w, err);
    if (!s) s = dsb_llama_writer_finish(&w.out, err);
    dsb_progress_clear(&w.progress);
    dsb_llama_writer_close(&w.out);
    dsb_chunks_release(&w.chunks);
    free(w.targets);
    dsb_scheme_source_close(&w.source);
    if (w.m.be) dsb_model_close(&w.m);
    dsb_arena_release(&w.arena);
    return s;
}
