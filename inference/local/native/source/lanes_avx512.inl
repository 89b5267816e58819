// One AVX-512 register of floats, and products of 64 bytes by VNNI.

// Tokens of the largest tile of a linear layer, with floats and with bytes: 24 sums and 5 factors in 32 registers.
constexpr int TOKENS = 6;
constexpr int INT8_TOKENS = 4;

struct Lanes {
    static constexpr int count = 16;
    __m512 values;
};

inline Lanes all(float value) { return {_mm512_set1_ps(value)}; }
inline Lanes load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline Lanes load(const Half* from) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
}
inline Lanes load_first(const float* from, int count) {
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from)};
}
inline void store(float* to, Lanes lanes) { _mm512_storeu_ps(to, lanes.values); }
inline void store_first(float* to, Lanes lanes, int count) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), lanes.values);
}

inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.values, b.values)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.values, b.values)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.values, b.values)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.values, b.values)}; }
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
    return {_mm512_fmadd_ps(a.values, b.values, c.values)};
}
inline Lanes larger(Lanes a, Lanes b) { return {_mm512_max_ps(a.values, b.values)}; }
inline Lanes smaller(Lanes a, Lanes b) { return {_mm512_min_ps(a.values, b.values)}; }
inline Lanes absolute(Lanes a) { return {_mm512_abs_ps(a.values)}; }
inline Lanes rounded(Lanes a) {
    return {_mm512_roundscale_ps(a.values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Lanes times_power_of_two(Lanes a, Lanes exponent) {
    return {_mm512_scalef_ps(a.values, exponent.values)};
}
inline float sum(Lanes a) { return _mm512_reduce_add_ps(a.values); }
inline float largest(Lanes a) { return _mm512_reduce_max_ps(a.values); }

// The sums of four registers.
inline void sums(const Lanes* four, float* to) {
    const __m512 a = four[0].values, b = four[1].values, c = four[2].values, d = four[3].values;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 quarters =
        _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
    const __m256 halves =
        _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps(quarters, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

// Weights of one output over one group: two lines, of which the second may be missing.
struct Group {
    __m512i first, second, shift;
};

inline __m512i load_line(const int8_t* from) {
    return from != nullptr ? _mm512_loadu_si512(from) : _mm512_setzero_si512();
}

inline Group load_group(const int8_t* first, const int8_t* second) {
    const __m512i one = load_line(first), two = load_line(second), all = _mm512_set1_epi8(-128);
    // The instruction wants unsigned inputs: they come with 128 added, which this takes off again.
    const __m512i added =
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), all, one), all, two);
    return {one, two, _mm512_sub_epi32(_mm512_setzero_si512(), added)};
}

struct GroupInputs {
    __m512i first, second;
};

inline GroupInputs load_inputs(const int8_t* first, const int8_t* second) {
    const __m512i added = _mm512_set1_epi8(-128);
    return {_mm512_xor_si512(load_line(first), added), _mm512_xor_si512(load_line(second), added)};
}

inline Lanes products(const GroupInputs& x, const Group& group) {
    const __m512i first = _mm512_dpbusd_epi32(group.shift, x.first, group.first);
    return {_mm512_cvtepi32_ps(_mm512_dpbusd_epi32(first, x.second, group.second))};
}

// Two neighbours of a line for each lane, multiplied and added in one go.
struct Pairs {
    __m512bh values;
};

inline Pairs load_pairs(const Brain* from) {
    return {reinterpret_cast<__m512bh>(_mm512_loadu_si512(from))};
}
inline Lanes multiply_add(Pairs a, Pairs b, Lanes c) {
    return {_mm512_dpbf16_ps(c.values, a.values, b.values)};
}
inline void round_to_bf16(const float* values, int count, Brain* to) {
    for (int i = 0; i < count; i += Lanes::count) {
        const __m256bh rounded = _mm512_cvtneps_pbh(load(values + i).values);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                            reinterpret_cast<__m256i>(rounded));
    }
}
