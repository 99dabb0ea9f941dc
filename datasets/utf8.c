#include "datasets/utf8.h"

#include <string.h>

/* Length of the well-formed sequence at p (at most n bytes), or 0. Bounds of the second byte: Unicode, table 3-7. */
static size_t utf8_sequence(const unsigned char *p, size_t n) {
    unsigned char c = p[0];
    size_t len = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (len == 0 || len > n) return 0;
    if (len == 1) return 1;
    unsigned char lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < lo || p[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return len;
}

size_t dsb_utf8_check(const char *text, size_t n) {
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        while (i + 8 <= n && (memcpy(&word, p + i, 8), (word & 0x8080808080808080u) == 0)) i += 8;
        if (i == n) break;
        size_t len = utf8_sequence(p + i, n - i);
        if (len == 0) return i;
        i += len;
    }
    return n;
}

uint32_t dsb_utf8_decode(const char *text, size_t *len) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) return *len = 1, p[0];
    if (p[0] < 0xe0) return *len = 2, (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    if (p[0] < 0xf0) return *len = 3, (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    return *len = 4, (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

size_t dsb_utf8_encode(uint32_t c, char out[4]) {
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len; --i > 0; c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00u >> len & 0xf0) | c);
    return len;
}

const char *dsb_utf8_back(const char *text, const char *p) {
    do p--;
    while (p > text && ((unsigned char)*p & 0xc0) == 0x80);
    return p;
}

bool dsb_is_white_space(uint32_t c) {
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Ranges whose characters are all starters with NFC_Quick_Check=Yes (Unicode 14): a text of them alone is in NFC. */
static const uint32_t nfc_stable[][2] = {
    { 0x0000, 0x02ff }, { 0x038e, 0x03ff }, { 0x0400, 0x0482 }, { 0x048a, 0x0556 }, { 0x1e00, 0x1eff }, { 0x2010, 0x2027 }, { 0x202f, 0x205e }, { 0x2070, 0x20cf },
    { 0x2100, 0x2125 }, { 0x2132, 0x2328 }, { 0x232b, 0x2adb }, { 0x3001, 0x3029 }, { 0x3030, 0x3096 }, { 0x30a0, 0x312f },
    { 0x3400, 0x4dbf }, { 0x4e00, 0x9fff }, { 0xac00, 0xd7a3 }, { 0xff01, 0xffee }, { 0x1f000, 0x1faff }, { 0x20000, 0x2a6df },
};

static bool is_nfc_stable(uint32_t c) {
    for (size_t i = 0; i < sizeof nfc_stable / sizeof *nfc_stable; i++)
        if (c >= nfc_stable[i][0] && c <= nfc_stable[i][1]) return true;
    return false;
}

size_t dsb_utf8_nfc_check(const char *text, size_t n) {
    for (size_t i = 0, len; i < n; i += len)
        if (!is_nfc_stable(dsb_utf8_decode(text + i, &len))) return i;
    return n;
}
