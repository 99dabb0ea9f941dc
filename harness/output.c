#include "harness/output.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

dsb_report_format dsb_print_format(bool json) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    bool colour = isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
    return json ? DSB_REPORT_JSON : colour ? DSB_REPORT_TERMINAL : DSB_REPORT_TEXT;
}

/* The reading end of a pipe is closed. main ignores SIGPIPE, so that a run whose output nobody wants comes to its end. */
static bool reader_left(void) {
    struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
    return poll(&p, 1, 0) == 1 && p.revents & POLLERR;
}

dsb_status dsb_print_done(dsb_err *err) {
    if ((fflush(stdout) == 0 && !ferror(stdout)) || reader_left()) return DSB_OK;
    return dsb_fail(err, DSB_EOUTPUT, "standard output: can't be written (%s)", strerror(errno));
}

dsb_status dsb_print_json(json_t *doc, dsb_err *err) {
    if (!doc) return dsb_fail(err, DSB_ENOMEM, "no memory for the output");
    json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(doc);
    putchar('\n');
    return dsb_print_done(err);
}

dsb_report_format dsb_plain_format(const dsb_parsed *p) { return p->json ? DSB_REPORT_JSON : p->csv ? DSB_REPORT_CSV : DSB_REPORT_TEXT; }

dsb_status dsb_print_grid(const dsb_grid *grid, dsb_report_format format, dsb_err *err) {
    if (format == DSB_REPORT_JSON) return dsb_print_json(dsb_grid_json(grid), err);
    dsb_text text;
    dsb_text_init(&text);
    dsb_status s = dsb_grid_write(grid, format, &text, err);
    if (!s && text.data) fwrite(text.data, 1, text.size, stdout);
    dsb_text_release(&text);
    return s ? s : dsb_print_done(err);
}
