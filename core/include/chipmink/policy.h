/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - pod granularity: which objects get a pod of their own.
 *
 * The walker asks once per object, on the way down, with cheap features. The first policy decides by class and size; the
 * learned one answers behind the same interface.
 */
#ifndef CHIPMINK_POLICY_H
#define CHIPMINK_POLICY_H

#include <chipmink/chipmink.h>

#ifdef __cplusplus
extern "C" {
#endif

enum cm_action {
    CM_BUNDLE,      /* into the parent's pod */
    CM_SPLIT,       /* own pod; decide again for what is below */
    CM_SPLIT_FINAL, /* own pod; everything below goes into it */
};

enum cm_class {
    CM_CLASS_BYTES, /* bytes, bytearray, str */
    CM_CLASS_ARRAY, /* exports a buffer */
    CM_CLASS_LIST,  /* list, tuple, deque */
    CM_CLASS_DICT,
    CM_CLASS_SET,
    CM_CLASS_INSTANCE, /* anything that goes through the reduce protocol */
    CM_CLASS_CODE,     /* functions, classes, modules */
};

typedef struct cm_features {
    enum cm_class cls;
    uint32_t depth;  /* containers above it, the variable's own object has 0 */
    uint64_t length; /* elements, or 0 when that is not known */
    uint64_t size;   /* bytes of the object itself, without what it refers to */
} cm_features;

CM_API enum cm_action cm_policy_decide(const cm_features *features);

/*
 * Content-defined fragments of big containers: after an element whose encoding has the fingerprint `hash` (of its body
 * bytes), with `size` bytes in the fragment so far, does the fragment end here?
 */
CM_API bool cm_policy_fragment_end(uint64_t size, uint64_t hash);
/* Containers of at least this many elements are built of fragments. */
enum { CM_FRAGMENT_MIN_LENGTH = 2048 };

#ifdef __cplusplus
}
#endif
#endif
