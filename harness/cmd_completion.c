/* `dsbench completion bash|zsh`: a script that completes command lines, from the tables that commands read their options by. What a value is
 * follows from its metavar: FILE and DIR are paths, a|b is one of these words, a RUN is asked of the database, names are asked of `dsbench list`. */
#include <ctype.h>
#include <string.h>

#include "harness/commands.h"
#include "harness/options.h"
#include "harness/stored_run.h"

typedef struct value {
    enum { NOTHING, FILES, WORDS, LISTED, RUNS } kind;
    char words[160]; /* of WORDS, with spaces between; the table of LISTED */
} value;

/* Options whose values a table of `dsbench list` holds. */
static const char *table_of(const dsb_option *o) {
    static const char *const k_table[][2] = { { "schemes", "schemes" }, { "scheme", "schemes" }, { "plot", "plots" }, { "formats", "formats" }, { "algorithm", "algorithms" } };
    if (!strcmp(o->name, "format") && !strcmp(o->metavar, "F")) return "formats"; /* of numbers, not of a table */
    for (size_t i = 0; i < sizeof k_table / sizeof *k_table && !strchr(o->metavar, '='); i++)
        if (!strcmp(o->name, k_table[i][0])) return k_table[i][1];
    return NULL;
}

static bool names_path(const char *text) { return strstr(text, "FILE") || strstr(text, "DIR") || strstr(text, ".json") || strstr(text, "safetensors") || strstr(text, "GGUF"); }

/* a|b|c[:N]: the words that are written as they stand. */
static void words_of(const char *text, value *v) {
    size_t used = 0;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "|"), plain = strcspn(p, "|[ ");
        while (*p == ' ') p++, n--, plain = strcspn(p, "|[ ");
        if (islower((unsigned char)*p) && used + plain + 2 < sizeof v->words) {
            if (used) v->words[used++] = ' ';
            memcpy(v->words + used, p, plain);
            used += plain;
        }
        p += n + (p[n] == '|');
    }
    v->words[used] = 0;
    if (v->kind == NOTHING && used) v->kind = WORDS;
}

static value value_of(const char *text) {
    value v = { .kind = NOTHING };
    if (strstr(text, "RUN") || strstr(text, "BASE")) v.kind = RUNS;
    else if (names_path(text) || !strcmp(text, "REF TEST")) v.kind = FILES;
    if (v.kind != FILES && strchr(text, '|')) words_of(text, &v); /* beside a RUN too: set RUN | show */
    return v;
}

static value option_value(const dsb_option *o) {
    value v = { .kind = NOTHING };
    const char *table = o->kind == DSB_OPT_FLAG || !o->metavar ? NULL : table_of(o);
    if (o->kind == DSB_OPT_FLAG || !o->metavar || (!table && strchr(o->metavar, '='))) return v;
    if (!table) return value_of(o->metavar);
    v.kind = LISTED;
    snprintf(v.words, sizeof v.words, "%s", table);
    return v;
}

/* Within single quotes; specials (or NULL) get a backslash before them. */
static void put_quoted(dsb_text *out, const char *text, const char *specials) {
    for (const char *p = text; *p; p++) {
        if (*p == '\'') dsb_text_put(out, "'\\'");
        else if (specials && strchr(specials, *p)) dsb_text_put(out, "\\");
        dsb_text_bytes(out, p, 1);
    }
}

static void put_kind(dsb_text *out, const value *v, const char *variable) {
    static const char *const k_kind[] = { [NOTHING] = "nothing", [FILES] = "files", [WORDS] = "words", [LISTED] = "", [RUNS] = "runs" };
    dsb_text_printf(out, "%s=%s", variable, v->kind == LISTED ? v->words : k_kind[v->kind]);
    if (v->kind != LISTED && v->words[0]) dsb_text_printf(out, " words='%s'", v->words);
}

static void bash_command(void *ctx, const dsb_usage *u, const dsb_option *rows, int n_own, int n) {
    dsb_text *out = ctx;
    value args = value_of(u->args ? u->args : "");
    dsb_text_printf(out, "    %s)\n        ", u->command);
    put_kind(out, &args, "kind");
    dsb_text_put(out, " options='");
    for (int i = 0; i < n; i++) dsb_text_printf(out, "%s--%s", i ? " " : "", rows[i].name);
    dsb_text_put(out, "'\n        case $prev in\n");
    for (int i = 0; i < n; i++) {
        if (rows[i].kind == DSB_OPT_FLAG) continue;
        value v = option_value(&rows[i]);
        dsb_text_put(out, "        ");
        if (rows[i].short_name) dsb_text_printf(out, "-%c | ", rows[i].short_name);
        dsb_text_printf(out, "--%s) ", rows[i].name);
        put_kind(out, &v, "options= kind");
        dsb_text_put(out, " ;;\n");
    }
    dsb_text_put(out, "        esac\n        ;;\n");
}

static void zsh_value(dsb_text *out, const value *v) {
    if (v->kind == FILES) dsb_text_put(out, "_files");
    if (v->kind == WORDS) dsb_text_printf(out, "(%s)", v->words);
    if (v->kind == LISTED) dsb_text_printf(out, " _dsbench_list %s", v->words);
    if (v->kind == RUNS) dsb_text_printf(out, " _dsbench_runs %s", v->words);
}

static void zsh_option(dsb_text *out, const dsb_option *o, const char *name, bool equals) {
    value v = option_value(o);
    dsb_text_put(out, " \\\n            '");
    if (o->kind == DSB_OPT_LIST) dsb_text_put(out, "*");
    dsb_text_printf(out, "%s%s[", name, o->kind == DSB_OPT_FLAG ? "" : equals ? "=" : "+");
    put_quoted(out, o->help, "[]\\");
    dsb_text_put(out, "]");
    if (o->kind != DSB_OPT_FLAG) {
        dsb_text_put(out, ":");
        put_quoted(out, o->metavar, ":\\");
        dsb_text_put(out, ":");
        zsh_value(out, &v);
    }
    dsb_text_put(out, "'");
}

static void zsh_command(void *ctx, const dsb_usage *u, const dsb_option *rows, int n_own, int n) {
    dsb_text *out = ctx;
    const char *args = u->args ? u->args : "";
    value v = value_of(args);
    dsb_text_printf(out, "    %s)\n        _arguments", u->command);
    for (int i = 0; i < n; i++) {
        char name[40];
        snprintf(name, sizeof name, "-%c", rows[i].short_name);
        if (rows[i].short_name) zsh_option(out, &rows[i], name, false);
        snprintf(name, sizeof name, "--%s", rows[i].name);
        zsh_option(out, &rows[i], name, true);
    }
    if (*args) {
        dsb_text_put(out, " \\\n            '*:");
        put_quoted(out, args, ":\\");
        dsb_text_put(out, ":");
        zsh_value(out, &v);
        dsb_text_put(out, "'");
    }
    dsb_text_put(out, "\n        ;;\n");
}

static void each_command(dsb_usage_visit *visit, dsb_text *out) {
    const dsb_command *commands;
    int n = dsb_command_list(&commands);
    char name[] = "dsbench", *argv[] = { name, NULL };
    dsb_options_visit(visit, out);
    for (int i = 0; i < n; i++) commands[i].call(1, argv);
    dsb_options_visit(NULL, NULL);
}

static void bash_script(dsb_text *out) {
    const dsb_command *commands;
    int n = dsb_command_list(&commands);
    dsb_text_put(out, "# bash completion of dsbench; made by `dsbench completion bash`\n"
                      "# Names that are read begin like the word: quoted, and never expanded, as they may be a stranger's.\n"
                      "_dsbench_offer() {\n"
                      "    local name\n"
                      "    while IFS= read -r name; do [[ $name == \"$2\"* ]] && COMPREPLY+=(\"$1$(printf %q \"$name\")\"); done\n"
                      "}\n"
                      "_dsbench() {\n"
                      "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} kind= words= options= before= db=dsbench.db i\n"
                      "    COMPREPLY=()\n"
                      "    [ \"$cur\" = = ] && cur=\n"
                      "    [ \"$prev\" = = ] && prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
                      "    for ((i = 1; i < COMP_CWORD; i++)); do [ \"${COMP_WORDS[i]}\" = --db ] && db=${COMP_WORDS[i + 1]}; done\n"
                      "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '");
    for (int i = 0; i < n; i++) dsb_text_printf(out, "%s ", commands[i].name);
    dsb_text_put(out, "--help --version' -- \"$cur\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
    each_command(bash_command, out);
    dsb_text_put(out, "    esac\n"
                      "    case $cur in -*) [ -z \"$options\" ] || kind=words words=$options ;; esac\n"
                      "    case $kind in\n"
                      "    files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
                      "    words) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
                      "    runs) _dsbench_offer \"\" \"$cur\" < <(printf '%s\\n' $words latest; \"${COMP_WORDS[0]}\" runs --db \"$db\" --json 2>/dev/null | sed -n 's/.*\"id\": \"\\([^\"]*\\)\".*/\\1/p') ;;\n"
                      "    nothing | '') ;;\n"
                      "    *) # names of a table, of which an option may take several with commas between\n"
                      "        case $cur in *,*) before=${cur%,*}, ;; esac\n"
                      "        _dsbench_offer \"$before\" \"${cur##*,}\" < <(\"${COMP_WORDS[0]}\" list \"$kind\" --json 2>/dev/null | sed -n 's/.*\"name\": \"\\([^\"]*\\)\".*/\\1/p') ;;\n"
                      "    esac\n"
                      "}\n"
                      "complete -F _dsbench dsbench\n");
}

static void zsh_script(dsb_text *out) {
    const dsb_command *commands;
    int n = dsb_command_list(&commands);
    dsb_text_put(out, "#compdef dsbench\n# zsh completion of dsbench; made by `dsbench completion zsh`\n"
                      "_dsbench_list() { # names of a table, several with commas between\n"
                      "    local -a names\n"
                      "    names=(${(f)\"$(dsbench list $1 --json 2>/dev/null | sed -n 's/.*\"name\": \"\\([^\"]*\\)\".*/\\1/p')\"})\n"
                      "    _values -s , $1 $names\n"
                      "}\n"
                      "_dsbench_runs() {\n"
                      "    local -a runs\n"
                      "    local db=${words[(r)--db,-1][(w)2]:-dsbench.db}\n"
                      "    runs=($@ latest ${(f)\"$(dsbench runs --db $db --json 2>/dev/null | sed -n 's/.*\"id\": \"\\([^\"]*\\)\".*/\\1/p')\"})\n"
                      "    compadd -a runs\n"
                      "}\n"
                      "_dsbench() {\n"
                      "    local -a commands\n    commands=(");
    for (int i = 0; i < n; i++) {
        dsb_text_printf(out, "\n        '%s:", commands[i].name);
        put_quoted(out, commands[i].help, NULL);
        dsb_text_put(out, "'");
    }
    dsb_text_put(out, ")\n    if ((CURRENT == 2)); then\n        _describe command commands\n        return\n    fi\n"
                      "    shift words\n    ((CURRENT--))\n    case $words[1] in\n");
    each_command(zsh_command, out);
    dsb_text_put(out, "    esac\n}\nif [ \"$funcstack[1]\" = _dsbench ]; then _dsbench \"$@\"; else compdef _dsbench dsbench; fi\n");
}

int dsb_cmd_completion(int argc, char **argv) {
    const dsb_usage usage = { "completion", "bash|zsh", "A script that completes command lines, on standard output.", 1, 1, NULL, 0, "example: source <(dsbench completion bash)", false };
    dsb_parsed o;
    dsb_err err = { 0 };
    dsb_text out;
    dsb_status s = dsb_options_parse(&usage, argc, argv, &o, &err);
    if (s) return dsb_command_fail(&err);
    if (o.help) return 0;
    dsb_text_init(&out);
    if (!strcmp(o.arg[0], "bash")) bash_script(&out);
    else if (!strcmp(o.arg[0], "zsh")) zsh_script(&out);
    else s = dsb_fail(&err, DSB_EUSAGE, "completion: unknown shell '%s'; bash or zsh is wanted", o.arg[0]);
    return dsb_print_and_end(&out, s, &err);
}
