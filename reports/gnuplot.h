/* Runs gnuplot: script in, picture out, through pipes. No shell, no files, no init file of the user's. */
#ifndef DSB_REPORTS_GNUPLOT_H
#define DSB_REPORTS_GNUPLOT_H

#include "reports/text.h"

#define DSB_GNUPLOT_LIMIT_S 60.0

/* Appends what gnuplot writes to its standard output. The program is $DSBENCH_GNUPLOT or `gnuplot` in PATH.
 * DSB_EOUTPUT: it is missing, fails (its first words are told), writes nothing, or is killed after limit_s. */
dsb_status dsb_gnuplot_run(const char *script, double limit_s, dsb_text *out, dsb_err *err);

/* A name as a gnuplot string literal: single quotes, in which nothing is expanded; quotes in it become typographic ones,
 * so that it can't end early; cut at `most` characters (0: whole). */
void dsb_gnuplot_quote(dsb_text *script, const char *name, int most);
/* The same for a tic's label, where gnuplot would expand % too. */
void dsb_gnuplot_quote_tic(dsb_text *script, const char *name, int most);

#endif
