/* JSONL as documents and as a multiple-choice task. Documents become UTF-8; a task's chunks hold whole sequences whose scored positions are those of
 * its choices. */
#include "datasets/task.h"
#include "datasets/text.h"
#include "tests/fuzz/fuzz_file.h"

static void try_text(const char *path) {
    dsb_text_file text;
    dsb_err err;
    if (dsb_text_load(&text, path, "text", &err)) return;
    MUST(text.n_document > 0 && dsb_utf8_check(text.data, text.n) == text.n && text.data[text.n] == 0);
    dsb_text_file_release(&text);
}

static void try_task(const dsb_tokenizer *tok, const char *path, int64_t n_ctx, int64_t max_pos) {
    dsb_task t;
    dsb_err err;
    if (dsb_task_load(&t, tok, path, n_ctx, max_pos, &err)) {
        MUST(err.code == DSB_EINPUT || err.code == DSB_EUNSUPPORTED);
        return;
    }
    const dsb_chunks *c = &t.chunks;
    int64_t scored = 0, scored_now = 0, sequences = 0;
    MUST(t.n_item > 0 && t.n_choice >= 2 * t.n_item && t.first_choice[t.n_item] == t.n_choice && c->n_ctx == n_ctx);
    for (int64_t i = 0; i < t.n_item; i++) MUST(t.gold[i] >= 0 && t.gold[i] < t.first_choice[i + 1] - t.first_choice[i]);
    for (int64_t i = 0; i < t.n_choice; i++) MUST(t.chars[i] > 0 && t.first_row[i] < t.first_row[i + 1]);
    for (int64_t i = 0; i < c->n_chunk * n_ctx; i++) {
        MUST(c->tokens[i] >= 0 && (c->positions[i] == 0 || (i % n_ctx && c->positions[i] == c->positions[i - 1] + 1)));
        if (c->positions[i] == 0) scored_now = 0;
        if (c->targets[i] < 0) {
            MUST(scored_now == 0); /* a sequence's scored tokens are its last */
            continue;
        }
        sequences += scored_now++ == 0;
        scored++;
    }
    MUST(sequences == t.n_choice && scored == c->n_scored && scored == t.first_row[t.n_choice]);
    dsb_task_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static dsb_tokenizer *tok;
    dsb_err err;
    const char *path = fuzz_file(data, n);
    if (!tok) MUST(dsb_tokenizer_open(&tok, "tests/fixtures/tokenizer/tiny.json", &err) == DSB_OK);
    try_text(path);
    try_task(tok, path, 16, 16);
    try_task(tok, path, 64, 1024);
    return 0;
}
