/* Status and error text: one enum in every layer, 0 is success; the text is made where the facts are known.
 * A message is one line: file, thing, found, wanted, what to do. Only main() exits. */
#ifndef DSB_BASE_STATUS_H
#define DSB_BASE_STATUS_H

typedef enum dsb_status {
    DSB_OK = 0,
    DSB_EUSAGE,       /* wrong command line                                             exit 2 */
    DSB_EINPUT,       /* a named input is missing, unreadable, truncated or malformed   exit 2 */
    DSB_EUNSUPPORTED, /* well-formed input that this build can't handle                 exit 2 */
    DSB_ENONFINITE,   /* NaN or Inf in a model's figures                                exit 1 */
    DSB_EREGRESSED,   /* a gate found a regression                                      exit 1 */
    DSB_ECOMPARE,     /* the two things can't be compared                               exit 3 */
    DSB_EOUTPUT,      /* output, disk, database, gnuplot                                exit 4 */
    DSB_ENOMEM,       /* out of memory                                                  exit 4 */
    DSB_EINTERNAL     /* our own bug                                                    exit 5 */
} dsb_status;

typedef struct dsb_err {
    dsb_status code;
    char text[1024];
} dsb_err;

/* Fills err (may be NULL) with one line of text and returns code, so that `return dsb_fail(...)` reads well.
 * Control characters in the formatted text become '?': names come from strangers' files. */
dsb_status dsb_fail(dsb_err *err, dsb_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The process exit code of a status (docs/DESIGN.md §4). */
int dsb_exit_code(dsb_status code);

#define DSB_TRY(expr)                              \
    do {                                           \
        dsb_status dsb_try_status_ = (expr);       \
        if (dsb_try_status_) return dsb_try_status_; \
    } while (0)

#endif
