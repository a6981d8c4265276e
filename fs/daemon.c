/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "describe.h"
#include "mounts.h"
#include "ops.h"
#include "work.h"

enum {
    LOG_MOST = 1 << 20,
    READAHEAD_KB = 4096,
    IDLE_THREADS = 10, /* as many as libfuse starts: those that end would be started again */
    MALLOC_ARENAS = 4,
    MALLOC_LARGE = 2 << 20,
    REASON_MOST = 4096
};

#define cm_cleanup(f) __attribute__((cleanup(f)))

typedef struct running {
    const cm_daemon_options *options;
    int ready;     /* still to be told; -1: told, or nobody asks */
    size_t logged; /* bytes, atomically */
} running;

/* ---- what it says ------------------------------------------------------------------------------------------------ */

/* A mount that lives for months must not fill the disk with complaints. */
static void log_line(void *arg, const char *message)
{
    running *self = arg;
    char when[CM_TIME_TEXT];
    struct timespec now;
    size_t before = __atomic_fetch_add(&self->logged, strlen(message) + CM_TIME_TEXT, __ATOMIC_RELAXED);

    if (before > LOG_MOST)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    cm_describe_time((int64_t)now.tv_sec * 1000000000 + now.tv_nsec, when);
    dprintf(STDERR_FILENO, "%s %s\n", when, message);
    if (before + strlen(message) + CM_TIME_TEXT > LOG_MOST)
        dprintf(STDERR_FILENO, "%s further messages are dropped\n", when);
}

static void tell(running *self, const char *text)
{
    if (self->ready < 0)
        return;
    /* Whoever asked may be gone; then there is nobody to tell. */
    if (write(self->ready, text, strlen(text)) < 0)
        log_line(self, "the command that mounted has gone");
    close(self->ready);
    self->ready = -1;
}

__attribute__((format(printf, 2, 3))) static int refuse(running *self, const char *format, ...)
{
    char text[REASON_MOST];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (self->ready < 0)
        dprintf(STDERR_FILENO, "chipmink mount: %s\n", text);
    else
        log_line(self, text);
    tell(self, text);
    return 1;
}

static void on_ready(void *arg)
{
    static const char ready[] = {CM_DAEMON_READY, '\0'};

    tell(arg, ready);
}

/* libfuse says on stderr, which is the log, why it could not mount: its last line since `from`. */
static void last_words(off_t from, char *words, size_t room)
{
    ssize_t size = from >= 0 ? pread(STDERR_FILENO, words, room - 1, from) : -1;

    words[size > 0 ? size : 0] = '\0';
    while (size > 0 && words[size - 1] == '\n')
        words[--size] = '\0';
    char *line = strrchr(words, '\n');
    if (line != NULL)
        memmove(words, line + 1, strlen(line));
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

/*
 * The kernel reads 128 kB ahead of a FUSE mount and takes no more from the daemon; root may say more, once the start is over.
 * Without the right to it the mount is somewhat slower.
 */
static void raise_readahead(void *arg)
{
    const running *self = arg;
    cm_mount_entry entry;
    char path[64];

    if (cm_mount_find(self->options->mount_point, &entry) < 0 || !entry.ours)
        return;
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", entry.major, entry.minor);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        dprintf(file, "%d", READAHEAD_KB);
        close(file);
    }
}

/* Threads the store starts inherit the mask: only the loop's own thread, which waits for them, gets these signals. */
static void set_end_signals(int how)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(how, &signals, NULL);
}

/* ---- serving ----------------------------------------------------------------------------------------------------- */

static int mount_arguments(const running *self, bool writable, struct fuse_args *arguments)
{
    if (fuse_opt_add_arg(arguments, "chipmink") != 0 || fuse_opt_add_arg(arguments, "-o") != 0 ||
        fuse_opt_add_arg(arguments, "nosuid,nodev,default_permissions,fsname=chipmink,subtype=chipmink") != 0)
        return -ENOMEM;
    if (!writable && (fuse_opt_add_arg(arguments, "-o") != 0 || fuse_opt_add_arg(arguments, "ro") != 0))
        return -ENOMEM;
    if (self->options->allow_other &&
        (fuse_opt_add_arg(arguments, "-o") != 0 || fuse_opt_add_arg(arguments, "allow_other") != 0))
        return -ENOMEM;
    return 0;
}

/* No more requests come: what is not committed yet is, now. */
static void end_work(running *self, cm_mounted *mounted)
{
    cm_work *work = cm_view_work(mounted->view);

    cm_ops_close_all(mounted);
    if (work != NULL && cm_work_sync(work, 0) < 0)
        log_line(self, "what was changed in work/ last could not be committed and is lost, see above");
    cm_work_free(work);
}

static int serve(running *self, cm_mounted *mounted)
{
    struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
    struct fuse_loop_config loop = {.clone_fd = 0, .max_idle_threads = IDLE_THREADS};
    struct fuse_session *session = NULL;
    char words[REASON_MOST];
    off_t from = lseek(STDERR_FILENO, 0, SEEK_END);
    int code = 1;

    if (mount_arguments(self, cm_view_work(mounted->view) != NULL, &arguments) == 0)
        session = fuse_session_new(&arguments, &cm_ops, sizeof cm_ops, mounted);
    fuse_opt_free_args(&arguments);
    if (session == NULL)
        return refuse(self, "cannot set up the mount: %s", strerror(ENOMEM));
    if (fuse_session_mount(session, self->options->mount_point) != 0) {
        last_words(from, words, sizeof words);
        refuse(self, "cannot mount at %s: %s", self->options->mount_point,
               words[0] != '\0' ? words : "see the message above");
    } else {
        if (fuse_set_signal_handlers(session) == 0) {
            mounted->kernel = session;
            set_end_signals(SIG_UNBLOCK);
            int result = fuse_session_loop_mt(session, &loop);
            set_end_signals(SIG_BLOCK);
            fuse_remove_signal_handlers(session);
            code = result < 0 ? 1 : 0; /* unmounted: 0; a signal: its number */
        }
        fuse_session_unmount(session);
    }
    end_work(self, mounted); /* before the session goes, which commits tell what has moved */
    fuse_session_destroy(session);
    return code;
}

/*
 * Through the store's server; or, when asked to, or when a process has the store to itself, read beside it. `command` is this program,
 * which can serve.
 */
static int open_store(running *self, cm_store **store)
{
    const cm_daemon_options *options = self->options;
    char command[PATH_MAX];

    if (options->embedded)
        return cm_store_open(options->store, CM_OPEN_READ, store);
    ssize_t length = readlink("/proc/self/exe", command, sizeof command - 1);
    if (length < 0)
        strcpy(command, "chipmink");
    else
        command[length] = '\0';
    int result = cm_store_connect(options->store, CM_OPEN_WRITE, command, store);
    if (result == -EBUSY && cm_store_open(options->store, CM_OPEN_READ, store) == 0) {
        log_line(self, "a process has the store to itself: it is shown beside it, without work/");
        result = 0;
    }
    return result;
}

static int serve_view(running *self, cm_mounted *mounted)
{
    const cm_daemon_options *options = self->options;
    cm_store *store = cm_view_store(mounted->view);
    cm_work *work = NULL;

    cm_view_on_trouble(mounted->view, log_line, self);
    if (options->session != NULL) {
        int result = cm_view_show_session(mounted->view, options->session);
        if (result < 0)
            return refuse(self, "%s", result == -ENOMEM ? strerror(ENOMEM) : cm_error_message());
    }
    if (cm_store_writable(store)) {
        int result = cm_work_new(mounted->view, log_line, self, &work);
        if (result < 0)
            return refuse(self, "cannot serve %s: %s", options->store, strerror(-result));
    }
    if (work != NULL)
        cm_work_on_commit(work, cm_ops_moved, mounted);
    return serve(self, mounted);
}

int cm_daemon_run(const cm_daemon_options *options)
{
    running self = {.options = options, .ready = options->ready};
    cm_mounted mounted = {.uid = geteuid(),
                          .gid = getegid(),
                          .others = options->allow_other,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .ready = on_ready,
                          .first_request = raise_readahead,
                          .trouble = log_line,
                          .arg = &self};
    cm_store *store = NULL;
    int code;

    /* Freed memory goes back: many threads must not each hoard what the largest request once took. */
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    mallopt(M_MMAP_THRESHOLD, MALLOC_LARGE);
    mallopt(M_TRIM_THRESHOLD, 4 * MALLOC_LARGE);
    set_end_signals(SIG_BLOCK);
    if (open_store(&self, &store) < 0)
        return refuse(&self, "%s", cm_error_message());
    if (cm_view_new(store, 0, &mounted.view) < 0 || pthread_key_create(&mounted.buffers, free) != 0) {
        code = refuse(&self, "cannot serve %s: %s", options->store, strerror(ENOMEM));
    } else {
        code = serve_view(&self, &mounted);
        pthread_key_delete(mounted.buffers);
    }
    cm_view_free(mounted.view);
    cm_store_unref(store);
    if (code == 0 && options->ready >= 0)
        log_line(&self, "unmounted");
    return code;
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

/* Nothing of the command that starts it stays: its terminal, its directory, its files. */
static int detach(int ready, int log)
{
    int null = open("/dev/null", O_RDWR);

    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        return -errno;
    if (chdir("/") < 0 || dup2(ready, STDERR_FILENO + 1) < 0)
        return -errno;
    umask(077);
    close_range(STDERR_FILENO + 2, ~0U, 0);
    return fcntl(STDERR_FILENO + 1, F_SETFD, FD_CLOEXEC);
}

_Noreturn static void daemon_process(const cm_daemon_options *options, int ready, int log)
{
    cm_daemon_options own = *options;

    if (setsid() < 0)
        _exit(1);
    /* No session leader, so that no terminal it may ever open becomes its own. */
    pid_t pid = fork();
    if (pid != 0)
        _exit(pid < 0 ? 1 : 0);
    if (detach(ready, log) < 0)
        _exit(1);
    own.ready = STDERR_FILENO + 1;
    exit(cm_daemon_run(&own));
}

static char *read_answer(int from)
{
    char *answer = calloc(1, REASON_MOST + 1);
    size_t used = 0;
    ssize_t size;

    while (answer != NULL && used < REASON_MOST && (size = read(from, answer + used, REASON_MOST - used)) != 0) {
        if (size > 0)
            used += (size_t)size;
        else if (errno != EINTR)
            break;
    }
    return answer;
}

int cm_daemon_start(const cm_daemon_options *options, int log, char **reason)
{
    int ends[2];

    *reason = NULL;
    fflush(NULL);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        daemon_process(options, ends[1], log);
    close(ends[1]);
    char *answer = pid > 0 ? read_answer(ends[0]) : NULL;
    close(ends[0]);
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    if (answer != NULL && answer[0] == CM_DAEMON_READY) {
        free(answer);
        return 0;
    }
    if (answer != NULL && answer[0] == '\0') {
        free(answer);
        answer = NULL;
    }
    *reason = answer;
    return -1;
}
