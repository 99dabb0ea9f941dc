/* A model's formats and schemes, fed with a text's tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datasets/builtin.h"
#include "datasets/chunks.h"
#include "engine/model_check.h"
#include "harness/bench.h"
#include "harness/host.h"
#include "harness/memory_plan.h"
#include "harness/suite.h"
#include "harness/throughput.h"

enum { MAX_SCHEMES = 32 };

dsb_status dsb_words_split(dsb_opt_list *out, dsb_arena *arena, const char *option, const char *text, dsb_err *err) {
    char *copy = dsb_arena_strdup(arena, text), *end;
    out->n = 0;
    if (!copy) return dsb_fail(err, DSB_ENOMEM, "no memory for %s", option);
    for (char *word = copy; word; word = end) {
        end = strchr(word, ',');
        if (end) *end++ = 0;
        while (*word == ' ') word++;
        for (size_t n = strlen(word); n > 0 && word[n - 1] == ' ';) word[--n] = 0;
        if (!*word) return dsb_fail(err, DSB_EUSAGE, "bench: %s '%s' has an empty name; names with one comma between them are wanted", option, text);
        if (out->n == DSB_OPT_LIST_MAX) return dsb_fail(err, DSB_EUSAGE, "bench: %s names more than %d", option, DSB_OPT_LIST_MAX);
        out->item[out->n++] = word;
    }
    return DSB_OK;
}

/* One rule for all weights of the blocks, and the vocabulary's where it is wanted; integers with INT8 activations. */
static dsb_status format_recipe(const dsb_bench_model *b, dsb_arena *arena, const char *name, const dsb_recipe **out, dsb_err *err) {
    const dsb_format *f = dsb_format_find(name), *rows;
    if (!f) {
        const char *names[DSB_OPT_LIST_MAX], *near;
        int n = dsb_format_list(&rows);
        for (int i = 0; i < n && i < DSB_OPT_LIST_MAX; i++) names[i] = rows[i].name;
        near = dsb_name_nearest(name, names, n < DSB_OPT_LIST_MAX ? n : DSB_OPT_LIST_MAX);
        return dsb_fail(err, DSB_EUSAGE, "bench: --formats: unknown format '%s'%s%s%s; `dsbench list formats` has them", name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    json_t *doc = json_pack("{s:s, s:[]}", "name", name, "rules");
    for (int i = 0; i < (b->head ? 2 : 1) && doc; i++) {
        json_t *rule = json_pack("{s:s, s:s}", "role", i ? "lm_head" : "*", "format", name);
        if (f->qmax > 0) json_object_set_new(rule, "activation", json_string("int8-dynamic"));
        if (f->qmax > 0 && b->group) json_object_set_new(rule, "group", json_integer(b->group));
        if (f->block && strcmp(name, "q8_0") != 0) json_object_set_new(rule, "fallback", json_string("q8_0"));
        json_array_append_new(json_object_get(doc, "rules"), rule);
    }
    if (!doc) return dsb_fail(err, DSB_ENOMEM, "no memory for a recipe");
    dsb_status s = dsb_recipe_parse(out, arena, name, doc, err);
    json_decref(doc);
    return s;
}

static dsb_status add_scheme(dsb_bench_model *b, const dsb_recipe *recipe, dsb_err *err) {
    const char *name = recipe ? recipe->name : "reference";
    for (int i = 0; i < b->n_scheme; i++)
        if (strcmp(b->all[i].name, name) == 0) return dsb_fail(err, DSB_EUSAGE, "bench: %s is named twice", name);
    if (b->n_scheme == MAX_SCHEMES) return dsb_fail(err, DSB_EUSAGE, "bench: more than %d formats and schemes", MAX_SCHEMES);
    if (recipe && recipe->needs_calibration)
        return dsb_fail(err, DSB_EUNSUPPORTED, "bench: scheme %s needs calibration, which bench does not run; `dsbench run --schemes %s` measures its speed too", name, name);
    dsb_scheme_source *s = &b->sources[b->n_scheme];
    DSB_TRY(dsb_scheme_source_open(s, &b->m, b->dir, recipe, NULL, err));
    b->all[b->n_scheme++] = s->scheme;
    return s->scheme.own_source ? DSB_OK : dsb_model_check(&b->m, s->scheme.source, err);
}

static dsb_status add_schemes(dsb_bench_model *b, dsb_arena *arena, dsb_err *err) {
    dsb_opt_list names;
    const dsb_recipe *recipe = NULL;
    DSB_TRY(dsb_arena_take(arena, (void **)&b->sources, MAX_SCHEMES, sizeof *b->sources, "schemes", err));
    DSB_TRY(dsb_arena_take(arena, (void **)&b->all, MAX_SCHEMES, sizeof *b->all, "schemes", err));
    if (b->formats) DSB_TRY(dsb_words_split(&names, arena, "--formats", b->formats, err));
    for (int i = 0; b->formats && i < names.n; i++) {
        DSB_TRY(format_recipe(b, arena, names.item[i], &recipe, err));
        DSB_TRY(add_scheme(b, recipe, err));
    }
    if (b->schemes) DSB_TRY(dsb_words_split(&names, arena, "--schemes", b->schemes, err));
    for (int i = 0; b->schemes && i < names.n; i++) {
        recipe = NULL;
        if (strcmp(names.item[i], "reference") != 0) DSB_TRY(dsb_recipe_preset(&recipe, arena, names.item[i], err));
        DSB_TRY(add_scheme(b, recipe, err));
    }
    return DSB_OK;
}

static int64_t sequence_length(const dsb_bench_model *b) { return b->depth + b->prefill + b->decode; }

/* Ids without a text: the same on every machine. */
static void random_tokens(dsb_bench_model *b) {
    uint32_t state = 1;
    b->random_tokens = true;
    for (int64_t i = 0; i < b->batch * sequence_length(b); i++) {
        state = state * 1664525u + 1013904223u;
        b->tokens[i] = (int32_t)((uint64_t)state * (uint64_t)b->m.config.vocab >> 32);
    }
}

/* Each sequence a stretch of its own, spread over the text; again from the first where the text has fewer. */
static dsb_status text_tokens(dsb_bench_model *b, const dsb_tokenizer *tok, const dsb_text_file *text, dsb_err *err) {
    int64_t n = sequence_length(b), n_ctx = n < 4 ? 4 : n;
    dsb_chunks chunks;
    DSB_TRY(dsb_chunks_make(&chunks, tok, b->text ? b->text : "built-in text", text, DSB_CONVENTION_LLAMA, n_ctx, b->batch, true, err));
    dsb_status s = dsb_chunks_check_vocab(&chunks, b->dir, b->m.config.vocab, err);
    for (int64_t i = 0; i < b->batch && !s; i++) memcpy(b->tokens + i * n, chunks.tokens + i % chunks.n_chunk * n_ctx, (size_t)n * sizeof *b->tokens);
    dsb_chunks_release(&chunks);
    return s;
}

static bool has_tokenizer(const char *dir) {
    char path[4096];
    struct stat st;
    if (stat(dir, &st) == 0 && S_ISREG(st.st_mode)) return true; /* a GGUF file has its own */
    int n = snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    return n > 0 && (size_t)n < sizeof path && access(path, F_OK) == 0;
}

static dsb_status load_tokens(dsb_bench_model *b, dsb_err *err) {
    dsb_tokenizer *tok;
    dsb_text_file text;
    char *path = NULL;
    DSB_TRY(DSB_NEW(b->tokens, b->batch * sequence_length(b), "tokens", err));
    bool tokenizer = has_tokenizer(b->dir), words = b->text || !dsb_dataset_builtin_path(DSB_BUILTIN_EVALUATION, &path, NULL);
    free(path);
    if (!b->text && (!tokenizer || !words)) {
        random_tokens(b);
        dsb_text_printf(&b->notes, "random tokens: %s; their routing is not a text's\n", tokenizer ? "the built-in text isn't there (make data)" : "the model has no tokenizer.json");
        return DSB_OK;
    }
    DSB_TRY(dsb_tokenizer_open(&tok, b->dir, err));
    dsb_status s = b->text ? dsb_text_load(&text, b->text, NULL, err) : dsb_dataset_builtin_load(DSB_BUILTIN_EVALUATION, &text, err);
    if (!s) {
        s = text_tokens(b, tok, &text, err);
        dsb_text_file_release(&text);
    }
    dsb_tokenizer_close(tok);
    return s;
}

static dsb_status load_routing(dsb_bench_model *b, dsb_err *err) {
    enum { ROWS = 1024 };
    if (b->routing == DSB_ROUTING_REAL) return DSB_OK;
    if (b->m.config.n_expert == 0) return dsb_fail(err, DSB_EUSAGE, "bench: --routing %s: %s has no experts; real is wanted", dsb_routing_kind_name(b->routing), b->dir);
    b->forced.n_row = ROWS;
    DSB_TRY(b->routing == DSB_ROUTING_RECORDED ? dsb_routing_ids_read(&b->ids, &b->forced.n_row, b->recorded, &b->m.config, err) : dsb_routing_ids_make(&b->ids, ROWS, b->routing, &b->m.config, err));
    b->forced.ids = b->ids;
    return DSB_OK;
}

/* All at once where they fit, taking turns; else one at a time; else nothing. */
static dsb_status plan_memory(dsb_bench_model *b, dsb_err *err) {
    int64_t available = dsb_memory_available_bytes() / 10 * 9, tokens = b->batch * sequence_length(b);
    if (available <= 0 || dsb_memory_of_sessions(&b->m, b->all, b->n_scheme, tokens) <= available) return DSB_OK;
    b->apart = b->n_scheme > 1;
    for (int i = 0; i < b->n_scheme; i++) {
        int64_t wanted = dsb_memory_of_sessions(&b->m, &b->all[i], 1, tokens);
        if (wanted > available) return dsb_fail(err, DSB_ENOMEM, "bench: %s wants %lld MB of memory, and %lld MB are available; a smaller --depth or --batch, or another format is wanted", b->all[i].name, (long long)(wanted >> 20), (long long)(available >> 20));
    }
    if (b->apart) dsb_text_put(&b->notes, "one format in memory at a time: their repeats don't take turns, so that drift of the machine may tell between them\n");
    return DSB_OK;
}

dsb_status dsb_bench_model_open(dsb_bench_model *b, dsb_arena *arena, dsb_err *err) {
    dsb_text_init(&b->notes);
    if (b->prefill == 0 && b->decode == 0) return dsb_fail(err, DSB_EUSAGE, "bench: --prefill 0 --decode 0 measure nothing; one of them above 0 is wanted");
    if ((b->routing == DSB_ROUTING_RECORDED) != (b->recorded != NULL)) return dsb_fail(err, DSB_EUSAGE, "bench: --routing recorded and --recorded FILE (what dsbench trace wrote) belong together");
    if (!b->dir) DSB_TRY(dsb_builtin_model(arena, &b->dir, err));
    DSB_TRY(dsb_model_open(&b->m, b->be, b->dir, sequence_length(b), err));
    b->model_open = true;
    DSB_TRY(dsb_model_check_length(&b->m, b->dir, "bench: depth + prefill + decode", sequence_length(b), err));
    DSB_TRY(dsb_model_check(&b->m, &b->m.checkpoint, err));
    DSB_TRY(add_schemes(b, arena, err));
    DSB_TRY(plan_memory(b, err));
    DSB_TRY(load_tokens(b, err));
    DSB_TRY(load_routing(b, err));
    return dsb_checkpoint_hash(&b->m.checkpoint, b->sha256, err);
}

static void fill_row(const dsb_bench_model *b, dsb_arena *arena, const dsb_speed *v, dsb_bench_row *row) {
    double gops = 0;
    for (int a = 0; a < DSB_ARITH_COUNT; a++) gops += 1e-9 * v->work.ops[a] / v->seconds;
    *row = (dsb_bench_row){.kind = "model", .name = v->scheme->name, .phase = v->decode ? "decode" : "prefill", .routing = b->random_tokens && b->routing == DSB_ROUTING_REAL ? "random tokens" : dsb_routing_kind_name(b->routing),
                           .n_token = v->n_token, .depth = v->depth, .batch = b->batch, .repeats = b->repeats, .seconds = v->seconds, .seconds_min = v->seconds_min, .seconds_max = v->seconds_max,
                           .tps = dsb_speed_tps(v, b->batch, v->seconds), .p50_ms = v->p50_ms, .p99_ms = v->p99_ms, .gops = gops, .gbps = 1e-9 * v->work.bytes / v->seconds, .roofline_percent = v->roofline_percent,
                           .bound = v->memory ? "memory" : "compute", .busy_percent = v->busy_percent, .steal_percent = v->steal_percent,
                           .sm_mhz = v->sensors.sm_mhz, .power_w = v->sensors.power_w, .temperature_c = v->sensors.temperature_c, .energy_j = v->sensors.energy_j, .device_bytes = v->sensors.used_bytes, .kernel = dsb_arena_strdup(arena, v->kernels)};
}

dsb_status dsb_bench_model_run(dsb_bench_model *b, dsb_arena *arena, const dsb_roofline *roof, dsb_bench_rows *out, dsb_progress *progress, dsb_err *err) {
    dsb_speed *speeds;
    dsb_throughput_plan plan = {.m = &b->m, .schemes = b->all, .n_scheme = b->n_scheme, .tokens = b->tokens, .depth = b->depth, .prefill = b->prefill, .decode = b->decode, .repeats = b->repeats, .batch = b->batch,
                                .routing = b->routing == DSB_ROUTING_REAL ? NULL : &b->forced, .apart = b->apart, .from = 0, .to = 1};
    DSB_TRY(dsb_arena_take(arena, (void **)&speeds, (size_t)b->n_scheme * 2, sizeof *speeds, "speeds", err));
    DSB_TRY(dsb_throughput_measure(&plan, roof, speeds, &out->n, progress, err));
    DSB_TRY(dsb_arena_take(arena, (void **)&out->row, (size_t)out->n, sizeof *out->row, "rows", err));
    for (int i = 0; i < out->n; i++) fill_row(b, arena, &speeds[i], &out->row[i]);
    return DSB_OK;
}

void dsb_bench_model_close(dsb_bench_model *b) {
    for (int i = 0; i < b->n_scheme; i++) dsb_scheme_source_close(&b->sources[i]);
    if (b->model_open) dsb_model_close(&b->m);
    dsb_text_release(&b->notes);
    free(b->tokens);
    free(b->ids);
}
