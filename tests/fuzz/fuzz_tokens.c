/* tokens.json of `trace`: whatever is accepted has sequences of at least one id, none negative. */
#include "harness/token_file.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    dsb_token_file f;
    dsb_err err;
    int64_t longest = 0;
    if (dsb_token_file_load(&f, fuzz_file(data, n), &err)) return 0;
    for (int64_t i = 0; i < f.n_seq; i++) {
        MUST(f.seqs[i].n > 0);
        if (f.seqs[i].n > longest) longest = f.seqs[i].n;
        for (int64_t j = 0; j < f.seqs[i].n; j++) MUST(f.seqs[i].ids[j] >= 0);
    }
    MUST(f.n_seq > 0 && longest == f.longest);
    dsb_token_file_release(&f);
    return 0;
}
