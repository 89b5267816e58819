// Attention of one token over its row of the cache, and what is done to single tokens around it.

constexpr int BLOCK = 64;       // keys at a time
constexpr int QUERIES = TOKENS; // heads at a time that share keys

// e to the power of x, to about one unit in the last place; after Cephes' expf.
inline Lanes exponential(Lanes x) {
    // In this order what is not a number stays so.
    x = smaller(all(88.0f), larger(all(-87.0f), x));
    const Lanes whole = rounded(x * all(1.44269504088896341f));
    Lanes rest = multiply_add(whole, all(-0.693359375f), x);
    rest = multiply_add(whole, all(2.12194440e-4f), rest);
    Lanes series = all(1.9875691500e-4f);
    for (float next : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                       5.0000001201e-1f}) {
        series = multiply_add(series, rest, all(next));
    }
    return times_power_of_two(multiply_add(series, rest * rest, rest + all(1)), whole);
}

inline float exponential(float x) {
    float lanes[Lanes::count];
    store(lanes, exponential(all(x)));
    return lanes[0];
}

// Calls `part(place, count)` for whole registers and then for what is left of `size`.
template <class Part>
inline void in_lanes(int size, Part part) {
    int place = 0;
    for (; place + Lanes::count <= size; place += Lanes::count) part(place, Lanes::count);
    if (place < size) part(place, size - place);
}

inline Lanes load_some(const float* from, int count) {
    return count == Lanes::count ? load(from) : load_first(from, count);
}

inline void store_some(float* to, Lanes lanes, int count) {
    if (count == Lanes::count) return store(to, lanes);
    store_first(to, lanes, count);
}

inline void rms_norm(const float* from, const float* weights, int size, float epsilon, float* to) {
    Lanes squares = all(0);
    in_lanes(size, [&](int i, int count) {
        const Lanes x = load_some(from + i, count);
        squares = multiply_add(x, x, squares);
    });
    const Lanes scale = all(1 / std::sqrt(sum(squares) / static_cast<float>(size) + epsilon));
    in_lanes(size, [&](int i, int count) {
        store_some(to + i, load_some(from + i, count) * scale * load_some(weights + i, count), count);
    });
}

// Turns one head in place; `cosine` and `sine` are [size].
inline void rotate(float* head, const float* cosine, const float* sine, int size) {
    const int half = size / 2;
    in_lanes(half, [&](int i, int count) {
        const Lanes low = load_some(head + i, count), high = load_some(head + half + i, count);
        const Lanes turned = multiply_add(high, load_some(sine + i, count),
                                          low * load_some(cosine + i, count));
        const Lanes other = multiply_add(low, load_some(sine + half + i, count),
                                         high * load_some(cosine + half + i, count));
        store_some(head + i, turned, count);
        store_some(head + half + i, other, count);
    });
}

inline void gated(const float* gate, const float* up, int size, float* to) {
    in_lanes(size, [&](int i, int count) {
        const Lanes x = load_some(gate + i, count);
        const Lanes opened = x / (all(1) + exponential(all(0) - x));
        store_some(to + i, opened * load_some(up + i, count), count);
    });
}

// One token's heads that share a key head, and the keys it may look at: [first, end).
struct Look {
    const float* queries; // [heads, size]
    const float* keys;    // [length, size]
    const float* values;  // [length, size]
    int heads, size, first, end;
    float scale;
};

// What of the keys so far has been seen by each head.
struct Seen {
    float most[QUERIES], total[QUERIES];
};

// scores[h][j] of a block of keys, filled up with what weighs nothing.
inline void score(const Look& look, int heads, int block, float (*scores)[BLOCK]) {
    const int keys = look.end - block < BLOCK ? look.end - block : BLOCK;
    const float* base = look.keys + static_cast<int64_t>(block) * look.size;
    for (int j = 0; j < keys; j += OUTPUTS) {
        float out[QUERIES * OUTPUTS];
        const auto row = [&](int n) {
            return base + static_cast<int64_t>(j + n < keys ? j + n : keys - 1) * look.size;
        };
        const float* const rows[OUTPUTS] = {row(0), row(1), row(2), row(3)};
        with_count<QUERIES>(heads, [&](auto n) {
            plain_tile<n.value>(rows, look.size, look.queries, look.size, out);
        });
        for (int h = 0; h < heads; ++h) {
            for (int n = 0; n < OUTPUTS; ++n) scores[h][j + n] = out[h * OUTPUTS + n] * look.scale;
        }
    }
    for (int h = 0; h < heads; ++h) {
        for (int j = keys; j < BLOCK; ++j) scores[h][j] = -INFINITY;
    }
}

// Turns the scores of one head into weights and says by how much the sum so far shrinks.
inline float weigh(float* scores, float& most, float& total) {
    Lanes found = all(most);
    for (int j = 0; j < BLOCK; j += Lanes::count) found = larger(found, load(scores + j));
    const float now = largest(found);
    const float shrink = exponential(most - now);
    Lanes added = all(0);
    for (int j = 0; j < BLOCK; j += Lanes::count) {
        const Lanes weights = exponential(load(scores + j) - all(now));
        store(scores + j, weights);
        added = added + weights;
    }
    total = total * shrink + sum(added);
    most = now;
    return shrink;
}

// Adds a block of values, weighted; `out` is [heads, size].
template <int heads>
inline void add_values(const Look& look, int block, const float (*weights)[BLOCK],
                       const float* shrink, float* out) {
    const int keys = look.end - block < BLOCK ? look.end - block : BLOCK;
    const float* base = look.values + static_cast<int64_t>(block) * look.size;
    in_lanes(look.size, [&](int i, int count) {
        Lanes added[heads];
        for (int h = 0; h < heads; ++h) {
            added[h] = load_some(out + h * look.size + i, count) * all(shrink[h]);
        }
        for (int j = 0; j < keys; ++j) {
            const Lanes value = load_some(base + static_cast<int64_t>(j) * look.size + i, count);
            for (int h = 0; h < heads; ++h) {
                added[h] = multiply_add(all(weights[h][j]), value, added[h]);
            }
        }
        for (int h = 0; h < heads; ++h) store_some(out + h * look.size + i, added[h], count);
    });
}

// `out` is [heads, size]. The blocks begin at the first key, so what a token sees is added up in
// the same order however its prompt was cut into steps.
inline void attend(const Look& look, float* out) {
    for (int head = 0, heads; head < look.heads; head += heads) {
        heads = next_tile(look.heads - head, QUERIES);
        Look part = look;
        part.queries += static_cast<int64_t>(head) * look.size;
        float* to = out + static_cast<int64_t>(head) * look.size;
        std::fill(to, to + static_cast<int64_t>(heads) * look.size, 0.0f);
        Seen seen;
        std::fill(seen.most, seen.most + QUERIES, -INFINITY);
        std::fill(seen.total, seen.total + QUERIES, 0.0f);
        for (int block = look.first; block < look.end; block += BLOCK) {
            float scores[QUERIES][BLOCK], shrink[QUERIES];
            score(part, heads, block, scores);
            for (int h = 0; h < heads; ++h) {
                shrink[h] = weigh(scores[h], seen.most[h], seen.total[h]);
            }
            with_count<QUERIES>(
                heads, [&](auto n) { add_values<n.value>(part, block, scores, shrink, to); });
        }
        for (int h = 0; h < heads; ++h) {
            const Lanes factor = all(1 / seen.total[h]);
            float* row = to + static_cast<int64_t>(h) * look.size;
            in_lanes(look.size, [&](int i, int count) {
                store_some(row + i, load_some(row + i, count) * factor, count);
            });
        }
    }
}
