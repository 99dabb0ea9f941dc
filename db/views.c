/* Views for the common questions, made anew with every migration, so that they may change; and `about`, what every table and column means and in which unit. Their comments are kept
 * in the file and shown by any SQLite browser. Examples: docs/database.md. */
#include "db/schema.h"

#define VIEW(name, what) "DROP VIEW IF EXISTS " name ";CREATE VIEW " name " AS -- " what "\n"
#define FIGURE(name, point, kind) " max(CASE WHEN e.point = '" point "' AND e.kind = '" kind "' AND e.nonfinite = 0 THEN e.dd / nullif(e.xx, 0) END) AS " name ","
#define ROUTING(name, metric, kind) " (SELECT value FROM routing_layer r WHERE r.run_id = e.run_id AND r.scheme = e.scheme AND r.layer = e.layer AND r.kind = '" kind "' AND r.metric = '" metric "') AS " name
/* Runs whose figures may be set beside each other: as `dsbench compare` asks, but for the reference's arithmetic, which the suite's JSON tells. */
#define COMPARABLE                                                                                                                      \
    " JOIN run ra ON ra.id = a.run_id JOIN run rb ON rb.id = b.run_id JOIN model ma ON ma.id = ra.model_id JOIN model mb ON mb.id = rb.model_id" \
    " JOIN dataset da ON da.id = ra.dataset_id JOIN dataset db ON db.id = rb.dataset_id"                                                \
    " WHERE a.run_id <> b.run_id AND ma.sha256 IS mb.sha256 AND da.sha256 IS db.sha256 AND ra.convention IS rb.convention"              \
    " AND ra.n_ctx IS rb.n_ctx AND ra.n_chunk IS rb.n_chunk AND ra.n_scored IS rb.n_scored"

const char dsb_db_views[] =
    VIEW("layer_damage", "where damage arises: one row a layer; nmse, and share of tokens whose experts change")
    " SELECT e.run_id, e.scheme, e.layer," FIGURE("attention_isolated", "attention", "isolated") FIGURE("mlp_isolated", "mlp", "isolated")
    FIGURE("block_isolated", "block", "isolated") FIGURE("attention_accumulated", "attention", "accumulated") FIGURE("mlp_accumulated", "mlp", "accumulated")
    FIGURE("block_accumulated", "block", "accumulated") ROUTING("selection_change_isolated", "selection_change", "isolated") ","
    ROUTING("selection_change_block", "selection_change", "block") "," ROUTING("selection_change_accumulated", "selection_change", "accumulated") ","
    " sum(e.nonfinite) AS nonfinite FROM layer_error e GROUP BY e.run_id, e.scheme, e.layer;"

    VIEW("role_error", "which kind of weights: error and bits of all tensors of a role together")
    " SELECT run_id, scheme, role, count(*) AS tensors, sum(n_weight) AS n_weight, sum(stored_bytes) AS stored_bytes, 8.0 * sum(stored_bytes) / nullif(sum(n_weight), 0) AS bpw,"
    " CASE WHEN sum(nonfinite) = 0 THEN sum(dd) / nullif(sum(xx), 0) END AS nmse, sum(nonfinite) AS nonfinite, group_concat(DISTINCT format) AS formats"
    " FROM tensor_error GROUP BY run_id, scheme, role;"

    VIEW("figure_history", "every figure with its run's time, build and host, oldest first: trends")
    " SELECT r.created_utc, q.run_id, r.status, r.build_version, r.build_hash, h.name_hash AS host, m.name AS model, d.name AS text, r.convention, r.n_ctx, r.n_chunk,"
    " q.scheme, q.metric, q.value, q.lo, q.hi, q.n, q.unit"
    " FROM quality q JOIN run r ON r.id = q.run_id JOIN host h ON h.id = r.host_id JOIN model m ON m.id = r.model_id JOIN dataset d ON d.id = r.dataset_id"
    " ORDER BY r.created_utc, q.run_id, q.scheme, q.metric;"

    VIEW("speed_history", "tokens/s by host, oldest first; only rows of one host, one level of kernels and as many threads compare")
    " SELECT r.created_utc, t.run_id, r.build_version, r.build_hash, h.name_hash AS host, h.cpu, r.device, r.isa, r.threads, m.name AS model, t.scheme, t.phase, t.n_token, t.depth, t.batch,"
    " t.tps_median, t.tps_min, t.tps_max, t.gbps, t.roofline_percent, t.busy_percent"
    " FROM throughput t JOIN run r ON r.id = t.run_id JOIN host h ON h.id = r.host_id JOIN model m ON m.id = r.model_id ORDER BY r.created_utc, t.run_id, t.scheme, t.phase;"

    VIEW("figure_pairs", "the same figure in two comparable runs; verdicts are `dsbench compare`'s")
    " SELECT a.run_id AS base_run, b.run_id AS head_run, a.scheme, a.metric, a.value AS base, b.value AS head, b.value - a.value AS difference, a.unit"
    " FROM quality a JOIN quality b ON b.scheme = a.scheme AND b.metric = a.metric" COMPARABLE ";"

    VIEW("chunk_pairs", "the same chunk in two comparable runs, head less base: what paired tests are made of")
    " SELECT a.run_id AS base_run, b.run_id AS head_run, a.scheme, a.chunk, (b.nll_test - b.nll_ref) - (a.nll_test - a.nll_ref) AS delta_nll, b.kld - a.kld AS kld,"
    " b.top1 - a.top1 AS top1, b.selection_change - a.selection_change AS selection_change, b.slot_change - a.slot_change AS slot_change"
    " FROM chunk_quality a JOIN chunk_quality b ON b.scheme = a.scheme AND b.chunk = a.chunk" COMPARABLE ";"

    VIEW("pareto", "schemes that no other scheme of the run beats in both size and divergence")
    " SELECT s.run_id, s.scheme, s.bpw_total, s.weight_bytes, s.kld_mean, s.delta_nll, s.prefill_tps, s.decode_tps FROM scheme_summary s"
    " WHERE s.kld_mean IS NOT NULL AND s.scheme <> 'reference' AND NOT EXISTS (SELECT 1 FROM scheme x JOIN quality q ON q.run_id = x.run_id AND q.scheme = x.name AND q.metric = 'kld_mean'"
    " WHERE x.run_id = s.run_id AND x.name <> 'reference' AND x.weight_bytes <= s.weight_bytes AND q.value <= s.kld_mean AND (x.weight_bytes < s.weight_bytes OR q.value < s.kld_mean));"

    VIEW("independence", "how much less a run's positions tell than as many independent ones")
    " SELECT q.run_id, q.scheme, replace(q.metric, '_design_effect', '') AS metric, q.value AS design_effect, q.n AS positions, q.n / nullif(q.value, 0) AS independent_positions,"
    " (q.value - 1) / nullif(q.n * 1.0 / nullif(r.n_chunk, 0) - 1, 0) AS chunk_correlation FROM quality q JOIN run r ON r.id = q.run_id WHERE q.metric LIKE '%\\_design\\_effect' ESCAPE '\\';"

    VIEW("coverage_gap", "experts and tensors that calibration gave too few tokens, and what stood in")
    " SELECT run_id, scheme, layer, expert, tokens, minimum, fallback FROM calibration_coverage WHERE tokens < minimum OR fallback IS NOT NULL ORDER BY run_id, scheme, tokens;"

    VIEW("trouble", "warnings, errors, and outputs with values that are not finite")
    " SELECT run_id, scheme, layer, level, text FROM event WHERE level <> 'info'"
    " UNION ALL SELECT run_id, scheme, layer, 'nonfinite', nonfinite || ' values of ' || point || ', ' || kind FROM layer_error WHERE nonfinite > 0;"

    VIEW("about", "what tables, views and columns mean; table_name * : wherever a column has that name")
    " SELECT column1 AS table_name, column2 AS column_name, column3 AS unit, column4 AS meaning FROM (VALUES"
#include "db/about.inc"
    ");";
