/* Lines of blocks for a terminal, the shades of what stands worst first, and when colours are written at all. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/output.h"
#include "reports/spark.h"

static void drawn(const double *v, int64_t n, double lo, double hi, const char *want) {
    dsb_text t;
    dsb_text_init(&t);
    dsb_spark(&t, v, n, lo, hi);
    assert_string_equal(t.data, want);
    dsb_text_release(&t);
}

/* From 1 to 256 each factor of two is a block; ends hold what lies beyond. */
static void test_spark__blocks_rise_by_logarithm(void **state) {
    static const double k_v[] = { 1, 1.9, 2.1, 4.1, 8.1, 16.1, 32.1, 64.1, 128.1, 256, 0, -1, 1e9, INFINITY, NAN };
    drawn(k_v, sizeof k_v / sizeof *k_v, 1, 256, "▁▁▂▃▄▅▆▇██▁▁██ ");
    drawn(k_v, 1, 1, 1, "▁");
}

/* 128 figures in 64 blocks: two each, of which the larger counts. */
static void test_spark__a_long_line_shows_the_worst_of_neighbours(void **state) {
    double v[2 * DSB_SPARK_WIDTH];
    char want[3 * DSB_SPARK_WIDTH + 1]; /* a block is three bytes */
    for (int i = 0; i < 2 * DSB_SPARK_WIDTH; i++) v[i] = i % 2 ? NAN : 1;
    v[2 * 7 + 1] = 100;
    for (int i = 0; i < DSB_SPARK_WIDTH; i++) memcpy(want + 3 * i, i == 7 ? "█" : "▁", 4);
    drawn(v, 2 * DSB_SPARK_WIDTH, 1, 100, want);
}

static dsb_routing_layer drift(const char *scheme, int64_t layer, double value) { return (dsb_routing_layer){ .scheme = scheme, .layer = layer, .kind = "accumulated", .metric = "selection_change", .value = value }; }

static void test_spark__a_scheme_is_a_line_on_a_scale_shared_by_all(void **state) {
    dsb_scheme_record schemes[] = { { .name = "reference" }, { .name = "a" }, { .name = "b" } };
    dsb_routing_layer rows[] = { drift("a", 1, 0.01), drift("a", 2, 0.02), drift("b", 1, 0.16), drift("b", 2, 2.56), drift("b", -1, 9) };
    dsb_layer_error layers[] = { { .layer = 2 } }; /* how many there are */
    dsb_run_data d = { .schemes = schemes, .n_scheme = 3, .routing = rows, .n_routing = 5, .layers = layers, .n_layer_row = 1 };
    dsb_filter f = DSB_FILTER_ALL;
    dsb_spark_lines lines;
    dsb_arena arena;
    dsb_arena_init(&arena);
    assert_int_equal(dsb_spark_routing(&d, &f, &arena, &lines, NULL), DSB_OK);
    assert_string_equal(lines.caption, "tokens rerouted, %, each scheme on its own stream: ▁ 1.0e+00 to █ 2.6e+02, log scale");
    assert_int_equal(dsb_grid_rows(&lines.grid), 2);
    const dsb_cell *a = lines.grid.cells, *b = a + 4;
    assert_string_equal(lines.grid.heads[1].title, "layers 0–2");
    assert_string_equal(a[0].text, "a");
    assert_string_equal(a[1].text, " ▁▂");
    assert_string_equal(b[1].text, " ▅█");
    assert_true(b[2].real == 256 && b[3].integer == 2);
    f.scheme = "b";
    assert_int_equal(dsb_spark_routing(&d, &f, &arena, &lines, NULL), DSB_OK);
    assert_int_equal(dsb_grid_rows(&lines.grid), 1);
    f.layer = 1; /* nothing to go along */
    assert_int_equal(dsb_spark_routing(&d, &f, &arena, &lines, NULL), DSB_OK);
    assert_int_equal(dsb_grid_rows(&lines.grid), 0);
    dsb_arena_release(&arena);
}

static void test_grid__the_worst_are_shaded_in_a_terminal_alone(void **state) {
    static const dsb_grid_head heads[] = { { "name", "name", NULL, true }, { "nmse", "nmse", NULL, false } };
    static const double k_v[] = { 8, 4, 1, 0.5 };
    dsb_arena arena;
    dsb_text plain, colour;
    dsb_grid g;
    dsb_arena_init(&arena);
    dsb_text_init(&plain);
    dsb_text_init(&colour);
    dsb_grid_init(&g, &arena, heads, 2);
    for (int i = 0; i < 4; i++) {
        dsb_grid_text(&g, "n");
        dsb_grid_figure(&g, k_v[i], "%.1f", k_v[i]);
    }
    dsb_grid_shade(&g, "no such column");
    dsb_grid_shade(&g, "nmse");
    assert_true(g.cells[1].shade == DSB_SHADE_WORST && g.cells[3].shade == DSB_SHADE_WORST && g.cells[5].shade == DSB_SHADE_BAD && g.cells[7].shade == DSB_SHADE_NONE);
    assert_int_equal(dsb_grid_write(&g, DSB_REPORT_TEXT, &plain, NULL), DSB_OK);
    assert_null(strchr(plain.data, '\033'));
    assert_int_equal(dsb_grid_write(&g, DSB_REPORT_TERMINAL, &colour, NULL), DSB_OK);
    assert_non_null(strstr(colour.data, "n     \033[31m 8.0\033[0m\n"));
    assert_non_null(strstr(colour.data, "n     \033[33m 1.0\033[0m\n"));
    assert_non_null(strstr(colour.data, "n      0.5\n"));
    dsb_text_release(&plain);
    dsb_text_release(&colour);
    dsb_arena_release(&arena);
}

/* Standard output is made a terminal, a file and a terminal again. */
static void test_output__colours_are_for_terminals_that_want_them(void **state) {
    int tty = posix_openpt(O_RDWR | O_NOCTTY), out = dup(STDOUT_FILENO), file = open("/dev/null", O_WRONLY);
    if (tty < 0 || grantpt(tty) || unlockpt(tty)) skip();
    int end = open(ptsname(tty), O_RDWR | O_NOCTTY);
    if (end < 0) skip();
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    fflush(stdout);
    dup2(file, STDOUT_FILENO);
    dsb_report_format to_file = dsb_print_format(false);
    dup2(end, STDOUT_FILENO);
    dsb_report_format to_terminal = dsb_print_format(false), json = dsb_print_format(true);
    setenv("NO_COLOR", "1", 1);
    dsb_report_format refused = dsb_print_format(false);
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    dsb_report_format dumb = dsb_print_format(false);
    dup2(out, STDOUT_FILENO);
    close(tty), close(end), close(out), close(file);
    assert_true(to_file == DSB_REPORT_TEXT && to_terminal == DSB_REPORT_TERMINAL && json == DSB_REPORT_JSON && refused == DSB_REPORT_TEXT && dumb == DSB_REPORT_TEXT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spark__blocks_rise_by_logarithm),
        cmocka_unit_test(test_spark__a_long_line_shows_the_worst_of_neighbours),
        cmocka_unit_test(test_spark__a_scheme_is_a_line_on_a_scale_shared_by_all),
        cmocka_unit_test(test_grid__the_worst_are_shaded_in_a_terminal_alone),
        cmocka_unit_test(test_output__colours_are_for_terminals_that_want_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
