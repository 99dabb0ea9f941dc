/* Prefill and decode speed of schemes, interleaved where memory holds them all: repeats go round, so that drift hits all alike.
 * Units: tokens/s, of all sequences together. Warm-up runs are apart. Source: docs/METRICS.md, "Throughput and size". */
#ifndef DSB_HARNESS_THROUGHPUT_H
#define DSB_HARNESS_THROUGHPUT_H

#include "base/clock.h"
#include "db/db.h"
#include "engine/session.h"
#include "harness/sensors.h"
#include "kernels/roofline.h"

enum { DSB_MAX_REPEATS = 1024 };

typedef struct dsb_throughput_plan {
    const dsb_model *m;
    const dsb_scheme *schemes;
    int n_scheme;
    const dsb_calibration *calibration;
    const int32_t *tokens; /* (batch, depth + prefill + decode): what is fed, whatever the logits say */
    int64_t depth;         /* tokens in the cache of each sequence before anything is timed */
    int64_t prefill, decode, repeats, batch; /* prefill or decode 0: that phase isn't measured */
    const dsb_forced_routing *routing; /* NULL: the router's own choice */
    bool apart;            /* one scheme in memory at a time */
    double from, to;       /* of the progress line */
} dsb_throughput_plan;

typedef struct dsb_speed {
    const dsb_scheme *scheme;
    bool decode;
    int64_t n_token, depth; /* of a sequence; tokens before them */
    double seconds, seconds_min, seconds_max; /* of all tokens: median, extremes of the repeats */
    double p50_ms, p99_ms;  /* over single decoded steps of all repeats; NAN in prefill */
    dsb_work work;          /* of all tokens */
    double roofline_percent;
    bool memory;            /* the bandwidth binds, not arithmetic */
    double peak_gops;       /* of the arithmetic that most operations are */
    double busy_percent, steal_percent; /* other load meanwhile; steal: of that what the hypervisor took */
    int64_t token_bytes;
    dsb_sensors sensors; /* means; energy of all tokens */
    char kernels[256];      /* that ran */
} dsb_speed;
static inline double dsb_speed_tps(const dsb_speed *v, int64_t batch, double seconds) { return (double)(batch * v->n_token) / seconds; }

/* speeds: (2 · n_scheme); *n of them are filled: a scheme's prefill, then its decode. */
dsb_status dsb_throughput_measure(const dsb_throughput_plan *plan, const dsb_roofline *roof, dsb_speed *speeds, int *n, dsb_progress *progress, dsb_err *err);
/* Measures the machine, then the plan, and stores rows of table throughput in one transaction. */
dsb_status dsb_throughput_run(const dsb_throughput_plan *plan, dsb_db *db, const char *run_id, dsb_progress *progress, dsb_err *err);

#endif
