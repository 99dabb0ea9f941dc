/* UTF-8: well-formedness, single characters, and the texts that Unicode's NFC leaves alone. */
#ifndef DSB_DATASETS_UTF8_H
#define DSB_DATASETS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Byte offset of the first byte that is not well-formed UTF-8, or n. */
size_t dsb_utf8_check(const char *text, size_t n);
/* The character at p in well-formed UTF-8, and its length in *len. */
uint32_t dsb_utf8_decode(const char *p, size_t *len);
/* Writes a character (at most 4 bytes), returns its length. */
size_t dsb_utf8_encode(uint32_t c, char out[4]);
/* Start of the character that ends before p; p > text. */
const char *dsb_utf8_back(const char *text, const char *p);
/* Unicode's property White_Space. */
bool dsb_is_white_space(uint32_t c);
/* Byte offset of the first character that NFC might change or join to its neighbour, or n. Errs on the side of "might". */
size_t dsb_utf8_nfc_check(const char *text, size_t n);

#endif
