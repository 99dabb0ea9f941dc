/* A made-up run with realistic figures, for tests of the record and of the reports: n_layer MoE layers, n_expert experts,
 * the reference and nine schemes, or twelve. Deterministic. Nothing here was measured. */
#ifndef DSB_TESTS_SYNTHETIC_RUN_H
#define DSB_TESTS_SYNTHETIC_RUN_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "db/db.h"

#define SYNTHETIC_SCHEMES 10
#define SYNTHETIC_ALL 13 /* of synthetic_write_all */
#define SYNTHETIC_CHUNKS 32
#define SYNTHETIC_SCORED 256 /* positions a chunk */

typedef struct synthetic_scheme {
    const char *name, *what;
    double bpw, nmse, kld, delta, route, prefill, decode;
} synthetic_scheme;

/* Damage per layer, KLD and speed in the order of what such schemes really do. */
static const synthetic_scheme synthetic_schemes[SYNTHETIC_ALL] = {
    { "reference", "stored weights, f32 arithmetic", 16.0, 0, 0, 0, 0, 610, 62 },
    { "bf16", "stored weights, BF16 carrier", 16.0, 6e-6, 2.4e-5, 0.00003, 0.004, 760, 71 },
    { "dynamic-int8", "INT8 weights, INT8 activations per token", 8.06, 2.2e-4, 6.1e-4, 0.0004, 0.021, 1480, 138 },
    { "static-int8", "INT8 weights, calibrated INT8 activations", 8.06, 6.5e-4, 1.9e-3, 0.0017, 0.038, 1530, 140 },
    { "qat-int8", "trained with INT8 in the loop", 8.06, 2.9e-4, 7.7e-4, -0.0006, 0.024, 1475, 137 },
    { "qat-int4", "trained with INT4 in the loop", 4.61, 4.8e-3, 9.1e-3, 0.0061, 0.071, 1510, 201 },
    { "mixed-fp16-int8", "FP16 attention, INT8 experts", 8.93, 1.4e-4, 4.4e-4, 0.0003, 0.016, 1210, 126 },
    { "sparse-expert", "INT8 active, INT4 inactive experts", 6.74, 1.3e-3, 4.2e-3, 0.0041, 0.049, 1450, 155 },
    { "int4-rtn", "INT4, groups of 32", 4.61, 9.8e-3, 2.6e-2, 0.0224, 0.112, 1505, 204 },
    { "int3-rtn", "INT3, groups of 32", 3.68, 5.2e-2, 1.4e-1, 0.1290, 0.231, 1490, 209 },
    { "fp8-e4m3", "FP8 in blocks of 128 x 128", 8.01, 7.1e-4, 1.6e-3, 0.0011, 0.036, 1320, 129 },
    { "nvfp4", "NVFP4, blocks of 16", 4.51, 8.4e-3, 2.1e-2, 0.0187, 0.103, 1300, 190 },
    { "q4-k", "Q4_K", 4.5, 5.9e-3, 1.4e-2, 0.0121, 0.087, 1350, 188 },
};

/* A number in [-1, 1) that depends on the arguments only. */
static double synthetic_noise(int a, int b, int c) {
    uint64_t x = (uint64_t)a * 73856093 ^ ((uint64_t)b * 19349663) << 13 ^ ((uint64_t)c * 83492791) << 29;
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    x ^= x >> 33;
    return (double)(x >> 11) / 4503599627370496.0 - 1.0;
}

static dsb_moments synthetic_moments(double nmse, int64_t n, double scale) {
    double xx = (double)n * scale * scale, dd = xx * nmse;
    return (dsb_moments){ .n = n, .nonfinite = 0, .first_bad = -1, .xx = xx, .yy = xx + dd, .xy = xx, .dd = dd,
                          .max_diff = 5 * scale * sqrt(nmse), .max_x = 9 * scale, .max_y = 9 * scale };
}

static dsb_run_record synthetic_record(const char *id, int n_layer, int n_expert) {
    return (dsb_run_record){
        .id = id, .created_utc = "2025-01-31T12:00:00.000Z", .status = "running", .command_line = "dsbench run --text 'jargon & more.txt'",
        .suite_json = "{\"schemes\": 9}", .convention = "llama", .build_version = "0.1.0", .build_hash = "0123abcd", .isa = "avx2", .device = "cpu",
        .n_ctx = 512, .n_chunk = SYNTHETIC_CHUNKS, .n_token = 512 * SYNTHETIC_CHUNKS, .n_scored = SYNTHETIC_SCORED * SYNTHETIC_CHUNKS,
        .seed = 1, .threads = 2, .wall_s = NAN, .peak_rss_bytes = -1,
        .host = { "9f86d081884c7d65", "AMD EPYC 7763 64-Core Processor", "Linux 6.1.0", 2, 8LL << 30 },
        .model = { "models/dsmoe-tiny", "dsmoe-tiny", "DeepseekV3ForCausalLM",
                   "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8", 13800000, n_layer, 256, n_expert, 4, 27600000 },
        .dataset = { "data/jargon.txt", "jargon", "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", 1500000, 1 },
        .calibration = { "data/calibration.txt", "calibration", "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9", 200000, 0 },
    };
}

static dsb_status synthetic_put_layers(dsb_db *db, const char *id, int s, int n_layer, dsb_err *err) {
    static const char *const points[] = { "attention", "mlp", "block" };
    const synthetic_scheme *k = &synthetic_schemes[s];
    for (int l = 0; l < n_layer; l++)
        for (int p = 0; p < 3; p++)
            for (int acc = 0; acc < 2; acc++) {
                double nmse = k->nmse * (acc ? 0.5 + 0.35 * l : 0.35 + 0.15 * p) * exp(0.35 * synthetic_noise(s, l, p));
                if (l == n_layer - 2 && p > 0) nmse *= 2.5;
                dsb_layer_error row = { k->name, points[p], acc ? "accumulated" : "isolated", l, synthetic_moments(nmse, 4194304, 0.4), 11.2 - 0.3 * l,
                                        strstr(k->name, "static") ? 2e-5 : NAN };
                DSB_TRY(dsb_db_put_layer_error(db, id, &row, err));
            }
    return DSB_OK;
}

static dsb_status synthetic_put_routing(dsb_db *db, const char *id, int s, int n_layer, int n_expert, dsb_err *err) {
    static const char *const kinds[] = { "isolated", "block", "accumulated" };
    const synthetic_scheme *k = &synthetic_schemes[s];
    for (int l = 1; l < n_layer; l++) {
        for (int c = 0; c < 3; c++) {
            double change = k->route * (c == 0 ? 0 : c == 1 ? 0.4 : 0.6 + 0.12 * l) * (1 + 0.15 * synthetic_noise(s, l, 9));
            dsb_routing_layer rows[] = { { k->name, kinds[c], "selection_change", "share of tokens", l, change, 16384 },
                                         { k->name, kinds[c], "slot_change", "share of slots", l, change / 3.4, 65536 },
                                         { k->name, kinds[c], "top1_change", "share of tokens", l, change / 5, 16384 },
                                         { k->name, kinds[c], "gate_l1", "share of gate mass", l, change / 4, 16384 },
                                         { k->name, kinds[c], "mass_lost", "share of gate mass", l, change / 6, 16384 },
                                         { k->name, kinds[c], "load_cv", "1", l, 0.31 + 0.02 * l, n_expert } };
            for (int m = 0; m < 6; m++) DSB_TRY(dsb_db_put_routing_layer(db, id, &rows[m], err));
        }
        for (int e = 0; e < n_expert; e++) {
            int64_t hits = (int64_t)(65536.0 / n_expert * exp(0.45 * synthetic_noise(0, l, e)));
            double drift = k->route * 0.3 * (0.7 + 0.1 * l) * exp(0.8 * synthetic_noise(s, l * 31, e));
            int64_t away = (int64_t)((double)hits * drift), to = (int64_t)((double)hits * drift * (1 + 0.3 * synthetic_noise(s, l, e)));
            dsb_routing_expert row = { k->name, "accumulated", l, e, hits, hits - away + to, away, to, 0.25 * (double)hits, 0.25 * (double)(hits - away + to), NAN };
            dsb_routing_expert isolated = { k->name, "isolated", l, e, hits / 4, -1, -1, -1, NAN, NAN,
                                       s ? k->nmse * 1.4 * exp(0.9 * synthetic_noise(s + 40, l, e)) : NAN };
            DSB_TRY(dsb_db_put_routing_expert(db, id, &row, err));
            DSB_TRY(dsb_db_put_routing_expert(db, id, &isolated, err));
        }
    }
    return DSB_OK;
}

static dsb_status synthetic_put_quality(dsb_db *db, const char *id, int s, dsb_err *err) {
    const synthetic_scheme *k = &synthetic_schemes[s];
    double ref_nll = 2.918, flip = 0.35 * sqrt(k->kld), se = 0.03 * sqrt(k->kld) + 0.05 * fabs(k->delta) + 1e-6, nll = ref_nll + k->delta;
    int64_t n = SYNTHETIC_SCORED * SYNTHETIC_CHUNKS;
    dsb_quality rows[] = { { k->name, "nll", "nats/token", nll, nll - 0.04, nll + 0.04, n },
                           { k->name, "ppl", "1", exp(nll), exp(nll - 0.04), exp(nll + 0.04), n },
                           { k->name, "delta_nll", "nats/token", k->delta, k->delta - se, k->delta + se, n },
                           { k->name, "kld_mean", "nats/token", k->kld, k->kld * 0.94, k->kld * 1.06, n },
                           { k->name, "kld_median", "nats/token", k->kld * 0.4, NAN, NAN, n },
                           { k->name, "kld_p99", "nats/token", k->kld * 9, NAN, NAN, n },
                           { k->name, "kld_max", "nats/token", k->kld * 60, NAN, NAN, n },
                           { k->name, "top1_agreement", "share", 1 - flip, 1 - flip * 1.1, 1 - flip * 0.9, n },
                           { k->name, "bits_per_byte", "bits/byte", nll / 2.02, NAN, NAN, n } };
    for (int m = 0; m < 9; m++) DSB_TRY(dsb_db_put_quality(db, id, &rows[m], err));
    for (int c = 0; c < SYNTHETIC_CHUNKS; c++) {
        double ref = ref_nll + 0.25 * synthetic_noise(0, c, 77), u = synthetic_noise(s, c, 5), right = 0.41 + 0.035 * synthetic_noise(0, c, 3);
        dsb_chunk_quality row = { k->name, c, 256, 256, ref, ref + k->delta + se * 4 * u, k->kld * (1 + 0.2 * u), 1 - flip * (1 + 0.2 * u), right,
                                  right * (1 - flip * 0.35 * (1 + 0.4 * u)), k->route * (1 + 0.2 * u), k->route / 3.4 * (1 + 0.2 * u) };
        DSB_TRY(dsb_db_put_chunk_quality(db, id, &row, err));
    }
    for (int b = 0; b < 28 && s; b++) { /* log10 KLD from -8 to 0 in bins of a quarter and more */
        double lo = -8 + b * 0.3, z = (lo + 0.15 - log10(k->kld * 0.35)) / 0.7;
        dsb_quality_detail row = { k->name, "kld_hist", NULL, -1, b, pow(10, lo), pow(10, lo + 0.3), floor((double)n * 0.3 / 0.7 * 0.3989 * exp(-z * z / 2)), n };
        DSB_TRY(dsb_db_put_quality_detail(db, id, &row, err));
    }
    return DSB_OK;
}

static dsb_status synthetic_put_speed(dsb_db *db, const char *id, int s, dsb_err *err) {
    const synthetic_scheme *k = &synthetic_schemes[s];
    dsb_throughput pre = { k->name, "prefill", 512, 0, 1, 7, k->prefill, k->prefill * 0.97, k->prefill * 1.02, 6.1, k->prefill * 0.028, 61, 3.5, 14.2, 16.1, 78,
                           (int64_t)(13.8e6 / 8 * k->bpw), 1000 * 512 / k->prefill, NAN, NAN, NAN, s > 1 ? "avx2/gemm_i8" : "avx2/gemm_f32" };
    dsb_throughput dec = { k->name, "decode", 64, 512, 1, 7, k->decode, k->decode * 0.95, k->decode * 1.03, k->decode * k->bpw * 0.8e-3, 1.2,
                           k->decode * k->bpw * 0.8e-3 / 16.1 * 100, 3.5, 14.2, 16.1, 78, (int64_t)(6.4e6 / 8 * k->bpw), NAN, 1000 / k->decode, 990 / k->decode, 1500 / k->decode,
                           s > 1 ? "avx2/gemv_i8" : "avx2/gemv_f32" };
    DSB_TRY(dsb_db_put_throughput(db, id, &pre, err));
    return dsb_db_put_throughput(db, id, &dec, err);
}

static dsb_status synthetic_put_calibration(dsb_db *db, const char *id, int n_layer, int n_expert, dsb_err *err) {
    for (int l = 1; l < n_layer; l++)
        for (int e = 0; e < n_expert; e++) {
            int64_t tokens = (int64_t)(900 * exp(1.4 * synthetic_noise(7, l, e)));
            dsb_calibration_coverage row = { "static-int8", l, e, tokens, 256, tokens < 256 ? "dynamic scale" : NULL };
            DSB_TRY(dsb_db_put_calibration_coverage(db, id, &row, err));
        }
    return DSB_OK;
}

/* Every weight of the blocks, as a run stores them. */
static dsb_status synthetic_put_tensors(dsb_db *db, const char *id, int s, int n_layer, int n_expert, dsb_err *err) {
    static const char *const experts[] = { "gate_proj", "up_proj", "down_proj" }, *const roles[] = { "expert.gate", "expert.up", "expert.down" };
    static const char *const others[] = { "self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj", "self_attn.o_proj", "mlp.gate" };
    static const char *const other_roles[] = { "attn.q_a", "attn.q_b", "attn.kv_a", "attn.kv_b", "attn.o", "router" };
    const synthetic_scheme *k = &synthetic_schemes[s];
    char name[128];
    for (int l = 0; l < n_layer; l++)
        for (int t = 0; t < (l ? 3 * n_expert : 0) + 6; t++) {
            int e = t < 6 ? -1 : (t - 6) / 3, part = t < 6 ? t : (t - 6) % 3;
            int64_t n = 14680064;
            if (e < 0) snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, others[part]);
            else snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.%s.weight", l, e, experts[part]);
            dsb_tensor_error row = { k->name, name, e < 0 ? other_roles[part] : roles[part], l, e, synthetic_moments(k->nmse * exp(0.1 * synthetic_noise(s, l, t)), n, 0.016 * exp(0.2 * synthetic_noise(l, t, 3))),
                                     (int64_t)((double)n / 8 * k->bpw), n, k->bpw, s > 1 ? "int8" : "bf16", "channel", "rtn", "avx2/gemm_i8" };
            DSB_TRY(dsb_db_put_tensor_error(db, id, &row, err));
        }
    return DSB_OK;
}

/* The metrics and margin deciles of each layer that synthetic_put_routing leaves out. */
static dsb_status synthetic_put_more_routing(dsb_db *db, const char *id, int s, int n_layer, dsb_err *err) {
    static const char *const kinds[] = { "isolated", "block", "accumulated" };
    static const char *const metrics[] = { "jaccard", "router_kld", "group_change", "rank_of_new", "predicted_change", "load_cv_ref", "load_entropy", "load_entropy_ref", "load_tv", "experts_gained_all", "experts_lost_all" };
    const char *scheme = synthetic_schemes[s].name;
    for (int l = 1; l < n_layer; l++) {
        for (int c = 0; c < 33; c++) {
            dsb_routing_layer row = { scheme, kinds[c % 3], metrics[c / 3], "1", l, fabs(synthetic_noise(s, l, c)), 16384 };
            DSB_TRY(dsb_db_put_routing_layer(db, id, &row, err));
        }
        for (int b = 0; b < 20; b++) {
            double margin = 0.01 * (b / 2), rate = synthetic_schemes[s].route * 3 * exp(-0.6 * (b / 2)) * (b % 2 ? 1.1 : 1);
            dsb_quality_detail row = { scheme, b % 2 ? "margin_decile_predicted" : "margin_decile", NULL, l, b / 2, margin, margin + 0.01, rate, 1638 };
            DSB_TRY(dsb_db_put_quality_detail(db, id, &row, err));
        }
    }
    return DSB_OK;
}

static dsb_status synthetic_put_confidence(dsb_db *db, const char *id, int s, dsb_err *err) {
    for (int b = 0; b < 10; b++) {
        dsb_quality_detail row = { synthetic_schemes[s].name, "kld_by_confidence", NULL, -1, b, b / 10.0, (b + 1) / 10.0, synthetic_schemes[s].kld * (0.3 + 0.5 * b * (10 - b) / 9.0), 300 + 110 * b };
        DSB_TRY(dsb_db_put_quality_detail(db, id, &row, err));
    }
    return DSB_OK;
}

static dsb_status synthetic_put_run(dsb_db *db, const char *id, int n_layer, int n_expert, int n_scheme, bool whole, dsb_err *err) {
    for (int s = 0; s < n_scheme; s++) {
        const synthetic_scheme *k = &synthetic_schemes[s];
        dsb_scheme_record scheme = { k->name, k->what, "{\"rules\": []}", NULL, s > 1 ? "avx2/gemm_i8" : "avx2/gemm_f32", s,
                                     (int64_t)(13.8e6 / 8 * k->bpw), 13800000, k->bpw, k->bpw };
        DSB_TRY(dsb_db_put_scheme(db, id, &scheme, err));
        if (s) DSB_TRY(synthetic_put_layers(db, id, s, n_layer, err));
        if (s || !whole) DSB_TRY(synthetic_put_routing(db, id, s, n_layer, n_expert, err)); /* a real run has none of the reference */
        DSB_TRY(synthetic_put_quality(db, id, s, err));
        DSB_TRY(synthetic_put_speed(db, id, s, err));
        if (s && whole) DSB_TRY(synthetic_put_tensors(db, id, s, n_layer, n_expert, err));
        if (s) DSB_TRY(synthetic_put_more_routing(db, id, s, n_layer, err));
        if (s) DSB_TRY(synthetic_put_confidence(db, id, s, err));
        dsb_tensor_error tensor = { k->name, "model.layers.1.mlp.experts.0.down_proj.weight", "expert.down", 1, 0, synthetic_moments(k->nmse / 2, 65536, 0.016),
                                    (int64_t)(65536 / 8 * k->bpw), 65536, k->bpw, s > 1 ? "int8" : "bf16", "channel", "rtn", "avx2/gemm_i8" };
        if (!whole) DSB_TRY(dsb_db_put_tensor_error(db, id, &tensor, err));
        dsb_recipe_rule_row rule = { k->name, "expert.*", s > 1 ? "int8" : "keep", "channel", "rtn", "int8-dynamic", NULL, 0 };
        DSB_TRY(dsb_db_put_recipe_rule(db, id, &rule, err));
    }
    DSB_TRY(synthetic_put_calibration(db, id, n_layer, n_expert, err));
    dsb_event event = { "static-int8", "warning", "9 experts had fewer than 256 calibration tokens: dynamic scale", -1, -1 };
    return dsb_db_put_event(db, id, &event, err);
}

static inline dsb_status synthetic_write_n(dsb_db *db, const char *id, int n_layer, int n_expert, int n_scheme, bool whole, dsb_err *err) {
    dsb_run_record run = synthetic_record(id, n_layer, n_expert);
    DSB_TRY(dsb_db_run_insert(db, &run, err));
    DSB_TRY(dsb_db_begin(db, err));
    DSB_TRY(synthetic_put_run(db, id, n_layer, n_expert, n_scheme, whole, err));
    DSB_TRY(dsb_db_commit(db, err));
    return dsb_db_run_finish(db, id, "done", 83.25, 212LL << 20, err);
}

/* Writes the run in one transaction and finishes it. */
static inline dsb_status synthetic_write(dsb_db *db, const char *id, int n_layer, int n_expert, dsb_err *err) { return synthetic_write_n(db, id, n_layer, n_expert, SYNTHETIC_SCHEMES, false, err); }
/* The same of twelve schemes beside the reference, with every tensor: as large as a real one. */
static inline dsb_status synthetic_write_all(dsb_db *db, const char *id, int n_layer, int n_expert, dsb_err *err) { return synthetic_write_n(db, id, n_layer, n_expert, SYNTHETIC_ALL, true, err); }

#endif
