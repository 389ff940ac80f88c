// Shared by all kernels: loads and stores of a few neighbouring channels, and sums across lanes.

constexpr u32 ALL_LANES = 0xffffffffu;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

// The bits of C neighbouring elements, moved by one instruction where they fill 2, 4, 8 or 16 bytes.
template <typename T, int C> struct Packed {
    static constexpr int BYTES = sizeof(T) * C;
    u32 words[(BYTES + 3) / 4] = {};

    __device__ __forceinline__ void load(const T *p) {
        static_assert(BYTES == 2 || BYTES == 4 || BYTES == 8 || BYTES == 16, "no such access");
        if constexpr (BYTES == 2) words[0] = *reinterpret_cast<const u16 *>(p);
        if constexpr (BYTES == 4) words[0] = *reinterpret_cast<const u32 *>(p);
        if constexpr (BYTES == 8) {
            const uint2 v = *reinterpret_cast<const uint2 *>(p);
            words[0] = v.x, words[1] = v.y;
        }
        if constexpr (BYTES == 16) {
            const uint4 v = *reinterpret_cast<const uint4 *>(p);
            words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
        }
    }
    __device__ __forceinline__ float operator[](int c) const {
        return unpack(words[c * sizeof(T) / 4], c * sizeof(T) % 4 != 0, T{});
    }
};

template <typename T, int C> __device__ __forceinline__ Packed<T, C> load_packed(const T *p, bool valid) {
    Packed<T, C> r;
    if (valid) r.load(p);
    return r;
}

template <typename T, int C> __device__ __forceinline__ void store_packed(T *p, const float (&v)[C]) {
    struct alignas(sizeof(T) * C) Elements { T v[C]; } r;
#pragma unroll
    for (int c = 0; c < C; c++) from_float(v[c], r.v[c]);
    *reinterpret_cast<Elements *>(p) = r;
}

// Neighbouring floats to and from shared memory, 16 bytes at a time where there are as many.
template <int C> __device__ __forceinline__ void load_shared(float (&v)[C], const float *p) {
    constexpr int step = C < 4 ? C : 4;
#pragma unroll
    for (int c = 0; c < C; c += step) {
        const auto r = load_packed<float, step>(p + c, true);
#pragma unroll
        for (int i = 0; i < step; i++) v[c + i] = r[i];
    }
}

template <int C> __device__ __forceinline__ void store_shared(float *p, const float (&v)[C]) {
    constexpr int step = C < 4 ? C : 4;
#pragma unroll
    for (int c = 0; c < C; c += step) {
        float part[step];
#pragma unroll
        for (int i = 0; i < step; i++) part[i] = v[c + i];
        store_packed<float, step>(p + c, part);
    }
}

// Exact to a few units in the last place where the result is not negligible; 0 and 1 at the ends.
__device__ __forceinline__ float sigmoid(float v) { return reciprocal_fast(1.0f + exp2_fast(-v * LOG2_E)); }

// log(1 + e) for 0 <= e < 2^30 without branches: 1 + e = 2^k (1 + f) with f in
// [-1/3, 1/3], and log(1 + f) = f - f^2 (1/2 - f/3 + ...); relative error 2e-7.
__device__ __forceinline__ float log1p_fast(float e) {
    const int k = (__float_as_int(1.0f + e) - 0x3f2aaaab) & 0xff800000;  // the exponent, in place
    const float scale = __int_as_float(0x3f800000 - k);                 // 2^-k
    const float f = fmaf(scale, e, scale - 1.0f);
    float r = 0.137565389f;  // least squares of (log(1 + f) - f) / f^2 at Chebyshev nodes
    r = fmaf(r, f, -0.150494292f);
    r = fmaf(r, f, 0.140542179f);
    r = fmaf(r, f, -0.164815798f);
    r = fmaf(r, f, 0.200073227f);
    r = fmaf(r, f, -0.250042051f);
    r = fmaf(r, f, 0.333332717f);
    r = fmaf(r, f, -0.499999851f);
    r = fmaf(r * f, f, f);
    return fmaf(float(k), LN_2 / (1 << 23), r);
}

// softplus(v), the identity above 20 as in torch, and its slope; without branches, so that calls overlap.
__device__ __forceinline__ float softplus(float v, float &slope) {
    const float e = exp2_fast(min_nan(v, 20.0f) * LOG2_E);
    slope = e * reciprocal_fast(1.0f + e);
    return log1p_fast(e) + (fmaxf(v, 20.0f) - 20.0f);
}

// Sum NV values over LANES lanes that lie STRIDE apart, by recursive halving: afterwards the lane of rank r holds the
// sums r * NV / LANES, ... in v[0], ...; with more lanes than values, LANES / NV neighbouring ranks hold the same sum.
template <int NV, int LANES, int STRIDE, int SIZE>
__device__ __forceinline__ void sum_scattered(float (&v)[SIZE], int lane) {
    if constexpr (LANES > 1) {
        constexpr int mask = STRIDE * LANES / 2;
        if constexpr (NV > 1) {
            constexpr int half = NV / 2;
            const bool upper = lane & mask;
#pragma unroll
            for (int i = 0; i < half; i++) {
                const float give = upper ? v[i] : v[i + half];
                const float keep = upper ? v[i + half] : v[i];
                v[i] = keep + __shfl_xor_sync(ALL_LANES, give, mask);
            }
            sum_scattered<half, LANES / 2, STRIDE>(v, lane);
        } else {
            v[0] += __shfl_xor_sync(ALL_LANES, v[0], mask);
            sum_scattered<1, LANES / 2, STRIDE>(v, lane);
        }
    }
}

// Parts of a sum over many blocks, one column per lane: called by all ROWS * COLUMNS threads of a block, true for those
// that get a sum. `p` points at the column's first part; a lane whose column is not `valid` reads nothing.
constexpr int COLUMNS = 32, ROWS = 8;
__device__ __forceinline__ bool sum_parts(const float *p, i64 stride, i64 count, bool valid, float &sum) {
    __shared__ float sums[ROWS][COLUMNS];
    const int x = threadIdx.x % COLUMNS, y = threadIdx.x / COLUMNS;
    float v = 0.0f;
#pragma unroll 4
    for (i64 i = y; i < count; i += ROWS)
        if (valid) v += p[i * stride];
    sums[y][x] = v;
    __syncthreads();
    sum = sums[0][x];
    for (int i = 1; i < ROWS; i++) sum += sums[i][x];
    return y == 0 && valid;
}
