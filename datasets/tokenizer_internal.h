/* A tokenizer's parts: read by tokenizer_read.c, run by tokenizer.c. */
#ifndef DSB_DATASETS_TOKENIZER_INTERNAL_H
#define DSB_DATASETS_TOKENIZER_INTERNAL_H

#include "datasets/added_tokens.h"
#include "datasets/bpe.h"
#include "datasets/pretokenizer.h"
#include "datasets/tokenizer.h"

struct dsb_tokenizer {
    char *name;  /* owned; its file */
    bool nfc;    /* the normalizer is NFC: texts that it might change are refused */
    dsb_bpe bpe;
    dsb_added_tokens added;
    dsb_pretokenizer pre;
    dsb_token *tokens; /* (n_id) owned; the model's and the added ones' bytes, borrowed from them */
    size_t n_id;
    bool adds_bos;
    int32_t bos_id;
};

/* Reads both documents (config may be NULL) into a zeroed tokenizer. */
dsb_status tokenizer_read(dsb_tokenizer *tok, const char *name, const json_t *json, const char *config_name, const json_t *config, dsb_err *err);

#endif
