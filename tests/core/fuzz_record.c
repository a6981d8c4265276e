/* SPDX-License-Identifier: Apache-2.0 */
/* Records: what decodes has its checksum, and decodes the same into memory of its size. */
#include "codec.h"
#include "fuzz.h"

int fuzz_one(const uint8_t *data, size_t size)
{
    cm_buffer content cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = cm_record_decode(data, size, &content);
    if (result < 0)
        return result;
    uint8_t *memory = malloc(content.size + 1);
    fuzz_must(memory);
    fuzz_must(cm_record_decode_into(data, size, memory, content.size) == 0);
    fuzz_must(content.size == 0 || memcmp(memory, content.data, content.size) == 0);
    fuzz_must(cm_record_decode_into(data, size, memory, content.size + 1) < 0);
    free(memory);
    return 0;
}
