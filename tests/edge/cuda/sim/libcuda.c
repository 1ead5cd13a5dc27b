// libcuda, simulated on the host: the functions of NVIDIA's public driver API that the backends use.
//
// Nothing is a GPU here and no time is one's. Device memory is host memory. A stream is a list:
// what is queued runs when somebody waits for it, so that a missing wait shows. Addresses and
// handles are looked up, so that one used after it was given back is an error and not a crash.
// A "cubin" is a shared object of the host: kernel NAME is its NAME_host(grid, block, arguments);
// NAME_host_sizes, bytes of each parameter and a 0, lets it be queued and recorded.
//
// Environment: SIM_DEVICES 1, SIM_MEMORY_MB 64, SIM_CAPABILITY 8.7, SIM_DRIVER 12060,
// SIM_INTEGRATED 1, SIM_FAIL "function:n:code" (the n-th call of it, from 1).

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
typedef void (*kernel_host)(const unsigned *, const unsigned *, void **);

enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_PTX = 218,
    INVALID_HANDLE = 400, ILLEGAL_STATE = 401, NOT_FOUND = 500, NOT_READY = 600,
    NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
};

static const struct { int code; const char *name, *words; } errors[] = {
    {0, "CUDA_SUCCESS", "no error"}, {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {35, "CUDA_ERROR_INSUFFICIENT_DRIVER", "CUDA driver version is insufficient"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

// ---- what was called, and what is to fail

struct called { const char *name; int count, listed; struct called *next; };
static struct called *all_called;
static int initialized;

static int failing(struct called *here) {
    const char *wish = getenv("SIM_FAIL");
    size_t length = strlen(here->name);
    int n, code;
    here->count++;
    if (!here->listed) { here->listed = 1; here->next = all_called; all_called = here; }
    if (wish && !strncmp(wish, here->name, length) && wish[length] == ':' &&
        sscanf(wish + length, ":%d:%d", &n, &code) == 2 && n == here->count) return code;
    return 0;
}

#define COUNTED static struct called here = {__func__, 0, 0, 0}; int failure = failing(&here); \
    if (failure) return failure
#define ENTER COUNTED; if (!initialized) return NOT_INITIALIZED
#define ENTER_CONTEXT ENTER; if (!pushed) return INVALID_CONTEXT

// ---- things that live

enum { MEMORY, PINNED, STREAM, EVENT, MODULE, FUNCTION, GRAPH, EXECUTABLE, KINDS };
static const char *kind_names[] = {"memory", "pinned", "streams", "events", "modules", "functions",
                                   "graphs", "executables"};

struct op {
    struct op *next;
    void *target, *source;
    size_t size;
    struct thing *event;
    kernel_host host;
    unsigned shape[6];
    size_t offsets[64];
    int count;
    unsigned char values[512];
};

struct thing {
    struct thing *next;
    int kind, recording, spoiled, recorded, passed;
    unsigned char *data;
    size_t size;
    struct op *ops;
    double time_ms;
    void *library;
    struct thing *module;
    kernel_host host;
    const unsigned char *sizes;
};
static struct thing *things;
static size_t used_bytes;
static int retained[16];
static __thread int stack[32], pushed;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}
static size_t total_bytes(void) { return (size_t)number("SIM_MEMORY_MB", 64) * 1000000; }

static struct thing *new_thing(int kind) {
    struct thing *made = calloc(1, sizeof *made);
    made->kind = kind; made->next = things; things = made;
    return made;
}
static struct thing *find(const void *handle, int kind) {
    for (struct thing *one = things; one; one = one->next)
        if (one == handle && one->kind == kind) return one;
    return NULL;
}
static struct thing *holding(const void *address, size_t size, int kind) {
    for (struct thing *one = things; one; one = one->next)
        if (one->kind == kind && (unsigned char *)address >= one->data &&
            (unsigned char *)address + size <= one->data + one->size) return one;
    return NULL;
}
static void drop_ops(struct thing *owner) {
    while (owner->ops) { struct op *gone = owner->ops; owner->ops = gone->next; free(gone); }
}
static void forget(struct thing *gone) {
    for (struct thing **link = &things; *link; link = &(*link)->next)
        if (*link == gone) { *link = gone->next; break; }
    drop_ops(gone);
    free(gone);
}

// Callers of the tests: how many live things of a kind, calls of a function, and a new count.
int simulated_live(const char *kind) {
    int count = 0;
    if (!strcmp(kind, "contexts")) { for (int i = 0; i < 16; ++i) count += retained[i]; return count; }
    if (!strcmp(kind, "pushed")) return pushed;
    for (struct thing *one = things; one; one = one->next) count += !strcmp(kind_names[one->kind], kind);
    return count;
}
const char *simulated_calls(void) {
    static char text[16384];
    size_t at = 0;
    text[0] = 0;
    for (struct called *one = all_called; one; one = one->next)
        if (one->count) at += snprintf(text + at, sizeof text - at, "%s %d\n", one->name, one->count);
    return text;
}
void simulated_reset(void) { for (struct called *one = all_called; one; one = one->next) one->count = 0; }

// ---- memory

static int spoil_recordings(void) {
    int any = 0;
    for (struct thing *one = things; one; one = one->next)
        if (one->kind == STREAM && one->recording) any = one->spoiled = 1;
    return any;
}
static CUresult take(void **address, size_t size, int kind) {
    if (spoil_recordings()) return CAPTURE_UNSUPPORTED;
    if (!address || !size) return INVALID_VALUE;
    if (size > total_bytes() - used_bytes) return OUT_OF_MEMORY;
    struct thing *made = new_thing(kind);
    made->size = size;
    made->data = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(made->data, 0xFF, size);
    used_bytes += size;
    *address = made->data;
    return OK;
}
static void run(struct thing *stream);
static CUresult give(void *address, int kind) {
    struct thing *gone = holding(address, 1, kind);
    if (spoil_recordings()) return CAPTURE_UNSUPPORTED;
    if (!gone || gone->data != address) return INVALID_VALUE;
    for (struct thing *one = things; one; one = one->next) if (one->kind == STREAM) run(one);
    memset(gone->data, 0xFF, gone->size);
    used_bytes -= gone->size;
    free(gone->data);
    forget(gone);
    return OK;
}
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    ENTER_CONTEXT;
    return take((void **)address, size, MEMORY);
}
CUresult cuMemFree_v2(CUdeviceptr address) { ENTER_CONTEXT; return give((void *)(uintptr_t)address, MEMORY); }
CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    ENTER_CONTEXT;
    return flags > 7 ? INVALID_VALUE : take(address, size, PINNED);
}
CUresult cuMemFreeHost(void *address) { ENTER_CONTEXT; return give(address, PINNED); }
CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    ENTER_CONTEXT;
    *total = total_bytes(); *available = *total - used_bytes;
    return OK;
}

// ---- streams, and what is queued on them

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}
static void launch(struct op *op, void **arguments) { op->host(op->shape, op->shape + 3, arguments); }
static void run(struct thing *stream) {
    if (stream->recording) return;
    while (stream->ops) {
        struct op *op = stream->ops;
        void *arguments[64];
        stream->ops = op->next;
        if (op->event && find(op->event, EVENT)) { op->event->time_ms = now_ms(); op->event->passed = 1; }
        if (op->target) memmove(op->target, op->source, op->size);
        for (int i = 0; i < op->count; ++i) arguments[i] = op->values + op->offsets[i];
        if (op->host) launch(op, arguments);
        free(op);
    }
}
static void append(struct thing *owner, const struct op *what) {
    struct op *made = malloc(sizeof *made), **end = &owner->ops;
    *made = *what; made->next = NULL;
    while (*end) end = &(*end)->next;
    *end = made;
}
CUresult cuStreamCreate(void **stream, unsigned flags) {
    ENTER_CONTEXT;
    if (flags != 1) return INVALID_VALUE;  // one that waits for the default stream is not wanted
    *stream = new_thing(STREAM);
    return OK;
}
CUresult cuStreamDestroy_v2(void *handle) {
    ENTER_CONTEXT;
    struct thing *stream = find(handle, STREAM);
    if (!stream) return INVALID_HANDLE;
    run(stream);
    forget(stream);
    return OK;
}
CUresult cuStreamSynchronize(void *handle) {
    ENTER_CONTEXT;
    struct thing *stream = find(handle, STREAM);
    if (!stream) return INVALID_HANDLE;
    if (stream->recording) { stream->spoiled = 1; return CAPTURE_UNSUPPORTED; }
    run(stream);
    return OK;
}
static CUresult copy(void *target, void *source, void *device, void *host, size_t size, void *handle) {
    struct thing *stream = find(handle, STREAM);
    struct op op = {.target = target, .source = source, .size = size};
    if (!stream) return INVALID_HANDLE;
    if (!holding(device, size, MEMORY) || !holding(host, size, PINNED)) return INVALID_VALUE;
    append(stream, &op);
    if (!stream->recording && target == host) memset(host, 0xFF, size);  // until somebody waits
    return OK;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr device, const void *host, size_t size, void *stream) {
    ENTER_CONTEXT;
    void *target = (void *)(uintptr_t)device;
    return copy(target, (void *)host, target, (void *)host, size, stream);
}
CUresult cuMemcpyDtoHAsync_v2(void *host, CUdeviceptr device, size_t size, void *stream) {
    ENTER_CONTEXT;
    void *source = (void *)(uintptr_t)device;
    return copy(host, source, source, host, size, stream);
}

// ---- events

CUresult cuEventCreate(void **event, unsigned flags) {
    ENTER_CONTEXT;
    if (flags & 2) return INVALID_VALUE;  // 2: one without a time
    *event = new_thing(EVENT);
    return OK;
}
CUresult cuEventDestroy_v2(void *handle) {
    ENTER_CONTEXT;
    struct thing *event = find(handle, EVENT);
    if (!event) return INVALID_HANDLE;
    forget(event);
    return OK;
}
CUresult cuEventRecord(void *handle, void *stream_handle) {
    ENTER_CONTEXT;
    struct thing *event = find(handle, EVENT), *stream = find(stream_handle, STREAM);
    struct op op = {.event = event};
    if (!event || !stream) return INVALID_HANDLE;
    if (stream->recording) return OK;  // as on a device, it gets no time in a recording
    event->recorded = 1; event->passed = 0;
    append(stream, &op);
    return OK;
}
static CUresult elapsed(float *time_ms, void *first, void *second) {
    struct thing *start = find(first, EVENT), *end = find(second, EVENT);
    if (!start || !end || !start->recorded || !end->recorded) return INVALID_HANDLE;
    if (!start->passed || !end->passed) return NOT_READY;
    *time_ms = (float)(end->time_ms - start->time_ms);
    return OK;
}
CUresult cuEventElapsedTime(float *time_ms, void *start, void *end) { ENTER_CONTEXT; return elapsed(time_ms, start, end); }
CUresult cuEventElapsedTime_v2(float *time_ms, void *start, void *end) { ENTER_CONTEXT; return elapsed(time_ms, start, end); }

// ---- kernels

static size_t elf_bytes(const void *image) {
    const Elf64_Ehdr *head = image;
    return head->e_shoff + (size_t)head->e_shnum * head->e_shentsize;
}
CUresult cuModuleLoadData(void **module, const void *image) {
    ENTER_CONTEXT;
    char path[64];
    if (!image) return INVALID_VALUE;
    if (memcmp(image, ELFMAG, SELFMAG))
        return strstr(image, ".version") ? INVALID_PTX : INVALID_IMAGE;
    int file = memfd_create("kernel", 0);
    size_t size = elf_bytes(image);
    if (file < 0 || write(file, image, size) != (ssize_t)size) return OUT_OF_MEMORY;
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    close(file);
    if (!library) return INVALID_IMAGE;
    struct thing *made = new_thing(MODULE);
    made->library = library;
    *module = made;
    return OK;
}
static int kernel_is_queued(void) {
    for (struct thing *one = things; one; one = one->next)
        for (struct op *op = one->kind == STREAM ? one->ops : NULL; op; op = op->next)
            if (op->host) return 1;
    return 0;
}
CUresult cuModuleUnload(void *handle) {
    ENTER_CONTEXT;
    struct thing *module = find(handle, MODULE), *next;
    if (!module) return INVALID_HANDLE;
    if (kernel_is_queued()) return ILLEGAL_STATE;  // on a device it runs code that is gone
    for (struct thing *one = things; one; one = next) {
        next = one->next;
        if (one->kind == FUNCTION && one->module == module) forget(one);
    }
    dlclose(module->library);
    forget(module);
    return OK;
}
CUresult cuModuleGetFunction(void **function, void *handle, const char *name) {
    ENTER_CONTEXT;
    char symbol[256];
    struct thing *module = find(handle, MODULE), *made;
    if (!module) return INVALID_HANDLE;
    snprintf(symbol, sizeof symbol, "%s_host", name);
    void *host = dlsym(module->library, symbol);
    if (!host) return NOT_FOUND;
    snprintf(symbol, sizeof symbol, "%s_host_sizes", name);
    made = new_thing(FUNCTION);
    made->module = module;
    memcpy(&made->host, &host, sizeof host);
    made->sizes = dlsym(module->library, symbol);
    *function = made;
    return OK;
}
static void keep_values(struct op *op, const unsigned char *sizes, void **arguments) {
    size_t at = 0;
    for (; sizes[op->count]; ++op->count) {
        memcpy(op->values + at, arguments[op->count], sizes[op->count]);
        op->offsets[op->count] = at;
        at += 8;
    }
}
CUresult cuLaunchKernel(void *handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, void *stream_handle,
                        void **arguments, void **extra) {
    ENTER_CONTEXT;
    struct thing *function = find(handle, FUNCTION), *stream = find(stream_handle, STREAM);
    struct op op = {.shape = {grid_x, grid_y, grid_z, block_x, block_y, block_z}};
    if (!function || !stream) return INVALID_HANDLE;
    if (extra || shared) return NOT_SUPPORTED;
    for (int i = 0; i < 6; ++i) if (!op.shape[i]) return INVALID_VALUE;
    if ((size_t)block_x * block_y * block_z > 1024) return INVALID_VALUE;
    op.host = function->host;
    if (function->sizes) {
        keep_values(&op, function->sizes, arguments);
        append(stream, &op);
        return OK;
    }
    if (stream->recording) { stream->spoiled = 1; return CAPTURE_UNSUPPORTED; }
    run(stream);
    launch(&op, arguments);
    return OK;
}

// ---- recordings

CUresult cuStreamBeginCapture_v2(void *handle, int mode) {
    ENTER_CONTEXT;
    struct thing *stream = find(handle, STREAM);
    if (!stream) return INVALID_HANDLE;
    if (mode != 1) return INVALID_VALUE;  // but thread-local, any is spoiled by other threads
    if (stream->recording) return ILLEGAL_STATE;
    run(stream);
    stream->recording = 1; stream->spoiled = 0;
    return OK;
}
CUresult cuStreamEndCapture(void *handle, void **graph) {
    ENTER_CONTEXT;
    struct thing *stream = find(handle, STREAM), *made;
    if (!stream) return INVALID_HANDLE;
    if (!stream->recording) return ILLEGAL_STATE;
    stream->recording = 0;
    *graph = NULL;
    if (stream->spoiled) { drop_ops(stream); return CAPTURE_INVALIDATED; }
    made = new_thing(GRAPH);
    made->ops = stream->ops;
    stream->ops = NULL;
    *graph = made;
    return OK;
}
static CUresult instantiate(void **executable, void *handle) {
    struct thing *graph = find(handle, GRAPH), *made;
    if (!graph) return INVALID_HANDLE;
    made = new_thing(EXECUTABLE);
    for (struct op *op = graph->ops; op; op = op->next) append(made, op);
    *executable = made;
    return OK;
}
CUresult cuGraphInstantiate(void **executable, void *graph, void **node, char *log, size_t log_bytes) {
    ENTER_CONTEXT;
    if (!node || (log_bytes && !log)) return INVALID_VALUE;
    return instantiate(executable, graph);
}
#ifndef SIM_CUDA_10  // it came with CUDA 11.4
CUresult cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    ENTER_CONTEXT;
    return flags ? INVALID_VALUE : instantiate(executable, graph);
}
#endif
static CUresult destroy(void *handle, int kind) {
    struct thing *gone = find(handle, kind);
    if (!gone) return INVALID_VALUE;
    forget(gone);
    return OK;
}
CUresult cuGraphDestroy(void *graph) { ENTER_CONTEXT; return destroy(graph, GRAPH); }
CUresult cuGraphExecDestroy(void *executable) { ENTER_CONTEXT; return destroy(executable, EXECUTABLE); }
CUresult cuGraphLaunch(void *handle, void *stream_handle) {
    ENTER_CONTEXT;
    struct thing *executable = find(handle, EXECUTABLE), *stream = find(stream_handle, STREAM);
    if (!executable || !stream) return INVALID_HANDLE;
    for (struct op *op = executable->ops; op; op = op->next) append(stream, op);
    return OK;
}

// ---- devices and contexts

static int devices(void) { int count = (int)number("SIM_DEVICES", 1); return count > 16 ? 16 : count; }
CUresult cuInit(unsigned flags) {
    COUNTED;
    if (flags) return INVALID_VALUE;
    if (!devices()) return NO_DEVICE;
    initialized = 1;
    return OK;
}
CUresult cuDriverGetVersion(int *version) { COUNTED; *version = (int)number("SIM_DRIVER", 12060); return OK; }
CUresult cuDeviceGetCount(int *count) { ENTER; *count = devices(); return OK; }
CUresult cuDeviceGet(int *device, int ordinal) {
    ENTER;
    if (ordinal < 0 || ordinal >= devices()) return INVALID_DEVICE;
    *device = ordinal;
    return OK;
}
CUresult cuDeviceGetName(char *name, int length, int device) {
    ENTER;
    snprintf(name, (size_t)length, device ? "Simulated device %d" : "Simulated device", device);
    return OK;
}
CUresult cuDeviceTotalMem_v2(size_t *total, int device) { ENTER; (void)device; *total = total_bytes(); return OK; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER;
    const char *capability = getenv("SIM_CAPABILITY");
    int major = 8, minor = 7;
    if (capability) sscanf(capability, "%d.%d", &major, &minor);
    (void)device;
    switch (attribute) {
        case 75: *value = major; return OK;
        case 76: *value = minor; return OK;
        case 18: *value = (int)number("SIM_INTEGRATED", 1); return OK;
    }
    return INVALID_VALUE;
}
CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER;
    if (device < 0 || device >= devices()) return INVALID_DEVICE;
    retained[device]++;
    *context = &retained[device];
    return OK;
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER;
    if (device < 0 || device >= devices() || !retained[device]) return INVALID_CONTEXT;
    retained[device]--;
    return OK;
}
static int device_of(void *context) {
    for (int i = 0; i < 16; ++i) if (context == &retained[i]) return i;
    return -1;
}
CUresult cuCtxPushCurrent_v2(void *context) {
    ENTER;
    int device = device_of(context);
    if (device < 0 || !retained[device] || pushed == 32) return INVALID_CONTEXT;
    stack[pushed++] = device;
    return OK;
}
CUresult cuCtxPopCurrent_v2(void **context) {
    ENTER_CONTEXT;
    --pushed;
    if (context) *context = &retained[stack[pushed]];
    return OK;
}
CUresult cuCtxGetCurrent(void **context) { ENTER; *context = pushed ? &retained[stack[pushed - 1]] : NULL; return OK; }
CUresult cuCtxSetCurrent(void *context) {
    ENTER;
    int device = device_of(context);
    if (device < 0 || !retained[device]) return INVALID_CONTEXT;
    if (!pushed) pushed = 1;
    stack[pushed - 1] = device;
    return OK;
}

// ---- words, and functions by name

static CUresult said(int code, const char **text, int name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; ++i)
        if (errors[i].code == code) { *text = name ? errors[i].name : errors[i].words; return OK; }
    *text = NULL;
    return INVALID_VALUE;
}
CUresult cuGetErrorString(int code, const char **text) { return said(code, text, 0); }
CUresult cuGetErrorName(int code, const char **text) { return said(code, text, 1); }

static CUresult by_name(const char *name, void **function, int version) {
    char versioned[128];
    Dl_info info;
    dladdr((void *)cuInit, &info);
    void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (!strcmp(name, "cuGraphInstantiate") && version >= 12000) name = "cuGraphInstantiateWithFlags";
    snprintf(versioned, sizeof versioned, "%s_v2", name);
    *function = dlsym(library, versioned);
    if (!*function) *function = dlsym(library, name);
    dlclose(library);
    return *function ? OK : NOT_FOUND;
}
CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    (void)flags;
    return by_name(name, function, version);
}
CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    CUresult found = cuGetProcAddress(name, function, version, flags);
    if (status) *status = found ? 1 : 0;
    return found;
}
