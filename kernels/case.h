/* A kernel with made inputs of a given size: one case, held to plain C by the tests over odd sizes, and by `dsbench bench` before it is timed.
 * A case has items (tokens), whose outputs lie one behind the other between guard bytes. What a decoder would read from memory (weights,
 * keys, rows) is there in several copies, taken in turn, so that no cache holds what the next call reads. */
#ifndef DSB_KERNELS_CASE_H
#define DSB_KERNELS_CASE_H

#include "kernels/backend.h"
#include "kernels/roofline.h"

enum { DSB_CASE_INPUTS = 5, DSB_CASE_OUTPUTS = 3 };

/* rows, cols, n mean what the row's `what` says; group: inputs a scale of integer weights, 0: the whole row. */
typedef struct dsb_case_shape {
    int64_t rows, cols, n, group;
} dsb_case_shape;

/* LARGEST: every value as large as it gets, either sign, item 0 all zeros. SHIFTED: as PLAIN, floats and codes aligned to 4 bytes alone. */
typedef enum dsb_case_fill { DSB_FILL_PLAIN, DSB_FILL_LARGEST, DSB_FILL_SHIFTED, DSB_FILL_COUNT } dsb_case_fill;

typedef struct dsb_case_output {
    char *memory, *p;     /* owned; where item 0 is */
    bool host;            /* not the device's */
    size_t stride, width; /* bytes from item to item; of them compared */
} dsb_case_output;

typedef struct dsb_case {
    const struct dsb_case_row *row;
    const dsb_backend *be;
    dsb_case_shape shape;
    dsb_case_fill fill;
    uint32_t random;
    int64_t items;                     /* n, but of one query alone */
    int copies;
    dsb_wmat *w;                       /* (copies) owned, of products */
    char *memory[DSB_CASE_INPUTS];     /* device, owned */
    char *in[DSB_CASE_INPUTS];         /* (copies, …) or one for all */
    size_t in_stride[DSB_CASE_INPUTS]; /* bytes from copy to copy; 0: one for all */
    int32_t *targets;                  /* (n) host, owned, of logit rows */
    dsb_case_output out[DSB_CASE_OUTPUTS];
    int n_out;
    double ops, bytes;                 /* of all items: operations; what comes from memory */
} dsb_case;

typedef struct dsb_case_row {
    const char *name, *what; /* "gemm_i8", "outputs x inputs x tokens" */
    dsb_case_shape shape;    /* where none is asked for */
    dsb_arithmetic arithmetic;
    dsb_wkind kind;          /* of products */
    dsb_status (*make)(dsb_case *c, dsb_err *err);
    void (*run)(const dsb_case *c, int copy, int64_t first, int64_t n); /* items first .. first+n */
    bool even;               /* cols must be */
} dsb_case_row;
int dsb_case_list(const dsb_case_row **rows);

/* DSB_EUSAGE: a size below 1 or absurd, a group larger than a row. */
dsb_status dsb_case_shape_check(const dsb_case_row *row, const dsb_case_shape *shape, dsb_err *err);
/* copies 0: as many as four times the last-level cache takes, and no more than 1 GB. The values are the same for every backend. */
dsb_status dsb_case_open(dsb_case *c, const dsb_case_row *row, const dsb_backend *be, const dsb_case_shape *shape, dsb_case_fill fill, int copies, dsb_err *err);
void dsb_case_close(dsb_case *c);
/* All items, on a copy of the inputs; returns when they are done. */
void dsb_case_run(const dsb_case *c, int copy);
/* Runs it on its first and last copy; every item is compared with plain C by bits (of large cases the first two and the last two), and the guards are looked at.
 * DSB_EINTERNAL names the case, the item and the byte. */
dsb_status dsb_case_check(const dsb_case *c, dsb_err *err);

#endif
