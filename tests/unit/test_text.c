/* Texts: taken byte for byte, the offset of what is no UTF-8, the reflow of hard-wrapped prose, the built-in texts' checksum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "datasets/builtin.h"
#include "datasets/text.h"
#include "tests/unit/temp_files.h"

static void test_text__byte_for_byte(void **state) {
    static const char bytes[] = "\xef\xbb\xbf a\r\n\n\tb\0c \xc3\xa9\n";
    temp_dir t;
    dsb_text_file text;
    char hex[65];
    temp_make(&t);
    assert_int_equal(dsb_text_file_load(&text, temp_put(&t, "a.txt", bytes, sizeof bytes - 1), NULL), DSB_OK);
    assert_int_equal(text.n, sizeof bytes - 1);
    assert_memory_equal(text.data, bytes, sizeof bytes); /* and its NUL */
    dsb_sha256_hex(bytes, sizeof bytes - 1, hex);
    assert_string_equal(text.sha256, hex);
    dsb_text_file_release(&text);
    assert_int_equal(dsb_text_file_load(&text, temp_put(&t, "empty.txt", "", 0), NULL), DSB_OK);
    assert_int_equal(text.n, 0);
    assert_string_equal(text.data, "");
    dsb_text_file_release(&text);
    temp_remove(&t);
}

static void test_text__not_utf8_names_the_offset(void **state) {
    temp_dir t;
    dsb_text_file text;
    dsb_err err;
    temp_make(&t);
    refused(dsb_text_file_load(&text, temp_text(&t, "latin1.txt", "caf\xe9 noir"), &err), &err, DSB_EINPUT, t.file, "byte 0xe9 at offset 3 isn't UTF-8");
    assert_null(text.data);
    refused(dsb_text_file_load(&text, temp_text(&t, "cut.txt", "0123456789abcdef\xe2\x82"), &err), &err, DSB_EINPUT, t.file, "byte 0xe2 at offset 16");
    refused(dsb_text_file_load(&text, temp_text(&t, "utf16.txt", "\xff\xfe" "a"), &err), &err, DSB_EINPUT, t.file, "byte 0xff at offset 0");
    refused(dsb_text_file_load(&text, t.path, &err), &err, DSB_EINPUT, t.path, "not a regular file");
    refused(dsb_text_file_load(&text, "/nonexistent/a.txt", &err), &err, DSB_EINPUT, "/nonexistent/a.txt", "can't be opened");
    temp_remove(&t);
}

/* Standard input is read through a pipe, in pieces, and may be longer than the first buffer. */
static void test_text__standard_input(void **state) {
    enum { N = 3 << 20 };
    temp_dir t;
    dsb_text_file text;
    dsb_err err;
    char *big = malloc(N);
    assert_non_null(big);
    for (int i = 0; i < N; i++) big[i] = (char)('a' + i % 26);
    temp_make(&t);
    assert_non_null(freopen(temp_put(&t, "stdin", big, N), "rb", stdin));
    assert_int_equal(dsb_text_file_load(&text, "-", NULL), DSB_OK);
    assert_int_equal(text.n, N);
    assert_memory_equal(text.data, big, N);
    dsb_text_file_release(&text);
    assert_non_null(freopen(temp_text(&t, "stdin", "ab\x80"), "rb", stdin));
    refused(dsb_text_file_load(&text, "-", &err), &err, DSB_EINPUT, "standard input: ", "offset 2");
    free(big);
    temp_remove(&t);
}

static void expect_reflow(const char *from, const char *want) {
    char hex[65];
    dsb_text_file text = {.n = strlen(from)};
    text.data = malloc(text.n + 1);
    assert_non_null(text.data);
    memcpy(text.data, from, text.n + 1);
    dsb_text_reflow(&text);
    if (strcmp(text.data, want) != 0) fail_msg("'%s' becomes '%s', wanted '%s'", from, text.data, want);
    assert_int_equal(text.n, strlen(want));
    dsb_sha256_hex(want, strlen(want), hex);
    assert_string_equal(text.sha256, hex);
    dsb_text_reflow(&text); /* again: nothing is left to do */
    assert_string_equal(text.data, want);
    dsb_text_file_release(&text);
}

static void test_text__reflow(void **state) {
    expect_reflow("", "");
    expect_reflow(" \n\t\n\r\n", "");
    expect_reflow("one", "one");
    expect_reflow("one\n", "one");
    expect_reflow("  one\n  two  \n", "one two");
    expect_reflow("one\n\ntwo", "one\n\ntwo");
    expect_reflow("\n\n\none\n \t \n\n\n two\nthree\n\n", "one\n\ntwo three");
    expect_reflow("a\r\nb\r\n\r\nc", "a b\n\nc");
    expect_reflow("a\n\nb\n\nc\n\nd", "a\n\nb\n\nc\n\nd");
    expect_reflow("in  side\n\xc2\xa0\xc2\xa0no-break \xc2\xa0\n", "in  side no-break");
    expect_reflow("a\n\xc2\xa0\nb", "a\n\nb");
    expect_reflow("\xc3\xa0\n\xe2\x82\xa0\n", "\xc3\xa0 \xe2\x82\xa0"); /* a last byte of 0xa0 alone is no no-break space */
    dsb_text_file none = {0};
    dsb_text_reflow(&none);
    assert_int_equal(none.n, 0);
}

static void test_builtin__checksum_and_absence(void **state) {
    temp_dir t;
    dsb_text_file text;
    dsb_err err;
    const char *old = getenv("DSBENCH_DATA");
    char *keep = old ? strdup(old) : NULL;
    temp_make(&t);
    setenv("DSBENCH_DATA", t.path, 1);
    refused(dsb_dataset_builtin_load(DSB_BUILTIN_EVALUATION, &text, &err), &err, DSB_EINPUT, "jargon.txt", "make data");
    temp_text(&t, dsb_builtin_table[DSB_BUILTIN_EVALUATION].file, "another text");
    refused(dsb_dataset_builtin_load(DSB_BUILTIN_EVALUATION, &text, &err), &err, DSB_EINPUT, t.file, "SHA-256 is ");
    assert_non_null(strstr(err.text, dsb_builtin_table[DSB_BUILTIN_EVALUATION].sha256));
    if (keep) setenv("DSBENCH_DATA", keep, 1);
    else unsetenv("DSBENCH_DATA");
    free(keep);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text__byte_for_byte), cmocka_unit_test(test_text__not_utf8_names_the_offset), cmocka_unit_test(test_text__standard_input),
        cmocka_unit_test(test_text__reflow),        cmocka_unit_test(test_builtin__checksum_and_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
