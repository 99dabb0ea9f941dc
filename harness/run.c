#include "harness/run.h"

#include <errno.h>
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "datasets/builtin.h"
#include "datasets/utf8.h"
#include "engine/model_check.h"
#include "harness/host.h"
#include "harness/memory_plan.h"
#include "harness/output.h"
#include "harness/profile.h"
#include "harness/record.h"
#include "harness/scheme_source.h"
#include "harness/throughput.h"
#include "harness/version.h"
#include "reports/html.h"
#include "reports/plot_table.h"

typedef struct run {
    const dsb_run_request *q;
    const dsb_suite *suite;
    dsb_arena *arena;
    dsb_model m;
    bool model_open;
    dsb_scheme_source *sources; /* (n_scheme) */
    dsb_scheme *schemes;        /* (n_scheme) */
    const bool *used[DSB_SUITE_MAX_SCHEMES]; /* of each scheme: the rules that may decide a tensor */
    dsb_text_file text, cal_text;
    dsb_chunks chunks, cal_chunks; /* chunks: of the text, or of the task alone */
    bool chunks_made, cal_made;
    dsb_task task;
    int64_t n_chunk;                         /* that the sweep runs, the task's among them */
    int32_t *tokens, *targets, *positions;   /* (n_chunk, n_ctx); positions NULL: a chunk is one sequence */
    bool needs_calibration;
    dsb_calibration cal;
    dsb_memory_plan memory;
    dsb_db *db;
    const char *id;
    dsb_progress progress;
    double start_s;
} run;

static dsb_status load_text(const dsb_suite *s, const char *path, dsb_builtin_kind kind, dsb_text_file *out, dsb_err *err) {
    if (!path) return dsb_dataset_builtin_load(kind, out, err);
    DSB_TRY(dsb_text_load(out, path, s->field, err));
    if (s->reflow) dsb_text_reflow(out);
    return DSB_OK;
}

/* A task alone takes the text's place, unless a text is named beside it. */
static bool has_text(const run *r) { return !r->suite->task || r->suite->text; }

static dsb_status check_vocab(const run *r, const dsb_chunks *c, dsb_err *err) { return dsb_chunks_check_vocab(c, r->suite->model, r->m.config.vocab, err); }

static dsb_status make_calibration(run *r, const dsb_tokenizer *tok, dsb_err *err) {
    const dsb_suite *s = r->suite;
    const char *name = s->calibration ? s->calibration : "built-in calibration text";
    DSB_TRY(dsb_chunks_make(&r->cal_chunks, tok, name, &r->cal_text, DSB_CONVENTION_LLAMA, s->n_ctx, s->n_cal_chunk, true, err));
    r->cal_made = true;
    if (s->cal_chunk_asked && r->cal_chunks.n_chunk < s->n_cal_chunk)
        return dsb_fail(err, DSB_EINPUT, "%s: %lld chunks of %lld tokens found, %lld (\"calibration_chunks\") are wanted; a longer text, fewer chunks or a shorter context help", name, (long long)r->cal_chunks.n_chunk,
                        (long long)r->cal_chunks.n_ctx, (long long)s->n_cal_chunk);
    return check_vocab(r, &r->cal_chunks, err);
}

static dsb_status make_chunks(run *r, const dsb_tokenizer *tok, dsb_convention convention, dsb_err *err) {
    const dsb_suite *s = r->suite;
    if (has_text(r)) {
        DSB_TRY(dsb_chunks_make(&r->chunks, tok, s->text ? s->text : "built-in text", &r->text, convention, s->n_ctx, s->n_chunk, true, err));
        r->chunks_made = true;
        DSB_TRY(check_vocab(r, &r->chunks, err));
    }
    if (r->needs_calibration) DSB_TRY(make_calibration(r, tok, err));
    if (!s->task) return DSB_OK;
    DSB_TRY(dsb_task_load(&r->task, tok, s->task, s->n_ctx, r->m.config.max_pos, err));
    if (!has_text(r)) r->chunks = r->task.chunks; /* the task's own: released with it */
    return check_vocab(r, &r->task.chunks, err);
}

/* What the sweep runs: the text's chunks, behind them the task's. */
static dsb_status lay_out(run *r, dsb_err *err) {
    int64_t n_ctx = r->chunks.n_ctx, more = r->suite->task && has_text(r) ? r->task.chunks.n_chunk : 0, n = r->chunks.n_chunk * n_ctx, n_more = more * n_ctx;
    r->n_chunk = r->chunks.n_chunk + more;
    if (n + n_more > INT32_MAX) return dsb_fail(err, DSB_EUSAGE, "%lld chunks of %lld tokens are more than %d tokens; fewer --chunks are wanted", (long long)r->n_chunk, (long long)n_ctx, INT32_MAX);
    DSB_TRY(DSB_NEW(r->tokens, n + n_more, "tokens", err));
    DSB_TRY(DSB_NEW(r->targets, n + n_more, "targets", err));
    memcpy(r->tokens, r->chunks.tokens, (size_t)n * sizeof *r->tokens);
    for (int64_t i = 0; i < n; i++) r->targets[i] = dsb_chunks_target(&r->chunks, i / n_ctx, i % n_ctx);
    if (!r->suite->task) return DSB_OK;
    DSB_TRY(DSB_NEW(r->positions, n + n_more, "positions", err));
    for (int64_t i = 0; i < n; i++) r->positions[i] = r->chunks.positions ? r->chunks.positions[i] : (int32_t)(i % n_ctx);
    for (int64_t i = 0; i < n_more; i++) {
        r->tokens[n + i] = r->task.chunks.tokens[i];
        r->targets[n + i] = r->task.chunks.targets[i];
        r->positions[n + i] = r->task.chunks.positions[i];
    }
    return DSB_OK;
}

static dsb_status load_chunks(run *r, dsb_err *err) {
    const dsb_suite *s = r->suite;
    int convention = dsb_convention_find(s->convention);
    dsb_tokenizer *tok;
    if (convention < 0) return dsb_fail(err, DSB_EUSAGE, "convention \"%s\" is unknown; llama, gptq or sliding is wanted", s->convention);
    if (has_text(r)) DSB_TRY(load_text(s, s->text, DSB_BUILTIN_EVALUATION, &r->text, err));
    if (r->needs_calibration) DSB_TRY(load_text(s, s->calibration, DSB_BUILTIN_CALIBRATION, &r->cal_text, err));
    DSB_TRY(dsb_tokenizer_open(&tok, s->model, err));
    dsb_status st = make_chunks(r, tok, (dsb_convention)convention, err);
    dsb_tokenizer_close(tok);
    dsb_text_drop(&r->text);
    dsb_text_drop(&r->cal_text);
    return st ? st : lay_out(r, err);
}

static dsb_status load_model(run *r, dsb_err *err) {
    const dsb_suite *s = r->suite;
    int64_t longest = s->prefill + s->decode > s->n_ctx ? s->prefill + s->decode : s->n_ctx;
    DSB_TRY(dsb_model_open(&r->m, dsb_device(), s->model, longest, err));
    r->model_open = true;
    DSB_TRY(dsb_model_check_length(&r->m, s->model, "context", s->n_ctx, err));
    DSB_TRY(dsb_model_check(&r->m, &r->m.checkpoint, err));
    DSB_TRY(DSB_NEW(r->sources, s->n_scheme + 1, "schemes", err));
    DSB_TRY(DSB_NEW(r->schemes, s->n_scheme + 1, "schemes", err));
    for (int i = 0; i < s->n_scheme; i++) {
        DSB_TRY(dsb_scheme_source_open(&r->sources[i], &r->m, s->model, s->recipes[i], s->sources[i], err));
        r->schemes[i] = r->sources[i].scheme;
        if (!r->schemes[i].own_source) DSB_TRY(dsb_model_check(&r->m, r->schemes[i].source, err));
        bool *used;
        DSB_TRY(dsb_arena_take(r->arena, (void **)&used, (size_t)s->recipes[i]->n_rule, sizeof *used, "rules", err));
        DSB_TRY(dsb_model_check_recipe(&r->m, s->recipes[i], used, err));
        r->used[i] = used;
        r->needs_calibration |= s->recipes[i]->needs_calibration;
    }
    return DSB_OK;
}

/* An output folder that can't be written is found before the work, not after it. */
static dsb_status check_out(const char *out, dsb_err *err) {
    if (!out) return DSB_OK;
    DSB_TRY(dsb_dir_make(out, err));
    if (access(out, W_OK) != 0) return dsb_fail(err, DSB_EOUTPUT, "%s: the folder can't be written: %s", out, strerror(errno));
    return DSB_OK;
}

static dsb_status check_hash(const run *r, const char *what, const char *path, const char *found, const char *wanted, dsb_err *err) {
    if (!wanted || strcmp(found, wanted) == 0) return DSB_OK;
    return dsb_fail(err, DSB_EINPUT, "%s: the %s changed since run %s began: SHA-256 is %.12s…, %.12s… is wanted; make a new run", path, what, r->id, found, wanted);
}

/* A run goes on only over what it began with. */
static dsb_status check_same(const run *r, const char *model_hash, dsb_err *err) {
    const dsb_run_record *was = r->q->stored;
    DSB_TRY(check_hash(r, "model", r->suite->model, model_hash, was->model.sha256, err));
    if (has_text(r)) DSB_TRY(check_hash(r, "text", r->suite->text ? r->suite->text : "built-in text", r->text.sha256, was->dataset.sha256, err));
    if (r->suite->task) DSB_TRY(check_hash(r, "task", r->suite->task, r->task.sha256, was->task_sha256, err));
    return r->needs_calibration ? check_hash(r, "calibration text", r->suite->calibration ? r->suite->calibration : "built-in text", r->cal_text.sha256, was->calibration.sha256, err) : DSB_OK;
}

static dsb_status insert_run(run *r, dsb_err *err) {
    const dsb_suite *s = r->suite;
    const char *json;
    char hash[65];
    DSB_TRY(dsb_checkpoint_hash(&r->m.checkpoint, hash, err));
    if (r->q->stored) {
        DSB_TRY(check_same(r, hash, err));
        return dsb_db_run_delete_results(r->db, r->id, err);
    }
    dsb_suite used = *s;
    if (r->cal_made) used.n_cal_chunk = r->cal_chunks.n_chunk;
    DSB_TRY(dsb_suite_json(&used, r->arena, &json, err));
    dsb_run_record rec = {.id = r->id, .created_utc = dsb_utc_now(r->arena), .status = "running", .command_line = r->q->command_line, .suite_json = json, .convention = has_text(r) ? s->convention : "task",
                          .build_version = dsb_version, .build_hash = dsb_git_hash, .isa = r->m.be->isa, .device = r->m.be->name, .n_ctx = r->chunks.n_ctx, .n_chunk = r->chunks.n_chunk,
                          .n_token = r->chunks.n_chunk * r->chunks.n_ctx, .n_scored = r->chunks.n_scored, .seed = 0, .threads = omp_get_max_threads(), .wall_s = 0, .peak_rss_bytes = -1,
                          .task_path = s->task, .task_sha256 = s->task ? r->task.sha256 : NULL, .n_item = s->task ? r->task.n_item : -1};
    DSB_TRY(dsb_host_read(&rec.host, r->arena, err));
    dsb_model_facts_make(&rec.model, &r->m, s->model, hash);
    rec.dataset = (dsb_dataset_facts){.path = s->text ? s->text : "built-in", .name = s->text ? s->text : dsb_builtin_table[DSB_BUILTIN_EVALUATION].title, .sha256 = r->text.sha256,
                                      .bytes = (int64_t)r->text.n, .reflowed = !s->text || s->reflow};
    if (!has_text(r)) rec.dataset = (dsb_dataset_facts){.path = s->task, .name = s->task, .sha256 = r->task.sha256, .bytes = (int64_t)r->task.n_bytes};
    if (r->needs_calibration)
        rec.calibration = (dsb_dataset_facts){.path = s->calibration ? s->calibration : "built-in", .name = s->calibration ? s->calibration : dsb_builtin_table[DSB_BUILTIN_CALIBRATION].title,
                                              .sha256 = r->cal_text.sha256, .bytes = (int64_t)r->cal_text.n, .reflowed = !s->calibration || s->reflow};
    return dsb_db_run_insert(r->db, &rec, err);
}

static dsb_status insert_schemes(run *r, dsb_err *err) {
    dsb_status s = dsb_db_begin(r->db, err);
    for (int i = -1; i < r->suite->n_scheme && !s; i++) {
        dsb_scheme_record row = {.name = i < 0 ? "reference" : r->schemes[i].name, .ordinal = i + 1, .what = i < 0 ? dsb_reference_what(r->suite->bf16_reference) : r->suite->recipes[i]->what,
                                 .recipe_json = i < 0 ? NULL : r->suite->recipes[i]->json, .weight_bytes = -1, .n_param = -1};
        row.bpw_total = row.bpw_blocks = 0;
        s = dsb_db_put_scheme(r->db, r->id, &row, err);
        for (int j = 0; i >= 0 && j < r->suite->recipes[i]->n_rule && !s; j++) {
            const dsb_rule *rule = &r->suite->recipes[i]->rules[j];
            const dsb_activation_row *acts;
            char group[24], when[64] = "";
            dsb_activation_list(&acts);
            dsb_rule_grouping(rule, group);
            dsb_rule_condition(rule, when);
            dsb_recipe_rule_row rr = {.scheme = r->schemes[i].name, .pattern = rule->role ? rule->role : rule->match, .format = rule->format ? rule->format->name : "keep",
                                      .grouping = group, .algorithm = rule->algorithm,
                                      .activation = acts[rule->activation].name, .condition = rule->when ? when : NULL, .ordinal = j};
            s = dsb_db_put_recipe_rule(r->db, r->id, &rr, err);
        }
    }
    if (!s) s = dsb_db_commit(r->db, err);
    if (s) dsb_db_rollback(r->db);
    return s;
}

static dsb_sweep_plan sweep_plan(const run *r) {
    return (dsb_sweep_plan){.m = &r->m, .n_scheme = r->suite->n_scheme, .schemes = r->schemes, .n_chunk = r->n_chunk, .n_ctx = r->chunks.n_ctx, .tokens = r->tokens, .targets = r->targets,
                            .positions = r->positions, .n_isolated_chunk = r->chunks.n_chunk, .n_cal_chunk = r->cal_made ? r->cal_chunks.n_chunk : 0, .cal_tokens = r->cal_chunks.tokens,
                            .cover = r->suite->cover, .isolated_every = r->suite->isolated_every, .bf16_reference = r->suite->bf16_reference, .memory = r->memory.sweep, .spill_dir = r->memory.spill_dir};
}

static dsb_status plan_memory(run *r, dsb_err *err) {
    dsb_sweep_plan plan = sweep_plan(r);
    return dsb_memory_plan_make(&r->memory, &plan, r->chunks.n_scored, r->q->memory, r->q->out ? r->q->out : r->q->db, r->q->out == NULL, err);
}

static dsb_status sweep(run *r, dsb_recorder *rec, dsb_err *err) {
    dsb_observer obs;
    DSB_TRY(dsb_recorder_init(rec, r->db, r->id, &r->m, r->schemes, r->suite->n_scheme, &r->chunks, &r->progress, err));
    rec->min_tokens = r->suite->cover.min_tokens;
    rec->bf16_reference = r->suite->bf16_reference;
    if (r->suite->task) DSB_TRY(dsb_recorder_add_task(rec, &r->task, has_text(r), err));
    dsb_recorder_observer(rec, &obs);
    dsb_sweep_plan plan = sweep_plan(r);
    plan.obs = &obs;
    dsb_load_times times = {0};
    double start = dsb_now_s();
    plan.times = &times;
    if (r->q->profile && r->m.be->watch) r->m.be->watch(true);
    dsb_status s = dsb_sweep_run(&plan, &r->cal, err);
    if (r->q->profile && r->m.be->watch) r->m.be->watch(false);
    if (!s && r->q->profile) s = dsb_profile_print(r->m.be, dsb_now_s() - start, &times, r->arena, err);
    if (s) return s;
    return dsb_recorder_finish(rec, &r->cal, err);
}

/* An event of the whole run. */
static dsb_status note(run *r, const char *level, dsb_err *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static dsb_status note(run *r, const char *level, dsb_err *err, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    dsb_event e = {.level = level, .text = text, .seq = -1, .layer = -1};
    return dsb_db_put_event(r->db, r->id, &e, err);
}

/* Nothing is measured rather than random tokens, or beyond the memory; the run says so. */
static dsb_status speed_skipped(run *r, const char *why, int64_t n, const char *of, dsb_err *err) {
    return note(r, "warning", err, "speed is not measured: %s %lld%s", why, (long long)n, of);
}

/* schemes: with the reference first, in f32. */
static dsb_status measure_speeds(run *r, const dsb_scheme *schemes, dsb_err *err) {
    const dsb_suite *s = r->suite;
    char why[96];
    int64_t tokens = s->prefill + s->decode, wanted = dsb_memory_of_sessions(&r->m, schemes, s->n_scheme + 1, tokens);
    snprintf(why, sizeof why, "prefill + decode are %lld tokens, more than the", (long long)tokens);
    if (r->chunks.n_chunk * r->chunks.n_ctx < tokens) return speed_skipped(r, why, r->chunks.n_chunk * r->chunks.n_ctx, " of the run's text", err);
    if (tokens > r->m.config.max_pos) return speed_skipped(r, why, r->m.config.max_pos, " of max_position_embeddings", err);
    if (wanted > r->memory.limit - dsb_rss_bytes()) return speed_skipped(r, "all schemes at once want", wanted >> 20, " MB of memory, more than there is", err);
    dsb_throughput_plan plan = {.m = &r->m, .schemes = schemes, .n_scheme = s->n_scheme + 1, .calibration = &r->cal, .tokens = r->chunks.tokens, .prefill = s->prefill, .decode = s->decode, .repeats = s->repeats, .batch = 1, .from = 0.85, .to = 0.99};
    return dsb_throughput_run(&plan, r->db, r->id, &r->progress, err);
}

static dsb_status speeds(run *r, dsb_err *err) {
    dsb_scheme *all;
    if (r->suite->repeats == 0) return DSB_OK;
    DSB_TRY(DSB_NEW(all, r->suite->n_scheme + 1, "schemes", err));
    all[0] = (dsb_scheme){.name = "reference", .source = &r->m.checkpoint, .own_source = true, .f32_weights = true};
    for (int i = 0; i < r->suite->n_scheme; i++) all[i + 1] = r->schemes[i];
    dsb_status st = measure_speeds(r, all, err);
    free(all);
    return st;
}

/* What the figures of pre-quantized weights are relative to, and what of them is not computed. */
static dsb_status note_stored(run *r, dsb_err *err) {
    bool requantized = false;
    for (int i = 0; i < r->suite->n_scheme; i++) requantized |= r->schemes[i].own_source;
    if (dsb_checkpoint_is_quantized(&r->m.checkpoint)) {
        DSB_TRY(note(r, "info", err, "%.300s is pre-quantized: the reference is its stored weights decoded to f32%s", r->suite->model, requantized ? "; schemes other than as-stored quantize these decoded weights again" : ""));
    }
    for (int i = 0; i < r->suite->n_scheme; i++) {
        const dsb_quant_config *q = &r->schemes[i].source->quant;
        for (int g = 0; g < q->n_group && !r->schemes[i].own_source; g++) {
            if (!q->groups[g].asked[0] || q->groups[g].activation != DSB_ACT_NONE) continue;
            DSB_TRY(note(r, "info", err, "scheme %.64s: config.json asks for activations in %s, which this build does not compute; they stay BF16", r->schemes[i].name, q->groups[g].asked));
        }
    }
    return DSB_OK;
}

/* A run's name stands in commands, tables and pages. */
static dsb_status check_id(const char *id, dsb_err *err) {
    size_t n = strlen(id);
    bool ok = n > 0 && n <= 128 && id[0] != '-' && strcmp(id, "latest") != 0 && dsb_utf8_check(id, n) == n;
    for (const char *p = id; *p && ok; p++) ok = (unsigned char)*p >= ' ' && *p != 127;
    return ok ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "--run-id '%.140s' can't name a run; up to 128 characters of one line, not `latest`, not beginning with -, are wanted", id);
}

static dsb_status note_skipped(run *r, dsb_err *err) {
    char text[200];
    return dsb_model_skipped(&r->m, text) ? note(r, "info", err, "%s", text) : DSB_OK;
}

/* A rule that decides no tensor of this model: misspelled, or behind a rule that takes all it would. */
static dsb_status note_rules(run *r, dsb_err *err) {
    for (int i = 0; i < r->suite->n_scheme; i++) {
        const dsb_recipe *recipe = r->suite->recipes[i];
        for (int j = 0; j < recipe->n_rule; j++) {
            const dsb_rule *rule = &recipe->rules[j];
            if (!r->used[i][j]) DSB_TRY(note(r, "warning", err, "scheme %.64s: rule %d (%.100s) matches no tensor of the model that an earlier rule leaves", recipe->name, j + 1, rule->role ? rule->role : rule->match));
        }
    }
    return DSB_OK;
}

static dsb_status note_cuts(run *r, dsb_err *err) {
    if (r->task.n_cut == 0) return DSB_OK;
    return note(r, "warning", err, "%lld of the task's %lld choices are longer than the model's context of %lld tokens: their queries lost their beginning", (long long)r->task.n_cut, (long long)r->task.n_choice, (long long)r->suite->n_ctx);
}

static dsb_status measure(run *r, dsb_err *err) {
    dsb_recorder rec = {0};
    if (!r->q->quiet && !r->q->unshown) dsb_memory_plan_print(&r->memory, r->q->json ? stderr : stdout);
    dsb_status s = insert_schemes(r, err);
    if (!s) s = note_skipped(r, err);
    if (!s) s = note_stored(r, err);
    if (!s) s = note_rules(r, err);
    if (!s) s = note_cuts(r, err);
    if (!s) s = sweep(r, &rec, err);
    bool bad = rec.nonfinite > 0;
    char where[sizeof rec.nonfinite_text];
    memcpy(where, rec.nonfinite_text, sizeof where);
    dsb_recorder_release(&rec);
    if (!s) s = speeds(r, err);
    dsb_progress_clear(&r->progress);
    dsb_err ignored;
    dsb_status f = dsb_db_run_finish(r->db, r->id, s ? "failed" : bad ? "nonfinite" : "done", dsb_now_s() - r->start_s, dsb_peak_rss_bytes(), s ? &ignored : err);
    if (s) return s;
    if (f) return f;
    return bad ? dsb_fail(err, DSB_ENONFINITE, "run %s: %s", r->id, where) : DSB_OK;
}

static void run_close(run *r) {
    dsb_db_close(r->db);
    dsb_calibration_release(&r->cal);
    if (r->chunks_made) dsb_chunks_release(&r->chunks);
    if (r->cal_made) dsb_chunks_release(&r->cal_chunks);
    dsb_text_file_release(&r->text);
    dsb_text_file_release(&r->cal_text);
    for (int i = 0; r->sources && i < r->suite->n_scheme; i++) dsb_scheme_source_close(&r->sources[i]);
    free(r->sources);
    free(r->schemes);
    dsb_task_release(&r->task);
    free(r->tokens);
    free(r->targets);
    free(r->positions);
    if (r->model_open) dsb_model_close(&r->m);
}

dsb_status dsb_run_execute(const dsb_run_request *q, dsb_arena *arena, dsb_err *err) {
    run r = {.q = q, .suite = q->suite, .arena = arena, .start_s = dsb_now_s(), .id = q->run_id ? q->run_id : dsb_run_id_make(arena)};
    dsb_status s = dsb_suite_check(q->suite, err);
    if (!s) s = check_id(r.id, err);
    if (!s) s = load_model(&r, err);
    if (!s) s = load_chunks(&r, err);
    if (!s) s = check_out(q->out, err);
    if (!s) s = plan_memory(&r, err);
    if (!s) s = dsb_db_open(&r.db, q->db, true, err);
    if (!s) s = insert_run(&r, err);
    dsb_progress_init(&r.progress, q->quiet);
    if (!s) s = measure(&r, err);
    run_close(&r);
    if (s && s != DSB_ENONFINITE) return s;
    dsb_err shown = {0};
    dsb_status t = q->unshown ? DSB_OK : dsb_run_show(q->db, r.id, q->out, q->json, q->quiet, &shown);
    if (s) return s;
    if (t && err) *err = shown;
    return t;
}

static dsb_status write_out(dsb_db *db, const char *id, const char *out, bool quiet, dsb_err *err) {
    char path[4096];
    dsb_text written;
    dsb_err plot_err = {0};
    snprintf(path, sizeof path, "%s/report.html", out);
    dsb_text_init(&written);
    /* The page is complete without plots: a missing gnuplot is told, and the rest goes on. */
    dsb_status plots = dsb_plot_run(db, id, NULL, NULL, DSB_PICTURE_SVG, out, &written, &plot_err);
    dsb_text_release(&written);
    dsb_status s = dsb_html_write(db, id, NULL, path, err);
    if (s) return s;
    if (!quiet) printf("report: %s\n", path);
    if (plots && err) *err = plot_err;
    return plots;
}

dsb_status dsb_run_show(const char *path, const char *run_id, const char *out, bool json, bool quiet, dsb_err *err) {
    dsb_db *db;
    dsb_text text;
    DSB_TRY(dsb_db_open(&db, path, false, err));
    dsb_text_init(&text);
    dsb_status s = dsb_summary_print(db, run_id, json ? DSB_REPORT_JSON : DSB_REPORT_TEXT, &text, err);
    if (!s) fputs(text.data, stdout);
    dsb_text_release(&text);
    if (!s && !json) printf("\nrun %s in %s\n", run_id, path);
    if (!s) s = dsb_print_done(err);
    if (!s && out) s = write_out(db, run_id, out, quiet || json, err);
    dsb_db_close(db);
    return s;
}
