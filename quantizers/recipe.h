/* Recipes: a scheme is an ordered list of rules; the first rule that matches a tensor decides it (docs/DESIGN.md §2).
 * Roles: embed attn.{q,q_a,q_b,kv_a,kv_b,k,v,o} dense.{gate,up,down} shared.{gate,up,down} expert.{gate,up,down} router lm_head.
 * "role": "*" covers the 2-D weights of blocks; router, embed, lm_head are `keep` unless named by a rule. */
#ifndef DSB_QUANTIZERS_RECIPE_H
#define DSB_QUANTIZERS_RECIPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"
#include "quantizers/observer.h"
#include "quantizers/quantize.h"
#include "quantizers/transform.h"

typedef enum dsb_activation { DSB_ACT_NONE, DSB_ACT_INT8_DYNAMIC, DSB_ACT_INT8_STATIC, DSB_ACT_INT4_DYNAMIC, DSB_ACT_FP8_DYNAMIC, DSB_ACT_FP8_STATIC, DSB_ACTIVATION_COUNT } dsb_activation;
typedef struct dsb_activation_row {
    const char *name, *what;
    bool integer;           /* wants integer weights */
    int most;               /* largest code */
    dsb_activation dynamic; /* where a static one has no calibrated range; itself otherwise */
} dsb_activation_row;
int dsb_activation_list(const dsb_activation_row **rows); /* indexed by dsb_activation */
static inline bool dsb_activation_is_static(dsb_activation a) { return a == DSB_ACT_INT8_STATIC || a == DSB_ACT_FP8_STATIC; }

typedef enum dsb_role {
    DSB_ROLE_EMBED, DSB_ROLE_ATTN_Q, DSB_ROLE_ATTN_Q_A, DSB_ROLE_ATTN_Q_B, DSB_ROLE_ATTN_KV_A, DSB_ROLE_ATTN_KV_B,
    DSB_ROLE_ATTN_K, DSB_ROLE_ATTN_V, DSB_ROLE_ATTN_O, DSB_ROLE_DENSE_GATE, DSB_ROLE_DENSE_UP, DSB_ROLE_DENSE_DOWN,
    DSB_ROLE_SHARED_GATE, DSB_ROLE_SHARED_UP, DSB_ROLE_SHARED_DOWN, DSB_ROLE_EXPERT_GATE, DSB_ROLE_EXPERT_UP,
    DSB_ROLE_EXPERT_DOWN, DSB_ROLE_ROUTER, DSB_ROLE_LM_HEAD, DSB_ROLE_COUNT
} dsb_role;
const char *dsb_role_name(dsb_role role); /* "attn.q_a" */
/* Linears whose inputs are the residual stream behind a norm, and those whose outputs are added to it. */
bool dsb_role_reads_stream(dsb_role role);
bool dsb_role_writes_stream(dsb_role role);

/* A rule's test on an expert; a rank is the expert's share of experts of its layer with a smaller figure, in [0,1). */
typedef enum dsb_when { DSB_WHEN_ALWAYS, DSB_WHEN_ACTIVITY_RANK_BELOW, DSB_WHEN_MEAN_ABS_RANK_BELOW, DSB_WHEN_MEAN_ABS_BELOW, DSB_WHEN_BUDGET } dsb_when;

/* A budget: as many experts of a layer pass the test as keep the layer's experts within so many bits a weight on average, the others
 * going to the next rule that takes all of them. Those with the largest figure pass; `even` spreads them over the indices. */
typedef enum dsb_by { DSB_BY_ACTIVITY, DSB_BY_SENSITIVITY, DSB_BY_MEAN_ABS, DSB_BY_EVEN, DSB_BY_COUNT } dsb_by;
const char *dsb_by_name(dsb_by by);

enum { DSB_ALPHA_SEARCH = -1 };
typedef struct dsb_rule {
    const char *match; /* glob over tensor names, or NULL */
    const char *role;  /* glob over role names, or NULL */
    dsb_when when;
    double when_value; /* a rank, a figure, or a budget in bits a weight */
    dsb_by by;         /* of a budget */
    const dsb_format *format; /* NULL: keep (the stored weights, no activation quantization) */
    const dsb_format *fallback; /* where the format's blocks don't divide a row; or NULL */
    int64_t group;
    dsb_zero zero_point;
    const char *algorithm; /* "rtn" */
    bool act_order;        /* gptq: columns by falling activation */
    double damp;           /* gptq: added to the diagonal, of its mean (0.01) */
    bool clip;             /* awq: each group cut where that leaves less error */
    dsb_transform transform;
    double alpha; /* smooth: the part of a channel's range that the weights take (0.5); DSB_ALPHA_SEARCH */
    dsb_activation activation;
    dsb_calibrator calibrator; /* of a static scale */
    double percentile;     /* of magnitudes, for the calibrator of that name (99.99) */
    double static_margin;  /* widen a static scale by this factor (1) */
    int compensation;      /* DSB_COMP_…, together */
    int64_t rank;          /* low-rank: of its factors (16) */
    double threshold;      /* a tensor whose relative output error is smaller is not compensated (0) */
} dsb_rule;

typedef struct dsb_recipe {
    const char *name, *what;
    const char *source;  /* the checkpoint this scheme reads, relative to the model's directory unless absolute; NULL: the reference's own */
    bool rotate;         /* the residual stream is rotated by a Hadamard matrix (engine/rotate.h) */
    bool carrier_bf16;   /* inputs and outputs of products and the residual are BF16: every scheme but the reference */
    int n_rule;
    const dsb_rule *rules;
    bool needs_calibration; /* a rule has static activations or an activity rank */
    bool needs_histogram;   /* of what calibration sees: a calibrator other than minmax */
    int needs;              /* of its rules, together: DSB_NEED_… */
    const char *json;       /* its canonical text, stored with the run */
} dsb_recipe;

/* What a rule may test of an expert tensor; zeros for tensors of no expert. */
typedef struct dsb_expert_facts {
    bool is_expert, activity_known;
    double activity_rank, mean_abs_rank, mean_abs;
    int64_t expert, n_expert, d_ff, d_model;
    int64_t place[DSB_BY_COUNT]; /* experts of its layer that go before it */
} dsb_expert_facts;

/* The preset by name, or NULL; and the table for `list schemes`. */
dsb_status dsb_recipe_preset(const dsb_recipe **out, dsb_arena *arena, const char *name, dsb_err *err);
typedef struct dsb_preset_row {
    const char *name, *what, *json;
} dsb_preset_row;
int dsb_preset_list(const dsb_preset_row **rows);
/* A recipe from a file, or from parsed JSON. DSB_EINPUT names file, rule number, key, found and wanted; unknown keys are errors. */
dsb_status dsb_recipe_load(const dsb_recipe **out, dsb_arena *arena, const char *path, dsb_err *err);
dsb_status dsb_recipe_parse(const dsb_recipe **out, dsb_arena *arena, const char *name, const json_t *doc, dsb_err *err);
/* Its grouping in words: "tensor", "channel", "32". */
void dsb_rule_grouping(const dsb_rule *rule, char out[24]);
/* Its test in words: "activity_rank_below 0.5"; empty without one. */
void dsb_rule_condition(const dsb_rule *rule, char out[64]);
/* Bits a weight of a (rows, cols) matrix, scales and zero points included. */
double dsb_rule_bpw(const dsb_rule *rule, int64_t rows, int64_t cols);
/* How many of a layer's n experts rule i's budget gives its own format. */
int64_t dsb_recipe_within_budget(const dsb_recipe *recipe, int i, const dsb_expert_facts *facts);
/* The format and group a matrix of so many inputs gets: the rule's, or its fallback's; NULL where neither divides. */
const dsb_format *dsb_rule_format(const dsb_rule *rule, int64_t cols, int64_t *group);
/* What calibration must see of a tensor's input, whichever of the rules about it decides. */
int dsb_recipe_needs(const dsb_recipe *recipe, dsb_role role, const char *tensor);
/* Whether rows of a matrix of so many inputs, DSB_ROW_TILE or a multiple of them at a time, get the codes that they have in the whole, and
 * whether they do under each rule that may decide the tensor. Not: scales that all rows share, algorithms, compensations and smooth, that weigh
 * the whole matrix or want products of all its inputs. Of weights that write a rotated stream the rows are whole blocks of the rotation. */
enum { DSB_ROW_TILE = 128 };
bool dsb_rule_by_rows(const dsb_rule *rule, int64_t cols);
bool dsb_recipe_by_rows(const dsb_recipe *recipe, dsb_role role, const char *tensor, int64_t cols);
/* Whether a rule is about this tensor, whatever its test says of the expert. */
bool dsb_rule_covers(const dsb_rule *rule, dsb_role role, const char *tensor);
/* The first rule that matches, or NULL for keep. */
const dsb_rule *dsb_recipe_match(const dsb_recipe *recipe, dsb_role role, const char *tensor, const dsb_expert_facts *facts);

#endif
