/* A tokenizer's parts: read by tokenizer_read.c or tokenizer_gguf.c, run by tokenizer_stream.c. */
#ifndef DSB_DATASETS_TOKENIZER_INTERNAL_H
#define DSB_DATASETS_TOKENIZER_INTERNAL_H

#include "datasets/added_tokens.h"
#include "datasets/bpe.h"
#include "datasets/normalizer.h"
#include "datasets/pretokenizer.h"
#include "datasets/tokenizer.h"

struct dsb_tokenizer {
    char *name;  /* owned; its file */
    dsb_normalizer norm;
    dsb_added_tokens added;
    dsb_pretokenizer pre;
    dsb_bpe bpe;
    dsb_token *tokens; /* (n_id) owned; the bytes that tokens stand for: borrowed from the parts above or in `spelled` */
    uint8_t *spelled;  /* owned; of tokens over characters, blanks and bytes undone */
    size_t n_id;
    bool adds_bos;
    int32_t bos_id;
};

/* Reads both documents (config may be NULL) into a zeroed tokenizer. */
dsb_status tokenizer_read(dsb_tokenizer *tok, const char *name, const json_t *json, const char *config_name, const json_t *config, dsb_err *err);
/* Reads a GGUF file into a zeroed tokenizer. */
dsb_status tokenizer_read_gguf(dsb_tokenizer *tok, const char *path, dsb_err *err);
/* Fills tokens, spelled and n_id from the parts. */
dsb_status tokenizer_index(dsb_tokenizer *tok, dsb_err *err);

#endif
