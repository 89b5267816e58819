// What stands between the layers of a step.
#pragma once

#include <cstdint>
#include <vector>

#include "shapes.h"

namespace llmserver {

inline int64_t padded(int64_t size) { return (size + LINE - 1) / LINE * LINE; }
inline int64_t groups_of(int64_t size) { return (size + GROUP - 1) / GROUP; }

// A row of floats per token and, for the layers that want it, the same in bf16 or as bytes with a
// scale per group. Grows with the largest step and stays.
struct Rows {
    int64_t stride = 0;

    void fit(int64_t tokens, int64_t size) {
        stride = padded(size);
        grow(values_, tokens * stride);
        grow(bytes_, tokens * stride);
        grow(brains_, tokens * stride);
        grow(scales_, tokens * groups_of(stride));
    }

    float* row(int64_t token) { return values_.data() + token * stride; }
    int8_t* bytes_of(int64_t token) { return bytes_.data() + token * stride; }
    Brain* brains_of(int64_t token) { return brains_.data() + token * stride; }
    float* scales_of(int64_t token) { return scales_.data() + token * groups_of(stride); }

private:
    template <class Number>
    static void grow(std::vector<Number>& numbers, int64_t size) {
        if (static_cast<int64_t>(numbers.size()) < size) numbers.resize(static_cast<size_t>(size));
    }

    std::vector<float> values_, scales_;
    std::vector<int8_t> bytes_;
    std::vector<Brain> brains_;
};

// `wide` holds what qkv, output, gate_up and the head read, `gates` what down reads.
struct Scratch {
    Rows wide, heads, gates, ups;

    void fit(const Model& model, const Step& step) {
        const int64_t queries = int64_t{model.heads} * model.head_dim;
        const int64_t kv = int64_t{model.kv_heads} * model.head_dim;
        const int64_t tokens = step.tokens > step.sampled_count ? step.tokens : step.sampled_count;
        wide.fit(tokens, model.hidden > queries ? model.hidden : queries);
        heads.fit(tokens, queries + 2 * kv);
        gates.fit(tokens, model.intermediate);
        ups.fit(tokens, model.intermediate);
    }
};

}  // namespace llmserver
