/* Error rates of throughput's verdicts and of change points, as markdown tables (docs/statistics.md): build/simulation/speeds [TIMES]. */
#include <stdlib.h>

#include "tests/simulation/speed_rates.h"
#include "tests/simulation/table.h"

static void judged(const char *what, void (*judge)(host_kind, int64_t, uint64_t, speed_rates *), const int64_t *sizes, int n_size, int64_t times) {
    printf("| host | %s | false alarms | found | stated as detectable |\n|---|---|---|---|---|\n", what);
    for (int kind = 0; kind < N_HOSTS; kind++)
        for (int s = 0; s < n_size; s++) {
            speed_rates r = speed_rates_of(judge, kind, sizes[s], times);
            printf("| %s | %lld |", host_table[kind].name, (long long)sizes[s]);
            table_cell(r.alarms, times, 0.05), table_cell(r.found, times, 0.8);
            printf(" %.1f %% slower |\n", 100 * r.detectable / (double)times);
        }
    printf("\n");
}

int main(int argc, char **argv) {
    static const int64_t nights[] = { 5, 10, 20, 60 }, rounds[] = { 5, 10, 20 }, runs[] = { 20, 60, 180 };
    int64_t times = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    if (times < 1) return fprintf(stderr, "usage: speeds [TIMES]\n"), 2;
    table_bounds(times, "times");
    judged("runs before", judge_night, nights, 4, times);
    judged("rounds", judge_builds, rounds, 3, times);
    printf("| host | runs | false alarms | step of 4.5 %% found within 3 runs | within 1 | more than one point |\n|---|---|---|---|---|---|\n");
    for (int kind = 0; kind < N_HOSTS; kind++)
        for (int s = 0; s < 3; s++) {
            change_rates r = change_rates_of(kind, runs[s], times);
            printf("| %s | %lld |", host_table[kind].name, (long long)runs[s]);
            table_cell(r.alarms, times, 0.05);
            printf(" %.1f | %.1f | %.1f |\n", 100.0 * (double)r.found / (double)times, 100.0 * (double)r.near / (double)times, 100.0 * (double)r.more / (double)times);
            fflush(stdout);
        }
    return 0;
}
