/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - the thread-local error sentence. */
#ifndef CM_ERROR_H
#define CM_ERROR_H

#include <errno.h>

/* Sets this thread's error sentence and returns -error, so that failing reads `return cm_fail(EINVAL, "...", ...)`. */
__attribute__((format(printf, 2, 3))) int cm_fail(int error, const char *format, ...);
/* Puts "context: " before the present sentence and returns `result` (negative) unchanged. */
__attribute__((format(printf, 2, 3))) int cm_fail_in(int result, const char *format, ...);

#endif
