/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - pod granularity: which objects get a pod of their own.
 *
 * The walker asks once per object, on the way down, with cheap features. What is decided follows from the object graph alone, so
 * that the same graph always gives the same pods.
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

/* What is known of an object when it is asked for; numbers by their order of magnitude, see cm_magnitude. */
typedef struct cm_features {
    uint8_t cls;
    uint8_t depth;  /* containers above it, at most 255; the variable's own object has 0 */
    uint8_t length; /* magnitude of the number of elements; 0: none, or that is not known */
    uint8_t size; /* magnitude of the bytes that it and what is below it take, as far as that has no pods of its own */
} cm_features;

/* Of a number: 0 for 0, else 1 + floor(log2). */
static inline uint8_t cm_magnitude(uint64_t number)
{
    return number ? (uint8_t)(64 - __builtin_clzll(number)) : 0;
}

/* How it is decided. All but the first are there to be measured beside it (tools/bench --only ablation). */
enum cm_policy {
    CM_POLICY_SIZE,   /* by class, length, size, and whether it is near to the variable */
    CM_POLICY_NEAR,   /* the same, as if all were arrays and lists near to it */
    CM_POLICY_BUNDLE, /* a variable is one pod */
    CM_POLICY_SPLIT,  /* a pod for every object */
    CM_POLICY_RANDOM, /* a pod for half of the kinds of objects */
};
/* -EINVAL: there is none of that name; the sentence has the names. */
CM_API CM_MUST_USE int cm_policy_find(const char *name, enum cm_policy *policy);

CM_API enum cm_action cm_policy_decide(enum cm_policy policy, const cm_features *features);

/*
 * Content-defined fragments of big containers: after an element whose encoding has the fingerprint `hash` (of its body
 * bytes), with `size` bytes in the fragment so far, does the fragment end here?
 */
CM_API bool cm_policy_fragment_end(uint64_t size, uint64_t hash);
enum {
    CM_FRAGMENT_MIN_LENGTH = 2048, /* containers of at least this many elements are built of fragments */
    CM_OWN_POD_SIZE = 64 << 10,    /* bytes that a container holds that gets a pod of its own, wherever it is */
};

#ifdef __cplusplus
}
#endif
#endif
