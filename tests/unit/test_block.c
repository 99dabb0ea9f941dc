/* A linear whose weight is loaded tile by tile gives the outputs of the whole one, bias included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/block.h"

enum { N = 5, ROWS = 37, COLS = 24, TILE = 8 };
static float weight[ROWS * COLS];

static dsb_status load(const dsb_linear_tiles *t, int64_t first, dsb_linear *out, dsb_err *err) {
    dsb_linear_spec part = dsb_linear_spec_part(&t->spec, first, t->rows);
    if (first == t->scheme) return dsb_fail(err, DSB_EINPUT, "a tile is broken");
    return dsb_backend_cpu(NULL)->pack_float(&out->w, DSB_W_F32, weight + first * COLS, part.rows, COLS, err);
}

static void test_block__a_weight_in_tiles_multiplies_as_the_whole_one(void **state) {
    dsb_model m = {.be = dsb_backend_cpu(NULL)};
    dsb_workspace ws;
    dsb_err err = {0};
    float x[N * COLS], bias[ROWS], whole[N * ROWS], parts[N * ROWS];
    for (int i = 0; i < ROWS * COLS; i++) weight[i] = (float)(i * 2654435761u % 1000) / 500 - 1;
    for (int i = 0; i < N * COLS; i++) x[i] = (float)(i * 40503u % 1000) / 500 - 1;
    for (int i = 0; i < ROWS; i++) bias[i] = (float)i;
    dsb_linear_tiles tiles = {.scheme = -1, .rows = TILE, .spec = {.rows = ROWS, .cols = COLS}, .load = load};
    dsb_linear a = {.bias = bias}, b = {.bias = bias, .tiles = &tiles, .w = {.rows = ROWS, .cols = COLS}};
    assert_int_equal(m.be->pack_float(&a.w, DSB_W_F32, weight, ROWS, COLS, &err), DSB_OK);
    dsb_workspace_init(&ws, m.be);
    assert_int_equal(dsb_linear_apply(&m, &a, true, x, N, &ws, whole, &err), DSB_OK);
    assert_int_equal(dsb_linear_apply(&m, &b, true, x, N, &ws, parts, &err), DSB_OK);
    assert_memory_equal(whole, parts, sizeof whole);
    tiles.scheme = 2 * TILE;
    assert_int_equal(dsb_linear_apply(&m, &b, true, x, N, &ws, parts, &err), DSB_EINPUT);
    assert_string_equal(err.text, "a tile is broken");
    m.be->unpack(&a.w);
    dsb_workspace_release(&ws);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_block__a_weight_in_tiles_multiplies_as_the_whole_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
