#include "harness/bench_timing.h"

#include "base/clock.h"
#include "metrics/stats.h"

static const double k_repeat_s = 0.02; /* a repeat's calls take at least so long: a clock's step and a thread's start don't count */

/* By a GPU's clock; calls wait for nobody but where they hand figures to the host. One more round is for the sensors, whose reading takes time. */
static void by_device(const dsb_timed *t, int64_t calls, int64_t repeats, int64_t turn, double *seconds, dsb_sensors *sensors) {
    dsb_sensors_begin(sensors, t->be);
    for (int64_t r = 0; r <= repeats; r++) {
        t->be->clock_begin();
        for (int64_t i = 0; i < calls; i++) t->start(t->ctx, turn++);
        if (r == repeats) dsb_sensors_look(sensors, t->be);
        double took = t->be->clock_end() / (double)calls;
        if (r < repeats) seconds[r] = took;
    }
    dsb_sensors_end(sensors, t->be);
}

void dsb_timed_run(const dsb_timed *t, int64_t repeats, double *seconds, dsb_sensors *sensors) {
    int64_t calls = 0, turn = 0;
    double start = dsb_now_s();
    dsb_sensors_init(sensors);
    while (dsb_now_s() - start < k_repeat_s || calls < 2) {
        t->start(t->ctx, turn++);
        t->be->sync();
        calls++;
    }
    if (t->be->clock_end) by_device(t, calls, repeats, turn, seconds, sensors);
    for (int64_t r = 0; r < repeats && !t->be->clock_end; r++) {
        start = dsb_now_s();
        for (int64_t i = 0; i < calls; i++) {
            t->start(t->ctx, turn++);
            t->be->sync();
        }
        seconds[r] = (dsb_now_s() - start) / (double)calls;
    }
    dsb_sort(seconds, repeats);
    *sensors = dsb_sensors_mean(sensors, (double)((repeats + 1) * calls));
}
