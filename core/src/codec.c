/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

#include "error.h"
#include "hash.h"

#include <pthread.h>
#include <zstd.h>

enum {
    VERSION_PLAIN = 1,
    VERSION_DELTA = 2,
    CODEC_RAW = 0,
    CODEC_ZSTD = 1,
    CODEC_DELTA = 2,
    CHECKSUM = 16,
    PROBE_MIN = 4096,
    PROBE = 2048,
    DELTA_LEVEL = 3,
    DELTA_USUAL = 256 << 10, /* of base and content: bytes that the usual search remembers */
    DELTA_MATCH = 64,        /* what is the same in the base comes in runs of at least that many bytes */
    DELTA_RATE_LOG = 5,      /* of which one at every 2^5th byte, about, is remembered */
};

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
    cm_hash hash = cm_hash_of(content, size, 0);
    for (int i = 0; i < 8; i++) { /* its canonical form */
        out[i] = (uint8_t)(hash.high >> (56 - 8 * i));
        out[8 + i] = (uint8_t)(hash.low >> (56 - 8 * i));
    }
}

static void header(cm_buffer *record, uint8_t codec, const void *content, size_t size)
{
    uint8_t sum[CHECKSUM];
    checksum(content, size, sum);
    cm_buffer_clear(record);
    cm_buffer_append(record, (uint8_t[]){codec == CODEC_DELTA ? VERSION_DELTA : VERSION_PLAIN, codec}, 2);
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

static int compressor(ZSTD_CCtx **context)
{
    contexts *c = thread_contexts();
    if (c && !c->compress)
        c->compress = ZSTD_createCCtx();
    if (!c || !c->compress)
        return cm_fail(ENOMEM, "out of memory for a compression context");
    *context = c->compress;
    return 0;
}

int cm_record_encode(int level, const void *content, size_t size, cm_buffer *record)
{
    if (size > CM_RECORD_MOST)
        return cm_fail(EFBIG, "an object of %zu bytes is larger than the format allows (%d)", size, CM_RECORD_MOST);
    ZSTD_CCtx *context;
    int result = compressor(&context);
    if (result)
        return result;
    if (level > 0 && size >= 64 && compressible(context, content, size)) {
        header(record, CODEC_ZSTD, content, size);
        size_t start = record->size, most = size - size / 16;
        uint8_t *at = cm_buffer_extend(record, most);
        if (!at)
            return cm_fail(ENOMEM, "out of memory compressing %zu bytes", size);
        size_t n = ZSTD_compressCCtx(context, at, most, content, size, level);
        if (!ZSTD_isError(n)) {
            record->size = start + n;
            return 0;
        } /* else it did not fit into `most`: not worth it */
    }
    header(record, CODEC_RAW, content, size);
    cm_buffer_append(record, content, size);
    return record->error ? cm_fail(ENOMEM, "out of memory for a record of %zu bytes", size) : 0;
}

/*
 * Arrays of few different values, where each is found again a few bytes before, hide the long matches from the usual search:
 * so those are looked for by themselves, with room to remember all of the base. That takes three times as long. Content that does not
 * compress by itself hides nothing, and the usual search remembers all of a small base.
 */
static void set_delta(ZSTD_CCtx *context, const void *content, size_t size, size_t base)
{
    bool hides = base + size > DELTA_USUAL || compressible(context, content, size);
    ZSTD_CCtx_reset(context, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, DELTA_LEVEL);
    if (!hides)
        return;
    int log = 12;
    while (log < 20 && (size_t)1 << (log + DELTA_RATE_LOG - 1) < base + size)
        log++;
    ZSTD_CCtx_setParameter(context, ZSTD_c_enableLongDistanceMatching, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_ldmMinMatch, DELTA_MATCH);
    ZSTD_CCtx_setParameter(context, ZSTD_c_ldmHashRateLog, DELTA_RATE_LOG);
    ZSTD_CCtx_setParameter(context, ZSTD_c_ldmHashLog, log);
}

int cm_record_encode_delta(const cm_base *base, const void *content, size_t size, size_t most, cm_buffer *record)
{
    ZSTD_CCtx *context;
    int result = compressor(&context);
    if (result)
        return result;
    header(record, CODEC_DELTA, content, size);
    cm_buffer_append(record, (uint8_t[]){(uint8_t)(base->depth + 1)}, 1);
    cm_buffer_append(record, &base->id, sizeof base->id);
    size_t start = record->size;
    uint8_t *at = start < most ? cm_buffer_extend(record, most - start) : NULL;
    if (record->error)
        return cm_fail(ENOMEM, "out of memory compressing %zu bytes", size);
    size_t n = 0;
    if (at) {
        set_delta(context, content, size, base->content.size);
        ZSTD_CCtx_refPrefix(context, base->content.data, base->content.size); /* for this one frame */
        n = ZSTD_compress2(context, at, most - start, content, size);
        ZSTD_CCtx_reset(context, ZSTD_reset_session_and_parameters);
    }
    if (at && !ZSTD_isError(n))
        record->size = start + n;
    else
        cm_buffer_clear(record); /* it did not fit into `most` */
    return 0;
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

typedef struct parsed {
    uint8_t codec, depth;
    uint64_t size;
    const uint8_t *sum, *payload;
    size_t payload_size;
    cm_id base; /* of a difference */
} parsed;

static int parse(const void *record, size_t size, parsed *p)
{
    cm_reader reader = cm_reader_of(record, size);
    const uint8_t *head = cm_read_bytes(&reader, 2);
    *p = (parsed){0};
    if (!head)
        return cm_fail(EILSEQ, "damaged record: only %zu bytes", size);
    if (head[0] > VERSION_DELTA)
        return cm_fail(EPROTONOSUPPORT, "record of format %u: this Chipmink reads up to %u; use a newer one", head[0],
                       VERSION_DELTA);
    p->codec = head[1];
    p->size = cm_read_bounded(&reader, CM_RECORD_MOST);
    p->sum = cm_read_bytes(&reader, CHECKSUM);
    bool fits = head[0] == VERSION_PLAIN ? p->codec <= CODEC_ZSTD : head[0] == VERSION_DELTA && p->codec == CODEC_DELTA;
    if (fits && p->codec == CODEC_DELTA) {
        const uint8_t *base = cm_read_bytes(&reader, 1 + sizeof p->base);
        if (base) {
            p->depth = base[0];
            memcpy(&p->base, base + 1, sizeof p->base);
        }
        fits = p->depth >= 1 && p->depth <= CM_DELTA_DEPTH && p->size <= CM_DELTA_MOST;
    }
    if (reader.bad || !fits)
        return cm_fail(EILSEQ, "damaged record: its header makes no sense");
    p->payload = reader.at;
    p->payload_size = (size_t)(reader.end - reader.at);
    return 0;
}

static int decompress(const parsed *p, const cm_buffer *base, uint8_t *memory)
{
    contexts *c = thread_contexts();
    if (c && !c->decompress)
        c->decompress = ZSTD_createDCtx();
    if (!c || !c->decompress)
        return cm_fail(ENOMEM, "out of memory for a decompression context");
    if (base)
        ZSTD_DCtx_refPrefix(c->decompress, base->data, base->size); /* for this one frame */
    size_t n = ZSTD_decompressDCtx(c->decompress, memory, p->size, p->payload, p->payload_size);
    if (base)
        ZSTD_DCtx_reset(c->decompress, ZSTD_reset_session_and_parameters);
    if (ZSTD_isError(n) || n != p->size)
        return cm_fail(EILSEQ, "damaged record: decompression failed (%s)",
                       ZSTD_isError(n) ? ZSTD_getErrorName(n) : "wrong size");
    return 0;
}

/* `base`: of a difference, the content it was made against. */
static int decode(const parsed *p, const cm_buffer *base, uint8_t *memory)
{
    if (p->codec == CODEC_RAW) {
        if (p->payload_size != p->size)
            return cm_fail(EILSEQ, "damaged record: %zu bytes where %llu should be", p->payload_size,
                           (unsigned long long)p->size);
        if (p->size)
            memcpy(memory, p->payload, p->size);
    } else {
        if ((p->codec == CODEC_DELTA) != (base != NULL))
            return cm_fail(EILSEQ, "damaged record: it is a difference from an object that is not at hand");
        int result = decompress(p, base, memory);
        if (result)
            return result;
    }
    uint8_t sum[CHECKSUM];
    checksum(memory, p->size, sum);
    if (memcmp(sum, p->sum, sizeof sum) != 0)
        return cm_fail(EILSEQ, "damaged record: the checksum of its content does not match");
    return 0;
}

/* Replaces `content`. */
static int decode_all(const parsed *p, const cm_buffer *base, cm_buffer *content)
{
    /* A zstd frame of n bytes cannot hold more than about 2^17 times as much per block header of 3 bytes. */
    if (p->codec != CODEC_RAW && p->size / (1 << 17) > p->payload_size)
        return cm_fail(EILSEQ, "damaged record: it claims more than its payload can hold");
    cm_buffer_clear(content);
    uint8_t *memory = cm_buffer_extend(content, p->size);
    if (!memory && p->size)
        return cm_fail(ENOMEM, "out of memory for an object of %llu bytes", (unsigned long long)p->size);
    return decode(p, base, memory);
}

int cm_record_decode(const void *record, size_t size, cm_buffer *content)
{
    parsed p;
    int result = parse(record, size, &p);
    return result ? result : decode_all(&p, NULL, content);
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
    return decode(&p, NULL, memory);
}

/* ---- chains ------------------------------------------------------------------------------------------------------ */

int cm_record_base(const void *record, size_t size, cm_id *base, unsigned *depth)
{
    parsed p;
    int result = parse(record, size, &p);
    if (result || p.codec != CODEC_DELTA)
        return result;
    *base = p.base;
    *depth = p.depth;
    return 1;
}

/* A record and those of its bases, each made against the next; the last one is whole. */
typedef struct chain {
    cm_buffer records[CM_DELTA_DEPTH + 1]; /* the first belongs to the caller */
    parsed parts[CM_DELTA_DEPTH + 1];
    size_t count;
} chain;

static void clear_chain(chain *c)
{
    for (size_t i = 1; i < CM_DELTA_DEPTH + 1; i++)
        cm_buffer_free(&c->records[i]);
}

static int in_base(int result, const cm_id *base)
{
    char hex[CM_ID_HEX + 1];
    cm_id_hex(base, hex);
    if (result == -ENOENT)
        return cm_fail(EILSEQ, "damaged record: object %.16s, from which it is a difference, is missing", hex);
    return cm_fail_in(result, "in object %.16s, from which it is a difference", hex);
}

/* Every record says how many follow it, one less than the one before: so there is an end, and nothing goes round. */
static int load_chain(cm_record_fetch fetch, void *arg, const cm_buffer *record, chain *c)
{
    c->records[0] = *record;
    int result = parse(record->data, record->size, &c->parts[0]);
    for (c->count = 1; !result && c->parts[c->count - 1].depth > 0; c->count++) {
        const parsed *above = &c->parts[c->count - 1];
        cm_buffer *next = &c->records[c->count];
        result = fetch(arg, &above->base, next);
        if (!result)
            result = parse(next->data, next->size, &c->parts[c->count]);
        if (!result && c->parts[c->count].depth != above->depth - 1)
            result = cm_fail(EILSEQ, "damaged record: its chain of bases is not as long as it was");
        if (!result && c->parts[c->count].size > CM_DELTA_MOST)
            result = cm_fail(EILSEQ, "damaged record: it is too large for a base");
        if (result)
            return in_base(result, &above->base);
    }
    return result;
}

/* The content of part `wanted` of a chain replaces `content`. */
static int decode_chain(const chain *c, size_t wanted, cm_buffer *content)
{
    cm_buffer base cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = 0;
    for (size_t i = c->count; !result && i-- > wanted;) {
        cm_buffer above = base; /* the two take turns */
        base = *content;
        *content = above;
        result = decode_all(&c->parts[i], i + 1 < c->count ? &base : NULL, content);
        if (result && i > 0)
            return in_base(result, &c->parts[i - 1].base);
    }
    return result;
}

int cm_record_resolve(cm_record_fetch fetch, void *arg, cm_buffer *record)
{
    chain c cm_cleanup(clear_chain) = {.count = 0};
    cm_buffer content cm_cleanup(cm_buffer_free) = CM_BUFFER_INIT;
    int result = load_chain(fetch, arg, record, &c);
    if (result || c.count == 1)
        return result;
    result = decode_chain(&c, 0, &content);
    if (result)
        return result;
    header(record, CODEC_RAW, content.data, content.size);
    cm_buffer_append(record, content.data, content.size);
    return record->error ? cm_fail(ENOMEM, "out of memory for a record of %zu bytes", content.size) : 0;
}

int cm_base_load(cm_record_fetch fetch, void *arg, const cm_id *id, cm_buffer *record, cm_base *base)
{
    chain c cm_cleanup(clear_chain) = {.count = 0};
    int result = load_chain(fetch, arg, record, &c);
    if (result)
        return result;
    size_t part = c.parts[0].depth < CM_DELTA_DEPTH ? 0 : c.count - 1;
    base->id = part ? c.parts[part - 1].base : *id;
    base->depth = c.parts[part].depth;
    return decode_chain(&c, part, &base->content);
}

unsigned cm_kind_guess(const void *content, size_t size)
{
    if (size >= 4 && memcmp(content, CM_MAGIC_POD, 4) == 0)
        return CM_KIND_POD;
    if (size >= 4 && memcmp(content, CM_MAGIC_MAP, 4) == 0)
        return CM_KIND_MAP;
    const uint8_t *version = (const uint8_t *)content + 3;
    if (size >= 4 && memcmp(content, CM_MAGIC_CHECKPOINT, 3) == 0 && (*version == 1 || *version == 2))
        return CM_KIND_CHECKPOINT;
    return CM_KIND_CHUNK;
}
