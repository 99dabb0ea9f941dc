#include "datasets/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "datasets/utf8.h"

typedef enum behavior { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS } behavior;
static const char *const behavior_names[] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous" };

typedef struct dsb_pretokenizer_step {
    dsb_regex *regex; /* where to split; NULL: put `blank` before words that don't begin with it, and in place of each blank */
    behavior behavior;
    bool invert;
    char blank[8];
    bool first_only; /* only before the word that begins the input */
    bool never;      /* before no word */
} step;

enum { STEP_MAX = 64 };

/* What ByteLevel cuts by, unless use_regex is false: GPT-2's pattern. */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* Reading */

static dsb_status add_step(dsb_pretokenizer *pre, const char *name, step s, dsb_err *err) {
    if (pre->n_step == STEP_MAX) {
        dsb_regex_close(s.regex);
        return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer: more than %d steps", name, STEP_MAX);
    }
    if (!pre->steps) pre->steps = calloc(STEP_MAX, sizeof *pre->steps);
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

static dsb_status read_behavior(const char *name, const char *type, const char *how, behavior *out, dsb_err *err) {
    for (size_t b = 0; b < sizeof behavior_names / sizeof *behavior_names; b++)
        if (strcmp(how, behavior_names[b]) == 0) return *out = (behavior)b, DSB_OK;
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer %s: behavior \"%s\" is not one that this build reads", name, type, how);
}

static dsb_status read_split(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    const json_t *pattern = json_object_get(json, "pattern"), *text = json_object_get(pattern, "Regex");
    const char *how = NULL;
    behavior b = ISOLATED;
    bool invert = false, literal = !text;
    if (literal) text = json_object_get(pattern, "String");
    if (!json_is_string(text)) return dsb_fail(err, DSB_EINPUT, "%s: pre_tokenizer Split: \"pattern\" is no {\"Regex\": …} or {\"String\": …}", name);
    DSB_TRY(dsb_json_string(json, name, "behavior", true, &how, err));
    DSB_TRY(dsb_json_bool(json, name, "invert", false, &invert, err));
    DSB_TRY(read_behavior(name, "Split", how, &b, err));
    return add_pattern(pre, name, json_string_value(text), json_string_length(text), literal, b, invert, err);
}

static dsb_status read_digits(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    bool individual = false;
    DSB_TRY(dsb_json_bool(json, name, "individual_digits", false, &individual, err));
    const char *pattern = individual ? "\\p{N}" : "\\p{N}+";
    return add_pattern(pre, name, pattern, strlen(pattern), false, ISOLATED, false, err);
}

static dsb_status read_punctuation(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    static const char pattern[] = "[!-/:-@\\[-`{-~\\p{P}]";
    const char *how = "Isolated";
    behavior b = ISOLATED;
    DSB_TRY(dsb_json_string(json, name, "behavior", false, &how, err));
    DSB_TRY(read_behavior(name, "Punctuation", how, &b, err));
    return add_pattern(pre, name, pattern, sizeof pattern - 1, false, b, false, err);
}

/* A space becomes the mark, a word begins with one, and where "split" every mark begins a word. Old files say add_prefix_space. */
static dsb_status read_metaspace(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    const char *mark = "\xe2\x96\x81", *scheme = NULL;
    bool prefix = true, cut = true;
    step s = {0};
    size_t len = 0;
    DSB_TRY(dsb_json_string(json, name, "replacement", false, &mark, err));
    DSB_TRY(dsb_json_string(json, name, "prepend_scheme", false, &scheme, err));
    DSB_TRY(dsb_json_bool(json, name, "add_prefix_space", false, &prefix, err));
    DSB_TRY(dsb_json_bool(json, name, "split", false, &cut, err));
    if (!scheme) scheme = prefix ? "always" : "never";
    s.first_only = strcmp(scheme, "first") == 0;
    s.never = strcmp(scheme, "never") == 0;
    if (!s.first_only && !s.never && strcmp(scheme, "always") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer Metaspace: prepend_scheme \"%s\"; always, first or never is wanted", name, scheme);
    if (*mark) dsb_utf8_decode(mark, &len);
    if (len == 0 || mark[len]) return dsb_fail(err, DSB_EINPUT, "%s: pre_tokenizer Metaspace: replacement \"%s\" is no single character", name, mark);
    memcpy(s.blank, mark, len);
    memcpy(pre->blank, mark, len);
    DSB_TRY(add_step(pre, name, s, err));
    return cut ? add_pattern(pre, name, mark, len, true, MERGED_WITH_NEXT, false, err) : DSB_OK;
}

static dsb_status read_byte_level(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    bool prefix = true, use_regex = true; /* the library's own defaults */
    DSB_TRY(dsb_json_bool(json, name, "add_prefix_space", false, &prefix, err));
    DSB_TRY(dsb_json_bool(json, name, "use_regex", false, &use_regex, err));
    if (prefix) DSB_TRY(add_step(pre, name, (step){ .blank = " " }, err));
    if (use_regex) DSB_TRY(add_pattern(pre, name, gpt2_pattern, sizeof gpt2_pattern - 1, false, ISOLATED, false, err));
    pre->byte_level = true;
    return DSB_OK;
}

/* Types without settings. */
static const struct {
    const char *type, *pattern;
    bool invert;
} k_plain[] = {
    { "WhitespaceSplit", "\\s", false },
    { "Whitespace", "[\\w\\x{200c}\\x{200d}]+|[^\\w\\x{200c}\\x{200d}\\s]+", true },
};

static dsb_status read_one(dsb_pretokenizer *pre, const char *name, const json_t *json, int depth, dsb_err *err) {
    const char *type = NULL;
    if (!json_is_object(json)) return dsb_fail(err, DSB_EINPUT, "%s: pre_tokenizer: a step is no object", name);
    DSB_TRY(dsb_json_string(json, name, "type", true, &type, err));
    if (pre->byte_level) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer: \"%s\" comes after ByteLevel; this build reads ByteLevel as the last step only", name, type);
    if (strcmp(type, "Split") == 0) return read_split(pre, name, json, err);
    if (strcmp(type, "Digits") == 0) return read_digits(pre, name, json, err);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(pre, name, json, err);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(pre, name, json, err);
    if (strcmp(type, "Punctuation") == 0) return read_punctuation(pre, name, json, err);
    for (size_t i = 0; i < sizeof k_plain / sizeof *k_plain; i++)
        if (strcmp(type, k_plain[i].type) == 0) return add_pattern(pre, name, k_plain[i].pattern, strlen(k_plain[i].pattern), false, REMOVED, k_plain[i].invert, err);
    if (strcmp(type, "Sequence") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer type \"%s\" is not one that this build reads (Sequence, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace, ByteLevel)", name, type);
    const json_t *list = json_object_get(json, "pretokenizers");
    if (!json_is_array(list)) return dsb_fail(err, DSB_EINPUT, "%s: pre_tokenizer Sequence: \"pretokenizers\" is no array", name);
    if (depth == 8) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre_tokenizer: Sequences nested more than 8 deep", name);
    for (size_t i = 0; i < json_array_size(list); i++) DSB_TRY(read_one(pre, name, json_array_get(list, i), depth + 1, err));
    return DSB_OK;
}

/* The first step may change the text as it comes; a later one needs all words. */
static void check_local(dsb_pretokenizer *pre) {
    pre->local = true;
    for (size_t i = 0; i < pre->n_step; i++)
        if (pre->steps[i].regex ? !dsb_regex_is_local(pre->steps[i].regex) : i > 0) pre->local = false;
}

dsb_status dsb_pretokenizer_init(dsb_pretokenizer *pre, const char *name, const json_t *json, dsb_err *err) {
    *pre = (dsb_pretokenizer){0};
    dsb_status s = json && !json_is_null(json) ? read_one(pre, name, json, 0, err) : DSB_OK;
    check_local(pre);
    if (s) dsb_pretokenizer_release(pre);
    return s;
}

dsb_status dsb_pretokenizer_init_patterns(dsb_pretokenizer *pre, const char *name, const char *const *patterns, dsb_err *err) {
    dsb_status s = DSB_OK;
    *pre = (dsb_pretokenizer){ .byte_level = true };
    for (; !s && *patterns; patterns++) s = add_pattern(pre, name, *patterns, strlen(*patterns), false, ISOLATED, false, err);
    check_local(pre);
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
    dsb_buffer_release(&work->text);
    dsb_buffer_release(&work->changed);
    free(work->words.items);
    free(work->before.items);
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
    size_t first; /* of the list, this word's */
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
    if (merge && s->to->n > s->first) s->to->items[s->to->n - 1].n += n;
    else if (!drop) return push(s->to, p, n, err);
    return DSB_OK;
}

/* The pieces of a word up to where they are sure: all of it unless `more`. *done: bytes in pieces; *sure: bytes in which nothing
 * but those pieces matches. */
static dsb_status split(splitter *s, dsb_regex_scratch *scratch, dsb_span word, bool more, size_t *done, size_t *sure, dsb_err *err) {
    size_t from = 0, last_end = SIZE_MAX;
    *done = 0;
    *sure = word.n;
    while (from <= word.n) {
        dsb_match found;
        size_t begin, end;
        DSB_TRY(dsb_regex_match(s->step->regex, scratch, word.p, word.n, from, more, &found, &begin, &end, err));
        if (found == DSB_MATCH_OPEN) *sure = begin;
        if (found != DSB_MATCH_FOUND) break;
        bool empty = begin == end;
        if (!empty || begin != last_end) { /* as Oniguruma's iterator: no empty match where the last one ended */
            if (begin > *done) DSB_TRY(add_piece(s, word.p + *done, begin - *done, false, err));
            DSB_TRY(add_piece(s, word.p + begin, end - begin, true, err));
            *done = last_end = end;
        }
        from = end;
        if (empty) {
            if (from == word.n) break;
            do from++;
            while (from < word.n && ((unsigned char)word.p[from] & 0xc0) == 0x80);
        }
    }
    return DSB_OK;
}

static void drop_empty(dsb_span_list *list, size_t first) {
    size_t to = first;
    for (size_t i = first; i < list->n; i++)
        if (list->items[i].n) list->items[to++] = list->items[i];
    list->n = to;
}

/* A word that may go on. Pieces stand alone where the behaviour merges none: then what lies before the next possible match is passed on,
 * open as well. Else the last piece waits. Whatever waits begins at *hold; the search can begin there anew (dsb_regex_is_local). */
static dsb_status split_open(splitter *s, dsb_pretokenizer_work *work, dsb_span word, const char **hold, dsb_err *err) {
    size_t done, sure;
    DSB_TRY(split(s, work->regex, word, true, &done, &sure, err));
    work->open = false;
    if (s->step->behavior == ISOLATED || s->step->behavior == REMOVED) {
        size_t n = work->words.n;
        *hold = word.p + sure;
        if (sure > done) DSB_TRY(add_piece(s, word.p + done, sure - done, false, err));
        work->open = work->words.n > n;
        return DSB_OK;
    }
    *hold = word.p + done;
    if (work->words.n > s->first) *hold = work->words.items[--work->words.n].p;
    return DSB_OK;
}

static dsb_status run_split(const step *s, dsb_pretokenizer_work *work, const char **hold, dsb_err *err) {
    bool open = work->open;
    for (size_t i = 0; i < work->before.n; i++) {
        dsb_span word = work->before.items[i];
        size_t first = work->words.n, done, sure;
        splitter to = {.to = &work->words, .first = first, .step = s};
        if (open && i + 1 == work->before.n) return split_open(&to, work, word, hold, err);
        DSB_TRY(split(&to, work->regex, word, false, &done, &sure, err));
        if (done < word.n) DSB_TRY(add_piece(&to, word.p + done, word.n - done, false, err));
        drop_empty(&work->words, first);
    }
    return DSB_OK;
}

/* Blanks */

static dsb_status put_blanks(const step *s, dsb_buffer *to, const char *p, size_t n, bool prefix, dsb_err *err) {
    size_t len = strlen(s->blank);
    const char *end = p + n;
    if (prefix && (n < len || memcmp(p, s->blank, len) != 0) && *p != ' ') DSB_TRY(dsb_buffer_put(to, s->blank, len, err));
    if (strcmp(s->blank, " ") == 0) return dsb_buffer_put(to, p, n, err);
    for (const char *at; (at = memchr(p, ' ', (size_t)(end - p))); p = at + 1) {
        DSB_TRY(dsb_buffer_put(to, p, (size_t)(at - p), err));
        DSB_TRY(dsb_buffer_put(to, s->blank, len, err));
    }
    return dsb_buffer_put(to, p, (size_t)(end - p), err);
}

/* Blanks of all words, when no more text comes. */
static dsb_status run_blanks(const step *s, dsb_pretokenizer_work *work, dsb_err *err) {
    dsb_buffer out = {0};
    dsb_status st = DSB_OK;
    for (size_t i = 0; !st && i < work->before.n; i++) {
        dsb_span word = work->before.items[i];
        bool first = work->at_start && word.p == work->text.data;
        size_t begin = out.n;
        st = put_blanks(s, &out, word.p, word.n, !s->never && (!s->first_only || first), err);
        if (!st) st = push(&work->words, NULL, out.n - begin, err);
    }
    for (size_t i = 0, at = 0; i < work->words.n; at += work->words.items[i++].n) work->words.items[i].p = out.data + at;
    dsb_buffer_release(&work->changed);
    work->changed = out;
    return st;
}

dsb_status dsb_pretokenizer_put(const dsb_pretokenizer *pre, dsb_pretokenizer_work *work, const char *text, size_t n, dsb_err *err) {
    const step *s = pre->n_step && !pre->steps[0].regex ? &pre->steps[0] : NULL;
    bool first = !work->begun;
    if (n == 0) return DSB_OK;
    work->begun = true;
    return s ? put_blanks(s, &work->text, text, n, first && !s->never && (!s->first_only || work->at_start), err) : dsb_buffer_put(&work->text, text, n, err);
}

dsb_status dsb_pretokenizer_run(const dsb_pretokenizer *pre, dsb_pretokenizer_work *work, bool more, size_t *used, dsb_err *err) {
    work->words.n = 0;
    work->open = more;
    *used = 0;
    if (work->text.n == 0 || (more && !pre->local)) return work->open = false, DSB_OK;
    const char *hold = work->text.data + work->text.n;
    DSB_TRY(push(&work->words, work->text.data, work->text.n, err));
    for (size_t i = pre->n_step && !pre->steps[0].regex; i < pre->n_step; i++) {
        const char *held = hold;
        dsb_span_list swap = work->before;
        work->before = work->words;
        work->words = swap;
        work->words.n = 0;
        DSB_TRY(pre->steps[i].regex ? run_split(&pre->steps[i], work, &held, err) : run_blanks(&pre->steps[i], work, err));
        if (held < hold) hold = held;
    }
    if (work->open) hold = work->words.items[work->words.n - 1].p;
    *used = (size_t)(hold - work->text.data);
    return DSB_OK;
}

void dsb_pretokenizer_end(dsb_pretokenizer_work *work) {
    work->text.n = work->text.wait = 0;
    work->begun = work->at_start = false;
}
