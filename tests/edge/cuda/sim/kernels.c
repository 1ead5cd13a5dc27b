// Kernels of the host for the simulated driver: what they were given, they write down.

// received(char *record, int8, int16, int32, int64, float16, float, double, bool, uint64)
const unsigned char received_host_sizes[] = {8, 1, 2, 4, 8, 2, 4, 8, 1, 8, 0};

static void put(char **to, const void *from, int size) {
    for (int i = 0; i < size; ++i) *(*to)++ = ((const char *)from)[i];
}
void received_host(const unsigned grid[3], const unsigned block[3], void **arguments) {
    char *record = *(char **)arguments[0];
    put(&record, grid, 12);
    put(&record, block, 12);
    for (int i = 1; received_host_sizes[i]; ++i) put(&record, arguments[i], received_host_sizes[i]);
}

// scaled(float *numbers, int count, float factor): one thread a number
const unsigned char scaled_host_sizes[] = {8, 4, 4, 0};
void scaled_host(const unsigned grid[3], const unsigned block[3], void **arguments) {
    float *numbers = *(float **)arguments[0];
    int count = *(int *)arguments[1];
    for (unsigned i = 0; i < grid[0] * block[0]; ++i)
        if ((int)i < count) numbers[i] *= *(float *)arguments[2];
}

// unsized(int *number): it does not say what it takes, so it cannot be recorded
void unsized_host(const unsigned grid[3], const unsigned block[3], void **arguments) {
    (void)grid, (void)block;
    ++**(int **)arguments[0];
}
