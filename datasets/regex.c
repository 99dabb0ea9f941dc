#include "datasets/regex.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct dsb_regex {
    pcre2_code *code;
    bool local;
};

/* Steps of backtracking in one search: patterns of real tokenizers take as many as a run of blanks is long. */
enum { MATCH_LIMIT = 1 << 25, HEAP_LIMIT_KB = 1 << 18 };

struct dsb_regex_scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* Oniguruma's Ruby syntax: ^ and $ at every line, lines end in LF. */
static dsb_status compile(dsb_regex *re, const char *name, const char *pattern, size_t n, uint32_t options, dsb_err *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return dsb_fail(err, DSB_ENOMEM, "%s: no memory to compile a pattern", name);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE offset;
    re->code = pcre2_compile((PCRE2_SPTR)pattern, n, options | PCRE2_UTF, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (!re->code) {
        PCRE2_UCHAR text[160];
        pcre2_get_error_message(code, text, sizeof text);
        return dsb_fail(err, DSB_EINPUT, "%s: pre-tokenizer pattern \"%.*s\": %s", name, (int)(n < 80 ? n : 80), pattern, (char *)text);
    }
    pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD); /* where it fails, the interpreter gives the same matches */
    uint32_t behind = 1, empty = 1;
    pcre2_pattern_info(re->code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
    pcre2_pattern_info(re->code, PCRE2_INFO_MATCHEMPTY, &empty);
    re->local = behind == 0 && empty == 0;
    return DSB_OK;
}

dsb_status dsb_regex_open(dsb_regex **out, const char *name, const char *pattern, size_t n, bool literal, dsb_err *err) {
    *out = NULL;
    dsb_regex *re = calloc(1, sizeof *re);
    if (!re) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for a pattern", name);
    char *translated = NULL;
    size_t n_translated = 0;
    dsb_status s = literal ? DSB_OK : dsb_regex_translate(name, pattern, n, &translated, &n_translated, err);
    if (!s) s = literal ? compile(re, name, pattern, n, PCRE2_LITERAL, err) : compile(re, name, translated, n_translated, PCRE2_UCP | PCRE2_MULTILINE, err);
    free(translated);
    if (s) {
        dsb_regex_close(re);
        return s;
    }
    *out = re;
    return DSB_OK;
}

void dsb_regex_close(dsb_regex *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    free(re);
}

dsb_status dsb_regex_scratch_open(dsb_regex_scratch **out, dsb_err *err) {
    dsb_regex_scratch *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s) {
        s->data = pcre2_match_data_create(1, NULL);
        s->context = pcre2_match_context_create(NULL);
        s->stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, NULL); /* may be NULL where there is no JIT */
    }
    if (!s || !s->data || !s->context) {
        dsb_regex_scratch_close(s);
        return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for pattern matching");
    }
    if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    pcre2_set_match_limit(s->context, MATCH_LIMIT);
    pcre2_set_heap_limit(s->context, HEAP_LIMIT_KB);
    *out = s;
    return DSB_OK;
}

void dsb_regex_scratch_close(dsb_regex_scratch *s) {
    if (!s) return;
    pcre2_jit_stack_free(s->stack);
    pcre2_match_context_free(s->context);
    pcre2_match_data_free(s->data);
    free(s);
}

bool dsb_regex_is_local(const dsb_regex *re) { return re->local; }

dsb_status dsb_regex_match(const dsb_regex *re, dsb_regex_scratch *s, const char *subject, size_t n, size_t from, bool more, dsb_match *found, size_t *begin, size_t *end, dsb_err *err) {
    uint32_t options = PCRE2_NO_UTF_CHECK | (more ? PCRE2_PARTIAL_HARD : 0);
    int rc = pcre2_match(re->code, (PCRE2_SPTR)subject, n, from, options, s->data, s->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = pcre2_match(re->code, (PCRE2_SPTR)subject, n, from, options | PCRE2_NO_JIT, s->data, s->context);
    *found = rc >= 0 ? DSB_MATCH_FOUND : rc == PCRE2_ERROR_PARTIAL ? DSB_MATCH_OPEN : DSB_MATCH_NONE;
    if (rc == PCRE2_ERROR_NOMATCH) return DSB_OK;
    if (rc < 0 && rc != PCRE2_ERROR_PARTIAL) {
        PCRE2_UCHAR text[160];
        pcre2_get_error_message(rc, text, sizeof text);
        return dsb_fail(err, rc == PCRE2_ERROR_NOMEMORY ? DSB_ENOMEM : DSB_EUNSUPPORTED, "tokenizer: one of its patterns gives up on this text: %s", (char *)text);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->data);
    *begin = span[0];
    *end = span[1];
    return DSB_OK;
}
