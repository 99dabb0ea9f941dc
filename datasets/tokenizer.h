/* Byte-level BPE tokenizers as Hugging Face's tokenizer.json describes them. Ids equal those of the `tokenizers` library.
 * A type, flag or pattern that this file's readers don't know is DSB_EUNSUPPORTED and named: never a guess. */
#ifndef DSB_DATASETS_TOKENIZER_H
#define DSB_DATASETS_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_tokenizer dsb_tokenizer;

/* From a directory (tokenizer.json, and tokenizer_config.json where it is there) or from a tokenizer.json itself. */
dsb_status dsb_tokenizer_open(dsb_tokenizer **out, const char *dir_or_json, dsb_err *err);
/* From the bytes of a tokenizer.json; `name` is used in messages. */
dsb_status dsb_tokenizer_open_bytes(dsb_tokenizer **out, const char *name, const char *json, size_t n, dsb_err *err);
void dsb_tokenizer_close(dsb_tokenizer *tok);

/* The ids of n bytes of text (`name` in messages); *ids is owned, free() it (NULL where *n_ids is 0). No end token is ever added.
 * Text that isn't UTF-8: DSB_EINPUT with its byte offset. Any number of threads may encode with one tokenizer. */
dsb_status dsb_tokenizer_encode(const dsb_tokenizer *tok, const char *name, const char *text, size_t n, bool add_bos, int32_t **ids, size_t *n_ids, dsb_err *err);

/* Largest id plus one, added tokens included. */
size_t dsb_tokenizer_vocab_size(const dsb_tokenizer *tok);
/* True where tokenizer.json's post-processor puts a token first, or tokenizer_config.json says add_bos_token: true. */
bool dsb_tokenizer_adds_bos(const dsb_tokenizer *tok);
/* -1 where the tokenizer names none. */
int32_t dsb_tokenizer_bos_id(const dsb_tokenizer *tok);
/* The bytes that a token stands for; *bytes is borrowed until dsb_tokenizer_close. DSB_EINPUT: no such id. */
dsb_status dsb_tokenizer_token_bytes(const dsb_tokenizer *tok, int32_t id, const uint8_t **bytes, size_t *n, dsb_err *err);

#endif
