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

extern int omp_get_thread_num(void), omp_get_num_threads(void);

#include "barrier.h"

#include "vectors.h"

#include "integers.h"

#include "one_row.h"

#include "many_rows.h"

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
            multiply_one(&(matrix){format_##FORMAT, rows, width, weights, scales}, states, width, out);                           \
            return;                                                                                                    \
        }                                                                                                              \
        _Pragma("omp parallel for schedule(static)") for (long block = 0; block < (rows + TALL - 1) / TALL; block++)  \
            band(read_##FORMAT, states, weights, BYTES * width, scales, out, count, rows, width, block * TALL);         \
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
#include "sampling.h"

#include "checksum.h"
