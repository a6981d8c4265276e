/* SPDX-License-Identifier: Apache-2.0 */
/*
 * example.c - Chipmink from C, by its public headers alone: two variables are saved as a checkpoint, and one is read back.
 *
 *     cc example.c -lchipmink -o example && ./example /tmp/example-store
 *
 * A variable is saved as pods, pieces of pickle: here the list [1, [2, 3]] whose inner list has a pod of its own, and the
 * inner list once more under a second name. What is read back is an ordinary pickle: Python's pickle.loads makes of it
 * what was saved.
 */
#include <chipmink/chipmink.h>
#include <chipmink/save.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *doing)
{
    fprintf(stderr, "example: %s: %s\n", doing, cm_error_message());
    return EXIT_FAILURE;
}

/* Opcodes of pickle, protocol 5, that occur here. */
enum { EMPTY_LIST = ']', MARK = '(', APPENDS = 'e', BININT1 = 'K' };

static void put_int(cm_pod *pod, uint8_t value)
{
    cm_body_byte(cm_pod_body(pod), BININT1);
    cm_body_byte(cm_pod_body(pod), value);
}

/* The list [2, 3] in a pod of its own, below `parent`. */
static cm_pod *make_inner(cm_save *save, cm_pod *parent)
{
    cm_pod *pod = cm_save_pod_new(save, parent, CM_POD_OBJECT);
    if (!pod)
        return NULL;
    cm_body *body = cm_pod_body(pod);
    cm_body_byte(body, EMPTY_LIST);
    uint32_t root = cm_body_memoize(body); /* has an identity: others may refer to it */
    cm_body_byte(body, MARK);
    put_int(pod, 2);
    put_int(pod, 3);
    cm_body_byte(body, APPENDS);
    return cm_save_pod_finish(save, pod, root) < 0 ? NULL : pod;
}

/* outer = [1, inner]; inner is the very same object. */
static int build(cm_save *save)
{
    int result = cm_save_variable_begin(save, "outer");
    if (result < 0)
        return result;
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    cm_pod *inner = pod ? make_inner(save, pod) : NULL; /* children are finished before their parents */
    if (!inner)
        return -1;
    cm_body *body = cm_pod_body(pod);
    cm_body_byte(body, EMPTY_LIST);
    uint32_t root = cm_body_memoize(body);
    cm_body_byte(body, MARK);
    put_int(pod, 1);
    cm_pod_child(pod, inner); /* stands where the inner list's opcodes would */
    cm_body_byte(body, APPENDS);
    result = cm_save_pod_finish(save, pod, root);
    if (result == 0)
        result = cm_save_variable_end(save, pod, root, "list", "2 items");
    if (result == 0)
        result = cm_save_variable_begin(save, "inner");
    if (result == 0)
        result = cm_save_variable_end(save, inner, CM_INDEX_ROOT, "list", "2 items");
    return result;
}

static int save_example(cm_store *store)
{
    cm_save *save;
    if (cm_save_begin(store, "example", &save) < 0)
        return fail("begin a save");
    int result = build(save);
    if (result == 0)
        result = cm_save_commit(save, "made by example.c", NULL);
    while (result == 0 && (result = cm_save_wait(save, 1000)) == -EAGAIN)
        result = 0; /* a program may do something else meanwhile */
    if (result < 0) {
        cm_save_free(save);
        return fail("save");
    }
    cm_checkpoint *checkpoint = cm_save_checkpoint(save);
    printf("saved checkpoint %llu of session '%s': %llu pods, %llu of them new\n",
           (unsigned long long)cm_checkpoint_number(checkpoint), cm_checkpoint_session(checkpoint),
           (unsigned long long)cm_checkpoint_stats(checkpoint)->pods,
           (unsigned long long)cm_checkpoint_stats(checkpoint)->pods_new);
    cm_checkpoint_unref(checkpoint);
    cm_save_free(save);
    return EXIT_SUCCESS;
}

static int print_pickle(cm_checkpoint *checkpoint, const char *name)
{
    cm_link *link;
    if (cm_link_open(checkpoint, &name, 1, 0, &link) < 0)
        return fail(name);
    printf("%s: a pickle of %llu bytes:", name, (unsigned long long)cm_link_size(link));
    uint8_t piece[4]; /* any range can be read; here one small piece after the other */
    size_t done = 0;
    int result = 0;
    for (uint64_t at = 0; at < cm_link_size(link) && result == 0; at += done) {
        result = cm_link_read(link, at, piece, sizeof piece, &done);
        for (size_t i = 0; result == 0 && i < done; i++)
            printf(" %02x", piece[i]);
    }
    printf("\n");
    cm_link_close(link);
    return result < 0 ? fail(name) : EXIT_SUCCESS;
}

static int read_example(cm_store *store)
{
    cm_checkpoint *checkpoint;
    if (cm_checkpoint_open_address(store, "example@head", &checkpoint) < 0)
        return fail("open the checkpoint");
    const cm_variable *variables;
    size_t count;
    if (cm_checkpoint_variables(checkpoint, &variables, &count) < 0) {
        cm_checkpoint_unref(checkpoint);
        return fail("list its variables");
    }
    for (size_t i = 0; i < count; i++)
        printf("%s: %s, %s, changed in checkpoint %llu\n", variables[i].name, variables[i].type, variables[i].summary,
               (unsigned long long)variables[i].changed);
    int status = print_pickle(checkpoint, "outer");
    cm_checkpoint_unref(checkpoint);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s STORE\n", argv[0]);
        return 2;
    }
    cm_store *store;
    if (cm_store_open(argv[1], CM_OPEN_WRITE | CM_OPEN_CREATE, &store) < 0)
        return fail("open the store");
    int status = save_example(store);
    if (status == EXIT_SUCCESS)
        status = read_example(store);
    cm_store_unref(store); /* what holds on to it (checkpoints, links, saves) keeps it open */
    return status;
}
