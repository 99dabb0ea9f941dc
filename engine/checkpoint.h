/* A Hugging Face model directory (one safetensors file or shards with an index), or a GGUF file; tensors found by Hugging Face's names.
 * Stored integer codes (compressed-tensors int-quantized and pack-quantized) are read as codes, never re-quantized. */
#ifndef DSB_ENGINE_CHECKPOINT_H
#define DSB_ENGINE_CHECKPOINT_H

#include "engine/gguf_model.h"
#include "engine/quant_config.h"
#include "engine/safetensors.h"

typedef struct dsb_checkpoint {
    char *dir; /* or the GGUF file */
    int n_file;
    dsb_st_file *files;  /* owned */
    bool is_gguf;        /* then there are no files, but: */
    dsb_gguf_model gguf;
    int64_t n_tensor;
    const dsb_st_tensor **tensors; /* ascending by name */
    size_t bytes;                  /* of all tensors */
    dsb_quant_config quant;
} dsb_checkpoint;

/* DSB_EINPUT: no model.safetensors and no index, a shard missing, a path that leaves the directory, an indexed tensor absent. */
dsb_status dsb_checkpoint_open(dsb_checkpoint *out, const char *dir, dsb_err *err);
void dsb_checkpoint_close(dsb_checkpoint *cp);
/* Mixtral's "block_sparse_moe" is found under transformers 5's "mlp" too. */
const dsb_st_tensor *dsb_checkpoint_find(const dsb_checkpoint *cp, const char *name);

/* Whether the tensor is there in these dimensions (cols 0: one-dimensional) and of a float type that can be read. */
dsb_status dsb_checkpoint_check(const dsb_checkpoint *cp, const char *name, int64_t rows, int64_t cols, dsb_err *err);

/* The same of a linear weight `stem`, in whatever packing it is stored. Reads headers only. */
dsb_status dsb_checkpoint_check_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, dsb_err *err);

/* Widens the float tensor `name` of exactly these dimensions (cols 0: one-dimensional) into dst. Missing, other shape,
 * or integer type: DSB_EINPUT, naming both. *stored (may be NULL) is its type. */
dsb_status dsb_checkpoint_read(const dsb_checkpoint *cp, const char *name, int64_t rows, int64_t cols, float *dst, dsb_dtype *stored, dsb_err *err);

/* A linear weight `stem` decoded into w as it is stored (engine/stored.h). Where it is integer codes that a kernel can use,
 * *codes holds them and *stored is DSB_I8; of other packings codes->codes is NULL and codes->format says what they are; of plain
 * floats codes->format is NULL. codes->stored_bytes is always set. */
dsb_status dsb_checkpoint_read_linear(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err);

/* Whether weights are stored in low precision: by config.json, or blocks of GGUF. */
bool dsb_checkpoint_is_quantized(const dsb_checkpoint *cp);
/* How the inputs of linear `stem` are quantized when its stored codes of this format are served as config.json says; the stored
 * input_scale where that is static. */
dsb_status dsb_checkpoint_activation(const dsb_checkpoint *cp, const char *stem, const dsb_format *format, dsb_activation *out, float *static_scale, dsb_err *err);

/* The bias of linear `stem`, n values: its own tensor, or an expert's row of a fused one. dst NULL: only whether it is there. */
dsb_status dsb_checkpoint_read_bias(const dsb_checkpoint *cp, const char *stem, int64_t n, float *dst, dsb_err *err);

/* Rows first .. first+n of a weight that lies there as plain BF16, one row behind the other, and what they take; NULL where it lies in another way, or can't be found.
 * Borrowed until dsb_checkpoint_drop_rows, which gives the pages back. */
const uint16_t *dsb_checkpoint_bf16(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, int64_t first, int64_t n, size_t *stored_bytes);
void dsb_checkpoint_drop_rows(const dsb_checkpoint *cp, const uint16_t *words, int64_t n, int64_t cols);
/* The same of rows first .. first+n of a weight of `rows`. */
dsb_status dsb_checkpoint_read_rows(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols, int64_t first, int64_t n, float *w, dsb_qtensor *codes, dsb_dtype *stored, dsb_err *err);
/* Asks the system to read a linear weight ahead; what is missing is told when it is read. */
void dsb_checkpoint_want(const dsb_checkpoint *cp, const char *stem, int64_t rows, int64_t cols);

/* Gives the mapped pages of a tensor (NULL: none) back. */
void dsb_checkpoint_drop(const dsb_checkpoint *cp, const dsb_st_tensor *t);

/* SHA-256 over the files in order: up to 4 GiB whole; of more the first 16 MiB of each file, 1 MiB of every 64 MiB after them, and
 * its size, so that a checkpoint larger than memory need not be read twice. */
dsb_status dsb_checkpoint_hash(const dsb_checkpoint *cp, char out[65], dsb_err *err);

#endif
