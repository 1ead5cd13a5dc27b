// libcudart, faked on the simulated libcuda: the functions that the ctypes backend uses.
//
// The real one asks the driver for tables that are not documented, so it does not run on ours.

#include <stddef.h>

typedef unsigned long long CUdeviceptr;
int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *), cuCtxGetCurrent(void **);
int cuMemAlloc_v2(CUdeviceptr *, size_t), cuMemFree_v2(CUdeviceptr), cuMemGetInfo_v2(size_t *, size_t *);
int cuMemHostAlloc(void **, size_t, unsigned), cuMemFreeHost(void *);
int cuMemcpyHtoDAsync_v2(CUdeviceptr, const void *, size_t, void *);
int cuMemcpyDtoHAsync_v2(void *, CUdeviceptr, size_t, void *);
int cuStreamCreate(void **, unsigned), cuStreamDestroy_v2(void *), cuStreamSynchronize(void *);
int cuEventCreate(void **, unsigned), cuEventDestroy_v2(void *), cuEventRecord(void *, void *);
int cuEventElapsedTime(float *, void *, void *), cuGetErrorString(int, const char **);

static __thread int device, last;
static void *contexts[16];

static int ready(void) {
    void *current = NULL;
    int code = contexts[device] ? cuCtxGetCurrent(&current) : cuInit(0);
    if (code || (current && current == contexts[device])) return code;
    if (!contexts[device]) code = cuDevicePrimaryCtxRetain(&contexts[device], device);
    return code ? code : cuCtxSetCurrent(contexts[device]);
}
static int said(int code) { if (code) last = code; return code; }
#define CALL(function) do { int code = ready(); return said(code ? code : function); } while (0)

int cudaSetDevice(int ordinal) { if (ordinal < 0 || ordinal > 15) return last = 101; device = ordinal; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 11040; return 0; }
int cudaGetLastError(void) { int code = last; last = 0; return code; }
const char *cudaGetErrorString(int code) {
    const char *text = NULL;
    return cuGetErrorString(code, &text) ? "unrecognized error code" : text;
}
int cudaMemGetInfo(size_t *available, size_t *total) { CALL(cuMemGetInfo_v2(available, total)); }
int cudaMalloc(void **address, size_t size) { CALL(cuMemAlloc_v2((CUdeviceptr *)address, size)); }
int cudaFree(void *address) { CALL(address ? cuMemFree_v2((CUdeviceptr)(size_t)address) : 0); }
int cudaHostAlloc(void **address, size_t size, unsigned flags) { CALL(cuMemHostAlloc(address, size, flags)); }
int cudaFreeHost(void *address) { CALL(cuMemFreeHost(address)); }
int cudaMemcpyAsync(void *target, const void *source, size_t size, int kind, void *stream) {
    if (kind == 1) CALL(cuMemcpyHtoDAsync_v2((CUdeviceptr)(size_t)target, source, size, stream));
    if (kind == 2) CALL(cuMemcpyDtoHAsync_v2(target, (CUdeviceptr)(size_t)source, size, stream));
    return last = 21;
}
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { CALL(cuStreamCreate(stream, flags)); }
int cudaStreamDestroy(void *stream) { CALL(cuStreamDestroy_v2(stream)); }
int cudaStreamSynchronize(void *stream) { CALL(cuStreamSynchronize(stream)); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { CALL(cuEventCreate(event, flags)); }
int cudaEventDestroy(void *event) { CALL(cuEventDestroy_v2(event)); }
int cudaEventRecord(void *event, void *stream) { CALL(cuEventRecord(event, stream)); }
int cudaEventElapsedTime(float *time_ms, void *start, void *end) { CALL(cuEventElapsedTime(time_ms, start, end)); }
