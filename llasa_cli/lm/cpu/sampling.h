/* Logits -> one code for each of some sequences, as `lm/sampler.py` describes it, and the counters that go with it: torch makes some
 * forty calls of that, which take longer than a step of a small model.
 */
extern float logf(float);

typedef struct {
    long logits;  /* n: the codes, then END */
    long context; /* numbers of each sequence in `uniforms` */
    long first_code_id;
    long slots; /* the second row of slot i, for guidance, is row slots + i; 0: there is none */
    const float *temperature, *top_p, *min_p, *penalty, *guidance;
    const int64_t *top_k, *kind; /* 0 greedy, 1 plain, 2 filtered */
    const float *uniforms;       /* [slots][context] */
    uint8_t *spoken;             /* [slots][n] */
    int64_t *sampled;            /* [slots], how many codes */
    const int64_t *limits;       /* [slots], how many codes count for the likelihood */
    float *log_probabilities;    /* [slots] */
    uint8_t *ended;              /* [slots] */
    int64_t *ids, *positions;    /* by row */
} sampler;

typedef struct {
    float value;
    int32_t index;
} candidate;

/* The largest of some numbers; NaN if one is NaN. */
static float most_of(const float *numbers, long count) {
    few most = {0}, invalid = {0};
    most -= 3.4e38f;
    long i = 0;
    for (; i + FEW <= count; i += FEW) {
        few v = *(const few *)(numbers + i);
        most = choose(v > most, v, most);
        invalid += v * 0; /* NaN for infinite numbers too, of which -infinity is allowed: only NaN counts below */
    }
    float found = -__builtin_inff(), sum = 0;
    for (int l = 0; l < FEW && i; l++) {
        found = most[l] > found ? most[l] : found;
        sum += invalid[l];
    }
    for (; i < count; i++) {
        found = numbers[i] > found ? numbers[i] : found;
        sum += numbers[i] * 0;
    }
    if (sum == sum) return found;
    for (i = 0; i < count; i++)
        if (numbers[i] != numbers[i]) return numbers[i];
    return found;
}

/* log(sum(exp(numbers))), where `most` is the largest. */
static float log_sum(const float *numbers, long count, float most) {
    few sums[PARTS] = {0};
    long i = 0;
    for (; i + LANES <= count; i += LANES)
        EACH_PART sums[p] += exponential(*(const few *)(numbers + i + p * FEW) - most);
    float last[LANES];
    for (long l = 0; l < LANES; l++) last[l] = i + l < count ? numbers[i + l] - most : -200;
    EACH_PART ((few *)last)[p] = exponential(((few *)last)[p]);
    for (long l = 0; l < count - i; l++) sums[0][0] += last[l];
    return most + logf(total(sums));
}

static int likelier(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->value != y->value) return x->value > y->value ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* The whole distribution: the first code at which the cumulative probability passes u. */
static long sample_plain(const float *logits, long count, float most, float u, float *memory) {
    double sum = 0;
    for (long i = 0; i < count; i += LANES) {
        float some[LANES];
        for (long l = 0; l < LANES; l++) some[l] = i + l < count ? logits[i + l] - most : -200;
        EACH_PART ((few *)some)[p] = exponential(((few *)some)[p]);
        for (long l = 0; l < LANES && i + l < count; l++) memory[i + l] = sum += logits[i + l] - most < -87 ? 0 : some[l];
    }
    long low = 0, high = count; /* the first whose sum is above the goal */
    float goal = u * memory[count - 1];
    while (low < high) {
        long middle = (low + high) / 2;
        if (memory[middle] <= goal)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count ? low : count - 1;
}

/* The distribution after top-k, top-p and min-p. The likeliest codes are looked at first, and more only if they do not suffice. */
static long sample_filtered(const float *logits, long count, float most, float u, long top_k, float top_p, float min_p,
                            candidate *list) {
    float all = log_sum(logits, count, most);
    for (float depth = 8;; depth *= 4) {
        long found = 0;
        float least = depth < 1000 ? most - depth : -__builtin_inff();
        for (long i = 0; i < count; i++)
            if (logits[i] >= least) list[found++] = (candidate){logits[i], i};
        if (found < top_k && found < count) continue;
        qsort(list, found, sizeof *list, likelier);
        float kth = top_k ? list[(top_k < found ? top_k : found) - 1].value : 0, mass = 1;
        float first = exponential((few){0} + (list[0].value - all))[0];
        if (top_k) {
            double sum = 0;
            for (long i = 0; i < found && list[i].value >= kth; i++)
                sum += exponential((few){0} + (list[i].value - all))[0];
            mass = sum;
        }
        /* `list[i].value` becomes the cumulative probability. */
        double before = 0;
        long kept = 0;
        for (; kept < found; kept++) {
            float probability = exponential((few){0} + (list[kept].value - all))[0];
            int is_kept = (!top_k || list[kept].value >= kth) && (top_p >= 1 || (float)before < top_p * mass) &&
                          probability >= min_p * first;
            if (!is_kept && kept) break;
            list[kept].value = before += probability;
        }
        if (kept == found && found < count) continue;
        float goal = u * list[kept - 1].value;
        long passed = 0;
        while (passed < kept - 1 && list[passed].value <= goal) passed++;
        return list[passed].index;
    }
}

/* The next code of one sequence. Its logits, and the second row of them with guidance, are overwritten. */
static long sample_one(const sampler *all, long slot, float *logits, const float *unconditional, candidate *list) {
    const long n = all->logits;
    float most = most_of(logits, n);
    int is_valid = most - most == 0;
    float plain_sum = is_valid ? log_sum(logits, n, most) : 0;
    float *plain = (float *)list + 2 * n; /* kept, since the logits change */
    __builtin_memcpy(plain, logits, 4 * n);
    if (unconditional) {
        float guidance = all->guidance[slot], other = most_of(unconditional, n);
        is_valid &= other - other == 0;
        if (is_valid) {
            float sum = log_sum(unconditional, n, other);
            for (long i = 0; i < n; i++) {
                float without = unconditional[i] - sum;
                logits[i] = without + guidance * (logits[i] - plain_sum - without);
            }
        }
    }
    if (!is_valid) return -1;
    float penalty = all->penalty[slot];
    const uint8_t *spoken = all->spoken + slot * n;
    for (long i = 0; penalty != 1 && i < n; i++)
        if (spoken[i]) logits[i] = logits[i] < 0 ? logits[i] * penalty : logits[i] / penalty;
    if (!all->sampled[slot]) logits[n - 1] = -__builtin_inff(); /* speech has at least one code */
    long found = 0;
    if (all->kind[slot]) {
        float temperature = all->temperature[slot], u = all->uniforms[slot * all->context + all->sampled[slot]];
        for (long i = 0; i < n; i++) logits[i] /= temperature;
        most = most_of(logits, n);
        found = all->kind[slot] == 1 ? sample_plain(logits, n, most, u, (float *)list)
                                     : sample_filtered(logits, n, most, u, all->top_k[slot], all->top_p[slot],
                                                       all->min_p[slot], list);
    } else
        for (long i = 1; i < n; i++)
            if (logits[i] > logits[found]) found = i;
    if (!all->ended[slot] && all->sampled[slot] < all->limits[slot]) all->log_probabilities[slot] += plain[found] - plain_sum;
    return found;
}

/* Sample for each of `count` sequences, and advance its counters.
 *
 *     slots   int64 [count]
 *     logits  float [count][n], or [2 * count][n] with guidance, first the rows with the text; overwritten
 *     codes   int64 [count], the samples; -1 where the logits were NaN or infinite
 */
void sample(const sampler *all, long count, const int64_t *slots, float *logits, int64_t *codes) {
    const long n = all->logits, end = n - 1;
#pragma omp parallel for schedule(dynamic) if (count * n > 65536)
    for (long i = 0; i < count; i++) {
        long slot = slots[i];
        candidate *list = malloc(n * (sizeof(candidate) + 4));
        long found = sample_one(all, slot, logits + i * n, all->slots ? logits + (count + i) * n : 0, list);
        free(list);
        codes[i] = found;
        if (found < 0) continue;
        long code = found < end ? found : end - 1;
        all->ended[slot] |= found == end;
        all->spoken[slot * n + code] = 1;
        all->ids[slot] = code + all->first_code_id;
        if (all->positions[slot] < all->context - 1) all->positions[slot]++;
        if (all->sampled[slot] < all->context - 1) all->sampled[slot]++;
        if (!all->slots) continue;
        all->ids[all->slots + slot] = all->ids[slot];
        if (all->positions[all->slots + slot] < all->context - 1) all->positions[all->slots + slot]++;
    }
}
