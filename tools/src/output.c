/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - text for people: sizes, times, colours, tables. */
#include "output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

#include "command.h"

void *cm_need(void *p)
{
    if (!p) {
        fputs("chipmink: out of memory\n", stderr);
        exit(CM_EXIT_FAILURE);
    }
    return p;
}

const char *cm_size_text(uint64_t size, char text[CM_TEXT_MAX])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)size;
    unsigned unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof(units) / sizeof(*units)) {
        value /= 1000;
        unit++;
    }
    snprintf(text, CM_TEXT_MAX, unit && value < 9.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *cm_time_text(int64_t time, char text[CM_TEXT_MAX])
{
    time_t seconds = (time_t)(time / 1000000000);
    struct tm fields;
    if (!localtime_r(&seconds, &fields) || !strftime(text, CM_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &fields))
        strcpy(text, "?");
    return text;
}

/* ---- the terminal ---------------------------------------------------------------------------------------------------- */

static bool coloured(void)
{
    const char *no_color = getenv("NO_COLOR");
    return !(no_color && *no_color) && isatty(STDOUT_FILENO);
}

const char *cm_colour_on(cm_colour colour)
{
    static const char *const codes[] = {"", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m"};
    return coloured() ? codes[colour] : "";
}

const char *cm_colour_off(cm_colour colour)
{
    return colour != CM_PLAIN && coloured() ? "\033[0m" : "";
}

unsigned cm_terminal_width(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
        return 0;
    return size.ws_col;
}

/* One character of `text`: its bytes (at least 1, 0 at the end) and columns, -1 where it cannot be printed as it is. */
static size_t character(const char *text, int *columns)
{
    wchar_t wide = 0;
    mbstate_t state = {0};
    size_t size = mbrtowc(&wide, text, MB_CUR_MAX, &state);
    if (size == 0 || size == (size_t)-1 || size == (size_t)-2) {
        *columns = -1;
        return *text ? 1 : 0;
    }
    *columns = iswprint((wint_t)wide) ? wcwidth(wide) : -1;
    return size;
}

void cm_print_text(FILE *file, const char *text, bool lines)
{
    int columns;
    for (size_t size; (size = character(text, &columns)) > 0; text += size) {
        if (columns >= 0 || (lines && (*text == '\n' || *text == '\t')))
            fwrite(text, 1, size, file);
        else
            for (size_t i = 0; i < size; i++)
                fprintf(file, "\\x%02x", (unsigned char)text[i]);
    }
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

typedef struct cell {
    char *text; /* printable */
    unsigned width;
    cm_colour colour;
} cell;

struct cm_table {
    const cm_column *columns;
    unsigned count;
    cell *cells;
    size_t used, capacity;
};

static cell make_cell(const char *text)
{
    cell c = {0};
    size_t size = 0;
    FILE *file = cm_need(open_memstream(&c.text, &size));
    cm_print_text(file, text, false);
    if (fclose(file))
        cm_need(NULL);
    const char *at = cm_need(c.text);
    int columns;
    for (size_t step; (step = character(at, &columns)) > 0; at += step)
        c.width += columns > 0 ? (unsigned)columns : 0;
    return c;
}

static void add_cell(cm_table *table, const char *text)
{
    if (table->used == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : 64;
        table->cells = cm_need(reallocarray(table->cells, table->capacity, sizeof(cell)));
    }
    table->cells[table->used++] = make_cell(text);
}

cm_table *cm_table_new(const cm_column *columns, unsigned count)
{
    cm_table *table = cm_need(calloc(1, sizeof(*table)));
    table->columns = columns;
    table->count = count;
    for (unsigned i = 0; i < count; i++) {
        add_cell(table, columns[i].title);
        cm_table_colour(table, CM_BOLD);
    }
    return table;
}

void cm_table_cell(cm_table *table, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    add_cell(table, cm_need(text));
    free(text);
}

void cm_table_colour(cm_table *table, cm_colour colour)
{
    table->cells[table->used - 1].colour = colour;
}

/* As much of the text as `room` columns hold. */
static size_t cut(const cell *c, unsigned room)
{
    const char *at = c->text;
    int columns;
    for (size_t step; (step = character(at, &columns)) > 0; at += step) {
        unsigned width = columns > 0 ? (unsigned)columns : 0;
        if (width > room)
            break;
        room -= width;
    }
    return (size_t)(at - c->text);
}

static void print_row(const cm_table *table, const cell *row, const unsigned *widths, unsigned terminal)
{
    unsigned at = 0, blanks = 0; /* blanks are held back until text follows: lines do not end in them */
    for (unsigned i = 0; i < table->count; i++) {
        const cell *c = &row[i];
        bool last = i + 1 == table->count;
        unsigned padding = widths[i] - c->width;
        size_t size = strlen(c->text);
        if (last && terminal > at && c->width > terminal - at)
            size = cut(c, terminal - at);
        blanks += table->columns[i].right ? padding : 0;
        if (size) {
            printf("%*s%s%.*s%s", (int)blanks, "", cm_colour_on(c->colour), (int)size, c->text,
                   cm_colour_off(c->colour));
            blanks = 0;
        }
        blanks += (table->columns[i].right ? 0 : padding) + 2;
        at += widths[i] + 2;
    }
    putchar('\n');
}

void cm_table_print(cm_table *table)
{
    unsigned *widths = cm_need(calloc(table->count, sizeof(*widths)));
    for (size_t i = 0; i < table->used; i++)
        if (table->cells[i].width > widths[i % table->count])
            widths[i % table->count] = table->cells[i].width;
    unsigned terminal = cm_terminal_width();
    for (size_t row = 0; row + table->count <= table->used; row += table->count)
        print_row(table, &table->cells[row], widths, terminal);
    for (size_t i = 0; i < table->used; i++)
        free(table->cells[i].text);
    free(widths);
    free(table->cells);
    free(table);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

enum { BAR_WIDTH = 40, BAR_AFTER_NS = 1000000000, BAR_INTERVAL_NS = 100000000 };

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void cm_bar_draw(cm_bar *bar, uint64_t done, uint64_t total)
{
    int64_t time = now();
    if (!bar->begun)
        bar->begun = time;
    if (!total || time - bar->begun < BAR_AFTER_NS || time - bar->drawn < BAR_INTERVAL_NS || !isatty(STDERR_FILENO))
        return;
    double part = done < total ? (double)done / (double)total : 1;
    int filled = (int)(part * BAR_WIDTH);
    fprintf(stderr, "\r[%.*s%*s] %3d %%", filled, "########################################", BAR_WIDTH - filled, "",
            (int)(part * 100));
    bar->drawn = time;
}

void cm_bar_clear(cm_bar *bar)
{
    if (bar->drawn)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 32, "");
    bar->drawn = 0;
}
