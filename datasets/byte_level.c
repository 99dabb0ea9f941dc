#include "datasets/bpe.h"
#include "datasets/utf8.h"

/* Bytes that print stand for themselves; the others, in order, for U+0100 onwards. */
static bool prints(uint32_t byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae; }

/* How many bytes below this one don't print: 33 before '!', 34 from DEL to U+00A0, and the soft hyphen. */
static uint32_t rank_of_unprintable(uint32_t byte) { return byte <= ' ' ? byte : byte <= 0xa0 ? byte - 0x7f + 33 : 67; }

uint32_t dsb_byte_level_char(uint8_t byte) { return prints(byte) ? byte : 0x100 + rank_of_unprintable(byte); }

static int byte_of(uint32_t c) {
    if (c < 0x100) return prints(c) ? (int)c : -1;
    if (c > 0x100 + 67) return -1;
    c -= 0x100;
    return (int)(c < 33 ? c : c < 67 ? c - 33 + 0x7f : 0xad);
}

bool dsb_byte_level_decode(const char *text, size_t n, uint8_t *out, size_t *n_out) {
    *n_out = 0;
    for (size_t i = 0, len; i < n; i += len) {
        int byte = byte_of(dsb_utf8_decode(text + i, &len));
        if (byte < 0) return false;
        out[(*n_out)++] = (uint8_t)byte;
    }
    return true;
}

bool dsb_byte_level_holds(const char *text, size_t n) {
    for (size_t i = 0, len; i < n; i += len)
        if (byte_of(dsb_utf8_decode(text + i, &len)) < 0) return false;
    return true;
}
