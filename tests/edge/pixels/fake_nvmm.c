/* Both libraries that edge.engines.nvmm opens, over memory of the host. The structures have the order
   of members of nvbufsurface.h and cudaEGL.h, laid out by this C compiler, not by ctypes. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct plane_params {
    uint32_t num_planes, width[4], height[4], pitch[4], offset[4], psize[4], bytesPerPix[4];
    void *reserved[16];
};

struct params {
    uint32_t width, height, pitch;
    int colorFormat, layout;
    uint64_t bufferDesc;
    uint32_t dataSize;
    void *dataPtr;
    struct plane_params planeParams;
    void *addr[4], *eglImage, *mappedReserved[4];
    void *paramex, *reserved[3];
};

struct surface {
    uint32_t gpuId, batchSize, numFilled;
    bool isContiguous;
    int memType;
    struct params *surfaceList;
    void *reserved[4];
};

struct egl_frame {
    void *planes[3];
    unsigned width, height, depth, pitch, planeCount, numChannels;
    int frameType, eglColorFormat, cuFormat;
};

/* What a test sets. */
struct params fake_params;
struct egl_frame fake_frame;
int fake_failing; /* which call fails, from 1 in the order of the functions below */

/* What a test reads. */
int fake_images, fake_resources;
char fake_calls[256];

static struct surface the_surface;
static int the_image, the_resource;

static int called(int number, const char *name) {
    strcat(strcat(fake_calls, name), " ");
    return fake_failing == number;
}

int NvBufSurfaceFromFd(int fd, void **buffer) {
    if (called(1, "from_fd")) return -1;
    (void)fd;
    memset(&the_surface, 0x5a, sizeof the_surface);
    the_surface.batchSize = 1;
    the_surface.surfaceList = &fake_params;
    *buffer = &the_surface;
    return 0;
}

int NvBufSurfaceMapEglImage(struct surface *surface, int index) {
    if (called(2, "map") || index != 0) return -1;
    surface->surfaceList[0].eglImage = &the_image;
    ++fake_images;
    return 0;
}

int cuGraphicsEGLRegisterImage(void **resource, void *image, unsigned flags) {
    if (called(3, "register")) return 999;
    if (image != &the_image || flags != 1) return 1;
    *resource = &the_resource;
    ++fake_resources;
    return 0;
}

int cuGraphicsResourceGetMappedEglFrame(struct egl_frame *frame, void *resource, unsigned index,
                                        unsigned level) {
    if (called(4, "frame")) return 999;
    if (resource != &the_resource || index != 0 || level != 0) return 1;
    *frame = fake_frame;
    return 0;
}

int cuGraphicsUnregisterResource(void *resource) {
    if (called(5, "unregister")) return 999;
    if (resource != &the_resource || fake_resources < 1) return 1;
    --fake_resources;
    return 0;
}

int NvBufSurfaceUnMapEglImage(struct surface *surface, int index) {
    if (called(6, "unmap")) return -1;
    if (surface != &the_surface || index != 0 || fake_images < 1) return -1;
    --fake_images;
    return 0;
}
