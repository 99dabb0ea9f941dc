/* Texts: what is accepted is UTF-8 and stays it through the reflow, which never lengthens and leaves nothing to do. */
#include <string.h>

#include "datasets/text.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    dsb_text_file text, again = {0};
    dsb_err err;
    size_t bad = dsb_utf8_check((const char *)data, n);
    dsb_status s = dsb_text_file_load(&text, fuzz_file(data, n), &err);
    MUST((bad == n) == (s == DSB_OK));
    if (s) return 0;
    MUST(text.n == n && dsb_utf8_nfc_check(text.data, n) <= n);
    dsb_text_reflow(&text);
    MUST(text.n <= n && dsb_utf8_check(text.data, text.n) == text.n && text.data[text.n] == 0);
    again.n = text.n;
    again.data = malloc(text.n + 1);
    MUST(again.data);
    memcpy(again.data, text.data, text.n + 1);
    dsb_text_reflow(&again);
    MUST(again.n == text.n && memcmp(again.data, text.data, text.n) == 0);
    dsb_text_file_release(&again);
    dsb_text_file_release(&text);
    return 0;
}
