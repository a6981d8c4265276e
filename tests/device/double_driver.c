/* SPDX-License-Identifier: Apache-2.0 */
/* double_driver.c - what tests/gpu/cuda_driver.py calls of CUDA's driver, in the double's memory: so that what uses it can be tried. */
#include "double.h"

#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))

enum { OUT_OF_MEMORY = 2 };

PUBLIC int cuInit(unsigned flags);
PUBLIC int cuDeviceGetCount(int *count);
PUBLIC int cuDeviceGet(int *device, int ordinal);
PUBLIC int cuDeviceGetName(char *name, int size, int device);
PUBLIC int cuDevicePrimaryCtxRetain(void **context, int device);
PUBLIC int cuCtxSetCurrent(void *context);
PUBLIC int cuCtxGetCurrent(void **context);
PUBLIC int cuCtxSynchronize(void);
PUBLIC int cuMemAlloc_v2(uint64_t *address, size_t size);
PUBLIC int cuMemAllocManaged(uint64_t *address, size_t size, unsigned flags);
PUBLIC int cuMemFree_v2(uint64_t address);
PUBLIC int cuMemHostAlloc(void **memory, size_t size, unsigned flags);
PUBLIC int cuMemFreeHost(void *memory);
PUBLIC int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size);
PUBLIC int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size);
PUBLIC int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream);
PUBLIC int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream);
PUBLIC int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *stream);
PUBLIC int cuStreamCreate(void **stream, unsigned flags);

static _Thread_local void *current;

static void *at(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

int cuInit(unsigned flags)
{
    return (int)flags;
}

int cuDeviceGetCount(int *count)
{
    *count = 1;
    return 0;
}

int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char *name, int size, int device)
{
    (void)device;
    strncpy(name, "a double in the host's memory", (size_t)size);
    return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device)
{
    static char contexts[DOUBLE_DEVICES];
    *context = &contexts[device];
    return 0;
}

int cuCtxSetCurrent(void *context)
{
    current = context;
    return 0;
}

int cuCtxGetCurrent(void **context)
{
    *context = current;
    return 0;
}

int cuCtxSynchronize(void)
{
    return 0;
}

static int alloc(uint64_t *address, size_t size, int plain)
{
    void *memory = calloc(1, size);
    *address = (uint64_t)(uintptr_t)memory;
    if (memory)
        double_declare(0, memory, size, plain);
    return memory ? 0 : OUT_OF_MEMORY;
}

int cuMemAlloc_v2(uint64_t *address, size_t size)
{
    return alloc(address, size, 1);
}

int cuMemAllocManaged(uint64_t *address, size_t size, unsigned flags)
{
    (void)flags;
    return alloc(address, size, 0);
}

int cuMemFree_v2(uint64_t address)
{
    free(at(address));
    return 0;
}

int cuMemHostAlloc(void **memory, size_t size, unsigned flags)
{
    (void)flags;
    *memory = malloc(size);
    return *memory ? 0 : OUT_OF_MEMORY;
}

int cuMemFreeHost(void *memory)
{
    free(memory);
    return 0;
}

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size)
{
    memcpy(at(to), from, size);
    return 0;
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size)
{
    memcpy(to, at(from), size);
    return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream)
{
    (void)stream;
    return cuMemcpyDtoH_v2(to, from, size);
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream)
{
    (void)stream;
    memcpy(at(to), at(from), size);
    return 0;
}

/* Done when the device is waited for. */
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *stream)
{
    (void)stream;
    for (size_t i = 0; i < size; i++)
        double_enqueue((uint8_t *)at(to) + i, value);
    return 0;
}

int cuStreamCreate(void **stream, unsigned flags)
{
    (void)flags;
    *stream = NULL;
    return 0;
}
