/* What a run keeps of its multiple-choice task: each item's answers, and the figures over items. */
#include <math.h>
#include <stdlib.h>

#include "harness/record.h"
#include "metrics/choice.h"

dsb_status dsb_recorder_add_task(dsb_recorder *r, const dsb_task *task, bool apart, dsb_err *err) {
    r->task = task;
    if (!apart) return DSB_OK;
    r->task_row = r->n_scored;
    r->n_row = r->n_scored + task->first_row[task->n_choice];
    free(r->logits);
    return DSB_NEW(r->logits, (r->n_scheme + 1) * r->n_row, "logit figures", err);
}

/* Σ ln p of each choice's tokens, in their order. */
static void sum_choices(const dsb_task *t, const dsb_logit_row *rows, double *ref, double *test) {
    for (int64_t c = 0; c < t->n_choice; c++) {
        ref[c] = test[c] = 0;
        for (int64_t i = t->first_row[c]; i < t->first_row[c + 1]; i++) {
            ref[c] -= rows[i].nonfinite ? NAN : rows[i].nll_ref;
            test[c] -= rows[i].nonfinite ? NAN : rows[i].nll_test;
        }
    }
}

static dsb_status put_items(dsb_recorder *r, const char *scheme, const dsb_choice_run *run, dsb_err *err) {
    dsb_choice_answer *a;
    DSB_TRY(DSB_NEW(a, run->n_item, "answers", err));
    dsb_choice_answers(run, run->test, a);
    dsb_status s = DSB_OK;
    for (int64_t i = 0; i < run->n_item && !s; i++) {
        dsb_task_item row = {.scheme = scheme, .item = i, .gold = run->gold[i], .answer = a[i].sum, .answer_norm = a[i].norm, .loglik_gold = a[i].loglik, .margin = a[i].margin};
        s = dsb_db_put_task_item(r->db, r->run_id, &row, err);
    }
    free(a);
    return s;
}

static dsb_status put_figures(dsb_recorder *r, const char *scheme, const dsb_choice_run *run, dsb_err *err) {
    dsb_figures figures = {0};
    DSB_TRY(dsb_choice_figures(run, &figures, err));
    for (int i = 0; i < figures.n; i++) {
        const dsb_figure *x = &figures.item[i];
        dsb_quality row = {.scheme = scheme, .metric = x->metric, .unit = x->unit, .value = x->value, .lo = x->lo, .hi = x->hi, .n = x->n};
        DSB_TRY(dsb_db_put_quality(r->db, r->run_id, &row, err));
    }
    return DSB_OK;
}

/* Logits that are not finite, where the run's own figures didn't meet them already. */
static void count_nonfinite(dsb_recorder *r, int scheme, const dsb_logit_row *rows) {
    const dsb_task *t = r->task;
    int64_t bad = 0, first = -1;
    for (int64_t c = 0; c < t->n_choice && r->task_row; c++)
        for (int64_t i = t->first_row[c]; i < t->first_row[c + 1]; i++) {
            if (rows[i].nonfinite && first < 0) first = c;
            bad += rows[i].nonfinite != 0;
        }
    if (first >= 0) dsb_recorder_nonfinite(r, scheme, -1, bad, "logits of the task's choice %lld", (long long)first);
}

dsb_status dsb_recorder_put_task(dsb_recorder *r, int scheme, dsb_err *err) {
    const dsb_task *t = r->task;
    const dsb_logit_row *rows = r->logits + (scheme + 1) * r->n_row + r->task_row;
    const char *name = scheme < 0 ? "reference" : r->schemes[scheme].name;
    double *ref, *test;
    DSB_TRY(DSB_NEW(ref, 2 * t->n_choice, "log-likelihoods", err));
    test = ref + t->n_choice;
    sum_choices(t, rows, ref, test);
    count_nonfinite(r, scheme, rows);
    dsb_choice_run run = {.n_item = t->n_item, .first_choice = t->first_choice, .gold = t->gold, .chars = t->chars, .ref = scheme < 0 ? NULL : ref, .test = scheme < 0 ? ref : test};
    dsb_status s = put_items(r, name, &run, err);
    if (!s) s = put_figures(r, name, &run, err);
    free(ref);
    return s;
}
