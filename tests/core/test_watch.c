/* SPDX-License-Identifier: Apache-2.0 */
/* Which chunks of a buffer are known, and when they are not any more. What counts as written: tests/pyhook/test_watch.py. */
#include "support.h"

#include "id.h"
#include "tree.h"
#include "watch.h"
#include "watch_pages.h"

#include <sys/mman.h>

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
    uint64_t stored, look;
} looked;

static looked look_at(cm_watch *w, const void *memory)
{
    looked l = {.stored = 0};
    l.look = cm_watch_look(w, memory, SIZE, l.ids, &l.stored);
    return l;
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
    cm_watch_learn(w, memory, SIZE, l.look, ids, known);
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
    cm_watch_learn(watch, memory, SIZE, first.look, early, known);
    looked l = look_at(watch, memory);
    ck_assert(cm_id_is_none(&l.ids[5]));
    ck_assert_uint_eq(l.ids[6].bytes[2], 2);
    ck_assert_uint_eq(l.ids[7].bytes[2], 1);
    cm_watch_learn(watch, memory, SIZE, second.look, late, known);
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
    cm_watch_learn(watch, memory, SIZE, l.look, l.ids, known);
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
    cm_watch_learn(watch, other, SIZE, l.look, ids, known);
    l = look_at(watch, memory);
    ck_assert_uint_eq(count_known(l.ids), CHUNKS / 2 - 1);
    cm_watch_learn(watch, memory, SIZE, l.look, ids, known);
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

START_TEST(some_of_too_many_are_watched)
{
    uint8_t *memory = memory_new(CM_WATCH_MIN + MANY * 64);
    cm_id ids[CM_WATCH_MIN / CM_CHUNK];
    uint64_t stored = 0;
    unsigned watched = 0;
    for (int save = 0; save < 3; save++) {
        cm_watch_begin(watch, 1);
        watched = 0;
        for (size_t i = 0; i < MANY; i++) {
            memset(ids, 0, sizeof ids);
            watched += cm_watch_look(watch, memory + 64 * i, CM_WATCH_MIN, ids, &stored) != 0;
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
        tcase_add_test(tests, some_of_too_many_are_watched);
    }
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
