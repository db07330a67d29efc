/* One token of each of some sequences through all layers to the logits, in one parallel region: started one by one, the
 * few hundred operations between the products of a step would take a third of the products' time. The weights are read once
 * for all sequences, and the logits of each are bit for bit those of a step with this sequence alone.
 */
typedef struct {
    const float *input_norm, *middle_norm;
    matrix query_key_value, output, gate_up, down;
    const float *bias, *query_norm, *key_norm; /* of queries, keys and values; of a head: NULL where the network has none */
} layer;

typedef struct {
    long layer_count, hidden_size, heads, key_value_heads, head_dim, intermediate_size;
    double norm_epsilon;
    const layer *layers;
    const float *norm;
    matrix head;
    long few_rows; /* from more rows on a step is that of many */
} network;

/* Bytes of the keys and values of a step that may not stay in the processor's cache until the next step. */
enum { FAR_BYTES = 4 << 20 };

/* exp(v) within 2 units in the last place, limited to about 2^-125 to 2^126; NaN stays NaN. From Cephes' expf. */
INLINE few exponential(few v) {
    v = choose(v < -87, (few){0} - 87, v);
    v = choose(v > 87, (few){0} + 87, v);
    few n = nearest(v * 1.44269504f), r = v - n * 0.693359375f + n * 2.12194440e-4f;
    few p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    return p * (few)((rounded(n) + 127) << 23);
}

/* silu(gate) * up; `out` may be `gate`. */
INLINE void gated(const float *gate, const float *up, float *out, long first, long end) {
    for (long i = first; i < end; i += FEW) {
        few v = *(const few *)(gate + i);
        *(few *)(out + i) = v / (1 + exponential(-v)) * *(const few *)(up + i);
    }
}

/* float [count][2 width], gate and up -> [count][width]; width is a multiple of 16. */
void gate(const float *gate_up, float *out, long count, long width) {
#pragma omp parallel for schedule(static) if (count * width > 65536)
    for (long token = 0; token < count; token++)
        gated(gate_up + token * 2 * width, gate_up + (token * 2 + 1) * width, out + token * width, 0, width);
}

/* Add the weighted values of `count` tokens to `sums` * kept, some vectors at a time. */
INLINE void mix(const int vectors, const float *weights, const float *values, long stride, long count, float kept, float *sums) {
    few mixed[8];
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++) mixed[i] = *(few *)(sums + i * FEW) * kept;
    for (long t = 0; t < count; t++)
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++) mixed[i] += weights[t] * *(const few *)(values + t * stride + i * FEW);
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++) *(few *)(sums + i * FEW) = mixed[i];
}

/* Online softmax of one query head over up to 16 more tokens. It updates the best score so far, the sum of exponentials
 * relative to it, and the weighted sum of the values. The queries of a group take turns on the same keys, which then lie in
 * the first-level cache. */
INLINE void attend_block(const float *query, const float *keys, const float *values, long stride, long count, long width,
                 float *best, float *sum, float *out) {
    float here[LANES] __attribute__((aligned(64)));
    few products[LANES][PARTS], scores[PARTS];
    for (long t = 0; t < count; t++) {
        few product[PARTS] = {0};
        for (long d = 0; d < width; d += LANES)
            EACH_PART product[p] +=
                *(const few *)(query + d + p * FEW) * *(const few *)(keys + t * stride + d + p * FEW);
        EACH_PART products[t][p] = product[p];
    }
    for (long t = count; t < LANES; t++) EACH_PART products[t][p] = products[0][p];
    totals(products, scores);
    EACH_PART scores[p] *= 1 / __builtin_sqrtf(width);
    float most = largest_of(scores);
    most = most > *best ? most : *best;
    EACH_PART ((few *)here)[p] = exponential(scores[p] - most);
    float kept = exponential((few){0} + (*best - most))[0];
    float more = 0;
    for (long t = 0; t < count; t++) more += here[t];
    *best = most, *sum = *sum * kept + more;
    enum { VECTORS = PARTS == 1 ? 4 : 8 };
    long d = 0;
    for (; d + VECTORS * FEW <= width; d += VECTORS * FEW) mix(VECTORS, here, values + d, stride, count, kept, out + d);
    for (; d < width; d += FEW) mix(1, here, values + d, stride, count, kept, out + d);
}

/* Attention of key-value heads `first` to `end`: block by block in the order of the tokens, all of these heads in each.
 * Those of the first `shared` tokens, whole blocks, are read from `prefix`, where other sequences have the same ones.
 * With `is_far` the others come from memory, not from a cache: a block is then touched from its beginning to its end
 * first, since memory serves that twice as fast as the pieces of one head after the other. */
INLINE void attend_range(const float *queries, const float *past, const float *prefix, long shared, float *out, long length,
                         long group, long heads, long width, long first, long end, int is_far) {
    float best[group * (end - first)], sum[group * (end - first)];
    for (long i = 0; i < group * (end - first); i++) best[i] = -3e38f, sum[i] = 0;
    for (long i = first * group * width; i < end * group * width; i++) out[i] = 0;
    for (long at = 0; at < length; at += LANES) {
        long count = length - at < LANES ? length - at : LANES;
        const float *block = (at < shared ? prefix : past) + at * 2 * heads * width;
        for (long i = 0; is_far && at >= shared && i < count * 2 * heads * width; i += LANES)
            __asm__ volatile("" : : "r"(*(const int *)(block + i)));
        for (long head = first; head < end; head++) {
            const float *keys = block + head * width;
#define BLOCK_OF(COUNT)                                                                                                \
    attend_block(queries + query * width, keys, keys + heads * width, 2 * heads * width, COUNT, width,                 \
                 best + query - first * group, sum + query - first * group, out + query * width)
            for (long query = head * group; query < (head + 1) * group; query++)
                if (count == LANES)
                    BLOCK_OF(LANES);
                else
                    BLOCK_OF(count);
        }
    }
    for (long query = first * group; query < end * group; query++)
        for (long d = 0; d < width; d++) out[query * width + d] /= sum[query - first * group];
}

/* With constant widths the loops are unrolled. */
static void attend_heads(const float *queries, const float *past, const float *prefix, long shared, float *out, long length,
                         long group, long heads, long width, long first, long end, int is_far) {
    if (width == 64)
        attend_range(queries, past, prefix, shared, out, length, group, heads, 64, first, end, is_far);
    else if (width == 128)
        attend_range(queries, past, prefix, shared, out, length, group, heads, 128, first, end, is_far);
    else
        attend_range(queries, past, prefix, shared, out, length, group, heads, width, first, end, is_far);
}

/* Attention of one token of each of `slots` sequences to the earlier ones and itself. The result of a slot depends neither on
 * the other slots nor on the number of threads.
 *
 *     queries  float [slots][group * heads][width], `stride` floats from slot to slot; width is a multiple of 16
 *     past     float [slots][capacity][2 * heads][width], keys and values
 *     lengths  int64 [slots], how many tokens of `capacity` belong to the sequence
 *     out      float [slots][group * heads][width]
 */
void attend(const float *queries, const float *past, const int64_t *lengths, float *out, long slots, long capacity,
            long group, long heads, long width, long stride) {
#pragma omp parallel for schedule(dynamic)
    for (long item = 0; item < slots * heads; item++) {
        long slot = item / heads, head = item % heads;
        attend_heads(queries + slot * stride, past + slot * capacity * 2 * heads * width, 0, 0,
                     out + slot * group * heads * width, lengths[slot], group, heads, width, head, head + 1, 0);
    }
}

/* Prepare the normed hidden states, float [count][hidden_size], for a product with `by`. */
INLINE void prepare_normed(row *states, long count, const float *hidden, const float *weight, const network *net,
                           const matrix *by) {
    for (long s = 0; s < count; s++) {
        norm(hidden + s * net->hidden_size, weight, (float *)states[s].plain, net->norm_epsilon, 1, net->hidden_size);
        prepare(states + s, net->hidden_size, by);
    }
}

/* Prepare float [count][width], `stride` floats from row to row, for a product with `by`. */
INLINE void prepare_copied(row *states, long count, const float *from, long stride, long width, const matrix *by) {
    for (long s = 0; s < count; s++, from += stride) {
        float *plain = (float *)states[s].plain;
        for (long i = 0; i < width; i++) plain[i] = from[i];
        prepare(states + s, width, by);
    }
}

/* Bias and norm of `heads` heads of one token, in place. */
INLINE void finish_heads(float *states, const float *bias, const float *weight, float epsilon, long heads, long width) {
    for (long i = 0; bias && i < heads * width; i++) states[i] += bias[i];
    if (weight)
        for (long head = 0; head < heads; head++) norm(states + head * width, weight, states + head * width, epsilon, 1, width);
}

/* Queries, keys and values of one token as they enter the attention: key-value heads `first` to `end` and their queries.
 *
 *     queries       float [group * heads][width], followed by keys and values, [heads][width] each; changed in place
 *     cosine, sine  float [width], of the token's position
 */
INLINE void finish_projections(const network *net, const layer *l, float *queries, const float *cosine, const float *sine,
                               long first, long end) {
    const long width = net->head_dim, heads = net->key_value_heads, group = net->heads / heads, count = end - first;
    float *keys = queries + net->heads * width + first * width, *values = keys + heads * width;
    const float *bias = l->bias, *key_bias = bias ? bias + net->heads * width + first * width : 0;
    queries += first * group * width;
    finish_heads(queries, bias ? bias + first * group * width : 0, l->query_norm, net->norm_epsilon, group * count, width);
    finish_heads(keys, key_bias, l->key_norm, net->norm_epsilon, count, width);
    finish_heads(values, bias ? key_bias + heads * width : 0, 0, 0, count, width);
    rotate(queries, cosine, sine, 1, 0, group * count, width);
    rotate(keys, cosine, sine, 1, 0, count, width);
}

/* Bytes of `scratch` for a step of `count` sequences. */
long step_bytes(const network *net, long count) {
    long floats_each = 2 * (net->heads + net->key_value_heads) * net->head_dim + 2 * net->intermediate_size;
    long mixed = net->heads * net->head_dim, widest = mixed > net->hidden_size ? mixed : net->hidden_size;
    if (net->intermediate_size > widest) widest = net->intermediate_size;
    return (4 * floats_each + many_bytes(1, widest) + 63) / 64 * 64 * count;
}

/* The arguments of `step`. */
typedef struct {
    const network *net;
    long count;
    float *hidden, *past;
    long layer_size, slot_size;
    const int64_t *slots, *positions, *sources, *shared;
    const float *cosine, *sine;
    float *scratch, *logits;
    long parts;
} step_arguments;

enum { LEAST_ROWS = 2 }; /* of a part of a step */

/* A step of many sequences with integer weights: those with the numbers `part`, `part` + parts and so on. The states of a product are
 * prepared once, each row by one thread, which also does what lies between two products of that row. */
static void step_many(const void *arguments, long part) {
    const step_arguments *all_of = arguments;
    const network *net = all_of->net;
    const long apart = all_of->parts, count = (all_of->count - part + apart - 1) / apart;
    const long layer_size = all_of->layer_size, slot_size = all_of->slot_size;
    const int64_t *sources = all_of->sources, *shared = all_of->shared;
    const float *cosine = all_of->cosine, *sine = all_of->sine;
    float *past = all_of->past;
    const long width = net->head_dim, heads = net->key_value_heads, group = net->heads / heads;
    const long hidden_size = net->hidden_size, inner_size = net->intermediate_size;
    const long projected_size = (net->heads + 2 * heads) * width, mixed_size = net->heads * width;
    const long hidden_stride = apart * hidden_size, logits_stride = apart * net->head.rows;
    float *hidden = all_of->hidden + part * hidden_size, *logits = all_of->logits + part * net->head.rows;
    float *scratch = all_of->scratch + step_bytes(net, all_of->count / apart + 1) / 4 * part;
#define SLOT(S) all_of->slots[part + (S) * apart]
#define POSITION(S) all_of->positions[part + (S) * apart]
    float *projected = scratch, *inner = projected + count * projected_size;
    void *memory = inner + count * 2 * inner_size;
    long tokens = 0;
    for (long s = 0; s < count; s++) tokens += POSITION(s) - shared[SLOT(s)];
    const int is_far = tokens * net->layer_count * 2 * heads * width * 4 > FAR_BYTES;
    long taken[8 * net->layer_count + 2], *next = taken;
    for (long i = 0; i < 8 * net->layer_count + 2; i++) taken[i] = 0;
    barrier all = {0};
/* The rows of states, one after the other, each by the thread that is free. */
#define EACH_ROW(BY, ...)                                                                                              \
    {                                                                                                                  \
        many states = many_at(memory, count, (BY)->width);                                                             \
        for (long s; (s = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < count;) {                                    \
            float *plain = (float *)here->plain;                                                                       \
            __VA_ARGS__;                                                                                               \
            prepare_many(&states, s, here, filled, BY);                                                                \
        }                                                                                                              \
        next++;                                                                                                        \
        wait_for_all(&all);                                                                                            \
    }
#define PRODUCT(BY, ROWS, OUT, STRIDE, ADD)                                                                            \
    {                                                                                                                  \
        many states = many_at(memory, count, (BY)->width);                                                             \
        while (take(next, ROWS, &first, &end)) products_of_many(BY, &states, OUT, STRIDE, first, end, ADD);            \
        next++;                                                                                                        \
        wait_for_all(&all);                                                                                            \
    }
#define NORMED(WEIGHT)                                                                                                 \
    const long filled = hidden_size;                                                                                   \
    norm(hidden + s * hidden_stride, WEIGHT, plain, net->norm_epsilon, 1, hidden_size)
#pragma omp parallel firstprivate(next) num_threads(apart > 1 ? 1 : omp_get_max_threads())
    {
        row *here = own_states();
        long first, end;
        for (long number = 0; number < net->layer_count; number++) {
            const layer *l = net->layers + number;
            /* 1. Queries, keys and values. */
            EACH_ROW(&l->query_key_value, NORMED(l->input_norm));
            PRODUCT(&l->query_key_value, projected_size, projected, projected_size, 0);
            /* 2. Attention and its output projection, added to the hidden state. */
            EACH_ROW(&l->output, {
                float *queries = projected + s * projected_size, *keys = queries + mixed_size;
                float *cached = past + number * layer_size + SLOT(s) * slot_size;
                finish_projections(net, l, queries, cosine + POSITION(s) * width, sine + POSITION(s) * width, 0, heads);
                __builtin_memcpy(cached + POSITION(s) * 2 * heads * width, keys, 4 * 2 * heads * width);
                attend_heads(queries, cached, past + number * layer_size + sources[SLOT(s)] * slot_size,
                             shared[SLOT(s)] / LANES * LANES, plain, POSITION(s) + 1, group, heads, width, 0, heads, is_far);
            } const long filled = mixed_size);
            PRODUCT(&l->output, hidden_size, hidden, hidden_stride, 1);
            /* 3. SwiGLU, added to the hidden state. */
            EACH_ROW(&l->gate_up, NORMED(l->middle_norm));
            PRODUCT(&l->gate_up, 2 * inner_size, inner, 2 * inner_size, 0);
            EACH_ROW(&l->down, const float *gate = inner + s * 2 * inner_size;
                     gated(gate, gate + inner_size, plain, 0, inner_size); const long filled = inner_size);
            PRODUCT(&l->down, hidden_size, hidden, hidden_stride, 1);
        }
        /* 4. The head. */
        EACH_ROW(&net->head, NORMED(net->norm));
        PRODUCT(&net->head, net->head.rows, logits, logits_stride, 0);
    }
}

/* One token of each of `count` sequences through the network. More than MAX_ROWS need integer weights.
 *
 *     hidden        float [count][hidden_size], the embeddings of the tokens; overwritten
 *     past          float [layer_count][layer_size], of which [..][slot_size], of which [capacity][2 * key_value_heads]
 *                   [head_dim], keys and values; those of the tokens are written at `positions`
 *     slots         int64 [count], where in `past` a sequence has its keys and values
 *     positions     int64 [count]
 *     sources, shared  int64, by slot: as many tokens at the beginning of a slot as `shared` are those of the slot `sources`
 *     cosine, sine  float [tokens][head_dim], as for `rotate`, by position
 *     scratch       `step_bytes`, aligned to 64 bytes
 *     logits        float [count][rows of the head]
 *     threads       the most threads that share many sequences, each with its own ones; 1: OpenMP's threads share each product
 */
void step(const network *net, long count, float *hidden, float *past, long layer_size, long slot_size,
          const int64_t *slots, const int64_t *positions, const int64_t *sources, const int64_t *shared, const float *cosine,
          const float *sine, float *scratch, float *logits, long threads) {
    const layer *any = net->layers;
    const int are_short = is_short(&net->head) && is_short(&any->query_key_value) && is_short(&any->output) &&
                          is_short(&any->gate_up) && is_short(&any->down);
    if (count > net->few_rows || (are_short && count > 1)) {
        long parts = count / LEAST_ROWS < threads ? count / LEAST_ROWS : threads;
        const step_arguments all = {net,  count,  hidden,  past,   layer_size, slot_size, slots,  positions,
                                    sources, shared, cosine, sine, scratch,    logits,    parts > 1 ? parts : 1};
        share_parts(all.parts, step_many, &all);
        return;
    }
    const long width = net->head_dim, heads = net->key_value_heads, group = net->heads / heads;
    const long hidden_size = net->hidden_size, inner_size = net->intermediate_size;
    const long projected_size = (net->heads + 2 * heads) * width, mixed_size = net->heads * width;
    float *projected = scratch, *mixed = projected + count * projected_size, *inner = mixed + count * mixed_size;
    long taken[4 * net->layer_count + 1], *next = taken;
    for (long i = 0; i <= 4 * net->layer_count; i++) taken[i] = 0;
    barrier all = {0};
#pragma omp parallel firstprivate(next)
    {
        row *here = own_states();
        long thread = omp_get_thread_num(), threads = omp_get_num_threads();
        long first_head = heads * thread / threads, end_head = heads * (thread + 1) / threads;
        for (long number = 0; number < net->layer_count; number++) {
            const layer *l = net->layers + number;
            /* 1. Queries, keys and values. Every thread prepares the states for itself. */
            prepare_normed(here, count, hidden, l->input_norm, net, &l->query_key_value);
            share own = begin_share(next, projected_size);
            while (take_next(&own))
                products(&l->query_key_value, here, count, projected, projected_size, own.first, own.end, own.next, 0);
            wait_for_all(&all);
            /* 2. Attention, each thread with its share of the key-value heads. */
            for (long s = 0; s < count && first_head < end_head; s++) {
                float *queries = projected + s * projected_size, *keys = queries + mixed_size;
                float *cached = past + number * layer_size + slots[s] * slot_size, *own = cached + positions[s] * 2 * heads * width;
                long from = first_head * width, size = (end_head - first_head) * width;
                finish_projections(net, l, queries, cosine + positions[s] * width, sine + positions[s] * width, first_head,
                                   end_head);
                for (long i = from; i < from + size; i++)
                    own[i] = keys[i], own[heads * width + i] = keys[heads * width + i];
                attend_heads(queries, cached, 0, 0, mixed + s * mixed_size, positions[s] + 1, group, heads, width, first_head,
                             end_head, 0);
            }
            wait_for_all(&all);
            /* 3. Output projection, added to the hidden state. */
            prepare_copied(here, count, mixed, mixed_size, mixed_size, &l->output);
            own = begin_share(next + 1, hidden_size);
            while (take_next(&own))
                products(&l->output, here, count, hidden, hidden_size, own.first, own.end, own.next, 1);
            wait_for_all(&all);
            /* 4. SwiGLU: gate and up of the same rows in one go, then down, added to the hidden state. */
            prepare_normed(here, count, hidden, l->middle_norm, net, &l->gate_up);
            own = begin_share(next + 2, inner_size);
            while (take_next(&own)) {
                const long up = inner_size + own.first;
                products(&l->gate_up, here, count, inner, 2 * inner_size, own.first, own.end, up, 0);
                products(&l->gate_up, here, count, inner, 2 * inner_size, up, inner_size + own.end, own.next, 0);
                for (float *of = inner; of < inner + count * 2 * inner_size; of += 2 * inner_size)
                    gated(of, of + inner_size, of, own.first, own.end);
            }
            wait_for_all(&all);
            prepare_copied(here, count, inner, 2 * inner_size, inner_size, &l->down);
            own = begin_share(next + 3, hidden_size);
            while (take_next(&own)) products(&l->down, here, count, hidden, hidden_size, own.first, own.end, own.next, 1);
            next += 4;
            wait_for_all(&all);
        }
        /* 5. The head. */
        prepare_normed(here, count, hidden, net->norm, net, &net->head);
        share own = begin_share(next, net->head.rows);
        while (take_next(&own))
            products(&net->head, here, count, logits, net->head.rows, own.first, own.end, own.next, 0);
    }
}
