/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash_chunk.h - XXH3-128 of more than 240 bytes, by 32 lanes side by side: those of a warp on the device, a loop on the host. Both are
 * compiled from this text, and give what XXH3_128bits_withSeed gives (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
 *
 * XXH3 reads stripes of 64 bytes into eight accumulators, and scrambles these after each block of 16 stripes. Within a block stripes
 * only add, so that their order does not matter: a lane reads two accumulators' share (16 bytes) of every eighth stripe, so a warp
 * reads 512 bytes at once, and the lanes' sums are added before the accumulators are scrambled.
 *
 * What follows is written for all lanes at once: CM_LANES(lane) stands before what each of them does, and lane_sum is where they meet.
 * Little-endian machines only.
 */
#ifndef CM_HASH_CHUNK_H
#define CM_HASH_CHUNK_H

#include <stdint.h>

#ifdef __CUDACC__
#define CM_LANE_CODE static __device__ __forceinline__
/* A thread is one lane, and has the state of that one only. */
#define CM_LANES(lane)                                                                                                 \
    for (__attribute__((unused)) unsigned lane = threadIdx.x % CM_LANE_COUNT, cm_once = 1; cm_once; cm_once = 0)
#define CM_LANE(array, lane) ((void)(lane), (array))[0]
enum { CM_LANES_HERE = 1 };
#else
#include <string.h>
#define CM_LANE_CODE         static inline
#define CM_LANES(lane)       for (unsigned lane = 0; lane < CM_LANE_COUNT; lane++)
#define CM_LANE(array, lane) (array)[lane]
enum { CM_LANES_HERE = 32 };
#endif

enum {
    CM_LANE_COUNT = 32,
    CM_LANES_A_STRIPE = 4,
    CM_HASH_SECRET = 24,  /* words: of 192 bytes */
    CM_HASH_SHORT = 240,  /* up to that, XXH3 is another function */
    CM_HASH_STRIPE = 64,  /* bytes */
    CM_HASH_BLOCK = 1024, /* bytes */
};

#define CM_PRIME32_1 0x9E3779B1U
#define CM_PRIME32_2 0x85EBCA77U
#define CM_PRIME32_3 0xC2B2AE3DU
#define CM_PRIME64_1 0x9E3779B185EBCA87ULL
#define CM_PRIME64_2 0xC2B2AE3D27D4EB4FULL
#define CM_PRIME64_3 0x165667B19E3779F9ULL
#define CM_PRIME64_4 0x85EBCA77C2B2AE63ULL
#define CM_PRIME64_5 0x27D4EB2F165667C5ULL

/* Two of the eight accumulators, or what is added to them. */
typedef struct cm_pair {
    uint64_t a, b;
} cm_pair;

/* The word at a byte offset of the secret. */
CM_LANE_CODE uint64_t secret_at(const uint64_t *secret, unsigned offset)
{
    unsigned word = offset / 8, shift = offset % 8 * 8;
    return shift ? secret[word] >> shift | secret[word + 1] << (64 - shift) : secret[word];
}

CM_LANE_CODE cm_pair read_pair(const uint8_t *at)
{
    cm_pair read;
#ifdef __CUDACC__
    if ((uint64_t)at % 16 == 0) { /* read once: it need not stay in the caches */
        ulonglong2 both = __ldcs((const ulonglong2 *)at);
        read.a = both.x;
        read.b = both.y;
    } else {
        read.a = read.b = 0;
        for (unsigned i = 0; i < 8; i++) {
            read.a |= (uint64_t)at[i] << (8 * i);
            read.b |= (uint64_t)at[8 + i] << (8 * i);
        }
    }
#else
    memcpy(&read, at, sizeof read);
#endif
    return read;
}

CM_LANE_CODE void add_stripe(cm_pair *sum, const uint8_t *at, uint64_t secret_a, uint64_t secret_b)
{
    cm_pair read = read_pair(at);
    uint64_t a = read.a ^ secret_a, b = read.b ^ secret_b;
    sum->a += read.b + (uint64_t)(uint32_t)a * (uint32_t)(a >> 32);
    sum->b += read.a + (uint64_t)(uint32_t)b * (uint32_t)(b >> 32);
}

/* Adds up what the lanes have whose numbers differ in the bits from `from` to below `to` only: all of these get the sum. */
CM_LANE_CODE void lane_sum(uint64_t *values, unsigned stride, unsigned from, unsigned to)
{
#ifdef __CUDACC__
    (void)stride;
    for (unsigned bit = from; bit < to; bit <<= 1)
        values[0] += __shfl_xor_sync(0xffffffffU, values[0], bit);
#else
    for (unsigned bit = from; bit < to; bit <<= 1)
        for (unsigned lane = 0; lane < CM_LANE_COUNT; lane++)
            if (!(lane & bit)) {
                uint64_t sum = values[lane * stride] + values[(lane | bit) * stride];
                values[lane * stride] = values[(lane | bit) * stride] = sum;
            }
#endif
}

/* Over the lanes that read the same accumulators. */
CM_LANE_CODE void stripes_sum(cm_pair *sums)
{
    lane_sum(&sums[0].a, 2, CM_LANES_A_STRIPE, CM_LANE_COUNT);
    lane_sum(&sums[0].b, 2, CM_LANES_A_STRIPE, CM_LANE_COUNT);
}

CM_LANE_CODE uint64_t fold(uint64_t a, uint64_t b)
{
#ifdef __CUDACC__
    return a * b ^ __umul64hi(a, b);
#else
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#endif
}

CM_LANE_CODE uint64_t avalanche(uint64_t hash)
{
    hash ^= hash >> 37;
    hash *= 0x165667919E3779F9ULL;
    return hash ^ hash >> 32;
}

/* From the accumulators to half of the hash, with the secret from a byte offset on. */
CM_LANE_CODE uint64_t merge(const cm_pair *accumulators, const uint64_t *secret, unsigned offset, uint64_t start)
{
    uint64_t parts[CM_LANES_HERE];
    CM_LANES(lane)
    {
        unsigned at = offset + lane % CM_LANES_A_STRIPE * 16;
        CM_LANE(parts, lane) = fold(CM_LANE(accumulators, lane).a ^ secret_at(secret, at),
                                    CM_LANE(accumulators, lane).b ^ secret_at(secret, at + 8));
    }
    lane_sum(parts, 1, 1, CM_LANES_A_STRIPE);
    return avalanche(start + parts[0]);
}

/*
 * Hashes `size` bytes, more than CM_HASH_SHORT, with the secret that follows from the seed. On the device to be called by all lanes of a
 * warp with the same arguments; all get the result.
 */
CM_LANE_CODE void cm_hash_chunk(const uint8_t *data, uint64_t size, const uint64_t *secret, uint64_t *low,
                                uint64_t *high)
{
    const uint64_t first[8] = {CM_PRIME32_3, CM_PRIME64_1, CM_PRIME64_2, CM_PRIME64_3,
                               CM_PRIME64_4, CM_PRIME32_2, CM_PRIME64_5, CM_PRIME32_1};
    cm_pair accumulators[CM_LANES_HERE], sums[CM_LANES_HERE];
    CM_LANES(lane)
    {
        unsigned pair = lane % CM_LANES_A_STRIPE;
        CM_LANE(accumulators, lane).a = first[2 * pair];
        CM_LANE(accumulators, lane).b = first[2 * pair + 1];
    }
    uint64_t blocks = (size - 1) / CM_HASH_BLOCK;
#ifdef __CUDACC__
#pragma unroll 4 /* what later blocks read is on its way while this one is added up */
#endif
    for (uint64_t block = 0; block < blocks; block++) {
        CM_LANES(lane)
        {
            unsigned stripe = lane / CM_LANES_A_STRIPE, word = lane % CM_LANES_A_STRIPE * 2;
            const uint8_t *at = data + block * CM_HASH_BLOCK + lane * 16;
            CM_LANE(sums, lane).a = CM_LANE(sums, lane).b = 0;
            add_stripe(&CM_LANE(sums, lane), at, secret[stripe + word], secret[stripe + word + 1]);
            add_stripe(&CM_LANE(sums, lane), at + CM_HASH_BLOCK / 2, secret[stripe + 8 + word],
                       secret[stripe + 8 + word + 1]);
        }
        stripes_sum(sums);
        CM_LANES(lane)
        {
            unsigned word = 16 + lane % CM_LANES_A_STRIPE * 2;
            uint64_t a = CM_LANE(accumulators, lane).a + CM_LANE(sums, lane).a;
            uint64_t b = CM_LANE(accumulators, lane).b + CM_LANE(sums, lane).b;
            CM_LANE(accumulators, lane).a = (a ^ a >> 47 ^ secret[word]) * CM_PRIME32_1;
            CM_LANE(accumulators, lane).b = (b ^ b >> 47 ^ secret[word + 1]) * CM_PRIME32_1;
        }
    }
    /* The stripes that fill no block, and the last 64 bytes once more, whatever of them was read. */
    unsigned left = (unsigned)((size - 1) % CM_HASH_BLOCK / CM_HASH_STRIPE);
    CM_LANES(lane)
    {
        unsigned stripe = lane / CM_LANES_A_STRIPE, word = lane % CM_LANES_A_STRIPE * 2;
        const uint8_t *at = data + blocks * CM_HASH_BLOCK + lane * 16;
        CM_LANE(sums, lane).a = CM_LANE(sums, lane).b = 0;
        if (stripe < left)
            add_stripe(&CM_LANE(sums, lane), at, secret[stripe + word], secret[stripe + word + 1]);
        if (stripe + 8 < left)
            add_stripe(&CM_LANE(sums, lane), at + CM_HASH_BLOCK / 2, secret[stripe + 8 + word],
                       secret[stripe + 8 + word + 1]);
        if (stripe == 0)
            add_stripe(&CM_LANE(sums, lane), data + size - CM_HASH_STRIPE + lane * 16,
                       secret_at(secret, 121 + word * 8), secret_at(secret, 121 + word * 8 + 8));
    }
    stripes_sum(sums);
    CM_LANES(lane)
    {
        CM_LANE(accumulators, lane).a += CM_LANE(sums, lane).a;
        CM_LANE(accumulators, lane).b += CM_LANE(sums, lane).b;
    }
    *low = merge(accumulators, secret, 11, size * CM_PRIME64_1);
    *high = merge(accumulators, secret, 117, ~(size * CM_PRIME64_2));
}

#endif
