/* kv_b as absorbed MLA uses it: a matrix a head for keys and one for values, of the weight that the plain product multiplies by.
 * That weight is its product with the identity, exact for every kind: one term of a sum is not zero, codes are times 1. */
#include <stdlib.h>

#include "engine/block.h"

typedef struct absorb {
    float *eye, *ones, *product, *more, *low; /* device */
    int8_t *codes;                            /* device: the identity, as integer products read it */
    float *host, *part, *bias;
    int8_t *host_codes;
} absorb;

static dsb_status take(const dsb_backend *be, void **out, size_t bytes, dsb_err *err) { return be->alloc(out, bytes, "absorbed kv_b", err); }
#define TAKE(p, count) DSB_TRY(take(be, (void **)&(p), (size_t)(count) * sizeof *(p), err))

/* product (kv_lora, rows) = the transpose of the weight, low-rank factors included. */
static dsb_status whole_weight(const dsb_model *m, const dsb_linear *l, absorb *a, dsb_err *err) {
    const dsb_backend *be = m->be;
    int64_t n = l->w.cols, rows = l->w.rows;
    dsb_act act = {.n = n, .cols = n};
    DSB_TRY(DSB_NEW(a->host, rows * n > n * n ? rows * n : n * n, "absorbed kv_b", err));
    DSB_TRY(DSB_NEW(a->host_codes, n * n, "absorbed kv_b", err));
    TAKE(a->eye, n * n);
    TAKE(a->codes, n * n);
    TAKE(a->ones, n);
    TAKE(a->product, n * rows);
    for (int64_t i = 0; i < n; i++) a->host[i] = 1;
    be->upload(a->ones, a->host, (size_t)n * sizeof *a->ones);
    for (int64_t i = 0; i < n * n; i++) a->host[i] = (float)(a->host_codes[i] = i % (n + 1) == 0);
    be->upload(a->eye, a->host, (size_t)(n * n) * sizeof *a->eye);
    be->upload(a->codes, a->host_codes, (size_t)(n * n));
    act.f32 = a->eye;
    if (l->w.kind >= DSB_W_I8) act = (dsb_act){.n = n, .cols = n, .q = a->codes, .scale = a->ones};
    be->gemm(&l->w, &act, a->product);
    if (l->a.data) {
        TAKE(a->low, n * l->b.rows);
        TAKE(a->more, n * rows);
        be->gemm(&l->b, &(dsb_act){.n = n, .cols = n, .f32 = a->eye}, a->low);
        be->gemm(&l->a, &(dsb_act){.n = n, .cols = l->b.rows, .f32 = a->low}, a->more);
        be->add(a->product, a->more, n * rows);
    }
    be->sync();
    be->download(a->host, a->product, (size_t)(n * rows) * sizeof *a->host);
    return DSB_OK;
}

static bool all_bf16(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (dsb_bf16_to_f32(dsb_f32_to_bf16(x[i])) != x[i]) return false;
    return true;
}

static dsb_status pack_heads(const dsb_model *m, dsb_attn_weights *w, absorb *a, dsb_wkind kind, dsb_err *err) {
    const dsb_config *c = &m->config;
    int64_t n = c->kv_lora, head = c->nope + c->v_dim, rows = c->heads * head;
    DSB_TRY(DSB_NEW(a->part, n * head, "absorbed kv_b", err));
    w->absorbed_heads = c->heads;
    DSB_TRY(DSB_NEW(w->absorbed_k, c->heads, "absorbed kv_b", err));
    DSB_TRY(DSB_NEW(w->absorbed_v, c->heads, "absorbed kv_b", err));
    for (int64_t h = 0; h < c->heads; h++) {
        float *key = a->part, *value = key + n * c->nope;
        for (int64_t l = 0; l < n; l++) {
            const float *from = a->host + l * rows + h * head;
            for (int64_t i = 0; i < c->nope; i++) key[l * c->nope + i] = from[i];
            for (int64_t d = 0; d < c->v_dim; d++) value[d * n + l] = from[c->nope + d];
        }
        DSB_TRY(m->be->pack_float(&w->absorbed_k[h], kind, key, n, c->nope, err));
        DSB_TRY(m->be->pack_float(&w->absorbed_v[h], kind, value, c->v_dim, n, err));
    }
    return DSB_OK;
}

static dsb_status value_bias(const dsb_model *m, dsb_attn_weights *w, absorb *a, dsb_err *err) {
    const dsb_config *c = &m->config;
    const dsb_backend *be = m->be;
    int64_t head = c->nope + c->v_dim;
    if (!w->kv_b.bias) return DSB_OK;
    DSB_TRY(DSB_NEW(a->bias, c->heads * head, "absorbed kv_b", err));
    be->download(a->bias, w->kv_b.bias, (size_t)(c->heads * head) * sizeof *a->bias);
    for (int64_t i = 0; i < c->heads * c->v_dim; i++) a->bias[i] = a->bias[i / c->v_dim * head + c->nope + i % c->v_dim]; /* never read after it was written: it moves down */
    TAKE(w->absorbed_bias, c->heads * c->v_dim);
    be->upload(w->absorbed_bias, a->bias, (size_t)(c->heads * c->v_dim) * sizeof *a->bias);
    return DSB_OK;
}

dsb_status dsb_attn_absorb(const dsb_model *m, dsb_attn_weights *w, bool bf16, dsb_err *err) {
    absorb a = {0};
    int64_t n = m->config.kv_lora * w->kv_b.w.rows;
    if (m->config.kv_lora == 0) return DSB_OK;
    dsb_status s = whole_weight(m, &w->kv_b, &a, err);
    if (!s) s = pack_heads(m, w, &a, bf16 || all_bf16(a.host, n) ? DSB_W_BF16 : DSB_W_F32, err);
    if (!s) s = value_bias(m, w, &a, err);
    void *device[] = {a.eye, a.ones, a.product, a.more, a.low, a.codes}, *host[] = {a.host, a.part, a.bias, a.host_codes};
    for (int i = 0; i < 6; i++)
        if (device[i]) m->be->release(device[i]);
    for (int i = 0; i < 4; i++) free(host[i]);
    return s;
}
