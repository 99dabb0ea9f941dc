#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* The longest replacement of one pattern byte ("\w" grows most). */
enum { GROWTH = 48 };

typedef struct writer {
    const char *name, *pattern;
    size_t n, i; /* of pattern; what is read next */
    char *out;
    size_t to;
    bool in_class;
    dsb_err *err;
} writer;

static void put(writer *w, const char *s, size_t n) {
    memcpy(w->out + w->to, s, n);
    w->to += n;
}
static void puts_(writer *w, const char *s) { put(w, s, strlen(s)); }

static dsb_status unsupported(writer *w, size_t at, const char *what) {
    return dsb_fail(w->err, DSB_EUNSUPPORTED, "%s: pre-tokenizer pattern: %s at byte %zu (\"%.*s\"), which this build doesn't read", w->name, what, at, (int)(w->n - at < 12 ? w->n - at : 12), w->pattern + at);
}

/* PCRE2 takes \p{Han} as script extensions, Oniguruma as the script itself. */
static bool is_script(const char *name, size_t n) {
    char probe[64];
    if (n < 3 || n > 40) return false;
    snprintf(probe, sizeof probe, "\\p{sc:%.*s}", (int)n, name);
    int code;
    PCRE2_SIZE offset;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)probe, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &offset, NULL);
    pcre2_code_free(re);
    return re != NULL;
}

/* \p{…}; w->i stands after the p. */
static dsb_status property(writer *w, char p) {
    size_t at = w->i, begin = at + 1;
    const char *close = at < w->n && w->pattern[at] == '{' ? memchr(w->pattern + at, '}', w->n - at) : NULL;
    if (!close) return unsupported(w, at - 2, "a property without braces");
    size_t end = (size_t)(close - w->pattern);
    bool negated = begin < end && w->pattern[begin] == '^';
    if (negated) begin++;
    for (size_t i = begin; i < end; i++)
        if (!isalnum((unsigned char)w->pattern[i]) && w->pattern[i] != '_') return unsupported(w, at - 2, "a property");
    if (end == begin || end - begin > 40) return unsupported(w, at - 2, "a property");
    put(w, (p == 'P') != negated ? "\\P{" : "\\p{", 3);
    if (is_script(w->pattern + begin, end - begin)) puts_(w, "sc:");
    put(w, w->pattern + begin, end - begin);
    puts_(w, "}");
    w->i = end + 1;
    return DSB_OK;
}

/* \uHHHH, \x{H…}, or \xHH below 0x80 (above, Oniguruma means a byte); w->i stands after the letter. */
static dsb_status hexadecimal(writer *w, char letter) {
    size_t at = w->i, digits = letter == 'u' ? 4 : 2;
    if (letter == 'x' && at < w->n && w->pattern[at] == '{') {
        size_t end = at + 1;
        while (end < w->n && isxdigit((unsigned char)w->pattern[end])) end++;
        if (end == at + 1 || end == w->n || w->pattern[end] != '}') return unsupported(w, at - 2, "an escape");
        puts_(w, "\\x");
        put(w, w->pattern + at, end + 1 - at);
        w->i = end + 1;
        return DSB_OK;
    }
    if (w->n - at < digits) return unsupported(w, at - 2, "an escape");
    for (size_t i = 0; i < digits; i++)
        if (!isxdigit((unsigned char)w->pattern[at + i])) return unsupported(w, at - 2, "an escape");
    if (letter == 'x' && w->pattern[at] > '7') return unsupported(w, at - 2, "a byte escape");
    puts_(w, "\\x{");
    put(w, w->pattern + at, digits);
    puts_(w, "}");
    w->i = at + digits;
    return DSB_OK;
}

static dsb_status escape(writer *w) {
    size_t at = w->i;
    if (at + 1 >= w->n) return unsupported(w, at, "a backslash at the end");
    char c = w->pattern[at + 1];
    w->i += 2;
    switch (c) {
    case 's': puts_(w, "\\p{White_Space}"); return DSB_OK;
    case 'S': puts_(w, "\\P{White_Space}"); return DSB_OK;
    case 'd': puts_(w, "\\p{Nd}"); return DSB_OK;
    case 'D': puts_(w, "\\P{Nd}"); return DSB_OK;
    case 'w': puts_(w, w->in_class ? "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}" : "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]"); return DSB_OK;
    case 'W':
        if (w->in_class) break;
        puts_(w, "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]");
        return DSB_OK;
    case 'v': puts_(w, "\\x0b"); return DSB_OK;
    case 'p':
    case 'P': return property(w, c);
    case 'u':
    case 'x': return hexadecimal(w, c);
    case 'A':
    case 'z':
        if (w->in_class) break;
        put(w, w->pattern + at, 2);
        return DSB_OK;
    case 'n': case 'r': case 't': case 'f': case 'a': case 'e': put(w, w->pattern + at, 2); return DSB_OK;
    default:
        if (isalnum((unsigned char)c) || (unsigned char)c >= 0x80) break;
        put(w, w->pattern + at, 2);
        return DSB_OK;
    }
    return unsupported(w, at, "an escape");
}

/* "(": groups that both read alike. (?i) alone only at the very start, where both apply it to the whole pattern. */
static dsb_status group(writer *w) {
    static const char *const same[] = { "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:" };
    const char *p = w->pattern + w->i;
    size_t left = w->n - w->i;
    if (left < 2 || p[1] != '?') {
        if (left >= 2 && p[1] == '*') return unsupported(w, w->i, "a verb");
        put(w, "(", 1);
        w->i++;
        return DSB_OK;
    }
    for (size_t k = 0; k < sizeof same / sizeof *same; k++) {
        size_t n = strlen(same[k]);
        if (left < n || memcmp(p, same[k], n) != 0) continue;
        put(w, p, n);
        w->i += n;
        return DSB_OK;
    }
    if (w->i == 0 && left >= 4 && memcmp(p, "(?i)", 4) == 0) {
        put(w, p, 4);
        w->i += 4;
        return DSB_OK;
    }
    return unsupported(w, w->i, "a group");
}

/* "{": Oniguruma reads {,n} as {0,n}, {m,n}+ as a repeat of a repeat where PCRE2 sees a possessive one, and {n}? as an
 * optional {n} where PCRE2 sees a lazy one. */
static dsb_status brace(writer *w) {
    size_t at = w->i, i = at + 1;
    while (i < w->n && (isdigit((unsigned char)w->pattern[i]) || w->pattern[i] == ',')) i++;
    bool counted = i > at + 1 && i < w->n && w->pattern[i] == '}';
    if (counted && w->pattern[at + 1] == ',') return unsupported(w, at, "a repeat without a lower bound");
    if (counted && i + 1 < w->n && w->pattern[i + 1] == '+') return unsupported(w, at, "a repeated repeat");
    if (counted && i + 1 < w->n && w->pattern[i + 1] == '?' && !memchr(w->pattern + at, ',', i - at)) return unsupported(w, at, "an optional repeat");
    size_t n = counted ? i + 1 - at : 1;
    put(w, w->pattern + at, n);
    w->i += n;
    return DSB_OK;
}

static dsb_status step(writer *w) {
    char c = w->pattern[w->i];
    bool more = w->i + 1 < w->n;
    if (c == '\\') return escape(w);
    if (w->in_class) {
        if (c == '[') return unsupported(w, w->i, "a class within a class");
        if (c == '&' && more && w->pattern[w->i + 1] == '&') return unsupported(w, w->i, "an intersection of classes");
        if (c == ']') w->in_class = false;
    } else {
        if (c == '(') return group(w);
        if (c == '{') return brace(w);
        if (c == '[') {
            w->in_class = true;
            size_t first = w->i + 1 + (more && w->pattern[w->i + 1] == '^');
            if (first < w->n && w->pattern[first] == ']') return unsupported(w, w->i, "a class that begins with ]");
        }
    }
    put(w, &c, 1);
    w->i++;
    return DSB_OK;
}

dsb_status dsb_regex_translate(const char *name, const char *pattern, size_t n, char **out, size_t *n_out, dsb_err *err) {
    *out = NULL;
    if (n > 1 << 20) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: pre-tokenizer pattern: %zu bytes; at most 1048576 are read", name, n);
    writer w = {.name = name, .pattern = pattern, .n = n, .err = err, .out = malloc(n * GROWTH + 1)};
    if (!w.out) return dsb_fail(err, DSB_ENOMEM, "%s: no memory for a pattern of %zu bytes", name, n);
    dsb_status s = DSB_OK;
    while (!s && w.i < n) s = step(&w);
    if (s) {
        free(w.out);
        return s;
    }
    *out = w.out;
    *n_out = w.to;
    return DSB_OK;
}
