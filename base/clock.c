#include "base/clock.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

double dsb_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void dsb_progress_init(dsb_progress *p, bool quiet) {
    p->shown = !quiet && isatty(STDERR_FILENO);
    p->start_s = dsb_now_s();
    p->last_s = 0;
}

void dsb_progress_show(dsb_progress *p, double share, const char *what) {
    double now = dsb_now_s();
    if (!p->shown || now - p->last_s < 0.1) return;
    p->last_s = now;
    if (share > 0.001) {
        double left = (now - p->start_s) * (1 - share) / share;
        fprintf(stderr, "\r\033[K%3.0f %%  %s  (%d:%02d left)", 100 * share, what, (int)left / 60, (int)left % 60);
    } else {
        fprintf(stderr, "\r\033[K%3.0f %%  %s", 100 * share, what);
    }
    fflush(stderr);
}

void dsb_progress_clear(dsb_progress *p) {
    if (p->shown) fputs("\r\033[K", stderr);
}
