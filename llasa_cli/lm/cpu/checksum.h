/* A checksum of packed weights, at the speed of the memory. Each block of 1 MB has two sums for each of 8 lanes of 64 bits: of its
 * numbers, which any single change changes, and of these sums so far, which depends on the order. */
typedef uint64_t longs __attribute__((vector_size(64), aligned(8)));
enum { SUM_BLOCK = 1 << 20 };

static uint64_t mixed(uint64_t sum, uint64_t more) {
    sum = (sum ^ more) * 0x9E3779B97F4A7C15;
    return sum ^ sum >> 32;
}

uint64_t checksum(const char *data, long size) {
    uint64_t found = size;
    long count = (size + SUM_BLOCK - 1) / SUM_BLOCK;
    uint64_t *of_block = malloc(8 * count + 8);
#pragma omp parallel for schedule(static)
    for (long block = 0; block < count; block++) {
        const char *at = data + block * SUM_BLOCK, *end = data + size;
        if (end - at > SUM_BLOCK) end = at + SUM_BLOCK;
        longs sums = {0}, ordered = {0}, rest = {0};
        for (; end - at >= sizeof sums; at += sizeof sums) sums += *(const longs *)at, ordered += sums;
        __builtin_memcpy(&rest, at, end - at);
        sums += rest, ordered += sums;
        of_block[block] = 0;
        for (int i = 0; i < 8; i++) of_block[block] = mixed(mixed(of_block[block], sums[i]), ordered[i]);
    }
    for (long block = 0; block < count; block++) found = mixed(found, of_block[block]);
    free(of_block);
    return found;
}
