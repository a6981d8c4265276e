/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.h - the checkpoint as stored, and the values of its maps. docs/FORMAT.md describes the bytes. */
#ifndef CM_CHECKPOINT_H
#define CM_CHECKPOINT_H

#include "map.h"
#include "store.h"

struct cm_refs; /* refs.h */

typedef struct cm_parent {
    cm_id id;
    uint64_t number;
} cm_parent;

struct cm_checkpoint {
    atomic_uint references;
    cm_store *store;
    cm_id id;
    char *session;
    uint64_t number;
    int64_t time;
    char *message, *code; /* NULL: none */
    cm_cell *cell;        /* NULL: none; owned, with its error */
    bool previews;        /* some variable has one */
    cm_parent *parents;
    size_t parent_count;
    uint64_t variable_count, namespace_size;
    cm_id variable_map; /* name -> cm_variable */
    cm_id page_map;     /* page, 8 bytes big endian -> pod id, owner page */
    char **unsaved;     /* name, reason, name, reason, ... */
    size_t unsaved_count;
    cm_save_stats stats;
    pthread_mutex_t lock; /* guards loading the variables */
    cm_variable *variables;
    char *texts;        /* of all variables, together; NULL: each has its own */
    bool borrows;       /* the store, whose it is: to keep it open is for others */
    uint64_t pods_most; /* of all variables together, shared ones counted by each */
    bool loaded;
};

/* Replaces `content`. */
CM_MUST_USE int cm_checkpoint_encode(const cm_checkpoint *checkpoint, cm_buffer *content);
/* `id`, `store` and `references` are left alone. On failure the checkpoint is to be cleared too. */
CM_MUST_USE int cm_checkpoint_decode(const void *content, size_t size, cm_checkpoint *checkpoint);
void cm_checkpoint_clear(cm_checkpoint *checkpoint);

/*
 * The handle of a checkpoint whose record has been committed: `stored` bytes on disk. As opening it would give, without reading.
 */
CM_MUST_USE int cm_checkpoint_make(cm_store *store, const cm_id *id, const cm_buffer *content, uint64_t stored,
                                   cm_checkpoint **out);
/* A handle of its own of the same checkpoint, for others than the store. */
CM_MUST_USE int cm_checkpoint_copy(const cm_checkpoint *checkpoint, cm_checkpoint **out);
/*
 * In a save: keeps what it made, on that branch (NULL: a new one), with its variables (by name; copied), so that the next save, which descends from
 * it as a rule, need not read them. Without memory it is just not kept.
 */
void cm_checkpoint_remember(cm_store *store, const cm_checkpoint *checkpoint, const char *branch,
                            const cm_variable *variables, size_t count);
void cm_checkpoint_forget(cm_store *store);

/* A variable as the map's value, without its name. Appends. */
void cm_variable_encode(const cm_variable *variable, cm_buffer *value);
/* Fills all but name; type and summary are fresh copies. */
CM_MUST_USE int cm_variable_decode(const void *value, size_t size, cm_variable *variable);
void cm_variable_clear(cm_variable *variable);

/* Where the pod at a page is, and the page of the pod it is spliced into (CM_PAGE_NONE: it is a variable's own). */
typedef struct cm_page {
    cm_id pod;
    uint64_t parent;
    uint8_t kind; /* enum cm_pod_kind */
} cm_page;

void cm_page_key(uint64_t page, uint8_t key[8]);
void cm_page_encode(const cm_page *page, cm_buffer *value);
/* [blocks] -EILSEQ: no such page, or damaged. */
CM_MUST_USE int cm_checkpoint_page(cm_checkpoint *checkpoint, uint64_t page, cm_page *out);
/* The same, -ENOENT (without an error sentence) where it is not in the map: nothing refers there. */
CM_MUST_USE int cm_checkpoint_page_find(cm_checkpoint *checkpoint, uint64_t page, cm_page *out);

/* What a session's head ref holds. */
typedef struct cm_head {
    uint64_t last, number; /* 0: none */
    char *branch;          /* NULL: detached */
    bool apart;            /* these are a branch's, not the head's, which stays where it is: */
    uint64_t rest_number;
    char *rest_branch;
    cm_buffer raw;        /* as stored, for compare-and-swap; empty: absent */
    cm_buffer branch_raw; /* the branch's ref, likewise */
} cm_head;

/* An absent head is an empty one on branch "main". All but branch_raw. */
CM_MUST_USE int cm_head_read(cm_store *store, const char *session, cm_head *head);
/*
 * All of it; with a `branch` as if the head were on that, and one that does not exist begins at the head. `refs` (may be NULL): what
 * was read already.
 */
CM_MUST_USE int cm_head_read_on(cm_store *store, const struct cm_refs *refs, const char *session, const char *branch,
                                cm_head *head);
/* [blocks] The checkpoint that the head is at; NULL: there is none. In a save: it may be store->recent. */
CM_MUST_USE int cm_head_parent(cm_store *store, const struct cm_refs *refs, const char *session, const cm_head *head,
                               cm_checkpoint **parent);
/* Adds what the last two will ask for, if the head is on that branch (NULL: "main") and at that number (0: none). */
void cm_head_guess(struct cm_refs *refs, const char *session, const char *branch, uint64_t number);
void cm_head_clear(cm_head *head);
/*
 * One atomic commit of *txn, and with it of the record of checkpoint `number`: that, its branch, the head (unless that is apart); and,
 * if `keep` is not NULL, a branch of that name at the head as it was. *txn becomes NULL, but stays as it is with -EEXIST: the head has moved.
 */
CM_MUST_USE int cm_head_advance(cm_store *store, cm_backend_txn **txn, cm_known *pending, const char *session,
                                const cm_head *head, uint64_t number, cm_content *checkpoint, const char *keep);
/* Session and ref names: what may not be in them. */
CM_MUST_USE int cm_name_check(const char *what, const char *name);
CM_MUST_USE int cm_ref_name_check(const char *what, const char *name);

#endif
