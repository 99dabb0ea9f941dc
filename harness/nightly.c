#include "harness/nightly.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "db/history.h"
#include "harness/bench_builds.h"
#include "harness/host.h"
#include "harness/prune.h"
#include "reports/html.h"

typedef struct night {
    const dsb_nightly_request *q;
    dsb_arena *arena;
    dsb_nightly_result *r;
    dsb_db *db;
} night;

static dsb_status find_baseline(night *n, dsb_err *err) {
    if (n->q->baseline) return dsb_db_run_resolve(n->db, n->arena, n->q->baseline, &n->r->baseline, err);
    return dsb_db_baseline_get(n->db, n->arena, n->q->run.suite->name ? n->q->run.suite->name : "", &n->r->baseline, err);
}

/* "a,b": the suite's presets, which both builds know by name; NULL: none, or no memory. */
static const char *preset_names(const dsb_suite *suite, dsb_arena *arena) {
    const dsb_preset_row *rows;
    dsb_text names;
    int n = dsb_preset_list(&rows);
    dsb_text_init(&names);
    for (int i = 0; i < suite->n_scheme; i++)
        for (int k = 0; k < n; k++)
            if (!strcmp(rows[k].name, suite->recipes[i]->name)) dsb_text_printf(&names, "%s%s", names.size ? "," : "", rows[k].name);
    const char *kept = names.size && !names.failed ? dsb_arena_strdup(arena, names.data) : NULL;
    dsb_text_release(&names);
    return kept;
}

/* Speeds of both builds in turns take the place of those of separate runs, and gate: a family of their own. */
static dsb_status judge_rounds(night *n, dsb_err *err) {
    const dsb_suite *s = n->q->run.suite;
    dsb_comparison *c = &n->r->comparison;
    dsb_build_row *rows;
    int64_t n_row;
    const char *schemes = preset_names(s, n->arena), *prefill = dsb_text_format(n->arena, "%lld", (long long)s->prefill), *decode = dsb_text_format(n->arena, "%lld", (long long)s->decode);
    if (!schemes) return dsb_fail(err, DSB_EUSAGE, "--base-build: the suite names no preset of `dsbench list schemes` that two builds could be timed with");
    char *argv[16] = { "bench", "--model", (char *)s->model, "--schemes", (char *)schemes, "--prefill", (char *)prefill, "--decode", (char *)decode, "--repeats", "1" };
    int argc = 11;
    if (s->text) argv[argc++] = "--text", argv[argc++] = (char *)s->text;
    if (n->q->run.threads) argv[argc++] = "--threads", argv[argc++] = (char *)dsb_text_format(n->arena, "%lld", (long long)n->q->run.threads);
    dsb_bench_builds b = { .base = n->q->base_build, .rounds = n->q->rounds, .argc = argc, .argv = argv };
    DSB_TRY(dsb_bench_builds_measure(&b, n->q->run.quiet, n->arena, &rows, &n_row, err));
    for (int64_t i = 0; i < n_row; i++) {
        bool prefills = !strcmp(rows[i].of, "prefill");
        if (!prefills && strcmp(rows[i].of, "decode")) continue;
        DSB_TRY(dsb_compare_add_rounds(c, n->arena, rows[i].name, prefills ? "prefill_tps" : "decode_tps", rows[i].tps[DSB_BUILD_BASE], rows[i].tps[DSB_BUILD_HEAD], rows[i].n[DSB_BUILD_BASE],
                                       n->q->tolerances, err));
    }
    return dsb_compare_judge_rounds(c, n->arena, err);
}

static dsb_status judge(night *n, dsb_err *err) {
    dsb_nightly_result *r = n->r;
    DSB_TRY(find_baseline(n, err));
    DSB_TRY(dsb_history_load(n->db, n->arena, r->run_id, n->q->tolerances, &r->history, err));
    dsb_compare_request q = { r->baseline, r->run_id, n->q->tolerances };
    if (!r->baseline) {
        r->code = n->q->strict ? dsb_exit_code(DSB_ECOMPARE) : 0;
        return DSB_OK;
    }
    DSB_TRY(dsb_compare_make(n->db, n->arena, &q, &r->comparison, err));
    if (n->q->base_build) DSB_TRY(judge_rounds(n, err));
    r->code = r->comparison.alarm ? dsb_exit_code(DSB_EREGRESSED) : r->comparison.open && n->q->strict ? dsb_exit_code(DSB_ECOMPARE) : 0;
    return DSB_OK;
}

static dsb_status write_file(const night *n, const char *leaf, const dsb_text *text, dsb_err *err) {
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/%s", n->q->run.out, leaf);
    if (len < 0 || (size_t)len >= sizeof path) return dsb_fail(err, DSB_EOUTPUT, "%.200s…: the path is too long; name a shorter --out", n->q->run.out);
    return dsb_file_write(path, text->data ? text->data : "", text->size, err);
}

static dsb_status write_texts(const night *n, dsb_err *err) {
    dsb_text md, xml;
    dsb_text_init(&md);
    dsb_text_init(&xml);
    dsb_status s = dsb_nightly_write(n->r, n->arena, DSB_REPORT_MARKDOWN, &md, err);
    if (!s) s = write_file(n, "summary.md", &md, err);
    if (!s) s = dsb_compare_junit(&n->r->comparison, n->arena, n->q->strict, &xml, err); /* without a baseline no case: a CI wants the file */
    if (!s) s = write_file(n, "junit.xml", &xml, err);
    dsb_text_release(&md);
    dsb_text_release(&xml);
    return s;
}

/* The texts first: they are what a gate reads, and need no gnuplot. */
static dsb_status write_out(const night *n, dsb_err *err) {
    char path[PATH_MAX];
    if (!n->q->run.out) return DSB_OK;
    DSB_TRY(dsb_dir_make(n->q->run.out, err));
    DSB_TRY(write_texts(n, err));
    snprintf(path, sizeof path, "%s/report.html", n->q->run.out);
    return dsb_html_write(n->db, n->r->run_id, n->r->baseline ? &n->r->comparison : NULL, path, err);
}

static dsb_status thin_old(const night *n, dsb_err *err) {
    dsb_prune_request q = { .keep = n->q->keep_detail, .suite = n->q->run.suite->name ? n->q->run.suite->name : "", .thin = true };
    dsb_pruned gone;
    return n->q->keep_detail < 0 ? DSB_OK : dsb_prune(n->db, n->arena, &q, &gone, err);
}

/* A baseline that can't be compared with what the suite will give is told before hours of work; the rest is known only after. */
static dsb_status check_baseline(const dsb_nightly_request *q, dsb_arena *arena, dsb_err *err) {
    dsb_db *db = NULL;
    const char *id;
    if (!q->baseline) return DSB_OK;
    DSB_TRY(dsb_db_open(&db, q->run.db, false, err));
    dsb_status s = dsb_db_run_resolve(db, arena, q->baseline, &id, err);
    dsb_db_close(db);
    return s;
}

dsb_status dsb_nightly(const dsb_nightly_request *request, dsb_arena *arena, dsb_nightly_result *out, dsb_err *err) {
    dsb_nightly_request q = *request;
    night n = { &q, arena, out, NULL };
    *out = (dsb_nightly_result){ 0 };
    q.run.unshown = true;
    if (!q.run.run_id) q.run.run_id = dsb_run_id_make(arena);
    out->run_id = q.run.run_id;
    DSB_TRY(check_baseline(&q, arena, err));
    dsb_err run_err = { 0 };
    dsb_status ran = dsb_run_execute(&q.run, arena, &run_err);
    if (ran && ran != DSB_ENONFINITE) return dsb_fail(err, ran, "%s", run_err.text);
    DSB_TRY(dsb_db_open(&n.db, q.run.db, true, err));
    dsb_status s = judge(&n, err);
    if (!s) s = write_out(&n, err);
    if (!s) s = thin_old(&n, err);
    dsb_db_close(n.db);
    if (!s && ran) s = dsb_fail(err, ran, "%s", run_err.text);
    return s;
}

/* Where a figure changed, of all nights that the trend shows. */
static void put_steps(const dsb_nightly_result *r, dsb_arena *arena, bool md, dsb_text *out) {
    enum { SHOWN = 12 };
    int64_t first = r->history.n_step > SHOWN ? r->history.n_step - SHOWN : 0;
    if (!r->history.n_step) return;
    dsb_text_printf(out, md ? "\n**Steps of the last %lld nights**\n\n" : "\nSteps of the last %lld nights:\n", (long long)r->history.n);
    if (first) dsb_text_printf(out, "%s%lld earlier ones\n", md ? "- " : "  ", (long long)first);
    for (int64_t i = first; i < r->history.n_step; i++) {
        const char *line = dsb_step_text(&r->history, &r->history.steps[i], arena);
        dsb_text_put(out, md ? "- " : "  ");
        if (md) dsb_text_markdown(out, line);
        else dsb_text_put(out, line);
        dsb_text_put(out, "\n");
    }
}

static dsb_status write_json(const dsb_nightly_result *r, dsb_arena *arena, dsb_text *out, dsb_err *err) {
    json_t *doc = json_object(), *steps = json_array();
    dsb_text comparison;
    dsb_text_init(&comparison);
    dsb_status s = r->baseline ? dsb_compare_write(&r->comparison, arena, DSB_REPORT_JSON, &comparison, err) : DSB_OK;
    for (int64_t i = 0; i < r->history.n_step; i++) json_array_append_new(steps, json_string(dsb_step_text(&r->history, &r->history.steps[i], arena)));
    char *run = dsb_text_clean(arena, r->run_id), *base = r->baseline ? dsb_text_clean(arena, r->baseline) : NULL;
    json_object_set_new(doc, "run", json_string(run ? run : ""));
    json_object_set_new(doc, "baseline", base ? json_string(base) : json_null());
    json_object_set_new(doc, "verdict", r->baseline ? json_string(dsb_compare_verdict(&r->comparison)) : json_null());
    json_object_set_new(doc, "exit_code", json_integer(r->code));
    json_object_set_new(doc, "nights", json_integer(r->history.n));
    json_object_set_new(doc, "steps", steps);
    json_object_set_new(doc, "comparison", comparison.data ? json_loadb(comparison.data, comparison.size, 0, NULL) : json_null());
    char *text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
    json_decref(doc);
    dsb_text_release(&comparison);
    if (!s && !text) s = dsb_fail(err, DSB_ENOMEM, "out of memory while writing the verdict");
    if (text) dsb_text_put(out, text), dsb_text_put(out, "\n");
    free(text);
    return s;
}

dsb_status dsb_nightly_write(const dsb_nightly_result *r, dsb_arena *arena, dsb_report_format format, dsb_text *out, dsb_err *err) {
    if (format == DSB_REPORT_JSON) return write_json(r, arena, out, err);
    const char *id = dsb_text_clean(arena, r->run_id);
    if (r->baseline) DSB_TRY(dsb_compare_write(&r->comparison, arena, format, out, err));
    else dsb_text_printf(out, "Not judged: no baseline is pinned for this suite. Pin this run: dsbench baseline set %s\n", id ? id : "?");
    put_steps(r, arena, format == DSB_REPORT_MARKDOWN, out);
    return dsb_text_check(out, "the verdict", err);
}
