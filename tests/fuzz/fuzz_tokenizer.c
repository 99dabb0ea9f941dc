/* tokenizer.json, and after a NUL byte a text to encode (a sample where there is none). Ids lie in the vocabulary; encoding
 * twice gives the same ids. */
#include <string.h>

#include "datasets/tokenizer.h"
#include "tests/fuzz/fuzz_file.h"

enum { TEXT_MAX = 512 }; /* patterns may backtrack: short texts keep a run short */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char sample[] = "ab a  b\n\nabab 123 \xc3\xa9 x";
    const char *json = (const char *)data, *nul = memchr(data, 0, n), *text = nul ? nul + 1 : sample;
    size_t n_json = nul ? (size_t)(nul - json) : n, n_text = nul ? n - n_json - 1 : sizeof sample - 1, count = 0, again = 0, len;
    int32_t *ids, *ids2;
    const uint8_t *bytes;
    dsb_tokenizer *tok;
    dsb_err err;
    if (n_text > TEXT_MAX) n_text = TEXT_MAX;
    if (dsb_tokenizer_open_bytes(&tok, "t.json", json, n_json, &err)) return 0;
    bool bos = dsb_tokenizer_adds_bos(tok);
    dsb_status s = dsb_tokenizer_encode(tok, "text", text, n_text, bos, &ids, &count, &err);
    MUST(s == dsb_tokenizer_encode(tok, "text", text, n_text, bos, &ids2, &again, &err) && count == again);
    for (size_t i = 0; i < count; i++) MUST(ids[i] == ids2[i] && dsb_tokenizer_token_bytes(tok, ids[i], &bytes, &len, &err) == DSB_OK);
    free(ids);
    free(ids2);
    dsb_tokenizer_close(tok);
    return 0;
}
