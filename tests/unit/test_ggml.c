/* ggml's block types against the oracle's gguf.* vectors (where ../shared is there), bit for bit; and by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/ggml.h"
#include "engine/safetensors.h"

static const char k_vectors[] = "../shared/oracle/quant_vectors.safetensors";

static void test_ggml__the_oracle_bit_for_bit(void **state) {
    static const struct {
        uint32_t id;
        const char *name;
    } k_case[] = {{8, "Q8_0"}, {2, "Q4_0"}, {3, "Q4_1"}, {6, "Q5_0"}, {7, "Q5_1"}, {10, "Q2_K"}, {11, "Q3_K"}, {12, "Q4_K"}, {13, "Q5_K"}, {14, "Q6_K"}, {20, "IQ4_NL"}, {23, "IQ4_XS"}, {39, "MXFP4"}};
    dsb_st_file f;
    if (access(k_vectors, R_OK) != 0) skip();
    assert_int_equal(dsb_st_open(&f, k_vectors, NULL), DSB_OK);
    for (size_t k = 0; k < sizeof k_case / sizeof *k_case; k++) {
        char name[64];
        snprintf(name, sizeof name, "gguf.%s.bytes", k_case[k].name);
        const dsb_st_tensor *bytes = dsb_st_find(&f, name);
        snprintf(name, sizeof name, "gguf.%s.deq", k_case[k].name);
        const dsb_st_tensor *deq = dsb_st_find(&f, name);
        const dsb_ggml_type *t = dsb_ggml_find(k_case[k].id);
        assert_true(bytes && deq && t);
        size_t n_block = bytes->bytes / (size_t)t->bytes;
        assert_int_equal(n_block * (size_t)t->n * 4, deq->bytes);
        for (size_t b = 0; b < n_block; b++) {
            float y[256], want[256];
            t->decode(bytes->data + b * (size_t)t->bytes, y);
            memcpy(want, deq->data + b * (size_t)t->n * 4, (size_t)t->n * 4);
            for (int i = 0; i < t->n; i++)
                if (dsb_f32_bits(y[i]) != dsb_f32_bits(want[i])) fail_msg("%s: block %zu, value %d is %.9g, wanted %.9g", k_case[k].name, b, i, (double)y[i], (double)want[i]);
        }
    }
    dsb_st_close(&f);
}

/* d = 1 (0x3c00): codes 0 and 15 are -8 and 7; the low nibble of the first byte is value 0, its high nibble value 16. */
static void test_ggml__q4_0_by_hand(void **state) {
    uint8_t block[18] = {0x00, 0x3c, 0xf0};
    float y[32];
    dsb_ggml_find(2)->decode(block, y);
    assert_true(y[0] == -8 && y[16] == 7 && y[1] == -8 && y[31] == -8);
}

static void test_ggml__names(void **state) {
    assert_string_equal(dsb_ggml_name(dsb_ggml_find(12)->id), dsb_ggml_find(12)->name);
    assert_string_equal(dsb_ggml_name(16), "iq2_xxs");
    assert_string_equal(dsb_ggml_name(4000000000u), "unknown");
    assert_null(dsb_ggml_find(0)); /* plain floats are no blocks */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ggml__the_oracle_bit_for_bit),
        cmocka_unit_test(test_ggml__q4_0_by_hand),
        cmocka_unit_test(test_ggml__names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
