/* Reports over a made-up run: figures agree between forms, strangers' names stay text, what can't be compared is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "reports/html.h"
#include "reports/inspect.h"
#include "reports/summary.h"
#include "synthetic_run.h"

static char dir[64], path[96];
static dsb_db *db;

static int set_up(void **state) {
    dsb_err err = { 0 };
    snprintf(dir, sizeof dir, "/tmp/dsb_test_rep_XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/r.db", dir);
    if (dsb_db_open(&db, path, true, &err) || synthetic_write(db, "demo", 8, 16, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    char page[128];
    dsb_db_close(db);
    unlink(path);
    snprintf(page, sizeof page, "%s/page.html", dir);
    unlink(page);
    return rmdir(dir);
}

static void test_text__names_are_cleaned_and_escaped(void **state) {
    dsb_arena arena;
    dsb_text t;
    dsb_arena_init(&arena);
    dsb_text_init(&t);
    assert_string_equal(dsb_text_clean(&arena, "a\nb\x1b[31m\x7f"), "a?b?[31m?");
    assert_string_equal(dsb_text_clean(&arena, "\xff\xc0\xaf\xed\xa0\x80ok é"), "??????ok é");
    assert_string_equal(dsb_text_clean(&arena, "\xc2\x9b" "31m"), "??31m"); /* C1 control: a terminal's CSI */
    dsb_text_html(&t, "<a href=\"x\">'&");
    assert_string_equal(t.data, "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    assert_int_equal(dsb_text_width("4.0× Δ"), 6);
    assert_string_equal(dsb_text_size(&arena, 27600000), "27.6 MB");
    assert_string_equal(dsb_text_size(&arena, -1), "–");
    dsb_text_release(&t);
    dsb_arena_release(&arena);
}

static void test_grid__forms_hold_the_same_rows(void **state) {
    static const dsb_grid_head heads[] = { { "name", "name", NULL, true }, { "value", "value", "kg", false }, { "hidden", NULL, NULL, false }, { "empty", "empty", NULL, false } };
    dsb_arena arena;
    dsb_grid g;
    dsb_text t;
    dsb_arena_init(&arena);
    dsb_grid_init(&g, &arena, heads, 4);
    for (int i = 0; i < 40; i++) { /* more cells than the first room */
        dsb_grid_text(&g, i ? "a|b" : "x");
        dsb_grid_figure(&g, i ? i : INFINITY, "%d", i);
        dsb_grid_int(&g, i);
        dsb_grid_figure(&g, NAN, "%d", i);
    }
    for (int form = DSB_REPORT_TEXT; form <= DSB_REPORT_HTML; form++) {
        dsb_text_init(&t);
        assert_int_equal(dsb_grid_write(&g, form, &t, NULL), DSB_OK);
        assert_null(strstr(t.data, "empty")); /* nobody measured it */
        assert_null(strstr(t.data, "hidden"));
        assert_non_null(strstr(t.data, "39"));
        dsb_text_release(&t);
    }
    json_t *json = dsb_grid_json(&g);
    assert_int_equal(json_array_size(json), 40);
    assert_true(json_is_null(json_object_get(json_array_get(json, 0), "value"))); /* JSON has no infinity */
    assert_true(json_is_null(json_object_get(json_array_get(json, 1), "empty")));
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 39), "hidden")), 39);
    json_decref(json);
    dsb_arena_release(&arena);
}

static void test_grid__csv_has_every_column_and_quotes_what_must_be(void **state) {
    static const dsb_grid_head heads[] = { { "name", "name", NULL, true }, { "hidden", NULL, NULL, false }, { "value", "value", NULL, false } };
    static const char *const names[] = { "plain", "a,b", "say \"so\"" };
    dsb_arena arena;
    dsb_grid g;
    dsb_text t;
    dsb_arena_init(&arena);
    dsb_text_init(&t);
    dsb_grid_init(&g, &arena, heads, 3);
    for (int i = 0; i < 3; i++) {
        dsb_grid_text(&g, names[i]);
        dsb_grid_int(&g, i);
        dsb_grid_figure(&g, i ? 0.1 * i : NAN, "unread");
    }
    dsb_grid_text(&g, NULL);
    dsb_grid_int(&g, -1);
    dsb_grid_figure(&g, INFINITY, "unread");
    assert_int_equal(dsb_grid_write(&g, DSB_REPORT_CSV, &t, NULL), DSB_OK);
    assert_string_equal(t.data, "name,hidden,value\nplain,0,\n\"a,b\",1,0.1\n\"say \"\"so\"\"\",2,0.2\n,,\n");
    dsb_text_release(&t);
    dsb_arena_release(&arena);
}

static void test_summary__figures_are_those_of_the_record(void **state) {
    dsb_arena arena;
    dsb_run_data data;
    dsb_summary s;
    dsb_err err = { 0 };
    dsb_arena_init(&arena);
    assert_int_equal(dsb_run_data_load(db, &arena, "demo", &data, &err), DSB_OK);
    assert_int_equal(dsb_summary_make(&data, &arena, &s, &err), DSB_OK);
    assert_int_equal(s.n, SYNTHETIC_SCHEMES);
    const dsb_digest *d = dsb_summary_find(&s, "dynamic-int8");
    assert_true(d->kld.value == 6.1e-4);
    assert_float_equal(d->vs_f32_size, 32 / 8.06, 1e-5);
    assert_float_equal(d->prefill_vs_f32, 1480.0 / 610, 1e-12);
    assert_float_equal(d->decode_vs_bf16, 138.0 / 71, 1e-12);
    assert_int_equal(d->worst_layer, 6);
    assert_int_equal(d->standing, DSB_STANDING_UNSURE);
    assert_int_equal(dsb_summary_find(&s, "reference")->standing, DSB_STANDING_REFERENCE);
    assert_int_equal(dsb_summary_find(&s, "bf16")->standing, DSB_STANDING_FLOOR);
    assert_int_equal(dsb_summary_find(&s, "int3-rtn")->standing, DSB_STANDING_WORSE);
    assert_string_equal(s.ship->scheme->name, "qat-int4"); /* int4-rtn is as small but costs 2.3 % */
    assert_string_equal(s.faithful->scheme->name, "mixed-fp16-int8");
    dsb_arena_release(&arena);
}

/* A scheme whose KLD is that of bf16 is not distinguishable, and one below it is not "better". */
static void test_summary__within_the_noise_floor_is_not_distinguishable(void **state) {
    dsb_arena arena;
    dsb_run_data data;
    dsb_summary s;
    dsb_err err = { 0 };
    dsb_arena_init(&arena);
    assert_int_equal(dsb_run_data_load(db, &arena, "demo", &data, &err), DSB_OK);
    for (int64_t i = 0; i < data.n_quality; i++)
        if (!strcmp(data.quality[i].scheme, "dynamic-int8") && !strcmp(data.quality[i].metric, "kld_mean")) data.quality[i].value = 1e-5;
    assert_int_equal(dsb_summary_make(&data, &arena, &s, &err), DSB_OK);
    const dsb_digest *d = dsb_summary_find(&s, "dynamic-int8");
    assert_int_equal(d->standing, DSB_STANDING_WITHIN);
    assert_string_equal(dsb_summary_verdict(d, &arena), "not distinguishable from bf16");
    dsb_arena_release(&arena);
}

/* A layer with values that are not finite is the worst, whatever the others' nmse. */
static void test_summary__a_non_finite_layer_is_the_worst(void **state) {
    dsb_arena arena;
    dsb_run_data data;
    dsb_summary s;
    dsb_text t;
    dsb_err err = { 0 };
    dsb_arena_init(&arena);
    dsb_text_init(&t);
    dsb_moments bad = synthetic_moments(1e-9, 100, 1);
    bad.nonfinite = 41;
    for (int l = 0; l < 8; l += 3) {
        dsb_layer_error row = { "bf16", "block", "accumulated", l, l == 3 ? bad : synthetic_moments(1e-2, 100, 1), NAN, NAN };
        assert_int_equal(dsb_db_put_layer_error(db, "demo", &row, &err), DSB_OK);
    }
    assert_int_equal(dsb_run_data_load(db, &arena, "demo", &data, &err), DSB_OK);
    assert_int_equal(dsb_summary_make(&data, &arena, &s, &err), DSB_OK);
    const dsb_digest *d = dsb_summary_find(&s, "bf16");
    assert_true(d->worst_layer == 3 && d->worst_nonfinite == 41 && isnan(d->worst_nmse));
    assert_int_equal(dsb_summary_print(db, "demo", DSB_REPORT_TEXT, &t, &err), DSB_OK);
    assert_non_null(strstr(t.data, "41 not finite"));
    dsb_text_release(&t);
    dsb_arena_release(&arena);
}

/* One line each; what is beyond the cap is counted, and JSON has all. */
static void test_summary__warnings_are_shown(void **state) {
    dsb_err err = { 0 };
    dsb_text t;
    for (int i = 0; i < 14; i++) {
        dsb_event e = { i ? NULL : "bf16", i == 13 ? "info" : "warning", i ? "again" : "two\nlines", -1, -1 };
        assert_int_equal(dsb_db_put_event(db, "demo", &e, &err), DSB_OK);
    }
    for (int form = DSB_REPORT_TEXT; form <= DSB_REPORT_JSON; form++) {
        dsb_text_init(&t);
        assert_int_equal(form == DSB_REPORT_HTML ? dsb_html_report(db, "demo", NULL, &t, &err) : dsb_summary_print(db, "demo", form, &t, &err), DSB_OK);
        if (form == DSB_REPORT_TEXT) assert_non_null(strstr(t.data, "\nwarning: bf16: two?lines\nwarning: again\n"));
        if (form == DSB_REPORT_MARKDOWN) assert_non_null(strstr(t.data, "\n- bf16: two?lines\n- again\n"));
        if (form != DSB_REPORT_JSON) assert_non_null(strstr(t.data, "and 2 more, in table event"));
        if (form == DSB_REPORT_JSON) {
            json_t *doc = json_loadb(t.data, t.size, 0, NULL), *list = json_object_get(doc, "warnings"); /* 13 and the made-up run's own */
            assert_int_equal(json_array_size(list), 14);
            assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "scheme")), "bf16");
            assert_true(json_is_null(json_object_get(json_array_get(list, 2), "layer")));
            json_decref(doc);
        }
        dsb_text_release(&t);
    }
}

static void test_summary__prints_text_markdown_and_json(void **state) {
    for (int form = 0; form < 3; form++) {
        static const dsb_report_format forms[] = { DSB_REPORT_TEXT, DSB_REPORT_MARKDOWN, DSB_REPORT_JSON };
        dsb_text t;
        dsb_err err = { 0 };
        dsb_text_init(&t);
        if (dsb_summary_print(db, "demo", forms[form], &t, &err)) fail_msg("%s", err.text);
        if (forms[form] == DSB_REPORT_JSON) {
            json_t *doc = json_loadb(t.data, t.size, 0, NULL);
            assert_non_null(doc);
            assert_string_equal(json_string_value(json_object_get(doc, "ship")), "qat-int4");
            assert_float_equal(json_real_value(json_object_get(json_array_get(json_object_get(doc, "schemes"), 1), "tpot_p99_ms")), 1500.0 / 71, 1e-12);
            json_t *first = json_array_get(json_object_get(doc, "schemes"), 2);
            assert_true(json_real_value(json_object_get(first, "kld_mean")) == 6.1e-4);
            assert_true(json_real_value(json_object_get(first, "prefill_tps")) == 1480);
            json_decref(doc);
        } else {
            assert_non_null(strstr(t.data, "Ship qat-int4"));
            assert_non_null(strstr(t.data, "noise floor"));
            assert_non_null(strstr(t.data, "yes 99.7 %"));
        }
        dsb_text_release(&t);
    }
}

/* A run that died before its first row still has a summary and a page. */
static void test_reports__an_empty_run_is_shown(void **state) {
    dsb_run_record run = synthetic_record("empty", 2, 2);
    dsb_err err = { 0 };
    dsb_text t;
    dsb_text_init(&t);
    assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
    assert_int_equal(dsb_summary_print(db, "empty", DSB_REPORT_TEXT, &t, &err), DSB_OK);
    assert_int_equal(dsb_html_report(db, "empty", NULL, &t, &err), DSB_OK);
    assert_non_null(strstr(t.data, "not a whole result"));
    dsb_text_release(&t);
}

/* Layers and experts that would index beyond a table are refused where they are read. */
static void test_reports__absurd_places_are_refused(void **state) {
    static const int64_t places[][2] = { { 0, -1 }, { -1, 0 }, { INT64_MAX, 0 }, { 0, (int64_t)1 << 40 } };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char id[16];
        dsb_arena arena;
        dsb_run_data data;
        dsb_err err = { 0 };
        snprintf(id, sizeof id, "absurd%zu", i);
        dsb_run_record run = synthetic_record(id, 2, 2);
        dsb_scheme_record scheme = { "s", NULL, NULL, NULL, NULL, 0, 1000, 1000, 4, 4 };
        dsb_routing_expert expert = { "s", "accumulated", places[i][0], places[i][1], 10, 9, 2, 1, 1, 1, 1e-3 };
        assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
        assert_int_equal(dsb_db_put_scheme(db, id, &scheme, &err), DSB_OK);
        assert_int_equal(dsb_db_put_routing_expert(db, id, &expert, &err), DSB_OK);
        dsb_arena_init(&arena);
        assert_int_equal(dsb_run_data_load(db, &arena, id, &data, &err), DSB_EINPUT);
        assert_non_null(strstr(err.text, "no record of ours"));
        dsb_arena_release(&arena);
    }
}

static void test_inspect__worst_first_and_filtered(void **state) {
    dsb_arena arena;
    dsb_run_data data;
    dsb_grid g;
    dsb_err err = { 0 };
    dsb_filter f = DSB_FILTER_ALL;
    dsb_arena_init(&arena);
    assert_int_equal(dsb_run_data_load(db, &arena, "demo", &data, &err), DSB_OK);
    f.scheme = "int4-rtn";
    f.kind = "isolated";
    f.sort = "sqnr_db"; /* higher is better: lowest first */
    assert_int_equal(dsb_inspect_layers(&data, &f, &arena, &g, &err), DSB_OK);
    assert_int_equal(dsb_grid_rows(&g), 8 * 3);
    json_t *json = dsb_grid_json(&g);
    for (size_t i = 1; i < json_array_size(json); i++)
        assert_true(json_real_value(json_object_get(json_array_get(json, i - 1), "sqnr_db")) <= json_real_value(json_object_get(json_array_get(json, i), "sqnr_db")));
    json_decref(json);
    f = (dsb_filter)DSB_FILTER_ALL;
    f.per_scheme = 1;
    assert_int_equal(dsb_inspect_experts(&data, &f, &arena, &g, &err), DSB_OK);
    assert_int_equal(dsb_grid_rows(&g), SYNTHETIC_SCHEMES - 1);
    f.per_scheme = 0;
    f.top = 3;
    f.layer = 5;
    assert_int_equal(dsb_inspect_routing(&data, &f, &arena, &g, &err), DSB_OK);
    assert_int_equal(dsb_grid_rows(&g), 3);
    assert_string_equal(g.cells[0].text, "int3-rtn");
    f.sort = "beauty";
    assert_int_equal(dsb_inspect_routing(&data, &f, &arena, &g, &err), DSB_EUSAGE);
    assert_non_null(strstr(err.text, "selection_change"));
    assert_int_equal(dsb_inspect_check_scheme(&data, "int5", &err), DSB_EUSAGE);
    assert_non_null(strstr(err.text, "int4-rtn"));
    dsb_arena_release(&arena);
}

/* A layer with a NaN has no nmse; it is the worst there is, not the last. */
static void test_inspect__a_non_finite_layer_comes_first(void **state) {
    dsb_arena arena;
    dsb_run_data data;
    dsb_grid g;
    dsb_err err = { 0 };
    dsb_filter f = DSB_FILTER_ALL;
    dsb_arena_init(&arena);
    assert_int_equal(dsb_run_data_load(db, &arena, "demo", &data, &err), DSB_OK);
    data.layers[data.n_layer_row - 1].m.nonfinite = 3;
    assert_int_equal(dsb_inspect_layers(&data, &f, &arena, &g, &err), DSB_OK);
    assert_string_equal(g.cells[4].text, "3 not finite");
    dsb_arena_release(&arena);
}

static int count(const char *text, const char *word) {
    int n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

static void test_html__is_whole_self_contained_and_inert(void **state) {
    dsb_err err = { 0 };
    dsb_text t;
    const char *nasty = "<script>alert('x')</script>\"`id`@{a}_b%s\n";
    dsb_scheme_record scheme = { nasty, nasty, NULL, NULL, nasty, 99, 100, 100, 8, 8 };
    dsb_layer_error layer = { nasty, "block", "accumulated", 1, synthetic_moments(1e-3, 100, 1), 1, NAN };
    dsb_event event = { nasty, "warning", nasty, -1, -1 };
    assert_int_equal(dsb_db_put_scheme(db, "demo", &scheme, &err), DSB_OK);
    assert_int_equal(dsb_db_put_layer_error(db, "demo", &layer, &err), DSB_OK);
    assert_int_equal(dsb_db_put_event(db, "demo", &event, &err), DSB_OK);
    dsb_text_init(&t);
    if (dsb_html_report(db, "demo", NULL, &t, &err)) fail_msg("%s", err.text);
    assert_null(strstr(t.data, "<script>alert")); /* the page's own is the only one */
    assert_int_equal(count(t.data, "<script"), 1);
    assert_null(strstr(t.data, "src="));
    assert_null(strstr(t.data, "url(http"));
    assert_non_null(strstr(t.data, "&lt;script&gt;"));
    assert_non_null(strstr(t.data, "jargon &amp; more.txt"));
    assert_non_null(strstr(t.data, "</html>"));
    assert_non_null(strstr(t.data, "2c26b46b68ff"));
    if (strstr(t.data, "No pictures")) print_message("gnuplot is missing here: the page was checked without pictures\n");
    else {
        int pictures = 0;
        for (const char *p = t.data; (p = strstr(p, "<svg")); p++) pictures++;
        assert_int_equal(pictures, 15);
        assert_non_null(strstr(t.data, "id=\"p2_"));
    }
    dsb_text_release(&t);
    char page[128];
    snprintf(page, sizeof page, "%s/page.html", dir);
    assert_int_equal(dsb_html_write(db, "demo", NULL, page, &err), DSB_OK);
    assert_int_equal(dsb_html_write(db, "demo", NULL, "/proc/no/page.html", &err), DSB_EOUTPUT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text__names_are_cleaned_and_escaped),
        cmocka_unit_test(test_grid__forms_hold_the_same_rows),
        cmocka_unit_test(test_grid__csv_has_every_column_and_quotes_what_must_be),
        T(test_summary__figures_are_those_of_the_record),
        T(test_summary__within_the_noise_floor_is_not_distinguishable),
        T(test_summary__a_non_finite_layer_is_the_worst),
        T(test_summary__warnings_are_shown),
        T(test_summary__prints_text_markdown_and_json),
        T(test_reports__an_empty_run_is_shown),
        T(test_reports__absurd_places_are_refused),
        T(test_inspect__worst_first_and_filtered),
        T(test_inspect__a_non_finite_layer_comes_first),
        T(test_html__is_whole_self_contained_and_inert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
