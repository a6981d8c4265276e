/* SPDX-License-Identifier: Apache-2.0 */
#include <chipmink/policy.h>

#include <string.h>

#include "error.h"

/*
 * A pod of its own costs some twenty microseconds, a hundred bytes and a look-up, and what is in small pods compresses worse, so what
 * is small stays with its parent. What is big changes, or is shared and loaded, by itself; so does code. A container is big by what it
 * holds: many short containers in one another would otherwise be one pod, all of which is walked again when one of them changes. The
 * bytes of long texts and arrays are not in pods but in chunks, which stay as they are when the pod around them changes: for them it is
 * only a question of what is loaded along. What is near to a variable is often a variable, too, or becomes one, and is loaded by itself;
 * so is a text. The parts of a model or a data frame seldom are.
 */
enum {
    NEAR = 2, /* containers below the variable: elements, attributes, data frames in a dict, layers of a model */
    OWN_POD_LONG = 256,      /* elements of a list near to the variable, attributes */
    OWN_POD_NEAR = 32 << 10, /* bytes of a list near to the variable, of an array far from it */
    OWN_POD_PAYLOAD = 4096,  /* bytes of a text, of an array near to the variable */
    FRAGMENT_LEAST = 16 << 10,
    FRAGMENT_MEAN = 32 << 10, /* beyond the least */
    FRAGMENT_MOST = 256 << 10,
    ELEMENT_MEAN = 128, /* bytes of an element, for turning the mean into a probability per element */
};

static const char *const names[] = {[CM_POLICY_SIZE] = "size",
                                    [CM_POLICY_NEAR] = "near",
                                    [CM_POLICY_BUNDLE] = "bundle",
                                    [CM_POLICY_SPLIT] = "split",
                                    [CM_POLICY_RANDOM] = "random"};

int cm_policy_find(const char *name, enum cm_policy *policy)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            *policy = (enum cm_policy)i;
            return 0;
        }
    }
    return cm_fail(EINVAL, "there is no policy '%s': there are size, near, bundle, split and random", name);
}

static bool is_at_least(const cm_features *features, uint64_t size)
{
    return features->size >= cm_magnitude(size);
}

/* `everywhere`: all arrays and containers are treated like arrays and lists near to the variable. */
static bool by_size(const cm_features *features, bool everywhere)
{
    bool near = everywhere || features->depth <= NEAR;
    bool longer = features->length >= cm_magnitude(OWN_POD_LONG);
    switch ((enum cm_class)features->cls) {
    case CM_CLASS_BYTES:
        return is_at_least(features, OWN_POD_PAYLOAD);
    case CM_CLASS_ARRAY:
        return is_at_least(features, near ? OWN_POD_PAYLOAD : OWN_POD_NEAR);
    case CM_CLASS_DICT: /* the attributes of an object, too */
    case CM_CLASS_SET:
        near = everywhere;
        __attribute__((fallthrough));
    case CM_CLASS_LIST:
        return near ? longer || is_at_least(features, OWN_POD_NEAR) : is_at_least(features, CM_OWN_POD_SIZE);
    case CM_CLASS_INSTANCE: /* its size says nothing of what it holds */
        return longer && features->depth <= NEAR;
    case CM_CLASS_CODE: /* is referred to by instances in many variables: none should need another's pod for it */
        break;
    }
    return true;
}

/* Half of all features, whatever they are. */
static bool is_odd(const cm_features *features)
{
    uint32_t word = (uint32_t)features->cls | (uint32_t)features->depth << 8 | (uint32_t)features->length << 16 |
                    (uint32_t)features->size << 24;
    return (word * 0x9e3779b1u) >> 31;
}

enum cm_action cm_policy_decide(enum cm_policy policy, const cm_features *features)
{
    if (features->depth == 0)
        return policy == CM_POLICY_BUNDLE ? CM_SPLIT_FINAL : CM_SPLIT;
    bool apart = true;
    switch (policy) {
    case CM_POLICY_SIZE:
        apart = by_size(features, false);
        break;
    case CM_POLICY_NEAR:
        apart = by_size(features, true);
        break;
    case CM_POLICY_BUNDLE:
        apart = false;
        break;
    case CM_POLICY_SPLIT:
        break;
    case CM_POLICY_RANDOM:
        apart = is_odd(features);
        break;
    }
    if (!apart)
        return CM_BUNDLE;
    return features->cls == CM_CLASS_BYTES ? CM_SPLIT_FINAL : CM_SPLIT;
}

bool cm_policy_fragment_end(uint64_t size, uint64_t hash)
{
    if (size < FRAGMENT_LEAST)
        return false;
    return size >= FRAGMENT_MOST || hash % (FRAGMENT_MEAN / ELEMENT_MEAN) == 0;
}
