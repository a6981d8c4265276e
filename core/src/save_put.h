/* SPDX-License-Identifier: Apache-2.0 */
/* save_put.h - contents of a save on their way to the store, put many at a time. */
#ifndef CM_SAVE_PUT_H
#define CM_SAVE_PUT_H

#include "save_internal.h"

/* Of a content in a batch: where its bytes are, and what is to be told what became of it. */
typedef struct cm_batch_end {
    size_t offset;
    atomic_uint_fast64_t *stored;
    cm_luck *luck;
} cm_batch_end;

/*
 * Contents of one thread: collected, so that putting them costs one round trip for many. What became of each is written to its
 * counters when the batch is flushed, at the latest by its owner at the end.
 */
typedef struct cm_batch {
    cm_save *save;
    cm_buffer data;
    cm_buffer piece; /* of a source on a device: what was fetched last */
    cm_content *contents;
    cm_batch_end *ends;
    size_t count, contents_room, ends_room;
} cm_batch;

/* Content on its way to a batch. */
typedef struct cm_offer {
    enum cm_kind kind;
    bool nowhere; /* it has no place */
    cm_place place;
    cm_luck *luck; /* NULL: a difference is always tried */
    const void *data;
    size_t size;
    cm_fingerprint key;           /* of the data */
    cm_id *id;                    /* the caller's */
    atomic_uint_fast64_t *stored; /* added to, now or later */
} cm_offer;

void cm_batch_clear(cm_batch *batch);
/* [blocks] Puts what was collected. */
CM_MUST_USE int cm_batch_flush(cm_batch *batch);
/* [blocks if there is much] Offers content whose fingerprint need not be given; sets its id. */
CM_MUST_USE int cm_batch_put(cm_batch *batch, cm_offer offer);
/* The same in steps. If the content, whose fingerprint is given, is known: its id, and true. */
bool cm_put_known(cm_save *save, const cm_offer *offer);
/* [blocks if there is much] Room for content of `size` bytes at the end of the batch. */
CM_MUST_USE int cm_batch_reserve(cm_batch *batch, size_t size, uint8_t **at);
/* Content that has been copied into the room reserved for it last. */
CM_MUST_USE int cm_batch_put_copy(cm_batch *batch, const cm_offer *offer, const uint8_t *copy);

#endif
