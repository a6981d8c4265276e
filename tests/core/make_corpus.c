/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make_corpus.c - writes the seeds of the fuzz targets: the objects of real checkpoints. Run again when the format changes:
 *
 *     make_corpus tests/core/corpus
 */
#include "backend_support.h"
#include "checkpoint.h"
#include "codec.h"
#include "graph.h"

#include <sys/stat.h>

static const char *out;
static cm_buffer all = CM_BUFFER_INIT; /* for fuzz_link */

static void write_seed(const char *target, const char *name, const void *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", out, target);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/%s/%s", out, target, name);
    FILE *file = fopen(path, "wbe");
    must(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

static int write_variable(void *arg, const cm_map_entry *entry, bool leaf)
{
    cm_buffer seed = CM_BUFFER_INIT;
    cm_variable v = {0};
    (void)arg;
    if (leaf && cm_variable_decode(entry->value, entry->value_size, &v) == 0) {
        cm_buffer_append(&seed, "v", 1);
        cm_buffer_append(&seed, entry->value, entry->value_size);
        const char *name = v.preview_size ? "variable-with-preview" : v.changed > 1 ? "variable2" : "variable1";
        write_seed("checkpoint", name, seed.data, seed.size);
    }
    cm_variable_clear(&v);
    cm_buffer_free(&seed);
    return 0;
}

static int write_object(void *arg, const cm_id *id, const cm_object_info *info)
{
    cm_store *store = arg;
    char name[16];
    void *data;
    size_t size;
    must(cm_object_read(store, id, &data, &size) == 0);
    for (int i = 0; i < 4; i++)
        snprintf(name + 2 * i, 3, "%02x", id->bytes[i]);
    cm_buffer record = CM_BUFFER_INIT, seed = CM_BUFFER_INIT;
    cm_object_info same;
    must(get_record(store->backend, id, &record, &same) == 0);
    if (record.size < 2000)
        write_seed("record", name, record.data, record.size);
    if (info->kind == CM_KIND_POD)
        write_seed("pod", name, data, size);
    if (info->kind == CM_KIND_MAP) {
        write_seed("map", name, data, size);
        must(cm_map_parts(data, size, write_variable, NULL) == 0);
    }
    if (info->kind == CM_KIND_CHECKPOINT) {
        cm_buffer_append(&seed, "c", 1);
        cm_buffer_append(&seed, data, size);
        write_seed("checkpoint", name, seed.data, seed.size);
    }
    cm_buffer_append(&all, id, sizeof *id);
    uint8_t length[4] = {(uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), 0};
    cm_buffer_append(&all, length, sizeof length);
    cm_buffer_append(&all, data, size);
    cm_buffer_free(&record);
    cm_buffer_free(&seed);
    free(data);
    return 0;
}

static int write_checkpoint(cm_store *store, cm_checkpoint *c, const char *name)
{
    cm_buffer_clear(&all);
    cm_object_info info;
    must(cm_object_stat(store, cm_checkpoint_id(c), &info) == 0);
    write_object(store, cm_checkpoint_id(c), &info); /* first; it comes once more, last, which does no harm */
    must(cm_checkpoint_objects(c, write_object, store) == 0);
    write_seed("link", name, all.data, all.size);
    return 0;
}

static void add_record(cm_buffer *row, const cm_buffer *record)
{
    uint8_t length[4];
    cm_put_u32(length, (uint32_t)record->size);
    cm_buffer_append(row, length, sizeof length);
    cm_buffer_append(row, record->data, record->size);
}

/*
 * Records that are differences: number 0 from number 1, that from number 2, and so on. Of `spoilt` the depth is not what its place
 * in the chain asks for, or of the last the base is missing.
 */
static void write_chain(const char *target, const char *name, unsigned length, unsigned spoilt)
{
    cm_buffer records[CM_DELTA_DEPTH + 1] = {CM_BUFFER_INIT}, row = CM_BUFFER_INIT;
    cm_base base = {.depth = 0};
    uint8_t *content = cm_buffer_extend(&base.content, 600);
    must(content);
    seeded_fill(1, content, 600);
    must(cm_record_encode(0, content, 600, &records[length]) == 0);
    for (unsigned n = length; n-- > 0; base.depth++) {
        uint8_t changed[600];
        memcpy(changed, base.content.data, 600);
        changed[50 * n] ^= 1;
        base.id = (cm_id){.bytes = {(uint8_t)(n + 1)}};
        must(cm_record_encode_delta(&base, changed, 600, 600, &records[n]) == 0 && records[n].size);
        memcpy(base.content.data, changed, 600);
    }
    if (spoilt < length)
        records[spoilt].data[20]++; /* the depth, behind two bytes, a size of two, and the checksum */
    for (unsigned n = 0; n < length + (spoilt != length); n++)
        add_record(&row, &records[n]);
    write_seed(target, name, row.data, row.size);
    for (unsigned n = 0; n <= length; n++)
        cm_buffer_free(&records[n]);
    cm_buffer_free(&row);
    cm_buffer_free(&base.content);
}

static void write_chains(void)
{
    enum { NOT = 99 };
    write_chain("delta", "whole", 0, NOT);
    write_chain("delta", "one", 1, NOT);
    write_chain("delta", "three", 3, NOT);
    write_chain("delta", "deepest", CM_DELTA_DEPTH, NOT);
    write_chain("refuse/delta", "missing", 2, 2);
    write_chain("refuse/delta", "wrong-depth", 3, 1);
    write_chain("refuse/delta", "too-deep", CM_DELTA_DEPTH, 0);
}

static void write_record(const char *target, const char *name, char what, const cm_buffer *record)
{
    cm_buffer seed = CM_BUFFER_INIT;
    cm_buffer_append(&seed, &what, 1);
    cm_buffer_append(&seed, record->data, record->size);
    write_seed(target, name, seed.data, seed.size);
    cm_buffer_free(&seed);
}

/* Records of variables whose previews, and of checkpoints whose formats, are not what their flags say. */
static void write_previews(void)
{
    enum { FLAGS = 8, PREVIEW = 1 + sizeof(cm_id), VERSION = 3 };
    cm_variable v = {.type = "t", .summary = "s", .plain = true, .preview_size = 100};
    cm_buffer record = CM_BUFFER_INIT;
    cm_variable_encode(&v, &record);
    write_record("checkpoint", "variable-small-preview", 'v', &record);
    record.data[FLAGS] ^= 2;
    write_record("refuse/checkpoint", "preview-not-told-of", 'v', &record);
    record.data[FLAGS] ^= 4;
    write_record("refuse/checkpoint", "variable-with-unknown-flags", 'v', &record);
    record.data[FLAGS] ^= 6;
    record.data[record.size - PREVIEW] = 0;
    write_record("refuse/checkpoint", "preview-of-no-bytes", 'v', &record);
    record.size--;
    write_record("refuse/checkpoint", "preview-cut", 'v', &record);
    record.size -= PREVIEW - 1;
    write_record("refuse/checkpoint", "preview-missing", 'v', &record);
    cm_buffer_clear(&record);
    v.preview_size = CM_PREVIEW_MOST + 1;
    cm_variable_encode(&v, &record);
    write_record("refuse/checkpoint", "preview-too-large", 'v', &record);
    for (int previews = 0; previews < 2; previews++) {
        const cm_checkpoint c = {.session = (char *)"s", .number = 1, .previews = previews};
        must(cm_checkpoint_encode(&c, &record) == 0);
        if (previews)
            write_record("checkpoint", "previews", 'c', &record);
        record.data[VERSION] = previews ? 1 : 3;
        write_record("refuse/checkpoint", previews ? "previews-in-format-1" : "previews-format-without", 'c', &record);
    }
    cm_buffer_free(&record);
}

static node *list_of(arena *a, size_t count, node **items)
{
    node *n = node_new(a, NODE_LIST);
    for (size_t i = 0; i < count; i++)
        node_add(a, n, items[i]);
    return n;
}

/* The checkpoint that was written last, with a page map in which a variable's own pod, a fragment, is an object. */
static void write_fragment_as_object(cm_checkpoint *c, const char *name)
{
    const cm_variable *v;
    must(cm_checkpoint_variable(c, name, &v) == 0);
    uint8_t record[8 + 1 + sizeof(cm_id)] = {[8] = sizeof(cm_id) + 8 + 1}; /* page, size of its value, pod */
    cm_page_key(v->root.page, record);
    memcpy(record + 9, &v->root.pod, sizeof(cm_id));
    for (size_t at = 0; at + sizeof record + 8 < all.size; at++)
        if (memcmp(all.data + at, record, sizeof record) == 0) {
            must(all.data[at + sizeof record + 8] == CM_POD_FRAGMENT);
            all.data[at + sizeof record + 8] = CM_POD_OBJECT;
        }
    write_seed("refuse/link", "fragment-as-object", all.data, all.size);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    out = argv[1];
    write_chains();
    write_previews();
    char directory[] = "/tmp/chipmink-corpus-XXXXXX", path[64];
    must(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/store", directory);
    cm_store *store;
    must(cm_store_open(path, CM_OPEN_WRITE | CM_OPEN_CREATE, &store) == 0);
    arena a = {0};
    uint8_t bytes[5000];
    seeded_fill(1, bytes, sizeof bytes);
    node *inner = list_of(&a, 2, (node *[]){node_int(&a, 1), node_text(&a, NODE_STR, "text", 4)});
    node *outer = list_of(&a, 3, (node *[]){inner, inner, node_text(&a, NODE_BYTES, bytes, sizeof bytes)});
    node *buffer = node_new(&a, NODE_BUFFER), *cycle = node_new(&a, NODE_DICT);
    buffer->text = bytes;
    buffer->size = 100;
    buffer->readonly = true;
    node_add(&a, cycle, node_text(&a, NODE_STR, "self", 4));
    node_add(&a, cycle, list_of(&a, 3, (node *[]){cycle, outer, buffer}));
    cm_save *save = begin(store, "seed");
    save_node(save, "a", outer, &(cutting){{1}, 256, 0});
    save_node(save, "b", cycle, &(cutting){{2}, 128, 255});
    save_node(save, "c", inner, &(cutting){{3}, 0, 0});
    must(cm_save_unsaved(save, "d", "cannot be") == 0);
    cm_checkpoint *c = finish(save);
    write_checkpoint(store, c, "cycle");
    cm_checkpoint_unref(c);
    save = begin(store, "seed");
    save_node(save, "x", node_int(&a, 7), &(cutting){{1}, 0, 0});
    must(cm_save_set_cell(
             save, &(cm_cell){.execution = 7, .duration_ns = 1500000, .error = "ZeroDivisionError: of what"}) == 0);
    c = finish(save);
    write_checkpoint(store, c, "atom");
    cm_checkpoint_unref(c);
    save = begin(store, "seed");
    save_node(save, "shown", node_int(&a, 8), &(cutting){{1}, 0, 0});
    must(cm_save_preview(save, "shown", "image/png", "\x89PNG\r\n\x1a\n and so on", 18) == 0);
    c = finish(save);
    write_checkpoint(store, c, "preview");
    cm_checkpoint_unref(c);
    node *items[9];
    for (int i = 0; i < 9; i++)
        items[i] = list_of(&a, 1, (node *[]){node_int(&a, i)});
    save = begin(store, "seed");
    save_node(save, "big", list_of(&a, 9, items), &(cutting){{1}, 0, 256});
    save_node(save, "best", list_of(&a, 2, items + 3), &(cutting){{1}, 0, 0});
    save_node(save, "one", items[7], &(cutting){{1}, 0, 0});
    c = finish(save);
    write_checkpoint(store, c, "fragment");
    write_fragment_as_object(c, "one");
    cm_checkpoint_unref(c);
    cm_store_unref(store);
    arena_free(&a);
    cm_buffer_free(&all);
    remove_tree(directory);
    return 0;
}
