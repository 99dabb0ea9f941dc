#include "harness/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "reports/grid.h"

static int by_seconds(const void *a, const void *b) {
    double x = ((const dsb_watched *)a)->seconds, y = ((const dsb_watched *)b)->seconds;
    return (x < y) - (x > y);
}

static void put(dsb_grid *g, const char *what, int64_t calls, double seconds, double wall_s, double bytes) {
    dsb_grid_text(g, what);
    dsb_grid_int(g, calls);
    dsb_grid_figure(g, seconds, "%.3f", seconds);
    dsb_grid_figure(g, 100 * seconds / wall_s, "%.1f", 100 * seconds / wall_s);
    double gbps = bytes > 0 ? 1e-9 * bytes / seconds : NAN;
    dsb_grid_figure(g, gbps, "%.2f", gbps);
}

dsb_status dsb_profile_print(const dsb_backend *be, double wall_s, const dsb_load_times *times, dsb_arena *arena, dsb_err *err) {
    static const dsb_grid_head heads[] = {{"what", "what", NULL, true}, {"calls", "calls", NULL, false}, {"seconds", "time", "s", false}, {"percent", "of all", "%", false}, {"gbps", "copied", "GB/s", false}};
    const dsb_watched *rows = NULL;
    dsb_watched *sorted;
    dsb_grid g;
    dsb_text text;
    int n = be->watched ? be->watched(&rows) : 0;
    double kernels = 0, copies = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)&sorted, (size_t)n + 1, sizeof *sorted, "a profile", err));
    for (int i = 0; i < n; i++) {
        sorted[i] = rows[i];
        if (rows[i].bytes > 0) copies += rows[i].seconds;
        else kernels += rows[i].seconds;
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_seconds);
    dsb_grid_init(&g, arena, heads, (int)(sizeof heads / sizeof *heads));
    put(&g, "the sweep", -1, wall_s, wall_s, 0);
    if (n > 0) put(&g, "device: kernels", -1, kernels, wall_s, 0);
    if (n > 0) put(&g, "device: copies", -1, copies, wall_s, 0);
    put(&g, "host: weights read", -1, times->read_s, wall_s, 0);
    put(&g, "host: weights quantized and packed", -1, times->quantize_s, wall_s, 0);
    put(&g, "host: weights compared", -1, times->compare_s, wall_s, 0);
    for (int i = 0; i < n; i++) put(&g, sorted[i].name, sorted[i].calls, sorted[i].seconds, wall_s, sorted[i].bytes);
    dsb_text_init(&text);
    dsb_status s = dsb_grid_write(&g, DSB_REPORT_TEXT, &text, err);
    if (!s) fputs(text.data, stderr);
    dsb_text_release(&text);
    return s;
}
