/* Plots: every one draws, strangers' names run nothing, a missing or hanging gnuplot is a message. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reports/gnuplot.h"
#include "reports/plot_csv.h"
#include "reports/plot_table.h"
#include "synthetic_run.h"

static char dir[64], path[96], touched[96];
static dsb_db *db;
static bool have_gnuplot;

static int set_up(void **state) {
    dsb_err err = { 0 };
    snprintf(dir, sizeof dir, "/tmp/dsb_test_plot_XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/r.db", dir);
    snprintf(touched, sizeof touched, "%s/touched", dir);
    return dsb_db_open(&db, path, true, &err) || synthetic_write(db, "before", 8, 16, &err) || synthetic_write(db, "demo", 8, 16, &err) ? -1 : 0;
}

static int tear_down(void **state) {
    const dsb_plot *plots;
    dsb_db_close(db);
    unlink(path);
    for (int i = dsb_plot_list(&plots) - 1; i >= 0; i--)
        for (int k = 0; k < 4; k++) {
            static const char *const suffixes[] = { "svg", "png", "pdf", "csv" };
            char file[128];
            snprintf(file, sizeof file, "%s/%s.%s", dir, plots[i].name, suffixes[k]);
            unlink(file);
        }
    unsetenv("DSBENCH_GNUPLOT");
    return rmdir(dir);
}

static void need_gnuplot(void) {
    if (have_gnuplot) return;
    print_message("gnuplot is missing: not tried\n");
    skip();
}

static void test_plot__every_plot_draws_svg_png_pdf_and_letters(void **state) {
    need_gnuplot();
    for (int picture = DSB_PICTURE_SVG; picture <= DSB_PICTURE_TERMINAL; picture++) {
        dsb_text t;
        dsb_err err = { 0 };
        const dsb_plot *plots;
        dsb_text_init(&t);
        if (dsb_plot_run(db, "demo", "before", NULL, picture, dir, &t, &err)) fail_msg("%s", err.text);
        for (int i = dsb_plot_list(&plots) - 1; i >= 0 && picture != DSB_PICTURE_TERMINAL; i--) {
            char file[128], head[8] = { 0 };
            static const char *const suffixes[] = { "svg", "png", "pdf" }, *const heads[] = { "<?xml", "\x89PNG\r", "%PDF-" };
            snprintf(file, sizeof file, "%s/%s.csv", dir, plots[i].name);
            assert_non_null(strstr(t.data, file));
            snprintf(file, sizeof file, "%s/%s.%s", dir, plots[i].name, suffixes[picture]);
            assert_non_null(strstr(t.data, file));
            FILE *f = fopen(file, "rb");
            assert_non_null(f);
            assert_int_equal(fread(head, 1, 5, f), 5);
            fclose(f);
            assert_memory_equal(head, heads[picture], 5);
        }
        dsb_text_release(&t);
    }
}

static void test_plot__csv_holds_the_data_under_its_columns(void **state) {
    dsb_text t;
    dsb_text_init(&t);
    dsb_plot_csv("set x\n$a << END\n#@one\tx\ty\tname\n1 ? \"a, b\"\n 2 0.5 \"=SUM(1)\"\nEND\nplot $a\n$b << END\n#@-two\tx\ty\tname\n-3 4 \"\"\n5 NaN \"NaN\"\nEND\n$c << END\n#\tz\n7\nEND\n", &t);
    assert_string_equal(t.data, "series,x,y,name\none,1,,\"a, b\"\none,2,0.5,\"'=SUM(1)\"\n\"'-two\",-3,4,\n\"'-two\",5,,NaN\n\nseries,z\n,7\n");
    dsb_text_release(&t);
}

/* Names that would run a command, close a string, end the data block or format a number, in scheme, model, text and run. */
static void test_plot__names_are_inert(void **state) {
    need_gnuplot();
    char names[4][256];
    snprintf(names[0], sizeof names[0], "`touch %s`", touched);
    snprintf(names[1], sizeof names[1], "'; system(\"touch %s\"); '", touched);
    snprintf(names[2], sizeof names[2], "END\n!touch %s\n@x", touched);
    snprintf(names[3], sizeof names[3], "\"%%s%%n_{a}^b\\n\xff<script>&");
    dsb_err err = { 0 };
    dsb_run_record run = synthetic_record("a'`b\"", 2, 2);
    run.model.name = names[1];
    run.dataset.name = names[0];
    assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
    for (int i = 0; i < 4; i++) {
        dsb_scheme_record scheme = { names[i], NULL, NULL, NULL, NULL, i + 1, 1000 * (i + 1), 1000, 4 + i, 4 + i };
        dsb_quality kld = { names[i], "kld_mean", NULL, 0.01 * (i + 1), 0.005, 0.1, 9 }, delta = { names[i], "delta_nll", NULL, 0.01, 0, 0.02, 9 };
        dsb_layer_error layer = { names[i], "block", "accumulated", 0, synthetic_moments(1e-3, 9, 1), NAN, NAN };
        dsb_routing_expert expert = { names[i], "accumulated", 0, 0, 10, 9, 2, 1, 1, 1, 1e-3 };
        dsb_quality_detail bin = { names[i], "kld_by_confidence", NULL, -1, 3, 0.3, 0.4, 0.01, 9 }, margin = { names[i], "margin_decile", NULL, 0, 2, 0.1, 0.2, 0.1, 9 };
        dsb_routing_layer drift = { names[i], "accumulated", "selection_change", NULL, 0, 0.1, 9 };
        dsb_layer_error own = { names[i], "block", "isolated", 0, synthetic_moments(1e-3, 9, 1), NAN, NAN };
        dsb_throughput speed = { names[i], "decode", 8, 0, 1, 1, 10, 9, 11, NAN, NAN, NAN, NAN, NAN, NAN, NAN, -1, NAN, NAN, NAN, NAN, NULL };
        assert_int_equal(dsb_db_put_scheme(db, run.id, &scheme, &err), DSB_OK);
        assert_int_equal(dsb_db_put_quality(db, run.id, &kld, &err), DSB_OK);
        assert_int_equal(dsb_db_put_quality(db, run.id, &delta, &err), DSB_OK);
        assert_int_equal(dsb_db_put_layer_error(db, run.id, &layer, &err), DSB_OK);
        assert_int_equal(dsb_db_put_routing_expert(db, run.id, &expert, &err), DSB_OK);
        assert_int_equal(dsb_db_put_quality_detail(db, run.id, &bin, &err), DSB_OK);
        assert_int_equal(dsb_db_put_quality_detail(db, run.id, &margin, &err), DSB_OK);
        assert_int_equal(dsb_db_put_routing_layer(db, run.id, &drift, &err), DSB_OK);
        assert_int_equal(dsb_db_put_layer_error(db, run.id, &own, &err), DSB_OK);
        assert_int_equal(dsb_db_put_throughput(db, run.id, &speed, &err), DSB_OK);
    }
    dsb_text t;
    dsb_text_init(&t);
    if (dsb_plot_run(db, run.id, NULL, NULL, DSB_PICTURE_SVG, dir, &t, &err)) fail_msg("%s", err.text);
    const char *const drawn[] = { "pareto", "perplexity", "error", "heat_drift", "heat_worst", "kld_confidence", "margins", "throughput" };
    for (int i = 0; i < 8; i++) {
        char file[128];
        struct stat st;
        snprintf(file, sizeof file, "%s/%s.svg", dir, drawn[i]);
        assert_int_equal(stat(file, &st), 0);
    }
    assert_int_equal(access(touched, F_OK), -1);
    dsb_text_release(&t);
}

static void test_plot__quoting_is_closed(void **state) {
    dsb_text t;
    dsb_text_init(&t);
    dsb_gnuplot_quote(&t, "a'b`c\"d\n%@{}", 0);
    assert_string_equal(t.data, "'a’b‘c\"d?%@{}'");
    dsb_text_release(&t);
    dsb_gnuplot_quote_tic(&t, "50%'éé", 5);
    assert_string_equal(t.data, "'50%%’é…'");
    dsb_text_release(&t);
}

static void test_plot__a_missing_or_failing_gnuplot_is_a_message(void **state) {
    dsb_text t;
    dsb_err err = { 0 };
    dsb_text_init(&t);
    setenv("DSBENCH_GNUPLOT", "/no/such/gnuplot", 1);
    assert_int_equal(dsb_gnuplot_run("plot x\n", 10, &t, &err), DSB_EOUTPUT);
    assert_non_null(strstr(err.text, "apt-get install gnuplot-nox"));
    assert_int_equal(dsb_plot_run(db, "demo", NULL, NULL, DSB_PICTURE_SVG, dir, &t, &err), DSB_EOUTPUT);
    assert_non_null(strstr(err.text, "not found"));
    setenv("DSBENCH_GNUPLOT", "/bin/false", 1); /* ends without reading: no SIGPIPE for us */
    char *big = malloc(1 << 20);
    memset(big, '\n', (1 << 20) - 1);
    big[(1 << 20) - 1] = 0;
    assert_int_equal(dsb_gnuplot_run(big, 10, &t, &err), DSB_EOUTPUT);
    free(big);
    setenv("DSBENCH_GNUPLOT", "/bin/true", 1);
    assert_int_equal(dsb_gnuplot_run("plot x\n", 10, &t, &err), DSB_EOUTPUT);
    assert_non_null(strstr(err.text, "wrote nothing"));
    assert_int_equal(t.size, 0);
    dsb_text_release(&t);
    unsetenv("DSBENCH_GNUPLOT");
    need_gnuplot();
    assert_int_equal(dsb_gnuplot_run("this is no command\n", 10, &t, &err), DSB_EOUTPUT);
    assert_non_null(strstr(err.text, "invalid command"));
    assert_null(strchr(err.text, '\n'));
}

/* A program that never ends is killed: it is this test that waits, a tenth of a second. */
static void test_plot__a_hanging_gnuplot_is_killed(void **state) {
    char script[128];
    dsb_text t;
    dsb_err err = { 0 };
    dsb_text_init(&t);
    snprintf(script, sizeof script, "%s/hang", dir);
    FILE *f = fopen(script, "w");
    fputs("#!/bin/sh\nwhile :; do read -r line || exec cat /dev/zero > /dev/null; done\n", f);
    fclose(f);
    chmod(script, 0700);
    setenv("DSBENCH_GNUPLOT", script, 1);
    assert_int_equal(dsb_gnuplot_run("plot x\n", 0.1, &t, &err), DSB_EOUTPUT);
    assert_non_null(strstr(err.text, "killed"));
    unlink(script);
    dsb_text_release(&t);
}

static void test_plot__unknown_plot_and_no_data_are_told(void **state) {
    dsb_text t;
    dsb_err err = { 0 };
    dsb_run_record run = synthetic_record("empty", 2, 2);
    dsb_text_init(&t);
    assert_int_equal(dsb_plot_run(db, "demo", NULL, "nope", DSB_PICTURE_SVG, dir, &t, &err), DSB_EUSAGE);
    assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
    assert_int_equal(dsb_plot_run(db, "empty", NULL, "pareto", DSB_PICTURE_SVG, dir, &t, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "no data"));
    assert_int_equal(dsb_plot_run(db, "demo", NULL, "pareto", DSB_PICTURE_SVG, "/proc/no", &t, &err), DSB_EOUTPUT);
    dsb_text_release(&t);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
    dsb_text t;
    dsb_text_init(&t);
    have_gnuplot = !dsb_gnuplot_run("set terminal dumb\nplot 1\n", 20, &t, NULL);
    dsb_text_release(&t);
    const struct CMUnitTest tests[] = {
        T(test_plot__every_plot_draws_svg_png_pdf_and_letters),
        T(test_plot__csv_holds_the_data_under_its_columns),
        T(test_plot__names_are_inert),
        T(test_plot__quoting_is_closed),
        T(test_plot__a_missing_or_failing_gnuplot_is_a_message),
        T(test_plot__a_hanging_gnuplot_is_killed),
        T(test_plot__unknown_plot_and_no_data_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
