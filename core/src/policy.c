/* SPDX-License-Identifier: Apache-2.0 */
#include <chipmink/policy.h>

/*
 * By type and size. A pod of its own costs about a hundred bytes and a look-up, so what is small stays with its parent;
 * what is big changes, or is shared and loaded, by itself; so does code.
 */
enum {
    OWN_POD_BYTES = 4096, /* of bytes, str, arrays */
    OWN_POD_LENGTH = 256, /* elements of a container */
    OWN_POD_DEPTH = 2,    /* instances this near to the variable: data frames in a dict, layers of a model */
    FRAGMENT_LEAST = 16 << 10,
    FRAGMENT_MEAN = 32 << 10, /* beyond the least */
    FRAGMENT_MOST = 256 << 10,
    ELEMENT_MEAN = 128, /* bytes of an element, for turning the mean into a probability per element */
};

enum cm_action cm_policy_decide(const cm_features *features)
{
    if (features->depth == 0)
        return CM_SPLIT;
    switch (features->cls) {
    case CM_CLASS_BYTES:
        return features->size >= OWN_POD_BYTES ? CM_SPLIT_FINAL : CM_BUNDLE;
    case CM_CLASS_ARRAY:
        return features->size >= OWN_POD_BYTES ? CM_SPLIT : CM_BUNDLE;
    case CM_CLASS_LIST:
    case CM_CLASS_DICT:
    case CM_CLASS_SET:
        return features->length >= OWN_POD_LENGTH ? CM_SPLIT : CM_BUNDLE;
    case CM_CLASS_INSTANCE:
        return features->depth <= OWN_POD_DEPTH && features->length >= OWN_POD_LENGTH ? CM_SPLIT : CM_BUNDLE;
    case CM_CLASS_CODE: /* is referred to by instances in many variables: none should need another's pod for it */
        return CM_SPLIT;
    }
    return CM_BUNDLE;
}

bool cm_policy_fragment_end(uint64_t size, uint64_t hash)
{
    if (size < FRAGMENT_LEAST)
        return false;
    return size >= FRAGMENT_MOST || hash % (FRAGMENT_MEAN / ELEMENT_MEAN) == 0;
}
