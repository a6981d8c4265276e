/* SPDX-License-Identifier: Apache-2.0 */
/* Which chunks of a buffer are known, and when they are not any more. What counts as written: tests/pyhook/test_watch.py. */
#include "support.h"

#include "id.h"
#include "tree.h"
#include "watch.h"
#include "watch_pages.h"

#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 32 * CM_CHUNK, CHUNKS = 32, MANY = 4200 };

static cm_fingerprints *fingerprints;
static cm_known *known;
static cm_watch *watch;

static void set_up(void)
{
    fingerprints = cm_fingerprints_new();
    known = cm_known_new();
    watch = cm_watch_new(fingerprints);
    must(fingerprints && known && watch);
    cm_known_enter(known, 1);
}

static void tear_down(void)
{
    cm_watch_free(watch);
    cm_known_free(known);
    cm_fingerprints_free(fingerprints);
}

static uint8_t *memory_new(size_t size)
{
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED);
    seeded_fill(1, memory, size);
    return memory;
}

/* Ids that say of which chunk they are, and of which time. */
static void number_ids(cm_id *ids, uint8_t time)
{
    for (unsigned i = 0; i < CHUNKS; i++) {
        ids[i] = (cm_id){.bytes = {1, (uint8_t)i, time}};
        cm_known_add(known, &ids[i], 100 + i);
    }
}

static unsigned count_known(const cm_id *ids)
{
    unsigned count = 0;
    for (unsigned i = 0; i < CHUNKS; i++)
        count += !cm_id_is_none(&ids[i]);
    return count;
}

typedef struct looked {
    cm_id ids[CHUNKS];
    cm_id root[1]; /* as an array, so that it can be compared where it is returned */
    uint64_t stored, look;
} looked;

static looked look_at(cm_watch *w, const void *memory)
{
    cm_watch_found found;
    looked l = {.look = cm_watch_look(w, memory, SIZE, &found)};
    l.root[0] = found.root;
    l.stored = found.stored;
    if (found.ids)
        memcpy(l.ids, found.ids, sizeof l.ids);
    free(found.ids);
    return l;
}

static void learn(cm_watch *w, const void *memory, uint64_t look, const cm_id *ids)
{
    const cm_watch_lesson lesson = {.ids = ids};
    cm_watch_learn(w, memory, SIZE, look, &lesson, known);
}

/* Two saves that find the buffer unchanged; the second one learns. */
static void settle(cm_watch *w, const void *memory, uint8_t time)
{
    cm_id ids[CHUNKS];
    number_ids(ids, time);
    cm_watch_begin(w, 1);
    ck_assert_uint_eq(look_at(w, memory).look, 0);
    cm_watch_begin(w, 1);
    looked l = look_at(w, memory);
    ck_assert_uint_ne(l.look, 0);
    ck_assert_uint_eq(count_known(l.ids), 0);
    learn(w, memory, l.look, ids);
    cm_watch_begin(w, 1);
}

START_TEST(chunks_that_were_not_written_are_known)
{
    uint8_t *memory = memory_new(SIZE);
    settle(watch, memory, 1);
    looked l = look_at(watch, memory);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS);
    ck_assert_uint_eq(l.stored, 100 * CHUNKS + CHUNKS * (CHUNKS - 1) / 2);
    memory[5 * CM_CHUNK] ^= 1;
    memory[31 * CM_CHUNK] ^= 1;
    l = look_at(watch, memory);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS - 2);
    ck_assert(cm_id_is_none(&l.ids[5]));
    ck_assert(cm_id_is_none(&l.ids[31]));
    cm_watch_begin(watch, 2);
    ck_assert_uint_eq(count_known(look_at(watch, memory).ids), 0);
    munmap(memory, SIZE);
}
END_TEST

/* The ids of one look are not those of what was written until the next one. */
START_TEST(what_was_written_after_a_look_is_not_learnt_from_it)
{
    uint8_t *memory = memory_new(SIZE);
    settle(watch, memory, 1);
    cm_id early[CHUNKS], late[CHUNKS];
    number_ids(early, 2);
    number_ids(late, 3);
    memory[5 * CM_CHUNK] ^= 1;
    memory[6 * CM_CHUNK] ^= 1;
    looked first = look_at(watch, memory);
    memory[5 * CM_CHUNK] ^= 2;
    looked second = look_at(watch, memory);
    learn(watch, memory, first.look, early);
    looked l = look_at(watch, memory);
    ck_assert(cm_id_is_none(&l.ids[5]));
    ck_assert_uint_eq(l.ids[6].bytes[2], 2);
    ck_assert_uint_eq(l.ids[7].bytes[2], 1);
    learn(watch, memory, second.look, late);
    l = look_at(watch, memory);
    ck_assert_uint_eq(l.ids[5].bytes[2], 3);
    ck_assert_uint_eq(l.ids[6].bytes[2], 2);
    munmap(memory, SIZE);
}
END_TEST

START_TEST(ids_that_are_not_stored_are_not_learnt)
{
    uint8_t *memory = memory_new(SIZE);
    settle(watch, memory, 1);
    memory[5 * CM_CHUNK] ^= 1;
    looked l = look_at(watch, memory);
    l.ids[5] = (cm_id){.bytes = {9}}; /* nobody has put it */
    learn(watch, memory, l.look, l.ids);
    l = look_at(watch, memory);
    ck_assert(cm_id_is_none(&l.ids[5]));
    munmap(memory, SIZE);
}
END_TEST

/* What the look at one of them finds written is unknown in the others, too. */
START_TEST(overlapping_buffers_are_told_what_the_other_finds)
{
    uint8_t *memory = memory_new(2 * SIZE), *other = memory + SIZE / 2;
    settle(watch, memory, 1);
    settle(watch, other, 2); /* what was not asked for until now is lost */
    ck_assert_uint_eq(count_known(look_at(watch, memory).ids), CHUNKS / 2);
    ck_assert_uint_eq(count_known(look_at(watch, other).ids), CHUNKS);
    other[3 * CM_CHUNK] ^= 1;
    memory[3 * CM_CHUNK] ^= 1;
    looked l = look_at(watch, other);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS - 1);
    cm_id ids[CHUNKS];
    number_ids(ids, 3);
    learn(watch, other, l.look, ids);
    l = look_at(watch, memory);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS / 2 - 1);
    learn(watch, memory, l.look, ids);
    ck_assert_uint_eq(count_known(look_at(watch, memory).ids), CHUNKS);
    ck_assert_uint_eq(count_known(look_at(watch, other).ids), CHUNKS);
    other[CM_CHUNK] ^= 1;
    ck_assert(cm_id_is_none(&look_at(watch, other).ids[1]));
    ck_assert(cm_id_is_none(&look_at(watch, memory).ids[CHUNKS / 2 + 1]));
    munmap(memory, 2 * SIZE);
}
END_TEST

/* Other memory at the same address, even if another handle watches it by then. */
START_TEST(memory_mapped_again_is_unknown)
{
    uint8_t *memory = memory_new(SIZE);
    settle(watch, memory, 1);
    must(mmap(memory, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
    ck_assert_uint_eq(look_at(watch, memory).look, 0);

    uint8_t *shared = memory_new(SIZE);
    settle(watch, shared, 2);
    must(mmap(shared, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == shared);
    cm_watch *others = cm_watch_new(fingerprints);
    settle(others, shared, 3);
    shared[CM_CHUNK] ^= 1;
    ck_assert_uint_eq(look_at(watch, shared).look, 0);
    looked l = look_at(others, shared);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS - 1); /* the one that was written was not taken from it */
    ck_assert(cm_id_is_none(&l.ids[1]));
    cm_watch_free(others);
    munmap(memory, SIZE);
    munmap(shared, SIZE);
}
END_TEST

/* Of what is all known the chunks need not be looked at; one that was written makes the tree unknown. */
START_TEST(the_tree_of_known_chunks_is_known)
{
    uint8_t *memory = memory_new(SIZE);
    settle(watch, memory, 1);
    cm_id root = {.bytes = {7}};
    looked l = look_at(watch, memory);
    cm_watch_lesson lesson = {.ids = l.ids, .root = root, .stored = 12345};
    cm_watch_learn(watch, memory, SIZE, l.look, &lesson, known);
    ck_assert(cm_id_is_none(look_at(watch, memory).root)); /* it is not stored */
    cm_known_add(known, &root, 10);
    cm_watch_learn(watch, memory, SIZE, l.look, &lesson, known);
    l = look_at(watch, memory);
    ck_assert(cm_id_equal(l.root, &root));
    ck_assert_uint_eq(l.stored, 12345);
    ck_assert_uint_eq(count_known(l.ids), 0); /* they were not asked for */

    memory[5 * CM_CHUNK] ^= 1;
    l = look_at(watch, memory);
    ck_assert(cm_id_is_none(l.root));
    ck_assert_uint_eq(count_known(l.ids), CHUNKS - 1);
    cm_id ids[CHUNKS];
    number_ids(ids, 2); /* of other chunks, too, than what they are known to be */
    lesson.ids = ids;
    cm_watch_learn(watch, memory, SIZE, l.look, &lesson, known);
    l = look_at(watch, memory);
    ck_assert(cm_id_is_none(l.root));
    lesson.ids = l.ids;
    cm_watch_learn(watch, memory, SIZE, l.look, &lesson, known);
    ck_assert(cm_id_equal(look_at(watch, memory).root, &root));
    cm_watch_begin(watch, 2);
    ck_assert(cm_id_is_none(look_at(watch, memory).root));
    munmap(memory, SIZE);
}
END_TEST

static cm_fingerprint edge_at(const uint8_t *data, uint64_t chunk, unsigned edge)
{
    uint64_t offset;
    unsigned which;
    uint64_t size = cm_watch_edge(data, SIZE, chunk, &offset, &which);
    ck_assert_uint_ne(size, 0);
    ck_assert_uint_eq(which, edge);
    return cm_fingerprint_of(fingerprints, data + chunk * CM_CHUNK + offset, size);
}

/* Bytes in pages that the buffer has only a part of. */
START_TEST(edges_are_read)
{
    uint8_t *memory = memory_new(SIZE + CM_CHUNK), *data = memory + 16;
    settle(watch, data, 1);
    looked l = look_at(watch, data);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS - 2); /* nothing was said of their edges */
    cm_id ids[CHUNKS];
    number_ids(ids, 2);
    cm_watch_lesson lesson = {
        .ids = ids, .edges = {edge_at(data, 0, 0), edge_at(data, CHUNKS - 1, 1)}, .root = {.bytes = {7}}};
    cm_watch_learn(watch, data, SIZE, l.look, &lesson, known);
    l = look_at(watch, data);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS);
    cm_known_add(known, &lesson.root, 10);
    lesson.ids = l.ids;
    memset(lesson.edges, 0, sizeof lesson.edges);
    cm_watch_learn(watch, data, SIZE, l.look, &lesson, known);
    ck_assert(cm_id_equal(look_at(watch, data).root, &lesson.root));

    memory[15] ^= 1; /* beside it */
    data[SIZE] ^= 1;
    ck_assert(cm_id_equal(look_at(watch, data).root, &lesson.root));
    data[0] ^= 1;
    l = look_at(watch, data);
    ck_assert(cm_id_is_none(l.root));
    ck_assert_uint_eq(count_known(l.ids), CHUNKS - 1);
    ck_assert(cm_id_is_none(&l.ids[0]));
    data[0] ^= 1; /* it is not known any more that it was so */
    ck_assert(cm_id_is_none(&look_at(watch, data).ids[0]));
    learn(watch, data, look_at(watch, data).look, ids);
    ck_assert(cm_id_is_none(&look_at(watch, data).ids[0]));
    data[SIZE - 1] ^= 1;
    l = look_at(watch, data);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS - 2);
    ck_assert(cm_id_is_none(&l.ids[CHUNKS - 1]));
    munmap(memory, SIZE + CM_CHUNK);
}
END_TEST

/* A last chunk that is smaller than what is left over of a page. */
START_TEST(an_edge_of_two_chunks)
{
    enum { ALL = CM_WATCH_MIN + 100 };
    uint8_t *memory = memory_new(2 * CM_WATCH_MIN);
    const uint64_t last = cm_chunk_count(ALL) - 1;
    uint64_t offset, page = (uint64_t)sysconf(_SC_PAGESIZE);
    unsigned edge;
    ck_assert_uint_eq(cm_watch_edge(memory, ALL, last, &offset, &edge), 100);
    ck_assert_uint_eq(offset, 0);
    ck_assert_uint_eq(edge, 1);
    ck_assert_uint_eq(cm_watch_edge(memory, ALL, last - 1, &offset, &edge), 0);
    ck_assert_uint_eq(cm_watch_edge(memory, ALL, 0, &offset, &edge), 0);
    const uint8_t *data = memory + page - 200; /* which ends 100 bytes before a page does */
    ck_assert_uint_eq(cm_watch_edge(data, ALL, 0, &offset, &edge), 200);
    ck_assert_uint_eq(offset + edge, 0);
    ck_assert_uint_eq(cm_watch_edge(data, ALL, last, &offset, &edge), 100);
    ck_assert_uint_eq(offset, 0);
    ck_assert_uint_eq(edge, 1);
    ck_assert_uint_eq(cm_watch_edge(data, ALL, last - 1, &offset, &edge), page - 200);
    ck_assert_uint_eq(offset, CM_CHUNK - (page - 200));
    ck_assert_uint_eq(edge, 2);
    ck_assert_uint_eq(cm_watch_edge(data, ALL, 1, &offset, &edge), 0);
    munmap(memory, 2 * CM_WATCH_MIN);
}
END_TEST

START_TEST(some_of_too_many_are_watched)
{
    uint8_t *memory = memory_new(CM_WATCH_MIN + MANY * 64);
    unsigned watched = 0;
    for (int save = 0; save < 3; save++) {
        cm_watch_begin(watch, 1);
        watched = 0;
        for (size_t i = 0; i < MANY; i++) {
            cm_watch_found found;
            watched += cm_watch_look(watch, memory + 64 * i, CM_WATCH_MIN, &found) != 0;
            free(found.ids);
        }
    }
    cm_watch_stat stat;
    cm_watch_statistics(watch, &stat);
    ck_assert_uint_eq(stat.buffers, watched);
    ck_assert_uint_gt(watched, 4000);
    ck_assert_uint_lt(watched, MANY);
    munmap(memory, CM_WATCH_MIN + MANY * 64);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.watch");
    TCase *tests = tcase_create("watch");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 120);
    cm_pages *pages = cm_pages_open();
    cm_pages_close(pages);
    if (pages) { /* else nothing is watched, and there is nothing to be tested */
        tcase_add_test(tests, chunks_that_were_not_written_are_known);
        tcase_add_test(tests, what_was_written_after_a_look_is_not_learnt_from_it);
        tcase_add_test(tests, ids_that_are_not_stored_are_not_learnt);
        tcase_add_test(tests, overlapping_buffers_are_told_what_the_other_finds);
        tcase_add_test(tests, memory_mapped_again_is_unknown);
        tcase_add_test(tests, the_tree_of_known_chunks_is_known);
        tcase_add_test(tests, edges_are_read);
        tcase_add_test(tests, an_edge_of_two_chunks);
        tcase_add_test(tests, some_of_too_many_are_watched);
    }
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
