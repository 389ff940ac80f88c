// What the forward and the backward scan share. Symbols as in lgmamba/scan/__init__.py.
//
// Mapping. A channel's NP states (N padded to a power of two >= 4) lie on S neighbouring lanes with NT states each; a
// thread holds CT neighbouring channels, so a warp serves CL * CT channels and a block WARPS times that, all of one
// group of channels that share B and C. Every warp walks along its steps alone; the warps of a block only share the B and
// C of a chunk of K steps. Within a tile of T steps the same lanes do the work per (step, channel) -- softplus, SiLU,
// loads, stores -- for TPL steps each, and hand dt and dt * x to the lanes that need them through shared memory. Steps
// past L and channels past their group have dt = 0, x = 0, which is an exact no-op on the state, so that the inner loops
// need no bounds.
//
// Time. A sequence is cut into `pieces` of `piece` steps, a multiple of K. With more than one, cuda_scan_ends.cu walks all
// pieces side by side from a zero state, cuda_scan_join.cu carries the states from piece to piece, and then forward and
// backward walk all pieces side by side, each from its true state. A piece passes on N states and one sum of dt a channel,
// because its decay is exp(A * sum of dt).
//
// Runs. The B samples are R runs of `run_samples` neighbouring ones, each run with an A, Dskip and dt_bias of its own.
//
// Set by cuda_launch.py: TX (x, y, dy, dx), TD (dt), TZ (z), TBC (Bmat, Cmat) as types; NP, NT, CT, WARPS, K, T,
// MIN_BLOCKS as numbers; and as 0 or 1 N_IS_NP, SOFTPLUS, GATED (there is a z), STATES (intermediate states wanted),
// CHECKPOINTS (kept for a backward), REVERSE (ends: from the right), DIRECT (backward: one block holds a whole group).

constexpr int S = NP / NT;
constexpr int CL = 32 / S;
constexpr int CHANNELS_PER_WARP = CL * CT;
constexpr int THREADS = 32 * WARPS;
constexpr int TPL = S < T ? T / S : 1;
constexpr int LANES_PER_STEP = S > T ? S / T : 1;
static_assert(S >= 1 && S <= 32 && NT % 4 == 0 && K % T == 0, "unsupported mapping");

// Eight bytes per field, in the order of cuda_launch.Args. Strides in elements; the last axis of x, dt, z is dense.
struct Args {
    i64 B, L, D, N, G, states_every;  // L, D and the product of D and N fit 31 bits
    i64 pieces, piece;                // a sequence is `pieces` pieces of `piece` steps, the last one may be shorter
    i64 width, blocks_d, blocks_per_group;  // channels of a group; blocks along the channels, in all and of one group
    i64 run_samples;                  // samples of one run, B / R
    i64 items_per_block, run_parts;   // backward: how many (sample, piece) of a run a block takes, and how many blocks that is
    const TX *x; i64 x_b, x_l;
    const TD *dt; i64 dt_b, dt_l;
    const TZ *z; i64 z_b, z_l;
    const TX *dy; i64 dy_b, dy_l;
    const TBC *Bmat; i64 B_b, B_l, B_g, B_n;
    const TBC *Cmat; i64 C_b, C_l, C_g, C_n;
    const float *A, *Dskip, *dt_bias;        // (R, D, N), (R, D), (R, D)
    const float *h0, *dlast, *dstates;       // (B, D, N), (B, D, N), (B, L / states_every, D, N)
    float *ends, *dt_sums;                   // (B, pieces - 1, D, N), (B, pieces - 1, D); what they hold: cuda_scan_ends.cu
    TX *y;
    float *last, *states, *checkpoints;      // (B, D, N), (B, L / states_every, D, N), (B, (L - 1) / K, D, N)
    TX *dx; TD *ddt; TZ *dz;                 // (B, L, D)
    TBC *dBmat, *dCmat;                      // (B, L, G, N), if DIRECT
    float *dh0, *part_bc;                    // (B, D, N), (blocks of a group, B * L * G, 2, N)
    float *part_A, *part_vectors;            // (R * run_parts, D, N), (R * run_parts, dDskip and ddt_bias, D)
};

// Where this thread stands; d0 is its first channel, n0 its first state, step0 its first step within a tile.
struct Place {
    int lane, warp, rank_s, rank_c, block_of_group, group, d0, n0, step0;
    bool live;   // its channels exist
    bool owner;  // it is the one to write results per (step, channel)
    __device__ Place(int block_d, const Args &a) {
        lane = threadIdx.x % 32;
        warp = threadIdx.x / 32;
        rank_s = lane % S;
        rank_c = lane / S;
        group = a.G == 1 ? 0 : block_d / int(a.blocks_per_group);
        block_of_group = block_d - group * int(a.blocks_per_group);
        const int width = a.width;
        const int within = (block_of_group * WARPS + warp) * CHANNELS_PER_WARP + rank_c * CT;
        d0 = group * width + within;
        n0 = rank_s * NT;
        step0 = rank_s / LANES_PER_STEP * TPL;
        live = within < width;
        owner = live && rank_s % LANES_PER_STEP == 0;
    }
};

// Piece `index` of a sequence: its steps [first, end) and chunks.
struct Piece {
    int index, first, end, chunks;
    bool is_last;
    __device__ Piece(int index, const Args &a) : index(index) {
        first = index * int(a.piece);
        is_last = index + 1 == int(a.pieces);
        end = is_last ? int(a.L) : first + int(a.piece);
        chunks = (end - first + K - 1) / K;
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

// p is an (R, D) array.
__device__ __forceinline__ void load_parameter(float (&v)[CT], const float *p, i64 run, const Args &a, const Place &at) {
#pragma unroll
    for (int c = 0; c < CT; c++) v[c] = p != nullptr && at.live ? p[run * a.D + at.d0 + c] : 0.0f;
}

// This lane's elements of the tile ahead in x, dt, z or dy; tiles follow each other at `jump` steps.
template <typename E> struct Rows {
    const E *next;
    i64 stride, jump;
    Packed<E, CT> raw[TPL];

    __device__ __forceinline__ Rows(const E *p, i64 p_b, i64 p_l, i64 b, int first, int jump_steps, const Place &at) {
        next = p + b * p_b + (first + at.step0) * p_l + at.d0;
        stride = p_l;
        jump = jump_steps * p_l;
    }
    __device__ __forceinline__ void fetch(int t0, int end, const Place &at) {
#pragma unroll
        for (int i = 0; i < TPL; i++)
            raw[i] = load_packed<E, CT>(next + i * stride, at.live && t0 + at.step0 + i < end);
        next += jump;
    }
};

// B and C of one chunk, or one of them, on their way to shared memory as [step][B, C][state], zero outside L and N. Each
// thread serves PER_ROW columns of every PASS-th row.
template <bool WITH_B, bool WITH_C> struct ProjectionStage {
    static constexpr int WIDTH = (WITH_B + WITH_C) * NP;
    static constexpr int FLOATS = K * WIDTH;
    static constexpr int PER_ROW = WIDTH > THREADS ? WIDTH / THREADS : 1;
    static constexpr int PASS = WIDTH < THREADS ? THREADS / WIDTH : 1;
    static constexpr int COUNT = FLOATS > THREADS ? FLOATS / THREADS : 1;
    static constexpr int AHEAD = COUNT < 8 ? COUNT : 8;  // registers spent on loads in flight
    static_assert(COUNT == 1 || FLOATS % THREADS == 0, "unsupported mapping");
    const TBC *column[PER_ROW];                          // its element in row 0, null outside N
    i64 stride[PER_ROW];
    TBC raw[AHEAD];

    __device__ __forceinline__ ProjectionStage(const Args &a, i64 b, const Place &at) {
#pragma unroll
        for (int j = 0; j < PER_ROW; j++) {
            const int n = (threadIdx.x + j * THREADS) % NP;
            const bool is_c = WITH_C && (!WITH_B || (threadIdx.x + j * THREADS) / NP % 2);
            column[j] = is_c ? a.Cmat + b * a.C_b + at.group * a.C_g + n * a.C_n
                             : a.Bmat + b * a.B_b + at.group * a.B_g + n * a.B_n;
            stride[j] = is_c ? a.C_l : a.B_l;
            if (n >= a.N || threadIdx.x >= FLOATS) column[j] = nullptr;
        }
    }
    __device__ __forceinline__ void fetch(int t0, int end, int first = 0) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int t = t0 + (first + i) / PER_ROW * PASS + threadIdx.x / WIDTH, j = i % PER_ROW;
            raw[i] = TBC{};
            if (t < end && column[j] != nullptr) raw[i] = column[j][t * stride[j]];
        }
    }
    // Needs fetch(t0, end) before it; loads the rest of a large chunk itself.
    __device__ __forceinline__ void store(float *shared_bc, int t0, int end) {
        for (int first = 0;; first += AHEAD) {
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (FLOATS >= THREADS || threadIdx.x < FLOATS)
                    shared_bc[(first + i) * THREADS + threadIdx.x] = to_float(raw[i]);
            if (first + AHEAD >= COUNT) break;
            fetch(t0, end, first + AHEAD);
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
__device__ __forceinline__ void load_state_matrix(State &A2, i64 run, const Args &a, const Place &at) {
    load_state(A2, a.A + state_offset(run, a, at), a, at);
#pragma unroll
    for (int c = 0; c < CT; c++)
#pragma unroll
        for (int n = 0; n < NT; n++) A2[c][n] *= LOG2_E;
}

// Add the gradient of the state that was reported after step t, if one was.
__device__ __forceinline__ void add_reported_gradient(State &s, i64 b, int t, const Args &a, const Place &at) {
    const int every = a.states_every, L = a.L;
    if (a.dstates == nullptr || (t + 1) % every != 0 || t >= L) return;
    State ds;
    load_state(ds, a.dstates + state_offset(b * (L / every) + t / every, a, at), a, at);
#pragma unroll
    for (int c = 0; c < CT; c++)
#pragma unroll
        for (int n = 0; n < NT; n++) s[c][n] += ds[c][n];
}
