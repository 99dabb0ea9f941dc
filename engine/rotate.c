#include "engine/rotate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t block_of(const dsb_config *c) { return c->d_model & -c->d_model; }

int64_t dsb_scheme_rotation(const dsb_scheme *s, const dsb_config *c) { return s->recipe && s->recipe->rotate ? block_of(c) : 0; }

dsb_status dsb_rotation_check(const dsb_recipe *recipe, const dsb_config *c, dsb_err *err) {
    if (!recipe->rotate || block_of(c) > 1) return DSB_OK;
    return dsb_fail(err, DSB_EINPUT, "scheme %s: \"rotate\": hidden_size %lld is odd, so that no Hadamard matrix rotates any of it; an even one, or a recipe without, is wanted", recipe->name, (long long)c->d_model);
}

/* The norm that a linear reads the stream through. */
static dsb_status read_norm(const dsb_model *m, const dsb_scheme *s, const dsb_linear_spec *spec, float *norm, dsb_err *err) {
    char name[128] = "model.norm.weight";
    bool attention = spec->role >= DSB_ROLE_ATTN_Q && spec->role <= DSB_ROLE_ATTN_O;
    if (spec->role != DSB_ROLE_LM_HEAD) snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)spec->layer, attention ? "input_layernorm" : "post_attention_layernorm");
    return dsb_checkpoint_read(s->source, name, m->config.d_model, 0, norm, NULL, err);
}

dsb_status dsb_rotation_find(dsb_rotation *r, const dsb_model *m, const dsb_scheme *s, const dsb_linear_spec *spec, dsb_err *err) {
    int64_t block = dsb_scheme_rotation(s, &m->config), d = m->config.d_model;
    *r = (dsb_rotation){0};
    if (block == 0 || (!dsb_role_reads_stream(spec->role) && !dsb_role_writes_stream(spec->role))) return DSB_OK;
    r->block = r->in.rotation = block;
    r->writes = dsb_role_writes_stream(spec->role);
    if (r->writes && (spec->first % block || spec->rows % block)) return dsb_fail(err, DSB_EINTERNAL, "%s: a part of a block of rows can't be rotated alone", spec->stem);
    if (r->writes) return DSB_OK;
    dsb_status st = DSB_NEW(r->norm, d, "a norm", err);
    if (!st) st = DSB_NEW(r->in.in_scale, d, "a norm", err);
    if (!st) st = read_norm(m, s, spec, r->norm, err);
    for (int64_t i = 0; i < d && !st; i++) r->in.in_scale[i] = isnormal(1 / r->norm[i]) ? 1 / r->norm[i] : 0;
    if (st) dsb_rotation_release(r);
    return st;
}

void dsb_rotation_release(dsb_rotation *r) {
    free(r->norm);
    dsb_transform_release(&r->in);
    *r = (dsb_rotation){0};
}

/* w = H·w: butterflies between rows, columns apart from one another. */
static void rotate_columns(float *w, int64_t rows, int64_t cols, int64_t block) {
    enum { SLAB = 256 };
    float scale = (float)(1 / sqrt((double)block));
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < cols; from += SLAB) {
        int64_t n = cols - from < SLAB ? cols - from : SLAB;
        for (int64_t h = 1; h < block; h *= 2)
            for (int64_t r = 0; r < rows; r++) {
                if (r & h) continue;
                float *x = w + r * cols + from, *y = x + h * cols;
                for (int64_t i = 0; i < n; i++) {
                    float a = x[i], b = y[i];
                    x[i] = a + b;
                    y[i] = a - b;
                }
            }
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < n; i++) w[r * cols + from + i] *= scale;
    }
}

void dsb_rotate_rows(const dsb_backend *be, int64_t block, float *x, int64_t n, int64_t d) {
    if (block && n > 0) be->hadamard(x, n, d, block, x);
}

void dsb_rotation_apply(const dsb_rotation *r, const float *w, int64_t rows, int64_t cols, float *to) {
    if (r->writes) {
        memcpy(to, w, (size_t)(rows * cols) * sizeof *w);
        rotate_columns(to, rows, cols, r->block);
        return;
    }
    dsb_backend_cpu(NULL)->scale_columns(w, rows, cols, r->norm, to);
    dsb_rotate_rows(dsb_backend_cpu(NULL), r->block, to, rows, cols);
}

void dsb_rotation_undo(const dsb_rotation *r, const float *w, int64_t rows, int64_t cols, float *turned) {
    if (r->writes) {
        rotate_columns(turned, rows, cols, r->block);
        return;
    }
    dsb_rotate_rows(dsb_backend_cpu(NULL), r->block, turned, rows, cols);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) turned[i * cols + j] = r->in.in_scale[j] != 0 ? turned[i * cols + j] / r->norm[j] : w[i * cols + j];
}

dsb_status dsb_norm_fold(const dsb_backend *be, float *norm, int64_t n, dsb_err *err) {
    float *ones;
    DSB_TRY(DSB_NEW(ones, n, "a norm", err));
    for (int64_t i = 0; i < n; i++) ones[i] = 1;
    be->upload(norm, ones, (size_t)n * sizeof *ones);
    free(ones);
    return DSB_OK;
}
