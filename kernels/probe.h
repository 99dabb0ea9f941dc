/* What an instruction set does at most: loops over registers alone, and a plain read. Each runs on the calling thread.
 * Operations: a multiply-add is two. A member that is NULL: this instruction set has no such thing. */
#ifndef DSB_KERNELS_PROBE_H
#define DSB_KERNELS_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct dsb_probe {
    const char *isa;
    double (*f32)(int64_t turns);  /* returns the operations done */
    double (*bf16)(int64_t turns); /* BF16 x BF16 added up in f32 */
    double (*int8)(int64_t turns); /* 8-bit x 8-bit added up in integers */
    bool (*has_bf16)(void);        /* NULL: where the level runs, so does bf16 */
    uint64_t (*read)(const void *p, size_t bytes); /* every byte once, p 64-byte aligned, bytes a multiple of 1024; returns something made of them all */
} dsb_probe;
extern const dsb_probe dsb_probe_ref, dsb_probe_avx2, dsb_probe_avx512, dsb_probe_amx, dsb_probe_neon;

#endif
