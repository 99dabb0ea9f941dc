/* Files: maps, writes that are complete or absent, folders, SHA-256. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/temp_files.h"

static void test_file__map_holds_the_bytes(void **state) {
    temp_dir t;
    dsb_map map;
    temp_make(&t);
    assert_int_equal(dsb_map_open(&map, temp_put(&t, "a", "a\0b", 3), NULL), DSB_OK);
    assert_int_equal(map.size, 3);
    assert_memory_equal(map.data, "a\0b", 3);
    dsb_map_close(&map);
    assert_null(map.data);
    assert_int_equal(dsb_map_open(&map, temp_put(&t, "empty", "", 0), NULL), DSB_OK);
    assert_true(map.size == 0 && !map.data);
    dsb_map_close(&map);
    temp_remove(&t);
}

static void test_file__map_refuses_what_is_no_file(void **state) {
    temp_dir t;
    dsb_map map;
    dsb_err err;
    char pipe_path[128];
    temp_make(&t);
    refused(dsb_map_open(&map, t.path, &err), &err, DSB_EINPUT, t.path, "not a regular file");
    refused(dsb_map_open(&map, "/nonexistent/x", &err), &err, DSB_EINPUT, "/nonexistent/x: can't be opened", "No such file");
    refused(dsb_map_open(&map, "/dev/null", &err), &err, DSB_EINPUT, "/dev/null", "not a regular file");
    /* A pipe without a writer: refused at once, never waited for. */
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", t.path);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    refused(dsb_map_open(&map, pipe_path, &err), &err, DSB_EINPUT, pipe_path, "not a regular file");
    temp_remove(&t);
}

static void test_file__write_replaces_whole(void **state) {
    temp_dir t;
    dsb_map map;
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    temp_make(&t);
    temp_text(&t, "a", "the first, longer text");
    temp_text(&t, "a", "second");
    assert_int_equal(dsb_map_open(&map, t.file, NULL), DSB_OK);
    assert_int_equal(map.size, 6);
    assert_memory_equal(map.data, "second", 6);
    dsb_map_close(&map);
    assert_int_equal(stat(t.file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
    assert_int_equal(temp_entries(t.path), 1); /* nothing temporary is left */
    temp_remove(&t);
}

static void test_file__write_that_fails_leaves_nothing(void **state) {
    temp_dir t;
    dsb_err err;
    char dir[128];
    temp_make(&t);
    refused(dsb_file_write("/nonexistent/x", "a", 1, &err), &err, DSB_EOUTPUT, "/nonexistent/x: can't be written", "No such file");
    snprintf(dir, sizeof dir, "%s/dir", t.path);
    assert_int_equal(dsb_dir_make(dir, NULL), DSB_OK);
    refused(dsb_file_write(dir, "a", 1, &err), &err, DSB_EOUTPUT, dir, "can't be written"); /* the rename fails */
    assert_int_equal(temp_entries(t.path), 1);
    temp_remove(&t);
}

static void test_file__dir_make(void **state) {
    temp_dir t;
    dsb_err err;
    char dir[160];
    struct stat st;
    temp_make(&t);
    snprintf(dir, sizeof dir, "%s/a//b/c/", t.path);
    assert_int_equal(dsb_dir_make(dir, NULL), DSB_OK);
    assert_int_equal(dsb_dir_make(dir, NULL), DSB_OK);
    assert_true(stat(dir, &st) == 0 && S_ISDIR(st.st_mode));
    temp_text(&t, "file", "x");
    refused(dsb_dir_make(t.file, &err), &err, DSB_EOUTPUT, t.file, "no folder");
    snprintf(dir, sizeof dir, "%s/file/below", t.path);
    refused(dsb_dir_make(dir, &err), &err, DSB_EOUTPUT, dir, "can't be made");
    temp_remove(&t);
}

static void test_file__sha256(void **state) {
    /* FIPS 180-2's examples. */
    char hex[65];
    temp_dir t;
    dsb_sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    dsb_sha256_hex("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    temp_make(&t);
    assert_int_equal(dsb_sha256_file(temp_text(&t, "a", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), hex, NULL), DSB_OK);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_int_equal(dsb_sha256_file(temp_text(&t, "empty", ""), hex, NULL), DSB_OK);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(dsb_sha256_file("/nonexistent/x", hex, NULL), DSB_EINPUT);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file__map_holds_the_bytes),
        cmocka_unit_test(test_file__map_refuses_what_is_no_file),
        cmocka_unit_test(test_file__write_replaces_whole),
        cmocka_unit_test(test_file__write_that_fails_leaves_nothing),
        cmocka_unit_test(test_file__dir_make),
        cmocka_unit_test(test_file__sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
