// calib.preprocess on a GPU: a camera's frame -> the numbers a network reads, bit for bit.
//
// One thread makes one pixel of the network's input, all three channels. There is no floating-point
// operation in this file. The resize is the integers of calib/resize.py, its taps are made on the
// host; (value - mean) / std is a table of 256 numbers a channel, made on the host, whose bits are
// copied: 32 for float32, 16 for float16. So no compiler flag, fused multiply-add or rounding mode
// of a device can change a result.
//
// It is C++98 (and `long long`) without a single header, because NVRTC finds none of the host's, and
// its default dialect depends on the version: CUDA 10.2 (JetPack 4) to CUDA 13 (JetPack 7).

typedef unsigned char byte;
typedef unsigned int float_bits;
typedef unsigned short half_bits;
typedef long long offset_t;

// Where the resized frame lies in the network's input, and what surrounds it.
struct Canvas {
    int height, width;  // of the network's input
    int top, left, rows, columns;  // of the resized frame in it
    int pad_value;
    int swap;  // 1: the network reads RGB, 0: BGR
};

// A frame of interleaved B, G, R; `pitch` bytes from row to row.
struct Bgr {
    const byte *pixels;
    int pitch;

    __device__ void read(int y, int x, int *bgr) const {
        const byte *pixel = pixels + (offset_t)y * pitch + 3 * x;
        for (int channel = 0; channel < 3; ++channel) bgr[channel] = pixel[channel];
    }
};

// A frame of NV12: a plane of Y, and one of U, V pairs of half its size, each for 2 x 2 pixels.
// `matrix`: black level of Y, then Y to all, V to red, U to green, V to green, U to blue, times 2^20.
struct Nv12 {
    const byte *luma;
    int luma_pitch;
    const byte *chroma;
    int chroma_pitch;
    const int *matrix;

    static __device__ int grey(int value) {
        value = value < 0 ? 0 : value >> 20;
        return value > 255 ? 255 : value;
    }

    __device__ void read(int y, int x, int *bgr) const {
        const byte *pair = chroma + (offset_t)(y >> 1) * chroma_pitch + (x & ~1);
        const int u = pair[0] - 128;
        const int v = pair[1] - 128;
        const int above = luma[(offset_t)y * luma_pitch + x] - matrix[0];
        const int bright = (above < 0 ? 0 : above) * matrix[1] + (1 << 19);
        bgr[0] = grey(bright + matrix[5] * u);
        bgr[1] = grey(bright + matrix[3] * u + matrix[4] * v);
        bgr[2] = grey(bright + matrix[2] * v);
    }
};

// One pixel of the resized frame. `rows` and `columns`: all low sources, all high ones, all weights
// of the low ones, all weights of the high ones.
template <class Frame>
__device__ void mix(const Frame &frame, const int *rows, int count_rows, const int *columns,
                    int count_columns, int y, int x, int *bgr) {
    const int top = rows[y];
    const int bottom = rows[count_rows + y];
    const int left = columns[x];
    const int right = columns[count_columns + x];
    int top_left[3], top_right[3], bottom_left[3], bottom_right[3];
    frame.read(top, left, top_left);
    frame.read(top, right, top_right);
    frame.read(bottom, left, bottom_left);
    frame.read(bottom, right, bottom_right);
    const int top_weight = rows[2 * count_rows + y];
    const int bottom_weight = rows[3 * count_rows + y];
    const int left_weight = columns[2 * count_columns + x];
    const int right_weight = columns[3 * count_columns + x];
    for (int channel = 0; channel < 3; ++channel) {
        const int above = top_left[channel] * left_weight + top_right[channel] * right_weight;
        const int below = bottom_left[channel] * left_weight + bottom_right[channel] * right_weight;
        const int upper = ((above >> 4) * top_weight) >> 16;
        const int lower = ((below >> 4) * bottom_weight) >> 16;
        bgr[channel] = (upper + lower + 2) >> 2;
    }
}

// One pixel of the network's input: three planes, one after the other.
template <class Frame, class Bits>
__device__ void prepare(const Frame &frame, const Canvas &canvas, const int *rows,
                        const int *columns, const Bits *tables, Bits *out) {
    const int x = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int y = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= canvas.width || y >= canvas.height) return;
    int bgr[3] = {canvas.pad_value, canvas.pad_value, canvas.pad_value};
    const int row = y - canvas.top;
    const int column = x - canvas.left;
    if (row >= 0 && row < canvas.rows && column >= 0 && column < canvas.columns)
        mix(frame, rows, canvas.rows, columns, canvas.columns, row, column, bgr);
    const offset_t plane = (offset_t)canvas.height * canvas.width;
    const offset_t place = (offset_t)y * canvas.width + x;
    for (int channel = 0; channel < 3; ++channel) {
        const int value = canvas.swap ? bgr[2 - channel] : bgr[channel];
        out[channel * plane + place] = tables[256 * channel + value];
    }
}

#define CANVAS_PARAMETERS                                                                       \
    const int *rows, const int *columns, int height, int width, int top, int left,              \
        int placed_rows, int placed_columns, int pad_value, int swap
#define CANVAS {height, width, top, left, placed_rows, placed_columns, pad_value, swap}

#define BGR_KERNEL(name, Bits)                                                                  \
    extern "C" __global__ void name(const byte *pixels, int pitch, CANVAS_PARAMETERS,           \
                                    const Bits *tables, Bits *out) {                            \
        const Bgr frame = {pixels, pitch};                                                      \
        const Canvas canvas = CANVAS;                                                           \
        prepare(frame, canvas, rows, columns, tables, out);                                     \
    }

#define NV12_KERNEL(name, Bits)                                                                 \
    extern "C" __global__ void name(const byte *luma, int luma_pitch, const byte *chroma,       \
                                    int chroma_pitch, const int *matrix, CANVAS_PARAMETERS,     \
                                    const Bits *tables, Bits *out) {                            \
        const Nv12 frame = {luma, luma_pitch, chroma, chroma_pitch, matrix};                    \
        const Canvas canvas = CANVAS;                                                           \
        prepare(frame, canvas, rows, columns, tables, out);                                     \
    }

BGR_KERNEL(bgr_to_float32, float_bits)
BGR_KERNEL(bgr_to_float16, half_bits)
NV12_KERNEL(nv12_to_float32, float_bits)
NV12_KERNEL(nv12_to_float16, half_bits)
