/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prune.c - which checkpoints of a session are to be kept, and removing the numbers of the others; the objects go with the next
 * collection.
 *
 * A checkpoint's record names its parent. Where that is removed, a ref notes whom the checkpoint descends from now, so that
 * history keeps its shape.
 */
#include "checkpoint.h"
#include "refs.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum { REFS_AT_ONCE = 100 }; /* in one commit, about: they fit into a packet */

typedef struct pruning {
    cm_store *store;
    const char *session;
    const cm_retention *keep;
    cm_prune_entry *entries; /* by number */
    size_t count, capacity;
    char **tags; /* names, and where they are */
    uint64_t *tagged;
    size_t tag_count, tag_capacity, tagged_capacity;
} pruning;

static int no_memory(void)
{
    return cm_fail(ENOMEM, "out of memory");
}

static int by_number(const void *number, const void *entry)
{
    uint64_t a = *(const uint64_t *)number, b = ((const cm_prune_entry *)entry)->number;
    return (a > b) - (a < b);
}

static cm_prune_entry *find(const pruning *p, uint64_t number)
{
    return p->count ? bsearch(&number, p->entries, p->count, sizeof *p->entries, by_number) : NULL;
}

/* ---- what there is ------------------------------------------------------------------------------------------------- */

static int add_entry(void *arg, uint64_t number, const cm_id *id)
{
    pruning *p = arg;
    if (!cm_grow(&p->entries, p->count, &p->capacity, sizeof *p->entries))
        return no_memory();
    p->entries[p->count++] = (cm_prune_entry){.number = number, .id = *id};
    return 0;
}

/* One that cannot be read counts as saved when the one before it was: it can be removed like any other. */
static int read_entry(pruning *p, size_t i)
{
    cm_checkpoint *c = NULL;
    cm_prune_entry *entry = &p->entries[i];
    int result = cm_checkpoint_open_id(p->store, &entry->id, &c);
    if (result == -EILSEQ || result == -ENOENT) {
        entry->time = i ? p->entries[i - 1].time : 0;
        return 0;
    }
    if (result)
        return result;
    entry->time = c->time;
    entry->parent = c->parent_count ? c->parents[0].number : 0;
    cm_checkpoint_unref(c);
    return 0;
}

static int read_descent(void *arg, const char *key, const void *value, size_t size)
{
    const pruning *p = arg;
    const char *slash = strrchr(key, '/');
    cm_reader reader = cm_reader_of(value, size);
    uint64_t parent = cm_read_varint(&reader);
    cm_prune_entry *entry = slash ? find(p, strtoull(slash + 1, NULL, 16)) : NULL;
    if (reader.bad)
        return cm_fail(EILSEQ, "the ref %s is damaged", key);
    if (entry) {
        entry->parent = parent;
        entry->grafted = true;
    }
    return 0;
}

static int note_branch(void *arg, const char *name, uint64_t number)
{
    (void)name;
    cm_prune_entry *entry = find(arg, number);
    if (entry)
        entry->kept_for |= CM_KEPT_BRANCH;
    return 0;
}

static int note_tag(void *arg, const char *name, uint64_t number)
{
    pruning *p = arg;
    cm_prune_entry *entry = find(p, number);
    if (entry && p->keep->tagged)
        entry->kept_for |= CM_KEPT_TAG;
    if (!cm_grow(&p->tagged, p->tag_count, &p->tagged_capacity, sizeof *p->tagged) ||
        !cm_grow(&p->tags, p->tag_count, &p->tag_capacity, sizeof *p->tags))
        return no_memory();
    p->tagged[p->tag_count] = number;
    p->tags[p->tag_count] = strdup(name);
    return p->tags[p->tag_count++] ? 0 : no_memory();
}

static void forget_tags(pruning *p)
{
    while (p->tag_count)
        free(p->tags[--p->tag_count]);
}

/* What refs lead to now is kept. */
static int read_refs(pruning *p)
{
    cm_session_info info;
    forget_tags(p);
    int result = cm_session_get(p->store, p->session, &info);
    cm_prune_entry *head = result ? NULL : find(p, info.head_number);
    if (head)
        head->kept_for |= CM_KEPT_HEAD;
    cm_session_info_clear(&info);
    if (!result)
        result = cm_ref_list(p->store, p->session, CM_REF_BRANCH, note_branch, p);
    return result ? result : cm_ref_list(p->store, p->session, CM_REF_TAG, note_tag, p);
}

static int read_all(pruning *p)
{
    cm_cleanup(cm_cleanup_free) char *prefix = cm_ref_key('p', p->session, "");
    int result = prefix ? cm_checkpoint_list(p->store, p->session, add_entry, p) : no_memory();
    for (size_t i = 0; i < p->count && !result; i++)
        result = read_entry(p, i);
    if (!result)
        result = p->store->backend->ops->ref_list(p->store->backend, prefix, read_descent, p);
    return result ? result : read_refs(p);
}

/* ---- the rules ----------------------------------------------------------------------------------------------------- */

/* Which hour, day or week it was here. */
static int64_t period(int64_t time, int64_t seconds)
{
    enum { TO_MONDAY = 3 * 86400 }; /* 1970 began on a Thursday */
    time_t t = (time_t)(time / 1000000000);
    struct tm local;
    int64_t at = localtime_r(&t, &local) ? (int64_t)timegm(&local) : t;
    return (seconds == 7 * 86400 ? at + TO_MONDAY : at) / seconds;
}

/* The newest of each of the last `most` periods in which there is one. */
static void keep_newest(pruning *p, uint64_t most, int64_t seconds, unsigned reason)
{
    int64_t last = INT64_MIN;
    for (size_t i = p->count; i-- > 0 && most;) {
        int64_t now = period(p->entries[i].time, seconds);
        if (now == last)
            continue;
        last = now;
        most--;
        p->entries[i].kept_for |= reason;
    }
}

static void apply_rules(pruning *p)
{
    enum { HOUR = 3600, DAY = 86400, WEEK = 7 * 86400 };
    const cm_retention *keep = p->keep;
    for (size_t i = 0; i < p->count; i++)
        if (p->count - i <= keep->last)
            p->entries[i].kept_for |= CM_KEPT_LAST;
    keep_newest(p, keep->hourly, HOUR, CM_KEPT_HOURLY);
    keep_newest(p, keep->daily, DAY, CM_KEPT_DAILY);
    keep_newest(p, keep->weekly, WEEK, CM_KEPT_WEEKLY);
}

/* ---- removing ------------------------------------------------------------------------------------------------------ */

typedef struct change {
    char *key;
    cm_buffer old, value; /* an empty value: the ref goes */
} change;

/* The changes of one commit, and the entries they are about. */
typedef struct commit {
    cm_guard guard;
    change *changes;
    size_t count, capacity;
    cm_prune_entry **entries;
    size_t entry_count, entry_capacity;
} commit;

static void clear_commit(commit *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->changes[i].key);
        cm_buffer_free(&c->changes[i].old);
        cm_buffer_free(&c->changes[i].value);
    }
    free(c->changes);
    free(c->entries);
    cm_guard_clear(&c->guard);
}

/* Takes the key over. NULL: out of memory. The change is valid until the next one is added. */
static change *add_change(commit *c, char *key)
{
    if (!key || !cm_grow(&c->changes, c->count, &c->capacity, sizeof *c->changes)) {
        free(key);
        return NULL;
    }
    c->changes[c->count] = (change){.key = key};
    return &c->changes[c->count++];
}

static int add_entry_of(commit *c, cm_prune_entry *entry)
{
    if (!cm_grow(&c->entries, c->entry_count, &c->entry_capacity, sizeof *c->entries))
        return no_memory();
    c->entries[c->entry_count++] = entry;
    return 0;
}

/* The nearest one that stays. */
static uint64_t nearest_kept(const pruning *p, uint64_t number)
{
    const cm_prune_entry *entry = find(p, number);
    while (entry && !entry->kept_for)
        entry = find(p, entry->parent);
    return entry ? entry->number : 0;
}

/* Adds whom those descend from whose parent is going, as many as go into one commit. */
static int add_descents(const pruning *p, commit *c)
{
    int result = 0;
    for (size_t i = 0; i < p->count && c->count < REFS_AT_ONCE && !result; i++) {
        cm_prune_entry *entry = &p->entries[i];
        uint64_t parent = nearest_kept(p, entry->parent);
        if (!entry->kept_for || entry->parent == parent)
            continue;
        change *one = add_change(c, cm_ref_number_key('p', p->session, entry->number));
        result = one ? cm_ref_read(p->store, one->key, &one->old) : no_memory();
        if (one)
            cm_buffer_varint(&one->value, parent);
        if (!result)
            result = add_entry_of(c, entry);
    }
    return result;
}

/* Adds the number of one, its note of descent, its tags. */
static int add_removal(const pruning *p, commit *c, cm_prune_entry *entry)
{
    change *one = add_change(c, cm_ref_number_key('n', p->session, entry->number));
    int result = one ? add_entry_of(c, entry) : no_memory();
    if (one)
        cm_buffer_append(&one->old, &entry->id, sizeof entry->id);
    if (!result && entry->grafted) {
        one = add_change(c, cm_ref_number_key('p', p->session, entry->number));
        result = one ? cm_ref_read(p->store, one->key, &one->old) : no_memory();
    }
    for (size_t i = 0; i < p->tag_count && !result; i++)
        if (p->tagged[i] == entry->number) {
            one = add_change(c, cm_ref_key('t', p->session, p->tags[i]));
            result = one ? cm_ref_read(p->store, one->key, &one->old) : no_memory();
        }
    return result;
}

static int add_removals(const pruning *p, commit *c)
{
    int result = 0;
    for (size_t i = 0; i < p->count && c->count < REFS_AT_ONCE && !result; i++)
        if (!p->entries[i].kept_for && !p->entries[i].removed)
            result = add_removal(p, c, &p->entries[i]);
    return result;
}

static int commit_changes(cm_store *store, const commit *c)
{
    cm_cleanup(cm_cleanup_free) cm_ref_update *updates = calloc(c->count + 1, sizeof *updates);
    bool good = updates != NULL;
    for (size_t i = 0; i < c->count && good; i++) {
        const change *one = &c->changes[i];
        good = !one->old.error && !one->value.error;
        updates[i] = cm_ref_change(one->key, &one->old, one->value.size ? &one->value : NULL);
    }
    if (!good)
        return no_memory();
    updates[c->count] = cm_guard_move(&c->guard);
    return cm_refs_commit(store, updates, c->count + 1);
}

enum step { DESCENTS, REMOVALS };

/* One commit; *more: there may be more to do. -EEXIST: others were quicker. */
static int remove_some(pruning *p, enum step step, bool *more)
{
    commit c cm_cleanup(clear_commit) = {.count = 0};
    int result = cm_guard_read(p->store, p->session, &c.guard);
    if (!result)
        result = read_refs(p);
    if (!result)
        result = step == DESCENTS ? add_descents(p, &c) : add_removals(p, &c);
    *more = c.entry_count > 0;
    if (!result && *more)
        result = commit_changes(p->store, &c);
    for (size_t i = 0; i < c.entry_count && !result; i++) {
        cm_prune_entry *entry = c.entries[i];
        if (step == REMOVALS) {
            entry->removed = true;
        } else {
            entry->parent = nearest_kept(p, entry->parent);
            entry->grafted = true;
        }
    }
    return result;
}

static int remove_all(pruning *p)
{
    unsigned tries = 0;
    int result = 0;
    for (enum step step = DESCENTS; step <= REMOVALS && !result; step++)
        for (bool more = true; more && !result;) {
            result = remove_some(p, step, &more);
            tries = result == -EEXIST ? tries + 1 : 0;
            if (result == -EEXIST && tries < CM_REFS_TRIES) {
                result = 0;
                more = true;
            }
        }
    return result;
}

int cm_prune(cm_store *store, const char *session, const cm_retention *keep, bool dry_run, cm_prune_entry **entries,
             size_t *count)
{
    pruning p = {.store = store, .session = session, .keep = keep};
    *entries = NULL;
    *count = 0;
    if (!keep->last && !keep->hourly && !keep->daily && !keep->weekly && !keep->tagged)
        return cm_fail(EINVAL, "nothing says which checkpoints of '%s' are to be kept", session);
    int result = dry_run ? cm_name_check("session", session) : cm_store_enter(store);
    if (result)
        return result;
    result = read_all(&p);
    if (!result)
        apply_rules(&p);
    if (!result && !dry_run)
        result = remove_all(&p);
    if (!dry_run)
        cm_store_leave(store);
    forget_tags(&p);
    free(p.tags);
    free(p.tagged);
    if (result) {
        free(p.entries);
        return result;
    }
    *entries = p.entries;
    *count = p.count;
    return 0;
}

/* ---- descent ------------------------------------------------------------------------------------------------------- */

int cm_checkpoint_open_parent(cm_checkpoint *checkpoint, cm_checkpoint **parent)
{
    cm_store *store = checkpoint->store;
    cm_cleanup(cm_cleanup_free) char *key = cm_ref_number_key('p', checkpoint->session, checkpoint->number);
    cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
    cm_id id;
    *parent = NULL;
    if (!checkpoint->parent_count || store->is_snapshot)
        return 0;
    uint64_t number = checkpoint->parents[0].number;
    int result = cm_ref_read(store, key, &value);
    if (!result && value.size) {
        cm_reader reader = cm_reader_of(value.data, value.size);
        number = cm_read_varint(&reader);
        if (reader.bad)
            return cm_fail(EILSEQ, "the ref %s is damaged", key);
    }
    if (result || !number)
        return result;
    result = cm_checkpoint_number_id(store, checkpoint->session, number, &id);
    return result == -ENOENT ? 0 : result ? result : cm_checkpoint_open_id(store, &id, parent);
}

int cm_checkpoint_failed(cm_checkpoint *checkpoint, int result)
{
    cm_object_info info;
    if (result != -EILSEQ || checkpoint->store->is_snapshot)
        return result;
    char why[512];
    snprintf(why, sizeof why, "%s", cm_error_message());
    if (cm_object_stat(checkpoint->store, &checkpoint->id, &info) == -ENOENT)
        return cm_fail(ENOENT, "%s@%" PRIu64 " was removed from %s", checkpoint->session, checkpoint->number,
                       checkpoint->store->path);
    return cm_fail(-result, "%s", why);
}
