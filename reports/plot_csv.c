#include "reports/plot_csv.h"

#include <stdlib.h>
#include <string.h>

/* One cell, quoted where it must be (RFC 4180). */
static void put_cell(dsb_text *out, const char *text, size_t n) {
    char *end = NULL;
    bool number = n > 0 && (strtod(text, &end), end == text + n), formula = !number && n > 0 && strchr("=+-@", *text);
    bool quoted = formula || memchr(text, ',', n) || memchr(text, '"', n);
    if (quoted) dsb_text_put(out, "\"");
    if (formula) dsb_text_put(out, "'");
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '"') dsb_text_put(out, "\"");
        dsb_text_bytes(out, text + i, 1);
    }
    if (quoted) dsb_text_put(out, "\"");
}

/* "#@series<TAB>column<TAB>column": the head is written where the columns are other than before. */
static void put_head(dsb_text *out, const char *columns, size_t n, const char *before, size_t n_before) {
    if (before && n == n_before && !memcmp(columns, before, n)) return;
    if (before) dsb_text_put(out, "\n");
    dsb_text_put(out, "series");
    for (const char *at = columns, *end = columns + n; at < end;) {
        const char *cell = at + 1, *next = memchr(cell, '\t', (size_t)(end - cell)); /* at stands on the tab */
        if (!next) next = end;
        dsb_text_put(out, ",");
        put_cell(out, cell, (size_t)(next - cell));
        at = next;
    }
    dsb_text_put(out, "\n");
}

/* Columns between spaces; in double quotes a space belongs to the text. */
static void put_row(dsb_text *out, const char *line, const char *end, const char *series, size_t n_series) {
    put_cell(out, series, n_series);
    for (const char *at = line; at < end;) {
        while (at < end && *at == ' ') at++;
        if (at == end) break;
        bool quoted = *at == '"';
        const char *cell = at + quoted, *stop = memchr(cell, quoted ? '"' : ' ', (size_t)(end - cell));
        if (!stop) stop = end;
        dsb_text_put(out, ",");
        bool missing = !quoted && ((stop - cell == 1 && *cell == '?') || (stop - cell == 3 && !memcmp(cell, "NaN", 3)));
        if (!missing) put_cell(out, cell, (size_t)(stop - cell));
        at = stop + (quoted && stop < end);
    }
    dsb_text_put(out, "\n");
}

void dsb_plot_csv(const char *script, dsb_text *out) {
    const char *columns = NULL, *series = "", *next;
    size_t n_columns = 0, n_series = 0;
    bool inside = false;
    for (const char *line = script; line && *line; line = next) {
        const char *end = strchr(line, '\n');
        if (!end) end = line + strlen(line);
        next = *end ? end + 1 : end;
        if (!inside) {
            inside = *line == '$' && end - line > 7 && !memcmp(end - 7, " << END", 7);
        } else if (end - line == 3 && !memcmp(line, "END", 3)) {
            inside = false;
        } else if (*line == '#') {
            const char *tab = memchr(line, '\t', (size_t)(end - line));
            if (!tab) continue;
            bool named = line[1] == '@';
            series = line + 1 + named;
            n_series = (size_t)(tab - series);
            put_head(out, tab, (size_t)(end - tab), columns, n_columns);
            columns = tab;
            n_columns = (size_t)(end - tab);
        } else {
            put_row(out, line, end, series, n_series);
        }
    }
}
