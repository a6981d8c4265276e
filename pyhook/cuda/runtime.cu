/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.cu - runtime.h on the CUDA runtime, which is linked in, and finds the driver when it is first called. */
#include "runtime.h"

#include "hash_chunk.h"

#include <chipmink/device.h>
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

enum { WARPS_A_BLOCK = 8 };

typedef CUresult (*get_context)(CUcontext *);
typedef CUresult (*set_context)(CUcontext);

/* One warp a chunk. */
__global__ void __launch_bounds__(WARPS_A_BLOCK * 32) hash_chunks(cm_rt_hash work, uint64_t count)
{
    __shared__ uint64_t secret[CM_HASH_SECRET];
    if (threadIdx.x < CM_HASH_SECRET)
        secret[threadIdx.x] = work.secret[threadIdx.x];
    __syncthreads();
    uint64_t chunk = (uint64_t)blockIdx.x * WARPS_A_BLOCK + threadIdx.x / 32;
    if (chunk >= count)
        return;
    uint64_t start = chunk * CM_DEVICE_CHUNK, left = work.size - start, low, high;
    if (left <= CM_HASH_SHORT)
        return;
    cm_hash_chunk((const uint8_t *)work.address + start, left < CM_DEVICE_CHUNK ? left : CM_DEVICE_CHUNK, secret, &low,
                  &high);
    if (threadIdx.x % 32 == 0) {
        work.out[2 * chunk] = low;
        work.out[2 * chunk + 1] = high;
    }
}

/* A function of the driver that the runtime has loaded; NULL: there is no driver. */
static void *driver(const char *name)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    return library ? dlsym(library, name) : NULL;
}

extern "C" int cm_rt_count(int *count)
{
    return cudaGetDeviceCount(count);
}

/* A thread of Python's may have no context yet, and would get one on device 0 if the current device were asked for instead. */
extern "C" int cm_rt_enter(int device, void **before)
{
    CUcontext context = NULL;
    get_context get = (get_context)driver("cuCtxGetCurrent");
    if (!get)
        return cudaErrorInsufficientDriver;
    if (get(&context) != CUDA_SUCCESS)
        return cudaErrorInitializationError;
    *before = context;
    cudaError_t error = cudaSetDevice(device);
    if (error != cudaSuccess)
        cm_rt_leave(context);
    return error;
}

extern "C" void cm_rt_leave(void *before)
{
    set_context set = (set_context)driver("cuCtxSetCurrent");
    if (set)
        set((CUcontext)before);
}

extern "C" int cm_rt_is_plain(int device, uint64_t address, int *plain)
{
    struct cudaPointerAttributes attributes;
    cudaError_t error = cudaPointerGetAttributes(&attributes, (const void *)address);
    *plain = error == cudaSuccess && attributes.type == cudaMemoryTypeDevice && attributes.device == device;
    return error;
}

extern "C" int cm_rt_synchronize(void)
{
    return cudaDeviceSynchronize();
}

extern "C" int cm_rt_stream_new(cm_rt_stream *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
}

extern "C" void cm_rt_stream_free(cm_rt_stream stream)
{
    cudaStreamDestroy(stream);
}

extern "C" int cm_rt_pinned_new(size_t size, void **memory)
{
    return cudaHostAlloc(memory, size, cudaHostAllocPortable | cudaHostAllocMapped);
}

extern "C" void cm_rt_pinned_free(void *memory)
{
    cudaFreeHost(memory);
}

extern "C" int cm_rt_copy(void *pinned, uint64_t address, size_t size, cm_rt_stream stream)
{
    return cudaMemcpyAsync(pinned, (const void *)address, size, cudaMemcpyDeviceToHost, stream);
}

extern "C" int cm_rt_hash_chunks(const cm_rt_hash *work, cm_rt_stream stream)
{
    uint64_t count = (work->size + CM_DEVICE_CHUNK - 1) / CM_DEVICE_CHUNK;
    unsigned blocks = (unsigned)((count + WARPS_A_BLOCK - 1) / WARPS_A_BLOCK);
    (void)cudaGetLastError(); /* of a call before, which was told */
    hash_chunks<<<blocks, WARPS_A_BLOCK * 32, 0, stream>>>(*work, count);
    return cudaGetLastError();
}

extern "C" int cm_rt_wait(cm_rt_stream stream)
{
    return cudaStreamSynchronize(stream);
}

extern "C" const char *cm_rt_text(int error)
{
    return cudaGetErrorString((cudaError_t)error);
}
