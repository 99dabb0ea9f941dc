/* Where a sweep's time went, on standard error: kernels and copies of the device by name (dsb_backend.watch), and the host's loading. */
#ifndef DSB_HARNESS_PROFILE_H
#define DSB_HARNESS_PROFILE_H

#include "engine/model.h"
#include "reports/text.h"

/* wall_s: of the whole sweep, while the device was watched. */
dsb_status dsb_profile_print(const dsb_backend *be, double wall_s, const dsb_load_times *times, dsb_arena *arena, dsb_err *err);

#endif
