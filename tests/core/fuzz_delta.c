/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differences: a record and the records it may need. The input is a row of them, each with its length (u32) before it; the first
 * is asked for, an id's first byte is the number of the record that it stands for.
 */
#include "codec.h"
#include "error.h"
#include "fuzz.h"

enum { RECORDS_MOST = 16 };

typedef struct row {
    const uint8_t *records[RECORDS_MOST];
    size_t sizes[RECORDS_MOST], count, fetched;
} row;

static int fetch(void *arg, const cm_id *id, cm_buffer *record)
{
    row *r = arg;
    fuzz_must(++r->fetched <= 2 * CM_DELTA_DEPTH); /* chains end, whatever the records say */
    if (id->bytes[0] >= r->count)
        return -ENOENT;
    cm_buffer_clear(record);
    cm_buffer_append(record, r->records[id->bytes[0]], r->sizes[id->bytes[0]]);
    return record->error;
}

static void clear_base(cm_base *base)
{
    cm_buffer_free(&base->content);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    row r = {.count = 0};
    cm_reader reader = cm_reader_of(data, size);
    for (; r.count < RECORDS_MOST && reader.at != reader.end; r.count++) {
        const uint8_t *length = cm_read_bytes(&reader, 4);
        r.sizes[r.count] = length ? cm_get_u32(length) : 0;
        r.records[r.count] = cm_read_bytes(&reader, r.sizes[r.count]);
        if (reader.bad)
            return -EILSEQ;
    }
    if (r.count == 0)
        return -EILSEQ;
    cm_buffer record cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT, content cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    cm_buffer_append(&record, r.records[0], r.sizes[0]);
    cm_id id = {{0}}, base_id;
    unsigned depth = 0;
    int differs = cm_record_base(record.data, record.size, &base_id, &depth);
    int result = cm_record_resolve(fetch, &r, &record);
    if (result < 0)
        return result;
    fuzz_must(differs >= 0 && r.fetched == (differs ? depth : 0));
    result = cm_record_decode(record.data, record.size, &content);
    fuzz_must(result == 0 || !differs); /* what was put together was checked */
    if (result < 0)
        return result;
    cm_base base cm_cleanup(clear_base) = {.depth = 0};
    cm_buffer_clear(&record);
    cm_buffer_append(&record, r.records[0], r.sizes[0]);
    fuzz_must(cm_base_load(fetch, &r, &id, &record, &base) == 0);
    fuzz_must(base.depth < CM_DELTA_DEPTH);
    fuzz_must(base.depth != depth ||
              (base.content.size == content.size &&
               (content.size == 0 || memcmp(base.content.data, content.data, content.size) == 0)));
    return 0;
}
