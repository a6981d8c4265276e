/* SPDX-License-Identifier: Apache-2.0 */
#include "mount.h"

#include <chipmink/chipmink.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon.h"
#include "mounts.h"

enum { EXIT_USAGE = 2, DAEMON_END_MS = 10000 };

#define cm_cleanup(f) __attribute__((cleanup(f)))

static void cleanup_memory(void *memory)
{
    free(*(void **)memory);
}

static const char mount_usage[] =
    "Usage: chipmink mount [--store DIR] [--session NAME] [--embedded] [--foreground] [--allow-other] MOUNTPOINT\n"
    "Show the store as ordinary files below MOUNTPOINT, an existing directory. What can be changed is in work/.\n\n"
    "  -S, --store DIR     the store ($CHIPMINK_STORE, or else ~/.chipmink)\n"
    "  -n, --session NAME  show this session alone, at the top\n"
    "  -E, --embedded      read the store without its server, beside whoever writes it: nothing can be changed\n"
    "  -f, --foreground    stay attached; Ctrl-C unmounts\n"
    "      --allow-other   let other users read it too (as root, or with user_allow_other in /etc/fuse.conf)\n"
    "  -h, --help          this text\n\n"
    "Exit codes: 0 mounted, 1 failed, 2 wrong arguments. Unmount with `chipmink umount MOUNTPOINT`.\n";

static const char umount_usage[] =
    "Usage: chipmink umount [--lazy] MOUNTPOINT\n"
    "Take a mount away and wait until its daemon has ended. Works on mounts whose daemon has died too.\n\n"
    "  -z, --lazy          also when it is in use: it goes when its last user does\n"
    "  -h, --help          this text\n\n"
    "Exit codes: 0 unmounted, 1 failed, 2 wrong arguments.\n";

__attribute__((format(printf, 2, 3))) static int fail(const char *command, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "chipmink %s: ", command);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return EXIT_FAILURE;
}

/* ---- mount ------------------------------------------------------------------------------------------------------- */

typedef struct mount_request {
    const char *store_option, *session, *directory;
    bool foreground, embedded, allow_other, help;
    char *store, *mount_point; /* absolute */
} mount_request;

static void request_clear(mount_request *request)
{
    free(request->store);
    free(request->mount_point);
}

static int parse_mount(int argc, char **argv, mount_request *request)
{
    enum { ALLOW_OTHER = 256 };
    static const struct option options[] = {{"store", required_argument, NULL, 'S'},
                                            {"session", required_argument, NULL, 'n'},
                                            {"embedded", no_argument, NULL, 'E'},
                                            {"foreground", no_argument, NULL, 'f'},
                                            {"allow-other", no_argument, NULL, ALLOW_OTHER},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;

    optind = 0; /* glibc: begin anew */
    while ((option = getopt_long(argc, argv, "S:n:Efh", options, NULL)) != -1) {
        switch (option) {
        case 'S':
            request->store_option = optarg;
            break;
        case 'f':
            request->foreground = true;
            break;
        case 'n':
            request->session = optarg;
            break;
        case 'E':
            request->embedded = true;
            break;
        case ALLOW_OTHER:
            request->allow_other = true;
            break;
        case 'h':
            request->help = true;
            return 0;
        default:
            return EXIT_USAGE;
        }
    }
    if (optind + 1 != argc)
        return EXIT_USAGE;
    request->directory = argv[optind];
    return 0;
}

static int find_store(mount_request *request)
{
    char *named cm_cleanup(cleanup_memory) = NULL;
    struct stat found;

    if (request->store_option != NULL)
        named = strdup(request->store_option);
    else if (cm_store_default_path(&named) < 0)
        return fail("mount", "%s", cm_error_message());
    request->store = named != NULL ? realpath(named, NULL) : NULL;
    if (request->store == NULL && errno == ENOENT)
        return fail(
            "mount",
            "no store at %s yet: save a first checkpoint (chipmink.open(...).session(...).save(...) in Python), or "
            "name the store with --store DIR",
            named != NULL ? named : "?");
    if (request->store == NULL || stat(request->store, &found) < 0)
        return fail("mount", "cannot use the store %s: %s", named != NULL ? named : "?", strerror(errno));
    if (!S_ISDIR(found.st_mode))
        return fail("mount", "%s is no store: it is not a directory", request->store);
    return 0;
}

/* The path itself or something below it. */
static bool is_inside(const char *path, const char *directory)
{
    size_t length = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* Takes away mounts whose daemon was killed: all that can be done with one. */
static int heal(const char *path)
{
    cm_mount_entry entry;
    struct statvfs found;

    /* Not stat: that the kernel may answer by itself for a while. */
    while (statvfs(path, &found) < 0 && (errno == ENOTCONN || errno == ECONNABORTED)) {
        int result = cm_mount_find(path, &entry);
        if (result < 0 || !entry.ours)
            return fail("mount", "%s is a broken mount of something else: unmount it first", path);
        result = cm_mount_remove(path, true);
        if (result < 0)
            return fail("mount", "%s is a mount whose daemon has died, and it cannot be unmounted: %s", path,
                        strerror(-result));
    }
    return 0;
}

static int check_mount_point(mount_request *request)
{
    cm_mount_entry entry;
    struct stat found;
    int result = cm_mount_path(request->directory, &request->mount_point);

    if (result == -ENOENT)
        return fail("mount", "there is no directory %s: make it first (mkdir -p)", request->directory);
    if (result < 0)
        return fail("mount", "cannot use %s: %s", request->directory, strerror(-result));
    const char *path = request->mount_point;
    result = heal(path);
    if (result != 0)
        return result;
    if (stat(path, &found) < 0)
        return fail("mount", "cannot use %s: %s", path, strerror(errno));
    if (!S_ISDIR(found.st_mode))
        return fail("mount", "%s is not a directory", path);
    if (is_inside(path, request->store))
        return fail("mount", "%s is inside the store %s: choose a directory outside of it", path, request->store);
    if (is_inside(request->store, path))
        return fail("mount", "the store %s is inside %s and would be hidden: choose another directory", request->store,
                    path);
    result = cm_mount_find(path, &entry);
    if (result < 0)
        return fail("mount", "cannot read /proc/self/mountinfo: %s", strerror(-result));
    if (entry.ours)
        return fail("mount", "a chipmink store is mounted at %s already: `chipmink umount %s` first", path, path);
    if (entry.mounted)
        return fail("mount", "%s is the mount point of another file system: choose an ordinary directory", path);
    return 0;
}

static int check_fuse(void)
{
    if (access("/dev/fuse", F_OK) < 0)
        return fail("mount",
                    "/dev/fuse is missing: load the kernel module (modprobe fuse); in a container, start it with "
                    "--device /dev/fuse --cap-add SYS_ADMIN");
    if (access("/dev/fuse", R_OK | W_OK) < 0)
        return fail("mount", "/dev/fuse cannot be opened: %s", strerror(errno));
    return 0;
}

/* The log, locked for the daemon to come: it keeps others from mounting there, and tells umount when the daemon has ended. */
static int take_log(const mount_request *request, char **path, int *log)
{
    int result = cm_mount_log_path(request->mount_point, path);

    if (result < 0)
        return fail("mount", "cannot make a private directory for the log in $XDG_RUNTIME_DIR or /tmp: %s",
                    strerror(-result));
    *log = cm_mount_log_lock(*path, true, DAEMON_END_MS);
    if (*log == -EWOULDBLOCK)
        return fail("mount", "the daemon of an earlier mount at %s has not ended (it holds %s)", request->mount_point,
                    *path);
    if (*log < 0)
        return fail("mount", "cannot write the log %s: %s", *path, strerror(-*log));
    if (ftruncate(*log, 0) < 0)
        return fail("mount", "cannot write the log %s: %s", *path, strerror(errno));
    return 0;
}

int cm_mount_main(int argc, char **argv)
{
    mount_request request cm_cleanup(request_clear) = {0};
    char *log_path cm_cleanup(cleanup_memory) = NULL;
    char *reason cm_cleanup(cleanup_memory) = NULL;
    int log = -1;
    int code = parse_mount(argc, argv, &request);

    if (request.help || code != 0) {
        fputs(mount_usage, code != 0 ? stderr : stdout);
        return code;
    }
    if ((code = find_store(&request)) != 0 || (code = check_mount_point(&request)) != 0 || (code = check_fuse()) != 0 ||
        (code = take_log(&request, &log_path, &log)) != 0)
        return code;
    cm_daemon_options options = {.store = request.store,
                                 .mount_point = request.mount_point,
                                 .session = request.session,
                                 .allow_other = request.allow_other,
                                 .embedded = request.embedded,
                                 .ready = -1};
    if (request.foreground)
        code = cm_daemon_run(&options);
    else if (cm_daemon_start(&options, log, &reason) < 0)
        code = reason != NULL ? fail("mount", "%s", reason)
                              : fail("mount", "the daemon ended without a word; see %s", log_path);
    close(log);
    return code;
}

/* ---- umount ------------------------------------------------------------------------------------------------------ */

static int parse_umount(int argc, char **argv, bool *lazy, bool *help, const char **directory)
{
    static const struct option options[] = {
        {"lazy", no_argument, NULL, 'z'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int option;

    optind = 0;
    while ((option = getopt_long(argc, argv, "zh", options, NULL)) != -1) {
        if (option == 'z')
            *lazy = true;
        else if (option == 'h')
            *help = true;
        else
            return EXIT_USAGE;
    }
    if (*help)
        return 0;
    if (optind + 1 != argc)
        return EXIT_USAGE;
    *directory = argv[optind];
    return 0;
}

/* A lazy unmount may wait for its users for ever; then there is nothing to wait for here. */
static int await_daemon(const char *path, bool lazy)
{
    char *log_path cm_cleanup(cleanup_memory) = NULL;

    if (lazy || cm_mount_log_path(path, &log_path) < 0)
        return 0;
    int log = cm_mount_log_lock(log_path, false, DAEMON_END_MS);
    if (log == -EWOULDBLOCK)
        return fail("umount", "%s is unmounted, but its daemon has not ended yet (it holds %s)", path, log_path);
    if (log >= 0)
        close(log);
    return 0;
}

int cm_umount_main(int argc, char **argv)
{
    char *path cm_cleanup(cleanup_memory) = NULL;
    const char *directory = NULL;
    bool lazy = false, help = false;
    cm_mount_entry entry;
    int code = parse_umount(argc, argv, &lazy, &help, &directory);

    if (help || code != 0) {
        fputs(umount_usage, code != 0 ? stderr : stdout);
        return code;
    }
    int result = cm_mount_path(directory, &path);
    if (result < 0)
        return fail("umount", "cannot use %s: %s", directory, strerror(-result));
    result = cm_mount_find(path, &entry);
    if (result < 0)
        return fail("umount", "cannot read /proc/self/mountinfo: %s", strerror(-result));
    if (!entry.ours)
        return fail("umount", "no chipmink store is mounted at %s", path);
    result = cm_mount_remove(path, lazy);
    if (result == -EBUSY)
        return fail("umount", "%s is in use (`fuser -vm %s` tells by whom): end that, or use --lazy", path, path);
    if (result < 0)
        return fail("umount", "cannot unmount %s: %s", path, strerror(-result));
    return await_daemon(path, lazy);
}
