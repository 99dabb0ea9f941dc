/* What gguf_model.c (files, tensors) and gguf_config.c (metadata) share. */
#ifndef DSB_ENGINE_GGUF_INTERNAL_H
#define DSB_ENGINE_GGUF_INTERNAL_H

#include "engine/gguf_model.h"

/* A family as GGUF names it, and what Hugging Face's model calls its parts. */
typedef struct gguf_arch {
    const char *name, *class_name, *moe, *router, *shared, *expert[3];
    bool interleaved; /* q and k rows were reordered for RoPE over pairs (2i, 2i+1) */
} gguf_arch;

dsb_status gguf_arch_of(dsb_gguf *f, const gguf_arch **out, dsb_err *err);
/* Key "NAME.key" of the metadata, NAME the architecture's. */
dsb_status gguf_int(const dsb_gguf *f, const gguf_arch *a, const char *key, bool required, int64_t lo, int64_t hi, int64_t *out, dsb_err *err);
/* Layers to evaluate: block_count without next-token-prediction layers. */
dsb_status gguf_layers(const dsb_gguf *f, const gguf_arch *a, int64_t *out, dsb_err *err);
/* The file's tensor of that name, in whichever file; or NULL. */
const dsb_st_tensor *gguf_tensor_find(const dsb_gguf_model *m, const char *name);

#endif
