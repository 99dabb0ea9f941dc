/* `dsbench bench`: speed by itself. Outside of what is timed: loading, packing, checking, the tokens of --depth, one warm-up. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/db.h"
#include "harness/bench.h"
#include "harness/bench_builds.h"
#include "harness/commands.h"
#include "harness/host.h"
#include "harness/output.h"
#include "harness/stored_run.h"
#include "harness/throughput.h"
#include "harness/version.h"
#include "metrics/speed.h"

typedef struct options {
    dsb_bench_model model;
    dsb_bench_kernels kernels;
    dsb_bench_builds builds;
    const char *routing, *format;
    int64_t repeats, group;
    double busy_limit;
    bool strict;
    dsb_report_format output;
    dsb_parsed parsed;
} options;

/* What all rows share. */
typedef struct shared {
    dsb_host_facts host;
    dsb_model_facts model;
    dsb_roofline roof;
    dsb_device_facts gpu; /* no name: a CPU */
    const char *command, *cpu;
} shared;

static const char k_default_formats[] = "bf16,int8,int4";

/* A word of a command line, quoted for a shell where it must be. */
static void put_word(dsb_text *t, const char *option, const char *value) {
    static const char k_plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";
    if (!value) return;
    dsb_text_printf(t, " %s ", option);
    if (*value && value[strspn(value, k_plain)] == 0) {
        dsb_text_put(t, value);
        return;
    }
    dsb_text_put(t, "'");
    for (const char *p = value; *p; p++) {
        if (*p == '\'') dsb_text_put(t, "'\\'");
        dsb_text_bytes(t, p, 1);
    }
    dsb_text_put(t, "'");
}
static void put_number(dsb_text *t, const char *option, int64_t value) { dsb_text_printf(t, " %s %lld", option, (long long)value); }

/* The command that does the same again, whatever the defaults become. */
static dsb_status repeat_command(const options *o, dsb_arena *arena, const char **out, dsb_err *err) {
    const char *isa = getenv("DSBENCH_ISA"); /* --isa sets it too */
    const dsb_bench_model *m = &o->model;
    dsb_text t;
    dsb_text_init(&t);
    dsb_text_put(&t, "dsbench bench");
    if (o->kernels.names) {
        put_word(&t, "--kernel", o->kernels.names);
        put_word(&t, "--shape", o->kernels.shapes);
        if (strstr(o->kernels.names, "experts")) dsb_text_printf(&t, " --experts %lld --top-k %lld", (long long)o->kernels.n_expert, (long long)o->kernels.top_k);
    } else {
        put_word(&t, "--model", m->dir);
        put_word(&t, "--formats", m->formats);
        put_word(&t, "--schemes", m->schemes);
        if (m->head) dsb_text_put(&t, " --head");
        put_number(&t, "--prefill", m->prefill);
        put_number(&t, "--decode", m->decode);
        put_number(&t, "--depth", m->depth);
        put_number(&t, "--batch", m->batch);
        put_word(&t, "--text", m->text);
        put_word(&t, "--routing", dsb_routing_kind_name(m->routing));
        put_word(&t, "--recorded", m->recorded);
    }
    if (o->group) put_number(&t, "--group", o->group);
    put_number(&t, "--repeats", o->repeats);
    dsb_text_printf(&t, " --busy-limit %g --threads %d --device %s", o->busy_limit, omp_get_max_threads(), dsb_device_name());
    if (isa && *isa) put_word(&t, "--isa", isa);
    dsb_status s = dsb_text_check(&t, "the command", err);
    *out = s ? NULL : dsb_arena_strdup(arena, t.data);
    dsb_text_release(&t);
    return s ? s : *out ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "no memory for the command");
}

/* Whether other load was within the limit; unknown load isn't. */
static bool is_clean(const options *o, const dsb_bench_row *row) { return row->busy_percent <= o->busy_limit; }

static void fill_shared(const options *o, const shared *s, dsb_arena *arena, dsb_bench_rows *rows) {
    const char *id = dsb_run_id_make(arena), *now = dsb_utc_now(arena);
    for (int i = 0; i < rows->n; i++) {
        dsb_bench_row *r = &rows->row[i];
        const dsb_backend *be = o->kernels.names ? o->kernels.jobs[i].be : o->model.be;
        r->bench = id;
        r->created_utc = now;
        r->command_line = s->command;
        r->build_version = dsb_version;
        r->build_hash = dsb_git_hash;
        r->isa = be->isa;
        r->device = be->name;
        r->threads = omp_get_max_threads();
        r->clean = is_clean(o, r);
        r->read_gbps = s->roof.read_gbps;
        r->triad_gbps = s->roof.triad_gbps;
        r->f32_gflops = s->roof.f32_gflops;
        r->bf16_gflops = s->roof.bf16_gflops;
        r->int8_gops = s->roof.int8_gops;
        r->fp8_gflops = s->roof.fp8_gflops;
    }
}

/* Columns of both kinds, then what stands in JSON and CSV alone. */
#define HEADS_COMMON                                                                                                                                                                               \
    { "gops", "GOP/s", NULL, false }, { "gbps", "GB/s", NULL, false }, { "roofline_percent", "roofline", "%", false }, { "bound", "bound by", NULL, true }, { "busy_percent", "busy", "%", false }, \
    { "kernel", "kernel", NULL, true }, { "repeats", NULL, NULL, false }, { "steal_percent", NULL, NULL, false }, { "clean", NULL, NULL, false }, { "read_gbps", NULL, NULL, false },               \
    { "triad_gbps", NULL, NULL, false }, { "f32_gflops", NULL, NULL, false }, { "bf16_gflops", NULL, NULL, false }, { "int8_gops", NULL, NULL, false }, { "fp8_gflops", NULL, NULL, false },                                                \
    { "sm_mhz", "SM clock", "MHz", false }, { "power_w", "power", "W", false }, { "temperature_c", "GPU", "°C", false }, { "energy_j", "energy", "J", false }, { "device_bytes", NULL, NULL, false }, { "isa", NULL, NULL, true },                \
    { "device", NULL, NULL, true }, { "threads", NULL, NULL, false }, { "cpu", NULL, NULL, true }, { "version", NULL, NULL, true }, { "command", NULL, NULL, true }

/* Three digits or more, without an exponent. */
static void put_figure(dsb_grid *g, double v) { dsb_grid_figure(g, v, "%.*f", v >= 100 ? 0 : v >= 10 ? 1 : v >= 1 ? 2 : 3, v); }

static void put_common(dsb_grid *g, const shared *s, const dsb_bench_row *r) {
    put_figure(g, r->gops);
    put_figure(g, r->gbps);
    put_figure(g, r->roofline_percent);
    dsb_grid_text(g, isnan(r->roofline_percent) ? NULL : r->bound);
    dsb_grid_figure(g, r->busy_percent, "%.1f", r->busy_percent);
    dsb_grid_text(g, r->kernel);
    dsb_grid_int(g, r->repeats);
    dsb_grid_figure(g, r->steal_percent, "%.1f", r->steal_percent);
    dsb_grid_int(g, r->clean);
    const double machine[] = {r->read_gbps, r->triad_gbps, r->f32_gflops, r->bf16_gflops, r->int8_gops, r->fp8_gflops, r->sm_mhz, r->power_w, r->temperature_c, r->energy_j};
    for (size_t i = 0; i < sizeof machine / sizeof *machine; i++) put_figure(g, machine[i]);
    dsb_grid_int(g, r->device_bytes);
    dsb_grid_text(g, r->isa);
    dsb_grid_text(g, r->device);
    dsb_grid_int(g, r->threads);
    dsb_grid_text(g, s->cpu);
    dsb_grid_text(g, r->build_hash);
    dsb_grid_text(g, r->command_line);
}

static void model_grid(dsb_grid *g, dsb_arena *arena, const shared *s, const dsb_bench_rows *rows) {
    static const dsb_grid_head heads[] = {
        { "format", "format", NULL, true }, { "phase", "phase", NULL, true }, { "n_token", "tokens", NULL, false }, { "depth", "depth", NULL, false }, { "batch", "batch", NULL, false }, { "tps", "tokens/s", NULL, false },
        { "tps_min", "min", NULL, false }, { "tps_max", "max", NULL, false }, { "p50_ms", "p50", "ms", false }, { "p99_ms", "p99", "ms", false }, HEADS_COMMON, { "routing", NULL, NULL, true },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int i = 0; i < rows->n; i++) {
        const dsb_bench_row *r = &rows->row[i];
        double all = r->tps * r->seconds; /* tokens of all sequences */
        dsb_grid_text(g, r->name);
        dsb_grid_text(g, r->phase);
        dsb_grid_int(g, r->n_token);
        dsb_grid_int(g, r->depth);
        dsb_grid_int(g, r->batch);
        put_figure(g, r->tps);
        put_figure(g, all / r->seconds_max);
        put_figure(g, all / r->seconds_min);
        put_figure(g, r->p50_ms);
        put_figure(g, r->p99_ms);
        put_common(g, s, r);
        dsb_grid_text(g, r->routing);
    }
}

static void kernel_grid(dsb_grid *g, dsb_arena *arena, const shared *s, const dsb_bench_rows *rows) {
    static const dsb_grid_head heads[] = {
        { "name", "case", NULL, true }, { "shape", "shape", NULL, true }, { "us", "median", "µs", false }, { "us_min", "min", "µs", false }, { "us_max", "max", "µs", false }, { "checked", "equals", NULL, true }, HEADS_COMMON,
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int i = 0; i < rows->n; i++) {
        const dsb_bench_row *r = &rows->row[i];
        const double us[] = {1e6 * r->seconds, 1e6 * r->seconds_min, 1e6 * r->seconds_max};
        dsb_grid_text(g, r->name);
        dsb_grid_text(g, r->shape);
        for (int j = 0; j < 3; j++) put_figure(g, us[j]);
        dsb_grid_text(g, "ref"); /* another result ends the command */
        put_common(g, s, r);
    }
}

/* How far from clean the worst row is, in one line; NULL: all are clean. */
static const char *unclean(const options *o, dsb_arena *arena, const dsb_bench_rows *rows) {
    const dsb_bench_row *worst = NULL;
    for (int i = 0; i < rows->n; i++)
        if (!is_clean(o, &rows->row[i]) && (!worst || !(rows->row[i].busy_percent <= worst->busy_percent))) worst = &rows->row[i];
    if (!worst) return NULL;
    if (isnan(worst->busy_percent)) return "not known to be clean: the system doesn't tell other load; don't compare these speeds";
    const char *stolen = worst->steal_percent >= 0.1 ? dsb_text_format(arena, " (%.1f %% by the hypervisor)", worst->steal_percent) : "";
    return dsb_text_format(arena, "not clean: others took %.1f %%%s of all processors meanwhile, %.1f more than the limit of %g; don't compare these speeds", worst->busy_percent, stolen, worst->busy_percent - o->busy_limit, o->busy_limit);
}

/* Under a table for readers; to standard error beside one for programs. */
static void print_lines(const options *o, dsb_arena *arena, const shared *s, const dsb_bench_rows *rows) {
    bool readers = o->output == DSB_REPORT_TEXT || o->output == DSB_REPORT_MARKDOWN;
    const char *dirty = unclean(o, arena, rows), *mark = o->output == DSB_REPORT_MARKDOWN ? "- " : "";
    FILE *to = readers ? stdout : stderr;
    if (o->parsed.quiet && !readers) return;
    if (readers && s->gpu.name[0]) fprintf(to, "\n%sGPU: %s; read %.3g GB/s, triad %.3g GB/s; peaks f32 %.4g, bf16 %.4g, fp8 %.4g, int8 %.4g GOP/s; %s; %d threads\n", mark, s->gpu.name, s->roof.read_gbps, s->roof.triad_gbps, s->roof.f32_gflops, s->roof.bf16_gflops, s->roof.fp8_gflops, s->roof.int8_gops, s->cpu, omp_get_max_threads());
    else if (readers) fprintf(to, "\n%smachine: %s; %d threads; read %.3g GB/s, triad %.3g GB/s; peaks f32 %.4g, bf16 %.4g, int8 %.4g GOP/s\n", mark, s->cpu, omp_get_max_threads(), s->roof.read_gbps, s->roof.triad_gbps, s->roof.f32_gflops, s->roof.bf16_gflops, s->roof.int8_gops);
    if (s->gpu.note[0]) fprintf(to, "%s%s\n", mark, s->gpu.note);
    for (const char *p = o->model.notes.data; p && *p; p = strchr(p, '\n') + 1) fprintf(to, "%s%.*s\n", mark, (int)strcspn(p, "\n"), p);
    if (dirty) fprintf(to, "%s%s\n", mark, dirty);
    else if (readers) fprintf(to, "%sclean: others took at most %g %% of all processors\n", mark, o->busy_limit);
    if (readers) fprintf(to, "%sagain: %s\n", mark, s->command);
}

static dsb_status print_all(const options *o, dsb_arena *arena, const shared *s, const dsb_bench_rows *rows, dsb_err *err) {
    dsb_grid g;
    dsb_text text;
    dsb_text_init(&text);
    (o->kernels.names ? kernel_grid : model_grid)(&g, arena, s, rows);
    dsb_status st = dsb_grid_write(&g, o->output, &text, err);
    if (!st) st = dsb_print(&text, err);
    dsb_text_release(&text);
    if (st) return st;
    print_lines(o, arena, s, rows);
    return dsb_print_done(err);
}

static dsb_status measure(options *o, dsb_arena *arena, dsb_db *db, dsb_err *err) {
    shared s = {0};
    dsb_bench_rows rows = {0};
    dsb_progress progress;
    const dsb_backend *be = dsb_device();
    DSB_TRY(repeat_command(o, arena, &s.command, err));
    DSB_TRY(dsb_host_read(&s.host, arena, err));
    s.cpu = s.host.cpu;
    if (!o->kernels.names) dsb_model_facts_make(&s.model, &o->model.m, o->model.dir, o->model.sha256);
    dsb_progress_init(&progress, o->parsed.quiet);
    dsb_progress_show(&progress, 0, "the machine");
    dsb_roofline_measure(be, &s.roof);
    if (be->facts) be->facts(&s.gpu);
    dsb_status st = o->kernels.names ? dsb_bench_kernels_run(&o->kernels, arena, &s.roof, &rows, &progress, err) : dsb_bench_model_run(&o->model, arena, &s.roof, &rows, &progress, err);
    dsb_progress_clear(&progress);
    DSB_TRY(st);
    fill_shared(o, &s, arena, &rows);
    DSB_TRY(dsb_db_put_bench(db, &s.host, &s.model, rows.row, rows.n, err));
    DSB_TRY(print_all(o, arena, &s, &rows, err));
    const char *dirty = o->strict ? unclean(o, arena, &rows) : NULL;
    return dirty ? dsb_fail(err, DSB_ECOMPARE, "bench: %s", dirty) : DSB_OK;
}

/* Everything that can be wrong with the request, before the database is touched. */
static dsb_status open_request(options *o, dsb_arena *arena, dsb_err *err) {
    dsb_bench_model *m = &o->model;
    const char *of_model = m->dir ? "--model" : m->formats ? "--formats" : m->schemes ? "--schemes" : m->text ? "--text" : m->head ? "--head" : o->routing ? "--routing" : m->recorded ? "--recorded" : NULL;
    if (o->kernels.names && of_model) return dsb_fail(err, DSB_EUSAGE, "bench: --kernel measures kernels by themselves; %s beside it is of a model", of_model);
    if (!o->kernels.names && o->kernels.shapes) return dsb_fail(err, DSB_EUSAGE, "bench: --shape is of a kernel; --kernel NAME is wanted");
    o->kernels.repeats = m->repeats = o->repeats;
    o->kernels.group = m->group = o->group;
    o->kernels.be = m->be = dsb_device();
    if (o->kernels.names) return dsb_bench_kernels_open(&o->kernels, arena, err);
    int routing = o->routing ? dsb_routing_kind_find(o->routing) : DSB_ROUTING_REAL;
    if (routing < 0) return dsb_fail(err, DSB_EUSAGE, "bench: --routing %.60s is unknown; real, uniform, zipf or recorded is wanted", o->routing);
    m->routing = (dsb_routing_kind)routing;
    if (!m->formats && !m->schemes) m->formats = k_default_formats;
    return dsb_bench_model_open(m, arena, err);
}

static dsb_status execute(options *o, dsb_arena *arena, dsb_err *err) {
    dsb_db *db = NULL;
    DSB_TRY(dsb_format_parse(o->format, o->parsed.json, true, &o->output, err));
    dsb_status s = open_request(o, arena, err);
    if (!s) s = dsb_db_open(&db, o->parsed.db, true, err);
    if (!s) s = measure(o, arena, db, err);
    dsb_db_close(db);
    dsb_bench_model_close(&o->model);
    return s;
}

/* Whatever is wrong with the request both programs say themselves. */
static dsb_status two_builds(options *o, dsb_arena *arena, dsb_err *err) {
    DSB_TRY(dsb_format_parse(o->format, o->parsed.json, true, &o->output, err));
    return dsb_bench_builds_run(&o->builds, o->output, o->parsed.quiet, arena, err);
}

int dsb_cmd_bench(int argc, char **argv) {
    options o = {.model = {.prefill = 512, .decode = 64, .batch = 1}, .kernels = {.n_expert = 64, .top_k = 6}, .repeats = 5, .busy_limit = 5, .builds = {.rounds = DSB_ROUNDS_LEAST}};
    dsb_bench_model *m = &o.model;
    dsb_err err = {0};
    dsb_arena arena;
    const dsb_option rows[] = {
        {"model", 0, DSB_OPT_STRING, &m->dir, "DIR", "model directory, or a GGUF file (default: the built-in model)", 0, 0},
        {"formats", 0, DSB_OPT_STRING, &m->formats, "a,b,c", "of all weights of the blocks; integers with INT8 activations (bf16,int8,int4)", 0, 0},
        {"schemes", 0, DSB_OPT_STRING, &m->schemes, "a,b,c", "presets of `dsbench list schemes`, or reference", 0, 0},
        {"group", 0, DSB_OPT_INT, &o.group, "N", "inputs a scale of integer formats (default: each one's own)", 1, 1 << 24},
        {"head", 0, DSB_OPT_FLAG, &m->head, NULL, "the vocabulary's matrix in that format too", 0, 0},
        {"prefill", 0, DSB_OPT_INT, &m->prefill, "N", "tokens of a prompt, at once (512); 0: none", 0, 1 << 20},
        {"decode", 0, DSB_OPT_INT, &m->decode, "N", "tokens after it, one by one (64); 0: none", 0, 1 << 20},
        {"depth", 0, DSB_OPT_INT, &m->depth, "N", "tokens in the cache before both (0)", 0, 1 << 20},
        {"batch", 0, DSB_OPT_INT, &m->batch, "N", "sequences that go forward together (1)", 1, 4096},
        {"text", 0, DSB_OPT_STRING, &m->text, "FILE", "whose tokens are fed (default: the built-in one)", 0, 0},
        {"routing", 0, DSB_OPT_STRING, &o.routing, "real|uniform|zipf|recorded", "real (the tokens' own), uniform, zipf or recorded", 0, 0},
        {"recorded", 0, DSB_OPT_STRING, &m->recorded, "FILE", "experts of --routing recorded: what `dsbench trace` wrote", 0, 0},
        {"kernel", 0, DSB_OPT_STRING, &o.kernels.names, "a,b,c", "kernels instead of a model: gemm_i8, avx2/rms_norm, gemm (all products), all; on a GPU also experts", 0, 0},
        {"shape", 0, DSB_OPT_STRING, &o.kernels.shapes, "RxCxN,...", "their sizes: outputs (1 where it is no product) x values x tokens", 0, 0},
        {"experts", 0, DSB_OPT_INT, &o.kernels.n_expert, "N", "of --kernel experts: how many (64)", 1, 1024},
        {"top-k", 0, DSB_OPT_INT, &o.kernels.top_k, "K", "of them a token (6)", 1, 32},
        {"repeats", 0, DSB_OPT_INT, &o.repeats, "N", "measurements, after one warm-up (5)", 1, DSB_MAX_REPEATS},
        {"busy-limit", 0, DSB_OPT_REAL, &o.busy_limit, "PERCENT", "other load up to which a run is called clean (5)", 0, 100},
        {"strict", 0, DSB_OPT_FLAG, &o.strict, NULL, "exit code 3 where it isn't", 0, 0},
        {"format", 0, DSB_OPT_STRING, &o.format, "text|md|csv|json", "how it is written (default text)", 0, 0},
        {"base-build", 0, DSB_OPT_STRING, &o.builds.base, "BIN", "another build of dsbench, run in turns with this one; exit code 1 where this one is slower", 0, 0},
        {"rounds", 0, DSB_OPT_INT, &o.builds.rounds, "N", "of --base-build, both builds in each (5)", DSB_ROUNDS_LEAST, DSB_ROUNDS_MOST},
        {"tolerance", 0, DSB_OPT_REAL, &o.builds.tolerance, "SHARE", "of --base-build: speed that may be lost (0; 0.03 is 3 %)", 0, 0.9},
    };
    const dsb_usage usage = {.command = "bench", .what = "Prefill and decode speed of a model's formats in turn, or of kernels, each checked against plain C first;\n"
                                                         "beside what this machine's memory and arithmetic do, and what else ran on it. Rows go to table bench.",
                             .options = rows, .n_option = (int)(sizeof rows / sizeof *rows),
                             .more = "examples:\n  dsbench bench --formats bf16,int8,int4 --prefill 512 --decode 64 --json\n  dsbench bench --kernel gemm_i8,gemm_i4 --shape 1408x2048x1,1408x2048x512\n  dsbench bench --base-build ../old/build/dsbench --rounds 10 --tolerance 0.02 --formats int8"};
    dsb_arena_init(&arena);
    /* Before its words are put in another order. */
    dsb_status s = dsb_arena_take(&arena, (void **)&o.builds.argv, (size_t)argc, sizeof *argv, "the command line", &err);
    if (!s) memcpy(o.builds.argv, argv, (size_t)argc * sizeof *argv);
    o.builds.argc = argc;
    if (!s) s = dsb_options_parse(&usage, argc, argv, &o.parsed, &err);
    if (!s && !o.parsed.help) s = o.builds.base ? two_builds(&o, &arena, &err) : execute(&o, &arena, &err);
    dsb_arena_release(&arena);
    return s ? dsb_command_fail(&err) : 0;
}
