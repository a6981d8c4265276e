/* SPDX-License-Identifier: Apache-2.0 */
#include "double.h"

#include "hash_chunk.h"
#include "runtime.h"

#include <chipmink/device.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define PUBLIC __attribute__((visibility("default")))

enum { REGIONS_MOST = 4096, WRITES_MOST = 64, FAILED = 700, POISON = 0xA5 };

typedef struct work {
    void *to; /* NULL: hash */
    uint64_t address;
    size_t size;
    cm_rt_hash hash;
    struct work *next;
} work;

struct CUstream_st {
    work *first, **end;
};

static struct {
    pthread_mutex_t lock;
    struct {
        uint64_t start, end;
        int device, plain;
    } regions[REGIONS_MOST];
    struct {
        uint8_t *at, value;
    } writes[WRITES_MOST];
    unsigned region_count, write_count;
    uint64_t calls[DOUBLE_CALLS], fail_at[DOUBLE_CALLS], copied, held, inside;
} now = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local int current = -1;

/* ---- the test's side --------------------------------------------------------------------------------------------- */

PUBLIC void double_reset(void)
{
    pthread_mutex_lock(&now.lock);
    now.region_count = now.write_count = 0;
    memset(now.calls, 0, sizeof now.calls);
    memset(now.fail_at, 0, sizeof now.fail_at);
    now.copied = 0;
    pthread_mutex_unlock(&now.lock);
}

PUBLIC void double_declare(int device, const void *memory, uint64_t size, int plain)
{
    pthread_mutex_lock(&now.lock);
    if (now.region_count == REGIONS_MOST)
        abort();
    now.regions[now.region_count].start = (uint64_t)(uintptr_t)memory;
    now.regions[now.region_count].end = (uint64_t)(uintptr_t)memory + size;
    now.regions[now.region_count].device = device;
    now.regions[now.region_count++].plain = plain;
    pthread_mutex_unlock(&now.lock);
}

PUBLIC void double_enqueue(uint8_t *at, uint8_t value)
{
    pthread_mutex_lock(&now.lock);
    if (now.write_count == WRITES_MOST)
        abort();
    now.writes[now.write_count].at = at;
    now.writes[now.write_count++].value = value;
    pthread_mutex_unlock(&now.lock);
}

PUBLIC void double_fail(int call, uint64_t n)
{
    pthread_mutex_lock(&now.lock);
    now.fail_at[call] = n ? now.calls[call] + n : 0;
    pthread_mutex_unlock(&now.lock);
}

static uint64_t get(const uint64_t *counter)
{
    pthread_mutex_lock(&now.lock);
    uint64_t value = *counter;
    pthread_mutex_unlock(&now.lock);
    return value;
}

PUBLIC uint64_t double_calls(int call)
{
    return get(&now.calls[call]);
}

PUBLIC uint64_t double_copied(void)
{
    return get(&now.copied);
}

PUBLIC uint64_t double_held(void)
{
    return get(&now.held);
}

PUBLIC uint64_t double_inside(void)
{
    return get(&now.inside);
}

/* ---- the runtime's side ------------------------------------------------------------------------------------------ */

static int called(enum double_call call)
{
    pthread_mutex_lock(&now.lock);
    uint64_t n = ++now.calls[call];
    int error = now.fail_at[call] && n >= now.fail_at[call] ? FAILED + (int)call : 0;
    pthread_mutex_unlock(&now.lock);
    return error;
}

static void change(uint64_t *counter, uint64_t by)
{
    pthread_mutex_lock(&now.lock);
    *counter += by;
    pthread_mutex_unlock(&now.lock);
}

int cm_rt_count(int *count)
{
    *count = DOUBLE_DEVICES;
    return called(DOUBLE_COUNT);
}

int cm_rt_enter(int device, void **before)
{
    int error = called(DOUBLE_ENTER);
    if (error || device < 0 || device >= DOUBLE_DEVICES)
        return error ? error : FAILED + DOUBLE_ENTER;
    *before = (void *)(intptr_t)current;
    current = device;
    change(&now.inside, 1);
    return 0;
}

void cm_rt_leave(void *before)
{
    current = (int)(intptr_t)before;
    change(&now.inside, UINT64_MAX);
}

/* Whether all of it is in one declared region of the current device. */
static bool is_on_device(uint64_t address, uint64_t size, int *plain)
{
    pthread_mutex_lock(&now.lock);
    unsigned i = now.region_count; /* the newest first: memory is used again */
    while (i > 0 && !(now.regions[i - 1].start <= address && address + size <= now.regions[i - 1].end))
        i--;
    bool found = i > 0 && now.regions[i - 1].device == current;
    *plain = found && now.regions[i - 1].plain;
    pthread_mutex_unlock(&now.lock);
    return found;
}

int cm_rt_is_plain(int device, uint64_t address, int *plain)
{
    *plain = 0;
    if (device != current)
        abort();
    (void)is_on_device(address, 1, plain);
    return called(DOUBLE_IS_PLAIN);
}

int cm_rt_synchronize(void)
{
    int error = called(DOUBLE_SYNCHRONIZE);
    pthread_mutex_lock(&now.lock);
    for (unsigned i = 0; i < now.write_count && !error; i++)
        *now.writes[i].at = now.writes[i].value;
    now.write_count = 0;
    pthread_mutex_unlock(&now.lock);
    return error;
}

int cm_rt_stream_new(cm_rt_stream *stream)
{
    int error = called(DOUBLE_STREAM);
    if (error)
        return error;
    *stream = calloc(1, sizeof **stream);
    (*stream)->end = &(*stream)->first;
    change(&now.held, 1);
    return 0;
}

static void drop_work(cm_rt_stream stream)
{
    while (stream->first) {
        work *next = stream->first->next;
        free(stream->first);
        stream->first = next;
    }
    stream->end = &stream->first;
}

void cm_rt_stream_free(cm_rt_stream stream)
{
    drop_work(stream);
    free(stream);
    change(&now.held, UINT64_MAX);
}

int cm_rt_pinned_new(size_t size, void **memory)
{
    int error = called(DOUBLE_PINNED);
    if (error)
        return error;
    *memory = malloc(size);
    memset(*memory, POISON, size);
    change(&now.held, 1);
    return 0;
}

void cm_rt_pinned_free(void *memory)
{
    free(memory);
    change(&now.held, UINT64_MAX);
}

static int enqueue(cm_rt_stream stream, work todo)
{
    int plain;
    if (!is_on_device(todo.address, todo.size, &plain) || !plain)
        abort(); /* a device would fault */
    work *queued = malloc(sizeof *queued);
    *queued = todo;
    *stream->end = queued;
    stream->end = &queued->next;
    return 0;
}

int cm_rt_copy(void *pinned, uint64_t address, size_t size, cm_rt_stream stream)
{
    int error = called(DOUBLE_COPY);
    return error ? error : enqueue(stream, (work){.to = pinned, .address = address, .size = size});
}

int cm_rt_hash_chunks(const cm_rt_hash *todo, cm_rt_stream stream)
{
    int error = called(DOUBLE_HASH);
    return error ? error : enqueue(stream, (work){.address = todo->address, .size = todo->size, .hash = *todo});
}

/* As the kernel in runtime.cu does. */
static void hash(const cm_rt_hash *todo)
{
    for (uint64_t start = 0, *out = todo->out; start < todo->size; start += CM_DEVICE_CHUNK, out += 2) {
        uint64_t left = todo->size - start;
        if (left > CM_HASH_SHORT)
            cm_hash_chunk((const uint8_t *)(uintptr_t)todo->address + start,
                          left < CM_DEVICE_CHUNK ? left : CM_DEVICE_CHUNK, todo->secret, &out[0], &out[1]);
    }
}

int cm_rt_wait(cm_rt_stream stream)
{
    int error = called(DOUBLE_WAIT);
    for (const work *todo = stream->first; todo && !error; todo = todo->next) {
        if (todo->to) {
            memcpy(todo->to, (const void *)(uintptr_t)todo->address, todo->size);
            change(&now.copied, todo->size);
        } else {
            hash(&todo->hash);
        }
    }
    drop_work(stream);
    return error;
}

const char *cm_rt_text(int error)
{
    static const char *const names[] = {"count",  "enter", "is_plain", "synchronize", "stream",
                                        "pinned", "copy",  "hash",     "wait"};
    return error >= FAILED && error < FAILED + DOUBLE_CALLS ? names[error - FAILED] : "no error of the double's";
}
