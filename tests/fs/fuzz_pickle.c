/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_pickle.c - any bytes as a pickle written through the mount. What is taken for complete must become a pod, and that pod linked
 * must be complete too and of the same type.
 */
#include <chipmink/save.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "pickle.h"

static void must(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_pickle: %s: %s\n", what, cm_error_message());
    abort();
}

static char path[] = "/tmp/chipmink-fuzz-XXXXXX";
static cm_store *store;

static int remove_one(const char *name, const struct stat *found, int type, struct FTW *place)
{
    (void)found;
    (void)type;
    (void)place;
    return remove(name);
}

static void remove_store(void)
{
    cm_store_unref(store);
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_store(void)
{

    must(mkdtemp(path) != NULL, "mkdtemp");
    must(cm_store_open(path, CM_OPEN_WRITE | CM_OPEN_CREATE, &store) == 0, "open");
    atexit(remove_store);
}

static void store_and_read(const void *data, size_t size, const char *type)
{
    char again_type[CM_PICKLE_TYPE_MAX], why[CM_PICKLE_WHY_MAX];
    cm_checkpoint *checkpoint = NULL;
    cm_save *save = NULL;
    cm_link *link = NULL;
    const char *name = "x";
    uint32_t root;
    size_t done = 0;

    must(cm_save_begin(store, "fuzz", &save) == 0, "begin");
    must(cm_save_variable_begin(save, name) == 0, "variable");
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    must(pod != NULL, "pod");
    must(cm_pickle_read(data, size, pod, &root, again_type, why) == 0,
         "the second reading refuses what the first took");
    must(cm_save_pod_finish(save, pod, root) == 0, "finish");
    must(cm_save_variable_end(save, pod, CM_INDEX_ROOT, again_type, "") == 0, "end");
    must(cm_save_commit(save, NULL, NULL) == 0, "commit");
    must(cm_save_wait(save, 60000) == 0, "wait");
    checkpoint = cm_save_checkpoint(save);
    must(cm_link_open(checkpoint, &name, 1, 0, &link) == 0, "link");
    size_t length = (size_t)cm_link_size(link);
    char *stream = malloc(length);
    must(stream != NULL && cm_link_read(link, 0, stream, length, &done) == 0 && done == length, "read");
    must(cm_pickle_read(stream, length, NULL, &root, again_type, why) == 0, why);
    must(strcmp(type, again_type) == 0, "the type has changed");
    free(stream);
    cm_link_close(link);
    cm_checkpoint_unref(checkpoint);
    cm_save_free(save);
}

int fuzz_one(const uint8_t *data, size_t size)
{
    enum { EACH_OF = 256 }; /* a checkpoint takes time */
    static unsigned count;
    char type[CM_PICKLE_TYPE_MAX], why[CM_PICKLE_WHY_MAX] = "";
    uint32_t root;

    int result = cm_pickle_read(data, size, NULL, &root, type, why);
    must(result == 0 || why[0] != '\0', "no reason is given");
    if (result == 0 && count++ % EACH_OF == 0) {
        if (store == NULL)
            open_store();
        store_and_read(data, size, type);
    }
    return result;
}
