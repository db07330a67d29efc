/* Matrix products with weights of few bits: out = states @ weights.T. Everything but the weights is float32.
 *
 * With one row of states a product takes as long as reading the weights. So they are read once and in order, and become
 * floats on the way with fewer instructions than the memory leaves time for.
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

extern int omp_get_thread_num(void), omp_get_num_threads(void);

#include "vectors.h"

#include "one_row.h"

enum { TALL = 4, WIDE = 4 }; /* rows of weights and rows of states of a tile, whose sums fill the registers */

/* `tall` rows of weights with `wide` rows of states. The sum of a pair is bit for bit the same in every tile. */
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

/* Up to TALL rows of weights, from `row` on, with all states. */
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
        long at = first + WIDE <= count ? first : count - WIDE; /* the last tile may repeat some */
        tile(read, TALL, WIDE, states + at * width, weights, stride, scales, out + at * rows, rows, width);
    }
}

/* A macro, because OpenMP puts the parallel part into a function of its own, in which `read` must be a constant. */
#define MULTIPLY(FORMAT, BYTES)                                                                                        \
    void multiply_##FORMAT(const float *states, const char *weights, const float *scales, float *out, long count,        \
                         long rows, long width) {                                                                      \
        if (count == 1) {                                                                                              \
            multiply_one(&(matrix){format_##FORMAT, rows, width, weights, scales}, states, out);                           \
            return;                                                                                                    \
        }                                                                                                              \
        _Pragma("omp parallel for schedule(static)") for (long block = 0; block < (rows + TALL - 1) / TALL; block++)  \
            band(read_##FORMAT, states, weights, BYTES * width, scales, out, count, rows, width, block * TALL);         \
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
            for (int s = 0; s < wide; s++) inner[r][s] = excess[s * MAX_SPANS + span];
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
        multiply_one(&(matrix){format_int4, rows, width, weights, scales}, states, out);
        return;
    }
    const int tall = TALL / 2, wide = count < WIDE ? 1 : WIDE;
    long spans = (width + SPAN - 1) / SPAN;
#pragma omp parallel
    for (long first = 0; first < count; first += wide) {
        long start = first + wide <= count ? first : count - wide; /* the last tile may repeat some */
        const float *some = states + start * width;
        float *to = out + start * rows;
        floats excess[WIDE * MAX_SPANS];
        for (long s = 0; s < wide; s++)
            for (long span = 0; span < spans; span++) {
                floats sum = {0};
                for (long at = span * SPAN; at < (span + 1) * SPAN && at < width; at += LANES)
                    sum += *(const floats *)(some + s * width + at);
                excess[s * MAX_SPANS + span] = sum * -1.5f;
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
                        tile_int4(1, 1, some + s * width, excess + s * MAX_SPANS, from + r * width / 8,
                                  by + r * spans * LANES, to + s * rows + row + r, rows, width);
        }
    }
}

/* int4 -> bfloat16 [rows][width], for torch's product, which is faster with many rows of states. */
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

/* A few rows of states take turns in a product with the formats of GGUF files, whose rows are stored in whole spans. */
static void multiply_groups(long format, const float *states, const void *weights, const void *scales, float *out,
                            long count, long rows, long width) {
    matrix by = {format, rows, (width + SPAN - 1) / SPAN * SPAN, weights, scales};
    for (long from = 0; from < count; from += MAX_ROWS, states += MAX_ROWS * width, out += MAX_ROWS * rows) {
        long some = count - from < MAX_ROWS ? count - from : MAX_ROWS, taken = 0;
#pragma omp parallel
        {
            row *here = own_states();
            long first, end;
            for (long s = 0; s < some; s++) {
                for (long i = 0; i < width / LANES; i++) here[s].plain[i] = ((const floats *)(states + s * width))[i];
                prepare(here + s, width, &by);
            }
            while (take(&taken, rows, &first, &end)) products(&by, here, some, out, rows, first, end, 0);
        }
    }
}

void multiply_q8_0(const float *states, const void *weights, const void *scales, float *out, long count, long rows,
                   long width) {
    multiply_groups(format_q8_0, states, weights, scales, out, count, rows, width);
}

void multiply_q4_0(const float *states, const void *weights, const void *scales, float *out, long count, long rows,
                   long width) {
    multiply_groups(format_q4_0, states, weights, scales, out, count, rows, width);
}

/* q8_0 or q4_0, in whole spans -> bfloat16 [rows][width] in the order of the states. */
INLINE void expand_groups(const int bits_each, const char *weights, const uint16_t *scales, uint16_t *out, long rows,
                          long width) {
    const int pair = bits_each == 8 ? 2 : 1;
    long spans = width / SPAN;
#pragma omp parallel for schedule(static)
    for (long span = 0; span < rows * spans; span++) {
        uint16_t sorted[SPAN];
        const char *from = weights + span * SPAN * bits_each / 8;
        floats scale = read_fp16((const char *)scales, span * LANES);
        for (int i = 0; i < SPAN / LANES; i++) {
            floats values = bits_each == 8 ? read_int8(from, i * LANES)
                                           : (read_int4(*(const bits *)(from + i / 8 * 64), i % 8) - 1.5f) * 16;
            floats by = scale;
            if (pair == 2)
                for (int l = 0; l < LANES; l++) by[l] = scale[i % 2 * (LANES / 2) + l / 2];
            *(shorts *)(sorted + i * LANES) = __builtin_convertvector(((bits)(values * by) + 0x8000) >> 16, shorts);
        }
        for (int i = 0; i < GROUP / pair; i++)
            for (int group = 0; group < LANES; group++)
                for (int h = 0; h < pair; h++)
                    out[span * SPAN + group * GROUP + i * pair + h] = sorted[(i * LANES + group) * pair + h];
    }
}

void expand_q8_0(const char *weights, const uint16_t *scales, uint16_t *out, long rows, long width) {
    expand_groups(8, weights, scales, out, rows, width);
}

void expand_q4_0(const char *weights, const uint16_t *scales, uint16_t *out, long rows, long width) {
    expand_groups(4, weights, scales, out, rows, width);
}

/* float [rows][width] -> int8 and its scales: the largest weight of a row becomes 127. */
void quantize_int8(const float *from, int8_t *integers, float *scales, long rows, long width) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        floats largest_of_lane = {0};
        for (long at = 0; at < width; at += LANES)
            largest_of_lane = larger(largest_of_lane, *(const floats *)(from + row * width + at));
        float largest = 1e-12f;
        for (int i = 0; i < LANES; i++) largest = largest_of_lane[i] > largest ? largest_of_lane[i] : largest;
        for (long at = 0; at < width; at += LANES)
            *(bytes *)(integers + row * width + at) =
                narrow(nearest(*(const floats *)(from + row * width + at) * (127 / largest)));
        scales[row] = largest / 127;
    }
}

/* Quantize 16 groups of 32 weights with the given inverse of the scale: the integers, -8 to 7, and the scale that fits them
 * best. Returns how much of the square sum of the weights they explain: the more, the smaller the error. */
INLINE floats fit_int4(const floats *group, long count, floats inverse, floats *scale, floats *integers) {
    floats products = {0}, squares = {0};
    for (long i = 0; i < count; i++) {
        floats integer = nearest(group[i] * inverse);
        integer = choose(integer > 7, (floats){0} + 7, integer);
        integer = choose(integer < -8, (floats){0} - 8, integer);
        integers[i] = integer;
        products += integer * group[i];
        squares += integer * integer;
    }
    squares = choose(squares == 0, (floats){0} + 1, squares);
    *scale = products / squares;
    return products * *scale;
}

/* float [rows][width] -> int4 and its scales. The largest weight of a group is tried at -7.4, -8 and -8.6 times the scale
 * (the last is clipped to -8), and the scale with the least square error is taken. */
void quantize_int4(const float *from, uint32_t *weights, uint16_t *scales, long rows, long width) {
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
            floats best = {0}, scale = {0}, integers[SPAN / LANES];
            words chosen[SPAN / LANES] = {0};
            for (int i = 0; i < 3; i++) {
                floats its_scale;
                floats explained = fit_int4(group, count, (-7.4f - 0.6f * i) / largest, &its_scale, integers);
                words better = explained > best;
                best = choose(better, explained, best);
                scale = choose(better, its_scale, scale);
                for (long k = 0; k < count; k++)
                    chosen[k] = (__builtin_convertvector(integers[k], words) & better) | (chosen[k] & ~better);
            }
            for (long block = 0; block < count / 8; block++) {
                bits word = {0};
                for (int n = 0; n < 8; n++) word |= (bits)(chosen[block * 8 + n] + 8) << 4 * n;
                *(bits *)(weights + (row * width + span * SPAN) / 8 + block * LANES) = word;
            }
            bits high = (bits)(scale * 16) + 0x8000; /* rounds to the nearest bfloat16 */
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
