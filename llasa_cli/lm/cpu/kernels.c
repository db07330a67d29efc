/* Matrix products with weights of few bits: out = states @ weights.T. Everything but the weights is float32.
 *
 * With one row of states a product takes as long as reading the weights. So they are read once and in order, and widened
 * on the way with fewer instructions than the memory leaves time for (one_row.h). Many rows share the widening (many_rows.h).
 *
 *     states   float [count][width]
 *     out      float [count][rows]
 *     weights  fp32, bf16, fp16  [rows][width]
 *              int8              [rows][width], and float scales [rows]: weight = integer * scale
 *              int4              the layout in vectors.h; width is a multiple of 128
 *              q8_0, q4_0        the layouts in vectors.h, with float16 scales [rows][spans][16]; width is a multiple of 32
 *
 * In the other formats width is a multiple of 16.
 */
#include <stdint.h>
#include <stdlib.h>

extern int omp_get_thread_num(void), omp_get_num_threads(void), omp_get_max_threads(void);

#include "barrier.h"

#include "vectors.h"

#include "integers.h"

#include "one_row.h"

#include "many_rows.h"

/* TALL rows of weights, widened to floats, with `wide` rows of states, added to `sums`. */
INLINE void float_tile(const int wide, const float (*weights)[SPAN], const float *states, long stride, long size,
                       floats (*sums)[SOME]) {
    for (long p = 0; p < PARTS; p++) {
        few some[WIDE][TALL];
        UNROLL
        for (int s = 0; s < wide; s++)
            UNROLL
            for (int r = 0; r < TALL; r++) some[s][r] = ((few *)(sums[r] + s))[p];
        for (long at = p * FEW; at < size; at += LANES) {
            few weight[TALL];
            UNROLL
            for (int r = 0; r < TALL; r++) {
                weight[r] = *(const few *)(weights[r] + at);
                IN_REGISTER(weight[r]);
            }
            UNROLL
            for (int s = 0; s < wide; s++) {
                few state = *(const few *)(states + s * stride + at);
                IN_REGISTER(state);
                UNROLL
                for (int r = 0; r < TALL; r++) some[s][r] += weight[r] * state;
            }
        }
        UNROLL
        for (int s = 0; s < wide; s++)
            UNROLL
            for (int r = 0; r < TALL; r++) ((few *)(sums[r] + s))[p] = some[s][r];
    }
}

/* Up to TALL rows of weights, from `row` on, with all states. They are widened span by span, once for SOME rows of states. The sum of a
 * row of states is bit for bit the same however many others there are. */
INLINE void band(reader *read, const float *states, const char *weights, const int bytes, float *out, long count,
                 long rows, long width, long row) {
    const long tall = rows - row < TALL ? rows - row : TALL;
    float wide[TALL][SPAN] __attribute__((aligned(64))) = {0};
    floats sums[TALL][SOME] __attribute__((aligned(64)));
    for (long from = 0; from < count; from += SOME) {
        const long some = count - from < SOME ? count - from : SOME;
        __builtin_memset(sums, 0, sizeof sums);
        for (long begin = 0; begin < width; begin += SPAN) {
            const long size = width - begin < SPAN ? width - begin : SPAN;
            for (long r = 0; r < tall && (!from || width > SPAN); r++)
                for (long at = 0; at < size; at += FEW)
                    *(few *)(wide[r] + at) = read(weights + bytes * ((row + r) * width + begin), at);
            const float *here = states + from * width + begin;
            for (long s = 0; s < some; s += WIDE)
                if (some - s >= WIDE)
                    float_tile(WIDE, wide, here + s * width, width, size, (floats(*)[SOME])(sums[0] + s));
                else
                    for (long one = s; one < some; one++)
                        float_tile(1, wide, here + one * width, width, size, (floats(*)[SOME])(sums[0] + one));
        }
        for (long s = 0; s < some; s++)
            for (long r = 0; r < tall; r++) out[(from + s) * rows + row + r] = total((const few *)(sums[r] + s));
    }
}

/* A macro, because OpenMP puts the parallel part into a function of its own, in which `read` must be a constant. */
#define MULTIPLY(FORMAT, BYTES)                                                                                        \
    void multiply_##FORMAT(const float *states, const char *weights, const float *scales, float *out, long count,        \
                         long rows, long width) {                                                                      \
        if (count == 1) {                                                                                              \
            multiply_one(&(matrix){format_##FORMAT, rows, width, weights, scales}, states, width, out);                           \
            return;                                                                                                    \
        }                                                                                                              \
        _Pragma("omp parallel for schedule(static)") for (long block = 0; block < (rows + TALL - 1) / TALL; block++)  \
            band(read_##FORMAT, states, weights, BYTES, out, count, rows, width, block * TALL);         \
    }

MULTIPLY(fp32, 4)
MULTIPLY(bf16, 2)
MULTIPLY(fp16, 2)

/* Integer weights. */
static void multiply_many(long format, const float *states, const void *weights, const void *scales, float *out, long count,
                          long rows, long width) {
    long stored = format == format_q8_0 || format == format_q4_0 ? (width + SPAN - 1) / SPAN * SPAN : width;
    const matrix by = {format, rows, stored, weights, scales};
    if (count == 1) {
        multiply_one(&by, states, width, out);
        return;
    }
    void *memory = aligned_alloc(64, (many_bytes(count, width) + 63) / 64 * 64);
    many prepared = many_at(memory, count, width);
    long taken = 0, done = 0;
    barrier all = {0};
#pragma omp parallel
    {
        row *here = own_states();
        for (long s; (s = __atomic_fetch_add(&done, 1, __ATOMIC_RELAXED)) < count;) {
            __builtin_memcpy(here->plain, states + s * width, 4 * width);
            prepare_many(&prepared, s, here, width, &by);
        }
        wait_for_all(&all);
        long first, end;
        while (take(&taken, rows, &first, &end)) products_of_many(&by, &prepared, out, rows, first, end, 0);
    }
    free(memory);
}

#define MULTIPLY_MANY(FORMAT)                                                                                          \
    void multiply_##FORMAT(const float *states, const void *weights, const void *scales, float *out, long count,         \
                           long rows, long width) {                                                                    \
        multiply_many(format_##FORMAT, states, weights, scales, out, count, rows, width);                               \
    }

MULTIPLY_MANY(int8)
MULTIPLY_MANY(int4)
MULTIPLY_MANY(q8_0)
MULTIPLY_MANY(q4_0)

/* float [rows][width] -> int8 and its scales: the largest weight of a row becomes 127. */
void quantize_int8(const float *from, int8_t *integers, float *scales, long rows, long width) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        few largest_of_lane = {0};
        for (long at = 0; at < width; at += FEW)
            largest_of_lane = larger(largest_of_lane, *(const few *)(from + row * width + at));
        float largest = 1e-12f;
        for (int i = 0; i < FEW; i++) largest = largest_of_lane[i] > largest ? largest_of_lane[i] : largest;
        for (long at = 0; at < width; at += LANES) {
            few_words some[PARTS];
            EACH_PART some[p] = rounded(*(const few *)(from + row * width + at + p * FEW) * (127 / largest));
            *(bytes *)(integers + row * width + at) = narrowed_to_bytes(some);
        }
        scales[row] = largest / 127;
    }
}

/* Quantize a group of 32 weights in each lane, from `group` on, with the given inverse of the scale: the integers, -8 to 7, and the
 * scale that fits them best. Returns how much of the square sum of the weights they explain: the more, the smaller the error. */
INLINE few fit_int4(const float *group, long count, few inverse, few *scale, few *integers) {
    few products = {0}, squares = {0};
    for (long i = 0; i < count; i++) {
        few weight = *(const few *)(group + i * LANES), integer = nearest(weight * inverse);
        integer = choose(integer > 7, (few){0} + 7, integer);
        integer = choose(integer < -8, (few){0} - 8, integer);
        integers[i] = integer;
        products += integer * weight;
        squares += integer * integer;
    }
    squares = choose(squares == 0, (few){0} + 1, squares);
    *scale = products / squares;
    return products * *scale;
}

/* float [rows][width] -> int4 and its scales. The largest weight of a group is tried at -7.4, -8 and -8.6 times the scale
 * (the last is clipped to -8), and the scale with the least square error is taken. */
void quantize_int4(const float *from, uint32_t *weights, uint16_t *scales, long rows, long width) {
    long spans = (width + SPAN - 1) / SPAN;
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++)
        for (long span = 0; span < spans; span++)
            for (long lane = 0; lane < LANES; lane += FEW) {
                const float *group = from + row * width + span * SPAN + lane;
                long count = (width - span * SPAN < SPAN ? width - span * SPAN : SPAN) / LANES;
                few most = {0}, least = {0};
                for (long i = 0; i < count; i++) {
                    few weight = *(const few *)(group + i * LANES);
                    most = choose(weight > most, weight, most);
                    least = choose(weight < least, weight, least);
                }
                few largest = choose(most > -least, most, least);
                largest = choose(largest == 0, (few){0} + 1, largest);
                few best = {0}, scale = {0}, integers[SPAN / LANES];
                few_words chosen[SPAN / LANES] = {0};
                for (int i = 0; i < 3; i++) {
                    few its_scale;
                    few explained = fit_int4(group, count, (-7.4f - 0.6f * i) / largest, &its_scale, integers);
                    few_words better = explained > best;
                    best = choose(better, explained, best);
                    scale = choose(better, its_scale, scale);
                    for (long k = 0; k < count; k++)
                        chosen[k] = (rounded(integers[k]) & better) | (chosen[k] & ~better);
                }
                for (long block = 0; block < count / 8; block++) {
                    few_bits word = {0};
                    for (int n = 0; n < 8; n++) word |= (few_bits)(chosen[block * 8 + n] + 8) << 4 * n;
                    *(few_bits *)(weights + (row * width + span * SPAN) / 8 + block * LANES + lane) = word;
                }
                few_bits high = (few_bits)(scale * 16) + 0x8000; /* rounds to the nearest bfloat16 */
                *(few_shorts *)(scales + (row * spans + span) * LANES + lane) =
                    __builtin_convertvector(high >> 16, few_shorts);
            }
}

/* Root mean square norm: out = states / sqrt(mean(states^2) + epsilon) * weight, row by row.
 *
 *     states, out  float [count][width]
 *     weight       float [width]
 */
void norm(const float *states, const float *weight, float *out, float epsilon, long count, long width) {
    for (long row = 0; row < count; row++, states += width, out += width) {
        few sums[PARTS] = {0};
        for (long at = 0; at < width; at += LANES)
            EACH_PART {
                few v = *(const few *)(states + at + p * FEW);
                sums[p] += v * v;
            }
        float scale = 1 / __builtin_sqrtf(total(sums) / width + epsilon);
        for (long at = 0; at < width; at += FEW)
            *(few *)(out + at) = *(const few *)(states + at) * scale * *(const few *)(weight + at);
    }
}

/* Rotary embedding in place, with Llama's halves, of the first `rotated` of `heads` heads of each token.
 *
 *     states        float [count][heads][width]
 *     cosine, sine  float [count][width]; the first half of the sines has its sign changed
 */
void rotate(float *states, const float *cosine, const float *sine, long count, long heads, long rotated, long width) {
    long half = width / 2;
    for (long token = 0; token < count; token++, cosine += width, sine += width, states += heads * width)
        for (long head = 0; head < rotated; head++) {
            float *first = states + head * width, *second = first + half;
            for (long at = 0; at < half; at++) {
                float a = first[at], b = second[at];
                first[at] = a * cosine[at] + b * sine[at];
                second[at] = b * cosine[half + at] + a * sine[half + at];
            }
        }
}

#include "step.h"
#include "sampling.h"

#include "checksum.h"
