/* The rows of the record as plain structs: the struct's fields are the table's columns (db/tables.c joins them).
 * Strings are borrowed. A figure that is not known is NAN, an integer that is not known is -1, a string NULL. */
#ifndef DSB_DB_ROWS_H
#define DSB_DB_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/moments.h"

typedef struct dsb_host_facts {
    const char *name_hash; /* hex of the host's name hashed: tells hosts apart without naming them */
    const char *cpu, *os;
    int64_t cores, memory_bytes;
} dsb_host_facts;

typedef struct dsb_model_facts {
    const char *path, *name, *arch, *sha256;
    int64_t n_param, n_layer, d_model, n_expert, k, bytes;
} dsb_model_facts;

typedef struct dsb_dataset_facts {
    const char *path, *name, *sha256; /* path NULL: none */
    int64_t bytes;
    int64_t reflowed; /* 1: line ends inside paragraphs were joined */
} dsb_dataset_facts;

typedef struct dsb_run_record {
    const char *id, *created_utc; /* "2025-01-31T12:00:00.123Z" */
    const char *status;           /* running, done, failed, nonfinite */
    const char *command_line, *suite_json;
    const char *convention;       /* llama, gptq, sliding */
    const char *build_version, *build_hash, *isa, *device;
    int64_t n_ctx, n_chunk, n_token, n_scored, seed, threads;
    double wall_s;
    int64_t peak_rss_bytes;
    const char *task_path, *task_sha256; /* multiple choice, NULL: none */
    int64_t n_item;
    dsb_host_facts host;
    dsb_model_facts model;
    dsb_dataset_facts dataset, calibration;
} dsb_run_record;

typedef struct dsb_scheme_record {
    const char *name, *what, *recipe_json;
    const char *source;  /* checkpoint directory, NULL: the reference's own */
    const char *kernels; /* those that ran, comma-separated */
    int64_t ordinal;     /* order of asking; the reference has 0 */
    int64_t weight_bytes, n_param; /* stored bytes (scales included), weights counted */
    double bpw_total, bpw_blocks;  /* bits per weight: all tensors; 2-D weights of the blocks */
} dsb_scheme_record;

typedef struct dsb_recipe_rule_row {
    const char *scheme, *pattern, *format, *grouping, *algorithm, *activation, *condition;
    int64_t ordinal;
} dsb_recipe_rule_row;

/* A stored weight against its dequantized form. */
typedef struct dsb_tensor_error {
    const char *scheme, *tensor, *role; /* "expert.down" */
    int64_t layer, expert;              /* -1: none */
    dsb_moments m;
    int64_t stored_bytes, n_weight;
    double bpw;
    const char *format, *grouping, *algorithm, *kernel; /* grouping and algorithm of the rule that took it, NULL where it is kept */
} dsb_tensor_error;

typedef struct dsb_layer_error {
    const char *scheme, *point, *kind; /* point: attention, mlp, block, router_input …; kind: isolated, accumulated */
    int64_t layer;
    dsb_moments m;
    double f16_headroom_bits, saturation;
} dsb_layer_error;

/* One metric a row: selection_change, slot_change, jaccard, top1_change, gate_l1, mass_lost, router_kld, group_change,
 * load_cv, load_entropy, load_tv, nmse_numbers, nmse_experts … layer -1: across layers (any_change, first_change …). */
typedef struct dsb_routing_layer {
    const char *scheme, *kind, *metric, *unit; /* kind: isolated, block, accumulated */
    int64_t layer;
    double value;
    int64_t n;
} dsb_routing_layer;

/* kind accumulated: the counts and masses; isolated: hits_ref of the sampled chunks and the error on those tokens. */
typedef struct dsb_routing_expert {
    const char *scheme, *kind;
    int64_t layer, expert;
    int64_t hits_ref, hits_test;    /* tokens routed there */
    int64_t moved_away, moved_to;   /* tokens that left it, that came to it */
    double mass_ref, mass_test;     /* Σ of gate weights */
    double nmse;                    /* of the expert's output on the same tokens */
} dsb_routing_expert;

/* Means over the scored positions of one chunk, the independent unit of every comparison. NAN where not measured. */
typedef struct dsb_chunk_quality {
    const char *scheme;
    int64_t chunk, n, n_target;         /* scored positions; those with a true next token (nll, accuracy) */
    double nll_ref, nll_test, kld;      /* nats/token */
    double top1;                        /* share of positions with the same top-1 */
    double accuracy_ref, accuracy_test; /* share whose top-1 is the true next token */
    double selection_change, slot_change; /* accumulated routing, over all MoE layers */
} dsb_chunk_quality;

typedef struct dsb_quality {
    const char *scheme, *metric, *unit;
    double value, lo, hi; /* 95 % interval, NAN where there is none */
    int64_t n;
} dsb_quality;

/* Buckets, histogram bins, domains: kld_hist, kld_by_confidence, flips_right_to_wrong_by_confidence, margin_decile … (docs/METRICS.md). */
typedef struct dsb_quality_detail {
    const char *scheme, *kind, *label; /* label: name of a domain or class, else NULL */
    int64_t layer, bin;                /* layer -1: none */
    double lo, hi, value;              /* the bin's edges and its figure (a count or a share: n tells the whole) */
    int64_t n;
} dsb_quality_detail;

/* A multiple-choice item as one scheme answers it. */
typedef struct dsb_task_item {
    const char *scheme;
    int64_t item, gold;          /* from 0 */
    int64_t answer, answer_norm; /* the choice with the largest log-likelihood, in total and per character; -1: not finite */
    double loglik_gold, margin;  /* nats: of the right choice, and what it has above the best other one */
} dsb_task_item;

typedef struct dsb_throughput {
    const char *scheme, *phase; /* prefill, decode */
    int64_t n_token, depth, batch, repeats;
    double tps_median, tps_min, tps_max;
    double gbps, gops, roofline_percent, busy_percent; /* busy: other load on the machine */
    double triad_gbps, read_gbps, peak_gops;           /* this machine's, measured in the same run */
    int64_t weight_bytes;                              /* read per token */
    double ttft_ms, tpot_ms;                           /* of medians over repeats */
    double tpot_p50_ms, tpot_p99_ms;                   /* over single tokens of all repeats */
    const char *kernel;                                /* those that ran, comma-separated */
} dsb_throughput;

/* A measurement of `dsbench bench`: of a model's phase, or of a kernel. */
typedef struct dsb_bench_row {
    const char *bench;      /* the command's name for all its rows, made from the time */
    const char *created_utc, *command_line, *build_version, *build_hash, *isa, *device;
    int64_t threads;
    const char *kind;       /* model, kernel */
    const char *name;       /* format, scheme, or the kernel's case */
    const char *phase;      /* prefill, decode; NULL of a kernel */
    const char *shape;      /* "1408x2048x512" of a kernel, else NULL */
    const char *routing;    /* real, uniform, zipf, recorded; NULL of a kernel */
    int64_t n_token, depth, batch, repeats;   /* -1 of a kernel, but repeats */
    double seconds, seconds_min, seconds_max; /* of all tokens, or one call: median and extremes of the repeats */
    double tps, p50_ms, p99_ms, gops, gbps, roofline_percent;
    const char *bound;      /* memory, compute: what the roofline is of */
    double busy_percent, steal_percent;
    int64_t clean;          /* 1: other load was within the limit */
    double read_gbps, triad_gbps, f32_gflops, bf16_gflops, int8_gops, fp8_gflops; /* this machine's or GPU's, measured in the same run */
    double sm_mhz, power_w, temperature_c, energy_j; /* of a GPU meanwhile: means; energy of all tokens, or one call */
    int64_t device_bytes;   /* of its memory, in use by all; -1: no GPU */
    const char *kernel;     /* those that ran, comma-separated */
} dsb_bench_row;

typedef struct dsb_calibration_coverage {
    const char *scheme;
    int64_t layer, expert; /* expert -1: a tensor every token passes */
    int64_t tokens, minimum;
    const char *fallback;  /* what stood in, NULL where covered */
} dsb_calibration_coverage;

typedef struct dsb_event {
    const char *scheme; /* or NULL */
    const char *level;  /* info, warning, error */
    const char *text;
    int64_t seq, layer; /* seq: order in the run; -1 gives the next; layer -1: none */
} dsb_event;

#endif
