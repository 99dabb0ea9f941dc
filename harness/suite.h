/* A suite: everything a run does, as JSON that is stored with the run and can be run again.
 * Keys: name model reference text field task reflow calibration schemes sources context chunks calibration_chunks
 * calibration_min_tokens calibration_balance calibration_experts calibration_starved convention isolated_every throughput. */
#ifndef DSB_HARNESS_SUITE_H
#define DSB_HARNESS_SUITE_H

#include "base/json.h"
#include "base/memory.h"
#include "datasets/chunks.h"
#include "engine/calibration.h"

enum { DSB_SUITE_MAX_SCHEMES = 64 };

typedef struct dsb_suite {
    const char *name, *model, *text, *calibration; /* paths; text and calibration NULL: the built-in ones */
    const char *field; /* of JSONL texts, NULL: "text" */
    const char *task;  /* multiple-choice JSONL, or NULL; with no text named the run is over the task alone */
    const char *convention;
    bool reflow;
    bool bf16_reference; /* "reference": "bf16"; else "f32" */
    int64_t n_ctx, n_chunk, n_cal_chunk, isolated_every;
    bool cal_chunk_asked; /* n_cal_chunk was given: a text that holds fewer is an error; else it is the most */
    dsb_cover_policy cover; /* of experts that few calibration tokens reach */
    int64_t prefill, decode, repeats; /* repeats 0: no speed is measured */
    int n_scheme;
    const dsb_recipe *recipes[DSB_SUITE_MAX_SCHEMES];
    const char *sources[DSB_SUITE_MAX_SCHEMES]; /* DIR from `sources`, or NULL: the recipe's own */
} dsb_suite;

/* The file of a suite: a path as it is; else a name, of the suites beside the program or installed with it. In the arena. */
dsb_status dsb_suite_find(dsb_arena *arena, const char *name, const char **out, dsb_err *err);
/* The defaults: `demo` on the built-in model (its directory in the arena), `quick` for any other. */
dsb_status dsb_suite_default(dsb_suite *s, dsb_arena *arena, const char *model, dsb_err *err);
/* Applies a document's keys over s; unknown keys are errors. `name` is used in messages. */
dsb_status dsb_suite_apply(dsb_suite *s, dsb_arena *arena, const char *name, const json_t *doc, dsb_err *err);
/* Sets the convention, and the context that goes with it (an unknown name is refused when the run begins). */
void dsb_suite_convention(dsb_suite *s, const char *convention);
/* Replaces the schemes by preset names, comma-separated. */
dsb_status dsb_suite_schemes(dsb_suite *s, dsb_arena *arena, const char *names, dsb_err *err);
/* Appends one recipe; a name that is there already is an error. */
dsb_status dsb_suite_add(dsb_suite *s, const dsb_recipe *recipe, const char *source, dsb_err *err);
/* "NAME=DIR": the checkpoint scheme NAME reads; adds the preset if it is not in the suite. */
dsb_status dsb_suite_source(dsb_suite *s, dsb_arena *arena, const char *name_dir, dsb_err *err);
/* Puts the scheme as-stored first, unless it is there; dir NULL: it reads the model itself. */
dsb_status dsb_suite_as_stored(dsb_suite *s, dsb_arena *arena, const char *dir, dsb_err *err);
/* A suite's file (or name, dsb_suite_find) over the defaults; model (may be NULL) stands above the file's. */
dsb_status dsb_suite_load(dsb_suite *s, dsb_arena *arena, const char *path, const char *model, dsb_err *err);
/* What `--reference` says (DIR, bf16 or bf16:DIR), or NULL; last of all: a pre-quantized model becomes a scheme of its own. */
dsb_status dsb_suite_reference(dsb_suite *s, dsb_arena *arena, const char *reference, dsb_err *err);
/* The whole suite as JSON, recipes in full; in the arena. */
dsb_status dsb_suite_json(const dsb_suite *s, dsb_arena *arena, const char **out, dsb_err *err);
/* Ranges of every number. */
dsb_status dsb_suite_check(const dsb_suite *s, dsb_err *err);

/* The directory the built-in model lies in: $DSBENCH_MODELS/dsmoe-tiny, or models/dsmoe-tiny beside the program's folder. */
dsb_status dsb_builtin_model(dsb_arena *arena, const char **out, dsb_err *err);

#endif
