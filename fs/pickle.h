/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pickle.h - a pickle from anywhere: is it one complete stream, and the same as a pod. Nothing of it is run.
 *
 * What decides is the framing, the stack and the memo: every opcode known (protocols 0 to 5), its operand whole and well formed, what
 * it takes off the stack there, what it gets from the memo put there, one object left at the end and nothing behind it. Whether the
 * names it imports exist and what they do, only loading tells.
 */
#ifndef CM_PICKLE_H
#define CM_PICKLE_H

#include <chipmink/save.h>

enum { CM_PICKLE_TYPE_MAX = 256, CM_PICKLE_WHY_MAX = 256 };

/*
 * Reads the stream in `data`. -EINVAL: it is none; `why` says where and why. -ENOMEM. With `pod` (of a save) its body becomes the
 * same value: memo indices are made local, framing is left out, large payloads are kept beside the body. These are borrowed from
 * `data`, see cm_pod_buffer; the pod is still to be finished, with *root. `type`: what the value is, as far as the stream tells, or "pickle".
 */
int cm_pickle_read(const void *data, size_t size, cm_pod *pod, uint32_t *root, char type[CM_PICKLE_TYPE_MAX],
                   char why[CM_PICKLE_WHY_MAX]);

#endif
