/* Monotonic time and a progress line with ETA on stderr (only when it is a terminal and not --quiet). */
#ifndef DSB_BASE_CLOCK_H
#define DSB_BASE_CLOCK_H

#include <stdbool.h>

/* Seconds of the monotonic clock. */
double dsb_now_s(void);

typedef struct dsb_progress {
    bool shown;
    double start_s, last_s;
} dsb_progress;
void dsb_progress_init(dsb_progress *p, bool quiet);
/* One line: share done, what is being done, time left; drawn at most ten times a second. */
void dsb_progress_show(dsb_progress *p, double share, const char *what);
/* Wipes the line. */
void dsb_progress_clear(dsb_progress *p);

#endif
