/* Error rates of verdicts over chunks, as a markdown table (docs/statistics.md): build/simulation/verdicts [PAIRS [ROW [CHUNKS]]], ROW counted from 0.
 * Each case: PAIRS (1000) pairs of runs that don't differ, then the same with a shift planted. Marked * where a rate lies outside its 99 % binomial bounds.
 * Exit 1 where a rate that the method promises (difference_table) is not kept, beyond what so many of them do by chance. */
#include <stdlib.h>

#include "tests/simulation/table.h"
#include "tests/simulation/verdict_rates.h"

enum { N_SIZES = 4, N_PROMISE = 34 };
static const int64_t sizes[N_SIZES] = { 16, 32, 64, 256 };

/* 4 kinds of differences in 4 sizes keep two rates each, and one kind more an upper bound alone, half a rate: of so many chance alone breaks one in 1 % of all seeds. */
static bool keeps_promise(int kind, const verdict_rates *r) {
    int64_t least, most, least_found, most_found;
    binomial_bounds(r->pairs, 0.05, 0.005 / N_PROMISE, &least, &most);
    binomial_bounds(r->pairs, 0.8, 0.005 / N_PROMISE, &least_found, &most_found);
    if (difference_table[kind].symmetric && r->alarms > most) return false;
    return !difference_table[kind].promised || (r->alarms >= least && r->found >= least_found && r->found <= most_found);
}

int main(int argc, char **argv) {
    int64_t pairs = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    int broken = 0;
    long row = argc > 2 ? strtol(argv[2], NULL, 10) : -1, chunks = argc > 3 ? strtol(argv[3], NULL, 10) : -1;
    if (pairs < 1 || !read_real_differences()) return fprintf(stderr, "usage: verdicts [PAIRS [ROW [CHUNKS]]], from the tree's root\n"), 2;
    table_bounds(pairs, "pairs");
    printf("| differences of chunks | chunks | false alarms | by sign flips | false praise | found | found next | false equivalence | interval holds |\n|---|---|---|---|---|---|---|---|---|\n");
    for (int kind = 0; kind < N_DIFFERENCES; kind++)
        for (int s = 0; s < N_SIZES; s++) {
            if ((row >= 0 && row != kind) || (chunks >= 0 && chunks != sizes[s])) continue;
            verdict_rates r = verdict_rates_of(kind, sizes[s], pairs);
            if (r.failed) return fprintf(stderr, "out of memory\n"), 4;
            printf("| %s | %lld |", difference_table[kind].name, (long long)sizes[s]);
            table_cell(r.alarms, pairs, 0.05), table_cell(r.flips, pairs, 0.05), table_cell(r.praises, pairs, 0.05), table_cell(r.found, pairs, 0.8);
            table_cell(r.found_next, pairs, 0.8), table_cell(r.equal, pairs, 0.05), table_cell(r.covered, pairs, 0.95);
            printf("\n");
            fflush(stdout);
            broken += !keeps_promise(kind, &r);
        }
    if (row < 0) printf("\n| family, normal differences of 32 chunks | false alarms |\n|---|---|\n");
    for (int i = 0; i < 3 && row < 0; i++) {
        static const double alike[] = { 0, 0.5, 0.9 };
        printf("| 12 schemes × 3 metrics; schemes' differences correlated by %g |", alike[i]);
        table_cell(family_alarms(32, 12, alike[i], pairs), pairs, 0.05);
        printf("\n");
        fflush(stdout);
    }
    if (broken) fprintf(stderr, "%d lines break what docs/statistics.md promises\n", broken);
    return broken > 0;
}
