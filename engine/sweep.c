#include "engine/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sweep_internal.h"

int64_t sw_rotation(const sweep *sw, int scheme) { return dsb_scheme_rotation(&sw->plan->schemes[scheme], &sw->m->config); }

void sw_moments(const sweep *sw, const float *x, const float *y, int64_t n, dsb_moments *sum) {
    dsb_moments one;
    if (sw->be->moments_later) {
        sw->be->moments_later(x, y, n, sum);
        return;
    }
    sw->be->moments(x, y, n, &one);
    dsb_moments_add(sum, &one);
}

void sw_settle(const sweep *sw) {
    if (sw->be->settle) sw->be->settle();
}

/* Codes that a device found are known to be of numbers only now. */
static dsb_status check_tensor(const sweep *sw, int scheme, const dsb_tensor_event *e, dsb_err *err) {
    if (!e->rule || !e->rule->format || e->moments.nonfinite == 0) return DSB_OK;
    int64_t at = e->moments.first_bad;
    return dsb_fail(err, DSB_EINPUT, "%s: tensor %s.weight: element (%lld, %lld) of (%lld, %lld) is not finite; finite weights are wanted", sw->plan->schemes[scheme].source->dir, e->spec->stem, (long long)(at / e->spec->cols), (long long)(at % e->spec->cols), (long long)e->spec->rows, (long long)e->spec->cols);
}

dsb_status sw_tell_tensors(sweep *sw, dsb_err *err) {
    int n = sw->n_tensor;
    sw->n_tensor = 0;
    for (int i = 0; i < n; i++) {
        dsb_tensor_event *e = &sw->tensor[i].e;
        e->spec = &sw->tensor[i].spec;
        DSB_TRY(check_tensor(sw, sw->tensor[i].scheme, e, err));
        DSB_TRY(sw->plan->obs->tensor(sw->plan->obs->ctx, sw->tensor[i].scheme, e, err));
    }
    return DSB_OK;
}

dsb_status sw_tell(sweep *sw, dsb_err *err) {
    sw_settle(sw);
    DSB_TRY(sw_tell_tensors(sw, err));
    for (int i = 0; i < sw->n_event; i++) {
        dsb_layer_event *e = &sw->event[i].e;
        e->moments = &sw->event[i].moments;
        DSB_TRY(sw->plan->obs->layer(sw->plan->obs->ctx, e, err));
    }
    sw->n_event = 0;
    return DSB_OK;
}

dsb_status sw_layer_event(sweep *sw, int scheme, int64_t layer, dsb_point point, dsb_kind kind, int64_t chunk, const float *ref, const float *test, dsb_err *err) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx, rotation = sw_rotation(sw, scheme);
    float *back;
    if (rotation) {
        SW_TAKE(ST_BACK, back, ctx * d);
        sw->be->hadamard(test, ctx, d, rotation, back);
        test = back;
    }
    if (sw->n_event == SW_EVENTS) DSB_TRY(sw_tell(sw, err));
    sw->event[sw->n_event].e = (dsb_layer_event){.scheme = scheme, .layer = layer, .chunk = chunk, .point = point, .kind = kind};
    sw->event[sw->n_event].moments = (dsb_moments){.first_bad = -1};
    sw_moments(sw, ref, test, ctx * d, &sw->event[sw->n_event++].moments);
    return DSB_OK;
}

dsb_status sw_load_scheme_part(sweep *sw, int scheme, const dsb_linear_spec *spec, const dsb_linear *ref, dsb_linear *out, dsb_tensor_event *event, dsb_err *err) {
    dsb_expert_facts facts = dsb_calibration_facts(sw->cal, spec);
    return dsb_load_scheme(&sw->loader, &sw->plan->schemes[scheme], spec, &facts, dsb_calibration_range(sw->cal, spec), sw_calib_stats(sw, scheme, spec), ref, out, event, err);
}

void sw_want(const sweep *sw, const dsb_linear_spec *specs, int n) {
    for (int i = 0; i < n; i++) {
        dsb_checkpoint_want(&sw->m->checkpoint, specs[i].stem, specs[i].rows, specs[i].cols);
        for (int s = 0; s < sw->plan->n_scheme; s++)
            if (!sw->plan->schemes[s].own_source) dsb_checkpoint_want(sw->plan->schemes[s].source, specs[i].stem, specs[i].rows, specs[i].cols);
    }
}

void sw_phase(sweep *sw) {
    if (sw->how.hold) return;
    dsb_loader_release(&sw->loader);
    dsb_loader_init(&sw->loader, sw->m);
    sw->loader.bf16_reference = sw->plan->bf16_reference;
    sw->loader.times = sw->plan->times;
    dsb_workspace_release(&sw->ws);
    dsb_workspace_init(&sw->ws, sw->be);
}

void sw_progress(sweep *sw, double work, const char *what) {
    sw->work_done += work;
    if (sw->plan->obs->progress) sw->plan->obs->progress(sw->plan->obs->ctx, sw->work_done / sw->work_total, what);
}

sw_pass sw_pass_from(const sweep *sw, int64_t at) {
    int64_t ctx = sw->plan->n_ctx, end = at + sw->pass_rows < sw->n_tok ? at + sw->pass_rows : sw->n_tok, first = 0, last;
    while (first < sw->n_iso_chunk && sw->iso_chunks[first] * ctx < at) first++;
    for (last = first; last < sw->n_iso_chunk && sw->iso_chunks[last] * ctx < end;) last++;
    return (sw_pass){.at = at, .n = end - at, .iso_at = first * ctx, .iso_n = (last - first) * ctx};
}

static void count_into(const sweep *sw, int64_t *sum) {
    if (sw->be->count_into) sw->be->count_into(sum);
}

void sw_clip_begin(sweep *sw, int scheme) {
    sw->ws.clipped = sw->ws.static_values = 0;
    count_into(sw, &sw->schemes[scheme].clipped);
}

void sw_clip_end(sweep *sw, int scheme) {
    count_into(sw, NULL);
    sw->schemes[scheme].clipped += sw->ws.clipped;
    sw->schemes[scheme].values += sw->ws.static_values;
}

/* Embeds tokens into a stream, tile by tile. */
static dsb_status embed(sweep *sw, sw_stream *s, const dsb_scheme *scheme, const int32_t *tokens, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x, *host;
    DSB_TRY(DSB_NEW(host, sw->rows * d, "embedding", err));
    dsb_status st = dsb_workspace_take(&sw->tile, ST_X, (size_t)(sw->rows * d) * sizeof *x, (void **)&x, err);
    for (int64_t at = 0; at < s->n && !st; at += sw->rows) {
        int64_t n = s->n - at < sw->rows ? s->n - at : sw->rows;
        st = dsb_embed(sw->m, scheme, tokens + at, n, host, err);
        if (st) break;
        sw->be->upload(x, host, (size_t)(n * d) * sizeof *x);
        st = sw_store(sw, s, at, n, x, err);
        dsb_checkpoint_drop(scheme->source, dsb_checkpoint_find(scheme->source, "model.embed_tokens.weight"));
    }
    free(host);
    return st;
}

/* Which chunks give isolated figures: every isolated_every-th, the first included. */
static dsb_status choose_isolated(sweep *sw, dsb_err *err) {
    const dsb_sweep_plan *p = sw->plan;
    int64_t every = p->isolated_every < 1 ? 1 : p->isolated_every;
    if (p->n_scheme == 0) every = p->n_chunk + 1;
    DSB_TRY(DSB_NEW(sw->iso_chunks, p->n_chunk + 1, "chunks", err));
    DSB_TRY(DSB_NEW(sw->all_chunks, p->n_chunk + 1, "chunks", err));
    for (int64_t c = 0; c < p->n_chunk; c++) {
        sw->all_chunks[c] = c;
        if (c % every == 0 && p->n_scheme > 0 && (!p->n_isolated_chunk || c < p->n_isolated_chunk)) sw->iso_chunks[sw->n_iso_chunk++] = c;
    }
    sw->n_iso = sw->n_iso_chunk * p->n_ctx;
    DSB_TRY(DSB_NEW(sw->iso_rows, sw->n_iso + 1, "chunks", err));
    for (int64_t i = 0; i < sw->n_iso; i++) sw->iso_rows[i] = (int32_t)(sw->iso_chunks[i / p->n_ctx] * p->n_ctx + i % p->n_ctx);
    return DSB_OK;
}

static dsb_status scheme_open(sweep *sw, int i, dsb_err *err) {
    sw_scheme *s = &sw->schemes[i];
    const dsb_scheme *scheme = &sw->plan->schemes[i];
    int64_t iso = sw->pass_rows < sw->n_iso ? sw->pass_rows : sw->n_iso;
    DSB_TRY(sw_stream_alloc(sw, &s->acc, scheme->bf16, sw->n_tok, err));
    DSB_TRY(sw_stream_alloc(sw, &s->block, scheme->bf16, sw->n_iso, err));
    DSB_TRY(sw_stream_alloc(sw, &s->acc_out, false, sw->pass_rows, err));
    DSB_TRY(sw_stream_alloc(sw, &s->block_out, false, iso, err));
    DSB_TRY(sw_stream_alloc(sw, &s->iso_out, false, iso, err));
    if (sw->m->config.n_expert > 0) {
        DSB_TRY(dsb_routing_alloc(&s->acc_route, &sw->m->config, sw->n_tok, false, err));
        DSB_TRY(dsb_routing_alloc(&s->block_route, &sw->m->config, sw->n_iso, false, err));
    }
    DSB_TRY(embed(sw, &s->acc, scheme, sw->plan->tokens, err));
    if (!scheme->recipe || !(scheme->recipe->needs & DSB_NEED_OWN_INPUT)) return DSB_OK;
    DSB_TRY(sw_calib_open(sw, &s->own, scheme, err));
    return embed(sw, &s->own.rows, scheme, sw->plan->cal_tokens, err);
}

static dsb_status too_little(const sweep *sw, dsb_err *err) {
    return dsb_fail(err, DSB_EUSAGE, "memory for the sweep: %lld MB; this model, these schemes and tokens want at least %lld MB", (long long)(sw->plan->memory >> 20), (long long)(sw->how.least_bytes >> 20) + 1);
}

static dsb_status sweep_open(sweep *sw, dsb_err *err) {
    const dsb_sweep_plan *p = sw->plan;
    const dsb_config *c = &sw->m->config;
    sw->n_tok = p->n_chunk * p->n_ctx;
    sw->reference = (dsb_scheme){.name = "reference", .source = &sw->m->checkpoint, .own_source = true};
    dsb_workspace_init(&sw->ws, sw->be);
    dsb_workspace_init(&sw->tile, sw->be);
    dsb_workspace_init(&sw->host, NULL);
    dsb_loader_init(&sw->loader, sw->m);
    sw->loader.bf16_reference = sw->plan->bf16_reference;
    sw->loader.times = sw->plan->times;
    if (p->n_ctx > sw->m->n_pos) return dsb_fail(err, DSB_EUSAGE, "chunks of %lld tokens are wanted, but the model was opened for %lld positions", (long long)p->n_ctx, (long long)sw->m->n_pos);
    DSB_TRY(choose_isolated(sw, err));
    if (!sw_choose(sw, &sw->how)) return too_little(sw, err);
    int64_t tile_rows = sw->how.tile_chunks * p->n_ctx;
    sw->rows = tile_rows < SW_TILE ? tile_rows : SW_TILE;
    sw->pass_rows = sw->how.hold && tile_rows < sw->n_tok ? tile_rows : sw->n_tok;
    if (sw->how.spill) DSB_TRY(dsb_spill_open(&sw->spill, p->spill_dir ? p->spill_dir : ".", sw->how.spill_bytes, err));
    int32_t *host_pos;
    void *dev;
    DSB_TRY(DSB_NEW(host_pos, tile_rows, "positions", err));
    for (int64_t i = 0; i < tile_rows; i++) host_pos[i] = (int32_t)(i % p->n_ctx);
    dsb_status s = sw->be->alloc(&dev, (size_t)tile_rows * sizeof *host_pos, "positions", err);
    if (!s) {
        sw->pos = dev;
        sw->be->upload(dev, host_pos, (size_t)tile_rows * sizeof *host_pos);
    }
    free(host_pos);
    if (s) return s;
    DSB_TRY(DSB_NEW(sw->seqs, sw->how.tile_chunks, "chunks", err));
    for (int64_t i = 0; i < sw->how.tile_chunks; i++) sw->seqs[i] = (dsb_seq){.q0 = i * p->n_ctx, .n_q = p->n_ctx, .kv0 = i * p->n_ctx, .n_kv = p->n_ctx};
    DSB_TRY(sw_layout_open(sw, err));
    DSB_TRY(sw_stream_alloc(sw, &sw->ref, false, sw->n_tok, err));
    DSB_TRY(sw_stream_alloc(sw, &sw->ref_out, false, sw->pass_rows, err));
    DSB_TRY(sw_calib_open(sw, &sw->calib, &sw->reference, err));
    if (c->n_expert > 0) DSB_TRY(dsb_routing_alloc(&sw->ref_route, c, sw->n_tok, true, err));
    DSB_TRY(embed(sw, &sw->ref, &sw->reference, p->tokens, err));
    DSB_TRY(embed(sw, &sw->calib.rows, &sw->reference, p->cal_tokens, err));
    DSB_TRY(DSB_NEW(sw->schemes, p->n_scheme + 1, "schemes", err));
    for (int i = 0; i < p->n_scheme; i++) DSB_TRY(scheme_open(sw, i, err));
    return DSB_OK;
}

static void sweep_close(sweep *sw) {
    sw_settle(sw); /* nobody writes to what goes now */
    for (int i = 0; sw->schemes && i < sw->plan->n_scheme; i++) {
        sw_scheme *s = &sw->schemes[i];
        sw_stream *all[] = {&s->acc, &s->block, &s->acc_out, &s->block_out, &s->iso_out};
        for (int j = 0; j < 5; j++) sw_stream_release(sw, all[j]);
        dsb_router_release(sw->be, &s->router);
        dsb_routing_release(&s->acc_route);
        dsb_routing_release(&s->block_route);
        sw_calib_release(sw, &s->own);
    }
    if (sw->schemes) sw_attention_release(sw);
    free(sw->schemes);
    dsb_router_release(sw->be, &sw->ref_router);
    sw_stream_release(sw, &sw->ref);
    sw_stream_release(sw, &sw->ref_out);
    sw_calib_release(sw, &sw->calib);
    dsb_routing_release(&sw->ref_route);
    dsb_loader_release(&sw->loader);
    dsb_workspace_release(&sw->ws);
    dsb_workspace_release(&sw->tile);
    dsb_workspace_release(&sw->host);
    dsb_spill_close(&sw->spill);
    if (sw->pos) sw->be->release(sw->pos);
    sw_layout_close(sw);
    free(sw->seqs);
    free(sw->iso_chunks);
    free(sw->all_chunks);
    free(sw->iso_rows);
}

static dsb_status clip_events(sweep *sw, int64_t layer, dsb_err *err) {
    for (int i = 0; i < sw->plan->n_scheme; i++) {
        sw_scheme *s = &sw->schemes[i];
        dsb_clip_event e = {.scheme = i, .layer = layer, .values = s->values, .clipped = s->clipped};
        s->values = s->clipped = 0;
        if (e.values > 0) DSB_TRY(sw->plan->obs->clip(sw->plan->obs->ctx, &e, err));
    }
    return DSB_OK;
}

/* Read-ahead begins with a block's attention; the MLP asks for each expert while the one before it runs. */
static void want_block(const sweep *sw, int64_t layer) {
    dsb_linear_spec specs[5];
    sw_want(sw, specs, dsb_attn_specs(&sw->m->config, layer, specs));
}

static dsb_status sweep_blocks(sweep *sw, dsb_err *err) {
    const dsb_observer *obs = sw->plan->obs;
    int64_t n = sw->m->config.n_layer;
    sw->work_total = (double)n + 0.5;
    for (int64_t l = 0; l < n; l++) {
        want_block(sw, l);
        DSB_TRY(sw_attention(sw, l, err));
        sw_attention_release(sw);
        sw_phase(sw);
        DSB_TRY(sw_mlp(sw, l, err));
        sw_phase(sw);
        DSB_TRY(sw_tell(sw, err));
        DSB_TRY(clip_events(sw, l, err));
        DSB_TRY(sw->be->check(err)); /* before the block's figures are kept */
        DSB_TRY(obs->block_done(obs->ctx, l, err));
    }
    if (sw->n_tok == 0) return DSB_OK;
    DSB_TRY(sw_head(sw, err));
    DSB_TRY(sw->be->check(err));
    return obs->block_done(obs->ctx, n, err);
}

dsb_status dsb_sweep_costs_of(const dsb_sweep_plan *plan, dsb_sweep_costs *out, dsb_err *err) {
    sweep sw = {.plan = plan, .m = plan->m, .n_tok = plan->n_chunk * plan->n_ctx};
    int64_t every = plan->isolated_every < 1 ? 1 : plan->isolated_every;
    int64_t from = plan->n_isolated_chunk && plan->n_isolated_chunk < plan->n_chunk ? plan->n_isolated_chunk : plan->n_chunk;
    sw.n_iso = plan->n_scheme > 0 ? (from + every - 1) / every * plan->n_ctx : 0;
    bool fits = sw_choose(&sw, &sw.how);
    *out = sw.how;
    return fits ? DSB_OK : too_little(&sw, err);
}

dsb_status dsb_sweep_run(const dsb_sweep_plan *plan, dsb_calibration *cal, dsb_err *err) {
    sweep sw = {.plan = plan, .m = plan->m, .be = plan->m->be, .cal = cal, .spill = {.fd = -1}};
    *cal = (dsb_calibration){0};
    count_into(&sw, NULL);
    DSB_TRY(dsb_calibration_init(cal, &plan->m->config, err));
    for (int i = 0; i < plan->n_scheme; i++)
        if (plan->schemes[i].recipe && plan->schemes[i].recipe->needs_histogram) DSB_TRY(dsb_calibration_count(cal, err));
    cal->n_token = plan->n_cal_chunk * plan->n_ctx;
    dsb_status s = sweep_open(&sw, err);
    if (!s) s = sweep_blocks(&sw, err);
    sweep_close(&sw);
    return s;
}
