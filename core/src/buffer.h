/* SPDX-License-Identifier: Apache-2.0 */
/* buffer.h - a growable byte buffer with a sticky error, and the readers and writers of the format's integers. */
#ifndef CM_BUFFER_H
#define CM_BUFFER_H

#include <chipmink/chipmink.h>
#include <stdlib.h>
#include <string.h>

typedef struct cm_buffer {
    uint8_t *data;
    size_t size, capacity;
    int error; /* sticky -ENOMEM: later appends do nothing */
} cm_buffer;

#define CM_BUFFER_INIT                                                                                                 \
    {                                                                                                                  \
        0                                                                                                              \
    }

/*
 * Makes room for one more element in the growing array at *(void **)array, which has `count` of them. False: out of memory, and
 * the array is as it was.
 */
bool cm_grow(void *array, size_t count, size_t *capacity, size_t element);

void cm_buffer_free(cm_buffer *buffer);  /* and ready for use again */
void cm_buffer_clear(cm_buffer *buffer); /* keeps the memory */
/* Makes `size` more bytes writable at the end and returns them, counted in size; NULL: out of memory. */
uint8_t *cm_buffer_extend(cm_buffer *buffer, size_t size);
void cm_buffer_append(cm_buffer *buffer, const void *bytes, size_t size);
void cm_buffer_varint(cm_buffer *buffer, uint64_t value); /* LEB128 */
void cm_buffer_u64(cm_buffer *buffer, uint64_t value);    /* little endian */
void cm_buffer_string(cm_buffer *buffer, const char *s);  /* varint length, bytes; NULL as "" */

/* A reader over borrowed bytes: every read is checked; after a bad one `bad` is set and all reads return 0. */
typedef struct cm_reader {
    const uint8_t *at, *end;
    bool bad;
} cm_reader;

static inline cm_reader cm_reader_of(const void *data, size_t size)
{
    return (cm_reader){data, size ? (const uint8_t *)data + size : data, false}; /* data may be NULL then */
}
uint64_t cm_read_varint(cm_reader *reader);
uint64_t cm_read_u64(cm_reader *reader);
/* Borrowed pointer to the next `size` bytes, or NULL. */
const uint8_t *cm_read_bytes(cm_reader *reader, uint64_t size);
/* A varint that must not exceed `most`. */
uint64_t cm_read_bounded(cm_reader *reader, uint64_t most);
/* A fresh NUL-terminated copy of a length-prefixed string without NUL bytes; NULL when bad or out of memory. */
char *cm_read_string(cm_reader *reader);

/* Little-endian integers in place. */
static inline void cm_put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint32_t cm_get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void cm_put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t cm_get_u64(const uint8_t *at)
{
    return (uint64_t)cm_get_u32(at) | (uint64_t)cm_get_u32(at + 4) << 32;
}

#define cm_cleanup(f) __attribute__((cleanup(f)))

static inline void cm_cleanup_free(void *p)
{
    free(*(void **)p);
}

#endif
