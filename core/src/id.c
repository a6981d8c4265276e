/* SPDX-License-Identifier: Apache-2.0 */
#include "id.h"

#include "error.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

/*
 * OpenSSL 3 looks the algorithm up by name in every EVP_Digest, which costs more than hashing a small pod. Fetched
 * once and kept for the life of the process; immutable after that.
 */
static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;

static void fetch(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static _Thread_local struct {
    EVP_MD_CTX *context;
} thread_digest;

static pthread_key_t context_key;
static pthread_once_t key_made = PTHREAD_ONCE_INIT;

static void free_context(void *context)
{
    EVP_MD_CTX_free(context);
}

static void make_key(void)
{
    pthread_key_create(&context_key, free_context);
}

int cm_id_of(const void *content, size_t size, cm_id *id)
{
    pthread_once(&fetched, fetch);
    pthread_once(&key_made, make_key);
    if (!thread_digest.context) {
        thread_digest.context = EVP_MD_CTX_new();
        pthread_setspecific(context_key, thread_digest.context); /* freed when the thread ends */
    }
    EVP_MD_CTX *context = thread_digest.context;
    unsigned length = sizeof id->bytes;
    if (!context || !sha256 || EVP_DigestInit_ex(context, sha256, NULL) != 1 ||
        EVP_DigestUpdate(context, content, size) != 1 || EVP_DigestFinal_ex(context, id->bytes, &length) != 1)
        return cm_fail(EIO, "computing a SHA-256 failed: the OpenSSL library does not provide it");
    return 0;
}

void cm_id_hex(const cm_id *id, char hex[CM_ID_HEX + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        hex[2 * i] = digits[id->bytes[i] >> 4];
        hex[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    hex[CM_ID_HEX] = 0;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int cm_id_parse(const char *hex, cm_id *id)
{
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        int high = digit(hex[2 * i]);
        int low = high < 0 ? -1 : digit(hex[2 * i + 1]);
        if (low < 0)
            return cm_fail(EINVAL, "'%.80s' is not an id: 64 lower-case hexadecimal digits are needed", hex);
        id->bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (hex[CM_ID_HEX] != 0)
        return cm_fail(EINVAL, "'%.80s' is not an id: it has more than 64 digits", hex);
    return 0;
}

bool cm_id_equal(const cm_id *a, const cm_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
