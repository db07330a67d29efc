/* Products of any number of rows of states with integer weights. A few rows of weights are widened to 16 bit once, span by span, and
 * multiplied with all states, so that the memory is read once and the widening costs little. The result of a row of states is
 * bit for bit that of one_row.h: sums of integers are exact, and the floats are added in the same order.
 */
enum { BAND = 8, SOME = 16 }; /* rows of weights and rows of states whose sums are kept in the first-level cache */
#ifdef __AVX512F__
enum { TALL = 4, WIDE = 4 }; /* of these, the tile whose sums are kept in registers */
#else
enum { TALL = 2, WIDE = 2 };
#endif
enum { STEPS = SPAN / 32 };   /* vectors of 16-bit numbers in a span */

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
            for (long i = 0; i < (size + 31) / 32; i++) {
                to[r][i] = widen_bytes(weights + i * 32, size - i * 32);
                if (i % 2 == 0) __builtin_prefetch(weights + i * 32 + BAND * row_bytes);
            }
    }
}

/* A span of BAND rows of weights with one to WIDE rows of states. `grouped` weights have a vector of scales for each row. */
INLINE void integer_tile(const int wide, const int grouped, pairs weights[BAND][STEPS], const floats *scales,
                 const int16_t *numbers, const float *state_scales, long steps, floats (*sums)[SOME]) {
    for (long first = 0; first < BAND; first += TALL) {
        integers found[TALL][WIDE];
#pragma GCC unroll 4
        for (int r = 0; r < TALL; r++)
#pragma GCC unroll 4
            for (int s = 0; s < wide; s++) found[r][s] = zero();
        for (long i = 0; i < steps; i++) {
            pairs weight[TALL];
#pragma GCC unroll 4
            for (int r = 0; r < TALL; r++) weight[r] = weights[first + r][i];
#pragma GCC unroll 4
            for (int s = 0; s < wide; s++) {
                pairs state = read_pairs(numbers + s * SPAN + i * 32);
#pragma GCC unroll 4
                for (int r = 0; r < TALL; r++) found[r][s] = add_products(found[r][s], weight[r], state);
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < TALL; r++)
#pragma GCC unroll 4
            for (int s = 0; s < wide; s++)
                add_scaled(&sums[first + r][s], found[r][s], grouped, scales + first + r, state_scales[s]);
    }
}

typedef void one_tile(pairs weights[BAND][STEPS], const floats *scales, const int16_t *numbers, const float *state_scales,
                      long steps, floats (*sums)[SOME]);

#define TILE(NAME, WIDE, GROUPED)                                                                                      \
    static void NAME(pairs weights[BAND][STEPS], const floats *scales, const int16_t *numbers,                         \
                     const float *state_scales, long steps, floats(*sums)[SOME]) {                                     \
        integer_tile(WIDE, GROUPED, weights, scales, numbers, state_scales, steps, sums);                              \
    }
TILE(tile_1, 1, 0)
TILE(tile_2, 2, 0)
TILE(grouped_tile_1, 1, 1)
TILE(grouped_tile_2, 2, 1)
#ifdef __AVX512F__
TILE(tile_3, 3, 0)
TILE(tile_4, 4, 0)
TILE(grouped_tile_3, 3, 1)
TILE(grouped_tile_4, 4, 1)
static one_tile *const tiles[2][WIDE] = {{tile_1, tile_2, tile_3, tile_4},
                                         {grouped_tile_1, grouped_tile_2, grouped_tile_3, grouped_tile_4}};
#else
static one_tile *const tiles[2][WIDE] = {{tile_1, tile_2}, {grouped_tile_1, grouped_tile_2}};
#endif

/* Rows `first` to `end` of the product of a matrix with all states; stored in `out`, float [count][stride], or added to it. */
static void products_of_many(const matrix *by, const many *states, float *out, long stride, long first, long end, int add) {
    const int is_int4 = by->format == format_int4 || by->format == format_q4_0, grouped = by->format != format_int8;
    const long width = by->width, spans = (width + SPAN - 1) / SPAN, row_bytes = is_int4 ? width / 2 : width;
    pairs weights[BAND][STEPS] __attribute__((aligned(64)));
    for (; first < end; first += BAND) {
        long rows = end - first < BAND ? end - first : BAND;
        for (long from = 0; from < states->count; from += SOME) {
            long some = states->count - from < SOME ? states->count - from : SOME;
            floats sums[BAND][SOME] __attribute__((aligned(64)));
            for (long r = 0; r < BAND; r++)
                for (long s = 0; s < SOME; s++) sums[r][s] = (floats){0};
            for (long span = 0; span < spans; span++) {
                long size = width - span * SPAN < SPAN ? width - span * SPAN : SPAN;
                widen(is_int4, (const char *)by->weights + first * row_bytes + span * (is_int4 ? SPAN / 2 : SPAN),
                      row_bytes, rows, size, weights);
                floats scales[BAND] = {0};
                for (long r = 0; grouped && r < rows; r++) {
                    const char *stored = (const char *)by->scales + 2 * ((first + r) * spans + span) * LANES;
                    scales[r] = by->format == format_int4 ? read_bf16(stored, 0) : read_fp16(stored, 0);
                    if (by->format == format_q4_0) scales[r] *= 16;
                }
                for (long s = 0; s < some; s += WIDE) {
                    const long at = span * states->count + from + s;
                    tiles[grouped][some - s < WIDE ? some - s - 1 : WIDE - 1](
                        weights, scales, states->numbers + at * SPAN, states->scales + at, (size + 31) / 32,
                        (floats(*)[SOME])(sums[0] + s));
                }
            }
            float by_row[BAND] = {1, 1, 1, 1, 1, 1, 1, 1};
            for (long r = 0; !grouped && r < rows; r++) by_row[r] = ((const float *)by->scales)[first + r];
            for (long s = 0; s < some; s += 2) { /* two rows of states with BAND rows of weights are 16 sums */
                floats each[LANES];
                for (int i = 0; i < LANES; i++) each[i] = sums[i % BAND][s + i / BAND];
                float found[LANES];
                *(floats *)found = totals(each);
                for (long k = s; k < some && k < s + 2; k++) {
                    float *to = out + (from + k) * stride + first;
                    for (long r = 0; r < rows; r++)
                        to[r] = __builtin_fmaf(found[(k - s) * BAND + r], by_row[r], add ? to[r] : 0);
                }
            }
        }
    }
}
