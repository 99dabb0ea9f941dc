/* Multiple choice: a JSONL file of {"query", "choices", "gold"}, made into token sequences as lm-eval's `multiple_choice` makes them and packed
 * into chunks. Each choice is scored by the log-likelihood of its tokens after the query (docs/METRICS.md, "Multiple choice"). */
#ifndef DSB_DATASETS_TASK_H
#define DSB_DATASETS_TASK_H

#include "datasets/chunks.h"

typedef struct dsb_task {
    int64_t n_item, n_choice; /* choices of all items together */
    int64_t *first_choice;    /* (n_item + 1) */
    int64_t *gold;            /* (n_item) the right choice, from 0 */
    int64_t *chars;           /* (n_choice) characters of the choice: what acc_norm divides by */
    int64_t *first_row;       /* (n_choice + 1) its tokens, as a range of the task's scored positions in their order */
    int64_t n_cut;            /* choices whose query lost its beginning, so that both fit the model's context */
    dsb_chunks chunks;        /* with targets and positions: several sequences a chunk, what is left filled by the next one's beginning, unscored */
    size_t n_bytes;
    char sha256[65];          /* of the file */
} dsb_task;

/* n_ctx: tokens a chunk; max_pos: the model's longest context, at which alone a longer query is cut (from the left, as lm-eval does).
 * DSB_EINPUT names file and line. BOS where the tokenizer adds one, and for an empty query. */
dsb_status dsb_task_load(dsb_task *out, const dsb_tokenizer *tok, const char *path, int64_t n_ctx, int64_t max_pos, dsb_err *err);
void dsb_task_release(dsb_task *task);

#endif
