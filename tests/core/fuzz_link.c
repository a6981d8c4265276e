/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything above single objects: a checkpoint whose objects all come from the input is listed, verified, linked and read.
 *
 *     input := (id, u32 size, content)*        the first one is the checkpoint; ids are not checked against contents
 */
#include "checkpoint.h"
#include "codec.h"
#include "fuzz.h"
#include "tree.h"

enum {
    OBJECTS_MOST = 64,
    READS_MOST = 3000, /* small objects can ask for exponential work; reading them is what bounds it here */
    VARIABLES_MOST = 4
};

typedef struct fuzz_backend {
    cm_backend base;
    const uint8_t *ids[OBJECTS_MOST], *contents[OBJECTS_MOST];
    size_t sizes[OBJECTS_MOST], count;
    unsigned reads;
} fuzz_backend;

static size_t find_object(const fuzz_backend *b, const cm_id *id)
{
    size_t i = 0;
    while (i < b->count && memcmp(b->ids[i], id, sizeof *id) != 0)
        i++;
    return i;
}

static int fuzz_find(cm_backend *backend, const cm_id *ids, size_t count, cm_object_info *infos)
{
    const fuzz_backend *b = (const fuzz_backend *)backend;
    for (size_t k = 0; k < count; k++) {
        size_t i = find_object(b, &ids[k]);
        infos[k] = (cm_object_info){0};
        if (i < b->count)
            infos[k] = (cm_object_info){.kind = (uint8_t)cm_kind_guess(b->contents[i], b->sizes[i]),
                                        .size = b->sizes[i],
                                        .stored = b->sizes[i]};
    }
    return 0;
}

static int fuzz_get(cm_backend *backend, const cm_id *ids, size_t count, cm_record_visitor visit, void *arg)
{
    fuzz_backend *b = (fuzz_backend *)backend;
    cm_buffer record = CM_BUFFER_INIT;
    int result = 0;
    for (size_t k = 0; k < count && !result; k++) {
        cm_object_info info;
        size_t i = find_object(b, &ids[k]);
        fuzz_find(backend, &ids[k], 1, &info);
        if (i < b->count && ++b->reads > READS_MOST)
            result = cm_fail(EIO, "too much work");
        if (i < b->count && !result)
            result = cm_record_encode(0, b->contents[i], b->sizes[i], &record);
        if (!result)
            result = visit(arg, k, i < b->count ? record.data : NULL, record.size, &info);
    }
    cm_buffer_free(&record);
    return result;
}

static int fuzz_list(cm_backend *backend, const cm_id *from, cm_object_visitor visit, void *arg)
{
    (void)backend, (void)from, (void)visit, (void)arg;
    return 0;
}

static const cm_backend_ops fuzz_ops = {.find = fuzz_find, .get = fuzz_get, .list = fuzz_list};

/* Reads a little at the beginning, in the middle and at the end. */
static int read_some(cm_link *link)
{
    uint8_t piece[256];
    uint64_t size = cm_link_size(link), offsets[] = {0, size / 2, size > 100 ? size - 100 : 0};
    for (size_t i = 0; i < 3; i++) {
        size_t done;
        int result = cm_link_read(link, offsets[i], piece, sizeof piece, &done);
        if (result < 0)
            return result;
        fuzz_must(done == sizeof piece || offsets[i] + done == size);
    }
    for (size_t i = 0; i < cm_link_buffer_count(link); i++) {
        uint64_t bytes = cm_link_buffer_size(link, i);
        void *memory = bytes <= 1 << 20 ? malloc(bytes + 1) : NULL;
        int result = memory ? cm_link_buffer_read(link, i, memory) : 0;
        free(memory);
        if (result < 0)
            return result;
    }
    return 0;
}

/* From the beginning to the end, but not for ever: a small input can say that it is long. */
static int stream_one(cm_checkpoint *c, const char *name, unsigned flags)
{
    cm_stream *stream = NULL;
    int result = cm_stream_open(c, &name, name ? 1 : 0, flags, &stream);
    enum { SIZE = 5000 };
    cm_piece *piece = cm_piece_new();
    size_t done = SIZE;
    for (int i = 0; result == 0 && i < 20 && done >= SIZE; i++) {
        result = cm_stream_read(stream, SIZE, piece);
        if (result == 0)
            result = cm_piece_fill(piece);
        (void)cm_piece_bytes(piece, &done);
    }
    cm_piece_free(piece);
    cm_stream_buffer buffer;
    while (result == 0 && cm_stream_next_buffer(stream, &buffer)) {
        void *memory = buffer.size <= 1 << 20 ? malloc(buffer.size + 1) : NULL;
        const cm_buffer_part all = {&buffer, 0, memory, buffer.size};
        result = memory ? cm_buffers_fetch(cm_checkpoint_store(c), &all, 1) : 0;
        free(memory);
    }
    cm_stream_close(stream);
    return result == -EAGAIN ? 0 : result;
}

static int link_one(cm_checkpoint *c, const char *name, unsigned flags)
{
    cm_link *link;
    int result = cm_link_open(c, &name, name ? 1 : 0, flags, &link);
    if (result < 0) {
        (void)!stream_one(c, name, flags);
        return result;
    }
    result = read_some(link);
    cm_link_close(link);
    int streamed = stream_one(c, name, flags);
    return result < 0 ? result : streamed;
}

static int pass_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    (void)arg, (void)id, (void)info;
    return 0;
}

static int use_checkpoint(cm_store *store, cm_checkpoint *c)
{
    const cm_variable *variables;
    size_t count;
    int result = cm_checkpoint_variables(c, &variables, &count), other;
    if (result < 0)
        return result;
    for (size_t i = 0; i < count && i < VARIABLES_MOST; i++) {
        other = link_one(c, variables[i].name, 0);
        result = result < 0 ? result : other;
        other = link_one(c, variables[i].name, CM_LINK_BUFFERS);
        result = result < 0 ? result : other;
    }
    other = link_one(c, NULL, CM_LINK_NAMESPACE);
    result = result < 0 ? result : other;
    other = cm_checkpoint_objects(c, pass_object, NULL);
    result = result < 0 ? result : other;
    cm_verify_report report;
    (void)!cm_verify(store, NULL, NULL, NULL, &report); /* ids are made up: it has much to say */
    return result;
}

int fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_backend backend = {.base.ops = &fuzz_ops};
    cm_reader reader = cm_reader_of(data, size);
    while (reader.at < reader.end && backend.count < OBJECTS_MOST) {
        const uint8_t *id = cm_read_bytes(&reader, sizeof(cm_id)), *length = cm_read_bytes(&reader, 4);
        size_t n = length ? (size_t)length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 : 0;
        const uint8_t *content = cm_read_bytes(&reader, n);
        if (!content)
            break;
        backend.ids[backend.count] = id;
        backend.contents[backend.count] = content;
        backend.sizes[backend.count++] = n;
    }
    if (backend.count == 0)
        return -1;
    cm_store store = {.backend = &backend.base, .path = (char[]){"input"}, .is_snapshot = true};
    store.tree_nodes = cm_tree_nodes_new();
    fuzz_must(store.tree_nodes != NULL);
    atomic_init(&store.references, 1000); /* never freed */
    memcpy(&store.snapshot, backend.ids[0], sizeof store.snapshot);
    cm_checkpoint *c;
    int result = cm_checkpoint_open_id(&store, &store.snapshot, &c);
    if (result == 0) {
        result = use_checkpoint(&store, c);
        cm_checkpoint_unref(c);
    }
    cm_tree_nodes_free(store.tree_nodes);
    return result;
}
