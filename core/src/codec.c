/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

#include "error.h"

#include <pthread.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

enum { RECORD_VERSION = 1, CODEC_RAW = 0, CODEC_ZSTD = 1, CHECKSUM = 16, PROBE_MIN = 4096, PROBE = 2048 };

/* zstd contexts are expensive to make: one of each per thread, freed when the thread ends. */
typedef struct contexts {
    ZSTD_CCtx *compress;
    ZSTD_DCtx *decompress;
} contexts;

static pthread_key_t contexts_key;
static pthread_once_t key_made = PTHREAD_ONCE_INIT;

static void free_contexts(void *p)
{
    contexts *c = p;
    ZSTD_freeCCtx(c->compress);
    ZSTD_freeDCtx(c->decompress);
    free(c);
}

static void make_key(void)
{
    pthread_key_create(&contexts_key, free_contexts);
}

static contexts *thread_contexts(void)
{
    pthread_once(&key_made, make_key);
    contexts *c = pthread_getspecific(contexts_key);
    if (!c) {
        c = calloc(1, sizeof *c);
        if (c && pthread_setspecific(contexts_key, c)) {
            free(c);
            return NULL;
        }
    }
    return c;
}

static void checksum(const void *content, size_t size, uint8_t out[CHECKSUM])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(content, size));
    memcpy(out, canonical.digest, CHECKSUM);
}

static void header(cm_buffer *record, uint8_t codec, const void *content, size_t size)
{
    uint8_t sum[CHECKSUM];
    checksum(content, size, sum);
    cm_buffer_clear(record);
    cm_buffer_append(record, (uint8_t[]){RECORD_VERSION, codec}, 2);
    cm_buffer_varint(record, size);
    cm_buffer_append(record, sum, sizeof sum);
}

/*
 * Is it worth trying to compress? Looks at a sample from the middle: content whose sample does not shrink (numbers
 * with random mantissas, images, already compressed data) is stored raw without the cost of trying all of it.
 */
static bool compressible(ZSTD_CCtx *context, const uint8_t *content, size_t size)
{
    if (size < PROBE_MIN)
        return true;
    uint8_t out[ZSTD_COMPRESSBOUND(PROBE)];
    for (int i = 1; i <= 3; i++) {
        size_t n = ZSTD_compressCCtx(context, out, sizeof out, content + (size - PROBE) / 4 * (size_t)i, PROBE, 1);
        if (ZSTD_isError(n) || n < PROBE - PROBE / 16)
            return true;
    }
    return false;
}

int cm_record_encode(int level, const void *content, size_t size, cm_buffer *record)
{
    if (size > CM_RECORD_MOST)
        return cm_fail(EFBIG, "an object of %zu bytes is larger than the format allows (%d)", size, CM_RECORD_MOST);
    contexts *c = thread_contexts();
    if (c && !c->compress)
        c->compress = ZSTD_createCCtx();
    if (!c || !c->compress)
        return cm_fail(ENOMEM, "out of memory for a compression context");
    if (level > 0 && size >= 64 && compressible(c->compress, content, size)) {
        header(record, CODEC_ZSTD, content, size);
        size_t start = record->size, most = size - size / 16;
        uint8_t *at = cm_buffer_extend(record, most);
        if (!at)
            return cm_fail(ENOMEM, "out of memory compressing %zu bytes", size);
        size_t n = ZSTD_compressCCtx(c->compress, at, most, content, size, level);
        if (!ZSTD_isError(n)) {
            record->size = start + n;
            return 0;
        } /* else it did not fit into `most`: not worth it */
    }
    header(record, CODEC_RAW, content, size);
    cm_buffer_append(record, content, size);
    return record->error ? cm_fail(ENOMEM, "out of memory for a record of %zu bytes", size) : 0;
}

typedef struct parsed {
    uint8_t codec;
    uint64_t size;
    const uint8_t *sum, *payload;
    size_t payload_size;
} parsed;

static int parse(const void *record, size_t size, parsed *p)
{
    cm_reader reader = cm_reader_of(record, size);
    const uint8_t *head = cm_read_bytes(&reader, 2);
    if (!head)
        return cm_fail(EILSEQ, "damaged record: only %zu bytes", size);
    if (head[0] > RECORD_VERSION)
        return cm_fail(EPROTONOSUPPORT, "record of format %u: this Chipmink reads up to %u; use a newer one", head[0],
                       RECORD_VERSION);
    p->codec = head[1];
    p->size = cm_read_bounded(&reader, CM_RECORD_MOST);
    p->sum = cm_read_bytes(&reader, CHECKSUM);
    if (reader.bad || head[0] != RECORD_VERSION || p->codec > CODEC_ZSTD)
        return cm_fail(EILSEQ, "damaged record: its header makes no sense");
    p->payload = reader.at;
    p->payload_size = (size_t)(reader.end - reader.at);
    return 0;
}

static int decode(const parsed *p, uint8_t *memory)
{
    if (p->codec == CODEC_RAW) {
        if (p->payload_size != p->size)
            return cm_fail(EILSEQ, "damaged record: %zu bytes where %llu should be", p->payload_size,
                           (unsigned long long)p->size);
        if (p->size)
            memcpy(memory, p->payload, p->size);
    } else {
        contexts *c = thread_contexts();
        if (c && !c->decompress)
            c->decompress = ZSTD_createDCtx();
        if (!c || !c->decompress)
            return cm_fail(ENOMEM, "out of memory for a decompression context");
        size_t n = ZSTD_decompressDCtx(c->decompress, memory, p->size, p->payload, p->payload_size);
        if (ZSTD_isError(n) || n != p->size)
            return cm_fail(EILSEQ, "damaged record: decompression failed (%s)",
                           ZSTD_isError(n) ? ZSTD_getErrorName(n) : "wrong size");
    }
    uint8_t sum[CHECKSUM];
    checksum(memory, p->size, sum);
    if (memcmp(sum, p->sum, sizeof sum) != 0)
        return cm_fail(EILSEQ, "damaged record: the checksum of its content does not match");
    return 0;
}

int cm_record_decode(const void *record, size_t size, cm_buffer *content)
{
    parsed p;
    int result = parse(record, size, &p);
    if (result)
        return result;
    /* A zstd frame of n bytes cannot hold more than about 2^17 times as much per block header of 3 bytes. */
    if (p.codec == CODEC_ZSTD && p.size / (1 << 17) > p.payload_size)
        return cm_fail(EILSEQ, "damaged record: it claims more than its payload can hold");
    cm_buffer_clear(content);
    uint8_t *memory = cm_buffer_extend(content, p.size);
    if (!memory && p.size)
        return cm_fail(ENOMEM, "out of memory for an object of %llu bytes", (unsigned long long)p.size);
    return decode(&p, memory);
}

int cm_record_decode_into(const void *record, size_t size, void *memory, size_t capacity)
{
    parsed p;
    int result = parse(record, size, &p);
    if (result)
        return result;
    if (p.size != capacity)
        return cm_fail(EILSEQ, "an object has %llu bytes where %zu are referred to", (unsigned long long)p.size,
                       capacity);
    return decode(&p, memory);
}

unsigned cm_kind_guess(const void *content, size_t size)
{
    if (size >= 4 && memcmp(content, CM_MAGIC_POD, 4) == 0)
        return CM_KIND_POD;
    if (size >= 4 && memcmp(content, CM_MAGIC_MAP, 4) == 0)
        return CM_KIND_MAP;
    if (size >= 4 && memcmp(content, CM_MAGIC_CHECKPOINT, 4) == 0)
        return CM_KIND_CHECKPOINT;
    return CM_KIND_CHUNK;
}
