/* BPE tokenizers: Hugging Face's tokenizer.json (byte-level, and SentencePiece's kind), ids equal to those of the `tokenizers` library;
 * and a GGUF file's own vocabulary (gpt2 and llama), ids equal to llama.cpp's with special tokens left as text.
 * A type, flag or pattern that the readers don't know is DSB_EUNSUPPORTED and named: never a guess. */
#ifndef DSB_DATASETS_TOKENIZER_H
#define DSB_DATASETS_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct dsb_tokenizer dsb_tokenizer;

/* From a directory (tokenizer.json, and tokenizer_config.json where it is there), a tokenizer.json itself, or a GGUF file. */
dsb_status dsb_tokenizer_open(dsb_tokenizer **out, const char *path, dsb_err *err);
/* From the bytes of a tokenizer.json; `name` is used in messages. */
dsb_status dsb_tokenizer_open_bytes(dsb_tokenizer **out, const char *name, const char *json, size_t n, dsb_err *err);
void dsb_tokenizer_close(dsb_tokenizer *tok);

/* The ids of n bytes of text (`name` in messages); *ids is owned, free() it (NULL where *n_ids is 0). No end token is ever added.
 * Text that has no token at all (no unknown token, no bytes) is DSB_EINPUT: what is measured must be the text.
 * Text that isn't UTF-8: DSB_EINPUT with its byte offset. Any number of threads may encode with one tokenizer. */
dsb_status dsb_tokenizer_encode(const dsb_tokenizer *tok, const char *name, const char *text, size_t n, bool add_bos, int32_t **ids, size_t *n_ids, dsb_err *err);

/* The same of a text that comes in pieces, in memory that doesn't grow with it (it does within a word, and where a file's patterns look
 * behind them, its added tokens strip what is before them, or its normalizer has patterns). */
typedef struct dsb_token_stream dsb_token_stream;
dsb_status dsb_token_stream_open(dsb_token_stream **out, const dsb_tokenizer *tok, const char *name, bool add_bos, dsb_err *err);
/* The next n bytes, which may end within a character; last: the text ends with them. *ids: borrowed until the next call. */
dsb_status dsb_token_stream_put(dsb_token_stream *stream, const char *text, size_t n, bool last, const int32_t **ids, size_t *n_ids, dsb_err *err);
/* As the library and llama.cpp do, a stream leaves out what has no token at all: *c is one such byte (character, over characters). */
bool dsb_token_stream_dropped(const dsb_token_stream *stream, uint32_t *c);
void dsb_token_stream_close(dsb_token_stream *stream);

/* Largest id plus one, added tokens included. */
size_t dsb_tokenizer_vocab_size(const dsb_tokenizer *tok);
/* True where tokenizer.json's post-processor puts a token first, tokenizer_config.json says add_bos_token: true, or a GGUF file's
 * tokenizer.ggml.add_bos_token does (where it says nothing, llama.cpp's default for its kind). */
bool dsb_tokenizer_adds_bos(const dsb_tokenizer *tok);
/* -1 where the tokenizer names none. */
int32_t dsb_tokenizer_bos_id(const dsb_tokenizer *tok);
/* The bytes that a token stands for; *bytes is borrowed until dsb_tokenizer_close. DSB_EINPUT: no such id. */
dsb_status dsb_tokenizer_token_bytes(const dsb_tokenizer *tok, int32_t id, const uint8_t **bytes, size_t *n, dsb_err *err);

#endif
