/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints and the variables in their maps: what decodes encodes to the same bytes. The first byte says which. */
#include "checkpoint.h"
#include "fuzz.h"

static int one_checkpoint(const uint8_t *data, size_t size)
{
    cm_checkpoint c = {0};
    cm_buffer again cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = cm_checkpoint_decode(data, size, &c);
    if (result == 0) {
        fuzz_must(cm_checkpoint_encode(&c, &again) == 0);
        fuzz_must(again.size == size && memcmp(again.data, data, size) == 0);
    }
    cm_checkpoint_clear(&c);
    return result;
}

static int one_variable(const uint8_t *data, size_t size)
{
    cm_variable v = {0};
    cm_buffer again cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = cm_variable_decode(data, size, &v);
    if (result == 0) {
        cm_variable_encode(&v, &again);
        fuzz_must(again.size == size && memcmp(again.data, data, size) == 0);
    }
    cm_variable_clear(&v);
    return result;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    if (size == 0)
        return -1;
    return data[0] == 'v' ? one_variable(data + 1, size - 1) : one_checkpoint(data + 1, size - 1);
}
