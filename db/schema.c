/* The record's tables and views, version by version. Raw sums are stored, figures are derived: nmse = dd/xx, cosine = xy/√(xx·yy) … (docs/METRICS.md).
 * Everything that belongs to a scheme hangs on scheme(run_id, name), or its number scheme(id): deleting a scheme deletes its rows. */
#include "db/schema.h"

#define OF_SCHEME                                                                     \
    " run_id TEXT NOT NULL, scheme TEXT NOT NULL,"
#define OF_SCHEME_KEY                                                                 \
    " FOREIGN KEY (run_id, scheme) REFERENCES scheme (run_id, name) ON DELETE CASCADE"
#define MOMENTS                                                                       \
    " n INTEGER, nonfinite INTEGER, first_bad INTEGER, xx REAL, yy REAL, xy REAL, dd REAL," \
    " max_diff REAL, max_x REAL, max_y REAL,"
/* The sums leave values out that are not finite: what has one has no figure, only its count. */
#define DERIVED                                                                       \
    " CASE WHEN nonfinite = 0 THEN dd / nullif(xx, 0) END AS nmse,"                   \
    " CASE WHEN nonfinite = 0 THEN sqrt(dd / nullif(xx, 0)) END AS rel_l2,"           \
    " CASE WHEN nonfinite = 0 AND dd > 0 AND xx > 0 THEN -10 * log10(dd / xx) END AS sqnr_db," \
    " CASE WHEN nonfinite = 0 THEN xy / nullif(sqrt(xx * yy), 0) END AS cosine"

static const char version_1[] =
    "CREATE TABLE host (id INTEGER PRIMARY KEY, name_hash TEXT, cpu TEXT, os TEXT, cores INTEGER, memory_bytes INTEGER) STRICT;"
    "CREATE TABLE model (id INTEGER PRIMARY KEY, path TEXT, name TEXT, arch TEXT, sha256 TEXT, n_param INTEGER,"
    " n_layer INTEGER, d_model INTEGER, n_expert INTEGER, k INTEGER, bytes INTEGER) STRICT;"
    "CREATE TABLE dataset (id INTEGER PRIMARY KEY, path TEXT, name TEXT, sha256 TEXT, bytes INTEGER, reflowed INTEGER) STRICT;"

    "CREATE TABLE run (id TEXT PRIMARY KEY NOT NULL, created_utc TEXT NOT NULL,"
    " status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'nonfinite')),"
    " command_line TEXT, suite_json TEXT, convention TEXT, build_version TEXT, build_hash TEXT, isa TEXT, device TEXT,"
    " n_ctx INTEGER, n_chunk INTEGER, n_token INTEGER, n_scored INTEGER, seed INTEGER, threads INTEGER,"
    " wall_s REAL, peak_rss_bytes INTEGER,"
    " host_id INTEGER NOT NULL REFERENCES host (id), model_id INTEGER NOT NULL REFERENCES model (id),"
    " dataset_id INTEGER NOT NULL REFERENCES dataset (id), calibration_id INTEGER NOT NULL REFERENCES dataset (id)) STRICT;"
    "CREATE INDEX run_created ON run (created_utc);"

    "CREATE TABLE scheme (run_id TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " ordinal INTEGER NOT NULL, what TEXT, recipe_json TEXT, source TEXT, kernels TEXT,"
    " weight_bytes INTEGER, n_param INTEGER, bpw_total REAL, bpw_blocks REAL,"
    " PRIMARY KEY (run_id, name)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE recipe_rule (" OF_SCHEME " ordinal INTEGER NOT NULL, pattern TEXT, format TEXT, grouping TEXT,"
    " algorithm TEXT, activation TEXT, condition TEXT,"
    " PRIMARY KEY (run_id, scheme, ordinal)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE tensor_error (" OF_SCHEME " tensor TEXT NOT NULL, role TEXT, layer INTEGER NOT NULL, expert INTEGER NOT NULL,"
    MOMENTS " stored_bytes INTEGER, n_weight INTEGER, bpw REAL, format TEXT, grouping TEXT, algorithm TEXT, kernel TEXT,"
    " PRIMARY KEY (run_id, scheme, layer, tensor)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE layer_error (" OF_SCHEME " layer INTEGER NOT NULL, point TEXT NOT NULL, kind TEXT NOT NULL,"
    MOMENTS " f16_headroom_bits REAL, saturation REAL,"
    " PRIMARY KEY (run_id, scheme, layer, point, kind)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE routing_layer (" OF_SCHEME " layer INTEGER NOT NULL, kind TEXT NOT NULL, metric TEXT NOT NULL,"
    " value REAL, n INTEGER, unit TEXT,"
    " PRIMARY KEY (run_id, scheme, layer, kind, metric)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE routing_expert (" OF_SCHEME " layer INTEGER NOT NULL, expert INTEGER NOT NULL, kind TEXT NOT NULL,"
    " hits_ref INTEGER, hits_test INTEGER, moved_away INTEGER, moved_to INTEGER, mass_ref REAL, mass_test REAL, nmse REAL,"
    " PRIMARY KEY (run_id, scheme, layer, expert, kind)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE chunk_quality (" OF_SCHEME " chunk INTEGER NOT NULL, n INTEGER, n_target INTEGER, nll_ref REAL,"
    " nll_test REAL, kld REAL, top1 REAL, accuracy_ref REAL, accuracy_test REAL, selection_change REAL, slot_change REAL,"
    " PRIMARY KEY (run_id, scheme, chunk)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE quality (" OF_SCHEME " metric TEXT NOT NULL, value REAL, lo REAL, hi REAL, n INTEGER, unit TEXT,"
    " PRIMARY KEY (run_id, scheme, metric)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE quality_detail (" OF_SCHEME " kind TEXT NOT NULL, layer INTEGER NOT NULL, bin INTEGER NOT NULL, label TEXT,"
    " lo REAL, hi REAL, value REAL, n INTEGER,"
    " PRIMARY KEY (run_id, scheme, kind, layer, bin)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE throughput (" OF_SCHEME " phase TEXT NOT NULL, n_token INTEGER NOT NULL, depth INTEGER NOT NULL,"
    " batch INTEGER NOT NULL, repeats INTEGER, tps_median REAL, tps_min REAL, tps_max REAL, gbps REAL, gops REAL,"
    " roofline_percent REAL, busy_percent REAL, triad_gbps REAL, read_gbps REAL, peak_gops REAL, weight_bytes INTEGER,"
    " ttft_ms REAL, tpot_ms REAL, tpot_p50_ms REAL, tpot_p99_ms REAL, kernel TEXT,"
    " PRIMARY KEY (run_id, scheme, phase, n_token, depth, batch)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE calibration_coverage (" OF_SCHEME " layer INTEGER NOT NULL, expert INTEGER NOT NULL, tokens INTEGER,"
    " minimum INTEGER, fallback TEXT,"
    " PRIMARY KEY (run_id, scheme, layer, expert)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE event (run_id TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE, seq INTEGER NOT NULL, scheme TEXT,"
    " layer INTEGER, level TEXT NOT NULL, text TEXT, PRIMARY KEY (run_id, seq)) STRICT, WITHOUT ROWID;"

    "CREATE VIEW run_facts AS SELECT run.*, model.name AS model, model.arch, model.sha256 AS model_sha256,"
    " dataset.name AS text, dataset.sha256 AS text_sha256, calibration.name AS calibration_text, host.cpu, host.os, host.cores"
    " FROM run JOIN model ON model.id = model_id JOIN dataset ON dataset.id = dataset_id"
    " JOIN dataset AS calibration ON calibration.id = calibration_id JOIN host ON host.id = host_id;"

    "CREATE VIEW tensor_figures AS SELECT *," DERIVED " FROM tensor_error;"
    "CREATE VIEW worst_layer AS SELECT *," DERIVED " FROM layer_error ORDER BY run_id, nonfinite > 0 DESC, nmse DESC;"
    "CREATE VIEW worst_expert AS SELECT a.run_id, a.scheme, a.layer, a.expert, a.hits_ref, a.hits_test, a.moved_away, a.moved_to,"
    " a.mass_ref, a.mass_test, i.nmse, i.hits_ref AS nmse_tokens,"
    " (a.moved_away + a.moved_to) * 1.0 / nullif(a.hits_ref + a.hits_test, 0) AS moved"
    " FROM routing_expert a LEFT JOIN routing_expert i ON i.run_id = a.run_id AND i.scheme = a.scheme AND i.layer = a.layer"
    " AND i.expert = a.expert AND i.kind = 'isolated' WHERE a.kind = 'accumulated' ORDER BY a.run_id, i.nmse DESC;"
    "CREATE VIEW scheme_summary AS SELECT s.run_id, s.ordinal, s.name AS scheme, s.bpw_total, s.bpw_blocks, s.weight_bytes,"
    " max(CASE q.metric WHEN 'ppl' THEN q.value END) AS ppl,"
    " max(CASE q.metric WHEN 'delta_nll' THEN q.value END) AS delta_nll,"
    " max(CASE q.metric WHEN 'delta_nll' THEN q.lo END) AS delta_nll_lo,"
    " max(CASE q.metric WHEN 'delta_nll' THEN q.hi END) AS delta_nll_hi,"
    " max(CASE q.metric WHEN 'kld_mean' THEN q.value END) AS kld_mean,"
    " max(CASE q.metric WHEN 'kld_p99' THEN q.value END) AS kld_p99,"
    " max(CASE q.metric WHEN 'top1_agreement' THEN q.value END) AS top1_agreement,"
    " (SELECT avg(value) FROM routing_layer r WHERE r.run_id = s.run_id AND r.scheme = s.name AND r.layer >= 0"
    "  AND r.kind = 'accumulated' AND r.metric = 'selection_change') AS selection_change,"
    " (SELECT CASE WHEN max(nonfinite) = 0 THEN max(dd / nullif(xx, 0)) END FROM layer_error l WHERE l.run_id = s.run_id AND l.scheme = s.name"
    "  AND l.kind = 'accumulated' AND l.point = 'block') AS worst_layer_nmse,"
    " (SELECT sum(nonfinite) FROM layer_error l WHERE l.run_id = s.run_id AND l.scheme = s.name) AS nonfinite,"
    " (SELECT max(tps_median) FROM throughput t WHERE t.run_id = s.run_id AND t.scheme = s.name AND t.phase = 'prefill') AS prefill_tps,"
    " (SELECT max(tps_median) FROM throughput t WHERE t.run_id = s.run_id AND t.scheme = s.name AND t.phase = 'decode') AS decode_tps"
    " FROM scheme s LEFT JOIN quality q ON q.run_id = s.run_id AND q.scheme = s.name GROUP BY s.run_id, s.name"
    " ORDER BY s.run_id, s.ordinal;";

/* Multiple choice: what was asked stands with the run, each item's answers in a table of their own. */
static const char version_2[] =
    "ALTER TABLE run ADD COLUMN task_path TEXT;"
    "ALTER TABLE run ADD COLUMN task_sha256 TEXT;"
    "ALTER TABLE run ADD COLUMN n_item INTEGER;"
    "CREATE TABLE task_item (" OF_SCHEME " item INTEGER NOT NULL, gold INTEGER, answer INTEGER, answer_norm INTEGER, loglik_gold REAL, margin REAL,"
    " PRIMARY KEY (run_id, scheme, item)," OF_SCHEME_KEY ") STRICT, WITHOUT ROWID;";

/* Measurements of speed alone belong to no run. */
static const char version_3[] =
    "CREATE TABLE bench (id INTEGER PRIMARY KEY, bench TEXT NOT NULL, created_utc TEXT NOT NULL, command_line TEXT, build_version TEXT, build_hash TEXT,"
    " isa TEXT, device TEXT, threads INTEGER, kind TEXT NOT NULL CHECK (kind IN ('model', 'kernel')), name TEXT NOT NULL, phase TEXT, shape TEXT, routing TEXT,"
    " n_token INTEGER, depth INTEGER, batch INTEGER, repeats INTEGER, seconds REAL, seconds_min REAL, seconds_max REAL, tps REAL, p50_ms REAL, p99_ms REAL,"
    " gops REAL, gbps REAL, roofline_percent REAL, bound TEXT, busy_percent REAL, steal_percent REAL, clean INTEGER NOT NULL,"
    " read_gbps REAL, triad_gbps REAL, f32_gflops REAL, bf16_gflops REAL, int8_gops REAL, kernel TEXT,"
    " host_id INTEGER NOT NULL REFERENCES host (id), model_id INTEGER NOT NULL REFERENCES model (id)) STRICT;"
    "CREATE INDEX bench_created ON bench (created_utc);";

/* What a big model has very many of is kept small: a scheme is a number, a weight's own facts stand once for all schemes and runs of its model.
 * The views bear the names and columns that the tables had. */
#define SCHEME_ID " scheme_id INTEGER NOT NULL REFERENCES scheme (id) ON DELETE CASCADE,"
static const char version_4[] = /* and baseline: the run that nightly runs of a suite are judged against */
    "ALTER TABLE scheme ADD COLUMN id INTEGER;"
    "UPDATE scheme SET id = (SELECT count(*) FROM scheme o WHERE (o.run_id, o.name) <= (scheme.run_id, scheme.name));"
    "CREATE UNIQUE INDEX scheme_id ON scheme (id);"

    "CREATE TABLE weight (id INTEGER PRIMARY KEY, tensor TEXT NOT NULL, role TEXT, layer INTEGER NOT NULL, expert INTEGER NOT NULL, n INTEGER, xx REAL, max_x REAL, n_weight INTEGER) STRICT;"
    "CREATE INDEX weight_tensor ON weight (tensor);"
    "CREATE TABLE weight_format (id INTEGER PRIMARY KEY, format TEXT, grouping TEXT, algorithm TEXT, kernel TEXT) STRICT;"
    "CREATE TABLE tensor_row (" SCHEME_ID " layer INTEGER NOT NULL, weight_id INTEGER NOT NULL REFERENCES weight (id), format_id INTEGER NOT NULL REFERENCES weight_format (id),"
    " nonfinite INTEGER, first_bad INTEGER, yy REAL, xy REAL, dd REAL, max_diff REAL, max_y REAL, stored_bytes INTEGER,"
    " PRIMARY KEY (scheme_id, layer, weight_id)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE expert_row (" SCHEME_ID " layer INTEGER NOT NULL, expert INTEGER NOT NULL, kind INTEGER NOT NULL, hits_ref INTEGER, hits_test INTEGER, moved_away INTEGER, moved_to INTEGER,"
    " mass_ref REAL, mass_test REAL, nmse REAL, PRIMARY KEY (scheme_id, layer, expert, kind)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE coverage_row (" SCHEME_ID " layer INTEGER NOT NULL, expert INTEGER NOT NULL, tokens INTEGER, minimum INTEGER, fallback TEXT,"
    " PRIMARY KEY (scheme_id, layer, expert)) STRICT, WITHOUT ROWID;"

    "INSERT INTO weight (tensor, role, layer, expert, n, xx, max_x, n_weight) SELECT DISTINCT tensor, role, layer, expert, n, xx, max_x, n_weight FROM tensor_error;"
    "INSERT INTO weight_format (format, grouping, algorithm, kernel) SELECT DISTINCT format, grouping, algorithm, kernel FROM tensor_error;"
    "INSERT INTO tensor_row SELECT s.id, t.layer, w.id, f.id, t.nonfinite, t.first_bad, t.yy, t.xy, t.dd, t.max_diff, t.max_y, t.stored_bytes FROM tensor_error t"
    " JOIN scheme s ON s.run_id = t.run_id AND s.name = t.scheme"
    " JOIN weight w ON w.tensor = t.tensor AND w.role IS t.role AND w.layer = t.layer AND w.expert = t.expert AND w.n IS t.n AND w.xx IS t.xx AND w.max_x IS t.max_x AND w.n_weight IS t.n_weight"
    " JOIN weight_format f ON f.format IS t.format AND f.grouping IS t.grouping AND f.algorithm IS t.algorithm AND f.kernel IS t.kernel;"
    "INSERT INTO expert_row SELECT s.id, e.layer, e.expert, CASE e.kind WHEN 'accumulated' THEN 0 WHEN 'block' THEN 1 ELSE 2 END, e.hits_ref, e.hits_test, e.moved_away, e.moved_to, e.mass_ref, e.mass_test, e.nmse"
    " FROM routing_expert e JOIN scheme s ON s.run_id = e.run_id AND s.name = e.scheme;"
    "INSERT INTO coverage_row SELECT s.id, c.layer, c.expert, c.tokens, c.minimum, c.fallback FROM calibration_coverage c JOIN scheme s ON s.run_id = c.run_id AND s.name = c.scheme;"
    "DROP TABLE tensor_error; DROP TABLE routing_expert; DROP TABLE calibration_coverage;"

    "CREATE VIEW tensor_error AS SELECT s.run_id, s.name AS scheme, w.tensor, w.role, t.layer, w.expert, w.n, t.nonfinite, t.first_bad, w.xx, t.yy, t.xy, t.dd, t.max_diff, w.max_x, t.max_y,"
    " t.stored_bytes, w.n_weight, 8.0 * t.stored_bytes / nullif(w.n_weight, 0) AS bpw, f.format, f.grouping, f.algorithm, f.kernel"
    " FROM scheme s JOIN tensor_row t ON t.scheme_id = s.id JOIN weight w ON w.id = t.weight_id JOIN weight_format f ON f.id = t.format_id;"
    "CREATE VIEW routing_expert AS SELECT s.run_id, s.name AS scheme, e.layer, e.expert, CASE e.kind WHEN 0 THEN 'accumulated' WHEN 1 THEN 'block' ELSE 'isolated' END AS kind, e.kind AS kind_order,"
    " e.hits_ref, e.hits_test, e.moved_away, e.moved_to, e.mass_ref, e.mass_test, e.nmse FROM scheme s JOIN expert_row e ON e.scheme_id = s.id;"
    "CREATE VIEW calibration_coverage AS SELECT s.run_id, s.name AS scheme, c.layer, c.expert, c.tokens, c.minimum, c.fallback FROM scheme s JOIN coverage_row c ON c.scheme_id = s.id;"

    "CREATE TABLE baseline (name TEXT PRIMARY KEY NOT NULL, run_id TEXT NOT NULL REFERENCES run (id), set_utc TEXT NOT NULL) STRICT, WITHOUT ROWID;";

/* What a GPU's sensors said meanwhile, and its ceiling of FP8. */
static const char version_5[] =
    "ALTER TABLE bench ADD COLUMN fp8_gflops REAL;"
    "ALTER TABLE bench ADD COLUMN sm_mhz REAL;"
    "ALTER TABLE bench ADD COLUMN power_w REAL;"
    "ALTER TABLE bench ADD COLUMN temperature_c REAL;"
    "ALTER TABLE bench ADD COLUMN energy_j REAL;"
    "ALTER TABLE bench ADD COLUMN device_bytes INTEGER;";

/* Only views (db/views.c), which every migration makes anew. */
static const char version_6[] = "";

const char *const dsb_db_migration[DSB_DB_VERSION] = { version_1, version_2, version_3, version_4, version_5, version_6 };
