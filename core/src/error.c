/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <chipmink/chipmink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Per thread, as errno is: the only mutable state outside handles. */
static _Thread_local char sentence[1024];

const char *cm_error_message(void)
{
    return sentence;
}

int cm_fail(int error, const char *format, ...)
{
    char text[sizeof sentence]; /* arguments may point into the present sentence */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(sentence, text, sizeof sentence);
    return -error;
}

int cm_fail_in(int result, const char *format, ...)
{
    char text[sizeof sentence];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size >= 0 && (size_t)size + 2 < sizeof text) {
        size_t at = (size_t)size, rest = strlen(sentence);
        if (rest > sizeof text - at - 3)
            rest = sizeof text - at - 3;
        memcpy(text + at, ": ", 2);
        memcpy(text + at + 2, sentence, rest);
        text[at + 2 + rest] = 0;
    }
    memcpy(sentence, text, sizeof sentence);
    return result;
}
