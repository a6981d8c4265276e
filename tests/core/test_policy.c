/* SPDX-License-Identifier: Apache-2.0 */
/* test_policy.c - which objects get pods of their own, and where fragments end. */
#include <chipmink/policy.h>

#include "support.h"

static cm_features features(enum cm_class cls, uint32_t depth, uint64_t length, uint64_t size)
{
    return (cm_features){
        .cls = (uint8_t)cls, .depth = (uint8_t)depth, .length = cm_magnitude(length), .size = cm_magnitude(size)};
}

static enum cm_action decide(enum cm_policy policy, enum cm_class cls, uint32_t depth, uint64_t length, uint64_t size)
{
    cm_features asked = features(cls, depth, length, size);
    return cm_policy_decide(policy, &asked);
}

START_TEST(magnitudes)
{
    ck_assert_int_eq(cm_magnitude(0), 0);
    ck_assert_int_eq(cm_magnitude(1), 1);
    ck_assert_int_eq(cm_magnitude(255), 8);
    ck_assert_int_eq(cm_magnitude(256), 9);
    ck_assert_int_eq(cm_magnitude(UINT64_MAX), 64);
}
END_TEST

START_TEST(names)
{
    static const char *const known[] = {"size", "near", "bundle", "split", "random"};
    for (int i = 0; i < 5; i++) {
        enum cm_policy policy;
        ck_assert_int_eq(cm_policy_find(known[i], &policy), 0);
        ck_assert_int_eq((int)policy, i);
    }
    enum cm_policy policy;
    ck_assert_int_eq(cm_policy_find("none", &policy), -EINVAL);
    ck_assert_ptr_nonnull(strstr(cm_error_message(), "'none'"));
}
END_TEST

START_TEST(big_ones_are_apart)
{
    const enum cm_policy policies[] = {CM_POLICY_SIZE, CM_POLICY_NEAR};
    for (int i = 0; i < 2; i++) {
        enum cm_policy policy = policies[i];
        for (uint32_t depth = 1; depth < 256; depth++) {
            bool near = depth <= 2 || policy == CM_POLICY_NEAR;
            uint64_t array = near ? 4096 : 32 << 10;
            ck_assert_int_eq(decide(policy, CM_CLASS_BYTES, depth, 0, 4095), CM_BUNDLE);
            ck_assert_int_eq(decide(policy, CM_CLASS_BYTES, depth, 0, 4096), CM_SPLIT_FINAL);
            ck_assert_int_eq(decide(policy, CM_CLASS_ARRAY, depth, 0, array - 1), CM_BUNDLE);
            ck_assert_int_eq(decide(policy, CM_CLASS_ARRAY, depth, 0, array), CM_SPLIT);
            ck_assert_int_eq(decide(policy, CM_CLASS_INSTANCE, depth, 256, 64), depth <= 2 ? CM_SPLIT : CM_BUNDLE);
            ck_assert_int_eq(decide(policy, CM_CLASS_CODE, depth, 0, 0), CM_SPLIT);
            for (int cls = CM_CLASS_LIST; cls <= CM_CLASS_SET; cls++) {
                ck_assert_int_eq(decide(policy, cls, depth, 10, 1000), CM_BUNDLE);
                bool apart = policy == CM_POLICY_NEAR || (near && cls == CM_CLASS_LIST);
                ck_assert_int_eq(decide(policy, cls, depth, 256, 1000), apart ? CM_SPLIT : CM_BUNDLE);
                ck_assert_int_eq(decide(policy, cls, depth, 10, CM_OWN_POD_SIZE), CM_SPLIT);
                ck_assert_int_eq(decide(policy, cls, depth, 10, UINT64_MAX), CM_SPLIT);
            }
        }
    }
    ck_assert_int_eq(decide(CM_POLICY_SIZE, CM_CLASS_LIST, 2, 10, 32 << 10), CM_SPLIT);
    ck_assert_int_eq(decide(CM_POLICY_SIZE, CM_CLASS_DICT, 3, 10, CM_OWN_POD_SIZE - 1), CM_BUNDLE);
}
END_TEST

START_TEST(those_to_compare_with)
{
    ck_assert_int_eq(decide(CM_POLICY_BUNDLE, CM_CLASS_LIST, 0, 5000, 1 << 20), CM_SPLIT_FINAL);
    ck_assert_int_eq(decide(CM_POLICY_BUNDLE, CM_CLASS_LIST, 1, 5000, 1 << 20), CM_BUNDLE);
    ck_assert_int_eq(decide(CM_POLICY_SPLIT, CM_CLASS_LIST, 7, 1, 8), CM_SPLIT);
    unsigned apart = 0, all = 0;
    for (uint32_t depth = 1; depth < 8; depth++)
        for (uint64_t length = 1; length < 1 << 12; length *= 2, all++)
            apart += decide(CM_POLICY_RANDOM, CM_CLASS_DICT, depth, length, length * 8) == CM_SPLIT;
    ck_assert_uint_gt(apart, all / 4);
    ck_assert_uint_lt(apart, all * 3 / 4);
}
END_TEST

START_TEST(fragments_end)
{
    ck_assert(!cm_policy_fragment_end(100, 0));
    ck_assert(cm_policy_fragment_end(1 << 20, 1));
    unsigned ends = 0;
    for (uint64_t hash = 0; hash < 4096; hash++)
        ends += cm_policy_fragment_end(20 << 10, hash);
    ck_assert_uint_eq(ends, 16); /* one of 256 */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core.policy");
    TCase *all = tcase_create("policy");
    tcase_add_test(all, magnitudes);
    tcase_add_test(all, names);
    tcase_add_test(all, big_ones_are_apart);
    tcase_add_test(all, those_to_compare_with);
    tcase_add_test(all, fragments_end);
    suite_add_tcase(suite, all);
    return run_suite(suite);
}
