/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache.h"
#include "fs_suites.h"

typedef struct numbered {
    cm_cached item;
    uint64_t key;
    int *alive;
} numbered;

typedef struct factory {
    size_t cost;
    int made, alive;
    useconds_t delay;
    int error;
} factory;

static void destroy(cm_cached *item)
{
    __atomic_sub_fetch(((numbered *)item)->alive, 1, __ATOMIC_RELAXED);
    free(item);
}

static int make(void *arg, uint64_t key, cm_cached **item)
{
    factory *f = arg;

    usleep(f->delay);
    __atomic_add_fetch(&f->made, 1, __ATOMIC_RELAXED);
    if (f->error != 0)
        return f->error;
    numbered *n = calloc(1, sizeof *n);
    if (n == NULL)
        return -ENOMEM;
    n->key = key;
    n->alive = &f->alive;
    __atomic_add_fetch(&f->alive, 1, __ATOMIC_RELAXED);
    cm_cached_init(&n->item, f->cost, destroy);
    *item = &n->item;
    return 0;
}

static void use(cm_cache *cache, uint64_t key, factory *f)
{
    cm_cached *item = NULL;

    ck_assert_int_eq(cm_cache_get(cache, key, make, f, &item), 0);
    ck_assert_uint_eq(((numbered *)item)->key, key);
    cm_cached_unref(item);
}

START_TEST(bounded_by_count_and_bytes)
{
    factory f = {.cost = 10};
    cm_cache *cache = NULL;

    ck_assert_int_eq(cm_cache_new(_i == 0 ? 1 << 20 : 40, _i == 0 ? 4 : 1 << 20, &cache), 0);
    for (uint64_t key = 0; key < 100; key++)
        use(cache, key, &f);
    ck_assert_int_eq(f.alive, 4);
    ck_assert_uint_eq(cm_cache_bytes(cache), 40);
    /* The four used last are there, the least recently used goes first. */
    use(cache, 96, &f);
    use(cache, 1, &f);
    ck_assert_int_eq(f.made, 101);
    ck_assert(cm_cache_has(cache, 96));
    ck_assert(!cm_cache_has(cache, 97));
    cm_cache_free(cache);
    ck_assert_int_eq(f.alive, 0);
}
END_TEST

/* As the variables of a checkpoint, from which the pickles of all of them are made. */
START_TEST(what_others_lean_on_stays)
{
    factory f = {.cost = 30};
    cm_cache *cache = NULL;
    cm_cached *held = NULL;

    ck_assert_int_eq(cm_cache_new(40, 1 << 20, &cache), 0);
    ck_assert_int_eq(cm_cache_get(cache, 1000, make, &f, &held), 0);
    cm_cached *leant_on = cm_cached_lean(held);
    cm_cached_unref(held);
    for (uint64_t key = 0; key < 10; key++)
        use(cache, key, &f);
    ck_assert(cm_cache_has(cache, 1000));
    ck_assert_int_eq(f.alive, 2);
    cm_cached_lean_no_more(leant_on);
    use(cache, 10, &f);
    ck_assert(!cm_cache_has(cache, 1000));
    ck_assert_int_eq(f.alive, 1);
    cm_cache_free(cache);
    ck_assert_int_eq(f.alive, 0);
}
END_TEST

START_TEST(one_too_big_stays_while_in_use)
{
    factory f = {.cost = 1000};
    cm_cache *cache = NULL;
    cm_cached *held = NULL;

    ck_assert_int_eq(cm_cache_new(100, 10, &cache), 0);
    use(cache, 1, &f);
    use(cache, 1, &f);
    ck_assert_int_eq(f.made, 1);
    ck_assert_int_eq(cm_cache_get(cache, 1, make, &f, &held), 0);
    use(cache, 2, &f);
    ck_assert(!cm_cache_has(cache, 1));
    ck_assert_int_eq(f.alive, 2);
    cm_cached_unref(held);
    ck_assert_int_eq(f.alive, 1);
    cm_cache_free(cache);
}
END_TEST

START_TEST(failures_are_not_kept)
{
    factory f = {.cost = 1, .error = -EIO};
    cm_cache *cache = NULL;
    cm_cached *item = NULL;

    ck_assert_int_eq(cm_cache_new(100, 10, &cache), 0);
    ck_assert_int_eq(cm_cache_get(cache, 7, make, &f, &item), -EIO);
    f.error = 0;
    use(cache, 7, &f);
    ck_assert_int_eq(f.made, 2);
    cm_cache_free(cache);
}
END_TEST

typedef struct crowd {
    cm_cache *cache;
    factory *f;
    int failures;
} crowd;

static void *ask_once(void *arg)
{
    crowd *c = arg;
    cm_cached *item = NULL;

    if (cm_cache_get(c->cache, 5, make, c->f, &item) < 0)
        __atomic_add_fetch(&c->failures, 1, __ATOMIC_RELAXED);
    else
        cm_cached_unref(item);
    return NULL;
}

/* However many ask at once, it is made once; when that fails, all of those who waited are told. */
START_TEST(made_once)
{
    enum { THREADS = 16 };
    factory f = {.cost = 1, .delay = 100000, .error = _i == 0 ? 0 : -EIO};
    crowd c = {.f = &f};
    pthread_t threads[THREADS];

    ck_assert_int_eq(cm_cache_new(100, 10, &c.cache), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_once, &c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(c.failures, _i == 0 ? 0 : THREADS);
    if (_i == 0)
        ck_assert_int_eq(f.made, 1);
    cm_cache_free(c.cache);
    ck_assert_int_eq(f.alive, 0);
}
END_TEST

static void *ask_many(void *arg)
{
    crowd *c = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;

    for (int i = 0; i < 20000; i++) {
        cm_cached *item = NULL;
        uint64_t key = (uint64_t)rand_r(&seed) % 32;
        if (cm_cache_get(c->cache, key, make, c->f, &item) < 0 || ((numbered *)item)->key != key)
            __atomic_add_fetch(&c->failures, 1, __ATOMIC_RELAXED);
        cm_cached_unref(item);
    }
    return NULL;
}

START_TEST(many_threads)
{
    enum { THREADS = 8 };
    factory f = {.cost = 10};
    crowd c = {.f = &f};
    pthread_t threads[THREADS];

    ck_assert_int_eq(cm_cache_new(80, 10, &c.cache), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_many, &c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(c.failures, 0);
    ck_assert_uint_le(cm_cache_bytes(c.cache), 80);
    cm_cache_free(c.cache);
    ck_assert_int_eq(f.alive, 0);
}
END_TEST

TCase *cm_cache_tests(void)
{
    TCase *tests = tcase_create("cache");

    tcase_add_loop_test(tests, bounded_by_count_and_bytes, 0, 2);
    tcase_add_test(tests, what_others_lean_on_stays);
    tcase_add_test(tests, one_too_big_stays_while_in_use);
    tcase_add_test(tests, failures_are_not_kept);
    tcase_add_loop_test(tests, made_once, 0, 2);
    tcase_add_test(tests, many_threads);
    tcase_set_timeout(tests, 60);
    return tests;
}
