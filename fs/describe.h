/* SPDX-License-Identifier: Apache-2.0 */
/* describe.h - the texts the mount makes: info/<name>.txt, checkpoint.json, stats.json. Their fields are in docs/MOUNT.md. */
#ifndef CM_DESCRIBE_H
#define CM_DESCRIBE_H

#include <chipmink/chipmink.h>

/* Like snprintf: at most `room` bytes with the NUL are written, the length of the whole is returned. Does not block. */
size_t cm_describe_variable(const cm_variable *variable, char *text, size_t room);
/* [blocks] The caller frees *text. */
int cm_describe_checkpoint(cm_checkpoint *checkpoint, char **text);
int cm_describe_store(cm_store *store, char **text);

enum { CM_TIME_TEXT = 40 };
/* "2026-11-23T08:51:03.123456789Z" */
void cm_describe_time(int64_t time, char text[CM_TIME_TEXT]);

#endif
