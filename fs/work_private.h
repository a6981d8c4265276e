/* SPDX-License-Identifier: Apache-2.0 */
/* work_private.h - inside work/: what the files that implement work.h and the view share. */
#ifndef CM_WORK_PRIVATE_H
#define CM_WORK_PRIVATE_H

#include "parts.h"
#include "work.h"

enum {
    CM_WORK_BUCKETS = 4096,
    CM_WORK_ERRORS_MOST = 100,
    CM_WORK_QUIET_MS = 600,  /* without a change, then a checkpoint is made */
    CM_WORK_LATEST_MS = 2000 /* after the first change it is made in any case */
};

/*
 * A file that is open or an edit, in memory. Its lock guards the content and is held while that is made, checked and committed;
 * work->lock guards the rest and is taken last.
 */
typedef struct cm_work_file {
    struct cm_work_file *next; /* in the bucket of its node */
    cm_node node;
    unsigned references; /* handles, edits and whoever uses it */
    unsigned writers;    /* handles open for writing */
    char *home;          /* its file name, or where it would be again when it is changed */
    bool detached;       /* that name was taken away from it */
    unsigned names;      /* edits that name it */

    pthread_mutex_t lock;
    cm_node source;       /* of a variable's pickle: the content is its first `length` bytes. 0: it is in the spool */
    uint64_t source_size; /* whole */
    cm_content *content;  /* of the source, opened when it is needed */
    cm_content **retired; /* of former sources, for readers that began with these */
    size_t retired_count;
    int spool; /* -1: none yet */
    uint64_t length;
    int64_t time;
    bool changed;        /* it is not what the head has */
    bool checked, valid; /* since the last change */
    char *why;           /* not valid */
} cm_work_file;

typedef struct cm_work_edit {
    char *file;
    char *variable;     /* NULL: a temporary name, never committed */
    cm_work_file *what; /* NULL: removed */
    uint64_t sequence;  /* another one for another change */
    bool refused;       /* it cannot be committed as it is */
} cm_work_edit;

typedef struct cm_work_error {
    char *file;
    char *text;
    int64_t time;
} cm_work_error;

typedef struct cm_work_session {
    uint64_t number; /* the view's */
    cm_work_edit *edits;
    size_t count, room; /* by file name */
    int64_t first, last,
        retry;       /* CLOCK_MONOTONIC ns of the first and last change not committed; 0: none. Not before retry */
    int64_t changed; /* for people: when work/ last changed */
    cm_work_error errors[CM_WORK_ERRORS_MOST];
    size_t error_count;
    uint64_t moves, told;        /* how often its head has, and how many of these the kernel has been told */
    pthread_mutex_t commit_lock; /* one commit at a time */
} cm_work_session;

struct cm_work {
    cm_view *view;
    void (*trouble)(void *arg, const char *message);
    void *arg;
    void (*committed)(void *arg, cm_node session, const char *branch);
    void *committed_arg;
    pthread_mutex_t lock; /* held for moments */
    pthread_cond_t wake;  /* the committer's */
    pthread_cond_t told;  /* that of those who wait until a head's move has been told */
    pthread_t committer;
    bool ending;
    cm_work_file *buckets[CM_WORK_BUCKETS];
    cm_work_session **sessions;
    size_t session_count;
    uint64_t next_index, next_sequence;
};

/* ---- work.c: files and edits; the work's lock must be held for those that end in _locked ------------------------------- */

/* NULL: out of memory. */
cm_work_session *cm_work_session_locked(cm_work *work, uint64_t number);
/* The edit of a file name; *at: where it is or would be. */
cm_work_edit *cm_work_find_locked(const cm_work_session *session, const char *file, size_t *at);
/* Sets the edit of a file name; takes its own reference of `what`. */
int cm_work_edit_locked(cm_work *work, cm_work_session *session, const char *file, const char *variable,
                        cm_work_file *what);
void cm_work_forget_locked(cm_work *work, cm_work_session *session, size_t at);
void cm_work_touch_locked(cm_work *work, cm_work_session *session);
cm_work_file *cm_work_find_file_locked(cm_work *work, cm_node node);
/* A new one with a reference; `node` 0: one of its own. NULL: out of memory. */
cm_work_file *cm_work_add_file_locked(cm_work *work, uint64_t session, cm_node node, const char *home);
void cm_work_file_unref(cm_work *work, cm_work_file *file);
cm_work_file *cm_work_file_get(cm_work *work, cm_node node); /* that is in memory; NULL: none */
/*
 * With the file's lock, after cm_work_check: .errors says why it cannot be committed under its names, or nothing any more. `again`: also
 * where it has said so before.
 */
void cm_work_note_check(cm_work *work, const cm_work_file *file, bool again);
/* One line of .errors, the only one of its file; text NULL: none any more. */
void cm_work_note(cm_work *work, uint64_t session, const char *file, const char *text);

/* An open file; takes over the reference. */
int cm_work_make_handle(cm_work *work, cm_work_file *file, unsigned flags, cm_work_handle **handle);

/* With the file's lock: is it one complete pickle? -EINVAL and file->why; other errors. */
int cm_work_check(cm_work *work, cm_work_file *file);

/* ---- work_commit.c --------------------------------------------------------------------------------------------------- */

int cm_work_commit(cm_work *work, uint64_t session);
void *cm_work_committer(void *work);

/* ---- work_view.c: what the view asks ---------------------------------------------------------------------------------- */

int cm_work_lookup(cm_work *work, cm_node directory, const char *file, cm_node *node);
int cm_work_attributes(cm_work *work, cm_node node, cm_attributes *attributes);
/* The pickle that a node of work/, or of a pickle, is by reference, and its size. -EOPNOTSUPP: it is none. */
int cm_work_source(cm_work *work, cm_node node, cm_node *source, uint64_t *size);
/* The head's variables, or NULL in *part. */
int cm_work_head(cm_view *view, cm_node node, cm_node *checkpoint, cm_part_variables **part);
/* [blocks] The edits for a listing: `visit` gets files and, with node 0, names to leave out, by name. */
int cm_work_each(cm_work *work, uint64_t session, int (*visit)(void *arg, const char *file, cm_node node), void *arg);
/* .errors: the text, which the caller frees. -ENOENT: there is none. */
int cm_work_errors(cm_work *work, uint64_t session, char **text, int64_t *time);

/* Of node.h's type for work/: a variable of a checkpoint, or number 0 and an index of its own. */
static inline bool cm_node_in_work(cm_node node)
{
    return cm_node_type(node) == CM_NODE_WORK;
}

/* The pickle that a node of work/ with a checkpoint's number began as. */
static inline cm_node cm_work_pickle_of(cm_node node)
{
    return cm_node_make(CM_NODE_PICKLE, cm_node_session(node), cm_node_number(node), cm_node_index(node));
}

#endif
