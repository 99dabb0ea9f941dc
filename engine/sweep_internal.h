/* The sweep's state, shared by its parts: sweep.c (order), sweep_stream.c, sweep_attention.c, sweep_routing.c, sweep_mlp.c, sweep_head.c, sweep_tiles.c. */
#ifndef DSB_ENGINE_SWEEP_INTERNAL_H
#define DSB_ENGINE_SWEEP_INTERNAL_H

#include "base/spill.h"
#include "engine/rotate.h"
#include "engine/session.h"
#include "engine/sweep.h"

/* n rows of d_model values on the device or in the temporary file, f32 or (residuals of BF16 carriers) bf16. */
typedef struct sw_stream {
    bool bf16;
    void *rows; /* NULL: in the file, from byte `place` on */
    int64_t place, n;
} sw_stream;

enum { SW_TILE = 2048, SW_HEAD_ROWS = 128, SW_HEAD_LEAST = 32, SW_EVENTS = 512 }; /* HEAD: positions whose logits are held */

/* A stream of calibration tokens and what was seen of the inputs of the present attention or feed-forward. */
enum { SW_INPUTS = 4 };
typedef struct sw_calib {
    sw_stream rows, out; /* out: MLP outputs */
    bool bf16;
    int64_t rotation; /* of its rows; 0: none */
    dsb_routing route;
    dsb_input_stats in[SW_INPUTS]; /* by sw_input */
} sw_calib;

typedef struct sw_scheme {
    sw_stream acc;   /* accumulated: all chunks */
    sw_stream block; /* from the reference's block input: sampled chunks */
    /* MLP outputs of one pass: of both, and on the reference's post-attention state and routing */
    sw_stream acc_out, block_out, iso_out;
    sw_calib own; /* the scheme's own calibration stream, where its recipe needs that; else empty */
    dsb_attn_weights attn;
    dsb_router_weights router;
    int64_t clipped, values; /* of the accumulated stream in this block */
    dsb_routing acc_route, block_route;
} sw_scheme;

/* Rows that pass through a block's MLP together: where all its weights can be held, tile after tile, so that outputs of one
 * tile are kept; else all rows at once, expert by expert. Whole chunks; the sampled ones among them are iso_at .. iso_at + iso_n. */
typedef struct sw_pass {
    int64_t at, n, iso_at, iso_n;
} sw_pass;

typedef struct sweep {
    const dsb_sweep_plan *plan;
    const dsb_model *m;
    const dsb_backend *be;
    dsb_calibration *cal;
    dsb_scheme reference;
    sw_stream ref, ref_out; /* _out: MLP outputs of one pass */
    sw_calib calib;         /* the reference's */
    sw_scheme *schemes;
    int64_t n_tok, n_iso_chunk, n_iso, pass_rows;
    int64_t *iso_chunks, *all_chunks;
    int32_t *iso_rows;  /* (n_iso): the tokens of sampled chunks */
    int32_t *pos;       /* device: 0..n_ctx-1 again and again, one tile's worth */
    dsb_seq *seqs;      /* of one tile */
    dsb_sweep_costs how;
    int64_t rows;       /* of a stream that pass through a feed-forward or router together: <= SW_TILE */
    dsb_spill spill;
    int64_t spill_end;
    int32_t *packed_pos;  /* device, (n_tok): the plan's positions; NULL: none were given */
    dsb_seq *packed_seqs; /* of one tile */
    int64_t layout_chunk; /* the chunk that attention's rows begin with; -1: of the calibration */
    dsb_loader loader;
    dsb_attn_weights ref_attn;
    dsb_router_weights ref_router;
    dsb_workspace ws, tile, host; /* kernels' scratch; the sweep's own tiles; rows on their way to and from the file */
    dsb_routing ref_route;
    double work_done, work_total;
    struct {
        dsb_layer_event e;
        dsb_moments moments;
    } event[SW_EVENTS]; /* whose figures the device may still owe */
    int n_event;
    struct {
        dsb_tensor_event e;
        dsb_linear_spec spec;
        int scheme;
    } tensor[SW_EVENTS];
    int n_tensor;
} sweep;

/* Tiles of the sweep's own workspace. */
enum { ST_X, ST_OUT, ST_ISO, ST_ISO_OUT, ST_NORM, ST_REF_OUT, ST_GATHER, ST_IDX, ST_WEIGHT, ST_LOGITS, ST_TEST, ST_RAW, ST_SUMS, ST_VIEW, ST_VIEW2, ST_BACK };
#define SW_TAKE(slot, ptr, count) DSB_TRY(dsb_workspace_take(&sw->tile, slot, (size_t)(count) * sizeof *(ptr), (void **)&(ptr), err))

/* ---- the choice of a way (sweep_plan.c) ---- */
/* false: none keeps to the plan's memory; out has the smallest then. */
bool sw_choose(const sweep *sw, dsb_sweep_costs *out);

/* ---- streams (sweep_stream.c) ---- */
dsb_status sw_stream_alloc(sweep *sw, sw_stream *s, bool bf16, int64_t n, dsb_err *err);
void sw_stream_release(sweep *sw, sw_stream *s);
dsb_status sw_load(sweep *sw, const sw_stream *s, int64_t at, int64_t n, float *dst, dsb_err *err);
dsb_status sw_store(sweep *sw, sw_stream *s, int64_t at, int64_t n, const float *src, dsb_err *err);
dsb_status sw_zero(sweep *sw, sw_stream *s, int64_t n, dsb_err *err);
/* Rows at .. at+n of an f32 stream to work on, in place or in tile `slot`; sw_keep puts back what was changed. */
dsb_status sw_view(sweep *sw, const sw_stream *s, int64_t at, int64_t n, int slot, float **out, dsb_err *err);
dsb_status sw_keep(sweep *sw, sw_stream *s, int64_t at, int64_t n, const float *view, dsb_err *err);
/* dst (n, d_model) = the stream's rows[i]; rows on the host, n <= SW_TILE. */
dsb_status sw_gather(sweep *sw, const sw_stream *s, const int32_t *rows, int64_t n, float *dst, dsb_err *err);
/* The f32 stream's rows[i] - base += weight[i] * x[i]; rows and weight on the host, n <= SW_TILE. */
dsb_status sw_scatter_add(sweep *sw, sw_stream *s, const int32_t *rows, int64_t base, const float *weight, const float *x, int64_t n, dsb_err *err);

/* ---- calibration (sweep_calib.c) ---- */
dsb_status sw_calib_open(sweep *sw, sw_calib *c, const dsb_scheme *scheme, dsb_err *err);
void sw_calib_release(sweep *sw, sw_calib *c);
/* Rows at .. at+n as the model's own weights and norms read them: rotated back. */
dsb_status sw_calib_load(sweep *sw, const sw_calib *c, int64_t at, int64_t n, float *dst, dsb_err *err);
/* Empties the statistics of these linears' inputs: what any scheme that reads this stream needs of them. own: the scheme's number, or -1. */
dsb_status sw_calib_begin(sweep *sw, sw_calib *c, int own, const dsb_linear_spec *specs, int n, dsb_err *err);
/* What a scheme's linear is quantized by; NULL where nothing was asked for. */
const dsb_input_stats *sw_calib_stats(const sweep *sw, int scheme, const dsb_linear_spec *spec);
/* Adds an input to the statistics of its role. */
void sw_calib_see(const sweep *sw, sw_calib *c, dsb_role role, const float *x, int64_t n);
/* Statistics of one linear that reads the normed stream: a router, or the vocabulary projection. own as above. */
dsb_status sw_calib_see_stream(sweep *sw, sw_calib *c, int own, const dsb_linear_spec *spec, const float *norm, dsb_err *err);
/* The observer that does so, and widens the ranges of a layer (NULL: none) of the reference's. expert: -1 where it is none. */
typedef struct sw_calib_view {
    const sweep *sw;
    sw_calib *calib;
    dsb_layer_calibration *layer;
    int64_t expert;
} sw_calib_view;
void sw_calib_observe(void *ctx, dsb_role role, const float *x, int64_t n, int64_t cols);
/* Adds MLP outputs to the stream's residual. */
dsb_status sw_calib_finish(sweep *sw, sw_calib *c, dsb_err *err);

/* ---- what all parts use (sweep.c) ---- */
/* Of a scheme's streams (engine/rotate.h); 0: as the model's. */
int64_t sw_rotation(const sweep *sw, int scheme);
/* *sum += figures of y against x, at the latest when the device has settled. */
void sw_moments(const sweep *sw, const float *x, const float *y, int64_t n, dsb_moments *sum);
void sw_settle(const sweep *sw);
/* Hands out the events that wait: of tensors, then of layers. */
dsb_status sw_tell(sweep *sw, dsb_err *err);
dsb_status sw_tell_tensors(sweep *sw, dsb_err *err);
/* test is rotated back before it is compared. */
dsb_status sw_layer_event(sweep *sw, int scheme, int64_t layer, dsb_point point, dsb_kind kind, int64_t chunk, const float *ref, const float *test, dsb_err *err);
/* A part of a weight or all of it, without telling the observer; event as dsb_load_scheme's. */
dsb_status sw_load_scheme_part(sweep *sw, int scheme, const dsb_linear_spec *spec, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, dsb_err *err);
/* Asks for weights that come next, of all checkpoints. */
void sw_want(const sweep *sw, const dsb_linear_spec *specs, int n);
/* Where experts are not held, what attention or an MLP took is given back before the next. */
void sw_phase(sweep *sw);
void sw_progress(sweep *sw, double work, const char *what);
/* The pass that begins at row `at`. */
sw_pass sw_pass_from(const sweep *sw, int64_t at);
/* Kernels' scratch counts clipped activations (or the device does): those of a scheme's own stream, run between the two calls, are the scheme's. */
void sw_clip_begin(sweep *sw, int scheme);
void sw_clip_end(sweep *sw, int scheme);

/* ---- weights (sweep_tiles.c) ---- */
/* Outputs of a (rows, cols) matrix that are loaded together where so many weights are wanted at a time, whole blocks of rows; rows: all. */
int64_t sw_tile_rows(int64_t tile_weights, int64_t rows, int64_t cols, int64_t block);
/* Rows of a weight that belong together: those that a rotated scheme's stream mixes; 1: none. */
int64_t sw_row_block(const sweep *sw, const dsb_linear_spec *spec);
/* Whether a scheme's form of the weight can be made tile by tile. */
bool sw_by_rows(const sweep *sw, int scheme, const dsb_linear_spec *spec);
/* The reference's form, and a scheme's, of which the observer is told; where the sweep's way wants it they are not held. */
dsb_status sw_load_reference(sweep *sw, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err);
dsb_status sw_load_scheme(sweep *sw, int scheme, const dsb_linear_spec *spec, const dsb_linear *ref, dsb_linear *out, dsb_err *err);
/* *sum += Σ|W| of the reference's. */
dsb_status sw_add_magnitudes(sweep *sw, const dsb_linear_spec *spec, double *sum, dsb_err *err);

/* ---- routing (sweep_routing.c) ---- */

/* Rows of a stream that go to each expert, ascending, on the host. */
typedef struct sw_by_expert {
    int64_t *start;  /* (n_expert + 1) */
    int32_t *rows;   /* (n*k) */
    float *weight;   /* (n*k) */
} sw_by_expert;

typedef struct sw_routes {
    sw_by_expert ref, calib, iso; /* iso: the reference's routing of sampled chunks, rows are 0 .. n_iso */
    sw_by_expert *acc, *block, *own; /* (n_scheme); own: of schemes with a calibration stream of their own */
    float *ref_bias;              /* host, (n_expert) */
} sw_routes;
/* The calibration tokens that an expert's statistics rest on (sweep_cover.c). */
typedef struct sw_cover {
    dsb_cover kind;
    int64_t n;
    int32_t *rows; /* (n) ascending, owned; NULL: the routed ones, or none */
} sw_cover;
/* DSB_EINPUT where the plan says that a starved expert is an error. */
dsb_status sw_cover_choose(const sweep *sw, int64_t layer, int64_t e, const sw_calib *c, const sw_by_expert *by, sw_cover *out, dsb_err *err);
/* Loads the block's routers and norms, and routes calibration streams; of a dense block only its norms. */
dsb_status sw_load_routers(sweep *sw, int64_t layer, dsb_err *err);
/* Routes all rows of a stream into r. */
dsb_status sw_route_stream(sweep *sw, const sw_stream *s, bool bf16, const dsb_router_weights *w, dsb_routing *r, dsb_err *err);
/* A scheme's router, re-fitted where its rule says so (sweep_router_fit.c), and the routing of its own calibration stream; tells the observer. */
dsb_status sw_load_router(sweep *sw, int scheme, const dsb_linear_spec *spec, dsb_err *err);
dsb_status sw_route(sweep *sw, int64_t layer, sw_routes *out, dsb_err *err);
void sw_routes_release(const sweep *sw, sw_routes *r);

/* ---- sequences (sweep_layout.c) ---- */
dsb_status sw_layout_open(sweep *sw, dsb_err *err);
void sw_layout_close(sweep *sw);
/* Positions and sequences of n rows from layout_chunk on; returns the number of sequences. Borrowed until the next call. */
int64_t sw_layout(sweep *sw, int64_t n, const int32_t **pos, const dsb_seq **seqs);

dsb_status sw_attention(sweep *sw, int64_t layer, dsb_err *err);
void sw_attention_release(sweep *sw);
dsb_status sw_mlp(sweep *sw, int64_t layer, dsb_err *err);
dsb_status sw_head(sweep *sw, dsb_err *err);

#endif
