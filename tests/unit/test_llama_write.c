/* llama.cpp's logits files, written: what is read back is what its encoder makes, and a file is whole or absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "metrics/llama_logits.h"
#include "metrics/llama_write.h"
#include "tests/unit/temp_files.h"

enum { CTX = 7, CHUNKS = 2, PER = 3, V = 5 }; /* positions 3, 4, 5; an odd vocabulary is padded */

static void logits_make(float *z, int row) {
    for (int v = 0; v < V; v++) z[v] = (float)((row * 7 + v * 5) % 11) - 20 * (v == row % V);
}

static void test_llama_write__what_is_written_is_read_back(void **state) {
    int32_t tokens[CTX * CHUNKS];
    float z[V], scale, lp_min;
    uint16_t q[V];
    dsb_llama_writer w;
    dsb_llama_file f;
    dsb_err err;
    temp_dir t;
    char path[128];
    temp_make(&t);
    snprintf(path, sizeof path, "%s/x.kld", t.path);
    for (int i = 0; i < CTX * CHUNKS; i++) tokens[i] = i % V;
    assert_int_equal(dsb_llama_writer_open(&w, path, CTX, V, CHUNKS, tokens, &err), DSB_OK);
    for (int i = 0; i < CHUNKS * PER; i++) {
        logits_make(z, i);
        assert_int_equal(dsb_llama_writer_row(&w, z, &err), DSB_OK);
    }
    assert_int_equal(access(path, F_OK), -1); /* not before it is whole */
    refused(dsb_llama_writer_row(&w, z, &err), &err, DSB_EINTERNAL, "more rows", NULL);
    assert_int_equal(dsb_llama_writer_finish(&w, &err), DSB_OK);
    dsb_llama_writer_close(&w);
    if (dsb_llama_open(&f, path, &err)) fail_msg("%s", err.text);
    assert_true(f.n_ctx == CTX && f.n_vocab == V && f.n_chunk == CHUNKS && f.per_chunk == PER);
    for (int i = 0; i < CTX * CHUNKS; i++) assert_int_equal(dsb_llama_token(&f, i / CTX, i % CTX), tokens[i]);
    for (int i = 0; i < CHUNKS * PER; i++) {
        dsb_llama_row row = dsb_llama_row_at(&f, i / PER, i % PER);
        double sum = 0, max = -1e9, lse = 0;
        logits_make(z, i);
        dsb_llama_encode(z, V, &scale, &lp_min, q);
        assert_true(row.scale == scale && row.lp_min == lp_min && row.q[2 * V] == 0 && row.q[2 * V + 1] == 0);
        for (int v = 0; v < V; v++) max = fmax(max, z[v]);
        for (int v = 0; v < V; v++) lse += exp(z[v] - max);
        for (int v = 0; v < V; v++) {
            int code = row.q[2 * v] | row.q[2 * v + 1] << 8;
            double lp = (double)scale * code + lp_min, exact = z[v] - max - log(lse);
            assert_int_equal(code, q[v]);
            /* Half a code of 16/65535 at most, and a few roundings of numbers below 32; what lies 16 below the largest is cut there. */
            if (z[v] > max - 16) assert_true(fabs(lp - exact) <= 0.5 * 16 / 65535 + 32 * 4 * 0x1p-24);
            else assert_int_equal(code, 0);
            sum += exp(lp);
        }
        assert_true(fabs(sum - 1) < 1e-3); /* V·e^-16 of what was cut, and half a code of each: below 2e-4 */
    }
    dsb_llama_close(&f);
    temp_remove(&t);
}

static void test_llama_write__an_unfinished_file_is_dropped(void **state) {
    int32_t tokens[CTX * CHUNKS] = {0};
    float z[V] = {0};
    dsb_llama_writer w;
    dsb_err err;
    temp_dir t;
    char path[128];
    temp_make(&t);
    snprintf(path, sizeof path, "%s/x.kld", t.path);
    assert_int_equal(dsb_llama_writer_open(&w, path, CTX, V, CHUNKS, tokens, &err), DSB_OK);
    assert_int_equal(dsb_llama_writer_row(&w, z, &err), DSB_OK);
    z[2] = INFINITY;
    refused(dsb_llama_writer_row(&w, z, &err), &err, DSB_ENONFINITE, "token 2", NULL);
    refused(dsb_llama_writer_finish(&w, &err), &err, DSB_EINTERNAL, "5 rows are missing", NULL);
    dsb_llama_writer_close(&w);
    assert_int_equal(temp_entries(t.path), 0);
    refused(dsb_llama_writer_open(&w, "/proc/none/x.kld", CTX, V, CHUNKS, tokens, &err), &err, DSB_EOUTPUT, "/proc/none/x.kld", "can't be written");
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_write__what_is_written_is_read_back),
        cmocka_unit_test(test_llama_write__an_unfinished_file_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
