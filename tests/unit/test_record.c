/* What the recorder writes of a short sweep: warnings, and figures over MoE layers. */
#include "sweep_run.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/model_check.h"
#include "harness/record.h"
#include "synthetic_run.h"

typedef struct recorded {
    char path[64];
    dsb_db *db;
    dsb_recorder rec;
    dsb_progress progress;
    dsb_chunks chunks;
    int64_t zeros[SR_CHUNKS], last[SR_CHUNKS], bytes[SR_CHUNKS];
} recorded;

static void record_sweep(recorded *x, sr_run *r, int n_cal, dsb_observer *obs) {
    dsb_err err = {0};
    dsb_run_record run = synthetic_record("test", (int)r->m.config.n_layer, (int)r->m.config.n_expert);
    *x = (recorded){.path = "/tmp/dsbench-record-XXXXXX"};
    close(mkstemp(x->path));
    unlink(x->path);
    x->chunks = (dsb_chunks){.n_chunk = SR_CHUNKS, .n_ctx = SR_CTX, .tokens = r->tokens, .score_first = x->zeros, .score_last = x->last, .scored_bytes = x->bytes};
    for (int i = 0; i < SR_CHUNKS; i++) {
        x->last[i] = SR_CTX - 2;
        x->bytes[i] = SR_CTX;
    }
    if (dsb_db_open(&x->db, x->path, true, &err) || dsb_db_run_insert(x->db, &run, &err)) fail_msg("%s", err.text);
    for (int i = -1; i < r->n_scheme; i++) {
        dsb_scheme_record row = {.name = i < 0 ? "reference" : r->schemes[i].name, .ordinal = i + 1, .what = "", .weight_bytes = -1, .n_param = -1};
        if (dsb_db_put_scheme(x->db, "test", &row, &err)) fail_msg("%s", err.text);
    }
    if (dsb_recorder_init(&x->rec, x->db, "test", &r->m, r->schemes, r->n_scheme, &x->chunks, &x->progress, &err)) fail_msg("%s", err.text);
    dsb_recorder_observer(&x->rec, obs);
    dsb_sweep_plan plan = {.m = &r->m, .n_scheme = r->n_scheme, .schemes = r->schemes, .n_chunk = SR_CHUNKS, .n_ctx = SR_CTX, .tokens = r->tokens, .targets = r->targets,
                           .n_cal_chunk = n_cal, .cal_tokens = r->tokens, .isolated_every = 2, .obs = obs};
    if (dsb_sweep_run(&plan, &r->cal, &err)) fail_msg("%s", err.text);
}

static void record(recorded *x, sr_run *r, int n_cal) {
    dsb_err err = {0};
    dsb_observer obs;
    record_sweep(x, r, n_cal, &obs);
    if (dsb_recorder_finish(&x->rec, &r->cal, &err)) fail_msg("%s", err.text);
}

static void record_close(recorded *x) {
    char path[80];
    dsb_recorder_release(&x->rec);
    dsb_db_close(x->db);
    static const char *const k_end[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", x->path, k_end[i]);
        unlink(path);
    }
}

/* Whether one of the scheme's warnings holds the text. */
static bool warned(const dsb_event *e, int64_t n, const char *scheme, const char *text) {
    for (int64_t i = 0; i < n; i++)
        if (strcmp(e[i].scheme, scheme) == 0 && strcmp(e[i].level, "warning") == 0 && strstr(e[i].text, text)) return true;
    return false;
}

static void test_record__tests_that_divide_nothing_and_lost_ranges_are_said(void **state) {
    sr_run *r = sr_open();
    recorded x;
    dsb_event *e;
    int64_t n;
    dsb_err err = {0};
    sr_add_json(r, "{\"name\": \"edges\", \"rules\": [{\"role\": \"expert.up\", \"when\": {\"mean_abs_below\": 0}, \"format\": \"int2\"},"
                   "{\"role\": \"expert.*\", \"when\": {\"mean_abs_below\": 1e9}, \"format\": \"int4\"}, {\"role\": \"expert.*\", \"when\": {\"mean_abs_below\": 1}, \"format\": \"int3\"},"
                   "{\"role\": \"*\", \"format\": \"int8\"}]}");
    sr_add_json(r, "{\"name\": \"split\", \"rules\": [{\"role\": \"expert.*\", \"when\": {\"activity_rank_below\": 0.5}, \"format\": \"int4\"}, {\"role\": \"*\", \"format\": \"int8\"}]}");
    sr_add_json(r, "{\"name\": \"affine\", \"rules\": [{\"role\": \"expert.*\", \"format\": \"int8\", \"zero_point\": true, \"activation\": \"int8-dynamic\"},"
                   "{\"role\": \"*\", \"format\": \"int8\", \"zero_point\": true}]}");
    sr_add_json(r, "{\"name\": \"uncovered\", \"rules\": [{\"role\": \"lm_head\", \"format\": \"int8\", \"activation\": \"int8-static\"}]}");
    record(&x, r, 1);
    assert_int_equal(dsb_db_get_event(x.db, &r->arena, "test", NULL, &e, &n, &err), DSB_OK);
    int64_t experts = 0;
    for (int64_t l = 0; l < r->m.config.n_layer; l++) experts += dsb_layer_is_moe(&r->m.config, l) ? r->m.config.n_expert : 0;
    char none[96], all[96];
    snprintf(none, sizeof none, "rule 1: its test took none of the %lld expert tensors", (long long)experts);
    snprintf(all, sizeof all, "rule 2: its test took all of the %lld expert tensors", (long long)experts * 3);
    assert_true(warned(e, n, "edges", none) && warned(e, n, "edges", all) && warned(e, n, "edges", "rule 3: its test took none of the 0 expert tensors"));
    assert_true(warned(e, n, "uncovered", "1 tensors have no calibrated activation range"));
    snprintf(all, sizeof all, "%lld tensors have zero points", (long long)experts * 3);
    assert_true(warned(e, n, "affine", all));
    for (int64_t i = 0; i < n; i++) assert_string_not_equal(e[i].scheme, "split");
    assert_int_equal(n, 5);
    record_close(&x);
    sr_close(r);
}

static void test_record__a_tensor_has_its_rule_s_grouping_and_algorithm(void **state) {
    sr_run *r = sr_open();
    recorded x;
    dsb_tensor_error *t;
    int64_t n, seen[4] = {0};
    dsb_err err = {0};
    sr_add_json(r, "{\"name\": \"mixed\", \"rules\": [{\"role\": \"attn.o\", \"format\": \"keep\"}, {\"role\": \"attn.*\", \"format\": \"int8\"},"
                   "{\"role\": \"expert.*\", \"format\": \"int4\", \"group\": 16}, {\"role\": \"shared.*\", \"format\": \"int8\", \"group\": \"tensor\"}]}");
    record(&x, r, 0);
    assert_int_equal(dsb_db_get_tensor_error(x.db, &r->arena, "test", "mixed", &t, &n, &err), DSB_OK);
    for (int64_t i = 0; i < n; i++) {
        bool expert = strncmp(t[i].role, "expert.", 7) == 0, shared = strncmp(t[i].role, "shared.", 7) == 0, attention = strncmp(t[i].role, "attn.", 5) == 0 && strcmp(t[i].role, "attn.o") != 0;
        const char *wanted = expert ? "16" : shared ? "tensor" : attention ? "channel" : NULL;
        seen[expert ? 0 : shared ? 1 : attention ? 2 : 3]++;
        if (!wanted) assert_true(!t[i].grouping && !t[i].algorithm);
        if (wanted) assert_string_equal(t[i].grouping, wanted);
        if (wanted) assert_string_equal(t[i].algorithm, "rtn");
    }
    assert_true(seen[0] && seen[2] && seen[3] && (seen[1] || !r->m.config.n_shared));
    record_close(&x);
    sr_close(r);
}

/* Σ of a kind's values over its bins. */
static double detail_sum(const dsb_quality_detail *rows, int64_t n, const char *kind, int64_t bins) {
    double sum = 0;
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(rows[i].kind, kind) != 0) continue;
        sum += isnan(rows[i].value) ? 0 : rows[i].value;
        found++;
    }
    assert_int_equal(found, bins);
    return sum;
}

/* Bins add up to the run's counts: flips of both kinds by confidence, tokens by the layer where their experts first change. */
static void test_record__details_add_up_to_the_figures(void **state) {
    sr_run *r = sr_open();
    recorded x;
    dsb_quality_detail *rows;
    dsb_quality *q;
    dsb_routing_layer *routing;
    int64_t n, n_quality, n_routing, n_moe = 0;
    double agreement = 0, any = NAN;
    dsb_err err = {0};
    sr_add_json(r, "{\"name\": \"coarse\", \"rules\": [{\"role\": \"*\", \"format\": \"int2\"}, {\"role\": \"lm_head\", \"format\": \"int2\"}]}");
    record(&x, r, 0);
    assert_int_equal(dsb_db_get_quality_detail(x.db, &r->arena, "test", "coarse", &rows, &n, &err), DSB_OK);
    assert_int_equal(dsb_db_get_quality(x.db, &r->arena, "test", "coarse", &q, &n_quality, &err), DSB_OK);
    for (int64_t i = 0; i < n; i++)
        if (strcmp(rows[i].kind, "top1_agreement_by_confidence") == 0 && rows[i].n > 0) agreement += rows[i].value * (double)rows[i].n;
    for (int64_t i = 0; i < n_quality; i++) {
        if (strcmp(q[i].metric, "flips_right_to_wrong") == 0) assert_true(detail_sum(rows, n, "flips_right_to_wrong_by_confidence", 10) == q[i].value);
        if (strcmp(q[i].metric, "flips_wrong_to_right") == 0) assert_true(detail_sum(rows, n, "flips_wrong_to_right_by_confidence", 10) == q[i].value);
        if (strcmp(q[i].metric, "top1_agreement") == 0) assert_true(fabs(agreement - q[i].value * (double)q[i].n) < 1e-9);
    }
    for (int64_t l = 0; l < r->m.config.n_layer; l++) n_moe += dsb_layer_is_moe(&r->m.config, l);
    assert_int_equal(dsb_db_get_routing_layer(x.db, &r->arena, "test", "coarse", &routing, &n_routing, &err), DSB_OK);
    for (int64_t i = 0; i < n_routing; i++)
        if (routing[i].layer < 0 && strcmp(routing[i].metric, "any_change") == 0) any = routing[i].value;
    assert_true(fabs(detail_sum(rows, n, "first_change", n_moe) - any * SR_CHUNKS * SR_CTX) < 1e-9);
    detail_sum(rows, n, "margin_decile", 10 * n_moe);
    detail_sum(rows, n, "margin_decile_predicted", 10 * n_moe);
    record_close(&x);
    sr_close(r);
}

/* What an expert does to the reference's own tokens is an isolated error, and its row says so; the counts are of the scheme's own stream. */
static void test_record__experts_have_a_row_of_each_kind(void **state) {
    sr_run *r = sr_open();
    recorded x;
    dsb_routing_expert *rows;
    int64_t n, tokens = 0, n_moe = 0, n_isolated = 0;
    dsb_err err = {0};
    sr_add_json(r, "{\"name\": \"coarse\", \"rules\": [{\"role\": \"*\", \"format\": \"int2\"}]}");
    record(&x, r, 0);
    assert_int_equal(dsb_db_get_routing_expert(x.db, &r->arena, "test", "coarse", &rows, &n, &err), DSB_OK);
    for (int64_t i = 0; i < n; i++) {
        bool isolated = strcmp(rows[i].kind, "isolated") == 0;
        assert_true(isolated || strcmp(rows[i].kind, "accumulated") == 0);
        assert_true(isolated ? rows[i].hits_test < 0 && rows[i].moved_away < 0 && isnan(rows[i].mass_ref) : rows[i].moved_to >= 0 && isnan(rows[i].nmse));
        assert_true(!isolated || (rows[i].hits_ref > 0) == !isnan(rows[i].nmse));
        n_isolated += isolated;
        if (isolated) tokens += rows[i].hits_ref;
    }
    for (int64_t l = 0; l < r->m.config.n_layer; l++) n_moe += dsb_layer_is_moe(&r->m.config, l);
    assert_int_equal(n_isolated, n_moe * r->m.config.n_expert);
    assert_int_equal(n, 2 * n_isolated);
    assert_int_equal(tokens, n_moe * 2 * SR_CTX * r->m.config.router.k); /* chunks 0 and 2 are sampled */
    record_close(&x);
    sr_close(r);
}

static double across(const dsb_routing_layer *rows, int64_t n, const char *metric) {
    for (int64_t i = 0; i < n; i++)
        if (rows[i].layer < 0 && strcmp(rows[i].metric, metric) == 0) return rows[i].value;
    fail_msg("%s is missing", metric);
    return 0;
}

/* Layer numbers are the model's, dense blocks included; and a layer without new experts doesn't undo the mean rank of the others. */
static void test_record__routing_over_layers(void **state) {
    sr_run *r = sr_open();
    recorded x;
    dsb_routing_layer *rows;
    dsb_quality *quality;
    int64_t n, n_quality;
    dsb_err err = {0};
    sr_add_json(r, "{\"name\": \"coarse\", \"rules\": [{\"role\": \"*\", \"format\": \"int2\"}]}");
    record(&x, r, 0);
    double tokens = 0, sum = 0, rank = 0, layers = 0;
    for (int t = 0; t < SR_CHUNKS * SR_CTX; t++)
        for (int64_t l = 0; l < r->m.config.n_layer; l++) {
            const int32_t *changed = x.rec.changed[l];
            if (!changed || !changed[t]) continue;
            tokens++;
            sum += (double)l;
            break;
        }
    assert_int_equal(dsb_db_get_routing_layer(x.db, &r->arena, "test", "coarse", &rows, &n, &err), DSB_OK);
    assert_int_equal(dsb_db_get_quality(x.db, &r->arena, "test", "coarse", &quality, &n_quality, &err), DSB_OK);
    if (tokens > 0) assert_true(across(rows, n, "first_layer_mean") == sum / tokens);
    for (int64_t i = 0; i < n; i++) {
        if (rows[i].layer < 0 || strcmp(rows[i].kind, "accumulated") != 0 || strcmp(rows[i].metric, "rank_of_new") != 0 || isnan(rows[i].value)) continue;
        rank += rows[i].value;
        layers++;
    }
    for (int64_t i = 0; i < n_quality; i++)
        if (strcmp(quality[i].metric, "rank_of_new") == 0 && layers > 0) assert_true(fabs(quality[i].value - rank / layers) <= 1e-12 * rank);
    record_close(&x);
    sr_close(r);
}

/* A scheme that keeps every tensor is as large as the checkpoint, and counts its parameters once. */
static void test_record__a_kept_model_has_its_checkpoint_s_size(void **state) {
    sr_run *r = sr_open();
    recorded x;
    dsb_scheme_record *rows;
    int64_t n;
    dsb_err err = {0};
    sr_add_json(r, "{\"name\": \"kept\", \"rules\": [{\"role\": \"*\", \"format\": \"keep\"}]}");
    record(&x, r, 0);
    assert_int_equal(dsb_db_get_scheme(x.db, &r->arena, "test", "kept", &rows, &n, &err), DSB_OK);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].weight_bytes, r->m.checkpoint.bytes);
    assert_int_equal(rows[0].n_param, dsb_model_params(&r->m.config));
    record_close(&x);
    sr_close(r);
}

/* The first one is named down to the token; and a position without finite logits is neither right nor wrong. */
static void test_record__a_value_that_is_not_finite_is_located(void **state) {
    sr_run *r = sr_open();
    recorded x;
    dsb_observer obs;
    dsb_chunk_quality *chunks;
    dsb_event *events;
    int64_t n, bad_row = SR_CTX - 1 + 4; /* chunk 1, position 4: a chunk has SR_CTX - 1 scored positions */
    dsb_err err = {0};
    sr_add_json(r, "{\"name\": \"kept\", \"rules\": [{\"role\": \"*\", \"format\": \"keep\"}]}");
    record_sweep(&x, r, 0, &obs);
    dsb_moments bad = {.n = SR_CTX * r->m.config.d_model, .nonfinite = 3, .first_bad = 5 * r->m.config.d_model + 2};
    dsb_layer_event e = {.scheme = 0, .layer = 2, .chunk = 1, .point = DSB_POINT_MLP, .kind = DSB_KIND_ACCUMULATED, .moments = &bad};
    assert_int_equal(obs.layer(obs.ctx, &e, &err), DSB_OK);
    for (int i = 0; i < 2; i++) x.rec.logits[i * x.rec.n_scored + bad_row].nonfinite = 1;
    assert_int_equal(dsb_recorder_finish(&x.rec, &r->cal, &err), DSB_OK);
    assert_string_equal(x.rec.nonfinite_text, "scheme kept, layer 2, mlp output (accumulated), chunk 1, token position 5: 3 NaN or Inf");
    assert_string_equal(x.rec.bad[0].where, "logits, chunk 1, token position 4");
    assert_int_equal(dsb_db_get_event(x.db, &r->arena, "test", NULL, &events, &n, &err), DSB_OK);
    assert_int_equal(n, 2);
    assert_string_equal(events[0].text, "1 NaN or Inf, the first in logits, chunk 1, token position 4");
    assert_string_equal(events[1].text, "4 NaN or Inf, the first in layer 2, mlp output (accumulated), chunk 1, token position 5");
    assert_true(strcmp(events[1].level, "error") == 0 && events[1].layer == 2 && events[0].layer == -1);
    assert_true(x.rec.bad[0].n == 1 && x.rec.bad[1].n == 4 && x.rec.nonfinite == 5);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dsb_db_get_chunk_quality(x.db, &r->arena, "test", i ? "kept" : "reference", &chunks, &n, &err), DSB_OK);
        assert_int_equal(n, SR_CHUNKS);
        assert_true(isnan(chunks[1].accuracy_ref) && isnan(chunks[1].accuracy_test));
        assert_true(!isnan(chunks[0].accuracy_ref) && chunks[0].accuracy_ref == chunks[0].accuracy_test);
    }
    record_close(&x);
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record__a_value_that_is_not_finite_is_located),
        cmocka_unit_test(test_record__tests_that_divide_nothing_and_lost_ranges_are_said),
        cmocka_unit_test(test_record__a_tensor_has_its_rule_s_grouping_and_algorithm),
        cmocka_unit_test(test_record__details_add_up_to_the_figures),
        cmocka_unit_test(test_record__experts_have_a_row_of_each_kind),
        cmocka_unit_test(test_record__routing_over_layers),
        cmocka_unit_test(test_record__a_kept_model_has_its_checkpoint_s_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
