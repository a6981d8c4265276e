/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - any name as a file name, and back.
 *
 * A byte that cannot stand in a file name ('/', control characters), '%' itself and a '.' at the start become %XX, upper-case
 * hexadecimal; the empty name becomes "%". All else, UTF-8 included, stands for itself. When that is longer than a file name may
 * be, it is cut and gets "%~" and the first 32 hexadecimal digits of the name's SHA-256; such a file name cannot be decoded, only
 * compared. No two names share a file name, and each has exactly one.
 */
#ifndef CM_NAMES_H
#define CM_NAMES_H

#include <stdbool.h>
#include <stddef.h>

enum { CM_FILE_NAME_MAX = 255 };

/* `suffix` (".pkl") is appended and counts towards the length. */
void cm_name_encode(const char *name, const char *suffix, char file[CM_FILE_NAME_MAX + 1]);

/*
 * The other direction. `name` holds what `file` without `suffix` stands for, or, with *cut set, the bytes that the name begins
 * with. -ENOENT: no name has this file name.
 */
int cm_name_decode(const char *file, const char *suffix, char name[CM_FILE_NAME_MAX + 1], bool *cut);

#endif
