/* `dsbench logits --write`: a scheme's logits of a text as llama.cpp's `_logits_` file, by the sweep: the model may be larger than memory. */
#ifndef DSB_HARNESS_LOGITS_WRITE_H
#define DSB_HARNESS_LOGITS_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_logits_request {
    const char *path, *model, *text, *field; /* field may be NULL */
    const char *scheme, *recipe;             /* a preset or `reference`, or a recipe file; both NULL: the reference */
    int64_t n_ctx, n_chunk;                  /* chunks from the text's start, as llama-perplexity takes them; 0: all */
    bool quiet;
} dsb_logits_request;

dsb_status dsb_logits_write(const dsb_logits_request *q, dsb_err *err);

#endif
