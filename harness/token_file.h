/* tokens.json, what `dsbench trace` runs: {"sequences": [[ids], …]}. */
#ifndef DSB_HARNESS_TOKEN_FILE_H
#define DSB_HARNESS_TOKEN_FILE_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_sequence {
    int32_t *ids; /* (n) owned */
    int64_t n;    /* at least 1 */
} dsb_sequence;

typedef struct dsb_token_file {
    dsb_sequence *seqs; /* (n_seq) owned */
    int64_t n_seq, longest;
} dsb_token_file;

/* DSB_EINPUT names the sequence and entry that is no token id; whether a model has that id is the caller's to say. */
dsb_status dsb_token_file_load(dsb_token_file *out, const char *path, dsb_err *err);
dsb_status dsb_token_file_parse(dsb_token_file *out, const char *path, const json_t *doc, dsb_err *err);
void dsb_token_file_release(dsb_token_file *f);

#endif
