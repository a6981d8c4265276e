/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.h - writing a checkpoint: pods are built as relocatable pieces of pickle and handed to the store.
 *
 *     cm_save_begin -> for each variable: cm_save_variable_begin -> pods -> cm_save_variable_end (or _cancel)
 *                   -> cm_save_commit -> cm_save_wait ... 0 -> cm_save_checkpoint -> cm_save_free
 *
 * One thread builds. cm_save_pod_finish hands the pod to the store's workers, which hash, compress and write it while
 * the next pods are built. Pods are finished children first: every child of a pod before the pod itself.
 *
 * A pod's body is ordinary pickle opcodes (protocol 5, no PROTO, FRAME or STOP) that push exactly one value; a fragment's
 * body takes the container on top of the stack and adds a run of elements to it (MARK ... APPENDS, SETITEMS, ADDITEMS).
 * Memo indices in it are local, assigned by MEMOIZE from 0. What stands between the opcodes is recorded beside them:
 * children (spliced in), externals (objects in other pods), local gets (relocated), buffers and payloads (bytes kept
 * out of the body).
 *
 * Opcodes that name memo indices other than those written by the functions here must not be used (PUT, GET families).
 */
#ifndef CHIPMINK_SAVE_H
#define CHIPMINK_SAVE_H

#include <chipmink/chipmink.h>
#include <chipmink/device.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cm_save cm_save;
typedef struct cm_pod cm_pod;

enum cm_pod_kind { CM_POD_OBJECT = 0, CM_POD_FRAGMENT = 1 };

/*
 * The body under construction, open for speed: writers append at `cursor`, below `limit`. Everything else of a pod is
 * private. Lives inside cm_pod; get it with cm_pod_body.
 */
typedef struct cm_body {
    uint8_t *start, *cursor, *limit;
    uint32_t memo_count; /* objects memoized so far: the next MEMOIZE gets this local index */
    int error;           /* sticky: -ENOMEM or -E2BIG; checked by cm_save_pod_finish */
} cm_body;

/*
 * [blocks while another thread saves to this store] Starts a save on the head of `session`, which need not exist.
 * -EROFS: the store is open for reading only; -EPERM: opened by the parent of a fork.
 */
CM_API CM_MUST_USE int cm_save_begin(cm_store *store, const char *session, cm_save **save);

/*
 * As cm_save_begin, on a branch: the checkpoint descends from it and moves it; the session's head goes along if it is on that
 * branch, and else stays where it is. A branch that does not exist yet begins at the head. For several who work on one session
 * at once, each on a branch of its own.
 */
CM_API CM_MUST_USE int cm_save_begin_on(cm_store *store, const char *session, const char *branch, cm_save **save);
/*
 * The same without waiting for the save that goes on: everything is built and kept in memory, nothing is asked of the store or
 * given to it before cm_save_start, and until then the save descends from nothing. No pods are to be used again in it.
 */
CM_API CM_MUST_USE int cm_save_begin_later(cm_store *store, const char *session, const char *branch, cm_save **save);

/* Everything built until _end or _cancel belongs to the variable. After _cancel its pods are as if never built. */
CM_API CM_MUST_USE int cm_save_variable_begin(cm_save *save, const char *name);
/*
 * The variable is the object at local memo `index` of `pod` (CM_INDEX_ROOT: the pod's own value); the pod may belong to
 * an earlier variable. `type` and `summary` are copied.
 */
CM_API CM_MUST_USE int cm_save_variable_end(cm_save *save, const cm_pod *pod, uint32_t index, const char *type,
                                            const char *summary);
CM_API void cm_save_variable_cancel(cm_save *save);
/*
 * After cm_save_variable_end and before the commit: what the variable looks like, as bytes of `media_type`, which must be "image/png",
 * at most CM_PREVIEW_MOST. Copied; a later one replaces an earlier one. A variable that turns out to be as it was in the parent keeps
 * the preview that it has there, if it has one. -ENOENT: no such variable was built. -EINVAL: these are no such bytes. -EFBIG
 */
CM_API CM_MUST_USE int cm_save_preview(cm_save *save, const char *name, const char *media_type, const void *data,
                                       size_t size);
/* Lists a variable as not saved, with the reason. */
CM_API CM_MUST_USE int cm_save_unsaved(cm_save *save, const char *name, const char *reason);
typedef int (*cm_unsaved_visitor)(void *arg, const char *name, const char *reason);
/* Those listed so far. Ends with what `visit` returns, when that is not 0. */
CM_API CM_MUST_USE int cm_save_list_unsaved(const cm_save *save, cm_unsaved_visitor visit, void *arg);

/*
 * A new pod. Its page follows from its place: the variable's name for the first (parent NULL), the parent's page and the
 * number of pods made below that parent so far for the others. NULL: out of memory.
 * The pod lives as long as the save (its body until it is finished).
 */
CM_API cm_pod *cm_save_pod_new(cm_save *save, cm_pod *parent, enum cm_pod_kind kind);
/*
 * `root` is the local memo index of the value the pod pushes, or CM_INDEX_ROOT when that is not memoized (atoms,
 * fragments). The body must not be touched afterwards. Does not wait for the workers: what they have not
 * come to yet is held in memory, at most the bodies of all pods.
 */
CM_API CM_MUST_USE int cm_save_pod_finish(cm_save *save, cm_pod *pod, uint32_t root);

/*
 * Of a pod that is finished and has nothing but buffers in it, none of which was written to since it was hashed: the same as that of
 * another one in a save of the same store, if the pods are the same. Else 0.
 */
CM_API uint64_t cm_pod_digest(const cm_pod *pod);

static inline cm_body *cm_pod_body(cm_pod *pod)
{
    return (cm_body *)pod; /* the first member */
}

CM_API void cm_body_grow(cm_body *body, size_t size); /* slow path of cm_body_room */

/* Makes room for `size` more bytes. False: out of memory (body->error is set; keep going or stop, finish will fail). */
static inline bool cm_body_room(cm_body *body, size_t size)
{
    if ((size_t)(body->limit - body->cursor) < size) {
        cm_body_grow(body, size);
        return (size_t)(body->limit - body->cursor) >= size;
    }
    return true;
}

static inline void cm_body_byte(cm_body *body, uint8_t byte)
{
    if (cm_body_room(body, 1))
        *body->cursor++ = byte;
}

static inline void cm_body_bytes(cm_body *body, const void *bytes, size_t size)
{
    if (size && cm_body_room(body, size)) {
        memcpy(body->cursor, bytes, size);
        body->cursor += size;
    }
}

static inline size_t cm_body_size(const cm_body *body)
{
    return (size_t)(body->cursor - body->start);
}

/* Emits MEMOIZE for the value on top of the stack and returns its local index. */
static inline uint32_t cm_body_memoize(cm_body *body)
{
    cm_body_byte(body, 0x94);
    return body->memo_count++;
}

/* Pushes the object memoized at local `index` of this pod. */
CM_API void cm_pod_get(cm_pod *pod, uint32_t index);
/* Pushes the object at `index` (CM_INDEX_ROOT: its value, which must be memoized) of another pod, finished or not. */
CM_API void cm_pod_external(cm_pod *pod, cm_pod *target, uint32_t index);
/* Splices a finished child in: pushes its value, or for a fragment adds its elements to the container on the stack. */
CM_API void cm_pod_child(cm_pod *pod, cm_pod *child);

enum cm_buffer_kind {
    CM_BUFFER_WRITABLE = 0, /* pickle.PickleBuffer of writable memory: out of band, or BYTEARRAY8 in a plain stream */
    CM_BUFFER_READONLY = 1, /* of read-only memory: out of band, or BINBYTES8 */
    CM_PAYLOAD_BYTES = 2,   /* always in the stream: BINBYTES8 */
    CM_PAYLOAD_STR = 3,     /* BINUNICODE8, UTF-8 with surrogatepass */
    CM_PAYLOAD_BYTEARRAY = 4,
};

/*
 * Pushes bytes that are kept out of the body, in chunks. The memory must stay valid, and unchanged, until cm_save_wait has
 * returned 0 or the save was freed; that of a CM_BUFFER_* kind no longer than until cm_save_detach has returned. (A chunk that
 * changes before is stored as it was read.)
 */
CM_API void cm_pod_buffer(cm_pod *pod, enum cm_buffer_kind kind, const void *data, size_t size);

/* Memory of an accelerator; `ops`, `context` and the memory are the caller's, and must stay until the save lets go of it. */
typedef struct cm_device_memory {
    const cm_device_ops *ops;
    cm_device_context *context;
    int device;
    uint64_t address, size; /* for which ops->check has returned 0; the size is at least 1 */
} cm_device_memory;

/*
 * [blocks while the device hashes it] As cm_pod_buffer with CM_BUFFER_WRITABLE, and what is stored is the same. What the store does
 * not have is copied later, by the workers or by cm_save_detach. Puts the first bytes, at most CM_DEVICE_HEAD, into `head`.
 */
CM_API CM_MUST_USE int cm_pod_device_buffer(cm_pod *pod, const cm_device_memory *memory, void *head);

/* [blocks until what was enqueued on the device is done] Reads the first bytes, at most CM_DEVICE_HEAD. */
CM_API CM_MUST_USE int cm_device_read(const cm_device_memory *memory, void *head);

/* Only in this size and above are payloads worth their own chunk; below, put the bytes into the body. */
enum { CM_PAYLOAD_MIN = 4096 };

/* ---- using pods again ----------------------------------------------------------------------------------------------- */

/*
 * What is needed to use a pod of a save again in later ones of the same store, by a caller who knows that everything in it and
 * below it is as it was: the objects, and the addresses that its externals lead to. A collection may have removed it from the store
 * if the epoch of the save that uses it is not that of the save it was kept from.
 */
typedef struct cm_kept cm_kept;

/*
 * Once for each pod, after cm_save_wait returned 0 and before cm_save_free. The caller frees it, after the saves that use it.
 * NULL: it cannot be used again (two places had one page), or out of memory.
 */
CM_API cm_kept *cm_pod_keep(cm_pod *pod);
CM_API void cm_kept_free(cm_kept *kept);
/*
 * As cm_save_pod_new, for a pod that is as it was. Its children follow, in their order, each whole; then cm_save_pod_again_end,
 * which finishes it. What it refers to must be there already.
 */
CM_API cm_pod *cm_save_pod_again(cm_save *save, cm_pod *parent, cm_kept *kept);
CM_API CM_MUST_USE int cm_save_pod_again_end(cm_save *save, cm_pod *pod);

/* The page of a pod, of the next pod made below it, of a child with that ordinal, of the first pod of a variable. */
CM_API uint64_t cm_pod_page(const cm_pod *pod);
CM_API uint64_t cm_pod_next_page(const cm_pod *parent);
CM_API uint64_t cm_page_of_child(uint64_t parent, uint32_t ordinal);
CM_API uint64_t cm_page_of_variable(const char *name);

/* ---- taking variables over by reference --------------------------------------------------------------------------- */

/*
 * As cm_save_begin, or cm_save_begin_on with a `branch`, but the save starts with the head's variables as they are: what is carried,
 * built or removed then is what changes. For editing a session from outside, and for code that changed nothing.
 */
CM_API CM_MUST_USE int cm_save_begin_edit(cm_store *store, const char *session, const char *branch, cm_save **save);
/*
 * [blocks] The variable `from_name` of a checkpoint of this store becomes the variable `name`, without its bytes being moved: its
 * pods and chunks are shared. (If it shares objects with other variables, its pods are rewritten as one; its buffers are
 * shared all the same.) -ENOENT: the checkpoint does not have it; -ESTALE: the checkpoint was removed.
 */
CM_API CM_MUST_USE int cm_save_carry(cm_save *save, const char *name, cm_checkpoint *from, const char *from_name);
/* Of a save begun with cm_save_begin_edit: the variable is left out. -ENOENT: there is none. */
CM_API CM_MUST_USE int cm_save_remove(cm_save *save, const char *name);

/*
 * What the caller's namespace was when it last agreed with the store: the content ids of its variables then. With it the save
 * merges with what others have committed to the session since, variable by variable: what only they changed, added or removed
 * is taken over; what both changed keeps the caller's value, and theirs stays reachable by a branch. Without it the checkpoint
 * is just what was built. The arrays are copied.
 */
CM_API CM_MUST_USE int cm_save_set_base(cm_save *save, const char *const *names, const cm_id *contents, size_t count);
typedef int (*cm_content_visitor)(void *arg, const char *name, const cm_id *content);
/* After cm_save_wait returned 0: the base for the next save, the content ids of what was built. Ends with what `visit` returns. */
CM_API CM_MUST_USE int cm_save_contents(const cm_save *save, cm_content_visitor visit, void *arg);

/*
 * Likewise: whether the base that was set has just the names of what was built, in their order. Then _changes visits those whose contents
 * are others than in the base.
 */
CM_API bool cm_save_keeps_names(const cm_save *save);
CM_API CM_MUST_USE int cm_save_changes(const cm_save *save, cm_content_visitor visit, void *arg);

enum cm_arrival {
    CM_ARRIVED = 'A',  /* theirs is in the checkpoint */
    CM_LEFT = 'L',     /* they removed it */
    CM_CONFLICT = 'C', /* both changed it: ours is in the checkpoint, theirs on the branch */
};
typedef int (*cm_arrival_visitor)(void *arg, enum cm_arrival what, const char *name);
/* After cm_save_wait returned 0: what the merge did, by name. `*branch` (borrowed): where theirs is; NULL: no conflict. */
CM_API CM_MUST_USE int cm_save_arrivals(cm_save *save, cm_arrival_visitor visit, void *arg, const char **branch);

/* Before the commit: how the code was run. Copied. */
CM_API CM_MUST_USE int cm_save_set_cell(cm_save *save, const cm_cell *cell);
/*
 * Before the commit: if the checkpoint would have the parent's variables, all as they were, and no unsaved ones that the parent
 * does not list, none is made, and cm_save_checkpoint gives the parent.
 */
CM_API void cm_save_if_changed(cm_save *save);
/* Before anything is built: nobody waits for it, so it makes way for others. */
CM_API void cm_save_behind(cm_save *save);
/*
 * At any time, of a save behind: while others are `busy` one thread works for it, and more when they are not. What they have begun
 * is finished first. Priorities would not do: a store server works as much as who asks it.
 */
CM_API void cm_save_make_way(cm_save *save, bool busy);

/*
 * Starts committing what was built, in the background. `message` and `code` may be NULL; copied.
 */
CM_API CM_MUST_USE int cm_save_commit(cm_save *save, const char *message, const char *code);
/*
 * [blocks up to `timeout_ms`] -EAGAIN: not yet. 0: the checkpoint is durable. Else why the save failed; the store is as
 * it was before. -ESTALE: a collection (cm_gc) has removed objects since the save began, and what it refers to may be among
 * them: the save is to be repeated, with nothing kept from before.
 */
CM_API CM_MUST_USE int cm_save_wait(cm_save *save, int timeout_ms);
/*
 * [blocks while memory is copied] After cm_save_commit, or when all of a save for later was built: lets go of the memory of all
 * buffers of a CM_BUFFER_* kind, so that it may be changed or freed, but for those that begin at one of the `spared` addresses,
 * which wait for another call. What the workers have not read yet, and the store does not have, is copied; beyond `limit` bytes
 * the workers are waited for instead. *taken: how much was copied.
 * Of a save for later what was built counts, too, the first time; and beyond the limit nothing can be waited for: false, and the
 * memory is still needed. Not beside cm_save_start.
 */
CM_API bool cm_save_detach(cm_save *save, uint64_t limit, const void *const *spared, size_t spared_count,
                           uint64_t *taken);
/* Whether a buffer that begins there, and is not smaller than CM_PAYLOAD_MIN, is still lent: see cm_save_detach. */
CM_API bool cm_save_lends(const cm_save *save, const void *memory);
/*
 * [blocks while another thread saves to this store] Goes on with a save that was begun for later, which may be committed then.
 * -ESTALE: as of cm_save_wait. If it fails, the save is to be freed.
 */
CM_API CM_MUST_USE int cm_save_start(cm_save *save);
/* The epoch of the store that the save belongs to: it changes when objects are removed. */
CM_API uint64_t cm_save_epoch(const cm_save *save);
/* The new checkpoint after cm_save_wait returned 0; the caller unrefs it. */
CM_API cm_checkpoint *cm_save_checkpoint(cm_save *save);
/*
 * [blocks for milliseconds, or until a commit that has begun is done] Gives the save up. 0: too late, the checkpoint is durable;
 * else -ECANCELED.
 */
CM_API CM_MUST_USE int cm_save_cancel(cm_save *save);
/*
 * [blocks for milliseconds] Ends the save. Before cm_save_wait returned 0 that cancels it, unless the commit itself
 * has begun (then it is waited for). Afterwards no memory given to cm_pod_buffer is touched any more.
 */
CM_API void cm_save_free(cm_save *save);

#ifdef __cplusplus
}
#endif
#endif
