#include "reports/grid.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void dsb_grid_init(dsb_grid *g, dsb_arena *arena, const dsb_grid_head *heads, int n_column) {
    *g = (dsb_grid){ .arena = arena, .heads = heads, .n_column = n_column, .marked = -1 };
}

int64_t dsb_grid_rows(const dsb_grid *g) { return (int64_t)g->n_cell / g->n_column; }

static void push(dsb_grid *g, dsb_cell cell) {
    if (g->n_cell == g->room) {
        size_t room = g->room ? g->room * 2 : 64;
        void *cells = NULL;
        if (dsb_arena_take(g->arena, &cells, room, sizeof(dsb_cell), "a table", NULL)) {
            g->failed = true;
            return;
        }
        if (g->n_cell) memcpy(cells, g->cells, g->n_cell * sizeof(dsb_cell));
        g->cells = cells;
        g->room = room;
    }
    if (!cell.text) g->failed = true;
    else g->cells[g->n_cell++] = cell;
}

void dsb_grid_text(dsb_grid *g, const char *text) {
    push(g, (dsb_cell){ .text = text ? dsb_text_clean(g->arena, text) : "–", .kind = text ? DSB_CELL_TEXT : DSB_CELL_NULL });
}

void dsb_grid_int(dsb_grid *g, int64_t value) {
    if (value < 0) push(g, (dsb_cell){ .text = "–", .kind = DSB_CELL_NULL });
    else push(g, (dsb_cell){ .text = dsb_text_format(g->arena, "%lld", (long long)value), .kind = DSB_CELL_INT, .integer = value });
}

void dsb_grid_figure(dsb_grid *g, double value, const char *fmt, ...) {
    if (isnan(value)) {
        push(g, (dsb_cell){ .text = "–", .kind = DSB_CELL_NULL });
        return;
    }
    char text[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    push(g, (dsb_cell){ .text = dsb_arena_strdup(g->arena, text), .kind = DSB_CELL_REAL, .real = value });
}

void dsb_grid_not_finite(dsb_grid *g, int64_t n) { push(g, (dsb_cell){ .text = dsb_text_format(g->arena, "%lld not finite", (long long)n), .kind = DSB_CELL_REAL, .real = NAN }); }

static int column_width(const dsb_grid *g, int c) {
    const dsb_grid_head *h = &g->heads[c];
    int width = dsb_text_width(h->title), unit = h->unit ? dsb_text_width(h->unit) : 0;
    if (unit > width) width = unit;
    for (int64_t r = 0; r < dsb_grid_rows(g); r++) {
        int w = dsb_text_width(g->cells[r * g->n_column + c].text);
        if (w > width) width = w;
    }
    return width;
}

/* A column that nobody measured is left out for readers; JSON has it, as null. */
static bool is_shown(const dsb_grid *g, int c) {
    if (!g->heads[c].title) return false;
    for (int64_t r = 0; r < dsb_grid_rows(g); r++)
        if (g->cells[r * g->n_column + c].kind != DSB_CELL_NULL) return true;
    return dsb_grid_rows(g) == 0;
}

static int last_shown(const dsb_grid *g) {
    int last = g->n_column - 1;
    while (last > 0 && !is_shown(g, last)) last--;
    return last;
}

/* row -2: titles, -1: units, else cells. */
static const char *text_at(const dsb_grid *g, int64_t row, int c) {
    if (row == -2) return g->heads[c].title;
    if (row == -1) return g->heads[c].unit ? g->heads[c].unit : "";
    return g->cells[row * g->n_column + c].text;
}

static bool has_units(const dsb_grid *g) {
    for (int c = 0; c < g->n_column; c++)
        if (is_shown(g, c) && g->heads[c].unit) return true;
    return false;
}

void dsb_grid_shade(dsb_grid *g, const char *key) {
    int c = 0;
    while (c < g->n_column && strcmp(g->heads[c].key, key) != 0) c++;
    if (c == g->n_column || dsb_grid_rows(g) == 0 || g->cells[c].kind != DSB_CELL_REAL) return;
    double first = g->cells[c].real;
    for (int64_t r = 0; r < dsb_grid_rows(g); r++) {
        dsb_cell *cell = &g->cells[r * g->n_column + c];
        if (cell->kind != DSB_CELL_REAL || !(cell->real > 0) || !(cell->real <= first)) continue;
        cell->shade = cell->real >= first / 2 ? DSB_SHADE_WORST : cell->real >= first / 10 ? DSB_SHADE_BAD : DSB_SHADE_NONE;
    }
}

/* The escape that a terminal wants before a cell; heads are bold. NULL: none. */
static const char *escape_of(const dsb_grid *g, int64_t row, int c) {
    static const char *const k_shade[] = { [DSB_SHADE_NONE] = NULL, [DSB_SHADE_BAD] = "\033[33m", [DSB_SHADE_WORST] = "\033[31m" };
    return row == -2 ? "\033[1m" : row == -1 ? "\033[2m" : k_shade[g->cells[row * g->n_column + c].shade];
}

static void write_text(const dsb_grid *g, bool colour, dsb_text *out) {
    int last = last_shown(g);
    for (int64_t r = -2; r < dsb_grid_rows(g); r++) {
        if (r == -1 && !has_units(g)) continue;
        for (int c = 0; c <= last; c++) {
            if (!is_shown(g, c)) continue;
            bool trailing = c == last && g->heads[c].left;
            const char *escape = colour ? escape_of(g, r, c) : NULL;
            dsb_text_put(out, escape ? escape : "");
            dsb_text_padded(out, text_at(g, r, c), trailing ? 0 : column_width(g, c), !g->heads[c].left);
            dsb_text_put(out, escape ? "\033[0m" : "");
            if (c < last) dsb_text_put(out, "  ");
        }
        dsb_text_put(out, "\n");
    }
}

static void write_markdown(const dsb_grid *g, dsb_text *out) {
    for (int c = 0; c < g->n_column; c++) {
        if (!is_shown(g, c)) continue;
        dsb_text_put(out, "| ");
        dsb_text_markdown(out, g->heads[c].title);
        if (g->heads[c].unit) dsb_text_printf(out, " (%s)", g->heads[c].unit);
        dsb_text_put(out, " ");
    }
    dsb_text_put(out, "|\n");
    for (int c = 0; c < g->n_column; c++)
        if (is_shown(g, c)) dsb_text_put(out, g->heads[c].left ? "|---" : "|--:");
    dsb_text_put(out, "|\n");
    for (int64_t r = 0; r < dsb_grid_rows(g); r++) {
        for (int c = 0; c < g->n_column; c++) {
            if (!is_shown(g, c)) continue;
            dsb_text_put(out, "| ");
            dsb_text_markdown(out, text_at(g, r, c));
            dsb_text_put(out, " ");
        }
        dsb_text_put(out, "|\n");
    }
}

/* data-v: the figure itself, that the page's script sorts by. */
static void put_html_cell(const dsb_cell *cell, bool left, dsb_text *out) {
    dsb_text_put(out, left ? "<td class=\"l\"" : "<td");
    if (cell->kind == DSB_CELL_REAL && isfinite(cell->real)) dsb_text_printf(out, " data-v=\"%.6g\"", cell->real);
    if (cell->kind == DSB_CELL_INT) dsb_text_printf(out, " data-v=\"%lld\"", (long long)cell->integer);
    dsb_text_put(out, ">");
}

static void write_html(const dsb_grid *g, dsb_text *out) {
    dsb_text_put(out, "<div class=\"scroll\"><table>\n<thead><tr>");
    for (int c = 0; c < g->n_column; c++) {
        if (!is_shown(g, c)) continue;
        dsb_text_put(out, g->heads[c].left ? "<th class=\"l\">" : "<th>");
        dsb_text_html(out, g->heads[c].title);
        if (g->heads[c].unit) {
            dsb_text_put(out, "<small>");
            dsb_text_html(out, g->heads[c].unit);
            dsb_text_put(out, "</small>");
        }
        dsb_text_put(out, "</th>");
    }
    dsb_text_put(out, "</tr></thead>\n<tbody>\n");
    for (int64_t r = 0; r < dsb_grid_rows(g); r++) {
        dsb_text_put(out, r == g->marked ? "<tr class=\"marked\">" : "<tr>");
        for (int c = 0; c < g->n_column; c++) {
            if (!is_shown(g, c)) continue;
            put_html_cell(&g->cells[r * g->n_column + c], g->heads[c].left, out);
            dsb_text_html(out, text_at(g, r, c));
            dsb_text_put(out, "</td>");
        }
        dsb_text_put(out, "</tr>\n");
    }
    dsb_text_put(out, "</tbody></table></div>\n");
}

/* All columns; a figure that there isn't is empty. */
static void write_csv(const dsb_grid *g, dsb_text *out) {
    for (int c = 0; c < g->n_column; c++) dsb_text_printf(out, "%s%s", c ? "," : "", g->heads[c].key);
    dsb_text_put(out, "\n");
    for (int64_t r = 0; r < dsb_grid_rows(g); r++) {
        for (int c = 0; c < g->n_column; c++) {
            const dsb_cell *cell = &g->cells[r * g->n_column + c];
            if (c) dsb_text_put(out, ",");
            if (cell->kind == DSB_CELL_TEXT) dsb_text_csv(out, cell->text);
            if (cell->kind == DSB_CELL_REAL && isfinite(cell->real)) dsb_text_printf(out, "%.10g", cell->real);
            if (cell->kind == DSB_CELL_INT) dsb_text_printf(out, "%lld", (long long)cell->integer);
        }
        dsb_text_put(out, "\n");
    }
}

static json_t *cell_json(const dsb_cell *cell) {
    switch (cell->kind) {
    case DSB_CELL_TEXT: return json_string(cell->text);
    case DSB_CELL_REAL: return isfinite(cell->real) ? json_real(cell->real) : json_null(); /* JSON has no infinity */
    case DSB_CELL_INT: return json_integer(cell->integer);
    default: return json_null();
    }
}

json_t *dsb_grid_json(const dsb_grid *g) {
    json_t *array = json_array();
    for (int64_t r = 0; r < dsb_grid_rows(g) && array; r++) {
        json_t *object = json_object();
        for (int c = 0; c < g->n_column; c++) json_object_set_new(object, g->heads[c].key, cell_json(&g->cells[r * g->n_column + c]));
        json_array_append_new(array, object);
    }
    return array;
}

dsb_status dsb_grid_write(const dsb_grid *g, dsb_report_format format, dsb_text *out, dsb_err *err) {
    if (g->failed) return dsb_fail(err, DSB_ENOMEM, "out of memory while making a table");
    if (format == DSB_REPORT_TEXT || format == DSB_REPORT_TERMINAL) write_text(g, format == DSB_REPORT_TERMINAL, out);
    if (format == DSB_REPORT_MARKDOWN) write_markdown(g, out);
    if (format == DSB_REPORT_HTML) write_html(g, out);
    if (format == DSB_REPORT_CSV) write_csv(g, out);
    if (format == DSB_REPORT_JSON) {
        json_t *json = dsb_grid_json(g);
        char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
        json_decref(json);
        if (!text) return dsb_fail(err, DSB_ENOMEM, "out of memory while making a table");
        dsb_text_put(out, text);
        dsb_text_put(out, "\n");
        free(text);
    }
    return dsb_text_check(out, "a table", err);
}
