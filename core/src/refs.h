/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refs.h - the keys of refs, and the guard of a session.
 *
 *     h/<session>              last number varint, head number varint, string branch ("": detached)
 *     n/<session>/<16 hex>     checkpoint id, by number
 *     b/<session>/<branch>     number varint
 *     t/<session>/<tag>        number varint
 *     p/<session>/<16 hex>     number varint: whom that checkpoint descends from, where its parent was removed; 0: from none
 *     g/<session>              varint, the guard: one more with each move of a branch, tag or head but by a save, and each removal
 *
 * Whoever makes a ref to a checkpoint that is there, or removes one to which there is none, moves the guard in the same commit. So
 * neither can happen behind the other's back.
 */
#ifndef CM_REFS_H
#define CM_REFS_H

#include "store.h"

enum {
    CM_REFS_TRIES = 100, /* of a commit that others were quicker than */
    CM_REFS_TOGETHER = 3,
};

/* "<kind>/<session>", "<kind>/<session>/<name>". The caller frees it; NULL: out of memory. */
char *cm_ref_key(char kind, const char *session, const char *name);
char *cm_ref_number_key(char kind, const char *session, uint64_t number);
/* An update that holds if the ref still is as it was read; an empty `old`: it was absent. `value`: NULL to delete. */
cm_ref_update cm_ref_change(const char *key, const cm_buffer *old, const cm_buffer *value);
/* The value of a ref replaces `value`, which is emptied where there is none: that is no error. */
CM_MUST_USE int cm_ref_read(cm_store *store, const char *key, cm_buffer *value);

/* Refs that were read together, when a transaction began: what is asked next of the store need not be asked then. */
typedef struct cm_refs {
    char *keys[CM_REFS_TOGETHER];
    cm_buffer values[CM_REFS_TOGETHER]; /* empty: there is none */
    size_t count;
} cm_refs;

/* Takes the key over; NULL: out of memory, which cm_refs_begin finds. */
void cm_refs_add(cm_refs *refs, char *key);
/* [blocks] Reads them, and begins a transaction, in one round trip where the store is a server's. */
CM_MUST_USE int cm_refs_begin(cm_store *store, cm_refs *refs, cm_backend_txn **txn, uint64_t *epoch);
void cm_refs_clear(cm_refs *refs);

/* Commits updates, with no puts. -EEXIST: a ref was not as expected. */
CM_MUST_USE int cm_refs_commit(cm_store *store, const cm_ref_update *updates, size_t count);

typedef struct cm_guard {
    char *key;
    cm_buffer now, next;
} cm_guard;

CM_MUST_USE int cm_guard_read(cm_store *store, const char *session, cm_guard *guard);
void cm_guard_clear(cm_guard *guard);
static inline cm_ref_update cm_guard_move(const cm_guard *guard)
{
    return cm_ref_change(guard->key, &guard->now, &guard->next);
}

#endif
