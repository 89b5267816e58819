// Linear layers. What one output of one token is does not depend on the tokens beside it: every
// tile adds up the same numbers in the same order.

// Inputs of a layer: [tokens, stride] floats and, for the layers that want it, bytes with a scale
// per group, or bf16.
struct Inputs {
    const float* values;
    int64_t stride;
    const int8_t* bytes;
    const float* scales;
    int64_t scales_stride;
    const Brain* brains;
};

// Sums of tokens times outputs, which all tiles below begin with, add to and end with.
template <int tokens>
struct Tile {
    Lanes added[tokens][OUTPUTS];

    Tile() {
        for (auto& row : added) {
            for (auto& lanes : row) lanes = all(0);
        }
    }

    void finish(float* out) const {
        for (int t = 0; t < tokens; ++t) sums(added[t], out + t * OUTPUTS);
    }
};

// `rows` are plain weights, or keys, of OUTPUTS outputs; `out` gets [tokens][OUTPUTS].
template <int tokens>
inline void plain_tile(const float* const* rows, int inputs, const float* x, int64_t stride,
                       float* out) {
    Tile<tokens> tile;
    const auto advance = [&](int place, auto load_from) {
        Lanes weights[OUTPUTS];
        for (int n = 0; n < OUTPUTS; ++n) weights[n] = load_from(rows[n] + place);
        for (int t = 0; t < tokens; ++t) {
            const Lanes given = load_from(x + t * stride + place);
            for (int n = 0; n < OUTPUTS; ++n) {
                tile.added[t][n] = multiply_add(weights[n], given, tile.added[t][n]);
            }
        }
    };
    const int whole = inputs / Lanes::count * Lanes::count;
    for (int place = 0; place < whole; place += Lanes::count) {
        advance(place, [](const float* from) { return load(from); });
    }
    if (whole < inputs) {
        advance(whole, [=](const float* from) { return load_first(from, inputs - whole); });
    }
    tile.finish(out);
}

// In bytes. Between two lines of weights there is more to compute than the processor looks ahead.
constexpr int AHEAD = 2048;

inline void fetch_ahead(const void* weights) {
    const char* from = static_cast<const char*>(weights) + AHEAD;
    for (int line = 0; line < OUTPUTS; ++line) __builtin_prefetch(from + line * LINE);
}

// `weights` are packed: [inputs / HALVES][OUTPUTS][HALVES], one cache line after the other.
template <int tokens>
inline void half_tile(const Half* weights, int inputs, const float* x, int64_t stride, float* out) {
    Tile<tokens> tile;
    for (int line = 0; line < inputs; line += HALVES, weights += OUTPUTS * HALVES) {
        fetch_ahead(weights);
        for (int place = 0; place < HALVES; place += Lanes::count) {
            Lanes factors[OUTPUTS];
            for (int n = 0; n < OUTPUTS; ++n) factors[n] = load(weights + n * HALVES + place);
            for (int t = 0; t < tokens; ++t) {
                const Lanes given = load(x + t * stride + line + place);
                for (int n = 0; n < OUTPUTS; ++n) {
                    tile.added[t][n] = multiply_add(factors[n], given, tile.added[t][n]);
                }
            }
        }
    }
    tile.finish(out);
}

// `weights` are packed: [lines][OUTPUTS][LINE].
template <int tokens>
inline void int8_tile(const int8_t* weights, int lines, const Inputs& x, int64_t token, float* out) {
    constexpr int NEXT = OUTPUTS * LINE;
    Tile<tokens> tile;
    const auto advance = [&](int group, auto is_whole) {
        fetch_ahead(weights);
        Group factors[OUTPUTS];
        for (int n = 0; n < OUTPUTS; ++n) {
            const int8_t* first = weights + n * LINE;
            factors[n] = load_group(first, is_whole ? first + NEXT : nullptr);
        }
        if (is_whole) fetch_ahead(weights + NEXT);
        for (int t = 0; t < tokens; ++t) {
            const int8_t* first = x.bytes + (token + t) * x.stride + group * GROUP;
            const GroupInputs given = load_inputs(first, is_whole ? first + LINE : nullptr);
            const Lanes scale = all(x.scales[(token + t) * x.scales_stride + group]);
            for (int n = 0; n < OUTPUTS; ++n) {
                tile.added[t][n] = multiply_add(products(given, factors[n]), scale, tile.added[t][n]);
            }
        }
        weights += 2 * NEXT;
    };
    for (int group = 0; group < lines / 2; ++group) advance(group, std::true_type{});
    if (lines % 2 != 0) advance(lines / 2, std::false_type{});
    tile.finish(out);
}

// `weights` are packed: [inputs / HALVES][OUTPUTS][HALVES].
template <int tokens>
inline void bf16_tile(const Brain* weights, int inputs, const Brain* x, int64_t stride, float* out) {
    Tile<tokens> tile;
    for (int line = 0; line < inputs; line += HALVES, weights += OUTPUTS * HALVES) {
        fetch_ahead(weights);
        Pairs factors[OUTPUTS];
        for (int n = 0; n < OUTPUTS; ++n) factors[n] = load_pairs(weights + n * HALVES);
        for (int t = 0; t < tokens; ++t) {
            const Pairs given = load_pairs(x + t * stride + line);
            for (int n = 0; n < OUTPUTS; ++n) {
                tile.added[t][n] = multiply_add(factors[n], given, tile.added[t][n]);
            }
        }
    }
    tile.finish(out);
}

// Calls `tile(std::integral_constant<int, n>)` with `n` = `count`, at most `most`.
template <int most, class Tile>
inline void with_count(int count, Tile tile) {
    if constexpr (most > 1) {
        if (count < most) return with_count<most - 1>(count, tile);
    }
    tile(std::integral_constant<int, most>{});
}

// How many tokens the next tile takes: tiles of nearly equal size.
inline int next_tile(int left, int most) {
    const int tiles = (left + most - 1) / most;
    return (left + tiles - 1) / tiles;
}

// One tile: `count` tokens from `token` on, OUTPUTS outputs from `output` on.
inline void compute_tile(const Linear& layer, const Inputs& x, int64_t token, int count, int output,
                         float* out) {
    const float* from = x.values + token * x.stride;
    const int64_t packed = int64_t{output} * layer.stride;
    if (layer.format == FP16) {
        const Half* weights = static_cast<const Half*>(layer.weight) + packed;
        with_count<TOKENS>(count, [&](auto n) {
            half_tile<n.value>(weights, layer.stride, from, x.stride, out);
        });
    } else if (layer.format == INT8) {
        const int8_t* weights = static_cast<const int8_t*>(layer.weight) + packed;
        with_count<INT8_TOKENS>(count, [&](auto n) {
            int8_tile<n.value>(weights, layer.stride / LINE, x, token, out);
        });
    } else if (layer.format == BF16) {
        const Brain* weights = static_cast<const Brain*>(layer.weight) + packed;
        with_count<TOKENS>(count, [&](auto n) {
            bf16_tile<n.value>(weights, layer.stride, x.brains + token * x.stride, x.stride, out);
        });
    } else {
        const float* rows[OUTPUTS];
        for (int n = 0; n < OUTPUTS; ++n) {
            // Beyond the last output the last one is computed again and dropped.
            const int64_t row = std::min(output + n, layer.outputs - 1);
            rows[n] = static_cast<const float*>(layer.weight) + row * layer.stride;
        }
        with_count<TOKENS>(count, [&](auto n) {
            plain_tile<n.value>(rows, layer.inputs, from, x.stride, out);
        });
    }
}

// Outputs [first, end) for all tokens; `put(token, output, value)` gets each of them. `first` is a
// multiple of OUTPUTS.
template <class Put>
inline void multiply(const Linear& layer, const Inputs& x, int tokens, int first, int end, Put put) {
    const int most = layer.format == INT8 ? INT8_TOKENS : TOKENS;
    for (int token = 0, count; token < tokens; token += count) {
        count = next_tile(tokens - token, most);
        for (int output = first; output < end; output += OUTPUTS) {
            float out[TOKENS * OUTPUTS];
            compute_tile(layer, x, token, count, output, out);
            const int outputs = std::min(OUTPUTS, end - output);
            for (int n = 0; n < outputs; ++n) {
                const float scale = layer.format == INT8 ? layer.scales[output + n] : 1;
                const float bias = layer.bias != nullptr ? layer.bias[output + n] : 0;
                for (int t = 0; t < count; ++t) {
                    put(token + t, output + n, out[t * OUTPUTS + n] * scale + bias);
                }
            }
        }
    }
}

// Bytes in [-127, 127] and their scales; `count` is a multiple of LINE.
inline void quantize(const float* values, int count, int8_t* bytes, float* scales) {
    for (int first = 0; first < count; first += GROUP) {
        const int end = std::min(first + GROUP, count);
        Lanes most = all(0);
        for (int i = first; i < end; i += Lanes::count) {
            most = larger(most, absolute(load(values + i)));
        }
        const float range = largest(most);
        scales[first / GROUP] = range / 127;
        const Lanes factor = all(range > 0 ? 127 / range : 0);
        float steps[Lanes::count];
        for (int i = first; i < end; i += Lanes::count) {
            store(steps, rounded(load(values + i) * factor));
            for (int n = 0; n < Lanes::count; ++n) bytes[i + n] = static_cast<int8_t>(steps[n]);
        }
    }
}

// A piece of outputs for one thread at a time: its weights stay in the second-level cache while all
// tokens pass by, and there are enough pieces to go round.
inline int grain_of(const Linear& layer, int threads) {
    const int64_t bytes = layer.format == FP32 ? 4 : layer.format == INT8 ? 1 : 2;
    const int64_t row = bytes * layer.stride;
    const int64_t fair = layer.outputs / (8 * threads);
    const int64_t cached = (256 << 10) / (row > 0 ? row : 1);
    const int64_t grain = fair < cached ? fair : cached;
    return static_cast<int>(grain < OUTPUTS ? OUTPUTS : grain / OUTPUTS * OUTPUTS);
}
