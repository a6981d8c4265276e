/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - an open store: a backend, a lock for saves, and verified reading of objects. */
#ifndef CM_STORE_H
#define CM_STORE_H

#include "backend.h"
#include "buffer.h"
#include "error.h"
#include "fingerprint.h"
#include "id.h"
#include "known.h"
#include "sights.h"
#include "watch.h"

#include <pthread.h>
#include <stdatomic.h>

struct cm_store {
    atomic_uint references;
    cm_backend *backend;
    char *path;
    unsigned flags;
    cm_id snapshot; /* of a snapshot: its checkpoint */
    bool is_snapshot;
    cm_fingerprints *fingerprints;
    cm_fingerprints *places;          /* of a writer: what was last put there, by the hash of a cm_place */
    struct cm_tree_nodes *tree_nodes; /* tree.h */
    cm_known *known;                  /* of a writer */
    cm_watch *watch;                  /* of a writer */
    cm_sights *sights;                /* of a writer; for the save that goes on */
    struct cm_checkpoint *recent; /* for the save that goes on: what the last one made; see cm_checkpoint_remember */
    char *recent_branch;          /* that it was made on */
    pthread_mutex_t save_lock;    /* guards the next three: one save, or move of a ref, at a time */
    pthread_cond_t save_done;
    bool saving;
    pthread_t saver; /* the thread that began it */
};

/* [blocks] Enters the one save or move of a ref at a time. -EDEADLK: this thread is in one; -EROFS: open for reading. */
CM_MUST_USE int cm_store_enter(cm_store *store);
void cm_store_leave(cm_store *store);

/* Content on its way into a store. */
typedef struct cm_content {
    cm_id id; /* of the data, computed by the caller */
    uint8_t kind;
    const void *data; /* borrowed for the call */
    size_t size;
    cm_id
        base; /* an object it may be much like: what it was before. All zero: none is known; one that is not there is none */
    uint64_t stored; /* out: bytes of its record on disk */
    bool fresh;      /* out: it was not in the store before */
    bool different;  /* out: fresh, and stored as a difference from the base */
} cm_content;

static inline bool cm_content_has_base(const cm_content *content)
{
    return !cm_id_is_none(&content->base);
}

/*
 * [blocks] Puts what the store does not have yet, all in one go: one look-up for all, then compression and writing of the
 * unknown ones. `pending`: what the txn has put or found so far. Any thread; several at once on one txn.
 */
CM_MUST_USE int cm_contents_put(cm_store *store, cm_backend_txn *txn, cm_known *pending, cm_content *contents,
                                size_t count);

/* [blocks] Puts one and commits, in one round trip where the store is a server's. The txn is freed, but with -EEXIST, as by commit. */
CM_MUST_USE int cm_content_commit(cm_store *store, cm_backend_txn *txn, cm_known *pending, cm_content *content,
                                  const cm_ref_update *refs, size_t count);

/* The verified content of an object of the given kind (0: any) replaces `content`. */
CM_MUST_USE int cm_object_get(cm_store *store, const cm_id *id, unsigned kind, cm_buffer *content);
/* The same with what the store says of it. */
CM_MUST_USE int cm_object_get_info(cm_store *store, const cm_id *id, unsigned kind, cm_buffer *content,
                                   cm_object_info *info);
/*
 * [blocks] Many at once, in one round trip where the store is a server's: visits the record of each in turn, to be decoded where it
 * is wanted (codec.h). One that is missing is a failure; failures name the object. The visitor may read other objects.
 */
CM_MUST_USE int cm_objects_get(cm_store *store, const cm_id *ids, size_t count, cm_record_visitor visit, void *arg);
/*
 * -EILSEQ: it is of another kind than `kind` (0: any). A chunk may be anything, and anything a chunk: bytes that somebody saved may be
 * those of a pod, and then are the same object.
 */
CM_MUST_USE int cm_object_check_kind(const cm_store *store, const cm_object_info *info, unsigned kind);

#endif
