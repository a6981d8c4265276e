/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - records: what a backend stores for an object.
 *
 *     record := version u8 (1) | codec u8 (0 raw, 1 zstd) | size varint | XXH3-128 of the content, 16 bytes | payload
 *
 * The checksum is of the content, so that decompression is covered by it too.
 */
#ifndef CM_CODEC_H
#define CM_CODEC_H

#include "buffer.h"

enum { CM_RECORD_MOST = 1 << 30 }; /* no object is larger: a bound for what a hostile record can ask for */

/*
 * Replaces `record`. Level: zstd's, or 0 to store raw. Content that does not shrink by at least 1/16 is stored raw.
 * One compression context per thread is kept.
 */
CM_MUST_USE int cm_record_encode(int level, const void *content, size_t size, cm_buffer *record);
/* Replaces `content`. -EILSEQ: damaged. */
CM_MUST_USE int cm_record_decode(const void *record, size_t size, cm_buffer *content);
/*
 * The same into memory of exactly `capacity` bytes; -EILSEQ also if the content has another size. For chunks that go
 * straight to their place.
 */
CM_MUST_USE int cm_record_decode_into(const void *record, size_t size, void *memory, size_t capacity);

/* The kind an object's content announces by its magic; chunks and trees have none: CM_KIND_CHUNK for both. */
unsigned cm_kind_guess(const void *content, size_t size);

/* Magics: the first four bytes of contents that have one; the fourth is the format's version. */
#define CM_MAGIC_POD        "CMP\x01"
#define CM_MAGIC_MAP        "CMM\x01"
#define CM_MAGIC_CHECKPOINT "CMC\x01"

#endif
