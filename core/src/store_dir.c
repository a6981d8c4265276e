/* SPDX-License-Identifier: Apache-2.0 */
#include "store_dir.h"

#include "buffer.h"
#include "error.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char seal_name[] = "CHIPMINK";
static const char seal_new_name[] = "CHIPMINK.new";
static const char seal_format[] = "chipmink store %llu\n";
static const char lock_name[] = "writer.lock";

enum { PRIVATE_DIR_ROOM = 1 << 20 };

static void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static void cleanup_closedir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static int fail_errno(const char *what, const char *path)
{
    int error = errno;
    return cm_fail(error, "cannot %s %s: %s", what, path, strerror(error));
}

/* At most `capacity` - 1 bytes of a small file, as a string; the size or -1 with errno. */
static ssize_t read_small(int directory, const char *name, char *text, size_t capacity)
{
    int fd cm_cleanup(cleanup_close) = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t size = 0;
    while (size < capacity - 1) {
        ssize_t n = read(fd, text + size, capacity - 1 - size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        size += (size_t)n;
    }
    text[size] = 0;
    return (ssize_t)size;
}

/* ---- the seal ---------------------------------------------------------------------------------------------------- */

/* 0: sealed by this version or an older one; -ENOENT without a sentence: not sealed. */
static int check_seal(int directory, const char *path)
{
    char text[64];
    ssize_t size = read_small(directory, seal_name, text, sizeof text);
    if (size < 0 && errno == ENOENT)
        return -ENOENT;
    if (size < 0)
        return fail_errno("read file CHIPMINK of store", path);
    unsigned long long version = 0;
    char canonical[64];
    if (sscanf(text, seal_format, &version) == 1)
        snprintf(canonical, sizeof canonical, seal_format, version);
    else
        canonical[0] = 0;
    if (version == 0 || strcmp(text, canonical) != 0 || (size_t)size != strlen(text))
        return cm_fail(EINVAL,
                       "%s is not a Chipmink store, or is damaged: its file CHIPMINK does not say 'chipmink store %d'; "
                       "restore that file or choose another directory",
                       path, CM_STORE_VERSION);
    if (version > CM_STORE_VERSION)
        return cm_fail(EPROTONOSUPPORT,
                       "store %s has format version %llu, but this Chipmink supports versions up to %d; "
                       "use a newer Chipmink",
                       path, version, CM_STORE_VERSION);
    return 0;
}

/* What an interrupted creation may have left; in anything else we do not make a store. */
static int check_makeable(int directory, const char *path)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir cm_cleanup(cleanup_closedir) = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int result = fail_errno("list", path);
        if (fd >= 0)
            close(fd);
        return result;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, "db") != 0 &&
            strcmp(name, lock_name) != 0 && strcmp(name, seal_new_name) != 0 && strcmp(name, "server.log") != 0)
            return cm_fail(ENOTEMPTY,
                           "%s is no Chipmink store and is not empty (it holds '%s'); choose an empty or new directory",
                           path, name);
    }
    /* An existing empty directory becomes the user's alone too; and no umask makes it less than that. */
    if (fchmod(directory, 0700) < 0)
        return fail_errno("make private the directory", path);
    return 0;
}

int cm_store_dir_prepare(const char *path, unsigned flags, char **absolute, bool *fresh)
{
    bool create = flags & CM_OPEN_CREATE;
    *fresh = false;
    if (create && mkdir(path, 0700) < 0 && errno != EEXIST) {
        if (errno == ENOENT)
            return cm_fail(ENOENT, "cannot make store %s: its parent directory does not exist; make that first", path);
        return fail_errno("make store", path);
    }
    int directory cm_cleanup(cleanup_close) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 && errno == EACCES && create && chmod(path, 0700) == 0) /* our mkdir under a strange umask */
        directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 && errno == ENOENT)
        return cm_fail(ENOENT, "there is no store at %s; the first save makes one, or give the path of another", path);
    if (directory < 0)
        return fail_errno("open store", path);
    int result = check_seal(directory, path);
    if (result == -ENOENT && !create)
        return cm_fail(ENOENT, "%s is not a Chipmink store (it has no file CHIPMINK); give the path of a store", path);
    if (result == -ENOENT) {
        *fresh = true;
        result = check_makeable(directory, path);
    }
    if (result < 0)
        return result;
    *absolute = realpath(path, NULL);
    return *absolute ? 0 : fail_errno("resolve the path of store", path);
}

static int write_seal(int directory)
{
    char text[64];
    int size = snprintf(text, sizeof text, seal_format, (unsigned long long)CM_STORE_VERSION);
    int fd cm_cleanup(cleanup_close) =
        openat(directory, seal_new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return -1;
    ssize_t n = write(fd, text, (size_t)size);
    if (n >= 0 && n != size)
        errno = ENOSPC;
    if (n != size || fsync(fd) < 0)
        return -1;
    return 0;
}

int cm_store_dir_seal(const char *path)
{
    int directory cm_cleanup(cleanup_close) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || write_seal(directory) < 0 || renameat(directory, seal_new_name, directory, seal_name) < 0 ||
        fsync(directory) < 0)
        return fail_errno("write file CHIPMINK of store", path);
    return 0;
}

/* ---- the writer's lock ------------------------------------------------------------------------------------------- */

/* When a process was started, in clock ticks since boot: with the pid, its identity. 0: no such process. */
static unsigned long long process_start(long pid)
{
    char name[64], text[1024];
    snprintf(name, sizeof name, "/proc/%ld/stat", pid);
    if (read_small(AT_FDCWD, name, text, sizeof text) < 0)
        return 0;
    char *at = strrchr(text, ')'); /* the command's name may hold anything; then fields 3 ... 22 */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

typedef struct holder {
    long pid;
    unsigned long long start;
    char role[16], command[160];
    bool alive;
} holder;

/* Whom the lock file names; zeros when that cannot be told. */
static holder read_holder(const char *path)
{
    holder who = {0};
    int directory cm_cleanup(cleanup_close) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char text[512];
    if (directory < 0 || read_small(directory, lock_name, text, sizeof text) <= 0)
        return who;
    if (sscanf(text, "pid %ld\nstart %llu\nrole %15s\ncommand %159[^\n]", &who.pid, &who.start, who.role, who.command) <
            2 ||
        who.pid <= 0)
        return (holder){0};
    who.alive = process_start(who.pid) == who.start && who.start != 0;
    return who;
}

int cm_writer_lock_refuse(const char *path)
{
    holder who = read_holder(path);
    if (!who.alive)
        return cm_fail(EBUSY, "store %s is being written by another process; close it there, or open for reading",
                       path);
    if (who.pid == (long)getpid())
        return cm_fail(EBUSY,
                       "store %s is already open for writing in this process (%ld); use that one, or open for reading",
                       path, who.pid);
    return cm_fail(EBUSY, "store %s is being written by process %ld (%s); close it there, or open for reading", path,
                   who.pid, who.command);
}

/*
 * An open file description's lock: it conflicts within a process too, and closing another descriptor of the file does
 * not drop it. But children made by fork keep it alive after their parent's death. So when the process named in the
 * file is dead, the lock is passed over: the database has a lock of its own, which dies with its process, and decides.
 */
int cm_writer_lock_take(const char *path, int *out)
{
    char name[PATH_MAX];
    if (snprintf(name, sizeof name, "%s/%s", path, lock_name) >= (int)sizeof name)
        return cm_fail(ENAMETOOLONG, "the path of store %s is too long; use a shorter one", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_errno("open for writing", name);
    (void)!fchmod(fd, 0600); /* not ours when the store is shared on purpose: then it has the mode it was given */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        int error = errno;
        holder who = read_holder(path);
        bool orphaned = (error == EAGAIN || error == EACCES) && who.pid > 0 && !who.alive;
        if (!orphaned) {
            close(fd);
            errno = error;
            return error == EAGAIN || error == EACCES ? cm_writer_lock_refuse(path) : fail_errno("lock", name);
        }
    }
    *out = fd;
    return 0;
}

static const char embedded_role[] = "embedded";

void cm_writer_lock_sign(int fd, bool serves)
{
    char command[160];
    ssize_t size = read_small(AT_FDCWD, "/proc/self/cmdline", command, sizeof command);
    if (size <= 0)
        size = snprintf(command, sizeof command, "unknown");
    while (size > 0 && command[size - 1] == 0)
        size--;
    for (ssize_t i = 0; i < size; i++)
        if ((unsigned char)command[i] < ' ' || command[i] == 127)
            command[i] = ' ';
    command[size] = 0;
    char text[512];
    int length = snprintf(text, sizeof text, "pid %ld\nstart %llu\nrole %s\ncommand %s\n", (long)getpid(),
                          process_start((long)getpid()), serves ? "server" : embedded_role, command);
    /* Who cannot be named for want of space is still locked. */
    if (pwrite(fd, text, (size_t)length, 0) == length)
        (void)!ftruncate(fd, length);
}

void cm_writer_lock_leave(int fd)
{
    char text[32];
    long pid;
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = 0;
    if (sscanf(text, "pid %ld", &pid) == 1 && pid == (long)getpid()) /* else it is not ours: see cm_writer_lock_take */
        (void)!ftruncate(fd, 0);
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    (void)fcntl(fd, F_OFD_SETLK,
                &lock); /* closing alone would leave it to children made by fork, as long as they live */
    close(fd);
}

bool cm_writer_lock_is_embedded(const char *path)
{
    holder who = read_holder(path);
    return who.alive && strcmp(who.role, embedded_role) == 0;
}

/* ---- directories -------------------------------------------------------------------------------------------------- */

int cm_private_dir_make(char **out)
{
    const char *parents[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp", "/dev/shm"};
    errno = ENOSPC;
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        if (!parents[i] || parents[i][0] != '/')
            continue;
        struct statvfs fs; /* RocksDB's assertions do not survive a full disk, see rocksdb_handle.c */
        if (statvfs(parents[i], &fs) < 0 || fs.f_bavail < PRIVATE_DIR_ROOM / fs.f_frsize)
            continue;
        char *path cm_cleanup(cm_cleanup_free) = NULL;
        if (asprintf(&path, "%s/chipmink-XXXXXX", parents[i]) < 0) {
            path = NULL;
            return cm_fail(ENOMEM, "out of memory");
        }
        if (mkdtemp(path)) {
            *out = path;
            path = NULL;
            return 0;
        }
    }
    return fail_errno("make a private directory in", "/tmp (free some space there, or set XDG_RUNTIME_DIR)");
}

void cm_private_dir_remove(const char *path)
{
    DIR *dir cm_cleanup(cleanup_closedir) = opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    rmdir(path);
}

static int add_disk_bytes(int directory, unsigned depth, uint64_t *bytes)
{
    DIR *dir cm_cleanup(cleanup_closedir) = fdopendir(directory);
    if (!dir) {
        close(directory);
        return -1;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat st;
        if (strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue; /* removed meanwhile */
        if (!S_ISDIR(st.st_mode) || strcmp(entry->d_name, ".") == 0) {
            *bytes += (uint64_t)st.st_blocks * 512;
        } else if (depth < 8) {
            int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            if (fd >= 0 && add_disk_bytes(fd, depth + 1, bytes) < 0)
                return -1;
        }
    }
    return 0;
}

int cm_dir_disk_bytes(const char *path, uint64_t *bytes)
{
    *bytes = 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || add_disk_bytes(fd, 0, bytes) < 0)
        return fail_errno("list", path);
    return 0;
}
