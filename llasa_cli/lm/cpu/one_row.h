/* One row of states with rows of weights, in one stream each, the order in which memory is quickest.
 *
 * What is computed with a weight must take less time than reading it, with one thread as well, which reads the most a
 * thread. Where the processor has instructions for it, whole numbers are multiplied as such, by states of 16 bit (with a
 * scale for each 512: as good as exact), and bfloat16 by states of two bfloat16 parts (as good as exact, too).
 */
enum kind { kind_fp32, kind_bf16, kind_fp16, kind_int8, kind_int4 };
enum { WIDEST = 32768, PIECE = 2048 }; /* WIDEST = SPAN * MOST_SPANS */

typedef struct {
    long kind, rows, width;
    const void *weights, *scales;
} matrix;

/* A row of states, as the kinds of weights want it. What is behind its end is 0, up to a whole span. */
typedef struct {
    floats plain[WIDEST / LANES];
    shorts numbers[2][WIDEST / LANES]; /* bf16: the high parts, the low parts; int8, int4: whole numbers */
    float scales[MOST_SPANS];          /* of whole numbers */
    floats excess[MOST_SPANS];         /* int4: what its being 0 to 15 for -8 to 7 adds; of whole numbers: in words */
} row;

#if defined __AVX512BF16__
#define PARTS_BF16
#endif
#if defined __AVX512VNNI__ && defined __AVX512BW__ && defined __AVX512VL__
#define WHOLE_STATES
#endif

static _Thread_local row states_here __attribute__((aligned(64))); /* a load across two cache lines takes two */

/* This thread's. Where it lies is kept from the compiler, which else asks for it, by a call, at each use. */
INLINE row *own_states(void) {
    row *here = &states_here;
    __asm__("" : "+r"(here));
    return here;
}

INLINE void prepare_bf16(row *states, long width) {
#ifdef PARTS_BF16
    for (long i = 0; i < width / LANES; i++) {
        __m256bh high = _mm512_cvtneps_pbh((__m512)states->plain[i]);
        floats kept = (floats)(__builtin_convertvector((shorts)high, bits) << 16);
        states->numbers[0][i] = (shorts)high;
        states->numbers[1][i] = (shorts)_mm512_cvtneps_pbh((__m512)(states->plain[i] - kept));
    }
#endif
}

INLINE void prepare_whole(row *states, long width, const int is_int4) {
    for (long span = 0; span * SPAN < width; span++) {
        floats *plain = states->plain + span * (SPAN / LANES);
#ifdef WHOLE_STATES
        floats most = {0}, unsound = {0}; /* not a number, if one of them is none, or infinite */
        for (int i = 0; i < SPAN / LANES; i++) most = larger(most, plain[i]), unsound += plain[i] * 0;
        float largest = _mm512_reduce_max_ps((__m512)most) + 1e-30f;
        words whole[SPAN / LANES], all = {0};
        for (int i = 0; i < SPAN / LANES; i++) {
            whole[i] = (words)_mm512_cvtps_epi32((__m512)(plain[i] * (32767 / largest)));
            all += whole[i];
        }
        states->scales[span] = (largest / 32767 + total(unsound)) * (is_int4 ? 0.0625f : 1);
        shorts *numbers = states->numbers[0] + span * (SPAN / LANES);
        if (is_int4) { /* two of the same lane beside each other: of vectors n and n + 4 */
            states->excess[span] = (floats)(all * -8);
            for (int block = 0; block < BLOCKS; block++)
                for (int n = 0; n < 4; n++)
                    *(words *)(numbers + block * 8 + n * 2) =
                        (whole[block * 8 + n] & 0xFFFF) | whole[block * 8 + n + 4] << 16;
        } else
            for (int i = 0; i < SPAN / LANES; i++) numbers[i] = (shorts)_mm512_cvtepi32_epi16((__m512i)whole[i]);
#else
        floats sum = {0};
        for (int i = 0; i < SPAN / LANES; i++) sum += plain[i];
        states->excess[span] = sum * -1.5f;
#endif
    }
}

/* For a product with `by`; the first `width` of `plain` are the states. */
INLINE void prepare(row *states, long width, const matrix *by) {
    long whole = (by->width + SPAN - 1) / SPAN * SPAN;
    for (long i = width / LANES; i < whole / LANES; i++) states->plain[i] = (floats){0};
    if (by->kind == kind_bf16) prepare_bf16(states, whole);
    if (by->kind == kind_int8) prepare_whole(states, whole, 0);
    if (by->kind == kind_int4) prepare_whole(states, whole, 1);
}

/* With 4 sums, because an addition takes 4 cycles. Weights of `bytes` each; what is `ahead` bytes behind is wanted next. */
INLINE float dot(reader *read, const floats *plain, const char *weights, long width, const int bytes, long ahead) {
    floats sums[4] = {0};
    long at = 0;
    for (; at + 4 * LANES <= width; at += 4 * LANES) {
        for (int i = 0; i < bytes; i++) __builtin_prefetch(weights + bytes * at + 64 * i + ahead);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) sums[i] += read(weights, at + i * LANES) * plain[at / LANES + i];
    }
    for (; at < width; at += LANES) sums[0] += read(weights, at) * plain[at / LANES];
    return total(sums[0] + sums[1] + (sums[2] + sums[3]));
}

INLINE float dot_fp32(const row *states, long from, const char *weights, long width, long ahead) {
    return dot(read_fp32, states->plain + from / LANES, weights, width, 4, ahead);
}

INLINE float dot_fp16(const row *states, long from, const char *weights, long width, long ahead) {
    return dot(read_fp16, states->plain + from / LANES, weights, width, 2, ahead);
}

INLINE float dot_bf16(const row *states, long from, const char *weights, long width, long ahead) {
#ifdef PARTS_BF16
    __m512 sums[4] = {0};
    const char *high = (const char *)(states->numbers[0] + from / LANES);
    const char *low = (const char *)(states->numbers[1] + from / LANES);
    long at = 0, bytes = 2 * width;
    for (; at + 128 <= bytes; at += 128)
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m512bh weight = (__m512bh)_mm512_loadu_si512(weights + at + 64 * i);
            __builtin_prefetch(weights + at + 64 * i + ahead);
            sums[i] = _mm512_dpbf16_ps(sums[i], weight, (__m512bh)_mm512_loadu_si512(high + at + 64 * i));
            sums[2 + i] = _mm512_dpbf16_ps(sums[2 + i], weight, (__m512bh)_mm512_loadu_si512(low + at + 64 * i));
        }
    for (; at < bytes; at += 64) {
        __mmask16 there = bytes - at < 64 ? 0xFF : 0xFFFF;
        __m512bh weight = (__m512bh)_mm512_maskz_loadu_epi32(there, weights + at);
        sums[0] = _mm512_dpbf16_ps(sums[0], weight, (__m512bh)_mm512_loadu_si512(high + at));
        sums[2] = _mm512_dpbf16_ps(sums[2], weight, (__m512bh)_mm512_loadu_si512(low + at));
    }
    return total((floats)(sums[0] + sums[1] + (sums[2] + sums[3])));
#else
    return dot(read_bf16, states->plain + from / LANES, weights, width, 2, ahead);
#endif
}

INLINE float dot_int8(const row *states, const char *weights, long width) {
#ifdef WHOLE_STATES
    floats sum = {0};
    const char *numbers = (const char *)states->numbers[0];
    for (long span = 0; span * SPAN < width; span++) {
        __m512i even = {0}, odd = {0};
        long at = span * SPAN, end = at + SPAN < width ? at + SPAN : width;
        for (; at + 64 <= end; at += 64) {
            __m512i first = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(weights + at)));
            __m512i second = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(weights + at + 32)));
            even = _mm512_dpwssd_epi32(even, first, _mm512_loadu_si512(numbers + 2 * at));
            odd = _mm512_dpwssd_epi32(odd, second, _mm512_loadu_si512(numbers + 2 * at + 64));
        }
        for (; at < end; at += 32) {
            __mmask8 there = end - at < 32 ? 0xF : 0xFF;
            __m512i some = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi32(there, weights + at));
            even = _mm512_dpwssd_epi32(even, some, _mm512_loadu_si512(numbers + 2 * at));
        }
        sum += (floats)_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)) * states->scales[span];
    }
    return total(sum);
#else
    return dot(read_int8, states->plain, weights, width, 1, width);
#endif
}

INLINE float dot_int4(const row *states, const char *weights, const uint16_t *scales, long width) {
    floats sum = {0};
    for (long span = 0; span * SPAN < width; span++) {
        long at = span * SPAN, end = at + SPAN < width ? at + SPAN : width;
        floats scale = read_bf16((const char *)scales, span * LANES);
#ifdef WHOLE_STATES
        const char *numbers = (const char *)states->numbers[0];
        const __m512i low = _mm512_set1_epi32(0x000F000F), high = _mm512_set1_epi32(0x00F000F0);
        __m512i plain = (__m512i)states->excess[span], sixteenfold = {0};
#pragma GCC unroll 4
        for (; at < end; at += BLOCK) {
            __m512i word = _mm512_loadu_si512(weights + at / 2), later = _mm512_srli_epi32(word, 8);
            plain = _mm512_dpwssd_epi32(plain, _mm512_and_si512(word, low), _mm512_loadu_si512(numbers + 2 * at));
            sixteenfold = _mm512_dpwssd_epi32(sixteenfold, _mm512_and_si512(word, high),
                                              _mm512_loadu_si512(numbers + 2 * at + 64));
            plain = _mm512_dpwssd_epi32(plain, _mm512_and_si512(later, low), _mm512_loadu_si512(numbers + 2 * at + 128));
            sixteenfold = _mm512_dpwssd_epi32(sixteenfold, _mm512_and_si512(later, high),
                                              _mm512_loadu_si512(numbers + 2 * at + 192));
        }
        plain = _mm512_add_epi32(plain, _mm512_srai_epi32(sixteenfold, 4));
        sum += (floats)_mm512_cvtepi32_ps(plain) * (scale * states->scales[span]);
#else
        floats inner[4] = {states->excess[span]};
        for (; at < end; at += BLOCK) {
            bits word = *(const bits *)(weights + at / 2);
#pragma GCC unroll 8
            for (int n = 0; n < 8; n++) inner[n % 4] += read_int4(word, n) * states->plain[at / LANES + n];
        }
        sum += (inner[0] + inner[1] + (inner[2] + inner[3])) * scale;
#endif
    }
    return total(sum);
}

/* Rows `first` to `end` of what the matrix makes of states that were prepared for it; added to what is there already, or
 * instead of it. */
INLINE void products(const matrix *by, const row *states, float *out, long first, long end, const int add) {
    long width = by->width, spans = (width + SPAN - 1) / SPAN;
    const char *weights = by->weights;
#define EACH(BYTES, PRODUCT)                                                                                           \
    for (long r = first; r < end; r++) {                                                                               \
        const char *here = weights + r * (BYTES);                                                                      \
        out[r] = (add ? out[r] : 0) + (PRODUCT);                                                                       \
    }                                                                                                                  \
    break
/* Of wide rows, pieces that leave the nearest cache room for the states: 16 rows' first pieces, then their second. */
#define PIECES(BYTES, KIND)                                                                                            \
    for (long some = first; some < end; some += LANES) {                                                               \
        float sums[LANES] = {0};                                                                                       \
        for (long from = 0; from < width; from += PIECE)                                                               \
            for (long r = some; r < end && r < some + LANES; r++)                                                      \
                sums[r - some] += dot_##KIND(states, from, weights + (BYTES) * (r * width + from),                     \
                                             width - from < PIECE ? width - from : PIECE, (BYTES) * width);                             \
        for (long r = some; r < end && r < some + LANES; r++) out[r] = (add ? out[r] : 0) + sums[r - some];            \
    }                                                                                                                  \
    break
    switch (by->kind) {
    case kind_fp32: PIECES(4, fp32);
    case kind_bf16: PIECES(2, bf16);
    case kind_fp16: PIECES(2, fp16);
    case kind_int8: EACH(width, dot_int8(states, here, width) * ((const float *)by->scales)[r]);
    case kind_int4:
        EACH(width / 2, dot_int4(states, here, (const uint16_t *)by->scales + r * spans * LANES, width));
    }
}

/* The rows of a product that nobody has taken yet: fewer and fewer at a time, so that threads end together, though one may
 * have had to wait for its processor. 0: none are left. `taken` counts, from 0. */
INLINE int take(long *taken, long rows, long *first, long *end) {
    long at = __atomic_load_n(taken, __ATOMIC_RELAXED), some;
    do {
        if (at >= rows) return 0;
        some = ((rows - at) / (4 * omp_get_num_threads()) + LANES) / LANES * LANES;
        if (some > rows - at) some = rows - at;
    } while (!__atomic_compare_exchange_n(taken, &at, at + some, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    *first = at, *end = at + some;
    return 1;
}

static void multiply_one(const matrix *by, const float *states, float *out) {
    long taken = 0;
#pragma omp parallel
    {
        row *here = own_states();
        long first, end;
        for (long i = 0; i < by->width / LANES; i++) here->plain[i] = ((const floats *)states)[i];
        prepare(here, by->width, by);
        while (take(&taken, by->rows, &first, &end)) products(by, here, out, first, end, 0);
    }
}
