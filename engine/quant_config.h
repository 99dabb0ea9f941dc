/* What config.json says of a pre-quantized checkpoint: "quantization_config" (or quantize_config.json, quant_config.json beside it, as
 * older GPTQ and AWQ exports have it). How each weight is packed its tensors say themselves; this is what they can't say. */
#ifndef DSB_ENGINE_QUANT_CONFIG_H
#define DSB_ENGINE_QUANT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "quantizers/recipe.h"

typedef enum dsb_quant_method { DSB_QUANT_NONE, DSB_QUANT_FP8, DSB_QUANT_COMPRESSED_TENSORS, DSB_QUANT_GPTQ, DSB_QUANT_AWQ, DSB_QUANT_MXFP4 } dsb_quant_method;

/* Activations of the weights of one kind: compressed-tensors may have several groups. */
typedef struct dsb_quant_group {
    int bits;                   /* of the weights; 0: any */
    bool weights_are_int;
    dsb_activation activation;  /* what this build can do of what is asked for */
    char asked[40];             /* "int8 per token", "fp8 static"; empty: none */
} dsb_quant_group;

enum { DSB_QUANT_GROUPS = 8 };

typedef struct dsb_quant_config {
    dsb_quant_method method;
    int bits;                        /* GPTQ; 0: as the tensors' shapes say */
    int64_t group;                   /* inputs a scale; 0: not said, -1: whole rows */
    bool zeros_as_they_are;          /* GPTQ v2: zero points are stored, not zero points less one */
    int64_t block_rows, block_cols;  /* FP8 with a scale a block; 128 unless said otherwise */
    int n_group;
    dsb_quant_group groups[DSB_QUANT_GROUPS];
} dsb_quant_config;

/* Reads DIR's files; no file, or no such key: DSB_QUANT_NONE. DSB_EUNSUPPORTED: a method or an option of one that can't be computed;
 * DSB_EINPUT: wrong or absurd fields. */
dsb_status dsb_quant_config_load(dsb_quant_config *out, const char *dir, dsb_err *err);
/* The same of a parsed "quantization_config"; `path` is used in messages. */
dsb_status dsb_quant_config_parse(dsb_quant_config *out, const void *json, const char *path, dsb_err *err);
/* The group of weights of this format, or NULL. */
const dsb_quant_group *dsb_quant_config_group(const dsb_quant_config *c, const dsb_format *format);

#endif
