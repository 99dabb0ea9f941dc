/* The CUDA plugin: libdsbench_cuda.so, opened at run time beside the program, so that one program runs with and without a GPU.
 * It gives a backend table (kernels/backend.h) for one device. Rows keep the CPU's order of operations, so f32 and integer results are
 * the CPU's bit for bit. Built by `make cuda`; needs NVIDIA's driver at run time and nothing else. */
#ifndef DSB_KERNELS_CUDA_PLUGIN_H
#define DSB_KERNELS_CUDA_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

/* Program and plugin are built from one tree: a table of another size is another version's. */
enum { DSB_CUDA_ABI = (int)sizeof(dsb_backend) };

#define DSB_CUDA_FILE "libdsbench_cuda.so"
#define DSB_CUDA_SYMBOL "dsb_cuda_open"
/* The table of GPU `device`; NULL with one line in `why` if it can't be used. A process opens one device. */
typedef const dsb_backend *dsb_cuda_open_fn(int abi, int device, char *why, size_t room);

#endif
