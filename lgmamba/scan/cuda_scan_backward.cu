// Backward scan: walks the chunks of K steps from the last to the first. Within a chunk the states before each tile of
// T steps are recomputed from the chunk's checkpoint and kept in shared memory; within a tile the states and gains of
// every step live in registers. Grid: blocks of D fastest, then parts: `items_per_block` pieces of sequences of one run.
//
// With h_t = g_t h_{t-1} + u_t B_t, g_t = exp(dt_t A), u_t = dt_t x_t and s_t = dL/dh_t (all later steps included):
//   s_t = dy_t C_t + g_{t+1} s_{t+1}           dC_t = sum_d dy_t h_t            dB_t = sum_d u_t s_t
//   q_t = sum_n s_t B_t                        dx_t = dt_t q_t + Dskip dy_t     dA = sum_t dt_t g_t s_t h_{t-1}
//   ddt_t = x_t q_t + sum_n A g_t s_t h_{t-1}
// where dy has passed the gate and ddt goes on through softplus. Sums over channels are left as one part per block of a
// group, sums over samples and pieces as one part per `items_per_block`; cuda_scan_sums.cu adds the parts in a fixed order.

constexpr int TILES = K / T;
constexpr int BC_FLOATS = K * 2 * NP;
constexpr int TILE_STATE_FLOATS = (TILES - 1) * THREADS * CT * NT;
constexpr int SUM_STEPS = NP <= 16 ? K : T;     // steps whose sums over channels are written at once, as memory allows
constexpr int SUM_BUFFERS = SUM_STEPS < K ? 2 : 1;  // used in turn
constexpr int SUM_FLOATS = WARPS * SUM_STEPS * 2 * NP;
enum { DT = 0, U = 1 };

// What a warp keeps about its channels during a chunk; all but dt_u and dy are private to the lane that wrote them.
struct WarpSteps {
    float dt_u[K][CL][2][CT];
    float dy[K][CL][CT], x[K][CL][CT], dt_slope[K][CL][CT], dz_per_y[K][CL][CT];
};

// The state before tile r, private to the thread; [tile][channel and state in fours][thread][4] spares bank conflicts.
__device__ __forceinline__ float *tile_state(float *tile_states, int r, int c, int n) {
    return tile_states + (((r * CT + c) * (NT / 4) + n / 4) * THREADS + threadIdx.x) * 4;
}

__device__ __forceinline__ void store_tile_state(float *tile_states, int r, const State &h) {
#pragma unroll
    for (int c = 0; c < CT; c++)
#pragma unroll
        for (int n = 0; n < NT; n += 4)
            store_shared(tile_state(tile_states, r, c, n), {h[c][n], h[c][n + 1], h[c][n + 2], h[c][n + 3]});
}

__device__ __forceinline__ void load_tile_state(State &h, float *tile_states, int r) {
#pragma unroll
    for (int c = 0; c < CT; c++)
#pragma unroll
        for (int n = 0; n < NT; n += 4) {
            float v[4];
            load_shared(v, tile_state(tile_states, r, c, n));
#pragma unroll
            for (int i = 0; i < 4; i++) h[c][n + i] = v[i];
        }
}

// This lane's elements of a chunk, of which `row` points at the first.
template <typename E> __device__ __forceinline__ void load_steps(
    Packed<E, CT> (&raw)[TILES][TPL], const E *row, i64 stride, int t0, int L, const Place &at) {
#pragma unroll
    for (int r = 0; r < TILES; r++)
#pragma unroll
        for (int i = 0; i < TPL; i++)
            raw[r][i] = load_packed<E, CT>(row + (r * T + i) * stride, at.live && t0 + r * T + at.step0 + i < L);
}

// Load x, dt, z, dy of a chunk and leave in shared memory what the scan and the results need of them.
__device__ __forceinline__ void prepare_chunk(
    WarpSteps &w, i64 b, int t0, const float (&bias)[CT], const Args &a, const Place &at) {
    const int L = a.L, first = t0 + at.step0;
    Packed<TX, CT> raw_x[TILES][TPL], raw_dy[TILES][TPL];
    Packed<TD, CT> raw_dt[TILES][TPL];
    Packed<TZ, CT> raw_z[TILES][TPL];
    load_steps(raw_dt, a.dt + b * a.dt_b + first * a.dt_l + at.d0, a.dt_l, t0, L, at);
    load_steps(raw_x, a.x + b * a.x_b + first * a.x_l + at.d0, a.x_l, t0, L, at);
    if constexpr (GATED) load_steps(raw_z, a.z + b * a.z_b + first * a.z_l + at.d0, a.z_l, t0, L, at);
    if (a.dy != nullptr) load_steps(raw_dy, a.dy + b * a.dy_b + first * a.dy_l + at.d0, a.dy_l, t0, L, at);
#pragma unroll
    for (int r = 0; r < TILES; r++)
#pragma unroll
        for (int i = 0; i < TPL; i++) {
            const int step = r * T + at.step0 + i;
            const bool valid = at.live && t0 + step < L;
            float dt_u[2 * CT], dy[CT], x[CT], dt_slope[CT], dz_per_y[CT];
#pragma unroll
            for (int c = 0; c < CT; c++) {
                float dt = raw_dt[r][i][c] + bias[c];
                dt_slope[c] = 1.0f;
                if constexpr (SOFTPLUS) dt = softplus(dt, dt_slope[c]);
                x[c] = raw_x[r][i][c];
                dt_u[c] = valid ? dt : 0.0f;
                dt_u[CT + c] = dt_u[c] * x[c];
                dy[c] = raw_dy[r][i][c];
                dz_per_y[c] = 0.0f;
                if constexpr (GATED) {
                    const float z = raw_z[r][i][c], sig = sigmoid(z);
                    dz_per_y[c] = dy[c] * sig * (1.0f + z * (1.0f - sig));
                    dy[c] *= z * sig;
                }
            }
            if (at.rank_s % LANES_PER_STEP == 0) {
                store_shared(&w.dt_u[step][at.rank_c][0][0], dt_u);
                store_shared(w.dy[step][at.rank_c], dy);
                store_shared(w.x[step][at.rank_c], x);
                if constexpr (SOFTPLUS) store_shared(w.dt_slope[step][at.rank_c], dt_slope);
                if constexpr (GATED) store_shared(w.dz_per_y[step][at.rank_c], dz_per_y);
            }
        }
}

// Sums over this thread's states, per (channel, step of the tile).
struct StateSums {
    float y[CT][T], q[CT][T], decay[CT][T];
};

// Turn the sums over states into dx, ddt, dz of the tile that starts at step r * T of the chunk at t0.
__device__ __forceinline__ void write_steps(
    StateSums &sums, const WarpSteps &w, i64 b, int t0, int r, const float (&skip)[CT], float (&dskip)[CT],
    float (&dbias)[CT], const Args &a, const Place &at) {
#pragma unroll
    for (int c = 0; c < CT; c++) {
        sum_scattered<T, S, 1>(sums.y[c], at.lane);
        sum_scattered<T, S, 1>(sums.q[c], at.lane);
        sum_scattered<T, S, 1>(sums.decay[c], at.lane);
    }
    const i64 first = (b * a.L + t0 + r * T + at.step0) * a.D + at.d0;
#pragma unroll
    for (int i = 0; i < TPL; i++) {
        const int step = r * T + at.step0 + i;
        const bool mine = at.owner && t0 + step < a.L;
        float dt_u[2 * CT], dy[CT], x[CT], dt_slope[CT] = {}, dz_per_y[CT] = {}, dx[CT], ddt[CT], dz[CT];
        load_shared(dt_u, &w.dt_u[step][at.rank_c][0][0]);
        load_shared(dy, w.dy[step][at.rank_c]);
        load_shared(x, w.x[step][at.rank_c]);
        if constexpr (SOFTPLUS) load_shared(dt_slope, w.dt_slope[step][at.rank_c]);
        if constexpr (GATED) load_shared(dz_per_y, w.dz_per_y[step][at.rank_c]);
#pragma unroll
        for (int c = 0; c < CT; c++) {
            dx[c] = dt_u[c] * sums.q[c][i] + skip[c] * dy[c];
            ddt[c] = x[c] * sums.q[c][i] + LN_2 * sums.decay[c][i];
            if constexpr (SOFTPLUS) ddt[c] *= dt_slope[c];
            dz[c] = dz_per_y[c] * (sums.y[c][i] + skip[c] * x[c]);
            dskip[c] += mine ? dy[c] * x[c] : 0.0f;
            dbias[c] += mine ? ddt[c] : 0.0f;
        }
        if (mine) {
            store_packed<TX, CT>(a.dx + first + i * a.D, dx);
            store_packed<TD, CT>(a.ddt + first + i * a.D, ddt);
            if constexpr (GATED) store_packed<TZ, CT>(a.dz + first + i * a.D, dz);
        }
    }
}

// Sum v = (dB[NT], dC[NT]) over the warp's channels and leave it in sums as [step][B, C][state].
__device__ __forceinline__ void sum_over_channels(float (&v)[2 * NT], float *sums, const Place &at) {
    sum_scattered<2 * NT, CL, S>(v, at.lane);
    constexpr int held = 2 * NT > CL ? 2 * NT / CL : 1, sharing = CL > 2 * NT ? CL / (2 * NT) : 1;
    constexpr int wide = held < 4 ? held : 4;
    if (at.rank_c % sharing != 0) return;
#pragma unroll
    for (int i = 0; i < held; i += wide) {
        const int j = at.rank_c / sharing * held + i;
        float part[wide];
#pragma unroll
        for (int k = 0; k < wide; k++) part[k] = v[i + k];
        store_shared(sums + j / NT * NP + at.n0 + j % NT, part);
    }
}

// Add the warps' sums of the SUM_STEPS steps from t0 on and write dB and dC, or this block's part of them.
__device__ __forceinline__ void write_projections(const float *sums, i64 b, int t0, const Args &a, const Place &at) {
    constexpr int WIDTH = 2 * NP, COUNT = SUM_STEPS * WIDTH, WIDE = N_IS_NP ? 4 : 1;
    const i64 row = (b * a.L + t0) * a.G + at.group;
    const i64 part_row = at.block_of_group * a.B * a.L * a.G + row;
#pragma unroll
    for (int i = 0; i < COUNT; i += THREADS * WIDE) {
        const int e = i + threadIdx.x * WIDE, n = e % NP, is_c = e / NP % 2, step = e / WIDTH;
        if ((COUNT % (THREADS * WIDE) == 0 || e < COUNT) && t0 + step < a.L && n < a.N) {
            float v[WIDE];
            load_shared(v, sums + e);
#pragma unroll
            for (int w = 1; w < WARPS; w++) {
                float other[WIDE];
                load_shared(other, sums + w * COUNT + e);
#pragma unroll
                for (int k = 0; k < WIDE; k++) v[k] += other[k];
            }
            const i64 step_row = step * a.G;
            if constexpr (DIRECT)
                store_packed<TBC, WIDE>((is_c ? a.dCmat : a.dBmat) + (row + step_row) * a.N + n, v);
            else
                store_packed<float, WIDE>(a.part_bc + ((part_row + step_row) * 2 + is_c) * a.N + n, v);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) scan_backward(const __grid_constant__ Args a) {
    extern __shared__ __align__(16) float shared[];
    let_next_kernel_start();
    const int part = blockIdx.x / int(a.blocks_d), pieces = a.pieces;
    const Place at(blockIdx.x - part * int(a.blocks_d), a);
    float *bc = shared;
    float *channel_sums = shared + BC_FLOATS;
    float *tile_states = channel_sums + SUM_BUFFERS * SUM_FLOATS;
    WarpSteps &w = reinterpret_cast<WarpSteps *>(tile_states + TILE_STATE_FLOATS)[at.warp];
    const int run = part / int(a.run_parts);
    int turn = 0;

    State A2, dA = {}, gains_unused;
    load_state_matrix(A2, run, a, at);
    float skip[CT], bias[CT], dskip[CT] = {}, dbias[CT] = {};
    load_parameter(skip, a.Dskip, run, a, at);
    load_parameter(bias, a.dt_bias, run, a, at);
    const int L = a.L, checkpoints = (L - 1) / K;
    wait_for_previous_kernel();

    // 64 bits: with 32 the compiler allots the loop's registers in another way, which is a tenth slower on an H100.
    const i64 run_items = a.run_samples * pieces, end_of_run = (run + 1) * run_items;
    const i64 first_item = run * run_items + (part - run * a.run_parts) * a.items_per_block;
    const i64 end_item = min(first_item + a.items_per_block, end_of_run);
    for (i64 item = first_item; item < end_item; item++) {
        const i64 b = item / pieces;
        const Piece piece(int(item - b * pieces), a);
        State s = {};
        if (!piece.is_last)
            load_state(s, a.ends + state_offset(b * (pieces - 1) + piece.index, a, at), a, at);
        else if (a.dlast != nullptr)
            load_state(s, a.dlast + state_offset(b, a, at), a, at);
        ProjectionStage<true, true> stage(a, b, at);
        stage.fetch(piece.first + (piece.chunks - 1) * K, L);
        for (int chunk = piece.chunks - 1; chunk >= 0; chunk--) {
            const int t0 = piece.first + chunk * K;
            State h = {};
            if (t0 > 0)
                load_state(h, a.checkpoints + state_offset(b * checkpoints + t0 / K - 1, a, at), a, at);
            else if (a.h0 != nullptr)
                load_state(h, a.h0 + state_offset(b, a, at), a, at);
            prepare_chunk(w, b, t0, bias, a, at);
            __syncthreads();  // the previous chunk is done with B and C
            stage.store(bc, t0, L);
            __syncthreads();
            if (chunk > 0) stage.fetch(t0 - K, L);

            const int tiles = min(TILES, (L - t0 + T - 1) / T);
            for (int r = 0; r < tiles - 1; r++) {
                store_tile_state(tile_states, r, h);
#pragma unroll
                for (int t = 0; t < T; t++) {
                    const int step = r * T + t;
                    float Bt[NT], dt_u[2 * CT], dt[CT], u[CT];
                    load_shared(Bt, bc + step * 2 * NP + at.n0);
                    load_shared(dt_u, &w.dt_u[step][at.rank_c][0][0]);
#pragma unroll
                    for (int c = 0; c < CT; c++) dt[c] = dt_u[c], u[c] = dt_u[CT + c];
                    advance(h, gains_unused, dt, u, A2, Bt);
                }
            }

            for (int r = tiles - 1; r >= 0; r--) {
                if (r < tiles - 1) load_tile_state(h, tile_states, r);
                State before[T], gains[T];
#pragma unroll
                for (int t = 0; t < T; t++) {
                    const int step = r * T + t;
                    float Bt[NT], dt_u[2 * CT], dt[CT], u[CT];
                    load_shared(Bt, bc + step * 2 * NP + at.n0);
                    load_shared(dt_u, &w.dt_u[step][at.rank_c][0][0]);
#pragma unroll
                    for (int c = 0; c < CT; c++) {
                        dt[c] = dt_u[c], u[c] = dt_u[CT + c];
#pragma unroll
                        for (int n = 0; n < NT; n++) before[t][c][n] = h[c][n];
                    }
                    advance(h, gains[t], dt, u, A2, Bt);
                }

                StateSums sums;
                float *warp_sums = channel_sums + turn * SUM_FLOATS + (at.warp * SUM_STEPS + r * T % SUM_STEPS) * 2 * NP;
#pragma unroll
                for (int t = T - 1; t >= 0; t--) {
                    const int step = r * T + t;
                    float Bt[NT], Ct[NT], dt_u[2 * CT], dy[CT], dbc[2 * NT] = {};
                    load_shared(Bt, bc + step * 2 * NP + at.n0);
                    load_shared(Ct, bc + step * 2 * NP + NP + at.n0);
                    load_shared(dt_u, &w.dt_u[step][at.rank_c][0][0]);
                    load_shared(dy, &w.dy[step][at.rank_c][0]);
                    if constexpr (STATES) add_reported_gradient(s, b, t0 + step, a, at);
#pragma unroll
                    for (int c = 0; c < CT; c++) {
                        float y = 0.0f, q = 0.0f, decay = 0.0f;
#pragma unroll
                        for (int n = 0; n < NT; n++) {
                            const float after = t + 1 < T ? before[t + 1 < T ? t + 1 : t][c][n] : h[c][n];
                            s[c][n] += dy[c] * Ct[n];
                            y += Ct[n] * after;
                            q += s[c][n] * Bt[n];
                            dbc[n] += dt_u[CT + c] * s[c][n];
                            dbc[NT + n] += dy[c] * after;
                            s[c][n] *= gains[t][c][n];
                            const float g = s[c][n] * before[t][c][n];
                            decay += A2[c][n] * g;
                            dA[c][n] += dt_u[c] * g;
                        }
                        sums.y[c][t] = y, sums.q[c][t] = q, sums.decay[c][t] = decay;
                    }
                    sum_over_channels(dbc, warp_sums + t * 2 * NP, at);
                }
                write_steps(sums, w, b, t0, r, skip, dskip, dbias, a, at);
                if (r * T % SUM_STEPS == 0) {
                    __syncthreads();
                    write_projections(channel_sums + turn * SUM_FLOATS, b, t0 + r * T, a, at);
                    if constexpr (SUM_BUFFERS == 2) turn ^= 1;
                }
            }
        }
        if (a.dh0 != nullptr && piece.index == 0) store_state(a.dh0 + state_offset(b, a, at), s, a, at);
    }

    store_state(a.part_A + state_offset(part, a, at), dA, a, at);
    float *vectors = a.part_vectors + part * 2 * a.D + at.d0;
#pragma unroll
    for (int c = 0; c < CT; c++) {
#pragma unroll
        for (int mask = 1; mask < S; mask *= 2) {
            dskip[c] += __shfl_xor_sync(ALL_LANES, dskip[c], mask);
            dbias[c] += __shfl_xor_sync(ALL_LANES, dbias[c], mask);
        }
        if (at.live && at.rank_s == 0) {
            vectors[c] = dskip[c];
            vectors[a.D + c] = dbias[c];
        }
    }
}
