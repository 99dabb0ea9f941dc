/* Reference products with packed weights: blocks taken out of their panel and decoded by base/packed.h, then the chain of backend.h. */
#include <math.h>
#include <string.h>

#include "kernels/ref/gemm.h"

enum { PIECE = 256, PIECE_BYTES = PIECE + 16 };

/* Bytes first .. first + n of the block of output j, whose panel's block begins at b. */
static void take(const dsb_packed *p, const uint8_t *b, int64_t j, int64_t first, int64_t n, uint8_t *out) {
    for (int64_t i = first; i < first + n; i++) *out++ = b[dsb_packed_at(p->type, i, j)];
}

/* Inputs in .. in + n of that block. */
static void decode(const dsb_packed *p, const uint8_t *b, int64_t j, int64_t in, int64_t n, float *dst) {
    uint8_t block[PIECE_BYTES];
    int64_t header = dsb_packed_header(p->type), before = header ? dsb_packed_bytes(p, in) - header : 0;
    take(p, b, j, 0, header, block);
    take(p, b, j, header + before, dsb_packed_bytes(p, n) - header, block + header);
    dsb_packed_decode(p, block, n, dst);
}

void dsb_panel_block_ref(const dsb_wmat *w, const dsb_act *x, int64_t p, float *y) {
    const dsb_packed *f = &w->packed;
    float v[PIECE];
    for (int64_t j = 0; j < DSB_NR && p * DSB_NR + j < w->rows; j++) {
        float *out = y + p * DSB_NR + j;
        for (int64_t i = 0; i < x->n; i++) out[i * w->rows] = 0;
        for (int64_t k = 0, n; k < w->cols; k += n) {
            int64_t in = k % f->n, left = f->n - in < w->cols - k ? f->n - in : w->cols - k;
            n = left < PIECE ? left : PIECE;
            decode(f, (const uint8_t *)w->data + dsb_block_at(f, w->rows, w->cols, p, k - in), j, in, n, v);
            for (int64_t i = 0; i < x->n; i++)
                for (int64_t c = 0; c < n; c++) out[i * w->rows] = fmaf(x->f32[i * w->cols + k + c], v[c], out[i * w->rows]);
        }
    }
}
