/* SPDX-License-Identifier: Apache-2.0 */
/* The library for devices over a double of the runtime: hashes, which bytes cross the bus, waiting, failures. */
#include "fixture.h"

#include "double.h"
#include "hash_chunk.h"
#include "tree.h"

#include <chipmink/device.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

extern const cm_device_ops cm_device_library;
static const cm_device_ops *const ops = &cm_device_library;

static cm_device_context *context;

static void set_up(void)
{
    double_reset();
    context = NULL;
    ck_assert_int_eq(ops->open(&context), 0);
}

static void tear_down(void)
{
    ops->close(context);
    ck_assert_uint_eq(double_held(), 0);
    ck_assert_uint_eq(double_inside(), 0);
}

static uint64_t address_of(const void *memory)
{
    return (uint64_t)(uintptr_t)memory;
}

static uint8_t *memory_new(size_t size)
{
    uint8_t *memory = malloc(size);
    must(memory != NULL);
    seeded_fill(3, memory, size);
    double_declare(0, memory, size, 1);
    return memory;
}

START_TEST(test_hash_is_that_of_the_host)
{
    enum { MOST = CM_DEVICE_CHUNK };
    uint8_t *memory = memory_new(MOST + 16);
    uint64_t secret[CM_HASH_SECRET], seed = 1;
    for (uint64_t size = CM_HASH_SHORT + 1; size <= MOST; size += size < 3000 || size > MOST - 200 ? 1 : 61) {
        uint64_t low, high;
        const uint8_t *at = memory + size % 17; /* at any address */
        seed = size % 5 ? seed * 6364136223846793005U + size : 0;
        XXH3_generateSecret_fromSeed(secret, seed);
        cm_hash_chunk(at, size, secret, &low, &high);
        XXH128_hash_t expected = XXH3_128bits_withSeed(at, size, seed);
        ck_assert_uint_eq(low, expected.low64);
        ck_assert_uint_eq(high, expected.high64);
    }
    free(memory);
}
END_TEST

static const size_t sizes[] = {
    1,     16,          240,        241,    4095,    4096,     65535,          65536,
    65537, 65536 + 240, 131072 - 1, 131072, 3000000, 40 << 20, (16 << 20) + 7, (512 << 10) + 100,
};

START_TEST(test_look)
{
    size_t size = sizes[_i], chunks = (size + CM_DEVICE_CHUNK - 1) / CM_DEVICE_CHUNK;
    uint8_t *memory = memory_new(size), head[CM_DEVICE_HEAD];
    size_t in_head = size < CM_DEVICE_HEAD ? size : CM_DEVICE_HEAD;
    cm_device_hash *hashes = calloc(chunks, sizeof *hashes);
    ck_assert_int_eq(ops->check(context, 0, address_of(memory), size), 0);
    for (uint64_t seed = 0; seed < 2; seed++) {
        ck_assert_int_eq(ops->look(context, 0, address_of(memory), size, seed, head, hashes), 0);
        ck_assert_mem_eq(head, memory, in_head);
        for (size_t i = 0; i < chunks; i++) {
            size_t left = size - i * CM_DEVICE_CHUNK;
            XXH128_hash_t expected = XXH3_128bits_withSeed(memory + i * CM_DEVICE_CHUNK,
                                                           left < CM_DEVICE_CHUNK ? left : CM_DEVICE_CHUNK, seed);
            ck_assert_uint_eq(hashes[i].low, expected.low64);
            ck_assert_uint_eq(hashes[i].high, expected.high64);
        }
    }
    ck_assert_uint_le(double_copied(), 2 * (CM_DEVICE_HEAD + CM_HASH_SHORT)); /* whatever the size */
    free(hashes);
    free(memory);
}
END_TEST

/* More chunks than the hashes of which fit at once: all on pages that are one and the same. */
START_TEST(test_look_at_more_than_a_slot_has_room_for)
{
    const uint64_t most = CM_DEVICE_SLOT / sizeof(cm_device_hash), size = (most + 2) * CM_DEVICE_CHUNK - 5;
    uint8_t *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(memory != MAP_FAILED);
    double_declare(0, memory, size, 1);
    cm_device_hash *hashes = calloc(most + 2, sizeof *hashes);
    uint8_t head[CM_DEVICE_HEAD];
    ck_assert_int_eq(ops->look(context, 0, address_of(memory), size, 7, head, hashes), 0);
    ck_assert_uint_eq(double_calls(DOUBLE_HASH), 2);
    XXH128_hash_t full = XXH3_128bits_withSeed(memory, CM_DEVICE_CHUNK, 7);
    XXH128_hash_t last = XXH3_128bits_withSeed(memory, CM_DEVICE_CHUNK - 5, 7);
    for (uint64_t i = 0; i < most + 1; i++)
        ck_assert_uint_eq(hashes[i].low, full.low64);
    ck_assert_uint_eq(hashes[most + 1].low, last.low64);
    free(hashes);
    munmap(memory, size);
}
END_TEST

START_TEST(test_fetch)
{
    size_t size = sizes[_i], chunks = (size + CM_DEVICE_CHUNK - 1) / CM_DEVICE_CHUNK;
    uint8_t *memory = memory_new(size), *to = malloc(size), *skip = calloc(chunks, 1);
    for (unsigned pattern = 0; pattern < 5; pattern++) {
        uint64_t before = double_copied(), wanted = 0;
        memset(to, 0, size);
        for (size_t i = 0; i < chunks; i++)
            skip[i] = pattern > 1 && (pattern == 2 ? i % 2 == 0 : pattern == 3 ? i / 100 % 3 != 1 : 1);
        ck_assert_int_eq(ops->fetch(context, 0, address_of(memory), size, pattern ? skip : NULL, to), 0);
        for (size_t i = 0; i < chunks; i++) {
            size_t start = i * CM_DEVICE_CHUNK, left = size - start;
            size_t length = left < CM_DEVICE_CHUNK ? left : CM_DEVICE_CHUNK;
            bool fetched = memcmp(to + start, memory + start, length) == 0;
            bool untouched = to[start] == 0 && memcmp(to + start, to + start + 1, length - 1) == 0;
            ck_assert(pattern && skip[i] ? untouched : fetched);
            wanted += pattern && skip[i] ? 0 : length;
        }
        ck_assert_uint_eq(double_copied() - before, wanted); /* and nothing else crossed the bus */
    }
    ck_assert_uint_eq(double_calls(DOUBLE_SYNCHRONIZE), 0);
    free(skip);
    free(to);
    free(memory);
}
END_TEST

START_TEST(test_what_was_enqueued_is_waited_for)
{
    uint8_t *memory = memory_new(100000), head[CM_DEVICE_HEAD];
    cm_device_hash hashes[2];
    memory[5] = 1;
    double_enqueue(memory + 5, 77);
    double_enqueue(memory + 99999, 78);
    ck_assert_int_eq(ops->look(context, 0, address_of(memory), 100000, 7, head, hashes), 0);
    ck_assert_int_eq(memory[5], 77);
    ck_assert_int_eq(head[5], 77);
    ck_assert_uint_eq(hashes[0].low, XXH3_128bits_withSeed(memory, 65536, 7).low64);
    ck_assert_uint_eq(hashes[1].low, XXH3_128bits_withSeed(memory + 65536, 100000 - 65536, 7).low64);
    free(memory);
}
END_TEST

START_TEST(test_only_plain_memory_of_that_device)
{
    uint8_t *memory = memory_new(5000), *managed = malloc(5000), *other = malloc(5000);
    double_declare(0, managed, 5000, 0);
    double_declare(1, other, 5000, 1);
    ck_assert_int_eq(ops->check(context, 0, address_of(memory), 5000), 0);
    ck_assert_int_eq(ops->check(context, 0, address_of(managed), 5000), -ENOTSUP);
    ck_assert_int_eq(ops->check(context, 0, address_of(other), 5000), -ENOTSUP);
    ck_assert_int_eq(ops->check(context, 1, address_of(other), 5000), 0);
    ck_assert_int_eq(ops->check(context, 0, address_of(&memory), 8), -ENOTSUP); /* of the host */
    ck_assert_int_eq(ops->check(context, 0, address_of(memory), 6000), -ENOTSUP);
    ck_assert_int_eq(ops->check(context, 7, address_of(memory), 5000), -EIO);
    ck_assert_str_eq(ops->message(), "device 7: it cannot be used: enter");
    free(memory);
    free(managed);
    free(other);
}
END_TEST

/* Whatever call fails, at whatever time: it is told, nothing is left behind, and afterwards it works. */
START_TEST(test_failures)
{
    enum { SIZE = 70 << 20 };
    uint8_t *memory = memory_new(SIZE), *to = malloc(SIZE), head[CM_DEVICE_HEAD];
    cm_device_hash *hashes = calloc(SIZE / CM_DEVICE_CHUNK, sizeof *hashes);
    for (int call = DOUBLE_ENTER; call < DOUBLE_CALLS; call++)
        for (uint64_t n = 1; n < 12; n += n < 3 ? 1 : 4) {
            ops->close(context);
            ck_assert_int_eq(ops->open(&context), 0);
            for (int again = 0; again < 2; again++) {
                double_fail(call, again ? 0 : n);
                int looked = ops->look(context, 0, address_of(memory), SIZE - 5, 3, head, hashes);
                ck_assert_int_eq(looked, again || looked == 0 ? 0 : -EIO);
                if (looked)
                    ck_assert_ptr_nonnull(strstr(ops->message(), "device 0: "));
                memset(to, 0, SIZE);
                int fetched = ops->fetch(context, 0, address_of(memory), SIZE, NULL, to);
                ck_assert_int_eq(fetched, again || fetched == 0 ? 0 : -EIO);
                ck_assert(fetched || memcmp(to, memory, SIZE) == 0);
                if (n == 1 && !again && call != DOUBLE_IS_PLAIN)
                    ck_assert(looked || fetched);
            }
        }
    double_fail(DOUBLE_COUNT, 1);
    cm_device_context *none = NULL;
    ck_assert_int_eq(ops->open(&none), -ENODEV);
    ck_assert_str_eq(ops->message(), "count");
    free(hashes);
    free(to);
    free(memory);
}
END_TEST

START_TEST(test_a_fork_is_refused)
{
    uint8_t *memory = memory_new(100), to[100];
    pid_t child = fork();
    must(child >= 0);
    if (child == 0)
        _exit(ops->fetch(context, 0, address_of(memory), 100, NULL, to) == -EPERM ? 0 : 1);
    int status = -1;
    must(waitpid(child, &status, 0) == child);
    ck_assert_int_eq(status, 0);
    free(memory);
}
END_TEST

/* ---- in a save ----------------------------------------------------------------------------------------------------- */

static void set_up_save(void)
{
    set_up();
    setup_store();
}

static void tear_down_save(void)
{
    teardown_store();
    tear_down();
}

/* Builds a variable that is a buffer, of the device's memory or of the host's. */
static void build(cm_save *save, const char *name, const uint8_t *memory, size_t size, bool on_device)
{
    ck_ok(cm_save_variable_begin(save, name));
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    uint8_t head[CM_DEVICE_HEAD];
    const cm_device_memory there = {ops, context, 0, address_of(memory), size};
    if (on_device)
        ck_ok(cm_pod_device_buffer(pod, &there, head));
    else
        cm_pod_buffer(pod, CM_BUFFER_WRITABLE, memory, size);
    uint32_t index = cm_body_memoize(cm_pod_body(pod));
    ck_ok(cm_save_pod_finish(save, pod, index));
    ck_ok(cm_save_variable_end(save, pod, index, "bytearray", "bytes"));
}

static cm_id content_of(cm_checkpoint *checkpoint)
{
    const cm_variable *variables;
    size_t count;
    ck_ok(cm_checkpoint_variables(checkpoint, &variables, &count));
    ck_assert_uint_eq(count, 1);
    cm_id content = variables[0].content;
    cm_checkpoint_unref(checkpoint);
    return content;
}

static cm_id save_one(const uint8_t *memory, size_t size, bool on_device)
{
    cm_save *save = begin(store, "s");
    build(save, "x", memory, size, on_device);
    return content_of(finish(save));
}

/* Random changes: the same content from the device as from the host, and nothing crosses the bus but what changed. */
START_TEST(test_saves_are_those_of_the_host)
{
    enum { CHUNKS = 40, SIZE = CHUNKS * CM_DEVICE_CHUNK + 1000, ROUNDS = 40 };
    uint8_t *memory = memory_new(SIZE), *copy = malloc(SIZE);
    uint64_t state = 5;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t expected = 0;
        for (size_t i = 0; i <= CHUNKS; i++) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            if (round && state >> 60)
                continue;
            size_t size = i < CHUNKS ? CM_DEVICE_CHUNK : 1000;
            seeded_fill(state, memory + i * CM_DEVICE_CHUNK, size);
            expected += size;
        }
        memcpy(copy, memory, SIZE);
        if (round == ROUNDS / 2)
            collect(); /* another epoch: what was known is found anew */
        uint64_t before = double_copied();
        cm_id there = save_one(memory, SIZE, true);
        ck_assert_uint_le(expected, double_copied() - before);
        if (round != ROUNDS / 2)
            ck_assert_uint_le(double_copied() - before, expected + CM_DEVICE_HEAD);
        cm_id here = save_one(copy, SIZE, false);
        ck_assert(cm_id_equal(&there, &here));
    }
    no_damage();
    free(copy);
    free(memory);
}
END_TEST

/* What is there when cm_save_detach returns is what is saved, while the workers are at it. */
START_TEST(test_detach)
{
    enum { SIZE = 400 * CM_DEVICE_CHUNK };
    uint8_t *memory = memory_new(SIZE), *copy = malloc(SIZE);
    for (uint64_t round = 0; round < 6; round++) {
        seeded_fill(round, memory + (round % 2 ? SIZE / 2 : 0), SIZE / 2);
        memcpy(copy, memory, SIZE);
        cm_save *save = begin(store, "s");
        build(save, "x", memory, SIZE, true);
        ck_ok(cm_save_commit(save, NULL, NULL));
        uint64_t taken;
        ck_assert(cm_save_detach(save, round == 3 ? 1000 : SIZE, NULL, 0, &taken)); /* with no room it waits */
        memset(memory, (int)round, SIZE);
        ck_ok(cm_save_wait(save, 60000));
        cm_id there = content_of(cm_save_checkpoint(save));
        cm_save_free(save);
        cm_id here = save_one(copy, SIZE, false);
        ck_assert(cm_id_equal(&there, &here));
        memcpy(memory, copy, SIZE);
    }
    no_damage();
    free(copy);
    free(memory);
}
END_TEST

START_TEST(test_buffers_that_are_looked_at_by_the_thousand)
{
    enum { COUNT = 1100, SIZE = 1 << 20 };
    uint8_t *memory = memory_new(COUNT * CM_DEVICE_CHUNK + SIZE);
    for (int round = 0; round < 2; round++) {
        cm_save *save = begin(store, "s");
        for (int i = 0; i < COUNT; i++) {
            char name[16];
            snprintf(name, sizeof name, "x%d", i);
            build(save, name, memory + (size_t)i * CM_DEVICE_CHUNK, SIZE, true);
        }
        cm_checkpoint_unref(finish(save));
    }
    no_damage();
    free(memory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device");
    TCase *tests = tcase_create("device");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_hash_is_that_of_the_host);
    tcase_add_loop_test(tests, test_look, 0, sizeof sizes / sizeof *sizes);
    tcase_add_test(tests, test_look_at_more_than_a_slot_has_room_for);
    tcase_add_loop_test(tests, test_fetch, 0, sizeof sizes / sizeof *sizes);
    tcase_add_test(tests, test_what_was_enqueued_is_waited_for);
    tcase_add_test(tests, test_only_plain_memory_of_that_device);
    tcase_add_test(tests, test_failures);
    tcase_add_test(tests, test_a_fork_is_refused);
    TCase *saves = tcase_create("saves");
    tcase_add_checked_fixture(saves, set_up_save, tear_down_save);
    tcase_set_timeout(saves, 120);
    tcase_add_test(saves, test_saves_are_those_of_the_host);
    tcase_add_test(saves, test_detach);
    tcase_add_test(saves, test_buffers_that_are_looked_at_by_the_thousand);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, saves);
    return run_suite(suite);
}
