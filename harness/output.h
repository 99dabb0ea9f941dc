/* Tables and JSON to standard output; a full disk or a closed pipe is an error, not silence. */
#ifndef DSB_HARNESS_OUTPUT_H
#define DSB_HARNESS_OUTPUT_H

#include <jansson.h>

#include "reports/grid.h"

/* Aligned text, or an array of objects. DSB_EOUTPUT. */
dsb_status dsb_print_grid(const dsb_grid *grid, bool json, dsb_err *err);
/* The document, indented, and a newline; takes over doc (NULL: no memory). */
dsb_status dsb_print_json(json_t *doc, dsb_err *err);
/* Flushes standard output. */
dsb_status dsb_print_done(dsb_err *err);

#endif
