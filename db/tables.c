/* Which struct field is which column. */
#include "db/tables.h"

#include "db/rows.h"

#define TEXT(type, field) { #field, DSB_COL_TEXT, offsetof(type, field) }
#define INT(type, field) { #field, DSB_COL_INT, offsetof(type, field) }
#define COUNT(type, field) { #field, DSB_COL_COUNT, offsetof(type, field) }
#define REAL(type, field) { #field, DSB_COL_REAL, offsetof(type, field) }
#define MOMENT(type, field, kind) { #field, kind, offsetof(type, m.field) }
#define MOMENTS(type)                                                                                      \
    MOMENT(type, n, DSB_COL_INT), MOMENT(type, nonfinite, DSB_COL_INT), MOMENT(type, first_bad, DSB_COL_COUNT), \
    MOMENT(type, xx, DSB_COL_REAL), MOMENT(type, yy, DSB_COL_REAL), MOMENT(type, xy, DSB_COL_REAL),        \
    MOMENT(type, dd, DSB_COL_REAL), MOMENT(type, max_diff, DSB_COL_REAL), MOMENT(type, max_x, DSB_COL_REAL), \
    MOMENT(type, max_y, DSB_COL_REAL)
#define TABLE(name, columns, type, scheme, order) \
    { name, columns, (int)(sizeof columns / sizeof *columns), sizeof(type), scheme, order, NULL, 0 }
/* A view over a table that is kept small (db/schema.c, version 4). */
#define PACKED(name, columns, type, order, put) \
    { name, columns, (int)(sizeof columns / sizeof *columns), sizeof(type), "scheme", order, put, (int)(sizeof put / sizeof *put) }
#define SCHEME_ID "(SELECT id FROM scheme WHERE run_id = ?1 AND name = ?2)"

#define T dsb_scheme_record
static const dsb_column scheme[] = {
    TEXT(T, name), INT(T, ordinal), TEXT(T, what), TEXT(T, recipe_json), TEXT(T, source), TEXT(T, kernels),
    COUNT(T, weight_bytes), COUNT(T, n_param), REAL(T, bpw_total), REAL(T, bpw_blocks),
};
#undef T
#define T dsb_recipe_rule_row
static const dsb_column recipe_rule[] = {
    TEXT(T, scheme), INT(T, ordinal), TEXT(T, pattern), TEXT(T, format), TEXT(T, grouping), TEXT(T, algorithm),
    TEXT(T, activation), TEXT(T, condition),
};
#undef T
#define T dsb_tensor_error
static const dsb_column tensor_error[] = {
    TEXT(T, scheme), TEXT(T, tensor), TEXT(T, role), INT(T, layer), INT(T, expert), MOMENTS(T), COUNT(T, stored_bytes),
    COUNT(T, n_weight), REAL(T, bpw), TEXT(T, format), TEXT(T, grouping), TEXT(T, algorithm), TEXT(T, kernel),
};
#undef T
/* ?3 tensor, ?4 role, ?5 layer, ?6 expert, ?7 n, ?8 nonfinite, ?9 first_bad, ?10 xx, ?11 yy, ?12 xy, ?13 dd, ?14 max_diff, ?15 max_x, ?16 max_y, ?17 stored_bytes, ?18 n_weight, ?19 bpw,
 * ?20 format, ?21 grouping, ?22 algorithm, ?23 kernel */
#define THE_WEIGHT "FROM weight WHERE tensor = ?3 AND role IS ?4 AND layer = ?5 AND expert = ?6 AND n IS ?7 AND xx IS ?10 AND max_x IS ?15 AND n_weight IS ?18"
#define THE_FORMAT "FROM weight_format WHERE format IS ?20 AND grouping IS ?21 AND algorithm IS ?22 AND kernel IS ?23"
static const char *const put_tensor[] = {
    "INSERT INTO weight (tensor, role, layer, expert, n, xx, max_x, n_weight) SELECT ?3, ?4, ?5, ?6, ?7, ?10, ?15, ?18 WHERE NOT EXISTS (SELECT 1 " THE_WEIGHT ")",
    "INSERT INTO weight_format (format, grouping, algorithm, kernel) SELECT ?20, ?21, ?22, ?23 WHERE NOT EXISTS (SELECT 1 " THE_FORMAT ")",
    "INSERT INTO tensor_row (scheme_id, layer, weight_id, format_id, nonfinite, first_bad, yy, xy, dd, max_diff, max_y, stored_bytes) VALUES (" SCHEME_ID ", ?5, (SELECT id " THE_WEIGHT "),"
    " (SELECT id " THE_FORMAT "), ?8, ?9, ?11, ?12, ?13, ?14, ?16, ?17) ON CONFLICT DO UPDATE SET format_id = excluded.format_id, nonfinite = excluded.nonfinite, first_bad = excluded.first_bad,"
    " yy = excluded.yy, xy = excluded.xy, dd = excluded.dd, max_diff = excluded.max_diff, max_y = excluded.max_y, stored_bytes = excluded.stored_bytes",
};
#define T dsb_layer_error
static const dsb_column layer_error[] = {
    TEXT(T, scheme), INT(T, layer), TEXT(T, point), TEXT(T, kind), MOMENTS(T), REAL(T, f16_headroom_bits), REAL(T, saturation),
};
#undef T
#define T dsb_routing_layer
static const dsb_column routing_layer[] = {
    TEXT(T, scheme), INT(T, layer), TEXT(T, kind), TEXT(T, metric), REAL(T, value), COUNT(T, n), TEXT(T, unit),
};
#undef T
#define T dsb_routing_expert
static const dsb_column routing_expert[] = {
    TEXT(T, scheme), INT(T, layer), INT(T, expert), TEXT(T, kind), COUNT(T, hits_ref), COUNT(T, hits_test),
    COUNT(T, moved_away), COUNT(T, moved_to), REAL(T, mass_ref), REAL(T, mass_test), REAL(T, nmse),
};
#undef T
static const char *const put_expert[] = {
    "INSERT INTO expert_row (scheme_id, layer, expert, kind, hits_ref, hits_test, moved_away, moved_to, mass_ref, mass_test, nmse) VALUES (" SCHEME_ID
    ", ?3, ?4, CASE ?5 WHEN 'accumulated' THEN 0 WHEN 'block' THEN 1 WHEN 'isolated' THEN 2 END, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO UPDATE SET hits_ref = excluded.hits_ref,"
    " hits_test = excluded.hits_test, moved_away = excluded.moved_away, moved_to = excluded.moved_to, mass_ref = excluded.mass_ref, mass_test = excluded.mass_test, nmse = excluded.nmse",
};
static const char *const put_coverage[] = {
    "INSERT INTO coverage_row (scheme_id, layer, expert, tokens, minimum, fallback) VALUES (" SCHEME_ID ", ?3, ?4, ?5, ?6, ?7)"
    " ON CONFLICT DO UPDATE SET tokens = excluded.tokens, minimum = excluded.minimum, fallback = excluded.fallback",
};
#define T dsb_chunk_quality
static const dsb_column chunk_quality[] = {
    TEXT(T, scheme), INT(T, chunk), COUNT(T, n), COUNT(T, n_target), REAL(T, nll_ref), REAL(T, nll_test), REAL(T, kld),
    REAL(T, top1), REAL(T, accuracy_ref), REAL(T, accuracy_test), REAL(T, selection_change), REAL(T, slot_change),
};
#undef T
#define T dsb_quality
static const dsb_column quality[] = {
    TEXT(T, scheme), TEXT(T, metric), REAL(T, value), REAL(T, lo), REAL(T, hi), COUNT(T, n), TEXT(T, unit),
};
#undef T
#define T dsb_quality_detail
static const dsb_column quality_detail[] = {
    TEXT(T, scheme), TEXT(T, kind), INT(T, layer), INT(T, bin), TEXT(T, label), REAL(T, lo), REAL(T, hi), REAL(T, value), COUNT(T, n),
};
#undef T
#define T dsb_task_item
static const dsb_column task_item[] = {
    TEXT(T, scheme), INT(T, item), COUNT(T, gold), COUNT(T, answer), COUNT(T, answer_norm), REAL(T, loglik_gold), REAL(T, margin),
};
#undef T
#define T dsb_throughput
static const dsb_column throughput[] = {
    TEXT(T, scheme), TEXT(T, phase), INT(T, n_token), INT(T, depth), INT(T, batch), COUNT(T, repeats), REAL(T, tps_median),
    REAL(T, tps_min), REAL(T, tps_max), REAL(T, gbps), REAL(T, gops), REAL(T, roofline_percent), REAL(T, busy_percent),
    REAL(T, triad_gbps), REAL(T, read_gbps), REAL(T, peak_gops), COUNT(T, weight_bytes), REAL(T, ttft_ms), REAL(T, tpot_ms),
    REAL(T, tpot_p50_ms), REAL(T, tpot_p99_ms), TEXT(T, kernel),
};
#undef T
#define T dsb_calibration_coverage
static const dsb_column calibration_coverage[] = {
    TEXT(T, scheme), INT(T, layer), INT(T, expert), COUNT(T, tokens), COUNT(T, minimum), TEXT(T, fallback),
};
#undef T
#define T dsb_event
static const dsb_column event[] = {
    INT(T, seq), TEXT(T, scheme), INT(T, layer), TEXT(T, level), TEXT(T, text),
};
#undef T

const dsb_table dsb_tables[DSB_TABLE_COUNT] = {
    [DSB_TABLE_SCHEME] = TABLE("scheme", scheme, dsb_scheme_record, "name", "ordinal, name"),
    [DSB_TABLE_RECIPE_RULE] = TABLE("recipe_rule", recipe_rule, dsb_recipe_rule_row, "scheme", "scheme, ordinal"),
    [DSB_TABLE_TENSOR_ERROR] = PACKED("tensor_error", tensor_error, dsb_tensor_error, "scheme, layer, tensor", put_tensor),
    [DSB_TABLE_LAYER_ERROR] = TABLE("layer_error", layer_error, dsb_layer_error, "scheme", "scheme, layer, point, kind"),
    [DSB_TABLE_ROUTING_LAYER] = TABLE("routing_layer", routing_layer, dsb_routing_layer, "scheme", "scheme, layer, kind, metric"),
    [DSB_TABLE_ROUTING_EXPERT] = PACKED("routing_expert", routing_expert, dsb_routing_expert, "scheme, layer, expert, kind_order", put_expert),
    [DSB_TABLE_CHUNK_QUALITY] = TABLE("chunk_quality", chunk_quality, dsb_chunk_quality, "scheme", "scheme, chunk"),
    [DSB_TABLE_QUALITY] = TABLE("quality", quality, dsb_quality, "scheme", "scheme, metric"),
    [DSB_TABLE_QUALITY_DETAIL] = TABLE("quality_detail", quality_detail, dsb_quality_detail, "scheme", "scheme, kind, layer, bin"),
    [DSB_TABLE_TASK_ITEM] = TABLE("task_item", task_item, dsb_task_item, "scheme", "scheme, item"),
    [DSB_TABLE_THROUGHPUT] = TABLE("throughput", throughput, dsb_throughput, "scheme", "scheme, phase, n_token, depth, batch"),
    [DSB_TABLE_CALIBRATION_COVERAGE] = PACKED("calibration_coverage", calibration_coverage, dsb_calibration_coverage, "scheme, layer, expert", put_coverage),
    [DSB_TABLE_EVENT] = TABLE("event", event, dsb_event, "scheme", "seq"),
};

#define T dsb_run_record
static const dsb_column run[] = {
    TEXT(T, id), TEXT(T, created_utc), TEXT(T, status), TEXT(T, command_line), TEXT(T, suite_json), TEXT(T, convention),
    TEXT(T, build_version), TEXT(T, build_hash), TEXT(T, isa), TEXT(T, device), COUNT(T, n_ctx), COUNT(T, n_chunk),
    COUNT(T, n_token), COUNT(T, n_scored), INT(T, seed), COUNT(T, threads), REAL(T, wall_s), COUNT(T, peak_rss_bytes),
    TEXT(T, task_path), TEXT(T, task_sha256), COUNT(T, n_item),
};
#undef T
#define T dsb_host_facts
static const dsb_column host[] = { TEXT(T, name_hash), TEXT(T, cpu), TEXT(T, os), COUNT(T, cores), COUNT(T, memory_bytes) };
#undef T
#define T dsb_model_facts
static const dsb_column model[] = {
    TEXT(T, path), TEXT(T, name), TEXT(T, arch), TEXT(T, sha256), COUNT(T, n_param), COUNT(T, n_layer), COUNT(T, d_model),
    COUNT(T, n_expert), COUNT(T, k), COUNT(T, bytes),
};
#undef T
#define T dsb_dataset_facts
static const dsb_column dataset[] = { TEXT(T, path), TEXT(T, name), TEXT(T, sha256), COUNT(T, bytes), COUNT(T, reflowed) };

#undef T
#define T dsb_bench_row
static const dsb_column bench[] = {
    TEXT(T, bench), TEXT(T, created_utc), TEXT(T, command_line), TEXT(T, build_version), TEXT(T, build_hash), TEXT(T, isa), TEXT(T, device), COUNT(T, threads), TEXT(T, kind), TEXT(T, name), TEXT(T, phase),
    TEXT(T, shape), TEXT(T, routing), COUNT(T, n_token), COUNT(T, depth), COUNT(T, batch), COUNT(T, repeats), REAL(T, seconds), REAL(T, seconds_min), REAL(T, seconds_max), REAL(T, tps),
    REAL(T, p50_ms), REAL(T, p99_ms), REAL(T, gops), REAL(T, gbps), REAL(T, roofline_percent), TEXT(T, bound), REAL(T, busy_percent), REAL(T, steal_percent), INT(T, clean), REAL(T, read_gbps),
    REAL(T, triad_gbps), REAL(T, f32_gflops), REAL(T, bf16_gflops), REAL(T, int8_gops), REAL(T, fp8_gflops), REAL(T, sm_mhz),
    REAL(T, power_w), REAL(T, temperature_c), REAL(T, energy_j), COUNT(T, device_bytes), TEXT(T, kernel),
};

const dsb_table dsb_table_run = TABLE("run", run, dsb_run_record, NULL, NULL);
const dsb_table dsb_table_host = TABLE("host", host, dsb_host_facts, NULL, NULL);
const dsb_table dsb_table_model = TABLE("model", model, dsb_model_facts, NULL, NULL);
const dsb_table dsb_table_dataset = TABLE("dataset", dataset, dsb_dataset_facts, NULL, NULL);
const dsb_table dsb_table_bench = TABLE("bench", bench, dsb_bench_row, NULL, NULL);
