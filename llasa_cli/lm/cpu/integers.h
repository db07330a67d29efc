/* Products of 16-bit integers, summed in 32 bits: lane l of 16 sums gets the products of the numbers 2 l and 2 l + 1 of each 32. Sums of
 * integers are exact, so all processors give the same bits, with the instructions that each has.
 */
#if defined __AVX512BW__ && defined __AVX512VL__
typedef __m512i pairs;    /* 32 int16 */
typedef __m512i integers; /* 16 int32 */

INLINE integers zero(void) { return _mm512_setzero_si512(); }
INLINE pairs read_pairs(const void *from) { return _mm512_loadu_si512(from); }
INLINE integers read_integers(const void *from) { return _mm512_loadu_si512(from); }
INLINE integers plus(integers a, integers b) { return _mm512_add_epi32(a, b); }
INLINE integers sixteenth(integers a) { return _mm512_srai_epi32(a, 4); }
INLINE pairs masked(pairs a, int16_t mask) { return _mm512_and_si512(a, _mm512_set1_epi16(mask)); }
INLINE pairs shifted(pairs a, const int n) { return _mm512_srli_epi16(a, n); }
INLINE pairs minus_8(pairs a) { return _mm512_sub_epi16(a, _mm512_set1_epi16(8)); }
INLINE integers add_products(integers sums, pairs a, pairs b) {
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(sums, a, b);
#else
    return plus(sums, _mm512_madd_epi16(a, b));
#endif
}
/* The same for sums and factors that stay in registers: GCC 12 moves many sums to and fro around the intrinsic. */
INLINE void accumulate(integers *sums, pairs a, pairs b) {
#ifdef __AVX512VNNI__
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sums) : "v"(a), "v"(b));
#else
    *sums = add_products(*sums, a, b);
#endif
}
/* sums += found * scale, where a `grouped` product has a scale for each lane as well. */
INLINE void add_scaled(floats *sums, integers found, const int grouped, const floats *scales, float scale) {
    __m512 by = _mm512_set1_ps(scale);
    if (grouped) by = _mm512_mul_ps((__m512)*scales, by);
    *sums = (floats)_mm512_fmadd_ps(_mm512_cvtepi32_ps(found), by, (__m512)*sums);
}
/* 32 int8, or 16 and zeros. */
INLINE pairs widen_bytes(const void *from, long count) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi32(count < 32 ? 0xF : 0xFF, from));
}
INLINE pairs widen_32_bytes(const void *from) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(from)); }
/* Round to integers, halves to even. */
INLINE words rounded(floats v) { return (words)_mm512_cvtps_epi32((__m512)v); }
INLINE shorts narrowed(words v) { return (shorts)_mm512_cvtepi32_epi16((__m512i)v); }

#else
#if defined __AVX2__ && defined __FMA__
#include <immintrin.h>
enum { PARTS = 2 };
typedef __m256i part;
#define part_zero _mm256_setzero_si256()
#define part_read(FROM) _mm256_loadu_si256((const void *)(FROM))
#define part_add(A, B) _mm256_add_epi32(A, B)
#define part_sixteenth(A) _mm256_srai_epi32(A, 4)
#define part_masked(A, MASK) _mm256_and_si256(A, _mm256_set1_epi16(MASK))
#define part_shifted(A, N) _mm256_srli_epi16(A, N)
#define part_minus_8(A) _mm256_sub_epi16(A, _mm256_set1_epi16(8))
#if defined __AVXVNNI__
#define part_products(SUMS, A, B) _mm256_dpwssd_avx_epi32(SUMS, A, B)
#else
#define part_products(SUMS, A, B) _mm256_add_epi32(SUMS, _mm256_madd_epi16(A, B))
#endif
#define part_widen(FROM) _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(FROM)))
#define part_rounded(FROM) _mm256_cvtps_epi32(_mm256_loadu_ps(FROM))
INLINE void part_add_scaled(float *sums, part found, const float *scales, float scale) {
    __m256 by = _mm256_set1_ps(scale);
    if (scales) by = _mm256_mul_ps(_mm256_loadu_ps(scales), by);
    _mm256_storeu_ps(sums, _mm256_fmadd_ps(_mm256_cvtepi32_ps(found), by, _mm256_loadu_ps(sums)));
}
#elif defined __aarch64__
#include <arm_neon.h>
enum { PARTS = 4 };
typedef int16x8_t part; /* or int32x4_t, by a cast */
#define part_zero vdupq_n_s16(0)
#define part_read(FROM) vld1q_s16((const int16_t *)(FROM))
#define part_add(A, B) (part) vaddq_s32((int32x4_t)(A), (int32x4_t)(B))
#define part_sixteenth(A) (part) vshrq_n_s32((int32x4_t)(A), 4)
#define part_masked(A, MASK) vandq_s16(A, vdupq_n_s16(MASK))
#define part_shifted(A, N) (part) vshlq_u16((uint16x8_t)(A), vdupq_n_s16(-(N)))
#define part_minus_8(A) vsubq_s16(A, vdupq_n_s16(8))
INLINE part part_products(part sums, part a, part b) {
    int32x4_t low = vmull_s16(vget_low_s16(a), vget_low_s16(b)), high = vmull_high_s16(a, b);
    return (part)vaddq_s32((int32x4_t)sums, vpaddq_s32(low, high));
}
#define part_widen(FROM) vmovl_s8(vld1_s8((const int8_t *)(FROM)))
#define part_rounded(FROM) (part) vcvtnq_s32_f32(vld1q_f32(FROM))
INLINE void part_add_scaled(float *sums, part found, const float *scales, float scale) {
    float32x4_t by = vdupq_n_f32(scale);
    if (scales) by = vmulq_f32(vld1q_f32(scales), by);
    vst1q_f32(sums, vfmaq_f32(vld1q_f32(sums), vcvtq_f32_s32((int32x4_t)found), by));
}
#else
enum { PARTS = 1 };
typedef struct {
    int16_t numbers[32];
} part;
typedef union {
    part all;
    int32_t words[16];
} part_words;
static const part part_zero;
#define part_read(FROM) (*(const part *)(FROM))
#define PART_WORDS(A, EXPRESSION)                                                                                      \
    part_words to, from = {A};                                                                                         \
    for (int i = 0; i < 16; i++) to.words[i] = EXPRESSION;                                                             \
    return to.all
#define PART_NUMBERS(EXPRESSION)                                                                                       \
    part to;                                                                                                           \
    for (int i = 0; i < 32; i++) to.numbers[i] = EXPRESSION;                                                           \
    return to
INLINE part part_add(part a, part b) {
    part_words other = {b};
    PART_WORDS(a, from.words[i] + other.words[i]);
}
INLINE part part_sixteenth(part a) { PART_WORDS(a, from.words[i] >> 4); }
INLINE part part_masked(part a, int16_t mask) { PART_NUMBERS(a.numbers[i] & mask); }
INLINE part part_shifted(part a, const int n) { PART_NUMBERS((uint16_t)a.numbers[i] >> n); }
INLINE part part_minus_8(part a) { PART_NUMBERS(a.numbers[i] - 8); }
INLINE part part_products(part sums, part a, part b) {
    PART_WORDS(sums, from.words[i] + a.numbers[2 * i] * b.numbers[2 * i] + a.numbers[2 * i + 1] * b.numbers[2 * i + 1]);
}
INLINE part part_widen(const void *bytes) { PART_NUMBERS(((const int8_t *)bytes)[i]); }
INLINE part part_rounded(const float *numbers) { PART_WORDS(part_zero, (int32_t)__builtin_rintf(numbers[i])); }
INLINE void part_add_scaled(float *sums, part found, const float *scales, float scale) {
    part_words from = {found};
    for (int i = 0; i < 16; i++) sums[i] = __builtin_fmaf(from.words[i], scales ? scales[i] * scale : scale, sums[i]);
}
#endif

typedef struct {
    part part[PARTS];
} pairs;
typedef pairs integers;
enum { PART_BYTES = 64 / PARTS };

#define PARTWISE(EXPRESSION)                                                                                           \
    pairs result;                                                                                                      \
    _Pragma("GCC unroll 4") for (int p = 0; p < PARTS; p++) result.part[p] = EXPRESSION;                               \
    return result

INLINE integers zero(void) { PARTWISE(part_zero); }
INLINE pairs read_pairs(const void *from) { PARTWISE(part_read((const char *)from + p * PART_BYTES)); }
INLINE integers read_integers(const void *from) { return read_pairs(from); }
INLINE integers plus(integers a, integers b) { PARTWISE(part_add(a.part[p], b.part[p])); }
INLINE integers sixteenth(integers a) { PARTWISE(part_sixteenth(a.part[p])); }
INLINE pairs masked(pairs a, int16_t mask) { PARTWISE(part_masked(a.part[p], mask)); }
INLINE pairs shifted(pairs a, const int n) { PARTWISE(part_shifted(a.part[p], n)); }
INLINE pairs minus_8(pairs a) { PARTWISE(part_minus_8(a.part[p])); }
INLINE integers add_products(integers sums, pairs a, pairs b) {
    PARTWISE(part_products(sums.part[p], a.part[p], b.part[p]));
}
INLINE void accumulate(integers *sums, pairs a, pairs b) { *sums = add_products(*sums, a, b); }
/* sums += found * scale, where a `grouped` product has a scale for each lane as well. */
INLINE void add_scaled(floats *sums, integers found, const int grouped, const floats *scales, float scale) {
#pragma GCC unroll 4
    for (int p = 0; p < PARTS; p++) {
        const int at = p * (LANES / PARTS);
        part_add_scaled((float *)sums + at, found.part[p], grouped ? (const float *)scales + at : 0, scale);
    }
}
INLINE pairs widen_32_bytes(const void *from) { PARTWISE(part_widen((const char *)from + p * (PART_BYTES / 2))); }
/* 32 int8, or 16 and zeros. */
INLINE pairs widen_bytes(const void *from, long count) {
    if (count >= 32) return widen_32_bytes(from);
    char some[32] = {0};
    __builtin_memcpy(some, from, 16);
    return widen_32_bytes(some);
}
/* Round to integers, halves to even. */
INLINE words rounded(floats v) {
    words to;
#pragma GCC unroll 4
    for (int p = 0; p < PARTS; p++) ((part *)&to)[p] = part_rounded((const float *)&v + p * (LANES / PARTS));
    return to;
}
INLINE shorts narrowed(words v) { return __builtin_convertvector(v, shorts); }
#endif
