/* Multiplying states by weights that are kept in few bits: out = states @ weights.T, everything but weights in float32.
 *
 * One row of states takes as long as reading the weights takes, so what counts is that they are read once, in order,
 * and turned into floats on the way by fewer instructions than memory leaves time for. Vectors are GCC's and clang's
 * own extension, of 16 numbers, whatever the processor has.
 *
 *     states   float [count][width]
 *     out      float [count][rows]
 *     weights  fp32, bf16, fp16  [rows][width]
 *              int8              [rows][width], and float scales [rows]: weight = number * scale
 *              int4              see read_int4; width is a multiple of 128
 *
 * In the other formats width is a multiple of 16.
 */
#include <stdint.h>

extern int omp_get_thread_num(void), omp_get_num_threads(void);

#include "vectors.h"

#include "one_row.h"

enum { TALL = 4, WIDE = 4 }; /* rows of weights and of states that are multiplied together: their sums fill registers */

/* `tall` rows of weights with `wide` of states. A pair's sum is the same, bit for bit, whichever tile it is in. */
INLINE void tile(reader *read, const int tall, const int wide, const float *states, const char *weights, long stride,
                 const float *scales, float *out, long rows, long width) {
    floats sums[TALL][WIDE] = {0};
    for (long at = 0; at < width; at += LANES)
#pragma GCC unroll 4
        for (int r = 0; r < tall; r++) {
            floats weight = read(weights + r * stride, at);
#pragma GCC unroll 4
            for (int s = 0; s < wide; s++) sums[r][s] += weight * *(const floats *)(states + s * width + at);
        }
    for (int r = 0; r < tall; r++)
        for (int s = 0; s < wide; s++) out[s * rows + r] = total(sums[r][s]) * (scales ? scales[r] : 1);
}

/* Up to TALL rows of weights with all states. */
INLINE void band(reader *read, const float *states, const char *weights, long stride, const float *scales, float *out,
                 long count, long rows, long width, long row) {
    long left = rows - row < TALL ? rows - row : TALL;
    weights += row * stride, out += row, scales += scales ? row : 0;
    if (left < TALL || count < WIDE) {
        for (long r = 0; r < left; r++)
            for (long s = 0; s < count; s++)
                tile(read, 1, 1, states + s * width, weights + r * stride, stride, scales ? scales + r : 0,
                     out + s * rows + r, rows, width);
        return;
    }
    for (long first = 0; first < count; first += WIDE) {
        long at = first + WIDE <= count ? first : count - WIDE; /* the last tile may do some once more */
        tile(read, TALL, WIDE, states + at * width, weights, stride, scales, out + at * rows, rows, width);
    }
}

/* A macro, because what OpenMP runs in threads is a function of its own, in which `read` must be known. */
#define MULTIPLY(KIND, BYTES)                                                                                          \
    void multiply_##KIND(const float *states, const char *weights, const float *scales, float *out, long count,        \
                         long rows, long width) {                                                                      \
        if (count == 1) {                                                                                              \
            multiply_one(&(matrix){kind_##KIND, rows, width, weights, scales}, states, out);                           \
            return;                                                                                                    \
        }                                                                                                              \
        _Pragma("omp parallel for schedule(static)") for (long block = 0; block < (rows + TALL - 1) / TALL; block++)  \
            band(read_##KIND, states, weights, BYTES * width, scales, out, count, rows, width, block * TALL);         \
    }

MULTIPLY(fp32, 4)
MULTIPLY(bf16, 2)
MULTIPLY(fp16, 2)
MULTIPLY(int8, 1)

INLINE void tile_int4(const int tall, const int wide, const float *states, const floats *excess, const uint32_t *weights,
                      const uint16_t *scales, float *out, long rows, long width) {
    long spans = (width + SPAN - 1) / SPAN;
    floats sums[TALL][WIDE] = {0};
    for (long span = 0; span < spans; span++) {
        floats inner[TALL][WIDE];
#pragma GCC unroll 4
        for (int r = 0; r < tall; r++)
#pragma GCC unroll 4
            for (int s = 0; s < wide; s++) inner[r][s] = excess[s * MOST_SPANS + span];
        long end = (span + 1) * SPAN < width ? (span + 1) * SPAN : width;
        for (long at = span * SPAN; at < end; at += BLOCK) {
            bits word[TALL];
#pragma GCC unroll 4
            for (int r = 0; r < tall; r++) word[r] = *(const bits *)(weights + (r * width + at) / 8);
#pragma GCC unroll 8
            for (int n = 0; n < 8; n++)
#pragma GCC unroll 4
                for (int r = 0; r < tall; r++)
#pragma GCC unroll 4
                    for (int s = 0; s < wide; s++)
                        inner[r][s] += read_int4(word[r], n) * *(const floats *)(states + s * width + at + n * LANES);
        }
#pragma GCC unroll 4
        for (int r = 0; r < tall; r++)
#pragma GCC unroll 4
            for (int s = 0; s < wide; s++)
                sums[r][s] += inner[r][s] * read_bf16((const char *)(scales + r * spans * LANES), span * LANES);
    }
    for (int r = 0; r < tall; r++)
        for (int s = 0; s < wide; s++) out[s * rows + r] = total(sums[r][s]);
}

void multiply_int4(const float *states, const uint32_t *weights, const uint16_t *scales, float *out, long count,
                   long rows, long width) {
    if (count == 1) {
        multiply_one(&(matrix){kind_int4, rows, width, weights, scales}, states, out);
        return;
    }
    const int tall = TALL / 2, wide = count < WIDE ? 1 : WIDE;
    long spans = (width + SPAN - 1) / SPAN;
#pragma omp parallel
    for (long first = 0; first < count; first += wide) {
        long start = first + wide <= count ? first : count - wide; /* the last tile may do some once more */
        const float *some = states + start * width;
        float *to = out + start * rows;
        floats excess[WIDE * MOST_SPANS];
        for (long s = 0; s < wide; s++)
            for (long span = 0; span < spans; span++) {
                floats sum = {0};
                for (long at = span * SPAN; at < (span + 1) * SPAN && at < width; at += LANES)
                    sum += *(const floats *)(some + s * width + at);
                excess[s * MOST_SPANS + span] = sum * -1.5f;
            }
#pragma omp for schedule(static)
        for (long block = 0; block < (rows + tall - 1) / tall; block++) {
            long row = block * tall, left = rows - row < tall ? rows - row : tall;
            const uint32_t *from = weights + row * width / 8;
            const uint16_t *by = scales + row * spans * LANES;
            if (left == tall && wide == WIDE)
                tile_int4(tall, WIDE, some, excess, from, by, to + row, rows, width);
            else
                for (long r = 0; r < left; r++)
                    for (long s = 0; s < wide; s++)
                        tile_int4(1, 1, some + s * width, excess + s * MOST_SPANS, from + r * width / 8,
                                  by + r * spans * LANES, to + s * rows + row + r, rows, width);
        }
    }
}

/* bfloat16 [rows][width] of int4, for what multiplies many states faster than this does. */
void expand_int4(const uint32_t *weights, const uint16_t *scales, uint16_t *out, long rows, long width) {
    long spans = (width + SPAN - 1) / SPAN;
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++)
        for (long at = 0; at < width; at += BLOCK) {
            bits word = *(const bits *)(weights + (row * width + at) / 8);
            floats scale = read_bf16((const char *)(scales + row * spans * LANES), at / SPAN * LANES);
#pragma GCC unroll 8
            for (int n = 0; n < 8; n++)
                *(shorts *)(out + row * width + at + n * LANES) =
                    __builtin_convertvector((bits)((read_int4(word, n) - 1.5f) * scale) >> 16, shorts);
        }
}

/* float [rows][width] -> int8 and its scales: the largest of a row becomes 127. */
void quantise_int8(const float *from, int8_t *numbers, float *scales, long rows, long width) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        floats most = {0};
        for (long at = 0; at < width; at += LANES) most = larger(most, *(const floats *)(from + row * width + at));
        float largest = 1e-12f;
        for (int i = 0; i < LANES; i++) largest = most[i] > largest ? most[i] : largest;
        for (long at = 0; at < width; at += LANES)
            *(bytes *)(numbers + row * width + at) =
                narrow(nearest(*(const floats *)(from + row * width + at) * (127 / largest)));
        scales[row] = largest / 127;
    }
}

/* Of 32 weights in each of 16 groups: the whole numbers, -8 to 7, that come from dividing by `step`; and how much of the
 * weights they can stand for, and with which scale. */
INLINE floats fit_int4(const floats *group, long count, floats inverse, floats *scale, floats *numbers) {
    floats both = {0}, squares = {0};
    for (long i = 0; i < count; i++) {
        floats number = nearest(group[i] * inverse);
        number = choose(number > 7, (floats){0} + 7, number);
        number = choose(number < -8, (floats){0} - 8, number);
        numbers[i] = number;
        both += number * group[i];
        squares += number * number;
    }
    squares = choose(squares == 0, (floats){0} + 1, squares);
    *scale = both / squares;
    return both * *scale;
}

/* float [rows][width] -> int4 and its scales. The number of the largest weight of a group is tried at -7.4, -8 and -8.6
 * (so it is cut off); of the three the scale with the least square error is taken. */
void quantise_int4(const float *from, uint32_t *weights, uint16_t *scales, long rows, long width) {
    long spans = (width + SPAN - 1) / SPAN;
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++)
        for (long span = 0; span < spans; span++) {
            const floats *group = (const floats *)(from + row * width + span * SPAN);
            long count = (width - span * SPAN < SPAN ? width - span * SPAN : SPAN) / LANES;
            floats most = {0}, least = {0};
            for (long i = 0; i < count; i++) {
                most = choose(group[i] > most, group[i], most);
                least = choose(group[i] < least, group[i], least);
            }
            floats largest = choose(most > -least, most, least);
            largest = choose(largest == 0, (floats){0} + 1, largest);
            floats best = {0}, scale = {0}, numbers[SPAN / LANES];
            words found[SPAN / LANES] = {0};
            for (int i = 0; i < 3; i++) {
                floats its;
                floats score = fit_int4(group, count, (-7.4f - 0.6f * i) / largest, &its, numbers);
                words better = score > best;
                best = choose(better, score, best);
                scale = choose(better, its, scale);
                for (long k = 0; k < count; k++)
                    found[k] = (__builtin_convertvector(numbers[k], words) & better) | (found[k] & ~better);
            }
            for (long block = 0; block < count / 8; block++) {
                bits word = {0};
                for (int n = 0; n < 8; n++) word |= (bits)(found[block * 8 + n] + 8) << 4 * n;
                *(bits *)(weights + (row * width + span * SPAN) / 8 + block * LANES) = word;
            }
            bits high = (bits)(scale * 16) + 0x8000; /* to the nearest bfloat16 */
            *(shorts *)(scales + (row * spans + span) * LANES) = __builtin_convertvector(high >> 16, shorts);
        }
}

/* Root mean square norm: out = states / sqrt(mean(states^2) + epsilon) * weight, row by row.
 *
 *     states, out  float [count][width]
 *     weight       float [width]
 */
void norm(const float *states, const float *weight, float *out, float epsilon, long count, long width) {
    for (long row = 0; row < count; row++, states += width, out += width) {
        floats sums = {0};
        for (long at = 0; at < width; at += LANES) {
            floats v = *(const floats *)(states + at);
            sums += v * v;
        }
        float scale = 1 / __builtin_sqrtf(total(sums) / width + epsilon);
        for (long at = 0; at < width; at += LANES)
            *(floats *)(out + at) = *(const floats *)(states + at) * scale * *(const floats *)(weight + at);
    }
}

/* Rotary embedding in place, Llama's halves form, of the first `turned` of `heads` heads of each token.
 *
 *     states        float [count][heads][width]
 *     cosine, sine  float [count][width]; the first half of the sines has its sign changed
 */
void rotate(float *states, const float *cosine, const float *sine, long count, long heads, long turned, long width) {
    long half = width / 2;
    for (long token = 0; token < count; token++, cosine += width, sine += width, states += heads * width)
        for (long head = 0; head < turned; head++) {
            float *first = states + head * width, *second = first + half;
            for (long at = 0; at < half; at++) {
                float a = first[at], b = second[at];
                first[at] = a * cosine[at] + b * sine[at];
                second[at] = b * cosine[half + at] + a * sine[half + at];
            }
        }
}

#include "step.h"
