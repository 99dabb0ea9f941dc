#include "datasets/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/json.h"
#include "datasets/utf8.h"

enum { STEP_MAX = 64 };
typedef enum kind { FORM, PREPEND, REPLACE } kind;

typedef struct dsb_normalizer_step {
    kind kind;
    int options;      /* FORM: utf8proc's */
    dsb_regex *regex; /* REPLACE: a pattern, or NULL and the text `find` */
    char *find, *text; /* owned; `text` is put in front, or in place of a match */
    size_t n_find, n;
} step;

static const struct {
    const char *name;
    int options;
} k_forms[] = {
    { "NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE },
    { "NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE },
    { "NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT },
    { "NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT },
};

/* Reading */

static step *add_step(dsb_normalizer *norm, kind k) {
    if (norm->n_step == STEP_MAX) return NULL;
    if (!norm->steps) norm->steps = calloc(STEP_MAX, sizeof *norm->steps);
    if (!norm->steps) return NULL;
    norm->steps[norm->n_step].kind = k;
    return &norm->steps[norm->n_step++];
}

static dsb_status add_text_step(dsb_normalizer *norm, const char *name, kind k, const char *text, size_t n, step **out, dsb_err *err) {
    step *s = *out = add_step(norm, k);
    if (s) s->text = malloc(n + 1);
    if (!s || !s->text) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: normalizer: more than %d steps, or no memory for them", name, STEP_MAX);
    memcpy(s->text, text, n);
    s->text[n] = 0;
    s->n = n;
    return DSB_OK;
}

static dsb_status add_replace(dsb_normalizer *norm, const char *name, const char *pattern, size_t n, bool literal, const char *content, size_t n_content, dsb_err *err) {
    step *s;
    size_t len = 0;
    DSB_TRY(add_text_step(norm, name, REPLACE, content, n_content, &s, err));
    if (literal && n) {
        s->find = malloc(n + 1);
        if (!s->find) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for its normalizer", name);
        memcpy(s->find, pattern, s->n_find = n);
    } else DSB_TRY(dsb_regex_open(&s->regex, name, pattern, n, literal, err));
    if (n) dsb_utf8_decode(pattern, &len);
    if (!literal || n == 0 || len != n) norm->local = false; /* only single characters can't be cut in two */
    if (literal && n == 1 && *pattern == ' ' && n_content < sizeof norm->blank) memcpy(norm->blank, content, n_content);
    return DSB_OK;
}

static dsb_status read_replace(dsb_normalizer *norm, const char *name, const json_t *json, dsb_err *err) {
    const json_t *pattern = json_object_get(json, "pattern"), *text = json_object_get(pattern, "Regex"), *content = json_object_get(json, "content");
    bool literal = !text;
    if (literal) text = json_object_get(pattern, "String");
    if (!json_is_string(text) || !json_is_string(content)) return dsb_fail(err, DSB_EINPUT, "%s: normalizer Replace: {\"pattern\": {\"Regex\": …} or {\"String\": …}, \"content\": …} is wanted", name);
    return add_replace(norm, name, json_string_value(text), json_string_length(text), literal, json_string_value(content), json_string_length(content), err);
}

static dsb_status read_one(dsb_normalizer *norm, const char *name, const json_t *json, int depth, dsb_err *err) {
    const char *type = NULL, *text = NULL;
    step *s;
    if (!json_is_object(json)) return dsb_fail(err, DSB_EINPUT, "%s: \"normalizer\" is no object", name);
    DSB_TRY(dsb_json_string(json, name, "type", true, &type, err));
    for (size_t i = 0; i < sizeof k_forms / sizeof *k_forms; i++) {
        if (strcmp(type, k_forms[i].name) != 0) continue;
        DSB_TRY(add_text_step(norm, name, FORM, "", 0, &s, err));
        s->options = k_forms[i].options;
        norm->composes = true;
        return DSB_OK;
    }
    if (strcmp(type, "Replace") == 0) return read_replace(norm, name, json, err);
    if (strcmp(type, "Prepend") == 0) {
        DSB_TRY(dsb_json_string(json, name, "prepend", true, &text, err));
        return add_text_step(norm, name, PREPEND, text, strlen(text), &s, err);
    }
    if (strcmp(type, "Sequence") != 0 || depth == 8) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: normalizer type \"%s\" is not one that this build reads (Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace, or none)", name, type);
    const json_t *list = json_object_get(json, "normalizers");
    if (!json_is_array(list)) return dsb_fail(err, DSB_EINPUT, "%s: normalizer Sequence: \"normalizers\" is no array", name);
    for (size_t i = 0; i < json_array_size(list); i++) DSB_TRY(read_one(norm, name, json_array_get(list, i), depth + 1, err));
    return DSB_OK;
}

/* A form after a Replace would see what the replacement and its neighbours make together. */
static void check_order(dsb_normalizer *norm) {
    bool replaced = false;
    for (size_t i = 0; i < norm->n_step; i++) {
        if (norm->steps[i].kind == FORM && replaced) norm->local = false;
        replaced = replaced || norm->steps[i].kind == REPLACE;
    }
}

dsb_status dsb_normalizer_init(dsb_normalizer *norm, const char *name, const json_t *json, dsb_err *err) {
    *norm = (dsb_normalizer){ .local = true };
    dsb_status s = json && !json_is_null(json) ? read_one(norm, name, json, 0, err) : DSB_OK;
    check_order(norm);
    if (s) dsb_normalizer_release(norm);
    return s;
}

dsb_status dsb_normalizer_init_marks(dsb_normalizer *norm, const char *name, bool prepend, dsb_err *err) {
    static const char mark[] = "\xe2\x96\x81";
    step *first;
    *norm = (dsb_normalizer){ .local = true };
    dsb_status s = prepend ? add_text_step(norm, name, PREPEND, mark, sizeof mark - 1, &first, err) : DSB_OK;
    if (!s) s = add_replace(norm, name, " ", 1, true, mark, sizeof mark - 1, err);
    if (s) dsb_normalizer_release(norm);
    return s;
}

void dsb_normalizer_release(dsb_normalizer *norm) {
    for (size_t i = 0; i < norm->n_step; i++) {
        dsb_regex_close(norm->steps[i].regex);
        free(norm->steps[i].find);
        free(norm->steps[i].text);
    }
    free(norm->steps);
    *norm = (dsb_normalizer){ 0 };
}

/* Running */

/* Forms leave ASCII alone, and no ASCII character joins the one before it: a text may be cut in front of one. */
size_t dsb_normalizer_ready(const dsb_normalizer *norm, const char *text, size_t n) {
    if (!norm->local) return 0;
    if (!norm->composes) return n;
    while (n > 0 && (unsigned char)text[n - 1] >= 0x80) n--;
    return n ? n - 1 : 0;
}

static bool is_ascii(const char *p, size_t n) {
    unsigned char any = 0;
    for (size_t i = 0; i < n; i++) any |= (unsigned char)p[i];
    return any < 0x80;
}

static dsb_status run_form(const step *s, dsb_buffer *text, dsb_err *err) {
    utf8proc_uint8_t *out = NULL;
    bool composed = (s->options & (UTF8PROC_COMPOSE | UTF8PROC_COMPAT)) == UTF8PROC_COMPOSE;
    if (composed ? dsb_utf8_nfc_check(text->data, text->n) == text->n : is_ascii(text->data, text->n)) return DSB_OK;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text->data, (utf8proc_ssize_t)text->n, &out, (utf8proc_option_t)s->options);
    if (n < 0) return dsb_fail(err, n == UTF8PROC_ERROR_NOMEM ? DSB_ENOMEM : DSB_EUNSUPPORTED, "tokenizer: its normalizer: %s", utf8proc_errmsg(n));
    text->n = 0;
    dsb_status st = dsb_buffer_put(text, (const char *)out, (size_t)n, err);
    free(out);
    return st;
}

static dsb_status run_prepend(const step *s, dsb_buffer *text, dsb_err *err) {
    DSB_TRY(dsb_buffer_put(text, s->text, s->n, err)); /* makes room */
    memmove(text->data + s->n, text->data, text->n - s->n);
    memcpy(text->data, s->text, s->n);
    return DSB_OK;
}

static dsb_status replace_text(const step *s, const dsb_buffer *text, dsb_buffer *out, dsb_err *err) {
    const char *p = text->data, *end = p + text->n;
    for (const char *at; (at = s->n_find == 1 ? memchr(p, *s->find, (size_t)(end - p)) : memmem(p, (size_t)(end - p), s->find, s->n_find)); p = at + s->n_find) {
        DSB_TRY(dsb_buffer_put(out, p, (size_t)(at - p), err));
        DSB_TRY(dsb_buffer_put(out, s->text, s->n, err));
    }
    return dsb_buffer_put(out, p, (size_t)(end - p), err);
}

static dsb_status replace_matches(const step *s, dsb_regex_scratch *scratch, const dsb_buffer *text, dsb_buffer *out, dsb_err *err) {
    size_t done = 0, from = 0, last_end = SIZE_MAX;
    while (from <= text->n) {
        dsb_match found;
        size_t begin, end;
        DSB_TRY(dsb_regex_match(s->regex, scratch, text->data, text->n, from, false, &found, &begin, &end, err));
        if (found != DSB_MATCH_FOUND) break;
        if (begin != end || begin != last_end) {
            DSB_TRY(dsb_buffer_put(out, text->data + done, begin - done, err));
            DSB_TRY(dsb_buffer_put(out, s->text, s->n, err));
            done = last_end = end;
        }
        from = end;
        if (begin != end) continue;
        if (from++ == text->n) break;
        while (from < text->n && ((unsigned char)text->data[from] & 0xc0) == 0x80) from++;
    }
    return dsb_buffer_put(out, text->data + done, text->n - done, err);
}

static dsb_status run_replace(const step *s, dsb_regex_scratch *scratch, dsb_buffer *text, dsb_err *err) {
    dsb_buffer out = { 0 };
    dsb_status st = s->regex ? replace_matches(s, scratch, text, &out, err) : replace_text(s, text, &out, err);
    if (st) dsb_buffer_release(&out);
    else {
        dsb_buffer_release(text);
        *text = out;
    }
    return st;
}

dsb_status dsb_normalizer_run(const dsb_normalizer *norm, dsb_regex_scratch *scratch, dsb_buffer *text, bool first, dsb_err *err) {
    for (size_t i = 0; i < norm->n_step && text->n; i++) {
        const step *s = &norm->steps[i];
        if (s->kind == FORM) DSB_TRY(run_form(s, text, err));
        else if (s->kind == REPLACE) DSB_TRY(run_replace(s, scratch, text, err));
        else if (first) DSB_TRY(run_prepend(s, text, err));
    }
    return DSB_OK;
}
