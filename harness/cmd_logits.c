/* `dsbench logits REF TEST`: the figures of two dumps of logits, whichever engine made them. */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/status.h"
#include "engine/safetensors.h"
#include "harness/commands.h"
#include "harness/logits_write.h"
#include "harness/options.h"
#include "kernels/backend.h"
#include "metrics/llama_logits.h"
#include "metrics/logits.h"
#include "metrics/moments.h"

static const char MORE[] =
    "REF and TEST: safetensors with `logits` (n, vocabulary) in F32, F16 or BF16 and `tokens` (n) in I32 or I64.\n"
    "Row i predicts tokens[i+1], the last row has no target; `targets` (n), if there, is used instead: row i\n"
    "predicts targets[i], -1 for none. TEST needs neither. Or both are `_logits_` files, as\n"
    "llama-perplexity --kl-divergence-base writes them: then llama.cpp's own figures come first, in its arithmetic,\n"
    "and beside them dsbench's of the same stored probabilities, a chunk of the file as the unit of intervals.\n"
    "--write makes such a file, of chunks from the text's start: dsbench logits --write FILE --model DIR --text FILE\n"
    "Exit: 0 done, 1 non-finite logits, 2 bad input, 3 not comparable.\n";

typedef struct options {
    const char *ref, *test;
    int64_t chunk;
    dsb_logits_request write; /* path NULL: REF and TEST are read */
    bool json, help;
} options;

/* What the command found. */
typedef struct answer {
    int64_t n, vocab;
    dsb_figures figures, reference, llama_figures;
    dsb_moment_figures tensor;
    bool llama;
    int64_t nonfinite, first_nonfinite;
} answer;

/* One dump: its logits and, where it has them, what each row predicts. */
typedef struct dump {
    dsb_st_file file;
    const dsb_st_tensor *logits;
    int32_t *target; /* (n) owned; NULL without tokens and targets */
} dump;

static dsb_status options_parse(options *o, int argc, char **argv, dsb_err *err) {
    *o = (options){ .chunk = 512, .write = { .n_ctx = 512 } };
    dsb_logits_request *w = &o->write;
    const dsb_option rows[] = {
        { "chunk", 0, DSB_OPT_INT, &o->chunk, "N", "intervals take N consecutive positions as one unit (default 512)", 1, INT32_MAX },
        { "write", 0, DSB_OPT_STRING, &w->path, "FILE", "write llama.cpp's _logits_ file of a model and a text, and read none", 0, 0 },
        { "model", 0, DSB_OPT_STRING, &w->model, "DIR", "with --write: model directory", 0, 0 },
        { "text", 0, DSB_OPT_STRING, &w->text, "FILE", "with --write: the text; a file, JSONL or a folder", 0, 0 },
        { "field", 0, DSB_OPT_STRING, &w->field, "NAME", "with --write: field of JSONL texts (default: text)", 0, 0 },
        { "scheme", 0, DSB_OPT_STRING, &w->scheme, "NAME", "with --write: a preset (default: the f32 reference)", 0, 0 },
        { "recipe", 0, DSB_OPT_STRING, &w->recipe, "FILE", "with --write: a recipe file instead", 0, 0 },
        { "context", 0, DSB_OPT_INT, &w->n_ctx, "N", "with --write: tokens a chunk (default 512)", 4, 1 << 20 },
        { "chunks", 0, DSB_OPT_INT, &w->n_chunk, "N", "with --write: chunks from the text's start (default: all)", 0, 1 << 30 },
    };
    const dsb_usage usage = { "logits", "REF TEST", "Figures of the logits TEST against the logits REF, both of the same text.", 0, 2, DSB_OPTIONS(rows), MORE, false };
    dsb_parsed parsed;
    DSB_TRY(dsb_options_parse(&usage, argc, argv, &parsed, err));
    o->help = parsed.help;
    o->json = parsed.json;
    if (o->help) return DSB_OK;
    w->quiet = parsed.quiet;
    if (w->path && (parsed.n_arg || !w->model || !w->text)) return dsb_fail(err, DSB_EUSAGE, "logits: with --write, --model and --text are wanted, and no REF or TEST");
    if (w->path) return DSB_OK;
    if (parsed.n_arg != 2) return dsb_fail(err, DSB_EUSAGE, "logits: REF TEST are wanted, %d given; see dsbench logits --help", parsed.n_arg);
    if (w->model || w->text || w->scheme || w->recipe) return dsb_fail(err, DSB_EUSAGE, "logits: --model, --text, --scheme and --recipe go with --write alone");
    o->ref = parsed.arg[0];
    o->test = parsed.arg[1];
    return DSB_OK;
}

static dsb_status logits_find(dump *d, dsb_err *err) {
    const dsb_st_tensor *t = d->logits = dsb_st_find(&d->file, "logits");
    if (!t) return dsb_fail(err, DSB_EINPUT, "%s: no tensor `logits` among its %lld; wanted (positions, vocabulary)", d->file.path, (long long)d->file.n_tensor);
    if (t->ndim != 2 || t->shape[0] < 1 || t->shape[1] < 1 || t->shape[1] > INT32_MAX)
        return dsb_fail(err, DSB_EINPUT, "%s: `logits` has %d dimensions or an empty one; wanted (positions, vocabulary)", d->file.path, t->ndim);
    if (t->dtype != DSB_F32 && t->dtype != DSB_F16 && t->dtype != DSB_BF16)
        return dsb_fail(err, DSB_EINPUT, "%s: `logits` is %s; wanted F32, F16 or BF16", d->file.path, dsb_dtype_name(t->dtype));
    return DSB_OK;
}

static int64_t token_at(const dsb_st_tensor *t, int64_t i) {
    int64_t wide;
    int32_t narrow;
    if (t->dtype == DSB_I64) {
        memcpy(&wide, t->data + 8 * i, 8);
        return wide;
    }
    memcpy(&narrow, t->data + 4 * i, 4);
    return narrow;
}

/* targets[i], or tokens[i+1]; -1 is "none" in `targets` only. */
static dsb_status targets_read(dump *d, dsb_err *err) {
    const dsb_st_tensor *given = dsb_st_find(&d->file, "targets"), *t = given ? given : dsb_st_find(&d->file, "tokens");
    int64_t n = d->logits->shape[0], vocab = d->logits->shape[1];
    if (!t) return DSB_OK;
    if (t->dtype != DSB_I32 && t->dtype != DSB_I64)
        return dsb_fail(err, DSB_EINPUT, "%s: `%s` is %s; wanted I32 or I64", d->file.path, t->name, dsb_dtype_name(t->dtype));
    if (t->ndim != 1 || t->shape[0] != n)
        return dsb_fail(err, DSB_EINPUT, "%s: `%s` has %d dimensions, first %lld; wanted one of %lld, a number for each row of `logits`", d->file.path, t->name, t->ndim, (long long)(t->ndim ? t->shape[0] : 0),
                        (long long)n);
    DSB_TRY(DSB_NEW(d->target, n, "targets", err));
    for (int64_t i = 0; i < n; i++) {
        int64_t id = token_at(t, i);
        if (id >= vocab || id < (given ? -1 : 0))
            return dsb_fail(err, DSB_EINPUT, "%s: `%s`[%lld] is %lld; wanted 0 to %lld, the columns of `logits`", d->file.path, t->name, (long long)i, (long long)id, (long long)vocab - 1);
        if (given) d->target[i] = (int32_t)id;
        else if (i) d->target[i - 1] = (int32_t)id;
    }
    if (!given) d->target[n - 1] = -1;
    return DSB_OK;
}

static void dump_close(dump *d) {
    free(d->target);
    dsb_st_close(&d->file);
}

static dsb_status dump_open(dump *d, const char *path, dsb_err *err) {
    memset(d, 0, sizeof *d);
    DSB_TRY(dsb_st_open(&d->file, path, err));
    dsb_status st = logits_find(d, err);
    if (!st) st = targets_read(d, err);
    if (st) dump_close(d);
    return st;
}

/* The test's tokens, where it has them, must be the reference's. */
static dsb_status pair_check(const dump *ref, const dump *test, dsb_err *err) {
    const int64_t *a = ref->logits->shape, *b = test->logits->shape;
    if (a[1] != b[1])
        return dsb_fail(err, DSB_ECOMPARE, "%s: vocabulary of %lld tokens, %s has %lld; figures need the same one", test->file.path, (long long)b[1], ref->file.path, (long long)a[1]);
    if (a[0] != b[0])
        return dsb_fail(err, DSB_ECOMPARE, "%s: %lld positions, %s has %lld; both must be dumped from the same text", test->file.path, (long long)b[0], ref->file.path, (long long)a[0]);
    if (!ref->target) return dsb_fail(err, DSB_EINPUT, "%s: neither `tokens` nor `targets`; wanted one of them, to know what each row predicts", ref->file.path);
    const dsb_st_tensor *x = dsb_st_find(&ref->file, "tokens"), *y = dsb_st_find(&test->file, "tokens");
    for (int64_t i = 0; x && y && i < a[0] && x->ndim == 1 && y->ndim == 1 && x->shape[0] == a[0] && y->shape[0] == a[0]; i++)
        if (token_at(x, i) != token_at(y, i))
            return dsb_fail(err, DSB_ECOMPARE, "%s: token %lld is %lld, in %s it is %lld; both must be dumped from the same text", test->file.path, (long long)i, (long long)token_at(y, i), ref->file.path,
                            (long long)token_at(x, i));
    for (int64_t i = 0; test->target && i < a[0]; i++)
        if (ref->target[i] != test->target[i])
            return dsb_fail(err, DSB_ECOMPARE, "%s: row %lld predicts token %d, in %s it is %d; both must be dumped from the same text", test->file.path, (long long)i, test->target[i], ref->file.path,
                            ref->target[i]);
    return DSB_OK;
}

static void rows_widen(const dsb_st_tensor *t, int64_t first, int64_t n, float *out) {
    int64_t vocab = t->shape[1];
    dsb_widen_f32(t->dtype, t->data + (size_t)first * (size_t)vocab * dsb_dtype_size(t->dtype), (size_t)(n * vocab), out);
}

/* Row figures of all positions, a batch of rows in memory at a time. */
static dsb_status rows_measure(const dump *ref, const dump *test, dsb_logit_row *rows, dsb_moments *sum, dsb_err *err) {
    enum { BATCH_FLOATS = 4 << 20 };
    int64_t n = ref->logits->shape[0], vocab = ref->logits->shape[1], batch = BATCH_FLOATS / vocab;
    if (batch < 1) batch = 1;
    if (batch > n) batch = n;
    const dsb_backend *be = dsb_backend_cpu(NULL);
    float *x, *y;
    DSB_TRY(DSB_NEW(x, batch * vocab * 2, "rows of logits", err));
    y = x + batch * vocab;
    for (int64_t i = 0; i < n; i += batch) {
        int64_t m = n - i < batch ? n - i : batch;
        rows_widen(ref->logits, i, m, x);
        rows_widen(test->logits, i, m, y);
        be->logit_rows(x, y, ref->target + i, m, vocab, rows + i);
        for (int64_t r = 0; r < m; r++) { /* row by row: the sum must not depend on the batch */
            dsb_moments one;
            be->moments(x + r * vocab, y + r * vocab, vocab, &one);
            dsb_moments_add(sum, &one);
        }
    }
    free(x);
    return DSB_OK;
}

static dsb_status run_measure(const dump *ref, const dump *test, int64_t chunk, dsb_logit_row *rows, int64_t *starts, answer *out, dsb_err *err) {
    dsb_moments sum = { 0 };
    DSB_TRY(rows_measure(ref, test, rows, &sum, err));
    dsb_logit_run run = { .rows = rows, .target = ref->target, .chunk_start = starts, .n_chunk = (out->n + chunk - 1) / chunk };
    for (int64_t c = 0; c <= run.n_chunk; c++) starts[c] = c * chunk < out->n ? c * chunk : out->n;
    DSB_TRY(dsb_logit_figures(&run, &out->figures, err));
    out->first_nonfinite = dsb_logit_first_nonfinite(&run, &out->nonfinite);
    out->tensor = dsb_moments_figures(&sum);
    return dsb_logit_figures_reference(&run, &out->reference, err);
}

static dsb_status dumps_measure(const dump *ref, const dump *test, int64_t chunk, answer *out, dsb_err *err) {
    DSB_TRY(pair_check(ref, test, err));
    out->n = ref->logits->shape[0];
    out->vocab = ref->logits->shape[1];
    dsb_logit_row *rows;
    int64_t *starts;
    DSB_TRY(DSB_NEW(rows, out->n, "figures of positions", err));
    dsb_status st = DSB_NEW(starts, out->n / chunk + 2, "chunk offsets", err);
    if (!st) {
        st = run_measure(ref, test, chunk, rows, starts, out, err);
        free(starts);
    }
    free(rows);
    return st;
}

static dsb_status safetensors_measure(const options *o, answer *out, dsb_err *err) {
    dump ref, test;
    DSB_TRY(dump_open(&ref, o->ref, err));
    dsb_status st = dump_open(&test, o->test, err);
    if (!st) {
        st = dumps_measure(&ref, &test, o->chunk, out, err);
        dump_close(&test);
    }
    dump_close(&ref);
    return st;
}

static void codes_widen(dsb_llama_row row, int64_t vocab, float *out) {
    for (int64_t v = 0; v < vocab; v++) out[v] = row.scale * (float)(row.q[2 * v] | row.q[2 * v + 1] << 8) + row.lp_min;
}

/* dsbench's figures of the probabilities that two files store; a softmax makes them sum to one. A chunk of the file is one unit. */
static dsb_status llama_rows_measure(const dsb_llama_file *ref, const dsb_llama_file *test, dsb_logit_row *rows, int32_t *target, int64_t *starts, answer *out, dsb_err *err) {
    const dsb_backend *be = dsb_backend_cpu(NULL);
    int64_t vocab = ref->n_vocab, n = ref->per_chunk;
    float *x;
    DSB_TRY(DSB_NEW(x, 2 * vocab, "rows of logits", err));
    for (int64_t i = 0; i < ref->n_chunk * n; i++) {
        codes_widen(dsb_llama_row_at(ref, i / n, i % n), vocab, x);
        codes_widen(dsb_llama_row_at(test, i / n, i % n), vocab, x + vocab);
        target[i] = dsb_llama_token(ref, i / n, ref->first + i % n + 1);
        be->logit_rows(x, x + vocab, &target[i], 1, vocab, &rows[i]);
    }
    free(x);
    dsb_logit_run run = { .rows = rows, .target = target, .chunk_start = starts, .n_chunk = ref->n_chunk };
    for (int64_t c = 0; c <= ref->n_chunk; c++) starts[c] = c * n;
    DSB_TRY(dsb_logit_figures(&run, &out->figures, err));
    out->first_nonfinite = dsb_logit_first_nonfinite(&run, &out->nonfinite);
    return dsb_logit_figures_reference(&run, &out->reference, err);
}

static dsb_status llama_files_measure(const dsb_llama_file *ref, const dsb_llama_file *test, answer *out, dsb_err *err) {
    dsb_logit_row *rows;
    int32_t *target = NULL;
    int64_t *starts = NULL, n = ref->n_chunk * ref->per_chunk;
    out->vocab = ref->n_vocab;
    DSB_TRY(DSB_NEW(rows, n, "figures of positions", err));
    dsb_status st = DSB_NEW(target, n, "targets", err);
    if (!st) st = DSB_NEW(starts, ref->n_chunk + 1, "chunk offsets", err);
    if (!st) st = llama_rows_measure(ref, test, rows, target, starts, out, err);
    free(rows);
    free(target);
    free(starts);
    return st;
}

static dsb_status llama_measure(const options *o, answer *out, dsb_err *err) {
    dsb_llama_file ref, test;
    out->llama = true;
    DSB_TRY(dsb_llama_compare(o->ref, o->test, &out->llama_figures, &out->n, err));
    DSB_TRY(dsb_llama_open(&ref, o->ref, err));
    dsb_status st = dsb_llama_open(&test, o->test, err);
    if (!st) {
        st = llama_files_measure(&ref, &test, out, err);
        dsb_llama_close(&test);
    }
    dsb_llama_close(&ref);
    return st;
}

static dsb_status measure(const options *o, answer *out, dsb_err *err) {
    bool a = dsb_llama_is_logits(o->ref), b = dsb_llama_is_logits(o->test);
    memset(out, 0, sizeof *out);
    if (a != b && !access(a ? o->test : o->ref, R_OK))
        return dsb_fail(err, DSB_ECOMPARE, "%s is a llama.cpp `_logits_` file and %s is not; wanted two of one kind", a ? o->ref : o->test, a ? o->test : o->ref);
    return a ? llama_measure(o, out, err) : safetensors_measure(o, out, err);
}

static void print_figure(const dsb_figure *f, bool plus_minus) {
    if (isnan(f->value)) printf("  %-22s %14s", f->metric, "-");
    else printf("  %-22s %14.8g", f->metric, f->value);
    if (isfinite(f->lo) && isfinite(f->hi)) {
        if (plus_minus) printf(" ± %-12.6g", f->hi - f->value);
        else printf("  [%.8g, %.8g]", f->lo, f->hi);
    }
    printf("  %s\n", strcmp(f->unit, "1") ? f->unit : "");
}

static void print_table(const options *o, const answer *a) {
    printf("reference %s\ntest      %s\n%lld positions", o->ref, o->test, (long long)a->n);
    if (a->vocab) printf(", %lld tokens in the vocabulary", (long long)a->vocab);
    printf("\n");
    if (a->llama) {
        printf("\n  as llama-perplexity --kl-divergence reckons, ± one standard error\n");
        for (int i = 0; i < a->llama_figures.n; i++) print_figure(&a->llama_figures.item[i], true);
        if (!a->llama_figures.n) printf("  fewer than 100 scored positions: llama.cpp prints no figures of so few\n");
        printf("\n  as dsbench reckons, 95 %% intervals over chunks\n");
    }
    for (int i = 0; i < a->reference.n; i++)
        if (!isnan(a->reference.item[i].value)) printf("  reference's %-10s %14.8g  %s\n", a->reference.item[i].metric, a->reference.item[i].value, strcmp(a->reference.item[i].unit, "1") ? a->reference.item[i].unit : "");
    printf("\n");
    for (int i = 0; i < a->figures.n; i++)
        if (strcmp(a->figures.item[i].metric, "bits_per_byte")) print_figure(&a->figures.item[i], false);
    if (a->llama) return;
    printf("\n  of the logits as a tensor\n  %-22s %14.8g\n  %-22s %14.8g  dB\n  %-22s %14.8g\n  %-22s %14.8g\n", "rel_l2", a->tensor.rel_l2, "sqnr_db", a->tensor.sqnr_db, "cosine", a->tensor.cosine, "max_abs",
           a->tensor.max_abs);
}

/* JSON has no NaN and no infinity. */
static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static void add_rows(json_t *rows, const dsb_figures *list) {
    for (int i = 0; i < list->n; i++) {
        const dsb_figure *f = &list->item[i];
        json_t *row = json_object();
        json_object_set_new(row, "metric", json_string(f->metric));
        json_object_set_new(row, "value", number(f->value));
        json_object_set_new(row, "lo", number(f->lo));
        json_object_set_new(row, "hi", number(f->hi));
        json_object_set_new(row, "n", json_integer(f->n));
        json_object_set_new(row, "unit", json_string(f->unit));
        json_array_append_new(rows, row);
    }
}

static void set_values(json_t *object, const dsb_figures *list) {
    for (int i = 0; i < list->n; i++) json_object_set_new(object, list->item[i].metric, number(list->item[i].value));
}

/* Every figure by its name at the top, its interval and unit in the rows of `figures`. */
static void print_json(const options *o, const answer *a) {
    json_t *top = json_object(), *reference = json_object(), *rows = json_array();
    json_object_set_new(top, "kind", json_string(a->llama ? "llama" : "safetensors"));
    json_object_set_new(top, "ref_file", json_string(o->ref));
    json_object_set_new(top, "test_file", json_string(o->test));
    json_object_set_new(top, "n", json_integer(a->n));
    set_values(top, &a->llama_figures);
    set_values(top, &a->figures);
    if (!a->llama) {
        const struct { const char *name; double value; } tensor[] = { { "nmse", a->tensor.nmse }, { "rel_l2", a->tensor.rel_l2 }, { "sqnr_db", a->tensor.sqnr_db }, { "cosine", a->tensor.cosine }, { "max_abs", a->tensor.max_abs } };
        for (size_t i = 0; i < sizeof tensor / sizeof tensor[0]; i++) json_object_set_new(top, tensor[i].name, number(tensor[i].value));
    }
    json_object_set_new(top, "vocab", json_integer(a->vocab));
    set_values(reference, &a->reference);
    add_rows(rows, &a->llama_figures);
    add_rows(rows, &a->figures);
    json_object_set_new(top, "reference", reference);
    json_object_set_new(top, "figures", rows);
    json_dumpf(top, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    printf("\n");
    json_decref(top);
}

int dsb_cmd_logits(int argc, char **argv) {
    dsb_err err = { 0 };
    options o;
    answer a;
    if (options_parse(&o, argc, argv, &err)) return dsb_command_fail(&err);
    if (o.help) return 0;
    if (o.write.path) return dsb_logits_write(&o.write, &err) ? dsb_command_fail(&err) : 0;
    if (measure(&o, &a, &err)) return dsb_command_fail(&err);
    if (o.json) print_json(&o, &a);
    else print_table(&o, &a);
    if (fflush(stdout)) {
        dsb_fail(&err, DSB_EOUTPUT, "standard output: the figures could not be written");
        return dsb_command_fail(&err);
    }
    if (a.nonfinite) {
        dsb_fail(&err, DSB_ENONFINITE, "%s or %s: NaN or infinite logits in %lld of %lld positions, first in row %lld; their means are left undefined", o.ref, o.test, (long long)a.nonfinite, (long long)a.n, (long long)a.first_nonfinite);
        return dsb_command_fail(&err);
    }
    return 0;
}
