/* SPDX-License-Identifier: Apache-2.0 */
/* ops_private.h - what ops.c and work_ops.c share. */
#ifndef CM_OPS_PRIVATE_H
#define CM_OPS_PRIVATE_H

#include "ops.h"
#include "work.h"

struct cm_handle {
    cm_handle *next, **at; /* in the list: what points to it */
    cm_content *content;   /* of a file */
    cm_work_handle *work;  /* of a file of work/ */
    cm_listing *listing;   /* of a directory; the kernel serialises what it asks of one */
    bool used;             /* a rewind shows what is there then */
};

static inline cm_mounted *mounted_of(fuse_req_t request)
{
    return fuse_req_userdata(request);
}

static inline cm_handle *handle_of(const struct fuse_file_info *file)
{
    return (cm_handle *)(uintptr_t)file->fh;
}

/* Files are damaged or unreadable with EIO; the store's own words go to the log. */
void cm_ops_fail(fuse_req_t request, cm_node node, int error);
void cm_ops_fill_stat(const cm_mounted *mounted, const cm_attributes *attributes, struct stat *st);
/* A name and what it stands for, which has just been made or found. */
int cm_ops_entry(cm_mounted *mounted, cm_node node, bool moves, struct fuse_entry_param *entry);
/* NULL: no memory, and `what` has been closed. It is in the list of the open ones. */
cm_handle *cm_ops_handle(cm_mounted *mounted, cm_handle what);
void cm_ops_close(cm_mounted *mounted, cm_handle *handle);
void cm_ops_attributes(fuse_req_t request, fuse_ino_t node);

/* work_ops.c */
void cm_op_setattr(fuse_req_t request, fuse_ino_t node, struct stat *st, int set, struct fuse_file_info *file);
void cm_op_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *file);
void cm_op_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void cm_op_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode);
void cm_op_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name);
void cm_op_unlink(fuse_req_t request, fuse_ino_t parent, const char *name);
void cm_op_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name);
void cm_op_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
                  unsigned flags);
void cm_op_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name);
void cm_op_write(fuse_req_t request, fuse_ino_t node, const char *buffer, size_t size, off_t offset,
                 struct fuse_file_info *file);
void cm_op_flush(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file);
void cm_op_fsync(fuse_req_t request, fuse_ino_t node, int data_only, struct fuse_file_info *file);
void cm_op_fsyncdir(fuse_req_t request, fuse_ino_t node, int data_only, struct fuse_file_info *file);
void cm_op_copy(fuse_req_t request, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_file, fuse_ino_t to,
                off_t offset, struct fuse_file_info *file, size_t size, int flags);
void cm_op_getxattr(fuse_req_t request, fuse_ino_t node, const char *name, size_t size);
void cm_op_listxattr(fuse_req_t request, fuse_ino_t node, size_t size);

#endif
