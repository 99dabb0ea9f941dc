/* tokenizer.json, and after a NUL byte a text to encode (a sample where there is none); or a GGUF file, whose vocabulary encodes the sample.
 * Ids lie in the vocabulary; a text in pieces gives the ids of the whole. */
#include <string.h>

#include "datasets/tokenizer.h"
#include "tests/fuzz/fuzz_file.h"

enum { TEXT_MAX = 512 }; /* patterns may backtrack: short texts keep a run short */

static void check_text(const dsb_tokenizer *tok, const char *text, size_t n) {
    bool bos = dsb_tokenizer_adds_bos(tok);
    size_t count = 0, seen = 0, len;
    int32_t *ids;
    const uint8_t *bytes;
    dsb_token_stream *stream;
    dsb_err err;
    dsb_status s = dsb_tokenizer_encode(tok, "text", text, n, bos, &ids, &count, &err);
    for (size_t i = 0; i < count; i++) MUST(dsb_tokenizer_token_bytes(tok, ids[i], &bytes, &len, &err) == DSB_OK);
    if (dsb_token_stream_open(&stream, tok, "text", bos, &err) == DSB_OK) {
        dsb_status again = DSB_OK;
        for (size_t at = 0, piece; !again && at <= n; at += piece + (at + piece == n)) {
            const int32_t *part;
            size_t n_part;
            piece = n - at < 7 ? n - at : 7;
            again = dsb_token_stream_put(stream, text + at, piece, at + piece == n, &part, &n_part, &err);
            for (size_t i = 0; !again && !s && i < n_part; i++, seen++) MUST(seen < count && part[i] == ids[seen]);
        }
        uint32_t dropped;
        bool gap = dsb_token_stream_dropped(stream, &dropped); /* only the whole is refused then */
        MUST(gap ? again || s : (s == DSB_OK) == (again == DSB_OK) && (s || seen == count));
        dsb_token_stream_close(stream);
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char sample[] = "ab a  b\n\nabab 123 \xc3\xa9 x <s> e\xcc\x81 'S \xe2\x96\x81 \xe6\x97\xa5";
    const char *json = (const char *)data, *nul = memchr(data, 0, n), *text = nul ? nul + 1 : sample;
    size_t n_json = nul ? (size_t)(nul - json) : n, n_text = nul ? n - n_json - 1 : sizeof sample - 1;
    bool gguf = n >= 4 && memcmp(data, "GGUF", 4) == 0;
    dsb_tokenizer *tok;
    dsb_err err;
    if (gguf) text = sample, n_text = sizeof sample - 1;
    if (n_text > TEXT_MAX) n_text = TEXT_MAX;
    if (gguf ? dsb_tokenizer_open(&tok, fuzz_file(data, n), &err) : dsb_tokenizer_open_bytes(&tok, "t.json", json, n_json, &err)) return 0;
    check_text(tok, text, n_text);
    dsb_tokenizer_close(tok);
    return 0;
}
