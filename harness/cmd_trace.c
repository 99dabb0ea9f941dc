/* `dsbench trace`: what the engine computes for given tokens, dumped for comparison with other implementations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/model_check.h"
#include "engine/safetensors_write.h"
#include "engine/session.h"
#include "engine/sweep.h"
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/scheme_source.h"
#include "harness/token_file.h"

typedef struct trace {
    const dsb_model *m;
    dsb_token_file tokens;
} trace;

static dsb_status check_tokens(const trace *t, const char *path, dsb_err *err) {
    for (int64_t i = 0; i < t->tokens.n_seq; i++)
        for (int64_t j = 0; j < t->tokens.seqs[i].n; j++)
            if (t->tokens.seqs[i].ids[j] >= t->m->config.vocab)
                return dsb_fail(err, DSB_EINPUT, "%s: sequence %lld: entry %lld is token %d; 0 to %lld is wanted by the model's vocabulary", path, (long long)i, (long long)j, t->tokens.seqs[i].ids[j], (long long)t->m->config.vocab - 1);
    return DSB_OK;
}

static dsb_status declare(dsb_st_writer *w, const trace *t, dsb_err *err) {
    const dsb_config *c = &t->m->config;
    static const char *const k_part[] = {"router_logits", "router_scores", "topk_indices", "topk_weights"};
    char name[96];
    for (int64_t i = 0; i < t->tokens.n_seq; i++) {
        int64_t n = t->tokens.seqs[i].n, logits[] = {n, c->vocab}, nll = n - 1, hidden[] = {c->n_layer, n, c->d_model};
        snprintf(name, sizeof name, "seq%lld.logits", (long long)i);
        DSB_TRY(dsb_st_writer_declare(w, name, DSB_F32, 2, logits, err));
        snprintf(name, sizeof name, "seq%lld.nll", (long long)i);
        if (nll > 0) DSB_TRY(dsb_st_writer_declare(w, name, DSB_F32, 1, &nll, err));
        snprintf(name, sizeof name, "seq%lld.hidden", (long long)i);
        DSB_TRY(dsb_st_writer_declare(w, name, DSB_F32, 3, hidden, err));
        for (int64_t l = 0; l < c->n_layer; l++)
            for (int p = 0; dsb_layer_is_moe(c, l) && p < 4; p++) {
                int64_t shape[] = {n, p < 2 ? c->n_expert : c->router.k};
                snprintf(name, sizeof name, "seq%lld.layer%lld.%s", (long long)i, (long long)l, k_part[p]);
                DSB_TRY(dsb_st_writer_declare(w, name, p == 2 ? DSB_I32 : DSB_F32, 2, shape, err));
            }
    }
    return DSB_OK;
}

static dsb_status write_results(dsb_st_writer *w, const trace *t, const dsb_sequence *q, const float *logits, const dsb_trace_sink *sink, float *nll, dsb_err *err) {
    const dsb_config *c = &t->m->config;
    size_t n = (size_t)q->n;
    dsb_logit_row row;
    for (int64_t i = 0; i + 1 < q->n; i++) {
        dsb_backend_cpu(NULL)->logit_rows(logits + i * c->vocab, NULL, &q->ids[i + 1], 1, c->vocab, &row);
        nll[i] = (float)row.nll_ref;
    }
    DSB_TRY(dsb_st_writer_write(w, logits, n * (size_t)c->vocab * 4, err));
    if (n > 1) DSB_TRY(dsb_st_writer_write(w, nll, (n - 1) * 4, err));
    DSB_TRY(dsb_st_writer_write(w, sink->hidden, n * (size_t)(c->n_layer * c->d_model) * 4, err));
    for (int64_t l = 0; l < c->n_layer; l++) {
        const dsb_routing *r = &sink->routing[l];
        if (!dsb_layer_is_moe(c, l)) continue;
        DSB_TRY(dsb_st_writer_write(w, r->logits, n * (size_t)r->n_expert * 4, err));
        DSB_TRY(dsb_st_writer_write(w, r->scores, n * (size_t)r->n_expert * 4, err));
        DSB_TRY(dsb_st_writer_write(w, r->idx, n * (size_t)r->k * 4, err));
        DSB_TRY(dsb_st_writer_write(w, r->weight, n * (size_t)r->k * 4, err));
    }
    return DSB_OK;
}

static dsb_status run_sequence(dsb_session *s, dsb_st_writer *w, const trace *t, const dsb_sequence *q, dsb_err *err) {
    const dsb_config *c = &t->m->config;
    dsb_trace_sink sink = {0};
    float *logits = NULL, *nll = NULL;
    dsb_status st = DSB_NEW(logits, q->n * c->vocab, "logits", err);
    if (!st) st = DSB_NEW(nll, q->n, "nll", err);
    if (!st) st = DSB_NEW(sink.hidden, c->n_layer * q->n * c->d_model, "hidden states", err);
    if (!st) st = DSB_NEW(sink.routing, c->n_layer, "routing", err);
    for (int64_t l = 0; l < c->n_layer && !st; l++)
        if (dsb_layer_is_moe(c, l)) st = dsb_routing_alloc(&sink.routing[l], c, q->n, true, err);
    dsb_session_rewind(s);
    if (!st) st = dsb_session_forward(s, q->ids, q->n, q->n, logits, &sink, err);
    if (!st) st = write_results(w, t, q, logits, &sink, nll, err);
    for (int64_t l = 0; sink.routing && l < c->n_layer; l++) dsb_routing_release(&sink.routing[l]);
    free(sink.routing);
    free(sink.hidden);
    free(logits);
    free(nll);
    return st;
}

static dsb_status run_all(const trace *t, const dsb_scheme *scheme, const char *output, dsb_err *err) {
    dsb_session s;
    dsb_st_writer w;
    if (scheme->recipe && scheme->recipe->needs_calibration)
        return dsb_fail(err, DSB_EUNSUPPORTED, "scheme %s needs calibration, which trace does not run; a scheme without static scales or activity tests is wanted", scheme->name);
    DSB_TRY(dsb_session_open(&s, t->m, scheme, NULL, t->tokens.longest, err));
    dsb_status st = dsb_st_writer_open(&w, output, err);
    if (!st) {
        st = declare(&w, t, err);
        for (int64_t i = 0; i < t->tokens.n_seq && !st; i++) st = run_sequence(&s, &w, t, &t->tokens.seqs[i], err);
        if (!st) st = dsb_st_writer_finish(&w, err);
        dsb_st_writer_close(&w);
    }
    dsb_session_close(&s);
    return st;
}

typedef struct options {
    const char *model, *tokens, *scheme, *recipe, *output;
    bool quiet;
} options;

static dsb_status run(const options *o, dsb_err *err) {
    dsb_arena arena;
    dsb_model m = {0};
    trace t = {.m = &m};
    dsb_scheme_source source = {0};
    dsb_arena_init(&arena);
    const dsb_recipe *recipe = NULL;
    dsb_status s = dsb_token_file_load(&t.tokens, o->tokens, err);
    if (!s && o->recipe) s = dsb_recipe_load(&recipe, &arena, o->recipe, err);
    if (!s && o->scheme && strcmp(o->scheme, "reference") != 0) s = dsb_recipe_preset(&recipe, &arena, o->scheme, err);
    if (!s) s = dsb_model_open(&m, dsb_device(), o->model, t.tokens.longest, err);
    if (!s) s = dsb_model_check_length(&m, o->model, o->tokens, t.tokens.longest, err);
    if (!s) s = check_tokens(&t, o->tokens, err);
    if (!s) s = dsb_scheme_source_open(&source, &m, o->model, recipe, NULL, err);
    char skipped[200];
    if (!s && !o->quiet && dsb_model_skipped(&m, skipped)) fprintf(stderr, "%s: %s\n", o->model, skipped);
    if (!s) s = run_all(&t, &source.scheme, o->output, err);
    dsb_scheme_source_close(&source);
    if (m.be) dsb_model_close(&m);
    dsb_token_file_release(&t.tokens);
    dsb_arena_release(&arena);
    return s;
}

int dsb_cmd_trace(int argc, char **argv) {
    options o = {0};
    dsb_err err = {0};
    dsb_parsed parsed;
    const dsb_option rows[] = {
        {"model", 0, DSB_OPT_STRING, &o.model, "DIR", "model directory (config.json, safetensors)", 0, 0},
        {"tokens", 0, DSB_OPT_STRING, &o.tokens, "FILE", "{\"sequences\": [[ids], ...]}", 0, 0},
        {"scheme", 0, DSB_OPT_STRING, &o.scheme, "NAME", "a preset of `dsbench list schemes` (default: the f32 reference)", 0, 0},
        {"recipe", 0, DSB_OPT_STRING, &o.recipe, "FILE", "a recipe file instead", 0, 0},
        {"output", 'o', DSB_OPT_STRING, &o.output, "FILE", "the safetensors file to write", 0, 0},
    };
    const dsb_usage usage = {.command = "trace", .args = "", .what = "Runs token sequences through a model and dumps what it computes, all F32 (indices I32):\n"
                             "  seq{i}.logits (n, vocab)   seq{i}.nll (n-1)   seq{i}.hidden (layers, n, d), after each block\n"
                             "  seq{i}.layer{L}.router_logits, .router_scores (n, experts), .topk_indices, .topk_weights (n, k)",
                             .options = rows, .n_option = (int)(sizeof rows / sizeof *rows)};
    dsb_status s = dsb_options_parse(&usage, argc, argv, &parsed, &err);
    if (!s && parsed.help) return 0;
    if (!s && (!o.model || !o.tokens || !o.output)) s = dsb_fail(&err, DSB_EUSAGE, "trace: --model, --tokens and -o are wanted; see dsbench trace --help");
    o.quiet = parsed.quiet;
    if (!s) s = run(&o, &err);
    return s ? dsb_command_fail(&err) : 0;
}
