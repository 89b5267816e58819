// The step: every thread of the team goes through it side by side.

// A layer gets inputs that are zero beyond their size, as packed weights have zeros there too.
inline void finish_input(const Linear& layer, Rows& rows, int64_t token) {
    float* row = rows.row(token);
    const int64_t size = padded(layer.inputs);
    std::fill(row + layer.inputs, row + size, 0.0f);
    if (layer.format == INT8) {
        quantize(row, static_cast<int>(size), rows.bytes_of(token), rows.scales_of(token));
    } else if (layer.format == BF16) {
        round_to_bf16(row, static_cast<int>(size), rows.brains_of(token));
    }
}

inline Inputs inputs_of(Rows& rows) {
    return {rows.row(0),       rows.stride, rows.bytes_of(0),
            rows.scales_of(0), groups_of(rows.stride), rows.brains_of(0)};
}

class Run {
public:
    Run(const Model& model, const Step& step, Scratch& scratch, Team& team)
        : model_(model), step_(step), scratch_(scratch), team_(team) {}

    void all_layers() {
        for (int index = 0; index < model_.layer_count; ++index) {
            const Layer& layer = model_.layers[index];
            normalize(layer.input_norm, layer.qkv);
            project(layer.qkv);
            place(layer, index);
            look(layer, index);
            finish(layer.output, scratch_.wide);
            add(layer.output, scratch_.wide);
            normalize(layer.mlp_norm, layer.gate_up);
            open_gates(layer.gate_up);
            finish(layer.down, scratch_.gates);
            add(layer.down, scratch_.gates);
        }
        logits();
    }

private:
    float* hidden(int64_t token) { return step_.hidden + token * model_.hidden; }

    template <class Each>
    void each_token(int tokens, Each each) {
        team_.share(tokens, 1, [&](int first, int end) {
            for (int t = first; t < end; ++t) each(int64_t{t});
        });
    }

    template <class Put>
    void each_output(const Linear& layer, Rows& from, int tokens, Put put) {
        team_.share(layer.outputs, grain_of(layer, team_.size()), [&](int first, int end) {
            multiply(layer, inputs_of(from), tokens, first, end, put);
        });
    }

    void normalize(const float* weights, const Linear& next) {
        each_token(step_.tokens, [&](int64_t t) {
            rms_norm(hidden(t), weights, model_.hidden, model_.epsilon, scratch_.wide.row(t));
            finish_input(next, scratch_.wide, t);
        });
    }

    void finish(const Linear& next, Rows& rows) {
        each_token(step_.tokens, [&](int64_t t) { finish_input(next, rows, t); });
    }

    void project(const Linear& layer) {
        each_output(layer, scratch_.wide, step_.tokens, [&](int64_t t, int n, float value) {
            scratch_.heads.row(t)[n] = value;
        });
    }

    void add(const Linear& layer, Rows& from) {
        each_output(layer, from, step_.tokens,
                    [&](int64_t t, int n, float value) { hidden(t)[n] += value; });
    }

    // Queries and keys get their norm and position; keys and values go to their slabs.
    void place(const Layer& layer, int index) {
        each_token(step_.tokens, [&](int64_t t) {
            const int64_t size = model_.head_dim;
            float* heads = scratch_.heads.row(t);
            for (int head = 0; head < model_.heads + model_.kv_heads; ++head) {
                turn(layer, t, head, heads + head * size);
            }
            const float* keys = heads + model_.heads * size;
            const float* values = keys + model_.kv_heads * size;
            for (int head = 0; head < model_.kv_heads; ++head) {
                const int64_t to = slab(t, head) + step_.positions[t] * size;
                std::copy_n(keys + head * size, size, step_.keys[index] + to);
                std::copy_n(values + head * size, size, step_.values[index] + to);
            }
        });
    }

    void turn(const Layer& layer, int64_t token, int head, float* values) {
        const int size = model_.head_dim;
        if (layer.head_norm != nullptr) {
            rms_norm(values, layer.head_norm + int64_t{head} * size, size, model_.epsilon, values);
        }
        if (layer.uses_rope != 0) {
            rotate(values, step_.cosine + token * size, step_.sine + token * size, size);
        }
    }

    int64_t slab(int64_t token, int head) const {
        return step_.rows[token] * step_.row_stride + head * step_.head_stride;
    }

    void look(const Layer& layer, int index) {
        const int group = model_.heads / model_.kv_heads;
        team_.share(step_.tokens * model_.kv_heads, 1, [&](int begin, int) {
            const int64_t t = begin / model_.kv_heads;
            const int head = begin % model_.kv_heads;
            const int end = static_cast<int>(step_.positions[t]) + 1;
            const int first = layer.window > 0 && end > layer.window ? end - layer.window : 0;
            const int64_t place = int64_t{head} * group * model_.head_dim;
            const Look look{scratch_.heads.row(t) + place,
                            step_.keys[index] + slab(t, head),
                            step_.values[index] + slab(t, head),
                            group,
                            model_.head_dim,
                            first,
                            end,
                            model_.attention_scale};
            attend(look, scratch_.wide.row(t) + place);
        });
    }

    // The first half of the outputs is opened and multiplied with the second.
    void open_gates(const Linear& layer) {
        const int size = layer.outputs / 2;
        team_.share(size, grain_of(layer, team_.size()), [&](int first, int end) {
            const Inputs inputs = inputs_of(scratch_.wide);
            multiply(layer, inputs, step_.tokens, first, end,
                     [&](int64_t t, int n, float value) { scratch_.gates.row(t)[n] = value; });
            multiply(layer, inputs, step_.tokens, size + first, size + end,
                     [&](int64_t t, int n, float value) { scratch_.ups.row(t)[n - size] = value; });
            for (int64_t t = 0; t < step_.tokens; ++t) {
                float* gates = scratch_.gates.row(t) + first;
                gated(gates, scratch_.ups.row(t) + first, end - first, gates);
            }
        });
    }

    void logits() {
        each_token(step_.sampled_count, [&](int64_t s) {
            rms_norm(hidden(step_.sampled[s]), model_.norm, model_.hidden, model_.epsilon,
                     scratch_.wide.row(s));
            finish_input(model_.head, scratch_.wide, s);
        });
        each_output(model_.head, scratch_.wide, step_.sampled_count,
                    [&](int64_t s, int n, float value) {
                        step_.logits[s * model_.head.outputs + n] = value;
                    });
    }

    const Model& model_;
    const Step& step_;
    Scratch& scratch_;
    Team& team_;
};

inline void run_step(const Model& model, const Step& step, Scratch& scratch, Team& team) {
    team.run([&] { Run(model, step, scratch, team).all_layers(); });
}

// `x` is [tokens, inputs], `out` is [tokens, outputs].
inline void run_linear(const Linear& layer, const float* x, int tokens, Rows& rows, float* out,
                       Team& team) {
    team.run([&] {
        team.share(tokens, 1, [&](int t, int) {
            std::copy_n(x + int64_t{t} * layer.inputs, layer.inputs, rows.row(t));
            finish_input(layer, rows, t);
        });
        team.share(layer.outputs, grain_of(layer, team.size()), [&](int first, int end) {
            multiply(layer, inputs_of(rows), tokens, first, end,
                     [&](int64_t t, int n, float value) { out[t * layer.outputs + n] = value; });
        });
    });
}
