/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - the server's side of a connection. Everything that comes over the wire is checked before it is used: a client that
 * breaks the protocol loses its connection and nothing else happens.
 */
#include <chipmink/serve.h>

#include "codec.h"
#include "store.h"
#include "wire.h"

#include <unistd.h>

enum {
    TRANSACTIONS_MOST = 64, /* open at once, of one client */
    REFS_MOST = 1024,       /* in one commit */
    WORDS_MOST = 16,
    LIST_MOST = CM_WIRE_AREA / CM_WIRE_LISTED,
    REF_PACKET = CM_WIRE_PACKET - 4096, /* a reply of refs stops growing there */
};

typedef struct transaction {
    uint64_t id;
    unsigned users; /* connections that are using it right now */
    bool ended;
    cm_backend_txn *txn;
    cm_known *pending;
    uint64_t epoch;
    struct transaction *next;
} transaction;

typedef struct client { /* all connections that said the same token */
    cm_id token;
    unsigned connections, transaction_count;
    transaction *transactions;
    struct client *next;
} client;

struct cm_serve {
    cm_store *store;
    cm_serve_control control;
    void *arg;
    pthread_mutex_t lock; /* guards all below, and the transactions' users and ended */
    pthread_cond_t unused;
    client *clients;
    uint64_t next_transaction;
};

typedef struct connection {
    cm_serve *serve;
    cm_store *store;
    int socket;
    client *client; /* NULL: has not said hello */
    cm_area area;
    cm_reader request;
    int passed; /* a descriptor that came with the request; -1 */
    cm_buffer reply;
    int pass; /* a descriptor to go with the reply; -1 */
} connection;

int cm_serve_new(cm_store *store, cm_serve_control control, void *arg, cm_serve **out)
{
    if (!cm_store_writable(store))
        return cm_fail(EROFS, "%s is open for reading only: it cannot be served", store->path);
    cm_serve *serve = calloc(1, sizeof *serve);
    if (!serve)
        return cm_fail(ENOMEM, "out of memory");
    serve->store = cm_store_ref(store);
    serve->control = control;
    serve->arg = arg;
    pthread_mutex_init(&serve->lock, NULL);
    pthread_cond_init(&serve->unused, NULL);
    *out = serve;
    return 0;
}

void cm_serve_free(cm_serve *serve)
{
    if (!serve)
        return;
    pthread_mutex_destroy(&serve->lock);
    pthread_cond_destroy(&serve->unused);
    cm_store_unref(serve->store);
    free(serve);
}

int cm_serve_listen(const char *store, int *socket)
{
    return cm_wire_listen(store, socket);
}

void cm_serve_unlink(const char *store)
{
    cm_wire_unlink(store);
}

static int bad_request(void)
{
    return cm_fail(EPROTO, "the store server got a request that makes no sense");
}

/* ---- clients and transactions -------------------------------------------------------------------------------------- */

static int join_client(connection *c, const cm_id *token)
{
    cm_serve *serve = c->serve;
    pthread_mutex_lock(&serve->lock);
    client *found = serve->clients;
    while (found && !cm_id_equal(&found->token, token))
        found = found->next;
    if (!found && (found = calloc(1, sizeof *found))) {
        found->token = *token;
        found->next = serve->clients;
        serve->clients = found;
    }
    if (found)
        found->connections++;
    pthread_mutex_unlock(&serve->lock);
    c->client = found;
    return found ? 0 : cm_fail(ENOMEM, "out of memory");
}

static void end_transaction(cm_serve *serve, transaction *t)
{
    if (t->txn)
        serve->store->backend->ops->abort(t->txn);
    cm_known_free(t->pending);
    free(t);
}

static void leave_client(connection *c)
{
    cm_serve *serve = c->serve;
    client *one = c->client;
    transaction *orphans = NULL;
    if (!one)
        return;
    pthread_mutex_lock(&serve->lock);
    if (--one->connections == 0) {
        client **at = &serve->clients;
        while (*at != one)
            at = &(*at)->next;
        *at = one->next;
        orphans = one->transactions;
        free(one);
    }
    pthread_mutex_unlock(&serve->lock);
    while (orphans) { /* nobody uses them: only the client's connections could */
        transaction *next = orphans->next;
        end_transaction(serve, orphans);
        orphans = next;
    }
}

static int open_transaction(connection *c, uint64_t *id, uint64_t *epoch)
{
    cm_serve *serve = c->serve;
    pthread_mutex_lock(&serve->lock);
    bool full = c->client->transaction_count >= TRANSACTIONS_MOST;
    c->client->transaction_count += !full;
    pthread_mutex_unlock(&serve->lock);
    if (full)
        return cm_fail(EMFILE, "one process may have %d saves in progress", TRANSACTIONS_MOST);
    transaction *t = calloc(1, sizeof *t);
    int result = t && (t->pending = cm_known_new())
                     ? c->store->backend->ops->begin(c->store->backend, &t->txn, &t->epoch)
                     : cm_fail(ENOMEM, "out of memory");
    pthread_mutex_lock(&serve->lock);
    if (result) {
        c->client->transaction_count--;
    } else {
        *id = t->id = ++serve->next_transaction;
        *epoch = t->epoch;
        cm_known_enter(t->pending, t->epoch);
        cm_known_enter(c->store->known, t->epoch);
        t->next = c->client->transactions;
        c->client->transactions = t;
    }
    pthread_mutex_unlock(&serve->lock);
    if (result && t)
        end_transaction(serve, t);
    return result;
}

/* Finds a transaction of the client and keeps it from ending until leave_transaction. */
static transaction *enter_transaction(connection *c, uint64_t id)
{
    pthread_mutex_lock(&c->serve->lock);
    transaction *t = c->client->transactions;
    while (t && (t->id != id || t->ended))
        t = t->next;
    if (t)
        t->users++;
    pthread_mutex_unlock(&c->serve->lock);
    if (!t)
        cm_fail(ECONNRESET, "the store server does not know this save: it was started anew meanwhile");
    return t;
}

static void leave_transaction(connection *c, transaction *t)
{
    pthread_mutex_lock(&c->serve->lock);
    t->users--;
    pthread_cond_broadcast(&c->serve->unused);
    pthread_mutex_unlock(&c->serve->lock);
}

/* Takes a transaction away from the client, when nobody uses it any more. NULL: no such. */
static transaction *take_transaction(connection *c, uint64_t id)
{
    transaction *t = enter_transaction(c, id);
    if (!t)
        return NULL;
    pthread_mutex_lock(&c->serve->lock);
    bool mine = !t->ended;
    t->ended = true;
    t->users--;
    while (mine && t->users)
        pthread_cond_wait(&c->serve->unused, &c->serve->lock);
    if (mine) {
        transaction **at = &c->client->transactions;
        while (*at != t)
            at = &(*at)->next;
        *at = t->next;
        c->client->transaction_count--;
    }
    pthread_cond_broadcast(&c->serve->unused);
    pthread_mutex_unlock(&c->serve->lock);
    return mine ? t : NULL;
}

/* What take_transaction took goes on. */
static void put_back(connection *c, transaction *t)
{
    pthread_mutex_lock(&c->serve->lock);
    t->ended = false;
    t->next = c->client->transactions;
    c->client->transactions = t;
    c->client->transaction_count++;
    pthread_mutex_unlock(&c->serve->lock);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static int on_hello(connection *c)
{
    uint64_t version = cm_read_varint(&c->request);
    const uint8_t *token = cm_read_bytes(&c->request, sizeof(cm_id));
    if (c->client || !token || c->passed < 0)
        return bad_request();
    if (version != CM_WIRE_VERSION)
        return cm_fail(EPROTONOSUPPORT,
                       "the store server speaks version %d of the protocol, not %llu: stop it (chipmink stop) so that "
                       "the installed version starts",
                       CM_WIRE_VERSION, (unsigned long long)version);
    int result = cm_area_map(c->passed, CM_WIRE_AREA, &c->area);
    if (!result && c->area.size != CM_WIRE_AREA)
        result = bad_request();
    cm_id id;
    memcpy(&id, token, sizeof id);
    if (!result)
        result = join_client(c, &id);
    cm_buffer_varint(&c->reply, (uint64_t)getpid());
    return result;
}

static int on_find(connection *c)
{
    uint64_t count = cm_read_bounded(&c->request, CM_WIRE_AREA / sizeof(cm_id));
    if (c->request.bad)
        return bad_request();
    cm_cleanup(cm_cleanup_free) cm_id *ids = malloc((count + 1) * sizeof *ids);
    cm_cleanup(cm_cleanup_free) cm_object_info *infos = malloc((count + 1) * sizeof *infos);
    if (!ids || !infos)
        return cm_fail(ENOMEM, "out of memory");
    memcpy(ids, c->area.bytes, count * sizeof *ids);
    int result = c->store->backend->ops->find(c->store->backend, ids, count, infos);
    for (uint64_t i = 0; !result && i < count; i++)
        cm_wire_put_info(c->area.bytes + i * CM_WIRE_INFO, &infos[i]);
    return result;
}

enum { ENOUGH = 1 };

typedef struct getting {
    connection *c;
    cm_buffer *heads; /* what is said of each record */
    size_t used;      /* of the area */
    uint64_t count;
} getting;

/* One record that is larger than the area goes alone, in memory of its own. */
static int pass_record(getting *g, const void *record, size_t size)
{
    cm_area own;
    int result = cm_area_make(size, &g->c->pass, &own);
    if (result)
        return result;
    memcpy(own.bytes, record, size);
    cm_area_clear(&own);
    return 0;
}

static int get_one(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info)
{
    (void)index;
    getting *g = arg;
    const cm_area *area = &g->c->area;
    bool large = size > area->size;
    if (g->count && size > area->size - g->used)
        return ENOUGH;
    int result = large ? pass_record(g, record, size) : 0;
    if (result)
        return result;
    if (!large && size)
        memcpy(area->bytes + g->used, record, size);
    g->used += size;
    g->count++;
    cm_buffer_varint(g->heads, info->kind);
    if (info->kind) {
        cm_buffer_varint(g->heads, info->size);
        cm_buffer_varint(g->heads, info->stored);
        cm_buffer_varint(g->heads, size);
    }
    return large ? ENOUGH : 0;
}

/* What fits into the area is answered. So is what came before a failure: the client asks for the rest, and is told then. */
static int on_get(connection *c)
{
    uint64_t count = cm_read_bounded(&c->request, CM_WIRE_GET_MOST);
    const uint8_t *bytes = cm_read_bytes(&c->request, count * sizeof(cm_id));
    if (!count || !bytes)
        return bad_request();
    cm_id ids[CM_WIRE_GET_MOST]; /* aligned */
    memcpy(ids, bytes, count * sizeof *ids);
    cm_cleanup(cm_buffer_free) cm_buffer heads = CM_BUFFER_INIT;
    getting g = {.c = c, .heads = &heads};
    int result = c->store->backend->ops->get(c->store->backend, ids, count, get_one, &g);
    if (result < 0 && g.count == 0)
        return result;
    cm_buffer_varint(&c->reply, g.count);
    cm_buffer_append(&c->reply, heads.data, heads.size);
    return heads.error ? cm_fail(ENOMEM, "out of memory") : 0;
}

typedef struct listing {
    uint8_t *at;
    uint64_t left, count;
} listing;

static int list_one(void *arg, const cm_id *id, const cm_object_info *info)
{
    listing *l = arg;
    if (l->left == 0)
        return ENOUGH;
    memcpy(l->at, id, sizeof *id);
    cm_wire_put_info(l->at + sizeof *id, info);
    l->at += CM_WIRE_LISTED;
    l->left--;
    l->count++;
    return 0;
}

static int on_list(connection *c)
{
    const uint8_t *bytes = cm_read_bytes(&c->request, sizeof(cm_id));
    uint64_t most = cm_read_bounded(&c->request, LIST_MOST);
    if (!bytes || c->request.bad)
        return bad_request();
    cm_id from;
    memcpy(&from, bytes, sizeof from);
    listing l = {.at = c->area.bytes, .left = most};
    int result = c->store->backend->ops->list(c->store->backend, &from, list_one, &l);
    cm_buffer_varint(&c->reply, l.count);
    cm_buffer_varint(&c->reply, result == ENOUGH);
    return result == ENOUGH ? 0 : result;
}

/* Appends an optional. */
static int read_ref(connection *c, const char *key, cm_buffer *values)
{
    cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
    int result = c->store->backend->ops->ref_get(c->store->backend, key, &value);
    cm_buffer_varint(values, result == 0);
    if (result)
        return result == -ENOENT ? 0 : result;
    cm_buffer_varint(values, value.size);
    cm_buffer_append(values, value.data, value.size);
    return values->size > REF_PACKET ? cm_fail(EMSGSIZE, "the refs that a save begins with are too large") : 0;
}

/* The refs are read first: what was committed before that is there for the transaction. */
static int on_begin(connection *c)
{
    cm_cleanup(cm_buffer_free) cm_buffer values = CM_BUFFER_INIT;
    uint64_t id = 0, epoch = 0, count = cm_read_bounded(&c->request, CM_WIRE_READ_MOST);
    int result = c->request.bad ? bad_request() : 0;
    for (uint64_t i = 0; i < count && !result; i++) {
        cm_cleanup(cm_cleanup_free) char *key = cm_read_string(&c->request);
        result = key ? read_ref(c, key, &values) : bad_request();
    }
    if (!result)
        result = values.error ? cm_fail(ENOMEM, "out of memory") : open_transaction(c, &id, &epoch);
    cm_buffer_varint(&c->reply, id);
    cm_buffer_u64(&c->reply, epoch);
    cm_buffer_append(&c->reply, values.data, values.size);
    return result;
}

/*
 * One content of a put, checked: its bytes lie in the area. That they have the id they are said to have is the client's word: it is
 * the same user, who could write to the store's files as well, and `verify` looks. Computing it here too would cost every
 * first save a third of its time.
 */
static int check_content(const cm_area *area, uint64_t index, uint64_t count, cm_content *content)
{
    const uint8_t *item = area->bytes + index * CM_WIRE_CONTENT;
    uint64_t kind = cm_get_u64(item + 32), size = cm_get_u64(item + 40), offset = cm_get_u64(item + 48);
    if (kind < CM_KIND_POD || kind > CM_KIND_CHECKPOINT || offset < count * CM_WIRE_CONTENT || offset > area->size ||
        size > area->size - offset)
        return bad_request();
    *content = (cm_content){.kind = (uint8_t)kind, .data = area->bytes + offset, .size = size};
    memcpy(&content->id, item, sizeof content->id);
    memcpy(&content->base, item + 56, sizeof content->base);
    return 0;
}

/* The contents of a put, which borrow from the area; the caller frees the array. */
static int read_contents(uint64_t count, const cm_area *area, cm_content **contents)
{
    *contents = NULL;
    if (count > area->size / CM_WIRE_CONTENT)
        return bad_request();
    *contents = calloc(count + 1, sizeof **contents);
    int result = *contents ? 0 : cm_fail(ENOMEM, "out of memory");
    for (uint64_t i = 0; i < count && !result; i++)
        result = check_content(area, i, count, &(*contents)[i]);
    return result;
}

static void tell_stored(const connection *c, const cm_content *contents, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        cm_put_u64(c->area.bytes + i * CM_WIRE_PUT_DONE, contents[i].stored |
                                                             (contents[i].different ? CM_WIRE_DIFFERENT : 0) |
                                                             (contents[i].fresh ? 0 : CM_WIRE_THERE));
}

static int put_contents(connection *c, uint64_t id, uint64_t count, const cm_area *area)
{
    cm_cleanup(cm_cleanup_free) cm_content *contents = NULL;
    int result = read_contents(count, area, &contents);
    if (result)
        return result;
    transaction *t = enter_transaction(c, id);
    if (!t)
        return -ECONNRESET;
    result = cm_contents_put(c->store, t->txn, t->pending, contents, count);
    leave_transaction(c, t);
    if (!result)
        tell_stored(c, contents, count);
    return result;
}

static int on_put(connection *c)
{
    uint64_t id = cm_read_varint(&c->request), count = cm_read_bounded(&c->request, CM_WIRE_AREA / CM_WIRE_CONTENT);
    if (c->request.bad)
        return bad_request();
    if (c->passed < 0)
        return put_contents(c, id, count, &c->area);
    cm_area own; /* one content that is larger than the area */
    int result = cm_area_map(c->passed, CM_RECORD_MOST + (size_t)CM_WIRE_CONTENT, &own);
    if (result)
        return result;
    result = put_contents(c, id, count, &own);
    cm_area_clear(&own);
    return result;
}

static bool read_optional(cm_reader *reader, const void **bytes, size_t *size)
{
    *bytes = NULL;
    *size = 0;
    if (cm_read_bounded(reader, 1) == 0)
        return !reader->bad;
    *size = (size_t)cm_read_varint(reader);
    *bytes = cm_read_bytes(reader, *size);
    return *bytes != NULL;
}

/* -EEXIST: the transaction goes on, with what was put. Other failures end it. */
static int commit(connection *c, transaction *t, cm_content *contents, uint64_t content_count, cm_ref_update *updates,
                  uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        updates[i].key = cm_read_string(&c->request);
        if (!updates[i].key || !read_optional(&c->request, &updates[i].expected, &updates[i].expected_size) ||
            !read_optional(&c->request, &updates[i].value, &updates[i].value_size))
            return bad_request();
    }
    int result = content_count ? cm_contents_put(c->store, t->txn, t->pending, contents, content_count) : 0;
    if (result)
        return result;
    result = c->store->backend->ops->commit(t->txn, updates, count);
    if (result != -EEXIST)
        t->txn = NULL; /* committing has freed it */
    if (result)
        return result;
    cm_known_merge(c->store->known, t->pending);
    tell_stored(c, contents, content_count);
    return 0;
}

static int on_commit(connection *c)
{
    uint64_t id = cm_read_varint(&c->request);
    uint64_t content_count = cm_read_bounded(&c->request, CM_WIRE_AREA / CM_WIRE_CONTENT);
    uint64_t count = cm_read_bounded(&c->request, REFS_MOST);
    cm_cleanup(cm_cleanup_free) cm_content *contents = NULL;
    int result = c->request.bad ? bad_request() : read_contents(content_count, &c->area, &contents);
    if (result)
        return result;
    transaction *t = take_transaction(c, id);
    if (!t)
        return -ECONNRESET;
    cm_cleanup(cm_cleanup_free) cm_ref_update *updates = calloc(count + 1, sizeof *updates);
    result = updates ? commit(c, t, contents, content_count, updates, count) : cm_fail(ENOMEM, "out of memory");
    for (uint64_t i = 0; updates && i < count; i++)
        free((char *)updates[i].key);
    if (result == -EEXIST)
        put_back(c, t);
    else
        end_transaction(c->serve, t);
    return result;
}

static int on_abort(connection *c)
{
    transaction *t = take_transaction(c, cm_read_varint(&c->request));
    if (t)
        end_transaction(c->serve, t);
    return 0;
}

static int on_ref_get(connection *c)
{
    cm_cleanup(cm_cleanup_free) char *key = cm_read_string(&c->request);
    cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
    if (!key)
        return bad_request();
    int result = c->store->backend->ops->ref_get(c->store->backend, key, &value);
    cm_buffer_varint(&c->reply, value.size);
    cm_buffer_append(&c->reply, value.data, value.size);
    return result;
}

typedef struct ref_listing {
    cm_buffer *reply;
    const char *after; /* keys up to this one were sent before */
    uint64_t count;
} ref_listing;

static int list_ref(void *arg, const char *key, const void *value, size_t size)
{
    ref_listing *l = arg;
    if (*l->after && strcmp(key, l->after) <= 0)
        return 0;
    if (l->reply->size + strlen(key) + size > REF_PACKET && l->count)
        return ENOUGH;
    cm_buffer_varint(l->reply, 1);
    cm_buffer_string(l->reply, key);
    cm_buffer_varint(l->reply, size);
    cm_buffer_append(l->reply, value, size);
    l->count++;
    return 0;
}

static int on_ref_list(connection *c)
{
    cm_cleanup(cm_cleanup_free) char *prefix = cm_read_string(&c->request);
    cm_cleanup(cm_cleanup_free) char *after = cm_read_string(&c->request);
    if (!prefix || !after)
        return bad_request();
    ref_listing l = {.reply = &c->reply, .after = after};
    int result = c->store->backend->ops->ref_list(c->store->backend, prefix, list_ref, &l);
    cm_buffer_varint(&c->reply, 0);
    cm_buffer_varint(&c->reply, result == ENOUGH);
    return result == ENOUGH ? 0 : result;
}

static int on_disk(connection *c)
{
    uint64_t bytes = 0;
    int result = c->store->backend->ops->disk_bytes(c->store->backend, &bytes);
    cm_buffer_varint(&c->reply, bytes);
    return result;
}

static int on_control(connection *c)
{
    char *words[WORDS_MOST + 1] = {NULL};
    uint64_t count = cm_read_bounded(&c->request, WORDS_MOST);
    int result = count && !c->request.bad && c->serve->control ? 0 : bad_request();
    for (uint64_t i = 0; i < count && !result; i++)
        if (!(words[i] = cm_read_string(&c->request)))
            result = bad_request();
    cm_cleanup(cm_cleanup_free) char *reply = NULL;
    if (!result)
        result = c->serve->control(c->serve->arg, (int)count, words, &reply);
    cm_buffer_string(&c->reply, reply);
    for (uint64_t i = 0; i < count; i++)
        free(words[i]);
    return result;
}

/* One more packet of the answer, before the last. */
static int gc_progress(void *arg, uint64_t done, uint64_t total)
{
    const connection *c = arg;
    cm_cleanup(cm_buffer_free) cm_buffer packet = CM_BUFFER_INIT;
    cm_buffer_varint(&packet, 0);
    cm_buffer_varint(&packet, 1);
    cm_buffer_varint(&packet, done);
    cm_buffer_varint(&packet, total);
    return packet.error ? cm_fail(ENOMEM, "out of memory") : cm_wire_send(c->socket, &packet, -1);
}

static int on_gc(connection *c)
{
    uint64_t dry_run = cm_read_bounded(&c->request, 1);
    if (c->request.bad)
        return bad_request();
    cm_gc_report r;
    int result = cm_gc(c->store, dry_run, gc_progress, c, &r);
    const uint64_t told[] = {r.kept, r.kept_bytes, r.removed, r.removed_bytes, r.disk_before, r.disk_after};
    cm_buffer_varint(&c->reply, 0);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        cm_buffer_varint(&c->reply, told[i]);
    return result;
}

/* ---- the connection ---------------------------------------------------------------------------------------------- */

static int answer(connection *c, uint64_t op)
{
    static int (*const handlers[])(connection *) = {
        [CM_WIRE_HELLO] = on_hello,     [CM_WIRE_FIND] = on_find,
        [CM_WIRE_GET] = on_get,         [CM_WIRE_LIST] = on_list,
        [CM_WIRE_BEGIN] = on_begin,     [CM_WIRE_PUT] = on_put,
        [CM_WIRE_COMMIT] = on_commit,   [CM_WIRE_ABORT] = on_abort,
        [CM_WIRE_REF_GET] = on_ref_get, [CM_WIRE_REF_LIST] = on_ref_list,
        [CM_WIRE_DISK] = on_disk,       [CM_WIRE_CONTROL] = on_control,
        [CM_WIRE_GC] = on_gc,
    };
    if (op >= sizeof handlers / sizeof *handlers || !handlers[op] || (op != CM_WIRE_HELLO && !c->client))
        return bad_request();
    return handlers[op](c);
}

/* A reply begins with 0, or an errno and its sentence. */
static int serve_one(connection *c, cm_buffer *packet)
{
    int result = cm_wire_receive(c->socket, packet, &c->passed);
    if (result)
        return result;
    c->request = cm_reader_of(packet->data, packet->size);
    c->pass = -1;
    cm_buffer_clear(&c->reply);
    cm_buffer_varint(&c->reply, 0);
    int answered = answer(c, cm_read_varint(&c->request));
    if (answered) {
        cm_buffer_clear(&c->reply);
        cm_buffer_varint(&c->reply, (uint64_t)-answered);
        cm_buffer_string(&c->reply, cm_error_message());
    }
    result = cm_wire_send(c->socket, &c->reply, c->pass);
    if (c->pass >= 0)
        close(c->pass);
    if (c->passed >= 0)
        close(c->passed);
    return result ? result : answered == -EPROTO ? answered : 0;
}

void cm_serve_connection(cm_serve *serve, int socket)
{
    connection c = {.serve = serve, .store = serve->store, .socket = socket, .passed = -1, .pass = -1};
    cm_buffer packet = CM_BUFFER_INIT;
    if (cm_wire_check_peer(socket) == 0)
        while (serve_one(&c, &packet) == 0)
            ;
    leave_client(&c);
    cm_area_clear(&c.area);
    cm_buffer_free(&packet);
    cm_buffer_free(&c.reply);
    close(socket);
}
