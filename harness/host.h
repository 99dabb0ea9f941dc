/* Facts about this machine, this moment and a model that a run stores. */
#ifndef DSB_HARNESS_HOST_H
#define DSB_HARNESS_HOST_H

#include "base/memory.h"
#include "db/rows.h"
#include "engine/model.h"

dsb_status dsb_host_read(dsb_host_facts *out, dsb_arena *arena, dsb_err *err);
/* path and sha256 are borrowed as long as the facts are. */
void dsb_model_facts_make(dsb_model_facts *out, const dsb_model *m, const char *path, const char *sha256);
/* "2025-01-31T12:00:00.123Z" in the arena. */
const char *dsb_utc_now(dsb_arena *arena);
/* "20250131-120000-1a2b": unique enough for one database; a collision is refused there. */
const char *dsb_run_id_make(dsb_arena *arena);
int64_t dsb_peak_rss_bytes(void);
int64_t dsb_rss_bytes(void); /* now; 0 where the system doesn't say */
/* What programs may still take of this machine, or of the control group they run in; 0 where the system doesn't say. */
int64_t dsb_memory_available_bytes(void);

#endif
