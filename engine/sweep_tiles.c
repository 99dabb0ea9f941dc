/* Wide linears of attention and feed-forwards that are not held: a product loads their rows of outputs tile by tile, under the
 * reference and under schemes that quantize rows apart (dsb_recipe_by_rows). Other schemes hold theirs whole. */
#include <stdio.h>

#include "engine/sweep_internal.h"

int64_t sw_tile_rows(int64_t tile_weights, int64_t rows, int64_t cols, int64_t block) {
    int64_t step = block > DSB_ROW_TILE ? block : DSB_ROW_TILE, n; /* powers of two */
    while (step * cols % DSB_MOMENT_BLOCK) step *= 2; /* figures of the parts add up to the whole's */
    n = tile_weights / cols / step * step;
    return n > step ? n < rows ? n : rows : step < rows ? step : rows;
}

int64_t sw_row_block(const sweep *sw, const dsb_linear_spec *spec) {
    int64_t block = 1;
    for (int i = 0; i < sw->plan->n_scheme && dsb_role_writes_stream(spec->role); i++) {
        int64_t rotation = dsb_scheme_rotation(&sw->plan->schemes[i], &sw->m->config);
        block = rotation > block ? rotation : block;
    }
    return block;
}

static int64_t tile_rows(const sweep *sw, const dsb_linear_spec *spec) { return sw_tile_rows(sw->how.tile_weights, spec->rows, spec->cols, sw_row_block(sw, spec)); }

bool sw_by_rows(const sweep *sw, int scheme, const dsb_linear_spec *spec) {
    const dsb_recipe *r = sw->plan->schemes[scheme].recipe;
    char tensor[300];
    snprintf(tensor, sizeof tensor, "%s.weight", spec->stem);
    return !r || dsb_recipe_by_rows(r, spec->role, tensor, spec->cols);
}

static bool tiled(const sweep *sw, const dsb_linear_spec *spec) {
    return sw->how.tile_weights > 0 && spec->of == 0 && spec->role != DSB_ROLE_ROUTER && spec->role != DSB_ROLE_LM_HEAD && tile_rows(sw, spec) < spec->rows;
}

static dsb_status load_tile(const dsb_linear_tiles *t, int64_t first, dsb_linear *out, dsb_err *err) {
    sweep *sw = t->ctx;
    dsb_linear_spec part = dsb_linear_spec_part(&t->spec, first, t->rows);
    return t->scheme < 0 ? dsb_load_reference(&sw->loader, &part, out, err) : sw_load_scheme_part(sw, t->scheme, &part, NULL, out, NULL, err);
}

/* A linear of which nothing but the bias is there. */
static dsb_status open_tiles(sweep *sw, int scheme, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err) {
    DSB_TRY(DSB_NEW(out->tiles, 1, "a weight's tiles", err));
    *out->tiles = (dsb_linear_tiles){.ctx = sw, .scheme = scheme, .rows = tile_rows(sw, spec), .spec = *spec, .load = load_tile};
    out->w.rows = spec->rows;
    out->w.cols = spec->cols;
    return dsb_load_bias(sw->m, scheme < 0 ? NULL : &sw->plan->schemes[scheme], spec, out, err);
}

/* A look at all tiles, for the figures of the whole weight; its input is prepared as the first one's. */
static dsb_status open_scheme(sweep *sw, int scheme, const dsb_linear_spec *spec, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, dsb_err *err) {
    int64_t rows = tile_rows(sw, spec);
    *out = (dsb_linear){0};
    for (int64_t first = 0; first < spec->rows; first += rows) {
        dsb_linear_spec part = dsb_linear_spec_part(spec, first, rows);
        dsb_linear tile = {0};
        dsb_status s = sw_load_scheme_part(sw, scheme, &part, ref, &tile, event, err);
        if (first == 0 && tile.borrowed) *out = tile;
        else if (first == 0) *out = (dsb_linear){.activation = tile.activation, .static_scale = tile.static_scale, .rotation = tile.rotation};
        dsb_linear_release(sw->be, &tile);
        if (s) return s;
    }
    event->spec = spec;
    return out->borrowed ? DSB_OK : open_tiles(sw, scheme, spec, out, err);
}

dsb_status sw_load_reference(sweep *sw, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err) {
    if (!out || !tiled(sw, spec)) return dsb_load_reference(&sw->loader, spec, out, err);
    *out = (dsb_linear){.bf16_input = sw->plan->bf16_reference};
    return open_tiles(sw, -1, spec, out, err);
}

dsb_status sw_load_scheme(sweep *sw, int scheme, const dsb_linear_spec *spec, const dsb_linear *ref, dsb_linear *out, dsb_err *err) {
    if (sw->n_tensor == SW_EVENTS) DSB_TRY(sw_tell(sw, err));
    dsb_tensor_event *event = &sw->tensor[sw->n_tensor].e;
    sw->tensor[sw->n_tensor].spec = *spec;
    sw->tensor[sw->n_tensor++].scheme = scheme;
    if (tiled(sw, spec) && sw_by_rows(sw, scheme, spec)) DSB_TRY(open_scheme(sw, scheme, spec, ref, out, event, err));
    else DSB_TRY(sw_load_scheme_part(sw, scheme, spec, ref, out, event, err));
    return sw->be->whole_open ? DSB_OK : sw_tell_tensors(sw, err);
}

dsb_status sw_add_magnitudes(sweep *sw, const dsb_linear_spec *spec, double *sum, dsb_err *err) {
    int64_t rows = tiled(sw, spec) ? tile_rows(sw, spec) : spec->rows;
    for (int64_t first = 0; first < spec->rows; first += rows) {
        dsb_linear_spec part = rows < spec->rows ? dsb_linear_spec_part(spec, first, rows) : *spec;
        DSB_TRY(dsb_load_reference(&sw->loader, &part, NULL, err));
        const float *x = sw->loader.w_ref;
        for (int64_t j = 0; j < part.rows * part.cols; j++) *sum += x[j] < 0 ? -(double)x[j] : (double)x[j];
    }
    return DSB_OK;
}
