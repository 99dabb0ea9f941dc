/* `dsbench tokenize --model DIR FILE`: the ids of a text, byte for byte, as a JSON array. Needs only DIR/tokenizer.json. */
#include <stdio.h>
#include <stdlib.h>

#include "datasets/text.h"
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
        {"model", 0, DSB_OPT_STRING, &o->model, "DIR", "folder with a tokenizer.json (or that file itself)", 0, 0},
        {"bos", 0, DSB_OPT_FLAG, &o->bos, NULL, "put the BOS token first (default: never)", 0, 0},
    };
    const dsb_usage usage = {"tokenize", "FILE", "The token ids of a text file (- for standard input), taken byte for byte, as a JSON array.", 1, 1, DSB_OPTIONS(rows), NULL};
    DSB_TRY(dsb_options_parse(&usage, argc, argv, &parsed, err));
    o->help = parsed.help;
    if (o->help) return DSB_OK;
    o->file = parsed.arg[0];
    return o->model ? DSB_OK : dsb_fail(err, DSB_EUSAGE, "tokenize: --model is missing: dsbench tokenize --model DIR FILE");
}

static dsb_status tokenize(const options *o, int32_t **ids, size_t *n, dsb_err *err) {
    dsb_tokenizer *tok;
    dsb_text_file text;
    DSB_TRY(dsb_tokenizer_open(&tok, o->model, err));
    dsb_status s = dsb_text_file_load(&text, o->file, err);
    if (!s) {
        s = dsb_tokenizer_encode(tok, o->file, text.data, text.n, o->bos, ids, n, err);
        dsb_text_file_release(&text);
    }
    dsb_tokenizer_close(tok);
    return s;
}

int dsb_cmd_tokenize(int argc, char **argv) {
    dsb_err err = {0};
    options o;
    int32_t *ids = NULL;
    size_t n = 0;
    if (options_parse(&o, argc, argv, &err)) return dsb_command_fail(&err);
    if (o.help) return 0;
    if (tokenize(&o, &ids, &n, &err)) return dsb_command_fail(&err);
    putchar('[');
    for (size_t i = 0; i < n; i++) printf(i ? ", %d" : "%d", ids[i]);
    puts("]");
    free(ids);
    if (fflush(stdout) || ferror(stdout)) {
        dsb_fail(&err, DSB_EOUTPUT, "standard output: the ids could not be written");
        return dsb_command_fail(&err);
    }
    return 0;
}
