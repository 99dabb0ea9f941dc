#include "harness/bench_case.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { MOST_COPIES = 1024, LINE = 64, MOST_CASES = 128 };

#define NAME(prefix, type) prefix #type,
static const char *const k_packed[] = { DSB_PACKED_TYPES(NAME, "gemm_") };

static const dsb_kernel_case *named(const dsb_kernel_case *k, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(k[i].name, name) == 0) return &k[i];
    return NULL;
}

/* Fed and called as the f32 product is. */
int dsb_bench_cases(const dsb_kernel_case **rows) {
    static dsb_kernel_case all[MOST_CASES];
    static int n;
    *rows = all;
    if (n) return n;
    const dsb_kernel_case *k, *plain;
    int own = dsb_kernel_cases(&k);
    plain = named(k, own, "gemm_f32");
    for (; n < own && n < MOST_CASES - DSB_PACKED_COUNT; n++) all[n] = k[n];
    for (int i = 0; i < DSB_PACKED_COUNT && !named(k, own, k_packed[i]); i++, n++) {
        all[n] = *plain;
        all[n].name = k_packed[i];
        all[n].kind = DSB_W_BLOCK;
    }
    return n;
}

/* The format whose weights a packed product multiplies: of its name, or integers beside float activations. */
static const dsb_format *format_of(const dsb_kernel_case *k) {
    bool integers = strcmp(k->name, "gemm_w4a16") == 0 || strcmp(k->name, "gemm_w8a16") == 0;
    return k->kind == DSB_W_BLOCK ? dsb_format_find(integers ? k->name[6] == '4' ? "int4" : "int8" : k->name + 5) : NULL;
}

dsb_case_shape dsb_bench_case_shape(const dsb_kernel_case *k) {
    static const struct {
        const char *name;
        dsb_case_shape shape;
    } own[] = {{"gemm_i4", {512, 1408, 2048, 32}}, {"gemm_w4a16", {512, 1408, 2048, 32}}, {"attention_decode", {4096, 1, 128, 0}}, {"route", {512, 1, 64, 0}}, {"route_softmax", {512, 1, 64, 0}}, {"logit_rows", {16, 1, 102400, 0}}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(k->name, own[i].name) == 0) return own[i].shape;
    return k->product ? (dsb_case_shape){512, 1408, 2048, 0} : (dsb_case_shape){512, 1, k->cubic ? 128 : 2048, 0};
}

dsb_status dsb_bench_case_check_shape(const dsb_kernel_case *k, const dsb_case_shape *s, dsb_err *err) {
    static const int64_t k_most = 1 << 24, k_values = 1 << 28;
    bool sane = s->rows >= 1 && s->cols >= 1 && s->n >= 1 && s->rows <= k_most && s->cols <= k_most && s->n <= k_most && s->rows * s->cols <= k_values && s->rows * s->n <= k_values && s->cols * s->n <= k_values;
    if (sane && k->cubic) sane = s->cols * s->cols <= k_values && s->n * s->n <= k_values;
    if (!sane) return dsb_fail(err, DSB_EUSAGE, "%s: shape %lldx%lldx%lld is no size; each from 1, and no more than 2^28 values in one matrix are wanted", k->name, (long long)s->rows, (long long)s->cols, (long long)s->n);
    if (!k->product && s->rows != 1) return dsb_fail(err, DSB_EUSAGE, "%s: shape %lldx%lldx%lld: it has no weights, whose outputs the first number is; 1x%lldx%lld is wanted", k->name, (long long)s->rows, (long long)s->cols, (long long)s->n, (long long)s->cols, (long long)s->n);
    const dsb_format *f = format_of(k);
    if (f && !dsb_format_divides(f, s->cols)) return dsb_fail(err, DSB_EUSAGE, "%s: rows of %lld inputs don't split into blocks of %lld", k->name, (long long)s->cols, (long long)f->block);
    if (f && s->group && !dsb_format_takes_group(f, s->group, NULL)) return dsb_fail(err, DSB_EUSAGE, "%s: a group of %lld inputs; its own is wanted", k->name, (long long)s->group);
    if (s->group < 0 || s->group > s->cols) return dsb_fail(err, DSB_EUSAGE, "%s: a group of %lld inputs; 1 to the row's %lld are wanted", k->name, (long long)s->group, (long long)s->cols);
    return DSB_OK;
}

/* Of products and attention; what other rows compute is little beside what they read. */
static void count_ops(dsb_bench_case *c) {
    const dsb_case_shape *s = &c->call.shape;
    double n = (double)s->n, pairs = strcmp(c->k->name, "attention") == 0 ? 0.5 * n * (n + 1) : strcmp(c->k->name, "attention_decode") == 0 ? n : 0;
    dsb_arithmetic a = !c->k->product ? DSB_ARITH_F32 : c->k->kind >= DSB_W_I8 ? DSB_ARITH_INT8 : c->k->kind == DSB_W_BF16 ? DSB_ARITH_BF16 : DSB_ARITH_F32;
    c->ops[a] = c->k->product ? 2 * (double)s->rows * (double)s->cols * n : 2 * 4 * (double)s->cols * pairs; /* two heads, scores and values */
}

static size_t line_up(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

/* Inputs that every call reads from memory: those of tokens, but a product's, which the block before left in the cache. */
static bool is_streamed(const dsb_kernel_case *k, int i) { return !k->product && (k->in[i].extent & DSB_EXT_N); }

static size_t cache_bytes(const dsb_backend *be) {
    dsb_device_facts f;
    if (!be->facts) return dsb_cache_bytes();
    be->facts(&f);
    return (size_t)f.cache_bytes;
}

/* As many copies as four times the last-level cache takes. */
static int copies_for(const dsb_backend *be, double bytes) {
    static const double k_most = 1e9;
    double wanted = 4 * (double)cache_bytes(be), n = (wanted < k_most ? wanted : k_most) / (bytes > 0 ? bytes : k_most) + 1;
    return n < 2 ? 2 : n > MOST_COPIES ? MOST_COPIES : (int)n;
}

static size_t input_bytes(const dsb_bench_case *c, int i) { return (size_t)dsb_case_count(&c->k->in[i], &c->call.shape) * dsb_case_element(c->k->in[i].data, NULL); }

/* The same in a GPU's memory, where the call wants it there. */
static dsb_status give_device(dsb_bench_case *c, int extent, const uint8_t *host, size_t bytes, uint8_t **out, dsb_err *err) {
    void *p;
    if (!c->call.be->facts || extent & DSB_EXT_HOST) return DSB_OK;
    DSB_TRY(c->call.be->alloc(&p, bytes, "a kernel's data", err));
    c->call.be->upload(p, host, bytes);
    *out = p;
    return DSB_OK;
}

static dsb_status fill_input(dsb_bench_case *c, int i, dsb_err *err) {
    size_t bytes = input_bytes(c, i);
    int copies = is_streamed(c->k, i) ? c->copies : 1;
    c->in_bytes[i] = bytes;
    c->in_stride[i] = copies > 1 ? line_up(bytes) : 0;
    DSB_TRY(DSB_NEW(c->in[i], (size_t)copies * line_up(bytes) + LINE, "inputs of a kernel", err));
    dsb_case_fill_in(&c->k->in[i], &c->call.shape, DSB_FILL_MILD, (uint32_t)i + 1, c->in[i]);
    for (int j = 1; j < copies; j++) memcpy(c->in[i] + (size_t)j * line_up(bytes), c->in[i], bytes);
    return give_device(c, c->k->in[i].extent, c->in[i], (size_t)copies * line_up(bytes), &c->device_in[i], err);
}

/* Blocks of in[0]'s weights; `from`: a case that has the same. */
static dsb_status make_blocks(dsb_bench_case *c, const dsb_bench_case *from, dsb_err *err) {
    const dsb_case_shape *s = &c->call.shape;
    const dsb_format *f = format_of(c->k);
    if (from) {
        c->how = from->how;
        c->blocks = from->blocks;
        return DSB_OK;
    }
    bool affine = strcmp(c->k->name, "gemm_w4a16") == 0; /* as such formats are served: with zero points, in groups */
    DSB_TRY(dsb_quantize_rtn(&c->q, f, s->group ? s->group : f->group, affine, (const float *)c->in[0], s->rows, s->cols, err));
    DSB_TRY(dsb_qtensor_blocks(&c->q, &c->how, &c->blocks, &c->owned, err));
    return c->blocks ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "%s: rows or groups as short as these take less as f32 than packed; longer ones are wanted", c->k->name);
}

static dsb_status pack_one(dsb_bench_case *c, dsb_err *err) {
    if (c->k->kind == DSB_W_BLOCK) return c->call.be->pack_blocks(&c->call.w, &c->how, c->blocks, c->call.shape.rows, c->call.shape.cols, err);
    return dsb_case_pack(c->k, &c->call, c->in[0], c->in[1], err);
}

static dsb_status pack_copies(dsb_bench_case *c, const dsb_bench_case *from, dsb_err *err) {
    DSB_TRY(DSB_NEW(c->w, c->copies ? c->copies : MOST_COPIES, "weights of a kernel", err));
    if (c->k->kind == DSB_W_BLOCK) DSB_TRY(make_blocks(c, from, err));
    for (int i = 0; i == 0 || i < c->copies; i++) {
        DSB_TRY(pack_one(c, err));
        c->w[i] = c->call.w;
        if (c->copies == 0) c->copies = copies_for(c->call.be, (double)c->w[0].bytes);
    }
    c->kernel = c->w[0].kernel;
    c->bytes = (double)c->w[0].bytes;
    return DSB_OK;
}

static dsb_status open_copies(dsb_bench_case *c, const dsb_bench_case *from, dsb_err *err) {
    for (int i = 0; i < DSB_CASE_IN; i++)
        if (c->k->in[i].data && is_streamed(c->k, i)) c->bytes += (double)input_bytes(c, i);
    if (!c->k->product && c->copies == 0) c->copies = copies_for(c->call.be, c->bytes);
    for (int i = 0; i < DSB_CASE_IN; i++)
        if (c->k->in[i].data) DSB_TRY(fill_input(c, i, err));
    for (int i = 0; i < DSB_CASE_OUT; i++) {
        if (!c->k->out[i].data) continue;
        c->out_bytes[i] = (size_t)dsb_case_count(&c->k->out[i], &c->call.shape) * dsb_case_element(c->k->out[i].data, NULL);
        DSB_TRY(DSB_NEW(c->out[i], c->out_bytes[i] + LINE, "outputs of a kernel", err));
        DSB_TRY(give_device(c, c->k->out[i].extent, c->out[i], c->out_bytes[i] + LINE, &c->device_out[i], err));
        c->call.out[i] = c->device_out[i] ? c->device_out[i] : c->out[i];
    }
    if (c->k->product) DSB_TRY(pack_copies(c, from, err));
    count_ops(c);
    return DSB_OK;
}

static dsb_status open_as(dsb_bench_case *c, const dsb_kernel_case *k, const dsb_backend *be, const dsb_case_shape *shape, int copies, const dsb_bench_case *from, dsb_err *err) {
    *c = (dsb_bench_case){.k = k, .call = {.be = be, .shape = *shape}, .copies = copies};
    dsb_status s = open_copies(c, from, err);
    if (s) dsb_bench_case_close(c);
    return s;
}

dsb_status dsb_bench_case_open(dsb_bench_case *c, const dsb_kernel_case *k, const dsb_backend *be, const dsb_case_shape *shape, int copies, dsb_err *err) {
    DSB_TRY(dsb_bench_case_check_shape(k, shape, err));
    return open_as(c, k, be, shape, copies, NULL, err);
}

void dsb_bench_case_close(dsb_bench_case *c) {
    for (int i = 0; c->w && (i == 0 || i < c->copies); i++)
        if (c->w[i].data) c->call.be->unpack(&c->w[i]);
    free(c->w);
    free(c->owned);
    if (c->q.format) dsb_qtensor_release(&c->q);
    for (int i = 0; i < DSB_CASE_IN; i++) {
        free(c->in[i]);
        if (c->device_in[i]) c->call.be->release(c->device_in[i]);
    }
    for (int i = 0; i < DSB_CASE_OUT; i++) {
        free(c->out[i]);
        if (c->device_out[i]) c->call.be->release(c->device_out[i]);
    }
    *c = (dsb_bench_case){0};
}

void dsb_bench_case_start(dsb_bench_case *c, int copy) {
    const dsb_backend *be = c->call.be;
    for (int i = 0; i < DSB_CASE_IN; i++) {
        const uint8_t *first = c->device_in[i] ? c->device_in[i] : c->in[i];
        c->call.in[i] = first ? first + (size_t)copy * c->in_stride[i] : NULL;
    }
    if (c->w) c->call.w = c->w[copy];
    if (c->k->in_place) be->copy(c->call.out[0], c->call.in[0], c->out_bytes[0]); /* never the host's */
    for (int i = 0; c->k->adds && i < DSB_CASE_OUT; i++)
        if (c->out[i]) memset(c->out[i], 0, c->out_bytes[i]); /* always the host's */
    c->k->run(&c->call);
}

void dsb_bench_case_run(dsb_bench_case *c, int copy) {
    dsb_bench_case_start(c, copy);
    c->call.be->sync();
}

/* Whether output i of both is the same: whole, or its row `row` of n beside the one row of ref. */
static bool same(const dsb_bench_case *c, const dsb_bench_case *ref, int i, int64_t row) {
    size_t used, element = dsb_case_element(c->k->out[i].data, &used);
    const uint8_t *got = c->out[i] + (row < 0 ? 0 : (size_t)row * ref->out_bytes[i]);
    for (size_t at = 0; at < ref->out_bytes[i]; at += element)
        if (memcmp(got + at, ref->out[i] + at, used) != 0) return false;
    return true;
}

/* ref, of one row, gets row `row` of c's tokens. */
static void give_row(const dsb_bench_case *c, dsb_bench_case *ref, int64_t row) {
    for (int i = 0; i < DSB_CASE_IN; i++)
        if (c->k->in[i].extent & DSB_EXT_N) memcpy(ref->in[i], c->in[i] + (size_t)row * ref->in_bytes[i], ref->in_bytes[i]);
}

static dsb_status verify_row(dsb_bench_case *c, dsb_bench_case *ref, int64_t row, dsb_err *err) {
    const dsb_case_shape *s = &c->call.shape;
    if (row >= 0) give_row(c, ref, row);
    dsb_bench_case_run(ref, 0);
    for (int i = 0; i < DSB_CASE_OUT; i++)
        if (c->out[i] && !same(c, ref, i, row))
            return dsb_fail(err, DSB_EINTERNAL, "%s/%s, %lldx%lldx%lld: output %d differs from plain C's (row %lld)", c->call.be->isa, c->k->name, (long long)s->rows, (long long)s->cols, (long long)s->n, i, (long long)(row < 0 ? 0 : row));
    return DSB_OK;
}

dsb_status dsb_bench_case_verify(dsb_bench_case *c, dsb_err *err) {
    dsb_bench_case ref;
    dsb_case_shape shape = c->call.shape;
    int64_t n = shape.n, rows[] = {0, 1, n - 2, n - 1};
    if (!c->k->mixed) shape.n = 1;
    DSB_TRY(open_as(&ref, c->k, dsb_backend_cpu("ref"), &shape, 1, c, err));
    dsb_status s = DSB_OK;
    for (int copy = 0; copy < c->copies && !s; copy += c->copies > 1 ? c->copies - 1 : 1) {
        dsb_bench_case_run(c, copy);
        for (int i = 0; i < DSB_CASE_OUT; i++)
            if (c->device_out[i]) c->call.be->download(c->out[i], c->device_out[i], c->out_bytes[i]);
        if (c->k->mixed) s = verify_row(c, &ref, -1, err);
        for (int i = 0; i < 4 && !c->k->mixed && !s; i++)
            if (rows[i] >= 0 && rows[i] < n) s = verify_row(c, &ref, rows[i], err);
    }
    dsb_bench_case_close(&ref);
    return s;
}
