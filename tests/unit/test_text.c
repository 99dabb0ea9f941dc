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

static void expect_text(const char *path, const char *field, const char *wanted, size_t n_document) {
    dsb_text_file text;
    dsb_err err;
    char sha256[65];
    if (dsb_text_load(&text, path, field, &err)) fail_msg("%s", err.text);
    assert_int_equal(text.n, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.n + 1);
    assert_int_equal(text.n_document, n_document);
    dsb_sha256_hex(wanted, text.n, sha256);
    assert_string_equal(text.sha256, sha256);
    dsb_text_drop(&text);
    assert_null(text.data);
    assert_string_equal(text.sha256, sha256);
    dsb_text_file_release(&text);
}

static void test_text__documents_of_jsonl_are_joined_by_an_empty_line(void **state) {
    temp_dir t;
    temp_make(&t);
    temp_text(&t, "a.jsonl", "{\"text\": \"one\\n\", \"body\": \"x\"}\r\n\n{\"text\": \"tw\\u00e9\", \"body\": \"\"}");
    expect_text(t.file, NULL, "one\n\n\ntw\u00e9", 2);
    expect_text(t.file, "body", "x\n\n", 2);
    temp_text(&t, "a.dump", "{\"text\": \"one\"}"); /* JSONL only where a field says so */
    expect_text(t.file, NULL, "{\"text\": \"one\"}", 1);
    expect_text(t.file, "text", "one", 1);
    temp_text(&t, "a.txt", "{\"text\": \"one\"}"); /* never: a field may be meant for another text of the run */
    expect_text(t.file, "text", "{\"text\": \"one\"}", 1);
    temp_remove(&t);
}

static void test_text__a_folder_is_its_texts_in_order_of_their_paths(void **state) {
    temp_dir t;
    char sub[128];
    temp_make(&t);
    snprintf(sub, sizeof sub, "%s/b", t.path);
    assert_int_equal(dsb_dir_make(sub, NULL), DSB_OK);
    temp_text(&t, "c.md", "four");
    temp_text(&t, "b/z.txt", "three");
    temp_text(&t, "b.jsonl", "{\"text\": \"1\"}\n{\"text\": \"2\"}\n");
    temp_text(&t, "a.txt", "zero");
    temp_text(&t, "a.html", "no");
    temp_text(&t, ".hidden.txt", "no");
    expect_text(t.path, NULL, "zero\n\n1\n\n2\n\nthree\n\nfour", 5); /* "b." comes before "b/" */
    temp_remove(&t);
}

static void test_text__bad_documents_are_refused(void **state) {
    dsb_text_file text;
    dsb_err err;
    temp_dir t;
    char link[128], dir[128];
    temp_make(&t);
    refused(dsb_text_load(&text, t.path, NULL, &err), &err, DSB_EINPUT, t.path, "no *.txt, *.md or *.jsonl");
    refused(dsb_text_load(&text, temp_text(&t, "a.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}"), NULL, &err), &err, DSB_EINPUT, "a.jsonl, line 2: field \"text\" is missing", "--field");
    refused(dsb_text_load(&text, temp_text(&t, "a.jsonl", "{\"text\": 3}"), NULL, &err), &err, DSB_EINPUT, "line 1: field \"text\" isn't a string", "--field");
    refused(dsb_text_load(&text, temp_text(&t, "a.jsonl", "\n\n"), NULL, &err), &err, DSB_EINPUT, "a.jsonl", "holds no document");
    refused(dsb_text_load(&text, temp_text(&t, "a.jsonl", "{\"text\": \"\xc3\"}"), NULL, &err), &err, DSB_EINPUT, "a.jsonl", "byte 0xc3 at offset 10");
    refused(dsb_text_load(&text, temp_text(&t, "a.jsonl", "{\"text\": \"a\"} x"), NULL, &err), &err, DSB_EINPUT, "a.jsonl, line 1: not valid JSON", NULL);
    temp_text(&t, "a.jsonl", "{\"text\": \"a\"}");
    temp_text(&t, "b.txt", "caf\xe9");
    refused(dsb_text_load(&text, t.path, NULL, &err), &err, DSB_EINPUT, "b.txt", "offset 3");
    temp_text(&t, "b.txt", "b");
    snprintf(link, sizeof link, "%s/l.txt", t.path);
    assert_int_equal(symlink("/etc/hostname", link), 0);
    refused(dsb_text_load(&text, t.path, NULL, &err), &err, DSB_EINPUT, "l.txt: a symbolic link", NULL);
    unlink(link);
    snprintf(dir, sizeof dir, "%s/d", t.path);
    assert_int_equal(symlink("/tmp", dir), 0);
    refused(dsb_text_load(&text, t.path, NULL, &err), &err, DSB_EINPUT, "/d: a symbolic link", NULL);
    temp_remove(&t);
}

/* A map's last page is full, almost full, just begun: the zero byte behind the text is there. */
static void test_text__a_zero_byte_follows_whatever_the_length(void **state) {
    static char long_text[8194];
    dsb_text_file text;
    temp_dir t;
    temp_make(&t);
    memset(long_text, 'a', sizeof long_text);
    for (size_t n = 4095; n <= 8193; n += n == 4097 ? 4094 : 1) {
        assert_int_equal(dsb_text_file_load(&text, temp_put(&t, "a.txt", long_text, n), NULL), DSB_OK);
        assert_true(text.n == n && text.data[n] == 0 && text.data[n - 1] == 'a');
        dsb_text_file_release(&text);
    }
    temp_remove(&t);
}

/* Pieces of 8 MiB end between characters: a long text of three-byte characters is whole, a bad byte behind it is found where it is. */
static void test_text__a_long_text_is_checked_in_pieces(void **state) {
    enum { CHARS = 3000000, N = 3 * CHARS };
    char *long_text = malloc(N + 1), sha256[65];
    dsb_text_file text;
    dsb_err err;
    temp_dir t;
    assert_non_null(long_text);
    temp_make(&t);
    for (int i = 0; i < N; i += 3) memcpy(long_text + i, "\u20ac", 3);
    long_text[N] = '\x82';
    if (dsb_text_file_load(&text, temp_put(&t, "a.txt", long_text, N), &err)) fail_msg("%s", err.text);
    dsb_sha256_hex(long_text, N, sha256);
    assert_string_equal(text.sha256, sha256);
    dsb_text_forget(&text, 0, N); /* it comes back from the file */
    assert_memory_equal(text.data, long_text, N);
    dsb_text_file_release(&text);
    refused(dsb_text_file_load(&text, temp_put(&t, "a.txt", long_text, N + 1), &err), &err, DSB_EINPUT, "a.txt: byte 0x82 at offset 9000000", NULL);
    long_text[(8 << 20) - 1] = 'x';
    refused(dsb_text_file_load(&text, temp_put(&t, "a.txt", long_text, N), &err), &err, DSB_EINPUT, "a.txt: byte 0xe2 at offset 8388606", NULL);
    free(long_text);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text__byte_for_byte), cmocka_unit_test(test_text__not_utf8_names_the_offset), cmocka_unit_test(test_text__standard_input),
        cmocka_unit_test(test_text__reflow),        cmocka_unit_test(test_builtin__checksum_and_absence),
        cmocka_unit_test(test_text__documents_of_jsonl_are_joined_by_an_empty_line),
        cmocka_unit_test(test_text__a_folder_is_its_texts_in_order_of_their_paths),
        cmocka_unit_test(test_text__bad_documents_are_refused),
        cmocka_unit_test(test_text__a_zero_byte_follows_whatever_the_length),
        cmocka_unit_test(test_text__a_long_text_is_checked_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
