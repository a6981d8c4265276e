/* SPDX-License-Identifier: Apache-2.0 */
/* Map nodes: what is accepted has ascending keys within its bytes. */
#include "fuzz.h"
#include "map.h"

typedef struct seen {
    const uint8_t *key;
    size_t size;
    volatile uint8_t sum; /* so that every byte is read */
} seen;

static int see(void *arg, const cm_map_entry *entry, bool leaf)
{
    seen *last = arg;
    if (last->key) {
        size_t common = last->size < entry->key_size ? last->size : entry->key_size;
        int order = memcmp(last->key, entry->key, common);
        fuzz_must(order < 0 || (order == 0 && last->size < entry->key_size));
    }
    fuzz_must(leaf || entry->value_size == sizeof(cm_id));
    for (size_t i = 0; i < entry->key_size; i++)
        last->sum = (uint8_t)(last->sum + entry->key[i]);
    for (size_t i = 0; i < entry->value_size; i++)
        last->sum = (uint8_t)(last->sum + entry->value[i]);
    last->key = entry->key;
    last->size = entry->key_size;
    return 0;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    int result = cm_map_check(data, size);
    seen last = {0};
    int parts = cm_map_parts(data, size, see, &last);
    fuzz_must(parts == result);
    return result;
}
