/* A safetensors file: whatever is accepted has names in order and bytes inside the file, once each. */
#include <string.h>

#include "engine/safetensors.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    dsb_st_file f;
    dsb_err err;
    size_t total = 0;
    if (dsb_st_open(&f, fuzz_file(data, n), &err)) return 0;
    for (int64_t i = 0; i < f.n_tensor; i++) {
        const dsb_st_tensor *t = &f.tensors[i];
        MUST(dsb_st_find(&f, t->name) == t && (i == 0 || strcmp(f.tensors[i - 1].name, t->name) < 0));
        MUST(t->data >= f.map.data + 8 && t->data + t->bytes <= f.map.data + f.map.size);
        total += t->bytes;
        float first;
        if (t->bytes) dsb_widen_f32(t->dtype, t->data, 1, &first);
    }
    MUST(total <= n);
    dsb_st_close(&f);
    return 0;
}
