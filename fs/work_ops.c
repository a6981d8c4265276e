/* SPDX-License-Identifier: Apache-2.0 */
/* work_ops.c - the kernel's requests that change something, and those for extended attributes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops_private.h"

enum { FACT_MOST = 1024 };

/* Nothing but work/ can be changed. NULL: refused, and told. */
static cm_work *work_of(fuse_req_t request, cm_node node)
{
    cm_work *work = cm_view_work(mounted_of(request)->view);

    if (work != NULL && (cm_node_type(node) == CM_NODE_WORK || cm_node_is_place(node, CM_PLACE_WORK)))
        return work;
    fuse_reply_err(request, EROFS);
    return NULL;
}

static void reply_result(fuse_req_t request, cm_node node, int result)
{
    if (result < 0)
        cm_ops_fail(request, node, result);
    else
        fuse_reply_err(request, 0);
}

static void reply_new(fuse_req_t request, cm_node node, int result)
{
    struct fuse_entry_param entry;

    if (result == 0)
        result = cm_ops_entry(mounted_of(request), node, true, &entry);
    if (result < 0)
        cm_ops_fail(request, node, result);
    else
        fuse_reply_entry(request, &entry);
}

/* Modes and owners are what they are: programs that copy them along are not to fail for it. */
void cm_op_setattr(fuse_req_t request, fuse_ino_t node, struct stat *st, int set, struct fuse_file_info *file)
{
    cm_work *work = work_of(request, node);
    int result = 0;

    (void)file;
    if (work == NULL)
        return;
    if (cm_node_type(node) == CM_NODE_WORK) {
        if (set & FUSE_SET_ATTR_SIZE)
            result = st->st_size < 0 ? -EINVAL : cm_work_truncate(work, node, (uint64_t)st->st_size);
        if (result == 0 && set & FUSE_SET_ATTR_MTIME && !(set & FUSE_SET_ATTR_MTIME_NOW))
            result = cm_work_set_time(work, node, (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec);
    }
    if (result < 0)
        cm_ops_fail(request, node, result);
    else
        cm_ops_attributes(request, node);
}

void cm_op_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *file)
{
    cm_mounted *mounted = mounted_of(request);
    cm_work *work = work_of(request, parent);
    cm_work_handle *opened = NULL;
    struct fuse_entry_param entry;
    cm_node node = 0;

    (void)mode;
    if (work == NULL)
        return;
    unsigned flags = ((file->flags & O_ACCMODE) != O_RDONLY ? CM_WORK_WRITE : 0U) |
                     (file->flags & O_EXCL ? CM_WORK_EXCLUSIVE : 0U) | (file->flags & O_TRUNC ? CM_WORK_TRUNCATE : 0U);
    int result = cm_work_create(work, parent, name, flags, &node, &opened);
    if (result == 0)
        result = cm_ops_entry(mounted, node, true, &entry);
    if (result < 0) {
        cm_work_close(opened);
        cm_ops_fail(request, parent, result);
        return;
    }
    cm_handle *handle = cm_ops_handle(mounted, (cm_handle){.work = opened});
    if (handle == NULL) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    file->fh = (uintptr_t)handle;
    if (fuse_reply_create(request, &entry, file) != 0)
        cm_ops_close(mounted, handle);
}

static void refuse_making(fuse_req_t request, cm_node parent)
{
    if (work_of(request, parent) != NULL)
        fuse_reply_err(request, EPERM);
}

void cm_op_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    (void)name;
    (void)mode;
    (void)device;
    refuse_making(request, parent);
}

void cm_op_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)name;
    (void)mode;
    refuse_making(request, parent);
}

void cm_op_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name)
{
    (void)target;
    (void)name;
    refuse_making(request, parent);
}

void cm_op_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    cm_work *work = work_of(request, parent);

    if (work != NULL)
        reply_result(request, parent, cm_work_unlink(work, parent, name));
}

/* There are no directories in work/. */
void cm_op_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    (void)name;
    if (work_of(request, parent) != NULL)
        fuse_reply_err(request, ENOTDIR);
}

void cm_op_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
                  unsigned flags)
{
    cm_work *work = work_of(request, parent);

    if (work != NULL && work_of(request, new_parent) != NULL)
        reply_result(request, parent, cm_work_rename(work, parent, name, new_parent, new_name, flags));
}

void cm_op_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name)
{
    cm_work *work = work_of(request, new_parent);
    cm_node made = 0;

    if (work == NULL)
        return;
    int result = cm_work_link(work, node, new_parent, new_name, &made);
    reply_new(request, made, result);
}

void cm_op_write(fuse_req_t request, fuse_ino_t node, const char *buffer, size_t size, off_t offset,
                 struct fuse_file_info *file)
{
    cm_work_handle *handle = handle_of(file)->work;
    int result = handle != NULL ? cm_work_write(handle, (uint64_t)offset, buffer, size) : -EBADF;

    if (result < 0)
        cm_ops_fail(request, node, result);
    else
        fuse_reply_write(request, size);
}

void cm_op_flush(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    cm_work_handle *handle = handle_of(file)->work;

    reply_result(request, node, handle != NULL ? cm_work_flush(handle) : 0);
}

void cm_op_fsync(fuse_req_t request, fuse_ino_t node, int data_only, struct fuse_file_info *file)
{
    cm_work_handle *handle = handle_of(file)->work;

    (void)data_only;
    reply_result(request, node, handle != NULL ? cm_work_fsync(handle) : 0);
}

void cm_op_fsyncdir(fuse_req_t request, fuse_ino_t node, int data_only, struct fuse_file_info *file)
{
    cm_work *work = cm_view_work(mounted_of(request)->view);

    (void)data_only;
    (void)file;
    reply_result(request, node, work != NULL && cm_node_is_place(node, CM_PLACE_WORK) ? cm_work_sync(work, node) : 0);
}

void cm_op_copy(fuse_req_t request, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_file, fuse_ino_t to,
                off_t offset, struct fuse_file_info *file, size_t size, int flags)
{
    cm_work_handle *handle = handle_of(file)->work;
    uint64_t done = 0;

    (void)from_file;
    (void)flags;
    int result =
        handle != NULL ? cm_work_copy(handle, (uint64_t)offset, from, (uint64_t)from_offset, size, &done) : -EOPNOTSUPP;
    if (result < 0)
        cm_ops_fail(request, to, result);
    else
        fuse_reply_write(request, (size_t)done);
}

/*
 * ls and cp ask for names of the system with each file; told that these are not supported here, rather than not there, they stop
 * asking.
 */
void cm_op_getxattr(fuse_req_t request, fuse_ino_t node, const char *name, size_t size)
{
    char value[FACT_MOST];

    if (strncmp(name, "user.", 5) != 0) {
        fuse_reply_err(request, EOPNOTSUPP);
        return;
    }
    int length = cm_view_fact(mounted_of(request)->view, node, name, value, sizeof value);
    if (length >= FACT_MOST)
        length = -E2BIG;
    if (length < 0)
        cm_ops_fail(request, node, length);
    else if (size == 0)
        fuse_reply_xattr(request, (size_t)length);
    else if (size < (size_t)length)
        fuse_reply_err(request, ERANGE);
    else
        fuse_reply_buf(request, value, (size_t)length);
}

/* They can be asked for by name; listed, every `cp -a` would ask for each. */
void cm_op_listxattr(fuse_req_t request, fuse_ino_t node, size_t size)
{
    (void)node;
    if (size == 0)
        fuse_reply_xattr(request, 0);
    else
        fuse_reply_buf(request, NULL, 0);
}
