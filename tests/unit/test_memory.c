/* Checked sizes, allocation, arenas; status codes and their one-line messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static void test_memory__checked_arithmetic(void **state) {
    size_t x = 0;
    assert_true(dsb_mul(SIZE_MAX / 3, 3, &x));
    assert_true(x == SIZE_MAX / 3 * 3);
    assert_false(dsb_mul(SIZE_MAX / 2 + 1, 2, &x));
    assert_true(dsb_mul(0, SIZE_MAX, &x));
    assert_int_equal(x, 0);
    assert_true(dsb_add(SIZE_MAX - 1, 1, &x));
    assert_false(dsb_add(SIZE_MAX, 1, &x));
}

static int is_zero(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i]) return 0;
    return 1;
}

static void test_memory__zeroed_and_aligned(void **state) {
    const size_t sizes[] = {0, 1, 63, 64, 65, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *p = NULL;
        assert_int_equal(DSB_NEW(p, sizes[i], "test", NULL), DSB_OK);
        assert_non_null(p);
        assert_true((uintptr_t)p % 64 == 0 && is_zero(p, sizes[i]));
        free(p);
    }
}

static void test_memory__absurd_sizes_are_messages(void **state) {
    dsb_err err;
    void *p = &err;
    /* The last one is a size that no machine has; address sanitizers must be told to return NULL (see `make asan`). */
    const size_t n[] = {SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX / 64};
    const size_t size[] = {1, 2, 32};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dsb_calloc(&p, n[i], size[i], "weights of x", &err), DSB_ENOMEM);
        assert_null(p);
        assert_non_null(strstr(err.text, "weights of x: "));
    }
    dsb_arena a;
    dsb_arena_init(&a);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dsb_arena_take(&a, &p, n[i], size[i], "names", &err), DSB_ENOMEM);
        assert_null(p);
        assert_non_null(strstr(err.text, "names: "));
    }
    assert_int_equal(dsb_arena_take(&a, &p, 1, 1, "names", NULL), DSB_OK); /* and it goes on */
    dsb_arena_release(&a);
}

static void test_arena__pieces_are_apart(void **state) {
    dsb_arena a;
    uint8_t *piece[200];
    dsb_arena_init(&a);
    for (int i = 0; i < 200; i++) { /* over several chunks of 1 MiB, and one larger than a chunk */
        size_t n = i == 100 ? 3u << 20 : (size_t)i * 331;
        void *p;
        assert_int_equal(dsb_arena_take(&a, &p, n, 1, "test", NULL), DSB_OK);
        piece[i] = p;
        assert_true((uintptr_t)p % 64 == 0 && is_zero(p, n));
        memset(p, i, n);
    }
    for (int i = 0; i < 200; i++)
        for (size_t k = 0; k < (i == 100 ? 3u << 20 : (size_t)i * 331); k++)
            if (piece[i][k] != (uint8_t)i) fail_msg("byte %zu of piece %d was overwritten", k, i);
    dsb_arena_release(&a);
    assert_null(a.head);
    dsb_arena_release(&a); /* twice is harmless */
}

static void test_arena__strdup(void **state) {
    dsb_arena a;
    dsb_arena_init(&a);
    char *x = dsb_arena_strdup(&a, "one"), *y = dsb_arena_strdup(&a, "");
    assert_string_equal(x, "one");
    assert_string_equal(y, "");
    dsb_arena_release(&a);
}

static void test_status__one_clean_line(void **state) {
    dsb_err err;
    assert_int_equal(dsb_fail(&err, DSB_EINPUT, "%s: bad\n\x1b[31m\x7f", "na\tme"), DSB_EINPUT);
    assert_int_equal(err.code, DSB_EINPUT);
    assert_string_equal(err.text, "na?me: bad??[31m?");
    assert_int_equal(dsb_fail(NULL, DSB_ENOMEM, "unseen"), DSB_ENOMEM);
    char longer[3000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    dsb_fail(&err, DSB_EINPUT, "%s", longer);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

static void test_status__exit_codes(void **state) {
    static const struct {
        dsb_status status;
        int code;
    } want[] = {{DSB_OK, 0}, {DSB_EUSAGE, 2}, {DSB_EINPUT, 2}, {DSB_EUNSUPPORTED, 2}, {DSB_ENONFINITE, 1}, {DSB_EREGRESSED, 1}, {DSB_ECOMPARE, 3}, {DSB_EOUTPUT, 4}, {DSB_ENOMEM, 4}, {DSB_EINTERNAL, 5}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) assert_int_equal(dsb_exit_code(want[i].status), want[i].code);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory__checked_arithmetic), cmocka_unit_test(test_memory__zeroed_and_aligned), cmocka_unit_test(test_memory__absurd_sizes_are_messages),
        cmocka_unit_test(test_arena__pieces_are_apart),    cmocka_unit_test(test_arena__strdup),              cmocka_unit_test(test_status__one_clean_line),
        cmocka_unit_test(test_status__exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
