/* SPDX-License-Identifier: Apache-2.0 */
#include <chipmink/policy.h>

#include <string.h>

#include "error.h"

/*
 * A pod of its own costs some twenty microseconds, a hundred bytes and a look-up, so what is small stays with its parent. What is big
 * changes, or is shared and loaded, by itself; so does code. A container is big by its own length, or by what it holds: many short
 * containers in one another would otherwise be one pod, all of which is written again when one of them changes.
 */
enum {
    OWN_POD_BYTES = 4096, /* of bytes, str, arrays */
    OWN_POD_DEPTH = 2,    /* instances this near to the variable: data frames in a dict, layers of a model */
    FRAGMENT_LEAST = 16 << 10,
    FRAGMENT_MEAN = 32 << 10, /* beyond the least */
    FRAGMENT_MOST = 256 << 10,
    ELEMENT_MEAN = 128, /* bytes of an element, for turning the mean into a probability per element */
};

static const char *const names[] = {[CM_POLICY_SIZE] = "size",
                                    [CM_POLICY_LENGTH] = "length",
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
    return cm_fail(EINVAL, "there is no policy '%s': there are size, length, bundle, split and random", name);
}

static bool is_apart(const cm_features *features, uint8_t own_pod_size)
{
    bool longer = features->length >= cm_magnitude(CM_OWN_POD_LENGTH);
    switch ((enum cm_class)features->cls) {
    case CM_CLASS_BYTES:
    case CM_CLASS_ARRAY:
        return features->size >= cm_magnitude(OWN_POD_BYTES);
    case CM_CLASS_LIST:
    case CM_CLASS_DICT:
    case CM_CLASS_SET:
        return longer || features->size >= own_pod_size;
    case CM_CLASS_INSTANCE:
        return longer && features->depth <= OWN_POD_DEPTH;
    case CM_CLASS_CODE: /* is referred to by instances in many variables: none should need another's pod for it */
        return true;
    }
    return false;
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
        apart = is_apart(features, cm_magnitude(CM_OWN_POD_SIZE));
        break;
    case CM_POLICY_LENGTH:
        apart = is_apart(features, UINT8_MAX);
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
