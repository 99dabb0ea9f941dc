/* The sweep's state, shared by its parts: sweep.c (streams, order), sweep_attention.c, sweep_mlp.c, sweep_head.c. */
#ifndef DSB_ENGINE_SWEEP_INTERNAL_H
#define DSB_ENGINE_SWEEP_INTERNAL_H

#include "engine/session.h"
#include "engine/sweep.h"

/* Residual streams: (n, d_model) on the device, f32 or (BF16 carriers) bf16. */
typedef struct sw_stream {
    bool bf16;
    void *rows;
    int64_t n;
    float *out; /* (n, d_model): this block's MLP output */
} sw_stream;

enum { SW_LOADERS = 5, SW_TILE = 2048 };

typedef struct sw_scheme {
    sw_stream acc;  /* accumulated: all chunks */
    sw_stream block; /* from the reference's block input: sampled chunks */
    float *iso_out; /* (n_iso, d_model): MLP output on the reference's post-attention state and routing */
    dsb_attn_weights attn;
    dsb_router_weights router;
    dsb_workspace ws; /* of the accumulated stream alone, whose clipped activations it counts */
    int64_t clipped_before, values_before;
    dsb_routing acc_route, block_route;
} sw_scheme;

typedef struct sweep {
    const dsb_sweep_plan *plan;
    const dsb_model *m;
    const dsb_backend *be;
    dsb_calibration *cal;
    dsb_scheme reference;
    sw_stream ref, calib;
    sw_scheme *schemes;
    int64_t n_tok, n_iso_chunk, n_iso;
    int64_t *iso_chunks, *all_chunks;
    int32_t *iso_rows;  /* (n_iso): the tokens of sampled chunks */
    int32_t *pos;       /* device: 0..n_ctx-1 again and again, one tile's worth */
    dsb_seq *seqs;      /* of one tile */
    int64_t tile_chunks;
    int32_t *packed_pos;  /* device, (n_tok): the plan's positions; NULL: none were given */
    dsb_seq *packed_seqs; /* of one tile */
    int64_t layout_chunk; /* the chunk that attention's rows begin with; -1: of the calibration */
    dsb_loader loaders[SW_LOADERS];
    dsb_attn_weights ref_attn;
    dsb_router_weights ref_router;
    dsb_workspace ws, tile; /* kernels' scratch; the sweep's own tiles */
    dsb_routing ref_route, cal_route;
    double work_done, work_total;
} sweep;

/* Tiles of the sweep's own workspace. */
enum { ST_X, ST_OUT, ST_ISO, ST_ISO_OUT, ST_NORM, ST_REF_OUT, ST_GATHER, ST_IDX, ST_WEIGHT, ST_LOGITS, ST_TEST, ST_RAW };
#define SW_TAKE(slot, ptr, count) DSB_TRY(dsb_workspace_take(&sw->tile, slot, (size_t)(count) * sizeof *(ptr), (void **)&(ptr), err))

void sw_load(const sweep *sw, const sw_stream *s, int64_t at, int64_t n, float *dst);
void sw_store(const sweep *sw, sw_stream *s, int64_t at, int64_t n, const float *src);
/* dst (n, d_model) = rows[i] of a stream; rows on the device. */
dsb_status sw_gather(sweep *sw, const sw_stream *s, const int32_t *rows, int64_t n, float *dst, dsb_err *err);
dsb_status sw_layer_event(sweep *sw, int scheme, int64_t layer, dsb_point point, dsb_kind kind, int64_t chunk, const float *ref, const float *test, dsb_err *err);
/* Loads one linear for the reference into *ref_out through loader `slot`. */
dsb_status sw_load_reference(sweep *sw, int slot, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err);
dsb_status sw_load_scheme(sweep *sw, int slot, int scheme, const dsb_linear_spec *spec, const dsb_linear *ref, dsb_linear *out, dsb_err *err);
void sw_progress(sweep *sw, double work, const char *what);

/* ---- sequences (sweep_layout.c) ---- */
dsb_status sw_layout_open(sweep *sw, dsb_err *err);
void sw_layout_close(sweep *sw);
/* Positions and sequences of n rows from layout_chunk on; returns the number of sequences. Borrowed until the next call. */
int64_t sw_layout(sweep *sw, int64_t n, const int32_t **pos, const dsb_seq **seqs);

dsb_status sw_attention(sweep *sw, int64_t layer, dsb_err *err);
dsb_status sw_mlp(sweep *sw, int64_t layer, dsb_err *err);
dsb_status sw_head(sweep *sw, dsb_err *err);

#endif
