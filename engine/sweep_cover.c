/* Which calibration tokens an expert's ranges and statistics rest on: one sweep, no second look at the text. Its outputs in the
 * calibration stream are of the tokens that are routed to it, always. */
#include <stdlib.h>
#include <string.h>

#include "engine/sweep_internal.h"

typedef struct candidate {
    float score;
    int32_t row;
} candidate;

static int by_score(const void *pa, const void *pb) {
    const candidate *a = pa, *b = pb;
    if (a->score != b->score) return a->score < b->score ? 1 : -1;
    return a->row < b->row ? -1 : 1;
}

static int by_row(const void *pa, const void *pb) {
    int32_t a = *(const int32_t *)pa, b = *(const int32_t *)pb;
    return (a > b) - (a < b);
}

/* Adds to the n rows that chose expert e those that score it highest among the others, until there are `wanted`. */
static dsb_status top_up(const dsb_routing *route, int64_t e, int32_t *rows, int64_t n, int64_t wanted, dsb_err *err) {
    candidate *c;
    int64_t n_other = 0;
    DSB_TRY(DSB_NEW(c, route->n + 1, "calibration tokens", err));
    for (int64_t i = 0, next = 0; i < route->n; i++) {
        if (next < n && rows[next] == i) next++;
        else c[n_other++] = (candidate){route->scores[i * route->n_expert + e], (int32_t)i};
    }
    qsort(c, (size_t)n_other, sizeof *c, by_score);
    for (int64_t i = 0; n + i < wanted && i < n_other; i++) rows[n + i] = c[i].row;
    qsort(rows, (size_t)wanted, sizeof *rows, by_row);
    free(c);
    return DSB_OK;
}

static dsb_status starved(const sweep *sw, int64_t layer, int64_t e, int64_t n, sw_cover *out, dsb_err *err) {
    const dsb_cover_policy *p = &sw->plan->cover;
    if (p->starved == DSB_STARVED_ERROR)
        return dsb_fail(err, DSB_EINPUT, "calibration: layer %lld, expert %lld: %lld tokens found, %lld (calibration_min_tokens) are wanted; more calibration_chunks, calibration_balance or another \"calibration_starved\" help", (long long)layer,
                        (long long)e, (long long)n, (long long)p->min_tokens);
    out->kind = p->starved == DSB_STARVED_ALL_TOKENS ? DSB_COVER_ALL : DSB_COVER_NONE;
    return DSB_OK;
}

dsb_status sw_cover_choose(const sweep *sw, int64_t layer, int64_t e, const sw_calib *c, const sw_by_expert *by, sw_cover *out, dsb_err *err) {
    const dsb_cover_policy *p = &sw->plan->cover;
    int64_t routed = by->start[e + 1] - by->start[e], all = c->rows.n;
    *out = (sw_cover){.n = routed};
    if (all == 0) return DSB_OK;
    if (p->all) {
        out->kind = DSB_COVER_ALL;
    } else if (routed >= p->min_tokens) {
        return DSB_OK;
    } else if (p->balance && all >= p->min_tokens) {
        out->kind = DSB_COVER_NEXT_BEST;
    } else {
        DSB_TRY(starved(sw, layer, e, routed, out, err));
    }
    out->n = out->kind == DSB_COVER_NONE ? 0 : out->kind == DSB_COVER_ALL ? all : p->min_tokens;
    if (out->n == 0) return DSB_OK;
    DSB_TRY(DSB_NEW(out->rows, out->n, "calibration tokens", err));
    if (out->kind == DSB_COVER_ALL) {
        for (int64_t i = 0; i < all; i++) out->rows[i] = (int32_t)i;
        return DSB_OK;
    }
    memcpy(out->rows, by->rows + by->start[e], (size_t)routed * sizeof *out->rows);
    dsb_status s = top_up(&c->route, e, out->rows, routed, out->n, err);
    if (s) free(out->rows);
    return s;
}
