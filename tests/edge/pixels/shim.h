// CUDA's words for a C++ compiler of the host: a kernel is a function, a launch is a loop.
//
// HOST_ENTRY(name) defines name_host(grid, block, arguments), as cuLaunchKernel takes them: each
// argument is a pointer to a value of exactly the parameter's type, which is read off the kernel.

#ifndef SHIM_H_
#define SHIM_H_

#define __global__
#define __device__

struct Index {
    unsigned x, y, z;
};

#if __cplusplus >= 201103L  // what follows is the test's; the kernel itself is older C++

#include <cstddef>

static thread_local Index blockIdx, threadIdx, blockDim, gridDim;

template <std::size_t... I>
struct Places {};
template <std::size_t N, std::size_t... I>
struct Counted : Counted<N - 1, N - 1, I...> {};
template <std::size_t... I>
struct Counted<0, I...> {
    typedef Places<I...> type;
};

template <class... Parameters, std::size_t... I>
static void call(void (*kernel)(Parameters...), void **arguments, Places<I...>) {
    kernel(*static_cast<Parameters *>(arguments[I])...);
}

template <class... Parameters>
static void launch(void (*kernel)(Parameters...), const unsigned grid[3], const unsigned block[3],
                   void **arguments) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
                for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x)
                            call(kernel, arguments,
                                 typename Counted<sizeof...(Parameters)>::type());
}

#define HOST_ENTRY(name)                                                            \
    extern "C" void name##_host(const unsigned grid[3], const unsigned block[3],    \
                                void **arguments) {                                 \
        launch(name, grid, block, arguments);                                       \
    }

#else

static Index blockIdx, threadIdx, blockDim;

#endif

#endif
