/* SPDX-License-Identifier: Apache-2.0 */
/* Fragments of big containers in streams that need no more of these: alone, and where the container is needed after all. */
#include "checkpoint.h"
#include "fixture.h"
#include "plan.h"

enum { FRAGMENTS = 3, APPENDS = 'e', SETITEMS = 'u', ADDITEMS = 0x90 };

/* ---- building ------------------------------------------------------------------------------------------------------- */

/* A list of one number, and of the owner, if there is one. */
static void add_element(cm_pod *pod, unsigned number, cm_pod *owner)
{
    cm_body *body = cm_pod_body(pod);
    cm_body_byte(body, ']');
    cm_body_memoize(body);
    cm_body_bytes(body, "(K", 2);
    cm_body_byte(body, (uint8_t)number);
    if (owner)
        cm_pod_external(pod, owner, 0);
    cm_body_byte(body, APPENDS);
}

/* Two elements, of which the first has that number, and index 0. */
static cm_pod *add_fragment(cm_save *save, cm_pod *parent, unsigned number, uint8_t adds, cm_pod *owner)
{
    cm_pod *fragment = cm_save_pod_new(save, parent, CM_POD_FRAGMENT);
    cm_body *body = cm_pod_body(fragment);
    cm_body_byte(body, '(');
    for (unsigned i = number; i < number + 2; i++) {
        if (adds == SETITEMS) {
            cm_body_byte(body, 'K');
            cm_body_byte(body, (uint8_t)i);
        }
        add_element(fragment, i, owner);
    }
    cm_body_byte(body, adds);
    return fragment;
}

static void end_fragment(cm_save *save, cm_pod *parent, cm_pod *fragment)
{
    ck_ok(cm_save_pod_finish(save, fragment, CM_INDEX_ROOT));
    cm_pod_child(parent, fragment);
}

/* Elements 0 to 5, two in each fragment; `outer`: they refer to the pod above, and else, with `owned`, to the container. */
static cm_pod *add_container(cm_save *save, cm_pod *outer, uint8_t adds, bool owned, cm_pod **fragments)
{
    cm_pod *pod = cm_save_pod_new(save, outer, CM_POD_OBJECT);
    cm_body_byte(cm_pod_body(pod), adds == APPENDS ? ']' : adds == SETITEMS ? '}' : 0x8f);
    cm_body_memoize(cm_pod_body(pod));
    for (unsigned i = 0; i < FRAGMENTS; i++) {
        fragments[i] = add_fragment(save, pod, 2 * i, adds, outer ? outer : owned ? pod : NULL);
        end_fragment(save, pod, fragments[i]);
    }
    ck_ok(cm_save_pod_finish(save, pod, 0));
    return pod;
}

static cm_pod *save_big(cm_save *save, uint8_t adds, bool owned, cm_pod **fragments)
{
    ck_ok(cm_save_variable_begin(save, "big"));
    cm_pod *pod = add_container(save, NULL, adds, owned, fragments);
    ck_ok(cm_save_variable_end(save, pod, 0, "list", ""));
    return pod;
}

/* [container], to which the elements of the container refer. */
static void save_outer(cm_save *save, const char *name, cm_pod **fragments)
{
    ck_ok(cm_save_variable_begin(save, name));
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    cm_body_byte(cm_pod_body(pod), ']');
    cm_body_memoize(cm_pod_body(pod));
    cm_body_byte(cm_pod_body(pod), '(');
    cm_pod_child(pod, add_container(save, pod, APPENDS, false, fragments));
    cm_body_byte(cm_pod_body(pod), APPENDS);
    ck_ok(cm_save_pod_finish(save, pod, 0));
    ck_ok(cm_save_variable_end(save, pod, 0, "list", ""));
}

/* A variable that is an object of another. */
static void save_alias(cm_save *save, const char *name, const cm_pod *pod, uint32_t index)
{
    ck_ok(cm_save_variable_begin(save, name));
    ck_ok(cm_save_variable_end(save, pod, index, "list", ""));
}

/* A list of objects of others. */
static void save_list(cm_save *save, const char *name, cm_pod **pods, const uint32_t *indices, size_t count)
{
    ck_ok(cm_save_variable_begin(save, name));
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    cm_body_byte(cm_pod_body(pod), ']');
    cm_body_memoize(cm_pod_body(pod));
    cm_body_byte(cm_pod_body(pod), '(');
    for (size_t i = 0; i < count; i++)
        cm_pod_external(pod, pods[i], indices[i]);
    cm_body_byte(cm_pod_body(pod), APPENDS);
    ck_ok(cm_save_pod_finish(save, pod, 0));
    ck_ok(cm_save_variable_end(save, pod, 0, "list", ""));
}

/* ---- checking ------------------------------------------------------------------------------------------------------- */

static void check_pods(cm_checkpoint *c, const char *name, uint64_t pods)
{
    const cm_variable *v;
    ck_ok(cm_checkpoint_variable(c, name, &v));
    ck_assert_uint_eq(v->pods, pods);
}

/* The file of a variable is of the size that was recorded for it. */
static void check_sizes(cm_checkpoint *c)
{
    const cm_variable *variables;
    size_t count;
    ck_ok(cm_checkpoint_variables(c, &variables, &count));
    for (size_t i = 0; i < count; i++) {
        cm_link *link;
        ck_ok(cm_link_open(c, &variables[i].name, 1, 0, &link));
        ck_assert_uint_eq(cm_link_size(link), variables[i].size);
        cm_link_close(link);
    }
}

static void check_names(cm_checkpoint *c, const char *const *names, size_t count, const char *expected)
{
    size_t size;
    uint8_t *stream = link_whole(c, names, count, CM_LINK_NAMESPACE, &size);
    arena read = {0};
    const char *why;
    node *root = unpickle(&read, stream, size, &why);
    ck_assert_msg(root, "%s", why);
    char *text = describe(root);
    ck_assert_str_eq(text, expected);
    free(text);
    free(stream);
    arena_free(&read);
}

#define NAMES(...) ((const char *[]){__VA_ARGS__}), sizeof(const char *[]){__VA_ARGS__} / sizeof(const char *)

/* ---- alone ---------------------------------------------------------------------------------------------------------- */

START_TEST(an_element_brings_its_fragment)
{
    static const struct {
        uint8_t adds;
        const char *stream;
        size_t size;
    } kinds[] = {
        {APPENDS,
         "\x80\x05](]\x94(K\x02"
         "e]\x94(K\x03"
         "ee0j\x01\x00\x00\x00.",
         24},
        {SETITEMS,
         "\x80\x05}(K\x02]\x94(K\x02"
         "eK\x03]\x94(K\x03"
         "eu0j\x01\x00\x00\x00.",
         28},
        {ADDITEMS,
         "\x80\x05\x8f(]\x94(K\x02"
         "e]\x94(K\x03"
         "e\x90"
         "0j\x01\x00\x00\x00.",
         24},
    };
    cm_pod *fragments[FRAGMENTS];
    cm_save *save = begin(store, "s");
    save_big(save, kinds[_i].adds, false, fragments);
    save_alias(save, "one", fragments[1], 1);
    cm_checkpoint *c = finish(save);
    size_t size;
    uint8_t *stream = link_whole(c, NAMES("one"), 0, &size);
    ck_assert_uint_eq(size, kinds[_i].size);
    ck_assert_mem_eq(stream, kinds[_i].stream, size);
    free(stream);
    check_pods(c, "big", 1 + FRAGMENTS);
    check_pods(c, "one", 1);
    check_sizes(c);
    cm_checkpoint_unref(c);
}
END_TEST

/* From two fragments; and beside a variable that needs the container, which then has the same elements, whatever comes first. */
START_TEST(the_container_is_whole_where_it_is_needed)
{
    cm_pod *fragments[FRAGMENTS];
    cm_save *save = begin(store, "s");
    cm_pod *big = save_big(save, APPENDS, false, fragments);
    save_list(save, "best", (cm_pod *[]){fragments[0], fragments[1], fragments[0]}, (uint32_t[]){0, 1, 0}, 3);
    save_list(save, "rest", (cm_pod *[]){fragments[0], fragments[2]}, (uint32_t[]){1, 1}, 2);
    save_list(save, "holder", &big, (uint32_t[]){0}, 1);
    save_alias(save, "one", fragments[1], 0);
    cm_checkpoint *c = finish(save);
    check_pods(c, "best", 3);
    check_pods(c, "rest", 3);
    check_pods(c, "holder", 2 + FRAGMENTS);
    check_sizes(c);
    check_description(c, "best", "#1=[#2=[0] #3=[3] #2]");
    check_description(c, "rest", "#1=[#2=[1] #3=[5]]");
    check_description(c, "one", "#1=[2]");
    check_names(c, NAMES("one", "best", "rest"),
                "#1={s4:best:#2=[#3=[0] #4=[3] #3] s4:rest:#5=[#6=[1] #7=[5]] s3:one:#8=[2]}");
    check_names(c, NAMES("best", "holder"),
                "#1={s4:best:#2=[#3=[0] #4=[3] #3] s6:holder:#5=[#6=[#3 #7=[1] #8=[2] #4 #9=[4] #10=[5]]]}");
    check_names(c, NAMES("one", "big"), "#1={s3:big:#2=[#3=[0] #4=[1] #5=[2] #6=[3] #7=[4] #8=[5]] s3:one:#5}");
    check_description(c, NULL,
                      "#1={s3:big:#2=[#3=[0] #4=[1] #5=[2] #6=[3] #7=[4] #8=[5]] s4:best:#9=[#3 #6 #3] "
                      "s4:rest:#10=[#4 #8] s6:holder:#11=[#2] s3:one:#5}");
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(elements_refer_to_their_container)
{
    cm_pod *fragments[FRAGMENTS];
    cm_save *save = begin(store, "s");
    save_big(save, APPENDS, true, fragments);
    save_alias(save, "one", fragments[1], 1);
    cm_checkpoint *c = finish(save);
    check_pods(c, "one", 1 + FRAGMENTS);
    check_sizes(c);
    check_description(c, "one", "#1=[3 #2=[#3=[0 #2] #4=[1 #2] #5=[2 #2] #1 #6=[4 #2] #7=[5 #2]]]");
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(elements_refer_to_what_is_above_their_container)
{
    cm_pod *fragments[FRAGMENTS];
    cm_save *save = begin(store, "s");
    save_outer(save, "outer", fragments);
    save_alias(save, "one", fragments[1], 1);
    cm_checkpoint *c = finish(save);
    check_pods(c, "one", 2 + FRAGMENTS);
    check_sizes(c);
    check_description(c, "one", "#1=[3 #2=[#3=[#4=[0 #2] #5=[1 #2] #6=[2 #2] #1 #7=[4 #2] #8=[5 #2]]]]");
    cm_checkpoint_unref(c);
}
END_TEST

/* More of them than planning starts again for. */
START_TEST(many_containers_are_needed_after_all)
{
    enum { MANY = 20 };
    cm_pod *fragments[FRAGMENTS], *chosen[MANY];
    uint32_t indices[MANY] = {0};
    cm_save *save = begin(store, "s");
    for (unsigned i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "outer%u", i);
        save_outer(save, name, fragments);
        chosen[i] = fragments[i % FRAGMENTS];
    }
    save_list(save, "best", chosen, indices, MANY);
    cm_checkpoint *c = finish(save);
    check_pods(c, "best", 1 + MANY * (2 + FRAGMENTS));
    check_sizes(c);
    size_t size;
    uint8_t *stream = link_whole(c, NAMES("best"), 0, &size);
    arena read = {0};
    const char *why;
    node *best = unpickle(&read, stream, size, &why);
    ck_assert_msg(best, "%s", why);
    ck_assert_uint_eq(best->count, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        node *element = best->items[i], *container = element->items[1]->items[0];
        ck_assert_int_eq(element->items[0]->number, 2 * (i % FRAGMENTS));
        ck_assert_uint_eq(container->count, 2 * FRAGMENTS);
        ck_assert_ptr_eq(container->items[2 * (i % FRAGMENTS)], element);
    }
    arena_free(&read);
    free(stream);
    cm_checkpoint_unref(c);
}
END_TEST

START_TEST(fragments_of_fragments)
{
    cm_save *save = begin(store, "s");
    ck_ok(cm_save_variable_begin(save, "big"));
    cm_pod *pod = cm_save_pod_new(save, NULL, CM_POD_OBJECT);
    cm_body_byte(cm_pod_body(pod), ']');
    cm_body_memoize(cm_pod_body(pod));
    end_fragment(save, pod, add_fragment(save, pod, 0, APPENDS, NULL));
    cm_pod *above = add_fragment(save, pod, 2, APPENDS, NULL), *below = add_fragment(save, above, 4, APPENDS, NULL);
    end_fragment(save, above, below);
    end_fragment(save, pod, above);
    ck_ok(cm_save_pod_finish(save, pod, 0));
    ck_ok(cm_save_variable_end(save, pod, 0, "list", ""));
    save_alias(save, "below", below, 0);
    save_alias(save, "above", above, 1);
    cm_checkpoint *c = finish(save);
    check_pods(c, "below", 1);
    check_pods(c, "above", 2);
    check_sizes(c);
    check_description(c, "below", "#1=[4]");
    check_description(c, "above", "#1=[3]");
    check_names(c, NAMES("below", "above"), "#1={s5:below:#2=[4] s5:above:#3=[3]}");
    check_description(c, NULL, "#1={s3:big:#2=[#3=[0] #4=[1] #5=[2] #6=[3] #7=[4] #8=[5]] s5:below:#7 s5:above:#6}");
    cm_checkpoint_unref(c);
}
END_TEST

/* Checkpoints of before fragments stood alone have files of the sizes that were recorded then. */
START_TEST(recorded_sizes_are_kept)
{
    cm_pod *fragments[FRAGMENTS];
    cm_save *save = begin(store, "s");
    save_big(save, APPENDS, false, fragments);
    save_alias(save, "one", fragments[1], 1);
    cm_checkpoint *c = finish(save);
    const cm_variable *v;
    ck_ok(cm_checkpoint_variable(c, "one", &v));
    cm_pods pods = {.checkpoint = c};
    const cm_plan_source source = cm_plan_source_of(&pods);
    const cm_plan_root root = {"one", v->root};
    cm_plan plan;
    ck_ok(cm_plan_make(&source, &root, 1, CM_PLAN_WHOLE, &plan));
    ck_assert_uint_eq(plan.instance_count, 1 + FRAGMENTS);
    ck_assert_uint_gt(plan.size, v->size);
    ((cm_variable *)v)->size = plan.size;
    cm_plan_clear(&plan);
    cm_ahead_clear(&pods.ahead);
    check_sizes(c);
    cm_link *link;
    ck_ok(cm_link_open(c, NAMES("one"), 0, &link));
    uint8_t stream[200];
    size_t size;
    ck_ok(cm_link_read(link, 0, stream, sizeof stream, &size));
    ck_assert_uint_eq(size, v->size);
    arena read = {0};
    const char *why;
    node *one = unpickle(&read, stream, size, &why);
    ck_assert_msg(one, "%s", why);
    ck_assert_int_eq(one->items[0]->number, 3);
    arena_free(&read);
    cm_link_close(link);
    cm_checkpoint_unref(c);
}
END_TEST

/* ---- hostile pods ---------------------------------------------------------------------------------------------------- */

enum { BEST = 1, FRAGMENT, CONTAINER, OTHER, PAGES }; /* pages; and pods, by the first byte of their ids */

typedef struct hostile {
    struct {
        uint8_t kind, tail;
        cm_event events[4];
        size_t event_count;
    } pods[PAGES];
    cm_page map[PAGES];
} hostile;

static cm_id pod_id(unsigned pod)
{
    return (cm_id){.bytes = {(uint8_t)pod}};
}

static void refer(hostile *h, unsigned pod, uint64_t page)
{
    h->pods[pod].events[h->pods[pod].event_count++] = (cm_event){.type = CM_EVENT_EXTERNAL, .page = page, .index = 0};
}

static void contain(hostile *h, unsigned pod, unsigned child, uint64_t page)
{
    h->pods[pod].events[h->pods[pod].event_count++] =
        (cm_event){.type = CM_EVENT_CHILD_AT, .id = pod_id(child), .page = page};
}

static int hostile_fetch(void *arg, const cm_id *pod, uint64_t page, cm_pod_view *view, cm_buffer *content)
{
    const hostile *h = arg;
    (void)page, (void)content;
    size_t n = pod->bytes[0], count = h->pods[n].event_count;
    *view = (cm_pod_view){.kind = h->pods[n].kind,
                          .root = h->pods[n].kind == CM_POD_OBJECT ? 0 : CM_INDEX_ROOT,
                          .memo_count = 1,
                          .event_count = count,
                          .body_size = 10,
                          .tail = h->pods[n].tail};
    view->events = malloc((count + 1) * sizeof *view->events);
    ck_assert_ptr_nonnull(view->events);
    memcpy(view->events, h->pods[n].events, count * sizeof *view->events);
    for (size_t i = 0; i < count; i++)
        view->events[i].memo = 1;
    return 0;
}

static int hostile_locate(void *arg, uint64_t page, cm_page *out)
{
    const hostile *h = arg;
    if (page == CM_PAGE_NONE || page >= PAGES)
        return cm_fail(EILSEQ, "no such page");
    *out = h->map[page];
    return 0;
}

static const cm_plan_root best_root = {"best", {{{BEST}}, BEST, CM_INDEX_ROOT}};

static int hostile_all(void *arg, cm_plan_root **roots, size_t *count)
{
    (void)arg;
    *roots = malloc(sizeof **roots);
    ck_assert_ptr_nonnull(*roots);
    **roots = best_root;
    *count = 1;
    return 0;
}

/* "best" refers to an element in a fragment of a list; as it should be. */
static hostile sound(void)
{
    hostile h = {.map[BEST] = {pod_id(BEST), CM_PAGE_NONE, CM_POD_OBJECT},
                 .map[FRAGMENT] = {pod_id(FRAGMENT), CONTAINER, CM_POD_FRAGMENT},
                 .map[CONTAINER] = {pod_id(CONTAINER), CM_PAGE_NONE, CM_POD_OBJECT},
                 .map[OTHER] = {pod_id(OTHER), CM_PAGE_NONE, CM_POD_OBJECT}};
    h.pods[FRAGMENT].kind = CM_POD_FRAGMENT;
    h.pods[FRAGMENT].tail = APPENDS;
    refer(&h, BEST, FRAGMENT);
    contain(&h, CONTAINER, FRAGMENT, FRAGMENT);
    return h;
}

/* The pods linked, or the failure, whose sentence holds `text`. */
static int plan_roots(hostile *h, const cm_plan_root *roots, size_t count, const char *text)
{
    const cm_plan_source source = {.fetch = hostile_fetch, .locate = hostile_locate, .all = hostile_all, .arg = h};
    cm_plan plan;
    int result = cm_plan_make(&source, roots, count, CM_LINK_NAMESPACE, &plan);
    if (!result)
        result = (int)plan.instance_count;
    else
        ck_assert_msg(strstr(cm_error_message(), text), "%s", cm_error_message());
    cm_plan_clear(&plan);
    return result;
}

static int plan_hostile(hostile *h, const char *text)
{
    return plan_roots(h, &best_root, 1, text);
}

START_TEST(hostile_pods_are_refused)
{
    hostile h = sound();
    ck_assert_int_eq(plan_hostile(&h, ""), 2);
    refer(&h, BEST, CONTAINER);
    ck_assert_int_eq(plan_hostile(&h, ""), 3);

    h = sound(); /* what does not add to anything comes with what it belongs to */
    h.pods[FRAGMENT].tail = 'K';
    ck_assert_int_eq(plan_hostile(&h, ""), 3);

    h = sound();
    h.pods[FRAGMENT].kind = CM_POD_OBJECT;
    ck_assert_int_eq(plan_hostile(&h, "another kind"), -EILSEQ);
    h = sound();
    h.map[FRAGMENT].kind = CM_POD_OBJECT;
    ck_assert_int_eq(plan_hostile(&h, "another kind"), -EILSEQ);

    h = sound();
    h.map[FRAGMENT].parent = CM_PAGE_NONE;
    ck_assert_int_eq(plan_hostile(&h, "a fragment of nothing"), -EILSEQ);
    h = sound();
    h.map[FRAGMENT].parent = FRAGMENT;
    h.pods[FRAGMENT].tail = 0;
    ck_assert_int_eq(plan_hostile(&h, "a fragment of nothing"), -EILSEQ);

    h = sound(); /* in itself */
    contain(&h, FRAGMENT, FRAGMENT, FRAGMENT);
    ck_assert_int_eq(plan_hostile(&h, "damaged pods"), -EILSEQ);

    h = sound(); /* in two containers, in one twice, or another pod at its page */
    contain(&h, OTHER, FRAGMENT, FRAGMENT);
    refer(&h, BEST, CONTAINER);
    refer(&h, BEST, OTHER);
    ck_assert_int_eq(plan_hostile(&h, "two of them claim"), -EILSEQ);
    h = sound();
    contain(&h, CONTAINER, FRAGMENT, FRAGMENT);
    refer(&h, BEST, CONTAINER);
    ck_assert_int_eq(plan_hostile(&h, "two of them claim"), -EILSEQ);
    h = sound();
    h.pods[CONTAINER].events[0].id = pod_id(OTHER);
    refer(&h, BEST, CONTAINER);
    ck_assert_int_eq(plan_hostile(&h, "two of them claim"), -EILSEQ);

    h = sound(); /* before itself: no order has the element before the container and within */
    h.pods[CONTAINER].event_count = 0;
    refer(&h, CONTAINER, FRAGMENT);
    contain(&h, CONTAINER, FRAGMENT, FRAGMENT);
    refer(&h, FRAGMENT, CONTAINER);
    ck_assert_int_eq(plan_hostile(&h, "go round in a circle"), -EILSEQ);

    h = sound(); /* in a container that lacks it, which is there already */
    h.pods[CONTAINER].event_count = 0;
    const cm_plan_root roots[] = {{"big", {pod_id(CONTAINER), CONTAINER, CM_INDEX_ROOT}},
                                  {"one", {pod_id(FRAGMENT), FRAGMENT, 0}}};
    ck_assert_int_eq(plan_roots(&h, roots, 2, "go round in a circle"), -EILSEQ);
    refer(&h, OTHER, CONTAINER);
    refer(&h, OTHER, FRAGMENT);
    h.pods[BEST].event_count = 0;
    refer(&h, BEST, OTHER);
    ck_assert_int_eq(plan_hostile(&h, "go round in a circle"), -EILSEQ);

    h = sound(); /* within itself, as the page map has it */
    h.map[FRAGMENT].parent = CONTAINER;
    h.map[CONTAINER] = (cm_page){pod_id(CONTAINER), FRAGMENT, CM_POD_FRAGMENT};
    h.pods[CONTAINER].kind = CM_POD_FRAGMENT;
    refer(&h, FRAGMENT, FRAGMENT);
    refer(&h, CONTAINER, FRAGMENT);
    ck_assert_int_lt(plan_hostile(&h, "damaged"), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.fragment");
    TCase *tcase = tcase_create("fragment");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup_store, teardown_store);
    tcase_add_loop_test(tcase, an_element_brings_its_fragment, 0, 3);
    tcase_add_test(tcase, the_container_is_whole_where_it_is_needed);
    tcase_add_test(tcase, elements_refer_to_their_container);
    tcase_add_test(tcase, elements_refer_to_what_is_above_their_container);
    tcase_add_test(tcase, many_containers_are_needed_after_all);
    tcase_add_test(tcase, fragments_of_fragments);
    tcase_add_test(tcase, recorded_sizes_are_kept);
    tcase_add_test(tcase, hostile_pods_are_refused);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
