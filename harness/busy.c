#include "harness/busy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

bool dsb_cpu_times_parse(dsb_cpu_times *t, const char *stat, double ticks) {
    enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, N }; /* guests' time, behind them, is in user already */
    double v[N] = {0};
    char *end;
    int n = 0;
    if (strncmp(stat, "cpu ", 4) != 0) return false;
    for (stat += 4; n < N && *stat != '\n'; n++, stat = end) {
        v[n] = strtod(stat, &end);
        if (end == stat || !(v[n] >= 0) || !isfinite(v[n])) break;
    }
    if (n <= SOFTIRQ) return false;
    t->busy_s = (v[USER] + v[NICE] + v[SYSTEM] + v[IRQ] + v[SOFTIRQ]) / ticks;
    t->idle_s = (v[IDLE] + v[IOWAIT]) / ticks;
    t->steal_s = v[STEAL] / ticks;
    return true;
}

bool dsb_cpu_times_read(dsb_cpu_times *t) {
    char line[512] = "";
    struct rusage u;
    *t = (dsb_cpu_times){0};
    FILE *f = fopen("/proc/stat", "re");
    bool ok = f && fgets(line, sizeof line, f) && dsb_cpu_times_parse(t, line, (double)sysconf(_SC_CLK_TCK));
    if (f) fclose(f);
    getrusage(RUSAGE_SELF, &u);
    t->own_s = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    return ok;
}

static double percent_of_all(const dsb_cpu_times *from, const dsb_cpu_times *to, double seconds) {
    double all = to->busy_s + to->idle_s + to->steal_s - from->busy_s - from->idle_s - from->steal_s;
    if (!(all > 0)) return NAN;
    double percent = 100 * seconds / all;
    return percent < 0 ? 0 : percent > 100 ? 100 : percent;
}

double dsb_steal_percent(const dsb_cpu_times *from, const dsb_cpu_times *to) { return percent_of_all(from, to, to->steal_s - from->steal_s); }

double dsb_busy_percent(const dsb_cpu_times *from, const dsb_cpu_times *to) {
    return percent_of_all(from, to, to->busy_s - from->busy_s + to->steal_s - from->steal_s - (to->own_s - from->own_s));
}
