/* SPDX-License-Identifier: Apache-2.0 */
/* Records, ids and the integers of the format: what goes in comes out, and nothing else is taken for it (P5). */
#include "buffer.h"
#include "codec.h"
#include "id.h"
#include "support.h"

static uint8_t *content_of(size_t size, unsigned how)
{
    uint8_t *content = malloc(size + 1);
    ck_assert_ptr_nonnull(content);
    seeded_fill(size, content, size);
    for (size_t i = 0; how && i < size; i++) /* 1: text-like, 2: constant */
        content[i] = how == 1 ? (uint8_t)("abcdefgh"[content[i] % 8]) : 'x';
    return content;
}

static const size_t sizes[] = {0, 1, 63, 64, 4095, 4096, 65536, 1000000};

START_TEST(records_round_trip)
{
    size_t size = sizes[_i % 8];
    for (unsigned how = 0; how < 3; how++) {
        for (int level = 0; level <= 19; level += level < 3 ? 1 : 16) {
            uint8_t *content = content_of(size, how), *into = malloc(size + 1);
            cm_buffer record = CM_BUFFER_INIT, back = CM_BUFFER_INIT;
            cm_buffer_append(&record, "old", 3);
            cm_buffer_append(&back, "older", 5);
            ck_ok(cm_record_encode(level, content, size, &record));
            ck_assert_uint_le(record.size, size + 2 + 9 + 16);
            if (how == 2 && level > 0 && size >= 4095)
                ck_assert_uint_lt(record.size, size / 20);
            ck_ok(cm_record_decode(record.data, record.size, &back));
            ck_assert_uint_eq(back.size, size);
            ck_assert(size == 0 || memcmp(back.data, content, size) == 0);
            ck_ok(cm_record_decode_into(record.data, record.size, into, size));
            ck_assert(size == 0 || memcmp(into, content, size) == 0);
            ck_fails(cm_record_decode_into(record.data, record.size, into, size + 1), EILSEQ, "referred to");
            if (size)
                ck_fails(cm_record_decode_into(record.data, record.size, into, size - 1), EILSEQ, "referred to");
            cm_buffer_free(&record);
            cm_buffer_free(&back);
            free(content);
            free(into);
        }
    }
}
END_TEST

/* The format, from the document: version, codec, size, XXH3-128, payload. */
START_TEST(record_bytes_are_as_the_format_says)
{
    cm_buffer record = CM_BUFFER_INIT;
    ck_ok(cm_record_encode(3, "abc", 3, &record));
    static const uint8_t expected[] = {1,    0,    3,    0x06, 0xb0, 0x5a, 0xb6, 0x73, 0x3a, 0x61, 0x85,
                                       0x78, 0xaf, 0x5f, 0x94, 0x89, 0x2f, 0x39, 0x50, 'a',  'b',  'c'};
    ck_assert_uint_eq(record.size, sizeof expected);
    ck_assert_mem_eq(record.data, expected, sizeof expected);
    cm_buffer_free(&record);
}
END_TEST

/* Every truncation and every flipped bit: an error, or (in what is not significant) the right content; never another. */
START_TEST(damage_is_never_a_wrong_value)
{
    unsigned how = (unsigned)_i;
    size_t size = 3000;
    uint8_t *content = content_of(size, how);
    cm_buffer record = CM_BUFFER_INIT, back = CM_BUFFER_INIT;
    ck_ok(cm_record_encode(3, content, size, &record));
    for (size_t cut = 0; cut < record.size; cut++) {
        uint8_t *copy = malloc(cut + !cut); /* of exact size, so that reading beyond it is noticed */
        memcpy(copy, record.data, cut);
        ck_assert_int_eq(cm_record_decode(copy, cut, &back), -EILSEQ);
        free(copy);
    }
    cm_buffer_append(&record, "", 1);
    ck_assert_int_eq(cm_record_decode(record.data, record.size, &back), -EILSEQ);
    record.size--;
    for (size_t bit = 0; bit < record.size * 8; bit++) {
        record.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int result = cm_record_decode(record.data, record.size, &back);
        if (result == 0) {
            ck_assert_uint_eq(back.size, size);
            ck_assert_mem_eq(back.data, content, size);
        } else {
            ck_assert_msg(result == -EILSEQ || (bit < 8 && result == -EPROTONOSUPPORT), "bit %zu: %d", bit, result);
        }
        record.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_ok(cm_record_decode(record.data, record.size, &back));
    cm_buffer_free(&record);
    cm_buffer_free(&back);
    free(content);
}
END_TEST

START_TEST(hostile_records_are_refused)
{
    static const struct {
        const char *bytes;
        size_t size;
        int error;
    } records[] = {
        {"", 0, EILSEQ},
        {"\1", 1, EILSEQ},
        {"\3\0\3aaaaaaaaaaaaaaaaabc", 22, EPROTONOSUPPORT},
        {"\2\0\3aaaaaaaaaaaaaaaaabc", 22, EILSEQ},               /* raw, of the version that has differences only */
        {"\2\2\3aaaaaaaaaaaaaaaa\1bbbbbbbbbbbbbbb", 35, EILSEQ}, /* a base's id cut short */
        {"\2\2\3aaaaaaaaaaaaaaaa\0bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbabc", 55, EILSEQ},             /* no base */
        {"\2\2\3aaaaaaaaaaaaaaaa\11bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbabc", 55, EILSEQ},            /* too many */
        {"\2\2\201\200\200\2aaaaaaaaaaaaaaaa\1bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbabc", 58, EILSEQ}, /* too large */
        {"\2\2\3aaaaaaaaaaaaaaaa\1bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbabc", 55, EILSEQ}, /* its base is needed */
        {"\0\0\3aaaaaaaaaaaaaaaaabc", 22, EILSEQ},
        {"\1\2\3aaaaaaaaaaaaaaaaabc", 22, EILSEQ},
        {"\1\0\200\200\200\200\200\200\200\200\200\1aaaaaaaaaaaaaaaa", 28, EILSEQ},         /* 2^63 bytes */
        {"\1\1\200\200\200\200\4aaaaaaaaaaaaaaaa", 23, EILSEQ},                             /* 2^30 in nothing */
        {"\1\1\200\200\200\200\4aaaaaaaaaaaaaaaa\x28\xb5\x2f\xfd\x04\0\1\0\0", 32, EILSEQ}, /* in an empty frame */
        {"\1\0\377\377\377\377\377\377\377\377\377\377\377aaaaaaaaaaaaaaaa", 29, EILSEQ},   /* an endless varint */
        {"\1\0\203\0aaaaaaaaaaaaaaaaabc", 23, EILSEQ},                                      /* not the shortest form */
    };
    cm_buffer back = CM_BUFFER_INIT;
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        int result = cm_record_decode(records[i].bytes, records[i].size, &back);
        ck_assert_msg(result == -records[i].error, "record %zu: %d (%s)", i, result, cm_error_message());
    }
    ck_assert_int_eq(cm_record_encode(0, "", (size_t)CM_RECORD_MOST + 1, &back), -EFBIG);
    cm_buffer_free(&back);
}
END_TEST

START_TEST(kinds_are_guessed_by_magic)
{
    ck_assert_uint_eq(cm_kind_guess("CMP\1x", 5), CM_KIND_POD);
    ck_assert_uint_eq(cm_kind_guess("CMM\1", 4), CM_KIND_MAP);
    ck_assert_uint_eq(cm_kind_guess("CMC\1", 4), CM_KIND_CHECKPOINT);
    ck_assert_uint_eq(cm_kind_guess("CMC", 3), CM_KIND_CHUNK);
    ck_assert_uint_eq(cm_kind_guess("", 0), CM_KIND_CHUNK);
}
END_TEST

/* ---- ids --------------------------------------------------------------------------------------------------------- */

START_TEST(ids_are_sha256)
{
    cm_id id, parsed;
    char hex[CM_ID_HEX + 1];
    ck_ok(cm_id_of("abc", 3, &id));
    cm_id_hex(&id, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ck_ok(cm_id_parse(hex, &parsed));
    ck_assert(cm_id_equal(&id, &parsed));
    ck_ok(cm_id_of("", 0, &id));
    cm_id_hex(&id, hex);
    ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ck_assert(!cm_id_equal(&id, &parsed));
    hex[0] = 'E';
    ck_assert_int_eq(cm_id_parse(hex, &parsed), -EINVAL);
    hex[0] = 'g';
    ck_assert_int_eq(cm_id_parse(hex, &parsed), -EINVAL);
    hex[63] = 0;
    ck_assert_int_eq(cm_id_parse(hex + 1, &parsed), -EINVAL);
    ck_assert_int_eq(cm_id_parse("", &parsed), -EINVAL);
    ck_assert_int_eq(cm_id_parse("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85500", &parsed),
                     -EINVAL);
}
END_TEST

/* ---- integers ----------------------------------------------------------------------------------------------------- */

START_TEST(varints_round_trip_in_shortest_form)
{
    seeded random = {3};
    for (int i = 0; i < 10000; i++) {
        uint64_t value = i < 64 ? (uint64_t)1 << i : seeded_next(&random) >> (i % 64);
        value -= i % 3 == 0;
        cm_buffer buffer = CM_BUFFER_INIT;
        cm_buffer_varint(&buffer, value);
        unsigned bits = value ? 64 - (unsigned)__builtin_clzll(value) : 1;
        ck_assert_uint_eq(buffer.size, (bits + 6) / 7);
        cm_reader reader = cm_reader_of(buffer.data, buffer.size);
        ck_assert(cm_read_varint(&reader) == value && !reader.bad && reader.at == reader.end);
        reader = cm_reader_of(buffer.data, buffer.size);
        ck_assert(cm_read_bounded(&reader, value) == value && !reader.bad);
        reader = cm_reader_of(buffer.data, buffer.size - 1);
        cm_read_varint(&reader);
        ck_assert(reader.bad);
        if (value) {
            reader = cm_reader_of(buffer.data, buffer.size);
            cm_read_bounded(&reader, value - 1);
            ck_assert(reader.bad);
        }
        cm_buffer_free(&buffer);
    }
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"", 0},
               {"\200", 1},
               {"\200\0", 2},
               {"\377\377\377\377\377\377\377\377\377\2", 10},
               {"\200\200\200\200\200\200\200\200\200\200\1", 11}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cm_reader reader = cm_reader_of(bad[i].bytes, bad[i].size);
        ck_assert_uint_eq(cm_read_varint(&reader), 0);
        ck_assert_msg(reader.bad, "varint %zu was accepted", i);
        ck_assert_ptr_null(cm_read_bytes(&reader, 0)); /* once bad, always bad */
    }
}
END_TEST

START_TEST(strings_round_trip_without_zero_bytes)
{
    cm_buffer buffer = CM_BUFFER_INIT;
    cm_buffer_string(&buffer, "naïve");
    cm_buffer_string(&buffer, NULL);
    cm_buffer_varint(&buffer, 3);
    cm_buffer_append(&buffer, "a\0b", 3);
    cm_reader reader = cm_reader_of(buffer.data, buffer.size);
    char *text = cm_read_string(&reader);
    ck_assert_str_eq(text, "naïve");
    free(text);
    text = cm_read_string(&reader);
    ck_assert_str_eq(text, "");
    free(text);
    ck_assert_ptr_null(cm_read_string(&reader));
    ck_assert(reader.bad);
    reader = cm_reader_of("\377\377\377\377\7x", 6);
    ck_assert_ptr_null(cm_read_string(&reader));
    cm_buffer_free(&buffer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.codec");
    TCase *tcase = tcase_create("codec");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, records_round_trip, 0, 8);
    tcase_add_test(tcase, record_bytes_are_as_the_format_says);
    tcase_add_loop_test(tcase, damage_is_never_a_wrong_value, 0, 3);
    tcase_add_test(tcase, hostile_records_are_refused);
    tcase_add_test(tcase, kinds_are_guessed_by_magic);
    tcase_add_test(tcase, ids_are_sha256);
    tcase_add_test(tcase, varints_round_trip_in_shortest_form);
    tcase_add_test(tcase, strings_round_trip_without_zero_bytes);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
