/* Products of one to four rows of states with rows of weights, each read once from its beginning to its end, which memory
 * serves quickest. The results of a row of states are bit for bit the same however many others there are.
 *
 * The arithmetic on a weight must take less time than reading it, even with a single thread, which then reads the most per
 * thread. Integer weights are multiplied as integers by states of 16 bit (with a scale for each 512 states), and bfloat16 weights,
 * where the processor has the instructions, by states split into two bfloat16 parts. Both are nearly exact.
 */
enum format { format_fp32, format_bf16, format_fp16, format_int8, format_int4, format_q8_0, format_q4_0 };
enum { MAX_WIDTH = 32768, PIECE = 2048 }; /* MAX_WIDTH = SPAN * MAX_SPANS */
enum { MAX_ROWS = 4, PAIR = 2 };          /* rows of states of a step, and of one product */

typedef struct {
    long format, rows, width;
    const void *weights, *scales;
} matrix;

/* A row of states in the forms that the weight formats need. Behind its end it is 0, up to a whole span. */
typedef struct {
    floats plain[MAX_WIDTH / LANES];
    shorts numbers[2][MAX_WIDTH / LANES]; /* bf16: the high parts, the low parts; int8, int4: integers */
    float scales[MAX_SPANS];              /* of the integers */
    words excess[MAX_SPANS];              /* int4: corrects for 0 to 15 standing for -8 to 7 */
} row;

#if defined __AVX512BF16__
#define SPLIT_BF16
#endif

static _Thread_local row thread_states[MAX_ROWS] __attribute__((aligned(64))); /* a load across two cache lines costs two */

/* The rows of this thread. The assembly hides their origin from the compiler, which would call for the address at each use. */
INLINE row *own_states(void) {
    row *here = thread_states;
    __asm__("" : "+r"(here));
    return here;
}

INLINE void prepare_bf16(row *states, long width) {
#ifdef SPLIT_BF16
    for (long i = 0; i < width / LANES; i++) {
        __m256bh high = _mm512_cvtneps_pbh((__m512)states->plain[i]);
        floats kept = (floats)(__builtin_convertvector((shorts)high, bits) << 16);
        states->numbers[0][i] = (shorts)high;
        states->numbers[1][i] = (shorts)_mm512_cvtneps_pbh((__m512)(states->plain[i] - kept));
    }
#endif
}

INLINE void prepare_integers(row *states, long width, const int is_int4) {
    for (long span = 0; span * SPAN < width; span++) {
        floats *plain = states->plain + span * (SPAN / LANES);
        few most[PARTS] = {0}, invalid[PARTS] = {0}; /* `invalid` becomes NaN if a state is NaN or infinite */
        for (int i = 0; i < SPAN / LANES; i++)
            EACH_PART {
                few v = ((const few *)(plain + i))[p];
                most[p] = larger(most[p], v), invalid[p] += v * 0;
            }
        float largest = 1e-30f;
        for (int i = 0; i < LANES; i++) largest = ((float *)most)[i] > largest ? ((float *)most)[i] : largest;
        few_words numbers[SPAN / LANES][PARTS], sum[PARTS] = {0};
        for (int i = 0; i < SPAN / LANES; i++)
            EACH_PART {
                numbers[i][p] = rounded(((const few *)(plain + i))[p] * (32767 / largest));
                sum[p] += numbers[i][p];
            }
        states->scales[span] = (largest / 32767 + total(invalid)) * (is_int4 ? 0.0625f : 1);
        shorts *to = states->numbers[0] + span * (SPAN / LANES);
        if (is_int4) { /* pairs in one lane, from the vectors n and n + 4, as in the weights */
            EACH_PART ((few_words *)(states->excess + span))[p] = sum[p] * -8;
            for (int block = 0; block < BLOCKS; block++)
                for (int n = 0; n < 4; n++)
                    EACH_PART ((few_words *)(to + block * 8 + n * 2))[p] =
                        (numbers[block * 8 + n][p] & 0xFFFF) | numbers[block * 8 + n + 4][p] << 16;
        } else
            for (int i = 0; i < SPAN / LANES; i++) to[i] = narrowed(numbers[i]);
    }
}

/* Sort whole spans of states as the weights of q8_0 (pair 2) and q4_0 (pair 1) lie; see vectors.h. */
INLINE void regroup(row *states, long width, const int pair) {
    for (float *plain = (float *)states->plain, *end = plain + width; plain < end; plain += SPAN) {
        float sorted[SPAN];
        for (int i = 0; i < GROUP / pair; i++)
            for (int group = 0; group < LANES; group++)
                for (int h = 0; h < pair; h++)
                    sorted[(i * LANES + group) * pair + h] = plain[group * GROUP + i * pair + h];
        for (int i = 0; i < SPAN; i++) plain[i] = sorted[i];
    }
}

/* Prepare the states, the first `width` numbers of `plain`, for a product with `by`. */
INLINE void prepare(row *states, long width, const matrix *by) {
    long padded = (by->width + SPAN - 1) / SPAN * SPAN;
    for (long i = width / LANES; i < padded / LANES; i++) states->plain[i] = (floats){0};
    if (by->format == format_bf16) prepare_bf16(states, padded);
    if (by->format == format_int8) prepare_integers(states, padded, 0);
    if (by->format == format_int4) prepare_integers(states, padded, 1);
    if (by->format == format_q8_0) regroup(states, padded, 2), prepare_integers(states, padded, 0);
    if (by->format == format_q4_0) regroup(states, padded, 1), prepare_integers(states, padded, 1);
}

enum { CHAINS = PARTS == 1 ? 4 : 2 };
enum { LOCKSTEP = 4 }; /* rows of int4 weights that share the loads of the states */

/* A row of weights with `count` rows of states, one or two, from state `from` on. Each pair has several sums, because an
 * addition takes 4 cycles. Weights have `bytes` bytes each; those `ahead` bytes on are needed next. */
INLINE void dot(reader *read, const int count, const row *states, long from, const char *weights, long width,
                const int bytes, long ahead, float *out) {
    few sums[PAIR][CHAINS][PARTS] = {0};
#define PLAIN(S, AT) (*(const few *)((const float *)states[S].plain + from + (AT)))
    long at = 0;
    for (; at + 4 * LANES <= width; at += 4 * LANES) {
        for (int i = 0; i < bytes; i++) __builtin_prefetch(weights + bytes * at + 64 * i + ahead);
        UNROLL
        for (int i = 0; i < 4; i++)
            EACH_PART {
                const long here = at + i * LANES + p * FEW;
                few weight = read(weights, here);
                UNROLL
                for (int s = 0; s < count; s++) sums[s][i % CHAINS][p] += weight * PLAIN(s, here);
            }
    }
    for (; at < width; at += LANES)
        EACH_PART
            UNROLL
            for (int s = 0; s < count; s++) sums[s][0][p] += read(weights, at + p * FEW) * PLAIN(s, at + p * FEW);
    UNROLL
    for (int s = 0; s < count; s++) {
        few all[PARTS];
        EACH_PART {
            all[p] = sums[s][0][p] + sums[s][1][p];
            if (CHAINS == 4) all[p] += sums[s][2][p] + sums[s][3][p];
        }
        out[s] = total(all);
    }
}

INLINE void dot_fp32(const int count, const row *states, long from, const char *weights, long width, long ahead,
                     float *out) {
    dot(read_fp32, count, states, from, weights, width, 4, ahead, out);
}

INLINE void dot_fp16(const int count, const row *states, long from, const char *weights, long width, long ahead,
                     float *out) {
    dot(read_fp16, count, states, from, weights, width, 2, ahead, out);
}

INLINE void dot_bf16(const int count, const row *states, long from, const char *weights, long width, long ahead,
                     float *out) {
#ifdef SPLIT_BF16
    __m512 sums[PAIR][4] = {0};
    long at = 0, bytes = 2 * width;
#define HIGH(S) ((const char *)(states[S].numbers[0] + from / LANES) + at)
#define LOW(S) ((const char *)(states[S].numbers[1] + from / LANES) + at)
    for (; at + 128 <= bytes; at += 128)
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m512bh weight = (__m512bh)_mm512_loadu_si512(weights + at + 64 * i);
            __builtin_prefetch(weights + at + 64 * i + ahead);
#pragma GCC unroll 2
            for (int s = 0; s < count; s++) {
                sums[s][i] = _mm512_dpbf16_ps(sums[s][i], weight, (__m512bh)_mm512_loadu_si512(HIGH(s) + 64 * i));
                sums[s][2 + i] = _mm512_dpbf16_ps(sums[s][2 + i], weight, (__m512bh)_mm512_loadu_si512(LOW(s) + 64 * i));
            }
        }
    for (; at < bytes; at += 64) {
        __mmask16 there = bytes - at < 64 ? 0xFF : 0xFFFF;
        __m512bh weight = (__m512bh)_mm512_maskz_loadu_epi32(there, weights + at);
#pragma GCC unroll 2
        for (int s = 0; s < count; s++) {
            sums[s][0] = _mm512_dpbf16_ps(sums[s][0], weight, (__m512bh)_mm512_loadu_si512(HIGH(s)));
            sums[s][2] = _mm512_dpbf16_ps(sums[s][2], weight, (__m512bh)_mm512_loadu_si512(LOW(s)));
        }
    }
#pragma GCC unroll 2
    for (int s = 0; s < count; s++) {
        few all = (few)(sums[s][0] + sums[s][1] + (sums[s][2] + sums[s][3]));
        out[s] = total(&all);
    }
#else
    dot(read_bf16, count, states, from, weights, width, 2, ahead, out);
#endif
}

/* The sum of a span, int8 or q8_0: `size` weights, a multiple of 16. */
INLINE void span_int8(const int count, const row *states, long span, const char *weights, long size, integers *found) {
    integers even[PAIR], odd[PAIR];
    long at = 0;
#pragma GCC unroll 2
    for (int s = 0; s < count; s++) even[s] = odd[s] = zero();
#define NUMBERS(S) ((const char *)states[S].numbers[0] + 2 * (span * SPAN + at))
    for (; at + 64 <= size; at += 64) {
        pairs first = widen_32_bytes(weights + at), second = widen_32_bytes(weights + at + 32);
#pragma GCC unroll 2
        for (int s = 0; s < count; s++) {
            even[s] = add_products(even[s], first, read_pairs(NUMBERS(s)));
            odd[s] = add_products(odd[s], second, read_pairs(NUMBERS(s) + 64));
        }
    }
    for (; at < size; at += 32) {
        pairs some = widen_bytes(weights + at, size - at);
#pragma GCC unroll 2
        for (int s = 0; s < count; s++) even[s] = add_products(even[s], some, read_pairs(NUMBERS(s)));
    }
#pragma GCC unroll 2
    for (int s = 0; s < count; s++) found[s] = plus(even[s], odd[s]);
}

INLINE void dot_int8(const int count, const row *states, const char *weights, long width, float *out) {
    few sums[PAIR][PARTS] = {0};
    for (long span = 0; span * SPAN < width; span++) {
        integers found[PAIR];
        long left = width - span * SPAN;
        span_int8(count, states, span, weights + span * SPAN, left < SPAN ? left : SPAN, found);
#pragma GCC unroll 2
        for (int s = 0; s < count; s++)
            add_scaled(sums[s], found[s], 0, sums[s], states[s].scales[span]);
    }
#pragma GCC unroll 2
    for (int s = 0; s < count; s++) out[s] = total(sums[s]);
}

INLINE void dot_q8_0(const int count, const row *states, const char *weights, const uint16_t *scales, long width,
                     float *out) {
    few sums[PAIR][PARTS] = {0}, scale[PARTS];
    for (long span = 0; span * SPAN < width; span++) {
        EACH_PART scale[p] = read_fp16((const char *)scales, span * LANES + p * FEW);
        integers found[PAIR];
        span_int8(count, states, span, weights + span * SPAN, SPAN, found);
#pragma GCC unroll 2
        for (int s = 0; s < count; s++)
            add_scaled(sums[s], found[s], 1, scale, states[s].scales[span]);
    }
#pragma GCC unroll 2
    for (int s = 0; s < count; s++) out[s] = total(sums[s]);
}

/* Add a span of `tall` rows of int4 weights, `apart` bytes from each other, with `count` rows of states. As many bytes as it reads are
 * prefetched, from `ahead` on. */
INLINE void add_span_int4(const int count, const int tall, const row *states, long span, const char *weights, long apart,
                          const few (*scales)[PARTS], long size, const char *ahead, few (*sums)[PAIR][PARTS]) {
    for (int p = 0; p < PARTS; p++) {
        part plain[LOCKSTEP][PAIR], sixteenfold[LOCKSTEP][PAIR];
        UNROLL
        for (int r = 0; r < tall; r++)
            UNROLL
            for (int s = 0; s < count; s++) {
                plain[r][s] = part_read((const char *)(states[s].excess + span) + p * (64 / PARTS));
                sixteenfold[r][s] = part_zero;
            }
        UNROLL
        for (long at = 0; at < size; at += BLOCK) {
            part word[LOCKSTEP], state[PAIR];
            UNROLL
            for (int r = 0; r < tall; r++) {
                word[r] = part_read(weights + r * apart + at / 2 + p * (64 / PARTS));
                if (!p) __builtin_prefetch(ahead + at / 2 * tall + 64 * r, 0, 2);
            }
            UNROLL
            for (int n = 0; n < 4; n++) {
                UNROLL
                for (int s = 0; s < count; s++)
                    state[s] = part_read((const char *)states[s].numbers[0] + 2 * (span * SPAN + at + 32 * n) +
                                         p * (64 / PARTS));
                UNROLL
                for (int r = 0; r < tall; r++) {
                    if (n == 2) word[r] = part_shifted(word[r], 8);
                    part weight = part_masked(word[r], n % 2 ? 0xF0 : 0x0F);
                    UNROLL
                    for (int s = 0; s < count; s++)
                        part_accumulate(n % 2 ? &sixteenfold[r][s] : &plain[r][s], weight, state[s]);
                }
            }
        }
        UNROLL
        for (int r = 0; r < tall; r++)
            UNROLL
            for (int s = 0; s < count; s++) {
                part found = part_add(plain[r][s], part_sixteenth(sixteenfold[r][s]));
                sums[r][s][p] = part_scaled(sums[r][s][p], found, 1, scales[r][p], states[s].scales[span]);
            }
    }
}

/* Spans `from` to `to` of `tall` rows of weights in int4 or q4_0, `apart` rows from each other, of which the first is `r`. They
 * are added to the sums of earlier spans. */
INLINE void add_spans_int4(const int count, const int tall, const matrix *by, const row *states, long r, long apart, long from,
                           long to, const char *ahead, const char *scales_ahead, few (*sums)[PAIR][PARTS]) {
    const long width = by->width, spans = (width + SPAN - 1) / SPAN;
    const char *weights = (const char *)by->weights + r * width / 2;
    const char *stored = (const char *)by->scales + r * spans * 2 * LANES;
    few some[LOCKSTEP][PAIR][PARTS], scales[LOCKSTEP][PARTS];
    UNROLL
    for (int i = 0; i < tall; i++)
        UNROLL
        for (int s = 0; s < count; s++) EACH_PART some[i][s][p] = from ? sums[i * apart][s][p] : (few){0};
    for (long span = from; span < to; span++) {
        UNROLL
        for (int i = 0; i < tall; i++) {
            const char *here = stored + (i * apart * spans + span) * 2 * LANES;
            EACH_PART scales[i][p] = by->format == format_q4_0 ? read_fp16(here, p * FEW) * 16 : read_bf16(here, p * FEW);
            if (i % 2 == 0) __builtin_prefetch(scales_ahead + ((span - from) * tall + i) * 2 * LANES, 0, 2);
        }
        add_span_int4(count, tall, states, span, weights + span * (SPAN / 2), apart * width / 2, scales,
                      width - span * SPAN < SPAN ? width - span * SPAN : SPAN, ahead + (span - from) * tall * (SPAN / 2), some);
    }
    UNROLL
    for (int i = 0; i < tall; i++)
        UNROLL
        for (int s = 0; s < count; s++) EACH_PART sums[i * apart][s][p] = some[i][s][p];
}

/* Rows `first` to `end` in int4 or q4_0, group by group. While a group is multiplied, the next is prefetched to the second-level
 * cache from its beginning to its end, which memory serves quickest. There it may be read in another order: some rows in
 * lockstep, and wide rows in pieces, so that the states stay in the first-level cache. After these rows the thread multiplies
 * row `next`. */
INLINE void products_int4(const int count, const matrix *by, const row *states, float *out, long stride, long first,
                          long end, long next, int add) {
    enum { GROUP_BYTES = 32768, MOST = 64, PIECE_SPANS = 8 };
#ifdef REGISTERS_32
    const int tall = LOCKSTEP;
#else
    const int tall = LOCKSTEP / count;
#endif
    const long width = by->width, spans = (width + SPAN - 1) / SPAN;
    long group = GROUP_BYTES / (width / 2) / LOCKSTEP * LOCKSTEP;
    group = group > MOST ? MOST : group < 2 * LOCKSTEP ? 2 * LOCKSTEP : group;
    for (; first < end; first += group) {
        const long rows = end - first < group ? end - first : group, apart = rows / tall;
        const long then = first + rows < end ? first + rows : next;
        const char *ahead = (const char *)by->weights + then * width / 2;
        const char *scales_ahead = (const char *)by->scales + then * spans * 2 * LANES;
        few sums[MOST][PAIR][PARTS];
        for (long from = 0; from < spans; from += PIECE_SPANS) {
            const long to = from + PIECE_SPANS < spans ? from + PIECE_SPANS : spans;
#define ADD_SPANS(TALL, R, APART)                                                                                      \
    add_spans_int4(count, TALL, by, states, first + (R), APART, from, to, ahead, scales_ahead, sums + (R));            \
    ahead += (TALL) * (to - from) * (SPAN / 2), scales_ahead += (TALL) * (to - from) * 2 * LANES
            for (long r = 0; r < apart; r++) {
                ADD_SPANS(tall, r, apart);
            }
            for (long r = apart * tall; r < rows; r++) {
                ADD_SPANS(1, r, 0);
            }
        }
        for (long r = 0; r < rows; r++)
            for (int s = 0; s < count; s++) {
                float *to = out + s * stride + first + r;
                *to = total(sums[r][s]) + (add ? *to : 0);
            }
    }
}

INLINE void products_of(const int count, const matrix *by, const row *states, float *out, long stride, long first,
                        long end, long next, int add) {
    long width = by->width, spans = (width + SPAN - 1) / SPAN;
    const char *weights = by->weights;
/* Whole rows of weights. */
#define EACH(BYTES, PRODUCTS, SCALE)                                                                                   \
    for (long r = first; r < end; r++) {                                                                               \
        const char *here = weights + r * (BYTES);                                                                      \
        float found[PAIR];                                                                                         \
        PRODUCTS;                                                                                                      \
        for (int s = 0; s < count; s++)                                                                                \
            out[s * stride + r] = __builtin_fmaf(found[s], SCALE, add ? out[s * stride + r] : 0);                      \
    }                                                                                                                  \
    break
/* Wide rows in pieces, which leave room for the states in the first-level cache: the first pieces of 16 rows, then their
 * second pieces. */
#define PIECES(BYTES, FORMAT)                                                                                          \
    for (long some = first; some < end; some += LANES) {                                                               \
        float sums[PAIR][LANES] = {0}, found[PAIR];                                                            \
        for (long from = 0; from < width; from += PIECE)                                                               \
            for (long r = some; r < end && r < some + LANES; r++) {                                                    \
                dot_##FORMAT(count, states, from, weights + (BYTES) * (r * width + from),                              \
                             width - from < PIECE ? width - from : PIECE, (BYTES) * width, found);                     \
                for (int s = 0; s < count; s++) sums[s][r - some] += found[s];                                         \
            }                                                                                                          \
        for (int s = 0; s < count; s++)                                                                                \
            for (long r = some; r < end && r < some + LANES; r++)                                                      \
                out[s * stride + r] = (add ? out[s * stride + r] : 0) + sums[s][r - some];                             \
    }                                                                                                                  \
    break
    switch (by->format) {
    case format_fp32: PIECES(4, fp32);
    case format_bf16: PIECES(2, bf16);
    case format_fp16: PIECES(2, fp16);
    case format_int8: EACH(width, dot_int8(count, states, here, width, found), ((const float *)by->scales)[r]);
    case format_q8_0:
        EACH(width, dot_q8_0(count, states, here, (const uint16_t *)by->scales + r * spans * LANES, width, found), 1);
    case format_int4:
    case format_q4_0: products_int4(count, by, states, out, stride, first, end, next, add);
    }
}

static void products_1(const matrix *by, const row *states, float *out, long stride, long first, long end, long next,
                       int add) {
    products_of(1, by, states, out, stride, first, end, next, add);
}

static void products_2(const matrix *by, const row *states, float *out, long stride, long first, long end, long next,
                       int add) {
    products_of(2, by, states, out, stride, first, end, next, add);
}

/* Rows `first` to `end` of the product of a matrix with `count` rows of states that were prepared for it; stored in `out`,
 * float [count][stride], or added to it. After them the thread multiplies row `next`. Three or four rows of states take
 * turns in pairs on a few rows of weights, which are in cache by then: more at once would take longer to compile than they
 * save. */
static void products(const matrix *by, const row *states, long count, float *out, long stride, long first, long end,
                     long next, int add) {
    long some = count > 2 ? LANES : end - first;
    for (; first < end; first += some) {
        long to = first + some < end ? first + some : end;
        for (long s = 0; s < count; s += 2)
            (count - s > 1 ? products_2 : products_1)(by, states + s, out + s * stride, stride, first, to, to < end ? to : next,
                                                  add);
    }
}

/* Take the next rows of a product that several threads share; returns 0 when all are taken. `taken` counts them, from 0.
 * The shares get smaller, so that all threads finish together even if one had to wait for its processor. */
INLINE int take(long *taken, long rows, long *first, long *end) {
    long at = __atomic_load_n(taken, __ATOMIC_RELAXED), some;
    do {
        if (at >= rows) return 0;
        some = ((rows - at) / (2 * omp_get_num_threads()) + LANES) / LANES * LANES;
        if (some > rows - at) some = rows - at;
    } while (!__atomic_compare_exchange_n(taken, &at, at + some, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    *first = at, *end = at + some;
    return 1;
}

/* Rows of a shared product that this thread has taken, and those that it has taken to multiply next. */
typedef struct {
    long *taken, rows, first, end, next, next_end;
} share;

INLINE share begin_share(long *taken, long rows) {
    share own = {taken, rows};
    take(taken, rows, &own.next, &own.next_end);
    return own;
}

/* Begin the next rows; returns 0 when all rows are taken. Without more of them `next` is what follows. */
INLINE int take_next(share *own) {
    if (own->next == own->next_end) return 0;
    own->first = own->next, own->end = own->next_end;
    if (!take(own->taken, own->rows, &own->next, &own->next_end)) own->next = own->next_end = own->end;
    return 1;
}

static void multiply_one(const matrix *by, const float *states, long width, float *out) {
    long taken = 0;
#pragma omp parallel
    {
        row *here = own_states();
        for (long i = 0; i < width / LANES; i++) here->plain[i] = ((const floats *)states)[i];
        prepare(here, width, by);
        share own = begin_share(&taken, by->rows);
        while (take_next(&own)) products(by, here, 1, out, 0, own.first, own.end, own.next, 0);
    }
}
