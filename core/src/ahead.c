/* SPDX-License-Identifier: Apache-2.0 */
#include "ahead.h"

#include "codec.h"

enum {
    IDS_AT_ONCE = 64,
    IDS_AT_FIRST = 8, /* so that the first ones come soon; then twice as many each time */
    BYTES_AT_ONCE = 1 << 20,
    PODS_MOST = 1024, /* of all levels of a tree of pods that is being gone through */
    BYTES_MOST = 16 << 20,
    STOPPED = 1,
};

static cm_ahead_pod *find(const cm_ahead *ahead, const cm_id *id)
{
    for (size_t i = ahead->count; i-- > 0;) /* the last ones are taken first */
        if (cm_id_equal(&ahead->pods[i].id, id))
            return &ahead->pods[i];
    return NULL;
}

typedef struct reading {
    cm_ahead *ahead;
    const cm_id *ids;
    size_t bytes, done;
} reading;

static int keep_one(void *arg, size_t index, const void *record, size_t size, const cm_object_info *info)
{
    reading *r = arg;
    cm_ahead *ahead = r->ahead;
    if (r->bytes >= BYTES_AT_ONCE)
        return STOPPED;
    if (info->kind != CM_KIND_POD || !cm_grow(&ahead->pods, ahead->count, &ahead->capacity, sizeof *ahead->pods))
        return STOPPED;
    cm_ahead_pod *pod = &ahead->pods[ahead->count];
    *pod = (cm_ahead_pod){.id = r->ids[index], .info = *info};
    int result = cm_record_decode(record, size, &pod->content);
    if (result) {
        cm_buffer_free(&pod->content);
        return result;
    }
    ahead->count++;
    ahead->bytes += pod->content.capacity;
    r->bytes += pod->content.capacity;
    r->done = index + 1;
    return 0;
}

size_t cm_ahead_soon(cm_ahead *ahead, cm_store *store, const cm_id *ids, size_t count)
{
    if (ahead->bytes >= BYTES_MOST || ahead->count >= PODS_MOST)
        return count;
    cm_id wanted[IDS_AT_ONCE];
    size_t places[IDS_AT_ONCE], unknown = 0, said = 0;
    ahead->asked = !ahead->asked ? IDS_AT_FIRST : ahead->asked < IDS_AT_ONCE ? ahead->asked * 2 : IDS_AT_ONCE;
    for (; said < count && unknown < ahead->asked && ahead->count + unknown < PODS_MOST; said++) {
        bool known = find(ahead, &ids[said]) != NULL;
        for (size_t i = 0; i < unknown && !known; i++)
            known = cm_id_equal(&wanted[i], &ids[said]);
        if (known)
            continue;
        places[unknown] = said;
        wanted[unknown++] = ids[said];
    }
    if (unknown == 0)
        return said;
    reading r = {.ahead = ahead, .ids = wanted};
    int result = cm_objects_get(store, wanted, unknown, keep_one, &r);
    return result ? places[r.done] + (r.done == 0) : said; /* always goes on */
}

bool cm_ahead_take(cm_ahead *ahead, const cm_id *id, cm_buffer *content, cm_object_info *info)
{
    cm_ahead_pod *pod = find(ahead, id);
    if (!pod)
        return false;
    ahead->bytes -= pod->content.capacity;
    cm_buffer_free(content);
    *content = pod->content;
    if (info)
        *info = pod->info;
    *pod = ahead->pods[--ahead->count];
    return true;
}

void cm_ahead_clear(cm_ahead *ahead)
{
    for (size_t i = 0; i < ahead->count; i++)
        cm_buffer_free(&ahead->pods[i].content);
    free(ahead->pods);
    *ahead = (cm_ahead){0};
}
