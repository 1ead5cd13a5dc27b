/* The rest of libnvbufsurface that the self-test calls: one NV12 buffer. The CPU writes to a copy, as
   through a cache, and what it wrote is on the device after a sync and not before. */

#include <stddef.h>

#include "../pixels/fake_nvmm.c"

enum { PITCH = 256, ROWS = 64, COLUMNS = 96, UV = PITCH * ROWS, ALL = UV + PITCH * ROWS / 2 };

struct create_params {
    uint32_t gpuId, width, height, size;
    bool isContiguous;
    int colorFormat, layout, memType;
};

uint8_t fake_device[ALL];
static uint8_t cpu_copy[ALL];

int fake_create_bytes = sizeof(struct create_params);
int fake_memory_offset = offsetof(struct create_params, memType);
int fake_buffers, fake_maps; /* how many are open */
/* What a test breaks: 0 nothing, 1 create, 2 map, 3 sync, 4 unmap and 5 destroy fail, 6 no addresses,
   7 a sync that moves nothing, 8 another width, 9 CUDA sees the second plane a row later. */
int fake_broken;

int NvBufSurfaceCreate(struct surface **surface, uint32_t batch, struct create_params *wanted) {
    if (fake_broken == 1 || batch != 1 || wanted->gpuId || wanted->size || wanted->isContiguous ||
        wanted->width != COLUMNS || wanted->height != ROWS || wanted->colorFormat != 6 ||
        wanted->layout != 0 || wanted->memType != 4)
        return -1;
    memset(fake_device, 0xEE, ALL);
    memset(cpu_copy, 0xEE, ALL);
    memset(&fake_params, 0, sizeof fake_params);
    fake_params.width = fake_broken == 8 ? COLUMNS - 2 : COLUMNS;
    fake_params.height = ROWS;
    fake_params.pitch = PITCH;
    fake_params.colorFormat = wanted->colorFormat;
    fake_params.bufferDesc = 42;
    fake_params.planeParams.num_planes = 2;
    for (int plane = 0; plane < 2; ++plane) {
        fake_params.planeParams.width[plane] = plane ? COLUMNS / 2 : COLUMNS;
        fake_params.planeParams.height[plane] = plane ? ROWS / 2 : ROWS;
        fake_params.planeParams.pitch[plane] = PITCH;
        fake_params.planeParams.offset[plane] = plane ? UV : 0;
    }
    memset(&fake_frame, 0, sizeof fake_frame);
    fake_frame.planes[0] = fake_device;
    fake_frame.planes[1] = fake_device + UV - (fake_broken == 9 ? PITCH : 0);
    fake_frame.width = COLUMNS;
    fake_frame.height = ROWS;
    fake_frame.pitch = PITCH;
    fake_frame.planeCount = 2;
    fake_frame.frameType = 1;
    the_surface.batchSize = 1;
    the_surface.surfaceList = &fake_params;
    ++fake_buffers;
    *surface = &the_surface;
    return 0;
}

int NvBufSurfaceMap(struct surface *surface, int index, int plane, int type) {
    if (fake_broken == 2 || surface != &the_surface || index != 0 || plane != -1 || type != 1)
        return -1;
    ++fake_maps;
    if (fake_broken == 6) return 0;
    fake_params.addr[0] = cpu_copy;
    fake_params.addr[1] = cpu_copy + UV;
    return 0;
}

int NvBufSurfaceSyncForDevice(struct surface *surface, int index, int plane) {
    if (fake_broken == 3 || surface != &the_surface || index != 0 || plane != -1) return -1;
    if (fake_broken != 7) memcpy(fake_device, cpu_copy, ALL);
    return 0;
}

int NvBufSurfaceUnMap(struct surface *surface, int index, int plane) {
    --fake_maps;
    return fake_broken == 4 || surface != &the_surface || index != 0 || plane != -1 ? -1 : 0;
}

int NvBufSurfaceDestroy(struct surface *surface) {
    --fake_buffers;
    return fake_broken == 5 || surface != &the_surface || fake_maps || fake_images ? -1 : 0;
}
