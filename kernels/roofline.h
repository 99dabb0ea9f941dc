/* This machine's processors' ceilings, measured now with all threads by the best instruction set it has, whichever one runs the products; or a
 * GPU's. The best of many short rounds: what others take of the machine meanwhile lowers them as little as can be. NAN: not measured. */
#ifndef DSB_KERNELS_ROOFLINE_H
#define DSB_KERNELS_ROOFLINE_H

#include "kernels/backend.h"

typedef struct dsb_roofline {
    double read_gbps, triad_gbps;             /* GB/s over memory far beyond the caches; a triad is two reads and a write, the line fetched before it is written not counted */
    double f32_gflops, bf16_gflops, int8_gops; /* 10⁹ operations/s over registers; bf16, int8: that of f32 where the machine has no such products */
    double fp8_gflops;                         /* tensor cores' */
} dsb_roofline;
/* be: the device that is meant. */
void dsb_roofline_measure(const dsb_backend *be, dsb_roofline *out);

/* How products use the machine: which peak is theirs. */
typedef enum dsb_arithmetic { DSB_ARITH_F32, DSB_ARITH_BF16, DSB_ARITH_INT8, DSB_ARITH_COUNT } dsb_arithmetic;
double dsb_roofline_peak(const dsb_roofline *r, dsb_arithmetic a);
/* Of work that took `seconds`, by the ceiling that binds: percent reached. ops by dsb_arithmetic; *memory (may be NULL): it is the bandwidth. NAN where nothing is known. */
double dsb_roofline_percent(const dsb_roofline *r, const double ops[DSB_ARITH_COUNT], double bytes, double seconds, bool *memory);

/* Bytes of the last-level cache; 32 MiB where the system doesn't say. */
size_t dsb_cache_bytes(void);

#endif
