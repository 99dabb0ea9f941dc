#include "datasets/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

typedef enum behavior { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS } behavior;
static const char *const behavior_names[] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous" };

typedef struct dsb_pretokenizer_step {
    dsb_regex *regex; /* NULL: put a space before words that don't begin with one */
    behavior behavior;
    bool invert;
} step;

/* What ByteLevel cuts by, unless use_regex is false: GPT-2's pattern. */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* Reading */

static dsb_status add_step(dsb_pretokenizer *pre, const char *name, step s, dsb_err *err) {
    if (pre->n_step == 64) {
        dsb_regex_close(s.regex);
        return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer: more than 64 steps", name);
    }
    if (!pre->steps) pre->steps = calloc(64, sizeof *pre->steps);
    if (!pre->steps) {
        dsb_regex_close(s.regex);
        return dsb_fail(err, DSB_ENOMEM, "%s: no memory for the pre-tokenizer", name);
    }
    pre->steps[pre->n_step++] = s;
    return DSB_OK;
}

static dsb_status add_pattern(dsb_pretokenizer *pre, const char *name, const char *pattern, size_t n, bool literal, behavior b, bool invert, dsb_err *err) {
    step s = {.behavior = b, .invert = invert};
    DSB_TRY(dsb_regex_open(&s.regex, name, pattern, n, literal, err));
    return add_step(pre, name, s, err);
}

static dsb_status read_split(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    const json_t *pattern = json_object_get(json, "pattern"), *text = json_object_get(pattern, "Regex");
    const char *how = NULL;
    bool invert = false, literal = !text;
    if (literal) text = json_object_get(pattern, "String");
    if (!json_is_string(text)) return dsb_fail(err, DSB_EINPUT, "%s: pre_tokenizer Split: \"pattern\" is no {\"Regex\": …} or {\"String\": …}", name);
    DSB_TRY(dsb_json_string(json, name, "behavior", true, &how, err));
    DSB_TRY(dsb_json_bool(json, name, "invert", false, &invert, err));
    for (size_t b = 0; b < sizeof behavior_names / sizeof *behavior_names; b++)
        if (strcmp(how, behavior_names[b]) == 0) return add_pattern(pre, name, json_string_value(text), json_string_length(text), literal, (behavior)b, invert, err);
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer Split: behavior \"%s\" is not one that this build reads", name, how);
}

static dsb_status read_digits(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    bool individual = false;
    DSB_TRY(dsb_json_bool(json, name, "individual_digits", false, &individual, err));
    const char *pattern = individual ? "\\p{N}" : "\\p{N}+";
    return add_pattern(pre, name, pattern, strlen(pattern), false, ISOLATED, false, err);
}

static dsb_status read_byte_level(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    bool prefix = true, use_regex = true; /* the library's own defaults */
    DSB_TRY(dsb_json_bool(json, name, "add_prefix_space", false, &prefix, err));
    DSB_TRY(dsb_json_bool(json, name, "use_regex", false, &use_regex, err));
    if (prefix) DSB_TRY(add_step(pre, name, (step){0}, err));
    if (use_regex) DSB_TRY(add_pattern(pre, name, gpt2_pattern, sizeof gpt2_pattern - 1, false, ISOLATED, false, err));
    pre->byte_level = true;
    return DSB_OK;
}

static dsb_status read_one(dsb_pretokenizer *pre, const char *name, const json_t *json, int depth, dsb_err *err) {
    const char *type = NULL;
    if (!json_is_object(json)) return dsb_fail(err, DSB_EINPUT, "%s: pre_tokenizer: a step is no object", name);
    DSB_TRY(dsb_json_string(json, name, "type", true, &type, err));
    if (pre->byte_level) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer: \"%s\" comes after ByteLevel; this build reads ByteLevel as the last step only", name, type);
    if (strcmp(type, "Split") == 0) return read_split(pre, name, json, err);
    if (strcmp(type, "Digits") == 0) return read_digits(pre, name, json, err);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(pre, name, json, err);
    if (strcmp(type, "Sequence") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer type \"%s\" is not one that this build reads (Sequence, Split, Digits, ByteLevel)", name, type);
    const json_t *list = json_object_get(json, "pretokenizers");
    if (!json_is_array(list)) return dsb_fail(err, DSB_EINPUT, "%s: pre_tokenizer Sequence: \"pretokenizers\" is no array", name);
    if (depth == 8) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer: Sequences nested more than 8 deep", name);
    for (size_t i = 0; i < json_array_size(list); i++) DSB_TRY(read_one(pre, name, json_array_get(list, i), depth + 1, err));
    return DSB_OK;
}

dsb_status dsb_pretokenizer_init(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    *pre = (dsb_pretokenizer){0};
    dsb_status s = json && !json_is_null(json) ? read_one(pre, name, json, 0, err) : DSB_OK;
    if (!s && !pre->byte_level) s = dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer: no ByteLevel step; only byte-level BPE is read", name);
    if (s) dsb_pretokenizer_release(pre);
    return s;
}

void dsb_pretokenizer_release(dsb_pretokenizer *pre) {
    for (size_t i = 0; i < pre->n_step; i++) dsb_regex_close(pre->steps[i].regex);
    free(pre->steps);
    *pre = (dsb_pretokenizer){0};
}

/* Running */

dsb_status dsb_pretokenizer_work_init(dsb_pretokenizer_work *work, dsb_err *err) {
    *work = (dsb_pretokenizer_work){0};
    return dsb_regex_scratch_open(&work->regex, err);
}

void dsb_pretokenizer_work_release(dsb_pretokenizer_work *work) {
    dsb_regex_scratch_close(work->regex);
    free(work->words.items);
    free(work->before.items);
    free(work->prefixed);
    *work = (dsb_pretokenizer_work){0};
}

static dsb_status push(dsb_span_list *list, const char *p, size_t n, dsb_err *err) {
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 1024;
        dsb_span *grown = realloc(list->items, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for %zu words", room);
        list->items = grown;
        list->room = room;
    }
    list->items[list->n++] = (dsb_span){p, n};
    return DSB_OK;
}

/* Pieces of one word go to the list as the behaviour says; they come in text order and cover the word. */
typedef struct splitter {
    dsb_span_list *to;
    const step *step;
    bool any, previous; /* a piece came before; whether it was a match */
} splitter;

static dsb_status add_piece(splitter *s, const char *p, size_t n, bool is_match, dsb_err *err) {
    bool match = is_match != s->step->invert, merge = false, drop = false;
    switch (s->step->behavior) {
    case ISOLATED: break;
    case REMOVED: drop = match; break;
    case MERGED_WITH_PREVIOUS: merge = match && s->any && !s->previous; break;
    case MERGED_WITH_NEXT: merge = !match && s->any && s->previous; break;
    case CONTIGUOUS: merge = s->any && match == s->previous; break;
    }
    s->any = true;
    s->previous = match;
    if (merge && s->to->n) s->to->items[s->to->n - 1].n += n;
    else if (!drop) return push(s->to, p, n, err);
    return DSB_OK;
}

static dsb_status split(splitter *s, dsb_regex_scratch *scratch, dsb_span word, dsb_err *err) {
    size_t done = 0, from = 0, last_end = SIZE_MAX;
    while (from <= word.n) {
        bool found;
        size_t begin, end;
        DSB_TRY(dsb_regex_match(s->step->regex, scratch, word.p, word.n, from, &found, &begin, &end, err));
        if (!found) break;
        bool empty = begin == end;
        if (!empty || begin != last_end) { /* as Oniguruma's iterator: no empty match where the last one ended */
            if (begin > done) DSB_TRY(add_piece(s, word.p + done, begin - done, false, err));
            DSB_TRY(add_piece(s, word.p + begin, end - begin, true, err));
            done = last_end = end;
        }
        from = end;
        if (empty) {
            if (from == word.n) break;
            do from++;
            while (from < word.n && ((unsigned char)word.p[from] & 0xc0) == 0x80);
        }
    }
    return done < word.n ? add_piece(s, word.p + done, word.n - done, false, err) : DSB_OK;
}

static void drop_empty(dsb_span_list *list, size_t first) {
    size_t to = first;
    for (size_t i = first; i < list->n; i++)
        if (list->items[i].n) list->items[to++] = list->items[i];
    list->n = to;
}

static dsb_status run_split(const step *s, dsb_pretokenizer_work *work, dsb_err *err) {
    for (size_t i = 0; i < work->before.n; i++) {
        size_t first = work->words.n;
        splitter to = {.to = &work->words, .step = s};
        DSB_TRY(split(&to, work->regex, work->before.items[i], err));
        drop_empty(&work->words, first);
    }
    return DSB_OK;
}

static dsb_status run_prefix(dsb_pretokenizer_work *work, dsb_err *err) {
    size_t room = 1, at = 0;
    for (size_t i = 0; i < work->before.n; i++) room += work->before.items[i].n + 1;
    char *text = malloc(room);
    if (!text) return dsb_fail(err, DSB_ENOMEM, "tokenizer: no memory for %zu bytes of text", room);
    free(work->prefixed);
    work->prefixed = text; /* it happens once a run: ByteLevel is the last step */
    for (size_t i = 0; i < work->before.n; i++) {
        dsb_span word = work->before.items[i];
        char *begin = text + at;
        if (word.p[0] != ' ') text[at++] = ' ';
        memcpy(text + at, word.p, word.n);
        at += word.n;
        DSB_TRY(push(&work->words, begin, (size_t)(text + at - begin), err));
    }
    return DSB_OK;
}

dsb_status dsb_pretokenizer_run(const dsb_pretokenizer *pre, dsb_pretokenizer_work *work, const char *text, size_t n, dsb_err *err) {
    work->words.n = 0;
    if (n == 0) return DSB_OK;
    DSB_TRY(push(&work->words, text, n, err));
    for (size_t i = 0; i < pre->n_step; i++) {
        dsb_span_list swap = work->before;
        work->before = work->words;
        work->words = swap;
        work->words.n = 0;
        DSB_TRY(pre->steps[i].regex ? run_split(&pre->steps[i], work, err) : run_prefix(work, err));
    }
    return DSB_OK;
}
