/* SPDX-License-Identifier: Apache-2.0 */
/* save_work.c - the workers of a save: hash, and hand over to the store. */
#include "save_put.h"

#include "tree.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    POP_ITEMS = 32,
    POP_BYTES = 256 << 10,
    START_BEHIND = 64 << 20, /* for whoever hands over more is not to be disturbed in it */
    START_BYTES = 512 << 10, /* less than that is left to the committer: a small save starts no workers */
};

void cm_save_set_error(cm_save *save, int error)
{
    pthread_mutex_lock(&save->lock);
    if (!save->error) {
        save->error = error;
        save->error_message = strdup(cm_error_message());
    }
    pthread_cond_broadcast(&save->progress);
    pthread_cond_broadcast(&save->work);
    pthread_mutex_unlock(&save->lock);
}

bool cm_save_failed(cm_save *save)
{
    pthread_mutex_lock(&save->lock);
    bool failed = save->error != 0 || save->cancelled;
    pthread_mutex_unlock(&save->lock);
    return failed;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

static cm_offer offer_chunk(cm_save *save, cm_source *source, uint64_t i)
{
    bool large = cm_chunk_count(source->size) >= CM_PIECE_CHUNKS;
    return (cm_offer){.kind = CM_KIND_CHUNK,
                      .place = {source->page, source->number, 0, i},
                      .luck = large ? &source->luck : &save->chunk_luck,
                      .data = source->data ? source->data + i * CM_CHUNK : NULL,
                      .size = (size_t)cm_chunk_size(source->size, i),
                      .id = &source->chunks[i],
                      .stored = &source->stored};
}

bool cm_source_know(cm_save *save, cm_source *source, uint64_t chunk, cm_fingerprint key)
{
    cm_offer o = offer_chunk(save, source, chunk);
    o.key = key;
    return cm_put_known(save, &o);
}

/* The memory of a source may be read while this is held. */
static void lock_memory(cm_save *save, const cm_source *source)
{
    if (source->read)
        pthread_rwlock_rdlock(&save->memory);
}

static void unlock_memory(cm_save *save, cm_source *source, uint64_t chunk, bool read)
{
    if (source->read) {
        source->read[chunk] |= read;
        pthread_rwlock_unlock(&save->memory);
    }
}

/*
 * A chunk with an edge, of a source that is watched, is copied first, so that what is learnt of the edge is of the very bytes that its
 * id is made of: the copy. Others are where they are. With its memory locked; NULL: out of memory.
 */
static const uint8_t *copy_edge(cm_save *save, cm_source *source, const cm_offer *o, cm_buffer *copy)
{
    uint64_t offset, length = 0;
    unsigned edge;
    if (source->look)
        length = cm_watch_edge(source->memory, source->size, o->place.index, &offset, &edge);
    if (!length)
        return o->data;
    cm_buffer_clear(copy);
    cm_buffer_append(copy, o->data, o->size);
    if (copy->error)
        return NULL;
    source->edges[edge] = cm_fingerprint_of(save->store->fingerprints, copy->data + offset, length);
    return copy->data;
}

/*
 * One chunk. It is copied before it is hashed with SHA-256: its owner may write to its memory later, and what is hashed and what
 * is stored must be the same bytes. *last: the fingerprint of the chunk before it in the piece, and then its own. `fetched`: its
 * bytes, if they were on a device.
 */
static int work_chunk(cm_batch *b, cm_source *source, uint64_t i, const uint8_t *fetched, cm_fingerprint *last)
{
    cm_save *save = b->save;
    const cm_fingerprints *fingerprints = save->store->fingerprints;
    uint8_t *copy;
    lock_memory(save, source);
    if (source->read && source->read[i]) { /* it was known at the start, or to cm_save_detach */
        unlock_memory(save, source, i, true);
        *last = (cm_fingerprint){0, 0};
        return 0;
    }
    cm_offer o = offer_chunk(save, source, i);
    const void *memory = o.data;
    o.data = fetched ? fetched : copy_edge(save, source, &o, &b->piece);
    if (!o.data && o.size) {
        unlock_memory(save, source, i, false);
        return cm_fail(ENOMEM, "out of memory for the content of a save");
    }
    fetched = o.data != memory ? o.data : NULL;
    o.key = cm_fingerprint_of(fingerprints, o.data, o.size);
    bool run = cm_fingerprint_equal(*last, o.key), known = run || cm_put_known(save, &o);
    unlock_memory(save, source, i, known || fetched);
    if (run)
        source->chunks[i] = source->chunks[i - 1]; /* of equal chunks, of zeros for instance: counted once */
    *last = o.key;
    if (known)
        return 0;
    int result = cm_batch_reserve(b, o.size, &copy); /* may take long */
    if (result)
        return result;
    lock_memory(save, source);
    if (o.size)
        memcpy(copy, fetched ? fetched : source->data + i * CM_CHUNK, o.size);
    unlock_memory(save, source, i, true);
    o.key = *last = cm_fingerprint_of(fingerprints, copy, o.size);
    return cm_batch_put_copy(b, &o, copy);
}

/* Nobody will read its memory any more. */
static void end_source(cm_save *save, cm_source *source)
{
    if (!source->read)
        return;
    pthread_rwlock_wrlock(&save->memory);
    free(source->copy);
    source->copy = NULL;
    pthread_rwlock_unlock(&save->memory);
}

/* Stays off the processors, and off the memory, while somebody waits for cm_save_detach. */
static void make_way(cm_save *save)
{
    if (!atomic_load_explicit(&save->detaching, memory_order_relaxed))
        return;
    pthread_mutex_lock(&save->lock);
    while (atomic_load_explicit(&save->detaching, memory_order_relaxed) && !save->error && !save->cancelled)
        pthread_cond_wait(&save->progress, &save->lock);
    pthread_mutex_unlock(&save->lock);
}

/* *fetched: what was not read of a piece that is on a device, until the next one; NULL: it is not on one, or not any more. */
static int fetch_piece(cm_batch *b, const cm_item *item, const uint8_t **fetched)
{
    *fetched = NULL;
    const cm_source *source = item->source;
    if (!source->device.ops)
        return 0;
    uint64_t left = source->size - item->first_chunk * CM_CHUNK, most = (uint64_t)CM_PIECE_CHUNKS * CM_CHUNK;
    uint64_t size = left < most ? left : most; /* of all of it: each chunk goes to its place */
    cm_buffer_clear(&b->piece);
    uint8_t *piece = cm_buffer_extend(&b->piece, size);
    if (!piece)
        return cm_fail(ENOMEM, "out of memory for what is copied from a device");
    make_way(b->save);
    int result = 0;
    lock_memory(b->save, source);
    if (!source->data) {
        result = cm_source_fetch(source, item->first_chunk, size, piece);
        *fetched = piece;
    }
    pthread_rwlock_unlock(&b->save->memory);
    return result;
}

static int work_piece(cm_batch *b, const cm_item *item)
{
    cm_source *source = item->source;
    cm_fingerprint last = {0, 0}; /* no content has this one */
    const uint8_t *fetched;
    int result = fetch_piece(b, item, &fetched);
    uint64_t chunks = cm_chunk_count(source->size);
    for (uint64_t i = item->first_chunk; !result && i < chunks && i < item->first_chunk + CM_PIECE_CHUNKS; i++) {
        make_way(b->save);
        const uint8_t *at = fetched ? fetched + (i - item->first_chunk) * CM_CHUNK : NULL;
        result = work_chunk(b, source, i, at, &last);
    }
    if (atomic_fetch_sub_explicit(&source->pieces_left, 1, memory_order_release) == 1)
        end_source(b->save, source);
    return result;
}

/* Builds the nodes over a source's chunks, level by level, up to its root. */
static int finish_source(cm_batch *b, cm_source *source)
{
    if (!cm_id_is_none(&source->root))
        return 0;
    uint64_t count = cm_chunk_count(source->size);
    const cm_id *below = source->chunks;
    cm_cleanup(cm_cleanup_free) cm_id *ids = count > 1 ? malloc((count / CM_FANOUT + 1) * sizeof *ids) : NULL;
    if (count > 1 && !ids)
        return cm_fail(ENOMEM, "out of memory for the tree of a buffer");
    for (uint32_t level = 1; count > 1; level++) {
        uint64_t nodes = 0;
        for (uint64_t start = 0; start < count; start += CM_FANOUT) {
            uint64_t n = count - start < CM_FANOUT ? count - start : CM_FANOUT;
            cm_id id;
            int result = cm_batch_put(b, (cm_offer){.kind = CM_KIND_TREE,
                                                    .place = {source->page, source->number, level, nodes},
                                                    .luck = &b->save->luck,
                                                    .data = below + start,
                                                    .size = (size_t)n * sizeof id,
                                                    .id = &id,
                                                    .stored = &source->stored});
            if (result)
                return result;
            ids[nodes++] = id;
        }
        below = ids;
        count = nodes;
    }
    source->root = below[0];
    return 0;
}

static bool is_child(const cm_event *event)
{
    return event->type == CM_EVENT_CHILD || event->type == CM_EVENT_CHILD_AT;
}

/* Waits for a child, or a source, whose worker is told by *awaited to wake who waits for it. */
static int await_part(cm_save *save, bool *awaited, const cm_pod *child, const cm_source *source)
{
    pthread_mutex_lock(&save->lock);
    *awaited = true;
    while (!save->error && !save->cancelled &&
           (child ? !atomic_load_explicit(&child->done, memory_order_acquire)
                  : atomic_load_explicit(&source->pieces_left, memory_order_acquire) != 0))
        pthread_cond_wait(&save->progress, &save->lock);
    int result = save->error || save->cancelled ? -ECANCELED : 0;
    pthread_mutex_unlock(&save->lock);
    return result;
}

/* Waits until what the pod is made of is done. Everything waited for left the queue before the pod did. */
static int wait_for_parts(cm_save *save, const cm_pod *pod)
{
    int result = 0;
    for (size_t i = 0; i < pod->event_count && !result; i++) {
        cm_pod *child = is_child(&pod->events[i]) ? pod->events[i].pod : NULL;
        if (child && !atomic_load_explicit(&child->done, memory_order_acquire))
            result = await_part(save, &child->awaited, child, NULL);
    }
    for (cm_source *source = pod->sources; source && !result; source = source->next)
        if (atomic_load_explicit(&source->pieces_left, memory_order_acquire))
            result = await_part(save, &source->awaited, NULL, source);
    return result;
}

static int work_pod(cm_batch *b, cm_pod *pod, cm_buffer *content)
{
    int result = wait_for_parts(b->save, pod);
    cm_source *source = pod->sources;
    for (size_t i = 0; i < pod->event_count && !result; i++) {
        cm_event *event = &pod->events[i];
        if (is_child(event)) {
            event->id = event->pod->id;
        } else if (event->type != CM_EVENT_EXTERNAL && !event->stored) {
            result = finish_source(b, source);
            event->id = source->root;
            source = source->next;
        }
    }
    if (result)
        return result;
    const cm_pod_view view = {.kind = pod->kind,
                              .root = pod->root,
                              .memo_count = pod->body.memo_count,
                              .events = pod->events,
                              .event_count = pod->event_count,
                              .gets = pod->gets,
                              .get_count = pod->get_count,
                              .body = pod->body.start,
                              .body_size = pod->body_size};
    result = cm_pod_encode(&view, content);
    if (!result)
        result = cm_batch_put(b, (cm_offer){.kind = CM_KIND_POD,
                                            .place = {.page = pod->page},
                                            .luck = &b->save->luck,
                                            .data = content->data,
                                            .size = content->size,
                                            .id = &pod->id,
                                            .stored = &pod->stored});
    if (result)
        return result;
    free(pod->body.start);
    free(pod->gets);
    pod->body.start = pod->body.cursor = pod->body.limit = NULL;
    pod->gets = NULL;
    atomic_store_explicit(&pod->done, true, memory_order_release);
    return 0;
}

/* ---- the queue --------------------------------------------------------------------------------------------------- */

/*
 * Takes some items; waits for them unless the queue is closing. 0: there will be no more. Who waits has none, so that nobody waits
 * for them. Called and returns locked.
 */
static size_t pop(cm_save *save, bool committer, cm_item items[POP_ITEMS])
{
    for (;;) {
        if (save->error || save->cancelled)
            return 0;
        if (save->queue_count && (committer || !save->reserved))
            break;
        if (save->closing && !save->queue_count)
            return 0;
        save->idle++;
        pthread_cond_wait(&save->work, &save->lock);
        save->idle--;
    }
    size_t count = 0;
    uint64_t bytes = 0;
    while (save->queue_count && count < POP_ITEMS && bytes < POP_BYTES) {
        items[count] = save->queue[save->queue_head];
        save->queue_head = (save->queue_head + 1) & (save->queue_capacity - 1);
        save->queue_count--;
        bytes += items[count++].bytes;
    }
    return count;
}

/* One worker's life; also the committer's part in it. */
static int work(cm_save *save, bool committer)
{
    cm_cleanup(cm_batch_clear) cm_batch batch = {.save = save};
    cm_cleanup(cm_buffer_free) cm_buffer content = CM_BUFFER_INIT;
    int result = 0;
    cm_item items[POP_ITEMS];
    pthread_mutex_lock(&save->lock);
    for (size_t count; !result && (count = pop(save, committer, items)) > 0;) {
        pthread_mutex_unlock(&save->lock);
        uint64_t bytes = 0;
        for (size_t i = 0; i < count && !result; i++) {
            result = items[i].pod ? work_pod(&batch, items[i].pod, &content) : work_piece(&batch, &items[i]);
            bytes += items[i].bytes;
            /* Only who waits for this very item is woken: with many items that would be many times for nothing. */
            pthread_mutex_lock(&save->lock);
            if (items[i].pod ? items[i].pod->awaited : items[i].source->awaited)
                pthread_cond_broadcast(&save->progress);
            bool stop = save->error || save->cancelled;
            pthread_mutex_unlock(&save->lock);
            if (stop)
                break;
        }
        pthread_mutex_lock(&save->lock);
        save->queue_bytes -= bytes < save->queue_bytes ? bytes : save->queue_bytes;
    }
    pthread_mutex_unlock(&save->lock);
    if (!result && !cm_save_failed(save))
        result = cm_batch_flush(&batch);
    if (result && result != -ECANCELED)
        cm_save_set_error(save, result);
    return result;
}

static void *worker(void *save)
{
    (void)work(save, false); /* its error is the save's */
    return NULL;
}

static unsigned cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > CM_WORKERS_MOST ? CM_WORKERS_MOST : (unsigned)n;
}

static bool queue_room(cm_save *save, size_t count)
{
    if (save->queue_count + count <= save->queue_capacity)
        return true;
    size_t capacity = save->queue_capacity ? save->queue_capacity : 256;
    while (capacity < save->queue_count + count)
        capacity *= 2;
    cm_item *queue = malloc(capacity * sizeof *queue);
    if (!queue)
        return false;
    for (size_t i = 0; i < save->queue_count; i++)
        queue[i] = save->queue[(save->queue_head + i) & (save->queue_capacity - 1)];
    free(save->queue);
    save->queue = queue;
    save->queue_head = 0;
    save->queue_capacity = capacity;
    return true;
}

/* With the lock held. False: there are enough; without any the committer does it all. */
static bool start_worker(cm_save *save)
{
    if (save->worker_count >= cores() || pthread_create(&save->workers[save->worker_count], NULL, worker, save) != 0)
        return false;
    save->worker_count++;
    return true;
}

int cm_save_enqueue(cm_save *save, const cm_item *items, size_t count)
{
    int result = 0;
    pthread_mutex_lock(&save->lock);
    if (save->error) {
        result = save->error;
        cm_fail(-result, "%s", save->error_message ? save->error_message : "the save failed");
    } else if (!queue_room(save, count)) {
        result = cm_fail(ENOMEM, "out of memory for the queue of a save");
    } else {
        for (size_t i = 0; i < count; i++) {
            save->queue[(save->queue_head + save->queue_count++) & (save->queue_capacity - 1)] = items[i];
            save->queue_bytes += items[i].bytes;
        }
        if (save->idle)
            pthread_cond_signal(&save->work);
        if (save->queue_bytes > (save->behind ? START_BEHIND : START_BYTES) && !save->idle && !save->held)
            start_worker(save);
    }
    pthread_mutex_unlock(&save->lock);
    return result;
}

void cm_save_start_workers(cm_save *save)
{
    pthread_mutex_lock(&save->lock);
    for (uint64_t bytes = START_BYTES; bytes < save->queue_bytes && start_worker(save); bytes += START_BYTES)
        ;
    pthread_mutex_unlock(&save->lock);
}

void cm_save_make_way(cm_save *save, bool busy)
{
    pthread_mutex_lock(&save->lock);
    save->reserved = busy && save->behind;
    if (!save->reserved)
        pthread_cond_broadcast(&save->work);
    pthread_mutex_unlock(&save->lock);
}

void cm_save_stop_workers(cm_save *save)
{
    pthread_mutex_lock(&save->lock);
    save->closing = true;
    pthread_cond_broadcast(&save->work);
    unsigned count = save->worker_count;
    save->worker_count = 0;
    pthread_mutex_unlock(&save->lock);
    for (unsigned i = 0; i < count; i++)
        pthread_join(save->workers[i], NULL);
}

int cm_save_drain(cm_save *save)
{
    pthread_mutex_lock(&save->lock);
    save->closing = true;
    pthread_cond_broadcast(&save->work);
    pthread_mutex_unlock(&save->lock);
    int result = work(save, true);
    cm_save_stop_workers(save);
    pthread_mutex_lock(&save->lock);
    if (save->error)
        result = cm_fail(-save->error, "%s", save->error_message ? save->error_message : "the save failed");
    else if (save->cancelled)
        result = -ECANCELED;
    pthread_mutex_unlock(&save->lock);
    return result;
}

/* ---- letting go of memory ------------------------------------------------------------------------------------------- */

enum {
    DETACH_CHUNKS = 32, /* while the workers are kept from reading */
    HUGE_PAGE = 2 << 20,
};

static void set_detaching(cm_save *save, bool detaching)
{
    pthread_mutex_lock(&save->lock);
    atomic_store_explicit(&save->detaching, detaching, memory_order_relaxed);
    pthread_cond_broadcast(&save->progress);
    pthread_mutex_unlock(&save->lock);
}

uint8_t *cm_source_copy_new(const cm_source *source)
{
    uint64_t count = cm_chunk_count(source->size), left = 0;
    for (uint64_t i = 0; i < count; i++)
        left += !source->read[i];
    void *copy = NULL;
    if (source->size < HUGE_PAGE || left < count / 2)
        return malloc(source->size);
    if (posix_memalign(&copy, HUGE_PAGE, source->size))
        return NULL;
    (void)madvise(copy, source->size, MADV_HUGEPAGE); /* only a hint: kernels without it work as well */
    return copy;
}

/* Some chunks, from *chunk on; 1: the source is detached; 0: go on; -1: there is no more room for copies. With the lock held. */
static int detach_some(cm_save *save, cm_source *source, uint64_t *chunk, uint64_t *room)
{
    cm_cleanup(cm_buffer_free) cm_buffer edge = CM_BUFFER_INIT;
    uint64_t count = cm_chunk_count(source->size), end = *chunk + DETACH_CHUNKS;
    for (; *chunk < count && *chunk < end; ++*chunk) {
        if (source->read[*chunk])
            continue;
        cm_offer o = offer_chunk(save, source, *chunk);
        o.data = copy_edge(save, source, &o, &edge);
        if (!o.data)
            return -1;
        o.key = cm_fingerprint_of(save->store->fingerprints, o.data, o.size);
        if (cm_put_known(save, &o)) {
            source->read[*chunk] = true;
            continue;
        }
        if (o.size > *room || (!source->copy && !(source->copy = cm_source_copy_new(source))))
            return -1;
        memcpy(source->copy + *chunk * CM_CHUNK, o.data, o.size);
        *room -= o.size;
    }
    if (*chunk < count)
        return 0;
    if (source->copy)
        source->data = source->copy;
    return 1;
}

/* Its memory is the caller's, and not read yet. */
static bool is_lent(const cm_source *source)
{
    if (atomic_load_explicit(&source->pieces_left, memory_order_acquire) == 0)
        return false;
    return !source->copy || source->data != source->copy;
}

/* True if all that is left of the source's memory is in copies. */
static bool detach_source(cm_save *save, cm_source *source, uint64_t *room)
{
    int result = 0;
    for (uint64_t chunk = 0; result == 0;) {
        pthread_rwlock_wrlock(&save->memory);
        if (!is_lent(source))
            result = 1;
        else if (!source->data)
            result = cm_source_detach_device(save, source, room);
        else
            result = detach_some(save, source, &chunk, room);
        pthread_rwlock_unlock(&save->memory);
    }
    return result > 0;
}

/* Waits until the workers have read the source's memory, or will not. */
static void await_source(cm_save *save, cm_source *source)
{
    set_detaching(save, false);
    pthread_mutex_lock(&save->lock);
    source->awaited = true;
    while (atomic_load_explicit(&source->pieces_left, memory_order_acquire) && save->state != CM_SAVE_DONE)
        pthread_cond_wait(&save->progress, &save->lock);
    pthread_mutex_unlock(&save->lock);
    set_detaching(save, true);
}

bool cm_save_lends(const cm_save *save, const void *memory)
{
    for (const cm_source *source = save->lent; source; source = source->next_lent)
        if (memory && source->data == memory && is_lent(source))
            return true;
    return false;
}

static bool is_spared(const cm_source *source, const void *const *spared, size_t count)
{
    for (size_t i = 0; source->data && i < count; i++) /* NULL: it is on a device */
        if (source->data == spared[i])
            return true;
    return false;
}

bool cm_save_detach(cm_save *save, uint64_t limit, const void *const *spared, size_t spared_count, uint64_t *taken)
{
    bool fits = save->built <= limit;
    uint64_t room = fits ? limit - save->built : 0;
    set_detaching(save, true);
    for (cm_source *source = save->lent; fits && source; source = source->next_lent)
        if (is_lent(source) && !is_spared(source, spared, spared_count) && cm_save_wait(save, 0) == -EAGAIN &&
            !detach_source(save, source, &room)) {
            fits = !save->held;
            if (fits)
                await_source(save, source);
        }
    set_detaching(save, false);
    if (save->held && !save->detached_ns)
        save->detached_ns = cm_now_ns();
    *taken = fits ? limit - room : 0;
    if (fits)
        save->built = 0; /* it is told */
    return fits;
}
