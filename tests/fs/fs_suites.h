/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_FS_SUITES_H
#define CM_FS_SUITES_H

#include <check.h>

TCase *cm_names_tests(void);
TCase *cm_cache_tests(void);

#endif
