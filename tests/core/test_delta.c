/* SPDX-License-Identifier: Apache-2.0 */
/* Differences: an object stored against what it was before, in chains that end, and what damage to a chain does (P5). */
#include "codec.h"
#include "fixture.h"
#include "id.h"
#include "rocksdb_backend.h"
#include "store.h"

enum { SHELF = 32 };

/* ---- records by themselves ----------------------------------------------------------------------------------------- */

/* Records under ids whose first byte is their number here. */
static cm_buffer shelf[SHELF];

static int fetch(void *arg, const cm_id *id, cm_buffer *record)
{
    (*(unsigned *)arg)++;
    if (id->bytes[0] >= SHELF || shelf[id->bytes[0]].size == 0)
        return -ENOENT;
    cm_buffer_clear(record);
    cm_buffer_append(record, shelf[id->bytes[0]].data, shelf[id->bytes[0]].size);
    return 0;
}

static void clear_shelf(void)
{
    for (size_t i = 0; i < SHELF; i++)
        cm_buffer_free(&shelf[i]);
}

static cm_id numbered(unsigned n)
{
    return (cm_id){.bytes = {(uint8_t)n}};
}

static void resolve(unsigned n, cm_buffer *content)
{
    unsigned fetched = 0;
    cm_buffer record = CM_BUFFER_INIT;
    cm_id id = numbered(n);
    ck_ok(fetch(&fetched, &id, &record));
    ck_ok(cm_record_resolve(fetch, &fetched, &record));
    ck_ok(cm_record_decode(record.data, record.size, content));
    cm_buffer_free(&record);
}

/* Puts `content` on the shelf as number `n`, against number `base`; the depth it got. */
static unsigned shelve(unsigned n, unsigned base, const void *content, size_t size)
{
    unsigned fetched = 0, depth = 0;
    cm_buffer record = CM_BUFFER_INIT;
    cm_base b = {.depth = 0};
    cm_id id = numbered(base), named;
    ck_ok(fetch(&fetched, &id, &record));
    ck_ok(cm_base_load(fetch, &fetched, &id, &record, &b));
    ck_ok(cm_record_encode_delta(&b, content, size, size, &shelf[n]));
    ck_assert_uint_gt(shelf[n].size, 0);
    ck_assert_int_eq(cm_record_base(shelf[n].data, shelf[n].size, &named, &depth), 1);
    ck_assert_uint_eq(depth, b.depth + 1);
    ck_assert(cm_id_equal(&named, &b.id));
    cm_buffer_free(&record);
    cm_buffer_free(&b.content);
    return depth;
}

enum change { ONE_BYTE, INSERTED, CUT, APPENDED, HALF, CHANGES };

/* Replaces `content`. */
static void change(cm_buffer *content, enum change how, uint64_t seed)
{
    seeded random = {seed | 1};
    size_t at = content->size / 3 + seeded_next(&random) % (content->size / 3);
    cm_buffer changed = CM_BUFFER_INIT;
    cm_buffer_append(&changed, content->data, at);
    if (how == ONE_BYTE)
        changed.data[at - 1] ^= 0x55;
    if (how == INSERTED)
        cm_buffer_append(&changed, "inserted here", 13);
    cm_buffer_append(&changed, content->data + at + (how == CUT ? 17 : 0), content->size - at - (how == CUT ? 17 : 0));
    if (how == APPENDED)
        cm_buffer_append(&changed, "and more", 8);
    if (how == HALF)
        seeded_fill(seed, changed.data, changed.size / 2);
    cm_buffer_free(content);
    *content = changed;
}

/* Bytes that do not compress; text; few different values, in which long matches hide. */
static cm_buffer made(size_t size, unsigned how)
{
    cm_buffer content = CM_BUFFER_INIT;
    uint8_t *at = cm_buffer_extend(&content, size);
    ck_assert_ptr_nonnull(at);
    seeded_fill(size, at, size);
    for (size_t i = 0; how && i < size; i++)
        at[i] = how == 1 ? (uint8_t)("etaoin shrdlu,.x"[at[i] % 16]) : i % 4 ? 0 : at[i] % 10;
    return content;
}

START_TEST(small_changes_make_small_records)
{
    static const size_t sizes[] = {1000, 65536, 1000000};
    for (enum change how = 0; how < CHANGES; how++) {
        cm_buffer content = made(sizes[_i / 3], (unsigned)_i % 3), back = CM_BUFFER_INIT;
        ck_ok(cm_record_encode(0, content.data, content.size, &shelf[0]));
        change(&content, how, 7);
        ck_assert_uint_eq(shelve(1, 0, content.data, content.size), 1);
        if (how != HALF)
            ck_assert_msg(shelf[1].size < 250, "change %d of kind %d: %zu bytes", how, _i, shelf[1].size);
        resolve(1, &back);
        ck_assert_uint_eq(back.size, content.size);
        ck_assert_mem_eq(back.data, content.data, content.size);
        cm_buffer_free(&content);
        cm_buffer_free(&back);
        clear_shelf();
    }
}
END_TEST

/* The format, from the document: version, codec, size, XXH3-128 of the content, depth, id of the base, zstd. */
START_TEST(record_bytes_are_as_the_format_says)
{
    cm_buffer content = made(300, 0), same = CM_BUFFER_INIT;
    cm_id id = numbered(0);
    ck_ok(cm_record_encode(0, content.data, content.size, &shelf[0]));
    shelve(1, 0, content.data, content.size);
    const uint8_t *at = shelf[1].data;
    ck_assert_mem_eq(at, "\2\2\254\2", 4);
    ck_assert_mem_eq(at + 4, shelf[0].data + 4, 16); /* the same content has the same checksum */
    ck_assert_uint_eq(at[20], 1);
    ck_assert_mem_eq(at + 21, id.bytes, sizeof id.bytes);
    ck_assert_mem_eq(at + 53, "\x28\xb5\x2f\xfd", 4);
    cm_buffer_free(&content);
    cm_buffer_free(&same);
    clear_shelf();
}
END_TEST

START_TEST(what_does_not_fit_is_left_empty)
{
    cm_base base = {.content = made(5000, 0)};
    cm_buffer other = made(5001, 0), record = CM_BUFFER_INIT;
    ck_ok(cm_record_encode_delta(&base, other.data, other.size, other.size / 2, &record));
    ck_assert_uint_eq(record.size, 0);
    ck_ok(cm_record_encode_delta(&base, base.content.data, base.content.size, 20, &record));
    ck_assert_uint_eq(record.size, 0);
    cm_buffer_free(&base.content);
    cm_buffer_free(&other);
    cm_buffer_free(&record);
}
END_TEST

START_TEST(chains_are_bounded)
{
    cm_buffer content = made(20000, 0), contents[SHELF] = {CM_BUFFER_INIT}, back = CM_BUFFER_INIT;
    ck_ok(cm_record_encode(0, content.data, content.size, &shelf[0]));
    for (unsigned n = 1; n < SHELF; n++) {
        change(&content, n % HALF, n);
        unsigned depth = shelve(n, n - 1, content.data, content.size);
        ck_assert_uint_eq(depth, (n - 1) % CM_DELTA_DEPTH + 1); /* after the deepest comes one against the first */
        cm_buffer_append(&contents[n], content.data, content.size);
    }
    for (unsigned n = SHELF - 1; n > 0; n--) {
        resolve(n, &back);
        ck_assert_uint_eq(back.size, contents[n].size);
        ck_assert_mem_eq(back.data, contents[n].data, back.size);
        cm_buffer_free(&contents[n]);
    }
    cm_buffer_free(&content);
    cm_buffer_free(&back);
    clear_shelf();
}
END_TEST

static void refused(unsigned n, const char *why)
{
    unsigned fetched = 0;
    cm_buffer record = CM_BUFFER_INIT;
    cm_base base = {.depth = 0};
    cm_id id = numbered(n);
    ck_ok(fetch(&fetched, &id, &record));
    ck_fails(cm_record_resolve(fetch, &fetched, &record), EILSEQ, why);
    ck_assert_uint_le(fetched, 1 + CM_DELTA_DEPTH);
    ck_ok(fetch(&fetched, &id, &record));
    ck_fails(cm_base_load(fetch, &fetched, &id, &record, &base), EILSEQ, why);
    ck_fails(cm_record_decode(shelf[n].data, shelf[n].size, &record), EILSEQ, "not at hand");
    cm_buffer_free(&record);
    cm_buffer_free(&base.content);
}

enum { DEPTH_AT = 20 }; /* in the records below, whose size takes two bytes */

START_TEST(broken_chains_are_refused)
{
    cm_buffer content = made(5000, 0), other = made(5001, 0);
    ck_ok(cm_record_encode(0, content.data, content.size, &shelf[0]));
    for (unsigned n = 1; n <= 3; n++) {
        change(&content, ONE_BYTE, n);
        shelve(n, n - 1, content.data, content.size);
    }
    shelf[3].data[DEPTH_AT] = 2; /* its base says 2 */
    refused(3, "not as long as it was");
    shelf[3].data[DEPTH_AT] = 4;
    refused(3, "not as long as it was");
    shelf[3].data[DEPTH_AT] = 3;
    memcpy(shelf[1].data + DEPTH_AT + 1, &(cm_id){.bytes = {3}}, sizeof(cm_id)); /* 3 -> 2 -> 1 -> 3 */
    refused(3, "not as long as it was");
    memcpy(shelf[1].data + DEPTH_AT + 1, &(cm_id){.bytes = {1}}, sizeof(cm_id)); /* its own base */
    refused(1, "not as long as it was");
    memcpy(shelf[1].data + DEPTH_AT + 1, &(cm_id){.bytes = {0}}, sizeof(cm_id));
    ck_ok(cm_record_encode(0, other.data, other.size, &shelf[0])); /* another object than it was */
    refused(3, "in object 0100000000000000, from which it is a difference");
    refused(1, "damaged record");
    cm_buffer_free(&shelf[0]);
    refused(1, "object 0000000000000000, from which it is a difference, is missing");
    refused(2, "object 0000000000000000, from which it is a difference, is missing");
    cm_buffer_free(&content);
    cm_buffer_free(&other);
    clear_shelf();
}
END_TEST

/* ---- in a store ---------------------------------------------------------------------------------------------------- */

enum { SIZE = 1 << 20, ROUNDS = 30 };

static uint64_t save_bytes(const uint8_t *bytes, uint64_t *number)
{
    node *buffer = node_new(&nodes, NODE_BUFFER);
    buffer->text = bytes;
    buffer->size = SIZE;
    cm_save *save = begin(store, "s");
    save_node(save, "array", buffer, &whole);
    cm_checkpoint *c = finish(save);
    uint64_t written = cm_checkpoint_stats(c)->bytes_written;
    if (number)
        *number = cm_checkpoint_number(c);
    cm_checkpoint_unref(c);
    return written;
}

/* The bytes of the array as they were at a checkpoint are at the end of its stream, before STOP. */
static void check_bytes(cm_store *from, uint64_t number, const uint8_t *bytes)
{
    cm_checkpoint *c;
    char at[32];
    snprintf(at, sizeof at, "%llu", (unsigned long long)number);
    ck_ok(cm_checkpoint_open(from, "s", at, &c));
    size_t size;
    uint8_t *stream = link_whole(c, (const char *const[]){"array"}, 1, 0, &size);
    ck_assert_uint_gt(size, SIZE);
    bool found = false;
    for (size_t i = 0; i + SIZE <= size && !found; i++)
        found = memcmp(stream + i, bytes, SIZE) == 0;
    ck_assert_msg(found, "checkpoint %s is not what was saved", at);
    free(stream);
    cm_checkpoint_unref(c);
}

typedef struct census {
    size_t whole, differences;
    unsigned deepest;
    cm_id deep; /* one of the deepest */
} census;

static int count(void *arg, const cm_id *id, const cm_object_info *info)
{
    census *all = arg;
    if (info->depth)
        all->differences++;
    else
        all->whole++;
    if (info->depth > all->deepest) {
        all->deepest = info->depth;
        all->deep = *id;
    }
    return 0;
}

/* Spoils the last byte of a record in the database, behind everyone's back. */
static void spoil(const cm_id *id)
{
    cm_rocksdb_backend *backend = (cm_rocksdb_backend *)store->backend;
    cm_buffer record = CM_BUFFER_INIT;
    cm_object_info info;
    uint64_t sequence;
    uint8_t key[8];
    char *error = NULL;
    ck_ok(store->backend->ops->get_stored(store->backend, id, &record, &info));
    ck_ok(cm_rocksdb_find(backend, id, 1, &info, &sequence));
    record.data[record.size - 1] ^= 0x10;
    cm_sequence_pack(sequence, key);
    rocksdb_put_cf(backend->rocks.db, backend->rocks.write_quick, backend->rocks.cf[CM_CF_BULK], (char *)key,
                   sizeof key, (char *)record.data, record.size, &error);
    ck_assert_ptr_null(error);
    cm_buffer_free(&record);
}

START_TEST(every_state_is_kept)
{
    uint8_t *bytes = malloc(SIZE), *states = malloc((size_t)SIZE * ROUNDS);
    uint64_t numbers[ROUNDS];
    seeded random = {5};
    seeded_fill(1, bytes, SIZE);
    for (size_t i = 0; i < ROUNDS; i++) {
        uint64_t written = save_bytes(bytes, &numbers[i]);
        if (i > 0)
            ck_assert_msg(written < 2500, "round %zu wrote %llu bytes", i, (unsigned long long)written);
        memcpy(states + i * SIZE, bytes, SIZE);
        bytes[seeded_next(&random) % SIZE] ^= 1;
        bytes[70000] ^= (uint8_t)(1 + i);
    }
    census all = {0};
    ck_ok(cm_object_list(store, NULL, 0, count, &all));
    ck_assert_uint_gt(all.differences, ROUNDS);
    ck_assert_uint_eq(all.deepest, CM_DELTA_DEPTH);
    no_damage();
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < ROUNDS; i++)
            check_bytes(store, numbers[i], states + i * SIZE);
        cm_store_unref(store);
        store = open_store("store", again ? CREATE : CM_OPEN_READ);
    }
    free(bytes);
    free(states);
}
END_TEST

START_TEST(what_is_all_new_is_stored_whole)
{
    uint8_t *bytes = malloc(SIZE);
    for (uint64_t i = 0; i < 4; i++) {
        seeded_fill(i + 1, bytes, SIZE);
        uint64_t number, written = save_bytes(bytes, &number);
        ck_assert_uint_gt(written, SIZE);
        ck_assert_uint_lt(written, SIZE + 5000);
        check_bytes(store, number, bytes);
    }
    /* Then a small change again: most of it is not tried any more within this save, but the next one begins anew. */
    bytes[5] ^= 1;
    ck_assert_uint_lt(save_bytes(bytes, NULL), 2500);
    free(bytes);
}
END_TEST

START_TEST(a_damaged_base_is_told)
{
    uint8_t *bytes = malloc(SIZE);
    seeded_fill(1, bytes, SIZE);
    for (size_t i = 0; i < 5; i++) {
        bytes[100 + i] ^= 1;
        save_bytes(bytes, NULL);
    }
    census all = {0};
    ck_ok(cm_object_list(store, NULL, 0, count, &all));
    ck_assert_uint_gt(all.deepest, 1);
    cm_buffer record = CM_BUFFER_INIT;
    cm_object_info info;
    cm_id base;
    unsigned depth;
    void *data;
    size_t size;
    ck_ok(cm_object_read(store, &all.deep, &data, &size));
    free(data);
    ck_ok(store->backend->ops->get_stored(store->backend, &all.deep, &record, &info));
    ck_assert_uint_eq(info.stored, record.size);
    ck_assert_uint_eq(info.depth, all.deepest);
    ck_assert_int_eq(cm_record_base(record.data, record.size, &base, &depth), 1);
    ck_assert_uint_eq(depth, all.deepest);
    ck_ok(store->backend->ops->get_stored(store->backend, &base, &record, &info));
    ck_assert_uint_eq(info.depth, depth - 1);
    spoil(&base);
    ck_fails(cm_object_read(store, &all.deep, &data, &size), EILSEQ, "from which it is a difference");
    cm_verify_report report;
    ck_fails(cm_verify(store, NULL, NULL, NULL, &report), EILSEQ, "damaged");
    cm_buffer_free(&record);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.delta");
    TCase *records = tcase_create("records");
    tcase_set_timeout(records, 60);
    tcase_add_loop_test(records, small_changes_make_small_records, 0, 9);
    tcase_add_test(records, record_bytes_are_as_the_format_says);
    tcase_add_test(records, what_does_not_fit_is_left_empty);
    tcase_add_test(records, chains_are_bounded);
    tcase_add_test(records, broken_chains_are_refused);
    suite_add_tcase(suite, records);
    TCase *stored = tcase_create("store");
    tcase_set_timeout(stored, 120);
    tcase_add_checked_fixture(stored, setup_store, teardown_store);
    tcase_add_test(stored, every_state_is_kept);
    tcase_add_test(stored, what_is_all_new_is_stored_whole);
    tcase_add_test(stored, a_damaged_base_is_told);
    suite_add_tcase(suite, stored);
    return run_suite(suite);
}
