#include "reports/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dsb_text_init(dsb_text *t) { *t = (dsb_text){ 0 }; }

void dsb_text_release(dsb_text *t) {
    free(t->data);
    *t = (dsb_text){ 0 };
}

dsb_status dsb_text_check(const dsb_text *t, const char *what, dsb_err *err) {
    return t->failed ? dsb_fail(err, DSB_ENOMEM, "out of memory while writing %s", what) : DSB_OK;
}

static bool reserve(dsb_text *t, size_t n) {
    size_t wanted;
    if (t->failed || !dsb_add(t->size, n, &wanted) || !dsb_add(wanted, 1, &wanted)) return false;
    if (wanted <= t->room) return true;
    size_t room = t->room ? t->room : 256;
    while (room < wanted)
        if (!dsb_mul(room, 2, &room)) room = wanted;
    char *data = realloc(t->data, room);
    if (!data) {
        t->failed = true;
        return false;
    }
    t->data = data;
    t->room = room;
    return true;
}

void dsb_text_bytes(dsb_text *t, const char *data, size_t n) {
    if (!reserve(t, n)) return;
    memcpy(t->data + t->size, data, n);
    t->size += n;
    t->data[t->size] = 0;
}

void dsb_text_put(dsb_text *t, const char *text) {
    if (text) dsb_text_bytes(t, text, strlen(text));
}

void dsb_text_printf(dsb_text *t, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->size, (size_t)n + 1, fmt, again);
        t->size += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void dsb_text_html(dsb_text *t, const char *text) {
    for (const char *p = text ? text : ""; *p; p++) switch (*p) {
        case '&': dsb_text_put(t, "&amp;"); break;
        case '<': dsb_text_put(t, "&lt;"); break;
        case '>': dsb_text_put(t, "&gt;"); break;
        case '"': dsb_text_put(t, "&quot;"); break;
        case '\'': dsb_text_put(t, "&#39;"); break;
        default: dsb_text_bytes(t, (unsigned char)*p < 32 ? " " : p, 1);
        }
}

void dsb_text_markdown(dsb_text *t, const char *text) {
    for (const char *p = text ? text : ""; *p; p++) {
        if (strchr("|\\`*_<>[]", *p)) dsb_text_put(t, "\\");
        dsb_text_bytes(t, (unsigned char)*p < 32 ? " " : p, 1);
    }
}

int dsb_text_width(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

void dsb_text_csv(dsb_text *t, const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        dsb_text_put(t, text);
        return;
    }
    dsb_text_put(t, "\"");
    for (const char *p = text; *p; p++) {
        if (*p == '"') dsb_text_put(t, "\"");
        dsb_text_bytes(t, p, 1);
    }
    dsb_text_put(t, "\"");
}

void dsb_text_padded(dsb_text *t, const char *text, int width, bool right) {
    int gap = width - dsb_text_width(text);
    if (!right) dsb_text_put(t, text);
    if (gap > 0) dsb_text_printf(t, "%*s", gap, "");
    if (right) dsb_text_put(t, text);
}

/* Length of the UTF-8 character at p, 0 if it is broken, overlong, a surrogate or beyond U+10FFFF. */
static int utf8_length(const unsigned char *p) {
    int n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0))) return 0;
    if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))) return 0;
    return n;
}

char *dsb_text_clean(dsb_arena *arena, const char *text) {
    char *copy = dsb_arena_strdup(arena, text ? text : "");
    if (!copy) return NULL;
    for (unsigned char *p = (unsigned char *)copy; *p;) {
        int n = utf8_length(p);
        /* C1 controls are 0xc2 0x80..0x9f; a terminal may obey them. */
        bool control = (n == 1 && (*p < 32 || *p == 127)) || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
        if (n && !control) {
            p += n;
            continue;
        }
        for (int i = 0; i < (n ? n : 1); i++) *p++ = '?';
    }
    return copy;
}

const char *dsb_text_format(dsb_arena *arena, const char *fmt, ...) {
    char buffer[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(buffer, sizeof buffer, fmt, args);
    va_end(args);
    const char *copy = dsb_arena_strdup(arena, buffer);
    return copy ? copy : "?";
}

const char *dsb_text_size(dsb_arena *arena, double bytes) {
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB" };
    int u = 0;
    if (!(bytes >= 0)) return "–";
    for (; bytes >= 999.5 && u < 5; u++) bytes /= 1000;
    return dsb_text_format(arena, bytes < 99.95 && u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}
