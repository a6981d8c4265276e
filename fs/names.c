/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char digits[] = "0123456789ABCDEF";

enum { CUT_MARK = 2, HASH_DIGITS = 32 };

static bool must_escape(unsigned char c, bool first)
{
    return c < 0x20 || c == 0x7f || c == '/' || c == '%' || (first && c == '.');
}

/* Cuts `file` to at most `room` bytes without splitting an escape or a UTF-8 character. */
static size_t cut_point(const char *file, size_t room)
{
    size_t at = room;
    while (at > 0 && ((unsigned char)file[at] & 0xc0) == 0x80)
        at--;
    if (at >= 1 && file[at - 1] == '%')
        at -= 1;
    else if (at >= 2 && file[at - 2] == '%')
        at -= 2;
    return at;
}

static void append_hash(const char *name, char *at)
{
    static const char lower[] = "0123456789abcdef";
    unsigned char hash[EVP_MAX_MD_SIZE] = {0};
    unsigned size = 0;

    EVP_Digest(name, strlen(name), hash, &size, EVP_sha256(), NULL);
    *at++ = '%';
    *at++ = '~';
    for (int i = 0; i < HASH_DIGITS / 2; i++) {
        *at++ = lower[hash[i] >> 4];
        *at++ = lower[hash[i] & 15];
    }
    *at = '\0';
}

void cm_name_encode(const char *name, const char *suffix, char file[CM_FILE_NAME_MAX + 1])
{
    const size_t room = CM_FILE_NAME_MAX - strlen(suffix);
    size_t used = 0;
    const unsigned char *s = (const unsigned char *)name;

    if (*s == '\0')
        file[used++] = '%';
    for (; *s != '\0' && used <= room; s++) {
        if (!must_escape(*s, s == (const unsigned char *)name)) {
            file[used++] = (char)*s;
        } else if (used + 3 <= room) {
            file[used++] = '%';
            file[used++] = digits[*s >> 4];
            file[used++] = digits[*s & 15];
        } else {
            break;
        }
    }
    if (*s != '\0' || used > room) {
        used = cut_point(file, room - CUT_MARK - HASH_DIGITS);
        append_hash(name, file + used);
        used += CUT_MARK + HASH_DIGITS;
    }
    strcpy(file + used, suffix);
}

static int hex_value(char c)
{
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

int cm_name_decode(const char *file, const char *suffix, char name[CM_FILE_NAME_MAX + 1], bool *cut)
{
    size_t length = strlen(file), tail = strlen(suffix);
    char again[CM_FILE_NAME_MAX + 1];
    size_t used = 0;

    *cut = false;
    if (length > CM_FILE_NAME_MAX || length <= tail || strcmp(file + length - tail, suffix) != 0)
        return -ENOENT;
    length -= tail;
    for (size_t i = 0; i < length; i++) {
        if (file[i] != '%') {
            name[used++] = file[i];
        } else if (length == 1) {
            break; /* "%": the empty name */
        } else if (i + 1 < length && file[i + 1] == '~') {
            *cut = true;
            break;
        } else {
            int high = i + 2 < length ? hex_value(file[i + 1]) : -1;
            int low = i + 2 < length ? hex_value(file[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return -ENOENT;
            name[used++] = (char)(high << 4 | low);
            i += 2;
        }
    }
    name[used] = '\0';
    if (*cut)
        return 0;
    /* One name, one file name: "%41.pkl" is no second name of "A.pkl". */
    cm_name_encode(name, suffix, again);
    return strcmp(again, file) == 0 ? 0 : -ENOENT;
}
