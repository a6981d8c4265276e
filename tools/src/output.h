/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - text for people: sizes, times, colours, tables. Stored text is printed with control characters escaped. */
#ifndef CM_OUTPUT_H
#define CM_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CM_TEXT_MAX = 48 };

/* Powers of 1000: "999 B", "1.2 kB", "34 MB". */
const char *cm_size_text(uint64_t size, char text[CM_TEXT_MAX]);
/* Local time: "2026-11-23 09:05:34". */
const char *cm_time_text(int64_t time, char text[CM_TEXT_MAX]);

typedef enum cm_colour { CM_PLAIN, CM_BOLD, CM_DIM, CM_RED, CM_GREEN, CM_YELLOW } cm_colour;

/* Escape sequences, or "" where stdout is no terminal or $NO_COLOR is set. */
const char *cm_colour_on(cm_colour colour);
const char *cm_colour_off(cm_colour colour);

/* Columns of the terminal on stdout, or 0 where it is none. */
unsigned cm_terminal_width(void);

/* Prints text with what is no printable character escaped as \xNN; newlines are kept where `lines` is set. */
void cm_print_text(FILE *file, const char *text, bool lines);

/* ---- tables ------------------------------------------------------------------------------------------------------ */

typedef struct cm_column {
    const char *title;
    bool right; /* aligned */
} cm_column;

typedef struct cm_table cm_table;

/* `columns` must live as long as the table. */
cm_table *cm_table_new(const cm_column *columns, unsigned count);
/* Adds the next cell, by rows. */
__attribute__((format(printf, 2, 3))) void cm_table_cell(cm_table *table, const char *format, ...);
/* Colours the cell that was added last. */
void cm_table_colour(cm_table *table, cm_colour colour);
/* Prints (the last column cut at the terminal's width) and frees. */
void cm_table_print(cm_table *table);

/* ---- progress ---------------------------------------------------------------------------------------------------- */

/* A bar on stderr, where that is a terminal, once it takes longer than a second. Start with zeros. */
typedef struct cm_bar {
    int64_t begun, drawn; /* nanoseconds; 0: not yet, and: it is not on the screen */
} cm_bar;

void cm_bar_draw(cm_bar *bar, uint64_t done, uint64_t total);
/* Takes it off the screen; it may be drawn again. */
void cm_bar_clear(cm_bar *bar);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* `p`, or the end of the program where it is NULL. */
void *cm_need(void *p);

#endif
