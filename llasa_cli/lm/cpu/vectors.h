/* Vectors of 16 numbers in GCC's and clang's vector extension, whatever the processor has, and how weights become floats. */
#define LANES 16
#define INLINE static inline __attribute__((always_inline))
typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef int32_t words __attribute__((vector_size(64), aligned(4)));
typedef uint32_t bits __attribute__((vector_size(64), aligned(4)));
typedef uint16_t shorts __attribute__((vector_size(32), aligned(2)));
typedef int8_t bytes __attribute__((vector_size(16), aligned(1)));
#ifdef __AVX512F__
#include <immintrin.h>
#else
typedef _Float16 halves __attribute__((vector_size(32), aligned(2)));
#endif

/* The sum of the 16 numbers. */
INLINE float total(floats v) {
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)v);
#else
    float sums[LANES];
    __builtin_memcpy(sums, &v, sizeof sums);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
#endif
}

/* The sums of 16 vectors, each bit for bit that of `total`: the additions of 16 trees are made side by side. */
INLINE floats totals(const floats *each) {
#ifdef __AVX512F__
    __m512 eight[8], four[4], two[2]; /* a vector has parts of 2, 4 and 8 sums; its order is mended by the order of reading */
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int at = 2 * i;
        __m512 a = (__m512)each[4 * (at % 4) + at / 4], b = (__m512)each[4 * ((at + 1) % 4) + (at + 1) / 4];
        eight[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        four[i] = _mm512_add_ps(_mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0x88),
                                _mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0xDD));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        two[i] = _mm512_add_ps(_mm512_shuffle_ps(four[2 * i], four[2 * i + 1], 0x44),
                               _mm512_shuffle_ps(four[2 * i], four[2 * i + 1], 0xEE));
    return (floats)_mm512_add_ps(_mm512_shuffle_ps(two[0], two[1], 0x88), _mm512_shuffle_ps(two[0], two[1], 0xDD));
#else
    floats found;
    for (int i = 0; i < LANES; i++) found[i] = total(each[i]);
    return found;
#endif
}

/* `a` where the condition holds (all bits set), `b` elsewhere. */
INLINE floats choose(words condition, floats a, floats b) {
    return (floats)(((words)a & condition) | ((words)b & ~condition));
}

/* The largest of the 16 numbers. */
INLINE float largest_of(floats v) {
#ifdef __AVX512F__
    return _mm512_reduce_max_ps((__m512)v);
#else
    float found = v[0];
    for (int i = 1; i < LANES; i++) found = v[i] > found ? v[i] : found;
    return found;
#endif
}

/* The larger of `a` and the magnitude of `b`. */
INLINE floats larger(floats a, floats b) {
    floats magnitude = (floats)((bits)b & 0x7FFFFFFF);
    return choose(magnitude > a, magnitude, a);
}

/* Round to integers, halves to even as torch.round does. The magnitude must be below 2^22. */
INLINE floats nearest(floats v) { return v + 12582912.0f - 12582912.0f; }

/* Floats that are integers -> int8. */
INLINE bytes narrow(floats v) {
#ifdef __AVX512F__ /* GCC 12 narrows one number at a time unless it is given the instruction */
    return (bytes)_mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)v));
#else
    return __builtin_convertvector(__builtin_convertvector(v, words), bytes);
#endif
}

/* 16 weights of a row, starting with number `at`, as floats. */
typedef floats reader(const char *row, long at);

INLINE floats read_fp32(const char *row, long at) { return *(const floats *)(row + 4 * at); }

INLINE floats read_bf16(const char *row, long at) {
    return (floats)(__builtin_convertvector(*(const shorts *)(row + 2 * at), bits) << 16);
}

INLINE floats read_fp16(const char *row, long at) {
#ifdef __AVX512F__ /* GCC 12 converts one number at a time unless it is given the instruction */
    return (floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 2 * at)));
#else
    return __builtin_convertvector(*(const halves *)(row + 2 * at), floats);
#endif
}

/* The int4 layout. A block of 128 weights is 16 words; bits 4 n to 4 n + 3 of word l hold weight 16 n + l, as 0 to 15 for
 * -8 to 7. A span of 4 blocks has 16 bfloat16 scales, one for each l: a group that shares a scale is 32 weights, 16 apart, so
 * that a vector of scales matches a vector of sums. The last span of a row may have fewer blocks. The stored scales are
 * 16 times the real ones. */
enum { BLOCK = 8 * LANES, BLOCKS = 4, SPAN = BLOCK * BLOCKS, MAX_SPANS = 64 };

/* The layouts of GGUF's Q8_0 and Q4_0, whose groups are 32 neighbors with a float16 scale. Rows are padded to whole spans, and in
 * a span the 16 groups become the lanes of a vector, so that a vector of scales matches a vector of sums. Number i of group g
 * is stored as number 16 i + g of the int4 layout; in q8_0, where sums are made of pairs, pair i of group g is pair
 * 16 i + g of the int8 layout. The states are sorted in the same way. */
enum { GROUP = 32 };
