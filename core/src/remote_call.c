/* SPDX-License-Identifier: Apache-2.0 */
/* remote_call.c - connections to a store server, and the calls on them. */
#include "remote_call.h"

#include "error.h"
#include "remote.h"
#include "store_dir.h"

#include <time.h>
#include <unistd.h>

enum { ATTEMPTS = 20, DEATHS_MOST = 4, PAUSE_MS = 50, POOL_MOST = 16 };

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void drop(cm_link *l)
{
    if (!l)
        return;
    close(l->socket);
    cm_area_clear(&l->area);
    cm_buffer_free(&l->reply);
    free(l);
}

void cm_links_drop(cm_remote *r)
{
    pthread_mutex_lock(&r->lock);
    cm_link *all = r->idle;
    r->idle = NULL;
    r->idle_count = 0;
    pthread_mutex_unlock(&r->lock);
    while (all) {
        cm_link *next = all->next;
        drop(all);
        all = next;
    }
}

int cm_call_senseless(void)
{
    return cm_fail(EPROTO, "the store server's answer makes no sense");
}

int cm_link_receive(cm_link *l, cm_reader *answer, int *passed)
{
    int result = cm_wire_receive(l->socket, &l->reply, passed);
    if (result)
        return result;
    *answer = cm_reader_of(l->reply.data, l->reply.size);
    uint64_t status = cm_read_bounded(answer, 4095);
    if (!answer->bad && status == 0)
        return 0;
    cm_cleanup(cm_cleanup_free) char *sentence = cm_read_string(answer);
    if (*passed >= 0)
        close(*passed);
    *passed = -1;
    return status && sentence ? cm_fail((int)status, "%s", sentence) : cm_call_senseless();
}

/* Sends a request and receives its answer. */
static int exchange(cm_link *l, const cm_buffer *request, int pass, cm_reader *answer, int *passed)
{
    int result = cm_wire_send(l->socket, request, pass);
    return result ? result : cm_link_receive(l, answer, passed);
}

static int hello(cm_remote *r, cm_link *l, int area)
{
    cm_cleanup(cm_buffer_free) cm_buffer request = CM_BUFFER_INIT;
    cm_reader answer;
    int passed = -1;
    cm_buffer_varint(&request, CM_WIRE_HELLO);
    cm_buffer_varint(&request, CM_WIRE_VERSION);
    cm_buffer_append(&request, &r->token, sizeof r->token);
    return exchange(l, &request, area, &answer, &passed);
}

static int dial(cm_remote *r, cm_link **out)
{
    cm_link *l = calloc(1, sizeof *l);
    if (!l)
        return cm_fail(ENOMEM, "out of memory");
    int area = -1;
    int result = cm_wire_connect(r->path, &l->socket);
    if (result) {
        free(l);
        return result;
    }
    result = cm_area_make(CM_WIRE_AREA, &area, &l->area);
    if (!result)
        result = hello(r, l, area);
    if (area >= 0)
        close(area); /* mapped on both sides */
    if (result)
        drop(l);
    else
        *out = l;
    return result;
}

static bool absent(int result)
{
    return result == -ENOENT || result == -ECONNREFUSED || result == -ECONNRESET || result == -EAGAIN;
}

/*
 * A new connection; the server is started when none answers. Busy: a process has the store for itself, or another server is
 * starting or ending, which may not say so yet or any more: then it is waited for. A server that ends before it answers was killed, so another one is
 * started; one that always does is broken.
 */
static int connect_to(cm_remote *r, cm_link **out)
{
    int result = dial(r, out);
    unsigned deaths = 0;
    for (unsigned i = 0; r->command && absent(result) && i < ATTEMPTS; i++) {
        int started = cm_server_start(r->path, r->flags, r->command);
        if (started == -ECONNRESET && ++deaths == DEATHS_MOST)
            return -EIO;
        if (started && started != -EBUSY && started != -ECONNRESET)
            return started;
        result = dial(r, out);
        if (absent(result) && started == -EBUSY) {
            if (cm_writer_lock_is_embedded(r->path))
                return cm_writer_lock_refuse(r->path);
            if (i + 1 == ATTEMPTS)
                return cm_server_start(r->path, r->flags, r->command); /* says who has it */
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
        }
    }
    return result;
}

int cm_link_acquire(cm_remote *r, cm_link **out)
{
    if (getpid() != r->pid)
        return cm_fail(EPERM,
                       "the store %s was opened by process %d, this is its fork %d: open the store again in the child "
                       "process",
                       r->path, (int)r->pid, (int)getpid());
    pthread_mutex_lock(&r->lock);
    cm_link *l = r->idle;
    if (l) {
        r->idle = l->next;
        r->idle_count--;
    }
    pthread_mutex_unlock(&r->lock);
    if (!l)
        return connect_to(r, out);
    *out = l;
    return 0;
}

void cm_link_release(cm_remote *r, cm_link *l, int result)
{
    bool keep = result != -ECONNRESET && result != -EPROTO && result != -EMSGSIZE;
    pthread_mutex_lock(&r->lock);
    keep = keep && r->idle_count < POOL_MOST;
    if (keep) {
        l->next = r->idle;
        r->idle = l;
        r->idle_count++;
    }
    pthread_mutex_unlock(&r->lock);
    if (!keep)
        drop(l);
}

int cm_call_once(cm_remote *r, cm_call *c)
{
    cm_link *l;
    int result = cm_link_acquire(r, &l);
    if (result)
        return result;
    if (c->fill)
        c->fill(&l->area, c->arg);
    cm_reader answer;
    int passed = -1;
    result = exchange(l, &c->request, c->pass, &answer, &passed);
    if (!result && c->take)
        result = c->take(&l->area, &answer, passed, c->arg);
    if (!result && answer.bad)
        result = cm_call_senseless();
    if (passed >= 0)
        close(passed);
    cm_link_release(r, l, result);
    return result;
}

int cm_call_again(cm_remote *r, cm_call *c)
{
    int result = cm_call_once(r, c);
    for (unsigned i = 0; result == -ECONNRESET && i < 3; i++) {
        cm_links_drop(r);
        result = cm_call_once(r, c);
    }
    cm_buffer_free(&c->request);
    return result;
}

int cm_call_in_transaction(cm_remote *r, cm_call *c)
{
    int result = cm_call_once(r, c);
    cm_buffer_free(&c->request);
    if (result == -ECONNRESET) {
        cm_links_drop(r);
        cm_fail(ECONNRESET, "the store server of %s ended during the save", r->path);
    }
    return result;
}

cm_call cm_call_make(enum cm_wire_op op, void *arg)
{
    cm_call c = {.arg = arg, .pass = -1};
    cm_buffer_varint(&c.request, op);
    return c;
}
