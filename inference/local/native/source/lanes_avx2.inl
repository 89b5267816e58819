// One AVX register of floats, and products of 64 bytes by AVX2.

// Tokens of the largest tile of a linear layer, with floats and with bytes: 12 sums and 4 factors in 16 registers.
constexpr int TOKENS = 3;
constexpr int INT8_TOKENS = 2;

struct Lanes {
    static constexpr int count = 8;
    __m256 values;
};

inline __m256i first_lanes(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Lanes all(float value) { return {_mm256_set1_ps(value)}; }
inline Lanes load(const float* from) { return {_mm256_loadu_ps(from)}; }
inline Lanes load(const Half* from) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))};
}
inline Lanes load_first(const float* from, int count) {
    return {_mm256_maskload_ps(from, first_lanes(count))};
}
inline void store(float* to, Lanes lanes) { _mm256_storeu_ps(to, lanes.values); }
inline void store_first(float* to, Lanes lanes, int count) {
    _mm256_maskstore_ps(to, first_lanes(count), lanes.values);
}

inline Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.values, b.values)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.values, b.values)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.values, b.values)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.values, b.values)}; }
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
    return {_mm256_fmadd_ps(a.values, b.values, c.values)};
}
inline Lanes larger(Lanes a, Lanes b) { return {_mm256_max_ps(a.values, b.values)}; }
inline Lanes smaller(Lanes a, Lanes b) { return {_mm256_min_ps(a.values, b.values)}; }
inline Lanes absolute(Lanes a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.values)}; }
inline Lanes rounded(Lanes a) {
    return {_mm256_round_ps(a.values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Lanes times_power_of_two(Lanes a, Lanes exponent) {
    const __m256i bits = _mm256_add_epi32(_mm256_cvtps_epi32(exponent.values), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(a.values, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23)))};
}

inline __m128 halved(__m256 a) {
    return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}
inline float sum(Lanes a) {
    const __m128 four = halved(a.values);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float largest(Lanes a) {
    const __m128 four =
        _mm_max_ps(_mm256_castps256_ps128(a.values), _mm256_extractf128_ps(a.values, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// The sums of four registers.
inline void sums(const Lanes* four, float* to) {
    const __m256 ab = _mm256_hadd_ps(four[0].values, four[1].values);
    const __m256 cd = _mm256_hadd_ps(four[2].values, four[3].values);
    _mm_storeu_ps(to, halved(_mm256_hadd_ps(ab, cd)));
}

// Weights of one output over one group, or inputs: two lines, of which the second may be missing.
struct Group {
    __m256i parts[4];
};
using GroupInputs = Group;

inline Group load_group(const int8_t* first, const int8_t* second) {
    const auto load_bytes = [](const int8_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    };
    const __m256i none = _mm256_setzero_si256();
    return {{load_bytes(first), load_bytes(first + 32),
             second != nullptr ? load_bytes(second) : none,
             second != nullptr ? load_bytes(second + 32) : none}};
}

inline GroupInputs load_inputs(const int8_t* first, const int8_t* second) {
    return load_group(first, second);
}

inline Lanes products(const GroupInputs& x, const Group& group) {
    __m256i total = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i) {
        // The instruction wants one unsigned factor: the sign of the weights moves to the inputs.
        // Two products of at most 127 * 127 fit the 16 bits in which it adds them.
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(group.parts[i]),
                                                   _mm256_sign_epi8(x.parts[i], group.parts[i]));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return {_mm256_cvtepi32_ps(total)};
}

// Nothing here multiplies bf16 faster than floats, so no layer has it: see `has_bf16`.
struct Pairs {};

inline Pairs load_pairs(const Brain*) { return {}; }
inline Lanes multiply_add(Pairs, Pairs, Lanes c) { return c; }
inline void round_to_bf16(const float*, int, Brain*) {}
