/* `dsbench run`: the main job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/db.h"
#include "harness/commands.h"
#include "harness/options.h"
#include "harness/run.h"

typedef struct options {
    const char *model, *reference, *text, *field, *task, *calibration, *schemes, *convention, *out, *run_id, *resume, *memory;
    dsb_opt_list recipes, sources;
    int64_t n_ctx, n_chunk, repeats;
    bool profile;
} options;

static dsb_status make_suite(dsb_suite *s, dsb_arena *arena, const options *o, const char *file, dsb_err *err) {
    if (file) {
        DSB_TRY(dsb_suite_load(s, arena, file, o->model, err));
    } else {
        DSB_TRY(dsb_suite_default(s, arena, o->model, err));
    }
    if (o->schemes) DSB_TRY(dsb_suite_schemes(s, arena, o->schemes, err));
    if (!o->schemes && o->recipes.n > 0 && !file) s->n_scheme = 0;
    for (int i = 0; i < o->recipes.n; i++) {
        const dsb_recipe *r;
        DSB_TRY(dsb_recipe_load(&r, arena, o->recipes.item[i], err));
        DSB_TRY(dsb_suite_add(s, r, NULL, err));
    }
    for (int i = 0; i < o->sources.n; i++) DSB_TRY(dsb_suite_source(s, arena, o->sources.item[i], err));
    DSB_TRY(dsb_suite_reference(s, arena, o->reference, err));
    if (o->text) s->text = o->text;
    if (o->field) s->field = o->field;
    if (o->task) s->task = o->task;
    if (o->calibration) s->calibration = o->calibration;
    if (o->convention && strcmp(o->convention, s->convention) != 0) dsb_suite_convention(s, o->convention);
    if (o->n_ctx > 0) s->n_ctx = o->n_ctx;
    if (o->n_chunk >= 0) s->n_chunk = o->n_chunk;
    if (o->repeats >= 0) s->repeats = o->repeats;
    return DSB_OK;
}

/* "4G", "1.5g", "500M", "800000K" or bytes; 0 where nothing was given. */
static dsb_status parse_memory(const char *text, int64_t *out, dsb_err *err) {
    static const char k_unit[] = "KMGT";
    char *end = NULL;
    double v = text ? strtod(text, &end) : 0;
    *out = 0;
    if (!text) return DSB_OK;
    const char *unit = end > text && *end ? strchr(k_unit, *end >= 'a' ? *end - 'a' + 'A' : *end) : NULL;
    for (const char *u = k_unit; unit && u <= unit; u++) v *= 1024;
    bool ok = end > text && *text != '-' && (!*end || (unit && (!end[1] || strcmp(end + 1, "B") == 0 || strcmp(end + 1, "iB") == 0))) && v >= 1 && v < 1e18;
    if (!ok) return dsb_fail(err, DSB_EUSAGE, "run: --memory '%.60s' is no size; a number with K, M or G, such as 4G, is wanted", text);
    *out = (int64_t)v;
    return DSB_OK;
}

/* Everything of a stored run; a finished one only prints its summary. */
static dsb_status resume(const options *o, const dsb_parsed *p, dsb_arena *arena, dsb_err *err) {
    dsb_db *db;
    dsb_run_record rec;
    dsb_suite s;
    json_t *doc;
    const char *id;
    DSB_TRY(dsb_db_open(&db, p->db, false, err));
    dsb_status st = dsb_db_run_resolve(db, arena, o->resume, &id, err);
    if (!st) st = dsb_db_run_get(db, arena, id, &rec, err);
    dsb_db_close(db);
    if (st) return st;
    if (strcmp(rec.status, "done") == 0) return dsb_run_show(p->db, id, o->out, p->json, p->quiet, err);
    if (!rec.suite_json) return dsb_fail(err, DSB_EINPUT, "%s: run %s has no stored suite; make a new run", p->db, id);
    DSB_TRY(dsb_json_parse(&doc, "the stored suite", rec.suite_json, strlen(rec.suite_json), err));
    st = dsb_suite_default(&s, arena, rec.model.path, err);
    if (!st) st = dsb_suite_apply(&s, arena, "the stored suite", doc, err);
    json_decref(doc);
    if (!st && s.text && strcmp(s.text, "-") == 0) st = dsb_fail(err, DSB_EUSAGE, "run %s read its text from standard input, which is gone; make a new run", id);
    dsb_run_request q = {.suite = &s, .db = p->db, .out = o->out, .run_id = id, .command_line = rec.command_line, .stored = &rec, .json = p->json, .quiet = p->quiet, .profile = o->profile, .threads = p->threads};
    if (!st) st = parse_memory(o->memory, &q.memory, err);
    return st ? st : dsb_run_execute(&q, arena, err);
}

/* An option of a new run was given. */
static bool given(const options *o) {
    return o->model || o->reference || o->text || o->field || o->task || o->calibration || o->schemes || o->convention || o->run_id || o->recipes.n || o->sources.n || o->n_ctx || o->n_chunk >= 0 || o->repeats >= 0;
}

static dsb_status execute(const options *o, const dsb_parsed *p, const char *typed, dsb_arena *arena, dsb_err *err) {
    dsb_suite s;
    if (o->resume && (p->n_arg || given(o))) return dsb_fail(err, DSB_EUSAGE, "run: --resume takes the whole suite from the stored run; beside it only --out, --db, --threads, --memory, --json and --quiet are wanted");
    if (o->resume) return resume(o, p, arena, err);
    DSB_TRY(make_suite(&s, arena, o, p->n_arg > 0 ? p->arg[0] : NULL, err));
    dsb_run_request q = {.suite = &s, .db = p->db, .out = o->out, .run_id = o->run_id, .command_line = typed, .json = p->json, .quiet = p->quiet, .profile = o->profile, .threads = p->threads};
    DSB_TRY(parse_memory(o->memory, &q.memory, err));
    return dsb_run_execute(&q, arena, err);
}

int dsb_cmd_run(int argc, char **argv) {
    options o = {.n_chunk = -1, .repeats = -1};
    dsb_err err = {0};
    dsb_parsed parsed;
    dsb_arena arena;
    const dsb_option rows[] = {
        {"model", 0, DSB_OPT_STRING, &o.model, "DIR", "model directory, or a GGUF file (default: the built-in model)", 0, 0},
        {"reference", 0, DSB_OPT_STRING, &o.reference, "DIR|bf16", "full-precision model beside which a pre-quantized --model is measured, as scheme as-stored; bf16 or bf16:DIR: the reference multiplies BF16 inputs and weights, f32 sums (faster; default f32)", 0, 0},
        {"text", 0, DSB_OPT_STRING, &o.text, "FILE", "evaluation text, byte for byte; or a JSONL file, or a folder (default: the built-in one)", 0, 0},
        {"field", 0, DSB_OPT_STRING, &o.field, "NAME", "field of JSONL texts that holds a document (default: text)", 0, 0},
        {"task", 0, DSB_OPT_STRING, &o.task, "FILE.jsonl", "multiple choice: query, choices, gold; alone, or beside --text", 0, 0},
        {"calibration", 0, DSB_OPT_STRING, &o.calibration, "FILE", "calibration text (default: the built-in one)", 0, 0},
        {"schemes", 0, DSB_OPT_STRING, &o.schemes, "a,b,c", "presets of `dsbench list schemes`", 0, 0},
        {"recipe", 0, DSB_OPT_LIST, &o.recipes, "FILE", "a recipe file; may be repeated", 0, 0},
        {"scheme", 0, DSB_OPT_LIST, &o.sources, "NAME=DIR", "the checkpoint that scheme NAME reads; may be repeated", 0, 0},
        {"context", 0, DSB_OPT_INT, &o.n_ctx, "N", "tokens a chunk (512; gptq 2048)", 2, 1 << 20},
        {"chunks", 0, DSB_OPT_INT, &o.n_chunk, "N", "chunks, evenly spread over the text; 0: all", 0, 1 << 30},
        {"convention", 0, DSB_OPT_STRING, &o.convention, "llama|gptq|sliding", "which positions are scored", 0, 0},
        {"repeats", 0, DSB_OPT_INT, &o.repeats, "N", "repeats of the speed measurement; 0: none", 0, 32},
        {"memory", 0, DSB_OPT_STRING, &o.memory, "LIMIT", "memory to keep to, such as 4G (default: what is available)", 0, 0},
        {"profile", 0, DSB_OPT_FLAG, &o.profile, NULL, "what the sweep takes of device and host, on standard error; each kernel is waited for, which slows it down", 0, 0},
        {"out", 0, DSB_OPT_STRING, &o.out, "DIR", "folder for report.html and the plots", 0, 0},
        {"run-id", 0, DSB_OPT_STRING, &o.run_id, "NAME", "the run's name (default: made from the time)", 0, 0},
        {"resume", 0, DSB_OPT_STRING, &o.resume, "RUN", "finish an interrupted run; a finished one is shown", 0, 0},
    };
    const dsb_usage usage = {.command = "run", .args = "[SUITE.json]", .what = "Measures every scheme against the f32 reference: error by layer, routing drift, perplexity, speed.", .max_args = 1, .options = rows,
                             .n_option = (int)(sizeof rows / sizeof *rows)};
    dsb_arena_init(&arena);
    const char *typed = dsb_command_line(&arena, argc, argv); /* before argv is reordered */
    dsb_status s = dsb_options_parse(&usage, argc, argv, &parsed, &err);
    if (!s && !parsed.help) s = execute(&o, &parsed, typed, &arena, &err);
    dsb_arena_release(&arena);
    return s ? dsb_command_fail(&err) : 0;
}
