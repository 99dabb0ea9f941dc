/* Tables and JSON to standard output. A full disk is an error, not silence; a reader that has seen enough (head, a pager) is neither. */
#ifndef DSB_HARNESS_OUTPUT_H
#define DSB_HARNESS_OUTPUT_H

#include <jansson.h>

#include "harness/options.h"
#include "reports/grid.h"

/* A table in that format. DSB_EOUTPUT. */
dsb_status dsb_print_grid(const dsb_grid *grid, dsb_report_format format, dsb_err *err);
/* JSON or CSV where one is asked for, else text without colours. */
dsb_report_format dsb_plain_format(const dsb_parsed *p);
/* The document, indented, and a newline; takes over doc (NULL: no memory). */
dsb_status dsb_print_json(json_t *doc, dsb_err *err);
/* JSON where it is asked for; else text, with colours where a terminal shows it (none with NO_COLOR, or on a dumb one). */
dsb_report_format dsb_print_format(bool json);
/* Flushes standard output. */
dsb_status dsb_print_done(dsb_err *err);

#endif
