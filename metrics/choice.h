/* Multiple choice: answers and figures from the log-likelihood of each choice. Source: docs/METRICS.md, "Multiple choice".
 * The answer is the first of the choices with the largest value: the sum (acc), or the sum over the choice's characters (acc_norm). */
#ifndef DSB_METRICS_CHOICE_H
#define DSB_METRICS_CHOICE_H

#include "base/status.h"
#include "metrics/figure.h"

/* All borrowed. A log-likelihood that is not finite leaves its item without an answer, and every share over it NaN. */
typedef struct dsb_choice_run {
    int64_t n_item;
    const int64_t *first_choice; /* (n_item + 1) */
    const int64_t *gold;         /* (n_item) */
    const int64_t *chars;        /* (n_choice) */
    const double *ref, *test;    /* (n_choice) Σ ln p of the choice's tokens, nats */
} dsb_choice_run;

typedef struct dsb_choice_answer {
    int64_t sum, norm;     /* the choice taken; -1: none */
    double loglik, margin; /* of the right choice; that minus the best other one */
} dsb_choice_answer;
/* loglik: run->ref or run->test; out: (n_item). */
void dsb_choice_answers(const dsb_choice_run *run, const double *loglik, dsb_choice_answer *out);

/* acc and acc_norm of `test`, with 95 % intervals over items; beside a reference (`ref` not NULL) the differences, changes and flips too.
 * DSB_EINPUT: no item. */
dsb_status dsb_choice_figures(const dsb_choice_run *run, dsb_figures *out, dsb_err *err);

#endif
