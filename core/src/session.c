/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - sessions, heads, branches, tags: the only mutable records. */
#include "checkpoint.h"
#include "refs.h"

#include <inttypes.h>
#include <stdio.h>

enum { NAME_MOST = 200 };

static const char first_branch[] = "main";

int cm_name_check(const char *what, const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > NAME_MOST)
        return cm_fail(EINVAL, "a %s name has 1 to %d bytes, not %zu", what, NAME_MOST, size);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return cm_fail(EINVAL, "'%s' cannot be a %s name", name, what);
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (*c < 0x20 || *c == 0x7f || *c == '/' || *c == '@')
            return cm_fail(EINVAL, "the %s name '%s' holds a '/', '@' or control character: choose another", what,
                           name);
    return 0;
}

int cm_ref_name_check(const char *what, const char *name)
{
    int result = cm_name_check(what, name);
    if (!result && (strcmp(name, "head") == 0 || strspn(name, "0123456789") == strlen(name)))
        return cm_fail(EINVAL, "'%s' cannot be a %s name: it would be taken for a checkpoint's address", name, what);
    return result;
}

/* ---- refs -------------------------------------------------------------------------------------------------------- */

char *cm_ref_key(char kind, const char *session, const char *name)
{
    char *key;
    return asprintf(&key, "%c/%s%s%s", kind, session, name ? "/" : "", name ? name : "") < 0 ? NULL : key;
}

char *cm_ref_number_key(char kind, const char *session, uint64_t number)
{
    char *key;
    return asprintf(&key, "%c/%s/%016" PRIx64, kind, session, number) < 0 ? NULL : key;
}

cm_ref_update cm_ref_change(const char *key, const cm_buffer *old, const cm_buffer *value)
{
    return (cm_ref_update){.key = key,
                           .expected = old && old->size ? old->data : NULL,
                           .expected_size = old ? old->size : 0,
                           .value = value ? value->data : NULL,
                           .value_size = value ? value->size : 0};
}

int cm_ref_read(cm_store *store, const char *key, cm_buffer *value)
{
    if (!key)
        return cm_fail(ENOMEM, "out of memory");
    int result = store->backend->ops->ref_get(store->backend, key, value);
    if (result == -ENOENT)
        cm_buffer_clear(value);
    return result == -ENOENT ? 0 : result;
}

void cm_refs_add(cm_refs *refs, char *key)
{
    refs->keys[refs->count++] = key;
}

void cm_refs_clear(cm_refs *refs)
{
    for (size_t i = 0; i < refs->count; i++) {
        free(refs->keys[i]);
        cm_buffer_free(&refs->values[i]);
    }
    refs->count = 0;
}

int cm_refs_begin(cm_store *store, cm_refs *refs, cm_backend_txn **txn, uint64_t *epoch)
{
    const cm_backend_ops *ops = store->backend->ops;
    int result = 0;
    for (size_t i = 0; i < refs->count && !result; i++)
        if (!refs->keys[i])
            result = cm_fail(ENOMEM, "out of memory");
        else if (!ops->begin_reading)
            result = cm_ref_read(store, refs->keys[i], &refs->values[i]);
    if (result)
        return result;
    return ops->begin_reading ? ops->begin_reading(store->backend, (const char *const *)refs->keys, refs->count,
                                                   refs->values, txn, epoch)
                              : ops->begin(store->backend, txn, epoch);
}

/* The value that was read together with others; NULL: this one was not. */
static const cm_buffer *find_ref(const cm_refs *refs, const char *key)
{
    for (size_t i = 0; refs && i < refs->count; i++)
        if (strcmp(refs->keys[i], key) == 0)
            return &refs->values[i];
    return NULL;
}

int cm_refs_commit(cm_store *store, const cm_ref_update *updates, size_t count)
{
    cm_backend_txn *txn;
    int result = store->backend->ops->begin(store->backend, &txn, NULL);
    if (!result)
        result = store->backend->ops->commit(txn, updates, count);
    if (result == -EEXIST) /* it would go on */
        store->backend->ops->abort(txn);
    return result;
}

int cm_guard_read(cm_store *store, const char *session, cm_guard *guard)
{
    *guard = (cm_guard){.key = cm_ref_key('g', session, NULL)};
    int result = cm_ref_read(store, guard->key, &guard->now);
    cm_reader reader = cm_reader_of(guard->now.data, guard->now.size);
    cm_buffer_varint(&guard->next, (guard->now.size ? cm_read_varint(&reader) : 0) + 1);
    return result || !guard->next.error ? result : cm_fail(ENOMEM, "out of memory");
}

void cm_guard_clear(cm_guard *guard)
{
    free(guard->key);
    cm_buffer_free(&guard->now);
    cm_buffer_free(&guard->next);
}

/* ---- heads ------------------------------------------------------------------------------------------------------- */

void cm_head_clear(cm_head *head)
{
    free(head->branch);
    free(head->rest_branch);
    cm_buffer_free(&head->raw);
    cm_buffer_free(&head->branch_raw);
    *head = (cm_head){0};
}

/* Frees the key. `refs` (may be NULL): what was read already. -ENOENT: no such ref. */
static int read_ref(cm_store *store, const cm_refs *refs, char *key, cm_buffer *value)
{
    if (!key)
        return cm_fail(ENOMEM, "out of memory");
    const cm_buffer *known = find_ref(refs, key);
    int result;
    if (known) {
        cm_buffer_clear(value);
        cm_buffer_append(value, known->data, known->size);
        result = value->error ? cm_fail(ENOMEM, "out of memory") : known->size ? 0 : -ENOENT;
    } else {
        result = store->backend->ops->ref_get(store->backend, key, value);
    }
    free(key);
    return result;
}

/* Into branch_raw, which stays empty where there is no such branch. */
static int read_branch(cm_store *store, const cm_refs *refs, const char *session, cm_head *head)
{
    int result = read_ref(store, refs, cm_ref_key('b', session, head->branch), &head->branch_raw);
    if (result != -ENOENT)
        return result;
    cm_buffer_clear(&head->branch_raw);
    return 0;
}

static int read_head(cm_store *store, const cm_refs *refs, const char *session, cm_head *head)
{
    *head = (cm_head){0};
    int result = cm_name_check("session", session);
    if (!result)
        result = read_ref(store, refs, cm_ref_key('h', session, NULL), &head->raw);
    if (result == -ENOENT) {
        cm_buffer_clear(&head->raw);
        head->branch = strdup(first_branch);
        return head->branch ? 0 : cm_fail(ENOMEM, "out of memory");
    }
    if (result)
        return result;
    cm_reader reader = cm_reader_of(head->raw.data, head->raw.size);
    head->last = cm_read_varint(&reader);
    head->number = cm_read_bounded(&reader, head->last);
    head->branch = cm_read_string(&reader);
    if (reader.bad || reader.at != reader.end) {
        cm_head_clear(head);
        return cm_fail(EILSEQ, "the head of session '%s' in %s is damaged", session, store->path);
    }
    if (!*head->branch) {
        free(head->branch);
        head->branch = NULL;
    }
    return 0;
}

int cm_head_read(cm_store *store, const char *session, cm_head *head)
{
    return read_head(store, NULL, session, head);
}

int cm_head_read_on(cm_store *store, const cm_refs *refs, const char *session, const char *branch, cm_head *head)
{
    int result = read_head(store, refs, session, head);
    if (result)
        return result;
    if (!branch || (head->branch && strcmp(head->branch, branch) == 0))
        return head->branch && head->last ? read_branch(store, refs, session, head) : 0;
    if (head->last) { /* else this is the session's first checkpoint, and its head goes along */
        head->apart = true;
        head->rest_number = head->number;
        head->rest_branch = head->branch;
        head->branch = NULL;
    }
    free(head->branch);
    head->branch = strdup(branch);
    if (!head->branch)
        return cm_fail(ENOMEM, "out of memory");
    result = read_branch(store, refs, session, head);
    if (result || !head->branch_raw.size)
        return result;
    cm_reader reader = cm_reader_of(head->branch_raw.data, head->branch_raw.size);
    head->number = cm_read_bounded(&reader, head->last);
    if (reader.bad || !head->number)
        return cm_fail(EILSEQ, "the branch '%s' of session '%s' in %s is damaged", branch, session, store->path);
    return 0;
}

static void encode_head(cm_buffer *raw, uint64_t last, uint64_t number, const char *branch)
{
    cm_buffer_varint(raw, last);
    cm_buffer_varint(raw, number);
    cm_buffer_string(raw, branch);
}

/*
 * After a commit whose answer was lost: did it happen? The number is this checkpoint's if and only if it did. Finds what its record
 * takes, which the answer would have told.
 */
static bool was_committed(cm_store *store, const char *number_key, cm_content *checkpoint)
{
    cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
    cm_object_info info;
    if (store->backend->ops->ref_get(store->backend, number_key, &value) || value.size != sizeof checkpoint->id ||
        memcmp(value.data, &checkpoint->id, sizeof checkpoint->id) != 0)
        return false;
    if (cm_object_stat(store, &checkpoint->id, &info) == 0)
        checkpoint->stored = info.stored;
    return true;
}

int cm_head_advance(cm_store *store, cm_backend_txn **txn, cm_known *pending, const char *session, const cm_head *head,
                    uint64_t number, cm_content *checkpoint, const char *keep)
{
    char detached[40];
    snprintf(detached, sizeof detached, "branch-%" PRIu64, number);
    const char *branch = head->branch ? head->branch : detached;
    cm_cleanup(cm_cleanup_free) char *head_key = cm_ref_key('h', session, NULL);
    cm_cleanup(cm_cleanup_free) char *new_key = cm_ref_number_key('n', session, number);
    cm_cleanup(cm_cleanup_free) char *branch_key = cm_ref_key('b', session, branch);
    cm_cleanup(cm_cleanup_free) char *keep_key = cm_ref_key('b', session, keep ? keep : "");
    cm_cleanup(cm_buffer_free) cm_buffer head_value = CM_BUFFER_INIT, id_value = CM_BUFFER_INIT;
    cm_cleanup(cm_buffer_free) cm_buffer branch_value = CM_BUFFER_INIT, keep_value = CM_BUFFER_INIT;
    if (head->apart)
        encode_head(&head_value, number, head->rest_number, head->rest_branch);
    else
        encode_head(&head_value, number, number, branch);
    cm_buffer_append(&id_value, &checkpoint->id, sizeof checkpoint->id);
    cm_buffer_varint(&branch_value, number);
    cm_buffer_varint(&keep_value, head->number);
    if (!head_key || !new_key || !branch_key || !keep_key || head_value.error || id_value.error || branch_value.error ||
        keep_value.error)
        return cm_fail(ENOMEM, "out of memory");
    const cm_ref_update updates[] = {
        cm_ref_change(new_key, NULL, &id_value),
        cm_ref_change(branch_key, &head->branch_raw, &branch_value),
        cm_ref_change(head_key, &head->raw, &head_value),
        cm_ref_change(keep_key, NULL, &keep_value),
    };
    int result = cm_content_commit(store, *txn, pending, checkpoint, updates, keep ? 4 : 3);
    if (result == -EEXIST)
        return cm_fail(EEXIST, "session '%s' in %s moved during the save: save again", session, store->path);
    *txn = NULL;
    return result == -ECONNRESET && was_committed(store, new_key, checkpoint) ? 0 : result;
}

void cm_head_guess(cm_refs *refs, const char *session, const char *branch, uint64_t number)
{
    cm_refs_add(refs, cm_ref_key('h', session, NULL));
    cm_refs_add(refs, cm_ref_key('b', session, branch ? branch : first_branch));
    if (number)
        cm_refs_add(refs, cm_ref_number_key('n', session, number));
}

static int number_id(cm_store *store, const cm_refs *refs, const char *session, uint64_t number, cm_id *id)
{
    cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
    int result = read_ref(store, refs, cm_ref_number_key('n', session, number), &value);
    if (result == -ENOENT)
        return cm_fail(ENOENT, "session '%s' has no checkpoint %" PRIu64 " in %s", session, number, store->path);
    if (!result && value.size != sizeof *id)
        return cm_fail(EILSEQ, "the number %" PRIu64 " of session '%s' is damaged", number, session);
    if (!result)
        memcpy(id, value.data, sizeof *id);
    return result;
}

int cm_head_parent(cm_store *store, const cm_refs *refs, const char *session, const cm_head *head,
                   cm_checkpoint **parent)
{
    cm_id id;
    *parent = NULL;
    int result = head->number ? number_id(store, refs, session, head->number, &id) : 0;
    if (result || !head->number)
        return result;
    if (!store->recent || !cm_id_equal(&store->recent->id, &id))
        return cm_checkpoint_open_id(store, &id, parent);
    *parent = cm_checkpoint_ref(store->recent);
    return 0;
}

/* ---- listing ----------------------------------------------------------------------------------------------------- */

typedef struct listing {
    cm_name_visitor visit;
    void *arg;
    size_t prefix;
} listing;

static int list_ref(void *arg, const char *key, const void *value, size_t size)
{
    const listing *l = arg;
    cm_reader reader = cm_reader_of(value, size);
    uint64_t number = cm_read_varint(&reader);
    return reader.bad ? cm_fail(EILSEQ, "the ref %s is damaged", key) : l->visit(l->arg, key + l->prefix, number);
}

static int list_refs(cm_store *store, char *prefix, cm_name_visitor visit, void *arg)
{
    if (!prefix)
        return cm_fail(ENOMEM, "out of memory");
    listing l = {visit, arg, strlen(prefix)};
    int result =
        store->backend->ops->ref_list ? store->backend->ops->ref_list(store->backend, prefix, list_ref, &l) : 0;
    free(prefix);
    return result;
}

int cm_session_list(cm_store *store, cm_name_visitor visit, void *arg)
{
    if (!store->is_snapshot)
        return list_refs(store, strdup("h/"), visit, arg);
    cm_checkpoint *only;
    int result = cm_checkpoint_open_id(store, &store->snapshot, &only);
    if (result)
        return result;
    result = visit(arg, cm_checkpoint_session(only), cm_checkpoint_number(only));
    cm_checkpoint_unref(only);
    return result;
}

int cm_ref_list(cm_store *store, const char *session, enum cm_ref_kind kind, cm_name_visitor visit, void *arg)
{
    int result = cm_name_check("session", session);
    return result ? result : list_refs(store, cm_ref_key((char)kind, session, ""), visit, arg);
}

static int no_session(const cm_store *store, const char *session)
{
    return cm_fail(ENOENT, "no session '%s' in %s: it is made by its first save", session, store->path);
}

int cm_session_get(cm_store *store, const char *session, cm_session_info *info)
{
    *info = (cm_session_info){0};
    if (store->is_snapshot) {
        cm_checkpoint *only;
        int result = cm_checkpoint_open_id(store, &store->snapshot, &only);
        if (result)
            return result;
        if (strcmp(session, only->session) == 0)
            info->last_number = info->head_number = only->number;
        else
            result = no_session(store, session);
        cm_checkpoint_unref(only);
        return result;
    }
    cm_head head;
    int result = cm_head_read(store, session, &head);
    if (!result && head.last == 0)
        result = no_session(store, session);
    if (!result) {
        info->last_number = head.last;
        info->head_number = head.number;
        info->branch = head.branch;
        head.branch = NULL;
    }
    cm_head_clear(&head);
    return result;
}

void cm_session_info_clear(cm_session_info *info)
{
    free(info->branch);
    *info = (cm_session_info){0};
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

/* One ref, and the guard, by compare-and-swap against what they were. */
static int move_ref(cm_store *store, const cm_guard *guard, const char *key, const cm_buffer *old,
                    const cm_buffer *value)
{
    const cm_ref_update updates[] = {cm_ref_change(key, old, value), cm_guard_move(guard)};
    return cm_refs_commit(store, updates, 2);
}

int cm_checkpoint_number_id(cm_store *store, const char *session, uint64_t number, cm_id *id)
{
    return number_id(store, NULL, session, number, id);
}

typedef struct numbering {
    cm_number_visitor visit;
    void *arg;
    size_t prefix;
} numbering;

static int list_number(void *arg, const char *key, const void *value, size_t size)
{
    const numbering *n = arg;
    cm_id id;
    if (size != sizeof id)
        return cm_fail(EILSEQ, "the ref %s is damaged", key);
    memcpy(&id, value, sizeof id);
    return n->visit(n->arg, strtoull(key + n->prefix, NULL, 16), &id);
}

int cm_checkpoint_list(cm_store *store, const char *session, cm_number_visitor visit, void *arg)
{
    cm_session_info info;
    int result = cm_session_get(store, session, &info); /* -ENOENT */
    uint64_t only = info.head_number;
    cm_session_info_clear(&info);
    if (result)
        return result;
    if (store->is_snapshot)
        return visit(arg, only, &store->snapshot);
    cm_cleanup(cm_cleanup_free) char *prefix = cm_ref_key('n', session, "");
    if (!prefix)
        return cm_fail(ENOMEM, "out of memory");
    numbering n = {visit, arg, strlen(prefix)};
    return store->backend->ops->ref_list(store->backend, prefix, list_number, &n);
}

static int set_ref_once(cm_store *store, const char *session, enum cm_ref_kind kind, const char *name, uint64_t number)
{
    cm_id id;
    cm_cleanup(cm_guard_clear) cm_guard guard = {0};
    cm_cleanup(cm_cleanup_free) char *key = cm_ref_key((char)kind, session, name);
    cm_cleanup(cm_buffer_free) cm_buffer old = CM_BUFFER_INIT, value = CM_BUFFER_INIT;
    cm_buffer_varint(&value, number);
    int result = value.error ? cm_fail(ENOMEM, "out of memory") : cm_guard_read(store, session, &guard);
    if (!result)
        result = cm_checkpoint_number_id(store, session, number, &id);
    if (!result)
        result = cm_ref_read(store, key, &old);
    return result ? result : move_ref(store, &guard, key, &old, &value);
}

static int set_ref_entered(cm_store *store, const char *session, enum cm_ref_kind kind, const char *name,
                           uint64_t number)
{
    int result = -EEXIST;
    for (unsigned i = 0; result == -EEXIST && i < CM_REFS_TRIES; i++)
        result = set_ref_once(store, session, kind, name, number);
    return result;
}

int cm_ref_set(cm_store *store, const char *session, enum cm_ref_kind kind, const char *name, uint64_t number)
{
    int result = cm_name_check("session", session);
    if (!result)
        result = cm_ref_name_check(kind == CM_REF_TAG ? "tag" : "branch", name);
    if (!result)
        result = cm_store_enter(store);
    if (result)
        return result;
    result = set_ref_entered(store, session, kind, name, number);
    cm_store_leave(store);
    return result;
}

static int branch_number(cm_store *store, const char *session, char kind, const char *name, uint64_t *number)
{
    cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
    int result = read_ref(store, NULL, cm_ref_key(kind, session, name), &value);
    if (result)
        return result;
    cm_reader reader = cm_reader_of(value.data, value.size);
    *number = cm_read_varint(&reader);
    return reader.bad ? cm_fail(EILSEQ, "the ref '%s' of session '%s' is damaged", name, session) : 0;
}

typedef struct tip_search {
    uint64_t number;
    char *branch;
} tip_search;

static int find_tip(void *arg, const char *name, uint64_t number)
{
    tip_search *search = arg;
    if (number == search->number && !search->branch)
        search->branch = strdup(name);
    return 0;
}

static int set_head_once(cm_store *store, const char *session, const char *branch, uint64_t number)
{
    cm_head head;
    cm_cleanup(cm_guard_clear) cm_guard guard = {0};
    int result = cm_guard_read(store, session, &guard);
    if (!result)
        result = cm_head_read(store, session, &head);
    if (result)
        return result;
    tip_search search = {0};
    cm_id id;
    if (head.last == 0) {
        result = no_session(store, session);
    } else if (branch) {
        result = branch_number(store, session, 'b', branch, &number);
        if (result == -ENOENT)
            result = cm_fail(ENOENT, "session '%s' has no branch '%s' in %s", session, branch, store->path);
        search.branch = strdup(branch);
    } else {
        search.number = number;
        result = cm_checkpoint_number_id(store, session, number, &id);
        if (!result)
            result = cm_ref_list(store, session, CM_REF_BRANCH, find_tip, &search);
    }
    if (!result) {
        cm_cleanup(cm_buffer_free) cm_buffer value = CM_BUFFER_INIT;
        cm_cleanup(cm_cleanup_free) char *key = cm_ref_key('h', session, NULL);
        encode_head(&value, head.last, number, search.branch);
        result =
            key && !value.error ? move_ref(store, &guard, key, &head.raw, &value) : cm_fail(ENOMEM, "out of memory");
    }
    free(search.branch);
    cm_head_clear(&head);
    return result;
}

static int set_head_entered(cm_store *store, const char *session, const char *branch, uint64_t number)
{
    int result = -EEXIST;
    for (unsigned i = 0; result == -EEXIST && i < CM_REFS_TRIES; i++)
        result = set_head_once(store, session, branch, number);
    return result;
}

int cm_head_set(cm_store *store, const char *session, const char *branch, uint64_t number)
{
    int result = cm_store_enter(store);
    if (result)
        return result;
    result = set_head_entered(store, session, branch, number);
    cm_store_leave(store);
    return result;
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

int cm_checkpoint_open_number(cm_store *store, const char *session, uint64_t number, cm_checkpoint **checkpoint)
{
    cm_id id;
    int result = cm_name_check("session", session);
    if (!result)
        result = cm_checkpoint_number_id(store, session, number, &id);
    return result ? result : cm_checkpoint_open_id(store, &id, checkpoint);
}

typedef struct id_search {
    cm_id id;
    unsigned found;
} id_search;

static int find_id(void *arg, const cm_id *id, const cm_object_info *info)
{
    id_search *search = arg;
    if (info->kind == CM_KIND_CHECKPOINT) {
        search->id = *id;
        search->found++;
    }
    return 0;
}

/* An id or the beginning of one. -ENOENT without a sentence: it is not the form of an id. */
static int open_by_prefix(cm_store *store, const char *prefix, cm_checkpoint **checkpoint)
{
    size_t digits = strlen(prefix);
    if (digits < 8 || digits > CM_ID_HEX || strspn(prefix, "0123456789abcdef") != digits)
        return -ENOENT;
    char padded[CM_ID_HEX + 1];
    memset(padded, '0', CM_ID_HEX);
    memcpy(padded, prefix, digits);
    padded[CM_ID_HEX] = 0;
    cm_id from;
    id_search search = {0};
    int result = cm_id_parse(padded, &from);
    if (!result)
        result = cm_object_list(store, &from, (unsigned)digits * 4, find_id, &search);
    if (result)
        return result;
    if (search.found > 1)
        return cm_fail(EINVAL, "%s is the beginning of %u checkpoints' ids: give more digits", prefix, search.found);
    return search.found ? cm_checkpoint_open_id(store, &search.id, checkpoint) : -ENOENT;
}

static int open_snapshot(cm_store *store, const char *session, const char *revision, cm_checkpoint **checkpoint)
{
    int result = cm_checkpoint_open_id(store, &store->snapshot, checkpoint);
    if (result)
        return result;
    char number[24];
    snprintf(number, sizeof number, "%" PRIu64, (*checkpoint)->number);
    if (strcmp(session, (*checkpoint)->session) == 0 &&
        (!revision || !*revision || strcmp(revision, "head") == 0 || strcmp(revision, number) == 0))
        return 0;
    cm_fail(ENOENT, "%s holds only %s@%s", store->path, (*checkpoint)->session, number);
    cm_checkpoint_unref(*checkpoint);
    return -ENOENT;
}

int cm_checkpoint_open(cm_store *store, const char *session, const char *revision, cm_checkpoint **checkpoint)
{
    if (store->is_snapshot)
        return open_snapshot(store, session, revision, checkpoint);
    cm_head head;
    int result = cm_head_read(store, session, &head);
    if (result)
        return result;
    uint64_t last = head.last, number = head.number;
    cm_head_clear(&head);
    if (last == 0)
        return no_session(store, session);
    if (!revision || !*revision || strcmp(revision, "head") == 0)
        return cm_checkpoint_open_number(store, session, number, checkpoint);
    if (strspn(revision, "0123456789") == strlen(revision) && strlen(revision) < 20) {
        result = cm_checkpoint_open_number(store, session, strtoull(revision, NULL, 10), checkpoint);
        int by_id = result == -ENOENT ? open_by_prefix(store, revision, checkpoint) : result; /* an id may begin so */
        return by_id == -ENOENT ? result : by_id;
    }
    result = branch_number(store, session, CM_REF_BRANCH, revision, &number);
    if (result == -ENOENT)
        result = branch_number(store, session, CM_REF_TAG, revision, &number);
    if (result == 0)
        return cm_checkpoint_open_number(store, session, number, checkpoint);
    if (result == -ENOENT)
        result = open_by_prefix(store, revision, checkpoint);
    if (result == -ENOENT)
        return cm_fail(ENOENT, "session '%s' has no checkpoint, branch or tag '%s' in %s", session, revision,
                       store->path);
    return result;
}

int cm_checkpoint_open_address(cm_store *store, const char *address, cm_checkpoint **checkpoint)
{
    const char *at = strchr(address, '@');
    cm_cleanup(cm_cleanup_free) char *session = at ? strndup(address, (size_t)(at - address)) : strdup(address);
    if (!session)
        return cm_fail(ENOMEM, "out of memory");
    return cm_checkpoint_open(store, session, at ? at + 1 : NULL, checkpoint);
}
