/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save_internal.h - a save in progress.
 *
 * One thread builds (the caller's). Finished pods and the buffers they refer to enter a queue, first in, first out;
 * workers hash, compress and put them. A pod's content names its children by id, so it waits for them; they are ahead of
 * it in the queue, so some worker has them and it cannot wait for ever. A committer thread, started by cm_save_commit,
 * works along until the queue is empty, writes the checkpoint, and ends.
 *
 * `lock` guards the queue, the state and the error. Pods are written by the builder before they are queued and by one worker
 * after; `done` (release/acquire) hands their results on.
 */
#ifndef CM_SAVE_INTERNAL_H
#define CM_SAVE_INTERNAL_H

#include "known.h"
#include "pod.h"
#include "store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

struct cm_page; /* checkpoint.h */
struct cm_refs; /* refs.h */

enum { CM_STREAM_FRAME = 3 /* PROTO 5 and STOP */ };
enum { CM_WORKERS_MOST = 8, CM_PIECE_CHUNKS = 16 };

/*
 * Where in a namespace content stands. What was put at a place before is what the new content there is most like, and thus what
 * it is stored as a difference from. Only a hint: the content found there may be anything, or have gone from the store.
 */
typedef struct cm_place {
    uint64_t page;   /* of the pod; of a map's node, a hash of what it begins with */
    uint32_t buffer; /* 0: the pod itself; else the number of its buffer, from 1 */
    uint32_t level;  /* of a buffer's tree: 0 is a chunk */
    uint64_t index;  /* of the node or chunk in its level */
} cm_place;

/*
 * Whether differences have been worth it for contents of one kind: after MISSES_MOST failures in a row only some are tried. Array
 * data that is all new each time pays nothing for it then.
 */
typedef struct cm_luck {
    atomic_uint misses;
} cm_luck;

/*
 * Bytes on their way to becoming a tree of chunks: hashed in pieces of CM_PIECE_CHUNKS chunks, by any worker. If the memory is
 * the caller's only for now (`lent`), `data` and `read` are guarded by the save's `memory` lock. Chunks whose ids were known at the
 * start count as read.
 */
typedef struct cm_source {
    const uint8_t *data;
    cm_device_memory device; /* where the bytes are while `data` is NULL */
    uint8_t *copy;           /* of the chunks that were not read when it was detached, and then `data` */
    uint8_t *read; /* of each chunk: whether its memory is not needed any more; NULL: all of it is, until the end */
    uint64_t size;
    uint64_t page;   /* of its pod */
    uint32_t number; /* among the pod's, from 1 */
    cm_luck luck;
    cm_id *chunks; /* of a single chunk: &single */
    cm_id single;
    cm_id root; /* of the tree of them; of one that was all known at the start there are no chunks */
    atomic_size_t pieces_left;
    bool awaited;                /* somebody waits for that, under the save's lock */
    atomic_uint_fast64_t stored; /* bytes on disk of what it consists of */
    struct cm_source *next, *next_lent;
    const void *memory; /* of a source that is watched: the caller's, and what to learn its ids with, see watch.h */
    uint64_t look;
    cm_fingerprint edges[CM_WATCH_EDGES];
    struct cm_source *next_watched;
} cm_source;

struct cm_pod {
    cm_body body; /* first: cm_pod_body */
    cm_save *save;
    cm_pod *parent;
    uint64_t page;
    cm_event *events;
    size_t event_count, event_capacity;
    uint32_t *gets;
    size_t get_count, get_capacity;
    cm_source *sources, **sources_end; /* of its buffer events, in order */
    uint32_t source_count;
    uint32_t ordinal; /* among the pods made below its parent */
    uint32_t children_made;
    uint32_t sequence;      /* of all pods of the save, in the order made; what is below it follows it directly */
    uint32_t lowest_target; /* lowest sequence that an external in it or below it refers to */
    uint32_t root;
    uint32_t variable;
    uint8_t kind;
    uint8_t tail;    /* see cm_pod_view; once it is finished */
    bool page_given; /* its derived page was taken by another pod */
    bool exported;   /* some external refers to it */
    bool finished;
    bool awaited;  /* somebody waits for `done`, under the save's lock */
    cm_kept *kept; /* lends the events, which are its own; NULL: they are the pod's */
    uint32_t body_size;
    uint64_t digest;    /* see cm_pod_digest */
    uint64_t tree_size; /* bytes of the plain stream of it and what is below it */
    uint64_t tree_pods, tree_memos;
    /* results of the worker */
    atomic_bool done;
    cm_id id;
    atomic_uint_fast64_t stored; /* bytes on disk of its record */
};

typedef struct cm_saved_variable {
    char *name, *type, *summary; /* in the save's room */
    const cm_pod *pod;
    uint32_t index;
    uint32_t first_pod, end_pod; /* sequences of the pods built for it */
    uint64_t stored;             /* of one that was flattened: of what it was made from; else 0 */
    cm_id content;               /* once it was measured */
    cm_buffer picture;           /* a preview that is not in the store yet */
    cm_id preview;               /* one that is */
    uint64_t preview_size;       /* 0: none */
} cm_saved_variable;

/* A variable taken over from a checkpoint by reference. Owns its strings. */
typedef struct cm_carried {
    cm_variable variable;
    bool removed; /* rather: left out */
} cm_carried;

/* What the merge decided; see cm_save_arrivals. */
typedef struct cm_arrived {
    enum cm_arrival what;
    char *name;
} cm_arrived;

typedef struct cm_base_entry {
    char *name;
    cm_id content;
} cm_base_entry;

typedef struct cm_unsaved {
    char *name, *reason;
} cm_unsaved;

typedef struct cm_item { /* of the queue: a pod, or a piece of a source */
    cm_pod *pod;
    cm_source *source;
    uint64_t first_chunk;
    uint64_t bytes;
} cm_item;

/* Memory of a save, which lives as long: from the builder's thread, and from the committer's after that. */
typedef struct cm_room {
    struct cm_room *next;
    size_t used, size;
    _Alignas(max_align_t) uint8_t bytes[];
} cm_room;

enum cm_save_state { CM_SAVE_BUILDING, CM_SAVE_COMMITTING, CM_SAVE_DONE };

struct cm_save {
    cm_store *store;
    char *session, *branch; /* branch NULL: the one that the head is on */
    cm_checkpoint *parent;  /* NULL: none */
    struct cm_head *head;   /* the session's head as it was at the start */
    cm_backend_txn *txn;
    cm_known *pending; /* what the txn has put or found */
    uint64_t epoch;    /* of the store, when the txn began */
    int64_t begin_ns, commit_ns;
    int64_t detached_ns; /* of one that is held */

    cm_room *room;
    cm_pod **pods; /* by sequence */
    uint32_t pod_count, pod_capacity;
    cm_pod **pages; /* open addressing by page */
    size_t page_slots;

    cm_saved_variable *variables;
    size_t variable_count, variable_capacity;
    cm_carried *carried; /* in the order given; a later one replaces an earlier one */
    size_t carried_count, carried_capacity;
    size_t own_variables, own_carried; /* the caller's; what the merge takes over follows them */
    bool edit;                         /* starts with the head's variables */
    cm_base_entry *base;               /* NULL: no merging */
    char *base_names;                  /* all of them */
    size_t base_count, base_asked;     /* how often it was looked through */
    bool base_sorted;                  /* by name; else in the order given */
    cm_arrived *arrived;
    size_t arrived_count, arrived_capacity;
    char *conflict; /* branch where the others' values are; NULL: none */
    cm_unsaved *unsaved;
    size_t unsaved_count, unsaved_capacity;
    char *variable_name; /* between _variable_begin and _end */
    uint32_t variable_first;

    pthread_mutex_t lock;
    pthread_cond_t work, progress, finished;
    cm_item *queue; /* ring */
    size_t queue_head, queue_count, queue_capacity;
    uint64_t queue_bytes;
    pthread_t workers[CM_WORKERS_MOST];
    unsigned worker_count, idle;
    bool held;    /* begun for later, and not started: nothing is asked of the store or given to it */
    bool entered; /* it is the store's one save at a time */
    bool closing; /* no more items will come: workers end when the queue is empty */
    bool cancelled;
    bool irrevocable; /* the commit itself has begun */
    enum cm_save_state state;
    bool committer_started;
    pthread_t committer;
    int error;
    char *error_message;
    atomic_uint_fast64_t bytes_written, pods_new;
    cm_source *lent;       /* of all pods */
    atomic_bool detaching; /* somebody waits for memory to be copied: workers make way */
    pthread_rwlock_t memory;
    cm_source *watched, **watched_end;
    cm_luck luck;       /* of pods and nodes */
    cm_luck chunk_luck; /* of chunks: of small buffers, and what large ones begin with */
    char *message, *code;
    cm_cell *cell;
    uint64_t built; /* bytes of pods, while it is held */
    bool if_changed;
    bool behind;    /* nobody waits for it */
    bool reserved;  /* workers take nothing new, but for the committer */
    bool unchanged; /* and so nothing was committed: `checkpoint` is the parent */
    cm_checkpoint *checkpoint;
};

/* pod_build.c */
/* A buffer that is in the store already. */
void cm_pod_buffer_stored(cm_pod *pod, unsigned kind, const cm_id *root, uint64_t size);
/* A LONG_BINGET with a local index already stands in the body at `position`. */
void cm_pod_note_get(cm_pod *pod, uint32_t position);
/* All but the pod itself, which is the save's. */
void cm_pod_clear(cm_pod *pod);
/* The view of a pod that is done, without its body; clear it with cm_pod_view_clear. */
CM_MUST_USE int cm_pod_skeleton(const cm_pod *pod, cm_pod_view *view);
cm_pod *cm_save_page_find(const cm_save *save, uint64_t page);

/* source.c: memory of accelerators. */
/* Hashes it where it is; *hashes, of each chunk, are the caller's to free. `head`: see cm_pod_device_buffer. */
CM_MUST_USE int cm_device_look(const cm_save *save, const cm_device_memory *memory, void *head,
                               cm_device_hash **hashes);
/* Marks the chunks that the store has as read. */
void cm_source_know_hashed(cm_save *save, cm_source *source, const cm_device_hash *hashes);
/* Copies chunks from `first` on, `size` bytes, that were not read; to their places after `to`. With the lock held. */
CM_MUST_USE int cm_source_fetch(const cm_source *source, uint64_t first, uint64_t size, uint8_t *to);
/* As detach_some in save_work.c, for all of it. */
int cm_source_detach_device(cm_save *save, cm_source *source, uint64_t *room);

/* save_work.c */
CM_MUST_USE int cm_save_enqueue(cm_save *save, const cm_item *items, size_t count);
/* If the store has a chunk's content, whose fingerprint is given: takes its id over. Of a source that no worker has yet. */
bool cm_source_know(cm_save *save, cm_source *source, uint64_t chunk, cm_fingerprint key);
/* Room for the chunks that are left. In huge pages, unless few are: to fault small ones in takes longer than to copy. */
uint8_t *cm_source_copy_new(const cm_source *source);
/* Takes part in the work until the queue is empty and all workers have ended. */
CM_MUST_USE int cm_save_drain(cm_save *save);
/* Keeps the first error and this thread's sentence; every later step sees it. */
void cm_save_set_error(cm_save *save, int error);
bool cm_save_failed(cm_save *save);
/* For what was enqueued while none were started. Not once there is a committer, which stops them. */
void cm_save_start_workers(cm_save *save);
void cm_save_stop_workers(cm_save *save);

/* save.c */
int64_t cm_now_ns(void);
/* Zeros. They are freed with the save. NULL: out of memory. */
void *cm_save_alloc(cm_save *save, size_t size);
/* Reads the session's head, and opens its checkpoint as the parent. `refs` (may be NULL): what was read already. */
CM_MUST_USE int cm_save_open_head(cm_save *save, const struct cm_refs *refs);
void cm_saved_variable_clear(cm_saved_variable *variable);

/* carry.c */
void cm_save_clear_carried(cm_save *save);

/* measure.c: whether it is the value of its pod, and no reference leaves the tree of that: it is linked from itself alone. */
bool cm_save_is_closed(const cm_saved_variable *variable);
/* Bytes on disk of a pod's record and its buffers. */
uint64_t cm_pod_stored(const cm_pod *pod);
/* fills all that follows from the pods: size, stored, pods, plain, content, root. */
CM_MUST_USE int cm_save_measure(cm_save *save, size_t variable, cm_variable *out);
void cm_save_page_of(const cm_pod *pod, struct cm_page *out);

/*
 * merge.c: the variables of the checkpoint to be, by name, from those built (`ours`, in namespace order), those carried, the
 * head's and the base. Ranks are set. Strings are borrowed from all of these. *final: the caller's to free.
 */
CM_MUST_USE int cm_save_merge(cm_save *save, const cm_variable *ours, cm_variable **final, size_t *count);

/* save_commit.c: the variable as it was given, for cm_save_measure to fill. Borrows its strings. */
cm_variable cm_save_given(const cm_saved_variable *variable);
void *cm_save_committer(void *save);

#endif
