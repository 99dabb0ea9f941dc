/* UTF-8: every character there and back, Unicode's table 3-7 of well-formed sequences, NFC's stable ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "datasets/utf8.h"

static void test_utf8__every_character(void **state) {
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char b[12];
        size_t n = dsb_utf8_encode(c, b), len = 0;
        assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        if (dsb_utf8_check(b, n) != (surrogate ? 0 : n)) fail_msg("U+%04X is taken for %s", c, surrogate ? "well-formed" : "malformed");
        if (surrogate) continue;
        if (dsb_utf8_decode(b, &len) != c || len != n) fail_msg("U+%04X is decoded as another", c);
        memcpy(b + n, "x", 1);
        assert_ptr_equal(dsb_utf8_back(b, b + n), b);
        assert_ptr_equal(dsb_utf8_back(b, b + n + 1), b + n);
        for (size_t cut = 1; cut < n; cut++) assert_int_equal(dsb_utf8_check(b, cut), 0); /* truncated */
    }
}

/* All pairs of bytes: well-formed exactly where the table says so. */
static int well_formed2(unsigned a, unsigned b) { return (a < 0x80 && b < 0x80) || (a >= 0xc2 && a <= 0xdf && b >= 0x80 && b <= 0xbf); }

static void test_utf8__pairs_of_bytes(void **state) {
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++) {
            char s[2] = {(char)a, (char)b};
            size_t want = well_formed2(a, b) ? 2 : a < 0x80 ? 1 : 0;
            if (dsb_utf8_check(s, 2) != want) fail_msg("%02x %02x: %zu, wanted %zu", a, b, dsb_utf8_check(s, 2), want);
        }
}

static void test_utf8__malformed_sequences(void **state) {
    static const char *const bad[] = {"\x80", "\xbf", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                                      "\xf8\x88\x80\x80\x80", "\xff", "\xfe", "\xe2\x82", "\xe2\x82""A", "\xf0\x9f\x99", "\xf0\x9f""A\x82"};
    char text[64];
    /* Before it: nothing, and as much as takes the fast path of 8 bytes at a time; after it: more text. */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (size_t before = 0; before <= 17; before++) {
            memset(text, 'a', sizeof text);
            memcpy(text + before, bad[i], strlen(bad[i]));
            if (dsb_utf8_check(text, sizeof text) != before) fail_msg("sequence %zu at %zu: found at %zu", i, before, dsb_utf8_check(text, sizeof text));
            assert_int_equal(dsb_utf8_check(text, before + strlen(bad[i])), before);
        }
    assert_int_equal(dsb_utf8_check("", 0), 0);
    assert_int_equal(dsb_utf8_check("a\0b", 3), 3);
}

static void test_utf8__white_space(void **state) {
    /* Unicode's PropList: 25 characters. */
    static const uint32_t list[] = {9, 10, 11, 12, 13, 32, 0x85, 0xa0, 0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    size_t n = 0;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (!dsb_is_white_space(c)) continue;
        assert_true(n < sizeof list / sizeof *list);
        assert_int_equal(c, list[n++]);
    }
    assert_int_equal(n, sizeof list / sizeof *list);
}

static void test_utf8__nfc_stable(void **state) {
    static const char stable[] = "Größe, naïve; “quotes” – 日本語 カタカナ 한국어 🙂 ∑";
    assert_int_equal(dsb_utf8_nfc_check(stable, strlen(stable)), strlen(stable));
    assert_int_equal(dsb_utf8_nfc_check("abe\u0301", 5), 3); /* e + acute: composes */
    assert_int_equal(dsb_utf8_nfc_check("\u212b", 3), 0);    /* Angstrom sign: becomes Å */
    assert_int_equal(dsb_utf8_nfc_check("x\u2126", 4), 1);   /* Ohm sign: becomes Ω */
    assert_int_equal(dsb_utf8_nfc_check("か\u3099", 6), 3);  /* becomes が */
    assert_int_equal(dsb_utf8_nfc_check("\u0340", 2), 0);
    assert_int_equal(dsb_utf8_nfc_check("\u0958", 3), 0);     /* decomposes */
    assert_int_equal(dsb_utf8_nfc_check("\ufb1d", 3), 0);
    assert_int_equal(dsb_utf8_nfc_check("\u1100\u1161", 6), 0); /* Hangul letters: compose */
    assert_int_equal(dsb_utf8_nfc_check("", 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8__every_character), cmocka_unit_test(test_utf8__pairs_of_bytes), cmocka_unit_test(test_utf8__malformed_sequences),
        cmocka_unit_test(test_utf8__white_space),     cmocka_unit_test(test_utf8__nfc_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
