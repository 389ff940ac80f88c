// What the forward and the backward scan share. Symbols as in lgmamba/scan/__init__.py.
//
// Mapping. A channel's NP states (N padded to a power of two >= 4) lie on S neighbouring lanes with NT states each; a
// thread holds CT neighbouring channels, so a warp serves CL * CT channels and a block WARPS times that. Every warp
// walks along the sequence alone; blocks only share the B and C of a chunk of K steps. Within a tile of T steps the
// same lanes do the work per (step, channel) -- softplus, SiLU, loads, stores -- for TPL steps each, and hand dt and
// dt * x to the lanes that need them through shared memory. Steps past L and channels past D have dt = 0, x = 0,
// which is an exact no-op on the state, so that the inner loops need no bounds.
//
// Set by cuda_backend.py: TX (x, y, dy, dx), TD (dt), TZ (z), TBC (Bmat, Cmat) as types; NP, CT, WARPS, K, T,
// MIN_BLOCKS as numbers; and as 0 or 1 N_IS_NP, SOFTPLUS, GATED (there is a z), STATES (intermediate states wanted),
// CHECKPOINTS (kept for a backward).

constexpr int NT = NP > 128 ? 8 : 4;
constexpr int S = NP / NT;
constexpr int CL = 32 / S;
constexpr int CHANNELS_PER_WARP = CL * CT;
constexpr int THREADS = 32 * WARPS;
constexpr int TPL = S < T ? T / S : 1;
constexpr int LANES_PER_STEP = S > T ? S / T : 1;
static_assert(S <= 32 && K % T == 0 && (K * 2 * NP) % THREADS == 0, "unsupported mapping");

// Eight bytes per field, in the order of cuda_backend.Args. Strides in elements; the last axis of x, dt, z is dense.
struct Args {
    i64 B, L, D, N, states_every, rows_per_block;  // L, D and the product of D and N fit 31 bits
    const TX *x; i64 x_b, x_l;
    const TD *dt; i64 dt_b, dt_l;
    const TZ *z; i64 z_b, z_l;
    const TX *dy; i64 dy_b, dy_l;
    const TBC *Bmat; i64 B_b, B_l, B_n;
    const TBC *Cmat; i64 C_b, C_l, C_n;
    const float *A, *Dskip, *dt_bias, *h0, *dlast, *dstates;
    TX *y;
    float *last, *states, *checkpoints;      // (B, D, N), (B, L / states_every, D, N), (B, (L - 1) / K, D, N)
    TX *dx; TD *ddt; TZ *dz;                 // (B, L, D)
    float *dh0, *part_bc;                    // (B, D, N), (blocks of D, B * L, 2, N)
    float *part_A, *part_vectors;            // (groups, D, N), (groups, dDskip and ddt_bias, D)
};

// Where this thread stands; d0 is its first channel, n0 its first state, step0 its first step within a tile.
struct Place {
    int lane, warp, rank_s, rank_c, d0, n0, step0;
    bool live;   // its channels exist
    bool owner;  // it is the one to write results per (step, channel)
    __device__ Place(int block_d, i64 D) {
        lane = threadIdx.x % 32;
        warp = threadIdx.x / 32;
        rank_s = lane % S;
        rank_c = lane / S;
        d0 = (block_d * WARPS + warp) * CHANNELS_PER_WARP + rank_c * CT;
        n0 = rank_s * NT;
        step0 = rank_s / LANES_PER_STEP * TPL;
        live = d0 < D;
        owner = live && rank_s % LANES_PER_STEP == 0;
    }
};

typedef float State[CT][NT];

// p points at (first channel, first state) of this thread in a (D, N) block of float32.
__device__ __forceinline__ void load_state(State &h, const float *p, const Args &a, const Place &at) {
#pragma unroll
    for (int c = 0; c < CT; c++) {
        const float *q = p + c * a.N;
        if constexpr (N_IS_NP) {
#pragma unroll
            for (int n = 0; n < NT; n += 4) {
                const auto r = load_packed<float, 4>(q + n, at.live);
                for (int i = 0; i < 4; i++) h[c][n + i] = r[i];
            }
        } else {
#pragma unroll
            for (int n = 0; n < NT; n++) h[c][n] = at.live && at.n0 + n < a.N ? q[n] : 0.0f;
        }
    }
}

__device__ __forceinline__ void store_state(float *p, const State &h, const Args &a, const Place &at) {
    if (!at.live) return;
#pragma unroll
    for (int c = 0; c < CT; c++) {
        float *q = p + c * a.N;
        if constexpr (N_IS_NP) {
#pragma unroll
            for (int n = 0; n < NT; n += 4) {
                const float r[4] = {h[c][n], h[c][n + 1], h[c][n + 2], h[c][n + 3]};
                store_packed<float, 4>(q + n, r);
            }
        } else {
#pragma unroll
            for (int n = 0; n < NT; n++)
                if (at.n0 + n < a.N) q[n] = h[c][n];
        }
    }
}

// Offset of this thread's states in row `row` of a (rows, D, N) array.
__device__ __forceinline__ i64 state_offset(i64 row, const Args &a, const Place &at) {
    return (row * a.D + at.d0) * a.N + at.n0;
}

__device__ __forceinline__ void load_parameter(float (&v)[CT], const float *p, const Place &at) {
#pragma unroll
    for (int c = 0; c < CT; c++) v[c] = p != nullptr && at.live ? p[at.d0 + c] : 0.0f;
}

// B and C of one chunk on their way to shared memory as [step][B, C][state], zero outside L and N. Each thread serves
// PER_ROW columns of every PASS-th row.
struct ProjectionStage {
    static constexpr int WIDTH = 2 * NP;
    static constexpr int PER_ROW = WIDTH > THREADS ? WIDTH / THREADS : 1;
    static constexpr int PASS = WIDTH < THREADS ? THREADS / WIDTH : 1;
    static constexpr int COUNT = K * WIDTH / THREADS;
    static constexpr int AHEAD = COUNT < 8 ? COUNT : 8;  // registers spent on loads in flight
    const TBC *column[PER_ROW];                          // its element in row 0, null outside N
    i64 stride[PER_ROW];
    TBC raw[AHEAD];

    __device__ __forceinline__ ProjectionStage(const Args &a, i64 b) {
#pragma unroll
        for (int j = 0; j < PER_ROW; j++) {
            const int n = (threadIdx.x + j * THREADS) % NP;
            const bool is_c = (threadIdx.x + j * THREADS) / NP % 2;
            column[j] = is_c ? a.Cmat + b * a.C_b + n * a.C_n : a.Bmat + b * a.B_b + n * a.B_n;
            stride[j] = is_c ? a.C_l : a.B_l;
            if (n >= a.N) column[j] = nullptr;
        }
    }
    __device__ __forceinline__ void fetch(int t0, int L, int first = 0) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int t = t0 + (first + i) / PER_ROW * PASS + threadIdx.x / WIDTH, j = i % PER_ROW;
            raw[i] = TBC{};
            if (t < L && column[j] != nullptr) raw[i] = column[j][t * stride[j]];
        }
    }
    // Needs fetch(t0, L) before it; loads the rest of a large chunk itself.
    __device__ __forceinline__ void store(float *shared_bc, int t0, int L) {
        for (int first = 0;; first += AHEAD) {
#pragma unroll
            for (int i = 0; i < AHEAD; i++) shared_bc[(first + i) * THREADS + threadIdx.x] = to_float(raw[i]);
            if (first + AHEAD >= COUNT) break;
            fetch(t0, L, first + AHEAD);
        }
    }
};

// One step of the recurrence for this thread's states: gains = exp(dt * A), h = gains * h + u * B with u = dt * x.
__device__ __forceinline__ void advance(
    State &h, State &gains, const float (&dt)[CT], const float (&u)[CT], const State &A2, const float (&Bt)[NT]) {
#pragma unroll
    for (int c = 0; c < CT; c++)
#pragma unroll
        for (int n = 0; n < NT; n++) {
            gains[c][n] = exp2_fast(dt[c] * A2[c][n]);
            h[c][n] = gains[c][n] * h[c][n] + u[c] * Bt[n];
        }
}

// The thread's steady inputs: A in units of log2(e), so that exp(dt * A) is one 2^v.
__device__ __forceinline__ void load_state_matrix(State &A2, const Args &a, const Place &at) {
    load_state(A2, a.A + state_offset(0, a, at), a, at);
#pragma unroll
    for (int c = 0; c < CT; c++)
#pragma unroll
        for (int n = 0; n < NT; n++) A2[c][n] *= LOG2_E;
}
