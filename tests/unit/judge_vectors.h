/* tests/fixtures/judge_vectors.json (tests/oracle/make_judge_vectors.py): cases of scipy, read for the tests of verdicts. */
#ifndef DSB_TESTS_JUDGE_VECTORS_H
#define DSB_TESTS_JUDGE_VECTORS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>

enum { VECTORS_MOST = 128 };

/* A list of cases, owned. */
static inline json_t *judge_vectors(const char *list) {
    json_error_t e;
    json_t *doc = json_load_file("tests/fixtures/judge_vectors.json", 0, &e), *cases = json_incref(json_object_get(doc, list));
    if (!json_array_size(cases)) fail_msg("tests/fixtures/judge_vectors.json has no %s; run the tests from the tree's root", list);
    json_decref(doc);
    return cases;
}

static inline double vectors_number(const json_t *c, const char *key) { return json_number_value(json_object_get(c, key)); }

static inline int64_t vectors_array(const json_t *c, const char *key, double *out) {
    const json_t *a = json_object_get(c, key);
    size_t n = json_array_size(a);
    assert_in_range(n, 1, VECTORS_MOST);
    for (size_t i = 0; i < n; i++) out[i] = json_number_value(json_array_get(a, i));
    return (int64_t)n;
}

static inline void vectors_near(const json_t *c, const char *key, double got, double rel) {
    double want = vectors_number(c, key);
    if (!(fabs(got - want) <= rel * fmax(fabs(want), 1e-3))) fail_msg("%s is %.15g, wanted %.15g", key, got, want);
}

#endif
