/* One token of one sequence through all layers, and its scores, by threads that stay together all the way: at this size
 * what lies between the products of a step, a few hundred calls, takes as long as a third of the products.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 3000 }; /* some 50 us, longer than threads wait for each other on a machine that does nothing else */

/* Where threads wait for each other. OpenMP's own barrier has them wait busily for milliseconds, and so keep the processor
 * from the very thread they wait for, where something else runs as well: a step took three times as long. */
typedef struct {
    int arrived, turn, asleep;
} gathering;

static void meet(gathering *all) {
    int turn = __atomic_load_n(&all->turn, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&all->arrived, 1, __ATOMIC_ACQ_REL) == omp_get_num_threads()) {
        __atomic_store_n(&all->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&all->turn, turn + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&all->asleep, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &all->turn, FUTEX_WAKE_PRIVATE, 1 << 30, 0, 0, 0);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (__atomic_load_n(&all->turn, __ATOMIC_ACQUIRE) != turn) return;
#if defined __x86_64__
        __builtin_ia32_pause();
#elif defined __aarch64__
        __asm__ volatile("isb");
#endif
    }
    __atomic_add_fetch(&all->asleep, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&all->turn, __ATOMIC_SEQ_CST) == turn)
        syscall(SYS_futex, &all->turn, FUTEX_WAIT_PRIVATE, turn, 0, 0, 0);
    __atomic_sub_fetch(&all->asleep, 1, __ATOMIC_SEQ_CST);
}

typedef struct {
    const float *input_norm, *middle_norm;
    matrix query_key_value, output, gate_up, down;
} layer;

typedef struct {
    long layers, hidden, heads, key_value_heads, head, inner;
    double epsilon;
    const layer *each;
    const float *norm;
    matrix scores;
} network;

/* Within 2 units in the last place; at most 2^126 or so, at least 2^-125. Not a number stays that. Cephes' expf. */
INLINE floats exponential(floats v) {
    v = choose(v < -87, (floats){0} - 87, v);
    v = choose(v > 87, (floats){0} + 87, v);
    floats n = nearest(v * 1.44269504f), r = v - n * 0.693359375f + n * 2.12194440e-4f;
    floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
#ifdef __AVX512F__ /* GCC 12 converts one at a time without being told how */
    words power = (words)_mm512_cvtps_epi32((__m512)n);
#else
    words power = __builtin_convertvector(n, words);
#endif
    return p * (floats)((power + 127) << 23);
}

/* gate / (1 + exp(-gate)) * up; `out` may be `gate`. */
INLINE void gated(const float *gate, const float *up, float *out, long first, long end) {
    for (long i = first; i < end; i += LANES) {
        floats v = *(const floats *)(gate + i);
        *(floats *)(out + i) = v / (1 + exponential(-v)) * *(const floats *)(up + i);
    }
}

/* [count][2 width], gate and up -> [count][width]; width is a multiple of 16. */
void gate(const float *both, float *out, long count, long width) {
#pragma omp parallel for schedule(static) if (count * width > 65536)
    for (long token = 0; token < count; token++)
        gated(both + token * 2 * width, both + (token * 2 + 1) * width, out + token * width, 0, width);
}

/* What one query head sees of up to 16 tokens more: its best score so far, the sum of exponentials, and the mix of values,
 * which are those of this score. A group's queries take turns on the same keys, which lie in the nearest cache then. */
INLINE void look(const float *query, const float *keys, const float *values, long stride, long count, long width,
                 float *best, float *sum, float *out) {
    float here[LANES] __attribute__((aligned(64)));
    for (long t = 0; t < count; t++) {
        floats product = {0};
        for (long d = 0; d < width; d += LANES)
            product += *(const floats *)(query + d) * *(const floats *)(keys + t * stride + d);
        here[t] = total(product);
    }
    for (long t = count; t < LANES; t++) here[t] = here[0];
    floats scores = *(const floats *)here * (1 / __builtin_sqrtf(width));
    *(floats *)here = scores;
    float most = *best;
    for (long t = 0; t < LANES; t++) most = here[t] > most ? here[t] : most;
    floats weights = exponential(scores - most);
    float kept = exponential((floats){0} + (*best - most))[0];
    *(floats *)here = weights;
    float more = 0;
    for (long t = 0; t < count; t++) more += here[t];
    *best = most, *sum = *sum * kept + more;
    for (long d = 0; d < width; d += LANES) {
        floats mixed = *(floats *)(out + d) * kept;
        for (long t = 0; t < count; t++) mixed += here[t] * *(const floats *)(values + t * stride + d);
        *(floats *)(out + d) = mixed;
    }
}

/* Key-value heads `first` to `end`: block by block in the order in which tokens lie, over all of these heads. */
INLINE void see(const float *queries, const float *past, float *out, long length, long group, long heads, long width,
                long first, long end) {
    float best[group * (end - first)], sum[group * (end - first)];
    for (long i = 0; i < group * (end - first); i++) best[i] = -3e38f, sum[i] = 0;
    for (long i = first * group * width; i < end * group * width; i++) out[i] = 0;
    for (long at = 0; at < length; at += LANES) {
        long count = length - at < LANES ? length - at : LANES;
        for (long head = first; head < end; head++) {
            const float *keys = past + (at * 2 * heads + head) * width;
            for (long query = head * group; query < (head + 1) * group; query++)
                look(queries + query * width, keys, keys + heads * width, 2 * heads * width, count, width,
                     best + query - first * group, sum + query - first * group, out + query * width);
        }
    }
    for (long query = first * group; query < end * group; query++)
        for (long d = 0; d < width; d++) out[query * width + d] /= sum[query - first * group];
}

/* As known numbers loops are unrolled. */
static void see_heads(const float *queries, const float *past, float *out, long length, long group, long heads,
                      long width, long first, long end) {
    if (width == 64)
        see(queries, past, out, length, group, heads, 64, first, end);
    else if (width == 128)
        see(queries, past, out, length, group, heads, 128, first, end);
    else
        see(queries, past, out, length, group, heads, width, first, end);
}

/* What one token of each of `slots` sequences sees of those before it and itself. A slot's result does not depend on
 * the others, nor on the number of threads.
 *
 *     queries  float [slots][group * heads][width], `stride` from slot to slot; width is a multiple of 16
 *     past     float [slots][room][2 * heads][width], keys and values
 *     lengths  int64 [slots], how many of `room` count
 *     out      float [slots][group * heads][width]
 */
void attend(const float *queries, const float *past, const int64_t *lengths, float *out, long slots, long room,
            long group, long heads, long width, long stride) {
#pragma omp parallel for schedule(dynamic)
    for (long item = 0; item < slots * heads; item++) {
        long slot = item / heads, head = item % heads;
        see_heads(queries + slot * stride, past + slot * room * 2 * heads * width, out + slot * group * heads * width,
                  lengths[slot], group, heads, width, head, head + 1);
    }
}

/* `hidden`, float [hidden], through the network; scores, float [rows of the head].
 *
 *     past          float [layers][layer_size], of which [room][2 * key_value_heads][head] is this sequence's; the token is
 *                   number `position`, and its keys and values are written there
 *     cosine, sine  float [head], as for `rotate`
 *     room          float: (heads + 2 * key_value_heads) * head, heads * head, 2 * inner
 */
void step(const network *net, float *hidden, float *past, long layer_size, long position, const float *cosine,
          const float *sine, float *room, float *scores) {
    const long width = net->head, heads = net->key_value_heads, group = net->heads / heads;
    float *both = room, *mixed = both + (net->heads + 2 * heads) * width, *inner = mixed + net->heads * width;
    long taken[4 * net->layers + 1], *next = taken;
    for (long i = 0; i <= 4 * net->layers; i++) taken[i] = 0;
    gathering all = {0};
#pragma omp parallel firstprivate(next)
    {
        row *here = own_states();
        float *plain = (float *)here->plain;
        long first, end;
        long thread = omp_get_thread_num(), threads = omp_get_num_threads();
        long first_head = heads * thread / threads, end_head = heads * (thread + 1) / threads;
        for (long number = 0; number < net->layers; number++) {
            const layer *l = net->each + number;
            norm(hidden, l->input_norm, plain, net->epsilon, 1, net->hidden);
            prepare(here, net->hidden, &l->query_key_value);
            while (take(next, l->query_key_value.rows, &first, &end))
                products(&l->query_key_value, here, both, first, end, 0);
            meet(&all);
            if (first_head < end_head) {
                float *table = past + number * layer_size, *keys = both + net->heads * width;
                long from = first_head * width, size = (end_head - first_head) * width;
                rotate(both + from * group, cosine, sine, 1, 0, group * (end_head - first_head), width);
                rotate(keys + from, cosine, sine, 1, 0, end_head - first_head, width);
                float *now = table + position * 2 * heads * width;
                for (long i = from; i < from + size; i++)
                    now[i] = keys[i], now[heads * width + i] = keys[heads * width + i];
                see_heads(both, table, mixed, position + 1, group, heads, width, first_head, end_head);
            }
            meet(&all);
            for (long i = 0; i < net->heads * width; i++) plain[i] = mixed[i];
            prepare(here, net->heads * width, &l->output);
            while (take(next + 1, net->hidden, &first, &end)) products(&l->output, here, hidden, first, end, 1);
            meet(&all);
            norm(hidden, l->middle_norm, plain, net->epsilon, 1, net->hidden);
            prepare(here, net->hidden, &l->gate_up);
            while (take(next + 2, net->inner, &first, &end)) {
                products(&l->gate_up, here, inner, first, end, 0);
                products(&l->gate_up, here, inner, net->inner + first, net->inner + end, 0);
                gated(inner, inner + net->inner, inner, first, end);
            }
            meet(&all);
            for (long i = 0; i < net->inner; i++) plain[i] = inner[i];
            prepare(here, net->inner, &l->down);
            while (take(next + 3, net->hidden, &first, &end)) products(&l->down, here, hidden, first, end, 1);
            next += 4;
            meet(&all);
        }
        norm(hidden, net->norm, plain, net->epsilon, 1, net->hidden);
        prepare(here, net->hidden, &net->scores);
        while (take(next, net->scores.rows, &first, &end)) products(&net->scores, here, scores, first, end, 0);
    }
}
