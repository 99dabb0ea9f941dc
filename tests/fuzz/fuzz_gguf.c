/* A GGUF file, as a container and as a model: what is accepted lies inside the file, and every row of every tensor can be decoded. */
#include <jansson.h>
#include <string.h>

#include "engine/arch.h"
#include "engine/checkpoint.h"
#include "tests/fuzz/fuzz_file.h"

static void try_container(const char *path, size_t n) {
    dsb_gguf f;
    dsb_err err;
    size_t count, total = 0;
    if (dsb_gguf_open(&f, path, &err)) return;
    for (int64_t i = 0; i < f.n_value; i++) {
        const dsb_gguf_string *strings;
        const int64_t *ints;
        const float *floats;
        const char *text;
        MUST(dsb_gguf_find(&f, f.values[i].key) == &f.values[i]);
        if (!dsb_gguf_strings(&f, f.values[i].key, true, &strings, &count, &err))
            for (size_t s = 0; s < count; s++) MUST((const uint8_t *)strings[s].text + strings[s].n <= f.map.data + f.map.size);
        dsb_gguf_ints(&f, f.values[i].key, true, &ints, &count, &err);
        dsb_gguf_floats(&f, f.values[i].key, true, &floats, &count, &err);
        dsb_gguf_text(&f, f.values[i].key, true, &text, &err);
    }
    for (int64_t i = 0; i < f.n_tensor; i++) {
        MUST(f.tensors[i].data >= f.map.data && f.tensors[i].data + f.tensors[i].bytes <= f.map.data + f.map.size);
        total += f.tensors[i].bytes;
    }
    MUST(total <= n);
    dsb_gguf_close(&f);
}

static void try_model(const char *path) {
    dsb_checkpoint cp;
    dsb_config c;
    dsb_err err;
    if (dsb_config_load(&c, path, &err)) MUST(err.code == DSB_EINPUT || err.code == DSB_EUNSUPPORTED);
    if (dsb_checkpoint_open(&cp, path, &err)) return;
    for (int64_t i = 0; i < cp.n_tensor; i++) {
        const dsb_st_tensor *t = cp.tensors[i];
        int64_t cols = t->ndim ? t->shape[t->ndim - 1] : 1, rows = 1;
        for (int d = 0; d + 1 < t->ndim; d++) rows *= t->shape[d];
        if (!dsb_st_is_float(t) || cols == 0 || cols > 1 << 16 || rows > 1 << 12) continue; /* rows of no values may be many */
        float *row = malloc((size_t)cols * sizeof *row);
        MUST(row);
        for (int64_t r = 0; r < rows; r++) dsb_st_row(t, r, row);
        free(row);
    }
    dsb_checkpoint_close(&cp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *path = fuzz_file(data, n);
    try_container(path, n);
    try_model(path);
    return 0;
}
