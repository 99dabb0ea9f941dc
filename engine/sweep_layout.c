/* Where sequences lie in the chunks: each chunk one, or, where the plan gives positions, several one after another. */
#include <stdlib.h>

#include "engine/sweep_internal.h"

dsb_status sw_layout_open(sweep *sw, dsb_err *err) {
    size_t n = (size_t)sw->n_tok;
    void *dev;
    sw->layout_chunk = -1;
    if (!sw->plan->positions || n == 0) return DSB_OK;
    for (size_t i = 0; i < n; i++)
        if (sw->plan->positions[i] < 0 || sw->plan->positions[i] >= sw->m->n_pos)
            return dsb_fail(err, DSB_EINTERNAL, "position %d of token %zu, but the model was opened for %lld", sw->plan->positions[i], i, (long long)sw->m->n_pos);
    DSB_TRY(sw->be->alloc(&dev, n * sizeof *sw->packed_pos, "positions", err));
    sw->packed_pos = dev;
    sw->be->upload(dev, sw->plan->positions, n * sizeof *sw->packed_pos);
    return DSB_NEW(sw->packed_seqs, sw->how.tile_chunks * sw->plan->n_ctx, "sequences", err);
}

void sw_layout_close(sweep *sw) {
    if (sw->packed_pos) sw->be->release(sw->packed_pos);
    free(sw->packed_seqs);
}

int64_t sw_layout(sweep *sw, int64_t n, const int32_t **pos, const dsb_seq **seqs) {
    int64_t first = sw->layout_chunk * sw->plan->n_ctx, n_seq = 0;
    *pos = sw->pos;
    *seqs = sw->seqs;
    if (sw->layout_chunk < 0 || !sw->packed_pos) return n / sw->plan->n_ctx;
    for (int64_t i = 0; i < n; i++) {
        if (i % sw->plan->n_ctx == 0 || sw->plan->positions[first + i] == 0) sw->packed_seqs[n_seq++] = (dsb_seq){.q0 = i, .kv0 = i};
        sw->packed_seqs[n_seq - 1].n_q++;
        sw->packed_seqs[n_seq - 1].n_kv++;
    }
    *pos = sw->packed_pos + first;
    *seqs = sw->packed_seqs;
    return n_seq;
}
