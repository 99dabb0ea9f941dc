/* GGUF's names of pre-tokenizers (tokenizer.ggml.pre) and what they stand for. */
#ifndef DSB_DATASETS_PRETOKENIZER_TABLE_H
#define DSB_DATASETS_PRETOKENIZER_TABLE_H

#include <stdbool.h>

typedef struct dsb_pretokenizer_row {
    const char *names;          /* separated by blanks */
    const char *patterns[8];    /* each splits what the ones before it left whole or cut out; NULL ends them */
    bool ignore_merges, add_bos; /* llama.cpp's, where the file says nothing */
} dsb_pretokenizer_row;

/* The row of a name ("": "default"), or NULL. */
const dsb_pretokenizer_row *dsb_pretokenizer_find(const char *name);

#endif
