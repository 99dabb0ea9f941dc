/* A model in GGUF: its metadata as the config.json that Hugging Face's model has, its tensors under that model's names.
 * Source: llama.cpp's converter, whose reorderings are undone: q and k rows of families with interleaved RoPE, MLA's split kv_b. */
#ifndef DSB_ENGINE_GGUF_MODEL_H
#define DSB_ENGINE_GGUF_MODEL_H

#include <jansson.h>

#include "engine/gguf.h"

/* All files of a model: FILE itself, or of a split model FILE-00001-of-0000N.gguf and the others beside it. */
typedef struct dsb_gguf_model {
    int n_file;
    dsb_gguf *files; /* owned; metadata is the first one's */
    dsb_arena arena;
    int64_t n_tensor;
    dsb_st_tensor *tensors; /* Hugging Face's names; an expert's matrices one by one */
} dsb_gguf_model;

/* DSB_EUNSUPPORTED: an architecture or a tensor that is not known and may change results; DSB_EINPUT: a part missing or contradictory. */
dsb_status dsb_gguf_model_open(dsb_gguf_model *m, const char *path, dsb_err *err);
void dsb_gguf_model_close(dsb_gguf_model *m);
/* What config.json would say; *out is owned, json_decref() it. */
dsb_status dsb_gguf_model_config(dsb_gguf_model *m, json_t **out, dsb_err *err);

#endif
