/* `dsbench bench`: what is to be measured of a model or of kernels, checked before anything runs, then measured into rows of table bench.
 * The caller fills in what rows share: machine, build, command line. */
#ifndef DSB_HARNESS_BENCH_H
#define DSB_HARNESS_BENCH_H

#include "base/clock.h"
#include "db/rows.h"
#include "harness/bench_routing.h"
#include "harness/options.h"
#include "harness/scheme_source.h"
#include "kernels/cases.h"
#include "kernels/roofline.h"
#include "reports/text.h"

/* "a,b,c" into words without blanks around them, in the arena. DSB_EUSAGE names the option where one is empty, or there are too many. */
dsb_status dsb_words_split(dsb_opt_list *out, dsb_arena *arena, const char *option, const char *text, dsb_err *err);

typedef struct dsb_bench_rows {
    dsb_bench_row *row; /* in the arena */
    int n;
} dsb_bench_rows;

/* A model. */
typedef struct dsb_bench_model {
    /* as asked for */
    const char *dir, *text, *formats, *schemes, *recorded; /* text, formats, schemes, recorded may be NULL; dir NULL: the built-in model, named here then */
    int64_t group; /* of integer formats; 0: each one's own */
    bool head;     /* the vocabulary's matrix too */
    dsb_routing_kind routing;
    int64_t prefill, decode, depth, batch, repeats;
    /* as found */
    const dsb_backend *be;
    dsb_model m;
    bool model_open;
    int n_scheme;
    dsb_scheme_source *sources; /* (n_scheme) in the arena */
    dsb_scheme *all;            /* (n_scheme) in the arena: sources' */
    int32_t *tokens, *ids;      /* owned */
    dsb_forced_routing forced;
    bool random_tokens, apart;
    dsb_text notes;             /* lines that a reader of the figures must know */
    char sha256[65];
} dsb_bench_model;
/* DSB_EUSAGE, DSB_EINPUT: what is wrong with it. Released by close whatever comes back. */
dsb_status dsb_bench_model_open(dsb_bench_model *b, dsb_arena *arena, dsb_err *err);
dsb_status dsb_bench_model_run(dsb_bench_model *b, dsb_arena *arena, const dsb_roofline *roof, dsb_bench_rows *out, dsb_progress *progress, dsb_err *err);
void dsb_bench_model_close(dsb_bench_model *b);

/* Kernels. */
typedef struct dsb_bench_job {
    const dsb_kernel_case *k; /* NULL: a layer's routed experts in one piece; shape: their inner width, the model's, tokens */
    const dsb_backend *be;
    dsb_case_shape shape;
} dsb_bench_job;
typedef struct dsb_bench_kernels {
    const char *names, *shapes; /* "gemm_i8,avx2/rms_norm", "all", or "gemm": all products; "1408x2048x1,…" or NULL: each one's own */
    int64_t group, repeats;     /* group 0: each one's own */
    int64_t n_expert, top_k;    /* of "experts" */
    const dsb_backend *be;      /* of names without an instruction set */
    dsb_bench_job *jobs;        /* (n) in the arena */
    int n;
} dsb_bench_kernels;
/* "1408x2048x512": rows, cols and n from 1; the group is left alone. DSB_EUSAGE says what is wrong. */
dsb_status dsb_shape_parse(dsb_case_shape *out, const char *text, dsb_err *err);
/* A layer's INT8 experts in one piece (dsb_backend.fuse_experts); the first and the last token are those of single rows on the CPU, bit for bit. */
dsb_status dsb_bench_experts_check(const dsb_bench_kernels *b, const dsb_bench_job *job, dsb_err *err);
dsb_status dsb_bench_experts_run(const dsb_bench_kernels *b, const dsb_bench_job *job, dsb_arena *arena, const dsb_roofline *roof, double *seconds, dsb_bench_row *row, dsb_err *err);
dsb_status dsb_bench_kernels_open(dsb_bench_kernels *b, dsb_arena *arena, dsb_err *err);
/* Each case is checked against plain C first: DSB_EINTERNAL where it differs. */
dsb_status dsb_bench_kernels_run(const dsb_bench_kernels *b, dsb_arena *arena, const dsb_roofline *roof, dsb_bench_rows *out, dsb_progress *progress, dsb_err *err);

#endif
