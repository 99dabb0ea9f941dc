/* Experts for `dsbench bench --routing`: made by a distribution, or recorded by `dsbench trace`. Groups of experts are set aside. */
#ifndef DSB_HARNESS_BENCH_ROUTING_H
#define DSB_HARNESS_BENCH_ROUTING_H

#include "engine/session.h"

typedef enum dsb_routing_kind { DSB_ROUTING_REAL, DSB_ROUTING_UNIFORM, DSB_ROUTING_ZIPF, DSB_ROUTING_RECORDED } dsb_routing_kind;
/* -1 for an unknown name; the name of a kind. */
int dsb_routing_kind_find(const char *name);
const char *dsb_routing_kind_name(dsb_routing_kind kind);

/* ids (n_layer, n_row, k) ascending, owned: k different experts a row, drawn one after the other without putting back. UNIFORM: all alike; ZIPF: the r-th
 * of a layer's experts, in an order of its own, weighs 1/r. The same on every machine. */
dsb_status dsb_routing_ids_make(int32_t **ids, int64_t n_row, dsb_routing_kind kind, const dsb_config *c, dsb_err *err);
/* The topk_indices of a trace, sequences one after the other. DSB_EINPUT names the tensor that is missing or not of this model. */
dsb_status dsb_routing_ids_read(int32_t **ids, int64_t *n_row, const char *path, const dsb_config *c, dsb_err *err);

#endif
