/* SPDX-License-Identifier: Apache-2.0 */
#include "serve.h"

#include <chipmink/serve.h>

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    IDLE_SECONDS = 300,
    LOG_MOST = 1 << 20, /* an older log is emptied when a server starts */
    CONNECTIONS_MOST = 1024,
    STOP_WAIT_MS = 30000,
    EXIT_USAGE = 2
};

typedef struct request {
    const char *store; /* NULL: the default */
    bool create, foreground;
    long idle; /* seconds; 0: never */
    int ready; /* -1: nobody asks */
} request;

typedef struct server server;

typedef struct client { /* a connection and its thread */
    server *server;
    int socket;
    struct client *next, **at;
} client;

struct server {
    char *path;
    cm_store *store;
    cm_serve *serve;
    int listening, signals, wake; /* wake: written by a thread that ends, or by stop */
    long idle;
    time_t started;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    client *clients;
    unsigned count;
    bool stopping;
};

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static error_t parse(int key, char *argument, struct argp_state *state)
{
    request *r = state->input;
    char *end;
    switch (key) {
    case 'S':
        r->store = argument;
        return 0;
    case 'c':
        r->create = true;
        return 0;
    case 'f':
        r->foreground = true;
        return 0;
    case 'i':
        r->idle = strtol(argument, &end, 10);
        if (*argument == '\0' || *end != '\0' || r->idle < 0)
            argp_error(state, "--idle takes a number of seconds, not '%s'", argument);
        return 0;
    case 'r':
        r->ready = (int)strtol(argument, &end, 10);
        if (*argument == '\0' || *end != '\0' || fcntl(r->ready, F_GETFD) < 0)
            argp_error(state, "--ready takes an open descriptor, not '%s'", argument);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is one word too many", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option serve_options[] = {
    {"store", 'S', "DIR", 0, "Store to serve (default: $CHIPMINK_STORE, or ~/.chipmink)", 0},
    {"create", 'c', NULL, 0, "Make the store when there is none", 0},
    {"idle", 'i', "SECONDS", 0, "End after that long without a client (default 300; 0: never)", 0},
    {"foreground", 'f', NULL, 0, "Stay in the foreground, log to stderr", 0},
    {"ready", 'r', "FD", OPTION_HIDDEN, "Tell on this descriptor when it answers", 0},
    {0},
};

static const struct argp serve_argp = {
    .options = serve_options,
    .parser = parse,
    .doc = "Own a store and serve the processes that use it. Run on demand: there is no need to start it by hand.",
};

/* ---- starting ---------------------------------------------------------------------------------------------------- */

static void say(request *r, char kind, const char *sentence)
{
    if (r->ready < 0) {
        if (kind != '+')
            fprintf(stderr, "chipmink serve: %s\n", sentence);
        return;
    }
    (void)!dprintf(r->ready, "%c%s", kind, sentence); /* whoever asked may have gone */
    close(r->ready);
    r->ready = -1;
}

static void log_line(const char *text)
{
    char when[32];
    time_t now = time(NULL);
    struct tm local;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &local));
    fprintf(stderr, "%s [%d] %s\n", when, (int)getpid(), text);
}

/* Nothing of the starting process stays but the store's log. */
static int detach(const char *store)
{
    pid_t pid = fork();
    if (pid != 0)
        _exit(pid < 0); /* whoever ran it need not wait longer; the answer comes through the pipe */
    setsid();
    umask(077);
    char *name = NULL;
    if (asprintf(&name, "%s/server.log", store) < 0)
        return -ENOMEM;
    int log = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct stat found;
    free(name);
    if (log >= 0 && fstat(log, &found) == 0 && found.st_size > LOG_MOST && ftruncate(log, 0) < 0)
        return -errno;
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(log >= 0 ? log : null, STDERR_FILENO) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
}

/* Descriptors that a Python process left open across exec would otherwise stay open as long as the server runs. */
static void close_inherited(int keep)
{
    if (keep > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)keep - 1, 0);
    close_range(keep > STDERR_FILENO ? (unsigned)keep + 1 : STDERR_FILENO + 1, ~0U, 0);
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void *serve_client(void *arg)
{
    client *self = arg;
    server *s = self->server;
    cm_serve_connection(s->serve, dup(self->socket)); /* closes what it is given; ours stays for shutdown() */
    pthread_mutex_lock(&s->lock);
    close(self->socket);
    *self->at = self->next;
    if (self->next)
        self->next->at = self->at;
    s->count--;
    pthread_cond_broadcast(&s->ended);
    (void)!write(s->wake, &(uint64_t){1}, sizeof(uint64_t));
    pthread_mutex_unlock(&s->lock);
    free(self);
    return NULL;
}

static void accept_client(server *s)
{
    int socket = accept4(s->listening, NULL, NULL, SOCK_CLOEXEC);
    client *one = socket >= 0 ? calloc(1, sizeof *one) : NULL;
    pthread_t thread;
    pthread_attr_t attributes;
    if (!one) {
        if (socket >= 0)
            close(socket);
        return;
    }
    *one = (client){.server = s, .socket = socket};
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_mutex_lock(&s->lock);
    bool refused = s->count >= CONNECTIONS_MOST || pthread_create(&thread, &attributes, serve_client, one) != 0;
    if (!refused) {
        one->next = s->clients;
        one->at = &s->clients;
        if (s->clients)
            s->clients->at = &one->next;
        s->clients = one;
        s->count++;
    }
    pthread_mutex_unlock(&s->lock);
    pthread_attr_destroy(&attributes);
    if (refused) {
        log_line("a connection was refused: too many");
        close(socket);
        free(one);
    }
}

static int control(void *arg, int argc, char **argv, char **reply)
{
    server *s = arg;
    pthread_mutex_lock(&s->lock);
    unsigned count = s->count;
    bool known = argc == 1 && (strcmp(argv[0], "stop") == 0 || strcmp(argv[0], "status") == 0);
    if (known && strcmp(argv[0], "stop") == 0)
        s->stopping = true;
    pthread_mutex_unlock(&s->lock);
    (void)!write(s->wake, &(uint64_t){1}, sizeof(uint64_t));
    if (asprintf(reply, "%d %u %lld", (int)getpid(), count, (long long)(time(NULL) - s->started)) < 0)
        *reply = NULL;
    return known ? 0 : -EINVAL;
}

/* Lets the clients finish the request they are in, no further ones. */
static void end_clients(server *s)
{
    pthread_mutex_lock(&s->lock);
    for (client *one = s->clients; one; one = one->next)
        shutdown(one->socket, SHUT_RD);
    while (s->count)
        pthread_cond_wait(&s->ended, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

/* Accepts until told to end, or idle for long enough. */
static void accept_clients(server *s)
{
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool stopping = s->stopping, idle = s->count == 0;
        pthread_mutex_unlock(&s->lock);
        if (stopping)
            return;
        struct pollfd waits[] = {{.fd = s->listening, .events = POLLIN},
                                 {.fd = s->signals, .events = POLLIN},
                                 {.fd = s->wake, .events = POLLIN}};
        int ready = poll(waits, sizeof waits / sizeof *waits, idle && s->idle ? (int)(s->idle * 1000) : -1);
        if (ready == 0 || (ready > 0 && waits[1].revents)) {
            log_line(ready == 0 ? "no client for long: ending" : "told to end by a signal");
            return;
        }
        uint64_t ignored;
        if (ready > 0 && waits[2].revents && read(s->wake, &ignored, sizeof ignored) < 0)
            log_line("reading the wake-up count failed");
        if (ready > 0 && waits[0].revents)
            accept_client(s);
    }
}

static int end_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before the store starts its threads */
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static int open_server(server *s, const request *r)
{
    s->listening = s->wake = -1;
    s->signals = end_signals();
    s->idle = r->idle;
    s->started = time(NULL);
    s->wake = eventfd(0, EFD_CLOEXEC);
    if (s->signals < 0 || s->wake < 0)
        return -errno;
    int result = cm_store_open(s->path, CM_OPEN_WRITE | CM_OPEN_SERVE | (r->create ? CM_OPEN_CREATE : 0), &s->store);
    if (result == 0)
        result = cm_serve_new(s->store, control, s, &s->serve);
    if (result == 0)
        result = cm_serve_listen(cm_store_path(s->store), &s->listening);
    return result;
}

static void close_server(server *s)
{
    if (s->listening >= 0) {
        /* The name goes first, while the store is still ours: whoever connected and was not served starts another. */
        cm_serve_unlink(cm_store_path(s->store));
        close(s->listening);
        end_clients(s);
    }
    cm_serve_free(s->serve);
    cm_store_unref(s->store);
    if (s->signals >= 0)
        close(s->signals);
    if (s->wake >= 0)
        close(s->wake);
}

static int run(request *r, char *path)
{
    server s = {.path = path, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    int result = open_server(&s, r);
    if (result < 0) {
        const char *sentence = *cm_error_message() ? cm_error_message() : strerror(-result);
        if (r->ready >= 0)
            log_line(sentence);
        say(r, result == -EBUSY ? '!' : '-', sentence);
    } else {
        log_line("serving");
        say(r, '+', "");
        accept_clients(&s);
    }
    close_server(&s);
    if (result == 0)
        log_line("ended");
    return result < 0;
}

/* The store's absolute path; with --create its directory is made, so that the log has a place. */
static char *find_store(const request *r)
{
    char *named = NULL;
    if (!r->store && cm_store_default_path(&named) < 0)
        return NULL;
    if (!named && !(named = strdup(r->store)))
        return NULL;
    if (r->create)
        (void)mkdir(named, 0700); /* opening the store tells what is wrong with it */
    char *path = realpath(named, NULL);
    if (!path)
        fprintf(stderr, "chipmink: there is no store at %s; the first save makes one\n", named);
    free(named);
    return path;
}

int cm_serve_main(int argc, char **argv)
{
    request r = {.idle = IDLE_SECONDS, .ready = -1};
    if (argp_parse(&serve_argp, argc, argv, 0, NULL, &r) != 0)
        return EXIT_USAGE;
    char *path = find_store(&r);
    if (!path) {
        say(&r, '-', "there is no such store");
        return 1;
    }
    close_inherited(r.ready);
    if (r.ready >= 0)
        fcntl(r.ready, F_SETFD, FD_CLOEXEC);
    int result = r.foreground || r.ready < 0 ? 0 : detach(path);
    int code = 1;
    if (result < 0)
        say(&r, '-', strerror(-result));
    else
        code = run(&r, path);
    free(path);
    return code;
}

/* ---- stopping ---------------------------------------------------------------------------------------------------- */

static const struct argp stop_argp = {
    .options = (const struct argp_option[]){{"store", 'S', "DIR", 0, "Store whose server is meant", 0}, {0}},
    .parser = parse,
    .doc = "End the server of a store, when what it is doing is done. The next use of the store starts it again.",
};

/* Waits until the process has ended, which closing the store may delay beyond its last answer. */
static int await_end(int process)
{
    struct pollfd one = {.fd = process, .events = POLLIN};
    int ready;
    do
        ready = poll(&one, 1, STOP_WAIT_MS);
    while (ready < 0 && errno == EINTR);
    return ready > 0 ? 0 : -ETIMEDOUT;
}

int cm_stop_main(int argc, char **argv)
{
    request r = {.ready = -1};
    if (argp_parse(&stop_argp, argc, argv, 0, NULL, &r) != 0)
        return EXIT_USAGE;
    char *path = find_store(&r);
    if (!path)
        return 1;
    char *reply = NULL;
    int process = -1;
    int result = cm_serve_ask(path, 1, (const char *const[]){"status"}, &reply);
    if (result == 0 && reply) /* "PID CONNECTIONS SECONDS" */
        process = (int)syscall(SYS_pidfd_open, (pid_t)strtol(reply, NULL, 10), 0);
    free(reply);
    reply = NULL;
    if (result == 0)
        result = cm_serve_ask(path, 1, (const char *const[]){"stop"}, &reply);
    free(reply);
    if (result == 0 && process >= 0)
        result = await_end(process);
    if (process >= 0)
        close(process);
    if (result == -ENOENT || result == -ECONNREFUSED || result == -ECONNRESET)
        result = 0; /* none is running */
    if (result < 0)
        fprintf(stderr, "chipmink stop: %s\n",
                result == -ETIMEDOUT ? "the server has not ended yet: it is still writing" : cm_error_message());
    free(path);
    return result < 0;
}
