/* SPDX-License-Identifier: Apache-2.0 */
#include "watch.h"

#include "buffer.h"
#include "id.h"
#include "save_internal.h"
#include "tree.h"
#include "watch_pages.h"

#include <unistd.h>

enum {
    RANGES_MOST = 4096,
    UNUSED_MOST = 4, /* saves that need not look at a range */
    BUSY_MOST = 2,   /* looks in a row that may find more than half of it written */
    PROTECT_TRIES = 3,
    REST_LEAST = 2, /* saves that pass before it is tried again, twice as many each time */
    REST_MOST = 256,
    SAMPLES = 16, /* places that are compared before a range is watched */
    SAMPLE_SIZE = 1024,
};

/* What is known of a chunk. */
typedef struct fact {
    cm_id id;        /* all zero: nothing */
    uint32_t stored; /* its record on disk */
    uint64_t marked; /* the look that found it written last, or began to watch it */
} fact;

typedef struct range {
    uint64_t start, end;                  /* of the buffer */
    uint64_t first, last;                 /* of the whole pages in it */
    uint64_t reach;                       /* the highest end of this and all ranges before it */
    cm_fingerprint sample;                /* while it is not watched */
    fact *facts;                          /* of each chunk, while it is watched; else NULL */
    cm_fingerprint edges[CM_WATCH_EDGES]; /* that the ids of the chunks concerned were made of */
    cm_id root;                           /* of the tree of all chunks; none: something is not known */
    uint64_t root_stored;                 /* all of that tree on disk */
    uint64_t used;                        /* number of the save that looked at it last */
    uint64_t rests_until;
    uint64_t rest;
    unsigned busy;
} range;

struct cm_watch {
    pthread_mutex_t lock;
    const cm_fingerprints *fingerprints;
    cm_pages *pages; /* NULL: not wanted yet, or not possible */
    pid_t process;
    bool off;
    bool on;        /* whatever drivers there are */
    bool pinned;    /* memory is, or may be, or was when this save began: then nothing is watched */
    range **ranges; /* by start, then end */
    size_t count, capacity;
    uint64_t epoch;
    uint64_t save, look; /* how many there have been */
    uint64_t unread;     /* bytes of the chunks known in this save */
};

cm_watch *cm_watch_new(const cm_fingerprints *fingerprints)
{
    cm_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    const char *wanted = getenv("CHIPMINK_WATCH");
    watch->off = wanted && strcmp(wanted, "off") == 0;
    watch->on = wanted && strcmp(wanted, "on") == 0;
    watch->fingerprints = fingerprints;
    watch->process = getpid();
    pthread_mutex_init(&watch->lock, NULL);
    return watch;
}

/* ---- ranges ------------------------------------------------------------------------------------------------------ */

/* Where a range is, or would be. */
static size_t place_of(const cm_watch *watch, uint64_t start, uint64_t end)
{
    size_t low = 0, high = watch->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const range *r = watch->ranges[middle];
        if (r->start < start || (r->start == start && r->end < end))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static range *find(const cm_watch *watch, uint64_t start, uint64_t end)
{
    size_t at = place_of(watch, start, end);
    range *r = at < watch->count ? watch->ranges[at] : NULL;
    return r && r->start == start && r->end == end ? r : NULL;
}

static void renew_reach(cm_watch *watch, size_t from)
{
    for (size_t i = from; i < watch->count; i++) {
        uint64_t before = i ? watch->ranges[i - 1]->reach : 0;
        watch->ranges[i]->reach = watch->ranges[i]->end > before ? watch->ranges[i]->end : before;
    }
}

/* NULL: there are too many, or no memory. */
static range *add(cm_watch *watch, uint64_t start, uint64_t end)
{
    if (watch->count == RANGES_MOST || !cm_grow(&watch->ranges, watch->count, &watch->capacity, sizeof *watch->ranges))
        return NULL;
    range *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    uint64_t page = cm_pages_size(watch->pages);
    *r = (range){.start = start, .end = end, .first = (start + page - 1) / page * page, .last = end / page * page};
    size_t at = place_of(watch, start, end);
    memmove(watch->ranges + at + 1, watch->ranges + at, (watch->count - at) * sizeof(range *));
    watch->ranges[at] = r;
    watch->count++;
    renew_reach(watch, at);
    return r;
}

/* The next watched range, before the one at *at, that has pages between `first` and `last`. */
static range *next_overlapping(const cm_watch *watch, size_t *at, uint64_t first, uint64_t last)
{
    while (*at > 0 && watch->ranges[*at - 1]->reach > first) {
        range *r = watch->ranges[--*at];
        if (r->facts && r->first < last && r->last > first)
            return r;
    }
    return NULL;
}

/* Where to begin with next_overlapping. */
static size_t behind(const cm_watch *watch, uint64_t last)
{
    return place_of(watch, last, 0);
}

static cm_extent pages_of(const range *r)
{
    return (cm_extent){r->first, r->last};
}

static void stop(cm_watch *watch, range *r)
{
    if (!r->facts)
        return;
    free(r->facts);
    r->facts = NULL;
    r->root = (cm_id){{0}};
    size_t at = behind(watch, r->last);
    if (!next_overlapping(watch, &at, r->first, r->last))
        cm_pages_remove(watch->pages, pages_of(r));
}

static void rest(cm_watch *watch, range *r)
{
    stop(watch, r);
    r->busy = 0;
    r->rest = r->rest == 0 ? REST_LEAST : r->rest < REST_MOST ? r->rest * 2 : REST_MOST;
    r->rests_until = watch->save + r->rest;
}

void cm_watch_free(cm_watch *watch)
{
    if (!watch)
        return;
    for (size_t i = 0; i < watch->count && watch->process == getpid(); i++) /* else the pages are the parent's */
        stop(watch, watch->ranges[i]);
    for (size_t i = 0; i < watch->count; i++) {
        free(watch->ranges[i]->facts);
        free(watch->ranges[i]);
    }
    cm_pages_close(watch->pages);
    free(watch->ranges);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

static void mark(cm_watch *watch, range *r, uint64_t start, uint64_t end)
{
    start = start > r->first ? start : r->first;
    end = end < r->last ? end : r->last;
    for (uint64_t i = (start - r->start) / CM_CHUNK; i <= (end - 1 - r->start) / CM_CHUNK; i++)
        r->facts[i] = (fact){.marked = watch->look};
    r->root = (cm_id){{0}};
}

static void forget(cm_watch *watch)
{
    watch->look++;
    for (size_t i = 0; i < watch->count; i++)
        if (watch->ranges[i]->facts)
            mark(watch, watch->ranges[i], watch->ranges[i]->first, watch->ranges[i]->last);
}

static bool may_be_pinned(const cm_watch *watch)
{
    return cm_pages_pinned(watch->pages) || (!watch->on && cm_pages_driven());
}

static bool is_unused(const cm_watch *watch, const range *r)
{
    return r->used + UNUSED_MOST < watch->save;
}

void cm_watch_begin(cm_watch *watch, uint64_t epoch)
{
    pthread_mutex_lock(&watch->lock);
    watch->save++;
    if (watch->epoch != epoch)
        forget(watch);
    watch->epoch = epoch;
    watch->unread = 0;
    for (size_t i = 0; i < watch->count; i++)
        if (is_unused(watch, watch->ranges[i]))
            stop(watch, watch->ranges[i]);
    size_t kept = 0;
    for (size_t i = 0; i < watch->count; i++) {
        range *r = watch->ranges[i];
        if (is_unused(watch, r))
            free(r);
        else
            watch->ranges[kept++] = r;
    }
    watch->count = kept;
    renew_reach(watch, 0);
    watch->pinned = false;
    pthread_mutex_unlock(&watch->lock);
    cm_watch_check(watch);
}

bool cm_watch_check(cm_watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    if (watch->pages && watch->process == getpid())
        watch->pinned = watch->pinned || may_be_pinned(watch);
    for (size_t i = 0; i < watch->count && watch->pinned; i++)
        stop(watch, watch->ranges[i]);
    bool good = !watch->pinned;
    pthread_mutex_unlock(&watch->lock);
    return good;
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

uint64_t cm_watch_edge(const void *data, uint64_t size, uint64_t chunk, uint64_t *offset, unsigned *edge)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), start = (uint64_t)(uintptr_t)data, end = start + size;
    uint64_t first = (start + page - 1) / page * page, last = end / page * page, count = cm_chunk_count(size);
    uint64_t from = start + chunk * CM_CHUNK, to = from + cm_chunk_size(size, chunk);
    if (chunk == 0) {
        *offset = 0;
        *edge = 0;
        return first - start;
    }
    *offset = from < last ? last - from : 0;
    *edge = chunk + 1 == count ? 1 : 2;
    return to <= last ? 0 : to - from - *offset;
}

/* The fingerprint that an edge has now; false: that chunk has none. */
static bool edge_of(const cm_watch *watch, const range *r, uint64_t chunk, unsigned *edge, cm_fingerprint *key)
{
    const uint8_t *data = (const uint8_t *)(uintptr_t)r->start;
    uint64_t offset, size = cm_watch_edge(data, r->end - r->start, chunk, &offset, edge);
    if (size)
        *key = cm_fingerprint_of(watch->fingerprints, data + chunk * CM_CHUNK + offset, size);
    return size != 0;
}

/* Makes unknown the chunks with an edge that is not as it was. */
static void look_at_edges(const cm_watch *watch, range *r)
{
    uint64_t count = cm_chunk_count(r->end - r->start);
    const uint64_t chunks[CM_WATCH_EDGES] = {0, count - 2, count - 1};
    for (size_t i = 0; i < CM_WATCH_EDGES; i++) {
        fact *f = &r->facts[chunks[i]];
        cm_fingerprint key;
        unsigned edge;
        if (cm_id_is_none(&f->id) || !edge_of(watch, r, chunks[i], &edge, &key) ||
            cm_fingerprint_equal(r->edges[edge], key))
            continue;
        f->id = (cm_id){{0}};
        r->root = (cm_id){{0}};
    }
}

typedef struct visit {
    cm_watch *watch;
    range *looked;
    bool alone;
    uint64_t written;
} visit;

static void visit_written(void *arg, uint64_t start, uint64_t end)
{
    visit *v = arg;
    v->written += end - start;
    mark(v->watch, v->looked, start, end);
    size_t at = v->alone ? 0 : behind(v->watch, end);
    for (range *r; (r = next_overlapping(v->watch, &at, start, end));)
        if (r != v->looked)
            mark(v->watch, r, start, end);
}

/* Makes unknown what was written since the last look. False: it is not watched any more. */
static bool update(cm_watch *watch, range *looked)
{
    visit v = {.watch = watch, .looked = looked, .alone = true};
    size_t at = behind(watch, looked->last);
    for (range *r; (r = next_overlapping(watch, &at, looked->first, looked->last));)
        v.alone = v.alone && r == looked;
    if (!cm_pages_visit(watch->pages, pages_of(looked), visit_written, &v)) {
        at = behind(watch, looked->last);
        for (range *r; (r = next_overlapping(watch, &at, looked->first, looked->last));)
            rest(watch, r);
        return false;
    }
    if (v.written <= (looked->last - looked->first) / 2) {
        looked->busy = 0;
        looked->rest = 0;
    } else if (++looked->busy >= BUSY_MOST) {
        rest(watch, looked);
        return false;
    }
    return true;
}

static cm_fingerprint sample_of(const cm_watch *watch, const uint8_t *data, uint64_t size)
{
    uint8_t sample[SAMPLES * SAMPLE_SIZE];
    uint64_t step = (size - SAMPLE_SIZE) / (SAMPLES - 1);
    for (uint64_t i = 0; i < SAMPLES; i++)
        memcpy(sample + i * SAMPLE_SIZE, data + i * step, SAMPLE_SIZE);
    return cm_fingerprint_of(watch->fingerprints, sample, sizeof sample);
}

/*
 * Asks the kernel to watch the range. What was written to other ranges' pages in it will not be told any more. In mappings that
 * become watchable only now there may be ranges of memory that was mapped there before: nothing is known of them.
 */
static bool try_protect(cm_watch *watch, const range *r)
{
    cm_extent mappings;
    if (!cm_pages_mappings(watch->pages, pages_of(r), &mappings))
        return false;
    size_t at = behind(watch, r->last);
    for (range *other; (other = next_overlapping(watch, &at, r->first, r->last));)
        mark(watch, other, r->first, r->last);
    if (!cm_pages_watchable(watch->pages, mappings)) {
        at = behind(watch, mappings.end);
        for (range *other; (other = next_overlapping(watch, &at, mappings.start, mappings.end));)
            if (!cm_pages_watchable(watch->pages, pages_of(other)))
                rest(watch, other);
    }
    return cm_pages_add(watch->pages, pages_of(r), mappings);
}

/* Other threads may map and unmap memory beside it, while it is asked what mapping it is in. */
static bool protect(cm_watch *watch, const range *r)
{
    for (int i = 0; i < PROTECT_TRIES; i++)
        if (try_protect(watch, r))
            return true;
    return false;
}

/* Begins to watch a range if that seems worth it. */
static bool begin(cm_watch *watch, range *r)
{
    cm_fingerprint before = r->sample;
    r->sample = sample_of(watch, (const uint8_t *)(uintptr_t)r->start, r->end - r->start);
    if (!cm_fingerprint_equal(before, r->sample) || r->rests_until > watch->save)
        return false;
    uint64_t count = cm_chunk_count(r->end - r->start);
    fact *facts = calloc(count, sizeof *facts);
    if (!facts || !protect(watch, r)) {
        free(facts);
        rest(watch, r);
        return false;
    }
    r->facts = facts;
    for (uint64_t i = 0; i < count; i++)
        facts[i].marked = watch->look;
    return true;
}

/* The range of a buffer; NULL: there can be none. */
static range *range_of(cm_watch *watch, const void *data, uint64_t size)
{
    if (!watch->pages && !watch->off) {
        watch->pages = cm_pages_open();
        watch->off = !watch->pages;
        watch->pinned = watch->pages && may_be_pinned(watch);
    }
    if (watch->off || watch->pinned || watch->process != getpid())
        return NULL;
    uint64_t start = (uint64_t)(uintptr_t)data, end = start + size;
    range *r = find(watch, start, end);
    return r ? r : add(watch, start, end);
}

/* What is known of a range that was looked at. False: out of memory. */
static bool tell(cm_watch *watch, const range *r, cm_watch_found *found)
{
    uint64_t size = r->end - r->start, count = cm_chunk_count(size);
    if (!cm_id_is_none(&r->root)) {
        found->root = r->root;
        found->stored = r->root_stored;
        watch->unread += size;
        return true;
    }
    found->ids = calloc(count, sizeof *found->ids);
    for (uint64_t i = 0; found->ids && i < count; i++) {
        if (cm_id_is_none(&r->facts[i].id))
            continue;
        found->ids[i] = r->facts[i].id;
        watch->unread += cm_chunk_size(size, i);
        bool again = i % CM_PIECE_CHUNKS && cm_id_equal(&found->ids[i], &found->ids[i - 1]);
        found->stored += again ? 0 : r->facts[i].stored; /* as the workers count runs of equal chunks */
    }
    return found->ids != NULL;
}

uint64_t cm_watch_look(cm_watch *watch, const void *data, uint64_t size, cm_watch_found *found)
{
    *found = (cm_watch_found){.stored = 0};
    pthread_mutex_lock(&watch->lock);
    range *r = range_of(watch, data, size);
    uint64_t look = ++watch->look;
    if (r)
        r->used = watch->save;
    if (!r || !(r->facts ? update(watch, r) : begin(watch, r))) {
        look = 0;
    } else {
        look_at_edges(watch, r);
        if (!tell(watch, r, found))
            look = 0;
    }
    pthread_mutex_unlock(&watch->lock);
    return look;
}

/* Whether the chunk's id may be learnt; if it has an edge, that is. */
static bool learn_edge(range *r, uint64_t chunk, const cm_watch_lesson *lesson)
{
    unsigned edge;
    uint64_t offset, size = cm_watch_edge((const void *)(uintptr_t)r->start, r->end - r->start, chunk, &offset, &edge);
    if (!size)
        return true;
    if (cm_fingerprint_equal(lesson->edges[edge], (cm_fingerprint){0, 0}))
        return false; /* it was known, and is not any more */
    r->edges[edge] = lesson->edges[edge];
    return true;
}

void cm_watch_learn(cm_watch *watch, const void *data, uint64_t size, uint64_t look, const cm_watch_lesson *lesson,
                    cm_known *known)
{
    pthread_mutex_lock(&watch->lock);
    uint64_t start = (uint64_t)(uintptr_t)data, stored;
    range *r = find(watch, start, start + size);
    bool all = r && r->facts && cm_known_find_in(known, watch->epoch, &lesson->root, &stored);
    for (uint64_t i = 0; r && r->facts && i < cm_chunk_count(size); i++) {
        fact *f = &r->facts[i];
        const cm_id *id = &lesson->ids[i];
        if (f->marked <= look && cm_id_is_none(&f->id) && cm_known_find_in(known, watch->epoch, id, &stored) &&
            learn_edge(r, i, lesson)) {
            f->id = *id;
            f->stored = (uint32_t)stored;
        }
        all = all && cm_id_equal(&f->id, id);
    }
    if (all) {
        r->root = lesson->root;
        r->root_stored = lesson->stored;
    }
    pthread_mutex_unlock(&watch->lock);
}

void cm_watch_statistics(cm_watch *watch, cm_watch_stat *stat)
{
    *stat = (cm_watch_stat){0};
    pthread_mutex_lock(&watch->lock);
    for (size_t i = 0; i < watch->count; i++) {
        const range *r = watch->ranges[i];
        stat->buffers += r->facts != NULL;
        stat->bytes += r->facts ? r->end - r->start : 0;
    }
    stat->unread = watch->unread;
    pthread_mutex_unlock(&watch->lock);
}
