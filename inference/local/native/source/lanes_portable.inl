// Eight floats for any processor; compilers turn the loops into what it has.

// Tokens of the largest tile of a linear layer, with floats and with bytes: 12 sums and 4 factors, of two registers each where those have 16 bytes.
constexpr int TOKENS = 3;
constexpr int INT8_TOKENS = 2;

struct Lanes {
    static constexpr int count = 8;
    float values[count];
};

template <class Operation>
inline Lanes each(Operation operation) {
    Lanes result;
    for (int i = 0; i < Lanes::count; ++i) result.values[i] = operation(i);
    return result;
}

inline Lanes all(float value) {
    return each([=](int) { return value; });
}
inline Lanes load(const float* from) {
    return each([=](int i) { return from[i]; });
}
inline Lanes load(const Half* from) {
    return each([=](int i) { return widened(from[i]); });
}
inline Lanes load_first(const float* from, int count) {
    return each([=](int i) { return i < count ? from[i] : 0.0f; });
}
inline void store(float* to, Lanes lanes) { std::memcpy(to, lanes.values, sizeof lanes.values); }
inline void store_first(float* to, Lanes lanes, int count) {
    std::memcpy(to, lanes.values, sizeof(float) * static_cast<size_t>(count));
}

inline Lanes operator+(Lanes a, Lanes b) {
    return each([&](int i) { return a.values[i] + b.values[i]; });
}
inline Lanes operator-(Lanes a, Lanes b) {
    return each([&](int i) { return a.values[i] - b.values[i]; });
}
inline Lanes operator*(Lanes a, Lanes b) {
    return each([&](int i) { return a.values[i] * b.values[i]; });
}
inline Lanes operator/(Lanes a, Lanes b) {
    return each([&](int i) { return a.values[i] / b.values[i]; });
}
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
#if defined(__FP_FAST_FMAF)
    return each([&](int i) { return __builtin_fmaf(a.values[i], b.values[i], c.values[i]); });
#else
    return each([&](int i) { return a.values[i] * b.values[i] + c.values[i]; });
#endif
}
inline Lanes larger(Lanes a, Lanes b) {
    return each([&](int i) { return a.values[i] > b.values[i] ? a.values[i] : b.values[i]; });
}
inline Lanes smaller(Lanes a, Lanes b) {
    return each([&](int i) { return a.values[i] < b.values[i] ? a.values[i] : b.values[i]; });
}
inline Lanes absolute(Lanes a) {
    return each([&](int i) { return std::fabs(a.values[i]); });
}
inline Lanes rounded(Lanes a) {
    return each([&](int i) { return std::nearbyint(a.values[i]); });
}
inline Lanes times_power_of_two(Lanes a, Lanes exponent) {
    return each([&](int i) { return std::ldexp(a.values[i], static_cast<int>(exponent.values[i])); });
}
inline float sum(Lanes a) {
    float total = 0;
    for (float value : a.values) total += value;
    return total;
}
inline float largest(Lanes a) {
    float found = a.values[0];
    for (float value : a.values) found = value > found ? value : found;
    return found;
}

// The sums of four registers.
inline void sums(const Lanes* four, float* to) {
    for (int i = 0; i < 4; ++i) to[i] = sum(four[i]);
}

// Weights of one output over one group, or inputs: two lines, of which the second may be missing.
struct Group {
    const int8_t *first, *second;
};
using GroupInputs = Group;

inline Group load_group(const int8_t* first, const int8_t* second) { return {first, second}; }
inline GroupInputs load_inputs(const int8_t* first, const int8_t* second) { return {first, second}; }

inline Lanes products(const GroupInputs& x, const Group& group) {
    return each([&](int lane) {
        int total = 0;
        for (int place = lane; place < LINE; place += Lanes::count) {
            total += x.first[place] * group.first[place];
            if (group.second != nullptr) total += x.second[place] * group.second[place];
        }
        return static_cast<float>(total);
    });
}

// Nothing here multiplies bf16 faster than floats, so no layer has it: see `has_bf16`.
struct Pairs {};

inline Pairs load_pairs(const Brain*) { return {}; }
inline Lanes multiply_add(Pairs, Pairs, Lanes c) { return c; }
inline void round_to_bf16(const float*, int, Brain*) {}
