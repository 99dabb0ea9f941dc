/* Every case of kernels/cases.h on every instruction set: the reference's bits over odd shapes, rows of zeros and the largest values; memory that
 * ends at a page nobody may touch, or begins where nothing but an element is aligned, between guards; any number of threads; a row alone. */
#include "kernel_cases.h"

#include "kernels/cases.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
static const int64_t k_n[] = {0, 1, 2, 7, 13}, k_rows[] = {1, 15, 17, 33}, k_cols[] = {1, 2, 7, 31, 33, 64, 130}, k_group[] = {0, 3, 32};
static const dsb_case_shape k_big = {517, 97, 259, 32}, k_cubic = {37, 1, 66, 0}; /* above each row's threshold for threads; where there is none */

typedef enum place { PAGE_END, ODD, PLACES } place;

/* One buffer of a case in either kind of memory. */
typedef struct memory {
    void *p;
    size_t bytes, element, used;
    kc_out odd; /* raw NULL: at the end of a page */
} memory;

static memory memory_of(const dsb_case_buffer *b, const dsb_case_shape *s, place where) {
    memory m = {0};
    if (!b->data) return m;
    m.element = dsb_case_element(b->data, &m.used);
    m.bytes = (size_t)dsb_case_count(b, s) * m.element;
    if (where == ODD) m.odd = kc_output_aligned(m.bytes, m.element > 8 ? 8 : m.element);
    m.p = where == ODD ? m.odd.p : kc_memory(m.bytes);
    return m;
}

static void memory_free(memory *m) {
    if (m->odd.raw) {
        kc_check_guards(&m->odd);
        free(m->odd.raw);
    } else if (m->p) {
        kc_free(m->p);
    }
}

/* What output `index` begins as. */
static void begin(const dsb_kernel_case *k, memory *out, int index, const void *first_input) {
    if (k->in_place && index == 0) memcpy(out->p, first_input, out->bytes);
    else if (out->p) memset(out->p, k->adds ? 0 : KC_PATTERN, out->bytes);
}

static void record(kc_tape *t, const memory *m) {
    for (size_t i = 0; i < m->bytes && m->used < m->element; i += m->element) kc_record(t, (uint8_t *)m->p + i, m->used);
    if (m->used == m->element) kc_record(t, m->p, m->bytes);
}

/* Row i by itself gives the same bits as among the others. */
static void check_alone(const dsb_kernel_case *k, const dsb_case_call *all, const memory *in, const memory *out, int64_t i) {
    dsb_case_call one = *all;
    memory got[DSB_CASE_OUT];
    one.shape.n = 1;
    for (int b = 0; b < DSB_CASE_IN; b++)
        if (k->in[b].extent & DSB_EXT_N) one.in[b] = (uint8_t *)in[b].p + in[b].bytes / (size_t)all->shape.n * (size_t)i;
    for (int b = 0; b < DSB_CASE_OUT; b++) {
        got[b] = memory_of(&k->out[b], &one.shape, PAGE_END);
        begin(k, &got[b], b, one.in[0]);
        one.out[b] = got[b].p;
    }
    k->run(&one);
    for (int b = 0; b < DSB_CASE_OUT; b++) {
        kc_tape alone = {0}, among = {0};
        memory row = got[b];
        row.p = (uint8_t *)out[b].p + got[b].bytes * (size_t)i;
        record(&alone, &got[b]);
        record(&among, &row);
        if (alone.n && memcmp(alone.data, among.data, alone.n) != 0) fail_msg("%s %s: row %lld of %lld alone", all->be->isa, k->name, (long long)i, (long long)all->shape.n);
        free(alone.data);
        free(among.data);
        memory_free(&got[b]);
    }
}

static void run_case(const dsb_backend *be, const dsb_kernel_case *k, const dsb_case_shape *s, dsb_case_fill how, place where, kc_tape *tape) {
    dsb_case_call c = {.be = be, .shape = *s};
    memory in[DSB_CASE_IN], out[DSB_CASE_OUT];
    for (int b = 0; b < DSB_CASE_IN; b++) {
        in[b] = memory_of(&k->in[b], s, where);
        if (in[b].p) dsb_case_fill_in(&k->in[b], s, how, (uint32_t)b + 1, in[b].p);
        c.in[b] = in[b].p;
    }
    for (int b = 0; b < DSB_CASE_OUT; b++) {
        out[b] = memory_of(&k->out[b], s, where);
        begin(k, &out[b], b, in[0].p);
        c.out[b] = out[b].p;
    }
    if (k->product) assert_int_equal(dsb_case_pack(k, &c, in[0].p, in[1].p, NULL), DSB_OK);
    k->run(&c);
    for (int b = 0; b < DSB_CASE_OUT; b++) record(tape, &out[b]);
    for (int64_t i = 0; !k->mixed && where == PAGE_END && i < s->n; i += 1 + s->n / 3) check_alone(k, &c, in, out, i);
    if (k->product) be->unpack(&c.w);
    for (int b = 0; b < DSB_CASE_IN; b++) memory_free(&in[b]);
    for (int b = 0; b < DSB_CASE_OUT; b++) memory_free(&out[b]);
}

static void check_case(const dsb_backend *be, const dsb_kernel_case *k, const dsb_case_shape *s, dsb_case_fill how, place where, int threads, const kc_tape *want) {
    kc_tape got = {0};
    run_case(be, k, s, how, where, &got);
    if (got.n != want->n || (got.n && memcmp(got.data, want->data, got.n) != 0))
        fail_msg("%s %s differs from ref: n %lld, rows %lld, cols %lld, group %lld, fill %d, %s, %d threads", be->isa, k->name, (long long)s->n, (long long)s->rows, (long long)s->cols, (long long)s->group, (int)how,
                 where == ODD ? "unaligned" : "at a page's end", threads);
    free(got.data);
}

static void check_shape(const dsb_kernel_case *k, const dsb_case_shape *s) {
    const dsb_backend *be[KC_LEVELS];
    int n = kc_backends(be);
    for (int how = 0; how < DSB_FILL_COUNT; how++) {
        kc_tape want = {0};
        run_case(be[0], k, s, (dsb_case_fill)how, PAGE_END, &want);
        for (int b = 0; b < n; b++)
            for (int where = 0; where < PLACES; where++) check_case(be[b], k, s, (dsb_case_fill)how, (place)where, omp_get_max_threads(), &want);
        free(want.data);
    }
}

static void test_kernel_cases__odd_shapes_give_the_references_bits(void **state) {
    const dsb_kernel_case *k;
    for (int c = 0, n = dsb_kernel_cases(&k); c < n; c++)
        for (int i = 0; i < COUNT(k_n); i++)
            for (int j = 0; j < COUNT(k_cols); j++)
                for (int r = 0; r < (k[c].product ? COUNT(k_rows) : 1); r++) {
                    dsb_case_shape s = {k_n[i], k_rows[r], k_cols[j], k_group[(i + j + r) % COUNT(k_group)]};
                    check_shape(&k[c], &s);
                }
}

static void test_kernel_cases__threads_change_no_bit(void **state) {
    const dsb_kernel_case *k;
    const dsb_backend *be[KC_LEVELS];
    int n_be = kc_backends(be), before = omp_get_max_threads();
    for (int c = 0, n = dsb_kernel_cases(&k); c < n; c++) {
        const dsb_case_shape *s = k[c].cubic ? &k_cubic : &k_big;
        kc_tape want = {0};
        omp_set_num_threads(1);
        run_case(be[0], &k[c], s, DSB_FILL_USUAL, ODD, &want);
        for (int b = 0; b < n_be; b++)
            for (int threads = 1; threads <= 5; threads++) {
                omp_set_num_threads(threads);
                check_case(be[b], &k[c], s, DSB_FILL_USUAL, ODD, threads, &want);
            }
        free(want.data);
    }
    omp_set_num_threads(before);
}

/* A buffer's length is the product of its extents; a group above the columns is one a row. */
static void test_kernel_cases__lengths_of_buffers(void **state) {
    const dsb_case_shape s = {3, 5, 7, 4}, one = {3, 5, 7, 100};
    assert_int_equal(dsb_case_count(&(dsb_case_buffer){DSB_DATA_F32, DSB_EXT_ROWS | DSB_EXT_GROUPS}, &s), 10);
    assert_int_equal(dsb_case_count(&(dsb_case_buffer){DSB_DATA_F32, DSB_EXT_ROWS | DSB_EXT_GROUPS}, &one), 5);
    assert_int_equal(dsb_case_count(&(dsb_case_buffer){DSB_DATA_F32, DSB_EXT_N | DSB_EXT_HALF | DSB_EXT_TWO}, &s), 18);
    assert_int_equal(dsb_case_count(&(dsb_case_buffer){DSB_DATA_F64, 0}, &s), 1);
    assert_int_equal(dsb_case_count(&(dsb_case_buffer){DSB_DATA_NONE, 0}, &s), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel_cases__odd_shapes_give_the_references_bits),
        cmocka_unit_test(test_kernel_cases__threads_change_no_bit),
        cmocka_unit_test(test_kernel_cases__lengths_of_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
