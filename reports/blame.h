/* Where two runs of a scheme differ, and the likely cause, from what the record holds of each layer (rule: docs/nightly.md, "Likely cause"):
 *   weights      the layer's weights are stored with another error: a format, an algorithm, a checkpoint changed
 *   router       the same state into the router gives other experts
 *   activations  the same weights on the same input give another output: activation quantization, or a kernel
 *   upstream     the layer by itself is as it was; what comes in has changed */
#ifndef DSB_REPORTS_BLAME_H
#define DSB_REPORTS_BLAME_H

#include "db/diff.h"
#include "reports/run_data.h"

typedef enum dsb_cause { DSB_CAUSE_WEIGHTS, DSB_CAUSE_ROUTER, DSB_CAUSE_ACTIVATIONS, DSB_CAUSE_UPSTREAM } dsb_cause;
/* "weights", "router", "activations", "upstream". */
const char *dsb_cause_name(dsb_cause cause);

enum { DSB_BLAME_LAYERS = 3, DSB_BLAME_PARTS = 3 }; /* named of a scheme; tensors and experts named of a layer */

typedef struct dsb_blame {
    const char *base_scheme, *head_scheme;
    int64_t layer;
    dsb_cause cause;
    const char *point;                  /* the output that changed most by itself; of upstream "block" */
    double base_nmse, head_nmse;        /* there: isolated, of upstream accumulated */
    double base_rerouted, head_rerouted; /* share of tokens sent to other experts: isolated router; of upstream accumulated. NAN: no router */
    double score;                       /* |ln ratio| of nmse, or change of rerouted: what ranks layers */
    dsb_tensor_diff *tensors;           /* of cause weights, worst first */
    dsb_expert_diff *experts;           /* of a MoE layer: by load where the router changed, else by error */
    int64_t n_tensor, n_expert;
} dsb_blame;

/* Appends to rows (room for DSB_BLAME_LAYERS) the layers of one pair of schemes that changed most, those with a cause of their own first; *n counts
 * on. *upstream: layers that only follow. Nothing where nothing changed. */
dsb_status dsb_blame_scheme(dsb_db *db, dsb_arena *arena, const dsb_run_data *base, const char *base_scheme, const dsb_run_data *head, const char *head_scheme, dsb_blame *rows, int64_t *n,
                            int64_t *upstream, dsb_err *err);
/* "layer 3: router: …" in one line, in the arena. */
const char *dsb_blame_text(const dsb_blame *b, dsb_arena *arena);

#endif
