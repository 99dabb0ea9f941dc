/* Error rates of verdicts over chunks, as a markdown table (docs/statistics.md): build/simulation/verdicts [PAIRS [ROW [CHUNKS]]], ROW counted from 0.
 * Each case: PAIRS (1000) pairs of runs that don't differ, then the same with a shift planted. Marked * where a rate lies outside its 99 % binomial bounds.
 * Exit 1 where one does that the method promises: see `promised`. */
#include <stdlib.h>

#include "tests/simulation/table.h"
#include "tests/simulation/verdict_rates.h"

int main(int argc, char **argv) {
    static const int64_t sizes[] = { 16, 32, 64, 256 };
    int64_t pairs = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    long row = argc > 2 ? strtol(argv[2], NULL, 10) : -1, chunks = argc > 3 ? strtol(argv[3], NULL, 10) : -1;
    if (pairs < 1 || !read_real_differences()) return fprintf(stderr, "usage: verdicts [PAIRS [ROW [CHUNKS]]], from the tree's root\n"), 2;
    table_bounds(pairs, "pairs");
    printf("| differences of chunks | chunks | false alarms | false praise | found | found next | false equivalence | interval holds |\n|---|---|---|---|---|---|---|---|\n");
    for (int kind = 0; kind < N_DIFFERENCES; kind++)
        for (int s = 0; s < 4; s++) {
            if ((row >= 0 && row != kind) || (chunks >= 0 && chunks != sizes[s])) continue;
            verdict_rates r = verdict_rates_of(kind, sizes[s], pairs);
            if (r.failed) return fprintf(stderr, "out of memory\n"), 4;
            printf("| %s | %lld |", difference_table[kind].name, (long long)sizes[s]);
            table_cell(r.alarms, pairs, 0.05), table_cell(r.praises, pairs, 0.05), table_cell(r.found, pairs, 0.8), table_cell(r.found_next, pairs, 0.8), table_cell(r.equal, pairs, 0.05), table_cell(r.covered, pairs, 0.95);
            printf("\n");
            fflush(stdout);
        }
    return 0;
}
