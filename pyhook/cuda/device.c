/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - chipmink/device.h over the calls of runtime.h.
 *
 * Bytes come from the device through lanes. A lane has two slots, each with a stream and pinned memory: while the device fills
 * one, the other is emptied. A large fetch is spread over several lanes, each with a thread, since one thread empties slots more slowly
 * than the bus fills them.
 */
#include "hash_chunk.h"
#include "runtime.h"

#include <chipmink/device.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#ifndef CM_DEVICE_SLOT
#define CM_DEVICE_SLOT (4 << 20) /* bytes */
#endif

enum {
    SLOT = CM_DEVICE_SLOT,
    SLOTS = 2,
    SLOT_RUNS = SLOT / CM_DEVICE_CHUNK,
    THREADS_MOST = 8,
    THREAD_LEAST = 32 << 20, /* bytes that are worth a thread */
    /* A look puts the hashes into one slot, and the few bytes that it wants into the other. */
    LOOK_CHUNKS = SLOT / sizeof(cm_device_hash),
};

typedef struct run {
    uint64_t start, size; /* in what is fetched */
} run;

typedef struct slot {
    cm_rt_stream stream;
    uint8_t *pinned;
    run runs[SLOT_RUNS]; /* that are on their way */
    size_t count;
} slot;

typedef struct lane {
    int device;
    slot slots[SLOTS];
    struct lane *next;
} lane;

struct cm_device_context {
    pthread_mutex_t lock;
    lane *spare;
    pid_t process;
};

static _Thread_local char sentence[256];

static const char *message(void)
{
    return sentence;
}

__attribute__((format(printf, 2, 3))) static int fail(int result, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return result;
}

/* What the runtime returned, as a result. */
static int told(int error, const char *what, int device)
{
    return error ? fail(-EIO, "device %d: %s: %s", device, what, cm_rt_text(error)) : 0;
}

/* ---- lanes ------------------------------------------------------------------------------------------------------- */

/* With its device entered, or at the end. */
static void lane_free(lane *one)
{
    for (int i = 0; i < SLOTS; i++) {
        if (one->slots[i].stream)
            cm_rt_stream_free(one->slots[i].stream);
        if (one->slots[i].pinned)
            cm_rt_pinned_free(one->slots[i].pinned);
    }
    free(one);
}

static int lane_new(int device, lane **made)
{
    lane *one = calloc(1, sizeof *one);
    if (!one)
        return fail(-ENOMEM, "out of memory");
    one->device = device;
    int error = 0;
    for (int i = 0; i < SLOTS && !error; i++) {
        error = cm_rt_stream_new(&one->slots[i].stream);
        void *pinned = NULL;
        if (!error)
            error = cm_rt_pinned_new(SLOT, &pinned);
        one->slots[i].pinned = pinned;
    }
    if (error) {
        lane_free(one);
        return told(error, "a stream and pinned memory", device);
    }
    *made = one;
    return 0;
}

/* A lane of the device that is entered, which is the caller's until lane_give. */
static int lane_take(cm_device_context *context, int device, lane **taken)
{
    pthread_mutex_lock(&context->lock);
    lane **at = &context->spare;
    while (*at && (*at)->device != device)
        at = &(*at)->next;
    *taken = *at;
    if (*at)
        *at = (*at)->next;
    pthread_mutex_unlock(&context->lock);
    return *taken ? 0 : lane_new(device, taken);
}

/* After a failure something may still be on its way: it is waited for, or what failed there fails again. */
static void lane_give(cm_device_context *context, lane *one, bool failed)
{
    for (int i = 0; i < SLOTS; i++) {
        if (failed)
            (void)cm_rt_wait(one->slots[i].stream);
        one->slots[i].count = 0;
    }
    pthread_mutex_lock(&context->lock);
    one->next = context->spare;
    context->spare = one;
    pthread_mutex_unlock(&context->lock);
}

static int enter(const cm_device_context *context, int device, void **before)
{
    if (context->process != getpid())
        return fail(-EPERM, "a process made by fork cannot use the devices of its parent");
    return told(cm_rt_enter(device, before), "it cannot be used", device);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static int open_context(cm_device_context **context)
{
    int count = 0, error = cm_rt_count(&count);
    if (error || count == 0)
        return fail(-ENODEV, "%s", error ? cm_rt_text(error) : "there is no device");
    *context = calloc(1, sizeof **context);
    if (!*context)
        return fail(-ENOMEM, "out of memory");
    pthread_mutex_init(&(*context)->lock, NULL);
    (*context)->process = getpid();
    return 0;
}

static void close_context(cm_device_context *context)
{
    while (context->spare && context->process == getpid()) {
        lane *next = context->spare->next;
        lane_free(context->spare);
        context->spare = next;
    }
    pthread_mutex_destroy(&context->lock);
    free(context);
}

static int check(cm_device_context *context, int device, uint64_t address, uint64_t size)
{
    void *before;
    int result = enter(context, device, &before);
    if (result)
        return result;
    int plain = 0, error = cm_rt_is_plain(device, address, &plain);
    if (!error && plain && size > 1)
        error = cm_rt_is_plain(device, address + size - 1, &plain);
    cm_rt_leave(before);
    if (error)
        return told(error, "asking for the kind of its memory", device);
    return plain ? 0 : fail(-ENOTSUP, "device %d: this is no plain memory of it", device);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Hashes a part that one slot has room for the hashes of. */
static int look_part(lane *with, uint64_t address, uint64_t size, uint64_t seed, void *head, cm_device_hash *hashes)
{
    uint64_t chunks = (size + CM_DEVICE_CHUNK - 1) / CM_DEVICE_CHUNK, last = size - (chunks - 1) * CM_DEVICE_CHUNK;
    bool apart = last <= CM_HASH_SHORT;
    slot *hashed = &with->slots[0], *read = &with->slots[1];
    cm_rt_hash work = {.address = address, .size = size, .out = (uint64_t *)(void *)hashed->pinned};
    XXH3_generateSecret_fromSeed(work.secret, seed);
    int error = 0;
    if (head)
        error = cm_rt_copy(read->pinned, address, least(size, CM_DEVICE_HEAD), read->stream);
    if (!error && apart)
        error = cm_rt_copy(read->pinned + CM_DEVICE_HEAD, address + size - last, last, read->stream);
    if (!error && !(apart && chunks == 1))
        error = cm_rt_hash_chunks(&work, hashed->stream);
    if (!error)
        error = cm_rt_wait(hashed->stream);
    if (!error)
        error = cm_rt_wait(read->stream);
    if (error)
        return told(error, "hashing its memory", with->device);
    if (head)
        memcpy(head, read->pinned, least(size, CM_DEVICE_HEAD));
    memcpy(hashes, hashed->pinned, chunks * sizeof *hashes);
    if (apart) {
        XXH128_hash_t hash = XXH3_128bits_withSeed(read->pinned + CM_DEVICE_HEAD, last, seed);
        hashes[chunks - 1] = (cm_device_hash){hash.low64, hash.high64};
    }
    return 0;
}

static int look(cm_device_context *context, int device, uint64_t address, uint64_t size, uint64_t seed, void *head,
                cm_device_hash *hashes)
{
    void *before;
    lane *with = NULL;
    int result = enter(context, device, &before);
    if (result)
        return result;
    result = told(cm_rt_synchronize(), "waiting for what was enqueued", device);
    if (!result)
        result = lane_take(context, device, &with);
    const uint64_t most = (uint64_t)LOOK_CHUNKS * CM_DEVICE_CHUNK;
    for (uint64_t done = 0; !result && done < size; done += most)
        result = look_part(with, address + done, least(size - done, most), seed, done ? NULL : head,
                           hashes + done / CM_DEVICE_CHUNK);
    if (with)
        lane_give(context, with, result != 0);
    cm_rt_leave(before);
    return result;
}

/* ---- fetching ---------------------------------------------------------------------------------------------------- */

/* What is to be fetched, and the part of it that one thread does. */
typedef struct part {
    cm_device_context *context;
    int device;
    uint64_t address, size;
    const uint8_t *skip;
    uint8_t *to;
    uint64_t from, end; /* chunks */
    int result;
    char message[sizeof sentence];
} part;

/* Takes the next chunks that are wanted, at most `room` bytes one after the other. False: there are none. */
static bool next_run(const part *p, uint64_t *chunk, uint64_t room, run *next)
{
    while (*chunk < p->end && p->skip && p->skip[*chunk])
        ++*chunk;
    *next = (run){.start = *chunk * CM_DEVICE_CHUNK};
    while (*chunk < p->end && !(p->skip && p->skip[*chunk])) {
        uint64_t size = least(p->size - *chunk * CM_DEVICE_CHUNK, CM_DEVICE_CHUNK);
        if (next->size + size > room)
            break;
        next->size += size;
        ++*chunk;
    }
    return next->size > 0;
}

static int fill(const part *p, slot *s, uint64_t *chunk)
{
    size_t used = 0;
    run next;
    while (s->count < SLOT_RUNS && next_run(p, chunk, SLOT - used, &next)) {
        int error = cm_rt_copy(s->pinned + used, p->address + next.start, next.size, s->stream);
        if (error)
            return error;
        s->runs[s->count++] = next;
        used += next.size;
    }
    return 0;
}

static int empty(const part *p, slot *s)
{
    int error = s->count ? cm_rt_wait(s->stream) : 0;
    const uint8_t *from = s->pinned;
    for (size_t i = 0; i < s->count && !error; i++) {
        memcpy(p->to + s->runs[i].start, from, s->runs[i].size);
        from += s->runs[i].size;
    }
    s->count = 0;
    return error;
}

static int fetch_part(const part *p)
{
    void *before;
    lane *with = NULL;
    int result = enter(p->context, p->device, &before);
    if (result)
        return result;
    result = lane_take(p->context, p->device, &with);
    if (!result) {
        uint64_t chunk = p->from;
        int error = fill(p, &with->slots[0], &chunk);
        for (unsigned i = 0; !error && with->slots[i % SLOTS].count; i++) {
            error = fill(p, &with->slots[(i + 1) % SLOTS], &chunk);
            if (!error)
                error = empty(p, &with->slots[i % SLOTS]);
        }
        result = told(error, "copying its memory", p->device);
        lane_give(p->context, with, error != 0);
    }
    cm_rt_leave(before);
    return result;
}

static void *run_part(void *arg)
{
    part *p = arg;
    p->result = fetch_part(p);
    if (p->result)
        memcpy(p->message, sentence, sizeof sentence);
    return NULL;
}

static int fetch(cm_device_context *context, int device, uint64_t address, uint64_t size, const uint8_t *skip, void *to)
{
    uint64_t chunks = (size + CM_DEVICE_CHUNK - 1) / CM_DEVICE_CHUNK, wanted = 0;
    for (uint64_t i = 0; i < chunks; i++)
        wanted += !(skip && skip[i]);
    uint64_t count = wanted * CM_DEVICE_CHUNK / THREAD_LEAST;
    count = count < 1 ? 1 : least(count, THREADS_MOST);
    part parts[THREADS_MOST];
    pthread_t threads[THREADS_MOST];
    bool started[THREADS_MOST] = {false};
    uint64_t chunk = 0;
    for (uint64_t i = 0; i < count; i++) { /* each with as many wanted chunks */
        parts[i] = (part){.context = context, .device = device, .address = address, .size = size};
        parts[i].skip = skip;
        parts[i].to = to;
        parts[i].from = chunk;
        uint64_t share = wanted * (i + 1) / count - wanted * i / count;
        for (; chunk < chunks && (share || i + 1 == count); chunk++)
            share -= share && !(skip && skip[chunk]);
        parts[i].end = chunk;
    }
    for (uint64_t i = 1; i < count; i++)
        started[i] = pthread_create(&threads[i], NULL, run_part, &parts[i]) == 0;
    for (uint64_t i = 0; i < count; i++) /* those that could not be started, too */
        if (!started[i])
            run_part(&parts[i]);
    int result = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (started[i])
            pthread_join(threads[i], NULL);
        if (parts[i].result && !result)
            result = fail(parts[i].result, "%s", parts[i].message);
    }
    return result;
}

__attribute__((visibility("default"))) extern const cm_device_ops cm_device_library;
const cm_device_ops cm_device_library = {
    .version = CM_DEVICE_VERSION,
    .open = open_context,
    .close = close_context,
    .check = check,
    .look = look,
    .fetch = fetch,
    .message = message,
};
