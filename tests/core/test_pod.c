/* SPDX-License-Identifier: Apache-2.0 */
/* The pod as stored: what is encoded is decoded, and everything a decoded pod states holds (its validator). */
#include "codec.h"
#include "pod.h"
#include "support.h"

static cm_id id_of_byte(uint8_t byte)
{
    cm_id id;
    memset(&id, byte, sizeof id);
    return id;
}

/* A pod with one of everything: body of 40 bytes, gets at 4 and 10, externals at 20 and 30. */
static uint8_t body[40];
static uint32_t gets[] = {4, 10};
static cm_event events[6];

static cm_pod_view full_view(void)
{
    memset(body, 'N', sizeof body);
    memcpy(body + 4, "j\1\0\0\0", 5);
    memcpy(body + 10, "j\4\0\0\0", 5);
    memcpy(body + 20, "j\0\0\0\0", 5);
    memcpy(body + 30, "j\0\0\0\0", 5);
    events[0] = (cm_event){.position = 3, .memo = 0, .type = CM_EVENT_CHILD, .index = 7, .size = 300, .memos = 12};
    events[1] = (cm_event){.position = 3, .memo = 1, .type = CM_EVENT_BUFFER + CM_PAYLOAD_STR, .size = 1ull << 40};
    events[2] =
        (cm_event){.position = 20, .memo = 2, .type = CM_EVENT_EXTERNAL, .page = 0x1122334455667788, .index = 0};
    events[3] = (cm_event){.position = 30, .memo = 2, .type = CM_EVENT_EXTERNAL, .page = 9, .index = CM_INDEX_ROOT};
    events[4] = (cm_event){.position = 40, .memo = 5, .type = CM_EVENT_CHILD_AT, .page = UINT64_MAX, .size = 5};
    events[5] = (cm_event){.position = 40, .memo = 5, .type = CM_EVENT_BUFFER, .size = 0};
    for (size_t i = 0; i < 6; i++)
        events[i].id = id_of_byte((uint8_t)(i + 1));
    return (cm_pod_view){.kind = CM_POD_OBJECT,
                         .root = 2,
                         .memo_count = 5,
                         .events = events,
                         .event_count = 6,
                         .gets = gets,
                         .get_count = 2,
                         .body = body,
                         .body_size = sizeof body};
}

static void check_same(const cm_pod_view *a, const cm_pod_view *b)
{
    ck_assert_uint_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->root, b->root);
    ck_assert_uint_eq(a->memo_count, b->memo_count);
    ck_assert_uint_eq(a->event_count, b->event_count);
    ck_assert_uint_eq(a->get_count, b->get_count);
    ck_assert_uint_eq(a->body_size, b->body_size);
    ck_assert(a->body_size == 0 || memcmp(a->body, b->body, a->body_size) == 0);
    for (size_t i = 0; i < a->get_count; i++)
        ck_assert_uint_eq(a->gets[i], b->gets[i]);
    for (size_t i = 0; i < a->event_count; i++) {
        const cm_event *x = &a->events[i], *y = &b->events[i];
        ck_assert(x->position == y->position && x->memo == y->memo && x->type == y->type);
        if (x->type == CM_EVENT_EXTERNAL) {
            ck_assert(x->page == y->page && x->index == y->index);
            continue;
        }
        ck_assert(cm_id_equal(&x->id, &y->id) && x->size == y->size);
        if (x->type >= CM_EVENT_CHILD)
            ck_assert(x->memos == y->memos && x->page == y->page && x->index == y->index);
    }
}

static void encode_full(cm_buffer *content)
{
    cm_pod_view view = full_view();
    ck_ok(cm_pod_encode(&view, content));
}

START_TEST(pods_round_trip)
{
    cm_buffer content = CM_BUFFER_INIT, again = CM_BUFFER_INIT;
    cm_pod_view view = full_view(), back;
    encode_full(&content);
    ck_ok(cm_pod_decode(content.data, content.size, &back));
    check_same(&view, &back);
    ck_ok(cm_pod_encode(&back, &again));
    ck_assert_uint_eq(again.size, content.size);
    ck_assert_mem_eq(again.data, content.data, content.size);
    cm_pod_view_clear(&back);
    cm_buffer_free(&content);
    cm_buffer_free(&again);
}
END_TEST

START_TEST(pod_bytes_are_as_the_format_says)
{
    cm_buffer content = CM_BUFFER_INIT;
    cm_pod_view view = {
        .kind = CM_POD_OBJECT, .root = 0, .memo_count = 1, .body = (const uint8_t *)"]\224", .body_size = 2};
    ck_ok(cm_pod_encode(&view, &content));
    ck_assert_uint_eq(content.size, 12);
    ck_assert_mem_eq(content.data, "CMP\1\0\1\1\0\0\2]\224", 12);
    view = (cm_pod_view){.kind = CM_POD_FRAGMENT, .root = CM_INDEX_ROOT, .body = (const uint8_t *)"(e", .body_size = 2};
    ck_ok(cm_pod_encode(&view, &content));
    ck_assert_mem_eq(content.data, "CMP\1\1\0\0\0\0\2(e", 12);
    cm_buffer_free(&content);
}
END_TEST

/* Every truncation is refused; every flipped bit is refused or gives a pod that is itself sound. */
START_TEST(damaged_pods_are_refused_or_sound)
{
    cm_buffer content = CM_BUFFER_INIT, again = CM_BUFFER_INIT;
    encode_full(&content);
    cm_pod_view back;
    for (size_t cut = 0; cut < content.size; cut++) {
        uint8_t *copy = malloc(cut + !cut);
        memcpy(copy, content.data, cut);
        int result = cm_pod_decode(copy, cut, &back);
        ck_assert_int_eq(result, -EILSEQ);
        cm_pod_view_clear(&back);
        free(copy);
    }
    for (size_t bit = 0; bit < content.size * 8; bit++) {
        content.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int result = cm_pod_decode(content.data, content.size, &back);
        if (result == 0) { /* its encoding is the only one there is of it */
            ck_ok(cm_pod_encode(&back, &again));
            ck_assert_uint_eq(again.size, content.size);
            ck_assert_mem_eq(again.data, content.data, content.size);
        } else {
            ck_assert(result == -EILSEQ || (bit / 8 == 3 && result == -EPROTONOSUPPORT));
        }
        cm_pod_view_clear(&back);
        content.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    cm_buffer_append(&content, "", 1);
    ck_assert_int_eq(cm_pod_decode(content.data, content.size, &back), -EILSEQ);
    cm_pod_view_clear(&back);
    cm_buffer_free(&content);
    cm_buffer_free(&again);
}
END_TEST

enum { WRONG_VIEWS = 14 };

/* One thing each that the encoder does not check, and the decoder must. */
static void make_wrong(cm_pod_view *view, int which)
{
    switch (which) {
    case 0:
        view->root = 5; /* of 5 */
        break;
    case 1:
        view->kind = CM_POD_FRAGMENT; /* with a root */
        break;
    case 2:
        view->kind = 2;
        break;
    case 3:
        body[4] = 'N'; /* a get that is none */
        break;
    case 4:
        body[5] = 5; /* a get of object 5 of 5 */
        break;
    case 5:
        gets[0] = 8; /* over the next */
        body[8] = 'j';
        break;
    case 6:
        gets[1] = 36; /* beyond the end */
        body[36] = 'j';
        break;
    case 7:
        gets[1] = 400;
        break;
    case 8:
        body[20] = 'N'; /* an external that is none */
        break;
    case 9:
        events[5].position = 41;
        break;
    case 10:
        events[5].memo = 6;
        break;
    case 11:
        events[5].type = 5;
        break;
    case 12:
        events[3].position = 36; /* an external beyond the end */
        body[36] = 'j';
        break;
    default:
        events[3].position = events[2].position; /* two externals at one place */
        break;
    }
}

START_TEST(wrong_pods_are_refused)
{
    cm_buffer content = CM_BUFFER_INIT;
    uint32_t kept[] = {gets[0], gets[1]};
    cm_pod_view view = full_view(), back;
    make_wrong(&view, _i);
    ck_ok(cm_pod_encode(&view, &content));
    int result = cm_pod_decode(content.data, content.size, &back);
    ck_assert_msg(result == -EILSEQ, "wrong pod %d: %d", _i, result);
    cm_pod_view_clear(&back);
    cm_buffer_free(&content);
    memcpy(gets, kept, sizeof gets);
}
END_TEST

static const struct {
    const char *bytes;
    size_t size;
    int error;
} hostile[] = {
    {"", 0, EILSEQ},
    {"CMP", 3, EILSEQ},
    {"XMP\1\0\0\0\0\0\0", 10, EILSEQ},
    {"CMP\2\0\0\0\0\0\0", 10, EPROTONOSUPPORT},
    {"CMP\1\0\0\0\377\377\377\377\17\0\0", 14, EILSEQ},                      /* 2^32 events in 14 bytes */
    {"CMP\1\0\0\0\0\377\377\377\377\17\0", 14, EILSEQ},                      /* as many gets */
    {"CMP\1\0\0\0\0\0\377\377\377\377\17", 14, EILSEQ},                      /* a body of 4 GB */
    {"CMP\1\0\0\377\377\377\377\377\1\0\0\0", 15, EILSEQ},                   /* 2^36 objects */
    {"CMP\1\0\0\0\1\377\377\377\377\17\0\10", 15, EILSEQ},                   /* an event 4 GB on */
    {"CMP\1\0\0\0\0\2\377\377\377\377\17\377\377\377\377\17\0", 20, EILSEQ}, /* positions that wrap */
};

START_TEST(hostile_pods_are_refused)
{
    cm_pod_view back;
    uint8_t *copy = malloc(hostile[_i].size + 1);
    memcpy(copy, hostile[_i].bytes, hostile[_i].size);
    ck_assert_int_eq(cm_pod_decode(copy, hostile[_i].size, &back), -hostile[_i].error);
    cm_pod_view_clear(&back);
    free(copy);
}
END_TEST

START_TEST(pages_follow_from_names_and_places)
{
    /* XXH3-64 of "df"; of its page and ordinal 0, from the format's document. */
    uint64_t page = cm_page_of_variable("df");
    ck_assert_uint_eq(page, cm_page_of_variable("df"));
    ck_assert_uint_ne(page, cm_page_of_variable("dg"));
    ck_assert_uint_ne(cm_page_of_child(page, 0), cm_page_of_child(page, 1));
    ck_assert_uint_ne(cm_page_of_child(page, 0), cm_page_of_child(page + 1, 0));
    ck_assert_uint_eq(cm_page_of_variable(""), 0x2d06800538d394c2); /* XXH3-64 of nothing */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.pod");
    TCase *tcase = tcase_create("pod");
    tcase_add_test(tcase, pods_round_trip);
    tcase_add_test(tcase, pod_bytes_are_as_the_format_says);
    tcase_add_test(tcase, damaged_pods_are_refused_or_sound);
    tcase_add_loop_test(tcase, wrong_pods_are_refused, 0, WRONG_VIEWS);
    tcase_add_loop_test(tcase, hostile_pods_are_refused, 0, (int)(sizeof hostile / sizeof *hostile));
    tcase_add_test(tcase, pages_follow_from_names_and_places);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
