/* Vectors of 16 numbers in GCC's and clang's vector extension, whatever the processor has, and how weights become floats. */
#define LANES 16
#define INLINE static inline __attribute__((always_inline))
typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef int32_t words __attribute__((vector_size(64), aligned(4)));
typedef uint32_t bits __attribute__((vector_size(64), aligned(4)));
typedef uint16_t shorts __attribute__((vector_size(32), aligned(2)));
typedef int8_t bytes __attribute__((vector_size(16), aligned(1)));
#if defined __AVX512F__ && defined __AVX512BW__ && defined __AVX512VL__
#include <immintrin.h>
#define AVX512
enum { PARTS = 1 };
#elif defined __AVX2__ && defined __FMA__ && defined __F16C__
#include <immintrin.h>
#define AVX2_ONLY
enum { PARTS = 2 };
#elif defined __aarch64__
#include <arm_neon.h>
enum { PARTS = 4 };
#else
enum { PARTS = 1 };
#endif

/* The part of a vector of 16 that fits a register. Inner loops are written for parts, because compilers keep longer vectors in memory. */
enum { FEW = LANES / PARTS };
typedef float few __attribute__((vector_size(64 / PARTS), aligned(4)));
typedef int32_t few_words __attribute__((vector_size(64 / PARTS), aligned(4)));
typedef uint32_t few_bits __attribute__((vector_size(64 / PARTS), aligned(4)));
typedef uint16_t few_shorts __attribute__((vector_size(32 / PARTS), aligned(2)));
#ifndef AVX512
typedef _Float16 few_halves __attribute__((vector_size(32 / PARTS), aligned(2)));
#endif
#if defined AVX512 || defined __aarch64__
#define REGISTERS_32
#endif
#define UNROLL _Pragma("GCC unroll 4")
/* Load a vector once for several uses: GCC 12 would read it from memory at each. */
#ifdef AVX2_ONLY
#define IN_REGISTER(V) __asm__("" : "+x"(V))
#else
#define IN_REGISTER(V)
#endif
#define EACH_PART UNROLL for (int p = 0; p < PARTS; p++)

/* The sum of the 16 numbers. */
INLINE float total(const few *v) {
#ifdef AVX512
    return _mm512_reduce_add_ps((__m512)*v);
#elif defined AVX2_ONLY
    __m256 eight = _mm256_add_ps((__m256)v[0], (__m256)v[1]);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float sums[LANES];
    __builtin_memcpy(sums, v, sizeof sums);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
#endif
}

#ifdef AVX2_ONLY
/* The sums of 8 vectors, each bit for bit that of `total`. */
INLINE few totals_of_8(const few (*each)[PARTS]) {
    __m256 four[4], two[2];
#define EIGHT(I) _mm256_add_ps((__m256)each[I][0], (__m256)each[I][1])
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m256 a = EIGHT(i), b = EIGHT(i + 4);
        four[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    }
    UNROLL
    for (int i = 0; i < 2; i++)
        two[i] = _mm256_add_ps(_mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0x44),
                               _mm256_shuffle_ps(four[2 * i], four[2 * i + 1], 0xEE));
    return (few)_mm256_add_ps(_mm256_shuffle_ps(two[0], two[1], 0x88), _mm256_shuffle_ps(two[0], two[1], 0xDD));
}
#endif

/* The sums of 16 vectors, each bit for bit that of `total`: the additions of 16 trees are made side by side. */
INLINE void totals(const few (*each)[PARTS], few *found) {
#ifdef AVX512
    __m512 eight[8], four[4], two[2]; /* a vector has parts of 2, 4 and 8 sums; its order is mended by the order of reading */
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const int at = 2 * i;
        __m512 a = (__m512)*each[4 * (at % 4) + at / 4], b = (__m512)*each[4 * ((at + 1) % 4) + (at + 1) / 4];
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
    *found = (few)_mm512_add_ps(_mm512_shuffle_ps(two[0], two[1], 0x88), _mm512_shuffle_ps(two[0], two[1], 0xDD));
#elif defined AVX2_ONLY
    found[0] = totals_of_8(each), found[1] = totals_of_8(each + 8);
#else
    for (int i = 0; i < LANES; i++) ((float *)found)[i] = total(each[i]);
#endif
}

/* `a` where the condition holds (all bits set), `b` elsewhere. */
INLINE few choose(few_words condition, few a, few b) {
    return (few)(((few_words)a & condition) | ((few_words)b & ~condition));
}

/* The largest of the 16 numbers. */
INLINE float largest_of(const few *v) {
#ifdef AVX512
    return _mm512_reduce_max_ps((__m512)*v);
#else
    few most = v[0];
    for (int p = 1; p < PARTS; p++) most = choose(v[p] > most, v[p], most);
    float found = most[0];
    for (int i = 1; i < FEW; i++) found = most[i] > found ? most[i] : found;
    return found;
#endif
}

/* a * b + c, rounded once. */
INLINE few fused(few a, few b, few c) {
#if defined AVX512
    return (few)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined AVX2_ONLY
    return (few)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined __aarch64__
    return (few)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    for (int i = 0; i < FEW; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

/* The larger of `a` and the magnitude of `b`. */
INLINE few larger(few a, few b) {
    few magnitude = (few)((few_bits)b & 0x7FFFFFFF);
    return choose(magnitude > a, magnitude, a);
}

/* Round to integers, halves to even as torch.round does. The magnitude must be below 2^22. */
INLINE few nearest(few v) { return v + 12582912.0f - 12582912.0f; }

/* Some weights of a row, from number `at` on, as floats. */
typedef few reader(const char *row, long at);

INLINE few read_fp32(const char *row, long at) { return *(const few *)(row + 4 * at); }

INLINE few read_bf16(const char *row, long at) {
    return (few)(__builtin_convertvector(*(const few_shorts *)(row + 2 * at), few_bits) << 16);
}

INLINE few read_fp16(const char *row, long at) {
#if defined AVX512 /* GCC 12 converts one number at a time unless it is given the instruction */
    return (few)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 2 * at)));
#elif defined AVX2_ONLY
    return (few)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * at)));
#else
    return __builtin_convertvector(*(const few_halves *)(row + 2 * at), few);
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
