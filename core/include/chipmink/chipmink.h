/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chipmink.h - the public interface of libchipmink, a structure-aware delta object store.
 *
 * Conventions
 *   - Functions return 0 or a negative errno. After a failure cm_error_message() gives, for the calling thread, one
 *     sentence that says what failed, where, and what to do next.
 *   - Handles are opaque. A function that returns one in an out-parameter gives the caller a reference, to be given back
 *     with the matching _close, _unref or _free. Every _close/_unref/_free accepts NULL.
 *   - Strings are UTF-8 and NUL-terminated. Sizes are bytes, times nanoseconds since the Unix epoch.
 *   - Handles may be used from any thread. Functions marked [blocks] read or write the store or wait for workers.
 *   - Nothing here knows Python or FUSE, and nothing here runs stored code.
 */
#ifndef CHIPMINK_CHIPMINK_H
#define CHIPMINK_CHIPMINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CM_API      __attribute__((visibility("default")))
#define CM_MUST_USE __attribute__((warn_unused_result))
#else
#define CM_API
#define CM_MUST_USE
#endif

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* The sentence of the last failed call on this thread; "" before any. Valid until the next failing call on the thread. */
CM_API const char *cm_error_message(void);

/* ---- ids --------------------------------------------------------------------------------------------------------- */

/* SHA-256 of an object's content: its name in every store. */
typedef struct cm_id {
    uint8_t bytes[32];
} cm_id;

enum { CM_ID_HEX = 64 };

CM_API void cm_id_hex(const cm_id *id, char hex[CM_ID_HEX + 1]);
/* -EINVAL unless `hex` is exactly 64 lower-case hexadecimal digits. */
CM_API CM_MUST_USE int cm_id_parse(const char *hex, cm_id *id);
CM_API bool cm_id_equal(const cm_id *a, const cm_id *b);

/* ---- stores ------------------------------------------------------------------------------------------------------ */

typedef struct cm_store cm_store; /* reference counted: checkpoints, links and saves keep their store open */

enum cm_open_flags {
    CM_OPEN_READ = 0,        /* beside a writing process; sees its commits after cm_store_refresh */
    CM_OPEN_WRITE = 1 << 0,  /* the one writing process; -EBUSY names the holder */
    CM_OPEN_CREATE = 1 << 1, /* with CM_OPEN_WRITE: make the store (0700) when there is none */
    CM_OPEN_SERVE = 1 << 2,  /* with CM_OPEN_WRITE: for others too, who wait while this process starts or ends */
};

/* $CHIPMINK_STORE or ~/.chipmink, absolute; the caller frees it. */
CM_API CM_MUST_USE int cm_store_default_path(char **path);
/*
 * [blocks] The store in this process alone ("embedded").
 * -ENOENT: no store there; -EBUSY: another writer; -EPROTONOSUPPORT: made by a newer version.
 */
CM_API CM_MUST_USE int cm_store_open(const char *path, unsigned flags, cm_store **store);
/*
 * [blocks] The store through its server, which any number of processes share; it is started when none answers, by running
 * `command serve` (`command`: the chipmink program, a path or a name to look up). Flags as above: all see commits at once,
 * CM_OPEN_READ only keeps this handle from writing. Errors as above, and -EBUSY when a process has the store embedded.
 */
CM_API CM_MUST_USE int cm_store_connect(const char *path, unsigned flags, const char *command, cm_store **store);
/* [blocks] Words for the server of a connected store ("mount", ...). The caller frees *reply; it may be NULL. */
CM_API CM_MUST_USE int cm_store_control(cm_store *store, int argc, const char *const *argv, char **reply);
/*
 * [blocks] A checkpoint directory (of a mount, or a copy of one) as a read-only store of that one checkpoint. `checkpoint`: its id,
 * which checkpoint.json has; NULL: look for it, which opens every file in pods/.
 */
CM_API CM_MUST_USE int cm_store_open_snapshot(const char *directory, const cm_id *checkpoint, cm_store **store);
CM_API cm_store *cm_store_ref(cm_store *store);
CM_API void cm_store_unref(cm_store *store);
CM_API const char *cm_store_path(const cm_store *store);
CM_API bool cm_store_writable(const cm_store *store);
/* [blocks] A reader catches up with the writer. For writers and snapshots it does nothing. */
CM_API CM_MUST_USE int cm_store_refresh(cm_store *store);

typedef struct cm_store_stat {
    uint64_t objects;      /* distinct objects */
    uint64_t raw_bytes;    /* their content */
    uint64_t stored_bytes; /* their records, compressed */
    uint64_t disk_bytes;   /* the store directory */
    uint64_t sessions;
    uint64_t checkpoints;
} cm_store_stat;

/* [blocks] Walks the whole object index. */
CM_API CM_MUST_USE int cm_store_statistics(cm_store *store, cm_store_stat *stat);

/* Large buffers that saves through this handle have found unchanged: the kernel is asked which pages of them were written since. */
typedef struct cm_watch_stat {
    uint64_t buffers; /* watched */
    uint64_t bytes;   /* of them */
    uint64_t unread;  /* bytes that the last save did not have to read */
} cm_watch_stat;

CM_API void cm_store_watching(cm_store *store, cm_watch_stat *stat);

/* ---- objects: the immutable, content-addressed records ---------------------------------------------------------------- */

enum cm_kind {
    CM_KIND_POD = 1,        /* relocatable piece of pickle */
    CM_KIND_CHUNK = 2,      /* bytes of a buffer */
    CM_KIND_TREE = 3,       /* list of ids of chunks or trees: inner node of a buffer */
    CM_KIND_MAP = 4,        /* node of a sorted map (variables, pages) */
    CM_KIND_CHECKPOINT = 5, /* one saved state */
};

typedef struct cm_object_info {
    uint8_t kind;    /* enum cm_kind; 0: no such object */
    uint64_t size;   /* content */
    uint64_t stored; /* record on disk */
    uint8_t depth;   /* other objects that reading it takes, because it is stored as a difference from one of them */
} cm_object_info;

CM_API const char *cm_kind_name(unsigned kind); /* "pod", "chunk", ... */
/* [blocks] -ENOENT: no such object. */
CM_API CM_MUST_USE int cm_object_stat(cm_store *store, const cm_id *id, cm_object_info *info);
/* [blocks] The verified content; the caller frees *data. -EILSEQ: the record is damaged. */
CM_API CM_MUST_USE int cm_object_read(cm_store *store, const cm_id *id, void **data, size_t *size);
/* A non-zero return of a visitor stops the walk and is returned. */
typedef int (*cm_object_visitor)(void *arg, const cm_id *id, const cm_object_info *info);
/* [blocks] All objects whose id begins with the first `bits` bits of `prefix` (prefix may be NULL when bits is 0), by id. */
CM_API CM_MUST_USE int cm_object_list(cm_store *store, const cm_id *prefix, unsigned bits, cm_object_visitor visit,
                                      void *arg);

/* ---- sessions and refs ------------------------------------------------------------------------------------------- */

enum cm_ref_kind { CM_REF_BRANCH = 'b', CM_REF_TAG = 't' };

typedef struct cm_session_info {
    uint64_t last_number; /* the newest checkpoint's number; numbers run from 1 */
    uint64_t head_number; /* the checkpoint the next save descends from; 0: none */
    char *branch;         /* the branch the next save moves; NULL: detached, the next save makes a branch */
} cm_session_info;

typedef int (*cm_name_visitor)(void *arg, const char *name, uint64_t number);

/* [blocks] Names in byte order; `number` is the last checkpoint's. */
CM_API CM_MUST_USE int cm_session_list(cm_store *store, cm_name_visitor visit, void *arg);
/* [blocks] -ENOENT: no such session. Free with cm_session_info_clear. */
CM_API CM_MUST_USE int cm_session_get(cm_store *store, const char *session, cm_session_info *info);
CM_API void cm_session_info_clear(cm_session_info *info);
/* [blocks] The branches or tags of a session, with the numbers of their checkpoints. */
CM_API CM_MUST_USE int cm_ref_list(cm_store *store, const char *session, enum cm_ref_kind kind, cm_name_visitor visit,
                                   void *arg);
/* [blocks] Make or move a branch or tag. Names: no '/', no control characters, not all digits, not "head". */
CM_API CM_MUST_USE int cm_ref_set(cm_store *store, const char *session, enum cm_ref_kind kind, const char *name,
                                  uint64_t number);
/* [blocks] Put the head on a branch (branch non-NULL) or on a checkpoint number (then detached unless a branch's tip). */
CM_API CM_MUST_USE int cm_head_set(cm_store *store, const char *session, const char *branch, uint64_t number);

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

typedef struct cm_checkpoint cm_checkpoint; /* immutable, reference counted */

/* Where a variable's object is: the pod, its page in the virtual memo space, and the object's memo index in the pod. */
typedef struct cm_address {
    cm_id pod;
    uint64_t page;
    uint32_t index; /* CM_INDEX_ROOT: what the pod itself evaluates to */
} cm_address;

#define CM_INDEX_ROOT UINT32_MAX
#define CM_INDEX_RUN  (UINT32_MAX - 1) /* no object: see cm_link_open_have */

typedef struct cm_variable {
    const char *name;
    const char *type;     /* "pandas.core.frame.DataFrame" */
    const char *summary;  /* one or more lines: shape, preview */
    uint64_t rank;        /* place in the namespace */
    uint64_t size;        /* of the linked pickle, vars/<name>.pkl */
    uint64_t stored;      /* bytes on disk of the pods and chunks it consists of, each counted once */
    uint64_t pods;        /* pods it consists of */
    bool plain;           /* no pod of it refers to another but as its child: it can be moved about by reference */
    uint64_t changed;     /* number of the checkpoint it last changed in */
    int64_t changed_time; /* and the time of that */
    cm_address root;
    cm_id content;         /* equal ids: equal linked pickles */
    cm_id preview;         /* what it looks like: an object, a PNG */
    uint64_t preview_size; /* bytes of that; 0: it has none */
} cm_variable;

enum { CM_PREVIEW_MOST = 1 << 20 /* bytes of a preview */ };

typedef struct cm_save_stats {
    uint64_t logical_bytes; /* of all variables' pickles, shared content counted once */
    uint64_t bytes_written; /* records newly written for this checkpoint */
    uint64_t pods;          /* pods the checkpoint consists of */
    uint64_t pods_new;      /* of these, not in the store before */
    uint64_t walk_ns;       /* taking the namespace apart (the caller's thread) */
    uint64_t write_ns;      /* from then until the checkpoint was durable */
} cm_save_stats;

/* How the code of a checkpoint was run. */
typedef struct cm_cell {
    uint64_t execution;   /* its number in the notebook, as in "In [7]"; 0: none */
    uint64_t duration_ns; /* how long it ran */
    const char *error;    /* "ZeroDivisionError: division by zero"; NULL: it did not fail */
} cm_cell;

/* [blocks] `revision`: NULL or "" or "head"; a number; a branch; a tag; an id or a unique prefix of >= 8 digits. */
CM_API CM_MUST_USE int cm_checkpoint_open(cm_store *store, const char *session, const char *revision,
                                          cm_checkpoint **checkpoint);
/* [blocks] "SESSION" or "SESSION@REVISION". */
CM_API CM_MUST_USE int cm_checkpoint_open_address(cm_store *store, const char *address, cm_checkpoint **checkpoint);
CM_API CM_MUST_USE int cm_checkpoint_open_number(cm_store *store, const char *session, uint64_t number,
                                                 cm_checkpoint **checkpoint);
CM_API CM_MUST_USE int cm_checkpoint_open_id(cm_store *store, const cm_id *id, cm_checkpoint **checkpoint);
typedef int (*cm_number_visitor)(void *arg, uint64_t number, const cm_id *id);
/* [blocks] The checkpoints of a session that are there, by number; numbers of removed ones are left out. */
CM_API CM_MUST_USE int cm_checkpoint_list(cm_store *store, const char *session, cm_number_visitor visit, void *arg);
/* [blocks] The id of the checkpoint with that number. -ENOENT: there is none, or it was removed. */
CM_API CM_MUST_USE int cm_checkpoint_number_id(cm_store *store, const char *session, uint64_t number, cm_id *id);
/* [blocks] The nearest checkpoint it descends from that is there: its first parent, or if that was removed, whom that descended
 * from. NULL: there is none. */
CM_API CM_MUST_USE int cm_checkpoint_open_parent(cm_checkpoint *checkpoint, cm_checkpoint **parent);
/*
 * [blocks] What it means that reading from the checkpoint, or what it consists of, has failed with `result`: -ENOENT, with a sentence,
 * if the checkpoint was removed meanwhile; else `result`.
 */
CM_API int cm_checkpoint_failed(cm_checkpoint *checkpoint, int result);
CM_API cm_checkpoint *cm_checkpoint_ref(cm_checkpoint *checkpoint);
CM_API void cm_checkpoint_unref(cm_checkpoint *checkpoint);

CM_API cm_store *cm_checkpoint_store(const cm_checkpoint *checkpoint); /* borrowed */
CM_API const cm_id *cm_checkpoint_id(const cm_checkpoint *checkpoint);
CM_API const char *cm_checkpoint_session(const cm_checkpoint *checkpoint);
CM_API uint64_t cm_checkpoint_number(const cm_checkpoint *checkpoint);
CM_API int64_t cm_checkpoint_time(const cm_checkpoint *checkpoint);
CM_API const char *cm_checkpoint_message(const cm_checkpoint *checkpoint); /* NULL: none */
CM_API const char *cm_checkpoint_code(const cm_checkpoint *checkpoint);    /* NULL: none */
CM_API const cm_cell *cm_checkpoint_cell(const cm_checkpoint *checkpoint); /* NULL: not known */
CM_API const cm_save_stats *cm_checkpoint_stats(const cm_checkpoint *checkpoint);
CM_API size_t cm_checkpoint_parent_count(const cm_checkpoint *checkpoint);
CM_API const cm_id *cm_checkpoint_parent(const cm_checkpoint *checkpoint, size_t i);
CM_API uint64_t cm_checkpoint_parent_number(const cm_checkpoint *checkpoint, size_t i);
CM_API size_t cm_checkpoint_unsaved_count(const cm_checkpoint *checkpoint);
CM_API const char *cm_checkpoint_unsaved_name(const cm_checkpoint *checkpoint, size_t i);
CM_API const char *cm_checkpoint_unsaved_reason(const cm_checkpoint *checkpoint, size_t i);
/* Bytes of the stream of all variables (CM_LINK_NAMESPACE alone); 0: not recorded, cm_link_open tells. */
CM_API uint64_t cm_checkpoint_namespace_size(const cm_checkpoint *checkpoint);
CM_API size_t cm_checkpoint_variable_count(const cm_checkpoint *checkpoint);
/* [blocks the first time] All variables by name in byte order; the array lives as long as the checkpoint. */
CM_API CM_MUST_USE int cm_checkpoint_variables(cm_checkpoint *checkpoint, const cm_variable **variables, size_t *count);
/* [blocks] -ENOENT: no such variable in it. */
CM_API CM_MUST_USE int cm_checkpoint_variable(cm_checkpoint *checkpoint, const char *name,
                                              const cm_variable **variable);
/* [blocks] What the variable looks like, a PNG, verified; the caller frees *data. *data is NULL if it has no preview. */
CM_API CM_MUST_USE int cm_checkpoint_preview(cm_checkpoint *checkpoint, const char *name, void **data, size_t *size);
/* [blocks] Everything the checkpoint consists of, each object once: its own record, maps, pods, trees, chunks. */
CM_API CM_MUST_USE int cm_checkpoint_objects(cm_checkpoint *checkpoint, cm_object_visitor visit, void *arg);

/* Whether what the variable refers to does not count as shared with it, as of a function that finds what it uses by name. */
typedef bool (*cm_alone_visitor)(void *arg, const cm_variable *variable);
/*
 * [blocks] Which variables share objects, directly or by way of others: (*groups)[i] is the smallest index (as of
 * cm_checkpoint_variables) of those in the group of variable i. `alone` may be NULL. The caller frees *groups.
 */
CM_API CM_MUST_USE int cm_checkpoint_groups(cm_checkpoint *checkpoint, cm_alone_visitor alone, void *arg,
                                            uint32_t **groups, size_t *count);

/*
 * What of a checkpoint, the target, a program has that is at another one: the variables that are the same in both, and all that these
 * refer to. It keeps the target open.
 */
typedef struct cm_have cm_have;
/*
 * [blocks] Reads the pods of those variables that refer to objects of others. Variables of the `count` names in `by_name` refer to others
 * by name alone, as functions do: they are the same if they themselves are.
 */
CM_API CM_MUST_USE int cm_have_new(cm_checkpoint *here, cm_checkpoint *target, const char *const *by_name, size_t count,
                                   cm_have **have);
CM_API cm_have *cm_have_ref(cm_have *have);
CM_API void cm_have_unref(cm_have *have); /* accepts NULL */
/* Whether the variable with that index (as of cm_checkpoint_variables of the target) is one of them. */
CM_API bool cm_have_keeps(const cm_have *have, size_t variable);
/* [blocks] The pages that something may refer to from elsewhere, ascending. The caller frees *pages. */
CM_API CM_MUST_USE int cm_checkpoint_pages(cm_checkpoint *checkpoint, uint64_t **pages, size_t *count);

enum cm_change { CM_ADDED = 'A', CM_REMOVED = 'R', CM_CHANGED = 'C' };
/* `before` is NULL for CM_ADDED, `after` for CM_REMOVED. */
typedef int (*cm_diff_visitor)(void *arg, enum cm_change change, const cm_variable *before, const cm_variable *after);
/* [blocks] By name. `before` may be NULL (everything added). */
CM_API CM_MUST_USE int cm_checkpoint_diff(cm_checkpoint *before, cm_checkpoint *after, cm_diff_visitor visit,
                                          void *arg);

/* ---- linking: pods back into one pickle stream ----------------------------------------------------------------------- */

typedef struct cm_link cm_link;

enum cm_link_flags {
    CM_LINK_NAMESPACE = 1 << 0, /* a dict of the named variables (of all, with count 0), in namespace order */
    CM_LINK_BUFFERS = 1 << 1,   /* buffers out of band: NEXT_BUFFER in the stream, bytes by cm_link_buffer_read */
};

/*
 * [blocks] Plans the stream of the named variables: time and memory linear in the pods linked; buffers are not read. One
 * variable that shares nothing with others is planned while it is read: opening it reads one pod, reading the pods touched.
 * Without CM_LINK_NAMESPACE exactly one name. The stream is a complete pickle, protocol 5.
 */
CM_API CM_MUST_USE int cm_link_open(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags,
                                    cm_link **link);
/*
 * The same with what the program has left out: the stream asks for these objects, by persistent ids (BINPERSID), bytes objects of
 * CM_HAVE_ID bytes: u64 page, u32 memo index in its pod, or CM_INDEX_ROOT for the pod's own value. CM_INDEX_RUN asks for
 * something that, called with a container, adds the elements of the fragment at that page to it.
 */
enum { CM_HAVE_ID = 12 };
CM_API CM_MUST_USE int cm_link_open_have(cm_checkpoint *checkpoint, const char *const *names, size_t count,
                                         unsigned flags, cm_have *have, cm_link **link);
CM_API void cm_link_close(cm_link *link);
CM_API uint64_t cm_link_size(const cm_link *link);
/* [blocks] Reads up to `size` bytes at `offset`; *done is short only at the end. Touches the pods and chunks concerned. */
CM_API CM_MUST_USE int cm_link_read(cm_link *link, uint64_t offset, void *buffer, size_t size, size_t *done);
CM_API size_t cm_link_buffer_count(const cm_link *link);
CM_API uint64_t cm_link_buffer_size(const cm_link *link, size_t i);
CM_API bool cm_link_buffer_readonly(const cm_link *link, size_t i);
/* [blocks] The whole buffer `i` into memory of cm_link_buffer_size(i) bytes, on several threads when it is large. */
CM_API CM_MUST_USE int cm_link_buffer_read(cm_link *link, size_t i, void *memory);
/* Bytes of memory it holds now, for caches that bound themselves; grows while it is read. */
CM_API size_t cm_link_memory(cm_link *link);

/*
 * A stream read once, from its beginning to its end: what a load wants. Only the pods under construction are held in memory, and
 * reading can run ahead in a thread of its own. One thread at a time.
 */
typedef struct cm_stream cm_stream;

/* As cm_link_open. */
CM_API CM_MUST_USE int cm_stream_open(cm_checkpoint *checkpoint, const char *const *names, size_t count, unsigned flags,
                                      cm_stream **stream);
/* Before anything is read: as cm_link_open_have. */
CM_API void cm_stream_have(cm_stream *stream, cm_have *have);
CM_API void cm_stream_close(cm_stream *stream);
/* Some bytes of a stream, made once and used again and again: fresh memory would cost a page fault for each 4 kB. */
typedef struct cm_piece cm_piece;
CM_API cm_piece *cm_piece_new(void);        /* NULL: out of memory */
CM_API void cm_piece_free(cm_piece *piece); /* accepts NULL */

/*
 * [blocks] The next bytes replace those of the piece: `size` or more, fewer only at the end. -EAGAIN: some variables can only be
 * linked after looking ahead at all of them (a partial load of a rare kind of cycle): use cm_link_open instead.
 */
CM_API CM_MUST_USE int cm_stream_read(cm_stream *stream, size_t size, cm_piece *piece);
/* Whether nothing is missing: large texts and byte strings are, before cm_piece_fill. */
CM_API bool cm_piece_is_whole(const cm_piece *piece);
/* [blocks] Reads what is missing. In any thread, also while the stream is read on into other pieces; it must be open. */
CM_API CM_MUST_USE int cm_piece_fill(cm_piece *piece);
/* Borrowed until the piece is read into again. */
CM_API const void *cm_piece_bytes(const cm_piece *piece, size_t *size);

/* A buffer that the bytes read so far refer to (with CM_LINK_BUFFERS). */
typedef struct cm_stream_buffer {
    cm_id tree;
    uint64_t size;
    bool readonly;
} cm_stream_buffer;

/* In the order of their NEXT_BUFFER opcodes; false: there are no more yet. Same thread as cm_stream_read. */
CM_API bool cm_stream_next_buffer(cm_stream *stream, cm_stream_buffer *buffer);
/* Bytes [offset, offset + size) of the content of one, and where they are wanted. */
typedef struct cm_buffer_part {
    const cm_stream_buffer *buffer;
    uint64_t offset;
    void *memory;
    size_t size;
} cm_buffer_part;

/* [blocks] Any thread. */
CM_API CM_MUST_USE int cm_buffers_fetch(cm_store *store, const cm_buffer_part *parts, size_t count);

/* ---- verify ------------------------------------------------------------------------------------------------------ */

typedef struct cm_verify_report {
    uint64_t sessions, checkpoints, variables, objects, bytes, damaged;
} cm_verify_report;

/* One damaged thing: where ("analysis@12 df, pod ab12..."), what is wrong. Either visitor may be NULL. */
typedef int (*cm_damage_visitor)(void *arg, const char *where, const char *what);
typedef int (*cm_progress_visitor)(void *arg, uint64_t done, uint64_t total);
/* [blocks] Re-reads everything reachable from the refs and checks content ids and structure. -EILSEQ: damage found. */
CM_API CM_MUST_USE int cm_verify(cm_store *store, cm_damage_visitor damage, cm_progress_visitor progress, void *arg,
                                 cm_verify_report *report);

/* ---- what things cost ----------------------------------------------------------------------------------------------- */

typedef struct cm_cost {
    uint64_t logical; /* bytes of the variables' pickles, of all checkpoints together */
    uint64_t stored;  /* bytes on disk of the objects it consists of, each once */
    uint64_t unique;  /* of these, of objects that nothing else in the store consists of: about what goes with it */
} cm_cost;

/* `name`: of a session or variable; NULL: it is the checkpoint with that number. */
typedef int (*cm_cost_visitor)(void *arg, const char *name, uint64_t number, const cm_cost *cost);

/* [blocks] Each session, beside all others; reads all that is not a chunk. `progress` may be NULL; it is told of checkpoints. */
CM_API CM_MUST_USE int cm_session_costs(cm_store *store, cm_cost_visitor visit, cm_progress_visitor progress,
                                        void *arg);
/* [blocks] Each checkpoint of a session, beside all others of the store. Reads what it consists of for each. */
CM_API CM_MUST_USE int cm_checkpoint_costs(cm_store *store, const char *session, cm_cost_visitor visit,
                                           cm_progress_visitor progress, void *arg);
/* [blocks] Each variable of a checkpoint, beside its other variables and all other checkpoints. */
CM_API CM_MUST_USE int cm_variable_costs(cm_checkpoint *checkpoint, cm_cost_visitor visit, cm_progress_visitor progress,
                                         void *arg);

/* ---- removing checkpoints ---------------------------------------------------------------------------------------- */

/* What is kept of a session, beside its head and the tips of its branches. At least one rule is needed. */
typedef struct cm_retention {
    uint64_t last; /* so many of the newest */
    uint64_t hourly, daily,
        weekly;  /* the newest of each of so many hours, days, weeks in which there is one, by local time */
    bool tagged; /* those that have a tag; else tags go with their checkpoints */
} cm_retention;

enum cm_kept_for {
    CM_KEPT_HEAD = 1 << 0,
    CM_KEPT_BRANCH = 1 << 1,
    CM_KEPT_TAG = 1 << 2,
    CM_KEPT_LAST = 1 << 3,
    CM_KEPT_HOURLY = 1 << 4,
    CM_KEPT_DAILY = 1 << 5,
    CM_KEPT_WEEKLY = 1 << 6,
};

typedef struct cm_prune_entry {
    uint64_t number;
    cm_id id;
    int64_t time;
    uint64_t parent;   /* the nearest checkpoint it descends from that is there (0: none) */
    unsigned kept_for; /* enum cm_kept_for; 0: it goes */
    bool grafted;      /* `parent` is not the one in its record */
    bool removed;
} cm_prune_entry;

/*
 * [blocks] Removes the checkpoints of a session that no rule keeps; cm_gc then gives their space back. `*entries`, by number: all there
 * were, and why they are kept; the caller frees it. `dry_run`: nothing is removed. Others may save to the session meanwhile; what
 * a head, branch or (where tags are kept) tag is put on before a checkpoint is gone is kept.
 * -EINVAL: no rule; -ENOENT: no such session.
 */
CM_API CM_MUST_USE int cm_prune(cm_store *store, const char *session, const cm_retention *keep, bool dry_run,
                                cm_prune_entry **entries, size_t *count);

/* ---- collecting what nothing refers to ----------------------------------------------------------------------------- */

typedef struct cm_gc_report {
    uint64_t kept, kept_bytes;       /* objects that stay, and their records */
    uint64_t removed, removed_bytes; /* objects that go (dry run: would go), and their records */
    uint64_t disk_before, disk_after;
} cm_gc_report;

/*
 * [blocks] Removes all objects that no checkpoint with a number consists of, and gives their space on disk back. Saves go on meanwhile;
 * those in progress when objects are removed fail with -ESTALE and are to be repeated. `progress`: objects looked at so far, of
 * about `total`; non-zero from it ends the collection with nothing removed. `dry_run`: removes nothing.
 * -EILSEQ: something that is to stay is damaged, so what it consists of cannot be told, and nothing was removed; -EROFS: open for
 * reading only; -EBUSY: another collection is in progress.
 */
CM_API CM_MUST_USE int cm_gc(cm_store *store, bool dry_run, cm_progress_visitor progress, void *arg,
                             cm_gc_report *report);

#ifdef __cplusplus
}
#endif
#endif
