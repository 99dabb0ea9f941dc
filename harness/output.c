#include "harness/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

dsb_status dsb_print_done(dsb_err *err) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return DSB_OK;
    return dsb_fail(err, DSB_EOUTPUT, "standard output: can't be written (%s)", strerror(errno));
}

dsb_status dsb_print_json(json_t *doc, dsb_err *err) {
    if (!doc) return dsb_fail(err, DSB_ENOMEM, "no memory for the output");
    json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(doc);
    putchar('\n');
    return dsb_print_done(err);
}

dsb_status dsb_print_grid(const dsb_grid *grid, bool json, dsb_err *err) {
    if (json) return dsb_print_json(dsb_grid_json(grid), err);
    dsb_text text;
    dsb_text_init(&text);
    dsb_status s = dsb_grid_write(grid, DSB_REPORT_TEXT, &text, err);
    if (!s && text.data) fwrite(text.data, 1, text.size, stdout);
    dsb_text_release(&text);
    return s ? s : dsb_print_done(err);
}
