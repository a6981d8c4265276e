/* SPDX-License-Identifier: Apache-2.0 */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "names.h"

#define cm_cleanup(f) __attribute__((cleanup(f)))

static void cleanup_memory(void *memory)
{
    free(*(void **)memory);
}

static void cleanup_file(FILE **file)
{
    if (*file != NULL)
        fclose(*file);
}

/* \040 and the like, in place. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s != '\0'; s++) {
        unsigned value;
        if (*s == '\\' && sscanf(s + 1, "%3o", &value) == 1) {
            *to++ = (char)value;
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

/* proc_pid_mountinfo(5): id parent major:minor root mount-point options [optional...] - type source options */
int cm_mount_find(const char *path, cm_mount_entry *entry)
{
    FILE *file cm_cleanup(cleanup_file) = fopen("/proc/self/mountinfo", "re");
    char *line cm_cleanup(cleanup_memory) = NULL;
    size_t room = 0;

    *entry = (cm_mount_entry){.mounted = false};
    if (file == NULL)
        return -errno;
    while (getline(&line, &room, file) > 0) {
        unsigned major, minor;
        int start = 0, end = 0;
        if (sscanf(line, "%*u %*u %u:%u %*s %n%*s%n", &major, &minor, &start, &end) != 2 || end == 0)
            continue;
        const char *type = strstr(line + end, " - ");
        if (type == NULL)
            continue;
        bool ours = strncmp(type + 3, "fuse.chipmink ", 14) == 0;
        line[end] = '\0';
        unescape(line + start);
        if (strcmp(line + start, path) == 0)
            *entry = (cm_mount_entry){
                .mounted = true, .ours = ours, .major = major, .minor = minor}; /* later ones are above */
    }
    return 0;
}

int cm_mount_path(const char *path, char **absolute)
{
    *absolute = realpath(path, NULL);
    if (*absolute != NULL)
        return 0;
    if (errno != ENOTCONN && errno != ECONNABORTED)
        return -errno;
    /* Dead: the directory it is in still has a path. */
    char *first cm_cleanup(cleanup_memory) = strdup(path);
    char *second cm_cleanup(cleanup_memory) = strdup(path);
    if (first == NULL || second == NULL)
        return -ENOMEM;
    char *parent cm_cleanup(cleanup_memory) = realpath(dirname(first), NULL);
    if (parent == NULL)
        return -errno;
    if (asprintf(absolute, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, basename(second)) < 0) {
        *absolute = NULL;
        return -ENOMEM;
    }
    return 0;
}

static int run_fusermount(const char *path, bool lazy)
{
    const char *const arguments[] = {"fusermount3", lazy ? "-uqz" : "-uq", "--", path, NULL};
    posix_spawn_file_actions_t actions;
    int status = 0;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int error = posix_spawnp(&pid, arguments[0], &actions, NULL, (char *const *)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0)
        return -EPERM;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int cm_mount_remove(const char *path, bool lazy)
{
    if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return 0;
    return errno == EPERM ? run_fusermount(path, lazy) : -errno;
}

/* Ours alone, or not used: others may make files in /tmp first. */
static int private_directory(const char *path)
{
    struct stat found;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    if (lstat(path, &found) < 0)
        return -errno;
    return S_ISDIR(found.st_mode) && found.st_uid == geteuid() && (found.st_mode & 077) == 0 ? 0 : -EPERM;
}

int cm_mount_log_path(const char *mount_point, char **path)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char *directory cm_cleanup(cleanup_memory) = NULL;
    char name[CM_FILE_NAME_MAX + 1];
    bool has_runtime = runtime != NULL && runtime[0] == '/' && access(runtime, W_OK) == 0;
    int result = has_runtime ? asprintf(&directory, "%s/chipmink", runtime)
                             : asprintf(&directory, "/tmp/chipmink-%u", (unsigned)geteuid());

    if (result < 0) {
        directory = NULL;
        return -ENOMEM;
    }
    result = private_directory(directory);
    if (result < 0)
        return result;
    cm_name_encode(mount_point, ".log", name);
    return asprintf(path, "%s/%s", directory, name) < 0 ? -ENOMEM : 0;
}

int cm_mount_log_lock(const char *log_path, bool create, int timeout_ms)
{
    const int step_ms = 20;
    int file = open(log_path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);

    if (file < 0)
        return -errno;
    while (flock(file, LOCK_EX | LOCK_NB) < 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || timeout_ms <= 0) {
            int error = errno;
            close(file);
            return -error;
        }
        usleep((useconds_t)step_ms * 1000);
        timeout_ms -= step_ms;
    }
    return file;
}
