/* int8 x int8 -> int32 by tiles, exactly: 16 rows of 64 inputs times 64 inputs of 16 outputs. A tile of weights is 16 cells as they lie in memory;
 * I4 is unpacked to such cells first, once a block of rows. Inputs are copied tile by tile, so that a tile is read in one piece. Blocks of 32 rows by
 * 2 panels use each tile twice; long rows go in pieces whose weights stay in the first-level cache while the rows of a task pass by. */
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/amx/gemm.h"
#include "kernels/avx512/gemm.h"

enum { TILE_ROWS = 16, TILE_CELLS = 16, TILE = 1024, PIECE_CELLS = 128, TASK_ROWS = 256 };

/* As LDTILECFG reads it. Tiles 0 .. 3: sums, [block of rows][panel]; 4, 5: inputs and weights; 6, 7: those of a group's last, narrower step. */
typedef struct config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} config;

/* Tiles of m rows, and a last step of `tail` cells; only where they change. */
static void configure(config *c, int m, int tail) {
    if (c->palette && c->rows[0] == m && c->rows[7] == tail) return;
    *c = (config){.palette = 1};
    for (int t = 0; t < 8; t++) {
        c->rows[t] = (uint8_t)(t == 5 ? TILE_CELLS : t == 7 ? tail : t == 6 && !tail ? 0 : m);
        c->row_bytes[t] = (uint16_t)(t == 6 ? 4 * tail : t == 7 && !tail ? 0 : DSB_CELL);
    }
    __asm__ volatile("" : : : "memory"); /* the intrinsic tells the compiler of 8 of its bytes */
    _tile_loadconfig(c);
}

#define STEP(A, B)                            \
    do {                                      \
        _tile_loadd(B, b, DSB_CELL);          \
        _tile_loadd(A, a, DSB_CELL);          \
        _tile_dpbssd(0, A, B);                \
        if (nr == 2) {                        \
            _tile_loadd(A, a + rows, DSB_CELL); \
            _tile_dpbssd(2, A, B);            \
        }                                     \
        if (np == 2) {                        \
            _tile_loadd(B, b + panel, DSB_CELL); \
            if (nr == 2) {                    \
                _tile_dpbssd(3, A, B);        \
                _tile_loadd(A, a, DSB_CELL);  \
            }                                 \
            _tile_dpbssd(1, A, B);            \
        }                                     \
    } while (0)

typedef int32_t tile_sums[TILE_ROWS * DSB_NR];
typedef float tile_floats[TILE_ROWS * DSB_NR];

/* Adds the products of `cells` cells to the sums (`more`) or begins them: nr blocks of rows, `rows` bytes apart, by np panels, `panel` bytes apart. */
static inline __attribute__((always_inline)) void products(int nr, int np, const uint8_t *b, int64_t panel, const uint8_t *a, int64_t rows, int64_t cells, bool more, tile_sums *sums) {
    if (more) {
        _tile_loadd(0, sums[0], DSB_CELL);
        if (np == 2) _tile_loadd(1, sums[1], DSB_CELL);
        if (nr == 2) _tile_loadd(2, sums[2], DSB_CELL);
        if (nr == 2 && np == 2) _tile_loadd(3, sums[3], DSB_CELL);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (; cells >= TILE_CELLS; cells -= TILE_CELLS, b += TILE, a += TILE) STEP(4, 5);
    if (cells) STEP(6, 7);
    _tile_stored(0, sums[0], DSB_CELL);
    if (np == 2) _tile_stored(1, sums[1], DSB_CELL);
    if (nr == 2) _tile_stored(2, sums[2], DSB_CELL);
    if (nr == 2 && np == 2) _tile_stored(3, sums[3], DSB_CELL);
}

/* What lies between pieces of a block of 32 rows by 2 panels: [block of rows][panel]. */
typedef struct state {
    _Alignas(64) tile_sums sums[4];
    _Alignas(64) tile_floats f[4];
} state;

/* One task: np panels from p on, as cells of I8, against rows first .. last. */
typedef struct task {
    const dsb_wmat *w;
    const uint8_t *cells, *inputs; /* of panel p; tiles of all rows */
    int64_t p, np, panel, first, last;
    const float *x_scale;
    float *y;
    config *config;
    state *state; /* one a block of rows */
} task;

/* A stretch of inputs: cells from .. to of each of the groups g .. end; where it begins in a panel's cells and in a row's tiles. */
typedef struct piece {
    int64_t g, end, from, to, cell, step;
} piece;

/* Cells of I8 of group g, and the tiles of inputs that they meet. */
static int64_t group_cells(const dsb_wmat *w, int64_t g) {
    int64_t inputs = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group;
    return dsb_cells(w->kind, inputs) * dsb_cell_inputs(w->kind) / 4;
}
static int64_t row_steps(const dsb_wmat *w) {
    int64_t groups = dsb_ceil_div(w->cols, w->group);
    return (groups - 1) * dsb_ceil_div(group_cells(w, 0), TILE_CELLS) + dsb_ceil_div(group_cells(w, groups - 1), TILE_CELLS);
}

/* nr blocks of m rows (16 where there are two) from `row` on. */
static inline __attribute__((always_inline)) void block(const task *t, const piece *q, int64_t row, int nr, int np, int m, state *s) {
    const dsb_wmat *w = t->w;
    int64_t groups = dsb_ceil_div(w->cols, w->group), rows = row_steps(w) * TILE;
    const uint8_t *b = t->cells + q->cell * DSB_CELL, *a = t->inputs + row / TILE_ROWS * rows + q->step * TILE;
    for (int64_t g = q->g; g < q->end; g++) {
        int64_t all = group_cells(w, g), to = q->to < all ? q->to : all, cells = to - q->from;
        configure(t->config, m, (int)(cells % TILE_CELLS));
        products(nr, np, b, t->panel, a, rows, cells, q->from > 0, s->sums);
        b += cells * DSB_CELL;
        a += dsb_ceil_div(cells, TILE_CELLS) * TILE;
        for (int j = 0; j < np && to == all; j++) {
            __m512 scale = _mm512_loadu_ps(w->scales + ((t->p + j) * groups + g) * DSB_NR);
            for (int i = 0; i < nr; i++)
                for (int r = 0; r < m; r++) {
                    float *f = s->f[2 * i + j] + r * DSB_NR;
                    __m512 before = g ? _mm512_load_ps(f) : _mm512_setzero_ps();
                    _mm512_store_ps(f, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(s->sums[2 * i + j] + r * DSB_NR)), scale, before));
                }
        }
    }
    if (q->end < groups || q->to < group_cells(w, groups - 1)) return;
    for (int j = 0; j < np; j++) {
        int64_t first = (t->p + j) * DSB_NR;
        __mmask16 mask = (__mmask16)(w->rows - first < DSB_NR ? (1u << (w->rows - first)) - 1 : 0xffffu);
        for (int i = 0; i < nr; i++)
            for (int r = 0; r < m; r++) {
                int64_t at = row + i * TILE_ROWS + r;
                _mm512_mask_storeu_ps(t->y + at * w->rows + first, mask, _mm512_mul_ps(_mm512_load_ps(s->f[2 * i + j] + r * DSB_NR), _mm512_set1_ps(t->x_scale[at])));
            }
    }
}

static void rows_of_piece(const task *t, const piece *q) {
    int64_t i = t->first;
    state *s = t->state;
    for (; i + 2 * TILE_ROWS <= t->last; i += 2 * TILE_ROWS, s++) {
        if (t->np == 2) block(t, q, i, 2, 2, TILE_ROWS, s);
        else block(t, q, i, 2, 1, TILE_ROWS, s);
    }
    for (; i < t->last; i += TILE_ROWS, s++) {
        int m = t->last - i < TILE_ROWS ? (int)(t->last - i) : TILE_ROWS;
        if (t->np == 2) block(t, q, i, 1, 2, m, s);
        else block(t, q, i, 1, 1, m, s);
    }
}

/* Pieces of a long group, or of as many short ones as fit. */
static void task_run(const task *t) {
    int64_t groups = dsb_ceil_div(t->w->cols, t->w->group);
    piece q = {0};
    while (q.g < groups) {
        int64_t all = group_cells(t->w, q.g), cells = 0, steps = 0;
        q.to = all - q.from > PIECE_CELLS ? q.from + PIECE_CELLS : all;
        for (q.end = q.g; q.end < groups && (q.end == q.g || (q.to == all && !q.from && cells + all <= PIECE_CELLS)); q.end++) {
            int64_t some = q.end == q.g ? q.to - q.from : group_cells(t->w, q.end);
            cells += some;
            steps += dsb_ceil_div(some, TILE_CELLS);
        }
        rows_of_piece(t, &q);
        q.cell += cells;
        q.step += steps;
        q.from = q.to < all ? q.to : 0;
        q.g = q.from ? q.g : q.end;
    }
}

/* n cells of I4 to twice as many of I8. */
static void unpack(const uint8_t *from, int64_t n, uint8_t *to) {
    const __m512i low = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8);
    for (int64_t c = 0; c < n; c++, to += 2 * DSB_CELL) {
        __m512i v = _mm512_loadu_si512(from + c * DSB_CELL);
        _mm512_storeu_si512(to, _mm512_sub_epi8(_mm512_and_si512(v, low), eight));
        _mm512_storeu_si512(to + DSB_CELL, _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(v, 4), low), eight));
    }
    __asm__ volatile("" : : : "memory"); /* tiles are loaded behind the compiler's back */
}

/* The codes of 16 rows tile by tile, zeros where a group's last one ends. Rows that aren't there are never read. */
static uint8_t *tiles_of_inputs(const dsb_wmat *w, const dsb_act *x) {
    int64_t blocks = dsb_ceil_div(x->n, TILE_ROWS), row_bytes = row_steps(w) * TILE, groups = dsb_ceil_div(w->cols, w->group);
    uint8_t *tiles = aligned_alloc(DSB_CELL, (size_t)(blocks * row_bytes));
    if (!tiles) abort(); /* little more than the activations that are there already */
#pragma omp parallel for schedule(static) if (x->n * w->cols > 1 << 18)
    for (int64_t i = 0; i < x->n; i++) {
        uint8_t *to = tiles + i / TILE_ROWS * row_bytes + i % TILE_ROWS * DSB_CELL;
        for (int64_t g = 0; g < groups; g++) {
            int64_t end = (g + 1) * w->group < w->cols ? (g + 1) * w->group : w->cols;
            for (int64_t k = g * w->group; k < end; k += DSB_CELL, to += TILE) {
                int64_t len = end - k < DSB_CELL ? end - k : DSB_CELL;
                __mmask64 mask = len < DSB_CELL ? ((__mmask64)1 << len) - 1 : ~(__mmask64)0;
                _mm512_store_si512(to, _mm512_maskz_loadu_epi8(mask, x->q + i * w->cols + k));
            }
        }
    }
    return tiles;
}

void dsb_gemm_int_amx(const dsb_wmat *w, const dsb_act *x, float *y) {
    if (x->n < (w->kind == DSB_W_I4 ? 16 : 8)) { /* a tile would be mostly empty, I4 unpacked for few */
        dsb_gemm_int_avx512(w, x, y);
        return;
    }
    int64_t panels = dsb_ceil_div(w->rows, DSB_NR), cells = dsb_row_cells(w->kind, w->cols, w->group), panel = cells * DSB_CELL;
    int64_t blocks = dsb_ceil_div(x->n, TASK_ROWS), steps = dsb_ceil_div(panels, 2);
    uint8_t *inputs = tiles_of_inputs(w, x);
#pragma omp parallel if (x->n * w->rows * w->cols > 1 << 20)
    {
        config tiles = {0};
        state *between = aligned_alloc(64, sizeof(state) * (TASK_ROWS / 2 / TILE_ROWS + 1));
        uint8_t *room = w->kind == DSB_W_I4 ? aligned_alloc(DSB_CELL, (size_t)(4 * panel)) : NULL;
        if (!between || (w->kind == DSB_W_I4 && !room)) abort(); /* less than the weights that are there already */
#pragma omp for schedule(static) collapse(2)
        for (int64_t b = 0; b < blocks; b++)
            for (int64_t s = 0; s < steps; s++) {
                int64_t p = 2 * s, first = b * TASK_ROWS;
                const uint8_t *data = (const uint8_t *)w->data + p * panel;
                task t = {.w = w, .cells = room ? room : data, .inputs = inputs, .p = p, .np = p + 2 <= panels ? 2 : 1, .panel = room ? 2 * panel : panel, .first = first,
                          .last = first + TASK_ROWS < x->n ? first + TASK_ROWS : x->n, .x_scale = x->scale, .y = y, .config = &tiles, .state = between};
                if (room) unpack(data, t.np * cells, room);
                task_run(&t);
            }
        free(room);
        free(between);
        _tile_release();
    }
    free(inputs);
}
