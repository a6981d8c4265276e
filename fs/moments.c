/* SPDX-License-Identifier: Apache-2.0 */
/* moments.c - by-time/: when the checkpoints of a session were saved. They never change, so each is looked up once. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"
#include "parts.h"

enum { MILLISECOND = 1000000 };

static cm_moments *moments_of(cm_view *view, uint64_t session)
{
    for (size_t i = 0; i < view->moments_count; i++)
        if (view->moments[i].session == session)
            return &view->moments[i];
    cm_moments *more = realloc(view->moments, (view->moments_count + 1) * sizeof *more);
    if (more == NULL)
        return NULL;
    view->moments = more;
    more[view->moments_count] = (cm_moments){.session = session};
    return &more[view->moments_count++];
}

/* Read without the cache: a walk over all checkpoints would leave nothing else in it. */
static int read_time(cm_view *view, uint64_t session, uint64_t number, int64_t *time)
{
    cm_checkpoint *checkpoint = NULL;
    int result = cm_checkpoint_open_number(view->store, cm_view_session_name(view, session), number, &checkpoint);

    *time = result == 0 ? cm_checkpoint_time(checkpoint) : 0;
    cm_checkpoint_unref(checkpoint);
    return result;
}

int cm_moments_know(cm_view *view, cm_node node, uint64_t *count)
{
    cm_session_info info = {0};
    uint64_t session = cm_node_session(node);
    int result = cm_view_session(view, node, &info);
    uint64_t last = info.last_number < CM_NODE_NUMBER_MAX ? info.last_number : CM_NODE_NUMBER_MAX;

    cm_session_info_clear(&info);
    *count = 0;
    if (result < 0)
        return result;
    pthread_mutex_lock(&view->moments_lock);
    cm_moments *moments = moments_of(view, session);
    if (moments == NULL)
        result = -ENOMEM;
    while (result == 0 && moments->count < last) {
        if (moments->count == moments->room) {
            uint64_t room = moments->room == 0 ? 64 : moments->room * 2;
            int64_t *more = realloc(moments->times, (size_t)room * sizeof *more);
            if (more == NULL) {
                result = -ENOMEM;
                break;
            }
            moments->times = more;
            moments->room = room;
        }
        result = read_time(view, session, moments->count + 1, &moments->times[moments->count]);
        if (result == -ENOENT) {
            moments->times[moments->count] = INT64_MIN;
            result = 0;
        }
        moments->count += result == 0;
    }
    *count = moments != NULL ? moments->count : 0;
    pthread_mutex_unlock(&view->moments_lock);
    return result;
}

int cm_moment_time(cm_view *view, cm_node node, uint64_t number, int64_t *time)
{
    pthread_mutex_lock(&view->moments_lock);
    const cm_moments *moments = moments_of(view, cm_node_session(node));
    bool known = moments != NULL && number >= 1 && number <= moments->count;
    *time = known ? moments->times[number - 1] : 0;
    pthread_mutex_unlock(&view->moments_lock);
    if (known && *time == INT64_MIN)
        return -ENOENT;
    return known ? 0 : read_time(view, cm_node_session(node), number, time);
}

/* "2026-11-23T09-05-34.123Z": no colons, which some file systems and programs stumble over. */
static void time_text(int64_t time, char text[CM_TIME_TEXT])
{
    cm_describe_time(time, text);
    for (char *s = text; *s != '\0'; s++)
        if (*s == ':')
            *s = '-';
    char *point = strchr(text, '.');
    if (point != NULL)
        strcpy(point + 4, "Z");
}

static bool same_moment(int64_t a, int64_t b)
{
    return a / MILLISECOND == b / MILLISECOND;
}

int cm_moment_name(cm_view *view, cm_node node, uint64_t number, char name[CM_MOMENT_NAME])
{
    char text[CM_TIME_TEXT];
    int64_t time = 0;
    bool again = false;

    pthread_mutex_lock(&view->moments_lock);
    const cm_moments *moments = moments_of(view, cm_node_session(node));
    bool known = moments != NULL && number >= 1 && number <= moments->count;
    if (known) {
        time = moments->times[number - 1];
        /* Only the one before is looked at: whoever sets a clock back may meet two links of one name. */
        again = number >= 2 && same_moment(moments->times[number - 2], time);
    }
    pthread_mutex_unlock(&view->moments_lock);
    if (!known || time == INT64_MIN)
        return -ENOENT;
    time_text(time, text);
    if (again)
        snprintf(name, CM_MOMENT_NAME, "%s-%06llu", text, (unsigned long long)number);
    else
        snprintf(name, CM_MOMENT_NAME, "%s", text);
    return 0;
}

int cm_moment_find(cm_view *view, cm_node node, const char *name, uint64_t *number)
{
    char candidate[CM_MOMENT_NAME];
    uint64_t count;
    int result = cm_moments_know(view, node, &count);

    if (result < 0)
        return result;
    if (strlen(name) >= CM_MOMENT_NAME)
        return -ENOENT;
    for (*number = count; *number > 0; --*number) /* the newest are asked for most */
        if (cm_moment_name(view, node, *number, candidate) == 0 && strcmp(candidate, name) == 0 &&
            cm_view_is_there(view, node, *number))
            return 0;
    return -ENOENT;
}
