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
