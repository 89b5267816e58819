// What Python hands over; `native/library.py` has the same structures. Nobody here owns anything.
#pragma once

#include <cstdint>

namespace llmserver {

using Half = uint16_t;

// The upper half of a float.
struct Brain {
    uint16_t bits;
};

// Packed weights are [outputs / OUTPUTS][inputs / line][OUTPUTS][line], so that a tile reads one
// cache line after the other; a line is HALVES numbers of two bytes or LINE of one. Both sides are filled up with
// zeros, inputs to a multiple of LINE. Inputs of an int8 layer have one scale per GROUP, of which
// the last may be half.
constexpr int OUTPUTS = 4;
constexpr int LINE = 64;
constexpr int HALVES = LINE / sizeof(Half);
constexpr int GROUP = 2 * LINE;

enum Format : int32_t { FP32 = 0, FP16 = 1, INT8 = 2, BF16 = 3 };

// `weight` is packed or, in fp32, [outputs, stride]; `stride` is the inputs with what was filled up.
// `scales` (int8 only) and `bias` (may be null) are [outputs].
struct Linear {
    int32_t format, outputs, inputs, stride;
    const void* weight;
    const float* scales;
    const float* bias;
};

// `head_norm` is [heads + kv_heads, head_dim] or null; `window` 0 is none.
struct Layer {
    Linear qkv, output, gate_up, down;
    const float* input_norm;
    const float* mlp_norm;
    const float* head_norm;
    int32_t window, uses_rope;
};

struct Model {
    int32_t layer_count, hidden, heads, kv_heads, head_dim, intermediate;
    float epsilon, attention_scale;
    const Layer* layers;
    const float* norm;
    Linear head;
};

// `hidden` is [tokens, hidden] and is overwritten; `cosine` and `sine` are [tokens, head_dim], the
// sign of the rotated half is in `sine`. Keys and values, one slab per layer, are
// [row, kv_heads, length, head_dim] with the strides given. `sampled` says which tokens'
// logits are wanted.
struct Step {
    int32_t tokens, sampled_count;
    float* hidden;
    const int64_t* rows;
    const int64_t* positions;
    const float* cosine;
    const float* sine;
    float* const* keys;
    float* const* values;
    int64_t row_stride, head_stride;
    const int64_t* sampled;
    float* logits;
};

}  // namespace llmserver
