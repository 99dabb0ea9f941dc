/* `dsbench tokenize --model DIR FILE`: the ids of a text, byte for byte, as a JSON array. Needs only DIR/tokenizer.json, or a GGUF file.
 * The text is read and its ids are written piece by piece: memory doesn't grow with it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer.h"
#include "harness/commands.h"
#include "harness/options.h"

typedef struct options {
    const char *model, *file;
    bool bos, help;
} options;

static dsb_status options_parse(options *o, int argc, char **argv, dsb_err *err) {
    *o = (options){0};
    dsb_parsed parsed;
    const dsb_option rows[] = {
        {"model", 0, DSB_OPT_STRING, &o->model, "DIR", "folder with a tokenizer.json, that file itself, or a GGUF file", 0, 0},
        {"bos", 0, DSB_OPT_FLAG, &o->bos, NULL, "put the BOS token first (default: never)", 0, 0},
    };
    const dsb_usage usage = {"tokenize", "FILE", "The token ids of a text file (- for standard input), taken byte for byte, as a JSON array.", 1, 1, DSB_OPTIONS(rows), NULL, false};
    DSB_TRY(dsb_options_parse(&usage, argc, argv, &parsed, err));
    o->help = parsed.help;
    if (o->help) return DSB_OK;
    o->file = parsed.arg[0];
    return o->model ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "tokenize: --model is missing: dsbench tokenize --model DIR FILE");
}

enum { PIECE = 1 << 20 };

typedef struct work {
    dsb_token_stream *stream;
    const char *name; /* of the text */
    FILE *in;
    char *piece;
    bool begun; /* the array is */
    size_t n_id;
} work;

static dsb_status write_ids(work *w, const int32_t *ids, size_t n, dsb_err *err) {
    char line[4096]; /* 16 bytes hold any id with what is before it */
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (at + 16 > sizeof line) {
            fwrite(line, 1, at, stdout);
            at = 0;
        }
        at += (size_t)snprintf(line + at, sizeof line - at, w->n_id++ ? ", %d" : "%d", ids[i]);
    }
    fwrite(line, 1, at, stdout);
    return ferror(stdout) ? dsb_fail(err, DSB_EOUTPUT, "standard output: the ids could not be written") : DSB_OK;
}

static dsb_status pump(work *w, dsb_err *err) {
    for (bool last = false; !last;) {
        const int32_t *ids;
        size_t n_id, n = fread(w->piece, 1, PIECE, w->in);
        if (ferror(w->in)) return dsb_fail(err, DSB_EINPUT, "%s: can't be read: %s", w->name, strerror(errno));
        last = n < PIECE;
        DSB_TRY(dsb_token_stream_put(w->stream, w->piece, n, last, &ids, &n_id, err));
        if (!w->begun) putchar('[');
        w->begun = true;
        DSB_TRY(write_ids(w, ids, n_id, err));
    }
    puts("]");
    return fflush(stdout) ? dsb_fail(err, DSB_EOUTPUT, "standard output: the ids could not be written") : DSB_OK;
}

static dsb_status tokenize(const options *o, const dsb_tokenizer *tok, dsb_err *err) {
    bool piped = strcmp(o->file, "-") == 0;
    work w = { .name = piped ? "standard input" : o->file };
    w.in = piped ? stdin : fopen(o->file, "rb");
    if (!w.in) return dsb_fail(err, DSB_EINPUT, "%s: can't be opened: %s", o->file, strerror(errno));
    w.piece = malloc(PIECE);
    dsb_status s = w.piece ? dsb_token_stream_open(&w.stream, tok, w.name, o->bos, err) : dsb_fail(err, DSB_ENOMEM, "%s: no memory to read it", w.name);
    if (!s) s = pump(&w, err);
    dsb_token_stream_close(w.stream);
    free(w.piece);
    if (!piped) fclose(w.in);
    return s;
}

/* What is wrong in the first piece of a text is said before anything is written; later, the array stays without its end. */
int dsb_cmd_tokenize(int argc, char **argv) {
    dsb_err err = {0};
    options o;
    dsb_tokenizer *tok;
    if (options_parse(&o, argc, argv, &err)) return dsb_command_fail(&err);
    if (o.help) return 0;
    if (dsb_tokenizer_open(&tok, o.model, &err)) return dsb_command_fail(&err);
    dsb_status s = tokenize(&o, tok, &err);
    dsb_tokenizer_close(tok);
    return s ? dsb_command_fail(&err) : 0;
}
