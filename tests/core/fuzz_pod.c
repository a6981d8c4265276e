/* SPDX-License-Identifier: Apache-2.0 */
/* Pods: what decodes is sound in every number it states, and encodes to the same bytes. */
#include "fuzz.h"
#include "pod.h"

static void check_view(const cm_pod_view *view)
{
    uint64_t end = 0;
    for (size_t i = 0; i < view->get_count; i++) {
        fuzz_must(view->gets[i] >= end && view->gets[i] + 5ull <= view->body_size);
        fuzz_must(view->body[view->gets[i]] == CM_OP_LONG_BINGET);
        end = view->gets[i] + 5ull;
    }
    uint32_t position = 0, memo = 0;
    for (size_t i = 0; i < view->event_count; i++) {
        const cm_event *event = &view->events[i];
        fuzz_must(event->position >= position && event->position <= view->body_size);
        fuzz_must(event->memo >= memo && event->memo <= view->memo_count);
        if (event->type == CM_EVENT_EXTERNAL) {
            fuzz_must(event->position + 5ull <= view->body_size);
            fuzz_must(view->body[event->position] == CM_OP_LONG_BINGET);
        }
        position = event->position;
        memo = event->memo;
    }
    fuzz_must(view->root == CM_INDEX_ROOT || view->root < view->memo_count);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    cm_pod_view view;
    int result = cm_pod_decode(data, size, &view);
    if (result == 0) {
        check_view(&view);
        cm_buffer again cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
        fuzz_must(cm_pod_encode(&view, &again) == 0);
        fuzz_must(again.size == size && memcmp(again.data, data, size) == 0);
    }
    cm_pod_view_clear(&view);
    return result;
}
