/* config.json: whatever is accepted gives finite RoPE tables and a router that can choose its experts. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "engine/arch.h"
#include "tests/fuzz/fuzz_file.h"

static char dir[] = "/tmp/dsb_fuzz_XXXXXX", path[64];

static void clean(void) {
    unlink(path);
    rmdir(dir);
}

/* The folder's config.json is a link to the file in memory. */
static void make_dir(const char *file) {
    MUST(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    MUST(symlink(file, path) == 0);
    atexit(clean);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    enum { N_POS = 3 };
    dsb_config c;
    dsb_err err;
    const char *file = fuzz_file(data, n);
    if (!path[0]) make_dir(file);
    if (dsb_config_load(&c, dir, &err)) {
        MUST(err.code == DSB_EINPUT || err.code == DSB_EUNSUPPORTED);
        return 0;
    }
    MUST(c.n_expert == 0 || (c.router.k <= c.n_expert && c.n_expert % c.router.n_group == 0));
    MUST(isfinite(c.attention_scale) && c.attention_scale > 0 && isfinite(c.rope.amplitude));
    MUST(c.names && c.kv_heads > 0 && c.heads % c.kv_heads == 0 && c.nope >= 0 && c.v_dim > 0 && c.window >= 0 && c.clip_qkv >= 0);
    MUST(c.rope_dim >= 2 && c.rope_dim % 2 == 0 && c.d_model % 2 == 0 && (c.n_expert == 0 || c.n_shared == 0 || c.d_ff_shared > 0));
    for (int64_t l = 0; l < c.n_layer; l++) {
        MUST(dsb_layer_is_moe(&c, l) ? c.n_expert > 0 && c.d_ff_expert > 0 && c.router.k > 0 : c.d_ff > 0);
        MUST(!dsb_layer_in(&c.sliding, l) || c.window > 0);
    }
    float *table = malloc((size_t)(2 * N_POS * c.rope_dim / 2) * sizeof *table);
    MUST(table);
    dsb_rope_tables(&c, N_POS, table, table + N_POS * c.rope_dim / 2);
    for (int64_t i = 0; i < 2 * N_POS * c.rope_dim / 2; i++) MUST(isfinite(table[i]));
    free(table);
    return 0;
}
