/* Products of any number of rows of states with integer weights. A few rows of weights are widened to 16 bit once, span by span, and
 * multiplied with all states, so that the memory is read once and the widening costs little. The result of a row of states is
 * bit for bit that of one_row.h: sums of integers are exact, and the floats are added in the same order.
 */
enum { BAND = 8, SOME = 16 }; /* rows of weights and rows of states whose sums are kept in the first-level cache */
#ifdef REGISTERS_32
enum { TALL = 4, WIDE = 4 }; /* of these, the tile whose sums are kept in registers */
#else
enum { TALL = 4, WIDE = 2 };
#endif
enum { SHORT = 2 * SPAN };  /* the most numbers of rows whose states stay in the first-level cache */
enum { STEPS = SPAN / 32 }; /* vectors of 16-bit numbers in a span */

/* Rows of states, prepared for a product; spans come first, because they are read span by span. */
typedef struct {
    long count;
    int16_t *numbers; /* [spans][count][SPAN] */
    float *scales;    /* [spans][count] */
} many;

/* Bytes that `many_at` needs for rows of up to this width. */
static long many_bytes(long count, long width) { return count * ((width + SPAN - 1) / SPAN) * (2 * SPAN + 4); }

static many many_at(void *memory, long count, long width) {
    return (many){count, memory, (float *)((char *)memory + count * ((width + SPAN - 1) / SPAN) * 2 * SPAN)};
}

/* Prepare row `s` of the states, which is the first `width` numbers of `here->plain`, for a product with `by`. */
static void prepare_many(many *states, long s, row *here, long width, const matrix *by) {
    prepare(here, width, by);
    for (long span = 0; span * SPAN < by->width; span++) {
        long at = span * states->count + s;
        __builtin_memcpy(states->numbers + at * SPAN, here->numbers[0] + span * (SPAN / LANES), 2 * SPAN);
        states->scales[at] = here->scales[span];
    }
}

/* One span of up to BAND rows of weights, `size` weights each, as 16-bit numbers in the order of the states. */
static void widen(int is_int4, const char *weights, long row_bytes, long rows, long size, pairs to[BAND][STEPS]) {
    for (long r = 0; r < BAND; r++, weights += row_bytes) {
        if (r >= rows)
            for (long i = 0; i < (size + 31) / 32; i++) to[r][i] = zero();
        else if (is_int4)
            for (long i = 0; i < size / 32; i += 4) {
                pairs word = read_pairs(weights + i * 16);
                __builtin_prefetch(weights + i * 16 + BAND * row_bytes);
#pragma GCC unroll 4
                for (int n = 0; n < 4; n++) to[r][i + n] = minus_8(masked(shifted(word, 4 * n), 0x0F));
            }
        else
            for (long i = 0; i < (size + 31) / 32; i += 2) {
                __builtin_prefetch(weights + i * 32 + BAND * row_bytes);
                if (size - i * 32 >= 64)
                    to[r][i] = widen_32_bytes(weights + i * 32), to[r][i + 1] = widen_32_bytes(weights + i * 32 + 32);
                else
                    for (long k = i; k < (size + 31) / 32; k++) to[r][k] = widen_bytes(weights + k * 32, size - k * 32);
            }
    }
}

/* A span of TALL rows of weights with one to WIDE rows of states, and `add_scaled` to sums that are kept in `sums` from span to span.
 * `grouped` weights have a vector of scales for each row. With the last span the sums are added up, into found[s * TALL + r]. */
INLINE void integer_tile(const int wide, const int grouped, pairs (*weights)[STEPS], const floats *scales,
                         const int16_t *numbers, const float *state_scales, long steps, int is_first, int is_last,
                         floats (*sums)[SOME], float *found) {
    few each[LANES][PARTS] __attribute__((aligned(64)));
    for (int p = 0; p < PARTS; p++) {
        part products[WIDE][TALL];
        UNROLL
        for (int s = 0; s < wide; s++)
            UNROLL
            for (int r = 0; r < TALL; r++) products[s][r] = part_zero;
        for (long i = 0; i < steps; i++) {
            part weight[TALL];
            UNROLL
            for (int r = 0; r < TALL; r++) {
                weight[r] = PART(weights[r][i], p);
                IN_REGISTER(weight[r]);
            }
            UNROLL
            for (int s = 0; s < wide; s++) {
                part state = part_read(numbers + s * SPAN + i * 32 + p * (32 / PARTS));
                IN_REGISTER(state);
                UNROLL
                for (int r = 0; r < TALL; r++) part_accumulate(&products[s][r], weight[r], state);
            }
        }
        UNROLL
        for (int s = 0; s < wide; s++)
            UNROLL
            for (int r = 0; r < TALL; r++) {
                few *kept = (few *)(sums[r] + s) + p, sum = is_first ? (few){0} : *kept;
                sum = part_scaled(sum, products[s][r], grouped, ((const few *)(scales + r))[p], state_scales[s]);
                if (is_last)
                    each[s * TALL + r][p] = sum;
                else
                    *kept = sum;
            }
    }
    if (!is_last) return;
#if defined AVX512
#pragma GCC unroll 16
    for (int i = wide * TALL; i < LANES; i++) each[i][0] = each[0][0];
    totals(each, (few *)found);
#elif defined AVX2_ONLY
    if (wide == WIDE)
        *(few *)found = totals_of_8(each);
    else
        for (int i = 0; i < TALL; i++) found[i] = total(each[i]);
#else
    for (int i = 0; i < wide * TALL; i++) found[i] = total(each[i]);
#endif
}

typedef void one_tile(pairs (*weights)[STEPS], const floats *scales, const int16_t *numbers, const float *state_scales,
                      long steps, int is_first, int is_last, floats (*sums)[SOME], float *found);

#define TILE(NAME, WIDE, GROUPED)                                                                                      \
    static void NAME(pairs(*weights)[STEPS], const floats *scales, const int16_t *numbers, const float *state_scales,  \
                     long steps, int is_first, int is_last, floats(*sums)[SOME], float *found) {                       \
        integer_tile(WIDE, GROUPED, weights, scales, numbers, state_scales, steps, is_first, is_last, sums, found);    \
    }
TILE(tile_1, 1, 0)
TILE(tile_2, 2, 0)
TILE(grouped_tile_1, 1, 1)
TILE(grouped_tile_2, 2, 1)
#ifdef REGISTERS_32
TILE(tile_3, 3, 0)
TILE(tile_4, 4, 0)
TILE(grouped_tile_3, 3, 1)
TILE(grouped_tile_4, 4, 1)
static one_tile *const tiles[2][WIDE] = {{tile_1, tile_2, tile_3, tile_4},
                                         {grouped_tile_1, grouped_tile_2, grouped_tile_3, grouped_tile_4}};
#else
static one_tile *const tiles[2][WIDE] = {{tile_1, tile_2}, {grouped_tile_1, grouped_tile_2}};
#endif

/* Scale found[s * TALL + r] and store it in `out`, float [wide][stride], or add it to that. */
INLINE void store_tile(const float *found, const float *by_row, long wide, long rows, float *out, long stride, int add) {
    for (long s = 0; s < wide; s++, out += stride, found += TALL) {
#if defined AVX512 || defined AVX2_ONLY
        if (rows >= TALL) {
            __m128 before = add ? _mm_loadu_ps(out) : _mm_setzero_ps();
            _mm_storeu_ps(out, _mm_fmadd_ps(_mm_loadu_ps(found), _mm_loadu_ps(by_row), before));
            continue;
        }
#endif
        for (long r = 0; r < TALL && r < rows; r++) out[r] = __builtin_fmaf(found[r], by_row[r], add ? out[r] : 0);
    }
}

/* Whether the products of a matrix with two rows and more are made by `products_of_short`. */
static int is_short(const matrix *by) {
#ifdef AVX512
    return by->format == format_int8 && by->width % 32 == 0 && by->width <= SHORT;
#else
    return 0;
#endif
}

#ifdef AVX512
/* TALL rows of int8 weights with up to WIDE rows of states, of a width that is a multiple of 32. The weights are widened in the registers
 * whenever they are multiplied, which takes no longer than loading them. */
INLINE void short_tile(const int wide, const int8_t *weights, const int16_t *numbers, const float *state_scales, long count,
                       long width, const float *by_row, float *out, long stride, int add) {
    few each[LANES][PARTS] __attribute__((aligned(64)));
    for (long begin = 0; begin < width; begin += SPAN, numbers += count * SPAN, state_scales += count) {
        const long size = width - begin < SPAN ? width - begin : SPAN;
        integers products[WIDE][TALL];
        UNROLL
        for (int s = 0; s < wide; s++)
            UNROLL
            for (int r = 0; r < TALL; r++) products[s][r] = zero();
        for (long at = 0; at < size; at += 32) {
            pairs weight[TALL];
            UNROLL
            for (int r = 0; r < TALL; r++) weight[r] = widen_32_bytes(weights + r * width + begin + at);
            UNROLL
            for (int s = 0; s < wide; s++) {
                pairs state = read_pairs(numbers + s * SPAN + at);
                UNROLL
                for (int r = 0; r < TALL; r++) accumulate(&products[s][r], weight[r], state);
            }
        }
        UNROLL
        for (int s = 0; s < wide; s++)
            UNROLL
            for (int r = 0; r < TALL; r++) {
                few *sum = each[s * TALL + r];
                *sum = part_scaled(begin ? *sum : (few){0}, products[s][r], 0, (few){0}, state_scales[s]);
            }
    }
    few found;
#pragma GCC unroll 16
    for (int i = wide * TALL; i < LANES; i++) each[i][0] = each[0][0];
    totals(each, &found);
#define STORE(S)                                                                                                       \
    if (S < wide) {                                                                                                    \
        float *to = out + S * stride;                                                                                  \
        __m128 sum = _mm512_extractf32x4_ps((__m512)found, S), before = add ? _mm_loadu_ps(to) : _mm_setzero_ps();     \
        _mm_storeu_ps(to, _mm_fmadd_ps(sum, _mm_loadu_ps(by_row), before));                                            \
    }
    STORE(0) STORE(1) STORE(2) STORE(3)
}

/* As `products_of_many`, of int8 weights and whole tiles. */
static void products_of_short(const matrix *by, const many *states, float *out, long stride, long first, long end, int add) {
    const long width = by->width;
    for (; first < end; first += TALL) {
        const int8_t *weights = (const int8_t *)by->weights + first * width;
        for (long i = 0; i < TALL * width; i += 64) __builtin_prefetch(weights + TALL * width + i);
#define SHORT_TILE(WIDTH)                                                                                              \
    short_tile(WIDTH, weights, states->numbers + s * SPAN, states->scales + s, states->count, width,                    \
               (const float *)by->scales + first, out + s * stride + first, stride, add)
        long s = 0;
        for (; s + WIDE <= states->count; s += WIDE) SHORT_TILE(WIDE);
        switch (states->count - s) {
        case 3: SHORT_TILE(3); break;
        case 2: SHORT_TILE(2); break;
        case 1: SHORT_TILE(1);
        }
    }
}
#endif

/* Rows `first` to `end` of the product of a matrix with all states; stored in `out`, float [count][stride], or added to it. */
static void products_of_many(const matrix *by, const many *states, float *out, long stride, long first, long end, int add) {
    const int is_int4 = by->format == format_int4 || by->format == format_q4_0, grouped = by->format != format_int8;
    const long width = by->width, spans = (width + SPAN - 1) / SPAN, row_bytes = is_int4 ? width / 2 : width;
#ifdef AVX512
    const long whole = first + (end - first) / TALL * TALL;
    if (is_short(by)) {
        products_of_short(by, states, out, stride, first, whole, add);
        first = whole;
    }
#endif
    pairs weights[BAND][STEPS] __attribute__((aligned(64)));
    floats sums[BAND][SOME] __attribute__((aligned(64)));
    for (; first < end; first += BAND) {
        long rows = end - first < BAND ? end - first : BAND;
        float by_row[BAND] = {1, 1, 1, 1, 1, 1, 1, 1};
        if (!grouped && rows == BAND)
            __builtin_memcpy(by_row, (const float *)by->scales + first, sizeof by_row);
        else
            for (long r = 0; !grouped && r < rows; r++) by_row[r] = ((const float *)by->scales)[first + r];
        for (long from = 0; from < states->count; from += SOME) {
            long some = states->count - from < SOME ? states->count - from : SOME;
            for (long span = 0; span < spans; span++) {
                const int is_last = span == spans - 1;
                long size = width - span * SPAN < SPAN ? width - span * SPAN : SPAN;
                if (!from || spans > 1)
                    widen(is_int4, (const char *)by->weights + first * row_bytes + span * (is_int4 ? SPAN / 2 : SPAN),
                          row_bytes, rows, size, weights);
                floats scales[BAND] = {0};
                for (long r = 0; grouped && r < rows; r++) {
                    const char *stored = (const char *)by->scales + 2 * ((first + r) * spans + span) * LANES;
                    EACH_PART {
                        few *scale = (few *)(scales + r) + p;
                        *scale = by->format == format_int4 ? read_bf16(stored, p * FEW) : read_fp16(stored, p * FEW);
                        if (by->format == format_q4_0) *scale *= 16;
                    }
                }
                for (long s = 0; s < some; s += WIDE) {
                    const long at = span * states->count + from + s, wide = some - s < WIDE ? some - s : WIDE;
                    for (long band = 0; band < rows; band += TALL) {
                        float found[LANES] __attribute__((aligned(64)));
                        tiles[grouped][wide - 1](weights + band, scales + band, states->numbers + at * SPAN,
                                                 states->scales + at, (size + 31) / 32, !span, is_last,
                                                 (floats(*)[SOME])(sums[band] + s), found);
                        if (is_last)
                            store_tile(found, by_row + band, wide, rows - band, out + (from + s) * stride + first + band,
                                       stride, add);
                    }
                }
            }
        }
    }
}
