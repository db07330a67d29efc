/* Products of 16-bit integers, summed in 32 bits: lane l of 16 sums gets the products of the numbers 2 l and 2 l + 1 of each 32. Sums of
 * integers are exact, so all processors give the same bits, with the instructions that each has.
 */
#ifdef AVX512
typedef __m512i part;
typedef __m512i pairs;    /* 32 int16 */
typedef __m512i integers; /* 16 int32 */

INLINE integers zero(void) { return _mm512_setzero_si512(); }
INLINE pairs read_pairs(const void *from) { return _mm512_loadu_si512(from); }
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
#define PART(VECTOR, P) (VECTOR)
#define part_zero zero()
#define part_read(FROM) read_pairs(FROM)
#define part_add plus
#define part_sixteenth sixteenth
#define part_masked masked
#define part_shifted shifted
#define part_widen widen_32_bytes
#define part_accumulate accumulate
INLINE few part_to_floats(part found) { return (few)_mm512_cvtepi32_ps(found); }
/* 32 int8, or 16 and zeros. */
INLINE pairs widen_bytes(const void *from, long count) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi32(count < 32 ? 0xF : 0xFF, from));
}
INLINE pairs widen_32_bytes(const void *from) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(from)); }

#else
#ifdef AVX2_ONLY
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
INLINE few part_to_floats(part found) { return (few)_mm256_cvtepi32_ps(found); }
#elif defined __aarch64__
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
INLINE few part_to_floats(part found) { return (few)vcvtq_f32_s32((int32x4_t)found); }
#else
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
INLINE few part_to_floats(part found) { return __builtin_convertvector(*(few_words *)&found, few); }
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
INLINE integers plus(integers a, integers b) { PARTWISE(part_add(a.part[p], b.part[p])); }
INLINE integers sixteenth(integers a) { PARTWISE(part_sixteenth(a.part[p])); }
INLINE pairs masked(pairs a, int16_t mask) { PARTWISE(part_masked(a.part[p], mask)); }
INLINE pairs shifted(pairs a, const int n) { PARTWISE(part_shifted(a.part[p], n)); }
INLINE pairs minus_8(pairs a) { PARTWISE(part_minus_8(a.part[p])); }
INLINE integers add_products(integers sums, pairs a, pairs b) {
    PARTWISE(part_products(sums.part[p], a.part[p], b.part[p]));
}
#define PART(VECTOR, P) ((VECTOR).part[P])
/* The same for sums and factors that stay in registers: GCC 12 makes more products at once than there are registers. */
INLINE void part_accumulate(part *sums, part a, part b) {
#if defined AVX2_ONLY && !defined __AVXVNNI__
    part products = _mm256_madd_epi16(a, b);
    __asm__("vpaddd %1, %0, %0" : "+x"(*sums) : "x"(products));
#else
    *sums = part_products(*sums, a, b);
#endif
}
INLINE pairs widen_32_bytes(const void *from) { PARTWISE(part_widen((const char *)from + p * (PART_BYTES / 2))); }
/* 32 int8, or 16 and zeros. */
INLINE pairs widen_bytes(const void *from, long count) {
    if (count >= 32) return widen_32_bytes(from);
    char some[32] = {0};
    __builtin_memcpy(some, from, 16);
    return widen_32_bytes(some);
}
#endif

/* sum + found * scale, where a `grouped` product has a scale for each lane as well. */
INLINE few part_scaled(few sum, part found, const int grouped, few scales, float scale) {
    few by = scale - (few){0};
    if (grouped) by = scales * by;
    return fused(part_to_floats(found), by, sum);
}

INLINE void add_scaled(few *sums, integers found, const int grouped, const few *scales, float scale) {
    EACH_PART sums[p] = part_scaled(sums[p], PART(found, p), grouped, scales[p], scale);
}

/* Round to integers, halves to even. */
INLINE few_words rounded(few v) {
#if defined AVX512
    return (few_words)_mm512_cvtps_epi32((__m512)v);
#elif defined AVX2_ONLY
    return (few_words)_mm256_cvtps_epi32((__m256)v);
#elif defined __aarch64__
    return (few_words)vcvtnq_s32_f32((float32x4_t)v);
#else
    few_words to;
    for (int i = 0; i < FEW; i++) to[i] = (int32_t)__builtin_rintf(v[i]);
    return to;
#endif
}

/* 16 numbers that fit 16 bits. */
INLINE shorts narrowed(const few_words *v) {
#if defined AVX512
    return (shorts)_mm512_cvtepi32_epi16((__m512i)*v);
#elif defined AVX2_ONLY
    return (shorts)_mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]), 0xD8);
#else
    return __builtin_convertvector(*(const words *)v, shorts);
#endif
}

/* 16 numbers that fit 8 bits. */
INLINE bytes narrowed_to_bytes(const few_words *v) {
#ifdef AVX512 /* GCC 12 narrows one number at a time unless it is given the instruction */
    return (bytes)_mm512_cvtepi32_epi8((__m512i)*v);
#else
    return __builtin_convertvector(narrowed(v), bytes);
#endif
}
