/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - records: what a backend stores for an object.
 *
 *     record := version u8 | codec u8 | size varint | XXH3-128 of the content, 16 bytes | base | payload
 *
 *     version 1: codec 0 raw, 1 zstd; base is empty
 *     version 2: codec 2 zstd against the content of another object, a difference; base: depth u8, id of that object
 *
 * The checksum is of the content, so that decompression, and with it the base, is covered by it too. The depth is one more
 * than that of the base's own record, 0 for one that needs no base, and at most CM_DELTA_DEPTH: chains end.
 *
 * Only the backend that keeps records meets differences: what it gives out is made whole there (cm_record_resolve).
 */
#ifndef CM_CODEC_H
#define CM_CODEC_H

#include "buffer.h"

enum {
    CM_RECORD_MOST = 1 << 30, /* no object is larger: a bound for what a hostile record can ask for */
    CM_DELTA_MIN = 256,       /* smaller objects gain too little: the header of a difference alone has 54 bytes */
    CM_DELTA_DEPTH = 8,       /* bases that reading one object takes, at most */
    CM_DELTA_MOST = 4 << 20,  /* larger objects are neither differences nor bases */
};

/*
 * Replaces `record`. Level: zstd's, or 0 to store raw. Content that does not shrink by at least 1/16 is stored raw.
 * One compression context per thread is kept.
 */
CM_MUST_USE int cm_record_encode(int level, const void *content, size_t size, cm_buffer *record);
/* Replaces `content`. -EILSEQ: damaged, or a difference. */
CM_MUST_USE int cm_record_decode(const void *record, size_t size, cm_buffer *content);
/*
 * The same into memory of exactly `capacity` bytes; -EILSEQ also if the content has another size. For chunks that go
 * straight to their place.
 */
CM_MUST_USE int cm_record_decode_into(const void *record, size_t size, void *memory, size_t capacity);

/* ---- differences ------------------------------------------------------------------------------------------------- */

/* What a record is made against: the content of another object, whose own record has this depth. */
typedef struct cm_base {
    cm_id id;
    cm_buffer content;
    unsigned depth; /* less than CM_DELTA_DEPTH */
} cm_base;

/*
 * Replaces `record` by one against the base if that is at most `most` bytes long; else leaves it empty and returns 0 all the
 * same. Neither is larger than CM_DELTA_MOST.
 */
CM_MUST_USE int cm_record_encode_delta(const cm_base *base, const void *content, size_t size, size_t most,
                                       cm_buffer *record);
/* 1: the record is a difference; its depth and the object it needs, which must be kept as long as it is. 0: it needs none. */
CM_MUST_USE int cm_record_base(const void *record, size_t size, cm_id *base, unsigned *depth);

/* Replaces `record` by that of an object, as it is stored. */
typedef int (*cm_record_fetch)(void *arg, const cm_id *id, cm_buffer *record);
/*
 * [blocks as `fetch`] Replaces a record that is a difference by one of the same content that needs no base; others stay as they are.
 * -EILSEQ: damaged, also if a base is missing or the chain of them is not as its records say.
 */
CM_MUST_USE int cm_record_resolve(cm_record_fetch fetch, void *arg, cm_buffer *record);
/*
 * [blocks as `fetch`] Makes the object `id`, which has this record, a base; where its depth is the greatest, the one at the end of
 * its chain instead. `record` may be replaced.
 */
CM_MUST_USE int cm_base_load(cm_record_fetch fetch, void *arg, const cm_id *id, cm_buffer *record, cm_base *base);

/* The kind an object's content announces by its magic; chunks and trees have none: CM_KIND_CHUNK for both. */
unsigned cm_kind_guess(const void *content, size_t size);

/* Magics: the first four bytes of contents that have one; the fourth is the format's version. */
#define CM_MAGIC_POD        "CMP\x01"
#define CM_MAGIC_MAP        "CMM\x01"
#define CM_MAGIC_CHECKPOINT "CMC" /* version 1, or 2: it may tell of a cell */

#endif
