/* Other load on the machine while something was measured: what all processors did (/proc/stat: user, nice, system, interrupts, and what the
 * hypervisor took) less this process's own time, as a share of all processors. Two texts and a number of seconds make a figure. */
#ifndef DSB_HARNESS_BUSY_H
#define DSB_HARNESS_BUSY_H

#include <stdbool.h>

/* Seconds of all processors together since the machine's start; own: of this process. */
typedef struct dsb_cpu_times {
    double busy_s, idle_s, steal_s, own_s;
} dsb_cpu_times;

/* The first line of /proc/stat; ticks a second: sysconf(_SC_CLK_TCK). False where it is no such line. own_s stays. */
bool dsb_cpu_times_parse(dsb_cpu_times *t, const char *stat, double ticks);
/* Now; false (and zeros) where the system doesn't say. */
bool dsb_cpu_times_read(dsb_cpu_times *t);
/* Percent of all processors that others took between the two, 0 to 100; steal counts as others'. NAN where no time went by, or nothing is known. */
double dsb_busy_percent(const dsb_cpu_times *from, const dsb_cpu_times *to);
double dsb_steal_percent(const dsb_cpu_times *from, const dsb_cpu_times *to);

#endif
