/* SPDX-License-Identifier: Apache-2.0 */
#include "buffer.h"

#include <errno.h>

bool cm_grow(void *array, size_t count, size_t *capacity, size_t element)
{
    if (count < *capacity)
        return true;
    size_t larger = *capacity ? *capacity * 2 : 8;
    void *grown = realloc(*(void **)array, larger * element);
    if (!grown)
        return false;
    *(void **)array = grown;
    *capacity = larger;
    return true;
}

void cm_buffer_free(cm_buffer *buffer)
{
    free(buffer->data);
    *buffer = (cm_buffer)CM_BUFFER_INIT;
}

void cm_buffer_clear(cm_buffer *buffer)
{
    buffer->size = 0;
    buffer->error = 0;
}

uint8_t *cm_buffer_extend(cm_buffer *buffer, size_t size)
{
    if (buffer->error)
        return NULL;
    if (!buffer->data || buffer->capacity - buffer->size < size) { /* NULL means out of memory, also for 0 bytes */
        size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
        while (capacity - buffer->size < size) {
            if (capacity > SIZE_MAX / 2) {
                buffer->error = -ENOMEM;
                return NULL;
            }
            capacity *= 2;
        }
        uint8_t *data = realloc(buffer->data, capacity);
        if (!data) {
            buffer->error = -ENOMEM;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    uint8_t *at = buffer->data + buffer->size;
    buffer->size += size;
    return at;
}

void cm_buffer_append(cm_buffer *buffer, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    uint8_t *at = cm_buffer_extend(buffer, size);
    if (at)
        memcpy(at, bytes, size);
}

void cm_buffer_varint(cm_buffer *buffer, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;
    while (value >= 0x80) {
        bytes[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[n++] = (uint8_t)value;
    cm_buffer_append(buffer, bytes, n);
}

void cm_buffer_u64(cm_buffer *buffer, uint64_t value)
{
    uint8_t bytes[8];
    cm_put_u64(bytes, value);
    cm_buffer_append(buffer, bytes, sizeof bytes);
}

void cm_buffer_string(cm_buffer *buffer, const char *s)
{
    size_t size = s ? strlen(s) : 0;
    cm_buffer_varint(buffer, size);
    cm_buffer_append(buffer, s, size);
}

uint64_t cm_read_varint(cm_reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (reader->bad || reader->at == reader->end)
            break;
        uint8_t byte = *reader->at++;
        if (shift == 63 && byte > 1)
            break; /* does not fit in 64 bits */
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            if (byte == 0 && shift > 0)
                break; /* padded: every number has one encoding */
            return value;
        }
    }
    reader->bad = true;
    return 0;
}

uint64_t cm_read_u64(cm_reader *reader)
{
    const uint8_t *bytes = cm_read_bytes(reader, 8);
    return bytes ? cm_get_u64(bytes) : 0;
}

const uint8_t *cm_read_bytes(cm_reader *reader, uint64_t size)
{
    if (reader->bad || (uint64_t)(reader->end - reader->at) < size) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *bytes = reader->at;
    reader->at += size;
    return bytes;
}

uint64_t cm_read_bounded(cm_reader *reader, uint64_t most)
{
    uint64_t value = cm_read_varint(reader);
    if (value > most) {
        reader->bad = true;
        return 0;
    }
    return value;
}

char *cm_read_string(cm_reader *reader)
{
    uint64_t size = cm_read_varint(reader);
    const uint8_t *bytes = cm_read_bytes(reader, size);
    if (!bytes)
        return NULL;
    if (memchr(bytes, 0, size)) {
        reader->bad = true;
        return NULL;
    }
    char *s = malloc(size + 1);
    if (!s) {
        reader->bad = true;
        return NULL;
    }
    memcpy(s, bytes, size);
    s[size] = 0;
    return s;
}
