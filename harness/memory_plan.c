#include "harness/memory_plan.h"

#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model_check.h"
#include "harness/host.h"

/* Rough: products and quantizing on one core of a machine with AVX2, reading of a local disk. */
static const double k_flops = 20e9, k_encode_s = 6e-9, k_disk_bps = 1e9;
/* Lists, database and allocator beside what is counted. */
enum { PROGRAM = 24 << 20 };

static const char *size_text(double bytes, char buf[32]) {
    snprintf(buf, 32, bytes >= 1e9 ? "%.1f GB" : "%.0f MB", bytes >= 1e9 ? bytes / 1e9 : bytes / 1e6);
    return buf;
}

static const char *time_text(double s, char buf[32]) {
    snprintf(buf, 32, s < 90 ? "%.0f s" : s < 5400 ? "%.0f min" : "%.1f h", s < 90 ? s : s < 5400 ? s / 60 : s / 3600);
    return buf;
}

void dsb_memory_plan_print(const dsb_memory_plan *p, FILE *to) {
    const dsb_sweep_costs *c = &p->costs;
    char read[32], total[32], limit[32], weights[32], act[32], scratch[32], rest[32], spill[32], took[32];
    double threads = omp_get_max_threads(), compute = c->operations / (threads * k_flops) + c->encoded * k_encode_s / threads, disk = (double)c->read_bytes / k_disk_bps;
    fprintf(to, "plan: %s of weights to read; memory %s of %s (weights %s, activations %s, scratch %s, program %s)", size_text((double)c->read_bytes, read), size_text((double)(c->total_bytes + p->program), total),
            size_text((double)p->limit, limit), size_text((double)c->weight_bytes, weights), size_text((double)c->activation_bytes, act), size_text((double)c->scratch_bytes, scratch), size_text((double)p->program, rest));
    if (c->spill) fprintf(to, "; %s of activations in a temporary file in %s", size_text((double)c->spill_bytes, spill), p->spill_dir);
    fprintf(to, "; about %s\n", time_text(compute > disk ? compute : disk, took));
    fflush(to);
}

static void choose_dir(dsb_memory_plan *p, const char *beside, bool is_file) {
    const char *tmp = getenv("TMPDIR"), *slash = strrchr(beside, '/');
    if (tmp && *tmp) snprintf(p->spill_dir, sizeof p->spill_dir, "%s", tmp);
    else if (!is_file) snprintf(p->spill_dir, sizeof p->spill_dir, "%s", beside);
    else if (slash) snprintf(p->spill_dir, sizeof p->spill_dir, "%.*s", slash == beside ? 1 : (int)(slash - beside), beside);
    else snprintf(p->spill_dir, sizeof p->spill_dir, ".");
}

dsb_status dsb_memory_plan_make(dsb_memory_plan *p, const dsb_sweep_plan *plan, int64_t n_scored, int64_t limit, const char *beside, bool is_file, dsb_err *err) {
    const dsb_config *c = &plan->m->config;
    int64_t rss = dsb_rss_bytes(), tokens = plan->n_chunk * plan->n_ctx, available = dsb_memory_available_bytes(), streams = plan->n_scheme + 1;
    /* The recorder's rows of figures and changed slots, and what is sorted of them. */
    int64_t program = rss + PROGRAM + n_scored * (streams * (int64_t)sizeof(dsb_logit_row) + 128) + 4 * tokens * plan->n_scheme * c->n_layer;
    dsb_sweep_plan wanted = *plan;
    dsb_err ignored;
    *p = (dsb_memory_plan){.limit = limit ? limit : available > 0 ? rss + available / 10 * 9 : INT64_MAX / 2};
    p->program = program;
    choose_dir(p, beside, is_file);
    p->sweep = p->limit - program > 1 ? p->limit - program : 1;
    wanted.memory = p->sweep;
    if (dsb_sweep_costs_of(&wanted, &p->costs, &ignored))
        return dsb_fail(err, DSB_EUSAGE, "%s %lldM is too little for this run; --memory %lldM is wanted at least (fewer schemes or chunks and a shorter context want less)", limit ? "--memory" : "available memory of",
                        (long long)(p->limit >> 20), (long long)((p->costs.least_bytes + program) >> 20) + 2);
    if (p->costs.spill && access(p->spill_dir, W_OK | X_OK) != 0)
        return dsb_fail(err, DSB_EOUTPUT, "%s: no temporary file of activations can be made there: %s; set TMPDIR to a folder with room, or --memory higher", p->spill_dir, strerror(errno));
    return DSB_OK;
}

int64_t dsb_memory_of_sessions(const dsb_model *m, const dsb_scheme *schemes, int n_scheme, int64_t tokens) {
    const dsb_config *c = &m->config;
    double per = 0, key_values = (double)(dsb_key_width(c) + dsb_value_width(c)), scratch = 8.0 * (double)tokens * ((double)c->d_model * 4 + 3 * key_values);
    for (int i = 0; i < n_scheme; i++) {
        double b = schemes[i].f32_weights ? 4 : dsb_scheme_weight_bytes(m->be, &schemes[i]);
        per += b > 2 ? b : 2; /* kept weights are packed again for each */
    }
    return (int64_t)(per * (double)dsb_model_params(c) + n_scheme * (4 * (double)tokens * key_values * (double)c->n_layer + scratch));
}
