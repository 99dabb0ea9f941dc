#include "harness/prune.h"

#include <string.h>

#include "db/history.h"
#include "reports/history.h"

typedef struct counted {
    const char *suite;
    int64_t n;
} counted;

/* How many newer runs its suite has. */
static int64_t count_suite(counted *suites, int64_t *n_suite, const char *name) {
    for (int64_t i = 0; i < *n_suite; i++)
        if (!strcmp(suites[i].suite, name)) return suites[i].n++;
    suites[(*n_suite)++] = (counted){ name, 1 };
    return 0;
}

static bool is_kept(const dsb_prune_request *q, const dsb_baseline *pinned, int64_t n_pinned, const char *id) {
    for (int64_t i = 0; i < n_pinned; i++)
        if (!strcmp(pinned[i].run_id, id)) return true;
    for (int64_t i = 0; i < q->n_kept_run; i++)
        if (!strcmp(q->kept_runs[i], id)) return true;
    return false;
}

static dsb_status remove_all(dsb_db *db, const dsb_prune_request *q, const dsb_pruned *p, dsb_err *err) {
    DSB_TRY(dsb_db_begin(db, err));
    dsb_status s = DSB_OK;
    for (int64_t i = 0; i < p->n && !s; i++) s = dsb_db_run_remove(db, p->ids[i], q->thin, err);
    if (!s) s = dsb_db_commit(db, err);
    if (s) dsb_db_rollback(db);
    return s ? s : dsb_db_shrink(db, err);
}

dsb_status dsb_prune(dsb_db *db, dsb_arena *arena, const dsb_prune_request *q, dsb_pruned *out, dsb_err *err) {
    dsb_run_record *runs;
    dsb_baseline *pinned;
    counted *suites;
    int64_t n, n_pinned, n_suite = 0;
    *out = (dsb_pruned){ 0 };
    DSB_TRY(dsb_db_run_list(db, arena, &runs, &n, err));
    DSB_TRY(dsb_db_baseline_list(db, arena, &pinned, &n_pinned, err));
    DSB_TRY(dsb_arena_take(arena, (void **)&suites, (size_t)n + 1, sizeof *suites, "the list of runs", err));
    DSB_TRY(dsb_arena_take(arena, (void **)&out->ids, (size_t)n + 1, sizeof *out->ids, "the list of runs", err));
    for (int64_t i = 0; i < n; i++) {
        const char *suite = dsb_run_suite_name(&runs[i], arena);
        if (q->suite && strcmp(q->suite, suite)) continue;
        bool old = count_suite(suites, &n_suite, suite) >= q->keep;
        if (!old || is_kept(q, pinned, n_pinned, runs[i].id) || (q->thin && dsb_db_run_is_thin(db, runs[i].id))) continue;
        out->ids[out->n++] = runs[i].id;
    }
    return q->dry_run || !out->n ? DSB_OK : remove_all(db, q, out, err);
}
