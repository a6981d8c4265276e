/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.h - inside the tree: what it keeps of the store, and the cached parts of checkpoints that lookups, listings and contents
 * are made of. Getters return a reference in the out-parameter, to be given back with cm_cached_unref(&part->item).
 */
#ifndef CM_PARTS_H
#define CM_PARTS_H

#include <pthread.h>
#include <stdlib.h>

#include "cache.h"
#include "view.h"

#define cm_cleanup(f) __attribute__((cleanup(f)))

/* For cm_cleanup: every part begins with its item. */
static inline void cm_cleanup_part(void *part)
{
    cm_cached_unref(*(cm_cached **)part);
}

static inline void cm_cleanup_memory(void *memory)
{
    free(*(void **)memory);
}

enum { CM_VIEW_SIZES = 4096, CM_VIEW_OBJECTS = 16384, CM_VIEW_OPENED = 64 };

struct cm_work;

/*
 * When the checkpoints of a session were saved, by number from 1; INT64_MIN: it was removed before anybody asked. Only grows; guarded by
 * the view's moments_lock.
 */
typedef struct cm_moments {
    uint64_t session;
    int64_t *times;
    uint64_t count, room;
} cm_moments;

struct cm_view {
    cm_store *store;
    struct cm_work *work; /* NULL: for reading only */
    int64_t made;         /* when the store was, the time of what has none */
    uint64_t only;        /* the session shown at the top; 0: all of them are shown */
    pthread_mutex_t moments_lock;
    cm_moments *moments; /* a session each */
    size_t moments_count;
    cm_cache *cache;
    pthread_mutex_t lock; /* of what follows, held for moments */
    char **sessions;      /* names; the session in a node is an index into it plus one; only grows */
    size_t session_count, session_room;
    struct {
        cm_node node;
        uint64_t size;
    } sizes[CM_VIEW_SIZES]; /* of generated files whose content had to be made to know it; a slot each, by hash */
    struct {
        cm_id id;
        cm_object_info info;
    } objects[CM_VIEW_OBJECTS];     /* listed lately; a slot each, by the first bits of the id */
    cm_node opened[CM_VIEW_OPENED]; /* pickles of vars/, the last ones; a ring */
    size_t opened_count;
    pthread_mutex_t refresh_lock;    /* held while the store catches up */
    int64_t refreshed;               /* when it last did, CLOCK_MONOTONIC ns */
    pthread_mutex_t statistics_lock; /* held while stats.json is made */
    cm_cached *statistics;
    int64_t statistics_due; /* when it is old */
    void (*trouble)(void *arg, const char *message);
    void *trouble_arg;
};

/* [blocks] The store as of at most CM_VIEW_AGE_NS ago: before looking at what moves. */
#define CM_VIEW_AGE_NS INT64_C(200000000)
void cm_view_catch_up(cm_view *view);
int64_t cm_monotonic_ns(void);

/* The number in node ids of a session that exists. -EOVERFLOW: more sessions than node ids can tell apart. */
int cm_view_session_number(cm_view *view, const char *name, uint64_t *number);
/* NULL: no such number was given out. Lives as long as the tree. Does not block. */
const char *cm_view_session_name(cm_view *view, uint64_t number);

/* Whether the checkpoint with that number of a node's session is there: it may have been removed, or not be made yet. */
bool cm_view_is_there(cm_view *view, cm_node session, uint64_t number);

/* What the session of a node is now. -ENOENT */
int cm_view_session(cm_view *view, cm_node node, cm_session_info *info);

/*
 * by-time/: the name of a checkpoint there is the time it was saved at, to the millisecond, and its number where an earlier one
 * has the same time.
 */
enum { CM_MOMENT_NAME = 64 };
/* The times of all checkpoints of the session as of now are known from here on; *count: up to which number. */
int cm_moments_know(cm_view *view, cm_node node, uint64_t *count);
/* Of a known one. -ENOENT: it was removed. */
int cm_moment_name(cm_view *view, cm_node node, uint64_t number, char name[CM_MOMENT_NAME]);
int cm_moment_time(cm_view *view, cm_node node, uint64_t number, int64_t *time);
/* -ENOENT */
int cm_moment_find(cm_view *view, cm_node node, const char *name, uint64_t *number);

/* Sizes once made are remembered, a few thousand of them. */
bool cm_view_known_size(cm_view *view, cm_node node, uint64_t *size);
void cm_view_remember_size(cm_view *view, cm_node node, uint64_t size);

/*
 * Objects that were listed are remembered for a while, some thousands of them: `ls -l` asks for each right after. info->kind is 0 where
 * nothing but the id is known. Contents are never read by this, but from what cm_view_object finds.
 */
void cm_view_remember_object(cm_view *view, const cm_id *id, const cm_object_info *info);
bool cm_view_recall_object(cm_view *view, cm_node node, cm_id *id, cm_object_info *info);

/* The pickles of vars/ that were opened lately, each once, the newest first: how many there are. */
void cm_view_note_opened(cm_view *view, cm_node pickle);
size_t cm_view_opened(cm_view *view, cm_node pickles[CM_VIEW_OPENED]);

typedef struct cm_part_checkpoint {
    cm_cached item;
    cm_checkpoint *checkpoint;
} cm_part_checkpoint;

/* `node`: any of the checkpoint's. */
int cm_part_checkpoint_get(cm_view *view, cm_node node, cm_part_checkpoint **part);

typedef struct cm_part_variables {
    cm_cached item;
    cm_checkpoint *checkpoint; /* a handle of its own: the variables' memory goes with it */
    const cm_variable *variables;
    size_t count;
} cm_part_variables;

int cm_part_variables_get(cm_view *view, cm_node node, cm_part_variables **part);
/* Also the one that the node is of, which lives as long as the part. -ESTALE: there is none with its index. */
int cm_part_variable_get(cm_view *view, cm_node node, cm_part_variables **part, const cm_variable **variable);
/* The index of the variable that has this file name. -ENOENT */
int cm_part_variables_find(const cm_part_variables *part, const char *file, const char *suffix, uint64_t *index);

typedef struct cm_part_ids {
    cm_cached item;
    cm_id *ids; /* ascending */
    size_t count;
} cm_part_ids;

/* The ids of all objects (CM_PLACE_OBJECTS), or of those the first parent has not (CM_PLACE_NEW_OBJECTS). */
int cm_part_ids_get(cm_view *view, cm_node node, enum cm_place which, cm_part_ids **part);
/* Not cached: those in the store that begin with a byte. */
int cm_part_ids_make(cm_view *view, uint8_t first, cm_part_ids **part);
bool cm_part_ids_has(const cm_part_ids *part, const cm_id *id);

typedef struct cm_part_delta {
    cm_cached item;
    cm_node parent; /* a node of the first parent; 0: none */
    struct {
        uint32_t *indexes; /* ascending; of this checkpoint's variables, for removed ones of the parent's */
        size_t count;
    } added, changed, removed;
} cm_part_delta;

int cm_part_delta_get(cm_view *view, cm_node node, cm_part_delta **part);
/* A node of the checkpoint's first parent, or where that was removed of the one before; 0: there is none. */
int cm_part_parent(cm_view *view, cm_node node, cm_node *parent);

/* The inode number of a file made from a variable; for pickles and infos it follows from what is in them. */
uint64_t cm_variable_inode(const cm_variable *variable, cm_node node);

/* The node of the object that a variable's preview is, and will be looked at; 0: it has none. */
cm_node cm_preview_node(cm_view *view, const cm_variable *variable);

/* The object that the node of an object or of a link to one stands for. -ENOENT; -EIO: there are two. */
int cm_view_object(cm_view *view, cm_node node, cm_id *id, cm_object_info *info);

#endif
