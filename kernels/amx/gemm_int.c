/* int8 x int8 -> int32 by tiles, exactly: 16 rows of 64 inputs times 64 inputs of 16 outputs. A tile of weights is 16 cells as they lie in memory;
 * I4 is unpacked to such cells first, once a block of rows. Blocks of 32 rows by 2 panels share each tile twice. */
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/amx/gemm.h"
#include "kernels/avx512/gemm.h"

enum { TILE_ROWS = 16, TILE_CELLS = 16, TILE_INPUTS = 64 };

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

#define STEP(A, B)                                        \
    do {                                                  \
        _tile_loadd(B, b, DSB_CELL);                      \
        _tile_loadd(A, a, stride);                        \
        _tile_dpbssd(0, A, B);                            \
        if (nr == 2) {                                    \
            _tile_loadd(A, a + TILE_ROWS * stride, stride); \
            _tile_dpbssd(2, A, B);                        \
        }                                                 \
        if (np == 2) {                                    \
            _tile_loadd(B, b + panel, DSB_CELL);          \
            if (nr == 2) {                                \
                _tile_dpbssd(3, A, B);                    \
                _tile_loadd(A, a, stride);                \
            }                                             \
            _tile_dpbssd(1, A, B);                        \
        }                                                 \
    } while (0)

/* Sums of `cells` cells: nr blocks of rows by np panels, `panel` bytes apart. */
static inline __attribute__((always_inline)) void products(int nr, int np, const uint8_t *b, int64_t panel, const int8_t *a, int64_t stride, int64_t cells, int32_t sums[4][TILE_ROWS * DSB_NR]) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (; cells >= TILE_CELLS; cells -= TILE_CELLS, b += TILE_CELLS * DSB_CELL, a += TILE_INPUTS) STEP(4, 5);
    if (cells) STEP(6, 7);
    _tile_stored(0, sums[0], DSB_CELL);
    if (np == 2) _tile_stored(1, sums[1], DSB_CELL);
    if (nr == 2) _tile_stored(2, sums[2], DSB_CELL);
    if (nr == 2 && np == 2) _tile_stored(3, sums[3], DSB_CELL);
}

/* What blocks of rows multiply: np panels from p on, as cells of I8. */
typedef struct part {
    const dsb_wmat *w;
    const pr_codes *codes;
    const uint8_t *cells;
    int64_t p, np, panel; /* panel: bytes of one */
    const float *x_scale;
    float *y;
    config *config;
} part;

static int64_t cells_of(const dsb_wmat *w, int64_t inputs) { return dsb_cells(w->kind, inputs) * dsb_cell_inputs(w->kind) / 4; }

/* nr blocks of m rows (16 where there are two) from `row` on. */
static inline __attribute__((always_inline)) void block(const part *t, int64_t row, int nr, int np, int m) {
    const dsb_wmat *w = t->w;
    int64_t groups = dsb_ceil_div(w->cols, w->group), stride = t->codes->stride;
    const uint8_t *b = t->cells;
    const int8_t *a = t->codes->q + row * stride;
    _Alignas(64) int32_t sums[4][TILE_ROWS * DSB_NR];
    _Alignas(64) float f[4][TILE_ROWS * DSB_NR];
    for (int64_t g = 0; g < groups; g++) {
        int64_t cells = cells_of(w, (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group);
        configure(t->config, m, (int)(cells % TILE_CELLS));
        products(nr, np, b, t->panel, a, stride, cells, sums);
        b += cells * DSB_CELL;
        a += cells * 4;
        for (int j = 0; j < np; j++) {
            __m512 s = _mm512_loadu_ps(w->scales + ((t->p + j) * groups + g) * DSB_NR);
            for (int i = 0; i < nr; i++)
                for (int r = 0; r < m; r++) {
                    float *to = f[2 * i + j] + r * DSB_NR;
                    __m512 before = g ? _mm512_load_ps(to) : _mm512_setzero_ps();
                    _mm512_store_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums[2 * i + j] + r * DSB_NR)), s, before));
                }
        }
    }
    for (int j = 0; j < np; j++) {
        int64_t first = (t->p + j) * DSB_NR;
        __mmask16 mask = (__mmask16)(w->rows - first < DSB_NR ? (1u << (w->rows - first)) - 1 : 0xffffu);
        for (int i = 0; i < nr; i++)
            for (int r = 0; r < m; r++) {
                int64_t at = row + i * TILE_ROWS + r;
                _mm512_mask_storeu_ps(t->y + at * w->rows + first, mask, _mm512_mul_ps(_mm512_load_ps(f[2 * i + j] + r * DSB_NR), _mm512_set1_ps(t->x_scale[at])));
            }
    }
}

static void rows(const part *t, int64_t first, int64_t last) {
    int64_t i = first;
    for (; i + 2 * TILE_ROWS <= last; i += 2 * TILE_ROWS) {
        if (t->np == 2) block(t, i, 2, 2, TILE_ROWS);
        else block(t, i, 2, 1, TILE_ROWS);
    }
    for (; i < last; i += TILE_ROWS) {
        int m = last - i < TILE_ROWS ? (int)(last - i) : TILE_ROWS;
        if (t->np == 2) block(t, i, 1, 2, m);
        else block(t, i, 1, 1, m);
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

static void run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    const dsb_wmat *w = j->w;
    int64_t cells = dsb_row_cells(w->kind, w->cols, w->group), panel = cells * DSB_CELL;
    config tiles = {0};
    uint8_t *room = w->kind == DSB_W_I4 ? aligned_alloc(DSB_CELL, (size_t)(4 * panel)) : NULL;
    if (w->kind == DSB_W_I4 && !room) abort(); /* less than the weights that are there already */
    const uint8_t *data = (const uint8_t *)w->data + p * panel;
    part t = {.w = w, .codes = &j->codes, .cells = room ? room : data, .p = p, .np = end - p, .panel = room ? 2 * panel : panel, .x_scale = j->x->scale, .y = j->y, .config = &tiles};
    if (room) unpack(data, t.np * cells, room);
    rows(&t, first, last);
    free(room);
    _tile_release();
}

void dsb_plan_int_amx(pr_job *j) {
    enum { FEW_I8 = 8, FEW_I4 = 16, BLOCK_BYTES = 1 << 19, MOST_ROWS = 256 }; /* below so many rows tiles are mostly empty; a block of rows stays in the second-level cache */
    if (j->x->n < (j->w->kind == DSB_W_I4 ? FEW_I4 : FEW_I8)) {
        dsb_plan_int_avx512(j);
        return;
    }
    pr_codes_plan(&j->codes, j->w, 0);
    int64_t size = BLOCK_BYTES / j->codes.stride / (2 * TILE_ROWS) * (2 * TILE_ROWS);
    pr_cut(j, size < 2 * TILE_ROWS ? 2 * TILE_ROWS : size > MOST_ROWS ? MOST_ROWS : size, 2, run);
}
