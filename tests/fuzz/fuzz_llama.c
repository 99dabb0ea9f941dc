/* llama.cpp's logits files: every row and token of what is accepted can be read, and the file compared with itself. */
#include "metrics/llama_logits.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *path = fuzz_file(data, n);
    static dsb_figures figures;
    dsb_llama_file f;
    dsb_err err;
    int64_t count;
    dsb_llama_is_logits(path);
    if (dsb_llama_open(&f, path, &err)) return 0;
    unsigned sum = 0;
    for (int64_t c = 0; c < f.n_chunk; c++) {
        for (int64_t i = 0; i < f.n_ctx; i++) MUST(dsb_llama_token(&f, c, i) >= 0 && dsb_llama_token(&f, c, i) < f.n_vocab);
        for (int64_t i = 0; i < f.per_chunk; i++) {
            dsb_llama_row row = dsb_llama_row_at(&f, c, i);
            for (int64_t v = 0; v < 2 * f.n_vocab; v++) sum += row.q[v];
        }
    }
    MUST(sum <= 255 * n);
    dsb_llama_close(&f);
    MUST(dsb_llama_compare(path, path, &figures, &count, &err) == DSB_OK);
    return 0;
}
