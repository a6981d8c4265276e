/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h - a store as a tree of files. No FUSE in here: ops.c translates.
 *
 * All functions may be called from several threads at once, return 0 or -errno, and [block] unless noted: they may read the
 * store. docs/MOUNT.md describes the tree.
 */
#ifndef CM_VIEW_H
#define CM_VIEW_H

#include <chipmink/chipmink.h>

#include "names.h"
#include "node.h"

typedef struct cm_view cm_view;

/* Takes its own reference of the store. `cache` bounds the memory of what is kept of the store, in bytes (0: the default). */
int cm_view_new(cm_store *store, size_t cache, cm_view **view);
void cm_view_free(cm_view *view);
cm_store *cm_view_store(cm_view *view); /* borrowed */
size_t cm_view_cache_bytes(cm_view *view);
/* Called, on any thread, with what no caller is told: catching up with the writer failed and the old state is shown. */
void cm_view_on_trouble(cm_view *view, void (*trouble)(void *arg, const char *message), void *arg);

/* Shows one session, which must exist, at the top. Before anybody asks the view. */
int cm_view_show_session(cm_view *view, const char *session);

bool cm_view_is_root(const cm_view *view, cm_node session);

enum cm_file_type { CM_FILE_DIRECTORY = 1, CM_FILE_REGULAR, CM_FILE_LINK };

typedef struct cm_attributes {
    enum cm_file_type type;
    bool moves;     /* they may change; otherwise they hold for ever */
    bool writable;  /* by the owner: work/ and what is in it */
    uint64_t inode; /* for people and programs; see node.h */
    uint64_t size;
    uint64_t stored; /* bytes on disk */
    uint64_t links;
    int64_t time; /* of the last change, ns since the epoch; 0: not known */
} cm_attributes;

/*
 * -ENOENT: no such name there. *moves says, for success and for -ENOENT, whether another answer may come later; the node
 * itself always stays what it is.
 */
int cm_view_lookup(cm_view *view, cm_node parent, const char *name, cm_node *node, bool *moves);
int cm_view_attributes(cm_view *view, cm_node node, cm_attributes *attributes);
/* Does asking for the attributes mean more work than listing a directory should cause? */
bool cm_view_is_costly(cm_view *view, cm_node node);
/* The same without looking into the store: what kind of file the node is, and whether its content may change. */
enum cm_file_type cm_view_type(cm_node node);
bool cm_view_moves(cm_node node);

/* Whether the node belongs to a checkpoint that was removed: then reading it fails in some way or other. */
bool cm_view_is_gone(cm_view *view, cm_node node);

enum { CM_TARGET_MAX = 1024 };
/* -EINVAL: not a link. */
int cm_view_target(cm_view *view, cm_node node, char target[CM_TARGET_MAX]);

/*
 * An extended attribute, user.chipmink.<name> of pickles and files of work/: at most `room` bytes are written, the length of
 * the whole is returned. -ENODATA: no such attribute.
 */
int cm_view_fact(cm_view *view, cm_node node, const char *name, char *value, size_t room);

/* A directory's entries as they were when it was opened, without . and .. */
typedef struct cm_listing cm_listing;

typedef struct cm_listed {
    char name[CM_FILE_NAME_MAX + 1];
    cm_node node;
    uint64_t inode;
    bool moves; /* as of cm_view_lookup */
} cm_listed;

int cm_listing_open(cm_view *view, cm_node directory, cm_listing **listing);
void cm_listing_close(cm_listing *listing);
/* Does not block. -ENOENT: there are not that many. */
int cm_listing_at(const cm_listing *listing, uint64_t index, cm_listed *listed);

/* A file's content as it was when it was opened. */
typedef struct cm_content cm_content;

/* -EISDIR, -EINVAL: not a regular file. */
int cm_content_open(cm_view *view, cm_node node, cm_content **content);
void cm_content_close(cm_content *content);
int cm_content_size(cm_content *content, uint64_t *size);
/* *done is less than `size` only at the end. */
int cm_content_read(cm_content *content, uint64_t offset, void *buffer, size_t size, size_t *done);

#endif
