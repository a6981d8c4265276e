/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

cm_store *store;
arena nodes;
cutting whole = {{1}, 0, 0};

void setup_store(void)
{
    store = open_store("store", CREATE);
}

void teardown_store(void)
{
    cm_store_unref(store);
    arena_free(&nodes);
    remove_tree(scratch_path("store"));
}

cm_gc_report collect(void)
{
    cm_gc_report report;
    ck_ok(cm_gc(store, false, NULL, NULL, &report));
    return report;
}

void no_damage(void)
{
    cm_verify_report report;
    ck_ok(cm_verify(store, NULL, NULL, NULL, &report));
    ck_assert_uint_eq(report.damaged, 0);
}

int note_damage(void *arg, const char *where, const char *what)
{
    char *text = arg;
    ck_assert_uint_gt(strlen(what), 10);
    sprintf(text + strlen(text), "%s; ", where);
    return 0;
}
