/* A model and its schemes, as both drivers see them; weights loaded one linear at a time.
 * Loading order is the caller's: the reference first, then each scheme, so that the reference's tensor is read once. */
#ifndef DSB_ENGINE_MODEL_H
#define DSB_ENGINE_MODEL_H

#include "base/memory.h"
#include "engine/arch.h"
#include "engine/checkpoint.h"
#include "kernels/backend.h"
#include "quantizers/compensation.h"
#include "quantizers/observer.h"

typedef struct dsb_model {
    const dsb_backend *be;
    dsb_config config;
    dsb_checkpoint checkpoint;
    float *cos_table, *sin_table; /* device, (n_pos, rope_dim/2) */
    int64_t n_pos;
} dsb_model;

/* Opens DIR and makes RoPE tables for n_pos positions. */
dsb_status dsb_model_open(dsb_model *m, const dsb_backend *be, const char *dir, int64_t n_pos, dsb_err *err);
void dsb_model_close(dsb_model *m);

/* A recipe together with the checkpoint it reads. recipe NULL is the reference: f32 arithmetic over the stored weights. */
typedef struct dsb_scheme {
    const char *name;
    const dsb_recipe *recipe;
    const dsb_checkpoint *source; /* borrowed; the model's own where the recipe names none */
    bool own_source;              /* source is the model's own checkpoint */
    bool f32_weights;             /* kept weights are held as FP32 whatever their stored type: the speed baseline */
    bool bf16;                    /* carrier: inputs and outputs of products and the residual are BF16 */
} dsb_scheme;

/* Which weight: its role, place and size. stem + ".weight" is its tensor. */
typedef struct dsb_linear_spec {
    dsb_role role;
    int64_t layer, expert; /* -1 where there is none */
    int64_t rows, cols;
    int64_t first, of;     /* of > 0: only rows first .. first+rows of a matrix of that many */
    bool bias; /* stored beside it */
    char stem[256];
} dsb_linear_spec;
void dsb_linear_spec_make(dsb_linear_spec *s, dsb_role role, int64_t layer, int64_t expert, int64_t rows, int64_t cols, const char *fmt, ...) __attribute__((format(printf, 7, 8)));
/* Rows first .. first+n of a whole matrix, or as many as there are; without its bias. */
dsb_linear_spec dsb_linear_spec_part(const dsb_linear_spec *whole, int64_t first, int64_t n);

/* A weight that is not held: whoever multiplies by it loads it, `rows` outputs at a time. */
typedef struct dsb_linear dsb_linear;
typedef struct dsb_linear_tiles dsb_linear_tiles;
struct dsb_linear_tiles {
    void *ctx;
    int scheme;
    int64_t rows;
    dsb_linear_spec spec; /* the whole matrix */
    dsb_status (*load)(const dsb_linear_tiles *t, int64_t first, dsb_linear *out, dsb_err *err); /* released by the caller, also on error */
};

/* A linear layer ready to run. */
struct dsb_linear {
    dsb_wmat w;    /* no data where there are tiles */
    dsb_linear_tiles *tiles; /* malloc'ed; NULL: w is whole */
    float *bias;   /* (rows) device, or NULL; added before the output is rounded */
    bool borrowed; /* w and bias belong to another linear */
    dsb_activation activation;
    float static_scale;
    bool bf16_input; /* activation none: the input is rounded to BF16, whatever carries it */
    dsb_wmat a, b; /* low-rank compensation: output += a·(b·x), x as the carrier holds it; no data: none; never borrowed */
    float *in_scale;  /* (cols) device, or NULL: the input is multiplied by it, */
    int64_t rotation; /* then rotated in blocks of so many (0: not), before it is quantized */
};
void dsb_linear_release(const dsb_backend *be, dsb_linear *l);

/* What became of one tensor under one scheme. x is the reference's weight, y the dequantized one. */
typedef struct dsb_tensor_event {
    const dsb_linear_spec *spec;
    const dsb_rule *rule; /* that decided it, or NULL: kept */
    dsb_moments moments;
    const char *format, *kernel;
    dsb_activation activation;
    size_t stored_bytes;
    int64_t group;     /* granularity of its scales, where a rule quantized it */
    bool other_format; /* the rule's format doesn't divide its rows: the rule's fallback */
    bool fell_back; /* wanted a static scale, calibration gave none: dynamic instead */
    bool no_range;  /* fell back though calibration saw tokens: only zeros, or a value that is not finite */
    const char *algorithm; /* that chose its codes, where a rule quantized it */
    bool starved;   /* calibration saw nothing of what the rule's algorithm chooses by: rtn instead */
    dsb_compensated won; /* by compensation */
} dsb_tensor_event;

/* What loading took of the host's time. */
typedef struct dsb_load_times {
    double read_s, quantize_s, compare_s; /* a checkpoint's weights to f32; packing included; figures against the reference's */
} dsb_load_times;

/* Rows of a reference's tensor that lie on a device. */
typedef struct dsb_loaded {
    dsb_whole w;
    char stem[256];
    int64_t first;
    size_t bytes; /* in the checkpoint */
} dsb_loaded;
enum { DSB_LOADED = 6 }; /* an attention's linears, or an expert's */

/* Host buffers for one tensor at a time. */
typedef struct dsb_loader {
    const dsb_model *model;
    dsb_load_times *times; /* borrowed, added to; or NULL */
    float *w_ref, *w_own, *w_deq; /* (rows, cols) of the current tensor, owned; the latter two only where a scheme needs them */
    size_t room;
    bool bf16_reference; /* the reference's weights, but the router's, are held as BF16 and take BF16 inputs */
    const float *refit; /* borrowed, or NULL: what a scheme of the model's own checkpoint takes for the stored weight */
    char ref_stem[256]; /* what w_ref holds, from which row on, and how many */
    int64_t ref_first, ref_rows;
    bool kept_known;      /* kept: figures of w_ref against itself, the same for every scheme that keeps it */
    dsb_moments kept;
    dsb_dtype ref_dtype;
    size_t ref_bytes; /* that it takes in the checkpoint */
    dsb_loaded whole[DSB_LOADED]; /* the last tensors of the reference's on a device that makes their forms by itself (engine/load_device.c) */
    int whole_next;
} dsb_loader;
void dsb_loader_init(dsb_loader *l, const dsb_model *m);
void dsb_loader_release(dsb_loader *l);
/* Bytes that a scheme's own form of a weight takes at most, scales included; 0 where it shares the reference's. */
double dsb_scheme_weight_bytes(const dsb_backend *be, const dsb_scheme *s);
/* Reads the reference's tensor, unless w_ref holds it, and packs it in its stored type (exact in f32). out may be NULL: read only. */
dsb_status dsb_load_reference(dsb_loader *l, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err);
/* Quantizes it as the scheme's recipe says. ref (may be NULL) is shared where the scheme keeps the tensor; range and stats may be NULL too.
 * On a device that makes the forms itself, figures of the event come when it has settled: the event stays where it is until then.
 * event (may be NULL) of rows that don't begin the matrix: comes with the figures of the rows before, to which theirs are added. */
dsb_status dsb_load_scheme(dsb_loader *l, const dsb_scheme *s, const dsb_linear_spec *spec, const dsb_expert_facts *facts, const dsb_range_observer *range, const dsb_input_stats *stats, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, dsb_err *err);
/* The bias stored beside a linear, if there is one: of the scheme's checkpoint, turned as its stream is; s NULL: the reference's. */
dsb_status dsb_load_bias(const dsb_model *m, const dsb_scheme *s, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err);
/* A 1-D tensor (norm weight, bias) of a checkpoint on the device, owned. */
dsb_status dsb_load_vector(const dsb_model *m, const dsb_checkpoint *cp, int64_t n, float **out, dsb_err *err, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

#endif
