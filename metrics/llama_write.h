/* Writes llama.cpp's `_logits_` file: header and tokens first, then the scored rows in their order; the file appears when finished. */
#ifndef DSB_METRICS_LLAMA_WRITE_H
#define DSB_METRICS_LLAMA_WRITE_H

#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef struct dsb_llama_writer {
    char *path, *temp;
    FILE *file;
    int64_t n_vocab, left; /* rows that are still to come */
    uint8_t *row;          /* one as it is stored */
    uint16_t *codes;       /* (n_vocab) */
} dsb_llama_writer;

/* tokens: (n_chunk, n_ctx), the text's own: no BOS in their place. Sizes must fit the file's int32. */
dsb_status dsb_llama_writer_open(dsb_llama_writer *w, const char *path, int64_t n_ctx, int64_t n_vocab, int64_t n_chunk, const int32_t *tokens, dsb_err *err);
/* The next scored position's logits (n_vocab). DSB_ENONFINITE: one is NaN or infinite. */
dsb_status dsb_llama_writer_row(dsb_llama_writer *w, const float *logits, dsb_err *err);
/* Renames into place; DSB_EINTERNAL if rows are missing. Close afterwards in any case. */
dsb_status dsb_llama_writer_finish(dsb_llama_writer *w, dsb_err *err);
void dsb_llama_writer_close(dsb_llama_writer *w); /* drops an unfinished file */

#endif
