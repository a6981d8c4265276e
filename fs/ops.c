/* SPDX-License-Identifier: Apache-2.0 */
#include "ops_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/*
 * What is immutable the kernel may keep until it needs the memory. What moves it asks for again after a quarter of a second, and
 * the view then looks into the store when it last did so a fifth of a second ago: a new checkpoint shows within half a second.
 */
#define FOR_EVER   86400.0 * 365
#define FOR_MOMENT 0.25

enum { BLOCK = 512, READ_SIZE_HINT = 128 << 10, BACKGROUND_REQUESTS = 64, DOTS = 2 };

#define cm_cleanup(f) __attribute__((cleanup(f)))

static void cleanup_memory(void *memory)
{
    free(*(void **)memory);
}

static void note_first_request(cm_mounted *mounted)
{
    if (!__atomic_load_n(&mounted->started, __ATOMIC_RELAXED) &&
        !__atomic_exchange_n(&mounted->started, 1, __ATOMIC_RELAXED) && mounted->first_request != NULL)
        mounted->first_request(mounted->arg);
}

/* What the asking program did, not the store. */
static bool is_callers(int error)
{
    static const int callers[] = {ENOENT, ESTALE,     ENOTDIR, EISDIR, EINVAL, EEXIST,
                                  EPERM,  EOPNOTSUPP, ENODATA, EXDEV,  EBADF,  EFBIG};

    for (size_t i = 0; i < sizeof callers / sizeof *callers; i++)
        if (error == -callers[i])
            return true;
    return false;
}

void cm_ops_fail(fuse_req_t request, cm_node node, int error)
{
    cm_mounted *mounted = mounted_of(request);

    if (!is_callers(error)) {
        char text[1200];
        snprintf(text, sizeof text, "node %016llx: %s: %s", (unsigned long long)node, strerror(-error),
                 cm_error_message());
        if (error == -EILSEQ && cm_view_is_gone(mounted->view, node))
            error = -ESTALE; /* not damage: it was removed */
        else
            mounted->trouble(mounted->arg, text);
    }
    if (error == -EILSEQ || error == -EPROTO || error == -EPROTONOSUPPORT || error == -EBADMSG)
        error = -EIO;
    fuse_reply_err(request, -error);
}

void cm_ops_fill_stat(const cm_mounted *mounted, const cm_attributes *attributes, struct stat *st)
{
    static const mode_t modes[] = {
        [CM_FILE_DIRECTORY] = S_IFDIR | 0555, [CM_FILE_REGULAR] = S_IFREG | 0444, [CM_FILE_LINK] = S_IFLNK | 0777};

    *st = (struct stat){
        .st_ino = attributes->inode,
        .st_mode = modes[attributes->type],
        .st_nlink = (nlink_t)attributes->links, /* 1 for directories: their subdirectories are not counted */
        .st_uid = mounted->uid,
        .st_gid = mounted->gid,
        .st_size = (off_t)attributes->size,
        .st_blksize = READ_SIZE_HINT,
    };
    if (attributes->writable)
        st->st_mode |= S_IWUSR;
    if ((!mounted->others || attributes->writable) && attributes->type != CM_FILE_LINK)
        st->st_mode &= ~(mode_t)0077;
    /* Tools take a file without blocks for one without data. */
    st->st_blocks = (blkcnt_t)((attributes->stored + BLOCK - 1) / BLOCK);
    if (st->st_blocks == 0 && attributes->size > 0 && attributes->type == CM_FILE_REGULAR)
        st->st_blocks = 1;
    st->st_mtim.tv_sec = (time_t)(attributes->time / 1000000000);
    st->st_mtim.tv_nsec = (long)(attributes->time % 1000000000);
    if (st->st_mtim.tv_nsec < 0) {
        st->st_mtim.tv_nsec += 1000000000;
        st->st_mtim.tv_sec--;
    }
    st->st_atim = st->st_ctim = st->st_mtim;
}

static void fill_entry(const cm_mounted *mounted, cm_node node, bool moves, const cm_attributes *attributes,
                       struct fuse_entry_param *entry)
{
    *entry = (struct fuse_entry_param){
        .ino = node,
        .generation = 1,
        .entry_timeout = moves ? FOR_MOMENT : FOR_EVER,
        .attr_timeout = attributes->moves ? FOR_MOMENT : FOR_EVER,
    };
    if (cm_node_is_place(node, CM_PLACE_ERRORS)) /* whoever has just mended something is not told of it any more */
        entry->entry_timeout = entry->attr_timeout = 0;
    cm_ops_fill_stat(mounted, attributes, &entry->attr);
}

int cm_ops_entry(cm_mounted *mounted, cm_node node, bool moves, struct fuse_entry_param *entry)
{
    cm_attributes attributes;
    int result = cm_view_attributes(mounted->view, node, &attributes);

    if (result == 0)
        fill_entry(mounted, node, moves, &attributes, entry);
    return result;
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

static void op_init(void *userdata, struct fuse_conn_info *connection)
{
    cm_mounted *mounted = userdata;

    connection->want |= connection->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS |
                                               FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ);
    /* With its own guess when attributes are wanted the kernel asks for most of a big directory's one by one. And splicing
     * what lies in memory is slower than writing it. Pages of files cannot be outdated. */
    connection->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                    FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA);
    connection->max_readahead = CM_READ_MAX;
    connection->max_background = BACKGROUND_REQUESTS;
    connection->congestion_threshold = BACKGROUND_REQUESTS * 3 / 4;
    connection->time_gran = 1;
    if (mounted->ready != NULL)
        mounted->ready(mounted->arg);
}

/* ---- names and attributes ------------------------------------------------------------------------------------------ */

static void op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    cm_mounted *mounted = mounted_of(request);
    struct fuse_entry_param entry;
    cm_node node = 0;
    bool moves = false;

    note_first_request(mounted);
    int result = cm_view_lookup(mounted->view, parent, name, &node, &moves);
    if (result == -ENOENT && !moves) {
        entry = (struct fuse_entry_param){.entry_timeout = FOR_EVER}; /* it will never be there */
        fuse_reply_entry(request, &entry);
        return;
    }
    if (result == 0)
        result = cm_ops_entry(mounted, node, moves, &entry);
    if (result < 0) {
        cm_ops_fail(request, result == -ENOENT ? parent : node, result);
        return;
    }
    fuse_reply_entry(request, &entry);
}

/* Nodes are places, not memory: there is nothing to forget. */
static void op_forget(fuse_req_t request, fuse_ino_t node, uint64_t lookups)
{
    (void)node;
    (void)lookups;
    fuse_reply_none(request);
}

static void op_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets)
{
    (void)count;
    (void)forgets;
    fuse_reply_none(request);
}

static void op_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    (void)file;
    note_first_request(mounted_of(request));
    cm_ops_attributes(request, node);
}

void cm_ops_attributes(fuse_req_t request, fuse_ino_t node)
{
    cm_mounted *mounted = mounted_of(request);
    cm_attributes attributes;
    struct stat st;

    int result = cm_view_attributes(mounted->view, node, &attributes);
    if (result < 0) {
        cm_ops_fail(request, node, result);
        return;
    }
    cm_ops_fill_stat(mounted, &attributes, &st);
    fuse_reply_attr(request, &st, attributes.moves ? FOR_MOMENT : FOR_EVER);
}

static void op_readlink(fuse_req_t request, fuse_ino_t node)
{
    char target[CM_TARGET_MAX];
    int result = cm_view_target(mounted_of(request)->view, node, target);

    if (result < 0)
        cm_ops_fail(request, node, result);
    else
        fuse_reply_readlink(request, target);
}

/* The disk the store is on. */
static void op_statfs(fuse_req_t request, fuse_ino_t node)
{
    struct statvfs disk;

    (void)node;
    if (statvfs(cm_store_path(cm_view_store(mounted_of(request)->view)), &disk) < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    disk.f_namemax = CM_FILE_NAME_MAX;
    if (cm_view_work(mounted_of(request)->view) == NULL)
        disk.f_flag |= ST_RDONLY;
    fuse_reply_statfs(request, &disk);
}

/* ---- open files and directories ------------------------------------------------------------------------------------ */

void cm_ops_close(cm_mounted *mounted, cm_handle *handle)
{
    pthread_mutex_lock(&mounted->lock);
    *handle->at = handle->next;
    if (handle->next != NULL)
        handle->next->at = handle->at;
    pthread_mutex_unlock(&mounted->lock);
    cm_content_close(handle->content);
    cm_work_close(handle->work);
    cm_listing_close(handle->listing);
    free(handle);
}

cm_handle *cm_ops_handle(cm_mounted *mounted, cm_handle what)
{
    cm_handle *handle = malloc(sizeof *handle);

    if (handle == NULL) {
        cm_content_close(what.content);
        cm_work_close(what.work);
        cm_listing_close(what.listing);
        return NULL;
    }
    *handle = what;
    pthread_mutex_lock(&mounted->lock);
    handle->next = mounted->handles;
    handle->at = &mounted->handles;
    if (handle->next != NULL)
        handle->next->at = &handle->next;
    mounted->handles = handle;
    pthread_mutex_unlock(&mounted->lock);
    return handle;
}

/* Takes over what `what` holds and replies that it is open. */
static void reply_handle(fuse_req_t request, struct fuse_file_info *file, cm_handle what)
{
    cm_mounted *mounted = mounted_of(request);
    cm_handle *handle = cm_ops_handle(mounted, what);

    if (handle == NULL) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    file->fh = (uintptr_t)handle;
    if (fuse_reply_open(request, file) != 0) /* interrupted: there will be no release */
        cm_ops_close(mounted, handle);
}

static void op_release(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    (void)node;
    cm_ops_close(mounted_of(request), handle_of(file));
    fuse_reply_err(request, 0);
}

void cm_ops_close_all(cm_mounted *mounted)
{
    while (mounted->handles != NULL)
        cm_ops_close(mounted, mounted->handles);
}

/* Beside the timeouts: who has just made a checkpoint with an fsync sees it. */
void cm_ops_moved(void *arg, cm_node session, const char *branch)
{
    cm_mounted *mounted = arg;
    char name[CM_FILE_NAME_MAX + 1];
    cm_node parent = cm_view_is_root(mounted->view, session) ? FUSE_ROOT_ID : session;

    if (mounted->kernel == NULL)
        return;
    /* What the kernel has not cached it need not forget: failures do not matter. */
    (void)fuse_lowlevel_notify_inval_entry(mounted->kernel, parent, "head", strlen("head"));
    if (branch != NULL) {
        cm_name_encode(branch, "", name);
        (void)fuse_lowlevel_notify_inval_entry(mounted->kernel, cm_node_sibling(session, CM_PLACE_BRANCHES), name,
                                               strlen(name));
    }
}

/* ---- directories ------------------------------------------------------------------------------------------------- */

static void op_opendir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    cm_mounted *mounted = mounted_of(request);
    cm_listing *listing = NULL;

    note_first_request(mounted);
    int result = cm_listing_open(mounted->view, node, &listing);
    if (result < 0) {
        cm_ops_fail(request, node, result);
        return;
    }
    file->keep_cache = file->cache_readdir = !cm_view_moves(node);
    reply_handle(request, file, (cm_handle){.listing = listing});
}

/*
 * Adds the entry at `offset` to a reply; 0: it does not fit. With `plus` its attributes go with it, unless they are costly or
 * cannot be had: then the kernel asks for that one when somebody wants to know.
 */
static size_t add_entry(fuse_req_t request, char *at, size_t room, const cm_listed *listed, off_t offset, bool plus)
{
    const cm_mounted *mounted = mounted_of(request);
    struct fuse_entry_param entry = {.attr = {.st_ino = listed->inode}};
    cm_attributes attributes;
    static const mode_t types[] = {
        [CM_FILE_DIRECTORY] = S_IFDIR, [CM_FILE_REGULAR] = S_IFREG, [CM_FILE_LINK] = S_IFLNK};

    entry.attr.st_mode = types[cm_view_type(listed->node)];
    if (!plus)
        return fuse_add_direntry(request, at, room, listed->name, &entry.attr, offset + 1);
    if (offset >= DOTS && !cm_view_is_costly(mounted->view, listed->node) &&
        cm_view_attributes(mounted->view, listed->node, &attributes) == 0)
        fill_entry(mounted, listed->node, listed->moves, &attributes, &entry);
    return fuse_add_direntry_plus(request, at, room, listed->name, &entry, offset + 1);
}

static void read_directory(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *file,
                           bool plus)
{
    cm_mounted *mounted = mounted_of(request);
    cm_handle *opened = handle_of(file);
    size_t used = 0;
    int result = 0;

    if (offset == 0 && opened->used && cm_view_moves(node)) {
        cm_listing *fresh = NULL;
        result = cm_listing_open(mounted->view, node, &fresh);
        if (result == 0) {
            cm_listing_close(opened->listing);
            opened->listing = fresh;
        }
    }
    opened->used = true;
    char *reply cm_cleanup(cleanup_memory) = malloc(size);
    if (reply == NULL)
        result = -ENOMEM;
    if (result < 0) {
        cm_ops_fail(request, node, result);
        return;
    }
    for (;; offset++) {
        cm_listed listed = {.node = node, .inode = node};
        if (offset < DOTS)
            strcpy(listed.name, offset == 0 ? "." : "..");
        else if (cm_listing_at(opened->listing, (uint64_t)offset - DOTS, &listed) < 0)
            break;
        size_t entry = add_entry(request, reply + used, size - used, &listed, offset, plus);
        if (entry > size - used)
            break;
        used += entry;
    }
    fuse_reply_buf(request, reply, used);
}

static void op_readdir(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *file)
{
    read_directory(request, node, size, offset, file, false);
}

static void op_readdirplus(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *file)
{
    read_directory(request, node, size, offset, file, true);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* What is cached of a file that can change is looked at again with each open. */
static void open_work(fuse_req_t request, fuse_ino_t node, unsigned flags, struct fuse_file_info *file)
{
    cm_work *work = cm_view_work(mounted_of(request)->view);
    cm_work_handle *handle = NULL;
    int result = work != NULL ? cm_work_open(work, node, flags, &handle) : -ESTALE;

    if (result < 0)
        cm_ops_fail(request, node, result);
    else
        reply_handle(request, file, (cm_handle){.work = handle});
}

static void op_open(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    cm_content *content = NULL;
    bool writing = (file->flags & O_ACCMODE) != O_RDONLY;

    if (cm_node_type(node) == CM_NODE_WORK) {
        unsigned flags = (writing ? CM_WORK_WRITE : 0U) | (file->flags & O_TRUNC ? CM_WORK_TRUNCATE : 0U);
        open_work(request, node, flags, file);
        return;
    }
    if (writing) {
        fuse_reply_err(request, EROFS);
        return;
    }
    int result = cm_content_open(mounted_of(request)->view, node, &content);
    if (result < 0) {
        cm_ops_fail(request, node, result);
        return;
    }
    file->direct_io = cm_view_moves(node);
    file->keep_cache = !file->direct_io;
    reply_handle(request, file, (cm_handle){.content = content});
}

/* The calling thread's, made at its first read and freed with the thread. */
static void *read_buffer(cm_mounted *mounted)
{
    void *buffer = pthread_getspecific(mounted->buffers);

    if (buffer == NULL && posix_memalign(&buffer, 4096, CM_READ_MAX) == 0 &&
        pthread_setspecific(mounted->buffers, buffer) != 0) {
        free(buffer);
        buffer = NULL;
    }
    return buffer;
}

static void op_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *file)
{
    void *buffer = read_buffer(mounted_of(request));
    size_t done = 0;

    if (size > CM_READ_MAX)
        size = CM_READ_MAX;
    cm_handle *handle = handle_of(file);
    int result = -ENOMEM;
    if (buffer != NULL && handle->work != NULL)
        result = cm_work_read(handle->work, (uint64_t)offset, buffer, size, &done);
    else if (buffer != NULL)
        result = cm_content_read(handle->content, (uint64_t)offset, buffer, size, &done);
    if (result < 0)
        cm_ops_fail(request, node, result);
    else
        fuse_reply_buf(request, buffer, done);
}

const struct fuse_lowlevel_ops cm_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = cm_op_setattr,
    .readlink = op_readlink,
    .create = cm_op_create,
    .mknod = cm_op_mknod,
    .mkdir = cm_op_mkdir,
    .symlink = cm_op_symlink,
    .unlink = cm_op_unlink,
    .rmdir = cm_op_rmdir,
    .rename = cm_op_rename,
    .link = cm_op_link,
    .write = cm_op_write,
    .copy_file_range = cm_op_copy,
    .flush = cm_op_flush,
    .fsync = cm_op_fsync,
    .fsyncdir = cm_op_fsyncdir,
    .getxattr = cm_op_getxattr,
    .listxattr = cm_op_listxattr,
    .statfs = op_statfs,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_release,
    .open = op_open,
    .read = op_read,
    .release = op_release,
};
