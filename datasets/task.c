#include "datasets/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "datasets/jsonl.h"
#include "datasets/text.h"

enum { MAX_CHOICES = 1024 };

/* A growing array of numbers. */
typedef struct numbers {
    int64_t *item;
    size_t n, room;
} numbers;

static dsb_status push(numbers *a, int64_t x, dsb_err *err) {
    if (a->n == a->room) {
        size_t room = a->room ? 2 * a->room : 1024;
        int64_t *grown = realloc(a->item, room * sizeof *grown);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "no memory for a task of more than %zu entries", a->n);
        a->item = grown;
        a->room = room;
    }
    a->item[a->n++] = x;
    return DSB_OK;
}

/* Token, target and position of every place in the chunks, as one row of three. */
enum { TOKEN, TARGET, POSITION, COLUMNS };

typedef struct loader {
    const dsb_tokenizer *tok;
    dsb_task *task;
    int64_t n_ctx, max_pos, n_row;
    numbers first_choice, gold, chars, first_row, places;
    char *text; /* query, delimiter and choice of the latest choice */
    size_t text_room;
} loader;

static size_t place_count(const loader *l) { return l->places.n / COLUMNS; }

static dsb_status place(loader *l, int32_t token, int32_t target, int64_t position, dsb_err *err) {
    if (place_count(l) == INT32_MAX) return dsb_fail(err, DSB_EINPUT, "a task of more than %d tokens; split the file", INT32_MAX);
    DSB_TRY(push(&l->places, token, err));
    DSB_TRY(push(&l->places, target, err));
    return push(&l->places, position, err);
}

/* A sequence of n inputs whose last n_scored predict the tokens behind them. It doesn't cross a chunk's end: what is left there takes its beginning,
 * unscored, so that every token in a chunk is one of the task's. */
static dsb_status place_sequence(loader *l, const int32_t *ids, int64_t n, int64_t n_scored, dsb_err *err) {
    int64_t left = l->n_ctx - (int64_t)(place_count(l) % (size_t)l->n_ctx);
    for (int64_t i = 0; n > left && i < left; i++) DSB_TRY(place(l, ids[i], -1, i, err));
    for (int64_t i = 0; i < n; i++) DSB_TRY(place(l, ids[i], i >= n - n_scored ? ids[i + 1] : -1, i, err));
    l->n_row += n_scored;
    return push(&l->first_row, l->n_row, err);
}

/* Ids as lm-eval has them: BOS first where the tokenizer adds one, or where it alone is the context, and never twice. */
static dsb_status encode(const loader *l, const char *where, const char *text, size_t n, bool alone, int32_t **ids, size_t *n_ids, dsb_err *err) {
    bool bos = alone || dsb_tokenizer_adds_bos(l->tok);
    DSB_TRY(dsb_tokenizer_encode(l->tok, where, text, n, bos, ids, n_ids, err));
    if (!bos || *n_ids < 2 || (*ids)[1] != (*ids)[0]) return DSB_OK;
    memmove(*ids, *ids + 1, (--*n_ids) * sizeof **ids);
    return DSB_OK;
}

/* Bytes of a text without the white space at its end, as Python's rstrip() sees it. */
static size_t stripped(const char *text, size_t n) {
    while (n > 0) {
        const char *p = dsb_utf8_back(text, text + n);
        size_t len;
        uint32_t c = dsb_utf8_decode(p, &len);
        if (!dsb_is_white_space(c) && !(c >= 0x1c && c <= 0x1f)) break;
        n = (size_t)(p - text);
    }
    return n;
}

static int64_t count_chars(const char *text, size_t n) {
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static dsb_status join(loader *l, const json_t *query, const char *delimiter, size_t n_delimiter, const json_t *choice, size_t *n, dsb_err *err) {
    size_t a = json_string_length(query), b = json_string_length(choice);
    *n = a + n_delimiter + b;
    if (*n > l->text_room) {
        char *grown = realloc(l->text, *n);
        if (!grown) return dsb_fail(err, DSB_ENOMEM, "no memory for a choice of %zu bytes", *n);
        l->text = grown;
        l->text_room = *n;
    }
    memcpy(l->text, json_string_value(query), a);
    memcpy(l->text + a, delimiter, n_delimiter);
    memcpy(l->text + a + n_delimiter, json_string_value(choice), b);
    return DSB_OK;
}

/* The choice's tokens are those of the whole behind as many as the query alone has, so that white space at the query's end belongs to the choice. */
static dsb_status add_sequence(loader *l, const char *where, int64_t choice, const int32_t *context, int64_t n_context, const int32_t *whole, int64_t n_whole, dsb_err *err) {
    int64_t n_scored = n_whole - n_context, n = n_whole - 1, cut = 0;
    if (n_context < 1) return dsb_fail(err, DSB_EINPUT, "%s: \"query\" has no token", where);
    if (n_scored < 1) return dsb_fail(err, DSB_EINPUT, "%s: choice %lld adds no token to the query's %lld", where, (long long)choice, (long long)n_context);
    if (n > l->n_ctx && l->n_ctx < l->max_pos)
        return dsb_fail(err, DSB_EINPUT, "%s: query and choice %lld are %lld tokens, longer than the context of %lld; give --context %lld or more", where, (long long)choice, (long long)n, (long long)l->n_ctx,
                        (long long)(n < l->max_pos ? n : l->max_pos));
    if (n > l->n_ctx) cut = n - l->n_ctx;
    if (n_scored > l->n_ctx) return dsb_fail(err, DSB_EINPUT, "%s: choice %lld is %lld tokens, longer than the context of %lld", where, (long long)choice, (long long)n_scored, (long long)l->n_ctx);
    l->task->n_cut += cut > 0;
    int32_t *ids;
    DSB_TRY(DSB_NEW(ids, n_whole, "a choice", err));
    memcpy(ids, context, (size_t)n_context * sizeof *ids);
    memcpy(ids + n_context, whole + n_context, (size_t)n_scored * sizeof *ids);
    dsb_status s = place_sequence(l, ids + cut, n - cut, n_scored, err);
    free(ids);
    return s;
}

static dsb_status add_choice(loader *l, const char *where, int64_t number, const json_t *query, const int32_t *context, size_t n_context, const char *delimiter, size_t n_delimiter, const json_t *choice, dsb_err *err) {
    int32_t *whole;
    size_t n, n_whole;
    if (!json_is_string(choice) || json_string_length(choice) == 0) return dsb_fail(err, DSB_EINPUT, "%s: choice %lld isn't a string of at least one character", where, (long long)number);
    DSB_TRY(join(l, query, delimiter, n_delimiter, choice, &n, err));
    bool no_query = json_string_length(query) == 0;
    DSB_TRY(encode(l, where, l->text, n, no_query, &whole, &n_whole, err));
    dsb_status s = add_sequence(l, where, number, context, (int64_t)n_context, whole, (int64_t)n_whole, err);
    free(whole);
    if (!s) s = push(&l->chars, count_chars(json_string_value(choice), json_string_length(choice)), err);
    return s;
}

/* An index, or one of the choices as text. */
static dsb_status read_gold(const char *where, const json_t *object, const json_t *choices, int64_t *out, dsb_err *err) {
    const json_t *gold = json_object_get(object, "gold");
    size_t n = json_array_size(choices);
    if (json_is_integer(gold) && json_integer_value(gold) >= 0 && json_integer_value(gold) < (json_int_t)n) return *out = json_integer_value(gold), DSB_OK;
    for (size_t i = 0; i < n && json_is_string(gold); i++)
        if (json_equal(gold, json_array_get(choices, i))) return *out = (int64_t)i, DSB_OK;
    return dsb_fail(err, DSB_EINPUT, "%s: \"gold\" must be the number of the right choice, 0 to %zu, or its text", where, n - 1);
}

static dsb_status add_item(void *ctx, const char *where, const json_t *object, dsb_err *err) {
    loader *l = ctx;
    const json_t *query = json_object_get(object, "query"), *choices = json_object_get(object, "choices"), *delimiter = json_object_get(object, "target_delimiter");
    size_t n = json_array_size(choices), n_context;
    int64_t gold = 0;
    int32_t *context;
    if (!json_is_string(query)) return dsb_fail(err, DSB_EINPUT, "%s: \"query\" must be a string", where);
    if (!json_is_array(choices) || n < 2 || n > MAX_CHOICES) return dsb_fail(err, DSB_EINPUT, "%s: \"choices\" must be an array of 2 to %d strings", where, MAX_CHOICES);
    if (delimiter && !json_is_string(delimiter)) return dsb_fail(err, DSB_EINPUT, "%s: \"target_delimiter\" must be a string; one space is meant where it is absent", where);
    DSB_TRY(read_gold(where, object, choices, &gold, err));
    bool no_query = json_string_length(query) == 0;
    size_t n_query = stripped(json_string_value(query), json_string_length(query));
    if (n_query == 0 && !no_query) return dsb_fail(err, DSB_EINPUT, "%s: \"query\" is white space alone; an empty one stands for the BOS token", where);
    DSB_TRY(encode(l, where, json_string_value(query), n_query, no_query, &context, &n_context, err));
    dsb_status s = push(&l->gold, gold, err);
    for (size_t i = 0; i < n && !s; i++)
        s = add_choice(l, where, (int64_t)i, query, context, n_context, delimiter ? json_string_value(delimiter) : " ", delimiter ? json_string_length(delimiter) : 1, json_array_get(choices, i), err);
    free(context);
    return s ? s : push(&l->first_choice, (int64_t)l->chars.n, err);
}

/* The last chunk's rest repeats the first one's beginning. */
static dsb_status fill_last(loader *l, dsb_err *err) {
    for (size_t i = 0; place_count(l) % (size_t)l->n_ctx; i++) DSB_TRY(place(l, (int32_t)l->places.item[i * COLUMNS + TOKEN], -1, (int64_t)i, err));
    return DSB_OK;
}

static dsb_status make_chunks(loader *l, dsb_err *err) {
    dsb_chunks *c = &l->task->chunks;
    int64_t n = (int64_t)place_count(l), n_chunk = n / l->n_ctx;
    *c = (dsb_chunks){.n_chunk = n_chunk, .n_ctx = l->n_ctx, .n_text_token = n, .n_available = n_chunk, .n_scored = l->n_row};
    DSB_TRY(DSB_NEW(c->tokens, n, "chunks", err));
    DSB_TRY(DSB_NEW(c->targets, n, "chunks", err));
    DSB_TRY(DSB_NEW(c->positions, n, "chunks", err));
    DSB_TRY(DSB_NEW(c->scored_bytes, n_chunk, "chunks", err));
    for (int64_t i = 0; i < n; i++) {
        const int64_t *p = &l->places.item[i * COLUMNS];
        const uint8_t *bytes;
        size_t len;
        c->tokens[i] = (int32_t)p[TOKEN];
        c->targets[i] = (int32_t)p[TARGET];
        c->positions[i] = (int32_t)p[POSITION];
        if (c->targets[i] < 0) continue;
        DSB_TRY(dsb_tokenizer_token_bytes(l->tok, c->targets[i], &bytes, &len, err));
        c->scored_bytes[i / l->n_ctx] += (int64_t)len;
    }
    return DSB_OK;
}

static dsb_status read_items(loader *l, const char *path, const dsb_text_file *file, dsb_err *err) {
    DSB_TRY(push(&l->first_choice, 0, err));
    DSB_TRY(push(&l->first_row, 0, err));
    DSB_TRY(dsb_jsonl_each(path, file->data, file->n, add_item, l, err));
    if (l->gold.n == 0) return dsb_fail(err, DSB_EINPUT, "%s: holds no item; lines of {\"query\": …, \"choices\": […], \"gold\": 0} are wanted", path);
    DSB_TRY(fill_last(l, err));
    return make_chunks(l, err);
}

dsb_status dsb_task_load(dsb_task *out, const dsb_tokenizer *tok, const char *path, int64_t n_ctx, int64_t max_pos, dsb_err *err) {
    dsb_text_file file;
    loader l = {.tok = tok, .task = out, .n_ctx = n_ctx, .max_pos = max_pos};
    *out = (dsb_task){0};
    if (n_ctx < 4) return dsb_fail(err, DSB_EUSAGE, "context: %lld tokens; at least 4 are wanted", (long long)n_ctx);
    DSB_TRY(dsb_text_file_load(&file, path, err));
    dsb_status s = read_items(&l, path, &file, err);
    out->n_bytes = file.n;
    memcpy(out->sha256, file.sha256, sizeof out->sha256);
    dsb_text_file_release(&file);
    free(l.text);
    free(l.places.item);
    out->n_item = (int64_t)l.gold.n;
    out->n_choice = (int64_t)l.chars.n;
    out->first_choice = l.first_choice.item;
    out->gold = l.gold.item;
    out->chars = l.chars.item;
    out->first_row = l.first_row.item;
    if (s) dsb_task_release(out);
    return s;
}

void dsb_task_release(dsb_task *task) {
    free(task->first_choice);
    free(task->gold);
    free(task->chars);
    free(task->first_row);
    dsb_chunks_release(&task->chunks);
    *task = (dsb_task){0};
}
