/* What a sweep takes under each way of running it, from the largest to the smallest, and the choice among them.
 * Sizes are upper bounds of what the other parts allocate: a change there belongs here too (test_sweep_memory holds the sum). */
#include <float.h>
#include <math.h>
#include <stdint.h>

#include "engine/stored.h"
#include "engine/sweep_internal.h"

static const double k_hold_bytes = 64 << 20; /* held weights of a block */
enum { TILE_WEIGHTS = 16 << 20 };              /* of the vocabulary matrix, or of a wide linear that is not held, loaded at a time */
static const double k_own = 24 << 20;          /* small things: vectors, lists, the allocator's */

/* Some linears that are loaded together. */
typedef struct group {
    double weights, widest; /* of all, of the largest that is loaded at a time */
    double ref, own;        /* bytes of the reference's that are held, packed; weights of which schemes hold their own form */
    double tile, tile_rows; /* weights, and outputs, of the largest tile of those that are not held */
    double of_tiles;        /* weights that are loaded again for each product */
    double stored;          /* bytes in the checkpoint */
    double outs, inner;     /* Σ outputs; the most inputs of one */
    double narrow;          /* the smallest side of one */
    bool unlike;            /* the reference holds one in another form than it is stored in */
    double squares;         /* Σ (inputs of a linear)², shared ones counted twice: an upper bound */
} group;

static double smaller(double a, double b) { return a < b ? a : b; }
static double larger(double a, double b) { return a > b ? a : b; }

static bool every_by_rows(const sweep *sw, const dsb_linear_spec *spec) {
    bool every = true;
    for (int i = 0; i < sw->plan->n_scheme; i++) every &= sw_by_rows(sw, i, spec);
    return every;
}

/* tile_weights: of the way, 0: all is held whole. */
static void group_add(const sweep *sw, group *g, const dsb_linear_spec *spec, int64_t tile_weights) {
    dsb_stored s;
    dsb_err ignored;
    bool found = !dsb_stored_find(&sw->m->checkpoint, spec->stem, spec->rows, spec->cols, &s, &ignored), half = found && (s.w->dtype == DSB_BF16 || s.w->dtype == DSB_F16);
    double n = (double)spec->rows * (double)spec->cols;
    double rows = tile_weights > 0 ? (double)sw_tile_rows(tile_weights, spec->rows, spec->cols, sw_row_block(sw, spec)) : (double)spec->rows, tile = rows * (double)spec->cols;
    bool every = every_by_rows(sw, spec);
    g->weights += n;
    g->unlike |= sw->plan->bf16_reference && !(found && s.w->dtype == DSB_BF16);
    g->widest = larger(g->widest, every ? tile : n);
    if (tile < n) {
        g->tile = larger(g->tile, tile);
        g->tile_rows = larger(g->tile_rows, rows);
        g->of_tiles += n;
    }
    g->ref += tile < n ? 0 : n * (half ? 2 : 4);
    g->own += tile < n && every ? 0 : n;
    g->stored += found ? (double)dsb_stored_bytes(&s) : 2 * n;
    double side = smaller((double)spec->rows, (double)spec->cols);
    g->narrow = g->narrow == 0 || side < g->narrow ? side : g->narrow;
    g->outs += (double)spec->rows;
    g->squares += (double)spec->cols * (double)spec->cols;
    g->inner = larger(g->inner, (double)spec->cols);
}

typedef struct sizes {
    group attn, dense, shared, router, expert, head; /* one of each; head is empty where no position is scored */
    double expert_whole;                             /* bytes of an expert and its INT4 form, whole */
    bool sensitivity, router_fit;                    /* a recipe asks what INT4 does to each expert; re-fits routers */
    double attn_keys;                        /* values a token of keys, values and heads' outputs */
    double each, most;                       /* bytes a weight of all schemes' own forms, and of the largest */
    int64_t n_own_input;                     /* schemes with a calibration stream of their own */
    bool compensated;                        /* a scheme's errors are worked on */
    bool transformed;                        /* a scheme holds a weight beside its transformed form */
    bool rotated;                            /* a scheme's stream is */
    bool gram, factor;                       /* products of calibration inputs are counted; and factored, which stays beside them */
    int64_t n_moe, n_scored, n_own;          /* n_own: schemes with a checkpoint of their own */
    bool head_whole;                         /* a scheme makes its vocabulary matrix of the whole one: no tiles */
} sizes;

/* Bytes a weight that low-rank factors add at most: a matrix has no side below `narrow`; kernels pad a rank to 16. */
static double low_rank_bytes(const dsb_recipe *r, double narrow) {
    double rank = 0;
    for (int i = 0; r && i < r->n_rule; i++)
        if (r->rules[i].compensation & DSB_COMP_LOW_RANK && (double)r->rules[i].rank > rank) rank = (double)r->rules[i].rank;
    return rank > 0 ? 4 * (smaller(rank, narrow) + 16) / narrow : 0;
}

static bool compensates(const dsb_recipe *r) {
    for (int i = 0; r && i < r->n_rule; i++)
        if (r->rules[i].compensation) return true;
    return false;
}

static void measure(const sweep *sw, int64_t tile_weights, sizes *z) {
    const dsb_config *c = &sw->m->config;
    dsb_linear_spec specs[8];
    *z = (sizes){0};
    int n = dsb_attn_specs(c, 0, specs);
    for (int i = 0; i < n; i++) {
        group_add(sw, &z->attn, &specs[i], tile_weights);
        if (specs[i].role == DSB_ROLE_ATTN_O) z->attn_keys += 3 * (double)specs[i].cols;
        else z->attn_keys += (double)specs[i].rows; /* no head has wider keys than its projections */
    }
    int64_t first_moe = -1, first_dense = -1;
    for (int64_t l = c->n_layer - 1; l >= 0; l--) {
        bool moe = dsb_layer_is_moe(c, l);
        z->n_moe += moe;
        if (moe) first_moe = l;
        else first_dense = l;
    }
    for (int kind = 0; kind < 3; kind++) {
        if (kind == 0 ? first_dense < 0 : first_moe < 0 || (kind == 1 && c->n_shared == 0)) continue;
        dsb_ffn_specs(c, kind == 0 ? first_dense : first_moe, kind == 0 ? DSB_ROLE_DENSE_GATE : kind == 1 ? DSB_ROLE_SHARED_GATE : DSB_ROLE_EXPERT_GATE, kind == 2 ? 0 : -1, specs);
        group whole = {0};
        for (int i = 0; i < 3; i++) {
            group_add(sw, kind == 0 ? &z->dense : kind == 1 ? &z->shared : &z->expert, &specs[i], tile_weights);
            group_add(sw, &whole, &specs[i], 0);
        }
        z->expert_whole = kind == 2 ? whole.ref + 4 * whole.weights + 10 * whole.widest : 0; /* its INT4 form as f32; codes, both as f32 again */
    }
    if (first_moe >= 0) {
        dsb_router_spec(c, first_moe, specs);
        group_add(sw, &z->router, specs, 0);
    }
    for (int64_t t = 0; t < sw->n_tok; t++) z->n_scored += sw->plan->targets[t] >= 0;
    if (sw->n_tok > 0) {
        dsb_head_spec(c, specs);
        group_add(sw, &z->head, specs, 0);
        z->head_whole = !every_by_rows(sw, specs);
    }
    double narrow = DBL_MAX;
    const group *all[] = {&z->attn, &z->dense, &z->shared, &z->expert};
    bool unlike = z->head.unlike; /* schemes that keep weights hold their own */
    for (int i = 0; i < 4; i++) {
        narrow = all[i]->narrow > 0 ? smaller(narrow, all[i]->narrow) : narrow;
        unlike |= all[i]->unlike;
    }
    for (int i = 0; i < sw->plan->n_scheme; i++) {
        double b = dsb_scheme_weight_bytes(sw->m->be, &sw->plan->schemes[i]) + (unlike ? 4 : 0) + low_rank_bytes(sw->plan->schemes[i].recipe, narrow);
        z->compensated |= compensates(sw->plan->schemes[i].recipe);
        z->each += b;
        z->most = b > z->most ? b : z->most;
        z->n_own += !sw->plan->schemes[i].own_source;
        const dsb_recipe *recipe = sw->plan->schemes[i].recipe;
        for (int k = 0; recipe && k < recipe->n_rule; k++) {
            const dsb_rule *rule = &recipe->rules[k];
            z->transformed |= rule->transform != DSB_TRANSFORM_NONE;
            z->sensitivity |= rule->when == DSB_WHEN_BUDGET && rule->by == DSB_BY_SENSITIVITY;
            z->router_fit |= rule->compensation & DSB_COMP_ROUTER;
            z->factor |= rule->format && dsb_algorithm_find(rule->algorithm)->method == DSB_METHOD_GPTQ;
        }
        z->rotated |= recipe && recipe->rotate;
        z->gram |= recipe && recipe->needs & DSB_NEED_GRAM;
        z->n_own_input += recipe && recipe->needs & DSB_NEED_OWN_INPUT;
    }
}

static double floor_to(double x, double step) { return (double)(int64_t)(x / step) * step; }

/* Buffers of the loader for one tensor: f32 of the reference and decoded, codes, the same as blocks; a scheme's own. */
static double loader_bytes(const sizes *z, double widest) { return widest * (10.25 + (z->n_own || z->rotated ? 5 : 0) + (z->compensated ? 4 : 0) + (z->transformed ? 4 : 0)); }

/* Products of calibration inputs, and two copies of the widest that an algorithm works on. */
static double gram_bytes(const sizes *z, const group *g) { return z->gram ? 8 * (g->squares * (double)((1 + z->n_own_input) * (1 + z->factor)) + 2 * g->inner * g->inner) : 0; }

static double held(const sizes *z, const group *g, double n, bool all) { return n * (g->ref + g->own * (all ? z->each : z->most)) + g->tile * larger(4, z->most); }

/* Weights and kernels' scratch of one feed-forward (n of them held) over `rows` rows. */
static double ffn_bytes(const sizes *z, const group *g, double n, double rows, const dsb_sweep_costs *w, double *weights) {
    if (g->weights == 0) return 0;
    *weights = larger(*weights, held(z, g, n, w->all_schemes || w->hold));
    return held(z, g, n, w->all_schemes || w->hold) + gram_bytes(z, g) + loader_bytes(z, g->widest) + rows * (8 * g->outs / 2 + g->inner + 8 + 4 * g->tile_rows);
}

/* A router re-fitted to rows of inputs: products of inputs (and the copies that are solved), sums, weights, rows on the host. */
static double router_bytes(const sizes *z, double rows) {
    const group *g = &z->router;
    return g->weights == 0 ? 0 : held(z, g, 1, true) + gram_bytes(z, g) + loader_bytes(z, g->widest) + (z->router_fit ? 12 * g->weights + rows * (4 * g->inner + 8 * g->outs) : 0) + rows * 8 * g->outs;
}

/* Fills the sizes of one way; what the vocabulary projection takes is chosen to fit below `limit`. */
static void weigh(const sweep *sw, const sizes *z, dsb_sweep_costs *w, double limit) {
    const dsb_config *c = &sw->m->config;
    double d = (double)c->d_model, k = sw->plan->n_scheme, n = (double)sw->n_tok, iso = (double)sw->n_iso, cal = (double)(sw->plan->n_cal_chunk * sw->plan->n_ctx);
    double t = (double)(w->tile_chunks * sw->plan->n_ctx), r = smaller(SW_TILE, t), pass = w->hold ? smaller(t, n) : n, iso_pass = smaller(pass, iso), own = cal * (double)z->n_own_input, residual = 4 * d * (n + cal) + 2 * d * own;
    for (int i = 0; i < sw->plan->n_scheme; i++) residual += d * (n + iso) * (sw->plan->schemes[i].bf16 ? 2 : 4);
    double streams = residual + 4 * d * (pass + cal + own + k * (pass + 2 * iso_pass));
    double e = (double)c->n_expert, slots = (double)c->router.k, scores = sw->plan->cover.balance ? cal + own : 0; /* of calibration, to top up experts */
    double routing = z->n_moe ? 8 * e * (2 * n + 2 * iso + scores) + (16 * slots + 4) * ((2 + k) * (n + iso + cal) + 2 * own) + 12 * e * r : 0;
    w->activation_bytes = (int64_t)((w->spill ? 0 : streams) + routing);
    w->spill_bytes = w->spill ? (int64_t)streams : 0;
    double scratch = 4 * d * ((z->rotated ? (double)sw->plan->n_ctx : 0) + 5 * t + 3 * r + (w->spill ? 4 * t : 0) + 2 * iso_pass) + 40.0 * SW_TILE;
    double attn_weights = held(z, &z->attn, 1, w->all_schemes), weights = attn_weights;
    double attn = attn_weights + gram_bytes(z, &z->attn) + loader_bytes(z, z->attn.widest) + t * (4 * (d + z->attn.outs + z->attn_keys + z->attn.tile_rows) + z->attn.inner + 8);
    double mlp = ffn_bytes(z, &z->dense, 1, r, w, &weights);
    double shared = ffn_bytes(z, &z->shared, 1, r, w, &weights), experts = ffn_bytes(z, &z->expert, w->hold ? e : 1, r, w, &weights);
    mlp = larger(mlp, w->hold ? shared + experts : larger(shared, experts));
    mlp = larger(mlp, router_bytes(z, r));
    if (z->sensitivity) mlp = larger(mlp, z->expert_whole + r * (4 * z->expert.outs + z->expert.inner + 8));
    double v = (double)c->vocab, fixed = (double)w->activation_bytes + scratch + k_own, head = 0;
    if (z->head.weights > 0) {
        double tile = z->head_whole ? v : smaller(v, (double)sw_tile_rows(TILE_WEIGHTS, c->vocab, c->d_model, 1)), load = gram_bytes(z, &z->head) + loader_bytes(z, tile * d), out = v > tile ? 4 * tile : 0;
        double hold = held(z, &z->head, 1, true) + load + SW_HEAD_ROWS * (8 * v + out + 6 * d);
        double one = held(z, &z->head, tile / v, true) + load, row = 4 * v * (k + 1) + out + 6 * d;
        w->head_tile = (int64_t)tile;
        w->hold_head = limit == 0 || fixed + hold <= limit || hold <= one + SW_HEAD_LEAST * row;
        double room = limit > 0 ? (limit - fixed - one) / row : 0, want = larger(SW_HEAD_ROWS, smaller(SW_TILE, (double)z->n_scored));
        w->head_rows = w->hold_head ? SW_HEAD_ROWS : (int64_t)larger(SW_HEAD_LEAST, floor_to(smaller(room, want), SW_HEAD_LEAST));
        head = w->hold_head ? hold : one + (double)w->head_rows * row;
        if (w->hold_head) weights = larger(weights, held(z, &z->head, 1, true));
    }
    double peak = larger(attn, larger(mlp, head));
    w->weight_bytes = (int64_t)weights;
    w->scratch_bytes = (int64_t)(scratch + k_own + peak - weights);
    w->total_bytes = (int64_t)(fixed + peak);
}

/* What is read and computed, however it is run. */
static void work(const sweep *sw, const sizes *z, dsb_sweep_costs *w) {
    const dsb_config *c = &sw->m->config;
    double layers = (double)c->n_layer, moe = (double)z->n_moe, e = (double)c->n_expert, n = (double)sw->n_tok, cal = (double)(sw->plan->n_cal_chunk * sw->plan->n_ctx);
    double tokens = n + cal * (double)(1 + 2 * z->n_own_input) + sw->plan->n_scheme * (n + 2 * (double)sw->n_iso);
    double active = layers * z->attn.weights + (layers - moe) * z->dense.weights + moe * (z->shared.weights + (double)c->router.k * z->expert.weights);
    double all = layers * z->attn.weights + (layers - moe) * z->dense.weights + moe * (z->shared.weights + e * z->expert.weights);
    double again = w->tile_weights > 0 ? ceil(n / (double)(w->tile_chunks * sw->plan->n_ctx)) + (double)(sw->n_iso / sw->plan->n_ctx) : 0; /* that tiles are made again */
    w->operations = 2 * (tokens * active + (double)z->n_scored * (1 + sw->plan->n_scheme) * z->head.weights);
    w->read_bytes = (int64_t)(layers * z->attn.stored + (layers - moe) * z->dense.stored + moe * (z->shared.stored + e * z->expert.stored) + z->head.stored);
    for (int i = 0; i < sw->plan->n_scheme; i++) {
        w->encoded += all + again * (layers * z->attn.of_tiles + (layers - moe) * z->dense.of_tiles + moe * z->shared.of_tiles);
        if (!sw->plan->schemes[i].own_source) w->read_bytes += (int64_t)sw->plan->schemes[i].source->bytes;
    }
}

/* From the quickest to the smallest. */
static const struct way {
    bool hold, wide, spill, all, tiled;
} k_ways[] = {
    {.hold = true, .wide = true, .all = true},
    {.hold = true, .all = true},
    {.hold = true, .spill = true, .all = true},
    {.wide = true, .all = true},
    {.all = true},
    {.spill = true, .all = true},
    {.spill = true},
    {.wide = true, .tiled = true},
    {.wide = true, .spill = true, .tiled = true},
    {.spill = true, .tiled = true},
};

bool sw_choose(const sweep *sw, dsb_sweep_costs *out) {
    const dsb_sweep_plan *p = sw->plan;
    const dsb_config *c = &sw->m->config;
    int64_t wide = SW_TILE / p->n_ctx > 0 ? SW_TILE / p->n_ctx : 1, least = INT64_MAX;
    bool found = false;
    sizes whole, tiles, *z = &whole;
    measure(sw, 0, &whole);
    measure(sw, TILE_WEIGHTS, &tiles);
    if (p->how) {
        *out = *p->how;
        measure(sw, p->how->tile_weights, &whole);
        weigh(sw, z, out, 1);
        out->hold_head = p->how->hold_head;
        out->head_rows = p->how->head_rows;
        out->head_tile = p->how->head_tile;
        return true;
    }
    bool may_hold = larger(held(z, &z->expert, (double)c->n_expert, true) + held(z, &z->shared, 1, true), held(z, &z->dense, 1, true)) <= k_hold_bytes;
    for (size_t i = 0; i < sizeof k_ways / sizeof *k_ways; i++) {
        const struct way *y = &k_ways[i];
        dsb_sweep_costs w = {.hold = y->hold, .all_schemes = y->all, .spill = y->spill, .tile_chunks = y->wide ? wide : 1, .tile_weights = y->tiled ? TILE_WEIGHTS : 0}, small = w;
        if (y->hold && !may_hold) continue;
        z = y->tiled ? &tiles : &whole;
        weigh(sw, z, &small, 1);
        if (small.total_bytes < least) least = small.total_bytes;
        if (found) continue;
        weigh(sw, z, &w, (double)p->memory);
        found = p->memory == 0 || w.total_bytes <= p->memory;
        *out = w;
    }
    out->least_bytes = least;
    work(sw, out->tile_weights ? &tiles : &whole, out);
    return found;
}
